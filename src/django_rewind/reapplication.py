"""Apply again what was applied at a point and is not now, from files or stored code."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from . import importer, planning, signing, source, store
from .exceptions import Problem, Refused, RewindError, Unreachable
from .ghosts import Ghosts
from .history import StoredHistory, using
from .models import Key, MigrationCode
from .points import Point
from .rewind import Rollback, fitting_the_files

GONE = "Check out the code that has its file, and apply it there."


class Reapplication(NamedTuple):
    """A checked forward run, and what Django needs to carry it out."""

    history: StoredHistory
    # It sees the database as the rollback before will leave it.
    runner: MigrationExecutor
    plan: list[Migration]

    def digest(self, migration: Migration) -> str:
        """Of the code that runs."""
        for code in self.history.codes.values():
            if (code.app_label, code.ran_as) == (migration.app_label, migration.name):
                return code.digest
        return source.digest_of_file((migration.app_label, migration.name))


def prepare(
    connection: BaseDatabaseWrapper,
    point: Point,
    missing: list[Key],
    rollback: Rollback,
    ghosts: Ghosts,
    *,
    fake: bool,
) -> Reapplication:
    """What follows the rollback. Raises Refused, naming what cannot be as it was."""
    goal = f"apply again what was applied at {point.name}"
    found = _Code(ghosts, point, fake=fake)
    problems = list(found.load(missing))
    going = set(rollback.keys)
    staying = {k: m for k, m in rollback.history.migrations.items() if k not in going}
    for key, dependency in ghosts.fit(found.migrations, staying).items():
        fact = "it depends on {}.{}, which cannot be loaded.".format(*dependency)
        problems.append(Problem(*key, fact, GONE))
    if problems:
        raise Refused(goal, problems)
    history = StoredHistory(
        connection.alias,
        {**staying, **found.migrations},
        {},
        {},
        rollback.history.uninstalled,
        gone=frozenset(rollback.records),
    )
    order = [key for key in ghosts.recorded if key not in history.gone]
    runner, plan = _plan(connection, history, [*order, *missing], missing)
    problems = list(_more_than_then(point, plan))
    if not problems and not fake:
        problems = list(_what_does_not_fit(runner, plan))
    if problems:
        raise Refused(goal, problems)
    history = history._replace(codes=found.codes, gone=frozenset())
    return Reapplication(history, runner, plan)


class _Code:
    """Stored code of what was applied then; files that do the same need none."""

    def __init__(self, ghosts: Ghosts, point: Point, *, fake: bool) -> None:
        self._ghosts = ghosts
        self._point = point
        self._fake = fake
        # By the names that they run as.
        self.migrations: dict[Key, Migration] = {}
        # By the names that they are recorded as.
        self.codes: dict[Key, MigrationCode] = {}

    def load(self, keys: Collection[Key]) -> Iterator[Problem]:
        for key in keys:
            try:
                self._load(key)
            except Unreachable as reason:
                yield Problem(*key, reason.fact, reason.remedy)

    def _load(self, key: Key) -> None:
        digest = self._point.records[key]
        code = store.with_digest(self._ghosts.connection, key, digest)
        is_faked = self._fake or self._was_faked(key, code)
        file = self._ghosts.files.disk_migrations.get(key)
        if file is not None and digest in ("", source.digest_of_file(key)):
            if is_faked:
                self.migrations[key] = importer.make_faked(file)
            return
        if code is None:
            raise Unreachable("its code as of then is not stored.", GONE)
        if code.faked != is_faked:
            signing.verify(code)
            code.faked = is_faked
            signing.sign(code)
        migration = importer.load(code)
        self.migrations[key[0], migration.name] = migration
        self.codes[key] = code

    def _was_faked(self, key: Key, code: MigrationCode | None) -> bool:
        if key in self._point.faked:
            return self._point.faked[key]
        if code is None or not code.faked:
            return False
        signing.verify(code)
        return True


def _plan(
    connection: BaseDatabaseWrapper,
    history: StoredHistory,
    recorded: Sequence[Key],
    missing: Collection[Key],
) -> tuple[MigrationExecutor, list[Migration]]:
    """All that has to be applied, in the order in which Django will."""
    with fitting_the_files(), using(history):
        runner = MigrationExecutor(connection)
    graph, applied = runner.loader.graph, runner.loader.applied_migrations
    wanted = {
        needed
        for node in _nodes(graph, missing)
        for needed in graph.forwards_plan(node)
        if needed not in applied
    }
    # As it was applied, and what is applied again after all that stays: of siblings,
    # the last one counts.
    ancestors = {
        key: graph.forwards_plan(key)
        for key in graph.nodes
        if key in applied or key in wanted
    }
    order = planning.order_of_application(ancestors, recorded)
    before = {key: [other] for key, other in zip(order[1:], order)}
    with fitting_the_files(), using(history._replace(before=before)):
        runner = MigrationExecutor(connection)
    everything = runner.migration_plan(runner.loader.graph.leaf_nodes(), True)
    return runner, [m for m, _ in everything if (m.app_label, m.name) in wanted]


def _nodes(graph: Any, keys: Collection[Key]) -> Iterator[Key]:
    """In the graph, the squashed migration stands for what it replaces."""
    for node, migration in graph.nodes.items():
        if not {node, *map(tuple, migration.replaces)}.isdisjoint(keys):
            yield node


def _more_than_then(point: Point, plan: Sequence[Migration]) -> Iterator[Problem]:
    for migration in plan:
        key = migration.app_label, migration.name
        others = [
            other
            for other in map(tuple, migration.replaces or [key])
            if other not in point.records
        ]
        if key in point.records or not others:
            continue
        if migration.replaces:
            names = ", ".join(map(".".join, others))
            fact = f"it would stand for {names} too, not applied then."
        else:
            fact = "others now need it, and it was not applied then."
        yield Problem(*key, fact, "Check out the code of then, and apply it there.")


def _what_does_not_fit(runner: Any, plan: Sequence[Migration]) -> Iterator[Problem]:
    """What the state of what stays, and of those before it, does not allow."""
    unfit = KeyError, ValueError, FieldDoesNotExist
    try:
        state = runner._create_project_state(with_applied_migrations=True)
    except unfit as error:
        raise RewindError(
            "The migrations that would stay do not fit together, so that none can be "
            f"applied after them: {error}. Nothing was changed."
        ) from error
    for migration in plan:
        try:
            is_fit = not (
                planning.makes_what_is_there(migration, state)
                or planning.alters_what_is_not_there(migration, state)
            )
            state = migration.mutate_state(state, preserve=False)
        except unfit:
            is_fit = False
        if not is_fit:
            fact = "it does not fit what the other applied migrations leave."
            yield Problem(migration.app_label, migration.name, fact, GONE)
            return
