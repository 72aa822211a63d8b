"""Two processes do not migrate one database at once: the second one waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from . import advisory, conf
from .exceptions import LockTimeout

logger = logging.getLogger("django_rewind")

# Seconds.
BETWEEN_ATTEMPTS = 0.2


class Guard:
    """The lock of one database, taken as soon as it is known that it is needed."""

    def __init__(
        self, connection: BaseDatabaseWrapper, announce: Callable[[str], None]
    ) -> None:
        self.connection = connection
        self.announce = announce
        self.held = False
        # Now, so that a value that is none is said before anything happens.
        self._timeout = conf.lock_timeout()
        self._lock: advisory.Lock | None = None
        if conf.lock_is_used():
            with self._warning():
                self._lock = advisory.find(connection)

    @property
    def is_used(self) -> bool:
        """Whether there is a lock to take."""
        return self._lock is not None

    def acquire(self) -> None:
        """Wait for the lock and take it; raises LockTimeout.

        If it cannot be had for another reason than that somebody has it, that is a
        warning: a migration must not fail for the want of it.
        """
        if self._lock and not self.held:
            with self._warning():
                self._wait(self._lock)
                self.held = True

    def is_taken(self) -> bool:
        """Whether another process has it; one query at most."""
        if self._lock:
            with self._warning():
                return self._lock.is_taken()
        return False

    def release(self) -> None:
        if self._lock and self.held:
            self.held = False
            with self._warning():
                self._lock.give_back()

    def _wait(self, lock: advisory.Lock) -> None:
        deadline = time.monotonic() + self._timeout
        said = None
        while not lock.take():
            if time.monotonic() >= deadline:
                last = lock.holder() or said or advisory.SOMEBODY
                raise LockTimeout(self.connection.alias, str(last), self._timeout)
            time.sleep(BETWEEN_ATTEMPTS)
            holder = lock.holder()
            if holder not in (None, said):
                said = holder
                self.announce(
                    f"Waiting for the lock of database '{self.connection.alias}', "
                    f"held by {holder}..."
                )

    @contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except advisory.UNAVAILABLE as error:
            self._lock = None
            logger.warning(
                "Nothing keeps two processes from migrating database '%s' at the same "
                "time: %s. If its connections cannot hold a lock, set "
                "DJANGO_REWIND_LOCK = False.",
                self.connection.alias,
                str(error).strip(),
            )


_guards: ContextVar[tuple[Guard, ...]] = ContextVar("guards", default=())


@contextmanager
def guarding(
    connection: BaseDatabaseWrapper, announce: Callable[[str], None]
) -> Iterator[Guard]:
    """A guard that has taken nothing yet; what it takes is released in the end.

    Inside of another one for the same alias, that one is given, and releases.
    """
    outer = _of(connection)
    if outer:
        yield outer
        return
    guard = Guard(connection, announce)
    token = _guards.set((*_guards.get(), guard))
    try:
        yield guard
    finally:
        _guards.reset(token)
        guard.release()


@contextmanager
def holding(
    connection: BaseDatabaseWrapper, announce: Callable[[str], None]
) -> Iterator[Guard]:
    with guarding(connection, announce) as guard:
        guard.acquire()
        yield guard


def _of(connection: BaseDatabaseWrapper) -> Guard | None:
    guards = (g for g in _guards.get() if g.connection.alias == connection.alias)
    return next(guards, None)


def planned_under_lock(migration_plan: Callable[..., Any]) -> Callable[..., Any]:
    """Extends migration_plan() of MigrationExecutor, where there is a guard.

    A plan is made once more under the lock, since another process may have carried
    it out. With nothing to do, none is taken: but whoever has it may be about to do
    what follows the last migration, such as making content types.
    """

    @wraps(migration_plan)
    def plan(self: Any, targets: Any, clean_start: bool = False) -> Any:
        planned = migration_plan(self, targets, clean_start=clean_start)
        guard = _of(self.connection)
        if clean_start or guard is None or guard.held or not guard.is_used:
            return planned
        if not planned and not guard.is_taken():
            return planned
        guard.acquire()
        if self.recorder.applied_migrations() == self.loader.applied_migrations:
            return planned
        self.loader.build_graph()
        return migration_plan(
            self, [_in_graph(self.loader, target) for target in targets]
        )

    return plan


def _in_graph(loader: Any, target: Any) -> Any:
    """A squashed migration leaves the graph once some of what it replaces is applied,
    for example from an older checkout.
    """
    if target in loader.graph.nodes or target not in loader.replacements:
        return target
    return tuple(loader.replacements[target].replaces[-1])
