from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import conf, notice, status
from .exceptions import BadSetting, StoreUnreadable, TableOutdated
from .status import Status
from .terminal import manage


def register() -> None:
    checks.register(check_migrate_command)
    checks.register(check_settings)
    checks.register(check_databases, checks.Tags.database)


def check_migrate_command(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    if not conf.is_active():
        return []
    from .commands import load_command, stock_migrate
    from .management.commands.migrate import Command

    app, command = load_command("migrate")
    if isinstance(command, Command):
        return []
    if isinstance(command, stock_migrate()):
        loss = (
            "--from-file and --from-stored are missing. Migrations whose files are "
            "gone are reversed all the same."
        )
    else:
        loss = (
            "it does not extend Django's, and reverses migrations whose files are gone "
            "only if it runs that."
        )
    return [
        checks.Warning(
            f"The migrate command of '{app}' hides that of django_rewind: {loss}",
            hint=f"Put 'django_rewind' before '{app}' in INSTALLED_APPS.",
            id="django_rewind.W001",
        )
    ]


def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    if not conf.is_active():
        return []
    try:
        conf.check()
    except BadSetting as error:
        return [checks.Error(error.fact, hint=error.remedy, id="django_rewind.E001")]
    return []


def check_databases(
    app_configs: Sequence[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[checks.CheckMessage]:
    if not conf.is_active():
        return []
    return [message for alias in databases or () for message in _check_database(alias)]


def _check_database(alias: str) -> list[checks.CheckMessage]:
    connection = connections[alias]
    try:
        answers = status.read(connection, compare=False).values()
    except (BadSetting, ImproperlyConfigured):
        # That is for check_settings() to say; or DATABASES is empty.
        return []
    except TableOutdated as error:
        return [checks.Warning(error.fact, hint=error.remedy, id="django_rewind.W004")]
    except StoreUnreadable as error:
        return [checks.Warning(error.fact, hint=error.remedy, id="django_rewind.W005")]
    return [*_ghosts(alias, answers), *_not_stored(alias, answers)]


def _ghosts(alias: str, answers: Collection[Status]) -> list[checks.CheckMessage]:
    ghosts = status.ghosts_to_rewind(answers)
    if not ghosts:
        return []
    lacking = [ghost for ghost in ghosts if ghost.gap or not ghost.stored]
    hint = (
        f"{manage('rewind --plan', alias)} shows how. "
        f"{manage('migrate APP NAME', alias)} goes back to the one before them."
    )
    if lacking:
        hint += (
            " These can only be reversed with the code that has their files: "
            f"{notice.names(lacking)}."
        )
    return [
        checks.Warning(
            notice.of_ghosts(alias, ghosts), hint=hint, id="django_rewind.W002"
        )
    ]


def _not_stored(alias: str, answers: Collection[Status]) -> list[checks.CheckMessage]:
    lacking = [answer for answer in answers if answer.lacks_code]
    if not lacking:
        return []
    return [
        checks.Warning(
            f"Applied to database '{alias}', but their code is not stored: "
            f"{notice.names(lacking)}.",
            hint=(
                f"{manage('migrate', alias)} stores it where the file is there. Check "
                "out the code that has the other files and run it there too."
            ),
            id="django_rewind.W003",
        )
    ]
