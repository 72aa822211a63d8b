"""The journal, restore points, and going back to them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from django_rewind import chronicle, journal
from django_rewind.archive import EarlierMigrationCode, JournalEntry
from django_rewind.chronicle import Event
from django_rewind.models import MigrationCode
from tests.history import History
from tests.project import Project
from tests.test_commands import exchange

ADD_PREFS = 'migrations.AddField("thing", "prefs", models.IntegerField(null=True)),'


def events(history: History, *args: str) -> list[Event]:
    text = history.run("rewind_history", *args, format="json")
    return [Event(**found) for found in json.loads(text)]


def told(history: History, *args: str) -> list[str]:
    """What was done, without our own migrations."""
    return [
        f"{event.what}: {event.status}"
        for event in events(history, *args)
        if event.app_label != "django_rewind"
    ]


def rewind(history: History, **options: Any) -> str:
    return history.run("rewind", interactive=False, **options)


@pytest.fixture
def users(history: History) -> History:
    history.have("users: 0001 > 0002_prefs")
    history.migrate("users", "0001")
    return history


# The journal


def test_each_apply_and_reverse_is_told(users: History) -> None:
    users.migrate()
    users.lose("users.0002_prefs")
    users.migrate("users", "0001")
    users.migrate("users", "zero", fake=True)
    users.migrate("users", fake=True)
    assert told(users) == [
        "apply users.0001: done",
        "apply users.0002_prefs: done",
        "reverse users.0002_prefs: done",
        "fake reverse users.0001: done",
        "fake apply users.0001: done",
    ]


def test_an_event_says_who_when_how_and_with_which_code(users: History) -> None:
    (event,) = (e for e in events(users) if e.app_label == "users")
    code = MigrationCode.objects.get(app_label="users")
    assert event.digest == code.digest
    assert (event.action, event.direction, event.fake) == ("apply", "forwards", False)
    assert event.seconds is not None
    assert datetime.fromisoformat(event.at).tzinfo is not None
    for name in ("run", "user", "host", "django", "python", "command"):
        assert getattr(event, name), name


def test_the_migrations_of_one_run_share_its_id(users: History) -> None:
    users.migrate()
    first, second = (e for e in events(users) if e.app_label == "users")
    assert first.run != second.run
    runs = [e.run for e in events(users) if e.app_label == "django_rewind"]
    assert set(runs) == {second.run}


def test_a_squash_and_what_it_replaces(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.write(
        "users.0001_squashed",
        text=history.path("users.0001")
        .read_text()
        .replace(
            "    dependencies",
            "    replaces = [('users', '0001'), ('users', '0002_a')]\n    dependencies",
        ),
    )
    history.migrate()
    # Django 6.1 records the squashed migration itself in the same step.
    first, *others = told(history)
    assert first == "apply users.0001_squashed: done"
    assert set(others) <= {"record users.0001_squashed: done"}
    recorded = {
        name
        for entry in journal.read(connection)
        for label, name, _ in entry.fields.get("records", ())
        if label == "users"
    }
    assert recorded == {"0001", "0002_a", "0001_squashed"}


def test_a_squash_that_is_reversed_and_what_it_replaced(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    text = history.path("users.0001").read_text()
    replaces = "    replaces = [('users', '0001'), ('users', '0002_a')]\n"
    text = text.replace("    dependencies", f"{replaces}    dependencies")
    history.write("users.0001_squashed", text=text)
    history.migrate()
    history.migrate("users", "zero")
    done = journal.read(connection)[-1].fields
    assert (done["action"], done["event"]) == ("reverse", "done")
    assert {name for _, name, _ in done["records"]} == {
        "0001",
        "0002_a",
        "0001_squashed",
    }
    assert history.recorded() == []


def test_of_an_app_that_nobody_knows_nothing_is_told(users: History) -> None:
    with pytest.raises(CommandError, match="No installed app with label 'usres'"):
        users.run("rewind_history", "usres")
    users.install(INSTALLED_APPS=["django_rewind", "users", "django.contrib.sessions"])
    assert told(users, "sessions") == []
    # Only the journal knows it.
    users.migrate("users", "zero")
    users.sql("DELETE FROM django_migrations_code WHERE app_label = 'users'")
    users.install(INSTALLED_APPS=["django_rewind"])
    assert told(users, "users")[-1] == "reverse users.0001: done"
    # Only the records know it.
    MigrationExecutor(connection).recorder.migration_qs.create(app="gone", name="0001")
    assert told(users, "gone") == []


def test_a_failure_is_told_with_its_reason(users: History) -> None:
    users.write("users.0003_bad", "migrations.RunSQL('nonsense'),", [("users", "0001")])
    users.lose("users.0002_prefs")
    with pytest.raises(DatabaseError):
        users.migrate()
    event = events(users)[-1]
    assert (event.what, event.status) == ("apply users.0003_bad", "failed")
    assert "nonsense" in event.error
    assert "users.0003_bad" not in users.recorded()
    assert not list(journal.broken_links(journal.read(connection)))


def test_a_failure_at_the_end_of_a_migration_is_told_too(users: History) -> None:
    """Where Django leaves the transaction open."""
    orphans = """
migrations.CreateModel("Part", [
    ("id", models.BigAutoField(primary_key=True)),
    ("thing", models.ForeignKey("users.Thing", models.CASCADE, null=True)),
]),
migrations.RunSQL("INSERT INTO users_part (id, thing_id) VALUES (1, 99)"),
"""
    users.write("users.0003_bad", orphans, [("users", "0002_prefs")])
    with pytest.raises(DatabaseError):
        users.migrate()
    event = events(users)[-1]
    assert (event.what, event.status) == ("apply users.0003_bad", "failed")
    assert not connection.in_atomic_block
    assert "users.0003_bad" not in users.recorded()
    if connection.vendor != "mysql":
        assert "users_part" not in users.tables()


def test_a_step_without_an_end_is_told_as_started(users: History) -> None:
    entries = journal.read(connection)
    started = next(e for e in entries if e.fields["event"] == "started")
    (event,) = chronicle.tell([started])
    assert (event.status, event.seconds) == ("started", None)


def test_django_s_prune_is_told(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    squash = history.path("users.0001").read_text()
    replaces = "    replaces = [('users', '0001'), ('users', '0002_a')]\n"
    history.lose("users.0001", "users.0002_a")
    history.write(
        "users.0001_squashed",
        text=squash.replace("    dependencies", f"{replaces}    dependencies"),
    )
    history.migrate()
    history.write("users.0001_squashed", text=squash)
    # As --prune does, which Django 3.2 does not have.
    recorder = MigrationExecutor(connection).recorder
    recorder.record_unapplied("users", "0001")
    recorder.record_unapplied("users", "0002_a")
    assert told(history)[-2:] == [
        "prune users.0001: done",
        "prune users.0002_a: done",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE django_migrations_journal SET entry = '{}' WHERE id = %s",
        "DELETE FROM django_migrations_journal WHERE id = %s",
        "UPDATE django_migrations_journal SET hash = previous WHERE id = %s",
    ],
)
def test_an_entry_that_is_altered_or_gone_is_found(
    users: History, statement: str
) -> None:
    users.run("verify_migrations")
    middle = JournalEntry._default_manager.order_by("id")[0].pk
    users.sql(statement, [middle])
    with pytest.raises(SystemExit) as failure:
        users.run("verify_migrations")
    assert failure.value.code == 1


def test_nothing_to_do_writes_nothing(users: History) -> None:
    users.migrate()
    before = JournalEntry._default_manager.count()
    users.migrate()
    assert JournalEntry._default_manager.count() == before


def test_disabled_it_writes_nothing(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate("users", "0001")
    before = JournalEntry._default_manager.count()
    history.install(DJANGO_REWIND_ENABLED=False)
    history.migrate()
    assert JournalEntry._default_manager.count() == before


def test_a_journal_that_cannot_be_written_stops_no_migration(
    users: History, caplog: pytest.LogCaptureFixture
) -> None:
    users.sql("ALTER TABLE django_migrations_journal RENAME TO elsewhere")
    users.sql("CREATE TABLE django_migrations_journal (id integer)")
    users.migrate()
    assert "users.0002_prefs" in users.recorded()
    assert "The journal of database 'default' cannot be written" in caplog.text


# Restore points


def test_a_restore_point_is_made_listed_and_deleted(users: History) -> None:
    assert ": 1 migration applied." in users.run("restore_point", "before")
    assert users.run("restore_point", list=True).startswith("before  ")
    with pytest.raises(CommandError, match="There is a restore point 'before'"):
        users.run("restore_point", "before")
    users.run("restore_point", delete="before")
    assert "No restore points" in users.run("restore_point", list=True)
    with pytest.raises(CommandError, match="There is no restore point 'before'"):
        users.run("restore_point", delete="before")


def test_back_to_a_restore_point(users: History) -> None:
    users.run("restore_point", "before")
    users.migrate()
    users.lose("users.0002_prefs")
    assert "applied after restore point 'before'" in users.run(
        "rewind", to="before", plan=True
    )
    rewind(users, to="before")
    assert users.recorded() == ["users.0001"]


def test_what_was_reversed_since_is_applied_again_from_stored_code(
    users: History,
) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "0001")
    users.lose("users.0002_prefs")
    output = rewind(users, to="full")
    assert "Applied then, and not now: users.0002_prefs." in output
    assert users.recorded() == ["users.0001"]
    output = rewind(users, to="full", migrate=True)
    assert "Applying users.0002_prefs... OK" in output
    assert users.recorded() == ["users.0001", "users.0002_prefs"]
    assert "prefs" in users.columns("users_thing")
    code = MigrationCode.objects.get(migration_name="0002_prefs")
    assert (code.gap, "prefs" in code.source_code) == ("", True)
    # And back once more.
    users.migrate("users", "0001")
    assert users.columns("users_thing") == ["id", "name"]


def test_what_is_applied_again_keeps_its_order(history: History) -> None:
    names = [f"{number:04}_f{number}" for number in range(2, 8)]
    history.have(f"users: 0001 > {' > '.join(names)}")
    history.migrate()
    history.run("restore_point", "full")
    history.migrate("users", "0001")
    rewind(history, to="full", migrate=True)
    assert history.recorded() == ["users.0001", *(f"users.{name}" for name in names)]


def test_other_code_of_the_same_name_is_exchanged(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    add = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
    users.migrate("users", "0001")
    users.write("users.0002_prefs", add, [("users", "0001")])
    users.migrate()
    assert users.columns("users_thing") == ["id", "name", "x"]
    assert EarlierMigrationCode._default_manager.count() == 1
    rewind(users, to="full", migrate=True)
    assert users.columns("users_thing") == ["id", "name", "prefs"]
    assert "prefs" in MigrationCode.objects.get(migration_name="0002_prefs").source_code


@pytest.mark.parametrize("alias", ["default", "other"])
@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"source_code": "x = 1"}, "who wrote to django_migrations_code_earlier."),
        ({"signature": ""}, "'manage.py trust_stored_migrations users 0002_prefs{}'"),
    ],
)
def test_an_earlier_version_that_does_not_verify_is_refused(
    users: History, alias: str, fields: dict[str, str], remedy: str
) -> None:
    users.migrate(database=alias)
    users.run("restore_point", "full", database=alias)
    users.migrate("users", "0001", database=alias)
    add = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
    users.write("users.0002_prefs", add, [("users", "0001")])
    users.migrate(database=alias)
    rows = EarlierMigrationCode._default_manager.using(alias)
    assert rows.update(**fields) == 1
    with pytest.raises(CommandError) as refusal:
        rewind(users, to="full", migrate=True, database=[alias])
    option = "" if alias == "default" else f" --database {alias}"
    assert remedy.format(option) in str(refusal.value)


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("table", ["code", "code_earlier"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("size", "'x'"),
        ("size", "x'ff00'"),
        ("stored_at", "'yesterday'"),
        ("captured", "x'ff00'"),
        ("origin", "x'ff00'"),
    ],
)
def test_garbage_that_is_not_signed_keeps_nobody_from_going_back(
    users: History, table: str, column: str, value: str
) -> None:
    exchange(users)
    users.sql(f"UPDATE django_migrations_{table} SET {column} = {value}")
    rewind(users, to="then", migrate=True)
    assert users.columns("users_thing") == ["id", "name", "prefs"]
    code = MigrationCode.objects.get(migration_name="0002_prefs")
    assert code.size == len(code.source_code)
    *_, kept = EarlierMigrationCode._default_manager.order_by("pk")
    assert kept.size == len(kept.source_code)
    assert kept.stored_at


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("table", ["code", "code_earlier"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stored_at", "x'ff00'"),
        ("stored_at", "'2020-99-99 10:00'"),
        ("size", "CAST(x'80' AS TEXT)"),
        ("source_code", "CAST(x'80' AS TEXT)"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_before_anything_changes(
    users: History, table: str, column: str, value: str
) -> None:
    exchange(users)
    users.sql(
        f"UPDATE django_migrations_{table} SET {column} = {value} "
        "WHERE migration_name = '0002_prefs'"
    )
    table = f"django_migrations_{table}"
    ((pk,),) = users.sql(f"SELECT id FROM {table} WHERE migration_name = '0002_prefs'")
    with pytest.raises(CommandError) as refusal:
        rewind(users, to="then", migrate=True)
    assert f"Restore or delete these rows of {table}: {pk}." in str(refusal.value)
    assert users.columns("users_thing") == ["id", "name", "x"]


def test_what_is_stored_nowhere_is_refused(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "0001")
    users.lose("users.0002_prefs")
    MigrationCode.objects.get(migration_name="0002_prefs").delete()
    with pytest.raises(CommandError, match="its code as of then is not stored") as no:
        rewind(users, to="full", migrate=True)
    assert no.value.returncode == 2


def plan_of(history: History, **options: Any) -> list[str]:
    found = json.loads(history.run("rewind", plan=True, format="json", **options))
    return [f"{step['action']} {step['migration_name']}" for step in found["steps"]]


def refusal(history: History, **options: Any) -> str:
    """Of what leaves the records as they are."""
    before = history.recorded()
    with pytest.raises(CommandError) as refused:
        rewind(history, **options)
    assert refused.value.returncode == 2
    assert history.recorded() == before
    return str(refused.value)


@pytest.fixture
def stays(history: History) -> History:
    """users.0003_h was applied before, after a ghost; users.0002_other since."""
    history.have("users: 0001 > 0002_g > 0003_h")
    history.migrate()
    history.run("restore_point", "before")
    history.lose("users.0002_g", "users.0003_h")
    history.migrate("users", "0002_g")
    history.write("users.0002_other", dependencies=[("users", "0001")])
    history.migrate()
    return history


def test_what_is_applied_again_may_depend_on_a_ghost_that_stays(
    stays: History,
) -> None:
    rewind(stays, to="before", migrate=True)
    assert stays.recorded() == ["users.0001", "users.0002_g", "users.0003_h"]
    assert set(stays.columns("users_thing")) == {"id", "name", "g", "h"}


def test_what_depends_on_a_ghost_that_cannot_be_loaded_is_refused_at_once(
    stays: History,
) -> None:
    stays.sql("DELETE FROM django_migrations_code WHERE migration_name = '0002_g'")
    stays.sql("UPDATE django_migrations SET id = id - 9000 WHERE name = '0002_g'")
    text = refusal(stays, to="before", migrate=True)
    assert "users.0003_h: it depends on users.0002_g, which cannot be loaded." in text
    rewind(stays, to="before")
    assert set(stays.recorded()) == {"users.0001", "users.0002_g"}


def test_nothing_is_applied_again_that_was_not_applied_then(history: History) -> None:
    history.have("users: 0001; blog: 0001 > 0002_b(users.0001)")
    history.migrate()
    history.run("restore_point", "before")
    history.migrate("blog", "0001")
    history.write("users.0002_since", dependencies=[("users", "0001")])
    history.migrate("users")
    path = history.write("users.0003_new", dependencies=[("users", "0002_since")])
    path.write_text(
        path.read_text().replace(
            "    operations", "    run_before = [('blog', '0002_b')]\n    operations"
        )
    )
    text = refusal(history, to="before", migrate=True)
    assert "users.0003_new: others now need it, and it was not applied then." in text
    assert "since" in history.columns("users_thing")


def test_what_does_not_fit_is_refused_at_once(history: History) -> None:
    history.have("users: 0001 > 0002_x; blog: 0001")
    history.install(DJANGO_REWIND_EXCLUDE_APPS=["users"])
    history.migrate("users")
    history.run("restore_point", "before")
    history.migrate("users", "0001")
    history.migrate("blog")
    path = history.path("users.0001")
    field = '("x", models.IntegerField(null=True)),'
    path.write_text(path.read_text().replace('("name"', f'{field}\n("name"'))
    text = refusal(history, to="before", migrate=True)
    assert "users.0002_x: it does not fit what the other applied migrations" in text


@pytest.mark.only("sqlite")
def test_what_stays_is_known_in_the_order_of_its_application(history: History) -> None:
    """By the names of the siblings, the remake would shrink the column again."""
    alter = 'migrations.AlterField("thing", "name", models.CharField(max_length={})),'
    history.have("users: 0001")
    history.make_ghost("users.0009_z", alter.format(20), [("users", "0001")])
    history.write("users.0002_a", alter.format(60), [("users", "0001")])
    unique = 'migrations.AddField("thing", "y", models.IntegerField(default=1)),'
    history.write("users.0003_y", unique, [("users", "0002_a")])
    history.migrate()
    history.run("restore_point", "before")
    history.migrate("users", "0002_a")
    rewind(history, to="before", migrate=True)
    ((sql,),) = history.sql("SELECT sql FROM sqlite_master WHERE name = 'users_thing'")
    assert "varchar(60)" in sql
    assert "y" in history.columns("users_thing")


@pytest.mark.parametrize("is_lost", [True, False])
def test_what_was_faked_then_is_faked_again(history: History, is_lost: bool) -> None:
    history.have("users: 0001 > 0002_x > 0003_y")
    history.migrate("users", "0001")
    history.sql("ALTER TABLE users_thing ADD COLUMN x integer")
    history.migrate("users", "0002_x", fake=True)
    history.migrate()
    history.run("restore_point", "before")
    run = events(history)[-2].run
    # Django itself would drop what was not made.
    history.lose("users.0002_x", "users.0003_y")
    history.migrate("users", "0001")
    if not is_lost:
        history.find("users.0002_x", "users.0003_y")
    for point in ("before", run):
        assert plan_of(history, to=point, migrate=True) == [
            "record 0002_x",
            "apply 0003_y",
        ]
    output = rewind(history, to="before", migrate=True)
    assert "users.0002_x (was applied then; only its record comes back)" in output
    assert "Applying users.0002_x... FAKED" in output
    assert "fake apply users.0002_x: done" in told(history)[-2:]
    assert history.recorded() == ["users.0001", "users.0002_x", "users.0003_y"]
    assert set(history.columns("users_thing")) == {"id", "name", "x", "y"}
    assert "0 of" not in history.run("verify_migrations")
    # And as before, it is faked back.
    if not is_lost:
        history.lose("users.0002_x", "users.0003_y")
    history.migrate("users", "0001")
    assert set(history.columns("users_thing")) == {"id", "name", "x"}


def test_what_was_faked_since_is_applied_again(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "0001")
    users.migrate(fake=True)
    users.migrate("users", "0001", fake=True)
    users.lose("users.0002_prefs")
    assert plan_of(users, to="full", migrate=True) == ["apply 0002_prefs"]
    rewind(users, to="full", migrate=True)
    assert "prefs" in users.columns("users_thing")
    rewind(users)
    assert "prefs" not in users.columns("users_thing")


def test_with_fake_only_records_go_and_come_back(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "0001", fake=True)
    users.lose("users.0002_prefs")
    users.write("users.0002_other", dependencies=[("users", "0001")])
    users.migrate()
    options = {"to": "full", "migrate": True, "fake": True}
    assert plan_of(users, **options) == ["fake 0002_other", "record 0002_prefs"]
    rewind(users, **options)
    assert users.recorded() == ["users.0001", "users.0002_prefs"]
    # Django 3.2 remakes a table to add a column, without one that is not recorded.
    assert set(users.columns("users_thing")) - {"prefs"} == {"id", "name", "other"}


def squash(history: History) -> None:
    """Of both migrations, whose files go."""
    text = history.path("users.0001").read_text()
    replaces = "    replaces = [('users', '0001'), ('users', '0002_prefs')]\n"
    field = '("prefs", models.IntegerField(null=True)),'
    text = text.replace("    dependencies", f"{replaces}    dependencies")
    text = text.replace('("name"', f'{field}\n("name"')
    history.write("users.0001_squashed", text=text)
    history.lose("users.0001", "users.0002_prefs")


def test_a_squash_is_applied_again_for_all_that_it_replaced(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "zero")
    squash(users)
    output = rewind(users, to="full", migrate=True)
    assert "users.0001_squashed (was applied then; applied again, from file)" in output
    assert "stands for users.0001, users.0002_prefs." in output
    assert set(users.columns("users_thing")) == {"id", "name", "prefs"}
    assert "Nothing to rewind" in rewind(users, to="full", migrate=True)
    assert "0 of" not in users.run("verify_migrations")


def test_a_squash_is_not_applied_again_for_less(users: History) -> None:
    users.run("restore_point", "before")
    users.migrate()
    squash(users)
    users.migrate()
    text = refusal(users, to="before", migrate=True)
    assert "users.0001_squashed: it would stand for users.0002_prefs too" in text
    assert "Applied then, and not now: users.0001." in rewind(users, to="before")


def test_back_to_a_run(users: History) -> None:
    run = events(users)[-1].run
    users.migrate()
    rewind(users, to=run)
    assert users.recorded() == ["users.0001"]


def test_back_to_a_moment(users: History) -> None:
    moment = datetime.now(timezone.utc)
    users.migrate()
    rewind(users, to=moment.isoformat())
    assert users.recorded() == ["users.0001"]
    long_ago = (moment - timedelta(days=1)).date().isoformat()
    with pytest.raises(CommandError, match="The journal begins at"):
        rewind(users, to=long_ago)


def test_a_point_that_is_none_is_refused(users: History) -> None:
    with pytest.raises(CommandError, match="'nonsense' is no restore point") as no:
        rewind(users, to="nonsense")
    assert no.value.returncode == 2


def test_after_a_rename_the_new_name_is_what_was_applied_then(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    run = events(users)[-1].run
    text = users.path("users.0002_prefs").read_text()
    users.lose("users.0002_prefs")
    users.write("users.0002_renamed", text=text)
    rewind(users)
    assert users.recorded() == ["users.0001", "users.0002_renamed"]
    assert told(users)[-1] == "adopt users.0002_renamed (was users.0002_prefs): done"
    for point in ("full", run):
        assert "Nothing to rewind" in rewind(users, to=point, migrate=True)
        assert users.recorded() == ["users.0001", "users.0002_renamed"]


def rename(history: History, old: str, new: str, before: str = "0001") -> None:
    """Lose a file that adds the field prefs, have another one, and adopt it."""
    history.lose(f"users.{old}")
    history.write(f"users.{new}", ADD_PREFS, [("users", before)])
    assert f"Adopting users.{old} as users.{new}" in rewind(history, migrate=True)


@pytest.fixture
def points(users: History) -> tuple[str, str]:
    """A restore point and a run, with users.0002_prefs applied, and a value in it."""
    users.write("users.0002_prefs", ADD_PREFS, [("users", "0001")])
    users.migrate()
    users.sql("INSERT INTO users_thing (id, name, prefs) VALUES (1, 'a', 5)")
    users.run("restore_point", "full")
    return "full", events(users)[-2].run


def prefs(history: History) -> list[Any]:
    return [value for (value,) in history.sql("SELECT prefs FROM users_thing")]


@pytest.mark.parametrize("migrate", [True, False])
def test_a_name_that_was_given_up_before_is_another_one(
    users: History, migrate: bool
) -> None:
    users.write("users.0002_prefs", ADD_PREFS, [("users", "0001")])
    users.migrate()
    rename(users, "0002_prefs", "0002_renamed")
    users.migrate("users", "0001")
    users.lose("users.0002_renamed")
    users.find("users.0002_prefs")
    users.migrate()
    users.sql("INSERT INTO users_thing (id, name, prefs) VALUES (1, 'a', 5)")
    users.run("restore_point", "full")
    for point in ("full", events(users)[-2].run):
        assert "Nothing to rewind" in rewind(users, to=point, migrate=migrate)
    assert prefs(users) == [5]


def test_a_name_that_was_given_up_since_may_be_taken_again(
    users: History, points: tuple[str, str]
) -> None:
    rename(users, "0002_prefs", "0002_renamed")
    users.migrate("users", "0001")
    users.lose("users.0002_renamed")
    users.find("users.0002_prefs")
    users.migrate()
    users.sql("UPDATE users_thing SET prefs = 6")
    for point in points:
        assert "Nothing to rewind" in rewind(users, to=point, migrate=True)
    assert prefs(users) == [6]


def test_a_name_that_was_given_up_since_may_become_another_one_s(
    users: History, points: tuple[str, str]
) -> None:
    rename(users, "0002_prefs", "0002_renamed")
    add = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
    users.write("users.0002_prefs", add, [("users", "0002_renamed")])
    users.migrate()
    for point in points:
        (step,) = json.loads(users.run("rewind", to=point, plan=True, format="json"))[
            "steps"
        ]
        assert step["migration_name"] == "0002_prefs"
    rewind(users, to="full")
    assert users.recorded() == ["users.0001", "users.0002_renamed"]
    assert prefs(users) == [5]


def test_what_was_renumbered_is_what_was_applied_then(
    users: History, points: tuple[str, str]
) -> None:
    """Its file depends on something else, and so is not the same text."""
    users.write("users.0002_other", dependencies=[("users", "0001")])
    rename(users, "0002_prefs", "0003_prefs", "0002_other")
    for point in points:
        found = json.loads(users.run("rewind", to=point, plan=True, format="json"))
        assert [(s["migration_name"], s["reason"][:13]) for s in found["steps"]] == [
            ("0003_prefs", "depends on us"),
            ("0002_other", "applied after"),
        ]


def test_what_was_renamed_twice_and_back_is_what_was_applied_then(
    users: History, points: tuple[str, str]
) -> None:
    rename(users, "0002_prefs", "0002_a")
    rename(users, "0002_a", "0002_b")
    for point in points:
        assert "Nothing to rewind" in rewind(users, to=point, migrate=True)
    rename(users, "0002_b", "0002_prefs")
    for point in points:
        assert "Nothing to rewind" in rewind(users, to=point, migrate=True)
    assert prefs(users) == [5]


@pytest.mark.only("sqlite")
def test_back_to_a_commit(project: Project) -> None:
    project.have("users: 0001")
    project.commit("first")
    first = project.git("rev-parse", "HEAD").strip()
    project.git("tag", "v1")
    project.manage("migrate")
    project.have("users: 0001 > 0002_prefs")
    project.commit("second")
    project.manage("migrate")
    for point in (first, first[:8], "v1"):
        plan = json.loads(
            project.manage("rewind", "--to", point, "--plan", "--format=json").stdout
        )
        assert [step["migration_name"] for step in plan["steps"]] == ["0002_prefs"]
    project.manage("rewind", "--to=v1", "--noinput")
    assert project.applied() == ["users.0001"]
    event = json.loads(project.manage("rewind_history", "--format=json").stdout)[-1]
    assert (event["branch"], event["commit"]) == (
        "main",
        project.git("rev-parse", "HEAD").strip(),
    )
    assert event["command"] == "manage.py rewind --to=v1 --noinput"
    project.git("commit", "--quiet", "--allow-empty", "--message=third")
    third = project.git("rev-parse", "HEAD").strip()
    refused = project.manage("rewind", "--to", third, "--noinput", fails=True)
    assert refused.returncode == 2
    assert f"Nothing was applied or reversed at commit {third[:12]}" in refused.stderr


def test_no_git_is_no_matter(users: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    journal.environment.cache_clear()
    users.migrate()
    journal.environment.cache_clear()
    assert events(users)[-1].commit == ""


def test_a_folder_that_is_gone_is_no_matter(
    users: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As that of a release which was removed; a forward migrate must not fail."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setattr(sys, "argv", ["django-admin", "migrate"])
    monkeypatch.chdir(gone)
    gone.rmdir()
    journal.environment.cache_clear()
    try:
        users.migrate()
    finally:
        journal.environment.cache_clear()
    assert events(users)[-1].commit == ""
    monkeypatch.undo()


def test_a_process_without_arguments_migrates(
    users: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    journal.environment.cache_clear()
    try:
        users.migrate()
    finally:
        journal.environment.cache_clear()
    assert events(users)[-1].command == "''"


def test_what_the_journal_cannot_tell_is_a_warning(
    users: History,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> dict[str, str]:
        raise RuntimeError("who knows")

    monkeypatch.setattr(journal, "environment", fail)
    users.migrate()
    (record,) = caplog.records
    assert "cannot be written: who knows" in record.getMessage()


def test_the_notice_of_runserver(
    users: History, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.core.management.base import BaseCommand

    users.migrate()
    users.lose("users.0002_prefs")
    BaseCommand(no_color=True).check_migrations()
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Applied to database 'default', but their files are gone: users.0002_prefs. "
        "'manage.py rewind' reverses them from stored code."
    )


def test_git_is_asked_once(users: History, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    run = subprocess.run

    def count(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return run(*args, **kwargs)

    monkeypatch.setattr(subprocess, "run", count)
    journal.environment.cache_clear()
    users.migrate()
    assert len(asked) <= 2


def test_of_a_plan_the_first_that_is_not_done_was_begun(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    entries = journal.read(connection)
    done = next(
        number
        for number, entry in enumerate(entries)
        if entry.key == ("users", "0001") and entry.fields["event"] == "done"
    )
    told = [
        (event.migration_name, event.status)
        for event in chronicle.tell(entries[: done + 1])
        if event.app_label == "users"
    ]
    assert told == [("0001", "done"), ("0002_a", "started")]
