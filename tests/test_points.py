"""The journal, restore points, and going back to them."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timedelta, timezone
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
    assert told(users, "blog") == []


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
    assert "1 migration is applied" in users.run("restore_point", "before")
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


def test_what_is_stored_nowhere_is_refused(users: History) -> None:
    users.migrate()
    users.run("restore_point", "full")
    users.migrate("users", "0001")
    users.lose("users.0002_prefs")
    MigrationCode.objects.get(migration_name="0002_prefs").delete()
    with pytest.raises(CommandError, match="its code as of then is not stored") as no:
        rewind(users, to="full", migrate=True)
    assert no.value.returncode == 2


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
