"""Django's MigrationRecorder, which also stores the code of what it records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import django
from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from . import conf, history, signing, source, store, tables, transactions
from .actions import APPLY, PRUNE, RECORD, REVERSE
from .models import Key, MigrationCode, StoredCode
from .terminal import manage, on_one_line, quoted

if TYPE_CHECKING:
    from django.db.migrations.recorder import MigrationRecorder

    from .journal import Run, Step
else:
    MigrationRecorder = object

logger = logging.getLogger("django_rewind")

# What says that code is not stored, and what stores it.
MENDING = "verify_migrations", "migrate", "backfill_migration_code"


class StoresCode(MigrationRecorder):
    """Extends whichever MigrationRecorder the executor uses; see hooks."""

    # Of one recorder, and so of one run: under schema-per-tenant set-ups the
    # same alias stands for many schemas.
    _tables_ensured = False
    _run: Run | None = None

    # What the executor is applying or reversing, and what it is going to apply.
    step: Step | None = None
    planned: Sequence[Key] = ()
    # What the files said when the run began: while it takes its time, another branch
    # may be checked out over what it has imported.
    _read: dict[Key, MigrationCode] | None = None

    def _ensure_tables(self) -> None:
        if self._tables_ensured:
            return
        self._tables_ensured = True
        self.ensure_schema()
        tables.try_to_ensure(self.connection)

    def expect(self, plan: Sequence[Migration], *, in_this_order: bool) -> None:
        """What a run is going to apply."""
        if in_this_order:
            self.planned = [(migration.app_label, migration.name) for migration in plan]
        keys = [
            key
            for migration in plan
            for key in [(migration.app_label, migration.name), *migration.replaces]
        ]
        excluded = conf.excluded_apps()
        self._read = dict(read_files(key for key in keys if key[0] not in excluded))

    def record_applied(self, app: str, name: str) -> None:
        if not conf.is_enabled():
            super().record_applied(app, name)
            return
        # Not inside the transaction, where SQLite and MySQL make no tables.
        self._ensure_tables()
        with self._transaction():
            super().record_applied(app, name)
            faked = None if self.step is None else self.step.fake
            self._journal(RECORD, (app, name), self._store((app, name), faked))

    def _store(self, key: Key, faked: bool | None) -> str:
        """The digest of the code that is stored now."""
        if key[0] in conf.excluded_apps():
            return ""
        stored = history.of(self.connection)
        if stored and key in stored.codes:
            # Its file is not here, or does something else.
            store.save(self.connection, stored.codes[key])
            return stored.codes[key].digest
        code = store_code(
            self.connection,
            key,
            StoredCode.Captured.AT_APPLY,
            faked=faked,
            code=(self._read or {}).pop(key, None),
        )
        return code.digest if code else ""

    def digest_of(self, key: Key) -> str:
        """Of the code that is applied; empty if it cannot be read."""
        stored = history.of(self.connection)
        if stored and key in stored.codes:
            return stored.codes[key].digest
        code = (self._read or {}).get(key)
        return code.digest if code else source.digest_of_file(key)

    def _transaction(self) -> AbstractContextManager[Any]:
        if self.connection.in_atomic_block:
            # The migration's own.
            return nullcontext()
        return transaction.atomic(using=self.connection.alias)

    def record_unapplied(self, app: str, name: str) -> None:
        stored = history.of(self.connection)
        gone = stored.with_superseded([(app, name)]) if stored else {(app, name)}
        for key in gone:
            super().record_unapplied(*key)
        if self.step is not None and self.step.is_done:
            # Once more, after the transaction; see journalling_unapply().
            return
        # The tables of django_rewind itself may just have gone.
        if conf.is_enabled() and app != "django_rewind":
            self._ensure_tables()
            for key in [*sorted(gone - {(app, name)}), (app, name)]:
                self._journal(PRUNE, key, self._digest(key))

    def _digest(self, key: Key) -> str:
        """Of the code that is stored; empty if that cannot be read."""
        try:
            with transaction.atomic(using=self.connection.alias):
                return store.digest(self.connection, key)
        except DatabaseError:
            return ""

    def _journal(self, action: str, key: Key, digest: str) -> None:
        """As a part of the step, or with this action where there is none."""
        if self.step is not None:
            self.step.note(key, digest)
        else:
            self._own_run().note(self.connection, action, key, digest)

    def adopt(self, old: Key, names: Sequence[Key], *, fake: bool) -> None:
        """Give a record another name, and store the code of that name's file.

        Beside that of a squashed migration, all that it replaced is recorded again.
        """
        self._ensure_tables()
        if len(names) > 1:
            self._record_again(names, fake=fake)
            return
        (new,) = names
        digest = self._digest(old)
        run = self._own_run()
        self.step = run.adopt(self.connection, old, new, digest, fake=fake)
        try:
            with transaction.atomic(using=self.connection.alias):
                # A new one would be the last, and so what `rewind --steps` takes first.
                records = self.migration_qs.filter(app=old[0], name=old[1])
                records.update(app=new[0], name=new[1])
                self.step.note(new, self._store(new, fake))
                self.step.note(old, digest)
        finally:
            self.step = None

    def _record_again(self, keys: Sequence[Key], *, fake: bool) -> None:
        with transaction.atomic(using=self.connection.alias):
            for key in keys:
                super().record_applied(*key)
                self._journal(RECORD, key, self._store(key, fake))

    @contextmanager
    def taking(
        self, action: str, migration: Migration, *, fake: bool
    ) -> Iterator[None]:
        """While the executor applies or reverses a migration."""
        if not conf.is_enabled() or (
            action == REVERSE and migration.app_label == "django_rewind"
        ):
            yield
            return
        self._ensure_tables()
        step = self._own_run().start(
            self.connection, action, migration, fake=fake, planned=self.planned
        )
        self.step, self.planned = step, ()
        is_inside = self.connection.in_atomic_block
        try:
            yield
        except BaseException as error:
            if not is_inside:
                transactions.leave(self.connection, error)
            step.fail(error)
            raise
        finally:
            self.step = None
        step.finish()

    def _own_run(self) -> Run:
        if self._run is None:
            # Late, since a migrate with nothing to do writes no journal.
            from . import journal

            self._run = journal.current()
        return self._run


def journalling_apply(apply_migration: Callable[..., Any]) -> Callable[..., Any]:
    """Extends apply_migration() of MigrationExecutor."""

    @wraps(apply_migration)
    def apply(
        self: Any, state: Any, migration: Any, fake: bool = False, *args: Any, **kw: Any
    ) -> Any:
        if not isinstance(self.recorder, StoresCode):
            # Somebody's own executor, with a recorder of its own.
            return apply_migration(self, state, migration, fake, *args, **kw)
        is_faked = getattr(migration, "is_faked", False)
        taking = self.recorder.taking(APPLY, migration, fake=fake or is_faked)
        with taking, _going_on(self.recorder, migration):
            return apply_migration(self, state, migration, fake, *args, **kw)

    return apply


@contextmanager
def _going_on(recorder: StoresCode, migration: Any) -> Iterator[None]:
    """In a run of `rewind`, which begun once more goes on where it stopped."""
    # Late, as for the journal itself.
    from . import journal

    if not journal.is_running():
        yield
        return
    from . import halfway

    original = migration.apply

    def apply(state: Any, schema_editor: Any, *args: Any, **kw: Any) -> Any:
        if schema_editor.atomic_migration:
            return original(state, schema_editor, *args, **kw)
        code = recorder.digest_of((migration.app_label, migration.name))
        return halfway.apply(
            recorder.step, migration, code, original, state, schema_editor
        )

    migration.apply = apply
    try:
        yield
    finally:
        del migration.apply


def journalling_unapply(unapply_migration: Callable[..., Any]) -> Callable[..., Any]:
    """The same; and the record goes in the transaction of the schema, if it has one."""

    @wraps(unapply_migration)
    def unapply(
        self: Any, state: Any, migration: Any, fake: bool = False, *args: Any, **kw: Any
    ) -> Any:
        if not isinstance(self.recorder, StoresCode):
            return unapply_migration(self, state, migration, fake, *args, **kw)
        reverse = migration.unapply

        def unapply_and_unrecord(
            state: Any, schema_editor: Any, *args: Any, **kw: Any
        ) -> Any:
            if not schema_editor.atomic_migration:
                # Late, since most migrations are atomic.
                from . import halfway

                return halfway.reverse(
                    self.recorder.step, migration, reverse, state, schema_editor
                )
            state = reverse(state, schema_editor, *args, **kw)
            # As unapply_migration() does again, after the transaction.
            for key in migration.replaces:
                self.recorder.record_unapplied(*key)
            if not migration.replaces or django.VERSION >= (4, 0):
                self.recorder.record_unapplied(migration.app_label, migration.name)
            if self.recorder.step is not None:
                self.recorder.step.finish()
            return state

        is_faked = getattr(migration, "is_faked", False)
        with self.recorder.taking(REVERSE, migration, fake=fake or is_faked):
            migration.unapply = unapply_and_unrecord
            try:
                return unapply_migration(self, state, migration, fake, *args, **kw)
            finally:
                del migration.unapply

    return unapply


def noting_initial_fakes(detect_soft_applied: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the step of --fake-initial, where its tables are found to be there."""

    @wraps(detect_soft_applied)
    def detect(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_there, state = detect_soft_applied(self, *args, **kwargs)
        step = getattr(self.recorder, "step", None)
        if is_there and step is not None:
            step.fake = True
        return is_there, state

    return detect


def read_files(keys: Iterable[Key]) -> Iterator[tuple[Key, MigrationCode]]:
    # Late, since a migrate with nothing to do stores nothing.
    from .capture import capture

    for key in keys:
        # A failure is said when it is to be stored, if it fails once more.
        with suppress(Exception):
            yield key, capture(*key, StoredCode.Captured.AT_APPLY)


def store_code(
    connection: BaseDatabaseWrapper,
    key: Key,
    captured: str,
    *,
    faked: bool | None,
    quiet: bool = False,
    code: MigrationCode | None = None,
) -> MigrationCode | None:
    """Store one migration; a failure is a warning, since the migration must go on.

    `faked`: None where nothing was applied, so that a squash is what it replaces.
    `code`: what its file said, if that was read before.
    """
    from .capture import capture

    try:
        if faked is None:
            faked = _replaces_fakes(connection, key)
        if code is None:
            code = capture(*key, captured)
        code.faked = faked
        signing.sign(code)
        store.save(connection, code)
    except Exception as error:
        if connection.needs_rollback:
            # It took back the migration and its record, too.
            raise
        # Whatever else fails here must not fail the migration, and is said.
        logger.log(
            logging.DEBUG if quiet else logging.WARNING,
            "The code of %s.%s could not be stored in database '%s': %s. %s",
            *key,
            connection.alias,
            on_one_line(str(error)).strip().rstrip("."),
            _what_follows(connection, key),
        )
        return None
    return code


def _what_follows(connection: BaseDatabaseWrapper, key: Key) -> str:
    """What not storing a migration leads to, and how it is stored after all."""
    if _has_code(connection, key):
        back = manage(f"migrate {quoted(key[0])} NAME --from-file", connection.alias)
        return (
            "The code that was stored for it before stays, and a rollback takes it for "
            "what was applied. If its file has other code, remove the cause, reverse "
            f"it with {back}, and apply it again."
        )
    verify, *storing = (manage(command, connection.alias) for command in MENDING)
    return f"{verify} fails until {' or '.join(storing)} has stored it."


def _has_code(connection: BaseDatabaseWrapper, key: Key) -> bool:
    try:
        with transactions.savepoint(connection):
            return store.has_code(connection, key)
    except DatabaseError:
        # It may be why nothing was stored.
        return False


def _replaces_fakes(connection: BaseDatabaseWrapper, key: Key) -> bool:
    replaced = source.replaces(source.module_name(*key) or "")
    if not replaced:
        return False
    return store.contents(connection).faked.issuperset(replaced)
