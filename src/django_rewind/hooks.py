"""The only module that changes Django."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.backends.sqlite3.schema import DatabaseSchemaEditor
from django.db.migrations import executor
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import AppConfigStub
from django.db.models.signals import post_migrate

from . import conf, notice, runs
from .backfill import UID, after_migrate
from .keepdb import RewindingWhatWasKept, replacing_outdated_clones
from .loader import SeesGhosts
from .locks import planned_under_lock
from .recorder import (
    StoresCode,
    journalling_apply,
    journalling_unapply,
    noting_initial_fakes,
)
from .remake import keeping_what_ghosts_added

MIGRATE = "django.core.management.commands.migrate"

_originals: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Let Django store the code of what it applies, and see ghosts in a rollback."""
    if _originals:
        return
    # MigrationExecutor looks these up at each call, so that every executor is
    # reached, whoever imported it before.
    _rebind(executor, "MigrationLoader", lambda base: _extend(base, SeesGhosts))
    _rebind(executor, "MigrationRecorder", lambda base: _extend(base, StoresCode))
    _rebind(MigrationExecutor, "migrate", _checking_the_plan)
    _rebind(
        MigrationExecutor,
        "apply_migration",
        lambda apply: journalling_apply(_noting_what_was_applied(apply)),
    )
    _rebind(MigrationExecutor, "unapply_migration", journalling_unapply)
    _rebind(MigrationExecutor, "detect_soft_applied", noting_initial_fakes)
    _rebind(MigrationExecutor, "migration_plan", planned_under_lock)
    _rebind(BaseCommand, "check_migrations", notice.beside_unapplied)
    _rebind(BaseCommand, "__init__", _reaching_migrate)
    _rebind(DatabaseSchemaEditor, "_remake_table", keeping_what_ghosts_added)
    _rebind(BaseDatabaseCreation, "create_test_db", RewindingWhatWasKept)
    _rebind(BaseDatabaseCreation, "clone_test_db", replacing_outdated_clones)
    post_migrate.connect(after_migrate, dispatch_uid=UID)


def uninstall() -> None:
    """Restore what install() found."""
    while _originals:
        setattr(*_originals.pop())
    post_migrate.disconnect(dispatch_uid=UID)


@contextmanager
def knowing_app(app_label: str) -> Iterator[None]:
    """Let Django's migrate take the label of an app that is not installed.

    It looks it up for no other reason than to validate it. Loaders and signals have
    the registry itself, and go on without the app.
    """
    module: Any = import_module(MIGRATE)
    before = module.apps
    module.apps = _AppsAndOne(app_label)
    try:
        yield
    finally:
        module.apps = before


class _AppsAndOne:
    def __init__(self, app_label: str) -> None:
        self.app_label = app_label

    def __getattr__(self, name: str) -> Any:
        return getattr(apps, name)

    def get_app_config(self, app_label: str) -> Any:
        if app_label == self.app_label and app_label not in apps.app_configs:
            return AppConfigStub(app_label)
        return apps.get_app_config(app_label)


def _checking_the_plan(migrate: Callable[..., Any]) -> Callable[..., Any]:
    """Before its first statement, whoever drives the executor."""

    @wraps(migrate)
    def migrate_if_it_can(
        self: Any,
        targets: Any,
        plan: Any = None,
        state: Any = None,
        fake: bool = False,
        fake_initial: bool = False,
    ) -> Any:
        if conf.is_enabled():
            if plan is None:
                plan = self.migration_plan(targets)
            if plan:
                # Late, since most runs have nothing to do.
                from . import planned

                planned.check(self, targets, plan, fake=fake, fake_initial=fake_initial)
        return migrate(self, targets, plan, state, fake, fake_initial)

    return migrate_if_it_can


def _noting_what_was_applied(apply_migration: Callable[..., Any]) -> Callable[..., Any]:
    """What --fake records may be there: its process ended before it was recorded."""

    @wraps(apply_migration)
    def apply(
        self: Any, state: Any, migration: Any, fake: bool = False, *args: Any, **kw: Any
    ) -> Any:
        step = getattr(self.recorder, "step", None)
        if fake and step is not None:
            # Late, since few runs fake.
            from . import unfinished

            if not hasattr(self, "_whole"):
                self._whole = unfinished.whole(self.connection)
            # Else a rollback would take its record alone.
            step.fake = step.key not in self._whole
        return apply_migration(self, state, migration, fake, *args, **kw)

    return apply


def _reaching_migrate(init: Callable[..., None]) -> Callable[..., None]:
    """Rebind handle() of Django's migrate when the first command is made of it.

    Not before, since that would import its module in every process, and before other
    apps have changed what it imports.
    """

    @wraps(init)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        module = sys.modules.get(MIGRATE)
        # Another thread may be importing it.
        stock = getattr(module, "Command", None)
        if (
            stock is not None
            and isinstance(self, stock)
            and not any(owner is stock for owner, *_ in _originals)
        ):
            _rebind(stock, "handle", lambda h: runs.rolling_back(h, knowing_app))

    return make


def _rebind(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    _originals.append((owner, name, original))
    setattr(owner, name, change(original))


def _extend(base: type, extension: type) -> type:
    return type(base.__name__, (extension, base), {})
