"""Operations of which the SQL cannot be told without running somebody's code."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from django.db.migrations import Migration, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

OF_DJANGO = "django.db.migrations.operations.", "django.contrib.postgres.operations"


def is_told(operation: Operation) -> bool:
    """Whether a schema editor that collects SQL is all that it would use.

    `reduces_to_sql` does not say: it is True for SeparateDatabaseAndState, whatever is
    in it, and for operations of anybody who did not think of it.
    """
    if isinstance(operation, SeparateDatabaseAndState):
        return all(map(is_told, operation.database_operations))
    is_djangos = type(operation).__module__.startswith(OF_DJANGO)
    return is_djangos and operation.reduces_to_sql


def without_code(migration: Migration) -> Migration:
    """A copy to collect SQL from, with a comment for what is not told."""
    copied = deepcopy(migration)
    copied.__dict__["operations"] = [
        operation if is_told(operation) else Untold(operation)
        for operation in copied.operations
    ]
    return copied


class Untold(Operation):
    """What it does to the state, and nothing else."""

    reduces_to_sql = False

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def state_forwards(self, app_label: str, state: Any) -> None:
        self.operation.state_forwards(app_label, state)

    def describe(self) -> str:
        return self.operation.describe()
