"""Steps that can stop half-way, since their database cannot take them back as a whole.

MySQL and MariaDB commit at each ALTER, and so does any database for a migration with
`atomic = False`. So each operation and each of its statements is journalled before it
runs; the statement itself commits that. What is journalled last may not have run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from . import journal, untold
from .actions import REVERSE
from .journal import Entry, Step
from .models import Key
from .terminal import on_one_line

# What an entry has that says how far it got.
SUMMARY = {"ended", "stopped", "ran", "unsure", "deferred"}

# Events inside a step.
BEGUN, RUNS, ENDED = "operation begun", "runs", "operation ended"


class Half(NamedTuple):
    """A step that was begun, and neither ended nor taken back."""

    key: Key
    # When it was begun. ISO 8601
    at: str
    # The operations in the order of their reversal: what they are, and their SQL.
    operations: list[dict[str, Any]]
    ended: frozenset[int]
    # The one that stopped, with the statements that ran, and one that may have.
    stopped: int | None
    ran: list[str]
    unsure: str
    # Statements that Django runs after all operations.
    deferred: list[str]

    @property
    def can_go_on(self) -> bool:
        """Between two operations, it does by itself."""
        is_between = not self.ran and not self.unsure
        return is_between and len(self.ended) < len(self.operations)

    @property
    def done(self) -> str:
        names = [
            str(operation.get("operation"))
            for index, operation in enumerate(self.operations)
            if index in self.ended
        ]
        return on_one_line(", ".join(names))

    def describe(self) -> str:
        """What ran, and the exact SQL to finish it, or also to undo it."""
        lines = [f"Operations that were reversed: {self.done or 'none'}."]
        if self.stopped is not None:
            lines.append(f"It stopped in: {self._field(self.stopped, 'operation')}.")
        lines += [f"  This ran: {sql}" for sql in self.ran]
        if self.unsure:
            lines.append(f"  This may have run, look: {self.unsure}")
        lines.append("To finish by hand what is not done:")
        lines += [f"  {sql}" for sql in self.to_finish()]
        if self._is_between_statements:
            # Its SQL as a whole would undo what did not run.
            return "\n".join(map(on_one_line, lines))
        lines.append("Or to undo by hand what is done:")
        lines += [f"  {sql}" for sql in self.to_undo()]
        return "\n".join(map(on_one_line, lines))

    @property
    def _is_between_statements(self) -> bool:
        begun = len(self.ran) + bool(self.unsure)
        if self.stopped is None or not begun:
            return False
        return len(self._field(self.stopped, "finish")) > begun

    def to_finish(self) -> Iterator[str]:
        for index in range(len(self.operations)):
            if index in self.ended:
                continue
            statements = self._field(index, "finish")
            if index == self.stopped:
                statements = [sql for sql in statements if sql not in self.ran]
            yield from statements

    def to_undo(self) -> Iterator[str]:
        for index in reversed(range(len(self.operations))):
            if index in self.ended or (index == self.stopped and not self.can_go_on):
                yield from self._field(index, "undo")

    def _field(self, index: int, name: str) -> Any:
        return self.operations[index].get(name, [])


def find(entries: Iterable[Entry]) -> dict[Key, Half]:
    """Of each migration whose last step was a reversal that stopped half-way."""
    attempts: dict[Key, list[list[dict[str, Any]]]] = {}
    for entry in entries:
        fields = entry.fields
        if fields.get("step") is None:
            continue
        found = attempts.setdefault(entry.key, [])
        if found and _is_same(found[-1][0], fields):
            found[-1].append(fields)
        elif fields.get("event") == journal.STARTED or not _went_wrong(fields):
            found.append([fields])
    halves = {key: _last_half(key, found) for key, found in attempts.items()}
    return {key: half for key, half in halves.items() if half is not None}


def _last_half(key: Key, attempts: list[list[dict[str, Any]]]) -> Half | None:
    for events in reversed(attempts):
        if not _did_nothing(events):
            return _half(key, events)
    return None


def _did_nothing(events: Sequence[dict[str, Any]]) -> bool:
    """A reversal that ended before it told what it was about to do."""
    told = {event.get("event") for event in events} & {journal.DETAILS, journal.DONE}
    return events[0].get("action") == REVERSE and not told


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one.get("run"), one.get("step")) == (other.get("run"), other.get("step"))


def _went_wrong(fields: dict[str, Any]) -> bool:
    return fields.get("event") == journal.FAILED


def _half(key: Key, events: Sequence[dict[str, Any]]) -> Half | None:
    first, last = events[0], events[-1]
    details = next((e for e in events if e.get("event") == journal.DETAILS), {})
    if first.get("action") != REVERSE or last.get("event") == journal.DONE:
        return None
    # If it was killed, nobody could sum it up.
    is_summed_up = last.keys() >= SUMMARY
    known = last if is_summed_up else _so_far(details, events)
    half = Half(
        key,
        str(first.get("at", "")),
        list(details.get("operations", ())),
        frozenset(known["ended"]),
        known["stopped"],
        known["ran"],
        known["unsure"],
        known["deferred"],
    )
    return half if half.ended or half.ran or half.unsure else None


def _so_far(
    details: dict[str, Any], events: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    ended = set(details.get("ended", ()))
    deferred: list[str] = []
    stopped: Any = None
    ran: list[str] = []
    for event in events:
        if event.get("event") == BEGUN:
            stopped, ran = event.get("index"), []
        elif event.get("event") == RUNS:
            ran.append(str(event.get("sql")))
        elif event.get("event") == ENDED:
            ended.add(event.get("index"))
            deferred = event.get("deferred", [])
            stopped, ran = None, []
    unsure = ran.pop() if ran else ""
    return {
        "ended": ended,
        "stopped": stopped,
        "ran": ran,
        "unsure": unsure,
        "deferred": deferred,
    }


def reverse(
    step: Step | None,
    migration: Migration,
    unapply: Callable[..., Any],
    state: ProjectState,
    schema_editor: Any,
) -> Any:
    """Reverse a migration, and journal each operation and each statement.

    What was reversed before is not reversed again.
    """
    if step is None or step.fake:
        return unapply(state, schema_editor)
    before = [entry for entry in journal.read(step.connection) if not step.wrote(entry)]
    half = find(before).get(step.key)
    if half is None or not half.can_go_on:
        half = None
    else:
        schema_editor.deferred_sql.extend(half.deferred)
    ended = sorted(half.ended) if half else []
    step.add(operations=describe(migration, state, schema_editor), ended=ended)
    if step.connection.vendor == "sqlite":
        # The editors that told the SQL turned it on again, and a table that is dropped
        # to be remade would take with it what refers to it.
        step.connection.disable_constraint_checking()
    with _journalling(step, migration, ended, schema_editor):
        return unapply(state, schema_editor)


@contextmanager
def _journalling(
    step: Step, migration: Migration, ended: list[int], schema_editor: Any
) -> Iterator[None]:
    execute = schema_editor.execute
    so_far: dict[str, Any] = {
        "ended": ended,
        "stopped": None,
        "ran": [],
        "unsure": "",
        "deferred": schema_editor.deferred_sql,
    }

    def execute_journalled(sql: Any, params: Any = ()) -> Any:
        # As schema editors write what they collect.
        text = f"{_with_values(schema_editor, _text(sql), params).rstrip(';')};"
        step.write(RUNS, sql=text)
        result = execute(sql, params)
        so_far["ran"].append(text)
        return result

    def run(index: int, original: Callable[..., Any], *args: Any) -> None:
        if index in ended:
            return
        so_far["stopped"] = index
        step.write(BEGUN, index=index)
        original(*args)
        ended.append(index)
        so_far.update(stopped=None, ran=[])
        deferred = list(map(_text, schema_editor.deferred_sql))
        step.write(ENDED, index=index, deferred=deferred)

    patched: list[Any] = list(reversed(migration.operations))
    schema_editor.execute = execute_journalled
    for index, operation in enumerate(patched):
        original = operation.database_backwards
        operation.database_backwards = partial(run, index, original)
    try:
        yield
    except BaseException:
        step.details = {**so_far, "deferred": list(map(_text, so_far["deferred"]))}
        raise
    finally:
        del schema_editor.execute
        for operation in patched:
            del operation.database_backwards


def _text(sql: Any) -> str:
    """Of a string or a Statement; other backends have more than that."""
    try:
        return str(sql)
    except Exception:
        return f"-- a {type(sql).__name__} that cannot be written as SQL"


def _with_values(schema_editor: Any, sql: str, params: Any) -> str:
    if not params:
        return sql
    quote = schema_editor.quote_value
    try:
        if isinstance(params, Mapping):
            return str(sql % {name: quote(value) for name, value in params.items()})
        return str(sql % tuple(map(quote, params)))
    except Exception:
        # Whatever only the driver can quote.
        return f"{sql} -- with {params!r}"


def describe(
    migration: Migration, state: ProjectState, schema_editor: Any
) -> list[dict[str, Any]]:
    """The operations in the order of their reversal, and the SQL of both directions."""
    states = []
    new = state
    for operation in migration.operations:
        new = new.clone()
        old = new.clone()
        operation.state_forwards(migration.app_label, new)
        states.append((operation, old, new))
    connection = schema_editor.connection
    return [
        {
            "operation": operation.describe(),
            "finish": _sql(
                connection, operation, "database_backwards", new, old, migration
            ),
            "undo": _sql(
                connection, operation, "database_forwards", old, new, migration
            ),
        }
        for operation, old, new in reversed(states)
    ]


def _sql(
    connection: BaseDatabaseWrapper,
    operation: Operation,
    method: str,
    before: ProjectState,
    after: ProjectState,
    migration: Migration,
) -> list[str]:
    if not untold.is_told(operation):
        return [f"-- {operation.describe()}: cannot be written as SQL"]
    editor: Any
    try:
        with connection.schema_editor(collect_sql=True, atomic=False) as editor:
            # A copy, since RenameModel is another one until it ends, if it ends.
            rehearsed = getattr(deepcopy(operation), method)
            rehearsed(migration.app_label, editor, before, after)
        return list(map(_text, editor.collected_sql))
    except Exception as error:
        # Operations of anybody, and constraints whose names cannot be looked up.
        return [f"-- {operation.describe()}: its SQL cannot be told: {error}"]
