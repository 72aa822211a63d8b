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

from . import halfway, history, journal, signals
from .adoption import Adoption
from .exceptions import Stopped
from .models import Key
from .plans import Plan

logger = logging.getLogger("django_rewind")

Progress = Callable[..., None]


class Output(NamedTuple):
    """Where and how much to say, as `migrate` takes it."""

    stdout: Any
    verbosity: int
    progress: Progress | None = None


def carry_out(plan: Plan, output: Output, *, fake: bool = False) -> None:
    """Reverse the steps of a plan. Adoptions are apart: see adopt().

    Raises Stopped if one fails.
    """
    alias = plan.connection.alias
    about: dict[str, Any] = {
        "using": alias,
        "plan": plan.rollback.keys,
        "adoptions": {adopted.old: adopted.new for adopted in plan.adoptions},
    }
    with journal.running() as run:
        signals.pre_rewind.send(sender=Plan, run=run.id, **about)
        logger.info("Run %s rewinds %d in '%s'.", run.id, len(plan.steps), alias)
        if plan.rollback.plan:
            reverse(plan, output, run_id=run.id, fake=fake)


def finished(plan: Plan) -> None:
    """All of the plan is done."""
    with journal.running() as run:
        logger.info("Run %s is done.", run.id)
        signals.post_rewind.send(
            sender=Plan,
            run=run.id,
            using=plan.connection.alias,
            plan=plan.rollback.keys,
            adoptions={adopted.old: adopted.new for adopted in plan.adoptions},
        )


def reverse(plan: Plan, output: Output, *, run_id: str, fake: bool) -> None:
    rollback, alias = plan.rollback, plan.connection.alias
    rewound = plan.rollback.plan
    done: list[str] = []

    def progress(
        action: str, migration: Migration | None = None, fake: bool = False
    ) -> None:
        if output.progress is not None:
            output.progress(action, migration, fake)
        if action == "unapply_success" and migration is not None:
            done.append(str(migration))
            logger.info("Run %s reversed %s in '%s'.", run_id, migration, alias)
            signals.migration_rewound.send(
                sender=type(migration),
                using=alias,
                run=run_id,
                migration=(migration.app_label, migration.name),
                fake=fake,
            )

    runner: Any = rollback.runner
    runner.progress_callback = progress
    with history.using(rollback.history), _stopping(plan.connection, rewound, done):
        _run(runner, [(migration, True) for migration in rewound], output, fake=fake)


def apply_again(plan: Plan, output: Output, *, fake: bool) -> None:
    """What was applied at the point and is not now, from files or stored code.

    Raises Stopped if one fails, or needs more than what was applied then.
    """
    again = plan.again
    if again is None or not again.keys:
        return
    done: list[str] = []

    def progress(
        action: str, migration: Migration | None = None, fake: bool = False
    ) -> None:
        if output.progress is not None:
            output.progress(action, migration, fake)
        if action == "apply_success":
            done.append(str(migration))

    with history.using(again.history):
        runner = MigrationExecutor(plan.connection, progress)  # type: ignore[arg-type]
        wanted = {*again.keys, *again.history.migrations}
        targets = [
            key
            for key, migration in runner.loader.graph.nodes.items()
            if key not in runner.loader.applied_migrations
            and not wanted.isdisjoint([key, *migration.replaces])
        ]
        steps = runner.migration_plan(targets)
        with _stopping(plan.connection, [m for m, _ in steps], done):
            _run(runner, steps, output, fake=fake)


def apply_first(plan: Plan, keys: Sequence[Key], output: Output) -> None:
    """What adopted migrations depend on under their new names.

    Not by `migrate`, for which records under old names are inconsistent.
    """
    done: list[str] = []
    runner: Any = MigrationExecutor(plan.connection)

    def progress(action: str, migration: Any = None, fake: bool = False) -> None:
        if output.progress is not None:
            output.progress(action, migration, fake)
        if action == "apply_success":
            done.append(str(migration))

    runner.progress_callback = progress
    steps = [
        (migration, backwards)
        for migration, backwards in runner.migration_plan(
            [key for key in keys if key not in runner.loader.applied_migrations]
        )
        if not backwards
    ]
    if steps:
        with _stopping(plan.connection, [m for m, _ in steps], done):
            _run(runner, steps, output, fake=False)


def _run(
    runner: MigrationExecutor,
    steps: list[tuple[Migration, bool]],
    output: Output,
    *,
    fake: bool,
) -> None:
    """The part of `migrate` that follows the plan."""
    made: Any = runner
    before = made._create_project_state(with_applied_migrations=True)
    _emit(emit_pre_migrate_signal, runner, output, before, steps)
    state = runner.migrate([], plan=steps, state=before.clone(), fake=fake)
    _render_again(state)
    _emit(emit_post_migrate_signal, runner, output, state, steps)


@contextmanager
def _stopping(
    connection: BaseDatabaseWrapper, steps: list[Migration], done: list[str]
) -> Iterator[None]:
    names = [str(migration) for migration in steps]
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        logger.warning("Stopped at %s: %s", "".join(names[len(done) :][:1]), error)
        left = steps[len(done) :]
        half = _half_done(connection, left[0]) if left else ""
        raise Stopped(done, names[len(done) :], error, half) from error


def _half_done(connection: BaseDatabaseWrapper, migration: Migration) -> str:
    try:
        halves = halfway.find(journal.read(connection))
    except Error:
        # The connection is what went wrong.
        return ""
    half = halves.get((migration.app_label, migration.name))
    return half.describe() if half is not None else ""


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


def adopt(plan: Plan, adopted: Adoption) -> None:
    """Give the record its new name."""
    recorder: Any = MigrationExecutor(plan.connection).recorder
    try:
        recorder.adopt(adopted.old, adopted.new, fake=adopted.is_faked)
    except (Exception, KeyboardInterrupt) as error:
        raise Stopped([], [str(adopted)], error) from error
    logger.info("%s", adopted)
