"""Migrations that were begun to be applied, and are not recorded.

Of those a part may be there, where each ALTER is committed. Elsewhere all of it may be,
for Django records a migration that made indexes or foreign keys after it was committed.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from . import chronicle, effects, journal, source, store
from .actions import APPLY
from .chronicle import Event
from .exceptions import RewindError
from .models import Key
from .terminal import manage, on_one_line, quoted, shortened


class Unfinished(NamedTuple):
    """A migration that was begun to be applied, and is not recorded since."""

    key: Key
    alias: str
    run: str
    # When it was begun. ISO 8601
    at: str
    # Empty if its process was killed, or is still at it.
    error: str
    has_file: bool
    # Whether all of it is there.
    is_whole: bool = False

    def __str__(self) -> str:
        return on_one_line(f"{'.'.join(self.key)}: {self.fact} {self.remedy}")

    @property
    def fact(self) -> str:
        at = shortened(self.at)
        if self.is_whole:
            return (
                f"it was begun to be applied, on {at}, and its process ended before it "
                "was recorded. All of it is there."
            )
        how = f"it was begun to be applied, on {at}, and has not ended"
        if self.error:
            how = f"applying it failed, on {at}"
        return f"{how}. A part of it may be there, for here each ALTER is committed."

    @property
    def remedy(self) -> str:
        if self.is_whole:
            fake = "migrate {} {} --fake".format(*map(quoted, self.key))
            return f"{manage(fake, self.alias)} records it."
        if self.has_file:
            return f"{self.undoing} Then run {manage('migrate', self.alias)}."
        return (
            f"Check out the code that has its file. {self.undoing} Then run "
            f"{manage('rewind --mended', self.alias)}."
        )

    @property
    def undoing(self) -> str:
        sql = manage("sqlmigrate {} {}".format(*map(quoted, self.key)), self.alias)
        return f"Undo by hand what of it is there; {sql} shows its SQL."


def find(connection: BaseDatabaseWrapper) -> list[Unfinished]:
    """Which of their statements ran is not journalled."""
    last: dict[Key, Event] = {}
    killed: dict[Key, Event] = {}
    for event in chronicle.tell(journal.read(connection)):
        key = event.app_label, event.migration_name
        is_application = event.action == APPLY and not event.fake
        if event.status == journal.DONE:
            killed.pop(key, None)
        elif is_application and event.status == journal.STARTED:
            killed[key] = event
        if is_application or event.status == journal.DONE:
            last[key] = event
    recorded, disk = store.contents(connection).recorded, source.Disk()
    if connection.features.can_rollback_ddl:
        # What failed was taken back. So was what was killed, or nothing of it.
        found = {k: e for k, e in killed.items() if k not in recorded and disk.has(k)}
        whole = _whole(connection, found)
        found = {key: event for key, event in found.items() if key in whole}
    else:
        found = {
            key: event
            for key, event in last.items()
            if event.status != journal.DONE and key not in recorded
        }
        whole = set()
    return [
        Unfinished(
            key,
            connection.alias,
            event.run,
            event.at,
            event.error,
            disk.has(key),
            key in whole,
        )
        for key, event in found.items()
    ]


def whole(connection: BaseDatabaseWrapper) -> set[Key]:
    """Those of which all is there; none if that cannot be read. Never raises."""
    try:
        return {begun.key for begun in find(connection) if begun.is_whole}
    except (RewindError, DatabaseError):
        return set()


def _whole(connection: BaseDatabaseWrapper, keys: Collection[Key]) -> set[Key]:
    """Those of which the database has what they make, next to all they depend on."""
    found: set[Key] = set()
    # Where files do not load, or do not fit, others tell.
    with suppress(Exception):
        runner = MigrationExecutor(connection) if keys else None
        found.update(key for key in keys if runner and _is_whole(runner, key))
    return found


def _is_whole(runner: MigrationExecutor, key: Key) -> bool:
    loader = runner.loader
    if key not in loader.graph.nodes or not loader.graph.nodes[key].atomic:
        return False
    *before, _ = loader.graph.forwards_plan(key)
    return loader.applied_migrations.keys() >= set(before) and effects.has_made(
        runner, loader.graph.nodes[key]
    )
