"""Migrations that were begun to be applied, and are not recorded.

Of those a part may be there, where each ALTER is committed; what `rewind` applied tells
how far it got. Elsewhere all of it may be, for Django records a migration that made
indexes or foreign keys after it was committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from . import chronicle, effects, halfway, journal, source, store
from .actions import APPLY
from .chronicle import Event
from .exceptions import RewindError, applied_by_hand
from .halfway import Half
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
    # How far it got, if that is known.
    half: Half | None = None
    can_go_on: bool = False

    def __str__(self) -> str:
        name = ".".join(self.key)
        if self.half is None or self.can_go_on:
            return on_one_line(f"{name}: {self.fact} {self.remedy}")
        fact, remedy = map(on_one_line, (f"{name}: {self.fact}", self.remedy))
        return "\n".join([fact, self.half.describe(), remedy])

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
        if self.half is not None:
            return f"{how}. {self._how_far(self.half)}"
        return f"{how}. A part of it may be there, for here each ALTER is committed."

    def _how_far(self, half: Half) -> str:
        if self.can_go_on:
            return f"These operations were applied: {half.done}."
        is_another = self.has_file and half.can_go_on
        why = ", and its file is another now" if is_another else ""
        return f"It was applied in part{why}."

    @property
    def remedy(self) -> str:
        if self.is_whole:
            fake = "migrate {} {} --fake".format(*map(quoted, self.key))
            return f"{manage(fake, self.alias)} records it."
        if self.half is not None:
            return self._remedy_of_half
        if self.has_file:
            return f"{self.undoing} Then run {manage('migrate', self.alias)}."
        return (
            f"Check out the code that has its file. {self.undoing} Then run "
            f"{manage('rewind --mended', self.alias)}."
        )

    @property
    def _remedy_of_half(self) -> str:
        if not self.can_go_on:
            return applied_by_hand(self.key, self.alias, has_file=self.has_file)
        migrate = manage("rewind --migrate", self.alias)
        mended = manage("rewind --mended", self.alias)
        return f"{migrate} goes on from there. If you undo it by hand: {mended} first."

    @property
    def undoing(self) -> str:
        sql = manage("sqlmigrate {} {}".format(*map(quoted, self.key)), self.alias)
        return f"Undo by hand what of it is there; {sql} shows its SQL."


def find(connection: BaseDatabaseWrapper) -> list[Unfinished]:
    """Which of their statements ran is journalled only where `rewind` applied them."""
    entries = journal.read(connection)
    last: dict[Key, Event] = {}
    killed: dict[Key, Event] = {}
    for event in chronicle.tell(entries):
        key = event.app_label, event.migration_name
        is_application = event.action == APPLY and not event.fake
        if event.status == journal.DONE:
            killed.pop(key, None)
        elif is_application and event.status == journal.STARTED:
            killed[key] = event
        if is_application or event.status == journal.DONE:
            last[key] = event
    halves = halfway.find_applied(entries)
    recorded, disk = store.contents(connection).recorded, source.Disk()
    if connection.features.can_rollback_ddl:
        # What failed was taken back. So was what was killed, or nothing of it.
        found = {k: e for k, e in killed.items() if k not in recorded and disk.has(k)}
        whole = _whole(connection, found)
        found = {key: event for key, event in found.items() if key in whole}
        # But for those with `atomic = False`.
        found.update(
            (key, event)
            for key, event in last.items()
            if key not in recorded and _is_begun(halves, key)
        )
    else:
        found = {
            key: event
            for key, event in last.items()
            if event.status != journal.DONE
            and key not in recorded
            and (key not in halves or _is_begun(halves, key))
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
            halves.get(key),
            key in halves and halves[key].can_go_on_with(source.digest_of_file(key)),
        )
        for key, event in found.items()
    ]


def _is_begun(halves: Mapping[Key, Half], key: Key) -> bool:
    return key in halves and halves[key].is_begun


def whole(connection: BaseDatabaseWrapper) -> set[Key]:
    """Those of which all is there; none if that cannot be read. Never raises.

    Also what was applied in part: who records it with --fake has finished it by hand.
    """
    try:
        return {one.key for one in find(connection) if one.is_whole or one.half}
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
