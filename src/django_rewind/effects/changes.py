"""What the migrations of a plan changed in the database, in the order of changing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Union

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes
from django.db.migrations import Migration, operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import QuerySet, UniqueConstraint

from .. import naming
from ..importer import FakedMigration
from ..models import Key
from ..planning import applied, database_operations, key_of, model_of
from . import rules
from .layout import Column, Layout, Table, Tables, lay_out

# Those whose reversal is derived from the state before and after.
PHYSICAL = (
    operations.CreateModel,
    operations.DeleteModel,
    operations.RenameModel,
    operations.AlterModelTable,
    operations.AlterOrderWithRespectTo,
    operations.AlterUniqueTogether,
    operations.RemoveConstraint,
    operations.AddField,
    operations.RemoveField,
    operations.AlterField,
    operations.RenameField,
)


class MadeTable(NamedTuple):
    key: Key
    table: Table
    # As it was called then, which is how it will be called again.
    called: str


class DroppedTable(NamedTuple):
    key: Key
    called: str


class MadeColumn(NamedTuple):
    key: Key
    column: Column
    called: str


class Renamed(NamedTuple):
    """And so it must be there, to be given back the name that it had."""

    key: Key
    what: Table | Column
    was: str
    called: str


class DroppedColumn(NamedTuple):
    key: Key
    column: Column
    called: str
    field: Any


class AlteredColumn(NamedTuple):
    key: Key
    column: Column
    called: str
    before: Any
    after: Any
    # To which it was a foreign key, and is none any more.
    target: Column | None = None


class DroppedUnique(NamedTuple):
    key: Key
    columns: list[Column]
    called: str
    nulls_distinct: bool


class DroppedRule(NamedTuple):
    """A constraint that is more than a set of columns."""

    key: Key
    called: str
    table: Table
    # What it is called then, and the columns that it is about, with their names then.
    table_name: str
    columns: dict[str, Column]
    is_unique: bool
    violations: QuerySet[Any]


class MadeExtension(NamedTuple):
    """Of PostgreSQL."""

    key: Key
    name: str


class OwnCode(NamedTuple):
    """Which runs when the operation is reversed."""

    key: Key
    description: str


Change = Union[
    MadeTable,
    DroppedTable,
    MadeColumn,
    Renamed,
    DroppedColumn,
    AlteredColumn,
    DroppedUnique,
    DroppedRule,
    MadeExtension,
    OwnCode,
]


def follow(runner: MigrationExecutor, plan: Collection[Migration]) -> list[Change]:
    """Walks forward through all that is applied, to know the state at each step."""
    keys = {key_of(m) for m in plan if not isinstance(m, FakedMigration)}
    state = ProjectState(real_apps=runner.loader.unmigrated_apps)
    walk = _Walk(runner.connection, keys)
    changes: list[Change] = []
    for migration in applied(runner):
        key = key_of(migration)
        if not _is_told_by_its_operations(migration):
            migration.mutate_state(state, preserve=False)
            if key in keys:
                changes.append(OwnCode(key, "methods of its Migration class"))
        elif key in keys:
            for operation in migration.operations:
                walk.add(operation, migration, state)
            changes += walk.changes
        elif not changes or isinstance(migration, FakedMigration):
            migration.mutate_state(state, preserve=False)
        else:
            # It stays, and may have renamed what goes.
            for operation in migration.operations:
                walk.add(operation, migration, state)
        walk.changes.clear()
    return changes


def look_ahead(
    runner: Any, plan: Collection[Migration], *, past_own_code: bool = False
) -> Iterator[Change]:
    """Of a plan that is not applied, each change with the names of its time.

    As far as nobody's own code may have changed what comes next, unless asked to.
    """
    state = runner._create_project_state(with_applied_migrations=True)
    walk = _Walk(runner.connection, ())
    for migration in plan:
        for operation in migration.operations:
            is_own = any(map(_is_own, database_operations([operation])))
            if is_own and not past_own_code:
                return
            walk.add(operation, migration, state)
            yield from walk.changes
            walk.changes.clear()


def _is_told_by_its_operations(migration: Migration) -> bool:
    return type(migration).mutate_state is Migration.mutate_state


def _is_own(operation: Operation) -> bool:
    module = type(operation).database_forwards.__module__
    return module.partition(".")[0] != "django" or isinstance(
        operation, (operations.RunPython, operations.RunSQL)
    )


def extension(
    operation: Operation, app_label: str, connection: BaseDatabaseWrapper
) -> str:
    """The one that it makes here, or nothing."""
    if connection.vendor != "postgresql":
        return ""
    # Late, since it imports the driver.
    from django.contrib.postgres.operations import CreateExtension

    if isinstance(operation, CreateExtension) and (
        router.allow_migrate(connection.alias, app_label)
    ):
        return operation.name
    return ""


class _Walk:
    def __init__(self, connection: BaseDatabaseWrapper, keys: Collection[Key]) -> None:
        self.connection = connection
        # Of the migrations that are undone.
        self.keys = keys
        self.tables = Tables()
        self.changes: list[Change] = []

    def add(
        self, operation: Operation, migration: Migration, state: ProjectState
    ) -> None:
        app_label, key = migration.app_label, key_of(migration)
        if isinstance(operation, operations.SeparateDatabaseAndState):
            if operation.database_operations:
                apart = state.clone()
                for inner in operation.database_operations:
                    self.add(inner, migration, apart)
            operation.state_forwards(app_label, state)
        elif isinstance(operation, PHYSICAL):
            self._change(operation, migration, state)
        else:
            operation.state_forwards(app_label, state)
        if name := extension(operation, app_label, self.connection):
            self.changes.append(MadeExtension(key, name))
        if self._runs_own_code(operation, app_label):
            self.changes.append(OwnCode(key, operation.describe()))

    def _change(
        self, operation: Operation, migration: Migration, state: ProjectState
    ) -> None:
        key = key_of(migration)
        before, after = self._around(operation, migration.app_label, state)
        if before is None and after is not None:
            self._make_tables(after, key)
        elif before is not None and after is None:
            for table in (before.table, *before.m2m.values()):
                self._drop_table(table, key)
        elif before is not None and after is not None:
            self._alter(operation, key, before, after, state)
            # Of what stays, nothing is undone.
            gone = before.rules.keys() - after.rules.keys() if key in self.keys else ()
            for name in sorted(gone):
                self._drop_rule(before.rules[name], key, after, state)

    def _around(
        self, operation: Any, app_label: str, state: ProjectState
    ) -> tuple[Layout | None, Layout | None]:
        """Of the one model that the operation is about."""
        if isinstance(operation, operations.RenameModel):
            name, new_name = operation.old_name_lower, operation.new_name_lower
        else:
            name = new_name = model_of(operation)
        before = lay_out(state.models.get((app_label, name)), self.connection)
        operation.state_forwards(app_label, state)
        after = lay_out(state.models.get((app_label, new_name)), self.connection)
        return before, after

    def _make_tables(self, layout: Layout, key: Key) -> None:
        for name in (layout.table, *layout.m2m.values()):
            self._make_table(name, key)

    def _make_table(self, name: str, key: Key) -> None:
        table = self.tables.add(name)
        self.changes.append(MadeTable(key, table, str(table)))

    def _drop_table(self, name: str, key: Key) -> None:
        table = self.tables.drop(name)
        self.changes.append(DroppedTable(key, str(table)))

    def _rename_table(self, old: str, new: str, key: Key) -> Table:
        was = str(self.tables.find(old))
        table = self.tables.rename(old, new)
        if old != new:
            self.changes.append(Renamed(key, table, was, str(table)))
        return table

    def _alter(
        self,
        operation: Operation,
        key: Key,
        before: Layout,
        after: Layout,
        state: ProjectState,
    ) -> None:
        names: dict[str, str] = {}
        if isinstance(operation, operations.RenameField):
            names = {operation.old_name: operation.new_name}
        table = self._rename_table(before.table, after.table, key)
        self._alter_m2m(names, key, before, after)
        columns: dict[str, Column] = {}
        for name, field in before.fields.items():
            altered = after.fields.get(names.get(name, name))
            if altered is None:
                called = f"{table}.{strip_quotes(field.column)}"
                column = table.drop(field.column)
                self.changes.append(DroppedColumn(key, column, called, field))
                continue
            was = str(table.column(field.column))
            columns[name] = column = table.rename(field.column, altered.column)
            if field.column != altered.column:
                self.changes.append(Renamed(key, column, was, str(column)))
            if isinstance(operation, operations.AlterField):
                if name == operation.name and not operation.preserve_default:
                    # As database_forwards() does, in both directions.
                    field.default = operation.field.default
                target = self._target_given_up(field, altered, after, state)
                called = str(column)
                self.changes.append(
                    AlteredColumn(key, column, called, field, altered, target)
                )
        kept = {names.get(name, name) for name in before.fields}
        for name, field in after.fields.items():
            if name not in kept:
                column = table.add(field.column)
                self.changes.append(MadeColumn(key, column, str(column)))
        if isinstance(
            operation, (operations.AlterUniqueTogether, operations.RemoveConstraint)
        ):
            self._drop_uniques(key, table, columns, before, after)

    def _target_given_up(
        self, before: Any, after: Any, layout: Layout, state: ProjectState
    ) -> Column | None:
        target = self._target(before, layout, state)
        return None if target is self._target(after, layout, state) else target

    def _target(self, field: Any, layout: Layout, state: ProjectState) -> Column | None:
        """To which it is a foreign key in the database, where that can be told."""
        if not getattr(field, "db_constraint", False):
            return None
        key = naming.target(field, state.models[layout.label])
        target = lay_out(state.models.get(key), self.connection)
        if target is None:
            return None
        name = field.remote_field.field_name
        for other in target.fields.values():
            if other.name == name or (name is None and other.primary_key):
                return self.tables.find(target.table).column(other.column)
        return None

    def _alter_m2m(
        self, names: dict[str, str], key: Key, before: Layout, after: Layout
    ) -> None:
        for name, m2m in before.m2m.items():
            renamed = after.m2m.get(names.get(name, name))
            if renamed is None:
                self._drop_table(m2m, key)
            else:
                self._rename_table(m2m, renamed, key)
        kept = {names.get(name, name) for name in before.m2m}
        for name, m2m in after.m2m.items():
            if name not in kept:
                self._make_table(m2m, key)

    def _drop_uniques(
        self,
        key: Key,
        table: Table,
        columns: dict[str, Column],
        before: Layout,
        after: Layout,
    ) -> None:
        for unique in sorted(before.uniques - after.uniques):
            found = [columns[name] for name in unique.fields if name in columns]
            if len(found) == len(unique.fields):
                names = ", ".join(strip_quotes(column.name) for column in found)
                called = str(found[0]) if len(found) == 1 else f"{table} ({names})"
                self.changes.append(
                    DroppedUnique(key, found, called, unique.nulls_distinct)
                )

    def _drop_rule(
        self, constraint: Any, key: Key, layout: Layout, state: ProjectState
    ) -> None:
        try:
            # A copy, since a state that was rendered is slow to change.
            model = state.clone().apps.get_model(*layout.label)
            violations, sql = rules.violations(constraint, model, self.connection)
        except Exception:
            # Nobody can count them, and Django may well make it all the same.
            return
        table = self.tables.find(layout.table)
        columns = {
            field.column: table.column(field.column)
            for field in layout.fields.values()
            if self._qualified(layout, field) in sql
        }
        called = f"the constraint {constraint.name} of {table}"
        is_unique = isinstance(constraint, UniqueConstraint)
        self.changes.append(
            DroppedRule(key, called, table, table.name, columns, is_unique, violations)
        )

    def _qualified(self, layout: Layout, field: Any) -> str:
        quote = self.connection.ops.quote_name
        return f"{quote(layout.table)}.{quote(field.column)}"

    def _runs_own_code(self, operation: Any, app_label: str) -> bool:
        if not operation.reversible:
            return False
        module = str(type(operation).database_backwards.__module__)
        if module.partition(".")[0] != "django":
            own = True
        elif isinstance(operation, operations.RunPython):
            own = operation.reverse_code != operations.RunPython.noop
        else:
            own = isinstance(operation, operations.RunSQL) and bool(
                operation.reverse_sql
            )
        hints = getattr(operation, "hints", {})
        return own and bool(
            router.allow_migrate(self.connection.alias, app_label, **hints)
        )
