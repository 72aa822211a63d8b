"""What was done to a database: entries that are only ever added, each chained by hash.

A step has an entry before it ("started") and one after it ("done", in the transaction
of the record where there is one, or "failed"), so that a crash leaves the first alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple
from uuid import uuid4

import django
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.utils import timezone

from . import advisory, git, tables
from .actions import ADOPT, APPLY, BACKWARDS, FORWARDS
from .exceptions import RewindError
from .models import Key
from .places import project_folder

logger = logging.getLogger("django_rewind")

INSERT = (
    "INSERT INTO django_migrations_journal (previous, hash, entry) VALUES (%s, %s, %s)"
)
LAST = "SELECT hash FROM django_migrations_journal ORDER BY id DESC LIMIT 1"
ALL = "SELECT id, previous, hash, entry FROM django_migrations_journal ORDER BY id"

# What stands for the hash of the entry before the first one.
BEGINNING = "0" * 64

# The events of one step, and those that stand alone.
STARTED, DETAILS, DONE, FAILED = "started", "details", "done", "failed"
POINT, POINT_DELETED = "point", "point deleted"


class Run:
    """One run of a command, or of an executor that no command of ours made."""

    def __init__(self) -> None:
        self.id = uuid4().hex[:12]
        self._steps = 0
        # Steps that a first one announced, and their numbers.
        self._planned: dict[Key, int] = {}
        # Alias → the hash of the last entry, as long as nobody can have taken it back.
        self._last: dict[str, str] = {}
        self._failed: set[str] = set()

    def start(
        self,
        connection: BaseDatabaseWrapper,
        action: str,
        migration: Migration,
        *,
        fake: bool,
        planned: Sequence[Key] = (),
    ) -> Step:
        """Write that a migration is about to be applied or reversed.

        `planned`: this one and those that are going to follow it, in this order. One
        entry for all of them is one commit less for each: what is begun is the first
        that is not done.
        """
        key = migration.app_label, migration.name
        self._planned.update({other: self.next_number() for other in planned})
        number = self._planned.pop(key, None)
        step = Step(self, connection, action, key, fake=fake, number=number)
        if action == APPLY and not fake:
            step.kinds = kinds_of(migration)
        if migration.replaces:
            # Which of these records is the last, Django's versions do not agree on.
            step.last = None
        if planned:
            step.write(STARTED, plan=list(planned))
        elif number is None:
            step.write(STARTED)
        return step

    def adopt(
        self,
        connection: BaseDatabaseWrapper,
        old: Key,
        new: Key,
        digest: str,
        *,
        fake: bool,
    ) -> Step:
        """A record gets another name; written when the old one is removed.

        `digest`: of the code that is stored under the old one, which may be the same.
        """
        step = Step(self, connection, ADOPT, new, fake=fake)
        step.last = old
        step.details = {"was": list(old), "was_digest": digest}
        return step

    def note(
        self, connection: BaseDatabaseWrapper, action: str, key: Key, digest: str
    ) -> None:
        """Write what was done to one record alone."""
        step = Step(self, connection, action, key, fake=True)
        step.note(key, digest)

    def next_number(self) -> int:
        self._steps += 1
        return self._steps

    def write(self, connection: BaseDatabaseWrapper, fields: Mapping[str, Any]) -> bool:
        """Never raises: what is journalled matters more than the journal."""
        if connection.alias in self._failed:
            return False
        entry = {"at": timezone.now().isoformat(), "run": self.id, **fields}
        try:
            text = json.dumps({**entry, **environment()}, default=repr)
            previous = self._last.get(connection.alias)
            with self._savepoint(connection), connection.cursor() as cursor:
                if previous is None:
                    cursor.execute(LAST)
                    previous = (cursor.fetchone() or [BEGINNING])[0]
                digest = chained(previous, text)
                cursor.execute(INSERT, [previous, digest, text])
        except Exception as error:
            self._failed.add(connection.alias)
            logger.warning(
                "The journal of database '%s' cannot be written: %s",
                connection.alias,
                error,
            )
            return False
        self._last[connection.alias] = digest
        return True

    def _savepoint(
        self, connection: BaseDatabaseWrapper
    ) -> AbstractContextManager[Any]:
        """For the first entry, which shows whether the others can be written."""
        if connection.in_atomic_block and connection.alias not in self._last:
            return transaction.atomic(using=connection.alias)
        return nullcontext()

    def forget_last(self, connection: BaseDatabaseWrapper) -> None:
        self._last.pop(connection.alias, None)


class Step:
    """One migration that is applied, reversed, or otherwise recorded or unrecorded."""

    def __init__(
        self,
        run: Run,
        connection: BaseDatabaseWrapper,
        action: str,
        key: Key,
        *,
        fake: bool,
        number: int | None = None,
    ) -> None:
        self.run = run
        self.connection = connection
        self.action = action
        self.key = key
        self.fake = fake
        self.number = run.next_number() if number is None else number
        self.began = time.monotonic()
        # The record that is the last to be made or removed.
        self.last: Key | None = key
        self.records: dict[Key, str] = {}
        self.details: dict[str, Any] = {}
        # What is told of it if it fails.
        self.sum_up: Callable[[], dict[str, Any]] = dict
        # What its code made when it was applied.
        self.kinds: list[str] | None = None
        self.is_done = False

    def wrote(self, entry: Entry) -> bool:
        fields = entry.fields
        return (fields.get("run"), fields.get("step")) == (self.run.id, self.number)

    def add(self, **details: Any) -> None:
        """Tell more of it, as an entry of its own."""
        self.write(DETAILS, **details)

    def note(self, key: Key, digest: str) -> None:
        """A record was made or removed, of code with that digest."""
        if self.is_done:
            return
        self.records[key] = digest
        if key == self.last:
            # At once, so that it is in the transaction of the record.
            self.finish()

    def finish(self) -> None:
        if self.is_done:
            return
        self.is_done = True
        self.write(
            DONE,
            digest=self.records.get(self.key, ""),
            records=[[*key, digest] for key, digest in self.records.items()],
            seconds=self._seconds(),
            **({} if self.kinds is None else {"kinds": self.kinds}),
        )

    def fail(self, error: BaseException) -> None:
        # What "done" followed may have been taken back with its transaction.
        self.run.forget_last(self.connection)
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        digest = self.records.get(self.key, "")
        told = {"error": reason[:2000], "seconds": self._seconds(), **self.sum_up()}
        self.write(FAILED, digest=digest, **told)

    def write(self, event: str, **more: Any) -> None:
        fields = {
            "event": event,
            "step": self.number,
            "action": self.action,
            "fake": self.fake,
            "app_label": self.key[0],
            "migration_name": self.key[1],
        }
        self.run.write(self.connection, {**fields, **self.details, **more})

    def _seconds(self) -> float:
        return round(time.monotonic() - self.began, 3)


_current: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def running() -> Iterator[Run]:
    """One run for all that happens inside; the outermost one counts."""
    run = _current.get()
    if run is not None:
        yield run
        return
    run = Run()
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def is_running() -> bool:
    return _current.get() is not None


def current() -> Run:
    return _current.get() or Run()


@cache
def environment() -> dict[str, str]:
    """Who does it, where, and with which code."""
    branch, commit = _head()
    return {
        "user": advisory.user(),
        "host": socket.gethostname(),
        "branch": branch,
        "commit": commit,
        "django": django.get_version(),
        "python": platform.python_version(),
        "command": _command(),
    }


def _head() -> tuple[str, str]:
    try:
        repository = git.find_repository(project_folder())
        return git.head(repository) if repository else ("", "")
    except (OSError, RewindError):
        # No git, no right to read it, or nothing committed yet.
        return "", ""


def _command() -> str:
    program, *arguments = sys.argv or [""]
    return shlex.join([os.path.basename(program), *arguments])[:1000]


def chained(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


class Entry(NamedTuple):
    """A row, and what its text says; {} if that is not what this app wrote."""

    id: int
    previous: str
    hash: str
    text: str
    fields: dict[str, Any]

    @property
    def key(self) -> Key:
        return (
            str(self.fields.get("app_label", "")),
            str(self.fields.get("migration_name", "")),
        )


def read(connection: BaseDatabaseWrapper) -> list[Entry]:
    """All entries, oldest first."""
    if tables.JOURNAL not in tables.existing(connection):
        return []
    with connection.cursor() as cursor:
        cursor.execute(ALL)
        rows = cursor.fetchall()
    return [
        Entry(pk, previous, digest, text, _fields(text))
        for pk, previous, digest, text in rows
    ]


def _fields(text: object) -> dict[str, Any]:
    try:
        found = json.loads(str(text))
        return found if _is_sound(found) else {}
    except (ValueError, TypeError, RecursionError):
        return {}


def _is_sound(found: Any) -> bool:
    """Whether the fields that others rely on are what this app writes."""
    return (
        isinstance(found, dict)
        and all(check(found[name]) for name, check in CHECKS.items() if name in found)
        and REQUIRED.get(str(found.get("event")), set()) <= found.keys()
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int)


def _all(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _are_texts(number: int) -> Callable[[Any], bool]:
    return lambda value: _all(_is_text)(value) and len(value) == number


CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("at", "run", "event", "action", "name", "sql"), _is_text),
    **dict.fromkeys(("app_label", "migration_name", "unsure"), _is_text),
    **dict.fromkeys(("step", "index"), _is_number),
    "stopped": lambda value: value is None or _is_number(value),
    "plan": _all(_are_texts(2)),
    "kinds": _all(_is_text),
    "records": _all(_are_texts(3)),
    "was": _are_texts(2),
    "operations": _all(lambda value: isinstance(value, dict)),
    "ended": _all(_is_number),
    "ran": _all(_is_text),
    "deferred": _all(_is_text),
}

# By event.
REQUIRED = {
    DONE: {"at", "run", "step", "action", "records"},
    POINT: {"at", "run", "name", "records"},
    POINT_DELETED: {"name"},
    STARTED: {"at", "run", "step", "action"},
    FAILED: {"run", "step", "action"},
}


def faked(entries: Iterable[Entry]) -> dict[Key, bool]:
    """What was recorded → whether with --fake; nothing of what only its squash was."""
    found = {}
    for entry in entries:
        fields = entry.fields
        if fields.get("event") == DONE and fields.get("action") in (APPLY, ADOPT):
            for label, name, _ in fields["records"]:
                found[label, name] = bool(fields.get("fake"))
    return found


def kinds_of(migration: Migration) -> list[str]:
    """Its operations, in terms that no version of Django changes.

    Of its class: into those of the migration itself, contenttypes and others put more.
    """
    return [" ".join(_told(operation)) for operation in type(migration).operations]


def _told(operation: object) -> Iterator[str]:
    yield type(operation).__name__
    given = getattr(operation, "__dict__", {})
    for name in ("model_name", "name", "old_name", "new_name"):
        if isinstance(given.get(name), str):
            yield given[name]


def applied_kinds(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Digest of a code → the operations that it had when it was last applied."""
    found = {}
    for entry in entries:
        fields = entry.fields
        if fields.get("event") == DONE and fields.get("digest") and "kinds" in fields:
            found[fields["digest"]] = fields["kinds"]
    return found


def follow(
    records: Mapping[Key, str], entries: Iterable[Entry]
) -> dict[Key, tuple[Key, str]]:
    """Records, with the digests of their code → what adoptions since called them.

    `entries`: those since. With the digest of the code that a new name stands for.
    """
    found = {key: (key, digest) for key, digest in records.items()}
    gone: set[Key] = set()
    for entry in entries:
        fields = entry.fields
        action = fields.get("action")
        if fields.get("event") != DONE:
            continue
        digests = {(label, name): digest for label, name, digest in fields["records"]}
        if action in BACKWARDS:
            gone.update(digests)
        elif action in FORWARDS:
            for key in found.keys() & digests.keys():
                if found[key][0] in gone:
                    # The name that was given up is taken again.
                    found[key] = key, records[key]
            gone.difference_update(digests)
        elif action == ADOPT:
            old, digest = given_up(fields)
            new = entry.key, digests.get(entry.key, "")
            _rename(found, records, (old, digest), new)
            gone.discard(entry.key)
    return found


def given_up(fields: Mapping[str, Any]) -> tuple[Key, str]:
    """The name that an adoption gave up, and the digest of the code that had it."""
    app_label, name = map(str, fields.get("was", ("", "")))
    return (app_label, name), str(fields.get("was_digest", ""))


def _rename(
    found: dict[Key, tuple[Key, str]],
    records: Mapping[Key, str],
    old: tuple[Key, str],
    new: tuple[Key, str],
) -> None:
    for key, (name, digest) in found.items():
        if name == old[0]:
            found[key] = new[0], new[1] if digest == old[1] else digest
        elif name == new[0]:
            # What had that name was reversed, or this could not take it.
            found[key] = key, records[key]


def broken_links(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries that were altered, or follow one that is not there any more.

    Two processes without a lock may both follow the same entry.
    """
    known = {BEGINNING}
    for entry in entries:
        if chained(entry.previous, entry.text) != entry.hash or (
            entry.previous not in known
        ):
            yield entry
        known.add(entry.hash)
