"""Constraints, and what in the database would violate those with conditions."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    BooleanField,
    CheckConstraint,
    Count,
    ExpressionWrapper,
    Model,
    Q,
    QuerySet,
    UniqueConstraint,
)
from django.db.models.expressions import OrderBy

Constraint = Any


def is_supported(constraint: Constraint, connection: BaseDatabaseWrapper) -> bool:
    """Whether it is in the database, and there is a query that knows it."""
    features: Any = connection.features
    if not isinstance(constraint, (CheckConstraint, UniqueConstraint)):
        return False
    if isinstance(constraint, CheckConstraint):
        return bool(features.supports_table_check_constraints)
    needed = {
        "supports_partial_indexes": constraint.condition,
        "supports_deferrable_unique_constraints": constraint.deferrable,
        "supports_covering_indexes": vars(constraint)["include"],
        "supports_expression_indexes": _expressions(constraint),
        "supports_nulls_distinct_unique_constraints": vars(constraint).get(
            "nulls_distinct"
        )
        is not None,
    }
    return all(getattr(features, name) for name, is_used in needed.items() if is_used)


def is_of_fields_alone(constraint: Constraint) -> bool:
    return isinstance(constraint, UniqueConstraint) and not (
        constraint.condition or _expressions(constraint)
    )


def are_nulls_distinct(constraint: UniqueConstraint) -> bool:
    # Django 5.0
    return vars(constraint).get("nulls_distinct") is not False


def violations(
    constraint: Constraint, model: type[Model], connection: BaseDatabaseWrapper
) -> tuple[QuerySet[Any], str]:
    """One row for each row, or for each value that is repeated; and the SQL.

    Raises whatever expressions, fields and lookups of a project may raise, and
    EmptyResultSet if nothing can violate it.
    """
    # Not a manager of the model, which may hide rows.
    rows: Any = QuerySet(model=model, using=connection.alias).order_by()
    found: QuerySet[Any]
    if isinstance(constraint, CheckConstraint):
        # Its name before and since Django 5.1.
        check: Any = vars(constraint).get("check") or vars(constraint)["condition"]
        # Not the negation, which would count what is neither true nor false.
        holds = ExpressionWrapper(check, output_field=BooleanField())
        found = rows.annotate(rewind_holds=holds).filter(rewind_holds=False)
    else:
        found = _repeated(rows.filter(constraint.condition or Q()), constraint)
    sql, _ = found.query.get_compiler(using=connection.alias).as_sql()
    return found, str(sql)


def _repeated(rows: Any, constraint: Any) -> QuerySet[Any]:
    names = list(constraint.fields)
    for number, expression in enumerate(_expressions(constraint)):
        if isinstance(expression, OrderBy):
            expression = expression.expression
        names.append(f"rewind_{number}")
        rows = rows.annotate(**{names[-1]: expression})
    if are_nulls_distinct(constraint):
        rows = rows.filter(**{f"{name}__isnull": False for name in names})
    repeated: QuerySet[Any] = (
        rows.values(*names).annotate(rewind_count=Count("*")).filter(rewind_count__gt=1)
    )
    return repeated


def _expressions(constraint: Any) -> tuple[Any, ...]:
    # Django 4.0
    return tuple(getattr(constraint, "expressions", ()))
