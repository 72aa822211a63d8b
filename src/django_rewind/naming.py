"""What models of a state are called, and their tables."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import strip_quotes, truncate_name
from django.db.migrations.state import ModelState

from .models import Key

try:
    from django.db.migrations.utils import resolve_relation
except ImportError:
    # Django 3.2
    from django.db.migrations.operations.utils import (  # type: ignore[import-untyped, no-redef]
        resolve_relation,
    )


def named(name: str, field: Any) -> Any:
    """The field with its name and its column, which that of a state has not."""
    field = copy(field)
    field.set_attributes_from_name(name)
    return field


def target(field: Any, model: ModelState) -> Key:
    """The key of the model to which a field of `model` points."""
    return resolve(field.remote_field.model, (model.app_label, model.name_lower))


def resolve(to: Any, model: Key) -> Key:
    """The key of what a relation of `model` names: "Thing", "users.Thing", "self"."""
    key: Key = resolve_relation(to, *model)
    return key


def is_called(model: ModelState, label: str) -> bool:
    """Case matters in the label of the app alone."""
    key = resolve_relation(str(label), model.app_label)
    return bool(key == (model.app_label, model.name_lower))


def table(model: ModelState) -> str:
    """As Options.contribute_to_class() makes it; in quotes if db_table is."""
    return str(
        model.options.get("db_table")
        or _shortened(f"{model.app_label}_{model.name_lower}")
    )


def m2m_table(model: ModelState, name: str, field: Any) -> str:
    """As ManyToManyField._get_m2m_db_table() makes it; in quotes if db_table is."""
    return str(field.db_table or _shortened(f"{strip_quotes(table(model))}_{name}"))


def _shortened(name: str) -> str:
    """To what the default database allows, whichever one it is for."""
    return truncate_name(name, connections[DEFAULT_DB_ALIAS].ops.max_name_length())
