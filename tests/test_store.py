"""Saved and fetched in the database that it describes; nothing is overwritten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.test import override_settings

from django_rewind import signing, store, tables
from django_rewind.archive import EarlierMigrationCode
from django_rewind.models import MigrationCode
from tests.history import History


def make(text: str, name: str = "0001", **fields: str) -> MigrationCode:
    code = MigrationCode(
        app_label="users", migration_name=name, source_code=text, **fields
    )
    signing.sign(code)
    return code


def earlier(alias: str = "default") -> list[EarlierMigrationCode]:
    return list(EarlierMigrationCode._default_manager.using(alias).order_by("pk"))


def test_what_is_saved_is_fetched(db: None) -> None:
    store.save(connection, make("one"))
    store.save(connection, make("two", "0002"))
    keys = [("users", "0001"), ("users", "0002"), ("users", "0003")]
    found = store.fetch(connection, keys)
    assert {key: code.source_code for key, code in found.items()} == {
        ("users", "0001"): "one",
        ("users", "0002"): "two",
    }
    assert store.fetch(connection, []) == {}
    # Not any app with any of the names.
    assert store.fetch(connection, [("users", "0003"), ("blog", "0001")]) == {}


def test_each_database_has_its_own(db: None) -> None:
    store.save(connections["other"], make("other"))
    assert ("users", "0001") not in store.contents(connection).stored
    found = store.contents(connections["other"])
    store.add_unrecorded(connections["other"], found)
    assert ("users", "0001") in found.stored
    assert ("users", "0001") not in store.digests(connection)
    assert store.fetch(connection, [("users", "0001")]) == {}


def test_other_code_keeps_the_earlier_version(db: None) -> None:
    store.save(connection, make("one", digest="1", module_name="a.b"))
    before = store.fetch(connection, [("users", "0001")])["users", "0001"]
    store.save(connection, make("two", digest="2"))
    after = store.fetch(connection, [("users", "0001")])["users", "0001"]
    assert (after.source_code, after.digest, after.pk) == ("two", "2", before.pk)
    (version,) = earlier()
    for field in EarlierMigrationCode._meta.fields:
        if not field.primary_key:
            assert getattr(version, field.name) == getattr(before, field.name)
    signing.verify(version)


def test_every_version_is_kept(db: None) -> None:
    for text in ["one", "two", "one", "three"]:
        store.save(connection, make(text))
    assert [version.source_code for version in earlier()] == ["one", "two", "one"]
    assert earlier("other") == []


def test_the_same_code_makes_no_version(db: None) -> None:
    store.save(connection, make("one"))
    stored_at = store.rows(connection).get(app_label="users").stored_at
    store.save(connection, make("one"))
    assert earlier() == []
    assert store.rows(connection).get(app_label="users").stored_at == stored_at


def test_a_gap_does_not_lose_the_code_before_it(db: None) -> None:
    store.save(connection, make("one"))
    store.save(connection, make("", gap="no source"))
    assert [version.source_code for version in earlier()] == ["one"]
    store.save(connection, make("two"))
    assert [version.source_code for version in earlier()] == ["one"]


def test_a_version_tells_when_its_code_was_stored(db: None) -> None:
    store.save(connection, make("one"))
    before = store.rows(connection).get(app_label="users").stored_at
    store.save(connection, make("two"))
    after = store.rows(connection).get(app_label="users").stored_at
    assert earlier()[0].stored_at == before
    assert after > before, "the new code was not stored when the old one was"


# From here on, each test starts with empty databases.


def test_contents_say_what_is_recorded_and_stored(history: History) -> None:
    history.have("users: 0001 > 0002_b; blog: 0001")
    history.migrate("users")
    history.migrate("blog")
    store.save(connection, make("", "0009", gap="no source"))
    store.save(connection, make("x", "0010", replaces=json.dumps([["users", "0001"]])))
    contents = store.contents(connection)
    assert ("users", "0009") not in contents.stored
    store.add_unrecorded(connection, contents)
    assert contents.recorded == [
        ("users", "0001"),
        ("users", "0002_b"),
        ("blog", "0001"),
    ]
    assert contents.stored == {
        ("users", "0001"): [],
        ("users", "0002_b"): [],
        ("users", "0009"): [],
        ("users", "0010"): [("users", "0001")],
        ("blog", "0001"): [],
    }
    assert contents.gaps == {("users", "0009"): "no source"}
    assert contents.without_code() == []
    history.sql("DELETE FROM django_migrations_code WHERE app_label = 'blog'")
    assert store.contents(connection).without_code() == [("blog", "0001")]


def test_an_empty_database_has_no_contents(history: History) -> None:
    assert store.contents(connection) == store.Contents()
    assert store.digests(connection) == {}
    assert list(store.without_source(connection)) == []
    assert store.fetch(connection, [("users", "0001")]) == {}
    assert not history.tables()


def test_what_django_recorded_before_the_installation(history: History) -> None:
    history.have("users: 0001")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    assert store.contents(connection).recorded == [("users", "0001")]
    assert store.contents(connection).without_code() == [("users", "0001")]


@pytest.mark.parametrize(
    "replaces", ["", "no json", "[1]", "{}", "null", '[["a"]]', "[" * 100_000]
)
def test_hostile_text_replaces_nothing(replaces: str) -> None:
    assert make("one", replaces=replaces).replaced_keys == []


def test_a_missing_table_does_not_spoil_a_transaction(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    tables.drop(connection)
    with transaction.atomic():
        with pytest.raises(Exception, match="django_migrations_code"):
            store.contents_of_tables(connection)
        assert history.recorded() == ["users.0001"]


def test_a_missing_table_does_not_spoil_a_connection_without_autocommit(
    history: History,
) -> None:
    history.have("users: 0001")
    history.migrate()
    tables.drop(connection)
    connection.set_autocommit(False)
    try:
        assert ("users", "0001") in store.contents(connection).recorded
        assert history.recorded() == ["users.0001"]
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def test_flush_empties_nothing_of_ours(history: History) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate()
    history.write(
        "users.0002_b", 'migrations.RunSQL("SELECT 1", "")', [("users", "0001")]
    )
    history.migrate("users", "0001", fake=True)
    history.migrate("users", fake=True)
    assert len(earlier()) == 1
    before = store.contents(connection)
    history.run("flush", interactive=False)
    assert store.contents(connection) == before
    assert len(earlier()) == 1


@pytest.fixture
def contrib(history: History) -> History:
    names = ["contenttypes", "auth", "sites"]
    history.have("users: 0001 > 0002_b")
    apps = [*(f"django.contrib.{name}" for name in names), "users"]
    history.install(INSTALLED_APPS=["django_rewind", *apps])
    return history


def test_a_dump_of_all_data_can_be_loaded_into_another_database(
    contrib: History, tmp_path: Path
) -> None:
    # In another order.
    contrib.migrate("users")
    contrib.migrate()
    contrib.migrate(database="other")
    before = stored_rows("other")
    assert before != stored_rows("default")
    dump = str(tmp_path / "dump.json")
    natural = {"use_natural_foreign_keys": True, "use_natural_primary_keys": True}
    contrib.run("dumpdata", output=dump, **natural)
    assert "migrationcode" not in re.findall('"model": "(.*)"', Path(dump).read_text())
    contrib.run("loaddata", dump, database="other")
    assert stored_rows("other") == before
    contrib.run("verify_migrations", database="other")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_dump_from_before_it_was_installed_can_be_loaded(
    history: History, tmp_path: Path, is_first: bool
) -> None:
    """It moves no content type and no permission to another number."""
    history.have("users: 0001")
    apps = [f"django.contrib.{name}" for name in ("contenttypes", "auth", "sites")]
    apps.append("users")
    history.install(INSTALLED_APPS=apps, DJANGO_REWIND_ENABLED=False)
    history.migrate()
    dump = str(tmp_path / "dump.json")
    history.run("dumpdata", output=dump)
    own = ["django_rewind"]
    history.install(INSTALLED_APPS=[*own, *apps] if is_first else [*apps, *own])
    history.migrate(database="other")
    history.run("loaddata", dump, database="other")


@pytest.mark.parametrize("command", ["flush", "migrate"])
def test_a_test_may_leave_it_out(contrib: History, command: str) -> None:
    contrib.migrate()
    installed = ["django.contrib.contenttypes", "django.contrib.auth", "users"]
    with override_settings(INSTALLED_APPS=installed):
        contrib.run(command, interactive=False)


def test_no_signals_of_models_are_sent(history: History) -> None:
    """Whoever receives them may not have its tables yet, in the first migrate."""
    sent = []

    def receive(sender: Any, **kwargs: Any) -> None:
        if sender.__name__ != "Migration":
            sent.append(sender)

    signals = [pre_save, post_save, pre_delete, post_delete]
    for signal in signals:
        signal.connect(receive)
    try:
        history.have("users: 0001 > 0002_b")
        history.migrate()
        history.migrate("users", "0001", fake=True)
        text = 'migrations.RunSQL("SELECT 1", "")'
        history.write("users.0002_b", text, [("users", "0001")])
        history.migrate("users", fake=True)
        assert len(earlier()) == 1
        history.migrate("users", "zero", fake=True)
        history.run("prune_stored_migrations", "users", interactive=False)
        assert earlier() == []
    finally:
        for signal in signals:
            signal.disconnect(receive)
    assert sent == []


def stored_rows(alias: str) -> list[tuple[Any, ...]]:
    return list(MigrationCode._default_manager.using(alias).values_list())


def test_a_serialized_test_database_is_without_it(contrib: History) -> None:
    contrib.migrate()
    content = connection.creation.serialize_db_to_string()
    assert "sites.site" in content
    assert "django_rewind" not in content.replace('"app_label": "django_rewind"', "")


def test_the_permissions_are_made_by_what_applies_and_by_flush(
    contrib: History,
) -> None:
    names = [f"{name}_migrationcode" for name in ("add", "change", "delete", "view")]
    contrib.migrate()
    assert permissions(contrib) == names
    contrib.sql("DELETE FROM auth_permission")
    contrib.migrate()
    assert permissions(contrib) == []
    contrib.migrate("users", "0001")
    assert permissions(contrib) == names
    contrib.run("flush", interactive=False)
    assert permissions(contrib) == names


def permissions(contrib: History) -> list[str]:
    query = "SELECT codename FROM auth_permission ORDER BY codename"
    return [name for (name,) in contrib.sql(query) if name.endswith("migrationcode")]


def test_applying_other_code_again_keeps_what_was_applied_first(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_b")
    history.migrate()
    first = history.path("users.0002_b").read_text()
    history.migrate("users", "0001")
    assert earlier() == []
    second = history.write(
        "users.0002_b", 'migrations.RunSQL("SELECT 1", "")', [("users", "0001")]
    ).read_text()
    history.migrate()
    code = store.fetch(connection, [("users", "0002_b")])["users", "0002_b"]
    assert code.source_code == second
    (version,) = earlier()
    assert (version.key, version.source_code) == (code.key, first)
    signing.verify(version)
