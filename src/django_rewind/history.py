"""What a rollback knows beyond the files; loader and recorder see it while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from .models import Key, MigrationCode


class StoredHistory(NamedTuple):
    """The stored migrations that take part in the rollback of one database."""

    alias: str
    # Ghosts, and edited migrations as they were applied.
    migrations: dict[Key, Migration]
    # Recorded migrations without a file, under what stands for them: with it, they go.
    superseded: dict[Key, list[Key]]
    # Each step of the plan → the one that was applied before it; the first one → what
    # stays.
    before: dict[Key, list[Key]]
    # Labels of apps that are not installed: only the database knows them.
    uninstalled: frozenset[str] = frozenset()
    # What is applied again from stored code, and its row.
    codes: Mapping[Key, MigrationCode] = MappingProxyType({})
    # What is recorded, and will not be when this counts.
    gone: frozenset[Key] = frozenset()

    def with_superseded(self, keys: Iterable[Key]) -> set[Key]:
        """These records, and those that go with them."""
        found: set[Key] = set()
        pending = [*keys]
        while pending:
            key = pending.pop()
            if key not in found:
                found.add(key)
                # A squash that stands for another one stands for what that replaced.
                pending += self.superseded.get(key, ())
        return found


_current: ContextVar[StoredHistory | None] = ContextVar("stored_history", default=None)


@contextmanager
def using(history: StoredHistory | None) -> Iterator[None]:
    """Let the loaders and recorders of that database see it."""
    token = _current.set(history)
    try:
        yield
    finally:
        _current.reset(token)


def of(connection: BaseDatabaseWrapper | None) -> StoredHistory | None:
    history = _current.get()
    if history is None or connection is None or connection.alias != history.alias:
        return None
    return history
