"""`migrate` with its options, and beside the `migrate` of other apps."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.management import CommandError, call_command
from django.core.management.commands.migrate import Command as Stock
from django.db import connections
from django.db.models.signals import pre_migrate

from django_rewind import status
from django_rewind.exceptions import StoreUnreadable, TableOutdated
from django_rewind.history import of as history_of
from django_rewind.models import MigrationCode
from tests.history import History
from tests.project import Project

EVERYTHING = ["users.0001", "users.0002_prefs", "users.0003_age"]


@pytest.fixture
def ghosts(history: History) -> History:
    """users.0002_prefs and 0003_age are ghosts."""
    history.have("users: 0001 > 0002_prefs > 0003_age")
    history.migrate()
    history.lose("users.0002_prefs", "users.0003_age")
    return history


def lines_with(word: str, output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if word in line]


def exit_code(history: History, *args: str) -> int:
    try:
        history.migrate(*args)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def stored(label: str = "users") -> list[str]:
    rows = MigrationCode.objects.filter(app_label=label).order_by("migration_name")
    return list(rows.values_list("migration_name", flat=True))


# --plan and --check


def test_the_plan_marks_what_comes_from_stored_code(ghosts: History) -> None:
    output = ghosts.migrate("users", "zero", "--plan")
    named = [line for line in output.splitlines() if line.startswith("users.")]
    assert named == [
        "users.0003_age (stored code)",
        "users.0002_prefs (stored code)",
        "users.0001",
    ]
    assert "Undo Add field prefs to thing" in output
    assert ghosts.recorded() == EVERYTHING
    assert "prefs" in ghosts.columns("users_thing")


def test_the_mark_is_in_the_plan_only(ghosts: History) -> None:
    output = ghosts.migrate("users", "0001")
    assert "(stored code)" not in output
    assert lines_with("Unapplying", output) == [
        "Unapplying users.0003_age... OK",
        "Unapplying users.0002_prefs... OK",
    ]


def test_the_plan_shows_what_is_irreversible(history: History) -> None:
    history.have("users: 0001")
    history.write(
        "users.0002_sql", 'migrations.RunSQL("SELECT 1"),', [("users", "0001")]
    )
    history.migrate()
    history.lose("users.0002_sql")
    output = history.migrate("users", "0001", "--plan")
    assert "users.0002_sql (stored code)" in output
    assert "IRREVERSIBLE" in output
    with pytest.raises(CommandError, match="is irreversible"):
        history.migrate("users", "0001")


def test_check_tells_whether_there_is_something_to_do(ghosts: History) -> None:
    assert exit_code(ghosts, "--check") == 0
    assert exit_code(ghosts, "users", "--check") == 0
    assert exit_code(ghosts, "users", "0003_age", "--check") == 0
    assert exit_code(ghosts, "users", "0001", "--check") == 1
    assert ghosts.recorded() == EVERYTHING
    ghosts.migrate("users", "0001")
    assert exit_code(ghosts, "users", "0001", "--check") == 0


def test_check_refuses_what_cannot_be_reversed(ghosts: History) -> None:
    MigrationCode.objects.get(migration_name="0002_prefs").delete()
    with pytest.raises(CommandError, match=r"users\.0002_prefs: it is recorded"):
        ghosts.migrate("users", "0001", "--check")


# Targets


def test_a_ghost_can_be_the_target(ghosts: History) -> None:
    ghosts.migrate("users", "0002_prefs")
    assert ghosts.recorded() == EVERYTHING[:2]
    assert ghosts.columns("users_thing") == ["id", "name", "prefs"]


def test_zero_reverses_files_and_ghosts(ghosts: History) -> None:
    ghosts.migrate("users", "zero")
    assert ghosts.recorded() == []
    assert "users_thing" not in ghosts.tables()


def test_what_was_reversed_can_be_applied_again(ghosts: History) -> None:
    ghosts.migrate("users", "0001")
    ghosts.find("users.0002_prefs", "users.0003_age")
    ghosts.migrate()
    assert ghosts.recorded() == EVERYTHING
    assert ghosts.columns("users_thing") == ["id", "name", "prefs", "age"]


def test_nothing_after_the_target_means_nothing_to_do(ghosts: History) -> None:
    assert "No migrations to apply" in ghosts.migrate("users", "0003_age")
    assert ghosts.recorded() == EVERYTHING


# --fake


def test_fake_only_unrecords(ghosts: History) -> None:
    output = ghosts.migrate("users", "0001", "--fake")
    assert lines_with("Unapplying", output) == [
        "Unapplying users.0003_age... FAKED",
        "Unapplying users.0002_prefs... FAKED",
    ]
    assert ghosts.recorded() == ["users.0001"]
    assert ghosts.columns("users_thing") == ["id", "name", "prefs", "age"]
    assert stored() == ["0001", "0002_prefs", "0003_age"]


@pytest.mark.parametrize("lacking", ["0002_prefs", "0003_age"])
def test_fake_unrecords_a_ghost_that_was_never_stored(
    ghosts: History, lacking: str
) -> None:
    MigrationCode.objects.get(migration_name=lacking).delete()
    ghosts.migrate("users", "0002_prefs", "--fake")
    assert ghosts.recorded() == EVERYTHING[:2]
    ghosts.migrate("users", "0001", "--fake")
    assert ghosts.recorded() == ["users.0001"]


def test_fake_unrecords_an_altered_and_an_irreversible_ghost(
    ghosts: History,
) -> None:
    MigrationCode.objects.filter(migration_name="0002_prefs").update(source_code="x")
    with pytest.raises(CommandError, match="was altered"):
        ghosts.migrate("users", "0001")
    ghosts.migrate("users", "0001", "--fake")
    assert ghosts.recorded() == ["users.0001"]


# --prune, since Django 4.1

if django.VERSION >= (4, 1):

    def test_prune_forgets_the_records_of_ghosts(ghosts: History) -> None:
        output = ghosts.migrate("users", "--prune")
        assert lines_with("users.", output) == [
            "Pruning users.0002_prefs OK",
            "Pruning users.0003_age OK",
        ]
        assert ghosts.recorded() == ["users.0001"]
        assert ghosts.columns("users_thing") == ["id", "name", "prefs", "age"]
        assert stored() == ["0001", "0002_prefs", "0003_age"]
        assert "No migrations to prune." in ghosts.migrate("users", "--prune")

    def test_prune_of_one_app_leaves_the_ghosts_of_others(ghosts: History) -> None:
        ghosts.have("blog: 0001")
        ghosts.migrate()
        assert "No migrations to prune." in ghosts.migrate("blog", "--prune")
        assert ghosts.recorded("users") == EVERYTHING

    def test_prune_does_not_care_what_is_stored(ghosts: History) -> None:
        MigrationCode.objects.get(migration_name="0002_prefs").delete()
        MigrationCode.objects.filter(migration_name="0003_age").update(source_code="x")
        ghosts.migrate("users", "--prune")
        assert ghosts.recorded() == ["users.0001"]

    def test_prune_with_a_target_sees_no_ghosts(ghosts: History) -> None:
        ghosts.migrate("users", "0001", "--prune")
        assert ghosts.recorded() == ["users.0001"]
        assert ghosts.columns("users_thing") == ["id", "name", "prefs", "age"]


# --database and -v


def test_only_the_database_that_is_named_is_touched(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    for alias in ["default", "other"]:
        history.migrate(database=alias)
    history.lose("users.0002_prefs")
    history.migrate("users", "0001", "--database=other")
    assert history.recorded(alias="other") == ["users.0001"]
    assert history.columns("users_thing", alias="other") == ["id", "name"]
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
    assert history.columns("users_thing") == ["id", "name", "prefs"]


def test_the_code_in_another_database_is_not_used(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    for alias in ["default", "other"]:
        history.migrate(database=alias)
    MigrationCode.objects.using("other").get(migration_name="0002_prefs").delete()
    history.lose("users.0002_prefs")
    with pytest.raises(CommandError, match="its code was never stored"):
        history.migrate("users", "0001", database="other")
    history.migrate("users", "0001")


def test_silence_is_kept(ghosts: History) -> None:
    assert ghosts.migrate("users", "0001", verbosity=0) == ""
    assert ghosts.recorded() == ["users.0001"]


@pytest.mark.parametrize("verbosity", [1, 2, 3])
def test_it_says_what_it_loads_and_what_it_unapplies(
    ghosts: History, verbosity: int
) -> None:
    output = ghosts.migrate("users", "0001", verbosity=verbosity)
    assert lines_with("Loading", output) == [
        "Loading stored migrations:",
        "Loading users.0003_age from stored code... OK",
        "Loading users.0002_prefs from stored code... OK",
    ]
    unapplied = lines_with("Unapplying", output)
    assert [line.partition("...")[0] for line in unapplied] == [
        "Unapplying users.0003_age",
        "Unapplying users.0002_prefs",
    ]
    assert output.index("Loading") < output.index("Unapplying")


def test_without_stored_code_nothing_is_said_of_it(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    assert "stored" not in history.migrate("users", "0001")


# Squashed twice


def test_a_ghost_may_depend_on_what_was_squashed_twice(history: History) -> None:
    history.have("users: 0001 > 0002_a; blog: 0001 > 0002_b(users.0001)")
    history.migrate()
    history.lose("blog.0002_b")
    for name, replaced in [
        ("0003_first", ["0001", "0002_a"]),
        ("0004_second", ["0003_first"]),
    ]:
        path = history.write(f"users.{name}")
        text = path.read_text()
        keys = [("users", other) for other in replaced]
        replaces = f"    replaces = {keys!r}\n    dependencies"
        path.write_text(text.replace("    dependencies", replaces, 1))
        history.migrate()
        history.lose(*(f"users.{other}" for other in replaced))
        path.write_text(text)
    history.migrate("blog", "0001")
    assert history.recorded("blog") == ["blog.0001"]
    assert history.columns("blog_thing") == ["id", "name"]


# Beside the migrate of another app

LOUD = """\
from django.core.management.commands.migrate import Command as Stock


class Command(Stock):
    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--loud", action="store_true")

    def handle(self, *args, **options):
        self.stdout.write("LOUD!" if options["loud"] else "loud")
        return super().handle(*args, **options)
"""


@pytest.fixture
def loud(project: Project) -> Project:
    """An app with its own migrate, and users.0002_prefs, which is a ghost."""
    project.have("users: 0001 > 0002_prefs; loud: 0001")
    commands = project.folder / "loud" / "management" / "commands"
    commands.mkdir(parents=True)
    (commands.parent / "__init__.py").touch()
    (commands / "__init__.py").touch()
    (commands / "migrate.py").write_text(LOUD)
    project.manage("migrate")
    project.path("users.0002_prefs").unlink()
    return project


def be_first(project: Project, app: str) -> None:
    project.apps.remove(app)
    project.apps.insert(0, app)
    project.configure()


def test_a_command_that_has_only_the_name_in_common_is_left_alone(
    project: Project,
) -> None:
    project.have("users: 0001", 'INSTALLED_APPS.append("other")\n')
    folder = project.folder / "other" / "management" / "commands"
    folder.mkdir(parents=True)
    for package in (folder.parent.parent, folder.parent, folder):
        (package / "__init__.py").touch()
    (folder / "migrate.py").write_text(OF_ITS_OWN)
    assert project.manage("migrate", "--everywhere").stdout == "True\n"


OF_ITS_OWN = """\
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--everywhere", action="store_true")

    def handle(self, **options):
        self.stdout.write(str(options["everywhere"]))
"""


@pytest.mark.parametrize("fault", ["unreadable", "outdated"])
def test_a_forward_run_to_a_name_needs_nothing_stored(
    history: History, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "0001")

    def refuse(connection: Any, **options: Any) -> Any:
        if fault == "outdated":
            raise TableOutdated("default")
        raise StoreUnreadable("default", OSError("no"))

    monkeypatch.setattr(status, "read", refuse)
    history.migrate("users", "0002_b", skip_checks=True)
    assert history.recorded() == ["users.0001", "users.0002_b"]
    with pytest.raises(CommandError):
        history.migrate("users", "0001", skip_checks=True)


def test_the_migrate_of_an_app_after_us_is_extended(loud: Project) -> None:
    output = loud.manage("migrate", "users", "0001", "--loud").stdout
    assert "LOUD!" in output
    assert "Unapplying users.0002_prefs... OK" in output
    assert loud.applied() == ["loud.0001", "users.0001"]


def test_the_migrate_of_an_app_before_us_reverses_ghosts_too(loud: Project) -> None:
    be_first(loud, "loud")
    output = loud.manage("migrate", "users", "0001")
    assert "loud" in output.stdout
    assert "Loading users.0002_prefs from stored code... OK" in output.stdout
    assert "Unapplying users.0002_prefs... OK" in output.stdout
    assert "(django_rewind.W001)" in output.stderr
    assert loud.applied() == ["loud.0001", "users.0001"]


def test_the_migrate_of_an_app_before_us_may_extend_ours(loud: Project) -> None:
    path = loud.folder / "loud" / "management" / "commands" / "migrate.py"
    path.write_text(LOUD.replace("django.core.", "django_rewind."))
    be_first(loud, "loud")
    output = loud.manage("migrate", "users", "0001")
    assert "loud" in output.stdout
    assert "Unapplying users.0002_prefs... OK" in output.stdout
    assert "W001" not in output.stderr


# Whoever runs Django's own command


def run_stock(history: History, *args: str, **options: Any) -> str:
    out = StringIO()
    history.forget_modules()
    call_command(Stock(), *args, stdout=out, stderr=out, **options)
    return out.getvalue()


def test_djangos_own_command_reverses_ghosts_too(ghosts: History) -> None:
    output = run_stock(ghosts, "users", "0001")
    assert lines_with("Unapplying", output) == [
        "Unapplying users.0003_age... OK",
        "Unapplying users.0002_prefs... OK",
    ]
    assert ghosts.columns("users_thing") == ["id", "name"]
    run_stock(ghosts, "users", "zero")
    assert ghosts.recorded() == []


def test_djangos_own_command_reverses_nothing_under_a_ghost(ghosts: History) -> None:
    MigrationCode.objects.get(migration_name="0002_prefs").delete()
    with pytest.raises(CommandError, match=r"users\.0002_prefs: it is recorded"):
        run_stock(ghosts, "users", "zero")
    assert ghosts.recorded() == EVERYTHING


class ForEachDatabase(Stock):
    def handle(self, *args: Any, **options: Any) -> None:
        for alias in ("default", "other"):
            super().handle(*args, **{**options, "database": alias})


def test_each_run_of_djangos_handle_is_a_rollback_of_its_own(ghosts: History) -> None:
    ghosts.find("users.0002_prefs", "users.0003_age")
    ghosts.migrate("users", "0002_prefs", database="other")
    ghosts.lose("users.0002_prefs", "users.0003_age")
    out = StringIO()
    call_command(ForEachDatabase(), "users", "0001", stdout=out, no_color=True)
    assert lines_with("Unapplying", out.getvalue()) == [
        "Unapplying users.0003_age... OK",
        "Unapplying users.0002_prefs... OK",
        "Unapplying users.0002_prefs... OK",
    ]
    assert ghosts.recorded() == ghosts.recorded(alias="other") == ["users.0001"]


def test_a_migrate_inside_a_rollback_sees_no_ghost_of_it(ghosts: History) -> None:
    """As of the schema of a tenant, under the same alias."""
    seen = []

    def migrate_too(**kwargs: Any) -> None:
        pre_migrate.disconnect(migrate_too)
        assert history_of(connections["default"]) is not None
        pre_migrate.connect(note)
        run_stock(ghosts, verbosity=0, skip_checks=True)

    def note(**kwargs: Any) -> None:
        pre_migrate.disconnect(note)
        seen.append(history_of(connections["default"]))

    pre_migrate.connect(migrate_too)
    ghosts.migrate("users", "0001")
    assert seen == [None]
    assert ghosts.recorded() == ["users.0001"]


# As that of django-tenants, which has the tenants in schemas.
TENANTS = """\
from django.conf import settings
from django.core.management.base import BaseCommand
from django.core.management.commands.migrate import Command as Stock
from django.utils.module_loading import import_string


class MigrateTenants(BaseCommand):
    # Django 3.2 has an option of its own instead.
    requires_system_checks = Stock.requires_system_checks
    # Django 5.2 looks for it.
    autodetector = getattr(Stock, "autodetector", None)

    def add_arguments(self, parser):
        Stock.add_arguments(self, parser)

    def handle(self, *args, **options):
        base = getattr(settings, "BASE_MIGRATE", None)
        for alias in ("default", "other"):
            self.stdout.write(f"Tenant {alias}")
            command = import_string(base) if base else Stock
            options["database"] = alias
            command(stdout=self.stdout._out).execute(*args, **options)


Command = MigrateTenants
"""


@pytest.mark.parametrize("base", ["", "django_rewind.management.commands.migrate"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_migrate_of_tenants_reverses_the_ghosts_of_each(
    loud: Project, order: str, base: str
) -> None:
    commands = loud.folder / "loud" / "management" / "commands"
    (commands / "migrate.py").write_text(TENANTS)
    (commands / "migrate_tenants.py").write_text(
        "from loud.management.commands.migrate import Command"
    )
    loud.manage("migrate", "--database=default")
    setting = f"BASE_MIGRATE = '{base}.Command'\n" if base else ""
    if order == "before":
        loud.apps.remove("loud")
        loud.apps.insert(0, "loud")
    loud.configure(setting)
    output = loud.manage("migrate_tenants", "users", "0001").stdout
    assert lines_with("Tenant", output) == ["Tenant default", "Tenant other"]
    assert lines_with("Unapplying", output) == ["Unapplying users.0002_prefs... OK"]
    output = loud.manage("migrate", "users", "zero").stdout
    assert lines_with("Tenant", output) == ["Tenant default", "Tenant other"]
    assert len(lines_with("Unapplying users.0001... OK", output)) == 2
    assert loud.applied() == ["loud.0001"]


def test_rewind_needs_nothing_of_a_migrate_of_tenants(loud: Project) -> None:
    path = loud.folder / "loud" / "management" / "commands" / "migrate.py"
    path.write_text(TENANTS)
    be_first(loud, "loud")
    output = loud.manage("rewind", "--noinput").stdout
    assert "Unapplying users.0002_prefs... OK" in output


# Tracebacks

FAILING = """\
from django.db import migrations


def backwards(apps, schema_editor):
    raise ValueError("it fails")  # in stored code


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(migrations.RunPython.noop, backwards)]
"""


def test_the_traceback_of_a_ghost_shows_the_line_that_failed(
    project: Project,
) -> None:
    project.have("users: 0001 > 0002_prefs")
    path: Path = project.path("users.0002_prefs")
    path.write_text(FAILING)
    project.manage("migrate")
    path.unlink()
    failed = project.manage("migrate", "users", "0001", fails=True)
    assert failed.returncode == 1
    assert 'raise ValueError("it fails")  # in stored code' in failed.stderr
    assert "stored code of users.0002_prefs" in failed.stderr
    assert failed.stderr.count("Traceback (most recent call last)") == 1
    assert project.applied() == ["users.0001", "users.0002_prefs"]


def test_what_a_forward_run_raises_reaches_whoever_waits_for_it(
    project: Project,
) -> None:
    project.have("users: 0001")
    project.path("users.0002_prefs").write_text(
        FAILING.replace("migrations.RunPython.noop, ", "")
    )
    manage = project.folder / "manage.py"
    call = "execute_from_command_line(sys.argv)"
    before, _, _ = manage.read_text().partition(call)
    wrapper = f"try:\n    {call}\nexcept ValueError:\n    sys.exit('seen outside')\n"
    manage.write_text(before + wrapper)
    failed = project.manage("migrate", fails=True)
    assert failed.stderr == "seen outside\n"


def test_a_refusal_has_no_traceback(project: Project) -> None:
    project.have("users: 0001 > 0002_prefs")
    path = project.path("users.0002_prefs")
    path.write_text(FAILING.replace(", backwards)", ")"))
    project.manage("migrate")
    path.unlink()
    refused = project.manage("migrate", "users", "0001", fails=True)
    assert refused.returncode == 1
    assert "CommandError: Cannot go back to users.0001. Nothing was changed." in (
        refused.stderr
    )
    assert "users.0002_prefs: its operation" in refused.stderr
    assert "Traceback" not in refused.stderr
