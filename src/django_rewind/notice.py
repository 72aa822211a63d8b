"""That ghosts are there and what to run, in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from . import conf, status
from .status import Status
from .terminal import first_of, manage

# So many migrations are named.
NAMED = 10


def of_ghosts(alias: str, ghosts: Sequence[Status]) -> str:
    return (
        f"Applied to database '{alias}', but their files are gone: {names(ghosts)}. "
        f"{manage('rewind', alias)} reverses them from stored code."
    )


def names(answers: Sequence[Status]) -> str:
    found = [f"{answer.app_label}.{answer.migration_name}" for answer in answers]
    return ", ".join(first_of(found, NAMED))


def beside_unapplied(check_migrations: Callable[..., None]) -> Callable[..., None]:
    """Extends check_migrations() of BaseCommand, where runserver names unapplied ones.

    The checks that `migrate` runs are not run there: they would ask the database.
    """

    @wraps(check_migrations)
    def check(self: Any, *args: Any, **kwargs: Any) -> None:
        check_migrations(self, *args, **kwargs)
        if not conf.is_enabled():
            return
        try:
            answers = status.read(connections[DEFAULT_DB_ALIAS], compare=False).values()
        except Exception:
            # A server must not fail to start because of us; `check --database` tells.
            return
        ghosts = status.ghosts_to_rewind(answers)
        if ghosts:
            self.stdout.write(self.style.NOTICE(of_ghosts(DEFAULT_DB_ALIAS, ghosts)))

    return check
