"""Adoption where the same table was changed by others: by field, not by table."""

from __future__ import annotations

import json
import re

import pytest

from tests.history import CREATE, History
from tests.schemas import schema_of

WIDE = CREATE.replace(
    "],", '    ("old", models.IntegerField(default=1)),\n    ],', 1
).replace('default="")', 'default="", db_index=True)')
RENAME = 'migrations.RenameField("thing", "name", "title"),'
ALTER = 'migrations.AlterField("thing", "name", models.CharField(max_length=99)),'
REMOVE = 'migrations.RemoveField("thing", "old"),'
ADD = 'migrations.AddField("thing", "new", models.IntegerField({})),'
ADD_B = 'migrations.AddField("thing", "b", models.IntegerField(null=True)),'
INDEX = 'migrations.AddIndex("thing", models.Index(fields=["{}"], name="index_n")),'

# What SQLite does by making the table anew, and what it does not.
OTHERS = [
    ADD.format("null=True"),
    ADD.format("default=7"),
    ADD.format("default=7, unique=True"),
    'migrations.AlterField("thing", "old", models.BigIntegerField(default=1)),',
    REMOVE,
    INDEX.format("old"),
]


def actions(history: History) -> list[tuple[str, str]]:
    output = history.run("rewind", plan=True, format="json", migrate=True)
    steps = json.loads(output)["steps"]
    return [(step["action"], step["migration_name"]) for step in steps]


def rewind(history: History) -> str:
    return history.run("rewind", migrate=True, interactive=False)


def assert_is_as_fresh(history: History) -> None:
    assert "Nothing to rewind in" in rewind(history)
    history.migrate(database="other")
    assert schema_of("default") == schema_of("other")
    assert set(history.recorded()) == set(history.recorded(alias="other"))


def write_chain(history: History, *operations: str) -> list[str]:
    """users.0002, 0003 and so on, of what is to be done to the model of 0001."""
    history.write("users.0001", WIDE)
    before, names = "0001", []
    for number, operation in enumerate(operations, 2):
        words = re.findall(r"\w+", operation)
        name = f"{number:04}_{words[1]}_{words[3]}".lower()
        history.write(f"users.{name}", operation, [("users", before)])
        before = name
        names.append(name)
    return names


def change_branch(history: History, names: list[str], *operations: str) -> None:
    """After a row was written."""
    history.migrate()
    values = {"id": 1, "name": "'n'", "title": "'n'", "old": 2, "new": 3, "b": 5}
    columns = history.columns("users_thing")
    there = ", ".join(str(values[column]) for column in columns)
    history.sql(f"INSERT INTO users_thing ({', '.join(columns)}) VALUES ({there})")
    history.lose(*(f"users.{name}" for name in names))
    write_chain(history, *operations)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("change", [RENAME, ALTER])
def test_what_was_rebased_behind_another_change_of_its_table(
    history: History, change: str, other: str
) -> None:
    names = write_chain(history, change, ADD_B)
    change_branch(history, names, other, change, ADD_B)
    assert {action for action, _ in actions(history)} == {"adopt"}
    output = rewind(history)
    assert "Unapplying" not in output
    title = "title" if change == RENAME else "name"
    found = history.sql(f"SELECT {title}, b FROM users_thing")
    assert [*map(tuple, found)] == [("n", 5)]
    assert_is_as_fresh(history)


@pytest.mark.parametrize("other", OTHERS[:4])
@pytest.mark.parametrize("change", [RENAME, ALTER])
def test_and_back_to_the_branch_where_it_came_first(
    history: History, change: str, other: str
) -> None:
    names = write_chain(history, other, change, ADD_B)
    change_branch(history, names, change, ADD_B)
    found = actions(history)
    assert [action for action, _ in found] == ["adopt", "adopt", "reverse"]
    rewind(history)
    title = "title" if change == RENAME else "name"
    rows = history.sql(f"SELECT {title}, b, old FROM users_thing")
    assert [*map(tuple, rows)] == [("n", 5, 2)]
    assert_is_as_fresh(history)


@pytest.mark.parametrize(
    "other",
    [
        ALTER,
        INDEX.format("name"),
        'migrations.AlterUniqueTogether("thing", {("name", "old")}),',
        'migrations.RunSQL("SELECT 1", "SELECT 1"),',
    ],
)
def test_what_touches_the_same_field_is_in_between(
    history: History, other: str
) -> None:
    names = write_chain(history, RENAME)
    change_branch(history, names, other, RENAME)
    assert actions(history) == [("reverse", names[0])]
    rewind(history)
    assert_is_as_fresh(history)
