"""Apply again what was applied at a point and is not now, from files or stored code."""

from __future__ import annotations

from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from . import importer, source, store
from .exceptions import Problem, Refused, Unreachable
from .history import StoredHistory
from .models import Key, MigrationCode
from .points import Point
from .source import Disk

GONE = "Check out the code that has its file, and apply it there."


class Reapplication(NamedTuple):
    history: StoredHistory
    # What is to be recorded again.
    keys: list[Key]

    def is_from_stored(self, key: Key) -> bool:
        return key in self.history.codes


def prepare(
    connection: BaseDatabaseWrapper, point: Point, missing: list[Key]
) -> Reapplication:
    """Raises Refused, naming what can be applied neither from a file nor as stored."""
    disk = Disk()
    migrations: dict[Key, Migration] = {}
    codes: dict[Key, MigrationCode] = {}
    problems = []
    for key in missing:
        digest = point.records[key]
        if disk.has(key) and digest in ("", source.digest_of_file(key)):
            continue
        code = store.with_digest(connection, key, digest)
        try:
            if code is None:
                raise Unreachable("its code as of then is not stored.", GONE)
            migration = importer.load(code)
        except Unreachable as reason:
            problems.append(Problem(*key, reason.fact, reason.remedy))
            continue
        codes[key] = code
        migrations[key[0], migration.name] = migration
    if problems:
        raise Refused(f"apply again what was applied at {point.name}", problems)
    history = StoredHistory(connection.alias, migrations, {}, {}, codes=codes)
    return Reapplication(history, missing)
