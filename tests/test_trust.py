"""What does not verify is trusted again only by someone who could read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.test import override_settings

from django_rewind import signing, source, store, trust
from django_rewind.archive import EarlierMigrationCode, NeededCode
from django_rewind.exceptions import NotTrusted
from django_rewind.models import MigrationCode
from tests.history import History
from tests.test_commands import (
    HARMFUL,
    HOSTILE,
    Result,
    alter,
    exchange,
    run,
    verdicts,
)

COMMAND = "trust_stored_migrations"
OTHER_KEY = "a key of another environment"
ELSEWHERE = "its stored code was signed with a key that this project does not have."


@pytest.fixture
def users(history: History) -> History:
    """Applied and stored: users.0001 and 0002_prefs."""
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    return history


@pytest.fixture
def restored(users: History) -> History:
    """The same with all rows as in a dump of another environment."""
    sign_elsewhere()
    return users


Answer = Callable[..., list[str]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Answer questions in turn; what was asked."""

    def answer(*answers: str | BaseException) -> list[str]:
        asked: list[str] = []
        pending = list(answers)

        def say(prompt: str) -> str:
            asked.append(prompt)
            given = pending.pop(0)
            if isinstance(given, BaseException):
                raise given
            return given

        monkeypatch.setattr("builtins.input", say)
        return asked

    return answer


@pytest.fixture(autouse=True)
def silent(answer: Answer) -> None:
    """A question that a test does not expect fails it."""
    answer()


@pytest.fixture
def exchanged(users: History) -> History:
    """users.0002_prefs has other code than at the restore point "then"."""
    exchange(users)
    return users


def sign_elsewhere(*names: str) -> None:
    for code in [*MigrationCode.objects.all(), *earlier_rows()]:
        if not names or f"{code.app_label}.{code.migration_name}" in names:
            key, code.signing_key = OTHER_KEY, signing.fingerprint(OTHER_KEY)
            code.signature = signing._signature(code, key)
            code.save(using="default")


def earlier_rows() -> Any:
    return EarlierMigrationCode._default_manager.using("default").order_by("pk")


def go_back(history: History) -> str:
    return history.run("rewind", to="then", migrate=True, interactive=False)


def row(name: str = "0002_prefs") -> MigrationCode:
    return MigrationCode.objects.get(app_label="users", migration_name=name)


def add_needed(text: str, stored: str | None = None) -> None:
    """Let users.0002_prefs need users.helpers, signed elsewhere."""
    digest = source.digest(text)
    NeededCode._default_manager.create(
        digest=digest, source_code=text if stored is None else stored
    )
    alter("users.0002_prefs", closure=json.dumps({"users.helpers": digest}))
    sign_elsewhere("users.0002_prefs")


def give(history: History, *args: str) -> Result:
    return run(history, COMMAND, "users", *args)


def test_what_verifies_is_left_alone(users: History) -> None:
    before = row().signature
    result = run(users, COMMAND)
    assert (result.code, result.out) == (
        0,
        "All stored code that was looked at verifies.\n",
    )
    assert row().signature == before


def test_what_an_earlier_key_signed_is_signed_with_the_current_one(
    restored: History,
) -> None:
    """Rotation ends with this: then the earlier key may go."""
    rotated = {
        "DJANGO_REWIND_SIGNING_KEY": "the current key",
        "DJANGO_REWIND_SIGNING_KEY_FALLBACKS": [OTHER_KEY],
    }
    with override_settings(**rotated):
        assert verdicts(restored) == {}
        result = run(restored, COMMAND, "users")
        assert result.code == 0
        assert "Signed anew, since an earlier key of this project had" in result.out
    with override_settings(DJANGO_REWIND_SIGNING_KEY="the current key"):
        assert trust.fault_of(row()) == trust.fault_of(row("0001")) == ""
        assert run(restored, COMMAND, "users").out == (
            "All stored code that was looked at verifies.\n"
        )


def test_an_earlier_version_is_signed_with_the_current_key_too(
    exchanged: History,
) -> None:
    sign_elsewhere()
    rotated = {
        "DJANGO_REWIND_SIGNING_KEY": "the current key",
        "DJANGO_REWIND_SIGNING_KEY_FALLBACKS": [OTHER_KEY],
    }
    with override_settings(**rotated):
        assert run(exchanged, COMMAND).code == 0
    with override_settings(DJANGO_REWIND_SIGNING_KEY="the current key"):
        go_back(exchanged)
    assert "prefs" in exchanged.columns("users_thing")


def test_an_earlier_version_is_shown_and_trusted_if_a_person_says_yes(
    exchanged: History, answer: Answer
) -> None:
    sign_elsewhere()
    asked = answer("yes")
    result = give(exchanged, "0002")
    (earlier,) = earlier_rows()
    code = [f"      {line}".rstrip() for line in earlier.source_code.splitlines()]
    name = f"users.0002_prefs, its earlier version of {earlier.stored_when}"
    assert asked == [f"Trust {name}? [yes/N] "]
    assert (
        result.out
        == f"""\
Trusted users.0002_prefs, as its file has it.
{name}: {ELSEWHERE}
    Module: users.migrations.0002_prefs
    Replaces: nothing
    Depends on: users.0001
    Its code then:
{chr(10).join(code)}
Trusted {name}, as shown.
2 migrations trusted, 0 left.
"""
    )
    give(exchanged)
    go_back(exchanged)
    assert "prefs" in exchanged.columns("users_thing")


@pytest.mark.parametrize("args", [["--noinput"], ["--all-matching-files"]])
def test_an_earlier_version_is_never_trusted_unseen(
    exchanged: History, args: list[str]
) -> None:
    """Not even if its file is here."""
    (earlier,) = earlier_rows()
    exchanged.write("users.0002_prefs", text=earlier.source_code)
    alter("users.0002_prefs", source_code=earlier.source_code)
    sign_elsewhere()
    result = give(exchanged, *args)
    assert result.code == 1
    assert "    Left: no file vouches for an earlier version. " in result.out
    assert "2 migrations trusted, 1 left." in result.out
    (after,) = earlier_rows()
    assert trust.fault_of(after) == ELSEWHERE


def test_an_earlier_version_that_was_changed_after_it_was_shown_is_left(
    exchanged: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_elsewhere()

    def change_and_agree(prompt: str) -> str:
        earlier_rows().update(source_code="import os")
        return "yes"

    monkeypatch.setattr("builtins.input", change_and_agree)
    result = give(exchanged)
    assert result.code == 1
    assert "it was changed while it was looked at." in result.out
    assert trust.fault_of(earlier_rows()[0]) == ELSEWHERE


def test_an_earlier_version_that_cannot_be_trusted_is_named(
    exchanged: History,
) -> None:
    earlier_rows().update(replaces="no JSON")
    result = give(exchanged)
    assert result.code == 1
    assert "    It cannot be trusted: what it replaces, depends on or" in result.out
    assert "Where it is to be applied again, restore its file of then." in result.out


def test_an_earlier_version_that_another_one_replaces_is_not_asked_about(
    exchanged: History,
) -> None:
    go_back(exchanged)
    earlier = earlier_rows()[0]
    assert earlier.digest == row().digest
    earlier_rows().filter(pk=earlier.pk).update(gap="altered")
    assert give(exchanged).out == "All stored code that was looked at verifies.\n"


def test_what_its_file_says_too_is_trusted_without_a_question(
    restored: History,
) -> None:
    assert set(verdicts(restored).values()) == {"altered"}
    result = run(restored, COMMAND)
    assert result.code == 0
    assert "Trusted users.0002_prefs, as its file has it.\n" in result.out
    assert result.out.endswith(" migrations trusted, 0 left.\n")
    assert verdicts(restored) == {}


def test_a_name_or_a_prefix_chooses_one(restored: History) -> None:
    assert give(restored, "0002").out == (
        "Trusted users.0002_prefs, as its file has it.\n1 migration trusted, 0 left.\n"
    )
    assert verdicts(restored, "users") == {"users.0001": "altered"}


def test_an_unknown_name_is_answered_with_what_there_is(restored: History) -> None:
    with pytest.raises(CommandError, match=r"'0009'. Stored: 0001, 0002_prefs\."):
        give(restored, "0009")
    with pytest.raises(CommandError, match=r"More than one .* '000'.*0001, 0002_prefs"):
        give(restored, "000")
    with pytest.raises(CommandError, match="'nowhere'"):
        run(restored, COMMAND, "nowhere")


def test_a_ghost_is_shown_and_trusted_if_a_person_says_yes(
    restored: History, answer: Answer
) -> None:
    restored.lose("users.0002_prefs")
    asked = answer("yes")
    result = give(restored)
    code = [f"      {line}".rstrip() for line in row().source_code.splitlines()]
    assert asked == ["Trust users.0002_prefs? [yes/N] "]
    assert result.code == 0
    assert (
        result.out
        == f"""\
Trusted users.0001, as its file has it.
users.0002_prefs: {ELSEWHERE}
    Module: users.migrations.0002_prefs
    Replaces: nothing
    Depends on: users.0001
    Its file is not here. Its code:
{chr(10).join(code)}
Trusted users.0002_prefs, as shown.
2 migrations trusted, 0 left.
"""
    )
    restored.migrate("users", "0001")
    assert "prefs" not in restored.columns("users_thing")


@pytest.mark.parametrize("said", ["", "y", "no", "YES", "yes please"])
def test_anything_but_yes_leaves_it(
    restored: History, answer: Answer, said: str
) -> None:
    restored.lose("users.0002_prefs")
    answer(said)
    before = row().signature
    result = give(restored)
    assert result.code == 1
    assert result.out.endswith("1 migration trusted, 1 left.\n")
    assert row().signature == before
    with pytest.raises(CommandError, match="signed with a key"):
        restored.migrate("users", "0001")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), EOFError()])
def test_nothing_more_is_trusted_after_an_interruption(
    restored: History, answer: Answer, stop: BaseException
) -> None:
    restored.lose("users.0001", "users.0002_prefs")
    answer("yes", stop)
    result = give(restored)
    assert result.code == 1
    assert result.err == "\nOperation cancelled.\n"
    assert result.out.endswith("1 migration trusted, 1 left.\n")
    assert verdicts(restored, "users") == {
        "users.0001": "ghost",
        "users.0002_prefs": "altered",
    }


@pytest.mark.parametrize(
    "args", [["--noinput"], ["--no-input"], ["--all-matching-files"]]
)
def test_without_a_question_only_matching_files_are_trusted(
    restored: History, args: list[str]
) -> None:
    restored.lose("users.0002_prefs")
    result = give(restored, *args)
    assert result.code == 1
    assert f"users.0002_prefs: {ELSEWHERE}\n" in result.out
    assert "AddField" not in result.out
    assert result.out.endswith("1 migration trusted, 1 left.\n")
    assert verdicts(restored, "users") == {"users.0002_prefs": "altered"}
    restored.find("users.0002_prefs")
    assert give(restored, *args).code == 0


def test_the_difference_to_a_file_is_shown(restored: History, answer: Answer) -> None:
    path = restored.path("users.0002_prefs")
    path.write_text(path.read_text().replace("null=True", "null=True, default=7"))
    answer("no")
    shown = give(restored).out
    assert "    Its code differs from its file:\n" in shown
    assert (
        "      --- users.0002_prefs (file)\n      +++ users.0002_prefs (stored)\n"
        in (shown)
    )
    field = 'migrations.AddField("thing", "prefs", models.IntegerField(null=True'
    assert f"      -        {field}, default=7)),\n" in shown
    assert f"      +        {field})),\n" in shown
    # As in the file, and far from the difference.
    assert "dependencies" in shown
    assert "from django.db import" not in shown


def test_a_difference_in_line_endings_is_one(restored: History, answer: Answer) -> None:
    path = restored.path("users.0002_prefs")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    answer("no")
    shown = give(restored, "0002").out
    assert "Its code differs from its file in line endings only." in shown


def test_a_carriage_return_hides_no_line(restored: History, answer: Answer) -> None:
    alter("users.0002_prefs", source_code="# harmless\rimport os\nx = 1\n")
    answer("no", "no")
    assert "\n      +# harmless\n      +import os\n" in give(restored, "0002").out
    restored.lose("users.0002_prefs")
    assert "\n      # harmless\n      import os\n" in give(restored, "0002").out


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"module_name": "os.path"}, "Module: os.path"),
        ({"replaces": '[["users", "0001"]]'}, "Replaces: users.0001"),
        ({"dependencies": '[["blog", "0009"]]'}, "Depends on: blog.0009"),
        ({"dependencies": "[]"}, "Depends on: nothing"),
        ({"faked": True}, "Recorded with --fake: a rollback removes the record only."),
    ],
)
def test_metadata_that_its_file_does_not_say_is_asked_about(
    users: History, answer: Answer, fields: dict[str, Any], shown: str
) -> None:
    alter("users.0002_prefs", **fields)
    asked = answer("yes")
    result = give(users)
    assert asked
    assert f"    {shown}\n" in result.out
    assert "    Its code is that of its file.\n" in result.out
    signing.verify(row())


def test_needed_code_that_its_file_does_not_need_is_shown(
    users: History, answer: Answer
) -> None:
    add_needed("def token():\n    return 1\n")
    asked = answer("yes")
    result = give(users)
    assert asked
    assert (
        "    It needs users.helpers:\n      def token():\n          return 1\n"
        in result.out
    )
    signing.verify(row())


@pytest.mark.parametrize("fields", [{"dependencies": ""}, {"closure": "{}"}])
def test_what_a_row_does_not_say_is_no_difference(
    restored: History, fields: dict[str, str]
) -> None:
    alter("users.0002_prefs", **fields)
    assert give(restored).code == 0


def test_a_wrong_digest_is_put_right(users: History) -> None:
    before = row()
    alter("users.0002_prefs", digest="0" * 64, size=1)
    assert "Trusted users.0002_prefs" in give(users).out
    after = row()
    assert (after.digest, after.size) == (before.digest, before.size)
    assert verdicts(users) == {}


def test_only_what_is_signed_and_derived_is_saved(restored: History) -> None:
    before = row()
    give(restored)
    after = row()
    changed = {
        field.name
        for field in MigrationCode._meta.fields
        if getattr(before, field.name) != getattr(after, field.name)
    }
    assert changed == {"signature", "signing_key"}


def test_a_gap_can_be_trusted(users: History, answer: Answer) -> None:
    alter("users.0002_prefs", source_code="", gap="it has no source", closure="{}")
    asked = answer("yes")
    result = give(users)
    assert asked
    assert "    It has no code: it has no source.\n" in result.out
    assert verdicts(users) == {"users.0002_prefs": "gap"}


def test_code_beside_a_gap_is_shown(users: History, answer: Answer) -> None:
    alter("users.0002_prefs", gap="it has no source", source_code="import os\n")
    answer("no")
    assert "+import os\n" in give(users).out


def test_missing_files_do_not_match_empty_code(users: History, answer: Answer) -> None:
    users.lose("users.0002_prefs")
    alter("users.0002_prefs", gap="x", source_code="", dependencies="", closure="{}")
    asked = answer("no")
    assert give(users).code == 1
    assert asked


@pytest.mark.parametrize("stored", ["import os\n", None])
def test_needed_code_that_is_gone_or_altered_cannot_be_trusted(
    users: History, stored: str | None
) -> None:
    add_needed("x = 1\n", stored)
    if stored is None:
        NeededCode._default_manager.all().delete()
    result = give(users)
    assert result.code == 1
    assert (
        "    It cannot be trusted: the code that it needs, users.helpers, is missing "
        "or was altered. Restore its file, which then reverses it, and stores it anew "
        "when it is applied again.\n"
    ) in result.out
    (candidate,) = trust.find(connection, [("users", "0002_prefs")])
    with pytest.raises(NotTrusted, match=r"users\.helpers"):
        trust.trust(connection, candidate)


def test_the_remedy_for_altered_needed_code_works(users: History) -> None:
    add_needed("x = 1\n", "import os\n")
    users.migrate("users", "0001")
    users.migrate("users")
    assert verdicts(users) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"replaces": "no JSON"},
        {"replaces": "[" * 100_000},
        {"replaces": '{"ab": 1}'},
        {"replaces": '[["users", 1]]'},
        {"dependencies": "null"},
        {"dependencies": '[["users", "0001", "x"]]'},
        {"closure": "[]"},
        {"closure": '{"users.helpers": null}'},
        {"closure": '{"a": "1", "a": "2"}'},
        {"closure": " {}"},
    ],
)
def test_metadata_that_could_be_read_in_two_ways_cannot_be_trusted(
    users: History, fields: dict[str, str]
) -> None:
    alter("users.0002_prefs", **fields)
    result = give(users)
    assert result.code == 1
    assert "It cannot be trusted: what it replaces, depends on or needs" in result.out


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(
    "column", ["source_code", "module_name", "replaces", "dependencies", "closure"]
)
def test_bytes_in_a_text_column_cannot_be_trusted(users: History, column: str) -> None:
    users.sql(
        f"UPDATE django_migrations_code SET {column} = %s "
        "WHERE migration_name = '0002_prefs'",
        [b"\xff\x00"],
    )
    result = give(users)
    assert result.code == 1
    assert "    It cannot be trusted: " in result.out


@pytest.mark.only("mysql")
def test_a_faked_that_is_neither_true_nor_false_cannot_be_trusted(
    users: History,
) -> None:
    users.sql("UPDATE django_migrations_code SET faked = 2 WHERE app_label = 'users'")
    assert "a column of its row holds what does not belong there" in give(users).out


def test_what_is_shown_is_harmless(restored: History, answer: Answer) -> None:
    restored.lose("users.0002_prefs")
    add_needed(f"# {HOSTILE}\n")
    alter(
        "users.0002_prefs",
        source_code=f"# {HOSTILE}\nTrust users.0001? [yes/N] yes\n",
        module_name=f"a\n{HOSTILE}",
        replaces=json.dumps([[HOSTILE, "x\ny"]]),
        dependencies=json.dumps([[HOSTILE, "x\ny"]]),
        gap=HOSTILE,
        origin=f"a\n{HOSTILE}",
    )
    answer("no")
    shown = give(restored, "0002").out
    assert not HARMFUL.search(shown)
    assert shown.count("0002_\\x1b[31m") == 7
    assert "<script>" in shown
    # What pretends to be ours is indented.
    assert "\n      Trust users.0001? [yes/N] yes\n" in shown


def test_what_is_shown_of_a_difference_is_harmless(
    restored: History, answer: Answer
) -> None:
    alter("users.0002_prefs", source_code=f"# {HOSTILE}\n")
    answer("no")
    shown = give(restored, "0002").out
    assert not HARMFUL.search(shown)
    assert "      +# 0002_\\x1b[31m" in shown


@pytest.mark.only("sqlite")
def test_nul_bytes_are_shown(restored: History, answer: Answer) -> None:
    restored.lose("users.0002_prefs")
    alter("users.0002_prefs", source_code="x = 1\0\n")
    answer("no")
    assert "      x = 1\\x00\n" in give(restored, "0002").out


def test_a_huge_row_is_shown_in_full(restored: History, answer: Answer) -> None:
    restored.lose("users.0002_prefs")
    text = "".join(f"x_{number} = 1\n" for number in range(100_000))
    alter("users.0002_prefs", source_code=text)
    answer("no")
    assert "\n      x_99999 = 1\n" in give(restored, "0002").out


@pytest.mark.parametrize("fields", [{"source_code": "import os"}, {"faked": True}])
def test_a_row_that_was_changed_after_it_was_shown_is_left(
    restored: History, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    restored.lose("users.0002_prefs")

    def change_and_agree(prompt: str) -> str:
        alter("users.0002_prefs", **fields)
        return "yes"

    monkeypatch.setattr("builtins.input", change_and_agree)
    before = row().signature
    result = give(restored, "0002")
    assert result.code == 1
    assert "users.0002_prefs: it was changed while it was looked at." in result.out
    assert row().signature == before


def test_a_row_that_went_after_it_was_shown_is_left(
    restored: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored.lose("users.0002_prefs")
    monkeypatch.setattr("builtins.input", lambda prompt: str(row().delete()) and "yes")
    assert give(restored, "0002").code == 1
    assert ("users", "0002_prefs") not in store.digests(connection)


def test_another_database_is_left_alone(restored: History) -> None:
    restored.migrate(database="other")
    result = run(restored, COMMAND, "--database=other")
    assert result.out == "All stored code that was looked at verifies.\n"
    assert "altered" in verdicts(restored).values()


def test_a_database_without_tables_is_no_error(history: History) -> None:
    history.have("users: 0001")
    assert run(history, COMMAND).code == 0
    assert "django_migrations" not in history.tables()


def test_trusting_runs_nothing_that_is_stored(
    restored: History, tmp_path: Path, answer: Answer
) -> None:
    restored.lose("users.0002_prefs")
    marker = tmp_path / "ran"
    text = f"open({str(marker)!r}, 'w').close()\n"
    add_needed(text)
    for name in ["users.0001", "users.0002_prefs"]:
        alter(name, source_code=text)
    answer("yes", "yes")
    assert give(restored).code == 0
    assert not marker.exists()
    # It would have been seen.
    with pytest.raises(CommandError):
        restored.migrate("users", "zero")
    assert marker.exists()
