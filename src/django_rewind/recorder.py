"""Django's MigrationRecorder, which also stores the code of what it records."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from . import conf, history, store, tables
from .models import Key, StoredCode

if TYPE_CHECKING:
    from django.db.migrations.recorder import MigrationRecorder
else:
    MigrationRecorder = object

logger = logging.getLogger("django_rewind")


class StoresCode(MigrationRecorder):
    """Extends whichever MigrationRecorder the executor uses; see hooks."""

    # Of one recorder, and so of one run: under schema-per-tenant set-ups the
    # same alias stands for many schemas.
    _tables_ensured = False

    # Set while the executor records what it did not apply; see noting_fakes().
    faking = False

    def _ensure_tables(self) -> None:
        if self._tables_ensured:
            return
        self._tables_ensured = True
        self.ensure_schema()
        try:
            tables.ensure(self.connection)
        except DatabaseError as error:
            logger.warning(
                "The table django_migrations_code in database '%s' could not be made "
                "or upgraded: %s",
                self.connection.alias,
                error,
            )

    def record_applied(self, app: str, name: str) -> None:
        if not conf.is_enabled() or app in conf.excluded_apps():
            super().record_applied(app, name)
            return
        # Not inside the transaction, where SQLite and MySQL make no tables.
        self._ensure_tables()
        with self._transaction():
            super().record_applied(app, name)
            store_code(
                self.connection,
                (app, name),
                StoredCode.Captured.AT_APPLY,
                faked=self.faking,
            )

    def _transaction(self) -> AbstractContextManager[Any]:
        if self.connection.in_atomic_block:
            # The migration's own.
            return nullcontext()
        return transaction.atomic(using=self.connection.alias)

    def record_unapplied(self, app: str, name: str) -> None:
        stored = history.of(self.connection)
        pending, gone = [(app, name)], set()
        while pending:
            key = pending.pop()
            if key not in gone:
                gone.add(key)
                super().record_unapplied(*key)
                # A squash that stands for another one stands for what that replaced.
                pending += stored.superseded.get(key, ()) if stored else ()


def noting_fakes(apply_migration: Callable[..., Any]) -> Callable[..., Any]:
    """Extends apply_migration() of MigrationExecutor: tell the recorder of --fake."""

    @wraps(apply_migration)
    def apply(
        self: Any, state: Any, migration: Any, fake: bool = False, *args: Any, **kw: Any
    ) -> Any:
        self.recorder.faking = fake
        try:
            return apply_migration(self, state, migration, fake, *args, **kw)
        finally:
            self.recorder.faking = False

    return apply


def noting_initial_fakes(detect_soft_applied: Callable[..., Any]) -> Callable[..., Any]:
    """The same for --fake-initial, where its tables are found to be there."""

    @wraps(detect_soft_applied)
    def detect(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_there, state = detect_soft_applied(self, *args, **kwargs)
        self.recorder.faking = is_there
        return is_there, state

    return detect


def store_code(
    connection: BaseDatabaseWrapper,
    key: Key,
    captured: str,
    *,
    faked: bool = False,
    quiet: bool = False,
) -> bool:
    """Store one migration; a failure is a warning, since the migration must go on."""
    # Late, since a migrate with nothing to do stores nothing.
    from .capture import capture

    try:
        store.save(connection, capture(*key, captured, faked=faked))
    except Exception as error:
        # Whatever fails here must not fail the migration, and is said.
        logger.log(
            logging.DEBUG if quiet else logging.WARNING,
            "The code of %s.%s could not be stored in database '%s': %s. "
            "'manage.py verify_migrations' fails until 'manage.py migrate' or "
            "'manage.py backfill_migration_code' has stored it.",
            *key,
            connection.alias,
            error,
        )
        return False
    return True
