"""Our tables stand beside django_migrations: made, upgraded and dropped there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps.registry import Apps
from django.core.management import CommandError
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.migrations import executor
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.utils import timezone

from django_rewind import signing, source, store, tables
from django_rewind.checks import check_databases
from django_rewind.exceptions import TableOutdated, TablesNotMade
from django_rewind.models import StoredCode
from tests.history import History

OURS = {
    "django_migrations_code",
    "django_migrations_code_earlier",
    "django_migrations_code_needed",
    "django_migrations_journal",
}


class OldMigrationCode(models.Model):  # noqa: DJ008
    """The table of django-rewind 0.1.0."""

    id = models.BigAutoField(primary_key=True)
    app_label = models.CharField(max_length=100, db_index=True)
    migration_name = models.CharField(max_length=255, db_index=True)
    source_code = models.TextField()
    stored_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        apps = Apps()
        app_label = "django_rewind"
        db_table = "django_migrations_code"
        unique_together = [("app_label", "migration_name")]
        indexes = [
            models.Index(
                fields=["app_label", "migration_name"],
                name="django_migr_app_lab_d98bd3_idx",
            ),
            models.Index(fields=["stored_at"], name="django_migr_stored__87212c_idx"),
        ]


@pytest.fixture
def old(history: History) -> History:
    """Made by 0.1.0, which stored users; users.0002_prefs is a ghost since."""
    history.have("users: 0001 > 0002_prefs")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    with connection.schema_editor() as editor:
        editor.create_model(OldMigrationCode)
    MigrationRecorder(connection).migration_qs.create(
        app="django_rewind", name="0001_initial"
    )
    for name in ["0001", "0002_prefs"]:
        OldMigrationCode(
            app_label="users",
            migration_name=name,
            source_code=history.path(f"users.{name}").read_text(),
        ).save(using="default", force_insert=True)
    history.lose("users.0002_prefs")
    return history


def columns(history: History) -> set[str]:
    return set(history.columns("django_migrations_code"))


def schema(history: History) -> list[tuple[str, Any]]:
    """Columns, indexes and constraints, without the names that Django makes up."""
    with connection.cursor() as cursor:
        introspection = connection.introspection
        found = introspection.get_constraints(cursor, "django_migrations_code")
        described = introspection.get_table_description(
            cursor, "django_migrations_code"
        )
    return sorted(
        [(name, "") for name in found if name.startswith("django_migr_")]
        + [
            ("", str((c["columns"], c["primary_key"], c["unique"], c["index"])))
            for c in found.values()
        ]
        + [(c.name, str((c.type_code, c.null_ok))) for c in described]
    )


def test_both_are_made_once(history: History) -> None:
    history.have("users: 0001")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    assert not tables.exist(connection)
    tables.ensure(connection)
    tables.ensure(connection)
    assert tables.existing(connection) == OURS
    assert tables.missing_columns(connection) == []
    assert not tables.existing(connections["other"])


def test_the_recorder_and_the_migrations_make_the_same(history: History) -> None:
    history.have("users: 0001")
    history.migrate("users")
    by_recorder = schema(history)
    history.migrate()
    history.migrate("django_rewind", "zero")
    assert not history.tables() & OURS
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate()
    assert schema(history) == by_recorder


def test_a_fresh_table_is_that_of_0_1_0_with_more_columns(history: History) -> None:
    history.have("users: 0001")
    history.migrate("users")
    ours = set(schema(history))
    tables.drop(connection)
    with connection.schema_editor() as editor:
        editor.create_model(OldMigrationCode)
    assert set(schema(history)) <= ours


@pytest.mark.only("mysql")
@pytest.mark.parametrize("charset", ["utf8mb4 COLLATE utf8mb4_unicode_ci", "latin1"])
def test_the_default_collation_may_have_changed_since_django_made_its_table(
    history: History, charset: str
) -> None:
    history.have("users: 0001 > 0002_b")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    history.sql(f"ALTER DATABASE CHARACTER SET {charset}")
    history.migrate()
    history.run("verify_migrations")
    history.lose("users.0002_b")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]


def test_another_process_may_be_faster(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001")
    history.migrate("users")
    existing = tables.existing
    answers: Iterator[set[str]] = iter([set()])
    monkeypatch.setattr(
        tables, "existing", lambda c: next(answers, None) or existing(c)
    )
    tables.ensure(connection)
    assert existing(connection) == OURS


def test_a_failure_to_make_them_is_raised(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "existing", lambda connection: set())
    history.have("users: 0001")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    history.sql("CREATE TABLE django_migrations_code (id integer)")
    with pytest.raises(TablesNotMade, match="already exists"):
        tables.ensure(connection)


# django-rewind 0.1.0


@pytest.mark.parametrize(
    "command",
    ["verify_migrations", "show_stored_migrations", "backfill_migration_code"],
)
def test_before_the_upgrade_each_command_says_what_to_do(
    old: History, command: str
) -> None:
    with pytest.raises(CommandError, match=r"Run 'manage\.py migrate django_rewind'"):
        old.run(command)


def test_before_the_upgrade_a_rollback_says_what_to_do(old: History) -> None:
    with pytest.raises(CommandError, match=r"Run 'manage\.py migrate django_rewind'"):
        old.migrate("users", "0001")
    assert old.recorded() == ["users.0001", "users.0002_prefs"]
    with pytest.raises(TableOutdated):
        store.contents(connection)


def test_before_the_upgrade_a_forward_migrate_works(old: History) -> None:
    assert "No migrations to apply" in old.migrate("users")
    old.write("users.0002_other", dependencies=[("users", "0001")])
    assert "Applying users.0002_other... OK" in old.migrate("users")
    assert ("users", "0002_other") in store.contents(connection).stored


def test_the_upgrade_adds_what_0_1_0_did_not_have(old: History) -> None:
    before = columns(old)
    assert before == {
        "id",
        "app_label",
        "migration_name",
        "source_code",
        "stored_at",
    }
    old.migrate()
    assert tables.missing_columns(connection) == []
    assert tables.existing(connection) == OURS
    upgraded = schema(old)
    tables.drop(connection)
    tables.ensure(connection)
    assert schema(old) == upgraded


def test_the_upgrade_completes_and_signs_the_rows(old: History) -> None:
    rows = {
        row.migration_name: row
        for row in OldMigrationCode._default_manager.using("default")
    }
    old.migrate()
    for name, row in rows.items():
        code = store.fetch(connection, [("users", name)])["users", name]
        assert code.source_code == row.source_code
        assert code.stored_at == row.stored_at
        assert code.pk == row.pk
        assert code.captured == "later"
        assert code.module_name == f"users.migrations.{name}"
        assert code.digest == source.digest(row.source_code)
        assert code.size == len(row.source_code)
        signing.verify(code)
    old.run("verify_migrations")


def test_a_ghost_that_0_1_0_stored_is_reversed(old: History) -> None:
    old.migrate()
    old.migrate("users", "0001")
    assert old.recorded() == ["users.0001"]
    assert old.columns("users_thing") == ["id", "name"]


def test_a_column_that_the_ghost_added_outlives_the_upgrade(old: History) -> None:
    old.sql("INSERT INTO users_thing (name, prefs) VALUES ('Ann', 7)")
    old.migrate()
    assert old.sql("SELECT name, prefs FROM users_thing")[0] == ("Ann", 7)


def test_the_upgrade_goes_on_where_somebody_added_an_index(old: History) -> None:
    """So that SQLite remakes the table, and asks what ghosts did to it."""
    old.sql("CREATE INDEX by_date ON django_migrations_code (stored_at, app_label)")
    old.migrate()
    old.run("verify_migrations")
    old.migrate("users", "0001")
    assert old.columns("users_thing") == ["id", "name"]


def test_rows_are_signed_once_only(old: History) -> None:
    old.migrate()
    sql = "UPDATE django_migrations_code SET signature = '' WHERE migration_name = %s"
    old.sql(sql, ["0002_prefs"])
    old.migrate()
    with pytest.raises(CommandError, match="not signed"):
        old.migrate("users", "0001")
    # Not either by going through our own migrations again.
    old.migrate("django_rewind", "0001")
    old.migrate()
    with pytest.raises(CommandError, match="not signed"):
        old.migrate("users", "0001")


def test_code_is_not_signed_because_its_signature_went(old: History) -> None:
    # Whoever may write a table may often alter it, too.
    old.migrate()
    old.sql("UPDATE django_migrations_code SET source_code = 'raise SystemExit'")
    old.sql("ALTER TABLE django_migrations_code DROP COLUMN signature")
    old.write("users.0003", "", [("users", "0001")])
    old.migrate()
    with pytest.raises(CommandError, match="not signed"):
        old.migrate("users", "0001")


def test_the_upgrade_says_how_many_it_signed(
    old: History, caplog: pytest.LogCaptureFixture
) -> None:
    old.migrate()
    (message,) = caplog.messages
    assert message.endswith("The code of 2 migrations was signed as it was found.")
    old.migrate()
    assert len(caplog.messages) == 1


def test_without_a_key_the_upgrade_signs_nothing(
    old: History, caplog: pytest.LogCaptureFixture
) -> None:
    old.write("users.0003", "", [("users", "0001")])
    with override_settings(SECRET_KEY=""):
        old.migrate()
    assert old.recorded("users") == ["users.0001", "users.0002_prefs", "users.0003"]
    assert "was not signed: no SECRET_KEY." in caplog.messages[0]
    with pytest.raises(CommandError, match="not signed"):
        old.migrate("users", "0001")


@pytest.mark.parametrize(
    "command",
    [
        ("migrate", "users", "0003"),
        ("showmigrations",),
        ("sqlmigrate", "users", "0003"),
    ],
)
def test_what_goes_forward_does_not_need_the_upgrade(
    old: History, command: tuple[str, ...]
) -> None:
    old.write("users.0003", "", [("users", "0001")])
    old.run(*command)
    assert ("users.0003" in old.recorded()) == (command[0] == "migrate")


@pytest.mark.only("sqlite")
def test_nobody_is_told_to_delete_rows_for_a_column_that_is_missing(
    old: History,
) -> None:
    old.migrate()
    old.sql("ALTER TABLE django_migrations_code DROP COLUMN signature")
    with pytest.raises(CommandError, match=r"Run 'manage\.py migrate django_rewind'"):
        old.run("verify_migrations")


def test_rows_of_an_uninstalled_app_are_signed_too(old: History) -> None:
    OldMigrationCode(
        app_label="gone",
        migration_name="0001",
        source_code="class Migration: pass",
        stored_at=timezone.now(),
    ).save(using="default", force_insert=True)
    old.migrate()
    code = store.fetch(connection, [("gone", "0001")])["gone", "0001"]
    assert code.module_name == ""
    signing.verify(code)


def test_without_rights_to_make_the_tables_migrations_go_on(
    history: History,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*args: Any) -> None:
        raise DatabaseError("not allowed")

    monkeypatch.setattr(tables, "_create", refuse)
    history.have("users: 0001")
    history.migrate(skip_checks=True)
    assert history.recorded() == ["users.0001"]
    assert "could not be made or upgraded: not allowed" in caplog.text


@pytest.mark.only("postgresql", "sqlite")
def test_an_upgrade_that_fails_changes_nothing_and_can_be_repeated(
    old: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(code: StoredCode) -> None:
        raise DatabaseError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(signing, "sign", fail)
        with pytest.raises(CommandError, match="lost"):
            old.migrate()
    old.migrate()
    old.migrate("users", "0001")
    assert old.recorded() == ["users.0001"]


# Rights


@pytest.fixture
def without_rights(history: History) -> Iterator[History]:
    """Connected as one who may write the tables of the project, and make none."""
    history.have("users: 0001")
    history.write(
        "users.0002_b", 'migrations.RunSQL("SELECT 1", "SELECT 2")', [("users", "0001")]
    )
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users", "0001")
    # Rights to the tables that there are go, those to a new public schema too.
    role = f"rewind_{connection.settings_dict['NAME']}"
    history.sql(f"DROP ROLE IF EXISTS {role}")
    history.sql(f"CREATE ROLE {role}")
    history.sql(f"GRANT USAGE ON SCHEMA public TO {role}")
    history.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    history.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    history.sql(f"SET ROLE {role}")
    yield history
    history.sql("RESET ROLE")
    history.sql(f"DROP OWNED BY {role}")
    history.sql(f"DROP ROLE {role}")


@pytest.mark.only("postgresql")
def test_without_the_right_to_make_tables_a_migrate_goes_on(
    without_rights: History, caplog: pytest.LogCaptureFixture
) -> None:
    history = without_rights
    output = history.migrate("users")
    assert "Applying users.0002_b... OK" in output
    assert "users.0002_b" in "".join(r.getMessage() for r in caplog.records)
    caplog.clear()
    assert "No migrations" in history.migrate("users")
    assert "permission denied" in caplog.records[0].getMessage()
    check_databases(None, ["default"])
    with pytest.raises(SystemExit):
        history.run("verify_migrations")
    with pytest.raises(CommandError, match="See that its user may make tables"):
        history.run("backfill_migration_code")
    history.sql("RESET ROLE")
    history.migrate("users")
    history.run("verify_migrations")


@pytest.mark.only("postgresql")
def test_without_the_right_to_read_our_table_a_migrate_goes_on(
    without_rights: History, caplog: pytest.LogCaptureFixture
) -> None:
    history = without_rights
    role = history.sql("SELECT current_role")[0][0]
    history.sql("RESET ROLE")
    tables.ensure(connection)
    history.sql(f"SET ROLE {role}")
    output = history.migrate("users")
    assert "Applying users.0002_b... OK" in output
    assert "users.0002_b" in "".join(r.getMessage() for r in caplog.records)
    assert history.recorded() == ["users.0001", "users.0002_b"]
    assert "No migrations" in history.migrate("users")
    (warning,) = check_databases(None, ["default"])
    assert "permission denied" in warning.msg
    with transaction.atomic():
        executor.MigrationExecutor(connection).recorder.record_applied("users", "x")
        assert "users.x" in history.recorded()


# Reversing our own migrations


def test_zero_drops_our_tables(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    history.migrate("django_rewind", "zero")
    assert not history.tables() & OURS
    assert history.recorded() == ["users.0001"]
    recorded = MigrationRecorder(connection).applied_migrations()
    assert not [key for key in recorded if key[0] == "django_rewind"]
    # And back: what is there to store is stored again.
    history.migrate()
    history.run("verify_migrations")


def test_going_back_to_our_first_migration_loses_nothing(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate()
    history.lose("users.0002_b")
    history.migrate("django_rewind", "0001")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]


def test_zero_is_refused_while_a_ghost_would_lose_its_code(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate()
    history.lose("users.0002_b")
    with pytest.raises(CommandError, match=r"users\.0002_b: .* only copy"):
        history.migrate("django_rewind", "zero")
    assert history.tables() >= OURS
    history.migrate("users", "0001")
    history.migrate("django_rewind", "zero")
    assert not history.tables() & OURS


def test_zero_is_refused_for_a_ghost_that_cannot_be_reversed_here(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_b")
    with override_settings(DJANGO_REWIND_SIGNING_KEY="the key of another machine"):
        history.migrate()
    history.lose("users.0002_b")
    with pytest.raises(CommandError, match=r"users\.0002_b"):
        history.migrate("django_rewind", "zero")
    assert history.tables() >= OURS


# One alias, many schemas


def make_schema(history: History, schema: str) -> None:
    history.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    history.sql(f"CREATE SCHEMA {schema}")


def tables_in(history: History, schema: str) -> set[str]:
    rows = history.sql(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
    )
    return {name for (name,) in rows}


@pytest.mark.only("postgresql")
def test_each_schema_has_its_own_tables(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    for schema in ["ann", "bob"]:
        make_schema(history, schema)
        history.sql(f"SET search_path TO {schema}")
        history.migrate()
        assert tables_in(history, schema) >= {*OURS, "users_thing"}
    assert not tables_in(history, "public")
    history.lose("users.0002_b")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]
    history.sql("SET search_path TO ann")
    assert history.recorded() == ["users.0001", "users.0002_b"]
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]


@pytest.mark.only("postgresql")
def test_a_tenant_never_uses_the_tables_of_the_public_schema(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "0001")
    make_schema(history, "ann")
    history.sql("SET search_path TO ann")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users", "0001")
    assert not tables_in(history, "ann") & OURS
    # Now it sees both, its own first.
    history.sql("SET search_path TO ann, public")
    assert not tables.exist(connection)
    assert store.contents(connection).stored == {}
    history.migrate("users")
    assert tables_in(history, "ann") >= OURS
    assert store.contents(connection).stored.keys() == {
        ("users", "0001"),
        ("users", "0002_b"),
    }
    assert history.sql("SELECT migration_name FROM public.django_migrations_code") == [
        ("0001",)
    ]
    history.lose("users.0002_b")
    history.migrate("users", "0001")
    history.migrate("django_rewind")
    history.migrate("django_rewind", "zero")
    assert not tables_in(history, "ann") & OURS
    assert tables_in(history, "public") >= OURS


@pytest.mark.only("postgresql")
def test_the_code_goes_where_the_record_is(history: History) -> None:
    # The record is in the public schema, the tenant's own has nothing yet.
    history.have("users: 0001 > 0002_b")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users", "0001")
    make_schema(history, "ann")
    history.sql("SET search_path TO ann, public")
    history.migrate("users")
    assert tables_in(history, "public") >= OURS
    assert store.contents(connection).without_code() == []


def store_as_0_1_0(history: History, name: str) -> None:
    OldMigrationCode(
        app_label="users",
        migration_name=name,
        source_code=history.path(f"users.{name}").read_text(),
    ).save(using="default", force_insert=True)


def test_the_upgrade_stores_what_a_row_needs_while_its_file_is_here(
    old: History,
) -> None:
    (old.folder / "users" / "helpers.py").write_text("def fill(a, b): pass\n")
    text = (
        "from django.db import migrations\n"
        "from users.helpers import fill\n\n\n"
        "class Migration(migrations.Migration):\n"
        '    dependencies = [("users", "0001")]\n'
        "    operations = [migrations.RunPython(fill, fill)]\n"
    )
    for name in ("0003_gone", "0003_here"):
        old.write(f"users.{name}", text=text)
        store_as_0_1_0(old, name)
        MigrationRecorder(connection).record_applied("users", name)
    old.lose("users.0003_gone")
    old.migrate("django_rewind")
    here, gone = (
        store.fetch(connection, [("users", name)])["users", name]
        for name in ("0003_here", "0003_gone")
    )
    assert here.needed == {"users.helpers": "def fill(a, b): pass\n"}
    assert here.lacking == []
    assert here.resolved_dependencies == [("users", "0001")]
    assert gone.resolved_dependencies == [("users", "0001")]
    assert gone.lacking == [
        "the code that it imports, which django-rewind 0.1.0 did not store"
    ]
    verified = old.run("verify_migrations")
    assert "users.0003_gone: it would not load without its branch" in verified
    (old.folder / "users" / "helpers.py").unlink()
    old.lose("users.0003_here")
    old.run("rewind", steps=1, interactive=False)
    assert old.recorded()[-1] == "users.0003_gone"


SQUASH = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("users", "0001"), ("users", "0002_prefs")]
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Thing",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=50, default="")),
                ("prefs", models.IntegerField(null=True)),
            ],
        ),
    ]
"""


@pytest.mark.parametrize("is_here", [True, False])
def test_the_upgrade_tells_what_a_squash_replaced(old: History, is_here: bool) -> None:
    """Back on a branch from before it, the originals stand for it."""
    old.find("users.0002_prefs")
    old.write("users.0001_squashed", text=SQUASH)
    store_as_0_1_0(old, "0001_squashed")
    MigrationRecorder(connection).record_applied("users", "0001_squashed")
    if is_here:
        old.migrate("django_rewind")
        old.lose("users.0001_squashed")
    else:
        old.lose("users.0001_squashed")
        old.migrate("django_rewind")
    assert "Nothing to rewind" in old.run("rewind", interactive=False)
    old.migrate("users", "zero")
    assert old.recorded() == []
    assert "users_thing" not in old.tables()


def test_what_0_1_0_stored_of_itself_is_no_edit(old: History) -> None:
    OldMigrationCode(
        app_label="django_rewind",
        migration_name="0001_initial",
        source_code="# Another text than ours.\n",
    ).save(using="default", force_insert=True)
    old.migrate()
    old.run("verify_migrations")
    old.migrate("users", "0001")
    old.migrate("django_rewind", "zero")
    assert not old.tables() & OURS
