"""Stored text → module → Migration. Verifies before it compiles anything."""

from __future__ import annotations

from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from . import closure, needs, signing, source
from .exceptions import NotTrusted, Unreachable
from .models import Key, StoredCode
from .standins import StandIns, make_managers_importable
from .stored_text import StoredText, running
from .terminal import said

RESTORE = "Check out the code that has its file, and reverse it there."


class StoredMigration(Migration):
    """A migration whose code comes from the database."""

    # Set for `migrate --plan`, which prints each step with str().
    mark = ""
    code: StoredCode
    # See planning.key_of().
    graph_key: Key

    def __str__(self) -> str:
        return super().__str__() + self.mark


class FakedMigration(Migration):
    """Recorded with --fake: to reverse it would drop what it never made.

    Nor does it make that when it is recorded once more.
    """

    is_faked = True

    def apply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        return self.mutate_state(project_state, preserve=False)

    def unapply(
        self,
        project_state: ProjectState,
        schema_editor: BaseDatabaseSchemaEditor,
        collect_sql: bool = False,
    ) -> ProjectState:
        if collect_sql:
            return super().unapply(project_state, schema_editor, collect_sql)
        return project_state


def load(code: StoredCode) -> StoredMigration:
    """The migration that a stored row describes.

    Raises Unreachable if the row has no code, does not verify or does not load.
    """
    signing.verify(code)
    if code.gap:
        raise Unreachable(f"it was stored without code: {code.gap}.", RESTORE)
    if fact := needs.damage(code):
        raise NotTrusted(fact, RESTORE)
    try:
        module = _import(code)
        return _make_migration(module.Migration, code)
    except (Exception, SystemExit) as error:
        # Whatever a module does when it is imported can fail in any way.
        fact = f"its stored code does not load: {said(error)}."
        if code.lacking:
            fact += f" Not stored with it: {'; '.join(code.lacking)}."
        raise Unreachable(fact, RESTORE) from error


def _import(code: StoredCode) -> ModuleType:
    name = source.module_of(code)
    needed = {
        **closure.of_uninstalled(name, code.source_code, code.needed),
        **code.needed,
    }
    if "__file__" in code.source_code:
        # It has to exist for who resolves it.
        needed[f"{name.replace('.', '/')}.py"] = code.source_code
    if not needed:
        return _run(name, code)
    try:
        return _run(name, code, StandIns(needed, str(code)))
    except Exception:
        # What has the same name here, and so took its place, may not fit.
        with suppress(Exception):
            return _run(name, code, StandIns(needed, str(code), prefer_stored=True))
        raise


def _run(name: str, code: StoredCode, stand_ins: StandIns | None = None) -> ModuleType:
    loader = StoredText(code.source_code, str(code))
    spec = ModuleSpec(name, loader, origin=loader.filename)
    module = module_from_spec(spec)
    module.__file__ = loader.filename
    if stand_ins is not None:
        stand_ins.serve(module)
    with running(module):
        loader.exec_module(module)
    make_managers_importable(module)
    return module


def _make_migration(
    migration_class: type[Migration], code: StoredCode
) -> StoredMigration:
    body: dict[str, Any] = {}
    if code.resolved_dependencies is not None:
        body["dependencies"] = code.resolved_dependencies
    bases = (FakedMigration, StoredMigration) if code.faked else (StoredMigration,)
    stored: type[StoredMigration] = _derive(migration_class, bases, body)
    migration = stored(code.ran_as, code.app_label)
    migration.code = code
    migration.graph_key = code.app_label, code.ran_as
    return migration


def make_faked(file: Migration) -> FakedMigration:
    """The migration of a file, of which only the record goes."""
    faked: type[FakedMigration] = _derive(type(file), (FakedMigration,), {})
    return faked(file.name, file.app_label)


def _derive(
    migration_class: type[Migration], bases: tuple[type, ...], body: dict[str, Any]
) -> type[Any]:
    body = {"__module__": migration_class.__module__, **body}
    return type(migration_class.__name__, (*bases, migration_class), body)
