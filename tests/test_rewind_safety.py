"""What `rewind` must not do: lose data unasked, adopt what differs, trust a journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.core.management import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import ConnectionHandler
from django.test import override_settings

from django_rewind.models import MigrationCode
from tests.history import MIGRATION, History
from tests.schemas import schema_of

ADD = 'migrations.AddField("thing", "{0}", models.IntegerField(null=True)),'
CREATE = """migrations.CreateModel("Thing", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=50, default="")),
    ("x", models.IntegerField(null=True)),
])"""
BODY = MIGRATION.format(dependencies=[], operations=CREATE)
SQUASH = BODY.replace(
    "dependencies = []",
    'dependencies = []\n    replaces = [("users", "0001"), ("users", "0002_x")]',
)
NOTHING = "Nothing to rewind"


def rewind(
    history: History, *args: str, **options: Any
) -> tuple[int | str | None, str]:
    try:
        return 0, history.run("rewind", *args, **{"interactive": False, **options})
    except CommandError as error:
        return error.returncode, str(error)
    except SystemExit as error:
        return error.code, ""


@pytest.fixture
def squash(history: History) -> History:
    """Two migrations with a row; a restore point; then their squash is recorded."""
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.run("restore_point", "before")
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate()
    return history


def rows(history: History) -> list[list[Any]]:
    return [list(row) for row in history.sql("SELECT id, name, x FROM users_thing")]


# Squashes


@pytest.mark.parametrize("migrate", [True, False])
def test_to_record_a_squash_is_to_apply_nothing(squash: History, migrate: bool) -> None:
    assert NOTHING in rewind(squash, to="before", migrate=migrate)[1]
    assert rows(squash) == [[1, "a", 5]]


def test_to_prune_what_it_replaced_is_to_reverse_nothing(squash: History) -> None:
    squash.lose("users.0001", "users.0002_x")
    squash.write("users.0001_squashed", text=BODY)
    # As --prune does, which Django 3.2 does not have.
    recorder = MigrationExecutor(connection).recorder
    recorder.record_unapplied("users", "0001")
    recorder.record_unapplied("users", "0002_x")
    assert squash.recorded() == ["users.0001_squashed"]
    assert NOTHING in rewind(squash, to="before", migrate=True)[1]
    assert rows(squash) == [[1, "a", 5]]


@pytest.mark.parametrize("gone", ["the squash", "what it replaced", "all", "nothing"])
def test_a_squash_was_applied_with_what_it_replaced(
    history: History, gone: str
) -> None:
    history.have("users: 0001 > 0002_x; blog: 0001")
    history.migrate("users")
    history.migrate("blog")
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate()
    assert history.recorded()[-1] == "users.0001_squashed"
    if gone in ("the squash", "all"):
        history.lose("users.0001_squashed")
    if gone in ("what it replaced", "all"):
        history.lose("users.0001", "users.0002_x")
    users = 2 if gone == "the squash" else 1
    assert rewind(history, steps=1)[0] == 0
    assert {"users_thing", "blog_thing"} & history.tables() == {"users_thing"}
    assert rewind(history, steps=users)[0] == 0
    assert history.recorded() == []


def test_a_squash_of_a_squash_is_one_step(history: History) -> None:
    history.have("users: 0001 > 0002_x > 0003_y; blog: 0001")
    history.migrate("users")
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate("users")
    history.migrate("blog")
    history.lose("users.0001", "users.0002_x")
    history.write("users.0001_squashed", text=BODY)
    history.write("users.0003_y", dependencies=[("users", "0001_squashed")])
    history.write(
        "users.0001_again",
        text=BODY.replace(
            "dependencies = []",
            "dependencies = []\n    replaces = "
            '[("users", "0001_squashed"), ("users", "0003_y")]',
        ),
    )
    history.migrate()
    code, _ = rewind(history, steps=1)
    assert (code, history.recorded("blog")) == (0, [])
    assert "users_thing" in history.tables()


def test_a_squash_is_not_adopted(squash: History) -> None:
    squash.lose("users.0001", "users.0002_x", "users.0001_squashed")
    squash.write("users.0001_initial", text=BODY)
    (step,) = json.loads(squash.run("rewind", plan=True, format="json"))["steps"]
    assert (step["action"], step["destroys"]) == (
        "reverse",
        ["drops users_thing: 1 row"],
    )
    assert rewind(squash, migrate=True)[0] == 0
    assert squash.recorded() == ["users.0001_initial"]
    assert rows(squash) == []


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("is_other", [False, True])
def test_what_a_squash_stands_for_was_applied_from_another_branch(
    squash: History, is_other: bool, is_deleted: bool
) -> None:
    squash.lose("users.0001_squashed")
    squash.migrate("users", "0001")
    add = ADD.format("y" if is_other else "x")
    squash.write("users.0002_x", f"{add}  # elsewhere", [("users", "0001")])
    squash.migrate()
    squash.write("users.0002_x", ADD.format("x"), [("users", "0001")])
    squash.write("users.0001_squashed", text=SQUASH)
    if is_deleted:
        squash.lose("users.0001", "users.0002_x")
    code, text = rewind(squash)
    assert code == 0
    said = "users.0001_squashed makes another schema than what was applied by the names"
    assert (said in text) == is_other


@pytest.mark.parametrize("key", [None, "0123456789abcdef"])
def test_a_row_that_does_not_verify_hides_no_ghost(
    history: History, key: str | None
) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.lose("users.0002_x")
    history.sql(
        "UPDATE django_migrations_code SET replaces = %s WHERE migration_name = '0001'",
        ['[["users", "0002_x"]]'],
    )
    if key:
        history.sql("UPDATE django_migrations_code SET signing_key = %s", [key])
    assert " [X] 0002_x (ghost" in history.run("showmigrations", "users")
    assert "users.0002_x (ghost; from stored code)" in rewind(history)[1]
    assert history.recorded() == ["users.0001"]


@pytest.fixture
def faked(history: History) -> History:
    """The table was there before its migrations, which were faked."""
    history.have("users: 0001 > 0002_x")
    history.sql("CREATE TABLE users_thing (id integer, name varchar(50), x integer)")
    history.migrate("users", fake=True)
    history.write("users.0001_squashed", text=SQUASH)
    return history


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_squash_of_what_was_faked_is_faked_back(
    faked: History, is_recorded: bool, is_gone: bool
) -> None:
    if is_recorded:
        faked.migrate()
    if is_gone:
        faked.lose("users.0001", "users.0002_x", "users.0001_squashed")
    code, text = rewind(faked, "users", "zero")
    assert code == 0, text
    assert "was recorded with --fake, so only its record goes." in text
    assert faked.recorded("users") == []
    assert "users_thing" in faked.tables()


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_squash_of_what_was_faked_in_part_is_refused(
    history: History, is_gone: bool
) -> None:
    history.have("users: 0001 > 0002_x")
    history.sql("CREATE TABLE users_thing (id integer, name varchar(50))")
    history.migrate("users", "0001", fake=True)
    history.migrate()
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate()
    if is_gone:
        history.lose("users.0001", "users.0002_x", "users.0001_squashed")
    code, text = rewind(history, "users", "zero")
    assert code == 2
    fact = "users.0001_squashed: it replaces what was recorded with --fake: users.0001."
    assert fact in text
    assert history.columns("users_thing") == ["id", "name", "x"]
    assert rewind(history, "users", "zero", fake=True)[0] == 0
    assert history.recorded("users") == []


def test_a_faked_migration_whose_file_is_there_is_faked_back(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate("users", "0001")
    history.sql("ALTER TABLE users_thing ADD COLUMN x integer")
    history.migrate("users", fake=True)
    text = rewind(history, "users", "0001")[1]
    assert "users.0002_x was recorded with --fake, so only its record goes." in text
    assert history.columns("users_thing") == ["id", "name", "x"]


# Edits


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ('models.CharField(max_length=50, default="")', ', {"verbose_name": "x"}'),
        ('models.CharField(max_length=50, default="")', ', {"ordering": ["name"]}'),
        ('models.CharField(max_length=50, default="")', ', {"permissions": []}'),
        ('models.CharField(max_length=50, default="new")', ""),
        ('models.CharField(max_length=50, default="", blank=True)', ""),
        ('models.CharField("Name", max_length=50, default="", help_text="?")', ""),
    ],
)
def test_an_edit_that_changes_no_schema(
    history: History, field: str, options: str
) -> None:
    history.have("users: 0001")
    history.migrate()
    history.write(
        "users.0001",
        'migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))'
        f', ("name", {field})]{options}),',
    )
    assert rewind(history, plan=True)[1].startswith(NOTHING)


PETS = """
migrations.CreateModel("Owner", [("id", models.BigAutoField(primary_key=True))]),
migrations.CreateModel("Pet", [
    ("id", models.BigAutoField(primary_key=True)),
    ("age", models.IntegerField(default=0{age})),
    ("owner", models.ForeignKey("users.Owner", models.{on_delete}{owner})),
    ("friends", models.ManyToManyField("users.Owner", related_name="+"{friends})),
], options={{"unique_together": {together}{options}}}),
"""
AS_APPLIED = {
    "age": "",
    "on_delete": "CASCADE",
    "owner": "",
    "friends": "",
    "together": '{("age", "owner")}',
    "options": "",
}


def edit_pets(history: History, edit: dict[str, str]) -> str:
    history.write("users.0001", PETS.format(**AS_APPLIED))
    history.migrate()
    history.write("users.0001", PETS.format(**{**AS_APPLIED, **edit}))
    return rewind(history, plan=True)[1]


@pytest.mark.parametrize(
    "edit",
    [
        {"on_delete": "PROTECT"},
        {"owner": ", blank=True"},
        {"owner": ', db_column="owner_id"'},
        {"owner": ', to_field="id"'},
        {"owner": ", db_index=True"},
        {"friends": ", blank=True"},
        {"friends": ', db_table="users_pet_friends"'},
        {"age": ', db_column="age"'},
        {"age": ", db_index=False"},
        {"options": ', "db_table": "users_pet"'},
        {"options": ', "managed": True'},
        {"together": '[("age", "owner")]'},
        {"together": '("age", "owner")'},
    ],
    ids=str,
)
def test_what_is_only_spelled_in_another_way_is_the_same(
    history: History, edit: dict[str, str]
) -> None:
    assert edit_pets(history, edit).startswith(NOTHING)


@pytest.mark.parametrize(
    "edit",
    [
        {"owner": ", null=True"},
        {"owner": ', db_column="keeper_id"'},
        {"owner": ", db_index=False"},
        {"owner": ", db_constraint=False"},
        {"friends": ', db_table="users_friends"'},
        {"age": ", unique=True"},
        {"age": ", db_index=True"},
        {"options": ', "db_table": "users_animal"'},
        {"options": ', "managed": False'},
        {"together": '{("owner", "age"), ("age", "owner")}'},
        {"together": "()"},
    ],
    ids=str,
)
def test_what_makes_something_else_is_not_the_same(
    history: History, edit: dict[str, str]
) -> None:
    assert "its file makes another schema than was applied" in edit_pets(history, edit)


def test_an_edit_of_which_nobody_can_tell_is_left_alone_and_named(
    history: History,
) -> None:
    history.have("users: 0001")
    sql = "migrations.RunSQL('SELECT {}', ''),"
    history.write("users.0002_sql", sql.format(1), [("users", "0001")])
    history.migrate()
    history.write("users.0002_sql", sql.format(2), [("users", "0001")])
    code, text = rewind(history)
    assert code == 0
    assert "users.0002_sql was edited after it was applied, and whether its" in text
    assert history.recorded() == ["users.0001", "users.0002_sql"]


STUCK = "migrations.RunSQL('SELECT 1'),"


@pytest.mark.parametrize("options", [{}, {"migrate": True}])
def test_an_edit_that_cannot_be_reversed_is_left_alone_and_named(
    history: History, options: dict[str, bool]
) -> None:
    history.have("users: 0001")
    history.write("users.0002_x", ADD.format("x") + STUCK, [("users", "0001")])
    history.have("pets: 0001")
    history.write("pets.0002_x", ADD.format("x"), [("pets", "0001")])
    history.write("pets.0003_stuck", STUCK, [("pets", "0002_x")])
    history.make_ghost("users.0003_ghost", ADD.format("z"), [("users", "0002_x")])
    for name in ("users", "pets"):
        path = f"{name}.0002_x"
        operations = ADD.format("y") + (STUCK if name == "users" else "")
        history.write(path, operations, [(name, "0001")])
    code, text = rewind(history, **options)
    assert code == 0
    assert (
        "users.0002_x was edited after it was applied, and its file makes another "
        "schema. It is left alone, since it is irreversible: what its file does now "
        "has to be done by hand."
    ) in text
    assert "left alone, since pets.0003_stuck" in text
    assert history.columns("users_thing") == ["id", "name", "x"]
    assert "users.0002_x" in history.recorded()
    assert "users.0003_ghost" not in history.recorded()


def test_migrate_goes_on_over_an_edit_that_cannot_be_reversed(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_x", ADD.format("x") + STUCK, [("users", "0001")])
    history.migrate()
    history.write("users.0002_x", ADD.format("y") + STUCK, [("users", "0001")])
    history.install(DEBUG=True, DJANGO_REWIND_AUTO=True)
    # Another table: to add a column, Django 3.2 remakes on SQLite what lacks one here.
    history.write("users.0003_z", CREATE.replace("Thing", "Z"), [("users", "0002_x")])
    history.migrate()
    assert "users.0003_z" in history.recorded()


def test_an_edit_whose_stored_code_does_not_verify_is_refused(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.write("users.0002_x", ADD.format("y"), [("users", "0001")])
    history.install(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[])  # noqa: S106
    for options in ({}, {"check_only": True}, {"migrate": True}):
        code, text = rewind(history, **options)
        assert (code, "users.0002_x" in text) == (2, True)


# Adoption


def test_what_another_one_altered_since_is_not_adopted(history: History) -> None:
    alter = (
        'migrations.AlterField("thing", "name", '
        'models.CharField(max_length={}, default="")),'
    )
    history.have("users: 0001")
    history.make_ghost("users.0002_shrink", alter.format(20), [("users", "0001")])
    history.write("users.0002_grow", alter.format(200), [("users", "0001")])
    history.write("users.0003_shrink", alter.format(20), [("users", "0002_grow")])
    actions = json.loads(history.run("rewind", plan=True, format="json"))["steps"]
    assert [step["action"] for step in actions] == ["reverse"]
    assert rewind(history, migrate=True)[0] == 0


FILL = """from django.db import migrations
{0}

def fill(apps, schema_editor):
    apps.get_model("users", "Thing").objects.create(name=str(KINDS)[:50])


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
"""


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ('KINDS = {"a"}', 'KINDS = {"b"}'),
        (
            "from decimal import Decimal\nKINDS = Decimal(1)",
            "from decimal import Decimal\nKINDS = Decimal(2)",
        ),
        ('KINDS = {"choices": "a"}', 'KINDS = {"choices": "b"}'),
        ('class KINDS:\n    x = "a"', 'class KINDS:\n    x = "b"'),
        (
            'import functools\n@functools.lru_cache\ndef KINDS(): return "a"',
            'import functools\n@functools.lru_cache\ndef KINDS(): return "b"',
        ),
        (
            "from users.helpers_a import KINDS",
            "from users.helpers_b import KINDS",
        ),
    ],
)
def test_code_that_differs_is_not_adopted(
    history: History, there: str, here: str
) -> None:
    history.have("users: 0001")
    for name in "ab":
        helper = history.folder / "users" / f"helpers_{name}.py"
        helper.write_text(f"KINDS = {name!r}\n")
    history.make_ghost("users.0002_fill", text=FILL.format(there))
    history.write("users.0002_other", text=FILL.format(here))
    assert "does the same" not in rewind(history, plan=True)[1]


def test_code_that_is_the_same_is_adopted(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_fill", text=FILL.format("KINDS = 1"))
    history.write("users.0002_other", text=FILL.format("KINDS = 1  # the same"))
    assert "does the same as users.0002_other" in rewind(history, plan=True)[1]


def test_what_depended_on_the_old_name_can_be_reversed(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001 > 0002_b(users.0002_prefs)")
    history.migrate()
    history.lose("users.0002_prefs")
    history.write("users.0002_settings", ADD.format("prefs"), [("users", "0001")])
    history.write(
        "blog.0002_b", ADD.format("b"), [("blog", "0001"), ("users", "0002_settings")]
    )
    assert rewind(history, migrate=True)[0] == 0
    history.migrate("blog", "0001")
    assert history.columns("blog_thing") == ["id", "name"]


def test_another_app_s_ghost_may_depend_on_the_old_name(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001 > 0002_b(users.0002_prefs)")
    history.migrate()
    history.lose("users.0002_prefs", "blog.0002_b")
    history.write("users.0002_settings", ADD.format("prefs"), [("users", "0001")])
    assert rewind(history, "users")[0] == 0
    assert rewind(history)[0] == 0
    assert sorted(history.recorded()) == [
        "blog.0001",
        "users.0001",
        "users.0002_settings",
    ]


def test_adoptions_follow_the_graph_of_files(history: History) -> None:
    history.have("users: 0001 > 0002_b; blog: 0001 > 0002_a")
    history.migrate("users")
    history.migrate("blog")
    history.lose("users.0002_b", "blog.0002_a")
    history.write("blog.0003_a", ADD.format("a"), [("blog", "0001")])
    history.write(
        "users.0002_f", ADD.format("f"), [("users", "0001"), ("blog", "0003_a")]
    )
    history.write("users.0003_b", ADD.format("b"), [("users", "0002_f")])
    code, text = rewind(history, migrate=True)
    assert code == 0, text
    assert sorted(history.recorded()) == [
        "blog.0001",
        "blog.0003_a",
        "users.0001",
        "users.0002_f",
        "users.0003_b",
    ]


# A journal that somebody else wrote

INSERT = (
    "INSERT INTO django_migrations_journal (previous, hash, entry) VALUES (%s, %s, %s)"
)


@pytest.mark.parametrize(
    "entry",
    [
        {"event": "point", "name": "q", "records": 5},
        {"event": "point", "name": "q", "records": None},
        {"event": "point", "name": "q", "records": [["users", "0001", "", ""]]},
        {"run": [1], "step": 1},
        {"step": [1]},
        {"step": 1, "plan": [1], "run": "r"},
        {"event": "done", "action": ["a"]},
        {"event": "done", "action": "adopt", "was": None},
        {"event": "details", "operations": 5, "run": "r", "step": 1},
        {"event": "failed", "ended": [1], "run": "r", "step": 1, "action": "reverse"},
        5,
        "text",
    ],
)
def test_an_entry_of_somebody_else(history: History, entry: Any) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql(INSERT, ["a" * 64, "b" * 64, json.dumps(entry)])
    for point in ("q", "2999-01-01"):
        assert rewind(history, to=point)[0] == 2
    history.run("rewind_history")
    history.run("restore_point", list=True)
    with pytest.raises(SystemExit):
        history.run("verify_migrations")
    assert history.recorded() == ["users.0001", "users.0002_x"]
    history.lose("users.0002_x")
    assert rewind(history)[0] == 0


def test_what_cannot_be_replayed_is_refused(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    history.run("restore_point", "p")
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql("UPDATE django_migrations_journal SET entry = 'x' WHERE id > 3")
    assert rewind(history, to="p")[0] == 2


# Names and files


def test_an_app_that_nobody_knows(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.lose("users.0002_x")
    for label in ("usres", ""):
        assert rewind(history, label)[0] == 2
        assert rewind(history, label, check_only=True)[0] == 2


def test_what_waits_for_migrate_is_work(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_x", ADD.format("x"), [("users", "0001")])
    history.write("users.0002_other", ADD.format("y"), [("users", "0001")])
    history.write("users.0003_x", ADD.format("x"), [("users", "0002_other")])
    assert rewind(history, check_only=True)[0] == 1


@pytest.mark.parametrize("text", ["x = 1", "import nowhere", "1 +"])
def test_files_that_cannot_be_loaded(history: History, text: str) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.write("users.0002_x", text=text)
    code, said = rewind(history)
    assert code == 2
    assert "The migrations of this checkout cannot be loaded: " in said


def test_sql_that_cannot_be_told(history: History) -> None:
    history.have("users: 0001")
    unique = 'migrations.AlterUniqueTogether("thing", {("name", "id")}),'
    history.write("users.0002_u", unique, [("users", "0001")])
    rename = 'migrations.RenameModel("Thing", "Other"),'
    history.write("users.0003_r", rename, [("users", "0002_u")])
    history.migrate()
    history.lose("users.0002_u", "users.0003_r")
    assert rewind(history, plan=True, sql=True)[0] == 0
    assert rewind(history)[0] == 0


def test_a_table_that_a_faked_file_makes_too_is_not_dropped(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    history.lose("users.0001")
    history.write("users.0001_initial", text=BODY)
    history.migrate("users", "0001_initial", fake=True)
    history.sql("INSERT INTO users_thing (id, name) VALUES (1, 'a')")
    code, said = rewind(history, migrate=True)
    assert code == 2
    assert (
        "users.0001: it would drop the table users_thing, which the file of "
        "users.0001_initial makes too"
    ) in said
    assert "users_thing" in history.tables()


# What random histories found; see test_properties


def test_counting_in_an_empty_table(history: History) -> None:
    history.have("users: 0001")
    together = 'migrations.AlterUniqueTogether("thing", {}),'
    history.write(
        "users.0002_a", together.format('{("id", "name")}'), [("users", "0001")]
    )
    history.make_ghost("users.0003_b", together.format("set()"), [("users", "0002_a")])
    assert rewind(history, migrate=True)[0] == 0
    assert history.recorded() == ["users.0001", "users.0002_a"]


@pytest.mark.parametrize("target", ["self", "users.Thing"])
def test_a_renamed_model_with_a_relation_to_itself(
    history: History, target: str
) -> None:
    history.have("users: 0001")
    history.write(
        "users.0002_m",
        'migrations.AddField("thing", "m", models.ManyToManyField('
        f'"{target}", related_name="+")),',
        [("users", "0001")],
    )
    rename = 'migrations.RenameModel("Thing", "Item"),'
    history.make_ghost("users.0003_r", rename, [("users", "0002_m")])
    assert rewind(history, migrate=True)[0] == 0
    assert "users_thing" in history.tables()


def test_a_dependant_keeps_its_name_while_a_renumbered_one_waits(
    history: History,
) -> None:
    history.have("blog: 0001; shop: 0001")
    history.write("blog.0002_x", ADD.format("x"), [("blog", "0001")])
    history.write("shop.0002_y", None, [("shop", "0001"), ("blog", "0002_x")])
    history.migrate()
    history.lose("blog.0002_x")
    history.write("blog.0002_other", None, [("blog", "0001")])
    history.write("blog.0003_x", ADD.format("x"), [("blog", "0002_other")])
    history.write("shop.0002_y", None, [("shop", "0001"), ("blog", "0003_x")])
    code, text = rewind(history, migrate=True)
    assert code == 0, text
    assert sorted(history.recorded()) == [
        "blog.0001",
        "blog.0002_other",
        "blog.0003_x",
        "shop.0001",
        "shop.0002_y",
    ]


@pytest.mark.parametrize(
    "kind",
    [
        "ManyToManyField('shop.Part')",
        "ForeignKey('shop.Part', models.CASCADE, null=True)",
    ],
)
def test_a_model_that_was_renamed_under_a_ghost_of_another_app(
    history: History, kind: str
) -> None:
    history.have("users: 0001")
    history.write(
        "shop.0001",
        'migrations.CreateModel("Part", [("id", models.BigAutoField(primary_key=True))'
        "]),",
    )
    history.write(
        "users.0002_m",
        f'migrations.AddField("thing", "m", models.{kind}),',
        [("users", "0001"), ("shop", "0001")],
    )
    history.migrate()
    history.lose("users.0002_m")
    rename = 'migrations.RenameModel("Part", "Item"),'
    history.write("shop.0002_r", rename, [("shop", "0001")])
    history.migrate()
    code, text = rewind(history, migrate=True)
    assert code == 2
    assert "users.0002_m cannot be reversed in the state that the other" in text


CHILD = """
migrations.CreateModel("Boss", [
    ("thing_ptr", models.OneToOneField(
        "users.Thing", models.CASCADE, auto_created=True, parent_link=True,
        primary_key=True, serialize=False,
    )),
    ("x", models.TextField(null=True)),
], bases=("users.thing",)),
"""


@pytest.mark.parametrize(
    "operation",
    [
        'migrations.RenameModel("Thing", "Human"),',
        'migrations.AddField("thing", "x", models.IntegerField(null=True)),',
    ],
)
@pytest.mark.parametrize("command", [("rewind",), ("migrate", "users", "0001")])
def test_a_child_of_what_is_another_model_now_is_refused(
    history: History, operation: str, command: tuple[str, ...]
) -> None:
    """Its state cannot be rendered, neither before that nor after."""
    history.have("users: 0001")
    history.make_ghost("users.0002_boss", CHILD, [("users", "0001")])
    history.write("users.0002_other", operation, [("users", "0001")])
    history.migrate()
    before = history.recorded()
    with pytest.raises(CommandError, match="cannot be reversed in the state that"):
        history.run(*command, interactive=False)
    assert history.recorded() == before


def test_a_child_of_what_did_not_change_is_reversed(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_boss", CHILD, [("users", "0001")])
    other = 'migrations.AddField("thing", "y", models.IntegerField(null=True)),'
    history.write("users.0002_other", other, [("users", "0001")])
    history.migrate()
    assert "Unapplying users.0002_boss... OK" in history.run(
        "rewind", interactive=False
    )


def test_unique_together_of_a_ghost_survives_a_remake(history: History) -> None:
    history.have("users: 0001")
    together = 'migrations.AlterUniqueTogether("thing", {("id", "name")}),'
    history.make_ghost("users.0002_a", together, [("users", "0001")])
    add = 'migrations.AddField("thing", "n", models.IntegerField(default=1)),'
    history.write("users.0002_b", add, [("users", "0001")])
    history.migrate()
    code, text = rewind(history, migrate=True)
    assert code == 0, text
    assert history.recorded() == ["users.0001", "users.0002_b"]


def test_a_table_is_made_again_under_a_name_that_it_had(history: History) -> None:
    history.have("users: 0001_a")
    rename = 'migrations.RenameModel("Thing", "Item"),'
    history.write("users.0002_r", rename, [("users", "0001_a")])
    history.migrate()
    text = history.path("users.0001_a").read_text()
    history.lose("users.0001_a", "users.0002_r")
    history.write("users.0001_b", text=text)
    history.migrate()
    assert rewind(history, migrate=True)[0] == 0
    assert history.recorded() == ["users.0001_b"]


def test_a_database_that_was_never_migrated(history: History) -> None:
    history.have("users: 0001")
    assert NOTHING in rewind(history)[1]
    assert rewind(history, check_only=True)[0] == 0
    assert history.tables() == set()
    assert rewind(history, migrate=True)[0] == 0
    assert history.recorded() == ["users.0001"]


def test_a_database_whose_tables_have_no_journal(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql("DROP TABLE django_migrations_journal")
    history.lose("users.0002_x")
    assert rewind(history, to="2020-01-01")[0] == 2
    assert rewind(history)[0] == 0
    assert history.recorded() == ["users.0001"]
    assert "reverse users.0002_x" in history.run("rewind_history")


def test_a_field_that_was_altered_and_then_renamed_on_another_branch(
    history: History,
) -> None:
    history.have("users: 0001")
    alter = 'migrations.AlterField("thing", "name", models.CharField(max_length=9)),'
    history.make_ghost("users.0002_alter", alter, [("users", "0001")])
    rename = 'migrations.RenameField("thing", "name", "title"),'
    history.write("users.0002_rename", rename, [("users", "0001")])
    history.migrate()
    code, text = rewind(history, migrate=True)
    assert code == 0, text
    assert "users.0002_rename (was applied after users.0002_alter and" in text
    assert history.recorded() == ["users.0001", "users.0002_rename"]
    assert sorted(history.columns("users_thing")) == ["id", "title"]


# Files that are there, or of an app that has use for its tables


@pytest.mark.parametrize(
    "statement", ["__path__ = [*__path__, {!r}]", "__path__.append({!r})"]
)
def test_a_file_in_a_second_folder_of_the_package_is_no_ghost(
    history: History, statement: str
) -> None:
    history.have("users: 0001")
    more = history.folder / "more"
    more.mkdir()
    package = history.folder / "users" / "migrations" / "__init__.py"
    package.write_text(statement.format(str(more)) + "\n")
    history.write("users.0002_extra", dependencies=[("users", "0001")])
    history.path("users.0002_extra").rename(more / "0002_extra.py")
    history.migrate()
    history.sql("INSERT INTO users_thing (name, extra) VALUES ('x', 42)")
    assert "ghost" not in history.run("showmigrations", "users")
    assert NOTHING in rewind(history)[1]
    assert history.columns("users_thing") == ["id", "name", "extra"]


@pytest.mark.parametrize("command", ["rewind", "migrate"])
@pytest.mark.parametrize("how", ["MIGRATION_MODULES", "no __init__.py"])
def test_an_app_whose_migrations_are_switched_off_keeps_its_tables(
    history: History, how: str, command: str
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.sql("INSERT INTO users_thing (name, a) VALUES ('x', 42)")
    settings: dict[str, Any] = {"DEBUG": True, "DJANGO_REWIND_AUTO": True}
    if how == "MIGRATION_MODULES":
        settings[how] = {"users": None}
    else:
        (history.folder / "users" / "migrations" / "__init__.py").unlink()
    history.install(**settings)
    text = history.run(command, interactive=False)
    assert [list(row) for row in history.sql("SELECT a FROM users_thing")] == [[42]]
    assert "their files are gone" not in text
    if command == "rewind":
        assert "users: 0001 and what came after it is left alone." in text
        assert rewind(history, check=True)[0] == 0
    assert "[X] 0001 (applied, and Django does not see its file)" in (
        history.run("showmigrations", "users")
    )


# What in the database needs what would go


@pytest.fixture
def unique_x(history: History) -> Iterator[History]:
    """users.0002_x is a ghost, with a column to which foreign keys may refer."""
    history.have("users: 0001")
    add = """
    migrations.AddField("thing", "x", models.IntegerField(null=True, unique=True)),
    """
    history.make_ghost("users.0002_x", add, [("users", "0001")])
    yield history
    history.sql("DROP TABLE IF EXISTS report")


def test_a_foreign_key_to_a_column_is_in_the_way(unique_x: History) -> None:
    unique_x.sql(
        "CREATE TABLE report (x integer, FOREIGN KEY (x) REFERENCES users_thing (x))"
    )
    code, text = rewind(unique_x)
    assert code == 2
    assert (
        "users.0002_x: it would drop the column users_thing.x, to which the table "
        "report has a foreign key in its column x. Remove that foreign key first."
    ) in text
    unique_x.sql("DROP TABLE report")
    assert rewind(unique_x)[0] == 0


@pytest.mark.only("postgresql")
@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_in_the_way(unique_x: History, kind: str) -> None:
    unique_x.sql("CREATE VIEW other AS SELECT name FROM users_thing")
    unique_x.sql(f"CREATE {kind} report AS SELECT id, x + 1 AS more FROM users_thing")
    code, text = rewind(unique_x)
    assert code == 2
    assert (
        "users.0002_x: it would drop the column users_thing.x, which the view report "
        "reads. Drop that view first, and make it again afterwards."
    ) in text
    assert "other" not in text
    unique_x.sql(f"DROP {kind} report")
    assert rewind(unique_x)[0] == 0
    assert rewind(unique_x, "users", "zero")[1].count("which the view other reads") == 1


@pytest.mark.only("postgresql")
def test_a_view_that_goes_first_is_not_in_the_way(unique_x: History) -> None:
    view = """
    migrations.RunSQL(
        "CREATE VIEW report AS SELECT x FROM users_thing", "DROP VIEW report"
    ),
    """
    unique_x.find("users.0002_x")
    unique_x.make_ghost("users.0003_view", view, [("users", "0002_x")])
    unique_x.lose("users.0002_x")
    assert rewind(unique_x)[0] == 0
    assert unique_x.recorded() == ["users.0001"]


ANOTHER_KEY = """
migrations.CreateModel(
    "Thing", [("code", models.CharField(max_length=9, primary_key=True))]
),
"""
TO_ITSELF = 'migrations.AddField("thing", "m", models.ManyToManyField("users.Thing")),'
TO_OTHER = 'migrations.AddField("thing", "m", models.ManyToManyField("users.Other")),'
OTHER = """
migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
"""


@pytest.mark.parametrize(
    ("before", "ghosts"),
    [
        ("", ['migrations.DeleteModel("Thing"),', ANOTHER_KEY]),
        ("", ['migrations.DeleteModel("Thing"),' + ANOTHER_KEY]),
        ("", ['migrations.RenameModel("Thing", "Old"),', ANOTHER_KEY]),
        (
            OTHER + TO_ITSELF,
            ['migrations.RemoveField("thing", "m"),', TO_OTHER],
        ),
        (
            OTHER + TO_ITSELF,
            ['migrations.RemoveField("thing", "m"),' + TO_OTHER],
        ),
    ],
)
def test_a_table_that_the_plan_makes_again_is_not_in_the_way(
    history: History, before: str, ghosts: list[str]
) -> None:
    history.have("users: 0001")
    if before:
        history.write("users.0001_more", before, [("users", "0001")])
    history.migrate()
    schema, recorded = schema_of("default"), history.recorded()
    last = recorded[-1].partition(".")[2]
    names = [f"0002_ghost_{number}" for number in range(len(ghosts))]
    for name, operations in zip(names, ghosts):
        history.write(f"users.{name}", operations, [("users", last)])
        last = name
    history.migrate()
    history.lose(*(f"users.{name}" for name in names))
    code, text = rewind(history)
    assert code == 0, text
    assert history.recorded() == recorded
    assert schema_of("default") == schema


def test_a_table_that_is_another_model_s_now_is_in_the_way(history: History) -> None:
    """Though it was made, dropped and made again: in the end it would be dropped."""
    history.have("users: 0001; blog: 0001")
    make = (
        "migrations.CreateModel('A', [('id', models.BigAutoField(primary_key=True))])"
    )
    drop = "migrations.DeleteModel('A')"
    again = f"{make},\n{drop},\n{make},"
    history.write("users.0002_a", again, [("users", "0001")])
    claim = f"""
    migrations.SeparateDatabaseAndState(state_operations=[
        {make[:-1]}, options={{"db_table": "users_a"}})
    ]),
    """
    history.write("blog.0002_claim", claim, [("blog", "0001")])
    history.migrate()
    history.lose("users.0002_a")
    code, text = rewind(history)
    assert code == 2
    assert "it would drop the table users_a, which is now that of blog.A." in text


EXTENSION = """
from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("{0}", "0001")]
    operations = [TrigramExtension()]
"""


@pytest.mark.only("postgresql")
def test_an_extension_that_another_one_makes_too_is_in_the_way(
    history: History,
) -> None:
    history.have("users: 0001; blog: 0001")
    for label in ("users", "blog"):
        text = EXTENSION.format(label)
        history.write(f"{label}.0002_trigram", text=text)
    history.migrate()
    history.lose("users.0002_trigram")
    code, text = rewind(history)
    assert code == 2
    assert (
        "users.0002_trigram: it would drop the extension pg_trgm, which "
        "blog.0002_trigram makes too, and that stays."
    ) in text
    history.lose("blog.0002_trigram")
    code, text = rewind(history)
    assert code == 0, text
    assert "drops the extension pg_trgm" in text
    found = history.sql("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
    assert not found


@pytest.mark.only("postgresql")
def test_a_table_in_another_schema_is_looked_at_too(history: History) -> None:
    history.sql("DROP SCHEMA IF EXISTS elsewhere CASCADE")
    history.sql("CREATE SCHEMA elsewhere")
    history.have("users: 0001")
    create = """
    migrations.CreateModel(
        "Account", [("id", models.BigAutoField(primary_key=True))],
        options={"db_table": '"elsewhere"."account"'},
    ),
    """
    history.make_ghost("users.0002_account", create, [("users", "0001")])
    history.sql("CREATE TABLE report (x bigint REFERENCES elsewhere.account)")
    code, text = rewind(history)
    assert code == 2
    assert "to which the table report has a foreign key in its column x." in text
    history.sql("DROP TABLE report")
    assert "drops elsewhere.account: 0 rows" in rewind(history)[1]
    history.sql("DROP SCHEMA elsewhere")


# What else a project may have


def test_unique_together_that_is_not_nested(history: History) -> None:
    create = """
    migrations.CreateModel("Thing", [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.IntegerField()),
    ], options={"unique_together": ("id", "name")}),
    """
    history.write("users.0001", create)
    history.make_ghost("users.0002_x", ADD.format("x"), [("users", "0001")])
    assert rewind(history)[0] == 0
    assert history.recorded() == ["users.0001"]


class RouterThatAsksTheModel:
    def allow_migrate(
        self, db: str, app_label: str, model_name: Any = None, **hints: Any
    ) -> bool | None:
        model = hints.get("model")
        if model is None:
            return None
        options = model._meta
        return not (options.swapped or options.proxy or options.abstract)


def test_a_router_that_asks_the_model(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.install(DATABASE_ROUTERS=[f"{__name__}.RouterThatAsksTheModel"])
    history.migrate()
    history.lose("users.0002_x")
    history.install(DATABASE_ROUTERS=[f"{__name__}.RouterThatAsksTheModel"])
    assert rewind(history)[0] == 0
    assert history.recorded() == ["users.0001"]


def test_commands_start_where_the_default_database_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = ConnectionHandler({"default": {}})
    for module in ("django.core.management.base", "django_rewind.notice"):
        monkeypatch.setattr(f"{module}.connections", empty, raising=False)
    monkeypatch.setattr("django.db.connections", empty)
    BaseCommand().check_migrations()


# Case matters in the label of an app


def test_a_ghost_that_points_at_a_model_of_an_app_with_capitals(
    history: History,
) -> None:
    history.have("Shop: 0001")
    add = """
    migrations.AddField(
        "thing", "owner", models.ForeignKey("Shop.Thing", models.CASCADE, null=True)
    ),
    migrations.AddField("thing", "friends", models.ManyToManyField("Shop.Thing")),
    """
    history.make_ghost("Shop.0002_owner", add, [("Shop", "0001")])
    code, text = rewind(history)
    assert code == 0, text
    assert "drops Shop_thing_friends: 0 rows" in text
    assert history.columns("Shop_thing") == ["id", "name"]


def test_a_ghost_that_inherits_from_a_model_of_an_app_with_capitals(
    history: History,
) -> None:
    history.have("Shop: 0001")
    child = CHILD.replace("users", "Shop").replace("Shop.thing", "Shop.Thing")
    history.make_ghost("Shop.0002_boss", child, [("Shop", "0001")])
    code, text = rewind(history)
    assert code == 0, text
    assert "Shop_boss" not in history.tables()


def test_a_swappable_model_of_an_app_with_capitals(history: History) -> None:
    history.have("Shop: 0001")
    create = """
    migrations.CreateModel(
        "Person", [("id", models.BigAutoField(primary_key=True))],
        options={"swappable": "THE_PERSON"},
    ),
    """
    history.write("Shop.0002_person", create, [("Shop", "0001")])
    history.install(THE_PERSON="Shop.Person")
    history.migrate()
    history.lose("Shop.0002_person")
    history.install(THE_PERSON="Shop.Person")
    code, text = rewind(history)
    assert code == 0, text
    assert "drops Shop_person: 0 rows" in text


# What the database has not, though the records say so

MANY = 'migrations.AddField("thing", "tags", models.ManyToManyField("users.Thing")),'


@pytest.fixture
def renamed(history: History) -> History:
    """A plain migrate renamed the model, and not the table that a ghost made for it."""
    history.have("users: 0001")
    history.make_ghost("users.0002_tags", MANY, [("users", "0001")])
    rename = 'migrations.RenameModel("Thing", "Item"),'
    history.make_ghost("users.0002_rename", rename, [("users", "0001")])
    return history


def test_a_table_that_kept_its_name(renamed: History) -> None:
    code, text = rewind(renamed)
    assert code == 2
    assert "users.0002_rename: it would rename the table users_item_tags, which" in text
    assert "is not in the database." in text
    with pytest.raises(CommandError, match="it would rename the table users_item_tags"):
        renamed.migrate("users", "0001")
    assert len(renamed.recorded()) == 3


def test_only_their_records_go(renamed: History) -> None:
    assert rewind(renamed, fake=True)[0] == 0
    assert renamed.recorded() == ["users.0001"]


OWN = """
from django.db import migrations, models


class Nowhere(models.Field):
    def db_type(self, connection):
        return None


class Drop(migrations.RunSQL):
    # Drops a column, and brings it back.
    reversible = True

    def __init__(self):
        super().__init__("ALTER TABLE users_thing DROP COLUMN x")

    def deconstruct(self):
        return "Drop", [], {}

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute("ALTER TABLE users_thing ADD x integer NULL")


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [OPERATIONS]
"""
LONG = "Ж" * 40


class ByModel:
    """A router that looks at the model, as Django's documentation lets it."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        model = hints.get("model")
        if model is not None and model._meta.db_table.startswith("legacy_"):
            return db == "other"
        return None


@pytest.mark.parametrize(
    "operations",
    [
        # No column, or in a way of its own.
        pytest.param(
            'migrations.AddField("thing", "x", Nowhere(null=True))',
            # Before, Django itself cannot add it to a table of SQLite.
            marks=[pytest.mark.only("postgresql", "mysql")]
            if django.VERSION < (4, 0)
            else [],
        ),
        f"{ADD.format('x')} Drop()",
        # Names that the database cuts, or that have quotes.
        pytest.param(
            f'migrations.CreateModel("{LONG}", [("id", models.AutoField('
            "primary_key=True))])",
            marks=pytest.mark.only("sqlite", "postgresql"),
        ),
        """migrations.AlterModelTable("thing", '"people"')""",
        # In the other database.
        """migrations.CreateModel("Old", [("id", models.AutoField(primary_key=True))],
        {"db_table": "legacy_old"})""",
    ],
)
def test_what_is_there_after_all(history: History, operations: str) -> None:
    history.have("users: 0001")
    history.write("users.0002", text=OWN.replace("OPERATIONS", operations))
    history.install(DATABASE_ROUTERS=[ByModel()])
    history.migrate()
    history.lose("users.0002")
    assert rewind(history)[0] == 0
    assert history.recorded() == ["users.0001"]


@pytest.mark.parametrize("is_stored", [True, False])
def test_what_an_unreachable_one_did_is_not_blamed_on_anything_else(
    history: History, is_stored: bool
) -> None:
    """Nor is anything else said of a plan that has a hole."""
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    remove = 'migrations.RemoveField("thing", "prefs"),'
    history.write("users.0003_gone", remove, [("users", "0002_prefs")])
    history.migrate()
    history.lose("users.0003_gone", "users.0002_prefs")
    rows = MigrationCode.objects.filter(migration_name="0003_gone")
    if is_stored:
        rows.update(signature="")
    else:
        rows.delete()
    for command, args in [("rewind", ["--plan"]), ("migrate", ["users", "0001"])]:
        with pytest.raises(CommandError) as refusal:
            history.run(command, *args)
        problems = str(refusal.value).splitlines()[1:]
        assert len(problems) == 1
        assert problems[0].startswith("  users.0003_gone: ")


@pytest.mark.parametrize("by_code", [False, True])
def test_a_column_that_somebody_dropped(history: History, by_code: bool) -> None:
    history.have("users: 0001 > 0002_x")
    drop, add = (
        f"ALTER TABLE users_thing {what}" for what in ("DROP COLUMN x", "ADD x integer")
    )
    if by_code:
        # Its rollback brings the column back.
        sql = f"migrations.RunSQL({drop!r}, {add!r}),"
        history.write("users.0003_sql", sql, [("users", "0002_x")])
    history.migrate()
    if not by_code:
        history.sql(drop)
    history.lose("users.0002_x", *(["users.0003_sql"] if by_code else []))
    code, text = rewind(history)
    assert code == (0 if by_code else 2), text
    if not by_code:
        assert "0002_x: it would drop the column users_thing.x, which is not" in text
    assert len(history.recorded()) == (1 if by_code else 2)


# With the files of this checkout


OTHER_FIELD = 'migrations.AddField("thing", "other", models.IntegerField(null=True)),'


def test_an_edited_one_that_others_need_goes_with_migrate_only(
    history: History,
) -> None:
    """As in a package whose newer release has another field in its first migration."""
    history.have("users: 0001 > 0002_a > 0003_c > 0004_b")
    history.migrate()
    history.lose("users.0004_b")
    history.write("users.0002_a", OTHER_FIELD, [("users", "0001")])
    output = history.run("rewind", interactive=False)
    assert "users.0003_c would go with it" in output
    assert history.recorded() == ["users.0001", "users.0002_a", "users.0003_c"]
    assert set(history.columns("users_thing")) == {"id", "name", "a", "c"}
    history.run("rewind", interactive=False, migrate=True)
    assert set(history.columns("users_thing")) == {"id", "name", "other", "c"}


def test_an_edited_one_that_does_not_verify_is_refused_also_under_others(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a > 0003_c")
    history.migrate()
    history.write("users.0002_a", OTHER_FIELD, [("users", "0001")])
    sql = "UPDATE django_migrations_code SET signature = 'x' WHERE migration_name = %s"
    history.sql(sql, ["0002_a"])
    for migrate in (False, True):
        with pytest.raises(CommandError, match=r"users\.0002_a") as error:
            history.run("rewind", interactive=False, migrate=migrate)
        assert error.value.returncode == 2


def test_conflicting_files_are_found_before_anything_is_reversed(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.lose("users.0002_x")
    history.write("users.0002_a", dependencies=[("users", "0001")])
    history.write("users.0002_b", dependencies=[("users", "0001")])
    with pytest.raises(CommandError, match=r"0002_a, 0002_b in users") as error:
        history.run("rewind", interactive=False, migrate=True)
    assert error.value.returncode == 2
    assert history.recorded() == ["users.0001", "users.0002_x"]


def test_what_a_function_may_miss_here_is_named(history: History) -> None:
    history.have("users: 0001")
    file = history.folder / "users" / "migrations" / "data.bin"
    file.write_bytes(b"\xff\xfe\x00")
    history.write("users.0002_x", text=NEEDS_A_FILE)
    history.migrate()
    fact = "the data file users/migrations/data.bin is not text"
    assert fact in history.run("verify_migrations")
    history.lose("users.0002_x")
    file.unlink()
    plan = history.run("rewind", plan=True)
    assert f"may stop half-way. Neither stored with it nor here: {fact}." in plan


@pytest.fixture
def needs_what_is_made(history: History) -> Callable[[str, str], None]:
    """Make a ghost of two functions, for which nothing can be stored."""

    def make(forward: str, back: str) -> None:
        history.have("users: 0001")
        tools = history.folder / "users" / "tools.py"
        tools.write_text(TOOLS)
        text = NEEDS_WHAT_IS_MADE.format(forward=forward, back=back)
        history.write("users.0002_x", text=text)
        history.migrate()
        history.lose("users.0002_x")
        tools.unlink()
        history.forget_modules()

    return make


IMPORT = "from users.tools import made"
HELPED = "helper()"


@pytest.mark.parametrize("back", [IMPORT, "from ..tools import made", HELPED])
@pytest.mark.parametrize("command", [["migrate", "users", "0001"], ["rewind"]])
def test_a_reverse_function_that_needs_what_is_nowhere_is_refused(
    history: History, needs_what_is_made: Any, back: str, command: list[str]
) -> None:
    needs_what_is_made("pass", back)
    with pytest.raises(CommandError) as error:
        history.run(*command, interactive=False)
    assert (
        "users.0002_x: 'back' reverses it and needs users.tools, which is "
        "neither stored with it nor here. Check out the code that has its file"
    ) in str(error.value)
    assert "Nothing was changed" in str(error.value)
    assert history.recorded() == ["users.0001", "users.0002_x"]
    history.migrate("users", "0001", fake=True)
    assert history.recorded() == ["users.0001"]


@pytest.mark.parametrize(
    ("forward", "back"),
    [
        (IMPORT, "pass"),
        (HELPED, "pass"),
        ("pass", f"try: {IMPORT}\n    except ImportError: pass"),
    ],
)
def test_one_that_does_without_is_not(
    history: History, needs_what_is_made: Any, forward: str, back: str
) -> None:
    needs_what_is_made(forward, back)
    plan = history.run("rewind", plan=True)
    assert ("may stop half-way" in plan) is (back == "pass")
    history.run("rewind", interactive=False)
    assert history.recorded() == ["users.0001"]


def test_if_only_the_name_is_gone_it_is_refused_too(
    history: History, needs_what_is_made: Any
) -> None:
    needs_what_is_made("pass", IMPORT)
    (history.folder / "users" / "tools.py").write_text("other = 1")
    with pytest.raises(CommandError, match=r"needs users\.tools\.made, which"):
        history.run("rewind", interactive=False)


def test_what_is_here_again_is_used(history: History, needs_what_is_made: Any) -> None:
    needs_what_is_made("pass", IMPORT)
    (history.folder / "users" / "tools.py").write_text(TOOLS)
    assert "may stop" not in history.run("rewind", interactive=False)
    assert history.recorded() == ["users.0001"]


TOOLS = 'globals()["made"] = 1'

NEEDS_WHAT_IS_MADE = """\
from django.db import migrations


def helper():
    from users.tools import made


def forward(apps, schema_editor):
    {forward}


def back(apps, schema_editor):
    {back}


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(forward, back)]
        )
    ]
"""

NEEDS_A_FILE = """\
from pathlib import Path

from django.db import migrations


def back(apps, schema_editor):
    (Path(__file__).parent / "data.bin").read_bytes()


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(migrations.RunPython.noop, back)]
"""


def test_what_stored_code_prints_is_no_part_of_a_plan(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    history.have("users: 0001")
    history.write("users.0002_x", text=f"print('hello')\n{NEEDS_A_FILE}")
    history.migrate()
    history.lose("users.0002_x")
    capsys.readouterr()
    history.run("rewind", plan=True, format="json")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    "dependencies", ["[]", '[["blog", "0001"]]', '[["users", "0001"]]', "x"]
)
@pytest.mark.parametrize("command", ["migrate", "rewind"])
def test_a_dependant_whose_row_was_altered_is_not_believed(
    history: History, command: str, dependencies: str
) -> None:
    """It may depend on what would go, whatever it says now."""
    history.have("users: 0001 > 0002_x; blog: 0001 > 0002_y(users.0002_x)")
    history.migrate()
    history.lose("users.0002_x", "blog.0002_y")
    history.sql(
        "UPDATE django_migrations_code SET dependencies = %s "
        "WHERE migration_name = '0002_y'",
        [dependencies],
    )
    before = history.recorded()
    with pytest.raises(CommandError, match=r"blog\.0002_y: its stored code was alter"):
        history.run(command, "users", "0001", interactive=False)
    assert history.recorded() == before


def test_a_record_that_is_a_leftover_can_be_forgotten(history: History) -> None:
    """As after a squash whose `replaces` was removed before the installation."""
    history.have("users: 0001 > 0002_x")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
        history.lose("users.0001", "users.0002_x")
        history.write("users.0001_squashed", text=BODY)
        history.migrate("users", "0001_squashed", fake=True)
    history.migrate()
    with pytest.raises(CommandError) as error:
        history.migrate("users", "zero")
    if django.VERSION < (4, 1):
        assert "--prune" not in str(error.value)
        return
    assert (
        "If another migration stands for it, as after a squash whose `replaces` was "
        "removed, 'manage.py migrate users --prune' forgets it."
    ) in str(error.value)
    history.migrate("users", prune=True)
    history.run("verify_migrations")
    history.migrate("users", "zero")
    assert history.recorded() == []


# What a file that stays makes too


@pytest.fixture
def made_anew(history: History) -> History:
    """0002_x is gone, and 0001 made anew with what it did; then came another one."""
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.lose("users.0002_x")
    history.write("users.0001", text=BODY)
    history.write("users.0002_y", ADD.format("y"), [("users", "0001")])
    history.migrate()
    return history


@pytest.mark.parametrize("command", ["migrate", "rewind", "rewind to"])
def test_what_an_edited_file_has_too_is_not_dropped(
    made_anew: History, command: str
) -> None:
    def go_back(**options: Any) -> None:
        name = command.partition(" ")[0]
        arguments = [] if command == "rewind" else ["users", "0001"]
        made_anew.run(name, *arguments, interactive=False, **options)

    with pytest.raises(CommandError) as error:
        go_back()
    assert (
        "users.0002_x: it would drop the column users_thing.x, which the file of "
        "users.0001 makes too, and that is applied. If that file stands for it now, "
        "remove its record alone"
    ) in str(error.value)
    assert rows(made_anew) == [[1, "a", 5]]
    assert made_anew.recorded() == ["users.0001", "users.0002_x", "users.0002_y"]
    if django.VERSION < (4, 1):
        return
    assert "as 'manage.py migrate users --prune' does" in str(error.value)
    made_anew.migrate("users", prune=True)
    go_back()
    assert rows(made_anew) == [[1, "a", 5]]


def test_what_is_made_again_under_the_same_name_is_not_missed(
    history: History,
) -> None:
    """As where a column is exchanged for one of another type."""
    history.have("users: 0001")
    steps = [
        'migrations.AddField("thing", "new", models.TextField(default="")),',
        'migrations.RemoveField("thing", "name"),',
        'migrations.RenameField("thing", "new", "name"),',
    ]
    for number, operation in enumerate(steps, 2):
        before = "0001" if number == 2 else f"{number - 1:04}"
        history.write(f"users.{number:04}", operation, [("users", before)])
    history.migrate()
    history.lose("users.0002", "users.0003", "users.0004")
    text = history.path("users.0001").read_text()
    edited = text.replace("max_length=50", 'max_length=50, help_text="Who"')
    history.write("users.0001", text=edited)
    code, said = rewind(history)
    assert code == 0, said
    # SQLite makes it again in another place.
    assert sorted(history.columns("users_thing")) == ["id", "name"]
    assert history.recorded() == ["users.0001"]


def test_a_table_that_an_edited_file_has_too_is_not_dropped(history: History) -> None:
    history.have("users: 0001")
    other = CREATE.replace("Thing", "Order")
    history.write("users.0002_order", other + ",", [("users", "0001")])
    history.migrate()
    history.lose("users.0002_order")
    both = MIGRATION.format(dependencies=[], operations=f"{CREATE}, {other}")
    history.write("users.0001", text=both)
    with pytest.raises(CommandError, match="it would drop the table users_order, whi"):
        history.migrate("users", "0001")
    assert "users_order" in history.tables()


def test_what_was_renumbered_and_faked_keeps_its_data(history: History) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.lose("users.0002_x")
    history.have("users: 0001 > 0002_main")
    history.migrate("users", "0002_main")
    history.write("users.0003_x", ADD.format("x"), [("users", "0002_main")])
    history.migrate("users", "0003_x", fake=True)
    code, said = rewind(history, migrate=True)
    assert code == 2, said
    assert "which the file of users.0003_x makes too" in said
    assert rows(history) == [[1, "a", 5]]
    # To go back to before both is another thing.
    history.migrate("users", "0001")
    assert "x" not in history.columns("users_thing")


@pytest.mark.parametrize(
    "twice",
    [
        """migrations.AlterUniqueTogether("thing", {("name", "n")}),
        migrations.AlterUniqueTogether("thing", set()),""",
        """migrations.AddIndex("thing", models.Index(fields=["-n"], name="by_n")),
        migrations.RemoveIndex("thing", "by_n"),""",
        """migrations.AddConstraint("thing", models.UniqueConstraint(
            fields=["name", "n"], name="unique_n")),
        migrations.RemoveConstraint("thing", "unique_n"),""",
    ],
)
def test_what_a_ghost_indexed_on_the_way_may_be_gone(
    history: History, twice: str
) -> None:
    """Undone in a state without the field, it ended in FieldDoesNotExist."""
    history.have("users: 0001 > 0002_n")
    history.make_ghost("users.0003_ghost", twice, [("users", "0002_n")])
    remove = 'migrations.RemoveField("thing", "n"),'
    history.write("users.0003_remove", remove, [("users", "0002_n")])
    history.migrate()
    output = history.run("rewind", interactive=False, migrate=True)
    assert (
        "users.0003_remove (was applied after users.0003_ghost and changed what that "
        "made; from file)"
    ) in output
    assert history.recorded() == ["users.0001", "users.0002_n", "users.0003_remove"]
    assert history.columns("users_thing") == ["id", "name"]
