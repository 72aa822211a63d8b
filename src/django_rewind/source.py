"""A migration on disk: its text, its digest, its meaning."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pkgutil
import sys
import tokenize
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from django.apps import apps
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from .exceptions import SourceUnavailable
from .models import Key, StoredCode
from .parsing import parse

DEPENDENCIES = "replaces", "dependencies", "run_before"

# What ast.parse() raises for text that is no Python, or is made to be too much.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def module_name(app_label: str, migration_name: str) -> str | None:
    """The dotted path at which Django looks for a migration, None if nowhere."""
    try:
        package, _ = MigrationLoader.migrations_module(app_label)
    except LookupError:
        return None
    return f"{package}.{migration_name}" if package else None


def module_of(code: StoredCode) -> str:
    """The dotted path of a stored migration, which 0.1.0 did not store."""
    return (
        code.module_name
        or module_name(*code.key)
        or f"{code.app_label}.migrations.{code.migration_name}"
    )


def read(module: str) -> str:
    """The exact text of a migration module, decoded as Python would.

    Raises SourceUnavailable, with the reason, where there is none.
    """
    spec = find(module)
    if spec is None:
        raise SourceUnavailable(f"there is no module {module}")
    get_data = getattr(spec.loader, "get_data", None)
    origin = spec.origin or ""
    try:
        if get_data is not None and origin.endswith((".py", ".pyw")):
            return decode(get_data(origin))
        get_source = getattr(spec.loader, "get_source", lambda name: None)
        source = get_source(module)
    except (OSError, ImportError, SyntaxError, UnicodeDecodeError) as error:
        raise SourceUnavailable(f"its source cannot be read: {error}") from error
    if source is None:
        raise SourceUnavailable(f"{origin or module} has no source")
    return str(source)


def digest_of_file(key: Key) -> str:
    """Of a migration on disk; empty if it has no text."""
    try:
        return digest(read(module_name(*key) or ""))
    except SourceUnavailable:
        return ""


def is_readable(module: str | None) -> bool:
    try:
        read(module or "")
    except SourceUnavailable:
        return False
    return True


def decode(data: bytes) -> str:
    """Bytes of a Python file as text (PEP 263), with all that it has."""
    return data.decode(encoding_of(data))


def encoding_of(data: bytes) -> str:
    """That keeps line endings and a byte order mark. Raises SyntaxError."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return "utf-8" if encoding == "utf-8-sig" else encoding


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def means_the_same(
    one: str, other: str, but_for: Collection[str] = ("replaces",)
) -> bool:
    """Whether two texts differ in formatting, comments and docstrings at most.

    `replaces` does not count: removing it is the last step of squashing, see
    https://docs.djangoproject.com/en/stable/topics/migrations/#squashing-migrations
    """
    if one == other:
        return True
    try:
        return meaning(one, but_for) == meaning(other, but_for)
    except UNPARSABLE:
        return False


def mean_the_same_elsewhere(one: str, other: str) -> bool:
    """The same of two migrations whose dependencies may differ, too."""
    return means_the_same(one, other, DEPENDENCIES)


def replaces(module: str) -> list[Key]:
    """What the migration in a module replaces, as Django sees it."""
    migration = _migration_in(module)
    return [(app, name) for app, name in getattr(migration, "replaces", [])]


def dependencies(module: str, app_label: str) -> list[Key] | None:
    """What the migration in a module depends on here and now, None if it is broken.

    "__first__", of which swappable dependencies are made, names the first migration of
    an app, and on another branch might name another one.
    """
    migration = _migration_in(module)
    if migration is None:
        return None
    found = []
    for dependency, name in migration.dependencies:
        if name != "__first__":
            found.append((dependency, name))
        # As in MigrationLoader.check_key().
        elif dependency != app_label and (first := _first_migration(dependency)):
            found.append((dependency, first))
    return found


def _first_migration(app_label: str) -> str | None:
    for name in sorted(Disk()[app_label]):
        migration = _migration_in(module_name(app_label, name) or "")
        if migration and all(app != app_label for app, _ in migration.dependencies):
            return name
    return None


def _migration_in(module: str) -> type[Migration] | None:
    try:
        return getattr(import_module(module), "Migration", None)
    except Exception:
        # Django's own loader reports a broken file; this only looks.
        return None


def literal_dependencies(text: str) -> list[Key] | None:
    """The dependencies that can be read without running the text, None if none can."""
    try:
        body = parse(text).body
    except UNPARSABLE:
        return None
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == "Migration":
            for statement in node.body:
                value = getattr(statement, "value", None)
                if _assigns(statement, "dependencies") and isinstance(
                    value, (ast.List, ast.Tuple)
                ):
                    return list(_literal_keys(value.elts))
            return []
    return None


class Disk(Mapping[str, frozenset[str]]):
    """App label → names of the migrations that the installed apps have as files.

    Reads folder listings, one app at a time and only when asked.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._files: dict[str, frozenset[str]] = {}

    def __getitem__(self, app_label: str) -> frozenset[str]:
        if app_label not in self._names:
            self._names[app_label] = frozenset(_names_on_disk(app_label))
        return self._names[app_label]

    def __iter__(self) -> Iterator[str]:
        return (config.label for config in apps.get_app_configs())

    def __len__(self) -> int:
        return len(list(iter(self)))

    def has(self, key: Key) -> bool:
        app_label, name = key
        if app_label not in self._files:
            self._files[app_label] = frozenset(_files_on_disk(app_label))
        # As nearly all are; to ask Python for its modules takes ten times as long.
        files = self._files[app_label]
        is_plain = f"{name}.py" in files and name not in files and _is_name(name)
        return is_plain or name in self[app_label]

    def hides(self, key: Key) -> bool:
        """Whether Django is kept from seeing it, though its app is installed.

        By MIGRATION_MODULES, or for want of an __init__.py beside its file.
        """
        app_label, name = key
        try:
            package, _ = MigrationLoader.migrations_module(app_label)
        except LookupError:
            return False
        if package is None:
            return True
        spec = find(package)
        folders = list((spec and spec.submodule_search_locations) or ())
        return not self.has(key) and name in _names_in(folders)


def _files_on_disk(app_label: str) -> Iterator[str]:
    for folder in _folders_of(app_label):
        # It may be in a zip file.
        with suppress(OSError):
            yield from os.listdir(folder)


def _names_on_disk(app_label: str) -> Iterator[str]:
    yield from _names_in(_folders_of(app_label))


def _names_in(folders: list[str]) -> Iterator[str]:
    for _, name, is_package in pkgutil.iter_modules(folders):
        if not is_package and _is_name(name):
            yield name


def _is_name(name: str) -> bool:
    """Whether Django takes a module of that name for a migration."""
    return name[:1] not in "_~" and "." not in name


def _folders_of(app_label: str) -> list[str]:
    try:
        package, _ = MigrationLoader.migrations_module(app_label)
    except LookupError:
        return []
    return _folders(package) if package else []


def _folders(package: str) -> list[str]:
    """As in MigrationLoader.load_disk(), which imports it: it may add to its path.

    A folder without __init__.py holds no migrations.
    """
    try:
        module = import_module(package)
    except Exception:
        # Django's own loader reports a broken package; this only looks.
        spec = find(package)
        path = spec.submodule_search_locations if spec else None
        return path if isinstance(path, list) else []
    path = getattr(module, "__path__", None)
    is_package = isinstance(path, list) or getattr(module, "__file__", None)
    return list(path) if path is not None and is_package else []


def find(module: str) -> ModuleSpec | None:
    """Where a module comes from, None if it is nowhere. Imports its parents."""
    if not module:
        return None
    imported = sys.modules.get(module)
    if imported is not None and imported.__spec__ is not None:
        return imported.__spec__
    try:
        return find_spec(module)
    except (ImportError, ValueError):
        return None


def meaning(text: str, left_out: Collection[str]) -> str:
    """Equal for texts that differ in formatting, comments and docstrings at most.

    And in what of the Migration is left out.
    """
    tree = parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
                if not node.body and not isinstance(node, ast.Module):
                    node.body = [ast.Pass()]
            if isinstance(node, ast.ClassDef) and node.name == "Migration":
                node.body = [
                    s for s in node.body if not any(_assigns(s, n) for n in left_out)
                ]
        elif isinstance(node, ast.Constant):
            # The prefix u.
            node.kind = None
    return ast.dump(tree)


def _assigns(node: ast.stmt, name: str) -> bool:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return any(isinstance(t, ast.Name) and t.id == name for t in targets)


def _literal_keys(nodes: list[ast.expr]) -> Iterator[Key]:
    for node in nodes:
        try:
            app_label, name = ast.literal_eval(node)
        except (TypeError, ValueError):
            # swappable_dependency(...) and the like.
            continue
        yield str(app_label), str(name)
