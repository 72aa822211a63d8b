"""A migration on disk: its text, its meaning, and which there are."""

from __future__ import annotations

import hashlib
import py_compile
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_rewind import source
from django_rewind.exceptions import SourceUnavailable
from django_rewind.parsing import parse
from tests.history import MIGRATION, History

BODY = "class Migration:\n    dependencies = []\n    operations = []\n"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[History]:
    """Histories without a database."""
    with History(tmp_path) as history:
        yield history


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "# plain\n"),
        ("utf-8", "# two\r\n# line endings\r# and none at the end"),
        ("utf-8", "NAME = 'Zoë \N{SNOWMAN} \U0001f40d'\n"),
        ("latin-1", "# -*- coding: latin-1 -*-\nNAME = 'Zoë'\n"),
        ("cp1252", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nE = '€'\n"),
        ("utf-8", "\ufeff# after a byte order mark: ë\n"),
        ("utf-8", "# a form feed \f and a tab \t stay\n"),
    ],
)
def test_the_text_is_exact(tmp_path: Path, encoding: str, text: str) -> None:
    data = text.encode(encoding)
    assert source.decode(data) == text
    # What compiles to the same, with the declared encoding or without.
    parsed = compile(parse(text), "b", "exec")
    assert compile(data, "a", "exec").co_consts == parsed.co_consts


def test_a_module_is_read_as_it_is_on_disk(files: History) -> None:
    path = files.write("src_plain.0001", text="# Zoë\r\n" + BODY)
    path.write_bytes(("# Zoë\r\n" + BODY).encode())
    assert source.read("src_plain.migrations.0001") == "# Zoë\r\n" + BODY


def test_the_digest_is_of_the_text() -> None:
    assert source.digest("Zoë\r\n") == hashlib.sha256("Zoë\r\n".encode()).hexdigest()


@pytest.mark.parametrize("module", ["", "src_none.migrations.0001", "time", "django.x"])
def test_what_has_no_source_says_so(module: str) -> None:
    with pytest.raises(SourceUnavailable):
        source.read(module)


def test_a_file_in_a_zip_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    text = "# Zoë\r\n" + BODY
    archive = tmp_path / "apps.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in ["src_zip/__init__.py", "src_zip/migrations/__init__.py"]:
            file.writestr(path, "")
        file.writestr("src_zip/migrations/0001.py", text)
    monkeypatch.syspath_prepend(str(archive))
    assert source.read("src_zip.migrations.0001") == text
    with override_settings(INSTALLED_APPS=["src_zip"]):
        assert source.Disk()["src_zip"] == {"0001"}
        assert source.Disk().has(("src_zip", "0001"))


def test_bytecode_alone_is_a_migration_without_source(files: History) -> None:
    files.have("src_bytes: 0001")
    path = files.path("src_bytes.0001")
    py_compile.compile(str(path), cfile=str(path.with_suffix(".pyc")))
    path.unlink()
    assert source.Disk()["src_bytes"] == {"0001"}
    assert source.Disk().has(("src_bytes", "0001"))
    with pytest.raises(SourceUnavailable, match="has no source"):
        source.read("src_bytes.migrations.0001")
    assert not source.is_readable("src_bytes.migrations.0001")


BEFORE = MIGRATION.format(
    dependencies="[('users', '0001')]", operations="        A, B,"
)


@pytest.mark.parametrize(
    "after",
    [
        "# a comment\n" + BEFORE,
        '"""A docstring."""\n' + BEFORE,
        BEFORE.replace("    dep", '    """A docstring."""\n    dep'),
        BEFORE.replace("    ", "\t"),
        BEFORE.replace("\n", "\r\n"),
        BEFORE.replace("'", '"'),
        BEFORE.replace("A, B,", "A,\n        B  # b"),
        BEFORE.replace("    dep", "    replaces = [('users', '0001_a')]\n    dep"),
        BEFORE.replace(
            "    dep", "    replaces: list = [('users', '0001_a')]\n    dep"
        ),
    ],
)
def test_it_means_the_same(after: str) -> None:
    assert after != BEFORE
    assert source.means_the_same(BEFORE, after)
    assert source.means_the_same(after, BEFORE)


def test_the_prefix_u_means_nothing() -> None:
    assert source.means_the_same(BEFORE, BEFORE.replace("'users'", "u'users'"))


def test_a_docstring_means_the_same_as_pass() -> None:
    text = "def reverse(apps, schema_editor):\n    {}\n"
    assert source.means_the_same(
        text.format('"""Nothing to do."""'), text.format("pass")
    )


@pytest.mark.parametrize(
    "after",
    [
        BEFORE.replace("A, B", "B, A"),
        BEFORE.replace("A, B", "A"),
        BEFORE.replace("0001", "0002"),
        BEFORE.replace("    dep", "    atomic = False\n    dep"),
        BEFORE + "    'not a docstring'\n    replaced = []\n",
        "import other\n" + BEFORE,
        "def Migration(:",
        "'\0'",
        "",
    ],
)
def test_it_does_not_mean_the_same(after: str) -> None:
    assert not source.means_the_same(BEFORE, after)
    assert not source.means_the_same(after, BEFORE)


def test_what_does_not_parse_means_only_itself() -> None:
    assert source.means_the_same("def f(:", "def f(:")
    assert not source.means_the_same("def f(:", "def f( :")


@pytest.mark.parametrize("deep", ["(" * 5000, "-" * 5000 + "1", "-" * 100_000 + "1"])
def test_what_is_too_deep_to_parse_is_no_error(deep: str) -> None:
    assert not source.means_the_same(deep, deep + " ")
    assert source.literal_dependencies(deep) is None


@pytest.mark.parametrize(
    ("dependencies", "expected"),
    [
        (
            "[('users', '0001'), ('blog', '0002')]",
            [("users", "0001"), ("blog", "0002")],
        ),
        ("(('users', '0001'),)", [("users", "0001")]),
        ("[swappable_dependency(X), ('users', '0001')]", [("users", "0001")]),
        ("[('users',), 3, ('users', '0001')]", [("users", "0001")]),
        ("[]", []),
    ],
)
def test_dependencies_are_read_without_running(
    dependencies: str, expected: list[tuple[str, str]]
) -> None:
    text = f"raise Exception\nclass Migration:\n    dependencies = {dependencies}\n"
    assert source.literal_dependencies(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class Migration:\n    operations = []\n", []),
        ("class Migration:\n    dependencies: list = [('a', 'b')]\n", [("a", "b")]),
        ("class Other:\n    dependencies = [('a', 'b')]\n", None),
        ("def Migration(:", None),
        ("'\0'", None),
    ],
)
def test_dependencies_of_other_texts(
    text: str, expected: list[tuple[str, str]] | None
) -> None:
    assert source.literal_dependencies(text) == expected


def test_the_disk_lists_what_django_would_load(files: History) -> None:
    files.have("src_many: 0001 > 0002_b")
    folder = files.path("src_many.0001").parent
    others = ["_private", "~backup", "dotted.name", "", "package"]
    for name in others:
        (folder / f"{name}.py").write_text(BODY)
    (folder / "notes.txt").write_text(BODY)
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text(BODY)
    disk = source.Disk()
    assert disk["src_many"] == {"0001", "0002_b"}
    assert disk.has(("src_many", "0001"))
    for name in ["0003", "notes", *others]:
        assert not disk.has(("src_many", name))
    assert "src_many" in set(disk)
    assert len(disk) == len(list(disk))


def test_a_folder_without_init_holds_no_migrations(files: History) -> None:
    files.have("src_namespace: 0001")
    (files.path("src_namespace.0001").parent / "__init__.py").unlink()
    files.forget_modules()
    assert source.Disk()["src_namespace"] == frozenset()


def test_an_app_without_migrations_has_none(files: History) -> None:
    (files.folder / "src_empty").mkdir()
    (files.folder / "src_empty" / "__init__.py").touch()
    files.labels.append("src_empty")
    files.install()
    assert source.Disk()["src_empty"] == frozenset()


def test_a_migrations_module_that_is_no_package_holds_none(files: History) -> None:
    package = files.folder / "src_module"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "migrations.py").touch()
    files.labels.append("src_module")
    files.install()
    assert source.Disk()["src_module"] == frozenset()


def test_an_app_that_is_not_installed_has_none() -> None:
    assert source.Disk()["nowhere"] == frozenset()
    assert source.module_name("nowhere", "0001") is None


def test_migration_modules_are_obeyed(files: History) -> None:
    files.have("src_moved: 0001; src_elsewhere: 0001 > 0002")
    with override_settings(MIGRATION_MODULES={"src_moved": "src_elsewhere.migrations"}):
        assert source.Disk()["src_moved"] == {"0001", "0002"}
        assert source.module_name("src_moved", "0002") == (
            "src_elsewhere.migrations.0002"
        )
    with override_settings(MIGRATION_MODULES={"src_moved": None}):
        assert source.Disk()["src_moved"] == frozenset()
        assert source.module_name("src_moved", "0001") is None


def test_what_a_broken_module_replaces_is_unknown(files: History) -> None:
    files.have("src_broken: 0001")
    files.write("src_broken.0002", text="raise SystemError")
    files.write("src_broken.0003", text="NOTHING = 1")
    assert source.replaces("src_broken.migrations.0002") == []
    assert source.replaces("src_broken.migrations.0003") == []
    assert source.replaces("src_broken.migrations.0004") == []
    assert "src_broken.migrations.0002" not in sys.modules
