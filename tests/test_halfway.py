"""Steps that stop half-way, where the database cannot take them back as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.models import Model

from django_rewind import halfway, journal
from tests.history import History

ADD = 'migrations.AddField("thing", "{}", models.IntegerField(null=True)),'
THREE = "\n".join(ADD.format(name) for name in "abc")


def rewind(history: History, **options: Any) -> str:
    return history.run("rewind", interactive=False, **options)


def halves() -> dict[Any, halfway.Half]:
    return halfway.find(journal.read(connection))


@pytest.fixture
def three(history: History) -> History:
    """One ghost that added three columns, without a transaction on any database."""
    history.have("users: 0001")
    history.write("users.0002_three", THREE, [("users", "0001")])
    history.make_not_atomic("users.0002_three")
    history.migrate()
    history.lose("users.0002_three")
    return history


def fail_once(monkeypatch: pytest.MonkeyPatch, column: str, after: bool) -> None:
    """When a column is to be removed, before or after its statement."""
    editor: Any = type(connection.schema_editor())
    remove = editor.remove_field

    def fail(self: Any, model: type[Model], field: Any) -> None:
        if field.column != column or self.collect_sql:
            remove(self, model, field)
            return
        if after:
            remove(self, model, field)
        raise OSError("the disk is gone")

    monkeypatch.setattr(editor, "remove_field", fail)


def stop(
    history: History, monkeypatch: pytest.MonkeyPatch, column: str, *, after: bool
) -> str:
    """A rewind that ends there; what it says last."""
    with monkeypatch.context() as patch:
        fail_once(patch, column, after)
        with pytest.raises(CommandError, match="Stopped at") as error:
            rewind(history)
    assert error.value.returncode == 3
    return str(error.value).splitlines()[-1].strip()


def test_what_was_renamed_back_already_is_not_missed(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_x")
    text = """
    migrations.AddField("thing", "y", models.IntegerField(null=True)),
    migrations.RenameModel("Thing", "Item"),
    """
    history.write("users.0003_rename", text, [("users", "0002_x")])
    history.make_not_atomic("users.0003_rename")
    history.migrate()
    history.lose("users.0002_x", "users.0003_rename")
    stop(history, monkeypatch, "y", after=False)
    assert "users_thing" in history.tables()
    rewind(history)
    assert history.columns("users_thing") == ["id", "name"]


def test_between_two_operations_it_goes_on(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stop(three, monkeypatch, "b", after=False).endswith("it goes on from there.")
    assert three.columns("users_thing") == ["id", "name", "a", "b"]
    assert three.recorded() == ["users.0001", "users.0002_three"]
    plan = three.run("rewind", plan=True)
    assert "users.0002_three goes on after: Add field c to thing." in plan
    rewind(three)
    assert three.columns("users_thing") == ["id", "name"]
    assert three.recorded() == ["users.0001"]
    assert halves() == {}
    assert not list(journal.broken_links(journal.read(connection)))


def test_it_may_stop_more_than_once(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for column in "cba":
        stop(three, monkeypatch, column, after=False)
    assert three.columns("users_thing") == ["id", "name", "a"]
    rewind(three)
    assert three.columns("users_thing") == ["id", "name"]


def test_it_may_stop_again_before_it_begins(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("the disk is gone")

    stop(three, monkeypatch, "b", after=False)
    found = halves()
    with monkeypatch.context() as patch:
        patch.setattr(halfway, "describe", fail)
        with pytest.raises(CommandError, match="Stopped at"):
            rewind(three)
    assert halves() == found
    rewind(three)
    assert three.columns("users_thing") == ["id", "name"]
    assert halves() == {}


def test_inside_an_operation_it_gives_the_sql(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = stop(three, monkeypatch, "b", after=True)
    assert "'manage.py migrate users NAME --fake'" in by_hand
    assert three.columns("users_thing") == ["id", "name", "a"]
    with pytest.raises(CommandError, match="was reversed in part") as error:
        rewind(three)
    assert error.value.returncode == 2
    assert str(error.value).splitlines()[-1] == by_hand
    (half,) = halves().values()
    assert half.done == "Add field c to thing"
    text = str(error.value)
    assert "Operations that were reversed: Add field c to thing." in text
    assert "It stopped in: Add field b to thing." in text
    # What it says is right: finish by hand, and fake.
    for sql in half.to_finish():
        three.sql(sql)
    assert three.columns("users_thing") == ["id", "name"]
    three.migrate("users", "0001", fake=True)
    assert halves() == {}
    assert three.recorded() == ["users.0001"]


def test_what_was_undone_by_hand_is_reversed_as_a_whole(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "b", after=True)
    (half,) = halves().values()
    for sql in half.to_undo():
        three.sql(sql)
    assert sorted(three.columns("users_thing")) == ["a", "b", "c", "id", "name"]
    rewind(three, mended=True)
    assert three.columns("users_thing") == ["id", "name"]


def test_nothing_was_done_is_no_half(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "c", after=False)
    assert halves() == {}
    rewind(three)
    assert three.columns("users_thing") == ["id", "name"]
