"""Catch up: store what is recorded without code and still has its file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from copy import copy
from typing import Any

from django.apps import AppConfig, apps
from django.core.management.base import OutputWrapper
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.dispatch import Signal

from . import conf, models, source, status, store, tables
from .exceptions import TableOutdated, TablesNotMade
from .models import Key, StoredCode
from .recorder import logger, store_code
from .status import File, Status
from .store import Contents
from .terminal import migrations

# Of the receiver.
UID = "django_rewind"


def lacking_code(contents: Contents) -> list[Status]:
    """Recorded without code, in the order in which they were recorded."""
    if not contents.without_code():
        return []
    answers = status.classify(contents, source.Disk()).values()
    return [a for a in answers if a.lacks_code or (a.recorded and a.gap)]


def candidates(answers: Iterable[Status]) -> list[Key]:
    """Those whose file can be stored now."""
    return [
        answer.key
        for answer in answers
        if answer.file is not File.MISSING
        and (not answer.gap or source.is_readable(source.module_name(*answer.key)))
    ]


def backfill(
    connection: BaseDatabaseWrapper, keys: Iterable[Key], quiet: Collection[Key] = ()
) -> Iterator[Key]:
    """Store each, marked as captured later, and yield those that are stored now.

    A failure is logged, unless the migration is one of the `quiet`.
    """
    # Late, since most runs store nothing here.
    from . import journal

    tables.ensure(connection)
    known = store.contents(connection).faked
    # Its app may have been in DJANGO_REWIND_EXCLUDE_APPS then.
    faked = {**journal.faked(journal.read(connection)), **dict.fromkeys(known, True)}
    for key in keys:
        if store_code(
            connection,
            key,
            StoredCode.Captured.LATER,
            faked=faked.get(key, False),
            quiet=key in quiet,
        ):
            yield key


def after_migrate(signal: Signal, app_config: AppConfig, **kwargs: Any) -> None:
    """Receiver of post_migrate, which is sent for each app that has models.

    `flush` sends it too, but without a plan.
    """
    # A test may override INSTALLED_APPS.
    if not conf.is_enabled() or not apps.is_installed("django_rewind"):
        return
    senders = [c for c in apps.get_app_configs() if c.models_module is not None]
    if app_config not in senders:
        return
    if app_config is senders[0]:
        # After all that others do for the last app, so that no number of a content
        # type or a permission is another one because of ours.
        signal.disconnect(dispatch_uid=UID)
        signal.connect(after_migrate, dispatch_uid=UID)
    if app_config is not senders[-1]:
        return
    plan = kwargs.get("plan")
    if plan != [] and apps.is_installed("django.contrib.auth"):
        _create_permissions(**kwargs)
    if plan is not None:
        _catch_up_after(plan, kwargs)


def _create_permissions(**kwargs: Any) -> None:
    """As auth does for apps that have a models module; see apps.

    Not where nothing was applied, so that nothing is asked there.
    """
    from django.contrib.auth.management import create_permissions

    config = copy(apps.get_app_config("django_rewind"))
    config.models_module = models
    create_permissions(config, **kwargs)


def _catch_up_after(plan: Any, kwargs: dict[str, Any]) -> None:
    if any(m.app_label == "django_rewind" and backwards for m, backwards in plan):
        # Its tables have just been dropped, on purpose.
        return
    using = kwargs["using"]
    try:
        stored = _catch_up(connections[using], _just_applied(plan))
    except (DatabaseError, TablesNotMade) as error:
        # The migrations themselves went well.
        logger.warning("Nothing could be stored in database '%s': %s", using, error)
        return
    if stored and kwargs["verbosity"] >= 1:
        # Django 3.2 passes no stdout.
        stdout = kwargs.get("stdout") or OutputWrapper(sys.stdout)
        stdout.write(f"Stored the code of {migrations(len(stored))} applied earlier.")


def _just_applied(plan: Any) -> set[Key]:
    """Those whose failed capture this run has logged already."""
    keys: set[Key] = set()
    for migration, _ in plan:
        keys.update([(migration.app_label, migration.name), *migration.replaces])
    return keys


def _catch_up(connection: BaseDatabaseWrapper, quiet: Collection[Key]) -> list[Key]:
    try:
        contents = store.contents_of_tables(connection)
    except (DatabaseError, TableOutdated):
        # Just installed or upgraded, and nothing was applied since.
        if not MigrationRecorder(connection).has_table():
            return []
        tables.ensure(connection)
        contents = store.contents(connection)
    keys = candidates(lacking_code(contents))
    return list(backfill(connection, keys, quiet)) if keys else []
