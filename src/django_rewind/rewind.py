"""Prepare a rollback: check everything, so that Django can then touch anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import django
from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, executor
from django.db.migrations.exceptions import (
    AmbiguityError,
    CircularDependencyError,
    NodeNotFoundError,
)
from django.db.migrations.loader import MigrationLoader

from . import history, planning, references, status
from .exceptions import Problem, Refused, RewindError
from .ghosts import Edited, Ghosts
from .history import StoredHistory
from .importer import FakedMigration, StoredMigration
from .loader import make_loader
from .models import Key
from .planning import ZERO
from .status import File, Status
from .terminal import on_one_line


class Rollback(NamedTuple):
    """A checked backward run, and what Django needs to carry it out."""

    history: StoredHistory
    plan: list[Migration]
    # What else is to be said of single migrations.
    notes: list[str]

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
) -> Rollback | None:
    """Check `migrate app_label migration_name`, if it goes backward.

    None if it does not, or if Django itself will say what is wrong with it. Raises
    Refused, naming each migration that stands in the way, and other RewindErrors.
    With `only_show`, irreversible operations are left for Django's plan to show.
    """
    statuses = status.read(connection)
    if app_label not in apps.app_configs:
        if not any(label == app_label for label, _ in statuses):
            return None
        # No installed app goes with one that is gone: what its files say now counts,
        # also where a dependency on the other was taken out of them.
        edited = Edited.FROM_FILE
    files = _load_files(connection, (app_label, migration_name))
    target = _find_target(files, statuses, app_label, migration_name)
    if target is None:
        return None
    ghosts = Ghosts(connection, statuses, files, fake=fake, edited=edited)
    if target in ghosts.unreachable:
        raise Refused(_goal(target), [ghosts.problem(target)])
    replaced = getattr(files.replacements.get(target), "replaces", ())
    after_target = planning.recorded_after(target, ghosts.recorded, replaced)
    stored, runner, plan = _plan(connection, target, ghosts, after_target)
    rollback = Rollback(stored, plan, [] if fake else list(_notes(ghosts, plan)))
    keys = [(migration.app_label, migration.name) for migration in plan]
    problems = [
        ghosts.problem(key)
        for key in planning.in_the_way(
            ghosts.dependencies, after_target, keys, ghosts.recorded
        )
    ]
    problems += _parts_of_a_squash(ghosts, after_target, keys)
    if target == ("django_rewind", ZERO):
        problems += _ghosts_that_would_lose_their_code(ghosts, keys)
    if not fake and not only_show:
        problems += _irreversible(plan)
    if rollback.from_stored:
        problems += references.in_the_way(runner, plan)
    if problems:
        raise Refused(_goal(target), problems)
    return rollback


def _notes(ghosts: Ghosts, plan: list[Migration]) -> Iterator[str]:
    for migration in plan:
        key = migration.app_label, migration.name
        if isinstance(migration, FakedMigration):
            note = " was recorded with --fake, so only its record goes."
        elif key not in ghosts.statuses or ghosts.statuses[key].file is not File.EDITED:
            continue
        elif isinstance(migration, StoredMigration):
            note = (
                " was edited after it was applied: reversed as it was applied, from "
                "stored code."
            )
        else:
            reason = ghosts.files_instead.get(key, "--from-file was given.")
            note = f" was edited after it was applied: its file is used, since {reason}"
        yield on_one_line("{}.{}".format(*key) + note)


def load_ghost(
    connection: BaseDatabaseWrapper, app_label: str, migration_name: str
) -> tuple[StoredHistory, Migration] | None:
    """The ghost that a name or prefix fits, and the history that it is part of.

    None if it fits a file, or nothing. Raises Refused if the ghost is unreachable.
    """
    statuses = status.read(connection)
    files = _load_files(
        connection, (app_label, migration_name), replace_migrations=False
    )
    target = _find_target(files, statuses, app_label, migration_name)
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


def _load_files(
    connection: BaseDatabaseWrapper, target: Key, *, replace_migrations: bool = True
) -> MigrationLoader:
    """Raises Refused for what Django says with a traceback: files lack a dependency.

    But not for an installed app, where it is Django that has to say it.
    """
    try:
        return make_loader(connection, replace_migrations=replace_migrations)
    except (NodeNotFoundError, ValueError) as error:
        # ValueError: a dependency on the first migration of an app that is gone.
        if target[0] in apps.app_configs:
            raise
        problems = list(_files_that_lack_a_dependency(connection))
        if not problems:
            raise
        raise Refused(_goal(target), problems) from error


def _files_that_lack_a_dependency(
    connection: BaseDatabaseWrapper,
) -> Iterator[Problem]:
    files = make_loader(connection, load=False)
    files.load_disk()
    known = files.migrated_apps | files.unmigrated_apps
    for key, migration in sorted(files.disk_migrations.items()):
        for app_label, name in migration.dependencies:
            if app_label not in known:
                yield Problem(
                    *key,
                    f"its file depends on {app_label}.{name}, whose app is not "
                    "installed.",
                    "Take the dependency out of its file, or put the app back into "
                    "INSTALLED_APPS.",
                )


def _find_target(
    files: MigrationLoader,
    statuses: dict[Key, Status],
    app_label: str,
    migration_name: str,
) -> Key | None:
    """Recorded, or zero. As Django does, a prefix that fits one is enough."""
    if migration_name == ZERO:
        return app_label, ZERO
    try:
        name = files.get_migration_by_prefix(app_label, migration_name).name
    except AmbiguityError:
        return None
    except KeyError:
        return _find_ghost(statuses, app_label, migration_name)
    return (app_label, name) if (app_label, name) in files.applied_migrations else None


def _find_ghost(
    statuses: dict[Key, Status], app_label: str, migration_name: str
) -> Key | None:
    names = [
        name
        for (label, name), answer in statuses.items()
        if answer.is_ghost and label == app_label and name.startswith(migration_name)
    ]
    if migration_name in names:
        return app_label, migration_name
    if len(names) > 1:
        raise RewindError(
            f"More than one migration matches '{migration_name}' in app "
            f"'{app_label}': {on_one_line(', '.join(names))}. Please be more specific."
        )
    return (app_label, names[0]) if names else None


def _plan(
    connection: BaseDatabaseWrapper,
    target: Key,
    ghosts: Ghosts,
    after_target: set[Key],
) -> tuple[StoredHistory, executor.MigrationExecutor, list[Migration]]:
    name = None if target[1] == ZERO else target[1]
    stored = ghosts.history()
    try:
        with history.using(stored):
            runner = executor.MigrationExecutor(connection)
            # A ghost of another branch may stand beside the target in the graph;
            # it was recorded after the target all the same.
            if target in runner.loader.graph:
                needed = runner.loader.graph.forwards_plan(target)
                ghosts.let_depend(after_target.difference(needed), target)
                runner.loader.build_graph()
            elif name is not None and django.VERSION < (4, 0):
                # Later ones plan without replacements then.
                raise RewindError(
                    f"{target[0]}.{name} was replaced by a squashed migration. Give "
                    "the name of that one, or go back to before it."
                )
            plan = runner.migration_plan([(target[0], name)])
        if any(isinstance(migration, StoredMigration) for migration, _ in plan):
            graph = runner.loader.graph
            steps = [(migration.app_label, migration.name) for migration, _ in plan]
            ghosts.add_faked(connection, steps)
            ancestors = {key: graph.forwards_plan(key) for key in steps}
            stored = ghosts.history(
                planning.order_of_application(ancestors, ghosts.recorded)
            )
            with history.using(stored):
                runner = executor.MigrationExecutor(connection)
                plan = runner.migration_plan([(target[0], name)])
    except (NodeNotFoundError, CircularDependencyError, ValueError) as error:
        # ValueError: a dependency on the first migration of an app that has none.
        raise RewindError(
            f"The stored migrations do not fit the files of this checkout: {error} "
            "Nothing was changed. Check out the code that has their files."
        ) from error
    return stored, runner, [migration for migration, _ in plan]


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


def _parts_of_a_squash(
    ghosts: Ghosts, after_target: Collection[Key], plan: Collection[Key]
) -> Iterator[Problem]:
    for key, (app_label, name) in ghosts.applied_by.items():
        if key in after_target and (app_label, name) not in plan:
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
            yield Problem(
                *key,
                "its file is missing, and the only copy of its code would be deleted.",
                f"Reverse it first, with 'manage.py migrate {key[0]} NAME'.",
            )


def _goal(target: Key) -> str:
    app_label, name = target
    return (
        f"unapply all of {app_label}"
        if name == ZERO
        else f"go back to {app_label}.{name}"
    )
