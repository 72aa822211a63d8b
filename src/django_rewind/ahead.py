"""SQLite: a run that cannot be applied as a whole is refused before it starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import wraps
from itertools import takewhile
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from . import conf
from .exceptions import RewindError


def refusing_at_the_start(migrate: Callable[..., Any]) -> Callable[..., Any]:
    """Extends migrate() of MigrationExecutor."""

    @wraps(migrate)
    def migrate_if_it_can(
        self: Any,
        targets: Any,
        plan: Any = None,
        state: Any = None,
        fake: bool = False,
        fake_initial: bool = False,
    ) -> Any:
        is_sqlite = self.connection.vendor == "sqlite"
        if is_sqlite and conf.is_enabled() and not (fake or fake_initial):
            if plan is None:
                plan = self.migration_plan(targets)
            if plan and not plan[0][1]:
                _check(self, list(takewhile(_is_plain, (m for m, _ in plan))))
        return migrate(self, targets, plan, state, fake, fake_initial)

    return migrate_if_it_can


def _is_plain(migration: Migration) -> bool:
    """Else nobody knows what it does, and what those after it find."""
    return type(migration).apply is Migration.apply


def _check(runner: MigrationExecutor, plan: Collection[Migration]) -> None:
    """Raises RewindError for a column that a ghost added, and that the plan adds.

    A remake stops at it, too, but then earlier migrations of the run are applied.
    """
    problem = None
    # What cannot be followed fails in Django's own way, or does not.
    with suppress(Exception):
        problem = next(_added_twice(runner, plan), None)
    if problem is not None:
        raise problem


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
