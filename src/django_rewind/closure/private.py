"""What is never stored, since it may be secret: the settings, and hidden files."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import PurePosixPath

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured

from ..parsing import parse
from .bindings import Context
from .outside import is_outside

Find = Callable[[str], "ModuleSpec | None"]
Read = Callable[[str], "str | None"]


def is_settings(module: str, find: Find, read: Read) -> bool:
    """Whether it is the settings module, or one that this is made of."""
    return any(
        _belongs_to(module, root) or module in _sources(root, _origin(root, find), read)
        for root in _roots()
    )


def is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(path).parts)


def _roots() -> set[str]:
    names = {os.environ.get(ENVIRONMENT_VARIABLE)}
    with suppress(ImproperlyConfigured):
        names.add(getattr(settings, "SETTINGS_MODULE", None))
    return {name for name in names if name and is_outside(name)}


def _belongs_to(module: str, root: str) -> bool:
    """project.settings.base, project.local_settings: named like it, beside it."""
    folder = root.rpartition(".")[0]
    is_of_settings = "settings" in folder.rpartition(".")[2]
    above, _, last = module.rpartition(".")
    return (
        f"{module}.".startswith(f"{root}.")
        or (is_of_settings and f"{module}.".startswith(f"{folder}."))
        or (above == folder and "settings" in last)
    )


def _origin(module: str, find: Find) -> str:
    spec = find(module)
    return (spec.origin or "") if spec is not None else ""


@cache
def _sources(root: str, origin: str, read: Read) -> frozenset[str]:
    """Which modules the settings take over; asked for once of each file."""
    found = {root}
    waiting = [root]
    while waiting:
        module = waiting.pop()
        for source in _taken_over_by(module, read(module) or ""):
            if source not in found and is_outside(source):
                found.add(source)
                waiting.append(source)
    return frozenset(found)


def _taken_over_by(module: str, text: str) -> Iterator[str]:
    package = module.rpartition(".")[0]
    try:
        tree = parse(text)
    except (SyntaxError, ValueError):
        return
    context = Context(
        module, package, {}, {}, annotations_run=True, walrus=False, renamed={}
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = context.resolve(node)
            is_beside = bool(package) and source.startswith(f"{package}.")
            names = [alias.name for alias in node.names]
            if "*" in names or (is_beside and any(name.isupper() for name in names)):
                yield source
