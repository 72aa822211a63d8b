"""Whatever becomes recorded has its code stored, in the same transaction."""

from __future__ import annotations

import logging
import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.db.migrations import executor
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_rewind import hooks, source, store, tables
from django_rewind.models import Key, MigrationCode, StoredCode
from tests.history import History


def stored(alias: str = "default") -> dict[Key, MigrationCode]:
    return {code.key: code for code in store.rows(connections[alias])}


def names(alias: str = "default") -> set[str]:
    return {".".join(key) for key in stored(alias) if key[0] != "django_rewind"}


def make_recorder(alias: str = "default") -> MigrationRecorder:
    return executor.MigrationExecutor(connections[alias]).recorder


def fails(history: History, *args: str) -> None:
    with pytest.raises(SystemExit) as end:
        history.run("verify_migrations", *args)
    assert end.value.code == 1


@pytest.fixture
def broken_store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Saving users.0002_b fails, until it is mended."""
    save = store.save

    def fail_for_one(connection: Any, code: MigrationCode) -> None:
        if code.migration_name == "0002_b":
            raise DatabaseError("the disk is full.")
        save(connection, code)

    monkeypatch.setattr(store, "save", fail_for_one)
    return lambda: monkeypatch.setattr(store, "save", save)


def test_the_first_migrate_stores_everything(history: History) -> None:
    history.labels = ["users"]
    contrib = ["django.contrib.auth", "django.contrib.contenttypes"]
    history.write("users.0001", dependencies=[("auth", "0001_initial")])
    # Ours comes last: most of it runs before our own migrations.
    history.install(INSTALLED_APPS=[*contrib, "users", "django_rewind"])
    history.migrate()
    recorded = MigrationRecorder(connection).applied_migrations()
    assert len(recorded) > 15
    assert stored().keys() == recorded.keys()
    for key, code in stored().items():
        assert not code.gap
        assert code.captured == StoredCode.Captured.AT_APPLY
        assert code.source_code == source.read(source.module_name(*key) or "")


def test_the_apps_whose_turn_is_before_ours_are_stored(history: History) -> None:
    history.have("aaa: 0001")
    history.migrate("aaa")
    assert stored().keys() == {("aaa", "0001")}
    assert stored()["aaa", "0001"].captured == StoredCode.Captured.AT_APPLY


def test_faked_ones_are_stored(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "--fake")
    assert names() == {"users.0001", "users.0002_b"}
    assert "users_thing" not in history.tables()


def test_a_faked_initial_one_is_stored(history: History) -> None:
    history.have("users: 0001")
    history.write(
        "users.0001",
        text=history.path("users.0001")
        .read_text()
        .replace("dependencies", "initial = True\n    dependencies"),
    )
    history.migrate("users")
    history.sql("DELETE FROM django_migrations WHERE app = 'users'")
    history.sql("DELETE FROM django_migrations_code WHERE app_label = 'users'")
    output = history.migrate("users", "--fake-initial")
    assert "FAKED" in output
    assert names() == {"users.0001"}


SQUASH = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("users", "0001"), ("users", "0002_b")]
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Thing", [("id", models.BigAutoField(primary_key=True))]
        )
    ]
"""


def test_a_squash_and_what_it_replaces_are_stored(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    originals = {
        name: history.path(f"users.{name}").read_text() for name in ("0001", "0002_b")
    }
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate("users")
    assert {name: code.source_code for (_, name), code in stored().items()} == {
        **originals,
        "0001_squashed": SQUASH,
    }
    code = stored()["users", "0001_squashed"]
    assert code.replaced_keys == [("users", "0001"), ("users", "0002_b")]
    assert stored()["users", "0001"].replaced_keys == []
    history.run("verify_migrations")


def test_a_squash_whose_originals_are_deleted_stands_for_them(
    history: History,
) -> None:
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate("users")
    assert names() == {"users.0001", "users.0002_b", "users.0001_squashed"}
    assert {code.source_code for code in stored().values()} == {SQUASH}
    assert not any(code.gap for code in stored().values())
    # What ran for the original is the squash, but it replaces nothing itself.
    original = stored()["users", "0001"]
    assert original.module_name == "users.migrations.0001_squashed"
    assert original.replaced_keys == []
    history.run("verify_migrations")


def test_a_squash_that_comes_into_force_is_stored(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users")
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate("users")
    assert "users.0001_squashed" in names()


def test_a_squash_in_force_since_before_the_installation_warns_of_nothing(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.have("users: 0001 > 0002_b")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    history.write("users.0001_squashed", text=SQUASH)
    # Nothing to apply, so that Django makes no tables, only a record.
    history.migrate("users")
    assert names() == {"users.0001", "users.0002_b", "users.0001_squashed"}
    assert not caplog.records


def test_a_squash_of_a_renamed_app_is_no_failure(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.write("people.0001", text=SQUASH)
    history.migrate()
    assert history.recorded("users") == ["users.0001", "users.0002_b"]
    assert names() == {"people.0001", "users.0001", "users.0002_b"}
    history.run("verify_migrations")
    assert not caplog.records


# Checks out another branch while it runs.
SWITCHES = """\
from pathlib import Path

from django.db import migrations

HERE = Path(__file__).parent

def switch(apps, schema_editor):
    other = (HERE / "0001.py").read_text()
    (HERE / "0003_c.py").write_text(other + "# of another branch")
    (HERE / "0004_d.py").unlink()
    (HERE.parent / "helpers.py").write_text("def word():\\n    return 'other'\\n")

class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(switch)]
"""


def test_what_ran_is_stored_though_another_branch_is_checked_out(
    history: History,
) -> None:
    history.have("users: 0001")
    history.write("users.0002_b", text=SWITCHES)
    history.write("users.0003_c", dependencies=[("users", "0002_b")])
    history.write("users.0004_d", dependencies=[("users", "0003_c")])
    for name in ["users.0003_c", "users.0004_d"]:
        text = "from users.helpers import word\n" + history.path(name).read_text()
        history.path(name).write_text(text)
    helper = "def word():\n    return 'ours'\n"
    (history.folder / "users/helpers.py").write_text(helper)
    names = ["users.0003_c", "users.0004_d"]
    texts = {name: history.path(name).read_text() for name in names}
    history.migrate()
    codes = {".".join(key): code for key, code in stored().items()}
    assert {name: codes[name].source_code for name in names} == texts
    digest = source.digest(helper)
    assert [codes[n].needed_digests["users.helpers"] for n in names] == [digest] * 2
    assert codes["users.0004_d"].captured == "apply"


def test_an_executor_driven_by_hand_stores(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    runner = executor.MigrationExecutor(connection)
    runner.migrate([("users", "0002_b")])
    assert names() == {"users.0001", "users.0002_b"}


def test_an_executor_imported_before_the_hooks_stores(history: History) -> None:
    from django.db.migrations.executor import MigrationExecutor

    history.have("users: 0001")
    hooks.uninstall()
    assert type(MigrationExecutor(connection).recorder) is MigrationRecorder
    hooks.install()
    MigrationExecutor(connection).migrate([("users", "0001")])
    assert names() == {"users.0001"}


def test_a_record_made_by_hand_is_stored(history: History) -> None:
    history.have("users: 0001")
    # Django makes its table in record_applied(), if it has to.
    make_recorder().record_applied("users", "0001")
    assert history.recorded() == ["users.0001"]
    assert names() == {"users.0001"}


def test_migration_modules_are_stored(history: History) -> None:
    history.have("users: 0001; elsewhere: 0001_moved")
    with override_settings(MIGRATION_MODULES={"users": "elsewhere.migrations"}):
        history.migrate("users")
        assert names() == {"users.0001_moved"}
        code = stored()["users", "0001_moved"]
        assert code.module_name == "elsewhere.migrations.0001_moved"
        assert code.source_code == history.path("elsewhere.0001_moved").read_text()
        history.run("verify_migrations")


def test_each_database_stores_its_own(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", database="other")
    assert names("other") == {"users.0001", "users.0002_b"}
    assert not history.tables() & {"django_migrations", "django_migrations_code"}
    history.migrate("users", "0001")
    assert names() == {"users.0001"}
    history.lose("users.0002_b")
    # Nothing to reverse there, and nothing is taken from the other one.
    history.migrate("users", "0001")
    assert "b" in history.columns("users_thing", "other")
    history.migrate("users", "0001", database="other")
    assert "b" not in history.columns("users_thing", "other")


class KeepOut:
    """A database for something else."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default"

    db_for_write = db_for_read


class KeepOurAppOut(KeepOut):
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return app_label != "django_rewind"


@pytest.mark.parametrize("router", [KeepOut, KeepOurAppOut])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_routers_keep_the_code_out_of_no_database(
    history: History, router: type[KeepOut], alias: str
) -> None:
    history.have("users: 0001 > 0002_b")
    with override_settings(DATABASE_ROUTERS=[router()]):
        history.migrate(database=alias)
        assert names(alias) == {"users.0001", "users.0002_b"}
        other = "other" if alias == "default" else "default"
        assert "django_migrations_code" not in history.tables(other)
        history.run("verify_migrations", database=alias)
        history.lose("users.0002_b")
        history.migrate("users", "0001", database=alias)
        assert history.recorded(alias=alias) == ["users.0001"]


def test_excluded_apps_are_recorded_and_not_stored(history: History) -> None:
    history.have("users: 0001; blog: 0001")
    with override_settings(DJANGO_REWIND_EXCLUDE_APPS=["users"]):
        history.migrate()
        history.migrate()
        assert history.recorded() == ["blog.0001", "users.0001"]
        assert names() == {"blog.0001"}
        assert "EXCLUDE_APPS" in history.run("verify_migrations")
    fails(history)


def test_disabled_it_leaves_django_untouched(history: History) -> None:
    history.have("users: 0001")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
        assert history.recorded() == ["users.0001"]
        assert "django_migrations_code" not in history.tables()


def test_a_failing_migration_leaves_neither_record_nor_code(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_b", "migrations.RunSQL('no sql')", [("users", "0001")])
    with pytest.raises(DatabaseError):
        history.migrate("users")
    assert history.recorded() == ["users.0001"]
    assert names() == {"users.0001"}


def test_record_and_code_are_rolled_back_together(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "0001")
    recorder = make_recorder()
    recorder.ensure_schema()
    with transaction.atomic():
        recorder.record_applied("users", "0002_b")
        assert "users.0002_b" in names()
        transaction.set_rollback(True)
    assert history.recorded() == ["users.0001"]
    assert names() == {"users.0001"}


def test_code_does_not_outlive_a_record_that_fails(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate("users", "0001")

    class Crash(BaseException):
        pass

    def crash(*args: object) -> None:
        raise Crash

    # After the record, before the code: the record must go too.
    monkeypatch.setattr(store, "save", crash)
    with pytest.raises(Crash):
        make_recorder().record_applied("users", "0002_b")
    assert history.recorded() == ["users.0001"]


def test_reversing_deletes_nothing(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate()
    before = stored()["users", "0002_b"]
    history.migrate("users", "zero")
    after = stored()["users", "0002_b"]
    assert (after.source_code, after.stored_at) == (
        before.source_code,
        before.stored_at,
    )


# What fails, and what is said.


def test_a_failing_capture_never_fails_the_migration(
    history: History, caplog: pytest.LogCaptureFixture, broken_store: Any
) -> None:
    history.have("users: 0001 > 0002_b > 0003_c")
    history.migrate()
    assert history.recorded() == ["users.0001", "users.0002_b", "users.0003_c"]
    assert names() == {"users.0001", "users.0003_c"}
    fails(history)
    broken_store()
    output = history.migrate()
    assert "Stored the code of 1 migration applied earlier." in output
    history.run("verify_migrations")
    assert stored()["users", "0002_b"].captured == StoredCode.Captured.LATER
    assert stored()["users", "0001"].captured == StoredCode.Captured.AT_APPLY


def test_a_failing_capture_is_one_warning_that_names_it(
    history: History, caplog: pytest.LogCaptureFixture, broken_store: Any
) -> None:
    history.have("users: 0001 > 0002_b > 0003_c")
    # So that Django sends post_migrate for more than one app.
    (history.folder / "users" / "models.py").touch()
    contrib = ["django.contrib.auth", "django.contrib.contenttypes"]
    history.install(INSTALLED_APPS=["django_rewind", "users", *contrib])
    history.migrate()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "users.0002_b" in record.getMessage()
    assert "'default'" in record.getMessage()
    assert record.getMessage().endswith(
        ": the disk is full. 'manage.py verify_migrations' fails until 'manage.py "
        "migrate' or 'manage.py backfill_migration_code' has stored it."
    )


def test_a_failing_capture_where_other_code_is_stored_says_what_stays(
    history: History,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    broken_store: Any,
) -> None:
    broken = store.save
    broken_store()
    history.have("users: 0001 > 0002_b")
    history.migrate()
    history.migrate("users", "0001")
    add = 'migrations.AddField("thing", "c", models.IntegerField(null=True)),'
    history.write("users.0002_b", add, [("users", "0001")])
    monkeypatch.setattr(store, "save", broken)
    history.migrate()
    (record,) = caplog.records
    assert record.getMessage().endswith(
        ": the disk is full. The code that was stored for it before stays, and a "
        "rollback takes it for what was applied. If its file has other code, remove "
        "the cause, reverse it with 'manage.py migrate users NAME --from-file', and "
        "apply it again."
    )
    # As it says.
    broken_store()
    history.migrate()
    fails(history)
    history.migrate("users", "0001", from_file=True)
    assert history.columns("users_thing") == ["id", "name"]
    history.migrate()
    history.run("verify_migrations")


@pytest.mark.parametrize(
    ("logger", "level"), [("", logging.ERROR), ("django_rewind", logging.CRITICAL)]
)
def test_a_warning_that_logging_drops_is_on_stderr(
    history: History,
    caplog: pytest.LogCaptureFixture,
    broken_store: Any,
    logger: str,
    level: int,
) -> None:
    history.have("users: 0001 > 0002_b")
    caplog.set_level(level, logger)
    stderr = StringIO()
    call_command("migrate", verbosity=0, stderr=stderr)
    assert stderr.getvalue().count("The code of users.0002_b could not be stored") == 1
    assert not caplog.records
    assert logging.getLogger(logger).level == level
    assert not logging.getLogger("django_rewind").handlers


@pytest.mark.parametrize("name", ["read", "replaces", "module_name", "find"])
def test_whatever_fails_in_a_capture_is_a_warning(
    history: History,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    history.have("users: 0001")
    recorder = make_recorder()
    recorder.ensure_schema()
    with monkeypatch.context() as patch:
        patch.setattr(source, name, failing(OSError("unreadable")))
        recorder.record_applied("users", "0001")
    (record,) = caplog.records
    assert "users.0001" in record.getMessage()
    assert "unreadable" in record.getMessage()
    assert history.recorded() == ["users.0001"]
    fails(history)
    history.migrate("users")
    history.run("verify_migrations")


def failing(error: Exception) -> Any:
    def fail(*args: object) -> None:
        raise error

    return fail


def warned_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The migrations that the warnings name, in order."""
    messages = [record.getMessage() for record in caplog.records]
    return [name for text in messages for name in re.findall(r"\busers\.\w+", text)]


def test_a_file_that_vanishes_before_it_is_read_is_a_warning(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    # As with `git switch` in another terminal, in the moment in which Django loads it.
    history.have("users: 0001 > 0002_b")
    path = history.path("users.0002_b")
    text = path.read_text()
    path.write_text(text + "\nimport os\nos.unlink(__file__)\n")
    history.forget_modules()
    history.migrate()
    assert warned_of(caplog) == ["users.0002_b"]
    fails(history)
    path.write_text(text)
    history.migrate()
    history.run("verify_migrations")


def test_a_table_dropped_in_the_middle_of_a_run_is_made_again(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.have("users: 0001")
    history.write(
        "users.0002_b",
        "migrations.RunSQL('DROP TABLE django_migrations_code')",
        [("users", "0001")],
    )
    history.write("users.0003_c", dependencies=[("users", "0002_b")])
    history.migrate()
    assert history.recorded() == ["users.0001", "users.0002_b", "users.0003_c"]
    assert warned_of(caplog) == ["users.0002_b", "users.0003_c"]
    assert names() == {"users.0001", "users.0002_b", "users.0003_c"}
    assert {code.captured for code in stored().values()} == {"later"}
    history.run("verify_migrations")


def test_a_failing_capture_leaves_the_transaction_usable(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_b")
    recorder = make_recorder()
    recorder.ensure_schema()
    tables.ensure(connection)
    # Fails in the database, which spoils a transaction without a savepoint.
    monkeypatch.setattr(store, "insert", lambda *args: history.sql("SELECT nothing"))
    with transaction.atomic():
        recorder.record_applied("users", "0001")
        recorder.record_applied("users", "0002_b")
    assert history.recorded() == ["users.0001", "users.0002_b"]
    assert stored() == {}


def test_a_capture_that_ends_the_transaction_fails_the_migration(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk does on SQLite, and a deadlock on MySQL."""
    history.have("users: 0001")
    recorder = make_recorder()
    recorder.ensure_schema()
    tables.ensure(connection)

    def take_everything_back(*args: object, **kwargs: object) -> None:
        connection.connection.rollback()
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(store, "insert", take_everything_back)
    with pytest.raises(DatabaseError), transaction.atomic():
        recorder.record_applied("users", "0001")
    assert history.recorded() == []


def test_a_table_that_cannot_be_made_never_fails_a_migration(
    history: History,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history.have("users: 0001 > 0002_b")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "_create", failing(DatabaseError("not allowed")))
        history.migrate("users", "0001")
        history.migrate("users")
        # Nothing to do.
        history.migrate("users")
    assert history.recorded() == ["users.0001", "users.0002_b"]
    assert any("not allowed" in record.getMessage() for record in caplog.records)
    fails(history)
    history.migrate("users")
    history.run("verify_migrations")


def test_an_executor_may_have_djangos_own_recorder(history: History) -> None:
    class Executor(MigrationExecutor):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.recorder = MigrationRecorder(self.connection)

    history.have("users: 0001")
    Executor(connection).migrate([("users", "0001")])
    assert history.recorded() == ["users.0001"]
    Executor(connection).migrate([("users", None)])
    assert history.recorded() == []


@pytest.mark.only("mysql")
@pytest.mark.parametrize("charset", ["utf8", "latin1"])
def test_what_the_connection_cannot_say_is_stored(
    history: History, monkeypatch: pytest.MonkeyPatch, charset: str
) -> None:
    """Before 5.2, Django's own default was utf8, which MySQL takes for utf8mb3."""
    text = "WORD = '\N{SNOWMAN} \U0001f40d'\n"
    helpers = history.folder / "users" / "helpers.py"
    history.have("users: 0001 > 0002_b")
    helpers.write_text(text, encoding="utf-8")
    path = history.path("users.0002_b")
    text = text + "from users.helpers import WORD as OTHER\n" + path.read_text()
    path.write_text(text, encoding="utf-8")
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"charset": charset})
    try:
        history.migrate()
        assert "verified" in history.run("verify_migrations")
        assert stored()["users", "0002_b"].source_code == text
        history.lose("users.0002_b")
        helpers.unlink()
        history.migrate("users", "0001")
    finally:
        connection.close()
    monkeypatch.undo()
    assert stored()["users", "0002_b"].source_code == text
