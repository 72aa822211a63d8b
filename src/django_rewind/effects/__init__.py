"""What reversing the steps of a plan does to the data that is there now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from ..exceptions import Problem
from ..models import Key
from ..planning import key_of
from ..terminal import on_one_line, shortened
from . import absences
from .changes import (
    Change,
    DroppedColumn,
    DroppedTable,
    MadeColumn,
    MadeTable,
    Renamed,
    extension,
    follow,
    look_ahead,
)
from .counts import ask
from .layout import Column, Table
from .reversal import Finding, Reversal

__all__ = [
    "Change",
    "Drop",
    "Effects",
    "absent",
    "column_names",
    "drops",
    "extension",
    "find",
    "follow",
    "has_made",
    "problems",
]


class Effects(NamedTuple):
    # One list for each step, in the order of the plan: facts with live counts.
    destroys: dict[Key, list[str]]
    # What may fail: code of the plan runs before it, and may change the data.
    notes: list[str]


class Drop(NamedTuple):
    """A table that reversing a plan drops, or a column of one that stays."""

    key: Key
    # As the database has it now, and as SQL does.
    table: str
    quoted_table: str
    column: str | None = None
    # Whether another one has this name afterwards, which the plan makes or renames.
    is_replaced: bool = False


def find(
    connection: BaseDatabaseWrapper,
    plan: Sequence[Migration],
    changes: Sequence[Change],
) -> Effects:
    """Of reversing `plan`, latest applied first. Runs none of it."""
    effects = Effects({key_of(migration): [] for migration in plan}, [])
    for finding, number in _counted(connection, Reversal(connection).undo(changes)):
        fact = shortened(_fact(finding, number))
        if not finding.remedy:
            effects.destroys[finding.key].append(fact)
        elif number is not None and finding.may_be_mended:
            effects.notes.append(
                on_one_line("{}.{}: ".format(*finding.key))
                + f"{fact}. Its rollback fails unless code that runs before it changes "
                "that."
            )
    return effects


def problems(
    connection: BaseDatabaseWrapper, changes: Sequence[Change]
) -> Iterator[Problem]:
    """What undoing `changes` would certainly fail on, in the data that is there."""
    failing = (
        finding
        for finding in Reversal(connection).undo(changes)
        if finding.remedy and not finding.may_be_mended
    )
    for finding, number in _counted(connection, failing):
        if number is not None:
            fact = shortened(_fact(finding, number))
            yield Problem(*finding.key, f"{fact}.", finding.remedy)


def _counted(
    connection: BaseDatabaseWrapper, findings: Iterable[Finding]
) -> Iterator[tuple[Finding, int | None]]:
    """Those of which there are enough; None if nothing is counted, or can be."""
    found = list(findings)
    counts = ask(connection, (f.counted for f in found if f.counted is not None))
    for finding in found:
        number = None if finding.counted is None else counts[finding.counted]
        if number is None or number >= finding.least:
            yield finding, number


def absent(connection: BaseDatabaseWrapper, changes: Sequence[Change]) -> list[Problem]:
    """What undoing `changes` needs, and the database has not."""
    return list(absences.find(connection, changes))


def has_made(runner: MigrationExecutor, migration: Migration) -> bool:
    """Whether all tables and columns that it makes are there, though not recorded.

    Of a migration that makes none, nobody can tell.
    """
    changes = list(look_ahead(runner, [migration], past_own_code=True))
    return absences.are_none(runner.connection, changes)


def drops(connection: BaseDatabaseWrapper, changes: Sequence[Change]) -> list[Drop]:
    """What undoing `changes` drops."""
    made = [c for c in changes if isinstance(c, MadeTable) and not c.table.gone]
    tables = {change.table for change in made}
    freed = _freed(changes)
    found = [
        _drop(connection, change.key, change.table)._replace(
            is_replaced=str(change.table) in freed
        )
        for change in made
    ]
    returning = set(_returning(changes))
    for change in changes:
        if isinstance(change, MadeColumn) and not change.column.gone:
            column = change.column
            if column.table not in tables:
                is_replaced = (column.table, strip_quotes(column.name)) in returning
                drop = _drop(connection, change.key, column.table, column)
                found.append(drop._replace(is_replaced=is_replaced))
    return found


def _returning(changes: Sequence[Change]) -> Iterator[tuple[Table, str]]:
    """The columns that undoing `changes` makes again, by the names that they had."""
    first: dict[Column, str] = {}
    for change in changes:
        if isinstance(change, Renamed) and isinstance(change.what, Column):
            first.setdefault(change.what, change.was)
        elif isinstance(change, DroppedColumn):
            # "table.column", by the name that the table had then.
            name = first.get(change.column, change.called)
            yield change.column.table, name.rpartition(".")[2]


def _freed(changes: Sequence[Change]) -> set[str]:
    """Tables' names that `changes` took from others, which undoing gives back."""
    is_freed: dict[str, bool] = {}
    for change in changes:
        # The first thing that was done with a name is what is undone last.
        if isinstance(change, MadeTable):
            is_freed.setdefault(change.called, False)
        elif isinstance(change, DroppedTable):
            is_freed.setdefault(change.called, True)
        elif isinstance(change, Renamed):
            is_freed.setdefault(change.was, True)
            is_freed.setdefault(change.called, False)
    return {name for name, answer in is_freed.items() if answer}


class ColumnName(NamedTuple):
    """Of a table that is there now, by the name that the table has now."""

    key: Key
    table: str
    column: str
    is_dropped: bool


def column_names(
    runner: MigrationExecutor, plan: Collection[Migration]
) -> Iterator[ColumnName]:
    """Those that a plan adds to tables, and those that it drops.

    Of a name that it uses for several, only the first one.
    """
    first: dict[Table, str] = {}
    new: set[Table] = set()
    known: set[tuple[str, str]] = set()
    for change in look_ahead(runner, plan):
        if isinstance(change, MadeTable):
            new.add(change.table)
        elif isinstance(change, Renamed) and isinstance(change.what, Table):
            first.setdefault(change.what, change.was)
        elif isinstance(change, (MadeColumn, DroppedColumn, Renamed)):
            what = change.what if isinstance(change, Renamed) else change.column
            table = first.get(what.table, str(what.table))
            if isinstance(change, Renamed):
                known.add((table, change.was.rpartition(".")[2]))
            name = change.called.rpartition(".")[2]
            if what.table not in new and (table, name) not in known:
                is_dropped = isinstance(change, DroppedColumn)
                yield ColumnName(change.key, table, name, is_dropped)
            known.add((table, name))


def _drop(
    connection: BaseDatabaseWrapper,
    key: Key,
    table: Table,
    column: Column | None = None,
) -> Drop:
    def convert(what: Table | Column) -> str:
        name = strip_quotes(what.name)
        return str(connection.introspection.identifier_converter(name))

    quoted = connection.ops.quote_name(table.name)
    return Drop(
        key, convert(table), quoted, None if column is None else convert(column)
    )


def _fact(finding: Finding, number: int | None) -> str:
    if number is None:
        return finding.fact
    one, many = finding.things
    return f"{finding.fact}{finding.lead}{number:,} {one if number == 1 else many}"
