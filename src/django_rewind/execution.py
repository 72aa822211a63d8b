"""Carry a plan out, step by step, as `migrate` would."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.apps import apps
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ModelState, ProjectState

from . import halfway, history, journal, signals, store, unfinished
from .actions import MEND
from .adoption import Adoption
from .exceptions import RUN_AGAIN, RewindError, Stopped, by_hand
from .halfway import Half
from .models import Key
from .plans import Plan
from .terminal import said

logger = logging.getLogger("django_rewind")

Progress = Callable[..., None]

WHICH = "--traceback shows which one it is."


class Output(NamedTuple):
    """Where and how much to say, as `migrate` takes it."""

    stdout: Any
    verbosity: int
    progress: Progress | None = None


class Tally:
    """What of a plan is done and what is left, by name, over all that carry it out."""

    def __init__(self, plan: Plan, then: Sequence[str] = ()) -> None:
        """`then`: what follows the plan."""
        self.alias = plan.connection.alias
        self.done: list[str] = []
        self.left = [*map(str, plan.steps), *then]

    def count(self, name: str) -> None:
        self.done.append(name)
        if name in self.left:
            self.left.remove(name)

    def stopped(self, error: BaseException, half: Half | None = None) -> Stopped:
        if half is None:
            return Stopped(self.done, self.left, error)
        remedy = RUN_AGAIN if half.can_go_on else by_hand(half.key[0], self.alias)
        return Stopped(self.done, self.left, error, half.describe(), remedy)


def stopped_forward(
    connection: BaseDatabaseWrapper, tally: Tally, error: BaseException, then: str
) -> Stopped:
    """`then`: what to run when that is mended which this run left unfinished."""
    try:
        found = unfinished.find(connection)
    except Error:
        # The connection is what went wrong.
        found = []
    for one in found:
        if one.run == journal.current().id:
            if one.half is not None:
                remedy = RUN_AGAIN if one.can_go_on else one.remedy
                told = one.half.describe()
                return Stopped(tally.done, tally.left, error, told, remedy)
            what = f"{'.'.join(one.key)}: {one.fact}"
            remedy = f"{one.undoing} Then remove the cause and run {then}."
            return Stopped(tally.done, tally.left, error, what, remedy)
    return tally.stopped(error)


@contextmanager
def sending_signals(plan: Plan, tally: Tally) -> Iterator[None]:
    """Before the first statement, and after all went well; not for an empty plan.

    Raises RewindError if a receiver of the first one raises, and nothing is done;
    Stopped if one of the last one does, and all is done.
    """
    if not plan.steps:
        yield
        return
    alias = plan.connection.alias
    with journal.running() as run:
        about: dict[str, Any] = {
            "sender": Plan,
            "using": alias,
            "run": run.id,
            "plan": plan.rollback.keys,
            "adoptions": {adopted.old: adopted.new for adopted in plan.adoptions},
        }
        try:
            signals.pre_rewind.send(**about)
        except (Exception, KeyboardInterrupt) as error:
            raise RewindError(
                f"A receiver of pre_rewind raised {said(error)}. Nothing was changed "
                f"in database '{alias}'. {WHICH}"
            ) from error
        logger.info("Run %s rewinds %d in '%s'.", run.id, len(plan.steps), alias)
        yield
        logger.info("Run %s is done.", run.id)
        try:
            signals.post_rewind.send(**about)
        except (Exception, KeyboardInterrupt) as error:
            known = "A receiver of post_rewind raised this, after all was done."
            raise Stopped(tally.done, tally.left, error, f"{known} {WHICH}") from error


def reverse(plan: Plan, output: Output, tally: Tally, *, fake: bool) -> None:
    """Reverse what the plan says. Raises Stopped if a step fails."""
    alias, run = plan.connection.alias, journal.current()

    def tell(migration: Migration, fake: bool) -> None:
        logger.info("Run %s reversed %s in '%s'.", run.id, migration, alias)
        signals.migration_rewound.send(
            sender=type(migration),
            using=alias,
            run=run.id,
            migration=(migration.app_label, migration.name),
            fake=fake,
        )

    rollback = plan.rollback
    if rollback.plan:
        steps = [(migration, True) for migration in rollback.plan]
        with history.using(rollback.history):
            _run(rollback.runner, steps, output, tally, fake=fake, then=tell)


def apply_again(plan: Plan, output: Output, tally: Tally, *, fake: bool) -> None:
    """What was applied at the point and is not now, from files or stored code.

    Raises Stopped if one fails.
    """
    again = plan.again
    if again is not None and again.plan:
        steps = [(migration, False) for migration in again.plan]
        with history.using(again.history):
            _run(again.runner, steps, output, tally, fake=fake)


def apply_first(plan: Plan, keys: Sequence[Key], output: Output, tally: Tally) -> None:
    """What adopted migrations depend on under their new names.

    Not by `migrate`, for which records under old names are inconsistent. With an
    earlier one it may have come already. Raises Stopped if one fails.
    """
    runner: Any = MigrationExecutor(plan.connection)
    applied = runner.loader.applied_migrations
    steps = _plan_forwards(runner, [key for key in keys if key not in applied])
    if steps:
        # The database has what they do; for the state, they are applied.
        for name in (n for adopted in plan.adoptions for n in adopted.names):
            applied[name] = runner.loader.graph.nodes[name]
        _run(runner, steps, output, tally, fake=False)


def _plan_forwards(runner: Any, targets: list[Key]) -> list[tuple[Migration, bool]]:
    """What others depend on comes first: Django goes back to what it has planned."""
    graph = runner.loader.graph
    targets = sorted(targets, key=lambda key: len(graph.forwards_plan(key)))
    steps: list[tuple[Migration, bool]] = runner.migration_plan(targets)
    return steps


def _run(
    runner: Any,
    steps: list[tuple[Migration, bool]],
    output: Output,
    tally: Tally,
    *,
    fake: bool,
    then: Callable[[Migration, bool], None] | None = None,
) -> None:
    """The part of `migrate` that follows the plan. `then`: after each step."""
    left = [migration for migration, _ in steps]

    def progress(action: str, migration: Any = None, fake: bool = False) -> None:
        if output.progress is not None:
            is_faked = action == "apply_success" and getattr(
                migration, "is_faked", False
            )
            output.progress(action, migration, fake or is_faked)
        if action in ("apply_success", "unapply_success"):
            left.pop(0)
            tally.count(str(migration))
            if then is not None:
                then(migration, fake)

    runner.progress_callback = progress
    with _stopping(runner.connection, left, tally):
        before = runner._create_project_state(with_applied_migrations=True)
        _emit(emit_pre_migrate_signal, runner, output, before, steps)
        state = runner.migrate([], plan=steps, state=before.clone(), fake=fake)
        _render_again(state)
        _emit(emit_post_migrate_signal, runner, output, state, steps)


@contextmanager
def _stopping(
    connection: BaseDatabaseWrapper, left: list[Migration], tally: Tally
) -> Iterator[None]:
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        logger.warning("Stopped at %s: %s", "".join(map(str, left[:1])), error)
        half = _half_done(connection, left[0]) if left else None
        if left and str(left[0]) not in tally.left:
            # What comes before an adoption is no step of the plan.
            tally.left.insert(0, str(left[0]))
        if half is not None:
            raise tally.stopped(error, half) from error
        again = "the same command again"
        raise stopped_forward(connection, tally, error, again) from error


def _half_done(connection: BaseDatabaseWrapper, migration: Migration) -> Half | None:
    try:
        halves = halfway.find(journal.read(connection))
    except Error:
        # The connection is what went wrong.
        return None
    return halves.get((migration.app_label, migration.name))


def _render_again(state: ProjectState) -> None:
    """Relations to models of apps without migrations, as `migrate` does."""
    state.clear_delayed_apps_cache()
    rendered: Any = state.apps
    with rendered.bulk_update():
        keys = [(model.app_label, model.name_lower) for model in rendered.real_models]
        for key in keys:
            rendered.unregister_model(*key)
    rendered.render_multiple(
        [ModelState.from_model(apps.get_model(*key)) for key in keys]
    )


def _emit(
    signal: Callable[..., None],
    runner: MigrationExecutor,
    output: Output,
    state: ProjectState,
    steps: list[tuple[Migration, bool]],
) -> None:
    # Not interactive: whoever asks, as for stale content types, asks in `migrate`.
    signal(
        output.verbosity,
        False,
        runner.connection.alias,
        stdout=output.stdout,
        apps=state.apps,
        plan=steps,
    )


def note_mended(plan: Plan, tally: Tally) -> None:
    """In the journal, so that nothing is seen as half-done any more."""
    for key in plan.mended:
        code = store.digest(plan.connection, key)
        journal.current().note(plan.connection, MEND, key, code)
        tally.count(".".join(key))


def adopt(plan: Plan, adopted: Adoption, tally: Tally) -> None:
    """Give the record its new name. Raises Stopped if that fails."""
    recorder: Any = MigrationExecutor(plan.connection).recorder
    try:
        recorder.adopt(adopted.old, adopted.names, fake=adopted.is_faked)
    except (Exception, KeyboardInterrupt) as error:
        raise tally.stopped(error) from error
    tally.count(".".join(adopted.old))
    logger.info("%s", adopted)
