"""The three commands, and those of Django that show ghosts."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import django
import pytest
from django.core.management import BaseCommand, CommandError, call_command
from django.core.management.commands import sqlmigrate
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from django_rewind import checks, signing, store
from django_rewind.archive import EarlierMigrationCode, NeededCode
from django_rewind.capture import set_needed, set_source
from django_rewind.closure import Closure
from django_rewind.models import MigrationCode
from tests.history import History

OURS = ["show_stored_migrations", "verify_migrations", "backfill_migration_code"]


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(
    history: History, command: str | BaseCommand, *args: str, **options: Any
) -> Result:
    history.forget_modules()
    out, err, code = StringIO(), StringIO(), 0
    options = {"no_color": True, **options}
    try:
        call_command(command, *args, stdout=out, stderr=err, **options)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def show(history: History, *args: str) -> Any:
    rows = run(history, "show_stored_migrations", "--format=json", *args).json
    return [row for row in rows if row["app_label"] != "django_rewind"]


def verify(history: History, *args: str) -> Result:
    return run(history, "verify_migrations", *args)


def exchange(users: History) -> Any:
    """Give users.0002_prefs other code than at the restore point "then"; the rows of
    earlier versions.
    """
    users.migrate()
    users.run("restore_point", "then")
    users.migrate("users", "0001")
    add = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
    users.write("users.0002_prefs", add, [("users", "0001")])
    users.migrate()
    return EarlierMigrationCode._default_manager.using("default").order_by("pk")


def verdicts(history: History, *args: str) -> dict[str, str]:
    """Of what is not ok."""
    return {
        f"{found['app_label']}.{found['migration_name']}": found["verdict"]
        for found in verify(history, "--format=json", *args).json
        if found["verdict"] != "ok"
    }


def plant(migration: str, text: str, alias: str = "default") -> None:
    """Store another text, rightly signed."""
    label, name = migration.split(".")
    rows = MigrationCode.objects.using(alias)
    code = rows.get(app_label=label, migration_name=name)
    set_source(code, text)
    signing.sign(code)
    code.save(using=alias)


def need(
    migration: str, texts: dict[str, str], gaps: Sequence[str] = (), **fields: Any
) -> None:
    """Store what a migration needs with it, rightly signed."""
    label, name = migration.split(".")
    code = MigrationCode.objects.get(app_label=label, migration_name=name)
    set_needed(code, Closure(texts, list(gaps)))
    for field, value in fields.items():
        setattr(code, field, value)
    signing.sign(code)
    store.save(connection, code)


def alter(migration: str, **fields: Any) -> None:
    label, name = migration.split(".")
    rows = MigrationCode.objects.filter(app_label=label, migration_name=name)
    assert rows.update(**fields) == 1


def forget_code(*migrations: str) -> None:
    for migration in migrations:
        label, name = migration.split(".")
        MigrationCode.objects.get(app_label=label, migration_name=name).delete()


@pytest.fixture
def users(history: History) -> History:
    """Applied: users.0001 and 0002_prefs, blog.0001."""
    history.have("users: 0001 > 0002_prefs; blog: 0001(users.0001)")
    history.migrate()
    return history


@pytest.fixture
def ghost(users: History) -> History:
    users.lose("users.0002_prefs")
    return users


@pytest.fixture
def edited(users: History) -> History:
    path = users.path("users.0002_prefs")
    path.write_text(path.read_text().replace("null=True", "null=True, default=7"))
    return users


# show_stored_migrations


def test_show_lists_each_stored_migration(ghost: History) -> None:
    ghost.migrate("blog", "zero")
    path = ghost.path("users.0001")
    path.write_text(path.read_text().replace("50", "60"))
    lines = run(ghost, "show_stored_migrations").out.splitlines()
    shown = [re.split(r"  +", line) for line in lines]
    assert shown[0] == [
        "Migration",
        "Applied",
        "File",
        "Captured",
        "Stored at",
        "Size",
        "Needs",
    ]
    found = {cells[0]: cells[1:4] for cells in shown[1:]}
    assert found["blog.0001"] == ["[ ]", "present", "at apply"]
    assert found["users.0001"] == ["[X]", "edited", "at apply"]
    assert found["users.0002_prefs"] == ["[X]", "missing", "at apply"]
    of_ghost = next(cells for cells in shown if cells[0] == "users.0002_prefs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", of_ghost[4])
    assert re.fullmatch(r"\d+ bytes", of_ghost[5])


def test_show_as_json_has_these_keys_and_types(ghost: History) -> None:
    row = show(ghost, "users")[1]
    assert {key: type(value) for key, value in row.items()} == {
        "app_label": str,
        "migration_name": str,
        "applied": bool,
        "file": str,
        "captured": str,
        "stored_at": str,
        "size": int,
        "gap": str,
        "digest": str,
        "module": str,
        "replaces": list,
        "django_version": str,
        "python_version": str,
        "distribution": str,
        "faked": bool,
        "origin": str,
        "dependencies": list,
        "needs": list,
        "lacking": list,
    }
    text = ghost.lost["users.0002_prefs"]
    assert row["app_label"] == "users"
    assert row["migration_name"] == "0002_prefs"
    assert row["applied"] is True
    assert row["file"] == "missing"
    assert row["captured"] == "apply"
    assert row["size"] == len(text.encode())
    assert row["module"] == "users.migrations.0002_prefs"
    assert row["django_version"] == django.get_version()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", row["stored_at"])


def test_show_of_one_app_lists_that_app(users: History) -> None:
    assert {row["app_label"] for row in show(users, "blog")} == {"blog"}
    text = run(users, "show_stored_migrations", "blog").out
    assert "users" not in text
    assert "blog.0001" in text


def test_show_lists_apps_that_are_no_longer_installed(users: History) -> None:
    users.install(INSTALLED_APPS=["django_rewind", "blog"])
    for args in [(), ("users",)]:
        found = [row for row in show(users, *args) if row["app_label"] == "users"]
        assert [row["file"] for row in found] == ["missing", "missing"]


@pytest.mark.parametrize("command", OURS)
def test_each_alias_is_looked_at_alone(history: History, command: str) -> None:
    history.have("users: 0001")
    history.migrate(database="other")
    here = run(history, command, "users")
    there = run(history, command, "users", "--database=other")
    assert (here.code, there.code) == (0, 0)
    if command == "show_stored_migrations":
        assert here.out == "No migrations are stored.\n"
        assert "users.0001" in there.out
    elif command == "verify_migrations":
        assert here.out == "No migrations are recorded or stored.\n"
        assert there.out == "1 migration verified.\n"


def test_show_says_how_many_are_not_stored(users: History) -> None:
    forget_code("users.0002_prefs")
    assert (
        "Applied, but not stored: 1. 'manage.py verify_migrations' names them."
        in run(users, "show_stored_migrations").out
    )


def test_show_says_what_was_faked_and_how_much_is_needed(users: History) -> None:
    users.write("users.0003_more", dependencies=[("users", "0002_prefs")])
    users.migrate("users", "0003", fake=True)
    need(
        "users.0002_prefs", {"users.helpers": "x = 1\n"}, ["users.models.A is a model"]
    )
    lines = run(users, "show_stored_migrations", "users").out.splitlines()
    cells = {line.split()[0]: re.split(r"  +", line) for line in lines}
    assert [cells[name][-1] for name in ["users.0001", "users.0002_prefs"]] == [
        "-",
        "1, lacks 1",
    ]
    assert cells["users.0003_more"][1] == "[X] faked"
    listed = {row["migration_name"]: row for row in show(users, "users")}
    assert [row["faked"] for row in listed.values()] == [False, False, True]
    assert listed["0002_prefs"]["needs"] == ["users.helpers"]
    assert listed["0002_prefs"]["lacking"] == ["users.models.A is a model"]
    assert listed["0002_prefs"]["dependencies"] == [["users", "0001"]]
    assert not {"source_code", "needed"} & listed["0002_prefs"].keys()


def test_the_list_loads_no_code(ghost: History) -> None:
    need("users.0002_prefs", {"users.helpers": "x = 1\n"})
    with CaptureQueriesContext(connection) as queries:
        run(ghost, "show_stored_migrations")
    assert not [query for query in queries if "source_code" in query["sql"]]


def test_show_of_one_migration_shows_all_of_it(ghost: History) -> None:
    text = ghost.lost["users.0002_prefs"]
    need(
        "users.0002_prefs",
        {"users.helpers": "def make():\r\n    return 7\r\n", "users/a.json": "[1]"},
        ["users.models.Person is a model class"],
        origin="git 1a2b3c4",
        captured="git",
        faked=True,
        replaces='[["users", "0002_old"]]',
        distribution="users 1.2",
    )
    shown = run(ghost, "show_stored_migrations", "users", "0002").out
    facts, *sections = shown.split("\n\nusers")
    assert facts.splitlines()[0] == "users.0002_prefs"
    lines = facts.splitlines()[1:13]
    found = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines)
    stored_at, digest = found.pop("Stored at"), found.pop("SHA-256")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", stored_at)
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    assert found == {
        "Applied": "yes",
        "Faked": "yes: recorded with --fake, so a rollback only removes the record",
        "File": "missing",
        "Captured": "from git",
        "From": "git 1a2b3c4",
        "Size": f"{len(text)} bytes",
        "Module": "users.migrations.0002_prefs",
        "Depends on": "users.0001",
        "Replaces": "users.0002_old",
        "Captured under": f"Django {django.get_version()}, "
        f"Python {platform.python_version()}, users 1.2",
    }
    for line in [
        "  Needs           users.helpers",
        "                  users/a.json",
        "  Lacks           users.models.Person is a model class",
        "  Verifies        yes",
        (
            "  Note            it would not load without its branch: "
            "users.models.Person is a model class."
        ),
    ]:
        assert f"\n{line}\n" in facts
    source, helpers, data = sections
    assert source.startswith(".migrations.0002_prefs\n    from django.db import ")
    assert dedent(source.partition("\n")[2]).rstrip() == text.rstrip()
    assert helpers == ".helpers\n    def make():\n        return 7"
    assert data == "/a.json\n    [1]\n"


def test_show_of_one_migration_as_json_is_exact(ghost: History) -> None:
    needed = {"users.helpers": "x = 1\r\n\x0c", "users/a.json": "[1]"}
    need("users.0002_prefs", needed)
    one = run(ghost, "show_stored_migrations", "users", "0002", "--format=json").json
    [listed] = [r for r in show(ghost, "users") if r["migration_name"] == "0002_prefs"]
    assert {key: one[key] for key in listed} == listed
    assert one["source_code"] == ghost.lost["users.0002_prefs"]
    assert one["needed"] == needed
    assert one["verifies"] is True
    assert one["fact"] == "its file is missing, and its code is stored."


def test_show_of_one_migration_says_why_it_does_not_verify(ghost: History) -> None:
    need("users.0002_prefs", {"users.helpers": "x = 1\n"})
    NeededCode._default_manager.all().delete()
    shown = run(ghost, "show_stored_migrations", "users", "0002")
    assert shown.code == 0
    assert (
        "\n  Verifies        no: the code that it needs, users.helpers, is missing or "
        "was altered.\n                  Check out the code that has its file"
    ) in shown.out
    one = run(ghost, "show_stored_migrations", "users", "0002", "--format=json").json
    assert one["verifies"] is False
    assert one["needed"] == {}


def test_a_name_or_a_prefix_that_fits_one_migration_shows_it(users: History) -> None:
    users.write("users.0002_prefs_more", dependencies=[("users", "0002_prefs")])
    users.migrate()
    for name, expected in [
        ("0001", "0001"),
        ("0002_prefs", "0002_prefs"),
        ("0002_prefs_", "0002_prefs_more"),
    ]:
        args = ["show_stored_migrations", "users", name, "--format=json"]
        assert run(users, *args).json["migration_name"] == expected
    with pytest.raises(CommandError, match="0002_prefs, 0002_prefs_more"):
        run(users, "show_stored_migrations", "users", "0002")
    with pytest.raises(CommandError, match="'0009'"):
        run(users, "show_stored_migrations", "users", "0009")


def test_no_text_can_look_like_the_next_one(ghost: History) -> None:
    need("users.0002_prefs", {"users.helpers": "x = 1\n\nusers.forged\n    y = 2\n"})
    lines = run(ghost, "show_stored_migrations", "users", "0002").out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "users.0002_prefs",
        "users.migrations.0002_prefs",
        "users.helpers",
    ]


# verify_migrations


def test_all_is_well_after_migrate(users: History) -> None:
    result = verify(users)
    assert result.code == 0
    assert re.fullmatch(r"\d+ migrations verified\.\n", result.out)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class Migration", "# A comment.\n\nclass Migration"),
        ("    dependencies", '    """Adds preferences."""\n\n    dependencies'),
        ("from django", '"""Adds preferences."""\n\nfrom django'),
        ("    ]\n", "      ]\n\n\n"),
        ('"prefs"', "'prefs'"),
        ("\n", "\r\n"),
    ],
)
def test_formatting_comments_and_docstrings_are_no_edit(
    users: History, one: str, other: str
) -> None:
    path = users.path("users.0002_prefs")
    text = path.read_text()
    assert one in text
    path.write_bytes(text.replace(one, other).encode())
    assert verify(users).code == 0
    assert [row["file"] for row in show(users, "users")] == ["present", "present"]


def test_an_edited_file_fails(edited: History) -> None:
    result = verify(edited)
    assert result.code == 1
    assert "users.0002_prefs: its file was edited after it was applied." in result.out
    assert "1 of" in result.out.splitlines()[-1]
    assert verdicts(edited) == {"users.0002_prefs": "edited"}


def test_diff_shows_how_an_edited_file_differs(edited: History) -> None:
    result = verify(edited, "--diff")
    assert result.code == 1
    assert (
        "--- users.0002_prefs (stored)\n+++ users.0002_prefs (file)\n@@" in result.out
    )
    field = 'migrations.AddField("thing", "prefs", models.IntegerField(null=True'
    assert f"\n-        {field})),\n+        {field}, default=7)),\n" in result.out
    found = verify(edited, "--diff", "--format=json").json
    diffs = [f["diff"] for f in found if "diff" in f]
    assert len(diffs) == 1
    assert diffs[0] in result.out


def test_diff_keeps_lines_apart_where_the_last_one_has_no_end(users: History) -> None:
    path = users.path("users.0002_prefs")
    path.write_text(path.read_text() + "one = 1")
    plant("users.0002_prefs", path.read_text())
    path.write_text(path.read_text().replace("one = 1", "one = 2"))
    lines = verify(users, "--diff").out.splitlines()
    assert "-one = 1" in lines
    assert "+one = 2" in lines


def test_an_edit_that_was_reversed_is_not_looked_at(edited: History) -> None:
    edited.migrate("users", "0001")
    assert verify(edited).code == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_not_stored_fails(users: History, is_there: bool) -> None:
    forget_code("users.0002_prefs")
    if not is_there:
        users.lose("users.0002_prefs")
    result = verify(users)
    assert result.code == 1
    assert "users.0002_prefs: it is recorded, but its code is not stored" in result.out
    assert ("and its file is missing" in result.out) is not is_there
    assert verdicts(users) == {"users.0002_prefs": "not stored"}


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"source_code": "x = 1"}, "was altered after it was signed"),
        ({"digest": "0" * 64}, "was altered after it was signed"),
        ({"module_name": "os"}, "was altered after it was signed"),
        ({"replaces": '[["users", "0001"]]'}, "was altered after it was signed"),
        ({"signature": ""}, "is not signed"),
        ({"signature": "A" * 43}, "was altered after it was signed"),
        ({"signature": "A" * 43, "signing_key": "B" * 16}, "this project does not hav"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_an_altered_row_fails(
    users: History, is_there: bool, fields: dict[str, str], fact: str
) -> None:
    alter("users.0002_prefs", **fields)
    if not is_there:
        users.lose("users.0002_prefs")
    result = verify(users)
    assert result.code == 1
    assert fact in result.out
    assert verdicts(users) == {"users.0002_prefs": "altered"}


def test_an_altered_row_that_is_not_recorded_fails(users: History) -> None:
    users.migrate("users", "0001")
    alter("users.0002_prefs", source_code="x = 1")
    assert verify(users).code == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"source_code": "x = 1"},
        {"digest": "0" * 64},
        {"migration_name": "0002_other"},
        {"app_label": "nowhere"},
        {"signature": "A" * 43},
    ],
)
def test_an_altered_earlier_version_fails(
    users: History, fields: dict[str, str]
) -> None:
    earlier = exchange(users)
    assert verify(users).code == 0
    earlier.update(**fields)
    (row,) = earlier
    result = verify(users)
    assert result.code == 1
    assert (
        f"{row}: an earlier version of it, stored {row.stored_when}, cannot be used: "
        "its stored code was altered after it was signed.\n"
        "    Do not trust it: restore its file and find out who wrote to "
        "django_migrations_code_earlier.\n"
    ) in result.out
    assert verdicts(users) == {str(row): "altered"}
    assert verify(users, "blog").code == 0


def test_an_altered_earlier_version_is_told_beside_what_is_current(
    users: History,
) -> None:
    exchange(users).update(source_code="x = 1")
    path = users.path("users.0002_prefs")
    path.write_text(path.read_text().replace("null=True", "null=True, default=7"))
    found = verify(users, "users", "--format=json", "--diff").json
    assert [
        (f["migration_name"], f["verdict"], f["failed"], "diff" in f) for f in found
    ] == [
        ("0001", "ok", False, False),
        ("0002_prefs", "edited", True, True),
        ("0002_prefs", "altered", True, False),
    ]
    told = verify(users, "users", "--diff").out
    assert told.count("+++") == 1
    assert told.endswith("\n1 of 2 migrations failed verification.\n")


def test_an_earlier_version_without_what_it_needs_fails(users: History) -> None:
    need("users.0002_prefs", {"users.helpers": "x = 1\n"})
    exchange(users)
    assert verify(users).code == 0
    NeededCode._default_manager.update(source_code="x = 2\n")
    result = verify(users)
    assert result.code == 1
    assert "cannot be used: the code that it needs, users.helpers, is" in result.out
    assert "Find out who wrote to django_migrations_code_needed." in result.out


def test_an_earlier_version_that_nothing_goes_back_to_fails_nothing(
    users: History,
) -> None:
    """So that what was altered is clear once its file was restored and applied."""
    alter("users.0002_prefs", source_code="x = 1")
    assert verify(users).code == 1
    users.migrate("users", "0001")
    users.migrate()
    assert EarlierMigrationCode._default_manager.count() == 1
    assert verify(users).code == 0


def test_a_ghost_is_reported_and_fails_only_if_strict(ghost: History) -> None:
    result = verify(ghost)
    assert result.code == 0
    assert (
        "users.0002_prefs: its file is missing, and its code is stored." in result.out
    )
    assert verdicts(ghost) == {"users.0002_prefs": "ghost"}
    assert verify(ghost, "--strict").code == 1


def test_a_gap_is_reported_and_fails_only_if_strict(users: History) -> None:
    row = MigrationCode.objects.get(migration_name="0002_prefs")
    set_source(row, "")
    row.gap = "prefs.pyc has no source"
    signing.sign(row)
    row.save()
    result = verify(users)
    assert result.code == 0
    assert (
        "users.0002_prefs: it is stored without code: prefs.pyc has no source."
        in result.out
    )
    assert verdicts(users) == {"users.0002_prefs": "gap"}
    assert verify(users, "--strict").code == 1


def test_a_gap_fails_where_the_file_is_gone_too(users: History) -> None:
    row = MigrationCode.objects.get(migration_name="0002_prefs")
    set_source(row, "")
    row.gap = "prefs.pyc has no source"
    signing.sign(row)
    row.save()
    users.lose("users.0002_prefs")
    result = verify(users)
    assert result.code == 1
    assert (
        "users.0002_prefs: its file is missing, and it is stored without code: "
        "prefs.pyc has no source.\n"
        "    Check out the code that has its file, and reverse it there."
    ) in result.out
    assert verdicts(users) == {"users.0002_prefs": "not stored"}


def test_the_ghost_of_an_excluded_app_is_refused(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.install(DJANGO_REWIND_EXCLUDE_APPS=["users"])
    history.migrate()
    history.lose("users.0002_prefs")
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    assert (
        "users.0002_prefs: it is recorded, but its code was never stored and its file "
        "is missing. Its app is in DJANGO_REWIND_EXCLUDE_APPS. Check out the code that "
        "has its file and reverse it there."
    ) in str(refusal.value)


def test_what_to_run_names_the_database(users: History) -> None:
    users.migrate(database="other")
    users.lose("users.0002_prefs")
    found = run(users, "verify_migrations", "--database=other")
    assert "'manage.py migrate users NAME --database other' can reverse it" in found.out
    MigrationCode.objects.using("other").filter(app_label="users").delete()
    with pytest.raises(CommandError) as refusal:
        users.migrate("users", "0001", database="other")
    assert "run 'manage.py migrate --database other' there" in str(refusal.value)
    ghosts, lacking = checks.check_databases(None, ["other"])
    assert "'manage.py rewind --plan --database other' shows how." in str(ghosts.hint)
    assert "'manage.py migrate --database other' stores it" in str(lacking.hint)


def test_excluded_apps_are_reported_and_never_fail(history: History) -> None:
    history.have("users: 0001; blog: 0001")
    history.install(DJANGO_REWIND_EXCLUDE_APPS=["users"])
    history.migrate()
    result = verify(history, "--strict")
    assert result.code == 0
    assert "users.0001: its app is in DJANGO_REWIND_EXCLUDE_APPS." in result.out
    assert verdicts(history) == {"users.0001": "excluded"}
    assert [row["app_label"] for row in show(history)] == ["blog"]


def test_verify_of_one_app_looks_at_that_app(edited: History) -> None:
    assert verify(edited, "blog").code == 0
    assert verify(edited, "users").code == 1
    found = verify(edited, "blog", "--format=json").json
    assert {f["app_label"] for f in found} == {"blog"}


def test_verify_as_json_has_these_keys(edited: History) -> None:
    found = verify(edited, "users", "--format=json").json[-1]
    assert list(found) == [
        "app_label",
        "migration_name",
        "verdict",
        "failed",
        "applied",
        "file",
        "fact",
        "remedy",
    ]
    assert found["verdict"] == "edited"
    assert found["failed"] is True
    assert found["applied"] is True
    assert found["file"] == "edited"


@pytest.mark.parametrize("args", [[], ["--diff"], ["--strict"]])
def test_json_is_the_only_thing_on_stdout_also_when_it_fails(
    edited: History, capfd: pytest.CaptureFixture[str], args: list[str]
) -> None:
    forget_code("blog.0001")
    alter("users.0001", digest="")
    result = verify(edited, "--format=json", *args)
    assert result.code == 1
    assert isinstance(result.json, list)
    assert capfd.readouterr().out == ""


# backfill_migration_code


def test_backfill_stores_what_is_lacking_and_says_that_it_came_later(
    users: History,
) -> None:
    forget_code("users.0002_prefs", "blog.0001")
    result = run(users, "backfill_migration_code")
    assert result.code == 0
    assert sorted(result.out.splitlines()) == [
        "Stored blog.0001",
        "Stored users.0002_prefs",
    ]
    captured = {
        f"{row['app_label']}.{row['migration_name']}": row["captured"]
        for row in show(users)
    }
    assert captured == {
        "users.0001": "apply",
        "users.0002_prefs": "later",
        "blog.0001": "later",
    }
    assert verify(users).code == 0
    users.lose("users.0002_prefs")
    users.migrate("users", "0001")
    assert "prefs" not in users.columns("users_thing")


def test_backfill_dry_run_changes_nothing(users: History) -> None:
    forget_code("users.0002_prefs")
    result = run(users, "backfill_migration_code", "--dry-run")
    assert (result.code, result.out) == (0, "Would store users.0002_prefs\n")
    assert verdicts(users) == {"users.0002_prefs": "not stored"}


def test_backfill_of_one_app_stores_that_app(users: History) -> None:
    forget_code("users.0002_prefs", "blog.0001")
    assert run(users, "backfill_migration_code", "blog").out == "Stored blog.0001\n"
    assert verdicts(users) == {"users.0002_prefs": "not stored"}


def test_backfill_names_what_has_no_file(users: History) -> None:
    forget_code("users.0002_prefs", "blog.0001")
    users.lose("users.0002_prefs")
    assert run(users, "backfill_migration_code").out == (
        "Stored blog.0001\nNo source here for users.0002_prefs\n"
    )


def test_backfill_with_nothing_to_do_says_so(ghost: History) -> None:
    assert run(ghost, "backfill_migration_code").out == (
        "The code of every applied migration is stored.\n"
    )


def test_backfill_touches_no_other_database(users: History) -> None:
    users.migrate(database="other")
    MigrationCode.objects.using("other").filter(app_label="users").delete()
    forget_code("users.0001")
    run(users, "backfill_migration_code", "--database=other")
    assert verdicts(users, "--database=other") == {}
    assert verdicts(users) == {"users.0001": "not stored"}


# What does not exist


@pytest.mark.parametrize("command", OURS)
def test_an_unknown_app_is_named(users: History, command: str) -> None:
    with pytest.raises(CommandError, match="'nowhere'"):
        run(users, command, "nowhere")


@pytest.mark.parametrize("command", OURS)
def test_an_unknown_alias_is_named(users: History, command: str) -> None:
    with pytest.raises(CommandError, match=r"'nowhere'.*default, other"):
        run(users, command, "--database=nowhere")


@pytest.mark.parametrize("command", ["migrate", "sqlmigrate"])
def test_an_unknown_migration_is_named(ghost: History, command: str) -> None:
    with pytest.raises(CommandError, match="'0009_gone'"):
        run(ghost, command, "users", "0009_gone")
    with pytest.raises(CommandError, match="'nowhere'"):
        run(ghost, command, "nowhere", "0001")


def test_showmigrations_names_an_unknown_app(ghost: History) -> None:
    for form in ["--list", "--plan"]:
        result = run(ghost, "showmigrations", "nowhere", form)
        assert result.code == 2
        assert "'nowhere'" in result.err


@pytest.mark.parametrize("command", OURS)
def test_a_database_without_tables_is_no_error(history: History, command: str) -> None:
    history.have("users: 0001")
    assert run(history, command).code == 0
    assert "django_migrations" not in history.tables()


# showmigrations


def sections(result: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    label = ""
    for line in result.out.splitlines():
        if line.startswith(" "):
            found[label].append(line.strip())
        else:
            label = line
            found[label] = []
    del found["django_rewind"]
    return found


def test_showmigrations_lists_ghosts(ghost: History) -> None:
    assert sections(run(ghost, "showmigrations")) == {
        "blog": ["[X] 0001"],
        "users": ["[X] 0001", "[X] 0002_prefs (ghost: its code is stored)"],
    }


def test_showmigrations_dates_ghosts_like_files(ghost: History) -> None:
    shown = run(ghost, "showmigrations", "users", verbosity=2).out
    date = r"\(applied at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)"
    assert re.search(rf"\[X\] 0001 {date}\n", shown)
    assert re.search(rf"\[X\] 0002_prefs \(ghost: its code is stored\) {date}\n", shown)


def test_showmigrations_says_if_a_ghost_is_not_stored(ghost: History) -> None:
    forget_code("users.0002_prefs")
    shown = sections(run(ghost, "showmigrations"))
    assert shown["users"][1] == "[X] 0002_prefs (ghost: not stored)"


def test_showmigrations_lists_ghosts_of_apps_that_are_gone(users: History) -> None:
    users.install(INSTALLED_APPS=["django_rewind", "blog"])
    users.write("blog.0001")
    gone = ["[X] 0001", "[X] 0002_prefs"]
    stored = " (ghost: its code is stored)"
    shown = sections(run(users, "showmigrations"))
    assert shown["users"] == [line + stored for line in gone]
    assert run(users, "showmigrations", "users").out.splitlines() == [
        "users",
        *[f" {line}{stored}" for line in gone],
    ]
    assert run(users, "showmigrations", "users", "--plan").out.splitlines() == [
        f"[X]  users.{name}{stored}" for name in ["0001", "0002_prefs"]
    ]


def test_showmigrations_of_some_apps_keeps_their_order(ghost: History) -> None:
    lines = run(ghost, "showmigrations", "users", "blog").out.splitlines()
    assert lines == [
        "users",
        " [X] 0001",
        " [X] 0002_prefs (ghost: its code is stored)",
        "blog",
        " [X] 0001",
    ]
    assert run(ghost, "showmigrations", "blog").out == "blog\n [X] 0001\n"


def test_an_app_that_has_only_ghosts_is_not_said_to_have_no_migrations(
    ghost: History,
) -> None:
    ghost.migrate("users", "0001")
    ghost.lose("blog.0001")
    assert run(ghost, "showmigrations", "blog").out.splitlines() == [
        "blog",
        " [X] 0001 (ghost: its code is stored)",
    ]


def test_showmigrations_of_an_app_without_migrations_is_as_in_django(
    ghost: History,
) -> None:
    (ghost.folder / "plain").mkdir()
    (ghost.folder / "plain" / "__init__.py").touch()
    ghost.labels.append("plain")
    ghost.install()
    assert run(ghost, "showmigrations", "plain").out == "plain\n (no migrations)\n"
    assert "plain" not in run(ghost, "showmigrations").out


def test_showmigrations_plan_lists_ghosts(ghost: History) -> None:
    lines = run(ghost, "showmigrations", "--plan").out.splitlines()
    assert [line for line in lines if "django_rewind" not in line] == [
        "[X]  users.0001",
        "[X]  blog.0001",
        "[X]  users.0002_prefs (ghost: its code is stored)",
    ]
    assert run(ghost, "showmigrations", "--plan", "blog").out.splitlines() == [
        "[X]  users.0001",
        "[X]  blog.0001",
    ]


def test_showmigrations_without_ghosts_is_as_in_django(users: History) -> None:
    shown = run(users, "showmigrations").out
    users.migrate("users", "0001")
    assert " [X] 0002_prefs\n" in shown
    assert " [ ] 0002_prefs\n" in run(users, "showmigrations").out


def test_showmigrations_looks_at_the_alias_that_it_is_given(ghost: History) -> None:
    assert "ghost" not in run(ghost, "showmigrations", "--database=other").out


# sqlmigrate


def test_sqlmigrate_of_a_ghost_prints_what_its_file_would(users: History) -> None:
    users.write(
        "users.0003_more",
        """
        migrations.AddField("thing", "more", models.TextField(default="x")),
        migrations.AddIndex("thing", models.Index(fields=["name"], name="by_name")),
        migrations.RunSQL("SELECT 1", "SELECT 2"),
        """,
        [("users", "0002_prefs")],
    )
    users.migrate()
    forwards = run(users, "sqlmigrate", "users", "0003_more")
    backwards = run(users, "sqlmigrate", "users", "0003_more", "--backwards")
    assert "SELECT 1" in forwards.out
    assert "DROP" in backwards.out
    users.lose("users.0002_prefs", "users.0003_more")
    assert run(users, "sqlmigrate", "users", "0003_more") == forwards
    assert run(users, "sqlmigrate", "users", "0003", "--backwards") == backwards


def test_sqlmigrate_of_a_file_is_unchanged(ghost: History) -> None:
    for args in [("users", "0001"), ("blog", "0001", "--backwards")]:
        stock = run(ghost, sqlmigrate.Command(), *args)
        assert "TABLE" in stock.out
        assert run(ghost, "sqlmigrate", *args) == stock


def test_sqlmigrate_of_an_unreachable_ghost_says_why(ghost: History) -> None:
    alter("users.0002_prefs", source_code="x = 1")
    with pytest.raises(CommandError) as refusal:
        run(ghost, "sqlmigrate", "users", "0002_prefs")
    assert str(refusal.value).startswith("Cannot load users.0002_prefs.")
    assert "its stored code was altered" in str(refusal.value)


# Looking never runs stored code

LOOKING = [
    ("show_stored_migrations",),
    ("show_stored_migrations", "users", "--format=json"),
    ("verify_migrations",),
    ("verify_migrations", "--diff", "--strict"),
    ("verify_migrations", "users", "--diff", "--format=json"),
    ("backfill_migration_code", "--dry-run"),
    ("backfill_migration_code",),
    ("showmigrations",),
    ("showmigrations", "users"),
    ("showmigrations", "--plan"),
    ("showmigrations", "users", "--plan"),
    ("check", "--tag=database", "--database=default"),
    ("makemigrations", "users", "--empty", "--dry-run"),
    ("sqlmigrate", "users", "0001"),
    ("migrate", "--plan"),
    ("migrate", "--check"),
    ("migrate",),
    ("migrate", "users"),
    ("migrate", "users", "0001", "--fake", "--plan"),
]


@pytest.fixture
def planted(ghost: History, tmp_path: Path) -> Path:
    """The file that the stored code would leave: a ghost's, and an edited file's."""
    marker = tmp_path / "it-ran"
    for migration in ["users.0002_prefs", "users.0001"]:
        label, name = migration.split(".")
        text = MigrationCode.objects.get(
            app_label=label, migration_name=name
        ).source_code
        plant(migration, f"open({str(marker)!r}, 'w').close()\n{text}")
    return marker


def test_looking_never_runs_stored_code(ghost: History, planted: Path) -> None:
    for command, *args in LOOKING:
        run(ghost, command, *args)
        assert not planted.exists(), (command, *args)


def test_a_rollback_and_its_plan_run_stored_code(ghost: History, planted: Path) -> None:
    run(ghost, "migrate", "users", "0001", "--plan")
    assert planted.exists()


# Hostile content

# What a terminal acts upon: escape sequences, bidirectional controls, a new line
# that pretends to be one of ours.
HARMFUL = re.compile("[\x07\x08\x0d\x1b\x7f\x9b\u061c\u200f\u202e\u2066\u2069]")
HOSTILE = "0002_\x1b[31m\x9b2J\x07\u202e\u2066\u061c\x7f<script>alert(1)</script>"
FORGED = "0002_x\nforged.0001"


def record_hostile(name: str, *, stored: bool) -> None:
    MigrationRecorder.Migration.objects.create(app="users", name=name)
    if stored:
        code = MigrationCode(app_label="users", migration_name=name)
        set_source(code, f"# {HOSTILE}\nraise ValueError({HOSTILE!r})\n")
        signing.sign(code)
        code.signature = code.signature[::-1]
        code.save()


HOSTILE_COMMANDS = [
    ("show_stored_migrations",),
    ("show_stored_migrations", "--format=json"),
    ("verify_migrations", "--diff"),
    ("verify_migrations", "--format=json"),
    ("backfill_migration_code",),
    ("showmigrations",),
    ("showmigrations", "--plan"),
    ("check", "--tag=database", "--database=default"),
    ("migrate",),
    ("migrate", "users", "0001"),
    ("migrate", "users", "0001", "--fake", "--plan"),
    ("sqlmigrate", "users", "0002"),
]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("name", [HOSTILE, FORGED], ids=["controls", "new line"])
def test_hostile_names_are_printed_harmlessly(
    history: History, capfd: pytest.CaptureFixture[str], name: str, stored: bool
) -> None:
    history.have("users: 0001")
    history.migrate()
    record_hostile(name, stored=stored)
    harmful = []
    for args in HOSTILE_COMMANDS:
        try:
            shown = run(history, *args).both
        except CommandError as error:
            shown = str(error)
        shown += "".join(capfd.readouterr())
        if HARMFUL.search(shown) or "\nforged.0001" in shown:
            harmful.append(" ".join(args))
    assert harmful == []


def test_hostile_source_is_shown_harmlessly_in_a_diff(users: History) -> None:
    text = users.path("users.0002_prefs").read_text()
    plant("users.0002_prefs", f"{text}\n# {HOSTILE}\nx = 1\n")
    shown = verify(users, "--diff").out
    assert not HARMFUL.search(shown)
    assert "-# 0002_\\x1b[31m\\x9b2J\\x07\\u202e\\u2066\\u061c\\x7f<script>" in shown
    found = verify(users, "--diff", "--format=json")
    assert not HARMFUL.search(found.out)
    assert any(HOSTILE in row.get("diff", "") for row in found.json)


def test_hostile_facts_are_shown_harmlessly(ghost: History) -> None:
    plant("users.0002_prefs", f"raise ValueError({HOSTILE!r})")
    for args in [("migrate", "users", "0001"), ("sqlmigrate", "users", "0002")]:
        with pytest.raises(CommandError) as refusal:
            run(ghost, *args)
        assert "its stored code does not load: ValueError" in str(refusal.value)
        assert not HARMFUL.search(str(refusal.value))


def test_a_hostile_gap_is_shown_harmlessly(ghost: History) -> None:
    alter("users.0002_prefs", gap=HOSTILE)
    for args in [("verify_migrations",), ("show_stored_migrations",)]:
        assert not HARMFUL.search(run(ghost, *args).both)


def test_what_a_terminal_cannot_show_is_escaped(users: History) -> None:
    class Ascii(StringIO):
        encoding = "ascii"

        def write(self, text: str) -> int:
            text.encode("ascii")
            return super().write(text)

    users.write("users.0003_e", text=MIGRATION_WITH_AN_ACCENT)
    users.migrate()
    out = Ascii()
    call_command("show_stored_migrations", "users", "0003_e", stdout=out, no_color=True)
    assert "operations = []  # \\xe9" in out.getvalue()
    users.write("users.0003_e", text=MIGRATION_WITH_AN_ACCENT.replace("[]", "[][:]"))
    with pytest.raises(SystemExit):
        call_command("verify_migrations", diff=True, stdout=out, no_color=True)
    assert "+    operations = [][:]  # \\xe9" in out.getvalue()


MIGRATION_WITH_AN_ACCENT = """\
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("users", "0002_prefs")]
    operations = []  # é
"""
