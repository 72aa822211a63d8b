"""Ghosts are in the graph during a rollback, and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.core.management import CommandError
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from django_rewind import history as stored_history
from django_rewind import rewind, signing
from django_rewind.capture import set_source
from django_rewind.loader import make_loader
from django_rewind.models import MigrationCode
from tests.history import History


@contextmanager
def rollback_of(label: str) -> Iterator[Any]:
    """The loader that `migrate label zero` uses."""
    connection = connections["default"]
    rollback = rewind.prepare(connection, label, "zero")
    assert rollback is not None
    with stored_history.using(rollback.history):
        yield make_loader(connection)


@pytest.fixture
def ghost(history: History) -> History:
    """users.0002_prefs is a ghost, recorded after the file users.0002_age beside it."""
    history.have("users: 0001 > 0002_age")
    history.migrate()
    history.lose("users.0002_age")
    history.make_ghost("users.0002_prefs", None, [("users", "0001")])
    history.find("users.0002_age")
    return history


def what_it_sees(loader: Any) -> dict[str, object]:
    return {
        "disk": set(loader.disk_migrations),
        "nodes": set(loader.graph.nodes),
        "leaves": set(loader.graph.leaf_nodes()),
        "applied": set(loader.applied_migrations),
        "migrated": loader.migrated_apps,
        "unmigrated": loader.unmigrated_apps,
        "conflicts": loader.detect_conflicts(),
        "state": set(loader.project_state().models),
    }


def test_outside_a_rollback_it_sees_what_django_sees(ghost: History) -> None:
    connection = connections["default"]
    ours = make_loader(connection)
    assert type(ours) is not MigrationLoader
    assert what_it_sees(ours) == what_it_sees(MigrationLoader(connection))
    assert ("users", "0002_prefs") not in ours.graph.nodes


def test_in_a_rollback_it_sees_the_ghosts(ghost: History) -> None:
    with rollback_of("users") as loader:
        assert set(loader.ghosts) == {("users", "0002_prefs")}
        # Its sibling was applied before it.
        assert loader.graph.node_map["users", "0002_prefs"].parents == {
            loader.graph.node_map["users", "0001"],
            loader.graph.node_map["users", "0002_age"],
        }
    assert what_it_sees(make_loader(connections["default"])) == what_it_sees(
        MigrationLoader(connections["default"])
    )


def test_a_rollback_of_one_database_is_no_matter_of_others(ghost: History) -> None:
    key = "users", "0002_prefs"
    with rollback_of("users") as loader:
        assert key in loader.graph.nodes
        assert key not in make_loader(connections["other"]).graph.nodes
        assert key not in MigrationLoader(connections["default"]).graph.nodes
        without_database = type(loader)(None, ignore_no_migrations=True)
        assert key not in without_database.graph.nodes


def test_an_app_without_migrations_has_them_while_its_ghosts_are_reversed(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    shutil.rmtree(history.folder / "users" / "migrations")
    history.forget_modules()
    with rollback_of("users") as loader:
        assert "users" in loader.migrated_apps
        assert "users" not in loader.unmigrated_apps
    assert "users" in make_loader(connections["default"]).unmigrated_apps
    history.migrate("users", "zero")
    assert history.recorded() == []
    assert "users_thing" not in history.tables()


def test_a_ghost_never_makes_a_conflict(ghost: History) -> None:
    ghost.have("blog: 0001 > 0002_body")
    ghost.migrate()
    with rollback_of("blog") as loader:
        leaves = loader.graph.leaf_nodes("users")
        assert leaves == [("users", "0002_age"), ("users", "0002_prefs")]
        assert loader.detect_conflicts() == {}


def test_files_in_conflict_are_reported_in_a_rollback_too(ghost: History) -> None:
    ghost.write("users.0002_name", None, [("users", "0001")])
    with pytest.raises(CommandError) as conflict:
        ghost.migrate("users", "0001")
    assert "0002_age, 0002_name in users" in str(conflict.value)
    assert "0002_prefs" not in str(conflict.value)
    assert "users.0002_prefs" in ghost.recorded()


def test_files_applied_out_of_order_are_reported_in_a_rollback_too(
    ghost: History,
) -> None:
    ghost.write("users.0000", None, [])
    ghost.write("users.0001", None, [("users", "0000")])
    with pytest.raises(Exception, match=r"users\.0001 is applied before its dep"):
        ghost.migrate("users", "0001")
    assert "users.0002_prefs" in ghost.recorded()


def test_a_prefix_that_fits_a_file_and_a_ghost_means_the_file(ghost: History) -> None:
    output = ghost.migrate("users", "0002", plan=True)
    assert "users.0002_prefs (stored code)" in output
    assert "users.0002_age" not in output
    ghost.migrate("users", "0002")
    assert ghost.recorded() == ["users.0001", "users.0002_age"]


def test_an_edited_file_is_still_a_file(ghost: History) -> None:
    path = ghost.path("users.0002_age")
    path.write_text(path.read_text().replace("null=True", "null=True, default=7"))
    ghost.migrate("users", "0002")
    assert ghost.recorded() == ["users.0001", "users.0002_age"]


@pytest.mark.parametrize("name", ["0002_prefs", "0002_p"])
def test_a_name_or_prefix_that_fits_one_ghost_means_the_ghost(
    ghost: History, name: str
) -> None:
    ghost.lose("users.0002_age")
    ghost.find("users.0002_prefs")
    ghost.write("users.0003_last", None, [("users", "0002_prefs")])
    ghost.migrate()
    ghost.lose("users.0002_prefs", "users.0003_last")
    ghost.find("users.0002_age")
    ghost.migrate("users", name)
    assert ghost.recorded() == ["users.0001", "users.0002_age", "users.0002_prefs"]
    # In which order they stand depends on who remade the table.
    assert sorted(ghost.columns("users_thing")) == ["age", "id", "name", "prefs"]


def test_the_name_of_a_ghost_may_begin_that_of_another(history: History) -> None:
    history.have("users: 0001 > 0002_pre > 0002_prefs")
    history.migrate()
    history.lose("users.0002_pre", "users.0002_prefs")
    history.migrate("users", "0002_pre")
    assert history.recorded() == ["users.0001", "users.0002_pre"]


def test_a_prefix_that_fits_several_ghosts_is_an_error_that_names_them(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_prefs > 0002_age")
    history.migrate()
    history.lose("users.0002_prefs", "users.0002_age")
    for command in ["migrate", "sqlmigrate"]:
        with pytest.raises(CommandError) as error:
            history.run(command, "users", "0002")
        assert str(error.value) == (
            "More than one migration matches '0002' in app 'users': "
            "0002_prefs, 0002_age. Please be more specific."
        )
    assert len(history.recorded()) == 3


def test_what_django_says_of_other_names_stays(ghost: History) -> None:
    ghost.write("users.0003_a", None, [("users", "0002_age")])
    ghost.write("users.0003_b", None, [("users", "0003_a")])
    with pytest.raises(CommandError, match="Cannot find a migration matching '0009'"):
        ghost.migrate("users", "0009")
    with pytest.raises(CommandError, match="More than one migration matches '0003'"):
        ghost.migrate("users", "0003")


BROKEN = "this is not Python"


@pytest.fixture(params=["as it was", BROKEN, "raise SystemExit(3)"])
def users(history: History, request: pytest.FixtureRequest) -> History:
    """Two files and a ghost after them, whose stored code may be broken."""
    history.have("users: 0001 > 0002_age > 0003_prefs")
    history.migrate()
    history.lose("users.0003_prefs")
    if request.param != "as it was":
        code = MigrationCode.objects.get(migration_name="0003_prefs")
        set_source(code, request.param)
        signing.sign(code)
        code.save()
    return history


def test_makemigrations_never_sees_a_ghost(users: History) -> None:
    users.run("makemigrations", "users", "--empty", "--name", "next")
    text = users.path("users.0003_next").read_text()
    assert "('users', '0002_age')" in text
    assert "prefs" not in text


def test_squashmigrations_never_sees_a_ghost(users: History) -> None:
    with pytest.raises(CommandError, match="Cannot find a migration matching '0003'"):
        users.run("squashmigrations", "users", "0003", "--noinput")
    users.run("squashmigrations", "users", "0002", "--noinput")
    text = users.path("users.0001_squashed_0002_age").read_text()
    assert "prefs" not in text


if django.VERSION >= (4, 1):

    def test_optimizemigration_never_sees_a_ghost(users: History) -> None:
        output = users.run("optimizemigration", "users", "0002")
        assert "No optimizations possible." in output
        with pytest.raises(CommandError, match="Cannot find a migration matching"):
            users.run("optimizemigration", "users", "0003")


def test_a_forward_migrate_never_sees_a_ghost(users: History) -> None:
    users.write("users.0003_next", None, [("users", "0002_age")])
    users.migrate("users", "0003_next")
    users.write("users.0004_last", None, [("users", "0003_next")])
    users.migrate()
    assert users.recorded()[-3:] == [
        "users.0003_prefs",
        "users.0003_next",
        "users.0004_last",
    ]
