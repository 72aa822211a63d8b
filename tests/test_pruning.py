"""What nothing relies on can go, and nothing else does."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection, transaction
from django.utils import timezone

from django_rewind import chronicle, journal, needs, pruning, signing, source, store
from django_rewind.archive import EarlierMigrationCode, NeededCode
from django_rewind.exceptions import RewindError
from django_rewind.models import Key, MigrationCode
from django_rewind.pruning import Scope
from tests.history import History
from tests.test_commands import HARMFUL, HOSTILE, Result, alter, run, verdicts

COMMAND = "prune_stored_migrations"
RECORD = """
    INSERT INTO django_migrations (app, name, applied)
    VALUES ('users', '{}', CURRENT_TIMESTAMP)
"""


@pytest.fixture
def users(history: History) -> History:
    """users.0002_prefs and 0003_more are stored, and not recorded any more."""
    history.have("users: 0001 > 0002_prefs > 0003_more; blog: 0001(users.0001)")
    history.migrate()
    history.migrate("users", "0001")
    return history


def prune(history: History, *args: str) -> Result:
    return run(history, COMMAND, "--noinput", *args)


def stored(alias: str = "default") -> list[str]:
    rows = MigrationCode.objects.using(alias).exclude(app_label="django_rewind")
    return [str(code) for code in rows]


def earlier() -> list[str]:
    rows = EarlierMigrationCode._default_manager.order_by("pk")
    return [f"{version}: {version.source_code.partition(':')[0]}" for version in rows]


def needed() -> set[str]:
    return set(NeededCode._default_manager.values_list("source_code", flat=True))


def store_row(name: str, text: str = "", needs: str = "", **fields: Any) -> None:
    code = MigrationCode(app_label="users", migration_name=name, **fields)
    code.source_code = text or f"{name}: x"
    code.needed = {"a": needs} if needs else {}
    code.closure = json.dumps({n: source.digest(t) for n, t in code.needed.items()})
    signing.sign(code)
    store.save(connection, code)


def need(name: str, **texts: str) -> None:
    """Let a stored migration have needed this from the beginning."""
    digests = {n: source.digest(text) for n, text in texts.items()}
    for n, text in texts.items():
        NeededCode._default_manager.get_or_create(
            digest=digests[n], defaults={"source_code": text}
        )
    code = MigrationCode.objects.get(app_label="users", migration_name=name)
    code.closure = json.dumps(digests)
    signing.sign(code)
    code.save()


def age(name: str, **since: int) -> None:
    stored_at = timezone.now() - timedelta(**since)
    for rows in (MigrationCode.objects, EarlierMigrationCode._default_manager):
        rows.filter(migration_name=name).update(stored_at=stored_at)


def test_what_is_not_recorded_goes(users: History) -> None:
    result = prune(users)
    assert result.code == 0
    assert stored() == ["blog.0001", "users.0001"]
    assert verdicts(users) == {}
    # And comes again.
    users.migrate()
    assert stored()[1:] == ["users.0001", "users.0002_prefs", "users.0003_more"]


@pytest.mark.parametrize("older_than", [None, "0h"])
def test_what_a_restore_point_remembers_stays(
    users: History, older_than: str | None
) -> None:
    users.migrate()
    users.run("restore_point", "full")
    first = users.path("users.0003_more").read_text()
    users.migrate("users", "0001")
    other = first.replace("more", "other")
    users.write("users.0003_more", text=other)
    users.migrate()
    users.migrate("users", "0001")
    options = [] if older_than is None else ["--older-than", older_than]
    prune(users, *options)
    users.lose("users.0002_prefs", "users.0003_more")
    users.run("rewind", to="full", migrate=True, interactive=False)
    assert "more" in users.columns("users_thing")
    users.run("restore_point", delete="full")
    users.run("rewind", "users", "0001", interactive=False)
    prune(users)
    assert stored() == ["blog.0001", "users.0001"]


def test_what_goes_is_listed_first(
    users: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = MigrationCode.objects.filter(migration_name__in=["0002_prefs", "0003_more"])
    asked: list[str] = []

    def agree(prompt: str) -> str:
        asked.append(prompt)
        return "yes"

    shown = [f"  {c}  {c.stored_at:%Y-%m-%d %H:%M}  {c.size} bytes" for c in codes]
    monkeypatch.setattr("builtins.input", agree)
    assert run(users, COMMAND).out.splitlines() == [
        "To be removed:",
        *shown,
        "Removed 2 stored migrations.",
    ]
    assert asked == ["Remove it for good? [yes/N] "]


@pytest.mark.parametrize("said", ["", "y", "no", "YES"])
def test_anything_but_yes_removes_nothing(
    users: History, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: said)
    with pytest.raises(CommandError, match="Nothing was removed"):
        run(users, COMMAND)
    assert len(stored()) == 4


@pytest.mark.parametrize("stop", [KeyboardInterrupt, EOFError])
def test_an_interruption_removes_nothing(
    users: History, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupt(prompt: str) -> str:
        raise stop

    monkeypatch.setattr("builtins.input", interrupt)
    with pytest.raises(CommandError, match="Operation cancelled"):
        run(users, COMMAND)
    assert len(stored()) == 4


def test_dry_run_removes_nothing(users: History) -> None:
    result = prune(users, "--dry-run")
    assert result.out.startswith("Would remove:\n  users.0002_prefs")
    assert len(stored()) == 4


def test_nothing_to_remove_is_said(users: History) -> None:
    prune(users)
    assert run(users, COMMAND).out == "Nothing to remove.\n"


def test_of_one_app_only_that_app_goes(users: History) -> None:
    users.migrate("blog", "zero")
    prune(users, "blog")
    assert stored() == ["users.0001", "users.0002_prefs", "users.0003_more"]
    with pytest.raises(CommandError, match="'nowhere'"):
        prune(users, "nowhere")


def test_another_database_is_left_alone(users: History) -> None:
    users.migrate(database="other")
    users.migrate("users", "0001", database="other")
    prune(users)
    assert len(stored("other")) == 4


def test_a_database_without_tables_is_no_error(history: History) -> None:
    history.have("users: 0001")
    assert run(history, COMMAND).out == "Nothing to remove.\n"
    assert "django_migrations" not in history.tables()


# Squashes


def relied_on(recorded: str, *codes: MigrationCode) -> list[str]:
    keys = [("users", name) for name in recorded.split()]
    return sorted(name for _, name in pruning.find_relied_on(keys, codes))


def code(name: str, replaces: str = "", dependencies: str = "") -> MigrationCode:
    def dump(names: str) -> str:
        return json.dumps([["users", n] for n in names.split()])

    return MigrationCode(
        app_label="users",
        migration_name=name,
        replaces=dump(replaces),
        dependencies=dump(dependencies),
    )


def test_what_a_recorded_squash_replaces_is_relied_on() -> None:
    squash = code("squash", replaces="0001 0002")
    assert relied_on("squash", squash) == ["0001", "0002", "squash"]


def test_a_squash_of_what_is_recorded_is_relied_on() -> None:
    squash = code("squash", replaces="0001 0002")
    assert "squash" in relied_on("0001", squash)


def test_a_squash_of_a_squash_relies_on_the_first_originals() -> None:
    squashes = code("new", replaces="old"), code("old", replaces="0001")
    assert relied_on("new", *squashes) == ["0001", "new", "old"]


def test_a_dependency_of_what_is_recorded_is_relied_on() -> None:
    assert relied_on("0002", code("0002", dependencies="0001")) == ["0001", "0002"]


def test_what_depends_on_what_is_recorded_is_not_relied_on() -> None:
    assert relied_on("0001", code("0002", dependencies="0001")) == ["0001"]


def test_the_branch_from_before_a_squash_can_still_be_gone_back_to(
    users: History,
) -> None:
    store_row("squash", replaces='[["users", "0001"], ["users", "0002_prefs"]]')
    users.sql(RECORD.format("squash"))
    prune(users)
    assert stored() == [
        "blog.0001",
        "users.0001",
        "users.0002_prefs",
        "users.squash",
    ]


# Ages


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("2w", timedelta(weeks=2)),
        ("0d", timedelta()),
        ("99999w", timedelta(weeks=99999)),
    ],
)
def test_an_age_is_a_number_and_a_unit(text: str, meant: timedelta) -> None:
    assert pruning.read_age(text) == meant
    assert pruning.older_than(text) is not None


@pytest.mark.parametrize(
    "text", ["", "90", "d", "90 d", "90m", "-1d", "1.5d", "100000d", "٩d", "90d\n"]
)
def test_anything_else_is_no_age(users: History, text: str) -> None:
    with pytest.raises(RewindError, match="is no age"):
        pruning.read_age(text)
    with pytest.raises(CommandError, match="is no age"):
        prune(users, f"--older-than={text}")
    assert len(stored()) == 4


def test_only_what_is_old_enough_goes(users: History) -> None:
    age("0001", days=200)
    age("0002_prefs", days=91)
    age("0003_more", days=89)
    prune(users, "--older-than=90d")
    assert stored() == ["blog.0001", "users.0001", "users.0003_more"]


@pytest.mark.only("sqlite")
def test_what_has_no_date_has_no_age(users: History) -> None:
    users.sql("UPDATE django_migrations_code SET stored_at = 'x'")
    prune(users, "--older-than=0d")
    assert len(stored()) == 4
    assert "  users.0002_prefs  ?  " in prune(users).out


# Earlier versions


def test_earlier_versions_go_with_what_is_not_recorded(users: History) -> None:
    store_row("0001", "other: 0001")
    store_row("0002_prefs", "other: 0002")
    assert len(earlier()) == 2
    result = prune(users)
    assert "  (earlier version)\n" in result.out
    assert "Removed 3 stored migrations" in result.out
    assert [version.partition(":")[0] for version in earlier()] == ["users.0001"]


def test_old_earlier_versions_of_what_is_recorded_go_if_an_age_is_given(
    users: History,
) -> None:
    store_row("0001", "two: x")
    age("0001", days=91)
    store_row("0001", "three: x")
    prune(users)
    assert len(earlier()) == 2
    prune(users, "--older-than=90d")
    assert earlier() == []
    kept = MigrationCode.objects.get(app_label="users", migration_name="0001")
    assert kept.source_code == "three: x"


def test_a_recent_earlier_version_stays(users: History) -> None:
    store_row("0001", "two: x")
    prune(users, "--older-than=1h")
    assert len(earlier()) == 1


# The code that they needed


def test_code_that_only_they_needed_goes(users: History) -> None:
    need("0001", a="shared", b="own of 0001")
    need("0002_prefs", a="shared", b="own of 0002")
    need("0003_more", b="own of 0002")
    result = prune(users)
    assert "1 texts of other code that nothing else needs" in result.out
    assert needed() == {"shared", "own of 0001"}
    found = store.fetch(connection, [("users", "0001")])["users", "0001"]
    assert found.needed == {"a": "shared", "b": "own of 0001"}


def test_code_that_an_earlier_version_needs_stays(users: History) -> None:
    need("0001", a="of the first version")
    store_row("0001", "other: x")
    prune(users)
    assert needed() == {"of the first version"}


def test_code_that_nothing_needs_goes_also_if_it_is_all(users: History) -> None:
    prune(users)
    NeededCode._default_manager.create(digest="0" * 64, source_code="x")
    assert "Removed 0 stored migrations and 1 texts" in prune(users).out
    assert needed() == set()


def test_code_that_an_altered_row_mentions_stays(users: History) -> None:
    need("0001", a="needed")
    closure = MigrationCode.objects.get(
        app_label="users", migration_name="0001"
    ).closure
    alter("users.0001", closure=closure[:-1])
    prune(users)
    assert needed() == {"needed"}


# Between the question and the answer


def agree_after(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def agree(prompt: str) -> str:
        change()
        return "yes"

    monkeypatch.setattr("builtins.input", agree)


def test_what_was_recorded_meanwhile_stays(
    users: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("0002_prefs", a="of 0002")
    agree_after(monkeypatch, lambda: users.migrate("users", "0002"))
    result = run(users, COMMAND)
    assert stored() == ["blog.0001", "users.0001", "users.0002_prefs"]
    assert "Removed 1 stored migrations" in result.out
    assert "The rest changed while it was looked at, and stays." in result.out


def test_what_was_not_shown_stays(
    users: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        store_row("0003_more", "other: x", needs="needed")
        users.migrate("blog", "zero")

    need("0003_more", a="needed")
    agree_after(monkeypatch, change)
    run(users, COMMAND)
    assert stored() == ["blog.0001", "users.0001", "users.0003_more"]
    assert needed() == {"needed"}


@pytest.mark.only("postgresql", "mysql")
@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_being_stored_is_waited_for(users: History, is_new: bool) -> None:
    need("0002_prefs", a="needed")
    agreed = pruning.find(connection, Scope())
    assert len(agreed.codes) == 2
    removed: list[pruning.Surplus] = []

    def prune_beside() -> None:
        try:
            removed.append(pruning.prune(connection, Scope(), agreed))
        finally:
            connection.close()

    beside = Thread(target=prune_beside)
    with transaction.atomic():
        # As a migrate does that applies it.
        users.sql(RECORD.format("0004" if is_new else "0002_prefs"))
        store_row("0004" if is_new else "0002_prefs", "x", needs="needed")
        beside.start()
        beside.join(timeout=1)
        assert beside.is_alive()
    beside.join()
    kept = "users.0004" if is_new else "users.0002_prefs"
    assert stored() == ["blog.0001", "users.0001", kept]
    assert needed() == {"needed"}
    assert removed[0].needed == set()


def test_a_failure_removes_nothing(
    users: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("0002_prefs", a="needed")

    def fail(*args: object) -> None:
        raise RewindError("failed")

    monkeypatch.setattr(needs, "delete", fail)
    with pytest.raises(CommandError, match="failed"):
        prune(users)
    assert len(stored()) == 4


# Hostile content


@pytest.mark.parametrize("column", ["replaces", "dependencies", "closure"])
@pytest.mark.parametrize("text", ["x", "[" * 100_000, '{"a": [1]}', "[[1]]"])
def test_broken_metadata_is_no_error(users: History, column: str, text: str) -> None:
    alter("users.0001", **{column: text})
    alter("users.0003_more", **{column: text})
    assert prune(users).code == 0
    assert "users.0001" in stored()
    assert "users.0003_more" not in stored()


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(
    "column", ["source_code", "replaces", "dependencies", "closure", "size", "gap"]
)
def test_bytes_in_a_column_are_no_error(users: History, column: str) -> None:
    users.sql(f"UPDATE django_migrations_code SET {column} = %s", [b"\xff\x00"])
    assert prune(users).code == 0
    assert stored() == ["blog.0001", "users.0001"]


@pytest.mark.only("sqlite")
def test_a_name_of_bytes_is_no_error(users: History) -> None:
    users.sql(
        "UPDATE django_migrations_code SET migration_name = %s "
        "WHERE migration_name = '0003_more'",
        [b"\xff\x1b[31m"],
    )
    result = prune(users)
    assert not HARMFUL.search(result.out)
    assert stored() == ["blog.0001", "users.0001"]


def test_names_are_listed_harmlessly(users: History) -> None:
    store_row(f"{HOSTILE}\nforged")
    result = prune(users, "--dry-run")
    assert not HARMFUL.search(result.out)
    assert "\nforged" not in result.out


def test_many_rows_are_no_error(users: History) -> None:
    rows = [
        MigrationCode(app_label="users", migration_name=f"x{number}", source_code="x")
        for number in range(1500)
    ]
    MigrationCode.objects.bulk_create(rows)
    texts = [NeededCode(digest=f"{n:064}", source_code="x") for n in range(1500)]
    NeededCode._default_manager.bulk_create(texts)
    assert "Removed 1502 stored migrations and 1500 texts" in prune(users).out


def test_pruning_runs_nothing_that_is_stored(users: History, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"open({str(marker)!r}, 'w').close()\n"
    for name in ["0001", "0002_prefs"]:
        store_row(name, text)
    prune(users)
    assert stored() == ["blog.0001", "users.0001"]
    assert not marker.exists()


def test_keys_are_compared_whole() -> None:
    other: Key = ("blog", "0001")
    assert pruning.find_relied_on([other], [code("0001")]) == {other}
    assert not Scope("blog").has(code("0001"), set(), set())


def test_what_was_pruned_is_journalled(users: History) -> None:
    store_row("0009_old", "x")
    prune(users)
    events = chronicle.tell(journal.read(connection))
    assert events[-1].what == "prune code users.0009_old"
    assert events[-1].status == "done"
