"""What is stored for a migration: its text, and what tells where it came from."""

from __future__ import annotations

import ast
import json
import platform
import re
from functools import cache
from typing import Any

import django
from django.apps import apps
from django.conf import global_settings, settings

from . import closure, conf, source
from .closure import Closure
from .exceptions import SourceUnavailable
from .models import Key, MigrationCode
from .outline import Outline
from .parsing import parse
from .source import UNPARSABLE
from .standins import SETTINGS

SETTINGS_AS = re.compile(r"\bsettings\s+as\s+(\w+)")
# A default is at hand: hasattr(settings, "X"), getattr(settings, "X", 1)
FORESEEN = re.compile(
    r"\bhasattr\(\s*settings\s*,\s*['\"](\w+)['\"]"
    r"|\bgetattr\(\s*settings\s*,\s*['\"](\w+)['\"]\s*,\s*[^\s)]"
)

# Settings of Django that it gives no default.
OF_DJANGO = frozenset(
    {"MESSAGE_LEVEL", "MESSAGE_TAGS", "ROOT_URLCONF", "SETTINGS_MODULE", "SITE_ID"}
)

# The packages in a RECORD, which has a line for each file.
TOP_LEVEL = re.compile(r"^([^/,.]+)/__init__\.py,", re.MULTILINE)


def capture(app_label: str, migration_name: str, captured: str) -> MigrationCode:
    """The row to store for a migration on disk, not yet signed and saved.

    A migration without source becomes a row with a gap, which says why.
    """
    module = _module_that_ran(app_label, migration_name)
    code = MigrationCode(
        app_label=app_label,
        migration_name=migration_name,
        captured=captured,
        module_name=module or "",
        replaces=json.dumps(_replaces(module, migration_name)),
        django_version=django.get_version(),
        python_version=platform.python_version(),
        distribution=_distribution_of_app(app_label),
    )
    try:
        if module is None:
            raise SourceUnavailable(f"app '{app_label}' has no migrations module")
        dependencies = source.dependencies(module, app_label)
        code.dependencies = "" if dependencies is None else json.dumps(dependencies)
        set_source(code, source.read(module))
        needed = closure.trace(module, code.source_code, conf.closure_limit())
        set_needed(code, _with_settings(needed, code.source_code))
    except SourceUnavailable as error:
        if isinstance(error.__cause__, OSError):
            # There is a source, or was a moment ago: a failure, not a gap.
            raise
        set_source(code, "")
        code.gap = str(error)[:255]
    return code


def _replaces(module: str | None, migration_name: str) -> list[Key]:
    if module is None or not module.endswith(f".{migration_name}"):
        # The code of a squashed migration, stored for a name that it replaces.
        return []
    return source.replaces(module)


def set_outline(code: MigrationCode, found: Outline, not_searched: str) -> None:
    """What a text tells of itself, where its file is not here to be captured.

    `not_searched`: why what it imports is not stored with it.
    """
    # If it does not say all of them, it does so when it is loaded.
    code.dependencies = json.dumps(found.dependencies) if found.is_complete else ""
    code.replaces = json.dumps(found.replaces)
    code.closure_gaps = json.dumps([not_searched] if found.imports_more else [])


def set_source(code: MigrationCode, text: str) -> None:
    code.source_code = text
    code.size = len(text.encode())
    code.digest = source.digest(text)


def _with_settings(needed: Closure, source_code: str) -> Closure:
    """With the settings that are read and that Django does not have.

    Packages add defaults when they are imported. What the project itself sets may be
    secret: it is named, for a branch that does not set it.
    """
    modules = [text for name, text in needed.texts.items() if "/" not in name]
    texts = [text for text in [source_code, *modules] if "settings" in text]
    read = set[str]().union(*map(_settings_read_in, texts)) - OF_DJANGO
    found = filter(lambda name: hasattr(settings, name), sorted(read))
    others = [name for name in found if not hasattr(global_settings, name)]
    own = [n for n in others if settings.is_overridden(n)]  # type: ignore[misc]
    made = {n: getattr(settings, n) for n in others if n not in own}
    lines = [f"{n} = {value!r}\n" for n, value in made.items() if _is_literal(value)]
    return Closure(
        {**needed.texts, SETTINGS: "".join(lines)} if lines else needed.texts,
        needed.gaps
        + [
            f"the setting {name} is the project's own"
            for name in _relied_on(own, texts)
        ],
    )


def _relied_on(names: list[str], texts: list[str]) -> list[str]:
    """Those of some settings without which this code would fail."""
    if not names:
        return []
    swappable = {m._meta.swappable for m in apps.get_models(include_swapped=True)}
    read: set[str] = set()
    for text in texts:
        foreseen = {name for match in FORESEEN.findall(text) for name in match}
        read |= _names_in(text) - foreseen
    return [name for name in names if name in read and name not in swappable]


def _settings_read_in(text: str) -> set[str]:
    names = "|".join(["settings", *map(re.escape, SETTINGS_AS.findall(text))])
    name = "[A-Z][A-Z0-9_]+"
    reads = rf"\b(?:{names})(?:\.|\s*,\s*['\"])({name})\b"
    return set(re.findall(reads, text))


def _names_in(text: str) -> set[str]:
    """The attributes and texts in it, without what only a comment says."""
    try:
        nodes = list(ast.walk(parse(text)))
    except UNPARSABLE:
        return set()
    names = [getattr(node, "attr", getattr(node, "value", "")) for node in nodes]
    return {name for name in names if isinstance(name, str)}


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except UNPARSABLE:
        return False


def set_needed(code: MigrationCode, needed: Closure) -> None:
    code.needed = needed.texts
    digests = {name: source.digest(text) for name, text in needed.texts.items()}
    code.closure = json.dumps(digests)
    code.closure_gaps = json.dumps(needed.gaps)


def _module_that_ran(app_label: str, migration_name: str) -> str | None:
    """The module of a migration, or of the squash that stands for it.

    Applying a squashed migration also records each name that it replaces; where
    their files are deleted, what ran for them is the squashed migration.
    """
    module = source.module_name(app_label, migration_name)
    if module is not None and source.find(module) is not None:
        return module
    disk = source.Disk()
    # A squash may be another app's: one that had another label, or that says to be.
    for label in [app_label, *(other for other in disk if other != app_label)]:
        for candidate in disk[label]:
            squash = source.module_name(label, candidate)
            if squash and (app_label, migration_name) in source.replaces(squash):
                return squash
    return module


@cache
def _distribution_of_app(app_label: str) -> str:
    try:
        package = apps.get_app_config(app_label).name.partition(".")[0]
    except LookupError:
        return ""
    distribution = _distributions().get(package)
    if distribution is None:
        return ""
    return f"{distribution.metadata['Name']} {distribution.version}"


@cache
def _distributions() -> dict[str, Any]:
    """Top-level package → the distribution that installed it.

    packages_distributions() of importlib.metadata needs Python 3.10 and parses
    every RECORD line by line, which would cost more than all captures together.
    """
    # Imported late: it is slow, and only needed where something is stored.
    from importlib.metadata import distributions

    found = {}
    for distribution in distributions():
        top_level = distribution.read_text("top_level.txt")
        packages = (
            top_level.split()
            if top_level
            else TOP_LEVEL.findall(distribution.read_text("RECORD") or "")
        )
        found.update(dict.fromkeys(packages, distribution))
    return found
