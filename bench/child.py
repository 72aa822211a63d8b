"""Runs inside the benched project: `python child.py ACTION`."""

from __future__ import annotations

import sys
from typing import Any

import django
from django.core.management import execute_from_command_line
from django.db import connection


def create_database() -> None:
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.settings_dict['NAME']}")


def drop_database() -> None:
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {connection.settings_dict['NAME']}")


def count_queries() -> None:
    queries = 0

    def count(execute: Any, *args: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*args)

    with connection.execute_wrapper(count):
        execute_from_command_line(["manage.py", "migrate", "--verbosity", "0"])
    print(queries)


def check_needed() -> None:
    """Fail unless the other code was stored, as the bench claims."""
    from django_rewind.models import MigrationCode

    rows = MigrationCode._default_manager.exclude(closure="{}")
    if rows.count() != 50:
        sys.exit(f"{rows.count()} migrations were stored with the code that they need.")


def store_more() -> None:
    """Stored and not recorded, as branches leave it that were rolled back."""
    from django_rewind.models import MigrationCode

    for number, code in enumerate(MigrationCode._default_manager.all()):
        MigrationCode._default_manager.bulk_create(
            MigrationCode(
                **{**_values(code), "migration_name": f"{number:04}_b{branch}"}
            )
            for branch in range(25)
        )


def _values(code: Any) -> dict[str, Any]:
    return {f.name: getattr(code, f.name) for f in code._meta.fields if f.name != "id"}


if __name__ == "__main__":
    django.setup()
    globals()[sys.argv[1]]()
