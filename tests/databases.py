"""The databases of a test run: which ones, how to reach them, how to empty them."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# sqlite, postgresql or mysql (which is MariaDB too).
VENDOR = os.environ.get("REWIND_TEST_DATABASE", "sqlite")
# Several runs may share a server: the processes of pytest-xdist, or of a matrix.
RUN = os.environ.get("REWIND_TEST_RUN", "") + os.environ.get("PYTEST_XDIST_WORKER", "")

SERVERS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("POSTGRES_HOST", "127.0.0.1"),
        "PORT": os.environ.get("POSTGRES_PORT", "5432"),
        "USER": os.environ.get("POSTGRES_USER", "postgres"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
    },
    "mysql": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": os.environ.get("MYSQL_HOST", "127.0.0.1"),
        "PORT": os.environ.get("MYSQL_PORT", "3306"),
        "USER": os.environ.get("MYSQL_USER", "root"),
        "PASSWORD": os.environ.get("MYSQL_PASSWORD", ""),
        "OPTIONS": {"charset": "utf8mb4"},
    },
}

if VENDOR == "sqlite":
    _folder = Path(tempfile.mkdtemp(prefix="django-rewind-tests-"))
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
elif VENDOR == "mysql":
    # A pure Python driver, so that nothing has to be compiled.
    import pymysql

    pymysql.version_info = (2, 2, 1, "final", 0)
    pymysql.install_as_MySQLdb()


def settings_for(name: str) -> dict[str, Any]:
    """The entry for DATABASES; the same name gives the same database."""
    if VENDOR == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(_folder / f"{name}.sqlite3"),
        }
    return {**SERVERS[VENDOR], "NAME": f"django_rewind_{RUN}_{name}"}


def make_empty(name: str) -> None:
    """Make the database of this name, with nothing in it."""
    database = settings_for(name)["NAME"]
    if VENDOR == "sqlite":
        Path(database).unlink(missing_ok=True)
    elif VENDOR == "mysql":
        ask(f"DROP DATABASE IF EXISTS {database}")
        ask(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    elif ask(f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):
        # Much faster than a new database.
        ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database)
    else:
        ask(f"CREATE DATABASE {database}")


def ask(statement: str, database: str | None = None) -> Any:
    """The first value that the server answers, None if it answers with no row."""
    with closing(_connect(database)) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def _connect(database: str | None) -> Any:
    if VENDOR == "sqlite":
        return sqlite3.connect(database or ":memory:")
    server = SERVERS[VENDOR]
    arguments = {
        "host": server["HOST"],
        "port": int(server["PORT"]),
        "user": server["USER"],
        "password": server["PASSWORD"],
        "connect_timeout": 5,
    }
    if VENDOR == "mysql":
        return pymysql.connect(database=database, autocommit=True, **arguments)
    # Django 3.2 knows psycopg2 only.
    driver = import_module("psycopg" if find_spec("psycopg") else "psycopg2")
    connection = driver.connect(dbname=database or "postgres", **arguments)
    connection.autocommit = True
    return connection
