from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
# Tests write one file several times in a second, and Python tells its bytecode by the
# second and the size.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
# What a shell runs in the background ignores it, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import django

django.setup()

from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import setup_test_environment

from tests.databases import VENDOR, make_empty
from tests.history import History
from tests.project import Project

setup_test_environment()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(*vendors): runs on these databases only")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out, rather than skip: a skipped test would be one that is missing."""
    chosen: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("only")
        (chosen if mark is None or VENDOR in mark.args else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = chosen


@pytest.fixture
def empty_databases() -> Iterator[None]:
    """Both aliases with nothing in them, not even django_migrations."""
    for alias in connections:
        connections[alias].close()
        make_empty(alias)
    yield
    connections.close_all()


@pytest.fixture(scope="module")
def migrated_databases() -> Iterator[None]:
    for alias in connections:
        connections[alias].close()
        make_empty(alias)
        call_command("migrate", database=alias, verbosity=0)
    yield
    connections.close_all()


@pytest.fixture
def db(migrated_databases: None) -> Iterator[None]:
    """Both aliases migrated; what the test does to them is rolled back."""
    with transaction.atomic(using="default"), transaction.atomic(using="other"):
        yield
        transaction.set_rollback(True, using="default")
        transaction.set_rollback(True, using="other")


@pytest.fixture
def history(empty_databases: None, tmp_path: Path) -> Iterator[History]:
    with History(tmp_path) as history:
        yield history


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    make_empty("project_default")
    make_empty("project_other")
    project = Project(tmp_path)
    yield project
    project.stop()
