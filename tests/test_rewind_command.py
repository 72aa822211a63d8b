"""The rewind command: what it does, says, asks and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import CommandError
from django.db import OperationalError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.dispatch import Signal

from django_rewind import journal, locks, plans, signals, store
from django_rewind.exceptions import RUN_AGAIN, LockTimeout, Refused
from django_rewind.management.commands import rewind as command
from django_rewind.recorder import StoresCode
from tests.history import CREATE, History
from tests.project import Project
from tests.schemas import schema_of

ADD_X = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'


def rewind(history: History, *args: str, **options: Any) -> str:
    return history.run("rewind", *args, **{"interactive": False, **options})


def plan(history: History, *args: str, **options: Any) -> dict[str, Any]:
    output = history.run("rewind", *args, plan=True, format="json", **options)
    found: dict[str, Any] = json.loads(output)
    return found


def steps(history: History, *args: str, **options: Any) -> list[str]:
    found = plan(history, *args, **options)["steps"]
    return ["{app_label}.{migration_name}: {reason}".format(**step) for step in found]


def refusal(history: History, *args: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(CommandError) as error:
        rewind(history, *args, **options)
    return error.value.returncode, str(error.value)


@pytest.fixture
def ghosts(history: History) -> History:
    """blog.0002 depends on users.0002_prefs; both and users.0003 are ghosts."""
    history.have(
        "users: 0001 > 0002_prefs > 0003_x; blog: 0001 > 0002_b(users.0002_prefs)"
    )
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, prefs) VALUES (1, 'a', 5)")
    history.sql("INSERT INTO users_thing (id, name) VALUES (2, 'b')")
    history.lose("users.0002_prefs", "users.0003_x", "blog.0002_b")
    return history


# What is rewound


def test_all_ghosts_go_and_nothing_else(ghosts: History) -> None:
    rewind(ghosts)
    assert sorted(ghosts.recorded()) == ["blog.0001", "users.0001"]
    assert ghosts.columns("users_thing") == ["id", "name"]
    assert ghosts.columns("blog_thing") == ["id", "name"]
    assert "Nothing to rewind in database 'default'." in rewind(ghosts)


def test_one_app_and_what_depends_on_it(ghosts: History) -> None:
    assert sorted(steps(ghosts, "users")) == [
        "blog.0002_b: depends on users.0002_prefs",
        "users.0002_prefs: ghost",
        "users.0003_x: ghost",
    ]
    assert steps(ghosts, "blog") == ["blog.0002_b: ghost"]
    rewind(ghosts, "blog")
    assert ghosts.recorded("users") == [
        "users.0001",
        "users.0002_prefs",
        "users.0003_x",
    ]


def test_a_target(ghosts: History) -> None:
    assert steps(ghosts, "users", "0002") == ["users.0003_x: after users.0002_prefs"]
    rewind(ghosts, "users", "0002")
    assert ghosts.columns("users_thing") == ["id", "name", "prefs"]
    rewind(ghosts, "users", "zero")
    assert ghosts.recorded() == ["blog.0001"]
    assert "users_thing" not in ghosts.tables()


def test_a_target_that_is_not_applied_is_refused(ghosts: History) -> None:
    code, text = refusal(ghosts, "users", "0009")
    assert code == command.REFUSED
    assert text.startswith("No applied migration of app 'users' is the one that '0009'")


def test_a_file_that_depends_on_a_ghost_goes_too_and_comes_back(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001(users.0002_prefs)")
    history.migrate()
    history.lose("users.0002_prefs")
    history.have("blog: 0001")
    assert steps(history, adopt=False) == [
        "blog.0001: depends on users.0002_prefs",
        "users.0002_prefs: ghost",
    ]
    rewind(history, migrate=True, adopt=False)
    assert history.recorded() == ["users.0001", "blog.0001"]


def test_a_file_that_depends_on_a_ghost_no_more_stays(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001(users.0002_prefs)")
    history.migrate()
    history.sql("INSERT INTO blog_thing (id, name) VALUES (1, 'a')")
    history.lose("users.0002_prefs")
    history.have("blog: 0001")
    assert steps(history) == [
        "blog.0001: its file does the same, and depends on others",
        "users.0002_prefs: ghost",
    ]
    rewind(history)
    assert history.recorded() == ["users.0001", "blog.0001"]
    assert history.sql("SELECT COUNT(*) FROM blog_thing")[0][0] == 1


def test_steps_follow_the_order_of_application(history: History) -> None:
    history.have("users: 0001 > 0002_prefs; blog: 0001 > 0002_b")
    history.migrate("users")
    history.migrate("blog")
    assert [s.partition(":")[0] for s in steps(history, steps=2)] == [
        "blog.0002_b",
        "blog.0001",
    ]
    rewind(history, steps=3)
    assert history.recorded() == ["users.0001"]


def test_steps_take_a_renamed_migration_for_as_old_as_it_is(history: History) -> None:
    history.have("users: 0001 > 0002_x; blog: 0001")
    history.migrate("users")
    history.migrate("blog")
    history.lose("users.0002_x")
    history.write("users.0002_renamed", ADD_X, [("users", "0001")])
    assert "Adopting users.0002_x" in rewind(history)
    assert steps(history, steps=1) == ["blog.0001: the last one applied"]
    assert history.recorded() == ["users.0001", "users.0002_renamed", "blog.0001"]


def test_steps_take_what_was_renumbered_before_what_it_depends_on(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.lose("users.0002_x")
    history.have("users: 0001 > 0002_other > 0003_x")
    rewind(history, migrate=True)
    assert steps(history, steps=1) == ["users.0003_x: the last one applied"]


def test_siblings_of_two_branches_stay_apart(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_a", dependencies=[("users", "0001")])
    history.write("users.0002_b", dependencies=[("users", "0001")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a, b) VALUES (1, 'n', 2, 3)")
    rewind(history)
    assert history.columns("users_thing") == ["id", "name", "b"]
    assert history.sql("SELECT b FROM users_thing") in ([(3,)], ((3,),))


def test_what_changed_what_a_ghost_made_goes_first(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_a", dependencies=[("users", "0001")])
    history.write(
        "users.0002_b",
        'migrations.RenameModel("Thing", "Item"),',
        [("users", "0001")],
    )
    history.migrate()
    assert "users_item" in history.tables()
    assert steps(history) == [
        "users.0002_b: was applied after users.0002_a and changed what that made",
        "users.0002_a: ghost",
    ]
    rewind(history, migrate=True)
    assert history.columns("users_item") == ["id", "name"]
    assert history.recorded() == ["users.0001", "users.0002_b"]


def test_an_edit_that_makes_another_schema_is_rewound(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    history.write("users.0002_prefs", ADD_X, [("users", "0001")])
    assert steps(history) == [
        "users.0002_prefs: its file makes another schema than was applied"
    ]
    rewind(history, migrate=True)
    assert history.columns("users_thing") == ["id", "name", "x"]


def test_an_edit_that_makes_the_same_schema_is_left_alone(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    history.write(
        "users.0002_prefs",
        """
        migrations.AddField(
            "thing", "prefs", models.IntegerField(null=True, help_text="edited")
        ),
        migrations.RunPython(migrations.RunPython.noop),
        """,
        [("users", "0001")],
    )
    assert steps(history) == []


# Renamed migrations


def test_a_renamed_migration_is_adopted(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_x", ADD_X, [("users", "0001")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.lose("users.0002_x")
    history.write("users.0002_renamed", ADD_X, [("users", "0001")])
    (step,) = plan(history)["steps"]
    assert (step["action"], step["migration_name"]) == ("adopt", "0002_x")
    assert step["reason"] == "does the same as users.0002_renamed, which is not applied"
    assert step["new_name"] == "0002_renamed"
    output = rewind(history, migrate=True)
    assert "Adopting users.0002_x as users.0002_renamed... OK" in output
    assert "No migrations to apply" in output
    assert history.recorded() == ["users.0001", "users.0002_renamed"]
    assert [*map(list, history.sql("SELECT x FROM users_thing"))] == [[5]]
    assert "0 of" not in history.run("verify_migrations")


def test_no_adopt_reverses_it(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_x", ADD_X, [("users", "0001")])
    history.write("users.0002_renamed", ADD_X, [("users", "0001")])
    assert steps(history, adopt=False) == ["users.0002_x: ghost"]


def test_a_renumbered_migration_waits_for_what_it_depends_on(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_x", ADD_X, [("users", "0001")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.lose("users.0002_x")
    history.write("users.0002_other", dependencies=[("users", "0001")])
    history.write("users.0003_x", ADD_X, [("users", "0002_other")])
    output = rewind(history)
    assert "users.0002_x gets the name 0003_x with --migrate, once users.0002" in output
    assert history.recorded() == ["users.0001", "users.0002_x"]
    rewind(history, migrate=True)
    assert sorted(history.recorded()) == [
        "users.0001",
        "users.0002_other",
        "users.0003_x",
    ]
    assert [*map(list, history.sql("SELECT x FROM users_thing"))] == [[5]]


@pytest.mark.parametrize(
    ("operation", "columns"),
    [
        ('migrations.RemoveField("thing", "name"),', {"id", "y"}),
        (
            'migrations.AlterField("thing", "name", models.TextField(null=True)),',
            {"id", "name", "y"},
        ),
    ],
)
def test_the_table_is_made_anew_beneath_what_altered_it(
    history: History, operation: str, columns: set[str]
) -> None:
    """SQLite does so from the state, which knows what was adopted by then."""
    history.have("users: 0001")
    history.make_ghost("users.0002_x", operation, [("users", "0001")])
    field = "models.IntegerField(null=True, unique=True)"
    unique = f'migrations.AddField("thing", "y", {field}),'
    history.write("users.0002_other", unique, [("users", "0001")])
    history.write("users.0003_x", operation, [("users", "0002_other")])
    output = rewind(history, migrate=True)
    assert "Unapplying" not in output
    assert set(history.columns("users_thing")) == columns
    assert history.recorded() == ["users.0001", "users.0003_x", "users.0002_other"]


def test_a_renamed_chain_is_adopted_as_a_whole(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.lose("users.0002_a", "users.0003_b")
    add = 'migrations.AddField("thing", "{}", models.IntegerField(null=True)),'
    history.write("users.0005_a", add.format("a"), [("users", "0001")])
    history.write("users.0006_b", add.format("b"), [("users", "0005_a")])
    assert {step["action"] for step in plan(history)["steps"]} == {"adopt"}
    rewind(history, migrate=True)
    assert history.recorded() == ["users.0001", "users.0005_a", "users.0006_b"]


@pytest.fixture
def renumbered(history: History) -> Callable[[str], None]:
    """A chain that adds, fills and alters a column, with other code before it now."""

    def make(other: str) -> None:
        history.have("users: 0001")
        chain = [ADD_X, FILL_X, ALTER_X]
        before = "0001"
        for number, (name, operations) in enumerate(zip("xyz", chain), start=2):
            before = write_with_fill(history, f"{number:04}_{name}", operations, before)
        history.migrate()
        history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
        history.lose("users.0002_x", "users.0003_y", "users.0004_z")
        before = write_with_fill(history, "0002_other", other, "0001")
        for number, (name, operations) in enumerate(zip("xyz", chain), start=3):
            before = write_with_fill(history, f"{number:04}_{name}", operations, before)

    return make


FILL_X = "migrations.RunPython(fill, migrations.RunPython.noop),"
ALTER_X = 'migrations.AlterField("thing", "x", models.BigIntegerField(null=True)),'
WITH_FILL = """\
from django.db import migrations, models


def fill(apps, schema_editor):
    apps.get_model("users", "Thing").objects.update(x=0)


class Migration(migrations.Migration):
    dependencies = [("users", "{before}")]
    operations = [{operations}]
"""


def write_with_fill(history: History, name: str, operations: str, before: str) -> str:
    text = WITH_FILL.format(before=before, operations=operations)
    history.write(f"users.{name}", text=text)
    return name


@pytest.mark.parametrize(
    "other",
    [
        'migrations.AddField("thing", "o", models.IntegerField(default=7)),',
        'migrations.AddIndex("thing", models.Index(fields=["name"], name="index_n")),',
    ],
)
def test_a_renumbered_chain_keeps_the_data_that_it_made(
    history: History, renumbered: Any, other: str
) -> None:
    renumbered(other)
    assert {step["action"] for step in plan(history, migrate=True)["steps"]} == {
        "adopt"
    }
    output = rewind(history, migrate=True)
    assert "Unapplying" not in output
    assert "No migrations to apply." in output
    assert [*map(list, history.sql("SELECT x FROM users_thing"))] == [[5]]
    history.migrate(database="other")
    assert schema_of("default") == schema_of("other")


@pytest.mark.parametrize(
    "other",
    [
        'migrations.RunSQL("SELECT 1", "SELECT 1"),',
        "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),",
        'migrations.AlterField("thing", "name", models.TextField()),',
    ],
)
def test_a_function_does_not_wait_for_what_may_matter_to_it(
    history: History, renumbered: Any, other: str
) -> None:
    renumbered(other)
    actions = [step["action"] for step in plan(history, migrate=True)["steps"]]
    assert "reverse" in actions
    rewind(history, migrate=True)
    assert history.recorded("users")[-1] == "users.0005_z"


ADD_B = 'migrations.AddField("thing", "b", models.IntegerField(null=True)),'


@pytest.mark.parametrize(
    "beneath",
    [
        'migrations.AddField("thing", "a", models.IntegerField(default=3)),',
        'migrations.AlterField("thing", "name", models.CharField(max_length=99)),',
    ],
)
def test_what_was_renumbered_back_keeps_its_data(
    history: History, beneath: str
) -> None:
    """Where it was rebased, it depended on what is reversed now."""
    history.have("users: 0001")
    history.write("users.0002_a", beneath, [("users", "0001")])
    history.write("users.0003_b", ADD_B, [("users", "0002_a")])
    history.write("users.0004_c", CHANGE_B, [("users", "0003_b")])
    history.migrate()
    columns, values = ("a, ", "3, ") if '"a"' in beneath else ("", "")
    history.sql(
        f"INSERT INTO users_thing (id, name, {columns}b) VALUES (1, 'n', {values}5)"
    )
    history.lose("users.0002_a", "users.0003_b", "users.0004_c")
    history.write("users.0002_b", ADD_B, [("users", "0001")])
    history.write("users.0003_c", CHANGE_B, [("users", "0002_b")])
    found = plan(history)["steps"]
    assert [(s["action"], s["migration_name"]) for s in found] == [
        ("adopt", "0003_b"),
        ("adopt", "0004_c"),
        ("reverse", "0002_a"),
    ]
    output = rewind(history, migrate=True)
    assert output.index("Adopting users.0003_b") < output.index("Unapplying users.0002")
    assert "No migrations to apply." in output
    assert history.recorded() == ["users.0001", "users.0002_b", "users.0003_c"]
    assert [*map(list, history.sql("SELECT b FROM users_thing"))] == [[5]]
    history.migrate(database="other")
    assert schema_of("default") == schema_of("other")
    assert "0 of" not in history.run("verify_migrations")


CHANGE_B = 'migrations.AlterField("thing", "b", models.BigIntegerField(null=True)),'


@pytest.mark.parametrize("stops", ["adopting", "reversing"])
def test_it_goes_on_after_a_stop_between_the_two(
    history: History, stops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a, b) VALUES (1, 'n', 3, 5)")
    history.lose("users.0002_a", "users.0003_b")
    history.write("users.0002_b", ADD_B, [("users", "0001")])

    def stop(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("The disk is full.")

    with monkeypatch.context() as patch:
        if stops == "adopting":
            patch.setattr(StoresCode, "adopt", stop)
        else:
            patch.setattr(MigrationExecutor, "unapply_migration", stop)
        with pytest.raises(CommandError, match="The disk is full") as stopped:
            rewind(history)
    assert stopped.value.returncode == 3
    assert "users.0002_a" in str(stopped.value)
    rewind(history)
    assert history.recorded() == ["users.0001", "users.0002_b"]
    assert history.columns("users_thing") == ["id", "name", "b"]
    assert [*map(list, history.sql("SELECT b FROM users_thing"))] == [[5]]


@pytest.mark.parametrize(
    "beneath",
    [
        'migrations.AddField("thing", "b", models.BigIntegerField(null=True)),',
        'migrations.RunSQL("SELECT 1", "SELECT 1"),',
    ],
)
def test_what_was_built_on_a_ghost_that_goes_is_not_adopted(
    history: History, beneath: str
) -> None:
    history.have("users: 0001")
    history.write("users.0002_a", beneath, [("users", "0001")])
    change = CHANGE_B if '"b"' in beneath else ADD_B
    history.write("users.0003_b", change, [("users", "0002_a")])
    history.migrate()
    history.lose("users.0002_a", "users.0003_b")
    before = "0001"
    if change == CHANGE_B:
        history.write("users.0002_b", ADD_B, [("users", "0001")])
        before = "0002_b"
    history.write("users.0003_c", change, [("users", before)])
    assert [step["action"] for step in plan(history)["steps"]] == ["reverse"] * 2


# The plan


def test_the_plan_says_what_is_destroyed(ghosts: History) -> None:
    found = plan(ghosts)
    assert [s["destroys"] for s in found["steps"] if s["app_label"] == "users"] == [
        ["drops users_thing.x: 0 values that are not null"],
        ["drops users_thing.prefs: 1 value that is not null"],
    ]
    assert {s["source"] for s in found["steps"]} == {"stored code"}
    assert ghosts.columns("users_thing") == ["id", "name", "prefs", "x"]
    text = ghosts.run("rewind", plan=True)
    assert "  users.0003_x (ghost; from stored code)\n" in text
    assert "    drops users_thing.prefs: 1 value that is not null\n" in text
    assert f"Digest of this plan: {found['digest']}" in text


def test_the_plan_with_sql(ghosts: History) -> None:
    found = plan(ghosts, sql=True)
    for step in found["steps"]:
        assert f"{step['app_label']}_thing" in "".join(step["sql"])
    assert "ALTER TABLE" in ghosts.run("rewind", plan=True, sql=True)


def test_a_plan_of_nothing_is_empty(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    assert plan(history)["steps"] == []


def test_expect_refuses_another_plan(ghosts: History) -> None:
    digest = plan(ghosts)["digest"]
    ghosts.find("users.0002_prefs", "blog.0002_b")
    code, text = refusal(ghosts, expect=digest)
    assert code == command.REFUSED
    assert "The plan is not the one that was expected" in text
    assert len(ghosts.recorded()) == 5
    ghosts.lose("users.0002_prefs", "blog.0002_b")
    # More data makes no other plan.
    ghosts.sql("INSERT INTO users_thing (id, name, prefs) VALUES (9, 'z', 9)")
    rewind(ghosts, expect=digest)
    assert len(ghosts.recorded()) == 2


def test_check(ghosts: History) -> None:
    with pytest.raises(SystemExit) as found:
        ghosts.run("rewind", check_only=True)
    assert found.value.code == command.FOUND_WORK
    assert len(ghosts.recorded()) == 5
    rewind(ghosts)
    ghosts.run("rewind", check_only=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            """DATABASES["default"].update(
                NAME="/nowhere/at/all", HOST="127.0.0.1", PORT="1"
            )""",
            "The database 'default' cannot be read: OperationalError",
        ),
        (
            'DATABASES["default"] = {}',
            "The database 'default' cannot be read: ImproperlyConfigured",
        ),
        ("CACHES = {}", "caches.E001"),
        ("ROOT_URLCONF = 'nowhere'", "The system checks cannot run: ModuleNotFound"),
    ],
)
def test_a_check_that_cannot_look_has_found_nothing(
    project: Project, settings: str, said: str
) -> None:
    project.have("users: 0001", settings)
    for options in (["--check"], ["--check", "users"], ["--noinput", "users", "0001"]):
        done = project.manage("rewind", *options, fails=True)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr


def test_a_check_with_files_that_cannot_be_loaded_has_found_nothing(
    ghosts: History,
) -> None:
    ghosts.write("users.0002_broken", text="import nowhere\n")
    for app in ([], ["users"], ["users", "0001"]):
        code, text = refusal(ghosts, *app, check_only=True)
        assert code == command.REFUSED
        assert "The migrations of this checkout cannot be loaded: ModuleNotF" in text


def test_a_database_that_is_lost_meanwhile_is_refused_too(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(question: str) -> str:
        monkeypatch.setattr(store, "contents", lost)
        return "yes"

    def lost(connection: Any) -> Any:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr("builtins.input", answer)
    code, text = refusal(ghosts, interactive=True)
    assert (code, "OperationalError: the connection is lost" in text) == (2, True)


# Edited by hand, to come after others

ADD_A = 'migrations.AddField("thing", "a", models.IntegerField(null=True)),'
NOOP = "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),"


@pytest.fixture
def rebased(history: History) -> History:
    """users.0002_x was applied after 0001; its file comes after 0002_new, as 0003_y."""
    history.have("users: 0001 > 0002_x > 0003_y")
    history.write("users.0002_x", ADD_X, [("users", "0001")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x, y) VALUES (1, 'a', 5, 6)")
    history.write("users.0002_new", dependencies=[("users", "0001")])
    history.write("users.0002_x", ADD_X, [("users", "0002_new")])
    return history


def test_what_comes_after_an_unapplied_one_now_stays(rebased: History) -> None:
    with pytest.raises(InconsistentMigrationHistory):
        rebased.migrate()
    assert steps(rebased, migrate=True) == [
        "users.0002_x: its file does the same, and depends on others"
    ]
    output = rewind(rebased)
    assert (
        "users.0002_x stays with --migrate, once users.0002_new is applied, on which "
        "its file depends.\nNothing to rewind without --migrate" in output
    )
    with pytest.raises(SystemExit):
        rewind(rebased, check_only=True)
    output = rewind(rebased, migrate=True)
    assert "Applying users.0002_new... OK" in output
    assert "Adopting users.0002_x... OK" in output
    assert set(rebased.columns("users_thing")) == {"id", "name", "x", "y", "new"}
    assert [*map(list, rebased.sql("SELECT x, y FROM users_thing"))] == [[5, 6]]
    assert "Nothing to rewind in" in rewind(rebased, migrate=True)
    rebased.run("verify_migrations", "users")
    assert not list(journal.broken_links(journal.read(connection)))


def test_and_back_on_the_branch_from_before(rebased: History) -> None:
    rewind(rebased, migrate=True)
    rebased.write("users.0002_x", ADD_X, [("users", "0001")])
    rebased.lose("users.0002_new")
    assert steps(rebased) == [
        "users.0002_x: its file does the same, and depends on others",
        "users.0002_new: ghost",
    ]
    rewind(rebased)
    assert sorted(rebased.recorded()) == ["users.0001", "users.0002_x", "users.0003_y"]
    assert [*map(list, rebased.sql("SELECT x, y FROM users_thing"))] == [[5, 6]]
    rebased.run("verify_migrations", "users")


def test_a_restore_point_from_before_is_still_one(rebased: History) -> None:
    rebased.run("restore_point", "before")
    rewind(rebased, migrate=True)
    assert [step.partition(":")[0] for step in steps(rebased, to="before")] == [
        "users.0003_y",
        "users.0002_x",
        "users.0002_new",
    ]
    rebased.write("users.0002_x", ADD_X, [("users", "0001")])
    rebased.lose("users.0002_new")
    rewind(rebased)
    assert steps(rebased, to="before") == []


@pytest.mark.parametrize("migration", ["0002_x", "0003_y"])
def test_what_does_not_fit_after_the_other_is_applied_again(
    history: History, migration: str
) -> None:
    alter = 'migrations.AlterField("thing", "name", models.{}(null=True)),'
    before = {"0002_x": "0001", "0003_y": "0002_x"}
    history.have("users: 0001 > 0002_x > 0003_y")
    history.write(
        f"users.{migration}", alter.format("TextField"), [("users", before[migration])]
    )
    history.migrate()
    history.write("users.0002_new", alter.format("IntegerField"), [("users", "0001")])
    if migration == "0002_x":
        operations = alter.format("TextField")
    else:
        operations = (
            'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
        )
    history.write("users.0002_x", operations, [("users", "0002_new")])
    assert sorted(steps(history, migrate=True)) == [
        "users.0002_x: its file depends on users.0002_new, not applied",
        "users.0003_y: depends on users.0002_x",
    ]
    output = rewind(history)
    assert "users.0002_x is left alone: its file depends on" in output
    assert "Nothing to rewind without --migrate" in output
    rewind(history, migrate=True)
    assert history.recorded() == [
        *("users.0001", "users.0002_new", "users.0002_x", "users.0003_y")
    ]


def test_what_migrate_would_refuse_is_refused_first(history: History) -> None:
    history.have("users: 0001 > 0002_x > 0003_y")
    history.migrate()
    recorder = MigrationExecutor(connection).recorder
    history.make_ghost("blog.0001")
    recorder.migration_qs.filter(app="users", name="0002_x").delete()
    code, text = refusal(history, migrate=True)
    assert code == command.REFUSED
    assert (
        "users.0003_y: it depends on users.0002_x, which is not recorded, and "
        "'migrate' refuses that." in text
    )
    assert history.recorded("blog") == ["blog.0001"]
    rewind(history, "users", "0001")
    assert history.recorded("users") == ["users.0001"]


@pytest.mark.parametrize("edit", ["", NOOP])
def test_those_before_and_after_it_change_places(history: History, edit: str) -> None:
    history.have("users: 0001 > 0002_c > 0003_a > 0004_b")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a, b, c) VALUES (1, 'a', 2, 3, 4)")
    history.lose("users.0002_c", "users.0004_b")
    history.have("users: 0001 > 0002_b > 0003_a > 0004_c")
    history.write("users.0003_a", ADD_A + edit, [("users", "0002_b")])
    rewind(history, migrate=True)
    assert "Nothing to rewind in" in rewind(history)
    assert len(history.recorded()) == 4
    if not edit:
        found = history.sql("SELECT a, b, c FROM users_thing")
        assert [*map(list, found)] == [[2, 3, 4]]
    history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]


@pytest.mark.parametrize("edit", ["", NOOP])
def test_the_one_before_it_comes_after_it_now(history: History, edit: str) -> None:
    history.have("users: 0001 > 0002_c > 0003_a")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a, c) VALUES (1, 'a', 2, 3)")
    history.lose("users.0002_c")
    history.write("users.0003_a", ADD_A + edit, [("users", "0001")])
    history.write("users.0004_c", dependencies=[("users", "0003_a")])
    rewind(history, migrate=True)
    assert "Nothing to rewind in" in rewind(history)
    assert sorted(history.recorded()) == ["users.0001", "users.0003_a", "users.0004_c"]
    if not edit:
        found = history.sql("SELECT a, c FROM users_thing")
        assert [*map(list, found)] == [[2, 3]]
    history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]


def test_without_adoption_it_is_applied_again(rebased: History) -> None:
    assert sorted(steps(rebased, migrate=True, adopt=False)) == [
        "users.0002_x: its file depends on users.0002_new, not applied",
        "users.0003_y: depends on users.0002_x",
    ]


# Asking


def test_only_the_word_yes_goes_on(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[Any] = [EOFError, KeyboardInterrupt]
    for answer in ("y", "no", "", "YES", *stops):
        monkeypatch.setattr("builtins.input", Mock(side_effect=[answer]))
        code, text = refusal(ghosts, interactive=True)
        assert (code, text) == (command.REFUSED, "Cancelled. Nothing was changed.")
    assert len(ghosts.recorded()) == 5
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    output = rewind(ghosts, interactive=True)
    assert "This destroys data:" in output
    assert len(ghosts.recorded()) == 2


def test_nobody_is_asked_where_nothing_can_be_done(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001 > 0002_x")
    history.migrate()
    history.lose("users.0002_x")
    history.have("users: 0001 > 0002_first")
    history.write("users.0003_x", ADD_X, [("users", "0002_first")])
    monkeypatch.setattr("builtins.input", Mock(side_effect=AssertionError))
    assert "Nothing to rewind without --migrate" in rewind(history, interactive=True)


def test_told_to_be_silent_it_tells_what_goes(ghosts: History) -> None:
    output = rewind(ghosts, verbosity=0)
    assert output.startswith("Rewind plan for database 'default':\n")
    assert output.endswith("drops users_thing.prefs: 1 value that is not null\n")
    assert rewind(ghosts, verbosity=0) == ""
    assert len(ghosts.recorded()) == 2


# Refusals


def test_an_unreachable_ghost_is_refused(ghosts: History) -> None:
    ghosts.sql("DELETE FROM django_migrations_code WHERE migration_name = '0003_x'")
    for options in [{}, {"check_only": True}, {"plan": True}]:
        code, text = refusal(ghosts, **options)
        assert code == command.REFUSED
        assert "users.0003_x: it is recorded, but its code was never stored" in text
    assert len(ghosts.recorded()) == 5


def test_what_fails_on_live_data_is_refused(history: History) -> None:
    history.have("users: 0001")
    history.write(
        "users.0002_required",
        'migrations.AddField("thing", "n", models.IntegerField(default=0)),',
        [("users", "0001")],
    )
    history.write(
        "users.0003_nullable",
        'migrations.AlterField("thing", "n", models.IntegerField(null=True)),',
        [("users", "0002_required")],
    )
    # Without a default, nothing fills the nulls.
    history.write(
        "users.0002_required",
        'migrations.AddField("thing", "n", models.IntegerField()),',
        [("users", "0001")],
    )
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name) VALUES (1, 'a')")
    history.lose("users.0003_nullable")
    code, text = refusal(history)
    assert code == command.REFUSED
    assert "it would make users_thing.n NOT NULL again, and 1 row has NULL" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"steps": 0}, "--steps takes a number of at least 1."),
        ({"sql": True}, "--sql and --format are for --plan."),
        ({"databases": ["none"]}, "There is no database 'none' in DATABASES."),
        ({"to": "x", "app_label": "users"}, "--to and --steps are about all apps"),
    ],
)
def test_options_that_make_no_sense(
    ghosts: History, options: dict[str, Any], text: str
) -> None:
    app = [options.pop("app_label")] if "app_label" in options else []
    code, said = refusal(ghosts, *app, **options)
    assert code == command.REFUSED
    assert text in said


# Stopping part-way


def fails_in_the_middle(history: History, marker: str) -> None:
    history.have("users: 0001 > 0002_a")
    history.write(
        "users.0003_fails",
        text=(
            "from pathlib import Path\n"
            "from django.db import migrations, models\n\n\n"
            "def fail(apps, schema_editor):\n"
            f"    if not Path({marker!r}).exists():\n"
            "        raise OSError('the disk is gone')\n\n\n"
            "class Migration(migrations.Migration):\n"
            "    dependencies = [('users', '0002_a')]\n"
            "    operations = [migrations.RunPython(migrations.RunPython.noop, fail)]\n"
        ),
    )
    history.write("users.0004_b", dependencies=[("users", "0003_fails")])
    history.migrate()
    history.lose("users.0002_a", "users.0003_fails", "users.0004_b")


def test_after_a_stop_of_steps_the_rest_is_named(
    history: History, tmp_path: Any
) -> None:
    """The same number again would take more than was asked for."""
    fails_in_the_middle(history, str(tmp_path / "mended"))
    code, text = refusal(history, steps=2)
    assert code == command.STOPPED
    assert "Left: users.0003_fails.\n" in text
    assert text.endswith("Remove the cause and run 'manage.py rewind --steps 1'.")
    (tmp_path / "mended").touch()
    rewind(history, steps=1)
    assert history.recorded() == ["users.0001", "users.0002_a"]


def test_after_a_stop_of_what_was_expected_it_is_reviewed_again(
    history: History, tmp_path: Any
) -> None:
    fails_in_the_middle(history, str(tmp_path / "mended"))
    code, text = refusal(history, expect=plan(history)["digest"])
    assert code == command.STOPPED
    assert text.endswith(
        "Remove the cause, review what is left with --plan, and run it with the digest "
        "of that."
    )


@pytest.fixture
def both(ghosts: History) -> History:
    """The same in two databases, where an order to stop is obeyed."""
    ghosts.find("users.0002_prefs", "users.0003_x", "blog.0002_b")
    ghosts.migrate(database="other")
    ghosts.lose("users.0002_prefs", "users.0003_x", "blog.0002_b")
    return ghosts


def stop_at(
    monkeypatch: pytest.MonkeyPatch, history: History, where: str, **options: Any
) -> str:
    """What it says last, of a rewind of both that stops there."""
    unapply = MigrationExecutor.unapply_migration

    def fail(self: Any, state: Any, migration: Any, *args: Any, **kwargs: Any) -> Any:
        if f"{self.connection.alias}: {migration}" == where:
            raise OSError("the disk is gone")
        return unapply(self, state, migration, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MigrationExecutor, "unapply_migration", fail)
        code, message = refusal(history, databases=["default", "other"], **options)
    assert code == command.STOPPED
    return message.splitlines()[-1].strip()


# users.0003_x is the last one that was applied, and blog.0002_b the one before it.
@pytest.mark.parametrize(
    ("where", "commands"),
    [
        ("default: blog.0002_b", ["1 --fake", "2 --fake --database other"]),
        ("other: users.0003_x", ["2 --fake --database other"]),
        ("other: blog.0002_b", ["1 --fake --database other"]),
    ],
)
def test_after_a_stop_of_steps_in_several_databases_no_more_is_taken(
    both: History, monkeypatch: pytest.MonkeyPatch, where: str, commands: list[str]
) -> None:
    how = ", then ".join(f"'manage.py rewind --steps {each}'" for each in commands)
    said = stop_at(monkeypatch, both, where, steps=2, fake=True)
    assert said == f"Remove the cause and run {how}."


def test_after_a_stop_before_anything_was_done_it_is_the_same_again(
    both: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "default: users.0003_x"
    assert stop_at(monkeypatch, both, where, steps=2) == RUN_AGAIN


def test_after_a_stop_in_the_second_database_the_rest_is_reviewed(
    both: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = plan(both, databases=["default", "other"])["digest"]
    assert stop_at(monkeypatch, both, "other: users.0003_x", expect=digest) == (
        "Remove the cause, review what is left with --plan --database other, and run "
        "it with the digest of that."
    )
    digest = plan(both, databases=["other"])["digest"]
    rewind(both, databases=["other"], expect=digest)
    assert len(both.recorded(alias="other")) == 2


def test_what_was_done_before_it_went_forward_is_said(
    history: History, tmp_path: Any
) -> None:
    marker = tmp_path / "mended"
    marker.touch()
    history.have("users: 0001")
    text = FAILS_FORWARD.format(marker=str(marker))
    history.write("users.0002_data", text=text)
    history.migrate()
    history.run("restore_point", "then")
    history.migrate("users", "0001")
    other = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
    history.make_ghost("users.0002_data", other, [("users", "0001")])
    marker.unlink()
    code, text = refusal(history, to="then", migrate=True)
    assert code == command.STOPPED
    assert "Done: users.0002_data." in text
    assert "Left: users.0002_data." in text


FAILS_FORWARD = """\
from pathlib import Path
from django.db import migrations


def fail(apps, schema_editor):
    if not Path({marker!r}).exists():
        raise OSError("the disk is gone")


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(fail, migrations.RunPython.noop)]
"""


def test_it_stops_part_way_and_goes_on(history: History, tmp_path: Any) -> None:
    marker = tmp_path / "mended"
    fails_in_the_middle(history, str(marker))
    code, text = refusal(history)
    assert code == command.STOPPED
    assert text.splitlines() == [
        "Stopped at users.0003_fails: OSError: the disk is gone",
        "  Done: users.0004_b.",
        "  Left: users.0003_fails, users.0002_a.",
        "  Remove the cause and run the same command again: it goes on from there.",
    ]
    assert history.recorded() == ["users.0001", "users.0002_a", "users.0003_fails"]
    last = journal.read(connection)[-1].fields
    assert (last["event"], last["error"]) == ("failed", "OSError: the disk is gone")
    marker.touch()
    rewind(history)
    assert history.recorded() == ["users.0001"]
    assert not list(journal.broken_links(journal.read(connection)))


def test_ctrl_c_in_a_step_is_a_stop(ghosts: History) -> None:
    def interrupt(migration: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    signals.migration_rewound.connect(interrupt)
    try:
        code, text = refusal(ghosts)
    finally:
        signals.migration_rewound.disconnect(interrupt)
    assert code == command.STOPPED
    assert "KeyboardInterrupt\n" in text
    assert len(ghosts.recorded()) == 4


def test_ctrl_c_in_the_migrate_that_follows_is_a_stop(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "call_command", Mock(side_effect=KeyboardInterrupt))
    code, text = refusal(ghosts, migrate=True)
    assert code == command.STOPPED
    assert text.splitlines()[:3] == [
        "Stopped at migrate: KeyboardInterrupt",
        "  Done: users.0003_x, blog.0002_b, users.0002_prefs.",
        "  Left: migrate.",
    ]


# Signals


def test_signals(ghosts: History) -> None:
    seen: list[tuple[str, Any]] = []

    def receive(signal: Any, **kwargs: Any) -> None:
        name = next(n for n, s in vars(signals).items() if s is signal)
        seen.append((name, kwargs.get("migration") or kwargs["plan"]))

    all_three = signals.pre_rewind, signals.post_rewind, signals.migration_rewound
    for signal in all_three:
        signal.connect(receive)
    try:
        rewind(ghosts, "blog")
    finally:
        for signal in all_three:
            signal.disconnect(receive)
    key = "blog", "0002_b"
    assert seen == [
        ("pre_rewind", [key]),
        ("migration_rewound", key),
        ("post_rewind", [key]),
    ]


@contextmanager
def raising(signal: Signal) -> Iterator[None]:
    """As long as it lasts, a receiver that raises."""

    def receive(**kwargs: Any) -> None:
        raise ValueError("not now")

    signal.connect(receive)
    try:
        yield
    finally:
        signal.disconnect(receive)


def test_a_receiver_that_raises_before_it_begins_refuses(ghosts: History) -> None:
    with raising(signals.pre_rewind):
        code, message = refusal(ghosts)
    assert code == command.REFUSED
    assert message == (
        "A receiver of pre_rewind raised ValueError: not now. Nothing was changed in "
        "database 'default'. --traceback shows which one it is."
    )
    assert len(ghosts.recorded()) == 5


@pytest.mark.parametrize("migrate", [True, False])
def test_a_receiver_that_raises_at_the_end_takes_nothing_back(
    ghosts: History, migrate: bool
) -> None:
    with raising(signals.post_rewind):
        code, message = refusal(ghosts, "blog", migrate=migrate)
    assert code == command.STOPPED
    assert message.splitlines() == [
        "Stopped at the end: ValueError: not now",
        (
            "  A receiver of post_rewind raised this, after all was done. --traceback "
            "shows which one it is."
        ),
        f"  Done: blog.0002_b{', migrate' if migrate else ''}.",
        "  Left: nothing.",
        "  Nothing of the plan is left to be done.",
    ]
    assert "blog.0002_b" not in ghosts.recorded()


def test_a_receiver_that_raises_leaves_the_other_databases(both: History) -> None:
    with raising(signals.post_rewind):
        code, message = refusal(both, databases=["default", "other"], steps=1)
    assert code == command.STOPPED
    assert message.splitlines()[2:] == [
        "  Done: users.0003_x in database 'default'.",
        "  Left: database 'other'.",
        "  Remove the cause and run 'manage.py rewind --steps 1 --database other'.",
    ]


# Databases


def test_each_database_on_its_own(ghosts: History) -> None:
    ghosts.find("users.0002_prefs", "users.0003_x", "blog.0002_b")
    ghosts.migrate(database="other")
    ghosts.lose("users.0002_prefs", "users.0003_x", "blog.0002_b")
    found = plan(ghosts, all_databases=True)["steps"]
    assert [s["database"] for s in found] == ["default"] * 3 + ["other"] * 3
    rewind(ghosts, databases=["other"])
    assert len(ghosts.recorded()) == 5
    assert len(ghosts.recorded(alias="other")) == 2
    output = rewind(ghosts, all_databases=True)
    assert len(ghosts.recorded()) == 2
    default, other = output.partition("Database: default")[2].split("Database: other")
    assert "Unapplying users.0003_x... OK" in default
    assert "Unapplying" not in other


@pytest.mark.parametrize("is_over", [True, False])
def test_what_does_not_fit_while_another_process_works_is_planned_again(
    ghosts: History, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    make = plans.make
    waited: list[locks.Guard] = []

    def refuse(connection: Any, request: Any) -> Any:
        monkeypatch.setattr(plans, "make", make)
        if is_over:
            recorder = MigrationExecutor(connection).recorder
            recorder.record_unapplied("users", "0003_x")
        raise Refused("rewind", [])

    monkeypatch.setattr(plans, "make", refuse)
    monkeypatch.setattr(locks.Guard, "is_taken", lambda guard: not is_over)
    monkeypatch.setattr(locks.Guard, "acquire", lambda guard: waited.append(guard))
    rewind(ghosts, plan=True)
    assert len(waited) == (0 if is_over else 1)


def test_what_another_process_did_meanwhile_is_said(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(question: str) -> str:
        ghosts.run("rewind", interactive=False)
        return "yes"

    monkeypatch.setattr("builtins.input", answer)
    output = rewind(ghosts, interactive=True)
    assert "Another process did it meanwhile in database 'default'." in output
    assert len(ghosts.recorded()) == 2


def test_a_plan_that_changed_since_it_was_shown_is_not_carried_out(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(question: str) -> str:
        ghosts.migrate("blog", "0001")
        return "yes"

    monkeypatch.setattr("builtins.input", answer)
    code, message = refusal(ghosts, interactive=True)
    assert code == 2
    assert "The plan for database 'default' changed since it was shown." in message
    assert "users.0003_x" in ghosts.recorded()


def test_what_was_not_shown_is_not_carried_out(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reviewed it, and all the same it was shown what would go."""
    before_it_waits(monkeypatch, lambda: ghosts.migrate("users", "0002"))
    code, message = refusal(ghosts, steps=1)
    assert code == command.REFUSED
    assert message == (
        "Another process changed database 'default' meanwhile: the plan for it now has "
        "blog.0002_b, which was not shown. Nothing was changed in it. Look at the new "
        "plan with --plan."
    )
    assert ghosts.recorded() == [
        "users.0001",
        "users.0002_prefs",
        "blog.0001",
        "blog.0002_b",
    ]


def test_a_part_of_what_was_shown_is_carried_out(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_it_waits(monkeypatch, lambda: ghosts.migrate("blog", "0001"))
    rewind(ghosts)
    assert ghosts.recorded() == ["users.0001", "blog.0001"]


def before_it_waits(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """What another process does, before this one has the lock."""
    holding = locks.holding

    def hold(*args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(locks, "holding", holding)
            act()
        return holding(*args)

    monkeypatch.setattr(locks, "holding", hold)


def test_a_refusal_after_another_database_was_changed_is_a_stop(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghosts.find("users.0002_prefs", "users.0003_x", "blog.0002_b")
    ghosts.migrate(database="other")
    ghosts.lose("users.0002_prefs", "users.0003_x", "blog.0002_b")

    def answer(question: str) -> str:
        ghosts.migrate("blog", "0001", database="other")
        return "yes"

    monkeypatch.setattr("builtins.input", answer)
    code, message = refusal(ghosts, all_databases=True, interactive=True)
    assert code == 3
    assert "The plan for database 'other' changed" in message
    assert "Done: database 'default'." in message
    assert "Left: database 'other'." in message
    assert len(ghosts.recorded()) == 2


@pytest.fixture
def refusing_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the lock of the second database for too long."""
    holding = locks.holding

    def holding_or_not(connection: Any, announce: Any) -> Any:
        if connection.alias == "other":
            raise LockTimeout("other", "somebody@host", 1)
        return holding(connection, announce)

    monkeypatch.setattr(locks, "holding", holding_or_not)


@pytest.mark.usefixtures("refusing_other")
def test_what_only_migrated_was_changed_too(history: History) -> None:
    history.have("users: 0001")
    for alias in ("default", "other"):
        history.migrate(database=alias)
    history.write("users.0002_new", dependencies=[("users", "0001")])
    both = ["default", "other"]
    code, message = refusal(history, databases=both, migrate=True)
    assert history.recorded() == ["users.0001", "users.0002_new"]
    assert code == 3
    assert "Done: database 'default'." in message


@pytest.mark.usefixtures("refusing_other")
def test_a_database_in_which_nothing_was_done_is_not_done(ghosts: History) -> None:
    rewind(ghosts)
    code, message = refusal(ghosts, databases=["default", "other"])
    assert code == 2
    assert "The lock of database 'other' is held by somebody@host" in message


def test_a_stop_names_the_databases_that_are_done(
    ghosts: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghosts.find("users.0002_prefs", "users.0003_x", "blog.0002_b")
    ghosts.migrate(database="other")
    ghosts.lose("users.0002_prefs", "users.0003_x", "blog.0002_b")
    unapply = MigrationExecutor.unapply_migration

    def fail(self: Any, state: Any, migration: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection.alias == "other" and migration.name == "0002_prefs":
            raise OSError("the disk is gone")
        return unapply(self, state, migration, *args, **kwargs)

    monkeypatch.setattr(MigrationExecutor, "unapply_migration", fail)
    code, message = refusal(ghosts, all_databases=True)
    assert code == 3
    assert (
        "Done: database 'default', users.0003_x in database 'other', blog.0002_b in "
        "database 'other'."
    ) in message
    assert "Left: users.0002_prefs in database 'other'." in message


def test_fake_removes_the_records_only(ghosts: History) -> None:
    rewind(ghosts, fake=True)
    assert len(ghosts.recorded()) == 2
    assert ghosts.columns("users_thing") == ["id", "name", "prefs", "x"]


# DJANGO_REWIND_AUTO


def test_automatically(ghosts: History) -> None:
    ghosts.install(DJANGO_REWIND_AUTO=True, DEBUG=True)
    output = ghosts.migrate()
    assert "DJANGO_REWIND_AUTO is on: rewinding first." in output
    assert "Unapplying users.0003_x... OK" in output
    assert output.count("Operations to perform:") == 1
    assert len(ghosts.recorded()) == 2
    assert "rewinding first" not in ghosts.migrate()


def test_automatically_for_one_app_leaves_the_others(history: History) -> None:
    history.have("users: 0001; blog: 0001")
    history.write("users.0002_x", ADD_X, [("users", "0001")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, x) VALUES (1, 'a', 5)")
    history.sql("INSERT INTO blog_thing (id, name) VALUES (1, 'a')")
    history.install(DJANGO_REWIND_AUTO=True, DEBUG=True)
    # Renumbered, and edited.
    history.lose("users.0002_x")
    history.write("users.0002_new", dependencies=[("users", "0001")])
    history.write("users.0003_x", ADD_X, [("users", "0002_new")])
    create = CREATE.replace("max_length=50", "max_length=60")
    history.write("blog.0001", create)
    history.migrate("users")
    assert sorted(history.recorded("users")) == [
        "users.0001",
        "users.0002_new",
        "users.0003_x",
    ]
    assert history.sql("SELECT x FROM users_thing")[0][0] == 5
    assert history.sql("SELECT COUNT(*) FROM blog_thing")[0][0] == 1
    history.lose("blog.0001")
    history.install(INSTALLED_APPS=["django_rewind", "users"], DJANGO_REWIND_AUTO=True)
    with pytest.raises(CommandError, match="No installed app with label 'blog'"):
        history.migrate("blog")
    assert history.recorded("blog") == ["blog.0001"]


def test_not_automatically_where_debug_is_off(ghosts: History) -> None:
    ghosts.install(DJANGO_REWIND_AUTO=True, DEBUG=False)
    with pytest.raises(CommandError, match="is for development only: DEBUG is off"):
        ghosts.migrate()
    assert len(ghosts.recorded()) == 5
