"""What a database has: its schema as two databases can be compared by, and rows."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

Key = tuple[str, str]

# The names that the tests give; others are made up, and differ.
GIVEN = ("index_", "constraint_")


def tables_of(alias: str) -> list[str]:
    """Those of the projects: neither Django's nor ours."""
    names = connections[alias].introspection.table_names()
    return sorted(name for name in names if not name.startswith("django_"))


def records_of(alias: str) -> set[Key]:
    recorder = MigrationRecorder(connections[alias])
    return {key for key in recorder.applied_migrations() if key[0] != "django_rewind"}


def schema_of(alias: str) -> dict[str, Any]:
    connection = connections[alias]
    found = {}
    with connection.cursor() as cursor:
        for table in tables_of(alias):
            columns = connection.introspection.get_table_description(cursor, table)
            constraints = connection.introspection.get_constraints(cursor, table)
            found[table] = {
                "columns": sorted(map(repr, columns)),
                "constraints": sorted(
                    f"{name if name.startswith(GIVEN) else ''}{sorted(about.items())}"
                    for name, about in constraints.items()
                ),
            }
    return found


def refers_to_nothing(alias: str) -> bool:
    """Whether a table or an index is about what is not there: SQLite does not ask."""
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return False
    with connection.cursor() as cursor:
        for table in tables_of(alias):
            found = connection.introspection.get_constraints(cursor, table)
            for name, about in found.items():
                if about["foreign_key"] and not _has_column(
                    cursor, *about["foreign_key"]
                ):
                    return True
                if about["index"] and _is_on_no_column(cursor, name):
                    return True
    return False


def _has_column(cursor: Any, table: str, column: str) -> bool:
    cursor.execute(f'PRAGMA table_info("{table}")')
    return column in [row[1] for row in cursor.fetchall()]


def _is_on_no_column(cursor: Any, index: str) -> bool:
    """Of a name that is no column, SQLite makes a constant: an expression."""
    cursor.execute(f'PRAGMA index_xinfo("{index}")')
    return any(row[1] == -2 for row in cursor.fetchall())


def forget_everything(alias: str) -> None:
    """Drop the projects' tables; the database is as after the first `migrate`."""
    connection = connections[alias]
    names = tables_of(alias)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA foreign_keys = OFF")
            for name in names:
                cursor.execute(f'DROP TABLE "{name}"')
            cursor.execute("PRAGMA foreign_keys = ON")
        elif connection.vendor == "mysql":
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
            for name in names:
                cursor.execute(f"DROP TABLE `{name}`")
            cursor.execute("SET FOREIGN_KEY_CHECKS = 1")
        elif names:
            quoted = ", ".join(f'"{name}"' for name in names)
            cursor.execute(f"DROP TABLE {quoted} CASCADE")
        cursor.execute("DELETE FROM django_migrations WHERE app <> 'django_rewind'")
        # Backwards, since some refer to others.
        for name in sorted(connection.introspection.table_names(cursor), reverse=True):
            if name.startswith("django_migrations_"):
                cursor.execute(f"DELETE FROM {name}")


class Rows:
    """Rows that fit whatever is done: unique where something may ever be unique."""

    def __init__(self) -> None:
        self.last = 0

    def insert(self, alias: str) -> None:
        """One into each table."""
        for table in tables_of(alias):
            self._insert(alias, table)

    def _insert(self, alias: str, table: str) -> None:
        connection = connections[alias]
        with connection.cursor() as cursor:
            columns = connection.introspection.get_table_description(cursor, table)
            found = connection.introspection.get_constraints(cursor, table).values()
            target_of = {
                c["columns"][0]: c["foreign_key"][0] for c in found if c["foreign_key"]
            }
            values = {}
            for column in columns:
                if column.name == "id":
                    continue
                self.last += 1
                value: Any = self.last
                if column.name in target_of:
                    target = connection.ops.quote_name(target_of[column.name])
                    cursor.execute(f"SELECT MAX(id) FROM {target}")
                    (value,) = cursor.fetchone()
                elif column.null_ok and self.last % 2:
                    value = None
                if value is None and not column.null_ok:
                    # Nothing that it could refer to.
                    return
                values[column.name] = value
            quote = connection.ops.quote_name
            if not values:
                # Of an empty row, each vendor has its own idea.
                self.last += 1
                values["id"] = self.last + 1000
            names = ", ".join(map(quote, values))
            places = ", ".join(["%s"] * len(values))
            cursor.execute(
                f"INSERT INTO {quote(table)} ({names}) VALUES ({places})",
                list(values.values()),
            )
