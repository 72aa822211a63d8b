"""What was squashed is no ghost, and is reversed once, in whichever state it is."""

from __future__ import annotations

from collections.abc import Collection

import django
import pytest
from django.core.management import CommandError
from django.db import connection

from django_rewind import status
from tests.history import History

# Each migration writes its name when it is reversed, whoever reverses it.
MIGRATION = """\
from django.db import migrations, models


def say(apps, schema_editor):
    # Not the editor's own execute(), which MySQL refuses in a transaction.
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT id FROM {label}_thing")
        cursor.execute("INSERT INTO reversals (name) VALUES ('{label}.{name}')")


class Migration(migrations.Migration):
    replaces = {replaces}
    dependencies = {dependencies}

    operations = [
{operations}
        migrations.RunPython(migrations.RunPython.noop, say),
    ]
"""
CREATE = """\
        migrations.CreateModel("Thing", [
            ("id", models.BigAutoField(primary_key=True)),
        ]),
"""
ADD = """\
        migrations.AddField("thing", "{}", models.IntegerField(null=True)),
"""


def write(
    history: History,
    migration: str,
    *,
    after: Collection[str] = (),
    replaces: Collection[str] = (),
    creates: bool = False,
    adds: str = "",
) -> None:
    """`adds`: the fields; the other names are "app.name"."""
    label, name = migration.split(".")
    history.write(
        migration,
        text=MIGRATION.format(
            label=label,
            name=name,
            replaces=[tuple(other.split(".")) for other in replaces],
            dependencies=[tuple(other.split(".")) for other in after],
            operations=(CREATE if creates else "")
            + "".join(ADD.format(field) for field in adds.split()),
        ),
    )


def recorded(history: History, label: str = "users") -> dict[str, bool]:
    """All that is recorded, and whether it is a ghost."""
    history.forget_modules()
    return {
        f"{app}.{name}": answer.is_ghost
        for (app, name), answer in status.read(connection).items()
        if answer.recorded and app == label
    }


def ghosts(history: History, *labels: str) -> set[str]:
    return {
        name
        for label in labels or ("users",)
        for name, is_ghost in recorded(history, label).items()
        if is_ghost
    }


def reversals(history: History) -> list[str]:
    return [name for (name,) in history.sql("SELECT name FROM reversals ORDER BY id")]


def have_files(history: History, *wanted: str) -> None:
    """Exactly these, of all that were written so far."""
    everything = {
        f"{path.parents[1].name}.{path.stem}"
        for path in history.folder.glob("*/migrations/0*.py")
    }
    history.lose(*(everything - set(wanted)))
    history.find(*(set(wanted) - everything))


ORIGINALS = ("users.0001", "users.0002_a")
SQUASH = "users.0001_squashed"


def write_originals(history: History) -> None:
    write(history, "users.0001", creates=True)
    write(history, "users.0002_a", after=["users.0001"], adds="a")


def write_squash(history: History, *, keeps_replaces: bool = True) -> None:
    replaces = ORIGINALS if keeps_replaces else ()
    write(history, SQUASH, creates=True, adds="a", replaces=replaces)


@pytest.fixture
def history(history: History) -> History:
    number = "SERIAL" if connection.vendor == "postgresql" else "INTEGER"
    increment = " AUTO_INCREMENT" if connection.vendor == "mysql" else ""
    history.sql(
        f"CREATE TABLE reversals (id {number} PRIMARY KEY{increment}, name varchar(99))"
    )
    return history


@pytest.fixture(params=["originals, then squash", "squash beside originals", "squash"])
def squashed(history: History, request: pytest.FixtureRequest) -> History:
    """Everything is recorded, and all three files are there."""
    if request.param != "squash":
        write_originals(history)
    if request.param == "originals, then squash":
        history.migrate()
    write_squash(history)
    history.migrate()
    write_originals(history)
    assert set(recorded(history)) == {*ORIGINALS, SQUASH}
    return history


@pytest.fixture
def in_force(history: History) -> History:
    """As an old database has it; the originals' files are there still."""
    write_originals(history)
    history.migrate()
    write_squash(history)
    history.migrate()
    return history


def test_before_the_squash_nothing_was_edited(history: History) -> None:
    write_squash(history)
    history.migrate()
    history.lose(SQUASH)
    write_originals(history)
    assert "edited" not in history.run("verify_migrations")
    output = history.migrate("users", "0001")
    assert "users.0002_a was applied by a squashed migration, which goes as" in output
    assert history.columns("users_thing") == ["id"]


@pytest.mark.parametrize("same", [True, False])
def test_before_the_squash_rewind_finds_nothing_edited(
    history: History, same: bool
) -> None:
    write_squash(history)
    history.migrate()
    history.lose(SQUASH)
    write_originals(history)
    if not same:
        write(history, "users.0002_a", after=["users.0001"], adds="b")
    output = history.run("rewind", check_only=True)
    note = f"{SQUASH} was applied, and makes another schema than the files of what it"
    assert (note in output) == (not same)
    assert "edited" not in output


def test_before_the_squash_one_original_is_reversed_under_what_stays(
    history: History,
) -> None:
    """blog was applied after the squash, and its file depends on an original."""
    write_squash(history)
    history.write("blog.0001", None, [("users", "0001_squashed")])
    history.migrate()
    history.lose(SQUASH)
    write_originals(history)
    history.write("blog.0001", None, [("users", "0001")])
    history.run("rewind", "users", "0001", interactive=False)
    assert history.columns("users_thing") == ["id"]
    assert sorted(history.recorded()) == ["blog.0001", "users.0001"]
    assert "Nothing to rewind" in history.run("rewind", interactive=False)
    history.migrate()
    assert history.columns("users_thing") == ["id", "a"]


def assert_back_at_nothing(history: History, expected: list[str]) -> None:
    """Reversed in this order, and what is applied afresh works."""
    assert reversals(history) == expected
    assert history.recorded() == []
    assert "users_thing" not in history.tables()
    history.migrate()
    assert history.columns("users_thing") == ["id", "a"]
    assert reversals(history) == expected


@pytest.mark.parametrize(
    ("files", "keeps_replaces", "expected_ghosts"),
    [
        pytest.param([SQUASH], True, set(), id="originals deleted"),
        pytest.param([SQUASH], False, set(), id="replaces removed"),
        pytest.param([*ORIGINALS, SQUASH], True, set(), id="everything there"),
        pytest.param([], True, {SQUASH}, id="everything gone"),
    ],
)
def test_a_squash_is_reversed_once_for_all_that_it_replaced(
    squashed: History, files: list[str], keeps_replaces: bool, expected_ghosts: set[str]
) -> None:
    write_squash(squashed, keeps_replaces=keeps_replaces)
    have_files(squashed, *files)
    assert ghosts(squashed) == expected_ghosts
    assert "No migrations to apply" in squashed.migrate()
    squashed.migrate("users", "zero")
    write_squash(squashed)
    assert_back_at_nothing(squashed, [SQUASH])


def test_before_the_squash_what_was_applied_is_reversed_once(
    squashed: History, request: pytest.FixtureRequest
) -> None:
    have_files(squashed, *ORIGINALS)
    assert ghosts(squashed) == set()
    assert "No migrations to apply" in squashed.migrate()
    squashed.migrate("users", "zero")
    ran = request.node.callspec.params["squashed"]
    assert_back_at_nothing(
        squashed, [SQUASH] if ran == "squash" else ["users.0002_a", "users.0001"]
    )


def test_before_the_squash_one_original_can_be_reversed(squashed: History) -> None:
    have_files(squashed, *ORIGINALS)
    squashed.migrate("users", "0001")
    assert squashed.recorded() == ["users.0001"]
    assert squashed.columns("users_thing") == ["id"]
    squashed.migrate()
    assert squashed.columns("users_thing") == ["id", "a"]
    squashed.migrate("users", "zero")
    assert "users_thing" not in squashed.tables()


def test_between_the_originals_the_second_is_a_ghost(in_force: History) -> None:
    have_files(in_force, "users.0001")
    assert ghosts(in_force) == {"users.0002_a"}
    in_force.migrate("users", "0001")
    assert in_force.recorded() == ["users.0001"]
    assert in_force.columns("users_thing") == ["id"]
    in_force.migrate("users", "zero")
    have_files(in_force, *ORIGINALS)
    assert_back_at_nothing(in_force, ["users.0002_a", "users.0001"])


def test_what_only_the_squash_ran_is_not_reversed_in_part(history: History) -> None:
    """It is a ghost too, whose code is that of the squash."""
    write_squash(history)
    history.migrate()
    write_originals(history)
    have_files(history, "users.0001")
    assert ghosts(history) == {"users.0002_a"}
    fact = "squashed migration" if django.VERSION < (4, 0) else r"users\.0002_a"
    with pytest.raises(CommandError, match=fact):
        history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "a"]
    history.migrate("users", "zero")
    have_files(history, *ORIGINALS)
    assert_back_at_nothing(history, [SQUASH])


# Squashed, `replaces` removed and pruned, and then back to before the squash


PRUNE = """DELETE FROM django_migrations
    WHERE app = 'users' AND name IN ('0001', '0002_a')"""


@pytest.fixture
def pruned(squashed: History) -> History:
    write_squash(squashed, keeps_replaces=False)
    have_files(squashed, SQUASH)
    squashed.sql("INSERT INTO users_thing (a) VALUES (5)")
    if django.VERSION >= (4, 1):
        squashed.migrate("users", prune=True)
    else:
        squashed.sql(PRUNE)
    assert set(recorded(squashed)) == {SQUASH}
    have_files(squashed, *ORIGINALS)
    assert ghosts(squashed) == {SQUASH}
    return squashed


def test_what_was_replaced_gets_its_records_back(pruned: History) -> None:
    text = pruned.run("rewind", plan=True)
    assert "does the same as users.0001, users.0002_a, which it replaced" in text
    assert "destroys" not in text
    output = pruned.run("rewind", interactive=False, migrate=True)
    assert f"Adopting {SQUASH} as users.0001, users.0002_a... OK" in output
    assert "No migrations to apply" in output
    assert set(recorded(pruned)) == {*ORIGINALS, SQUASH}
    assert list(pruned.sql("SELECT a FROM users_thing")) == [(5,)]
    assert ghosts(pruned) == set()
    assert "Nothing to rewind" in pruned.run("rewind", interactive=False)


def test_and_both_branches_can_be_gone_back_to(pruned: History) -> None:
    pruned.run("rewind", interactive=False)
    write_squash(pruned, keeps_replaces=False)
    have_files(pruned, SQUASH)
    assert "Nothing to rewind" in pruned.run("rewind", interactive=False, migrate=True)
    have_files(pruned, *ORIGINALS)
    pruned.migrate("users", "0001")
    assert pruned.columns("users_thing") == ["id"]
    pruned.migrate("users", "zero")
    assert_back_at_nothing(pruned, ["users.0002_a", "users.0001"])


def test_a_restore_point_knows_a_pruned_squash_as_what_it_replaced(
    pruned: History,
) -> None:
    pruned.run("restore_point", "pruned")
    pruned.run("rewind", interactive=False)
    pruned.run("restore_point", "adopted")
    for point in ("pruned", "adopted"):
        text = pruned.run("rewind", to=point, interactive=False, migrate=True)
        assert "Nothing to rewind" in text
        assert "Applied then" not in text


def test_what_follows_a_pruned_squash_is_reversed_before(pruned: History) -> None:
    write_squash(pruned, keeps_replaces=False)
    have_files(pruned, SQUASH)
    write(pruned, "users.0002_b", after=[SQUASH], adds="b")
    write(pruned, "blog.0001", after=[SQUASH], creates=True)
    pruned.migrate()
    have_files(pruned, *ORIGINALS)
    write(pruned, "blog.0001", after=["users.0002_a"], creates=True)
    output = pruned.run("rewind", interactive=False, migrate=True)
    assert "Unapplying users.0002_b... OK" in output
    assert "Unapplying blog.0001" not in output
    assert set(recorded(pruned)) == {*ORIGINALS, SQUASH}
    assert ghosts(pruned, "users", "blog") == set()
    assert pruned.columns("users_thing") == ["id", "a"]
    assert "Nothing to rewind" in pruned.run("rewind", interactive=False, migrate=True)


@pytest.mark.parametrize("adopt", [True, False])
def test_a_pruned_squash_of_something_else_is_reversed(
    pruned: History, adopt: bool
) -> None:
    """Or the same, if it is not to be adopted."""
    write(pruned, "users.0002_a", after=["users.0001"], adds="c" if adopt else "a")
    text = pruned.run("rewind", plan=True, adopt=adopt)
    assert "drops users_thing: 1 row" in text
    pruned.run("rewind", interactive=False, migrate=True, adopt=adopt)
    assert set(recorded(pruned)) == {*ORIGINALS}
    assert pruned.columns("users_thing") == ["id", "c" if adopt else "a"]


@pytest.mark.parametrize("stays", [True, False])
def test_what_depends_on_the_old_names_goes_with_a_pruned_squash(
    history: History, stays: bool
) -> None:
    write_originals(history)
    write(history, "blog.0001", after=["users.0002_a"], creates=True)
    history.migrate()
    write_squash(history)
    history.migrate()
    write_squash(history, keeps_replaces=False)
    history.sql(PRUNE)
    have_files(history, *ORIGINALS, *(["blog.0001"] if stays else []))
    history.run("rewind", interactive=False, adopt=False)
    assert reversals(history) == ["blog.0001", SQUASH]


def test_a_pruned_squash_can_be_reversed_by_name(pruned: History) -> None:
    pruned.migrate("users", "zero")
    assert_back_at_nothing(pruned, [SQUASH])


# Ghosts that come after a squash


@pytest.mark.parametrize("keeps_replaces", [True, False])
@pytest.mark.parametrize("after", ["users.0002_a", SQUASH])
@pytest.mark.parametrize("target", ["0001_squashed", "zero"])
def test_a_ghost_in_the_app_of_a_squash_is_reversed(
    in_force: History, after: str, target: str, keeps_replaces: bool
) -> None:
    write(in_force, "users.0003_b", after=[after], adds="b")
    in_force.migrate()
    write_squash(in_force, keeps_replaces=keeps_replaces)
    have_files(in_force, SQUASH)
    assert ghosts(in_force) == {"users.0003_b"}
    assert "No migrations to apply" in in_force.migrate()
    in_force.migrate("users", target)
    if target != "zero":
        assert set(recorded(in_force)) == {*ORIGINALS, SQUASH}
        assert in_force.columns("users_thing") == ["id", "a"]
        in_force.migrate("users", "zero")
    write_squash(in_force)
    assert_back_at_nothing(in_force, ["users.0003_b", SQUASH])


@pytest.mark.parametrize("keeps_replaces", [True, False])
@pytest.mark.parametrize("after", [*ORIGINALS, SQUASH])
@pytest.mark.parametrize(
    "target", [("blog", "0001"), ("blog", "zero"), ("users", "zero")]
)
def test_a_ghost_may_depend_on_a_name_that_was_squashed_away(
    in_force: History, after: str, target: tuple[str, str], keeps_replaces: bool
) -> None:
    write(in_force, "blog.0001", creates=True)
    write(in_force, "blog.0002_b", after=["blog.0001", after], adds="b")
    in_force.migrate()
    write_squash(in_force, keeps_replaces=keeps_replaces)
    have_files(in_force, SQUASH, "blog.0001")
    assert ghosts(in_force, "users", "blog") == {"blog.0002_b"}
    in_force.migrate(*target)
    assert (
        reversals(in_force)
        == {
            ("blog", "0001"): ["blog.0002_b"],
            ("blog", "zero"): ["blog.0002_b", "blog.0001"],
            ("users", "zero"): ["blog.0002_b", SQUASH],
        }[target]
    )
    assert "blog.0002_b" not in in_force.recorded()
    assert ("users_thing" in in_force.tables()) is (target[0] == "blog")
    in_force.find("blog.0002_b")
    write_originals(in_force)
    write_squash(in_force)
    in_force.migrate()
    assert in_force.columns("blog_thing") == ["id", "b"]


# Two apps


def write_two_apps(history: History) -> None:
    """users.0001 < blog.0001 < blog.0002_b < users.0002_a, 0003_c."""
    write(history, "users.0001", creates=True)
    write(history, "blog.0001", after=["users.0001"], creates=True)
    write(history, "blog.0002_b", after=["blog.0001"], adds="b")
    write(history, "users.0002_a", after=["users.0001", "blog.0002_b"], adds="a")
    write(history, "users.0003_c", after=["users.0002_a"], adds="c")


TWO_APPS = (
    "users.0001",
    "blog.0001",
    "blog.0002_b",
    "users.0002_a",
    "users.0003_c",
)
TWO_SQUASHES = ("blog.0001_squashed", "users.0002_squashed")


def write_two_squashes(history: History, *, keeps_replaces: bool = True) -> None:
    """They depend on each other's apps, one of them by a name that it squashed."""
    write(
        history,
        "blog.0001_squashed",
        after=["users.0001"],
        replaces=["blog.0001", "blog.0002_b"] if keeps_replaces else [],
        creates=True,
        adds="b",
    )
    write(
        history,
        "users.0002_squashed",
        after=["users.0001", "blog.0002_b" if keeps_replaces else "blog.0001_squashed"],
        replaces=["users.0002_a", "users.0003_c"] if keeps_replaces else [],
        adds="a c",
    )


SQUASHES_REVERSED = ["users.0002_squashed", "blog.0001_squashed", "users.0001"]


@pytest.mark.parametrize(
    ("files", "keeps_replaces", "expected_ghosts", "expected_reversals"),
    [
        pytest.param(
            ["users.0001", *TWO_SQUASHES], True, [], SQUASHES_REVERSED, id="in force"
        ),
        pytest.param(
            ["users.0001", *TWO_SQUASHES],
            False,
            [],
            SQUASHES_REVERSED,
            id="replaces removed",
        ),
        pytest.param(
            ["users.0001", "blog.0001_squashed"],
            True,
            ["users.0002_squashed"],
            SQUASHES_REVERSED,
            id="one squash gone",
        ),
        pytest.param(
            [], True, ["users.0001", *TWO_SQUASHES], SQUASHES_REVERSED, id="all gone"
        ),
        pytest.param(TWO_APPS, True, [], list(reversed(TWO_APPS)), id="before"),
        pytest.param(
            ["users.0001", "blog.0001", "blog.0002_b", "users.0002_squashed"],
            True,
            [],
            ["users.0002_squashed", "blog.0002_b", "blog.0001", "users.0001"],
            id="before one of them",
        ),
    ],
)
def test_two_apps_squashed_with_dependencies_on_each_other(
    history: History,
    files: list[str],
    keeps_replaces: bool,
    expected_ghosts: list[str],
    expected_reversals: list[str],
) -> None:
    write_two_apps(history)
    history.migrate()
    write_two_squashes(history)
    history.migrate()
    assert set(history.recorded()) == {*TWO_APPS, *TWO_SQUASHES}
    write_two_squashes(history, keeps_replaces=keeps_replaces)
    have_files(history, *files)
    assert ghosts(history, "users", "blog") == set(expected_ghosts)
    assert "No migrations to apply" in history.migrate()
    history.migrate("users", "zero")
    assert reversals(history) == expected_reversals
    assert history.recorded() == []
    assert not {"users_thing", "blog_thing"} & history.tables()
    have_files(history, *TWO_APPS)
    history.migrate()
    assert set(history.recorded()) == set(TWO_APPS)


def test_a_dependant_that_names_the_squash_was_not_edited(history: History) -> None:
    """The last steps of squashing, as Django's documentation has them."""
    write_originals(history)
    write(history, "blog.0001", after=["users.0002_a"], creates=True)
    history.migrate()
    write_squash(history)
    history.migrate()
    write_squash(history, keeps_replaces=False)
    write(history, "blog.0001", after=[SQUASH], creates=True)
    have_files(history, SQUASH, "blog.0001")
    assert "edited" not in history.run("verify_migrations")
    write(history, "blog.0001", creates=True)
    with pytest.raises(SystemExit):
        history.run("verify_migrations")


def test_squashes_in_a_circle_where_their_originals_are_in_none(
    history: History,
) -> None:
    """A fresh database was made by the squashes, and Django itself can go back."""
    write(history, "users.0001_squashed", replaces=["users.0001"], creates=True)
    write(
        history,
        "blog.0001_squashed",
        after=["users.0001_squashed"],
        replaces=["blog.0001", "blog.0002_b"],
        creates=True,
        adds="b",
    )
    write(
        history,
        "users.0002_squashed",
        after=["users.0001_squashed", "blog.0001_squashed"],
        replaces=["users.0002_a"],
        adds="a",
    )
    history.migrate()
    write(history, "users.0001", creates=True)
    write(history, "blog.0001", after=["users.0001"], creates=True)
    write(history, "users.0002_a", after=["users.0001", "blog.0001"], adds="a")
    write(history, "blog.0002_b", after=["blog.0001", "users.0002_a"], adds="b")
    originals = ["users.0001", "blog.0001", "users.0002_a", "blog.0002_b"]
    have_files(history, *originals)
    assert "Nothing to rewind" in history.run("rewind", check=True)
    history.migrate("blog", "zero")
    assert reversals(history) == ["blog.0002_b", "users.0002_a", "blog.0001"]
    assert history.columns("users_thing") == ["id"]
    history.migrate("users", "zero")
    assert "users_thing" not in history.tables()
    assert not {*originals, "blog.0001_squashed"} & {*history.recorded()}


# Partly applied


@pytest.mark.parametrize("keeps_originals", [True, False])
def test_a_squash_that_is_only_partly_applied_stands_for_nothing(
    history: History, keeps_originals: bool
) -> None:
    """Without the originals, Django refuses: nothing but stored code is left."""
    write_originals(history)
    history.migrate("users", "0001")
    write_squash(history)
    if not keeps_originals:
        have_files(history, SQUASH)
    assert recorded(history) == {"users.0001": not keeps_originals}
    history.migrate("users", "zero")
    assert_back_at_nothing(history, ["users.0001"])


@pytest.mark.parametrize("keeps_originals", [True, False])
def test_a_ghost_beside_a_squash_that_is_only_partly_applied(
    history: History, keeps_originals: bool
) -> None:
    write(history, "users.0001", creates=True)
    write(history, "users.0002_b", after=["users.0001"], adds="b")
    history.migrate()
    write_originals(history)
    write_squash(history)
    have_files(history, SQUASH, *(ORIGINALS if keeps_originals else ()))
    expected = {"users.0002_b"} if keeps_originals else {"users.0001", "users.0002_b"}
    assert ghosts(history) == expected
    history.migrate("users", "zero")
    assert_back_at_nothing(history, ["users.0002_b", "users.0001"])


# Squashed again


SECOND = "users.0001_again"


def write_second(history: History, *replaces: str) -> None:
    write(history, SECOND, creates=True, adds="a b", replaces=replaces)


@pytest.mark.parametrize("keeps_replaces", [True, False])
@pytest.mark.parametrize("gone", [True, False])
def test_a_squash_of_what_was_a_squash_is_reversed_once(
    squashed: History, keeps_replaces: bool, gone: bool
) -> None:
    """Before Django 6.0, the first must have become a normal migration."""
    write_squash(squashed, keeps_replaces=False)
    write(squashed, "users.0003_b", after=[SQUASH], adds="b")
    have_files(squashed, SQUASH, "users.0003_b")
    squashed.migrate()
    write_second(squashed, SQUASH, "users.0003_b")
    squashed.migrate()
    write_second(squashed, *([SQUASH, "users.0003_b"] if keeps_replaces else []))
    have_files(squashed, *([] if gone else [SECOND]))
    everything = {*ORIGINALS, SQUASH, "users.0003_b", SECOND}
    assert set(recorded(squashed)) == everything
    assert ghosts(squashed) == ({SECOND} if gone else set())
    squashed.migrate("users", "zero")
    assert reversals(squashed) == [SECOND]
    assert squashed.recorded() == []
    squashed.migrate("users", "zero")
    assert reversals(squashed) == [SECOND]
    write_second(squashed, SQUASH, "users.0003_b")
    squashed.migrate()
    assert squashed.columns("users_thing") == ["id", "a", "b"]


def test_before_the_second_squash_the_first_is_reversed(squashed: History) -> None:
    write_squash(squashed, keeps_replaces=False)
    write(squashed, "users.0003_b", after=[SQUASH], adds="b")
    have_files(squashed, SQUASH, "users.0003_b")
    squashed.migrate()
    write_second(squashed, SQUASH, "users.0003_b")
    squashed.migrate()
    have_files(squashed, SQUASH, "users.0003_b")
    assert ghosts(squashed) == set()
    squashed.migrate("users", "zero")
    assert reversals(squashed) == ["users.0003_b", SQUASH]
    assert squashed.recorded() == []
    assert "users_thing" not in squashed.tables()


if django.VERSION >= (6, 0):

    @pytest.mark.parametrize(
        ("files", "expected_ghosts", "expected_reversals"),
        [
            ([SECOND], [], [SECOND]),
            ([], [SECOND], [SECOND]),
            ([SQUASH, SECOND, "users.0003_b"], [], [SECOND]),
            ([SQUASH, "users.0003_b"], [], ["users.0003_b", SQUASH]),
        ],
    )
    def test_a_squash_of_a_squash_is_reversed_once(
        squashed: History,
        files: list[str],
        expected_ghosts: list[str],
        expected_reversals: list[str],
    ) -> None:
        write(squashed, "users.0003_b", after=[SQUASH], adds="b")
        squashed.migrate()
        write_second(squashed, SQUASH, "users.0003_b")
        squashed.migrate()
        have_files(squashed, *files)
        assert ghosts(squashed) == set(expected_ghosts)
        squashed.migrate("users", "zero")
        assert reversals(squashed) == expected_reversals
        assert squashed.recorded() == []
        assert "users_thing" not in squashed.tables()
