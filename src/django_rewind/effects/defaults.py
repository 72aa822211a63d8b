"""Which value Django gives to rows that have none, as far as a field tells."""

from __future__ import annotations

from typing import Any

from django.db.models import NOT_PROVIDED, Value

# None, the same for all rows, or nobody knows.
NULL = "null"
CONSTANT = "constant"
UNKNOWN = "unknown"


def value_for_new_column(field: Any) -> str:
    """What Django gives the rows that are there, see _effective_default()."""
    if field.primary_key or getattr(field, "generated", False):
        return UNKNOWN
    if (known := _declared_default(field)) is not None:
        return known
    return CONSTANT if _is_filled_by_kind(field) else NULL


def value_for_nulls(field: Any, vendor: str) -> str:
    """Other than SQLite's, _alter_field() updates only if there is a real default."""
    if (known := _declared_default(field)) is not None:
        return known
    return CONSTANT if vendor == "sqlite" and _is_filled_by_kind(field) else NULL


def _declared_default(field: Any) -> str | None:
    # Django 5.0
    db_default = getattr(field, "db_default", NOT_PROVIDED)
    if db_default is not NOT_PROVIDED:
        is_expression = hasattr(db_default, "resolve_expression")
        is_constant = isinstance(db_default, Value) or not is_expression
        return CONSTANT if is_constant else UNKNOWN
    if field.has_default():
        return NULL if field.default is None else CONSTANT
    return None


def _is_filled_by_kind(field: Any) -> bool:
    if not field.null and field.blank and field.empty_strings_allowed:
        return True
    return bool(
        getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
    )
