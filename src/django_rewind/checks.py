from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.core.management import get_commands, load_command_class
from django.db import DEFAULT_DB_ALIAS, connections

from . import conf, status
from .exceptions import StoreUnreadable, TableOutdated
from .status import File, Status
from .terminal import on_one_line


def register() -> None:
    checks.register(check_migrate_command)
    checks.register(check_databases, checks.Tags.database)


def check_migrate_command(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    if not _is_active():
        return []
    from .management.commands.migrate import Command

    app = get_commands()["migrate"]
    command = load_command_class(app, "migrate") if isinstance(app, str) else app
    if isinstance(command, Command):
        return []
    return [
        checks.Warning(
            f"The migrate command of '{app}' hides that of django_rewind: migrations "
            "whose files are gone cannot be reversed.",
            hint=f"Put 'django_rewind' before '{app}' in INSTALLED_APPS.",
            id="django_rewind.W001",
        )
    ]


def check_databases(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[checks.CheckMessage]:
    if not _is_active():
        return []
    return [message for alias in databases or () for message in _check_database(alias)]


def _is_active() -> bool:
    """Checks stay registered where a test overrides INSTALLED_APPS."""
    return conf.is_enabled() and apps.is_installed("django_rewind")


def _check_database(alias: str) -> list[checks.CheckMessage]:
    connection = connections[alias]
    try:
        answers = status.read(connection, compare=False).values()
    except TableOutdated as error:
        return [checks.Warning(error.fact, hint=error.remedy, id="django_rewind.W004")]
    except StoreUnreadable as error:
        return [checks.Warning(error.fact, hint=error.remedy, id="django_rewind.W005")]
    return [*_ghosts(alias, answers), *_not_stored(alias, answers)]


def _ghosts(alias: str, answers: Collection[Status]) -> list[checks.CheckMessage]:
    ghosts = [answer for answer in answers if answer.is_ghost]
    if not ghosts:
        return []
    labels = list(dict.fromkeys(ghost.app_label for ghost in ghosts))
    option = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
    lacking = [ghost for ghost in ghosts if ghost.gap or not ghost.stored]
    without_code = {ghost.app_label for ghost in lacking}
    commands = [
        f"'manage.py migrate {label} {_before(label, answers)}{option}'"
        for label in labels
        # Who wrote the database may have written anything; this is to be copied.
        if str(label).isidentifier() and label not in without_code
    ]
    hints = []
    if commands:
        hints.append(f"To reverse them from stored code: {', '.join(commands)}.")
    if lacking:
        hints.append(
            "These can only be reversed with the code that has their files: "
            f"{_names(lacking)}."
        )
    return [
        checks.Warning(
            f"Applied to database '{alias}', but their files are gone: "
            f"{_names(ghosts)}.",
            hint=" ".join(hints),
            id="django_rewind.W002",
        )
    ]


def _not_stored(alias: str, answers: Collection[Status]) -> list[checks.CheckMessage]:
    lacking = [answer for answer in answers if answer.lacks_code]
    if not lacking:
        return []
    return [
        checks.Warning(
            f"Applied to database '{alias}', but their code is not stored: "
            f"{_names(lacking)}.",
            hint=(
                "'manage.py migrate' stores it where the file is there. Check out the "
                "code that has the other files and run it there too."
            ),
            id="django_rewind.W003",
        )
    ]


def _before(app_label: str, answers: Collection[Status]) -> str:
    """What to migrate an app to, so that all its ghosts are reversed."""
    of_app = [a for a in answers if a.app_label == app_label and a.recorded]
    before = takewhile(lambda answer: not answer.is_ghost, of_app)
    names = [a.migration_name for a in before if a.file is not File.MISSING]
    return names[-1] if names else "zero"


def _names(answers: list[Status]) -> str:
    return on_one_line(", ".join(f"{a.app_label}.{a.migration_name}" for a in answers))
