"""Steps that stop half-way, where the database cannot take them back as a whole."""

from __future__ import annotations

from typing import Any

import django
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


# What a migration of anybody does is done once, and not to tell its SQL.

COUNTING = """\
from django.db import migrations
from django.db.migrations.operations.base import Operation


def note(what):
    def do(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("INSERT INTO users_thing (name) VALUES (%s)", [what])
    return do


class Note(Operation):
    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        note("forwards")(None, schema_editor)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        note("backwards")(None, schema_editor)


class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("users", "0001")]
    operations = [{operation}]
"""

RUN_PYTHON = "migrations.RunPython(note('forwards'), note('backwards'))"


def notes(history: History) -> list[str]:
    return sorted(name for (name,) in history.sql("SELECT name FROM users_thing"))


@pytest.mark.parametrize(
    "operation",
    [
        "Note()",
        f"migrations.SeparateDatabaseAndState(database_operations=[{RUN_PYTHON}])",
        RUN_PYTHON,
    ],
)
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("is_ghost", [True, False])
def test_to_tell_the_sql_runs_nothing(
    history: History, operation: str, atomic: bool, is_ghost: bool
) -> None:
    history.have("users: 0001")
    text = COUNTING.format(atomic=atomic, operation=operation)
    history.write("users.0002_x", text=text)
    history.migrate()
    if is_ghost:
        history.lose("users.0002_x")
    assert notes(history) == ["forwards"]
    told = history.run("rewind", "users", "0001", plan=True, sql=True)
    assert "CANNOT BE WRITTEN AS SQL" in told
    assert notes(history) == ["forwards"]
    history.migrate("users", "0001")
    assert notes(history) == ["backwards", "forwards"]


STATEMENTS = ["('DELETE FROM users_thing WHERE name IN (%s, %s)', ['a', 'b'])"]
if django.VERSION >= (5, 0) or connection.vendor != "sqlite":
    STATEMENTS.append("('DELETE FROM users_thing WHERE name = %(n)s', {'n': 'a'})")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_with_values_are_journalled(
    history: History, statement: str
) -> None:
    history.have("users: 0001")
    operation = f"migrations.RunSQL(migrations.RunSQL.noop, [{statement}]),"
    history.write("users.0002_x", operation, [("users", "0001")])
    history.make_not_atomic("users.0002_x")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name) VALUES (1, 'a'), (2, 'c')")
    history.migrate("users", "0001")
    assert notes(history) == ["c"]
    ran = [e.fields["sql"] for e in journal.read(connection) if e.fields.get("sql")]
    assert len(ran) == 1
    assert "DELETE FROM users_thing WHERE name" in ran[0]


def test_a_value_that_cannot_be_quoted_stands_beside_its_statement() -> None:
    class Editor:
        def quote_value(self, value: object) -> str:
            raise ValueError(value)

    told = halfway._with_values(Editor(), "DELETE FROM t WHERE n = %s", [b"x"])
    assert told == "DELETE FROM t WHERE n = %s -- with [b'x']"
