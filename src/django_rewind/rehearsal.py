"""Load stored migrations in a fresh process in which the apps' own files are hidden.

Better than guessing from what was stored with a migration: if it loads there, it loads
on a branch that has none of this code.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import _lru_cache_wrapper
from importlib.abc import MetaPathFinder
from typing import Any

from django.apps import apps
from django.conf import settings

from .closure.outside import is_installed, is_outside
from .exceptions import RewindError, Unreachable
from .models import Key, MigrationCode

DIED = "loading its stored code ended the process."
CHILD = f"import django; django.setup(); from {__name__} import main; main()"
# What the settings print comes before it.
READY = "The rehearsal begins."


def rehearse(codes: Sequence[MigrationCode]) -> dict[Key, str]:
    """Those that do not load → why not. Each with the code that it needs.

    Raises RewindError if no process of this project can be started.
    """
    failures: dict[Key, str] = {}
    pending = list(codes)
    while pending:
        results = list(_run(pending))
        for code, fact in zip(pending, results):
            if fact:
                failures[code.key] = fact
        pending = pending[len(results) :]
        if pending:
            failures[pending.pop(0).key] = DIED
    return failures


def _run(codes: Iterable[MigrationCode]) -> Iterator[str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": _settings_module(),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([_pack(code) for code in codes], default=repr),
        capture_output=True,
        env=environment,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    lines = child.stdout.splitlines()
    if READY not in lines:
        raise RewindError(
            "The rehearsal could not start a process of this project: "
            f"{child.stderr.strip() or f'it ended with {child.returncode}'}"
        )
    for line in lines[lines.index(READY) + 1 :]:
        yield json.loads(line)


def _settings_module() -> str:
    name = getattr(settings, "SETTINGS_MODULE", None)
    if not name:
        raise RewindError(
            "A rehearsal needs a settings module, since it starts a process of this "
            "project: set DJANGO_SETTINGS_MODULE."
        )
    return str(name)


def _pack(code: MigrationCode) -> dict[str, Any]:
    fields = {f.attname: getattr(code, f.attname) for f in code._meta.concrete_fields}
    return {"fields": {**fields, "stored_at": None}, "needed": dict(code.needed)}


def _unpack(packed: dict[str, Any]) -> MigrationCode:
    code = MigrationCode(**packed["fields"])
    code.needed = packed["needed"]
    return code


# In the fresh process


class Hiding(MetaPathFinder):
    """Finds nothing of some packages and modules, and lets others find nothing."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)

    def hides(self, name: str) -> bool:
        while name:
            if name in self.names:
                return True
            name = name.rpartition(".")[0]
        return False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if self.hides(fullname):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def main() -> None:
    from . import importer

    # What stored code prints must not be taken for a result.
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    codes = [_unpack(packed) for packed in json.load(sys.stdin)]
    _hide(codes)
    print(READY, file=results, flush=True)
    for code in codes:
        fact = ""
        try:
            importer.load(code)
        except Unreachable as reason:
            fact = reason.fact
        print(json.dumps(fact), file=results, flush=True)


def _hide(codes: Iterable[MigrationCode]) -> None:
    names = {
        _package_of(config.name)
        for config in apps.get_app_configs()
        if is_outside(config.name)
    }
    for code in codes:
        names.update(name for name in code.needed if "/" not in name)
    finder = Hiding(names)
    sys.meta_path.insert(0, finder)
    for name in list(sys.modules):
        if finder.hides(name):
            module = sys.modules.pop(name)
            above, _, last = name.rpartition(".")
            attributes = getattr(sys.modules.get(above), "__dict__", {})
            if attributes.get(last) is module:
                del attributes[last]
    _empty_caches()


def _package_of(app: str) -> str:
    """The whole of the package that an app came with, which is gone when it is."""
    names = app.split(".")
    packages = [".".join(names[:depth]) for depth in range(1, len(names) + 1)]
    has_settings = f"{_settings_module()}.".startswith(f"{packages[0]}.")
    if has_settings or not is_installed(packages[0]):
        return app
    # Several distributions may share a folder without __init__.py.
    files = (getattr(sys.modules.get(name), "__file__", None) for name in packages)
    return next(name for name, file in zip(packages, files) if file or name == app)


def _empty_caches() -> None:
    """Else what was looked up before, such as by get_callable(), would be found."""
    for one in gc.get_objects():
        if type(one) is _lru_cache_wrapper:
            one.cache_clear()
