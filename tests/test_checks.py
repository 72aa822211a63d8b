"""The system checks: their ids, their exact words, and what they cost."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_rewind import hooks, signing, status, store
from django_rewind.capture import set_source
from django_rewind.checks import check_settings
from django_rewind.models import MigrationCode
from tests.history import History
from tests.project import Project

HOW = (
    "'manage.py rewind --plan' shows how. 'manage.py migrate APP NAME' goes back "
    "to the one before them."
)


def check(alias: str = "default") -> list[CheckMessage]:
    return run_checks(tags=["database"], databases=[alias])


@pytest.fixture
def ghosts(history: History) -> History:
    """Of two apps, in both databases."""
    history.have("users: 0001 > 0002_prefs > 0003_age; blog: 0001 > 0002_tags")
    history.migrate()
    history.migrate(database="other")
    history.lose("users.0002_prefs", "users.0003_age", "blog.0001", "blog.0002_tags")
    return history


def command_in(messages: list[CheckMessage]) -> list[str]:
    message = next(m.msg for m in messages if m.id == "django_rewind.W002")
    (command,) = re.findall(r"'manage\.py ([^']*)'", message)
    return shlex.split(command)


def test_ghosts_are_named_with_the_command_that_reverses_them(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_prefs > 0003_age")
    history.migrate()
    assert check() == []
    history.lose("users.0002_prefs", "users.0003_age")
    (warning,) = check()
    assert warning.id == "django_rewind.W002"
    assert warning.msg == (
        "Applied to database 'default', but their files are gone: users.0002_prefs, "
        "users.0003_age. 'manage.py rewind' reverses them from stored code."
    )
    assert warning.hint == HOW


@pytest.mark.parametrize("alias", ["default", "other"])
def test_the_command_works(ghosts: History, alias: str) -> None:
    untouched = "other" if alias == "default" else "default"
    before = ghosts.recorded(alias=untouched)
    command = command_in(check(alias))
    assert command == ["rewind", *([] if alias == "default" else ["--database", alias])]
    ghosts.run(*command, "--noinput")
    assert check(alias) == []
    assert ghosts.recorded(alias=alias) == ["users.0001"]
    assert ghosts.recorded(alias=untouched) == before


def test_the_command_works_for_apps_that_are_not_installed(history: History) -> None:
    history.have("users: 0001; shop: 0001 > 0002_a(users.0001); bill: 0001(shop.0001)")
    history.migrate()
    history.install(INSTALLED_APPS=["django_rewind", "users"])
    (warning,) = check()
    assert "shop.0001, " in warning.msg
    history.run(*command_in([warning]), "--noinput")
    assert check() == []
    assert history.recorded() == ["users.0001"]
    assert "shop_thing" not in history.tables()


def test_many_ghosts_make_one_line(history: History) -> None:
    names = [f"{number:04}_{number}" for number in range(1, 15)]
    history.have(f"users: {' > '.join(names)}")
    history.migrate()
    history.lose(*(f"users.{name}" for name in names))
    (warning,) = check()
    assert "users.0010_10, and 4 more. 'manage.py" in warning.msg


def test_a_ghost_that_was_never_stored_is_named_in_the_hint(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    MigrationCode.objects.get(migration_name="0002_prefs").delete()
    history.lose("users.0002_prefs")
    messages = check()
    assert [m.id for m in messages] == ["django_rewind.W002", "django_rewind.W003"]
    assert messages[0].hint == (
        f"{HOW} These can only be reversed with the code that has their files: "
        "users.0002_prefs."
    )
    with pytest.raises(CommandError, match="Nothing was changed"):
        history.run(*command_in(messages), "--noinput")


def test_what_is_not_stored_is_named(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    MigrationCode.objects.filter(app_label="users").delete()
    (warning,) = check()
    assert warning.id == "django_rewind.W003"
    assert warning.msg == (
        "Applied to database 'default', but their code is not stored: "
        "users.0001, users.0002_prefs."
    )
    assert warning.hint == (
        "'manage.py migrate' stores it where the file is there. Check out the code "
        "that has the other files and run it there too."
    )
    history.migrate()
    assert check() == []


def test_a_table_of_the_older_release_is_reported(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    for column in ["gap", "replaces", "signature"]:
        history.sql(f"ALTER TABLE django_migrations_code DROP COLUMN {column}")
    (warning,) = check()
    assert warning.id == "django_rewind.W004"
    assert warning.msg == (
        "The table django_migrations_code in database 'default' was made by an older "
        "release of django-rewind."
    )
    assert warning.hint == "Run 'manage.py migrate django_rewind' to upgrade it."
    history.migrate("django_rewind")
    assert check() == []


def test_a_database_that_was_never_migrated_is_no_matter(history: History) -> None:
    history.have("users: 0001")
    assert check() == []
    assert check("other") == []


def test_no_database_is_looked_at_unless_it_is_asked_for(ghosts: History) -> None:
    with CaptureQueriesContext(connections["default"]) as queries:
        assert run_checks(tags=["database"], databases=[]) == []
    assert len(queries) == 0


def test_a_table_that_cannot_be_read_is_reported(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001")
    history.migrate()
    monkeypatch.setattr(store, "RECORDED", "SELECT nothing FROM django_migrations")
    (warning,) = check()
    assert warning.id == "django_rewind.W005"
    assert warning.msg.startswith(
        "What is stored in database 'default' cannot be read: "
    )
    assert warning.hint == (
        "Grant the rights to read and write django_migrations_code."
    )


def test_a_setting_of_the_wrong_kind_is_an_error(ghosts: History) -> None:
    with override_settings(DJANGO_REWIND_EXCLUDE_APPS="users"):
        (error,) = check_settings(None)
        # It says so once.
        assert check() == []
        with override_settings(DJANGO_REWIND_ENABLED=False):
            assert check_settings(None) == []
    assert check_settings(None) == []
    assert error.id == "django_rewind.E001"
    assert error.msg == "DJANGO_REWIND_EXCLUDE_APPS is 'users'."
    assert error.hint == "Set it to a list of labels of apps."


def test_without_databases_there_is_nothing_to_check(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ImproperlyConfigured("settings.DATABASES is improperly configured.")

    monkeypatch.setattr(status, "read", refuse)
    assert check() == []


def test_nothing_is_checked_when_disabled(ghosts: History) -> None:
    ghosts.install(DJANGO_REWIND_ENABLED=False)
    with CaptureQueriesContext(connections["default"]) as queries:
        assert check() == []
    assert len(queries) == 0


def test_check_and_migrate_print_the_warnings(project: Project) -> None:
    project.have("users: 0001 > 0002_prefs")
    project.manage("migrate")
    project.path("users.0002_prefs").unlink()
    for args in [("check", "--database=default"), ("migrate",)]:
        shown = project.manage(*args).stderr
        assert "(django_rewind.W002)" in shown
        assert "'manage.py rewind' reverses them from stored code." in shown
    assert "W002" not in project.manage("check").stderr
    assert "W002" not in project.manage("check", "--database=other").stderr
    strict = project.manage(
        "check", "--database=default", "--fail-level=WARNING", fails=True
    )
    assert "W002" in strict.stderr


MIGRATE = """
from django.core.management.base import BaseCommand
from django.core.management.commands.migrate import Command as Stock

class Command(Stock):
    help = "Of another app."
    # Django 5.2 looks for it.
    autodetector = getattr(Stock, "autodetector", None)
"""


def test_a_migrate_that_hides_ours_is_reported(project: Project) -> None:
    project.have("users: 0001; noisy: 0001")
    commands = project.folder / "noisy" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands.parent / "__init__.py").touch()
    (commands / "__init__.py").touch()
    (commands / "migrate.py").write_text(MIGRATE)
    assert "W001" not in project.manage("check").stderr
    project.apps.remove("noisy")
    project.apps.insert(0, "noisy")
    project.configure()
    shown = project.manage("check").stderr
    assert (
        "?: (django_rewind.W001) The migrate command of 'noisy' hides that of "
        "django_rewind: --from-file and --from-stored are missing. Migrations whose "
        "files are gone are reversed all the same.\n"
        "\tHINT: Put 'django_rewind' before 'noisy' in INSTALLED_APPS.\n"
    ) in shown
    (commands / "migrate.py").write_text(MIGRATE.replace("(Stock)", "(BaseCommand)"))
    assert (
        "hides that of django_rewind: it does not extend Django's, and reverses "
        "migrations whose files are gone only if it runs that.\n"
    ) in project.manage("check").stderr
    project.configure("DJANGO_REWIND_ENABLED = False\n")
    assert "W001" not in project.manage("check").stderr


# What a migrate with nothing to do costs


# A project has these, and their checks cannot run without them.
AUTH = ["django.contrib.contenttypes", "django.contrib.auth"]


def install(history: History, **settings: Any) -> None:
    apps = [*AUTH, "django_rewind", *history.labels]
    history.install(INSTALLED_APPS=apps, **settings)


def count_queries(history: History, **settings: Any) -> int:
    install(history, **settings)
    if not settings.get("DJANGO_REWIND_ENABLED", True):
        hooks.uninstall()
    try:
        with CaptureQueriesContext(connections["default"]) as queries:
            assert "No migrations to apply" in history.migrate(skip_checks=False)
    finally:
        hooks.install()
    return len(queries)


def have_stored(count: int, *, recorded: bool) -> None:
    names = [f"{number:04}_stored" for number in range(2, count + 2)]
    rows = [MigrationCode(app_label="users", migration_name=name) for name in names]
    for row in rows:
        set_source(row, "from django.db import migrations\n")
        signing.sign(row)
    MigrationCode.objects.bulk_create(rows)
    if recorded:
        records = MigrationRecorder.Migration
        records.objects.bulk_create(records(app="users", name=name) for name in names)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("stored", [0, 300])
def test_nothing_to_do_costs_at_most_3_queries_more(
    history: History, stored: int, recorded: bool
) -> None:
    history.have("users: 0001; blog: 0001")
    install(history)
    history.migrate()
    have_stored(stored, recorded=recorded)
    without = count_queries(history, DJANGO_REWIND_ENABLED=False)
    assert 0 < without <= count_queries(history) <= without + 3


def test_nothing_to_do_costs_no_more_with_code_that_is_not_stored(
    history: History,
) -> None:
    history.have("users: 0001")
    install(history)
    history.migrate()
    without = count_queries(history, DJANGO_REWIND_ENABLED=False)
    MigrationRecorder.Migration.objects.create(app="users", name="0009_gone")
    assert count_queries(history) <= without + 3
