"""What a person named to go back to: a file, a ghost, or zero."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.exceptions import AmbiguityError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader

from .exceptions import Problem, Refused, RewindError
from .loader import make_loader
from .models import Key
from .planning import ZERO
from .status import Status
from .terminal import on_one_line, said


def load_files(
    connection: BaseDatabaseWrapper,
    target: Key | None = None,
    *,
    replace_migrations: bool = True,
) -> MigrationLoader:
    """Raises Refused for what Django says with a traceback: files lack a dependency.

    But not for an installed app, where it is Django that has to say it.
    """
    if target is None:
        return _load_all(connection)
    try:
        return make_loader(connection, replace_migrations=replace_migrations)
    except (NodeNotFoundError, ValueError) as error:
        # ValueError: a dependency on the first migration of an app that is gone.
        if target[0] in apps.app_configs:
            raise
        problems = list(_files_that_lack_a_dependency(connection))
        if not problems:
            raise
        raise Refused(goal(target), problems) from error


def _load_all(connection: BaseDatabaseWrapper) -> MigrationLoader:
    try:
        return make_loader(connection)
    except Exception as error:
        # Whatever a file does when it is imported, and files that do not fit together.
        raise RewindError(
            "The migrations of this checkout cannot be loaded: "
            f"{said(error)}. Nothing was changed."
        ) from error


def check_conflicts(connection: BaseDatabaseWrapper) -> None:
    """Raises RewindError for files among which `migrate` finds several leaf nodes."""
    conflicts = _load_all(connection).detect_conflicts()
    if conflicts:
        found = "; ".join(
            f"{', '.join(names)} in {label}" for label, names in conflicts.items()
        )
        raise RewindError(
            "Conflicting migrations detected; multiple leaf nodes in the migration "
            f"graph: ({found}). Run 'manage.py makemigrations --merge' first. Nothing "
            "was changed."
        )


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


def find_target(
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


def is_file(files: MigrationLoader, app_label: str, migration_name: str) -> bool:
    """Whether it is Django's business, whatever is stored: a name of a file."""
    try:
        files.get_migration_by_prefix(app_label, migration_name)
    except AmbiguityError:
        return True
    except KeyError:
        return False
    return True


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


def goal(target: Key) -> str:
    app_label, name = target
    return (
        f"unapply all of {app_label}"
        if name == ZERO
        else f"go back to {app_label}.{name}"
    )
