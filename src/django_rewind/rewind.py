"""Prepare a rollback: check everything, so that Django can then touch anything."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import django
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, executor
from django.db.migrations.exceptions import CircularDependencyError, NodeNotFoundError
from django.db.migrations.state import ProjectState

from . import (
    effects,
    halfway,
    history,
    journal,
    lacks,
    planning,
    references,
    status,
    targets,
)
from .effects import Change
from .exceptions import (
    Problem,
    Refused,
    RewindError,
    StoreUnreadable,
    TableOutdated,
)
from .ghosts import Edited, Ghosts
from .history import StoredHistory
from .importer import FakedMigration, StoredMigration
from .models import Key
from .planning import ZERO
from .status import File, Status
from .terminal import manage, on_one_line, quoted

EDITED = "was edited after it was applied"

Result = TypeVar("Result")


class Rollback(NamedTuple):
    """A checked backward run, and what Django needs to carry it out."""

    history: StoredHistory
    runner: executor.MigrationExecutor
    # The one that was applied last comes first.
    plan: list[Migration]
    # Why each of them is to be reversed.
    reasons: Mapping[Key, str]
    # What else is to be said of single migrations.
    notes: Mapping[Key, str]
    # What they did to the database, unless all of it is Django's business.
    changes: Sequence[Change]

    @property
    def keys(self) -> list[Key]:
        return [planning.key_of(migration) for migration in self.plan]

    @property
    def records(self) -> set[Key]:
        """What is recorded no more once it was carried out."""
        replaced = [
            (label, name) for step in self.plan for label, name in step.replaces
        ]
        return self.history.with_superseded([*self.keys, *replaced])

    @property
    def from_stored(self) -> list[StoredMigration]:
        return [m for m in self.plan if isinstance(m, StoredMigration)]


def prepare(
    connection: BaseDatabaseWrapper,
    app_label: str,
    migration_name: str,
    *,
    fake: bool = False,
    only_show: bool = False,
    edited: Edited | None = None,
    as_applied: bool = False,
) -> Rollback | None:
    """Check `migrate app_label migration_name`, if it goes backward.

    None if it does not, or if Django itself will say what is wrong with it. Raises
    Refused, naming each migration that stands in the way, and other RewindErrors.
    With `only_show`, irreversible operations are left for Django's plan to show.
    With `as_applied`, what was faked is faked back also where all files are there,
    and Django itself would reverse it.
    """
    statuses = _read_statuses(connection, app_label, migration_name)
    if statuses is None:
        return None
    if app_label not in apps.app_configs:
        # No installed app goes with one that is gone: what its files say now counts,
        # also where a dependency on the other was taken out of them.
        edited = Edited.FROM_FILE
    files = targets.load_files(connection, (app_label, migration_name))
    target = targets.find_target(files, statuses, app_label, migration_name)
    if target is None:
        return None
    goal = targets.goal(target)
    ghosts = Ghosts(connection, statuses, files, fake=fake, edited=edited)
    if target in ghosts.unreachable:
        raise Refused(goal, [ghosts.problem(target)])
    replaced = getattr(files.replacements.get(target), "replaces", ())
    after_target = planning.recorded_after(target, ghosts.recorded, replaced)
    rollback = _plan_for_target(
        connection, target, ghosts, after_target, fake=fake, as_applied=as_applied
    )
    problems = _problems(ghosts, rollback, after_target, after_target)
    if target == ("django_rewind", ZERO):
        problems += _ghosts_that_would_lose_their_code(ghosts, rollback.keys)
    if not fake and not only_show:
        problems += _irreversible(rollback.plan)
    if not fake and (as_applied or rollback.from_stored):
        problems += _faked_in_part(ghosts, rollback.plan)
    if problems:
        raise Refused(goal, problems)
    return rollback


def prepare_each(
    connection: BaseDatabaseWrapper,
    goal: str,
    choose: Callable[[Ghosts], Mapping[Key, str]],
    *,
    fake: bool = False,
) -> Rollback:
    """Check the reversal of what is chosen, and of all that depends on it.

    `choose` gives recorded migrations and why each is to be reversed. Raises Refused
    and other RewindErrors.
    """
    statuses = status.read(connection)
    files = targets.load_files(connection)
    ghosts = Ghosts(connection, statuses, files, fake=fake)
    chosen = choose(ghosts)
    reasons = dict(chosen)
    rollback = _plan_for_each(connection, ghosts, reasons, fake=fake)
    problems = _problems(ghosts, rollback, reasons, chosen)
    if not fake:
        problems += _irreversible(rollback.plan)
        problems += _faked_in_part(ghosts, rollback.plan)
    if problems:
        raise Refused(goal, problems)
    return rollback


def load_ghost(
    connection: BaseDatabaseWrapper, app_label: str, migration_name: str
) -> tuple[StoredHistory, Migration] | None:
    """The ghost that a name or prefix fits, and the history that it is part of.

    None if it fits a file, or nothing. Raises Refused if the ghost is unreachable.
    """
    files = targets.load_files(
        connection, (app_label, migration_name), replace_migrations=False
    )
    if targets.is_file(files, app_label, migration_name):
        return None
    statuses = status.read(connection)
    target = targets.find_target(files, statuses, app_label, migration_name)
    if target not in statuses or not statuses[target].is_ghost:
        return None
    ghosts = Ghosts(connection, statuses, files)
    if target in ghosts.unreachable:
        raise Refused(f"load {target[0]}.{target[1]}", [ghosts.problem(target)])
    if target not in ghosts.loaded:
        raise RewindError(
            f"{target[0]}.{target[1]} was applied by a squashed migration that "
            "replaced it. Give the name of that one."
        )
    return ghosts.history(), ghosts.loaded[target]


def _read_statuses(
    connection: BaseDatabaseWrapper, app_label: str, migration_name: str
) -> dict[Key, Status] | None:
    """None if nothing goes back: it goes forward, or nobody knows the app."""
    try:
        statuses = status.read(connection)
    except (StoreUnreadable, TableOutdated):
        if _goes_forward(connection, app_label, migration_name):
            return None
        raise
    if app_label in apps.app_configs or any(
        label == app_label for label, _ in statuses
    ):
        return statuses
    return None


def _goes_forward(
    connection: BaseDatabaseWrapper, app_label: str, migration_name: str
) -> bool:
    """To a file that is not applied; to know that, nothing stored is needed."""
    files = targets.load_files(connection, (app_label, migration_name))
    return (
        migration_name != ZERO
        and targets.is_file(files, app_label, migration_name)
        and targets.find_target(files, {}, app_label, migration_name) is None
    )


def _plan_for_target(
    connection: BaseDatabaseWrapper,
    target: Key,
    ghosts: Ghosts,
    after_target: set[Key],
    *,
    fake: bool,
    as_applied: bool,
) -> Rollback:
    def plan_backward() -> tuple[
        StoredHistory, executor.MigrationExecutor, list[Migration]
    ]:
        stored, runner, plan = _as_files_say(connection, target, ghosts, after_target)
        if as_applied or any(isinstance(m, StoredMigration) for m in plan):
            steps = [planning.key_of(migration) for migration in plan]
            _, stored = _in_order_of_application(connection, ghosts, runner, steps)
            with history.using(stored):
                runner = executor.MigrationExecutor(connection)
                plan = _backward(runner, target)
        return stored, runner, plan

    stored, runner, plan = _fitted(ghosts, plan_backward)
    reasons = dict.fromkeys(after_target, f"after {target[0]}.{target[1]}")
    return _rollback(
        ghosts, stored, runner, plan, reasons, fake=fake, as_applied=as_applied
    )


def _as_files_say(
    connection: BaseDatabaseWrapper,
    target: Key,
    ghosts: Ghosts,
    after_target: set[Key],
) -> tuple[StoredHistory, executor.MigrationExecutor, list[Migration]]:
    """In the order of the graph of files, ghosts among them."""
    stored, runner = _start(connection, ghosts)
    if (
        target[1] != ZERO
        and django.VERSION < (4, 0)
        and target not in runner.loader.graph
    ):
        # Later ones plan without replacements then.
        ghosts.use_originals()
        stored, runner = _start(connection, ghosts)
        if target not in runner.loader.graph:
            raise RewindError(
                f"{target[0]}.{target[1]} was replaced by a squashed migration. Go "
                "back to that one, or to before it."
            )
    # What another branch applied may stand beside the target in the graph; it was
    # recorded after the target all the same.
    if target in runner.loader.graph:
        needed = runner.loader.graph.forwards_plan(target)
        ghosts.let_come_after(target, after_target.difference(needed))
        stored = ghosts.history()
    with history.using(stored):
        runner.loader.build_graph()
        return stored, runner, _backward(runner, target)


def _backward(runner: executor.MigrationExecutor, target: Key) -> list[Migration]:
    name = None if target[1] == ZERO else target[1]
    return [m for m, _ in runner.migration_plan([(target[0], name)])]


def _start(
    connection: BaseDatabaseWrapper, ghosts: Ghosts
) -> tuple[StoredHistory, executor.MigrationExecutor]:
    stored = ghosts.history()
    with history.using(stored):
        return stored, executor.MigrationExecutor(connection)


def _fitted(ghosts: Ghosts, attempt: Callable[[], Result]) -> Result:
    """In a circle, try again with what squashed migrations that are gone replaced.

    Those of two apps may need each other, where what they replaced does not. And what
    stays may need one of which a part is reversed.
    """
    with fitting_the_files():
        try:
            return attempt()
        except CircularDependencyError:
            ghosts.use_originals()
            return attempt()


def _plan_for_each(
    connection: BaseDatabaseWrapper,
    ghosts: Ghosts,
    reasons: dict[Key, str],
    *,
    fake: bool,
) -> Rollback:
    """Adds to `reasons` what cannot stay if the others go."""

    def order_them() -> tuple[StoredHistory, executor.MigrationExecutor, list[Key]]:
        stored, runner = _start(connection, ghosts)
        wanted = [ghosts.applied_by.get(key, key) for key in reasons]
        steps = planning.with_dependants(
            runner.loader.graph,
            _nodes(runner, wanted),
            runner.loader.applied_migrations,
        )
        if not steps:
            return stored, runner, []
        order, stored = _in_order_of_application(
            connection, ghosts, runner, list(steps)
        )
        with history.using(stored):
            return stored, executor.MigrationExecutor(connection), order

    while True:
        stored, runner, order = _fitted(ghosts, order_them)
        if not order or fake:
            break
        more = _what_must_go_first(ghosts, runner, order)
        if not more:
            break
        reasons.update(more)
    plan = [runner.loader.graph.nodes[key] for key in reversed(order)]
    return _rollback(ghosts, stored, runner, plan, reasons, fake=fake)


def _nodes(runner: executor.MigrationExecutor, keys: Collection[Key]) -> Iterator[Key]:
    """In the graph, the squashed migration stands for what it replaced."""
    graph, replacements = runner.loader.graph, runner.loader.replacements
    for key in keys:
        if key in graph.nodes:
            yield key
            continue
        for squash, migration in replacements.items():
            if squash in graph.nodes and key in migration.replaces:
                yield squash


def _in_order_of_application(
    connection: BaseDatabaseWrapper,
    ghosts: Ghosts,
    runner: executor.MigrationExecutor,
    steps: list[Key],
) -> tuple[list[Key], StoredHistory]:
    """The steps as they were applied, and the history that makes Django keep to that.

    What stays comes before them all: what is reversed is reversed in a database that
    has it.
    """
    graph = runner.loader.graph
    ghosts.add_faked(connection, steps)
    ancestors = {key: graph.forwards_plan(key) for key in steps}
    order = planning.order_of_application(ancestors, ghosts.recorded)
    staying = [
        key
        for key in graph.nodes
        if key in runner.loader.applied_migrations and key not in ancestors
    ]
    return order, ghosts.history(order, planning.last_of(graph, staying))


def _what_must_go_first(
    ghosts: Ghosts, runner: executor.MigrationExecutor, steps: Collection[Key]
) -> dict[Key, str]:
    """What was applied after a step, in its app, and changed what the step made.

    In the graph of files they may be siblings, as the migrations of two branches are.
    """
    key = _first_that_does_not_fit(runner, steps)
    if key is None:
        return {}
    later = planning.recorded_after(key, ghosts.recorded)
    reason = f"was applied after {key[0]}.{key[1]} and changed what that made"
    found = {
        node: reason
        for node in _nodes(runner, later)
        if node not in steps and node in runner.loader.applied_migrations
    }
    if not found:
        raise _does_not_fit(key)
    return found


def _does_not_fit(key: Key) -> RewindError:
    return RewindError(
        f"{key[0]}.{key[1]} cannot be reversed in the state that the other applied "
        "migrations leave. Nothing was changed. Check out the code that has its file, "
        "and reverse it there."
    )


def _first_that_does_not_fit(
    runner: executor.MigrationExecutor, steps: Collection[Key]
) -> Key | None:
    state = ProjectState(real_apps=runner.loader.unmigrated_apps)
    nodes = runner.loader.graph.nodes
    is_remaking = runner.connection.vendor == "sqlite"
    remade = [nodes[key] for key in steps] if is_remaking else []
    for migration in planning.applied(runner):
        key = planning.key_of(migration)
        try:
            if key in steps and (
                planning.makes_what_is_there(migration, state)
                or planning.alters_what_is_not_there(migration, state)
                or planning.indexes_what_is_not_there(migration, state)
            ):
                return key
            migration.mutate_state(state, preserve=False)
            if key in steps and (
                planning.refers_to_what_is_not_there(state, migration.app_label)
                or planning.remakes_what_cannot_be_generated(migration, state, remade)
            ):
                return key
        except (KeyError, ValueError, FieldDoesNotExist):
            if key in steps:
                return key
            raise
    return None


def _rollback(
    ghosts: Ghosts,
    stored: StoredHistory,
    runner: executor.MigrationExecutor,
    plan: list[Migration],
    reasons: Mapping[Key, str],
    *,
    fake: bool,
    as_applied: bool = True,
) -> Rollback:
    keys = [planning.key_of(migration) for migration in plan]
    why = planning.reasons(runner.loader.graph, keys, reasons)
    if fake:
        return Rollback(stored, runner, plan, why, {}, [])
    notes, changes = dict(_notes(ghosts, plan)), []
    if as_applied or any(isinstance(migration, StoredMigration) for migration in plan):
        with history.using(stored):
            _check_states(runner, keys)
            changes = effects.follow(runner, plan)
    return Rollback(stored, runner, plan, why, notes, changes)


def _check_states(runner: executor.MigrationExecutor, steps: Collection[Key]) -> None:
    """Of those that Django renders: before the first step, and all that follow.

    Raises RewindError, naming the step that the first one that fails is next to.
    """
    loader = runner.loader
    if not any(map(planning.inherits, loader.graph.nodes.values())):
        return
    state = ProjectState(real_apps=loader.unmigrated_apps)
    last = None
    for migration in planning.applied(runner):
        key = planning.key_of(migration)
        if last is None and key in steps and not planning.can_be_rendered(state):
            raise _does_not_fit(key)
        last = key if key in steps else last
        migration.mutate_state(state, preserve=False)
        if last is not None and not planning.can_be_rendered(state):
            raise _does_not_fit(last)


@contextmanager
def fitting_the_files() -> Iterator[None]:
    try:
        yield
    except (NodeNotFoundError, CircularDependencyError, ValueError) as error:
        # ValueError: a dependency on the first migration of an app that has none.
        raise RewindError(
            f"The stored migrations do not fit the files of this checkout: {error} "
            "Nothing was changed. Check out the code that has their files."
        ) from error


def _problems(
    ghosts: Ghosts,
    rollback: Rollback,
    wanted: Collection[Key],
    chosen: Collection[Key],
) -> list[Problem]:
    """`wanted`: what is chosen, and what must go with it."""
    in_the_way = planning.in_the_way(
        ghosts.dependencies, wanted, rollback.keys, ghosts.recorded
    )
    problems = [ghosts.problem(key) for key in in_the_way]
    problems += _parts_of_a_squash(ghosts, wanted, rollback.keys)
    problems += [p for step in rollback.from_stored for p in lacks.problems(step)]
    # With holes in the plan, nobody knows what the others would find.
    if rollback.changes and not in_the_way:
        drops = effects.drops(rollback.runner.connection, rollback.changes)
        problems += references.in_the_way(rollback.runner, rollback.plan, drops)
        staying = _not_as_their_files(ghosts, chosen, rollback.records)
        problems += references.in_files(ghosts.files, staying, drops)
        problems += _absent(rollback)
        problems += effects.problems(rollback.runner.connection, rollback.changes)
    return problems


def _not_as_their_files(
    ghosts: Ghosts, chosen: Collection[Key], plan: Collection[Key]
) -> list[Key]:
    """What stays and was edited; and what was faked, which is applied again if it goes
    with others.
    """
    return [
        key
        for key, answer in ghosts.statuses.items()
        if answer.recorded
        and (
            (answer.file is File.EDITED and key not in plan)
            or (answer.file is not File.MISSING and answer.faked and key not in chosen)
        )
    ]


def _absent(rollback: Rollback) -> list[Problem]:
    problems = effects.absent(rollback.runner.connection, rollback.changes)
    if problems:
        # Of what stopped half-way, some is gone already, or has its old name.
        halves = halfway.find(journal.read(rollback.runner.connection))
        if halves.keys() & set(rollback.keys):
            return []
    return problems


def _notes(ghosts: Ghosts, plan: list[Migration]) -> Iterator[tuple[Key, str]]:
    for migration in plan:
        key = planning.key_of(migration)
        if isinstance(migration, FakedMigration):
            note = "was recorded with --fake, so only its record goes."
        elif isinstance(migration, StoredMigration) and (
            missing := lacks.describe(migration.code)
        ):
            note = f"may stop half-way. Neither stored with it nor here: {missing}."
        elif key not in ghosts.statuses or ghosts.statuses[key].file is not File.EDITED:
            continue
        elif isinstance(migration, StoredMigration):
            note = f"{EDITED}: reversed as it was applied, from stored code."
        else:
            note = _why_its_file(ghosts, key)
        yield key, on_one_line("{}.{} ".format(*key) + note)


def _why_its_file(ghosts: Ghosts, key: Key) -> str:
    if key in ghosts.files_instead:
        return f"{EDITED}: its file is used, since {ghosts.files_instead[key]}"
    if ghosts.edited is Edited.FROM_FILE:
        return f"{EDITED}: its file is used, since --from-file was given."
    return (
        "was applied by a squashed migration, which goes as a whole only: its file is "
        "used."
    )


def _irreversible(plan: list[Migration]) -> Iterator[Problem]:
    for migration in plan:
        if isinstance(migration, FakedMigration):
            continue
        for operation in planning.irreversible_operations(migration.operations):
            yield Problem(
                migration.app_label,
                migration.name,
                f"its operation '{operation.describe()}' is irreversible.",
                "Undo it by hand and go back with --fake.",
            )


def _faked_in_part(ghosts: Ghosts, plan: list[Migration]) -> Iterator[Problem]:
    for migration in plan:
        faked = [
            "{}.{}".format(*key)
            for key in migration.replaces
            if not isinstance(migration, FakedMigration)
            and (answer := ghosts.statuses.get((key[0], key[1])))
            and answer.faked
        ]
        if faked:
            yield Problem(
                migration.app_label,
                migration.name,
                f"it replaces what was recorded with --fake: {', '.join(faked)}. "
                "Reversing it would drop what that never made.",
                "Undo it by hand and go back with --fake.",
            )


def _parts_of_a_squash(
    ghosts: Ghosts, wanted: Collection[Key], plan: Collection[Key]
) -> Iterator[Problem]:
    for key, (app_label, name) in ghosts.applied_by.items():
        if key in wanted and (app_label, name) not in plan:
            yield Problem(
                *key,
                f"it was applied by the squashed migration {app_label}.{name}, which "
                "can be reversed as a whole only.",
                "Go back to before that one, or check out the code that has this file.",
            )


def _ghosts_that_would_lose_their_code(
    ghosts: Ghosts, plan: Collection[Key]
) -> Iterator[Problem]:
    for key, answer in ghosts.statuses.items():
        if answer.is_ghost and answer.stored and not answer.gap and key not in plan:
            command = f"migrate {quoted(key[0])} NAME"
            yield Problem(
                *key,
                "its file is missing, and the only copy of its code would be deleted.",
                f"Reverse it first, with {manage(command, ghosts.alias)}.",
            )
