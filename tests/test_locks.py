"""One contract for the locks of three databases, then what migrate does with them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import Any

import django
import pytest
from django.core.management.base import CommandError
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import load_backend
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_rewind import advisory, conf, locks
from django_rewind.advisory import Holder
from django_rewind.exceptions import BadSetting, LockTimeout
from django_rewind.locks import guarding, holding
from tests.databases import VENDOR
from tests.history import History

USERS = "users: 0001 > 0002_prefs"


def say_nothing(text: str) -> None:
    raise AssertionError(text)


def find(connection: BaseDatabaseWrapper) -> advisory.Lock:
    lock = advisory.find(connection)
    assert lock
    return lock


@pytest.fixture
def mine(empty_databases: None) -> BaseDatabaseWrapper:
    connection: BaseDatabaseWrapper = connections["default"]
    connection.ensure_connection()
    return connection


@pytest.fixture
def theirs(mine: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Another session, as another process has."""
    other = mine.copy()
    yield other
    other.close()


# The contract


def test_one_has_it_at_a_time(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock, other = find(mine), find(theirs)
    assert not other.is_taken()
    assert lock.take()
    assert other.is_taken()
    assert not other.take()
    assert not lock.is_taken(), "that is for others"
    lock.give_back()
    assert not other.is_taken()
    assert other.take()
    assert not lock.take()
    other.give_back()
    assert lock.take()
    lock.give_back()


def test_others_know_who_has_it_and_since_when(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock, other = find(mine), find(theirs)
    assert other.holder() is None
    before = datetime.now(timezone.utc).replace(microsecond=0)
    lock.take()
    holder = other.holder()
    assert holder
    if VENDOR == "mysql":
        assert holder.who.startswith(f"{mine.settings_dict['USER']}@")
    else:
        assert holder.who == f"{getuser()}@{gethostname()}"
    assert holder.since
    assert before <= holder.since <= before + timedelta(seconds=30)
    lock.give_back()
    assert other.holder() is None


def test_databases_do_not_share_a_lock(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock, elsewhere = find(mine), find(connections["other"])
    assert lock.take()
    assert elsewhere.take()
    elsewhere.give_back()
    assert find(theirs).is_taken()
    lock.give_back()


@pytest.mark.only("postgresql", "mysql")
def test_it_is_free_when_its_connection_ends(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    other = find(theirs)
    assert other.take()
    theirs.close()
    lock = find(mine)
    # A server needs a moment to see it.
    for _ in range(50):
        if lock.take():
            break
        time.sleep(0.1)
    with pytest.raises(DatabaseError, match="was closed in the meantime"):
        other.give_back()
    lock.give_back()


@pytest.mark.only("postgresql")
def test_schemas_do_not_share_a_lock(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    with mine.cursor() as cursor:
        cursor.execute("CREATE SCHEMA tenant")
        cursor.execute("SET search_path TO tenant, public")
    try:
        lock, other = find(mine), find(theirs)
        assert lock.take()
        assert not other.is_taken()
        assert other.take()
        other.give_back()
        with mine.cursor() as cursor:
            # What is given back is what was taken.
            cursor.execute("SET search_path TO public")
        lock.give_back()
        with theirs.cursor() as cursor:
            cursor.execute("SET search_path TO tenant, public")
        assert not other.is_taken()
    finally:
        with mine.cursor() as cursor:
            cursor.execute("DROP SCHEMA tenant")


@pytest.mark.only("postgresql")
def test_the_name_of_the_application_is_restored(mine: BaseDatabaseWrapper) -> None:
    def name() -> str:
        with mine.cursor() as cursor:
            cursor.execute("SHOW application_name")
            return str(cursor.fetchone()[0])

    with mine.cursor() as cursor:
        cursor.execute("SET application_name TO 'the project''s own'")
    lock = find(mine)
    lock.take()
    assert name().startswith("django-rewind ")
    lock.give_back()
    assert name() == "the project's own"


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("name", ["", "psql", "django-rewind 20269999T999999Z me"])
def test_a_holder_that_says_nothing_is_another_process(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper, name: str
) -> None:
    find(theirs).take()
    with theirs.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [name])
    assert find(mine).holder() == advisory.SOMEBODY


@pytest.mark.only("postgresql")
def test_in_a_transaction_it_ends_with_it(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock, other = find(mine), find(theirs)
    with transaction.atomic(using="default"):
        lock.take()
        lock.give_back()
        assert other.is_taken(), "what was done cannot be seen yet"
        transaction.set_rollback(True, using="default")
    assert not other.is_taken()


@pytest.mark.only("mysql")
def test_a_time_that_is_not_complete_is_none(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock = find(mine)
    assert isinstance(lock, advisory.MySQLLock)
    lock.take()
    lock._of("RELEASE_LOCK({})", lock.COMPLETE)
    holder = find(theirs).holder()
    assert holder
    assert holder.since is None
    assert " since " not in str(holder)
    lock.give_back()


# A server that shows no other's connections gives no row.
@pytest.mark.only("mysql")
def test_without_the_right_to_see_who_it_is_another_process(
    mine: BaseDatabaseWrapper,
    theirs: BaseDatabaseWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(advisory.MySQLLock, "WHO", "SELECT 1, 2 FROM dual WHERE 0 = %s")
    lock = find(mine)
    lock.take()
    assert str(find(theirs).holder()).startswith("another process since 20")
    lock.give_back()


@pytest.fixture
def lock_file(mine: BaseDatabaseWrapper) -> Iterator[Path]:
    path = Path(f"{os.path.realpath(mine.settings_dict['NAME'])}-migrating")
    yield path
    if path.is_file():
        path.unlink()


@pytest.mark.only("sqlite")
def test_no_file_is_left(mine: BaseDatabaseWrapper, lock_file: Path) -> None:
    lock = find(mine)
    assert not lock.is_taken()
    assert not lock_file.exists()
    lock.take()
    assert lock_file.exists()
    lock.give_back()
    assert not list(lock_file.parent.glob("*-migrating*"))


@pytest.mark.only("sqlite")
def test_a_file_that_a_killed_process_left_holds_nothing(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper, lock_file: Path
) -> None:
    killed: Any = find(theirs)
    killed.take()
    killed.taken.close()
    assert lock_file.exists()
    lock = find(mine)
    assert lock.holder() is None
    assert lock.take()
    lock.give_back()


@pytest.mark.only("sqlite")
def test_a_lock_on_a_file_that_was_removed_is_none(
    mine: BaseDatabaseWrapper,
    theirs: BaseDatabaseWrapper,
    lock_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One opened the file before its holder gave it back, and locks it afterwards."""
    first, late, third = (find(c) for c in (mine, theirs, mine))
    assert isinstance(late, advisory.SQLiteLock)
    opened = advisory.SQLiteLock._open

    def while_others_go_on(self: Any, mode: str) -> Any:
        connection = opened(self, mode)
        if self is late and mode == "rwc":
            connection.execute("SELECT * FROM holder")
            first.give_back()
            assert third.take()
        return connection

    first.take()
    monkeypatch.setattr(advisory.SQLiteLock, "_open", while_others_go_on)
    assert not late.take()
    monkeypatch.undo()
    assert late.is_taken()
    third.give_back()
    assert late.take()
    late.give_back()


@pytest.mark.only("sqlite")
def test_so_is_one_on_a_file_that_others_replace_while_it_is_taken(
    mine: BaseDatabaseWrapper,
    theirs: BaseDatabaseWrapper,
    lock_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, other = find(mine), find(theirs)
    opened = advisory.SQLiteLock._open
    seen = []

    def between_its_transactions(statement: str) -> None:
        seen.append(statement)
        if seen.count("BEGIN IMMEDIATE") == 2 and statement == "BEGIN IMMEDIATE":
            assert other.take()
            other.give_back()

    def watched(self: Any, mode: str) -> Any:
        connection = opened(self, mode)
        if self is late:
            connection.set_trace_callback(between_its_transactions)
        return connection

    monkeypatch.setattr(advisory.SQLiteLock, "_open", watched)
    assert not late.take()
    monkeypatch.undo()
    assert not late.is_taken()
    assert late.take()
    late.give_back()


@pytest.mark.only("sqlite")
def test_a_database_in_memory_needs_none() -> None:
    settings = {**connections["default"].settings_dict, "NAME": ":memory:"}
    wrapper = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, "memory")
    wrapper.connect()
    # Django itself keeps it open.
    with closing(wrapper.connection):
        assert advisory.find(wrapper) is None


def test_no_lock_of_another_database_is_known() -> None:
    class Oracle:
        vendor = "oracle"

    connection: Any = Oracle()
    assert advisory.find(connection) is None


# The guard


def take(connection: BaseDatabaseWrapper) -> advisory.Lock:
    lock = find(connection)
    assert lock.take()
    return lock


def test_guarding_takes_nothing_until_it_is_asked_to(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    other = find(theirs)
    with guarding(mine, say_nothing) as guard:
        assert not other.is_taken()
        guard.acquire()
        guard.acquire()
        assert guard.held
        assert other.is_taken()
    assert not guard.held
    assert not other.is_taken()


def test_inside_of_another_one_the_outer_one_releases(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    other = find(theirs)
    with guarding(mine, say_nothing) as outer:
        with holding(theirs, say_nothing) as inner:
            assert inner is outer
        assert other.is_taken()
        with guarding(connections["other"], say_nothing) as elsewhere:
            assert elsewhere is not outer
    assert not other.is_taken()


def test_an_error_releases_it_too(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    with pytest.raises(ZeroDivisionError), holding(mine, say_nothing):
        raise ZeroDivisionError
    assert not find(theirs).is_taken()


@override_settings(DJANGO_REWIND_LOCK_TIMEOUT=0)
def test_it_gives_up_in_the_end(
    mine: BaseDatabaseWrapper, theirs: BaseDatabaseWrapper
) -> None:
    lock = take(theirs)
    with pytest.raises(LockTimeout) as caught, holding(mine, say_nothing):
        raise AssertionError
    assert caught.value.alias == "default"
    assert caught.value.holder == str(find(mine).holder())
    assert str(caught.value) == (
        f"The lock of database 'default' is held by {caught.value.holder}, and was not "
        "free within 0 seconds. Nothing was changed. Try again when that process is "
        "done, or raise DJANGO_REWIND_LOCK_TIMEOUT. If no such process runs, a "
        "connection pooler keeps the lock: set DJANGO_REWIND_LOCK = False."
    )
    lock.give_back()


def test_it_says_once_for_whom_it_waits_and_again_for_the_next_one(
    mine: BaseDatabaseWrapper,
    theirs: BaseDatabaseWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = take(theirs)
    holders: list[Holder | None] = [
        *[Holder("a@one")] * 3,
        None,
        *[Holder("b@\x1b[2Jtwo", datetime(2026, 3, 1, 14, 2, 11))] * 2,
    ]
    said: list[str] = []

    def next_holder(self: Any) -> Holder | None:
        if not holders:
            lock.give_back()
            return None
        return holders.pop(0)

    monkeypatch.setattr(type(lock), "holder", next_holder)
    monkeypatch.setattr(locks, "BETWEEN_ATTEMPTS", 0.001)
    with holding(mine, said.append) as guard:
        assert guard.held
    waiting = "Waiting for the lock of database 'default', held by "
    assert said == [
        f"{waiting}a@one...",
        f"{waiting}b@\\x1b[2Jtwo since 2026-03-01 14:02:11 UTC...",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_REWIND_EXCLUDE_APPS", "users"),
        ("DJANGO_REWIND_EXCLUDE_APPS", None),
        ("DJANGO_REWIND_CLOSURE_LIMIT", "1MB"),
        ("DJANGO_REWIND_CLOSURE_LIMIT", -1),
        ("SECRET_KEY_FALLBACKS", "old"),
        ("DJANGO_REWIND_SIGNING_KEY_FALLBACKS", "old"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_said_before_anything_happens(
    name: str, value: Any, history: History
) -> None:
    """Each letter of a text would be a key, or an app."""
    history.have(USERS)
    settings = {"DJANGO_REWIND_SIGNING_KEY": "own"} if "SIGNING" in name else {}
    refused = pytest.raises(CommandError, match=f"{name} is .* Set it to")
    with override_settings(**{name: value, **settings}), refused as error:
        history.migrate()
    assert "old" not in str(error.value)
    assert history.recorded() == []


@pytest.mark.parametrize("value", [-1, "soon", None, float("nan"), ()])
def test_a_timeout_that_is_none_is_said(value: Any, history: History) -> None:
    history.have(USERS)
    with override_settings(DJANGO_REWIND_LOCK_TIMEOUT=value):
        with pytest.raises(BadSetting, match="DJANGO_REWIND_LOCK_TIMEOUT is"):
            conf.lock_timeout()
        with pytest.raises(CommandError, match="Set it to seconds, 0 or more"):
            history.migrate()
    assert history.recorded() == []


@pytest.mark.parametrize("value", [0, 1.5, "600"])
def test_a_timeout_in_seconds(value: Any) -> None:
    with override_settings(DJANGO_REWIND_LOCK_TIMEOUT=value):
        assert conf.lock_timeout() == float(value)


# What migrate does with it


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """ "take" and "give back", as they happen."""
    seen: list[str] = []
    lock_class = type(find(connections["default"]))
    for name in ("take", "give_back"):
        original = getattr(lock_class, name)

        def note(self: Any, original: Any = original, name: str = name) -> Any:
            seen.append(name.replace("_", " "))
            return original(self)

        monkeypatch.setattr(lock_class, name, note)
    return seen


def test_only_what_changes_something_takes_it(
    history: History, taken: list[str]
) -> None:
    history.have(USERS)
    history.migrate(plan=True)
    with pytest.raises(SystemExit):
        history.migrate(check_unapplied=True)
    assert taken == []
    history.migrate()
    assert taken == ["take", "give back"]
    history.migrate()
    history.run("showmigrations")
    assert taken == ["take", "give back"]
    history.migrate("users", "0001")
    history.migrate(run_syncdb=True)
    assert taken == ["take", "give back"] * 3
    if django.VERSION >= (4, 1):
        history.migrate("users", prune=True)
        assert taken == ["take", "give back"] * 4


@pytest.mark.parametrize(
    "settings", [{"DJANGO_REWIND_LOCK": False}, {"DJANGO_REWIND_ENABLED": False}]
)
def test_switched_off_it_is_not_asked_for(
    history: History, taken: list[str], settings: dict[str, Any]
) -> None:
    history.have(USERS)
    history.install(**settings)
    history.migrate()
    history.migrate("users", "zero")
    assert taken == []


def test_with_nothing_to_do_one_query_is_asked(history: History) -> None:
    history.have(USERS)
    history.migrate()
    counts = []
    for is_used in (False, True):
        history.install(DJANGO_REWIND_LOCK=is_used)
        with CaptureQueriesContext(connections["default"]) as queries:
            history.migrate()
        counts.append(len(queries))
    assert counts[1] == counts[0] + 1


def test_what_another_process_did_meanwhile_is_not_done_again(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have(USERS)
    other = connections["default"].copy()
    acquire = locks.Guard.acquire

    def acquire_late(guard: locks.Guard) -> None:
        if not guard.held:
            recorder = MigrationRecorder(other)
            recorder.ensure_schema()
            recorder.record_applied("users", "0001")
            with other.schema_editor() as editor:
                editor.execute("CREATE TABLE users_thing (id integer)")
        acquire(guard)

    monkeypatch.setattr(locks.Guard, "acquire", acquire_late)
    with closing(other):
        output = history.migrate("users")
    assert "Applying users.0001" not in output
    assert "Applying users.0002_prefs... OK" in output
    assert history.recorded() == ["users.0001", "users.0002_prefs"]


def test_a_squash_of_which_an_older_checkout_applied_a_part(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_prefs > 0003_more")
    history.migrate("users", "0001")
    text = history.path("users.0001").read_text()
    replaces = 'replaces = [("users", "0001"), ("users", "0002_prefs")]'
    history.migrate("users", "zero")
    history.write(
        "users.0001_squashed",
        text=text.replace("dependencies", f"{replaces}\n    dependencies"),
    )
    acquire = locks.Guard.acquire

    def acquire_late(guard: locks.Guard) -> None:
        if not guard.held:
            MigrationRecorder(guard.connection).record_applied("users", "0001")
            with guard.connection.schema_editor() as editor:
                editor.execute("CREATE TABLE users_thing (id integer)")
        acquire(guard)

    history.path("users.0003_more").unlink()
    history.forget_modules()
    monkeypatch.setattr(locks.Guard, "acquire", acquire_late)
    output = history.migrate("users")
    assert "Applying users.0002_prefs... OK" in output
    assert "Applying users.0001" not in output


def test_an_executor_without_a_command_is_djangos(
    history: History, taken: list[str]
) -> None:
    history.have(USERS)
    connection = connections["default"]
    MigrationExecutor(connection).migrate([("users", "0001")])
    with guarding(connections["other"], say_nothing):
        MigrationExecutor(connection).migrate([("users", "0002_prefs")])
    assert taken == []


def test_a_lock_that_cannot_be_had_is_a_warning(
    history: History,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(self: Any) -> bool:
        raise DatabaseError("no such function\n")

    monkeypatch.setattr(type(find(connections["default"])), "take", fail)
    history.have(USERS)
    history.migrate()
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "django_rewind"
    assert record.getMessage() == (
        "Nothing keeps two processes from migrating database 'default' at the same "
        "time: no such function. If its connections cannot hold a lock, set "
        "DJANGO_REWIND_LOCK = False."
    )


@pytest.mark.only("sqlite")
def test_so_is_a_file_that_cannot_be_made(
    history: History, lock_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history.have(USERS)
    lock_file.mkdir()
    try:
        history.migrate()
    finally:
        lock_file.rmdir()
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
    assert "Nothing keeps two processes" in caplog.text


def test_so_is_a_connection_that_a_migration_closes(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.have(USERS)
    history.write(
        "users.0002_prefs",
        "migrations.RunPython(lambda apps, editor: editor.connection.close())",
        [("users", "0001")],
    )
    history.make_not_atomic("users.0002_prefs")
    history.migrate()
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
    assert [record.levelname for record in caplog.records] == (
        [] if VENDOR == "sqlite" else ["WARNING"]
    )
    assert not find(connections["default"]).is_taken()


def test_in_a_transaction_of_somebody_else_it_works_too(history: History) -> None:
    history.have(USERS)
    history.migrate("users", "0001")
    with transaction.atomic(using="default"):
        history.migrate("users", fake=True)
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
