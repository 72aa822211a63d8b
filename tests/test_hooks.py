"""What install() changes in Django, and that uninstall() restores it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.management.base import BaseCommand
from django.core.management.commands import migrate
from django.db import connections
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.backends.sqlite3.schema import DatabaseSchemaEditor
from django.db.migrations import executor
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate

from django_rewind import hooks
from django_rewind.loader import SeesGhosts
from django_rewind.recorder import StoresCode
from tests.history import History
from tests.project import Project

pure = pytest.mark.only("sqlite")


def hooked() -> tuple[Any, ...]:
    # Then it is reached.
    migrate.Command()
    return (
        vars(executor)["MigrationLoader"],
        vars(executor)["MigrationRecorder"],
        vars(DatabaseSchemaEditor)["_remake_table"],
        sum(receiver[0][0] == "django_rewind" for receiver in post_migrate.receivers),
        *(
            vars(MigrationExecutor)[name]
            for name in (
                "migrate",
                "apply_migration",
                "unapply_migration",
                "detect_soft_applied",
                "migration_plan",
            )
        ),
        vars(BaseCommand)["check_migrations"],
        vars(BaseDatabaseCreation)["create_test_db"],
        vars(BaseDatabaseCreation)["clone_test_db"],
        vars(BaseCommand)["__init__"],
        vars(migrate.Command)["handle"],
    )


@pytest.fixture
def uninstalled() -> Iterator[None]:
    hooks.uninstall()
    yield
    hooks.uninstall()
    hooks.install()


@pure
def test_uninstall_restores_django(uninstalled: None) -> None:
    loader, recorder, remake_table, receivers, *methods = hooked()
    assert loader is MigrationLoader
    assert recorder is MigrationRecorder
    assert remake_table.__module__ == "django.db.backends.sqlite3.schema"
    assert not hasattr(remake_table, "__wrapped__")
    assert receivers == 0
    for method in methods:
        assert method.__module__.startswith("django.")
        assert not hasattr(method, "__wrapped__")


@pure
def test_install_changes_all_of_it(uninstalled: None) -> None:
    django_itself = hooked()
    hooks.install()
    installed = hooked()
    assert issubclass(installed[0], (SeesGhosts, MigrationLoader))
    assert issubclass(installed[1], (StoresCode, MigrationRecorder))
    assert installed[2].__wrapped__ is django_itself[2]
    assert installed[3] == 1
    for number in range(4, len(installed)):
        assert inspect.unwrap(installed[number]) is django_itself[number]


@pure
def test_install_and_uninstall_are_idempotent(uninstalled: None) -> None:
    django_itself = hooked()
    for _ in range(2):
        hooks.install()
        installed = hooked()
        hooks.install()
        assert hooked() == installed
        hooks.uninstall()
        hooks.uninstall()
        assert hooked() == django_itself


@pure
def test_only_the_names_in_the_executor_are_rebound() -> None:
    from django.db.migrations import loader, recorder

    assert loader.MigrationLoader is MigrationLoader
    assert recorder.MigrationRecorder is MigrationRecorder
    assert not issubclass(MigrationLoader, SeesGhosts)


def test_an_executor_that_was_imported_before_is_reached(
    uninstalled: None, history: History
) -> None:
    history.have("users: 0001")
    hooks.uninstall()
    before = MigrationExecutor(connections["default"])
    assert type(before.loader) is MigrationLoader
    hooks.install()
    runner = MigrationExecutor(connections["default"])
    assert isinstance(runner.loader, SeesGhosts)
    runner.migrate([("users", "0001")])
    assert history.sql(
        "SELECT COUNT(*) FROM django_migrations_code WHERE app_label = 'users'"
    ) in [[(1,)], ((1,),)]


class TheirLoader(MigrationLoader):
    def load_disk(self) -> None:
        super().load_disk()
        self.is_theirs = True


class TheirRecorder(MigrationRecorder):
    applied: list[str] = []

    def record_applied(self, app: str, name: str) -> None:
        super().record_applied(app, name)
        self.applied.append(f"{app}.{name}")


def test_the_classes_of_another_package_are_extended(
    uninstalled: None, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_prefs")
    hooks.uninstall()
    monkeypatch.setattr(executor, "MigrationLoader", TheirLoader)
    monkeypatch.setattr(executor, "MigrationRecorder", TheirRecorder)
    monkeypatch.setattr(TheirRecorder, "applied", [])
    hooks.install()
    runner: Any = MigrationExecutor(connections["default"])
    assert runner.loader.is_theirs
    assert type(runner.loader).__name__ == "TheirLoader"
    history.migrate()
    assert TheirRecorder.applied[-2:] == ["users.0001", "users.0002_prefs"]
    history.lose("users.0002_prefs")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]
    hooks.uninstall()
    assert hooked()[:2] == (TheirLoader, TheirRecorder)


@pure
def test_importing_the_package_does_nothing() -> None:
    code = "import django_rewind, sys; sys.exit('django' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


LATE = ["capture", "closure", "importer", "rehearsal", "rewind", "standins"]


@pure
def test_what_few_runs_need_is_imported_late() -> None:
    code = (
        "import django, sys; django.setup(); "
        "from django_rewind.management.commands import migrate; "
        f"print(*[n for n in {LATE} if f'django_rewind.{{n}}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "\n"


def test_djangos_migrate_is_imported_when_it_is_used(project: Project) -> None:
    """Other apps may change what it imports, in their ready() after ours."""
    project.have("users: 0001")
    code = "import sys; print('django.core.management.commands.migrate' in sys.modules)"
    assert project.manage("shell", "-c", code).stdout.split()[-1] == "False"


def test_an_app_that_is_not_installed_changes_no_migrate(history: History) -> None:
    """As where a test overrides INSTALLED_APPS."""
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    history.lose("users.0002_prefs")
    history.install(INSTALLED_APPS=history.labels)
    assert "No migrations to apply" in history.migrate("users", "0001")
    MigrationExecutor(connections["default"]).migrate([("users", None)])
    assert history.recorded() == ["users.0002_prefs"]


UNTOUCHED = """
import pkgutil
from importlib import import_module

import django_rewind
from django.core.management.commands import migrate
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.backends.sqlite3.schema import DatabaseSchemaEditor
from django.db.migrations import executor, loader, recorder
from django.db.models.signals import post_migrate

for found in pkgutil.walk_packages(django_rewind.__path__, "django_rewind."):
    if found.name == "django_rewind.admin":
        continue  # Only the admin imports it.
    import_module(found.name)
assert executor.MigrationLoader is loader.MigrationLoader
assert executor.MigrationRecorder is recorder.MigrationRecorder
assert not hasattr(DatabaseSchemaEditor._remake_table, "__wrapped__")
migrate.Command()
assert "django_rewind" not in migrate.Command.handle.__code__.co_filename
assert "django_rewind" not in migrate.Command.__init__.__code__.co_filename
assert not any(r[0][0] == "django_rewind" for r in post_migrate.receivers)
print("untouched")
"""


def test_disabled_it_leaves_django_untouched(project: Project) -> None:
    project.have("users: 0001 > 0002_prefs", "DJANGO_REWIND_ENABLED = False\n")
    assert "untouched" in project.manage("shell", "-c", UNTOUCHED).stdout
    project.manage("migrate")
    assert project.stored() == []
    project.path("users.0002_prefs").unlink()
    assert project.applied() == ["users.0001"]
    stock = project.manage("migrate", "users", "0001").stdout
    assert "No migrations to apply" in stock
    sqlmigrate = project.manage("sqlmigrate", "users", "0002_prefs", fails=True)
    assert "Cannot find a migration matching '0002_prefs'" in sqlmigrate.stderr


def test_enabled_again_it_catches_up(project: Project) -> None:
    project.have("users: 0001", "DJANGO_REWIND_ENABLED = False\n")
    project.manage("migrate")
    project.configure()
    done = project.manage("migrate").stdout
    assert "Stored the code of" in done
    assert [row["captured"] for row in project.stored()] == ["later"]


@pure
def test_djangos_migrate_knows_one_app_more_for_a_while() -> None:
    def get_app_config(label: str) -> Any:
        return vars(migrate)["apps"].get_app_config(label)

    with hooks.knowing_app("gone"):
        assert get_app_config("gone").label == "gone"
        assert get_app_config("auth") is apps.get_app_config("auth")
        assert list(vars(migrate)["apps"].get_app_configs()) == list(
            apps.get_app_configs()
        )
        for lookup in (get_app_config, apps.get_app_config):
            with pytest.raises(LookupError):
                lookup("nothing")
        with pytest.raises(LookupError):
            apps.get_app_config("gone")
    assert vars(migrate)["apps"] is apps
    with hooks.knowing_app("auth"):
        assert get_app_config("auth") is apps.get_app_config("auth")


@pure
def test_create_test_db_is_still_django_s() -> None:
    """A frame of ours would be what its warnings name."""
    creation: Any = connections["default"].creation
    assert (
        creation.create_test_db.__func__.__module__ == BaseDatabaseCreation.__module__
    )
    assert BaseDatabaseCreation.create_test_db is creation.create_test_db.__func__
    del creation._create_test_db
