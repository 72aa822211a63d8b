"""The tables that a rollback drops, and what in the database would still need them.

The graph of stored migrations may lack a dependant: of what was never stored, or of a
file whose dependency was edited away. Foreign keys tell of it. PostgreSQL would drop
them silently (DROP TABLE ... CASCADE), MySQL would stop half-way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes, truncate_name
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from .exceptions import Problem
from .importer import FakedMigration
from .models import Key

# One query; and it sees the tables of other schemas, which depend on these too.
POSTGRESQL = """
    SELECT CASE WHEN pg_table_is_visible(source.oid) THEN source.relname
        ELSE source.oid::regclass::text END, attribute.attname, target.relname
    FROM pg_constraint AS reference
    JOIN pg_class AS source ON source.oid = reference.conrelid
    JOIN pg_class AS target ON target.oid = reference.confrelid
    JOIN pg_attribute AS attribute ON attribute.attrelid = reference.conrelid
        AND attribute.attnum = reference.conkey[1]
    WHERE reference.contype = 'f' AND pg_table_is_visible(target.oid)
        AND target.relname = ANY(%s)
    ORDER BY 1, 2
"""


class Reference(NamedTuple):
    """A foreign key."""

    table: str
    column: str
    target: str


def in_the_way(
    runner: MigrationExecutor, plan: Collection[Migration]
) -> Iterator[Problem]:
    """What would be left without a table that reversing the plan drops."""
    footprint = _Footprint(runner, plan)
    connection = runner.connection
    if not footprint.made:
        return
    with connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
    dropped = {t: key for t, key in footprint.made.items() if t in existing}
    kept = _tables(footprint.after, connection)
    for table in sorted(dropped.keys() & kept.keys()):
        yield Problem(
            *dropped[table],
            f"it would drop the table {table}, which is now that of {kept[table]}.",
            "Drop its other tables by hand, and remove its records with --fake.",
        )
    going = footprint.references_that_go()
    for reference in _existing_references(connection, existing, dropped):
        if reference not in going and not footprint.drops_by_sql(reference.table):
            yield _problem(reference, dropped[reference.target], kept)


def _problem(reference: Reference, key: Key, kept: dict[str, str]) -> Problem:
    table, column, target = reference
    owner = f" ({kept[table]})" if table in kept else ""
    return Problem(
        *key,
        f"it would drop the table {target}, to which the table {table}{owner} has a "
        f"foreign key in its column {column}.",
        "Remove that foreign key first.",
    )


class _Footprint:
    """What a plan made, as far as the state tells; walks forward through all of it."""

    def __init__(self, runner: MigrationExecutor, plan: Collection[Migration]) -> None:
        self.connection = runner.connection
        # As it is now, and as it would be.
        self.before = ProjectState(real_apps=runner.loader.unmigrated_apps)
        self.after = ProjectState(real_apps=runner.loader.unmigrated_apps)
        # Table → the migration that made it, and would drop it.
        self.made: dict[str, Key] = {}
        self.plan = plan
        # Of what was recorded with --fake: only its record goes.
        self.faked: set[Reference] = set()
        loader = runner.loader
        leaves = loader.graph.leaf_nodes()
        for migration, _ in runner.migration_plan(leaves, clean_start=True):
            if (migration.app_label, migration.name) in loader.applied_migrations:
                self._walk(migration)

    def _walk(self, migration: Migration) -> None:
        if migration not in self.plan:
            migration.mutate_state(self.before, preserve=False)
            migration.mutate_state(self.after, preserve=False)
        elif isinstance(migration, FakedMigration):
            known = _references(self.before, self.connection)
            migration.mutate_state(self.before, preserve=False)
            self.faked |= _references(self.before, self.connection) - known
        else:
            key = migration.app_label, migration.name
            for operation in migration.operations:
                self._add(operation, key, self.before)

    def _add(self, operation: Operation, key: Key, state: ProjectState) -> None:
        if isinstance(operation, SeparateDatabaseAndState):
            apart = state.clone()
            for inner in operation.database_operations:
                self._add(inner, key, apart)
            operation.state_forwards(key[0], state)
            return
        before = _tables(state, self.connection, key[0]).keys()
        operation.state_forwards(key[0], state)
        after = _tables(state, self.connection, key[0]).keys()
        gone, new = sorted(before - after), sorted(after - before)
        makers = [self.made.pop(table, None) for table in gone]
        if not gone:
            makers = [key] * len(new)
        # Both gone and new: a model was renamed, its M2M tables with it.
        self.made.update((t, maker) for t, maker in zip(new, makers) if maker)

    def references_that_go(self) -> set[Reference]:
        now = _references(self.before, self.connection)
        return now - _references(self.after, self.connection) - self.faked

    def drops_by_sql(self, table: str) -> bool:
        return any(
            table in sql and "DROP" in sql.upper()
            for migration in self.plan
            for sql in _reverse_sql(migration.operations)
        )


def _reverse_sql(operations: Collection[Operation]) -> Iterator[str]:
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _reverse_sql(operation.database_operations)
        elif isinstance(operation, RunSQL):
            yield str(operation.reverse_sql)


def _tables(
    state: ProjectState, connection: BaseDatabaseWrapper, app_label: str | None = None
) -> dict[str, str]:
    """Table → model, or the M2M field for which Django makes the table."""
    found = {}
    for model in filter(_has_table, state.models.values()):
        if app_label not in (None, model.app_label):
            continue
        owner = f"{model.app_label}.{model.name}"
        table = _table(model)
        found[table] = owner
        for name, field in model.fields.items():
            if field.many_to_many and field.remote_field.through is None:
                found[_m2m_table(table, name, field)] = f"{owner}.{name}"
    convert = connection.introspection.identifier_converter
    return {convert(table): owner for table, owner in found.items()}


def _references(state: ProjectState, connection: BaseDatabaseWrapper) -> set[Reference]:
    """The foreign keys of models; the tables of M2M fields go as a whole."""
    convert = connection.introspection.identifier_converter
    found = set()
    for model in filter(_has_table, state.models.values()):
        for name, field in model.fields.items():
            if not (field.many_to_one or field.one_to_one):
                continue
            target = state.models.get(_model_key(field.remote_field.model, model))
            if target is not None:
                names = (
                    _table(model),
                    field.db_column or f"{name}_id",
                    _table(target),
                )
                found.add(Reference(*map(convert, names)))
    return found


def _has_table(model: ModelState) -> bool:
    return model.options.get("managed", True) and not model.options.get("proxy")


def _table(model: ModelState) -> str:
    table = model.options.get("db_table") or truncate_name(
        f"{model.app_label}_{model.name_lower}", _longest()
    )
    return strip_quotes(table)


def _m2m_table(table: str, name: str, field: Any) -> str:
    """As in ManyToManyField._get_m2m_db_table()."""
    return strip_quotes(field.db_table or truncate_name(f"{table}_{name}", _longest()))


def _longest() -> int | None:
    """As Options and ManyToManyField have it, whichever database it is for."""
    return connections[DEFAULT_DB_ALIAS].ops.max_name_length()


def _model_key(to: Any, model: ModelState) -> Key:
    if not isinstance(to, str):
        return to._meta.app_label, to._meta.model_name
    if to == "self":
        return model.app_label, model.name_lower
    app_label, _, name = to.lower().rpartition(".")
    return app_label or model.app_label, name


def _existing_references(
    connection: BaseDatabaseWrapper, tables: set[str], targets: Collection[str]
) -> list[Reference]:
    """The foreign keys to `targets` in the tables that are none of these."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL, [list(targets)])
            found = [Reference(*row) for row in cursor.fetchall()]
            return [r for r in found if r.table not in targets]
        return [
            Reference(table, constraint["columns"][0], constraint["foreign_key"][0])
            for table in sorted(tables.difference(targets))
            for constraint in connection.introspection.get_constraints(
                cursor, table
            ).values()
            if constraint["foreign_key"] and constraint["foreign_key"][0] in targets
        ]
