"""Coming into a project, and leaving it."""

from __future__ import annotations

import pytest

from tests.project import Project

UNINSTALLED = 'INSTALLED_APPS.remove("django_rewind")\n'


@pytest.mark.parametrize("field", ["AutoField", "BigAutoField", "SmallAutoField"])
def test_our_migrations_are_complete_whatever_the_auto_field(
    project: Project, field: str
) -> None:
    project.configure(f'DEFAULT_AUTO_FIELD = "django.db.models.{field}"\n')
    done = project.manage("makemigrations", "--check", "--dry-run", "django_rewind")
    assert "No changes detected" in done.stdout


def test_it_is_installed_into_a_project_and_catches_up(project: Project) -> None:
    project.have("users: 0001 > 0002_prefs", UNINSTALLED)
    project.manage("migrate")
    project.configure()
    assert "Stored the code of 2 migrations" in project.manage("migrate").stdout
    assert {row["captured"] for row in project.stored()} == {"later"}
    project.path("users.0002_prefs").unlink()
    project.manage("migrate", "users", "0001")
    assert project.applied() == ["users.0001"]


def test_a_project_that_removes_the_app_works_with_django_alone(
    project: Project,
) -> None:
    project.have("users: 0001 > 0002_prefs")
    project.manage("migrate")
    project.have("users: 0001 > 0002_prefs > 0003_age", UNINSTALLED)
    project.manage("check", "--database", "default")
    project.manage("migrate")
    project.manage("migrate", "users", "0001")
    project.manage("flush", "--no-input")
    project.manage(
        "makemigrations", "--check", "--dry-run", "django_rewind", fails=True
    )
    done = project.manage("showmigrations", "users").stdout
    lines = [line.strip() for line in done.splitlines()]
    assert lines == ["users", "[X] 0001", "[ ] 0002_prefs", "[ ] 0003_age"]
    project.manage("migrate")
    # And back: what ran meanwhile is caught up.
    project.configure()
    project.manage("migrate")
    project.manage("verify_migrations")


def test_disabled_it_is_as_if_it_were_not_there(project: Project) -> None:
    disabled = "DJANGO_REWIND_ENABLED = False\n"
    project.have("users: 0001 > 0002_prefs", disabled)
    probe = (
        "from django.db import connection\n"
        "from django.db.migrations import executor, loader, recorder\n"
        "runner = executor.MigrationExecutor(connection)\n"
        "print(type(runner.loader) is loader.MigrationLoader,"
        " type(runner.recorder) is recorder.MigrationRecorder)\n"
    )
    assert project.manage("shell", "-c", probe).stdout.split()[-2:] == ["True"] * 2
    project.manage("migrate", "users")
    tables = "print('code' in str(connection.introspection.table_names()))\n"
    assert "False" in project.manage("shell", "-c", probe + tables).stdout
    project.path("users.0002_prefs").unlink()
    assert "No migrations to apply" in project.manage("migrate", "users", "0001").stdout
    project.configure()
    assert project.manage("shell", "-c", probe).stdout.split()[-2:] == ["False"] * 2
