"""What a rollback knows beyond the files; loader and recorder see it while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from .models import Key


class StoredHistory(NamedTuple):
    """The stored migrations that take part in the rollback of one database."""

    alias: str
    # Ghosts, and edited migrations as they were applied.
    migrations: dict[Key, Migration]
    # Recorded migrations without a file, under what stands for them: with it, they go.
    superseded: dict[Key, list[Key]]
    # Each step of the plan but the first → the one that was applied before it.
    before: dict[Key, Key]
    # Labels of apps that are not installed: only the database knows them.
    uninstalled: frozenset[str] = frozenset()


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
