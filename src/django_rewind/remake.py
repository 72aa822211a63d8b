"""SQLite: what ghosts added to a table stays when Django remakes the table.

SQLite cannot alter most things, so Django makes a new table from its state, copies
what both have, and drops the old one: https://www.sqlite.org/lang_altertable.html.
The state does not know what ghosts added, and their columns would go, with all data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any

from django.db import DatabaseError, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.utils import strip_quotes
from django.db.models.constraints import BaseConstraint

from . import conf, definitions, history, source, status, store
from .definitions import Definition
from .exceptions import RewindError, SourceUnavailable
from .models import Key, MigrationCode
from .status import File

RemakeTable = Callable[..., None]


def keeping_what_ghosts_added(remake_table: RemakeTable) -> RemakeTable:
    """Extend DatabaseSchemaEditor._remake_table() of the SQLite backend."""

    @wraps(remake_table)
    def _remake_table(
        self: BaseDatabaseSchemaEditor,
        model: type[models.Model],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if self.collect_sql or not conf.is_enabled():
            return remake_table(self, model, *args, **kwargs)
        table = strip_quotes(model._meta.db_table)
        indexes = _indexes(self.connection, table)
        columns = _columns_to_keep(self.connection, model, *args, **kwargs)
        _refuse_same_column(columns, model, *args, **kwargs)
        constraints = _constraints_to_keep(
            self.connection, model, columns, *args, **kwargs
        )

        def remake(constraints: list[KeptConstraint]) -> None:
            with _added_to(model, columns, constraints):
                remake_table(self, model, *args, **kwargs)

        of_columns = [constraint for constraint in constraints if constraint.is_needed]
        if of_columns == constraints or not _is_done(
            self, partial(remake, constraints)
        ):
            remake(of_columns)
        lost = indexes.keys() - _names_of_indexes(self.connection, table)
        for name in sorted(lost):
            if _is_of_ghost(self.connection, model, name, indexes[name], columns):
                _is_done(self, partial(self.execute, indexes[name], params=None))
        return None

    return _remake_table


def _is_done(editor: BaseDatabaseSchemaEditor, do: Callable[[], None]) -> bool:
    """Not if the rows or columns, as they become, do not fit what a ghost made.

    Django would forget that, and a forward `migrate` must not fail.
    """
    deferred = list(editor.deferred_sql)
    try:
        with transaction.atomic(using=editor.connection.alias):
            do()
    except DatabaseError:
        editor.deferred_sql = deferred
        return False
    return True


class KeptColumn(models.Field):  # type: ignore[type-arg]
    """A column as it stands in the table's own SQL."""

    def __init__(self, number: int, column: str, definition: str) -> None:
        # SQLite takes the NULL that Django appends as no constraint at all.
        super().__init__(db_column=column, null=True)
        if definition.endswith(" NULL") and not definition.endswith("NOT NULL"):
            definition = definition[: -len(" NULL")]
        self.set_attributes_from_name(f"kept_{number}")
        self.definition = definition

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return self.definition


class KeptGeneratedColumn(KeptColumn):
    generated = True


class KeptConstraint(BaseConstraint):
    """A table constraint as it stands in the table's own SQL."""

    def __init__(self, *, name: str, sql: str, is_needed: bool) -> None:
        super().__init__(name=name)
        self.sql = sql
        # By a column that is kept.
        self.is_needed = is_needed

    def constraint_sql(self, model: Any, schema_editor: Any) -> str:
        return self.sql

    def deconstruct(self) -> Any:
        options = {"name": self.name, "sql": self.sql, "is_needed": self.is_needed}
        return "", (), options


def _columns_to_keep(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    create_field: Any = None,
    delete_field: Any = None,
    alter_fields: Any = None,
    alter_field: Any = None,
) -> list[KeptColumn]:
    """The columns that the state does not know, if a ghost may have added them."""
    table = model._meta.db_table
    known = {_column(f) for f in model._meta.local_concrete_fields}
    for old, new in _altered(alter_fields, alter_field):
        # Django 3.2 gives the model as it will be, to rename a column of many-to-many.
        if old.column and new.column:
            known.discard(_column(new))
            known.add(_column(old))
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
        hidden = {row[1].casefold(): row[6] for row in cursor.fetchall()}
    unknown = hidden.keys() - known
    # One that was made up for want of a primary key is in the state only, as may be the
    # one that is made now; and nothing is copied from the one that goes.
    may_lack = {_column(f) for f in model._meta.local_concrete_fields if f.auto_created}
    may_lack.update(_column(field) for field in (create_field, delete_field) if field)
    lacking = known - hidden.keys() - may_lack
    if not (unknown or lacking) or not (others := _not_in_state(connection)):
        return []
    if lacking and history.of(connection) is None:
        raise RewindError(
            f"The table {table} lacks the column '{min(lacking)}', which is needed to "
            "alter the table. A migration that was applied from other code may have "
            "removed or renamed it; this migration was not applied. Reverse one of "
            f"these first: {', '.join(map('.'.join, others))}."
        )
    if create_field and not _may_have_made(others, model, create_field):
        # It is there for another reason, as a primary key that Django made up.
        unknown = unknown - {_column(create_field)}
    return [
        (KeptGeneratedColumn if hidden[found.name.casefold()] else KeptColumn)(
            number, found.name, found.sql
        )
        for number, found in enumerate(_definitions(connection, table))
        if found.kind == "column" and found.name.casefold() in unknown
    ]


def _may_have_made(
    others: dict[Key, MigrationCode | None], model: type[models.Model], field: Any
) -> bool:
    """Those of other apps only by a name that their code has, and few have not: id."""
    if any(app_label == model._meta.app_label for app_label, _ in others):
        return True
    name = re.sub("_id$", "", _column(field))
    return not field.primary_key and any(
        name in code.source_code.casefold() for code in others.values() if code
    )


def _constraints_to_keep(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    columns: list[KeptColumn],
    create_field: Any = None,
    delete_field: Any = None,
    alter_fields: Any = None,
    alter_field: Any = None,
) -> list[KeptConstraint]:
    """Those on kept columns, and those that a ghost made of other columns."""
    kept = set(map(_column, columns))
    altered = _altered(alter_fields, alter_field)
    gone = [_column(old) for old, new in altered if old.column != new.column]
    gone += [_column(delete_field)] if delete_field else []
    # Of no column that goes.
    possible = [
        found
        for found in _definitions(connection, model._meta.db_table)
        if found.kind in ("unique", "check", "foreign") and found.names.isdisjoint(gone)
    ]
    known = {constraint.name for constraint in model._meta.constraints}
    needed = [found for found in possible if not found.names.isdisjoint(kept)]
    others = [c for c in possible if c not in needed and c.name and c.name not in known]
    # In a rollback, the state knows what ghosts made.
    if others and history.of(connection) is None:
        others = _those_of_ghosts(connection, model, others)
    else:
        others = []
    return [
        KeptConstraint(name=f"kept_{number}", sql=found.sql, is_needed=found in needed)
        for number, found in enumerate([*needed, *others])
    ]


def _those_of_ghosts(
    connection: BaseDatabaseWrapper, model: type[models.Model], found: list[Definition]
) -> list[Definition]:
    codes = [code.source_code for code in _not_in_state(connection).values() if code]
    found = [f for f in found if any(_is_named(f.name, code) for code in codes)]
    # The file that is applied now may remove what an edited one made.
    files = list(_files(model._meta.app_label)) if found else []
    return [f for f in found if not any(_is_named(f.name, text) for text in files)]


def _is_named(name: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))


def _files(app_label: str) -> Iterator[str]:
    for name in source.Disk()[app_label]:
        with suppress(SourceUnavailable):
            yield source.read(source.module_name(app_label, name) or "")


def _refuse_same_column(
    columns: list[KeptColumn],
    model: type[models.Model],
    create_field: Any = None,
    delete_field: Any = None,
    alter_fields: Any = None,
    alter_field: Any = None,
) -> None:
    """Two branches may add the same column; Django would drop the ghost's."""
    altered = _altered(alter_fields, alter_field)
    fields = [field for field in [create_field, *(f for _, f in altered)] if field]
    new = set(map(_column, fields))
    for column in columns:
        if _column(column) in new:
            label = model._meta.app_label
            raise RewindError(
                f"The table {model._meta.db_table} already has the column "
                f"'{column.column}', from a migration whose file is gone, and this "
                "migration adds it anew. It was not applied, so that no data are lost. "
                f"Reverse the other one first: 'manage.py showmigrations {label}' "
                f"names it, and 'manage.py migrate {label} NAME' goes back to the one "
                "before it."
            )


def _column(field: Any) -> str:
    """As it is compared: to SQLite, case does not matter."""
    return strip_quotes(str(field.column)).casefold()


def _altered(alter_fields: Any, alter_field: Any) -> list[Any]:
    # Before Django 5, alter_field stands third, for both.
    if isinstance(alter_fields, tuple):
        alter_fields = [alter_fields]
    return [*(alter_fields or ()), *([alter_field] if alter_field else ())]


@contextmanager
def _added_to(
    model: type[models.Model],
    columns: list[KeptColumn],
    constraints: list[KeptConstraint],
) -> Iterator[None]:
    options: Any = model._meta
    before = options.local_concrete_fields, options.constraints
    options.local_concrete_fields = [*before[0], *columns]
    options.constraints = [*before[1], *constraints]
    try:
        yield
    finally:
        options.local_concrete_fields, options.constraints = before


def _is_of_ghost(
    connection: BaseDatabaseWrapper,
    model: type[models.Model],
    name: str,
    sql: str,
    columns: list[KeptColumn],
) -> bool:
    quoted = [connection.ops.quote_name(str(column.column)) for column in columns]
    if any(column in sql for column in quoted):
        return True
    codes = [code.source_code for code in _not_in_state(connection).values() if code]
    # In a rollback, the state knows what ghosts made under names of Django.
    is_forward = history.of(connection) is None
    return any(
        _is_named(name, code) or (is_forward and _made_together(code, sql))
        for code in codes
    )


def _made_together(code: str, sql: str) -> bool:
    """By unique_together or index_together, whose indexes are named by Django."""
    columns = re.findall('"([^"]+)"', sql.partition("(")[2])
    return (
        len(columns) > 1
        and bool(re.search("(?i)(unique|index)_?together", code))
        and all(re.sub("_id$", "", column) in code for column in columns)
    )


def _not_in_state(
    connection: BaseDatabaseWrapper,
) -> dict[Key, MigrationCode | None]:
    """What is applied, and unknown to the state: ghosts, and what edited ones did.

    Of any app, since RunSQL may alter every table.
    """
    keys = [
        key
        for key, answer in status.read(connection).items()
        if answer.is_ghost or answer.file is File.EDITED
    ]
    codes = store.fetch(connection, keys)
    return {key: codes.get(key) for key in keys}


def _indexes(connection: BaseDatabaseWrapper, table: str) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, sql FROM sqlite_master "
            "WHERE type = 'index' AND tbl_name = %s COLLATE NOCASE "
            "AND sql IS NOT NULL",
            [table],
        )
        return dict(cursor.fetchall())


def _names_of_indexes(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    """Without a look at each table and index that there is."""
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA index_list({connection.ops.quote_name(table)})")
        return {row[1] for row in cursor.fetchall()}


def _definitions(connection: BaseDatabaseWrapper, table: str) -> list[Definition]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sql FROM sqlite_master "
            "WHERE type = 'table' AND name = %s COLLATE NOCASE",
            [strip_quotes(table)],
        )
        row = cursor.fetchone()
    return definitions.read(row[0]) if row else []
