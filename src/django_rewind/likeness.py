"""Whether migrations do the same, whatever they are called and wherever they are.

Compares what was loaded, since names are resolved then. Whatever cannot be compared is
not the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunPython, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.options import normalize_together
from django.utils.functional import Promise

from . import naming
from .models import Key

# Of fields: what no database knows of.
NOT_IN_SCHEMA = {
    "choices",
    "editable",
    "error_messages",
    "help_text",
    "limit_choices_to",
    "related_name",
    "related_query_name",
    "validators",
    "verbose_name",
}

# Of columns: what a database knows of beside their types.
OF_COLUMNS = {"db_comment", "db_default", "db_persist", "db_tablespace", "expression"}

# The same of tables.
IN_SCHEMA = (
    "constraints",
    "db_table_comment",
    "db_tablespace",
    "indexes",
    "order_with_respect_to",
)
TOGETHER = "unique_together", "index_together"


def do_the_same(one: Migration, other: Migration) -> bool:
    """As far as operations tell: what functions do is for who has their code."""
    try:
        return bool(meaning(one.operations) == meaning(other.operations))
    except (RecursionError, TypeError, ValueError):
        return False


def as_one(migration: Migration, operations: list[Operation]) -> Migration:
    """With the name of a squashed migration, what is to be compared with it."""
    body = {"operations": operations}
    one: type[Migration] = type("Migration", (Migration,), body)
    return one(migration.name, migration.app_label)


def make_together(
    keys: Iterable[Key], squash: Migration, files: MigrationLoader, connection: Any
) -> bool | None:
    """Whether files make the schema of the squashed migration that replaced them."""
    ordered = sorted(keys, key=lambda key: len(files.graph.forwards_plan(key)))
    operations = [o for key in ordered for o in files.disk_migrations[key].operations]
    before = files.project_state(ordered[0], at_end=False)
    return make_the_same_schema(squash, as_one(squash, operations), before, connection)


def make_the_same_schema(
    one: Migration, other: Migration, before: ProjectState, connection: Any
) -> bool | None:
    """Whether both lead from one state to the same tables; None if nobody can tell.

    What RunPython does with the rows is left out.
    """
    try:
        schemas = [
            _schema_after(migration, before, connection) for migration in (one, other)
        ]
        opaque = [
            meaning(list(_opaque(migration.operations))) for migration in (one, other)
        ]
    except Exception:
        # The one may build on what is not in this state.
        return None
    if schemas[0] != schemas[1]:
        return False
    return True if opaque[0] == opaque[1] else None


def _schema_after(
    migration: Migration, before: ProjectState, connection: BaseDatabaseWrapper
) -> Any:
    """By the names that the database has, whatever the state calls it."""
    state = migration.mutate_state(before, preserve=True)
    return {
        naming.table(model): _table(model, state, connection)
        for model in state.models.values()
        if model.options.get("managed", True) and not model.options.get("proxy")
    }


def _table(
    model: ModelState, state: ProjectState, connection: BaseDatabaseWrapper
) -> Any:
    columns, m2m = {}, {}
    for name, field in model.fields.items():
        field = naming.named(name, field)
        if field.many_to_many:
            if field.remote_field.through is None:
                table = naming.m2m_table(model, name, field)
                m2m[table] = _target(field, model, state)
        else:
            columns[field.column or name] = _column(field, model, state, connection)
    options = {k: meaning(model.options[k]) for k in IN_SCHEMA if model.options.get(k)}
    together = {
        option: {
            tuple(_columns(model, names)) for names in normalize_together(declared)
        }
        for option in TOGETHER
        if (declared := model.options.get(option))
    }
    return columns, m2m, options, together


def _columns(model: ModelState, names: Iterable[str]) -> Iterator[str]:
    return (naming.named(name, model.fields[name]).column for name in names)


def _column(field: Any, model: ModelState, state: ProjectState, connection: Any) -> Any:
    if field.is_relation:
        made: Any = _target(field, model, state)
    elif field.column is None:
        # Made of others, as a CompositePrimaryKey.
        made = meaning(list(field.deconstruct())[-2:])
    else:
        # Custom classes, and the same one at another path, by what they make.
        made = field.db_parameters(connection)
    _, _, _, kwargs = field.deconstruct()
    return (
        made,
        bool(field.null),
        bool(field.primary_key),
        bool(field.unique),
        bool(field.db_index or field.unique),
        meaning({name: kwargs[name] for name in OF_COLUMNS & kwargs.keys()}),
    )


def _target(field: Any, model: ModelState, state: ProjectState) -> Any:
    """What its foreign keys refer to, and what the database does if that goes."""
    key = naming.target(field, model)
    target = state.models.get(key)
    if target is None:
        return key
    to = getattr(field.remote_field, "field_name", None) or _primary_key(target)
    # Of a ManyToManyField, its relation knows.
    owner = field if hasattr(field, "db_constraint") else field.remote_field
    # Django 6.1
    on_delete = getattr(field.remote_field, "on_delete", None)
    in_database = hasattr(on_delete, "on_delete_sql") and str(on_delete)
    return naming.table(target), to, owner.db_constraint, in_database


def _primary_key(model: ModelState) -> str:
    return next((n for n, f in model.fields.items() if f.primary_key), "id")


def _opaque(operations: Collection[Operation]) -> Iterator[Operation]:
    """What the state does not tell of."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState) or (
            not isinstance(operation, RunPython)
            and (
                not type(operation).__module__.startswith(
                    "django.db.migrations.operations"
                )
                or not hasattr(operation, "name")
            )
        ):
            yield operation


def meaning(value: Any) -> Any:
    """Equal for values that do the same. Raises ValueError where nobody can tell."""
    if isinstance(value, Mapping):
        return {str(key): meaning(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [meaning(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(meaning(item)) for item in value)
    if isinstance(value, models.Field):
        _, path, args, kwargs = value.deconstruct()
        known = {k: v for k, v in kwargs.items() if k not in NOT_IN_SCHEMA}
        return path, meaning(args), meaning(known)
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, re.Pattern):
        return value.pattern, value.flags
    if isinstance(value, partial):
        return "partial", meaning([value.func, value.args, value.keywords])
    if isinstance(value, type) or not hasattr(value, "deconstruct"):
        return _plain(value)
    # Operations, constraints, indexes, managers, validators and the like.
    return _name(type(value)), meaning(list(value.deconstruct())[-2:])


def _plain(value: Any) -> Any:
    if hasattr(value, "__qualname__"):
        # Classes and functions, which are compared apart, as code.
        return _name(value)
    if value is not None and not any(
        "__eq__" in vars(c) for c in type(value).__mro__[:-1]
    ):
        raise ValueError(f"{type(value)} cannot be compared")
    return type(value).__qualname__, value


def _name(value: Any) -> str:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name:
        raise ValueError(f"{name} has no name of its own")
    return name
