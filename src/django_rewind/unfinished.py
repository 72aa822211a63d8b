"""Migrations of which a part may have been applied, where each ALTER is committed."""

from __future__ import annotations

from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from . import chronicle, journal, source, store
from .actions import APPLY
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

    def __str__(self) -> str:
        return on_one_line(f"{'.'.join(self.key)}: {self.fact} {self.remedy}")

    @property
    def fact(self) -> str:
        at = shortened(self.at)
        how = f"it was begun to be applied, on {at}, and has not ended"
        if self.error:
            how = f"applying it failed, on {at}"
        return f"{how}. A part of it may be there, for here each ALTER is committed."

    @property
    def remedy(self) -> str:
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
    """None where a database takes back what failed, as it does but for atomic = False.

    Which of their statements ran is not journalled.
    """
    if connection.features.can_rollback_ddl:
        return []
    last: dict[Key, chronicle.Event] = {}
    for event in chronicle.tell(journal.read(connection)):
        is_application = event.action == APPLY and not event.fake
        if is_application or event.status == journal.DONE:
            last[event.app_label, event.migration_name] = event
    recorded, disk = store.contents(connection).recorded, source.Disk()
    return [
        Unfinished(
            key, connection.alias, event.run, event.at, event.error, disk.has(key)
        )
        for key, event in last.items()
        if event.status != journal.DONE and key not in recorded
    ]
