"""What a model has in the database, and under which name it is found there now."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes
from django.db.migrations.state import ModelState
from django.db.models.fields.proxy import OrderWrt
from django.db.models.options import Options, normalize_together

from .. import naming
from . import rules


class Unique(NamedTuple):
    """Of more than one field, or declared apart from its field."""

    fields: tuple[str, ...]
    nulls_distinct: bool


class Layout(NamedTuple):
    """Of one model, by the names of its fields."""

    # App label and name of the model.
    label: tuple[str, str]
    # As Django has it: maybe in quotes.
    table: str
    # Those with a column, which each of them knows.
    fields: dict[str, Any]
    # Tables that Django makes for M2M fields.
    m2m: dict[str, str]
    uniques: set[Unique]
    # Constraints of another kind, by their names.
    rules: dict[str, Any]


class Table:
    """One table; renames give it another name, and it is still the same."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Dropped by a later migration: the plan makes another one.
        self.gone = False
        self.columns: dict[str, Column] = {}

    @property
    def table(self) -> Table:
        """Itself, as of a column."""
        return self

    def __str__(self) -> str:
        # It may be in a schema.
        return strip_quotes(self.name).replace('"."', ".")

    def column(self, name: str) -> Column:
        return self.columns.setdefault(name, Column(self, name))

    def add(self, name: str) -> Column:
        self.columns.pop(name, None)
        return self.column(name)

    def drop(self, name: str) -> Column:
        column = self.column(name)
        column.dropped = True
        return self.columns.pop(name)

    def rename(self, old: str, new: str) -> Column:
        column = self.columns[new] = self.column(old)
        if old != new:
            del self.columns[old]
        column.name = new
        return column


class Column:
    def __init__(self, table: Table, name: str) -> None:
        self.table = table
        self.name = name
        self.dropped = False

    def __str__(self) -> str:
        return f"{self.table}.{strip_quotes(self.name)}"

    @property
    def gone(self) -> bool:
        """Alone, or with its table."""
        return self.dropped or self.table.gone


class Tables:
    """Those that are followed, by the names that they have at the time."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}

    def find(self, name: str) -> Table:
        return self._tables.setdefault(strip_quotes(name), Table(name))

    def add(self, name: str) -> Table:
        self._tables.pop(strip_quotes(name), None)
        return self.find(name)

    def drop(self, name: str) -> Table:
        self.find(name).gone = True
        return self._tables.pop(strip_quotes(name))

    def rename(self, old: str, new: str) -> Table:
        table = self.find(old)
        del self._tables[strip_quotes(old)]
        table.name = new
        self._tables[strip_quotes(new)] = table
        return table


def lay_out(model: ModelState | None, connection: BaseDatabaseWrapper) -> Layout | None:
    """None if there is no model, or none that has a table in this database."""
    if model is None:
        return None
    table = naming.table(model)
    if not _can_migrate(model, table, connection):
        return None
    layout = Layout((model.app_label, model.name_lower), table, {}, {}, set(), {})
    _add_constraints(layout, model, connection)
    field: Any
    for name, field in model.fields.items():
        if not field.many_to_many:
            named = naming.named(name, field)
            if named.column is not None and _has_type(named, connection):
                layout.fields[name] = named
        elif field.remote_field.through is None:
            layout.m2m[name] = naming.m2m_table(model, name, field)
    if model.options.get("order_with_respect_to"):
        # Zero is what Django gives to the rows that are there.
        layout.fields["_order"] = naming.named("_order", OrderWrt(default=0))
    return layout


def _has_type(field: Any, connection: BaseDatabaseWrapper) -> bool:
    """A field without one has no column, though it has a name for it."""
    if field.is_relation:
        # Its type is that of the other end, which is not at hand.
        return True
    try:
        return field.db_type(connection) is not None
    except Exception:
        # Fields of anybody, in no model.
        return True


def _add_constraints(
    layout: Layout, model: ModelState, connection: BaseDatabaseWrapper
) -> None:
    for fields in normalize_together(model.options.get("unique_together") or ()):
        layout.uniques.add(Unique(tuple(fields), nulls_distinct=True))
    for constraint in model.options.get("constraints") or ():
        if not rules.is_supported(constraint, connection):
            continue
        if rules.is_of_fields_alone(constraint):
            nulls_distinct = rules.are_nulls_distinct(constraint)
            layout.uniques.add(Unique(tuple(constraint.fields), nulls_distinct))
        else:
            layout.rules[constraint.name] = constraint


def _can_migrate(
    model: ModelState, table: str, connection: BaseDatabaseWrapper
) -> bool:
    """As Options.can_migrate() and the routers say; rendering models takes long."""
    options = model.options
    swapped_for = getattr(settings, options.get("swappable") or "", None)
    vendor = options.get("required_db_vendor")
    return (
        options.get("managed", True)
        and not options.get("proxy")
        and (swapped_for is None or naming.is_called(model, swapped_for))
        and vendor in (None, "", connection.vendor)
        and all(
            getattr(connection.features, feature, False)
            for feature in options.get("required_db_features") or ()
        )
        and _routers_allow(model, table, connection)
    )


def _routers_allow(
    model: ModelState, table: str, connection: BaseDatabaseWrapper
) -> bool:
    """They are given the model, too: as much of it as a state has."""
    if not router.routers:
        return True
    meta: Any = Options(None, model.app_label)
    meta.object_name, meta.model_name = model.name, model.name_lower
    meta.db_table = table
    meta.swappable = model.options.get("swappable")
    stand_in = type(model.name, (), {"_meta": meta, "__module__": "__fake__"})
    return router.allow_migrate(
        connection.alias, model.app_label, model_name=model.name_lower, model=stand_in
    )
