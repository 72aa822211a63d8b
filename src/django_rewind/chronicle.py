"""The journal as one event for each thing that was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from . import journal
from .actions import BACKWARDS, FORWARDS, PRUNE, RECORD
from .journal import Entry
from .models import Key

DIRECTIONS = {
    **dict.fromkeys(FORWARDS, "forwards"),
    **dict.fromkeys(BACKWARDS, "backwards"),
}


class Event(NamedTuple):
    # ISO 8601, when it began.
    at: str
    run: str
    # "apply", "reverse", "record", "adopt", "prune" (a record), "prune code" (stored
    # code), "restore point" or "delete restore point".
    action: str
    app_label: str
    migration_name: str
    # "forwards", "backwards" or empty.
    direction: str
    # Whether only the record changed.
    fake: bool
    # "started" (and never ended), "done" or "failed".
    status: str
    # SHA-256 of its code, as it is stored.
    digest: str
    seconds: float | None
    error: str
    user: str
    host: str
    branch: str
    commit: str
    django: str
    python: str
    command: str
    # The old name, of what was adopted.
    was: str
    # The name of a restore point.
    name: str

    @property
    def what(self) -> str:
        if self.name:
            return f"{self.action} '{self.name}'"
        faked = "fake " if self.fake and self.action in DIRECTIONS else ""
        if self.action in (RECORD, PRUNE):
            faked = ""
        was = f" (was {self.was})" if self.was else ""
        return f"{faked}{self.action} {self.app_label}.{self.migration_name}{was}"


def tell(entries: Iterable[Entry]) -> list[Event]:
    """Oldest first, by when each began."""
    found: dict[object, Event] = {}
    for entry in expand(entries):
        fields = entry.fields
        step = fields.get("step")
        key = fields.get("run"), step
        if step is None:
            # What is no step, and text that this app did not write.
            found[entry.id] = _event(fields)
        elif key in found:
            # Others tell how far it got; see halfway.
            if fields.get("event") in (journal.DONE, journal.FAILED):
                found[key] = found[key]._replace(**_end(fields))
        else:
            found[key] = _event(fields)
    return list(found.values())


def expand(entries: Iterable[Entry]) -> Iterator[Entry]:
    """With an entry for the begin of each step that another one announced."""
    planned: dict[object, list[tuple[int, Key]]] = {}
    for entry in entries:
        yield entry
        fields = entry.fields
        run, step = fields.get("run"), fields.get("step")
        if not isinstance(step, int):
            continue
        if fields.get("plan"):
            keys = [(str(label), str(name)) for label, name in fields["plan"]]
            planned[run] = list(enumerate(keys, start=step))[1:]
        elif fields.get("event") == journal.DONE and planned.get(run):
            following, key = planned[run][0]
            if step == following - 1:
                planned[run].pop(0)
                fields = {**fields, "event": journal.STARTED, "step": following}
                fields.update(app_label=key[0], migration_name=key[1], digest="")
                yield entry._replace(fields={**fields, "seconds": None})


def _end(fields: dict[str, Any]) -> dict[str, Any]:
    ended = _event(fields)
    return {
        "status": ended.status,
        "digest": ended.digest,
        "fake": ended.fake,
        "seconds": ended.seconds,
        "error": ended.error,
    }


def _event(fields: dict[str, Any]) -> Event:
    def text(name: str) -> str:
        return str(fields.get(name, ""))

    event = text("event")
    is_point = event in (journal.POINT, journal.POINT_DELETED)
    action = text("action")
    if is_point:
        action = "restore point" if event == journal.POINT else "delete restore point"
    seconds = fields.get("seconds")
    was = fields.get("was")
    return Event(
        at=text("at"),
        run=text("run"),
        action=action,
        app_label=text("app_label"),
        migration_name=text("migration_name"),
        direction=DIRECTIONS.get(action, ""),
        fake=bool(fields.get("fake")),
        status=journal.DONE if is_point else event,
        digest=text("digest"),
        seconds=seconds if isinstance(seconds, (int, float)) else None,
        error=text("error"),
        user=text("user"),
        host=text("host"),
        branch=text("branch"),
        commit=text("commit"),
        django=text("django"),
        python=text("python"),
        command=text("command"),
        was=".".join(map(str, was)) if isinstance(was, list) else "",
        name=text("name"),
    )
