"""Transactions, as the statements of this app need them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper


def leave(connection: BaseDatabaseWrapper, error: BaseException) -> None:
    """Roll back the transaction that a schema editor left open.

    As it does if it fails at its end, where it runs deferred SQL, and on SQLite checks
    constraints. While the transaction is open, SQLite does not turn these on again.
    """
    if not connection.in_atomic_block:
        return
    while connection.in_atomic_block:
        block = transaction.atomic(using=connection.alias)
        block.__exit__(type(error), error, error.__traceback__)
    if connection.vendor == "sqlite":
        connection.enable_constraint_checking()


def savepoint(connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
    """Keep a failing statement from spoiling the caller's transaction, if there is one.

    None is begun: outside of one, SQLite and MySQL make no tables in it.
    """
    if connection.in_atomic_block or not connection.get_autocommit():
        return transaction.atomic(using=connection.alias)
    return nullcontext()
