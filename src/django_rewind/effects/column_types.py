"""What a column of another type does to its values, on each database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

TEXT = re.compile(r"(?:var)?char\((\d+)\)|text|longtext|citext|varchar")
DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+), ?(\d+)\)")


class Misfit(NamedTuple):
    """Values that the type does not hold as they are."""

    # With {} in the place of the column; None: nobody can count them.
    condition: str | None
    things: tuple[str, str]
    # Else they are cut, rounded or converted.
    fails: bool
    remedy: str = ""
    # The same, for an expression that fails where a value does not fit.
    trial: str | None = None


def type_of(field: Any, connection: BaseDatabaseWrapper) -> str | None:
    """None if only a rendered model knows it, as for a foreign key."""
    if field.is_relation:
        return None
    try:
        return field.db_type(connection) or None
    except Exception:
        # A field of a project, which is part of no model here.
        return None


def misfits(field: Any, old: Any, connection: BaseDatabaseWrapper) -> Iterator[Misfit]:
    """What of a column that is as `old` says does not fit `field`."""
    is_sqlite = connection.vendor == "sqlite"
    new_type, old_type = type_of(field, connection), type_of(old, connection)
    if new_type is None or old_type is None:
        return
    ranges: Any = connection.ops.integer_field_ranges
    new_kind, old_kind = field.get_internal_type(), old.get_internal_type()
    if new_kind in ranges and old_kind in ranges:
        yield from _integers(ranges[new_kind], ranges[old_kind], connection)
    elif new_type == old_type:
        return
    elif (new := TEXT.fullmatch(new_type)) and (was := TEXT.fullmatch(old_type)):
        if new[1] and (not was[1] or int(new[1]) < int(was[1])) and not is_sqlite:
            yield Misfit(
                f"CHAR_LENGTH(RTRIM({{}})) > {new[1]}",
                ("value is longer", "values are longer"),
                is_strict(connection) and not _is_cast(field, old, connection),
                "Shorten them first.",
            )
    elif (new := DECIMAL.fullmatch(new_type)) and (was := DECIMAL.fullmatch(old_type)):
        yield from _decimals(new, was, connection)
    elif not (is_sqlite and new_type == "decimal"):
        yield Misfit(None, ("", ""), fails=False)
        if connection.vendor == "postgresql":
            yield Misfit(
                None,
                ("value or more cannot be cast", ""),
                fails=True,
                remedy="Change them first.",
                # As Django alters it.
                trial=f"{{}}::{new_type}",
            )


def _integers(
    new: tuple[int, int], old: tuple[int, int], connection: BaseDatabaseWrapper
) -> Iterator[Misfit]:
    conditions = []
    if new[0] > old[0] and (connection.vendor != "sqlite" or new[0] == 0):
        # SQLite checks for nothing but this.
        conditions.append(f"{{}} < {new[0]}")
    if new[1] < old[1] and connection.vendor != "sqlite":
        conditions.append(f"{{}} > {new[1]}")
    if conditions:
        things = "value is out of its range", "values are out of its range"
        fails = is_strict(connection)
        yield Misfit(" OR ".join(conditions), things, fails, "Change them first.")


def _decimals(
    new: re.Match[str], old: re.Match[str], connection: BaseDatabaseWrapper
) -> Iterator[Misfit]:
    (digits, places), (old_digits, old_places) = (
        map(int, match.groups()) for match in (new, old)
    )
    if digits - places < old_digits - old_places:
        yield Misfit(
            f"ABS(ROUND({{}}, {places})) >= 1{'0' * (digits - places)}",
            ("value is out of its range", "values are out of its range"),
            is_strict(connection),
            "Change them first.",
        )
    if places < old_places:
        things = "value has more decimal places", "values have more decimal places"
        yield Misfit(f"{{}} <> ROUND({{}}, {places})", things, fails=False)


def is_strict(connection: BaseDatabaseWrapper) -> bool:
    """Does it refuse what does not fit? MySQL can be told to make it fit."""
    if connection.vendor != "mysql":
        return True
    mysql: Any = connection
    return bool({"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"} & mysql.sql_mode)


def _is_cast(field: Any, old: Any, connection: BaseDatabaseWrapper) -> bool:
    """Django adds USING column::type, and PostgreSQL then cuts what is longer."""
    if connection.vendor != "postgresql":
        return False
    editor: Any = connection.SchemaEditorClass(connection, collect_sql=True)
    return bool(editor._field_data_type(field) != editor._field_data_type(old))
