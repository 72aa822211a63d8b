"""What is written is what was stored, and only where it was told to."""

from __future__ import annotations

import json
import os
import re
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_rewind import export, signing, source
from django_rewind.archive import NeededCode
from django_rewind.exceptions import RewindError, Unreachable
from django_rewind.export import File
from django_rewind.models import MigrationCode
from tests.history import History
from tests.test_commands import HARMFUL, HOSTILE, Result, alter, plant, run

COMMAND = "export_stored_migrations"


@pytest.fixture
def users(history: History) -> History:
    """Applied and stored: users.0001 and 0002_prefs."""
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    return history


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "put"


def write(history: History, folder: Path, *args: str) -> Result:
    return run(history, COMMAND, "users", *args, f"--output={folder}")


def written(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("latin-1")
        for path in folder.rglob("*")
        if path.is_file()
    }


def resign(name: str = "0002_prefs", **fields: Any) -> None:
    """Alter a row, and sign it rightly."""
    code = MigrationCode.objects.get(app_label="users", migration_name=name)
    for field, value in fields.items():
        setattr(code, field, value)
    signing.sign(code)
    code.save()


def need(texts: dict[str, str], name: str = "0002_prefs") -> None:
    for text in set(texts.values()):
        NeededCode._default_manager.create(digest=source.digest(text), source_code=text)
    resign(name, closure=json.dumps({n: source.digest(t) for n, t in texts.items()}))


def code(**fields: Any) -> MigrationCode:
    fields = {"app_label": "users", "migration_name": "0001", **fields}
    row = MigrationCode(source_code=fields.pop("source_code", "x = 1\n"), **fields)
    signing.sign(row)
    return row


def test_files_are_written_as_they_were(users: History, folder: Path) -> None:
    result = write(users, folder)
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        f"Wrote {folder}/users/migrations/0001.py\n"
        f"Wrote {folder}/users/migrations/0002_prefs.py\n"
    )
    assert written(folder) == {
        f"users/migrations/{name}.py": users.path(f"users.{name}").read_text()
        for name in ["0001", "0002_prefs"]
    }


def test_a_ghost_that_was_exported_is_one_no_longer(users: History) -> None:
    users.lose("users.0002_prefs")
    assert write(users, users.folder, "0002").code == 0
    users.forget_modules()
    assert run(users, "verify_migrations", "--strict").code == 0


def test_a_name_or_a_prefix_chooses_one(users: History, folder: Path) -> None:
    write(users, folder, "0002")
    assert list(written(folder)) == ["users/migrations/0002_prefs.py"]
    with pytest.raises(CommandError, match=r"'0009'. Stored: 0001, 0002_prefs\."):
        write(users, folder, "0009")


def test_without_an_app_everything_is_written(users: History, folder: Path) -> None:
    run(users, COMMAND, f"--output={folder}")
    assert "django_rewind/migrations/0001_initial.py" in written(folder)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\r\ny = 2\rz = 3\n\n",
        "x = 1",
        "# ünïcödé \U0001f600\n",
        "",
        "\n\n\n\t \f\n",
    ],
)
def test_text_is_written_exactly(users: History, folder: Path, text: str) -> None:
    plant("users.0002_prefs", text)
    write(users, folder, "0002")
    path = folder / "users/migrations/0002_prefs.py"
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "shift_jis"])
def test_a_declared_encoding_is_kept(
    users: History, folder: Path, encoding: str
) -> None:
    text = f"#!/usr/bin/python\n# -*- coding: {encoding} -*-\nx = 'ア'\n"
    if encoding in ("latin-1", "cp1252"):
        text = text.replace("ア", "é")
    plant("users.0002_prefs", text)
    write(users, folder, "0002")
    data = (folder / "users/migrations/0002_prefs.py").read_bytes()
    assert data == text.encode(encoding)
    assert source.decode(data) == text


@pytest.mark.parametrize(
    "text",
    [
        "# coding: latin-1\nx = 'ア'\n",
        "# coding: nonsense\n",
        "# coding: rot13\n",
        "# coding: hex\n",
        "# coding: utf-16\n",
        "# coding: utf-7\nx = 1 # +AAo-import os\n",
    ],
)
def test_text_that_would_read_differently_is_left_out(
    users: History, folder: Path, text: str
) -> None:
    try:
        data = export.encode(text)
    except Unreachable:
        pass
    else:
        assert source.decode(data) == text
        return
    plant("users.0002_prefs", text)
    result = write(users, folder)
    assert result.code == 1
    assert result.err == (
        "Left out users.0002_prefs: it cannot be written in the encoding that it "
        "declares. Print its code with --stdout.\n"
    )
    assert list(written(folder)) == ["users/migrations/0001.py"]


# Files that are there


def test_equal_files_are_left(users: History, folder: Path) -> None:
    write(users, folder)
    path = folder / "users/migrations/0001.py"
    os.utime(path, (1, 1))
    result = write(users, folder)
    assert result.code == 0
    assert result.out.startswith(f"Unchanged {path}\n")
    assert path.stat().st_mtime == 1


def test_a_different_file_stands_in_the_way_of_all(
    users: History, folder: Path
) -> None:
    path = folder / "users/migrations/0002_prefs.py"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(CommandError) as refusal:
        write(users, folder)
    assert str(refusal.value) == (
        f"Nothing was written to '{folder}'.\n"
        "  users/migrations/0002_prefs.py: it exists and is different. --force "
        "overwrites it."
    )
    assert written(folder) == {"users/migrations/0002_prefs.py": "mine"}
    assert write(users, folder, "--force").code == 0
    assert path.read_bytes() == users.path("users.0002_prefs").read_bytes()


def test_a_file_instead_of_a_folder_stands_in_the_way(
    users: History, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "users").write_text("mine")
    with pytest.raises(CommandError, match="what should be its folder is a file"):
        write(users, folder, "--force")
    with pytest.raises(CommandError, match="what should be its folder is a file"):
        write(users, folder / "users")


def test_a_folder_instead_of_a_file_stands_in_the_way(
    users: History, folder: Path
) -> None:
    (folder / "users/migrations/0001.py").mkdir(parents=True)
    with pytest.raises(CommandError, match="there is something that is no file"):
        write(users, folder, "--force")
    assert written(folder) == {}


@pytest.mark.parametrize("link", ["users", "users/migrations/0001.py"])
def test_a_symbolic_link_does_not_lead_out(
    users: History, folder: Path, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = folder / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / "x" if link.endswith("py") else outside)
    with pytest.raises(CommandError, match="a symbolic link leads out of the folder"):
        write(users, folder, "--force")
    assert list(outside.iterdir()) == []


def test_a_symbolic_link_in_a_circle_is_named(users: History, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "users").symlink_to(folder / "users")
    with pytest.raises(CommandError, match="Nothing was written to"):
        write(users, folder)


def test_a_file_that_came_up_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    (target,) = export.prepare([File(Path("x.py"), b"x")], tmp_path, force=False)
    target.path.write_text("mine")
    with pytest.raises(RewindError, match="could not be written"):
        export.write(target)
    assert target.path.read_text() == "mine"


# Rows that cannot be exported


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"source_code": "import os"}, "Do not trust it"),
        ({"signature": ""}, "'manage.py trust_stored_migrations users 0002_prefs'"),
        ({"module_name": "x"}, "Do not trust it"),
    ],
)
def test_what_does_not_verify_is_left_out(
    users: History, folder: Path, fields: dict[str, str], remedy: str
) -> None:
    alter("users.0002_prefs", **fields)
    result = write(users, folder, "--force")
    assert result.code == 1
    assert result.err.startswith("Left out users.0002_prefs: its stored code ")
    assert remedy in result.err
    assert list(written(folder)) == ["users/migrations/0001.py"]
    with pytest.raises(CommandError, match=re.escape(remedy)):
        run(users, COMMAND, "users", "0002", "--stdout")


def test_a_gap_is_left_out(users: History, folder: Path) -> None:
    resign(source_code="", gap="it has no source")
    result = write(users, folder)
    assert result.code == 1
    assert "it was stored without code: it has no source." in result.err
    with pytest.raises(CommandError, match="it was stored without code"):
        run(users, COMMAND, "users", "0002", "--stdout")


@pytest.mark.parametrize(
    "module",
    [
        "..etc.passwd",
        "/etc/passwd",
        "users/../../x",
        "a.b/c",
        "a.b\\c",
        "C:.x",
        "a..b",
        "a.",
        ".a",
        "a.b\0",
        "a.b\nc",
        "a.b\u202ec",
        "a. b",
        "a.b ",
        "~.x",
        "-rf.x",
        "a.con",
        "NUL.x",
        "a.lpt1",
        "a." + "x" * 201,
        "a.\ud800",
    ],
)
def test_no_module_name_leads_out_of_the_folder(module: str) -> None:
    files, (problem,) = export.collect([code(module_name=module)])
    assert files == []
    assert "cannot be that of a file." in problem.fact
    assert not HARMFUL.search(str(problem))


@pytest.mark.parametrize(
    "name", ["../x", "/x", "..", ".", "a/../x", "x\0", "con", ".x", "x\ny", ""]
)
def test_no_migration_name_leads_out_of_the_folder(name: str) -> None:
    rows = [
        code(app_label="gone", migration_name=name),
        code(app_label=name, migration_name="0001"),
        code(app_label="gone", migration_name=name, module_name="a.b"),
        code(app_label=name, module_name="a.c"),
    ]
    files, problems = export.collect(rows)
    assert files == []
    assert len(problems) == 4


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/x",
        "a/../x",
        "a//x",
        "a/.x",
        "a/x\0",
        "a/con.txt",
        "a\\..\\x/y",
        "a/x.",
    ],
)
def test_no_data_file_leads_out_of_the_folder(name: str) -> None:
    row = code(module_name="a.b", closure=json.dumps({name: "x"}))
    row.needed = {name: "x"}
    assert export.collect([row])[0] == []


def test_names_of_real_migrations_are_written() -> None:
    names = ["0001_initial", "0002_auto copy", "0003_add-field", "0004_é", "x"]
    rows = [code(migration_name=n, module_name=f"a.migrations.{n}") for n in names]
    files, problems = export.collect(rows)
    assert problems == []
    assert [file.path.stem for file in files] == names


def test_an_app_that_is_gone_has_the_usual_path(users: History, folder: Path) -> None:
    resign(module_name="")
    users.install(INSTALLED_APPS=["django_rewind"])
    write(users, folder, "0002")
    assert list(written(folder)) == ["users/migrations/0002_prefs.py"]


def test_two_with_one_file_and_other_code_are_named(
    users: History, folder: Path
) -> None:
    same = code(module_name="a.squash")
    squash = code(module_name="a.squash", migration_name="squash")
    other = code(module_name="a.Squash", migration_name="0002", source_code="other")
    files, (problem,) = export.collect([same, squash, other])
    assert [file.data for file in files] == [b"x = 1\n"]
    assert problem.migration_name == "0002"


# The code that they need


def test_needed_code_is_written_apart(users: History, folder: Path) -> None:
    need(
        {
            "users": "in the package\n",
            "users.__init__": "",
            "users.helpers": "# coding: latin-1\nx = 'é'\n",
            "other.__init__": "",
            "users/data/rows.json": "{'é'}\r\n",
        }
    )
    assert write(users, folder, "0002").code == 0
    found = written(folder)
    del found["users/migrations/0002_prefs.py"]
    apart = "needed/users.0002_prefs"
    assert found == {
        f"{apart}/users/__init__.py": "in the package\n",
        f"{apart}/users/helpers.py": "# coding: latin-1\nx = 'é'\n",
        f"{apart}/other/__init__.py": "",
        f"{apart}/users/data/rows.json": "{'Ã©'}\r\n",
    }


def test_needed_code_that_was_altered_is_named(users: History, folder: Path) -> None:
    need({"users.helpers": "x = 1\n"})
    NeededCode._default_manager.update(source_code="import os\n")
    result = write(users, folder, "0002")
    assert result.code == 1
    assert "the code that it needs, users.helpers, is missing or" in result.err
    assert not folder.exists()


# --stdout


def test_stdout_prints_the_text_exactly(users: History) -> None:
    text = f"x = 1\r\n# {HOSTILE}\ny = 2"
    plant("users.0002_prefs", text)
    assert run(users, COMMAND, "users", "0002", "--stdout").out == text


def test_a_pipe_gets_the_bytes_of_the_file(users: History) -> None:
    text = "# coding: latin-1\r\nx = 'é'\n"
    plant("users.0002_prefs", text)
    pipe = TextIOWrapper(BytesIO(), "ascii", newline="\r\n")
    call_command(COMMAND, "users", "0002", "--stdout", stdout=pipe)
    assert pipe.buffer.getvalue() == text.encode("latin-1")


def test_a_terminal_gets_nothing_that_it_would_act_upon(users: History) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    plant("users.0002_prefs", f"# {HOSTILE}\n")
    terminal = Terminal()
    call_command(COMMAND, "users", "0002", "--stdout", stdout=terminal, no_color=True)
    assert terminal.getvalue().startswith("# 0002_\\x1b[31m")
    assert not HARMFUL.search(terminal.getvalue())


def test_stdout_takes_one_migration(users: History) -> None:
    with pytest.raises(CommandError, match="takes one migration, and 2 are chosen"):
        run(users, COMMAND, "users", "--stdout")


def test_one_destination_is_needed(users: History, folder: Path) -> None:
    with pytest.raises(CommandError, match="--output --print/--stdout is required"):
        run(users, COMMAND, "users", "0002")
    with pytest.raises(CommandError, match="not allowed with"):
        write(users, folder, "0002", "--stdout")


# What is there, and what is not


def test_another_database_is_not_looked_at(users: History, folder: Path) -> None:
    result = run(users, COMMAND, "--database=other", f"--output={folder}")
    assert (result.code, result.out) == (0, "No migrations are stored.\n")
    assert not folder.exists()
    with pytest.raises(CommandError, match="'nowhere'"):
        run(users, COMMAND, "nowhere", f"--output={folder}")


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(
    "column", ["source_code", "module_name", "replaces", "dependencies", "closure"]
)
def test_bytes_in_a_text_column_are_left_out(
    users: History, folder: Path, column: str
) -> None:
    users.sql(
        f"UPDATE django_migrations_code SET {column} = %s "
        "WHERE migration_name = '0002_prefs'",
        [b"\xff\x00/../x"],
    )
    assert write(users, folder).code == 1
    assert list(written(folder)) == ["users/migrations/0001.py"]


def test_hostile_facts_are_shown_harmlessly(users: History, folder: Path) -> None:
    resign(module_name=f"a.{HOSTILE}\nforged")
    result = write(users, folder)
    assert result.code == 1
    assert not HARMFUL.search(result.both)
    assert "\nforged" not in result.both


def test_a_huge_row_is_written_in_full(users: History, folder: Path) -> None:
    text = "x = 1  # <script>\n" * 200_000
    plant("users.0002_prefs", text)
    write(users, folder, "0002")
    assert (folder / "users/migrations/0002_prefs.py").read_text() == text


def test_exporting_runs_nothing_that_is_stored(
    users: History, folder: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    text = f"open({str(marker)!r}, 'w').close()\n"
    plant("users.0002_prefs", text)
    need({"users.helpers": text})
    before = set(sys.modules)
    write(users, folder)
    run(users, COMMAND, "users", "0002", "--stdout")
    assert len(written(folder)) == 3
    assert not marker.exists()
    assert not {name for name in set(sys.modules) - before if "users" in name}
