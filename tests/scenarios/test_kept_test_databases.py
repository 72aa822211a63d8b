"""`manage.py test --keepdb`, after another branch was tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.project import Project

PARALLEL = ("--parallel=2",)
CLONES = ("", "_1", "_2")

# Two classes, so that two processes have something to do.
TESTS = """\
from django.db import connection
from django.test import TestCase


class First(TestCase):
    def test_columns(self):
        with connection.cursor() as cursor:
            found = connection.introspection.get_table_description(
                cursor, "users_thing"
            )
        columns = sorted(column.name for column in found)
        assert columns == {columns!r}, columns


class Second(First):
    pass
"""


@pytest.fixture
def kept(project: Project) -> Iterator[Project]:
    """A file on SQLite too, where it is in memory if nothing is said."""
    forget()
    project.have("users: 0001", settings())
    expect(project, "id", "name")
    project.commit("main")
    project.branch("feature")
    project.have("users: 0001 > 0002_prefs", settings())
    expect(project, "id", "name", "prefs")
    project.commit("feature")
    yield project
    forget()


def names() -> list[str]:
    name = databases.settings_for("project_default")["NAME"]
    if databases.VENDOR == "sqlite":
        stem = name[: -len(".sqlite3")]
        return [f"{stem}_kept{clone}.sqlite3" for clone in CLONES]
    return [f"{name}_kept{clone}" for clone in CLONES]


def settings(extra: str = "") -> str:
    return f'DATABASES["default"]["TEST"] = {{"NAME": {names()[0]!r}}}\n{extra}'


def forget() -> None:
    if databases.VENDOR == "sqlite":
        # Django 3.2 puts one dot more into the names of clones.
        kept = Path(names()[0])
        for path in kept.parent.glob(f"{kept.stem}*"):
            path.unlink()
        return
    for name in names():
        databases.ask(f"DROP DATABASE IF EXISTS {name}")


def expect(project: Project, *columns: str) -> None:
    text = TESTS.format(columns=list(columns))
    (project.folder / "users" / "tests.py").write_text(text)


def run_tests(project: Project, *options: str, fails: bool = False) -> str:
    done = project.manage("test", "--keepdb", *options, "users", fails=fails)
    return done.stdout + done.stderr


def test_what_another_branch_left_is_rewound(kept: Project) -> None:
    assert "Rewound" not in run_tests(kept)
    kept.switch("main")
    line = "Rewound in the test database for alias 'default': users.0002_prefs.\n"
    said = run_tests(kept)
    assert said.count(line) == 1
    assert said.index("Using existing test database") < said.index(line)
    assert "Rewound" not in run_tests(kept)
    kept.switch("feature")
    assert "Rewound" not in run_tests(kept)
    kept.switch("main")
    assert "Rewound" not in run_tests(kept, "--verbosity=0")


def test_a_database_that_is_no_test_database_is_left_alone(kept: Project) -> None:
    """Of a role that may not create one, TEST["NAME"] may be that of the real one."""
    kept.manage("migrate")
    kept.switch("main")
    name = 'DATABASES["default"]["TEST"]["NAME"] = DATABASES["default"]["NAME"]\n'
    kept.configure(settings(name))
    assert "Rewound" not in run_tests(kept, fails=True)
    assert "users.0002_prefs" in kept.applied()


def test_only_the_test_database_is_rewound(kept: Project) -> None:
    kept.manage("migrate")
    run_tests(kept)
    kept.switch("main")
    assert "Rewound" in run_tests(kept)
    kept.switch("feature")
    assert kept.applied() == ["users.0001", "users.0002_prefs"]


def test_a_name_that_means_something_else_on_this_branch(kept: Project) -> None:
    run_tests(kept)
    kept.switch("main")
    kept.branch("other")
    path = kept.folder / "users" / "migrations" / "0002_prefs.py"
    kept.have("users: 0001 > 0002_prefs", settings())
    path.write_text(path.read_text().replace('"prefs"', '"taste"'))
    expect(kept, "id", "name", "taste")
    assert "users.0002_prefs" in run_tests(kept)


def test_what_cannot_be_rewound_is_reported_with_the_fix(kept: Project) -> None:
    path = kept.path("users.0002_prefs")
    path.write_text(
        path.read_text().replace(
            "operations = [", "operations = [migrations.RunSQL('SELECT 1'),"
        )
    )
    kept.commit("irreversible")
    run_tests(kept)
    kept.switch("main")
    said = run_tests(kept, fails=True)
    assert (
        "The kept test database for alias 'default' is not that of this checkout: "
        "Cannot rewind all ghosts. Nothing was changed.\n  users.0002_prefs: "
    ) in said
    assert "Make it anew: run them once without --keepdb" in said
    # As it says.
    kept.manage("test", "--noinput", "users")
    run_tests(kept)


def test_an_edit_that_cannot_be_rewound_is_reported_with_the_fix(
    kept: Project,
) -> None:
    path = kept.path("users.0002_prefs")
    text = "operations = [migrations.RunSQL('SELECT 1'),"
    path.write_text(path.read_text().replace("operations = [", text))
    run_tests(kept)
    path.write_text(path.read_text().replace('"prefs"', '"taste"'))
    said = run_tests(kept)
    assert (
        "is not that of this checkout: users.0002_prefs was edited after it was applied"
    ) in said
    assert "Make it anew: run them once without --keepdb" in said


@pytest.mark.parametrize("extra", ["", "DJANGO_REWIND_AUTO = True\n"])
def test_what_cannot_be_rewound_does_not_stop_the_tests(
    kept: Project, extra: str
) -> None:
    path = kept.path("users.0002_prefs")
    text = "operations = [migrations.RunSQL('SELECT 1'),"
    path.write_text(path.read_text().replace("operations = [", text))
    kept.commit("irreversible")
    run_tests(kept)
    kept.switch("main")
    kept.have("users: 0001", settings(extra))
    expect(kept, "id", "name", "prefs")
    said = run_tests(kept)
    assert "is not that of this checkout" in said
    assert "Ran 2 tests" in said


def test_kept_clones_follow(kept: Project) -> None:
    run_tests(kept, *PARALLEL)
    kept.switch("main")
    assert "Rewound" in run_tests(kept, *PARALLEL)


def test_clones_follow_though_the_database_was_rewound_before(kept: Project) -> None:
    run_tests(kept, *PARALLEL)
    kept.switch("main")
    run_tests(kept)
    again = run_tests(kept, *PARALLEL)
    assert again.count("Cloning test database") == 2
    assert run_tests(kept, *PARALLEL).count("Using existing clone") == 2


def test_clones_follow_to_a_branch_with_more(kept: Project) -> None:
    for branch in ("main", "feature", "main", "feature"):
        kept.switch(branch)
        run_tests(kept, *PARALLEL)


def test_clones_follow_a_name_that_means_something_else(kept: Project) -> None:
    run_tests(kept, *PARALLEL)
    path = kept.path("users.0002_prefs")
    path.write_text(path.read_text().replace('"prefs"', '"taste"'))
    expect(kept, "id", "name", "taste")
    run_tests(kept, *PARALLEL)


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(
    "extra",
    [
        "DJANGO_REWIND_ENABLED = False\n",
        'DATABASES["default"]["TEST"]["MIGRATE"] = False\n',
        'MIGRATION_MODULES = {"users": None}\n',
    ],
)
def test_where_nothing_is_to_be_rewound(kept: Project, extra: str) -> None:
    run_tests(kept)
    kept.switch("main")
    expect(kept, "id", "name", "prefs")
    kept.configure(settings(extra))
    assert "Rewound" not in run_tests(kept)


@pytest.mark.only("sqlite")
def test_a_database_that_is_not_kept_is_djangos(kept: Project) -> None:
    run_tests(kept)
    kept.switch("main")
    done = kept.manage("test", "--noinput", "users")
    assert "Rewound" not in done.stdout + done.stderr
