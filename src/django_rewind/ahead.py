"""SQLite: a run that cannot be applied as a whole is refused before it starts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from .exceptions import RewindError


def check(runner: MigrationExecutor, plan: Iterable[Migration]) -> None:
    """Raises RewindError for a column of a ghost that the plan adds, or has to keep
    and cannot.

    A remake stops at it, too, but then earlier migrations of the run are applied.
    """
    if runner.connection.vendor != "sqlite":
        return
    problem = None
    # What cannot be followed fails in Django's own way, or does not.
    with suppress(Exception):
        applied = list(takewhile(_is_plain, plan))
        problem = next(_problems(runner, applied), None)
    if problem is not None:
        raise problem


def _is_plain(migration: Migration) -> bool:
    """Else nobody knows what it does, and what those after it find."""
    return type(migration).apply is Migration.apply


def _problems(
    runner: MigrationExecutor, plan: Collection[Migration]
) -> Iterator[RewindError]:
    from . import kept, store

    connection = runner.connection
    answers = kept.may_be_unknown(connection)
    if not answers:
        return
    # Late, since most runs meet no ghost.
    from . import effects

    codes = store.fetch(connection, list(answers)).values()

    def is_of_ghost(column: str) -> bool:
        """Not another one by that name: its code tells."""
        name = re.sub("_id$", "", column.casefold())
        return any(name in code.source_code.casefold() for code in codes)

    gone: set[tuple[str, str]] = set()
    for change in effects.column_names(runner, plan):
        (app_label, name), table, column, is_dropped = change
        by = f"{app_label}.{name}"
        if not is_dropped:
            columns = kept.columns_of(connection, table)
            if column.casefold() in columns and is_of_ghost(column):
                yield kept.has_already(connection, table, column, app_label, by)
            continue
        gone.add((table, column.casefold()))
        for made in kept.generated_from(connection, table, column):
            if is_of_ghost(made) and (table, made.casefold()) not in gone:
                yield kept.is_needed(connection, table, made, app_label, by)
