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
    """Raises RewindError for a column that a ghost added, and that the plan adds.

    A remake stops at it, too, but then earlier migrations of the run are applied.
    """
    if runner.connection.vendor != "sqlite":
        return
    problem = None
    # What cannot be followed fails in Django's own way, or does not.
    with suppress(Exception):
        applied = list(takewhile(_is_plain, plan))
        problem = next(_added_twice(runner, applied), None)
    if problem is not None:
        raise problem


def _is_plain(migration: Migration) -> bool:
    """Else nobody knows what it does, and what those after it find."""
    return type(migration).apply is Migration.apply


def _added_twice(
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
    for key, table, column in effects.columns_added(runner, plan):
        # Not another one by that name: of a ghost, its code tells.
        name = re.sub("_id$", "", column.casefold())
        if any(name in code.source_code.casefold() for code in codes) and (
            column.casefold() in kept.columns_of(connection, table)
        ):
            yield kept.has_already(connection, table, column, key[0])
