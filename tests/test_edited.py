"""Going back over migrations that were edited after they were applied."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError

from django_rewind import signing
from django_rewind.capture import set_source
from django_rewind.models import MigrationCode
from tests.history import History

BEFORE = [("users", "0001")]
ADD_TEXT = 'migrations.AddField("thing", "text", models.TextField(default="")),'
STORED = (
    "  users.0002_a was edited after it was applied: reversed as it was applied, from "
    "stored code.\n"
)
FILE = "  users.0002_a was edited after it was applied: its file is used, since "
DROP_A = 'migrations.RunSQL("SELECT 1", "ALTER TABLE users_thing DROP COLUMN a"),'


@pytest.fixture
def edited(history: History) -> History:
    """users.0002_a added the column a; its file now claims to have added text."""
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.write("users.0002_a", ADD_TEXT, BEFORE)
    return history


def test_it_is_said_that_it_is_reversed_as_it_was_applied(edited: History) -> None:
    output = edited.migrate("users", "0001")
    assert output.startswith(
        "Loading stored migrations:\n"
        "  Loading users.0002_a from stored code... OK\n" + STORED
    )
    assert output.count("edited") == 1
    assert edited.columns("users_thing") == ["id", "name"]


def test_the_file_can_be_applied_afterwards(history: History) -> None:
    """Another branch has another migration of the same name."""
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0002_a")
    assert "No migrations to apply" in history.migrate()
    history.write("users.0002_a", ADD_TEXT, BEFORE)
    assert STORED in history.migrate("users", "0001")
    assert "Applying users.0002_a... OK" in history.migrate()
    assert history.columns("users_thing") == ["id", "name", "text"]
    assert "edited" not in history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]


def test_from_file_reverses_the_edit(edited: History) -> None:
    edited.write("users.0002_a", DROP_A, BEFORE)
    output = edited.migrate("users", "0001", "--from-file")
    assert output.startswith(FILE + "--from-file was given.\n")
    assert "stored code" not in output
    assert edited.recorded() == ["users.0001"]
    assert edited.columns("users_thing") == ["id", "name"]


def test_from_file_is_for_edited_ones_only(edited: History) -> None:
    edited.write("users.0002_a", DROP_A, BEFORE)
    edited.lose("users.0003_b")
    output = edited.migrate("users", "0001", from_file=True)
    assert "Loading users.0003_b from stored code... OK" in output
    assert FILE in output
    assert edited.columns("users_thing") == ["id", "name"]


def test_from_file_needs_no_stored_code(edited: History) -> None:
    MigrationCode.objects.filter(migration_name="0002_a").update(signature="x")
    edited.write("users.0002_a", DROP_A, BEFORE)
    with pytest.raises(CommandError, match=r"users\.0002_a: "):
        edited.migrate("users", "0001")
    edited.migrate("users", "0001", "--from-file")
    assert edited.recorded() == ["users.0001"]


def test_from_stored_reverses_what_was_applied(edited: History) -> None:
    output = edited.migrate("users", "0001", "--from-stored")
    assert STORED in output
    assert "Loading users.0003_b" not in output
    assert edited.columns("users_thing") == ["id", "name"]


@pytest.fixture
def irreversible(history: History) -> History:
    """Only the edit made it reversible."""
    history.have("users: 0001")
    history.write("users.0002_a", 'migrations.RunSQL("SELECT 1"),', BEFORE)
    history.migrate()
    history.write("users.0002_a", 'migrations.RunSQL("SELECT 1", ""),', BEFORE)
    return history


def test_without_a_choice_the_file_is_used_if_it_alone_is_reversible(
    irreversible: History,
) -> None:
    output = irreversible.migrate("users", "0001")
    assert FILE + "its stored code is irreversible.\n" in output
    assert irreversible.recorded() == ["users.0001"]


def test_from_stored_refuses_what_is_irreversible(irreversible: History) -> None:
    with pytest.raises(CommandError) as error:
        irreversible.migrate("users", "0001", "--from-stored")
    assert "users.0002_a: its operation 'Raw SQL operation' is irreversible." in str(
        error.value
    )
    assert irreversible.recorded() == ["users.0001", "users.0002_a"]
    assert "IRREVERSIBLE" in irreversible.migrate(
        "users", "0001", "--from-stored", "--plan"
    )


@pytest.fixture
def unloadable(history: History) -> History:
    """What was applied does not load here."""
    history.have("users: 0001 > 0002_a")
    history.migrate()
    row = MigrationCode.objects.get(migration_name="0002_a")
    set_source(row, "raise RuntimeError('not here')\n")
    signing.sign(row)
    row.save()
    return history


def test_without_a_choice_the_file_is_used_if_stored_code_does_not_load(
    unloadable: History,
) -> None:
    output = unloadable.migrate("users", "0001")
    assert FILE + "its stored code does not load: RuntimeError: not here.\n" in output
    assert unloadable.columns("users_thing") == ["id", "name"]


def test_from_stored_refuses_what_does_not_load(unloadable: History) -> None:
    with pytest.raises(CommandError, match=r"users\.0002_a: its stored code does not"):
        unloadable.migrate("users", "0001", "--from-stored")
    assert unloadable.recorded() == ["users.0001", "users.0002_a"]


# Choices without an effect


@pytest.mark.parametrize("choice", ["--from-file", "--from-stored"])
@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="everything"),
        pytest.param(["users"], id="one app"),
        pytest.param(["users", "0004"], id="forward"),
        pytest.param(["users", "nothing"], id="an unknown name"),
    ],
)
def test_a_choice_without_a_way_back_is_an_error(
    history: History, choice: str, args: list[str]
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.write("users.0004", "", [("users", "0002_a")])
    with pytest.raises(CommandError) as error:
        history.migrate(*args, choice)
    assert str(error.value) == (
        f"{choice} is only for going back: to a migration that was applied, or to zero."
    )
    assert history.recorded() == ["users.0001", "users.0002_a"]


def refused(history: History, *args: str, **options: Any) -> str:
    with pytest.raises(CommandError) as error:
        history.migrate("users", "0001", *args, **options)
    assert len(history.recorded()) == 3
    return str(error.value)


def test_a_choice_that_would_do_nothing_is_an_error(edited: History) -> None:
    assert refused(edited, "--from-file", "--fake") == (
        "--from-file does nothing with --fake, which runs no code."
    )
    both = "argument --from-stored: not allowed with argument --from-file"
    assert both in refused(edited, "--from-file", "--from-stored")
    assert refused(edited, from_file=True, from_stored=True) == (
        "--from-file is not allowed with --from-stored."
    )
    edited.install(DJANGO_REWIND_ENABLED=False)
    assert refused(edited, "--from-stored") == (
        "--from-stored does nothing: DJANGO_REWIND_ENABLED is off."
    )


def test_an_uninstalled_app_takes_no_edited_file_along(history: History) -> None:
    """As applied, users depends on shop; without --from-file, too, its file counts."""
    history.have("shop: 0001; users: 0001 > 0002_a(shop.0001)")
    history.migrate()
    history.labels.remove("shop")
    history.install()
    history.write("users.0002_a", None, BEFORE)
    for choice in [[], ["--from-stored"]]:
        output = history.migrate("shop", "zero", "--plan", *choice)
        assert "shop.0001 (stored code)" in output
        assert "users.0002_a" not in output
