"""Ask for numbers: all that concern one table in one query."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, Union

from django.db import DatabaseError, DataError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from .layout import Column, Table


class Count(NamedTuple):
    table: str
    sql: str


class Trial(NamedTuple):
    """What fails if one of the values does, which is not counted further."""

    table: str
    sql: str


Countable = Union[Count, Trial, "QuerySet[Any]"]


def ask(
    connection: BaseDatabaseWrapper, counts: Iterable[Countable]
) -> dict[Countable, int | None]:
    """None for what cannot be counted: no such table, or no right to read it."""
    by_table: dict[str, list[Count]] = {}
    answers: dict[Countable, int | None] = {}
    for count in dict.fromkeys(counts):
        if isinstance(count, Trial):
            answers[count] = _try(connection, count)
        elif isinstance(count, Count):
            by_table.setdefault(count.table, []).append(count)
        else:
            answers[count] = _count(connection, count)
    for together in by_table.values():
        found = _ask(connection, together)
        if found is None and len(together) > 1:
            # One column that is not there keeps no other from being counted.
            for count in together:
                answers.update(_ask(connection, [count]) or {count: None})
        else:
            answers.update(found or dict.fromkeys(together))
    return answers


def _count(connection: BaseDatabaseWrapper, rows: QuerySet[Any]) -> int | None:
    # Whatever the expressions of a project raise.
    with suppress(Exception), transaction.atomic(using=connection.alias):
        return rows.count()
    return None


def _try(connection: BaseDatabaseWrapper, trial: Trial) -> int | None:
    table = connection.ops.quote_name(trial.table)
    try:
        with (
            transaction.atomic(using=connection.alias),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"SELECT COUNT({trial.sql}) FROM {table}")  # noqa: S608
    except DataError:
        return 1
    except DatabaseError:
        return None
    return 0


def _ask(
    connection: BaseDatabaseWrapper, counts: list[Count]
) -> dict[Countable, int | None] | None:
    table = connection.ops.quote_name(counts[0].table)
    selected = ", ".join(count.sql for count in counts)
    with (
        suppress(DatabaseError),
        transaction.atomic(using=connection.alias),
        connection.cursor() as cursor,
    ):
        # With a count of its own, so that there is one row, whatever is selected.
        cursor.execute(f"SELECT COUNT(*), {selected} FROM {table}")  # noqa: S608
        return dict(zip(counts, cursor.fetchone()[1:]))
    return None


class Counting:
    """The counts that there are."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._quote = connection.ops.quote_name

    def column(self, column: Column) -> str:
        # SQLite takes a quoted name that is no column for a string, if it stands alone.
        return f"{self._quote(column.table.name)}.{self._quote(column.name)}"

    def rows(self, table: Table) -> Count:
        return Count(table.name, "COUNT(*)")

    def values(self, column: Column) -> Count:
        return Count(column.table.name, f"COUNT({self.column(column)})")

    def nulls(self, column: Column) -> Count:
        return Count(column.table.name, f"COUNT(*) - COUNT({self.column(column)})")

    def where(self, column: Column, condition: str) -> Count:
        return Count(column.table.name, f"COUNT(CASE WHEN {condition} THEN 1 END)")

    def orphans(self, column: Column, target: Column) -> Count:
        """Of the values that are not null, those that no row of the target has."""
        name, table = self.column(column), self._quote(target.table.name)
        there = (
            f"SELECT 1 FROM {table} AS target "  # noqa: S608
            f"WHERE target.{self._quote(target.name)} = {name}"
        )
        return self.where(column, f"{name} IS NOT NULL AND NOT EXISTS ({there})")

    def trial(self, column: Column, expression: str) -> Trial:
        return Trial(column.table.name, expression.replace("{}", self.column(column)))

    def repeated(self, columns: Collection[Column], *, nulls_distinct: bool) -> Count:
        table = next(iter(columns)).table.name
        names = [self.column(column) for column in columns]
        where = " AND ".join(f"{name} IS NOT NULL" for name in names)
        groups = (
            f"SELECT 1 AS one FROM {self._quote(table)}"  # noqa: S608
            + (f" WHERE {where}" if nulls_distinct else "")
            + f" GROUP BY {', '.join(names)} HAVING COUNT(*) > 1"
        )
        return Count(table, f"(SELECT COUNT(*) FROM ({groups}) AS repeated)")  # noqa: S608
