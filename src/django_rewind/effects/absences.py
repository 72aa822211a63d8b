"""What undoing changes needs in the database, and is not there.

As after a forward `migrate` of another branch, from a state without what a ghost made:
it renames a model, and not the tables of many-to-many fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes

from ..exceptions import Problem
from .changes import Change, MadeColumn, MadeTable, OwnCode, Renamed
from .layout import Column, Table

REMEDY = (
    "Something else removed or renamed it. Undo the rest by hand, and go back with "
    "--fake."
)


def find(
    connection: BaseDatabaseWrapper, changes: Sequence[Change]
) -> Iterator[Problem]:
    needed = list(_needed(changes))
    if not needed:
        return
    names = _Names(connection)
    for change, what, verb in needed:
        if not names.has(what):
            kind = "table" if isinstance(what, Table) else "column"
            fact = f"it would {verb} the {kind} {what}, which is not in the database."
            yield Problem(*change.key, fact, REMEDY)


def _needed(changes: Sequence[Change]) -> Iterator[tuple[Change, Table | Column, str]]:
    for change in reversed(changes):
        if isinstance(change, OwnCode):
            # It may bring back the rest.
            return
        what: Table | Column
        if isinstance(change, MadeTable):
            what, verb = change.table, "drop"
        elif isinstance(change, MadeColumn):
            what, verb = change.column, "drop"
        elif isinstance(change, Renamed):
            what, verb = change.what, "rename"
        else:
            continue
        if not what.gone and not _table_of(what).gone:
            yield change, what, verb


def _table_of(what: Table | Column) -> Table:
    return what.table if isinstance(what, Column) else what


class _Names:
    """Those that the database has. Raises no error for want of a right to look."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._convert = connection.introspection.identifier_converter
        self._tables = {
            name.casefold()
            for name in connection.introspection.table_names(include_views=True)
        }
        self._columns: dict[str, set[str] | None] = {}

    def has(self, what: Table | Column) -> bool:
        table = self._name(_table_of(what))
        if '"' in table or "." in table:
            # Of another schema, which is not listed.
            return True
        if isinstance(what, Table) or table.casefold() not in self._tables:
            return table.casefold() in self._tables
        if table not in self._columns:
            self._columns[table] = self._columns_of(table)
        columns = self._columns[table]
        return columns is None or self._name(what).casefold() in columns

    def _columns_of(self, table: str) -> set[str] | None:
        connection = self._connection
        describe = connection.introspection.get_table_description
        with (
            suppress(DatabaseError),
            transaction.atomic(using=connection.alias),
            connection.cursor() as cursor,
        ):
            return {column.name.casefold() for column in describe(cursor, table)}
        return None

    def _name(self, what: Table | Column) -> str:
        return self._convert(strip_quotes(what.name))
