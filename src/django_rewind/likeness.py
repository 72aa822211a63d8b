"""Whether migrations do the same, whatever they are called and wherever they are.

Compares what was loaded, since names are resolved then. Whatever cannot be compared is
not the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunPython, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.utils.functional import Promise

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

# Of models: what a database knows of.
IN_SCHEMA = (
    "constraints",
    "db_table",
    "db_table_comment",
    "db_tablespace",
    "index_together",
    "indexes",
    "managed",
    "order_with_respect_to",
    "proxy",
    "unique_together",
)


def do_the_same(one: Migration, other: Migration) -> bool:
    """As far as operations tell: what functions do is for who has their code."""
    try:
        return bool(meaning(one.operations) == meaning(other.operations))
    except (RecursionError, TypeError, ValueError):
        return False


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
    state = migration.mutate_state(before, preserve=True)
    return {
        key: _schema(model, connection)
        for key, model in state.models.items()
        if model.options.get("managed", True) and not model.options.get("proxy")
    }


def _schema(model: ModelState, connection: BaseDatabaseWrapper) -> Any:
    options = {k: meaning(model.options[k]) for k in IN_SCHEMA if model.options.get(k)}
    fields = {name: _column(field, connection) for name, field in model.fields.items()}
    return options, fields


def _column(field: Any, connection: BaseDatabaseWrapper) -> Any:
    _, _, args, kwargs = field.deconstruct()
    known = {key: value for key, value in kwargs.items() if key not in NOT_IN_SCHEMA}
    if field.is_relation:
        return meaning([args, {k: v for k, v in known.items() if k != "default"}])
    return (
        # Custom classes, and the same one at another path, by what they make.
        field.db_type(connection),
        [bool(getattr(field, name)) for name in ("null", "unique", "primary_key")],
        meaning(
            {
                k: known[k]
                for k in ("db_column", "db_index", "db_default") & known.keys()
            }
        ),
    )


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
