"""Whoever drives the executor: nothing is reversed under a ghost that stays."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from django_rewind.exceptions import Refused
from tests.history import History


def migrate(label: str, name: str | None, *, fake: bool = False) -> None:
    MigrationExecutor(connection).migrate([(label, name)], fake=fake)


def test_what_a_ghost_came_after_is_not_reversed(history: History) -> None:
    history.have("users: 0001 > 0002_prefs > 0003_age")
    history.migrate()
    history.lose("users.0003_age")
    before = history.columns("users_thing")
    for target in ("0001", None):
        with pytest.raises(Refused) as refusal:
            migrate("users", target)
        assert str(refusal.value).startswith("Cannot reverse users.000")
        assert (
            "Nothing was changed.\n  users.0003_age: its file is missing, and it "
            "depends on users.0002_prefs. 'manage.py migrate users NAME' goes back to "
            "the one before it; run that first."
        ) in str(refusal.value)
    assert history.recorded() == ["users.0001", "users.0002_prefs", "users.0003_age"]
    assert history.columns("users_thing") == before
    history.migrate("users", "0002_prefs")
    migrate("users", None)
    assert history.recorded() == []


def test_nor_what_a_ghost_beside_it_came_after(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_mine", None, [("users", "0001")])
    history.migrate()
    history.write("users.0003_theirs", None, [("users", "0001")])
    MigrationExecutor(connection).migrate([("users", "0003_theirs")])
    history.lose("users.0003_theirs")
    with pytest.raises(Refused, match=r"users\.0003_theirs: .* users\.0002_mine"):
        MigrationExecutor(connection).migrate([("users", "0001")])
    assert history.recorded()[-1] == "users.0003_theirs"


def test_nor_under_a_ghost_of_another_app(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001 > 0002_body(users.0002_prefs)")
    history.migrate()
    history.lose("blog.0002_body")
    with pytest.raises(Refused, match=r"it depends on users\.0002_prefs"):
        migrate("users", "0001")
    assert "prefs" in history.columns("users_thing")


def test_a_ghost_that_needs_none_of_it_may_stay(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001")
    history.migrate("users")
    history.migrate()
    history.lose("blog.0001")
    migrate("users", "0001")
    assert history.recorded() == ["users.0001", "blog.0001"]


def test_a_fake_is_not_refused(history: History) -> None:
    history.have("users: 0001 > 0002_prefs > 0003_age")
    history.migrate()
    history.lose("users.0003_age")
    migrate("users", "0001", fake=True)
    assert history.recorded() == ["users.0001", "users.0003_age"]


def test_what_is_squashed_is_no_ghost(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    squash = history.write("users.0001_squashed", "")
    replaces = "    replaces = [('users', '0001'), ('users', '0002_prefs')]\n"
    text = history.path("users.0001").read_text()
    squash.write_text(text.replace("    dep", f"{replaces}    dep"))
    history.forget_modules()
    history.migrate()
    history.lose("users.0001", "users.0002_prefs")
    migrate("users", None)
    assert "users_thing" not in history.tables()
