"""Stored text runs like the file that it was, and only if it was signed."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings

from django_rewind import importer, signing, source
from django_rewind.capture import set_source
from django_rewind.exceptions import NotTrusted, Unreachable
from django_rewind.models import MigrationCode

pytestmark = pytest.mark.only("sqlite")

NAME = "members.migrations.0002_prefs"
FILE = "stored code of members.0002_prefs"

EMPTY = """
from django.db import migrations

class Migration(migrations.Migration):
    pass
"""


@pytest.fixture
def members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of members.migrations, in which 0002_prefs.py is missing."""
    folder = tmp_path / "members" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder.parent / "defaults.py").write_text("THEME = 'dark'\n")
    (folder / "__init__.py").touch()
    (folder / "tools.py").write_text("def double(number):\n    return number * 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "members"]:
        del sys.modules[name]


def stored(text: str, **fields: Any) -> MigrationCode:
    code = MigrationCode(
        **{
            "app_label": "members",
            "migration_name": "0002_prefs",
            "module_name": NAME,
            **fields,
        }
    )
    set_source(code, dedent(text))
    signing.sign(code)
    return code


def load(text: str, **fields: Any) -> Any:
    return importer.load(stored(text, **fields))


def fact_of(code: MigrationCode) -> str:
    with pytest.raises(Unreachable) as caught:
        importer.load(code)
    assert caught.value.remedy
    return caught.value.fact


def test_its_file_exists_for_who_asks_for_it() -> None:
    migration = load(
        """
        from pathlib import Path
        from django.db import migrations

        class Migration(migrations.Migration):
            path = Path(__file__).resolve(strict=True)
            lines = path.read_text().splitlines()
        """
    )
    assert migration.path.parts[-3:] == ("members", "migrations", "0002_prefs.py")
    assert "path = Path(__file__)" in migration.lines[5]
    assert migration.path.exists()


def test_it_runs_under_its_true_name_and_package() -> None:
    migration = load(
        """
        from django.db import migrations

        class Migration(migrations.Migration):
            seen = __name__, __package__
            spec = __spec__
            loader = __loader__
        """
    )
    assert migration.seen == (NAME, "members.migrations")
    assert migration.spec.name == NAME
    assert migration.spec.parent == "members.migrations"
    assert migration.spec.origin == FILE
    assert migration.spec.submodule_search_locations is None
    assert migration.loader is migration.spec.loader
    assert (migration.app_label, migration.name) == ("members", "0002_prefs")
    assert type(migration).__name__ == "Migration"
    assert type(migration).__module__ == NAME
    assert str(migration) == "members.0002_prefs"


def test_without_a_module_name_it_runs_under_the_usual_one() -> None:
    migration = load(EMPTY, module_name="")
    assert type(migration).__module__ == NAME
    assert migration.name == "0002_prefs"


def test_code_stored_for_a_replaced_name_is_the_squash() -> None:
    migration = load(EMPTY, module_name="members.migrations.0001_squashed")
    assert str(migration) == "members.0001_squashed"


def test_relative_imports_work(members: Path) -> None:
    migration = load(
        """
        from django.db import migrations

        from . import tools
        from .tools import double
        from ..defaults import THEME

        class Migration(migrations.Migration):
            seen = double(21), tools.double(4), THEME
        """
    )
    assert migration.seen == (42, 8, "dark")


def test_relative_imports_work_inside_functions(members: Path) -> None:
    migration = load(
        """
        from django.db import migrations

        def forwards(apps, schema_editor):
            from .tools import double
            from .. import defaults
            return double(21), defaults.THEME

        class Migration(migrations.Migration):
            operations = [migrations.RunPython(forwards)]
        """
    )
    assert migration.operations[0].code(None, None) == (42, "dark")


def test_a_module_that_looks_itself_up_loads() -> None:
    migration = load(
        """
        from __future__ import annotations
        import sys
        from dataclasses import dataclass
        from typing import ClassVar
        from django.db import migrations

        @dataclass
        class Row:
            name: str
            table: ClassVar[str] = "x"

        class Migration(migrations.Migration):
            seen = sys.modules[__name__].Row(name="a").name
        """
    )
    assert migration.seen == "a"


def test_it_does_not_inherit_the_future_imports_of_the_importer() -> None:
    migration = load(
        """
        from django.db import migrations

        def rows(count: int): ...

        class Migration(migrations.Migration):
            seen = rows.__annotations__["count"]
        """
    )
    assert migration.seen is int


FAILS_WHEN_IT_RUNS = """
from django.db import migrations

def backwards(apps, schema_editor):
    raise ValueError("no")  # {comment}

class Migration(migrations.Migration):
    operations = [migrations.RunPython(migrations.RunPython.noop, backwards)]
"""


def traceback_of(migration: Any) -> str:
    try:
        migration.operations[0].reverse_code(None, None)
    except ValueError:
        return traceback.format_exc()
    raise AssertionError("it did not fail")


def test_tracebacks_show_its_lines() -> None:
    text = FAILS_WHEN_IT_RUNS.format(comment="the line that failed")
    shown = traceback_of(load(text, migration_name="0003_lines"))
    assert 'File "stored code of members.0003_lines", line 5, in backwards' in shown
    assert 'raise ValueError("no")  # the line that failed' in shown


def test_tracebacks_show_the_lines_of_the_version_that_ran() -> None:
    for comment in ["as in default", "as in other"]:
        text = FAILS_WHEN_IT_RUNS.format(comment=comment)
        shown = traceback_of(load(text, migration_name="0004_versions"))
        assert comment in shown


def test_the_traceback_of_a_failing_import_shows_its_lines() -> None:
    code = stored("one = 1\nraise ValueError(one)  # here\n", migration_name="0005_x")
    with pytest.raises(Unreachable) as caught:
        importer.load(code)
    cause = caught.value.__cause__
    assert cause is not None
    shown = traceback.format_exception(type(cause), cause, cause.__traceback__)
    assert "raise ValueError(one)  # here" in "".join(shown)


@pytest.mark.parametrize("text", [EMPTY, "raise ValueError", "not Python at all"])
def test_nothing_stays_in_sys_modules(members: Path, text: str) -> None:
    __import__("members.migrations")
    before = dict(sys.modules)
    try:
        load(text)
    except Unreachable:
        assert text is not EMPTY
    assert sys.modules == before
    assert not hasattr(sys.modules["members.migrations"], "0002_prefs")


@pytest.mark.parametrize("text", [EMPTY, "raise ValueError", "not Python at all"])
def test_a_module_of_that_name_is_put_back(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    existing = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, existing)
    try:
        load(text)
    except Unreachable:
        assert text is not EMPTY
    assert sys.modules[NAME] is existing
    assert not hasattr(existing, "Migration")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('no such theme')", "ValueError: no such theme"),
        ("import members_gone", "No module named 'members_gone'"),
        ("from . import gone", "ImportError"),
        ("x = 1", "has no attribute 'Migration'"),
        ("", "has no attribute 'Migration'"),
        ("def (", "SyntaxError: "),
        ("x = '\x00'", "null bytes"),
        ("Migration = None", "AttributeError: "),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_code_that_does_not_load_is_unreachable_and_says_why(
    members: Path, text: str, reason: str
) -> None:
    fact = fact_of(stored(text))
    assert fact.startswith("its stored code does not load: ")
    assert reason in fact
    assert fact.endswith(".")


def test_a_gap_is_unreachable_and_says_why() -> None:
    code = stored("", gap="members/0002_prefs.pyc has no source")
    assert fact_of(code) == (
        "it was stored without code: members/0002_prefs.pyc has no source."
    )


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def leaving(marker: Path) -> MigrationCode:
    """Signed code that leaves a file when it runs."""
    return stored(f"open({str(marker)!r}, 'w').close()\n" + dedent(EMPTY))


def test_signed_code_runs(marker: Path) -> None:
    importer.load(leaving(marker))
    assert marker.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app_label", "blog"),
        ("migration_name", "0003_age"),
        ("module_name", "members.migrations.0003_age"),
        ("replaces", '[["members", "0001"]]'),
        ("signature", "x" * 43),
        ("signature", ""),
    ],
)
def test_altered_code_never_runs(marker: Path, field: str, value: str) -> None:
    code = leaving(marker)
    setattr(code, field, value)
    with pytest.raises(NotTrusted):
        importer.load(code)
    assert not marker.exists()


def test_altered_source_never_runs_though_its_digest_fits(marker: Path) -> None:
    code = stored(EMPTY)
    set_source(code, leaving(marker).source_code)
    assert fact_of(code) == "its stored code was altered after it was signed."
    assert not marker.exists()


def test_code_signed_elsewhere_never_runs(marker: Path) -> None:
    code = leaving(marker)
    with override_settings(SECRET_KEY="the key of another project"):  # noqa: S106
        fact = fact_of(code)
    assert fact == (
        "its stored code was signed with a key that this project does not have."
    )
    assert not marker.exists()


def test_the_signature_is_checked_before_the_code_is_compiled() -> None:
    code = stored(EMPTY)
    set_source(code, "def (")
    assert fact_of(code) == "its stored code was altered after it was signed."


def test_what_python_warned_of_then_is_no_fault_now() -> None:
    """As SyntaxWarning, which a project may have made an error since."""
    code = stored(
        EMPTY
        + r"""
PATTERN = "\w+"
IS_ONE = 1 is 1
"""
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        migration = importer.load(code)
        assert source.means_the_same(code.source_code, code.source_code + "# more\n")
    assert sys.modules.get(NAME) is None
    assert migration.name == "0002_prefs"
