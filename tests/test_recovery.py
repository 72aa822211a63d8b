"""Code that is gone is found in git, and trusted only if somebody says so."""

from __future__ import annotations

import builtins
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import DatabaseError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_rewind import capture, outline, recovery, signing, store, tables
from django_rewind.exceptions import NotTrusted
from django_rewind.git import Version
from django_rewind.models import Key, MigrationCode
from django_rewind.places import Candidate
from tests.history import History
from tests.project import Project
from tests.test_git import Clone, no_configuration
from tests.test_recorder import names, stored

__all__ = ["no_configuration"]

PREFS = "users.0002_prefs"
KEY = ("users", "0002_prefs")

TEXT = """\
from django.db import migrations

{imports}
class Migration(migrations.Migration):
    {dependencies}
    operations = []
"""


def text(
    dependencies: str = "dependencies = [('users', '0001')]", imports: str = ""
) -> str:
    return TEXT.format(dependencies=dependencies, imports=imports)


@pytest.fixture
def clone(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """users was migrated on a branch before django-rewind was installed."""
    clone = Clone(tmp_path)
    clone.write("__pycache__/\n", ".gitignore")
    history.have("users: 0001")
    clone.commit("2024-01-01")
    clone.run("switch", "--quiet", "--create", "feature")
    history.have("users: 0001 > 0002_prefs")
    clone.commit("2024-01-02")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    clone.run("switch", "--quiet", "main")
    history.forget_modules()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    # Of the file that is there, as any migrate would do.
    history.run("backfill_migration_code")
    assert names() == {"users.0001"}
    return clone


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is answered to the next questions."""
    given: list[str] = []

    def answer(question: str) -> str:
        print(question)
        if not given:
            raise EOFError
        return given.pop(0)

    monkeypatch.setattr(builtins, "input", answer)
    return given


def search(history: History, *args: str, **options: Any) -> str:
    return history.run(
        "backfill_migration_code", *args, **{"from_git": True, **options}
    )


def trusting(history: History, *args: str, **options: Any) -> str:
    return search(history, *args, interactive=False, trust_git=True, **options)


def found(key: Key = KEY) -> MigrationCode:
    return stored()[key]


def applied(on: str, name: str = "0002_prefs", alias: str = "default") -> None:
    at = datetime.datetime.fromisoformat(f"{on}T12:00:00+00:00")
    records = MigrationRecorder(connections[alias]).migration_qs
    records.filter(name=name).update(applied=at)


# What is stored


def test_the_file_of_another_branch_is_stored_and_reversed(
    history: History, clone: Clone
) -> None:
    commit = clone.run("rev-parse", "feature")
    output = trusting(history)
    path = "users/migrations/0002_prefs.py"
    origin = f"commit {commit[:12]}, 2024-01-02T00:00:00+00:00, {path}"
    assert output == f"Stored {PREFS} from git: {origin}\n"
    code = found()
    expected = clone.run("show", "feature:users/migrations/0002_prefs.py") + "\n"
    assert code.source_code == expected
    assert code.origin == origin
    assert code.captured == "git"
    assert code.module_name == "users.migrations.0002_prefs"
    assert code.resolved_dependencies == [("users", "0001")]
    assert (code.replaces, code.closure, code.closure_gaps) == ("[]", "{}", "[]")
    assert code.size == len(expected)
    # Nobody knows under which it ran.
    assert code.django_version == code.python_version == code.distribution == ""
    signing.verify(code)
    history.run("verify_migrations")
    assert "prefs" in history.columns("users_thing")
    history.migrate("users", "0001")
    assert "prefs" not in history.columns("users_thing")
    assert history.recorded() == ["users.0001"]


def test_without_the_option_git_is_not_asked(history: History, clone: Clone) -> None:
    output = history.run("backfill_migration_code")
    assert output == f"No source here for {PREFS}\n"
    assert names() == {"users.0001"}


def test_files_are_stored_as_well(history: History, clone: Clone) -> None:
    store.rows(connection).all().delete()
    output = trusting(history, "users")
    assert output.startswith(f"Stored users.0001\nStored {PREFS} from git: commit ")
    assert {k[1]: code.captured for k, code in stored().items() if k[0] == "users"} == {
        "0001": "later",
        "0002_prefs": "git",
    }


def test_a_second_run_has_nothing_to_do(history: History, clone: Clone) -> None:
    trusting(history)
    before = found().signature
    assert search(history) == "The code of every applied migration is stored.\n"
    assert found().signature == before


def test_what_is_stored_stays(history: History, clone: Clone) -> None:
    """Also if it is stored while somebody still reads what was found."""
    code = capture.capture(*KEY, "apply")
    code.gap = ""
    capture.set_source(code, "of another process")
    store.save(connection, code)
    assert not recovery.save(connection, MigrationCode(**row(code)), trust=True)
    assert found().source_code == "of another process"


def row(code: MigrationCode) -> dict[str, Any]:
    return {"app_label": code.app_label, "migration_name": code.migration_name}


def test_a_gap_is_filled(history: History, clone: Clone) -> None:
    code = capture.capture(*KEY, "apply")
    assert code.gap
    code.faked = True
    signing.sign(code)
    store.save(connection, code)
    trusting(history)
    code = found()
    assert (code.gap, code.captured) == ("", "git")
    assert "AddField" in code.source_code
    # What the row knew of the record is still true.
    assert code.faked
    signing.verify(code)


def test_excluded_apps_are_not_searched(history: History, clone: Clone) -> None:
    with override_settings(DJANGO_REWIND_EXCLUDE_APPS=["users"]):
        assert trusting(history).startswith("The code of every applied migration")
    assert names() == {"users.0001"}


def test_only_the_app_that_is_named_is_searched(history: History, clone: Clone) -> None:
    assert "every applied migration is stored" in trusting(history, "django_rewind")
    assert names() == {"users.0001"}


def test_the_database_that_is_named_is_filled(history: History, clone: Clone) -> None:
    clone.run("switch", "--quiet", "feature")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users", database="other")
    clone.run("switch", "--quiet", "main")
    trusting(history, database="other")
    assert names("other") == {"users.0001", PREFS}
    assert names() == {"users.0001"}


def test_a_dry_run_says_what_it_would_store(history: History, clone: Clone) -> None:
    tables.drop(connection)
    output = search(history, "users", dry_run=True).splitlines()
    assert output[0] == "Would store users.0001"
    assert output[1].startswith(f"Would store {PREFS} from git: commit ")
    assert output[1].endswith(", users/migrations/0002_prefs.py")
    assert not tables.exist(connection)


# Trust


def test_unasked_and_not_trusted_it_is_stored_unsigned(
    history: History, clone: Clone
) -> None:
    output = search(history, interactive=False)
    assert "Not trusted: it cannot be reversed until" in output
    assert "'manage.py trust_stored_migrations users 0002_prefs'" in output
    assert (found().signature, found().signing_key) == ("", "")
    with pytest.raises(
        NotTrusted, match=r"not signed.*trust_stored_migrations users 0"
    ):
        signing.verify(found())
    with pytest.raises(CommandError, match=r"users\.0002_prefs: .* not signed"):
        history.migrate("users", "0001")
    assert "prefs" in history.columns("users_thing")


@pytest.mark.parametrize("answer", ["yes", " YES "])
def test_an_agreement_trusts_it(
    history: History, clone: Clone, answers: list[str], answer: str
) -> None:
    answers.append(answer)
    output = search(history)
    text = clone.run("show", "feature:users/migrations/0002_prefs.py")
    lines = output.splitlines()
    assert lines[0].startswith(f"Found {PREFS} from git: commit ")
    assert [line.strip() for line in text.splitlines()] == [
        line.strip() for line in lines[1 : 1 + len(text.splitlines())]
    ]
    assert f"Trust and store {PREFS}? [yes/N] " in lines
    assert lines[-1] == f"Stored {PREFS}"
    signing.verify(found())


@pytest.mark.parametrize("answer", ["", "no", "y", "yes!"])
def test_anything_else_stores_it_unsigned(
    history: History, clone: Clone, answers: list[str], answer: str
) -> None:
    answers.append(answer)
    lines = search(history).splitlines()
    assert lines[-2] == f"Stored {PREFS}"
    assert lines[-1].startswith("    Not trusted: it cannot be reversed until ")
    assert found().signature == ""


def test_with_nobody_to_ask_nothing_is_stored(
    history: History, clone: Clone, answers: list[str]
) -> None:
    with pytest.raises(CommandError, match=r"nothing more was stored.* --noinput"):
        search(history)
    assert names() == {"users.0001"}


@pytest.mark.parametrize(
    "options",
    [{"from_git": True}, {"interactive": False}, {}],
)
def test_trusting_unseen_needs_both_options(
    history: History, clone: Clone, options: dict[str, bool]
) -> None:
    with pytest.raises(CommandError, match="Give it with --from-git and --noinput"):
        history.run("backfill_migration_code", trust_git=True, **options)
    assert names() == {"users.0001"}


def test_what_is_shown_cannot_act_on_the_terminal(
    history: History, clone: Clone, answers: list[str]
) -> None:
    clone.run("switch", "--quiet", "feature")
    hostile = '"""\x1b[2K\u202e\rStored\nTrust and store nothing?\n"""\n'
    history.path(PREFS).write_bytes((text() + hostile).encode())
    clone.commit("2024-01-03")
    clone.run("switch", "--quiet", "main")
    answers.append("no")
    output = search(history)
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "\r" not in output
    assert "\n    Trust and store nothing?\n" in output


# Which version


def edit(history: History, clone: Clone, content: str, on: str) -> str:
    clone.run("switch", "--quiet", "feature")
    history.path(PREFS).write_text(content)
    commit = clone.commit(on)
    clone.run("switch", "--quiet", "main")
    return commit


@pytest.mark.parametrize(
    ("day", "chosen", "remark"),
    [
        ("2024-01-01", 0, "The oldest of 3 versions, none of them there before"),
        ("2024-01-02", 0, "The newest of 3 versions that was there before"),
        ("2024-01-03", 1, "The newest of 3 versions that was there before"),
        ("2024-02-02", 2, "The newest of 3 versions that was there before"),
    ],
)
def test_the_newest_that_was_there_when_it_was_applied_is_taken(
    history: History, clone: Clone, day: str, chosen: int, remark: str
) -> None:
    commits = [
        clone.run("rev-parse", "feature"),
        edit(history, clone, text() + "# 2\n", "2024-01-03"),
        edit(history, clone, text() + "# 3\n", "2024-01-04"),
    ]
    applied(day)
    output = trusting(history)
    assert f"    {remark} it was applied.\n" in output
    assert found().origin.startswith(f"commit {commits[chosen][:12]}, ")


def test_a_version_that_depends_on_what_was_never_recorded_does_not_fit(
    history: History, clone: Clone
) -> None:
    edit(history, clone, text("dependencies = [('users', '0001_x')]"), "2024-01-03")
    trusting(history)
    assert "AddField" in found().source_code


def test_none_that_fits_is_told_with_the_reason(history: History, clone: Clone) -> None:
    clone.run("checkout", "--quiet", "--orphan", "another")
    content = text("dependencies = [('users', '0001_x')]")
    (clone.folder / "users/migrations/0002_prefs.py").write_text(content)
    commit = clone.commit("2024-01-03")
    clone.run("switch", "--quiet", "main")
    clone.run("branch", "-D", "feature")
    clone.run("reflog", "expire", "--expire=now", "--all")
    clone.run("branch", "-f", "kept", commit)
    output = trusting(history)
    assert output.startswith(f"Not found in git: {PREFS}: commit {commit[:12]}, ")
    assert "depends on users.0001_x, which was never recorded. Check out" in output
    assert names() == {"users.0001"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"# coding: nothing\n", "cannot be decoded: unknown encoding: nothing."),
        (b"# coding: rot13\n", "cannot be decoded: 'rot13' is not a text encoding"),
        (b"# \xff\n", "cannot be decoded: "),
        (b"# coding: unicode_escape\n# \\ud800\n", "cannot be decoded: "),
        (b"Migration = None\n", "is no migration."),
        (b"<<<<<<< HEAD\n", "is no migration."),
        (b"\0", "is no migration."),
        (b"", "is no migration."),
    ],
)
def test_what_is_no_migration_is_reported(content: bytes, reason: str) -> None:
    with pytest.raises(recovery.Unfit) as unfit:
        recovery.decide(KEY, [candidate("1")], {"1": content}, lambda key: True, 0.0)
    assert str(unfit.value).startswith("commit c1, 2024, a.py: its text ")
    assert reason in str(unfit.value)


def test_the_text_that_a_partial_clone_lacks_is_reported() -> None:
    with pytest.raises(recovery.Unfit, match="its text is not in this clone"):
        recovery.decide(KEY, [candidate("1")], {}, lambda key: True, 0.0)


def test_other_encodings_are_decoded_as_python_does() -> None:
    content = ("# coding: latin-1\n" + text() + "# \xe9\r\n").encode("latin-1")
    result = recovery.decide(
        KEY, [candidate("1")], {"1": content}, lambda key: True, 0.0
    )
    assert result.code.source_code.endswith("# \xe9\r\n")


def candidate(
    blob: str, path: str = "a.py", committed: int = 0, rank: int = 0
) -> Candidate:
    version = Version(path, blob, f"c{blob}", "2024", committed)
    return Candidate(version, Path(), (False, False, rank), "users.migrations.0002")


BLOBS = {str(number): f"{text()}# {number}\n".encode() for number in range(1, 4)}


def decide(*candidates: Candidate, applied: float = 100.0) -> str:
    result = recovery.decide(KEY, list(candidates), BLOBS, lambda key: True, applied)
    return result.code.origin


def test_a_text_that_comes_again_is_from_its_first_commit() -> None:
    candidates = [
        candidate("1", committed=1),
        candidate("2", committed=2),
        candidate("1", committed=3)._replace(
            version=Version("a.py", "1", "revert", "2024", 3)
        ),
    ]
    assert decide(*candidates).startswith("commit c1,")
    assert decide(*candidates, applied=2.0).startswith("commit c2,")


def test_the_own_file_of_the_app_wins() -> None:
    copy = candidate("1", "copy/a.py", rank=1)
    own = candidate("2", "a.py")
    assert decide(copy, own).startswith("commit c2,")


def test_two_files_that_fit_alike_are_refused() -> None:
    one, other = candidate("1", "one/a.py"), candidate("2", "other/a.py")
    with pytest.raises(
        recovery.Unfit, match=r"more than one .*: one/a\.py, other/a\.py"
    ):
        decide(one, other)
    # A file that moved.
    assert decide(one, candidate("1", "other/a.py"))


def test_an_origin_fits_its_column() -> None:
    path = "x" * 400 + "/users/migrations/0002_prefs.py"
    origin = decide(candidate("1", path))
    assert len(origin) == 255
    assert origin.startswith("commit c1, 2024, …xxx")
    assert origin.endswith("x/users/migrations/0002_prefs.py")


# What a dependency may be


def test_a_dependency_on_a_squash_of_recorded_migrations_is_known(
    history: History, clone: Clone
) -> None:
    squash = text("dependencies = []\n    replaces = [('users', '0001')]")
    history.write("users.0001_squashed", text=squash)
    edit(
        history,
        clone,
        text("dependencies = [('users', '0001_squashed')]"),
        "2024-01-03",
    )
    history.write("users.0001_squashed", text=squash)
    history.forget_modules()
    trusting(history)
    assert found().resolved_dependencies == [("users", "0001_squashed")]


def test_a_dependency_that_a_recorded_squash_replaced_is_known() -> None:
    contents = store.Contents([("a", "0001_s")], {("a", "0001_s"): [("a", "0001")]})
    assert recovery.Records(contents).know(("a", "0001"))
    assert recovery.Records(contents).know(("b", "__first__"))
    assert not recovery.Records(contents).know(("a", "0002"))
    contents.recorded = []
    assert not recovery.Records(contents).know(("a", "0001"))


# What a text says


@pytest.mark.parametrize(
    ("dependencies", "known", "is_complete"),
    [
        ("dependencies = [('a', '1'), ('b', '2')]", [("a", "1"), ("b", "2")], True),
        ("dependencies: list = [('a', '1')]", [("a", "1")], True),
        ("dependencies = []", [], True),
        ("pass", [], False),
        ("dependencies = [('a', '1'), swappable('b')]", [("a", "1")], False),
        ("dependencies = [('a', '1'), ('b', '__first__')]", None, False),
        ("dependencies = OTHERS + [('a', '1')]", [], False),
        ("dependencies = [('a', '1')]; dependencies += x", [("a", "1")], False),
        ("dependencies = 5", [], False),
        ("dependencies = [5]", [], False),
    ],
)
def test_dependencies_are_known_if_all_are_written_out(
    dependencies: str, known: Any, is_complete: bool
) -> None:
    found = outline.read(text(dependencies))
    assert found is not None
    assert found.is_complete is is_complete
    if known is not None:
        assert found.dependencies == known


def test_dependencies_changed_below_the_class_are_not_all() -> None:
    found = outline.read(text() + "Migration.dependencies.append(('b', '1'))\n")
    assert found is not None
    assert not found.is_complete


def test_what_a_squash_replaces_is_read() -> None:
    found = outline.read(text("replaces = [('users', '0001_a'), ('users', '0002_b')]"))
    assert found is not None
    assert found.replaces == [("users", "0001_a"), ("users", "0002_b")]


@pytest.mark.parametrize(
    ("imports", "more"),
    [
        ("import json\nfrom os import path\nfrom django.db.models import Q", False),
        ("import users.models", True),
        ("import json, users", True),
        ("from users.models import make_token", True),
        ("from . import helpers", True),
        ("from .helpers import make_token", True),
        ("def f():\n    import users", True),
    ],
)
def test_code_that_is_not_searched_is_a_fact_of_the_row(
    imports: str, more: bool
) -> None:
    content = text(imports=imports).encode()
    result = recovery.decide(KEY, [candidate("1")], {"1": content}, lambda k: True, 0.0)
    facts = [recovery.NOT_SEARCHED] if more else []
    assert json.loads(result.code.closure_gaps) == facts


def test_unknown_dependencies_are_left_to_the_code(
    history: History, clone: Clone
) -> None:
    edit(history, clone, text("dependencies = list([('users', '0001')])"), "2024-01-03")
    trusting(history)
    assert found().dependencies == ""
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]


def test_a_squash_is_stored_with_what_it_replaces(
    history: History, clone: Clone
) -> None:
    squash = text("replaces = [('users', '0002_a'), ('users', '0002_b')]")
    edit(history, clone, squash, "2024-01-03")
    applied("2024-01-03")
    trusting(history)
    assert found().replaced_keys == [("users", "0002_a"), ("users", "0002_b")]


# Where it is looked for


def test_a_deleted_branch_is_in_the_reflog(history: History, clone: Clone) -> None:
    clone.run("branch", "-D", "feature")
    trusting(history)
    assert found().origin.endswith(", users/migrations/0002_prefs.py")


def test_an_app_that_moved_is_found(history: History, clone: Clone) -> None:
    clone.run("switch", "--quiet", "feature")
    clone.run("switch", "--quiet", "--orphan", "before")
    content = text()
    clone.write(content, "old/place/users/migrations/0002_prefs.py")
    clone.write(content + "# other\n", "notusers/migrations/0002_prefs.py")
    clone.commit("2023-01-01")
    clone.run("switch", "--quiet", "main")
    clone.run("branch", "-D", "feature")
    clone.run("reflog", "expire", "--expire=now", "--all")
    trusting(history)
    assert found().origin.endswith(", old/place/users/migrations/0002_prefs.py")
    assert found().module_name == "users.migrations.0002_prefs"


def test_an_uninstalled_app_is_found_by_its_label(
    history: History, clone: Clone
) -> None:
    history.install(INSTALLED_APPS=["django_rewind"])
    trusting(history)
    assert names() == {"users.0001", PREFS}
    assert found().module_name == "users.migrations.0002_prefs"


def test_an_app_in_a_repository_of_its_own_is_found(
    history: History,
    clone: Clone,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Clone(tmp_path_factory.mktemp("project"))
    project.write(text(), "users/migrations/0002_prefs.py")
    project.commit("2024-01-02")
    monkeypatch.chdir(project.folder)
    # The app's own, not the copy in the project.
    assert "AddField" in find_only(KEY).source_code
    monkeypatch.chdir(project.folder.parent)
    assert "AddField" in find_only(KEY).source_code


def test_another_migrations_module_is_found(history: History, clone: Clone) -> None:
    clone.run("switch", "--quiet", "feature")
    clone.write("", "users/steps/__init__.py")
    clone.run("mv", "users/migrations/0002_prefs.py", "users/steps/0002_prefs.py")
    clone.run("rm", "--quiet", "-r", "users/migrations")
    clone.run("commit", "--quiet", "--amend", "-m", "steps")
    clone.run("reflog", "expire", "--expire=now", "--all")
    clone.run("switch", "--quiet", "main")
    modules = {"users": "users.steps"}
    history.install(MIGRATION_MODULES=modules)
    clone.write("", "users/steps/__init__.py")
    trusting(history)
    assert found().origin.endswith(", users/steps/0002_prefs.py")
    assert found().module_name == "users.steps.0002_prefs"


def test_what_was_never_committed_is_named(history: History, clone: Clone) -> None:
    records = MigrationRecorder(connection).migration_qs
    records.filter(name="0002_prefs").update(name="0002_never")
    output = trusting(history)
    assert output == (
        "Not found in git: users.0002_never: no commit that git can list has its file. "
        "Check out the code that has its file and run 'manage.py "
        "backfill_migration_code' there.\n"
    )


@pytest.mark.parametrize("name", ["../0001", "*", "0002_*", "a\nb", "a\x1b[31m", ""])
def test_a_hostile_record_finds_nothing(
    history: History, clone: Clone, name: str
) -> None:
    MigrationRecorder(connection).migration_qs.create(app=name or "x", name=name)
    MigrationRecorder(connection).migration_qs.create(app="users", name=name)
    output = trusting(history)
    assert "\x1b" not in output
    assert output.count("Not found in git: ") == 2
    assert names() == {"users.0001", PREFS}


def test_a_shallow_clone_is_told(
    history: History, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = clone.folder.as_uri()
    clone.run("clone", "--quiet", "--depth=1", "--branch=main", url, "shallow")
    monkeypatch.chdir(clone.folder / "shallow")
    history.install(INSTALLED_APPS=["django_rewind"])
    output = trusting(history)
    top = clone.folder.resolve() / "shallow"
    assert f"The clone {top} is shallow, and older history was not searched." in output
    assert f"Not found in git: {PREFS}" in output


def test_another_project_in_the_repository_is_not_taken(
    history: History, clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.run("switch", "--quiet", "feature")
    clone.write(text() + "# other\n", "a/users/migrations/0002_prefs.py")
    clone.write(text() + "# ours\n", "b/users/migrations/0002_prefs.py")
    clone.commit("2024-01-03")
    clone.run("switch", "--quiet", "main")
    # Of an installed app, the file in its own folder.
    assert "AddField" in find_only(KEY).source_code
    history.install(INSTALLED_APPS=["django_rewind"])
    assert "more than one file" in trusting(history)
    # Else one of the project.
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert find_only(KEY).source_code.endswith("# ours\n")
    assert find_only(KEY).module_name == "users.migrations.0002_prefs"


def find_only(key: Key) -> MigrationCode:
    (found,) = recovery.search(connection, store.contents(connection), [key]).recovered
    return found.code


# When it fails


def test_without_a_repository_nothing_is_stored(history: History, clone: Clone) -> None:
    store.rows(connection).all().delete()
    (clone.folder / ".git").rename(clone.folder / "no-git")
    with pytest.raises(CommandError, match=r"There is no git repository in .* clone"):
        trusting(history)
    assert names() == set()


def test_without_git_nothing_is_stored(
    history: History, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.rows(connection).all().delete()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="The program 'git' was not found"):
        trusting(history)
    assert names() == set()


def test_without_anything_lost_git_is_not_needed(
    history: History, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    MigrationRecorder(connection).migration_qs.filter(name="0002_prefs").delete()
    store.rows(connection).all().delete()
    monkeypatch.setenv("PATH", "")
    assert trusting(history, "users") == "Stored users.0001\n"


def test_what_cannot_be_stored_is_told_and_the_rest_is_stored(
    history: History, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.run("switch", "--quiet", "feature")
    history.write("users.0003_age", dependencies=[KEY])
    clone.commit("2024-01-03")
    with override_settings(DJANGO_REWIND_ENABLED=False):
        history.migrate("users")
    clone.run("switch", "--quiet", "main")
    save = store.save

    def fail(connection: Any, code: MigrationCode) -> None:
        if code.migration_name == "0002_prefs":
            raise DatabaseError("the disk is full")
        save(connection, code)

    monkeypatch.setattr(store, "save", fail)
    with pytest.raises(SystemExit) as end:
        trusting(history)
    assert end.value.code == 1
    assert names() == {"users.0001", "users.0003_age"}


# The whole story


@pytest.mark.parametrize("subfolder", ["", "backend"])
def test_the_story_of_a_project_that_installs_it_too_late(
    tmp_path: Path, project: Project, subfolder: str
) -> None:
    """`subfolder`: the project is a part of a larger repository."""
    if subfolder:
        (tmp_path / ".git").rename(tmp_path / "git")
        (tmp_path / subfolder).mkdir()
        for name in ("manage.py", "config.py", ".gitignore"):
            (tmp_path / name).rename(tmp_path / subfolder / name)
        (tmp_path / "git").rename(tmp_path / ".git")
        project.folder = tmp_path / subfolder
    project.apps.remove("django_rewind")
    project.have("users: 0001")
    project.commit("main")
    project.branch("feature")
    project.have("users: 0001 > 0002_prefs")
    project.commit("feature")
    project.manage("migrate")
    project.switch("main")
    project.apps.insert(0, "django_rewind")
    project.have("users: 0001")
    project.commit("install django-rewind")
    project.git("branch", "-D", "feature")
    project.manage("migrate")
    refused = project.manage("migrate", "users", "0001", fails=True)
    assert "users.0002_prefs" in refused.stderr
    done = project.manage(
        "backfill_migration_code", "--from-git", "--noinput", "--trust-git"
    )
    path = f"{subfolder}/users" if subfolder else "users"
    assert done.stdout.startswith("Stored users.0002_prefs from git: commit ")
    assert done.stdout.endswith(f", {path}/migrations/0002_prefs.py\n")
    (row,) = (r for r in project.stored() if r["migration_name"] == "0002_prefs")
    assert row["captured"] == "git"
    assert row["module"] == "users.migrations.0002_prefs"
    done = project.manage("migrate", "users", "0001")
    assert "Unapplying users.0002_prefs... OK" in done.stdout
    assert project.applied() == ["users.0001"]
    assert "prefs" not in columns(project)


def columns(project: Project) -> str:
    return project.manage("inspectdb", "users_thing").stdout


def test_where_nobody_can_answer_manage_py_says_so(project: Project) -> None:
    project.have("users: 0001")
    project.commit("main")
    project.manage("migrate")
    project.manage("shell", "-c", FORGET)
    project.path("users.0001").unlink()
    done = project.manage("backfill_migration_code", "--from-git", fails=True)
    assert done.returncode == 1
    assert "CommandError: Cancelled: nothing more was stored." in done.stderr


FORGET = """
from django_rewind.models import Key, MigrationCode
MigrationCode.objects.filter(app_label="users").delete()
"""
