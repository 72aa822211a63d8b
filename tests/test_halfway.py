"""Steps that stop half-way, where the database cannot take them back as a whole."""

from __future__ import annotations

from typing import Any

import django
import pytest
from django.core.management import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model

from django_rewind import halfway, journal, verification
from django_rewind.halfway import Half
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


@pytest.mark.parametrize(
    ("ran", "unsure", "undo"),
    [
        (["DROP FOREIGN KEY f;"], "", False),
        ([], "DROP FOREIGN KEY f;", False),
        (["DROP FOREIGN KEY f;"], "DROP COLUMN c;", True),
        ([], "", True),
    ],
)
def test_between_two_statements_of_an_operation_it_can_only_be_finished(
    ran: list[str], unsure: str, undo: bool
) -> None:
    finish = ["DROP FOREIGN KEY f;", "DROP COLUMN c;"]
    operation = {"operation": "Add field c", "finish": finish, "undo": ["ADD c;"]}
    begun = Half(("a", "b"), "", [operation], frozenset(), 0, ran, unsure, [])
    text = begun.describe()
    assert [f"  {sql}" in text for sql in finish] == [finish[0] not in ran, True]
    assert ("Or to undo by hand" in text) is undo


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


def test_nothing_is_mended_where_nothing_is_half_done(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "b", after=True)
    (half,) = halves().values()
    for sql in half.to_undo():
        three.sql(sql)
    rewind(three, app_label="users", migration_name="0001", mended=True)
    assert three.columns("users_thing") == ["id", "name"]
    three.make_ghost("users.0003_x", ADD.format("x"), [("users", "0001")])
    for options in ({}, {"plan": True}, {"steps": 1}):
        with pytest.raises(CommandError, match="--mended is only for what") as error:
            rewind(three, mended=True, **options)
        assert error.value.returncode == 2
    assert three.recorded() == ["users.0001", "users.0003_x"]


def test_where_its_file_is_here_it_is_said_and_applied_again(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "b", after=False)
    three.find("users.0002_three")
    with pytest.raises(SystemExit):
        three.run("verify_migrations")
    with pytest.raises(SystemExit):
        rewind(three, check_only=True)
    assert (
        "users.0002_three is left alone: it was reversed in part. --migrate reverses "
        "it, and applies it again." in rewind(three)
    )
    output = rewind(three, migrate=True)
    assert "users.0002_three goes on after: Add field c to thing." in output
    assert three.columns("users_thing") == ["id", "name", "a", "b", "c"]
    assert "Nothing to rewind in" in rewind(three)
    three.run("verify_migrations")


def test_what_was_undone_by_hand_stays_where_its_file_is_here(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "b", after=True)
    three.find("users.0002_three")
    with pytest.raises(CommandError, match="was reversed in part, on") as refusal:
        rewind(three, migrate=True)
    assert refusal.value.returncode == 2
    for column in "bc":
        three.sql(f"ALTER TABLE users_thing ADD COLUMN {column} integer")
    output = rewind(three, mended=True)
    assert "undone by hand; it stays" in output
    assert "Nothing to rewind in" in rewind(three)
    assert three.recorded() == ["users.0001", "users.0002_three"]
    assert "mend users.0002_three" in three.run("rewind_history")
    three.run("verify_migrations")
    assert not list(journal.broken_links(journal.read(connection)))


def test_nothing_was_done_is_no_half(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(three, monkeypatch, "c", after=False)
    assert halves() == {}
    rewind(three)
    assert three.columns("users_thing") == ["id", "name"]


# On the way forward

TWO = """
migrations.AddField("thing", "a", models.IntegerField(null=True)),
migrations.AddField("thing", "b", models.IntegerField(null=True)),
"""


def fail_forward(patch: pytest.MonkeyPatch, *, killed: bool) -> None:
    """After the first of two columns."""
    editor: Any = type(connection.schema_editor())
    add = editor.add_field

    def fail(self: Any, model: type[Model], field: Any) -> None:
        if field.column == "b":
            raise OSError("the disk is gone")
        add(self, model, field)

    patch.setattr(editor, "add_field", fail)
    if killed:
        patch.setattr(journal.Step, "fail", lambda step, error: None)


def failures() -> str:
    """What is the matter, and what to do."""
    return " ".join(
        f"{'.'.join(found.status.key)}: {found.fact} {found.remedy}"
        for found in verification.verify(connection)
        if found.fails()
    )


@pytest.mark.parametrize("killed", [True, False])
def test_what_was_applied_in_part_is_named_until_it_is_applied(
    history: History, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    history.have("users: 0001; blog: 0001")
    history.migrate()
    history.write("users.0002_two", TWO, [("users", "0001")])
    history.write("blog.0002_more", dependencies=[("blog", "0001")])
    with monkeypatch.context() as patch:
        fail_forward(patch, killed=killed)
        with pytest.raises(OSError, match="the disk is gone"):
            history.migrate()
    said = failures()
    if connection.features.can_rollback_ddl:
        assert said == ""
        return
    how = "it was begun to be applied, on 2" if killed else "applying it failed, on 2"
    assert f"users.0002_two: {how}" in said
    assert (
        "A part of it may be there, for here each ALTER is committed. Undo by hand "
        "what of it is there; 'manage.py sqlmigrate users 0002_two' shows its SQL. "
        "Then run 'manage.py migrate'."
    ) in said
    assert "blog.0002_more: " not in said
    history.sql("ALTER TABLE users_thing DROP COLUMN a")
    history.migrate()
    assert failures() == ""


@pytest.mark.only("mysql")
def test_what_was_applied_in_part_and_is_gone_can_be_mended(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is made anew under another name."""
    history.have("users: 0001")
    history.migrate()
    history.write("users.0002_two", TWO, [("users", "0001")])
    with monkeypatch.context() as patch:
        fail_forward(patch, killed=False)
        with pytest.raises(OSError, match="the disk is gone"):
            history.migrate()
    history.lose("users.0002_two")
    said = failures()
    assert "Check out the code that has its file. Undo by hand" in said
    assert said.endswith("Then run 'manage.py rewind --mended'.")
    history.sql("ALTER TABLE users_thing DROP COLUMN a")
    assert "users.0002_two (what was done of it" in rewind(history, mended=True)
    assert failures() == ""
    assert "applying it failed" not in rewind(history)


@pytest.mark.only("mysql")
@pytest.mark.parametrize("has_ghost", [True, False])
@pytest.mark.parametrize("migrate", [True, False])
def test_what_was_applied_in_part_and_is_gone_refuses_a_rewind(
    history: History, monkeypatch: pytest.MonkeyPatch, has_ghost: bool, migrate: bool
) -> None:
    history.have("users: 0001; blog: 0001")
    history.migrate()
    history.write("users.0002_two", TWO, [("users", "0001")])
    with monkeypatch.context() as patch:
        fail_forward(patch, killed=True)
        with pytest.raises(OSError, match="the disk is gone"):
            history.migrate()
    history.lose("users.0002_two")
    if has_ghost:
        history.make_ghost("blog.0002_x", dependencies=[("blog", "0001")])
    (said,) = refusals(history, migrate=migrate)
    assert said.startswith("users.0002_two: it was begun to be applied, on 2")
    assert "Check out the code that has its file. Undo by hand" in said
    assert said.endswith("Then run 'manage.py rewind --mended'.")
    with pytest.raises(SystemExit) as exit_code:
        rewind(history, check_only=True, migrate=migrate)
    assert exit_code.value.code == 1
    # Of this app, nothing is half-done.
    rewind(history, app_label="blog")
    rewind(history, mended=True)
    assert "Nothing to rewind in database" in rewind(history)


@pytest.mark.only("mysql")
def test_what_was_applied_in_part_is_not_nothing_to_rewind(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001; blog: 0001")
    history.migrate()
    history.write("users.0002_two", TWO, [("users", "0001")])
    with monkeypatch.context() as patch:
        fail_forward(patch, killed=False)
        with pytest.raises(OSError, match="the disk is gone"):
            history.migrate()
    (said,) = refusals(history)
    assert said.startswith("users.0002_two: applying it failed, on 2")
    assert said.endswith("Then run 'manage.py migrate'.")
    with pytest.raises(SystemExit) as exit_code:
        rewind(history, check_only=True)
    assert exit_code.value.code == 1
    assert "Nothing to rewind" not in rewind(history, plan=True)
    # What may have made it fail can go.
    history.write("blog.0002_x", dependencies=[("blog", "0001")])
    history.migrate("blog")
    history.lose("blog.0002_x")
    assert "Unapplying blog.0002_x... OK" in rewind(history)
    history.sql("ALTER TABLE users_thing DROP COLUMN a")
    rewind(history, migrate=True)
    assert history.columns("users_thing") == ["id", "name", "a", "b"]
    assert "Nothing to rewind in database" in rewind(history)


# Django records what made an index or a foreign key after its transaction.
REFERRING = """
migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),
migrations.CreateModel("Other", [
    ("id", models.AutoField(primary_key=True)),
    ("thing", models.ForeignKey("users.Thing", models.CASCADE)),
]),
"""


def kill_before_the_record(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Any, *args: Any) -> None:
        assert not self.connection.in_atomic_block
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MigrationExecutor, "record_migration", die)
        patch.setattr(journal.Step, "fail", lambda step, error: None)
        with pytest.raises(KeyboardInterrupt):
            history.migrate()


@pytest.fixture
def unrecorded(history: History, monkeypatch: pytest.MonkeyPatch) -> History:
    """users.0002_other is applied, and its process ended before it was recorded."""
    history.have("users: 0001")
    history.migrate()
    history.write("users.0002_other", REFERRING, [("users", "0001")])
    kill_before_the_record(history, monkeypatch)
    return history


@pytest.mark.only("sqlite", "postgresql")
@pytest.mark.parametrize("tried_again", [True, False])
def test_what_was_applied_and_not_recorded_is_named_until_it_is_recorded(
    unrecorded: History, tried_again: bool
) -> None:
    if tried_again:
        with pytest.raises(DatabaseError, match="already exists"):
            unrecorded.migrate()
    said = failures()
    assert "users.0002_other: it was begun to be applied, on 2" in said
    assert said.endswith(
        ", and its process ended before it was recorded. All of it is there. "
        "'manage.py migrate users 0002_other --fake' records it."
    )
    for migrate in (True, False):
        assert refusals(unrecorded, migrate=migrate) == [said]
    with pytest.raises(SystemExit) as exit_code:
        rewind(unrecorded, check_only=True)
    assert exit_code.value.code == 1
    # As it says.
    unrecorded.migrate("users", "0002_other", fake=True)
    assert failures() == ""
    # And it is as if it had been recorded then.
    unrecorded.lose("users.0002_other")
    assert "users.0002_other (ghost; from stored code)" in rewind(unrecorded)
    assert "users_other" not in connection.introspection.table_names()


@pytest.mark.only("sqlite", "postgresql")
def test_what_was_taken_back_is_not_unfinished(
    unrecorded: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    unrecorded.sql("DROP TABLE users_other")
    assert failures() == ""
    assert "Nothing to rewind" in rewind(unrecorded)
    # Its file is for whoever has it.
    kill_before_the_record(unrecorded, monkeypatch)
    assert "All of it is there" in failures()
    unrecorded.lose("users.0002_other")
    assert failures() == ""


@pytest.mark.only("sqlite", "postgresql")
def test_what_else_is_faked_beside_what_was_applied_stays_faked(
    unrecorded: History,
) -> None:
    unrecorded.write("users.0003_x", ADD.format("x"), [("users", "0002_other")])
    unrecorded.migrate("users", "0003_x", fake=True)
    unrecorded.lose("users.0002_other", "users.0003_x")
    output = rewind(unrecorded)
    assert "users.0003_x (ghost; only its record goes)" in output
    assert "users.0002_other (ghost; from stored code)" in output


def refusals(history: History, **options: Any) -> list[str]:
    with pytest.raises(CommandError, match="Cannot rewind all ghosts") as error:
        rewind(history, **options)
    assert error.value.returncode == 2
    return [line.strip() for line in str(error.value).splitlines()[1:]]


# On the way forward in a run of rewind

FORWARD = pytest.mark.parametrize("to", [None, "then"])


@pytest.fixture
def forward(history: History) -> History:
    """A ghost, and three columns to add, without a transaction on any database."""
    history.have("users: 0001")
    history.write("users.0002_three", THREE, [("users", "0001")])
    history.make_not_atomic("users.0002_three")
    history.migrate()
    history.run("restore_point", "then")
    history.migrate("users", "0001")
    history.lose("users.0002_three")
    history.make_ghost("users.0002_x", ADD.format("x"), [("users", "0001")])
    history.find("users.0002_three")
    return history


def stop_forward(
    history: History,
    monkeypatch: pytest.MonkeyPatch,
    column: str = "b",
    *,
    after: bool,
    killed: bool = False,
    **options: Any,
) -> str:
    """A rewind that ends when that column is added; what it says last."""
    editor: Any = type(connection.schema_editor())
    add = editor.add_field

    def fail(self: Any, model: type[Model], field: Any) -> None:
        if after or self.collect_sql or field.column != column:
            add(self, model, field)
        if field.column == column and not self.collect_sql:
            raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(editor, "add_field", fail)
        if killed:
            patch.setattr(
                journal.Step, "fail", lambda step, e: step.run.forget_last(connection)
            )
        with pytest.raises(CommandError, match="Stopped at") as error:
            rewind(history, migrate=True, **options)
    assert error.value.returncode == 3
    return str(error.value).splitlines()[-1].strip()


def applied_in_part() -> Half:
    (half,) = (
        half
        for half in halfway.find_applied(journal.read(connection)).values()
        if half.is_begun
    )
    return half


@FORWARD
@pytest.mark.parametrize("killed", [True, False])
def test_what_was_applied_in_part_goes_on_between_two_operations(
    forward: History, monkeypatch: pytest.MonkeyPatch, to: str | None, killed: bool
) -> None:
    said = stop_forward(forward, monkeypatch, after=False, to=to, killed=killed)
    assert said == (
        "Remove the cause and run the same command again: it goes on from there."
    )
    assert forward.columns("users_thing") == ["id", "name", "a"]
    # More than once.
    stop_forward(forward, monkeypatch, "c", after=False, to=to, killed=killed)
    assert applied_in_part().done == "Add field a to thing, Add field b to thing"
    goes_on = (
        "users.0002_three goes on after: Add field a to thing, Add field b to thing."
    )
    assert goes_on in rewind(forward, to=to, migrate=True, plan=True)
    rewind(forward, to=to, migrate=True)
    assert forward.columns("users_thing") == ["id", "name", "a", "b", "c"]
    assert forward.recorded() == ["users.0001", "users.0002_three"]
    assert failures() == ""
    assert not list(journal.broken_links(journal.read(connection)))
    forward.lose("users.0002_three")
    rewind(forward)
    assert forward.columns("users_thing") == ["id", "name"]


@FORWARD
def test_where_it_can_go_on_it_is_named_until_it_does(
    forward: History, monkeypatch: pytest.MonkeyPatch, to: str | None
) -> None:
    stop_forward(forward, monkeypatch, after=False)
    remedy = (
        "These operations were applied: Add field a to thing. 'manage.py rewind "
        "--migrate' goes on from there. If you undo it by hand: 'manage.py rewind "
        "--mended' first."
    )
    (said,) = refusals(forward)
    assert failures() == said
    assert said.startswith("users.0002_three: applying it failed, on 2")
    assert said.endswith(remedy)
    forward.sql("ALTER TABLE users_thing DROP COLUMN a")
    rewind(forward, to=to, mended=True, migrate=True)
    assert forward.columns("users_thing") == ["id", "name", "a", "b", "c"]
    assert failures() == ""


@FORWARD
@pytest.mark.parametrize("killed", [True, False])
def test_what_was_applied_in_part_gives_the_sql_to_finish_it(
    forward: History, monkeypatch: pytest.MonkeyPatch, to: str | None, killed: bool
) -> None:
    by_hand = stop_forward(forward, monkeypatch, after=True, to=to, killed=killed)
    assert by_hand == (
        "Finished: 'manage.py migrate users 0002_three --fake' records it. Undone: "
        "'manage.py rewind --mended' forgets it, and 'manage.py migrate' applies it as "
        "a whole."
    )
    with pytest.raises(CommandError, match="0002_three was applied in part") as error:
        rewind(forward, to=to, migrate=True)
    assert error.value.returncode == 2
    first, *lines, last = str(error.value).splitlines()
    assert first.endswith(". Nothing was changed now.")
    assert last == by_hand
    assert lines[:2] == [
        "Operations that were applied: Add field a to thing.",
        "It stopped in: Add field b to thing.",
    ]
    assert "rewind --migrate' says what is to be done by hand." in failures()
    half = applied_in_part()
    if killed:
        assert f"  This may have run, look: {half.unsure}" in lines
    else:
        assert [f"  This ran: {sql}" for sql in half.ran] == lines[
            2 : 2 + len(half.ran)
        ]
    statements = list(half.to_finish())
    if killed:
        # It did; where a table is remade, another operation runs the same one later.
        statements.remove(half.unsure)
    for sql in statements:
        forward.sql(sql)
    assert forward.columns("users_thing") == ["id", "name", "a", "b", "c"]
    forward.migrate("users", "0002_three", fake=True)
    assert failures() == ""
    # And it is as if it had been recorded then.
    forward.lose("users.0002_three")
    assert "users.0002_three (ghost; from stored code)" in rewind(forward)
    assert forward.columns("users_thing") == ["id", "name"]


@pytest.mark.parametrize("after", [True, False])
def test_what_was_applied_in_part_and_is_gone_gives_the_sql_to_undo_it(
    forward: History, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    stop_forward(forward, monkeypatch, after=after)
    forward.lose("users.0002_three")
    with pytest.raises(SystemExit) as exit_code:
        rewind(forward, check_only=True)
    assert exit_code.value.code == 1
    with pytest.raises(CommandError, match="0002_three was applied in part") as error:
        rewind(forward)
    assert error.value.returncode == 2
    undo = list(applied_in_part().to_undo())
    assert "Or to undo by hand what is done:\n  " + "\n  ".join(undo) in str(
        error.value
    )
    assert str(error.value).splitlines()[-1] == (
        "Undone: 'manage.py rewind --mended' forgets it. Finished: 'manage.py migrate "
        "users 0002_three --fake' records it where its file is."
    )
    for sql in undo:
        forward.sql(sql)
    assert forward.columns("users_thing") == ["id", "name"]
    rewind(forward, mended=True)
    assert "Nothing to rewind in database" in rewind(forward)
    assert failures() == ""


def test_what_was_applied_in_part_does_not_go_on_with_another_file(
    forward: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_forward(forward, monkeypatch, after=False)
    path = forward.path("users.0002_three")
    path.write_text(path.read_text().replace("IntegerField", "TextField"))
    with pytest.raises(CommandError, match="0002_three was applied in part"):
        rewind(forward, migrate=True)
    assert "It was applied in part, and its file is another now." in failures()
    assert forward.columns("users_thing") == ["id", "name", "a"]


def test_after_some_steps_only_a_run_of_rewind_goes_on(
    forward: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stop_forward(forward, monkeypatch, after=False, steps=1)
    assert said == "Remove the cause and run 'manage.py rewind --migrate'."
    rewind(forward, migrate=True)
    assert forward.columns("users_thing") == ["id", "name", "a", "b", "c"]


def test_of_what_nothing_was_applied_nothing_is_left(
    forward: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_forward(forward, monkeypatch, "a", after=False)
    assert failures() == ""
    rewind(forward, migrate=True)
    assert forward.columns("users_thing") == ["id", "name", "a", "b", "c"]


@pytest.mark.only("mysql", "postgresql")
@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("failing", ["CREATE TABLE", "FOREIGN KEY"])
def test_what_runs_after_all_operations_is_journalled_too(
    history: History, monkeypatch: pytest.MonkeyPatch, killed: bool, failing: str
) -> None:
    history.have("users: 0001")
    history.migrate()
    text = f"{ADD.format('x')}\n{REFERRING}"
    history.write("users.0002_other", text, [("users", "0001")])
    history.make_not_atomic("users.0002_other")
    editor: Any = type(connection.schema_editor())
    execute = editor.execute

    def fail(self: Any, sql: Any, params: Any = ()) -> Any:
        if failing in str(sql) and not self.collect_sql:
            raise DatabaseError("the disk is gone")
        return execute(self, sql, params)

    with monkeypatch.context() as patch:
        patch.setattr(editor, "execute", fail)
        if killed:
            patch.setattr(journal.Step, "fail", lambda step, error: None)
        with pytest.raises(CommandError, match="Stopped at"):
            rewind(history, migrate=True)
    half = applied_in_part()
    assert half.can_go_on is not killed
    if killed:
        assert failing in half.unsure
        for sql in half.to_finish():
            if not sql.startswith("--"):
                history.sql(sql)
        history.migrate("users", "0002_other", fake=True)
    else:
        rewind(history, migrate=True)
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "users_other")
    assert [c["foreign_key"] for c in found.values() if c["foreign_key"]] == [
        ("users_thing", "id")
    ]
    assert failures() == ""


def test_a_plain_migrate_journals_no_statements(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("users: 0001")
    history.write("users.0002_three", THREE, [("users", "0001")])
    history.make_not_atomic("users.0002_three")
    history.migrate()
    events = {entry.fields.get("event") for entry in journal.read(connection)}
    assert events <= {journal.STARTED, journal.DONE}


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


def test_a_statement_of_another_backend_that_is_no_text_stops_nothing(
    three: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As locks around statements are, which some backends for PostgreSQL run."""

    class Lock:
        def __str__(self) -> str:
            return self  # type: ignore[return-value]

    def execute(self: Any, sql: Any, params: Any = ()) -> Any:
        return None if isinstance(sql, Lock) else original(self, sql, params)

    def remove(self: Any, model: type[Model], field: Any) -> None:
        self.execute(Lock())
        self.deferred_sql.append(Lock())
        removing(self, model, field)

    editor: Any = type(connection.schema_editor())
    original, removing = editor.execute, editor.remove_field
    monkeypatch.setattr(editor, "execute", execute)
    monkeypatch.setattr(editor, "remove_field", remove)
    assert "Unapplying users.0002_three... OK" in rewind(three)
    assert "a Lock that cannot be written as SQL" in "".join(
        entry.text for entry in journal.read(connection)
    )


def test_only_the_code_that_stopped_goes_on(
    forward: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the file is another by the time it runs: none of it may be left out."""
    stop_forward(forward, monkeypatch, after=False)
    assert "a" in forward.columns("users_thing")
    forward.sql("ALTER TABLE users_thing DROP COLUMN a")
    path = forward.path("users.0002_three")
    path.write_text(path.read_text() + "# edited\n")
    forward.forget_modules()
    with journal.running():
        MigrationExecutor(connection).migrate([("users", "0002_three")])
    assert "a" in forward.columns("users_thing")
