"""What in the database would still need the tables and columns that a rollback drops.

The graph of stored migrations may lack a dependant: of what was never stored, or of a
file whose dependency was edited away. Foreign keys tell of it. And nothing but the
database knows of a view. PostgreSQL would drop them silently (DROP ... CASCADE), MySQL
would stop half-way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from . import naming, planning
from .effects import Drop, extension
from .exceptions import Problem, pruning
from .importer import FakedMigration
from .models import Key

# One query; and it sees the tables of other schemas, which depend on these too.
POSTGRESQL = """
    WITH going AS (
        SELECT name, to_regclass(quoted) AS oid
        FROM unnest(%s::text[], %s::text[]) AS given (name, quoted)
    )
    SELECT 'foreign key', CASE WHEN pg_table_is_visible(source.oid)
        THEN source.relname ELSE source.oid::regclass::text END,
        attribute.attname, going.name, target.attname
    FROM pg_constraint AS reference
    JOIN going ON going.oid = reference.confrelid
    JOIN pg_class AS source ON source.oid = reference.conrelid
    JOIN pg_attribute AS attribute ON attribute.attrelid = reference.conrelid
        AND attribute.attnum = reference.conkey[1]
    JOIN pg_attribute AS target ON target.attrelid = reference.confrelid
        AND target.attnum = reference.confkey[1]
    WHERE reference.contype = 'f'
    UNION
    SELECT 'view', CASE WHEN pg_table_is_visible(source.oid)
        THEN source.relname ELSE source.oid::regclass::text END,
        '', going.name, target.attname
    FROM pg_depend AS needed
    JOIN going ON going.oid = needed.refobjid
    JOIN pg_rewrite AS rule ON rule.oid = needed.objid AND rule.ev_class <> going.oid
    JOIN pg_class AS source ON source.oid = rule.ev_class
    LEFT JOIN pg_attribute AS target ON target.attrelid = needed.refobjid
        AND target.attnum = needed.refobjsubid AND needed.refobjsubid > 0
    WHERE needed.refclassid = 'pg_class'::regclass
        AND needed.classid = 'pg_rewrite'::regclass
    ORDER BY 1, 2, 3, 5
"""


# A table, or one of its columns.
Name = tuple[str, Optional[str]]


class Reference(NamedTuple):
    """A foreign key."""

    table: str
    column: str
    target: str


class Dependant(NamedTuple):
    """A foreign key to a table or column, or a view that reads it."""

    kind: str
    table: str
    # Of a foreign key.
    column: str
    target: str
    # None if a view reads no column of it.
    target_column: str | None

    @property
    def reference(self) -> Reference:
        return Reference(self.table, self.column, self.target)


def in_the_way(
    runner: MigrationExecutor, plan: Collection[Migration], drops: Sequence[Drop]
) -> Iterator[Problem]:
    """What would be left without something that reversing the plan drops."""
    yield from _extensions_in_the_way(runner, plan)
    if not drops:
        return
    connection = runner.connection
    states = _States(runner, plan)
    kept = _tables(states.after, connection)
    with connection.cursor() as cursor:
        existing = set(connection.introspection.table_names(cursor))
    going = {(drop.table, drop.column): drop.key for drop in drops}
    tables = {table for table, column in going if column is None}
    lost = {d.table for d in drops if d.column is None and not d.is_replaced}
    for table in sorted(lost & existing & kept.keys()):
        yield Problem(
            *going[table, None],
            f"it would drop the table {table}, which is now that of {kept[table]}.",
            "Drop its other tables by hand, and remove its records with --fake.",
        )
    with_it = states.references_that_go()
    for found in _dependants(connection, drops, existing):
        target = found.target, None if found.target in tables else found.target_column
        if (
            target in going
            and found.table not in tables
            and found.reference not in with_it
            and not _is_dropped_by_sql(found.table, plan)
        ):
            yield _problem(found, target[1], going[target], kept)


def in_files(
    files: MigrationLoader, staying: Collection[Key], drops: Sequence[Drop]
) -> Iterator[Problem]:
    """What is dropped, and the file of one that stays makes too.

    `staying`: those of which the file need not be what was applied. Where migrations
    were made anew from the models, or renumbered and recorded with --fake, the file
    stands for what other code did.
    """
    if not (drops and staying):
        return
    connection: Any = files.connection
    makers = _makers(files, staying, {(drop.table, drop.column) for drop in drops})
    for drop in drops:
        maker = makers.get((drop.table, drop.column))
        if maker is not None and not drop.is_replaced:
            what = _described(drop.table, drop.column)
            prune = pruning(drop.key[0], connection.alias)
            how = prune and f", as {prune} does with all that are gone"
            yield Problem(
                *drop.key,
                f"it would drop the {what}, which the file of {'.'.join(maker)} makes "
                "too, and that is applied.",
                f"If that file stands for it now, remove its record alone{how}.",
            )


def _makers(
    files: MigrationLoader, staying: Collection[Key], wanted: Collection[Name]
) -> dict[Name, Key]:
    """Which of `staying` makes each of these tables and columns, by its file."""
    graph, state = files.graph, ProjectState(real_apps=files.unmigrated_apps)
    order = dict.fromkeys(
        key for leaf in graph.leaf_nodes() for key in graph.forwards_plan(leaf)
    )
    found: dict[Name, Key] = {}
    for key in order:
        if key in staying:
            before = _present(state, wanted, files.connection)
            known = {(k, name) for k, m in state.models.items() for name in m.fields}
            graph.nodes[key].mutate_state(state, preserve=False)
            after = _present(state, wanted, files.connection)
            made = (n for n in after.keys() - before.keys() if after[n] not in known)
            found.update(dict.fromkeys(made, key))
        else:
            graph.nodes[key].mutate_state(state, preserve=False)
    return found


def _present(
    state: ProjectState, wanted: Collection[Name], connection: Any
) -> dict[Name, tuple[Key, str] | None]:
    """Those of the names that a state has; of columns, the model and its field.

    By these, what was there before under another name of its table is known.
    """
    convert = connection.introspection.identifier_converter
    tables = {table for table, _ in wanted}
    found: dict[Name, tuple[Key, str] | None] = {
        (table, None): None for table in _tables(state, connection)
    }
    for key, model in state.models.items():
        table = convert(strip_quotes(naming.table(model)))
        if table in tables and _has_table(model):
            for name, field in model.fields.items():
                column = naming.named(name, field).column
                if column and not field.many_to_many:
                    found[table, convert(strip_quotes(column))] = (key, name)
    return {name: made_of for name, made_of in found.items() if name in wanted}


def _extensions_in_the_way(
    runner: MigrationExecutor, plan: Collection[Migration]
) -> Iterator[Problem]:
    loader, connection = runner.loader, runner.connection
    going = _extensions(
        (m for m in plan if not isinstance(m, FakedMigration)), connection
    )
    if not going:
        return
    nodes = loader.graph.nodes.items()
    staying = (m for k, m in nodes if k in loader.applied_migrations and m not in plan)
    for name, other in sorted(_extensions(staying, connection).items()):
        if name in going:
            yield Problem(
                *going[name],
                f"it would drop the extension {name}, which {'.'.join(other)} makes "
                "too, and that stays.",
                "Undo the rest by hand, and go back with --fake.",
            )


def _extensions(
    migrations: Iterable[Migration], connection: BaseDatabaseWrapper
) -> dict[str, Key]:
    return {
        name: (migration.app_label, migration.name)
        for migration in migrations
        for operation in planning.database_operations(migration.operations)
        if (name := extension(operation, migration.app_label, connection))
    }


def _problem(
    found: Dependant, column: str | None, key: Key, kept: dict[str, str]
) -> Problem:
    what = _described(found.target, column)
    if found.kind == "view":
        return Problem(
            *key,
            f"it would drop the {what}, which the view {found.table} reads.",
            "Drop that view first, and make it again afterwards.",
        )
    owner = f" ({kept[found.table]})" if found.table in kept else ""
    return Problem(
        *key,
        f"it would drop the {what}, to which the table {found.table}{owner} has a "
        f"foreign key in its column {found.column}.",
        "Remove that foreign key first.",
    )


def _described(table: str, column: str | None) -> str:
    return f"table {table}" if column is None else f"column {table}.{column}"


def _dependants(
    connection: BaseDatabaseWrapper, drops: Sequence[Drop], existing: Collection[str]
) -> Iterator[Dependant]:
    """On what is dropped; and on all else of its tables."""
    if connection.vendor == "postgresql":
        names = sorted({(drop.table, drop.quoted_table) for drop in drops})
        with connection.cursor() as cursor:
            cursor.execute(POSTGRESQL, [list(each) for each in zip(*names)])
            yield from (Dependant(*row) for row in cursor.fetchall())
        return
    # What stopped half-way has dropped or renamed some of its tables already.
    there = (drop for drop in drops if drop.table in existing)
    targets = {drop.table for drop in there if _may_be_referred_to(connection, drop)}
    if not targets:
        return
    dropped = {drop.table for drop in drops if drop.column is None}
    for table in sorted(set(existing) - dropped):
        with connection.cursor() as cursor:
            constraints = connection.introspection.get_constraints(cursor, table)
        for constraint in constraints.values():
            if constraint["foreign_key"] and constraint["foreign_key"][0] in targets:
                target, column = constraint["foreign_key"]
                yield Dependant(
                    "foreign key", table, constraint["columns"][0], target, column
                )


def _may_be_referred_to(connection: BaseDatabaseWrapper, drop: Drop) -> bool:
    """A foreign key needs a unique column; most have none, and are cheap to tell."""
    if drop.column is None:
        return True
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, drop.table)
    return any(
        constraint["unique"] and constraint["columns"] == [drop.column]
        for constraint in constraints.values()
    )


class _States:
    """As they are now, and as they would be; walks forward through all of it."""

    def __init__(self, runner: MigrationExecutor, plan: Collection[Migration]) -> None:
        self.connection = runner.connection
        self.before = ProjectState(real_apps=runner.loader.unmigrated_apps)
        self.after = ProjectState(real_apps=runner.loader.unmigrated_apps)
        self.plan = plan
        # Of what was recorded with --fake: only its record goes.
        self.faked: set[Reference] = set()
        for migration in planning.applied(runner):
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
            migration.mutate_state(self.before, preserve=False)

    def references_that_go(self) -> set[Reference]:
        now = _references(self.before, self.connection)
        return now - _references(self.after, self.connection) - self.faked


def _is_dropped_by_sql(name: str, plan: Collection[Migration]) -> bool:
    return any(
        name in sql and "DROP" in sql.upper()
        for migration in plan
        for sql in _reverse_sql(migration.operations)
    )


def _reverse_sql(operations: Iterable[Operation]) -> Iterator[str]:
    for operation in planning.database_operations(operations):
        if isinstance(operation, RunSQL):
            yield str(operation.reverse_sql)


def _tables(state: ProjectState, connection: BaseDatabaseWrapper) -> dict[str, str]:
    """Table → model, or the M2M field for which Django makes the table."""
    found = {}
    for model in filter(_has_table, state.models.values()):
        owner = f"{model.app_label}.{model.name}"
        found[naming.table(model)] = owner
        for name, field in model.fields.items():
            if field.many_to_many and field.remote_field.through is None:
                found[naming.m2m_table(model, name, field)] = f"{owner}.{name}"
    convert = connection.introspection.identifier_converter
    return {convert(strip_quotes(table)): owner for table, owner in found.items()}


def _references(state: ProjectState, connection: BaseDatabaseWrapper) -> set[Reference]:
    """The foreign keys of models; the tables of M2M fields go as a whole."""
    convert = connection.introspection.identifier_converter
    found = set()
    for model in filter(_has_table, state.models.values()):
        for name, field in model.fields.items():
            if not (field.many_to_one or field.one_to_one):
                continue
            target = state.models.get(naming.target(field, model))
            if target is not None:
                names = (
                    strip_quotes(naming.table(model)),
                    field.db_column or f"{name}_id",
                    strip_quotes(naming.table(target)),
                )
                found.add(Reference(*map(convert, names)))
    return found


def _has_table(model: ModelState) -> bool:
    return model.options.get("managed", True) and not model.options.get("proxy")
