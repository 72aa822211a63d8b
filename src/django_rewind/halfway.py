"""Steps that can stop half-way, since their database cannot take them back as a whole.

MySQL and MariaDB commit at each ALTER, and so does any database for a migration with
`atomic = False`. So each operation and each of its statements is journalled before it
runs; the statement itself commits that. What is journalled last may not have run.
What a plain `migrate` applies is not journalled like that, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from . import chronicle, journal, untold
from .actions import APPLY, REVERSE
from .exceptions import HalfDone
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
    # The operations in the order in which they run: what they are, and their SQL.
    operations: list[dict[str, Any]]
    ended: frozenset[int]
    # The one that stopped, with the statements that ran, and one that may have.
    stopped: int | None
    ran: list[str]
    unsure: str
    # Statements that Django runs after all operations.
    deferred: list[str]
    action: str = REVERSE
    # The digest of what was applied, if that is known.
    code: str = ""

    @property
    def is_begun(self) -> bool:
        return bool(self.ended or self.ran or self.unsure)

    @property
    def can_go_on(self) -> bool:
        """Between two operations, or two statements after them, it does by itself."""
        return not self.unsure and (self.stopped is None or not self.ran)

    def can_go_on_with(self, code: str) -> bool:
        """Whether what is left of it is what this code would do."""
        return self.can_go_on and bool(code) and code == self.code

    @property
    def done(self) -> str:
        names = [
            str(operation.get("operation"))
            for index, operation in enumerate(self.operations)
            if index in self.ended
        ]
        return on_one_line(", ".join(names))

    @property
    def goes_on(self) -> str:
        return on_one_line("{}.{} goes on after: {}.".format(*self.key, self.done))

    def error(self, remedy: str) -> HalfDone:
        """For one that cannot go on."""
        return HalfDone(self.key, self._how, self.at, self.describe(), remedy)

    @property
    def _how(self) -> str:
        return "applied" if self.action == APPLY else "reversed"

    def describe(self) -> str:
        """What ran, and the exact SQL to finish it, or also to undo it."""
        lines = [f"Operations that were {self._how}: {self.done or 'none'}."]
        if self.stopped is not None:
            lines.append(f"It stopped in: {self._field(self.stopped, 'operation')}.")
        lines += [f"  This ran: {sql}" for sql in self.ran]
        if self.unsure:
            lines.append(f"  This may have run, look: {self.unsure}")
        lines.append("To finish by hand what is not done:")
        lines += [f"  {sql}" for sql in self.to_finish()] or ["  -- nothing"]
        undo = "Or to undo by hand what is done:"
        if self._is_between_statements:
            # Its SQL as a whole would undo what did not run.
            if self.action == REVERSE:
                return "\n".join(map(on_one_line, lines))
            undo = f"{undo[:-1]}, without what did not run of the one it stopped in:"
        lines.append(undo)
        lines += [f"  {sql}" for sql in self.to_undo()]
        return "\n".join(map(on_one_line, lines))

    @property
    def _is_between_statements(self) -> bool:
        begun = len(self.ran) + bool(self.unsure)
        if self.stopped is None or not begun:
            return False
        return len(self._field(self.stopped, "finish")) > begun

    def to_finish(self) -> Iterator[str]:
        found: list[str] = []
        for index in range(len(self.operations)):
            if index in self.ended:
                continue
            statements = self._field(index, "finish")
            if index == self.stopped:
                statements = [sql for sql in statements if sql not in self.ran]
            found += statements
        after = [f"{sql.rstrip(';')};" for sql in self.left_deferred]
        for index in range(len(self.operations)):
            if index not in self.ended:
                after += self._field(index, "after")
        return iter([*found, *dict.fromkeys(sql for sql in after if sql not in found)])

    @property
    def left_deferred(self) -> list[str]:
        """As they were written, which is not with a semicolon."""
        return [sql for sql in self.deferred if f"{sql.rstrip(';')};" not in self.ran]

    def to_undo(self) -> Iterator[str]:
        for index in reversed(range(len(self.operations))):
            is_begun = index == self.stopped and (self.ran or self.unsure)
            if index in self.ended or is_begun:
                yield from self._field(index, "undo")

    def _field(self, index: int, name: str) -> Any:
        return self.operations[index].get(name, [])


def find(entries: Iterable[Entry]) -> dict[Key, Half]:
    """Of each migration whose last step was a reversal that stopped half-way."""
    halves = {
        key: _last_half(key, attempts, REVERSE)
        for key, attempts in _attempts(entries).items()
    }
    return {key: half for key, half in halves.items() if half and half.is_begun}


def find_applied(entries: Iterable[Entry]) -> dict[Key, Half]:
    """Of each whose last step was an application, if it is known how far that got.

    Also those of which nothing was done.
    """
    halves = {
        key: _last_half(key, attempts, APPLY)
        for key, attempts in _attempts(entries).items()
    }
    return {key: half for key, half in halves.items() if half}


def _attempts(
    entries: Iterable[Entry], but: Step | None = None
) -> dict[Key, list[list[dict[str, Any]]]]:
    attempts: dict[Key, list[list[dict[str, Any]]]] = {}
    for entry in chronicle.expand(entries):
        fields = entry.fields
        if fields.get("step") is None or (but is not None and but.wrote(entry)):
            continue
        found = attempts.setdefault(entry.key, [])
        if found and _is_same(found[-1][0], fields):
            found[-1].append(fields)
        elif fields.get("event") == journal.STARTED or not _went_wrong(fields):
            found.append([fields])
    return attempts


def _last_half(
    key: Key, attempts: Sequence[list[dict[str, Any]]], action: str
) -> Half | None:
    half = None
    for events in reversed(attempts):
        if _is_done(events):
            break
        if _did_nothing(events):
            continue
        half = _half(key, events, action)
        if half is None or half.is_begun or action == REVERSE:
            return half
        # What an earlier one did may be there.
    return half


def _is_done(events: Sequence[dict[str, Any]]) -> bool:
    return events[-1].get("event") == journal.DONE


def _did_nothing(events: Sequence[dict[str, Any]]) -> bool:
    """What ended before it told what it was about to do."""
    told = {event.get("event") for event in events} & {journal.DETAILS, journal.DONE}
    first = events[0]
    return not told and (first.get("action") == REVERSE or bool(first.get("fake")))


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one.get("run"), one.get("step")) == (other.get("run"), other.get("step"))


def _went_wrong(fields: dict[str, Any]) -> bool:
    return fields.get("event") == journal.FAILED


def _half(key: Key, events: Sequence[dict[str, Any]], action: str) -> Half | None:
    first, last = events[0], events[-1]
    details = next((e for e in events if e.get("event") == journal.DETAILS), None)
    if first.get("action") != action or details is None:
        return None
    # If it was killed, nobody could sum it up.
    is_summed_up = last.keys() >= SUMMARY
    known = last if is_summed_up else _so_far(details, events)
    return Half(
        key,
        str(first.get("at", "")),
        list(details.get("operations", ())),
        frozenset(known["ended"]),
        known["stopped"],
        known["ran"],
        known["unsure"],
        known["deferred"],
        action,
        str(details.get("code", "")),
    )


def _so_far(
    details: dict[str, Any], events: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    ended = set(details.get("ended", ()))
    deferred: list[str] = list(details.get("deferred", ()))
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
    half = _before(step)
    if half is not None and not half.can_go_on:
        half = None
    told = describe(migration, state, schema_editor)
    operations = list(reversed(migration.operations))
    with _journalling(step, operations, told, half, schema_editor):
        return unapply(state, schema_editor)


def apply(
    step: Step | None,
    migration: Migration,
    code: str,
    apply: Callable[..., Any],
    state: ProjectState,
    schema_editor: Any,
) -> Any:
    """The same for an application. `code`: its digest."""
    if step is None or step.fake:
        return apply(state, schema_editor)
    half = _before(step)
    told = describe(migration, state, schema_editor, APPLY)
    if half is not None and not (
        half.can_go_on_with(code) and _names(half.operations) == _names(told)
    ):
        half = None
    operations = list(migration.operations)
    with _journalling(step, operations, told, half, schema_editor, code=code):
        return apply(state, schema_editor)


def _before(step: Step) -> Half | None:
    """What an earlier one left."""
    attempts = _attempts(journal.read(step.connection), but=step)
    half = _last_half(step.key, attempts.get(step.key, ()), step.action)
    return half if half and half.is_begun else None


def _names(operations: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(operation.get("operation")) for operation in operations]


@contextmanager
def _journalling(
    step: Step,
    operations: Sequence[Any],
    told: Sequence[Mapping[str, Any]],
    half: Half | None,
    schema_editor: Any,
    **more: str,
) -> Iterator[None]:
    """`half`: where it goes on from."""
    ended = sorted(half.ended) if half else []
    schema_editor.deferred_sql.extend(half.left_deferred if half else ())
    progress = _Progress(step, ended, schema_editor)
    step.add(operations=told, ended=ended, deferred=progress.deferred, **more)
    if step.connection.vendor == "sqlite":
        # The editors that told the SQL turned it on again, and a table that is dropped
        # to be remade would take with it what refers to it.
        step.connection.disable_constraint_checking()
    step.sum_up = progress.sum_up
    # Until the editor is gone, which runs what is deferred when it ends.
    schema_editor.execute = progress.execute
    method = "database_forwards" if step.action == APPLY else "database_backwards"
    for index, operation in enumerate(operations):
        original = getattr(operation, method)
        setattr(operation, method, partial(progress.run, index, original))
    try:
        yield
    finally:
        for operation in operations:
            delattr(operation, method)


class _Progress:
    """How far a step got, in the journal before each statement and operation."""

    def __init__(self, step: Step, ended: list[int], schema_editor: Any) -> None:
        self._step = step
        self._editor = schema_editor
        self._execute = schema_editor.execute
        self._ended = ended
        self._stopped: int | None = None
        self._ran: list[str] = []
        self._unsure = ""
        # When the last operation ended: one that begins again defers anew.
        self.deferred: list[str] = []
        self._note_deferred()

    def sum_up(self) -> dict[str, Any]:
        return {
            "ended": self._ended,
            "stopped": self._stopped,
            "ran": self._ran,
            "unsure": self._unsure,
            "deferred": self.deferred,
        }

    def _note_deferred(self) -> None:
        self.deferred = list(map(_text, self._editor.deferred_sql))

    def execute(self, sql: Any, params: Any = ()) -> Any:
        # As schema editors write what they collect.
        text = f"{_with_values(self._editor, _text(sql), params).rstrip(';')};"
        self._step.write(RUNS, sql=text)
        self._unsure = text
        try:
            result = self._execute(sql, params)
        except Error:
            # After anything else, as an interruption, it may have run.
            self._unsure = ""
            raise
        self._unsure = ""
        self._ran.append(text)
        return result

    def run(self, index: int, original: Callable[..., Any], *args: Any) -> None:
        if index in self._ended:
            return
        self._stopped = index
        self._step.write(BEGUN, index=index)
        try:
            original(*args)
        except BaseException:
            if self._step.connection.in_atomic_block:
                # It is taken back.
                self._ran, self._unsure = [], ""
            raise
        self._ended.append(index)
        self._stopped, self._ran = None, []
        self._note_deferred()
        self._step.write(ENDED, index=index, deferred=self.deferred)


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
    migration: Migration,
    state: ProjectState,
    schema_editor: Any,
    action: str = REVERSE,
) -> list[dict[str, Any]]:
    """The operations in the order in which they run, and the SQL of both directions."""
    states = []
    new = state
    for operation in migration.operations:
        new = new.clone()
        old = new.clone()
        operation.state_forwards(migration.app_label, new)
        states.append((operation, old, new))
    connection = schema_editor.connection
    described = []
    for operation, old, new in states if action == APPLY else reversed(states):
        ways = [("database_forwards", old, new), ("database_backwards", new, old)]
        sql = [_sql(connection, operation, *way, migration) for way in ways]
        (finish, after), undo = sql if action == APPLY else reversed(sql)
        described.append(
            {
                "operation": operation.describe(),
                "finish": finish,
                "after": after,
                "undo": [*undo[0], *undo[1]],
            }
        )
    return described


def _sql(
    connection: BaseDatabaseWrapper,
    operation: Operation,
    method: str,
    before: ProjectState,
    after: ProjectState,
    migration: Migration,
) -> tuple[list[str], list[str]]:
    """What it runs, and what it leaves to be run after all operations."""
    if not untold.is_told(operation):
        return [f"-- {operation.describe()}: cannot be written as SQL"], []
    editor: Any
    try:
        with connection.schema_editor(collect_sql=True, atomic=False) as editor:
            # A copy, since RenameModel is another one until it ends, if it ends.
            rehearsed = getattr(deepcopy(operation), method)
            rehearsed(migration.app_label, editor, before, after)
            number = len(editor.collected_sql)
        told = list(map(_text, editor.collected_sql))
    except Exception as error:
        # Operations of anybody, and constraints whose names cannot be looked up.
        return [f"-- {operation.describe()}: its SQL cannot be told: {error}"], []
    return told[:number], told[number:]
