"""SQLite: what ghosts added to a table stays when Django remakes the table.

SQLite cannot alter most things, so Django makes a new table from its state, copies
what both have, and drops the old one: https://www.sqlite.org/lang_altertable.html.
The state does not know what ghosts added, and their columns would go, with all data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, models, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from . import conf

if TYPE_CHECKING:
    from .kept import KeptColumn, KeptConstraint

RemakeTable = Callable[..., None]


def keeping_what_ghosts_added(remake_table: RemakeTable) -> RemakeTable:
    """Extend DatabaseSchemaEditor._remake_table() of the SQLite backend."""

    @wraps(remake_table)
    def _remake_table(
        self: BaseDatabaseSchemaEditor,
        model: type[models.Model],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        is_own = model._meta.app_label == __package__
        if self.collect_sql or is_own or not conf.is_enabled():
            return remake_table(self, model, *args, **kwargs)
        # Most runs remake no table.
        from .kept import Kept

        kept = Kept(self.connection, model, *args, **kwargs)
        needed, others = kept.needed_constraints, kept.other_constraints

        def remake(constraints: list[KeptConstraint]) -> None:
            with _added_to(model, kept.columns, constraints):
                remake_table(self, model, *args, **kwargs)

        if not others or not _is_done(self, partial(remake, [*needed, *others])):
            remake(needed)
        for sql in kept.lost_indexes():
            _is_done(self, partial(self.execute, sql, params=None))
        return None

    return _remake_table


def _is_done(editor: BaseDatabaseSchemaEditor, do: Callable[[], None]) -> bool:
    """Not if the rows or columns, as they become, do not fit what a ghost made.

    Django would forget that, and a forward `migrate` must not fail.
    """
    deferred = list(editor.deferred_sql)
    try:
        with transaction.atomic(using=editor.connection.alias):
            do()
    except DatabaseError:
        editor.deferred_sql = deferred
        return False
    return True


@contextmanager
def _added_to(
    model: type[models.Model],
    columns: list[KeptColumn],
    constraints: list[KeptConstraint],
) -> Iterator[None]:
    options: Any = model._meta
    before = options.local_concrete_fields, options.constraints
    options.local_concrete_fields = [*before[0], *columns]
    options.constraints = [*before[1], *constraints]
    try:
        yield
    finally:
        options.local_concrete_fields, options.constraints = before
