"""What is stored for a migration."""

from __future__ import annotations

import json
import platform
import py_compile
import sys
import zipfile
from pathlib import Path
from unittest import mock

import django
import pytest
from django.apps import apps
from django.test import override_settings

from django_rewind import capture, signing, source
from django_rewind.models import MigrationCode, StoredCode
from tests.history import History
from tests.test_recorder import stored

TEXT = """\
# coding: {encoding}
from django.db import migrations


class Migration(migrations.Migration):
    operations = [migrations.RunSQL("SELECT 1 -- {snake}", "SELECT 2")]
"""


def capture_it(app_label: str, name: str) -> MigrationCode:
    return capture.capture(app_label, name, StoredCode.Captured.AT_APPLY)


def test_everything_that_tells_where_it_came_from(history: History) -> None:
    history.have("users: 0001")
    history.migrate("users")
    code = stored()["users", "0001"]
    text = history.path("users.0001").read_text()
    assert code.source_code == text
    assert code.size == len(text.encode())
    assert code.digest == source.digest(text)
    assert code.captured == "apply"
    assert code.module_name == "users.migrations.0001"
    assert code.replaces == "[]"
    assert code.django_version == django.get_version()
    assert code.python_version == platform.python_version()
    assert code.distribution == ""
    assert code.gap == ""
    signing.verify(code)


def test_an_installed_app_is_stored_with_its_distribution() -> None:
    assert capture_it("auth", "0001_initial").distribution == (
        f"Django {django.get_version()}"
    ), "Django's own apps are installed here"


def test_it_names_the_distribution_whatever_the_metadata(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.have("capdist: 0001; captop: 0001")
    for name, file, text in [
        ("capdist", "RECORD", "capdist/__init__.py,sha256=x,0\n"),
        ("captop", "top_level.txt", "captop\n"),
    ]:
        info = history.folder / f"{name}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: my-{name}\nVersion: 2.5\n")
        (info / file).write_text(text)
    # Asked once for each process.
    capture._distributions.cache_clear()
    capture._distribution_of_app.cache_clear()
    try:
        assert capture_it("capdist", "0001").distribution == "my-capdist 2.5"
        assert capture_it("captop", "0001").distribution == "my-captop 2.5"
    finally:
        capture._distributions.cache_clear()
        capture._distribution_of_app.cache_clear()


@pytest.mark.parametrize(
    ("encoding", "snake"),
    [
        ("utf-8", "\N{SNAKE}"),
        ("latin-1", "Zoë"),
        ("cp1252", "€"),
        ("koi8-r", "Привет"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_text_survives_the_database(
    history: History, encoding: str, snake: str, newline: str
) -> None:
    history.have("users: 0001")
    text = TEXT.format(encoding=encoding, snake=snake).replace("\n", newline)
    path = history.path("users.0001")
    path.write_bytes(text.encode(encoding))
    history.migrate("users")
    code = stored()["users", "0001"]
    assert code.source_code == text
    signing.verify(code)
    history.run("verify_migrations", "users")
    path.unlink()
    history.migrate("users", "zero")
    assert history.recorded() == []


def test_a_byte_order_mark_is_a_part_of_the_text(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    path = history.path("users.0002_prefs")
    path.with_name("_names.py").write_text("def fill(apps, schema_editor): pass\n")
    text = "\ufefffrom ._names import fill\n" + path.read_text()
    path.write_bytes(text.encode())
    history.migrate("users")
    code = stored()["users", "0002_prefs"]
    assert code.source_code == text
    assert json.loads(code.closure_gaps) == []
    assert "users.migrations._names" in json.loads(code.closure)
    folder = path.parent.parent.parent / "exported"
    history.run("export_stored_migrations", "users", "0002", f"--output={folder}")
    exported = folder / "users/migrations/0002_prefs.py"
    assert exported.read_bytes() == path.read_bytes()
    # Formatting is no edit.
    path.write_bytes(text.removeprefix("\ufeff").encode())
    history.run("verify_migrations", "users")
    path.with_name("_names.py").unlink()
    history.lose("users.0002_prefs")
    history.migrate("users", "0001")
    assert "prefs" not in history.columns("users_thing")


@pytest.mark.only("mysql")
@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_the_text_survives_a_database_with_an_older_character_set(
    history: History, charset: str
) -> None:
    history.sql(f"ALTER DATABASE CHARACTER SET {charset}")
    history.have("users: 0001")
    text = TEXT.format(encoding="utf-8", snake="\N{SNAKE}")
    history.write("users.0001", text=text)
    history.migrate("users")
    assert stored()["users", "0001"].source_code == text


def test_bytecode_alone_is_a_gap_that_is_named(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.have("users: 0001")
    path = history.path("users.0001")
    py_compile.compile(str(path), cfile=str(path.with_suffix(".pyc")))
    text = path.read_text()
    path.unlink()
    history.migrate()
    assert history.recorded() == ["users.0001"]
    assert not caplog.records
    code = stored()["users", "0001"]
    assert code.gap.endswith("0001.pyc has no source")
    assert code.source_code == ""
    assert "users.0001: it is stored without code" in history.run("verify_migrations")
    with pytest.raises(SystemExit):
        history.run("verify_migrations", strict=True)
    # What it depends on is known all the same, for rollbacks that it may hinder.
    assert code.resolved_dependencies == []
    # As soon as there is a source, it is caught up, and marked as captured later.
    path.write_text(text)
    path.with_suffix(".pyc").unlink()
    assert "Stored the code of 1 migration" in history.migrate()
    code = stored()["users", "0001"]
    assert (code.source_code, code.gap, code.captured) == (text, "", "later")


def make_zip(history: History, *, with_source: bool) -> Path:
    history.have("capzip: 0001")
    history.forget_modules()
    package = history.folder / "capzip"
    archive = history.folder / "apps.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            if not with_source:
                path.rename(path.with_suffix(".txt"))
                compiled = str(path.with_suffix(".pyc"))
                py_compile.compile(str(path.with_suffix(".txt")), cfile=compiled)
                path = Path(compiled)
            file.write(path, path.relative_to(history.folder))
    package.rename(history.folder / "not_a_package")
    return archive


@pytest.mark.parametrize("with_source", [True, False])
def test_a_zip_file_is_never_an_error(
    history: History, caplog: pytest.LogCaptureFixture, with_source: bool
) -> None:
    archive = make_zip(history, with_source=with_source)
    sys.path.append(str(archive))
    try:
        history.install()
        history.migrate()
        output = history.run("verify_migrations")
        history.forget_modules()
    finally:
        sys.path.remove(str(archive))
    assert history.recorded() == ["capzip.0001"]
    assert not caplog.records
    code = stored()["capzip", "0001"]
    if with_source:
        text = (history.folder / "not_a_package/migrations/0001.py").read_text()
        assert code.source_code == text
        assert code.gap == ""
    else:
        assert code.source_code == ""
        assert "capzip.0001: it is stored without code" in output


def test_a_long_reason_fits_its_column(history: History) -> None:
    name = "x" * 50
    folder = history.folder
    for _ in range(5):
        folder = folder / name
        folder.mkdir()
        (folder / "__init__.py").touch()
    module = ".".join([name] * 5)
    history.have("users: 0001")
    compiled = folder / "0001.pyc"
    py_compile.compile(str(history.path("users.0001")), cfile=str(compiled))
    history.labels.append(name)
    with override_settings(MIGRATION_MODULES={"users": module}):
        history.migrate("users")
        assert len(stored()["users", "0001"].gap) == 255


def test_an_app_that_is_not_installed_is_a_gap() -> None:
    code = capture_it("nowhere", "0001")
    assert code.gap == "app 'nowhere' has no migrations module"
    assert (code.module_name, code.distribution) == ("", "")


READS = """\
from django.conf import settings
from django.conf import settings as conf
from django.db import migrations
{line}


class Migration(migrations.Migration):
    pass
"""


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("settings.MY_WORD", ["MY_WORD"]),
        ("conf.MY_WORD, settings.MY_OTHER", ["MY_OTHER", "MY_WORD"]),
        ("getattr(settings, 'MY_WORD')", ["MY_WORD"]),
        ("def f(): return settings.MY_WORD", ["MY_WORD"]),
        ("getattr(settings, 'MY_WORD', None)", []),
        ("hasattr(settings, 'MY_WORD') and settings.MY_WORD", []),
        ("# settings.MY_WORD", []),
        ("settings.AUTH_USER_MODEL, settings.DATABASES, settings.SECRET_KEY", []),
        ("settings.SITE_ID, settings.ROOT_URLCONF", []),
        ("settings.MY_SWAPPABLE_MODEL", []),
        ("settings.MY_MISSING", []),
    ],
)
def test_a_setting_of_the_project_that_is_read_is_a_gap(
    history: History, line: str, names: list[str]
) -> None:
    history.have("users: 0001")
    history.write("users.0001", text=READS.format(line=line))
    swappable = mock.Mock(_meta=mock.Mock(swappable="MY_SWAPPABLE_MODEL"))
    own = {"MY_WORD": "word", "MY_OTHER": 1, "MY_SWAPPABLE_MODEL": "users.Thing"}
    models = mock.patch.object(apps, "get_models", return_value=[swappable])
    with override_settings(SITE_ID=1, **own), models:
        code = capture_it("users", "0001")
    assert code.lacking == [
        f"the setting {name} is the project's own" for name in names
    ]
    assert code.needed == {}
