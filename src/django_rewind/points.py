"""Moments in the history of a database, and what was applied then."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from . import git, journal, places, store, tables
from .actions import ADOPT, BACKWARDS, FORWARDS
from .exceptions import RewindError
from .journal import Entry
from .models import Key
from .terminal import first_of, manage


class Point(NamedTuple):
    name: str
    # What was recorded → the digest of its code; empty if nobody knows it.
    records: dict[Key, str]
    # Whether that was with --fake, where the journal knows.
    faked: dict[Key, bool]


class RestorePoint(NamedTuple):
    name: str
    # ISO 8601
    at: str
    run: str
    records: dict[Key, str]
    # Of its entry.
    position: int


def now(connection: BaseDatabaseWrapper) -> dict[Key, str]:
    """What is recorded → the digest of its code."""
    digests = store.digests(connection)
    recorded = store.contents(connection).recorded
    return {key: digests.get(key, "") for key in recorded}


def restore_points(entries: Sequence[Entry]) -> dict[str, RestorePoint]:
    """Those that were not deleted, oldest first."""
    found: dict[str, RestorePoint] = {}
    for index, entry in enumerate(entries):
        fields = entry.fields
        name = str(fields.get("name", ""))
        if fields.get("event") == journal.POINT:
            records = dict(_keys_and_digests(fields))
            at, run = str(fields.get("at")), str(fields.get("run"))
            found[name] = RestorePoint(name, at, run, records, index)
        elif fields.get("event") == journal.POINT_DELETED:
            found.pop(name, None)
    return found


def make(connection: BaseDatabaseWrapper, name: str) -> dict[Key, str]:
    """What it remembers. Raises RewindError if there is one of that name."""
    if name in restore_points(journal.read(connection)):
        raise RewindError(
            f"There is a restore point '{name}' in database '{connection.alias}'. "
            "Choose another name, or delete it with --delete."
        )
    records = now(connection)
    _write(
        connection,
        journal.POINT,
        name=name,
        records=[[*key, digest] for key, digest in records.items()],
    )
    return records


def delete(connection: BaseDatabaseWrapper, name: str) -> None:
    """Raises RewindError if there is none of that name."""
    if name not in restore_points(journal.read(connection)):
        raise RewindError(
            f"There is no restore point '{name}' in database '{connection.alias}'. "
            f"{manage('restore_point --list', connection.alias)} shows them."
        )
    _write(connection, journal.POINT_DELETED, name=name)


def _write(connection: BaseDatabaseWrapper, event: str, **fields: Any) -> None:
    tables.ensure(connection)
    run = journal.current()
    if not run.write(connection, {"event": event, **fields}):
        raise RewindError(
            f"The journal of database '{connection.alias}' cannot be written. Grant "
            f"the rights to write {tables.JOURNAL}. Nothing was changed."
        )


def find(connection: BaseDatabaseWrapper, text: str) -> Point:
    """The moment that a restore point, run id, ISO date-time or commit names.

    Raises RewindError if it is none of these, or before the journal begins.
    """
    entries = journal.read(connection)
    _refuse_if_altered(connection, entries)
    points = restore_points(entries)
    if text in points:
        point = points[text]
        return _make_point(
            f"restore point '{text}'", point.records, entries, point.position + 1
        )
    if not entries:
        raise RewindError(
            f"The journal of database '{connection.alias}' is empty. It begins with "
            "the first migration that is applied or reversed with django-rewind."
        )
    name, index = _position(entries, text, connection.alias)
    records = _records_before(connection, entries[index + 1 :])
    return _make_point(name, records, entries, index + 1)


def _make_point(
    name: str, records: dict[Key, str], entries: Sequence[Entry], end: int
) -> Point:
    """In the names of now; `end`: of the entries before it."""
    now = journal.follow(records, entries[end:])
    faked = journal.faked(entries[:end])
    return Point(
        name,
        dict(now.values()),
        {now[key][0]: is_faked for key, is_faked in faked.items() if key in now},
    )


def _refuse_if_altered(connection: BaseDatabaseWrapper, entries: list[Entry]) -> None:
    """What is missing from a point would be reversed."""
    altered = {entry.id for entry in journal.broken_links(entries)}
    altered.update(entry.id for entry in entries if not entry.fields)
    if altered:
        ids = ", ".join(first_of(sorted(altered), 10))
        raise RewindError(
            f"The journal of database '{connection.alias}' was altered or lacks "
            f"entries, so what was applied then cannot be told: see these rows of "
            f"{tables.JOURNAL}: {ids}. Name a migration instead. Nothing was changed."
        )


def _position(entries: list[Entry], text: str, alias: str) -> tuple[str, int]:
    """The last entry of what `text` names."""
    runs = [i for i, entry in enumerate(entries) if entry.fields.get("run") == text]
    if runs:
        return f"run {text}", runs[-1]
    moment = _moment(text)
    if moment is not None:
        before = [i for i, e in enumerate(entries) if (at := _at(e)) and at <= moment]
        if not before:
            raise RewindError(
                f"The journal begins at {entries[0].fields.get('at')}, which is after "
                f"{text}. Name a later moment."
            )
        return text, before[-1]
    commit = _commit(text)
    at_commit = [
        i
        for i, entry in enumerate(entries)
        if commit and str(entry.fields.get("commit", "")).startswith(commit)
    ]
    if at_commit:
        return f"commit {commit[:12]}", at_commit[-1]
    if commit:
        raise RewindError(
            f"Nothing was applied or reversed at commit {commit[:12]}. "
            f"{manage('rewind_history', alias)} shows what was, and when."
        )
    raise RewindError(
        f"'{text}' is no restore point, run, ISO date-time or git commit. "
        f"{manage('rewind_history', alias)} and "
        f"{manage('restore_point --list', alias)} show them."
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
        if moment is None and (day := parse_date(text)) is not None:
            moment = datetime(day.year, day.month, day.day)
    except ValueError:
        return None
    if moment is not None and timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return moment


def _at(entry: Entry) -> datetime | None:
    return _moment(str(entry.fields.get("at", "")))


def _commit(text: str) -> str:
    """In full if the repository knows it, else as it was given; empty if it is none."""
    try:
        repository = git.find_repository(places.project_folder())
        found = repository and git.resolve(repository, text)
    except RewindError:
        found = None
    if found:
        return found
    return text if re.fullmatch("[0-9a-f]{7,40}", text) else ""


def _records_before(
    connection: BaseDatabaseWrapper, later: Sequence[Entry]
) -> dict[Key, str]:
    """What is recorded now, without what happened later."""
    records = now(connection)
    for entry in reversed(later):
        fields = entry.fields
        if fields.get("event") != journal.DONE:
            continue
        found = dict(_keys_and_digests(fields))
        if fields.get("action") in FORWARDS:
            for key in found:
                records.pop(key, None)
        elif fields.get("action") in BACKWARDS:
            records.update(found)
        elif fields.get("action") == ADOPT:
            old, digest = journal.given_up(fields)
            records.pop(entry.key, None)
            records[old] = digest
    return records


def _keys_and_digests(fields: dict[str, Any]) -> Iterator[tuple[Key, str]]:
    for app_label, name, digest in fields["records"]:
        yield (app_label, name), digest
