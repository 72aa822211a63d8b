"""SQLite: what ghosts added to a table stays when Django remakes the table.

SQLite cannot alter most things, so Django makes a new table from its state, copies
what both have, and drops the old one: https://www.sqlite.org/lang_altertable.html.
The state does not know what ghosts added, and their columns would go, with all data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import sqlparse
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.constraints import BaseConstraint

from . import conf, history, source, status, store
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
        table = model._meta.db_table
        indexes = _indexes(self.connection, table)
        columns = _columns_to_keep(self.connection, model, *args, **kwargs)
        _refuse_same_column(columns, model, *args, **kwargs)
        constraints = _constraints_to_keep(
            self.connection, model, columns, *args, **kwargs
        )
        with _added_to(model, columns, constraints):
            remake_table(self, model, *args, **kwargs)
        lost = indexes.keys() - _names_of_indexes(self.connection, table)
        for name in sorted(lost):
            if _is_of_ghost(self.connection, model, name, indexes[name], columns):
                self.execute(indexes[name], params=None)
        return None

    return _remake_table


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

    def __init__(self, *, name: str, sql: str) -> None:
        super().__init__(name=name)
        self.sql = sql

    def constraint_sql(self, model: Any, schema_editor: Any) -> str:
        return self.sql

    def deconstruct(self) -> Any:
        return "", (), {"name": self.name, "sql": self.sql}


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
    known = {str(f.column).casefold() for f in model._meta.local_concrete_fields}
    for old, new in _altered(alter_fields, alter_field):
        # Django 3.2 gives the model as it will be, to rename a column of many-to-many.
        if old.column and new.column:
            known.discard(new.column.casefold())
            known.add(old.column.casefold())
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
        hidden = {row[1].casefold(): row[6] for row in cursor.fetchall()}
    unknown = hidden.keys() - known
    lacking = known - hidden.keys()
    if not (unknown or lacking) or not (others := _not_in_state(connection)):
        return []
    if lacking and history.of(connection) is None:
        raise RewindError(
            f"The table {table} lacks the column '{min(lacking)}', which is needed to "
            "alter the table. A migration that was applied from other code may have "
            "removed or renamed it; this migration was not applied. Reverse one of "
            f"these first: {', '.join(map('.'.join, others))}."
        )
    return [
        (KeptGeneratedColumn if hidden[name.casefold()] else KeptColumn)(
            number, name, definition
        )
        for number, (name, definition) in enumerate(_definitions(connection, table))
        if name.casefold() in unknown
    ]


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
    known = {constraint.name for constraint in model._meta.constraints}
    sql = _sql_of(connection, model._meta.db_table)
    if not columns and known.issuperset(re.findall('CONSTRAINT "([^"]+)"', sql)):
        return []
    quote = connection.ops.quote_name
    kept = [quote(str(column.column)) for column in columns]
    altered = _altered(alter_fields, alter_field)
    gone = [old.column for old, new in altered if old.column != new.column]
    gone += [delete_field.column] if delete_field else []
    gone = [quote(column) for column in gone if column]
    found = []
    for number, (word, rest) in enumerate(
        _definitions(connection, model._meta.db_table)
    ):
        if word.upper() not in ("CONSTRAINT", "UNIQUE", "CHECK", "FOREIGN"):
            continue
        name = rest.split()[0].strip('"`[]') if word.upper() == "CONSTRAINT" else None
        if any(column in rest for column in kept) or (
            name is not None
            and name not in known
            and not any(column in rest for column in gone)
            and _is_constraint_of_ghost(connection, model, name)
        ):
            found.append(KeptConstraint(name=f"kept_{number}", sql=f"{word} {rest}"))
    return found


def _is_constraint_of_ghost(
    connection: BaseDatabaseWrapper, model: type[models.Model], name: str
) -> bool:
    # In a rollback, the state knows what ghosts made.
    if history.of(connection) is not None:
        return False
    codes = [code.source_code for code in _not_in_state(connection).values() if code]
    return any(name in code for code in codes) and not any(
        # The file that is applied now may remove what an edited one made.
        name in text
        for text in _files(model._meta.app_label)
    )


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
    new = [field for field in [create_field, *(f for _, f in altered)] if field]
    for column in columns:
        if column.column in [field.column for field in new]:
            label = model._meta.app_label
            raise RewindError(
                f"The table {model._meta.db_table} already has the column "
                f"'{column.column}', from a migration whose file is gone, and this "
                "migration adds it anew. It was not applied, so that no data are lost. "
                f"Reverse the other one first: 'manage.py showmigrations {label}' "
                f"names it, and 'manage.py migrate {label} NAME' goes back to the one "
                "before it."
            )


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
        name in code or (is_forward and _made_together(code, sql)) for code in codes
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
            "WHERE type = 'index' AND tbl_name = %s AND sql IS NOT NULL",
            [table],
        )
        return dict(cursor.fetchall())


def _names_of_indexes(connection: BaseDatabaseWrapper, table: str) -> set[str]:
    """Without a look at each table and index that there is."""
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA index_list({connection.ops.quote_name(table)})")
        return {row[1] for row in cursor.fetchall()}


def _definitions(connection: BaseDatabaseWrapper, table: str) -> list[tuple[str, str]]:
    """What CREATE TABLE lists: (column name or first keyword, the rest)."""
    parts: list[list[str]] = []
    depth = 0
    statement: Any = sqlparse.parse(_sql_of(connection, table))[0]
    for token in statement.flatten():
        text = str(token)
        if text == ")":
            depth -= 1
        if depth == 1 and text == ",":
            parts.append([])
        elif depth >= 1:
            parts[-1].append(text)
        if text == "(":
            depth += 1
            if depth == 1:
                parts.append([])
    definitions = []
    for part in parts:
        words = "".join(part).strip()
        name = next(text for text in part if text.strip())
        definitions.append((name.strip('"`[]'), words[len(name) :].strip()))
    return definitions


def _sql_of(connection: BaseDatabaseWrapper, table: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s", [table]
        )
        (sql,) = cursor.fetchone()
    return str(sql)
