"""What undoing changes needs in the database, and is not there.

As after a forward `migrate` of another branch, from a state without what a ghost made:
it renames a model, and not the tables of many-to-many fields that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes

from ..exceptions import Problem
from .changes import Change, MadeColumn, MadeTable, OwnCode, Renamed
from .layout import Column, Table

DROP = "drop"

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
        if names.has(what) is False:
            kind = "table" if isinstance(what, Table) else "column"
            fact = f"it would {verb} the {kind} {what}, which is not in the database."
            yield Problem(*change.key, fact, REMEDY)


def are_none(connection: BaseDatabaseWrapper, changes: Sequence[Change]) -> bool:
    """Whether something was made, and all that was made is in the database."""
    told = [change for change in changes if not isinstance(change, OwnCode)]
    made = [what for _, what, verb in _needed(told) if verb == DROP]
    names = _Names(connection)
    return bool(made) and all(map(names.has, made))


def _needed(changes: Sequence[Change]) -> Iterator[tuple[Change, Table | Column, str]]:
    for change in reversed(changes):
        if isinstance(change, OwnCode):
            # It may bring back the rest.
            return
        what: Table | Column
        if isinstance(change, MadeTable):
            what, verb = change.table, DROP
        elif isinstance(change, MadeColumn):
            what, verb = change.column, DROP
        elif isinstance(change, Renamed):
            what, verb = change.what, "rename"
        else:
            continue
        if not what.gone:
            yield change, what, verb


class _Names:
    """Those that the database has."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._convert = connection.introspection.identifier_converter
        self._tables = {
            name.casefold()
            for name in connection.introspection.table_names(include_views=True)
        }
        self._columns: dict[str, set[str] | None] = {}

    def has(self, what: Table | Column) -> bool | None:
        """None if it cannot be looked up."""
        table = self._name(what.table)
        if table is None:
            return None
        if isinstance(what, Table) or table not in self._tables:
            return table in self._tables
        if table not in self._columns:
            self._columns[table] = self._columns_of(what.table)
        columns, name = self._columns[table], self._name(what)
        return None if columns is None or name is None else name in columns

    def _columns_of(self, table: Table) -> set[str] | None:
        connection = self._connection
        describe = connection.introspection.get_table_description
        # Of tables that were made by hand it may fail in any way.
        with (
            suppress(Exception),
            transaction.atomic(using=connection.alias),
            connection.cursor() as cursor,
        ):
            name = self._convert(strip_quotes(table.name))
            return {column.name.casefold() for column in describe(cursor, name)}
        return None

    def _name(self, what: Table | Column) -> str | None:
        """None if it is quoted in a way of its own, or that of another schema."""
        name = strip_quotes(what.name)
        if self._connection.vendor == "mysql" and name != what.name:
            return None
        if any(mark in name for mark in '"`.'):
            return None
        if self._connection.vendor == "postgresql":
            # As the server cuts it; Django counts characters, and not of any name.
            name = name.encode()[:63].decode(errors="ignore")
        return str(self._convert(name)).casefold()
