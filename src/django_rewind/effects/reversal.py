"""What undoing changes, one after the other, does to the values that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Key
from .changes import (
    AlteredColumn,
    Change,
    DroppedColumn,
    DroppedRule,
    DroppedUnique,
    MadeColumn,
    MadeExtension,
    MadeTable,
    OwnCode,
)
from .column_types import Misfit, is_strict, misfits, type_of
from .counts import Countable, Counting
from .defaults import CONSTANT, NULL, UNKNOWN, value_for_new_column, value_for_nulls
from .layout import Column, Table

ROWS = "row", "rows"
VALUES = "value that is not null", "values that are not null"
NULLS = "row has NULL there", "rows have NULL there"
REPEATED = "value occurs more than once", "values occur more than once"
VIOLATIONS = "row violates it", "rows violate it"
ORPHANS = "row there points to nothing", "rows there point to nothing"
SAME = "row would have the same value there", "rows would have the same value there"


class Finding(NamedTuple):
    """A fact, if what it counts is there: {fact}{lead}{number} {things}."""

    key: Key
    fact: str
    counted: Countable | None = None
    lead: str = ": "
    things: tuple[str, str] = ("", "")
    # How many it takes.
    least: int = 0
    # Of what would fail; else it is data that would be lost.
    remedy: str = ""
    # Code of the plan that runs before may change the data.
    may_be_mended: bool = False


class Reversal:
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.counting = Counting(connection)
        # Columns that the plan makes again → what they hold then.
        self.filled: dict[Column, str] = {}
        # Those that are made NOT NULL, and so have no NULL from then on; and those of
        # them in which NULL becomes a value. All other values stay as they are.
        self.without_nulls: set[Column] = set()
        self.completed: set[Column] = set()
        # Those that get another type.
        self.converted: set[Column] = set()
        self.own_code = False

    def undo(self, changes: Sequence[Change]) -> Iterator[Finding]:
        dropped = {c.key: set[Table]() for c in changes}
        for change in changes:
            if isinstance(change, MadeTable):
                dropped[change.key].add(change.table)
        for change in reversed(changes):
            going = dropped[change.key]
            for finding in self._undo(change, going):
                yield finding._replace(may_be_mended=self.own_code)

    def _undo(self, change: Change, going: set[Table]) -> Iterator[Finding]:
        if isinstance(change, OwnCode):
            self.own_code = True
            yield Finding(
                change.key, f"runs its own reverse code: {change.description}"
            )
        elif isinstance(change, MadeExtension):
            yield Finding(change.key, f"drops the extension {change.name}")
        elif isinstance(change, MadeTable):
            yield self._drop_table(change)
        elif isinstance(change, MadeColumn):
            yield from self._drop_column(change, going)
        elif _is_of_lost_rows(change):
            return
        elif isinstance(change, DroppedColumn):
            yield from self._add_column(change)
        elif isinstance(change, DroppedUnique):
            yield from self._add_unique(
                change.key, change.called, change.columns, change.nulls_distinct
            )
        elif isinstance(change, DroppedRule):
            yield from self._add_rule(change)
        elif isinstance(change, AlteredColumn):
            yield from self._alter_column(change, going)

    def _drop_table(self, change: MadeTable) -> Finding:
        table = change.table
        fact = f"drops {_named(change.called, table)}"
        count = None if table.gone else self.counting.rows(table)
        return Finding(change.key, fact, count, things=ROWS)

    def _drop_column(self, change: MadeColumn, going: set[Table]) -> Iterator[Finding]:
        column = change.column
        if column.table in going:
            return
        fact = f"drops {_named(change.called, column)}"
        count = None if column.gone else self.counting.values(column)
        yield Finding(change.key, fact, count, things=VALUES)

    def _add_column(self, change: DroppedColumn) -> Iterator[Finding]:
        field, column, table = change.field, change.column, change.column.table
        value = self.filled[column] = value_for_new_column(field)
        lead = f", and {table} has "
        add = f"it would add {change.called}"
        if value == NULL and not field.null:
            if self._has_implicit_default(field):
                self.filled[column] = value = CONSTANT
            else:
                yield Finding(
                    change.key,
                    f"{add}, which is NOT NULL and has no default",
                    self.counting.rows(table),
                    lead,
                    ROWS,
                    least=1,
                    remedy=f"Keep {_name(change.key)}, or delete these rows first.",
                )
        if value == CONSTANT and field.unique:
            yield Finding(
                change.key,
                f"{add}, which is unique and gets one value for all rows",
                self.counting.rows(table),
                lead,
                ROWS,
                least=2,
                remedy=f"Keep {_name(change.key)}, or keep one of these rows only.",
            )

    def _has_implicit_default(self, field: Any) -> bool:
        """MySQL gives 0 or '' to the rows that are there, also if it is strict."""
        if self.connection.vendor != "mysql":
            return False
        mysql: Any = self.connection
        is_date = field.get_internal_type() in ("DateField", "DateTimeField")
        if is_date and is_strict(mysql) and "NO_ZERO_DATE" in mysql.sql_mode:
            return False
        return not (field.is_relation and field.db_constraint)

    def _alter_column(
        self, change: AlteredColumn, going: set[Table]
    ) -> Iterator[Finding]:
        before, after = change.before, change.after
        if after.null and not before.null:
            yield from self._set_not_null(change)
        if before.unique and not after.unique:
            yield from self._add_unique(change.key, change.called, [change.column])
        if change.column in self.filled or change.column.gone:
            return
        if change.target is not None:
            yield from self._add_foreign_key(change, change.target)
        is_as_then = change.column not in self.converted
        types = [type_of(field, self.connection) for field in (after, before)]
        if types[0] != types[1]:
            self.converted.add(change.column)
        name = _named(change.called, change.column)
        for misfit in misfits(before, after, self.connection):
            count = self._count(misfit, change.column)
            if (count is None and change.column.table in going) or (
                misfit.trial is not None and not is_as_then
            ):
                continue
            verb = "it would change" if misfit.fails else "changes"
            yield Finding(
                change.key,
                f"{verb} {name} from {types[0]} to {types[1]}",
                count,
                ", and " if misfit.fails else ": ",
                misfit.things,
                least=1,
                remedy=misfit.remedy if misfit.fails else "",
            )

    def _count(self, misfit: Misfit, column: Column) -> Countable | None:
        if misfit.trial is not None:
            return self.counting.trial(column, misfit.trial)
        if misfit.condition is None:
            return None
        condition = misfit.condition.replace("{}", self.counting.column(column))
        return self.counting.where(column, condition)

    def _add_foreign_key(
        self, change: AlteredColumn, target: Column
    ) -> Iterator[Finding]:
        others = {*self.filled, *self.converted}
        if (
            not self.connection.features.supports_foreign_keys
            or target.gone
            or not others.isdisjoint([change.column, target])
        ):
            return
        name = _named(change.called, change.column)
        yield Finding(
            change.key,
            f"it would make {name} a foreign key to {target} again",
            self.counting.orphans(change.column, target),
            ", and ",
            ORPHANS,
            least=1,
            remedy="Change these rows first.",
        )

    def _set_not_null(self, change: AlteredColumn) -> Iterator[Finding]:
        column, field = change.column, change.before
        known = self.filled.get(column)
        if known not in (None, NULL) or column in self.without_nulls:
            return
        count = self.counting.nulls(column)
        remedy = "Give these rows a value first."
        if known == NULL:
            count = self.counting.rows(column.table)
            remedy = f"Go back to {_name(change.key)}, and {_lower(remedy)}"
        name = _named(change.called, column)
        fills = value_for_nulls(field, self.connection.vendor) != NULL
        self.without_nulls.add(column)
        if known == NULL:
            self.filled[column] = UNKNOWN
        elif fills or not is_strict(self.connection):
            self.completed.add(column)
        if not fills and not is_strict(self.connection):
            fact = f"makes {name} NOT NULL again"
            yield Finding(change.key, fact, count, things=NULLS, least=1)
        elif not fills:
            fact = f"it would make {name} NOT NULL again"
            yield Finding(
                change.key, fact, count, ", and ", NULLS, least=1, remedy=remedy
            )
        elif field.unique:
            fact = f"it would fill {name}, which is unique, with one value"
            yield Finding(
                change.key, fact, count, ", and ", NULLS, least=2, remedy=remedy
            )

    def _add_unique(
        self, key: Key, called: str, columns: list[Column], nulls_distinct: bool = True
    ) -> Iterator[Finding]:
        filled = [self.filled.get(column) for column in columns]
        if UNKNOWN in filled or (NULL in filled and nulls_distinct):
            return
        table = columns[0].table
        remedy = "Make them unique first."
        counted = [column for column, value in zip(columns, filled) if value is None]
        if counted:
            count = self.counting.repeated(counted, nulls_distinct=nulls_distinct)
            least, things = 1, REPEATED
        else:
            count, least, things = self.counting.rows(table), 2, SAME
        if len(counted) < len(columns):
            remedy = f"Go back to {_name(key)}, and {_lower(remedy)}"
        name = _named(called, columns[0]) if len(columns) == 1 else called
        fact = f"it would make {name} unique again"
        yield Finding(key, fact, count, ", and ", things, least, remedy)

    def _add_rule(self, change: DroppedRule) -> Iterator[Finding]:
        others = {*self.filled, *self.completed, *self.converted}
        if change.table.name != change.table_name or any(
            column.name != name or column.gone or column in others
            for name, column in change.columns.items()
        ):
            # Not there under these names now, or not as it will be: not to be counted.
            return
        yield Finding(
            change.key,
            f"it would make {change.called} again",
            change.violations,
            ", and ",
            REPEATED if change.is_unique else VIOLATIONS,
            least=1,
            remedy="Change these rows first.",
        )


def _is_of_lost_rows(change: Change) -> bool:
    """Of a table that the plan makes again, without any row."""
    if isinstance(change, DroppedUnique):
        return change.columns[0].table.gone
    if isinstance(change, DroppedRule):
        return change.table.gone
    return isinstance(change, (DroppedColumn, AlteredColumn)) and (
        change.column.table.gone
    )


def _named(called: str, now: Table | Column) -> str:
    return called if now.gone or str(now) == called else f"{called} (now {now})"


def _name(key: Key) -> str:
    return "{}.{}".format(*key)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
