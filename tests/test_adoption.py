"""Adoption where the same table was changed by others: by field, not by table."""

from __future__ import annotations

import json
import re

import pytest
from django import VERSION

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


def write_chain(history: History, *operations: str, first: str = WIDE) -> list[str]:
    """users.0002, 0003 and so on, of what is to be done to the model of 0001."""
    history.write("users.0001", first)
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


AUTHOR = CREATE.replace("Thing", "Author")
NOOP = "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),"
UNIQUE = """migrations.AddConstraint(
    "thing", models.UniqueConstraint(fields=["old"], name="constraint_o")
),"""
REFERS = 'models.ForeignKey("users.Author", models.CASCADE, null=True)'


POST = f"""migrations.CreateModel("Post", [
    ("id", models.BigAutoField(primary_key=True)), ("author", {REFERS})
]),"""
TO_CODE = f"""migrations.AddField("thing", "author",
    {REFERS[:-1]}, to_field="code")
),"""
TWICE = """migrations.AddField("thing", "twice", models.GeneratedField(
    expression=models.F("old") * 2, output_field=models.IntegerField(), db_persist=True
)),"""
RENAME_MODEL = 'migrations.RenameModel("Author", "Writer"),'
RENAME_CODE = 'migrations.RenameField("author", "code", "key"),'
RENAME_OLD = 'migrations.RenameField("thing", "old", "older"),'
needs_generated = pytest.mark.skipif(VERSION < (5, 0), reason="no GeneratedField")


@pytest.mark.parametrize(
    ("change", "other", "is_first"),
    [
        (RENAME_MODEL, f'migrations.AddField("thing", "author", {REFERS}),', False),
        (RENAME_MODEL, f'migrations.AddField("thing", "author", {REFERS}),', True),
        (RENAME_MODEL, POST, False),
        (RENAME_MODEL, POST, True),
        # Reversed in one go, Django's own field would have the new name already.
        (RENAME_CODE, TO_CODE, False),
        pytest.param(RENAME_OLD, TWICE, False, marks=needs_generated),
        pytest.param(RENAME_OLD, TWICE, True, marks=needs_generated),
    ],
)
def test_what_another_one_refers_to_is_in_between(
    history: History, change: str, other: str, is_first: bool
) -> None:
    code = '("code", models.IntegerField(unique=True))'
    author = AUTHOR.replace("    [", f"    [{code}, ", 1)
    both = [other, change] if is_first else [change]
    names = write_chain(history, *both, first=WIDE + author)
    after = [change] if is_first else [other, change]
    history.migrate()
    history.lose(*(f"users.{name}" for name in names))
    write_chain(history, *after, first=WIDE + author)
    assert {action for action, _ in actions(history)} == {"reverse"}
    rewind(history)
    assert_is_as_fresh(history)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ALTER, ALTER.replace("99", "77")),
        (
            'migrations.AlterUniqueTogether("thing", {("name", "old")}),',
            'migrations.AlterUniqueTogether("thing", {("id", "old")}),',
        ),
    ],
)
def test_those_that_change_places_do_not_both_stay(
    history: History, one: str, other: str
) -> None:
    names = write_chain(history, one, other)
    history.migrate()
    history.lose(*(f"users.{name}" for name in names))
    history.write("users.0002_one", other, [("users", "0001")])
    history.write("users.0003_two", one, [("users", "0002_one")])
    assert "reverse" in {action for action, _ in actions(history)}
    rewind(history)
    assert_is_as_fresh(history)


@pytest.mark.parametrize(
    "other",
    [
        'migrations.AlterUniqueTogether("thing", {("name", "old")}),',
        UNIQUE,
        'migrations.AlterModelTable("thing", "users_thing"),',
        'migrations.AlterOrderWithRespectTo("thing", None),',
    ],
)
def test_a_field_stays_whatever_is_done_to_the_others(
    history: History, other: str
) -> None:
    names = write_chain(history, ADD_B)
    change_branch(history, names, other, ADD_B)
    assert [action for action, _ in actions(history)] == ["adopt"]
    rewind(history)
    assert [*map(tuple, history.sql("SELECT b FROM users_thing"))] == [(5,)]
    assert_is_as_fresh(history)


def test_what_depends_on_what_goes_by_its_file_alone_goes_too(
    history: History,
) -> None:
    """And the plan that is reviewed says what that destroys."""
    history.write("users.0001", WIDE)
    history.write("users.b", ADD_B, [("users", "0001")])
    history.write("users.n", NOOP, [("users", "b")])
    history.write("users.change", ALTER, [("users", "n")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, old, b) VALUES (1, 'n', 2, 5)")
    history.lose("users.n")
    history.write("users.change", ALTER, [("users", "0001")])
    history.write("users.b", ADD_B, [("users", "change")])
    output = history.run("rewind", plan=True, format="json", migrate=True)
    found = {step["migration_name"]: step for step in json.loads(output)["steps"]}
    assert found.keys() == {"b", "n", "change"}
    assert "users_thing.b: 1 value" in str(found["b"]["destroys"])
    rewind(history)
    assert_is_as_fresh(history)


def test_a_file_that_names_the_table_anew_makes_no_columns(history: History) -> None:
    table = 'migrations.AlterModelTable("thing", "store"),'
    history.write("users.0001", WIDE)
    history.write("users.table", table, [("users", "0001")])
    history.write("users.n", NOOP, [("users", "table")])
    history.write("users.b", ADD_B, [("users", "n")])
    history.migrate()
    history.lose("users.n")
    history.write("users.b", ADD_B, [("users", "0001")])
    history.write("users.table", table, [("users", "b")])
    history.run("rewind", migrate=True, interactive=False, adopt=False)
    assert_is_as_fresh(history)
