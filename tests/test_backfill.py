"""What is recorded without code is caught up, and marked as captured later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
import pytest
from django.core.management import CommandError
from django.db import DatabaseError, connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_rewind import backfill, signing, store, tables
from tests.history import History
from tests.test_recorder import names, stored


@pytest.fixture
def installed_late(history: History) -> History:
    """users was migrated before django-rewind was installed."""
    history.have("users: 0001 > 0002_b")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    return history


def test_the_next_migrate_catches_up(installed_late: History) -> None:
    installed_late.write("users.0003_c", dependencies=[("users", "0002_b")])
    output = installed_late.migrate()
    assert "Stored the code of 2 migrations applied earlier." in output
    codes = stored()
    assert {key[1]: codes[key].captured for key in codes if key[0] == "users"} == {
        "0001": "later",
        "0002_b": "later",
        "0003_c": "apply",
    }
    assert codes["users", "0001"].source_code == (
        installed_late.path("users.0001").read_text()
    )
    signing.verify(codes["users", "0001"])
    installed_late.run("verify_migrations")


@pytest.mark.parametrize("args", [("users",), ("users", "0002_b")])
def test_a_migrate_with_nothing_to_do_catches_up(
    installed_late: History, args: tuple[str, ...]
) -> None:
    output = installed_late.migrate(*args)
    assert "No migrations to apply" in output
    assert "Stored the code of 2 migrations" in output
    assert names() == {"users.0001", "users.0002_b"}
    assert "Stored" not in installed_late.migrate(*args)


def test_the_one_without_a_file_waits(installed_late: History) -> None:
    installed_late.lose("users.0002_b")
    assert "Stored the code of 1 migration" in installed_late.migrate()
    with pytest.raises(SystemExit):
        installed_late.run("verify_migrations")
    with pytest.raises(CommandError, match=r"users\.0002_b: .* never stored"):
        installed_late.migrate("users", "0001")
    installed_late.find("users.0002_b")
    assert "Stored the code of 1 migration" in installed_late.migrate()
    installed_late.run("verify_migrations")
    installed_late.lose("users.0002_b")
    installed_late.migrate("users", "0001")
    assert installed_late.recorded() == ["users.0001"]


def test_catching_up_overwrites_nothing(installed_late: History) -> None:
    installed_late.migrate("users")
    path = installed_late.path("users.0001")
    text = path.read_text()
    path.write_text(text + "EDITED = True\n")
    installed_late.migrate()
    assert stored()["users", "0001"].source_code == text


def test_an_uninstalled_app_is_no_error(installed_late: History) -> None:
    installed_late.install(INSTALLED_APPS=["django_rewind"])
    assert "Stored" not in installed_late.migrate()
    assert names() == set()


def test_what_is_not_recorded_is_not_caught_up(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "0001")
    assert names() == {"users.0001"}


def test_a_quiet_migrate_is_quiet(installed_late: History) -> None:
    assert installed_late.migrate("users", verbosity=0) == ""
    assert names() == {"users.0001", "users.0002_b"}


LOOKING: list[dict[str, Any]] = [{"plan": True}]
if django.VERSION >= (4, 0):
    # With nothing to do, Django 3.2 goes on after --check.
    LOOKING.append({"check_unapplied": True})


@pytest.mark.parametrize("options", LOOKING)
def test_looking_stores_nothing(
    installed_late: History, options: dict[str, Any]
) -> None:
    installed_late.migrate("users", **options)
    assert not tables.exist(connection)


def test_a_rollback_catches_up_too(installed_late: History) -> None:
    installed_late.migrate("users", "0001")
    assert installed_late.recorded() == ["users.0001"]
    assert names() == {"users.0001"}


def test_excluded_apps_are_not_caught_up(installed_late: History) -> None:
    with override_settings(DJANGO_REWIND_EXCLUDE_APPS=["users"]):
        assert "Stored" not in installed_late.migrate()
    assert names() == set()


def test_disabled_nothing_is_caught_up(installed_late: History) -> None:
    with override_settings(DJANGO_REWIND_ENABLED=False):
        installed_late.migrate("users")
    assert not tables.exist(connection)


def test_flush_stores_nothing(installed_late: History) -> None:
    # With a table to empty: else flush sends no post_migrate.
    apps = ["django_rewind", "users", "django.contrib.sessions"]
    installed_late.install(INSTALLED_APPS=apps)
    with override_settings(DJANGO_REWIND_ENABLED=False):
        installed_late.migrate("sessions")
    installed_late.run("flush", interactive=False)
    assert not tables.exist(connection)


@pytest.mark.parametrize("name", ["ensure", "existing"])
def test_a_failing_catch_up_is_a_warning(
    installed_late: History,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def fail(connection: Any) -> None:
        raise DatabaseError("not allowed")

    monkeypatch.setattr(tables, name, fail)
    installed_late.migrate("users")
    (record,) = {record.getMessage() for record in caplog.records}
    assert "'default'" in record
    assert "not allowed" in record


def test_nothing_to_do_costs_three_queries_at_most(installed_late: History) -> None:
    # Each app with models gets its own post_migrate.
    names = ["auth", "contenttypes", "sites", "sessions", "redirects", "flatpages"]
    apps = [*(f"django.contrib.{name}" for name in names), "users"]
    with override_settings(ROOT_URLCONF=None):
        # The hooks stay in this process, so leaving the app out is not enough.
        installed_late.install(INSTALLED_APPS=apps, DJANGO_REWIND_ENABLED=False)
        without = queries_of_nothing_to_do(installed_late)
        installed_late.install(INSTALLED_APPS=["django_rewind", *apps])
        with_it = queries_of_nothing_to_do(installed_late)
    assert len(with_it) - len(without) <= 3, "\n".join(with_it)


def queries_of_nothing_to_do(history: History) -> list[str]:
    history.migrate(skip_checks=False)
    with CaptureQueriesContext(connection) as queries:
        history.migrate(skip_checks=False)
    return [query["sql"] for query in queries]


# The command


def test_the_command_stores_and_names(installed_late: History) -> None:
    installed_late.have("users: 0001 > 0002_b; blog: 0001")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        installed_late.migrate("blog")
    output = installed_late.run("backfill_migration_code", "users", dry_run=True)
    assert output.splitlines() == [
        "Would store users.0001",
        "Would store users.0002_b",
    ]
    assert not tables.exist(connection)
    output = installed_late.run("backfill_migration_code", "users")
    assert output.splitlines() == ["Stored users.0001", "Stored users.0002_b"]
    assert names() == {"users.0001", "users.0002_b"}
    assert installed_late.run("backfill_migration_code") == "Stored blog.0001\n"
    assert {code.captured for code in stored().values()} == {"later"}
    output = installed_late.run("backfill_migration_code")
    assert output == "The code of every applied migration is stored.\n"


def test_the_command_works_on_the_database_that_is_named(
    installed_late: History,
) -> None:
    with override_settings(DJANGO_REWIND_ENABLED=False):
        installed_late.migrate("users", database="other")
    installed_late.run("backfill_migration_code", database="other")
    assert names("other") == {"users.0001", "users.0002_b"}
    assert not tables.exist(connection)


def test_the_command_names_what_has_no_file(installed_late: History) -> None:
    installed_late.lose("users.0002_b")
    output = installed_late.run("backfill_migration_code")
    assert "Stored users.0001" in output
    assert "No source here for users.0002_b" in output


def test_the_command_fails_if_storing_fails(
    installed_late: History,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(store, "save", fail)
    with pytest.raises(SystemExit) as end:
        installed_late.run("backfill_migration_code")
    assert end.value.code == 1
    assert [record.getMessage()[:22] for record in caplog.records] == [
        "The code of users.0001",
        "The code of users.0002",
    ]
    assert names() == set()


def test_only_what_can_be_read_is_a_candidate(
    installed_late: History, tmp_path: Path
) -> None:
    contents = store.contents(connection)
    assert backfill.candidates(backfill.lacking_code(contents)) == [
        ("users", "0001"),
        ("users", "0002_b"),
    ]
    installed_late.lose("users.0001")
    assert backfill.candidates(backfill.lacking_code(contents)) == [("users", "0002_b")]


def test_what_was_faked_while_it_was_excluded_is_remembered(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.install(DJANGO_REWIND_EXCLUDE_APPS=["users"])
    history.migrate("users", "0001")
    history.migrate("users", fake=True)
    history.install()
    history.migrate()
    assert store.contents(connection).faked == {("users", "0002_a")}
