"""What somebody else wrote into our table: it is shown harmlessly, and never run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from django_rewind import capture, signing, store
from django_rewind.archive import EarlierMigrationCode, NeededCode
from django_rewind.closure import Closure
from django_rewind.models import MigrationCode
from tests import settings
from tests.databases import VENDOR
from tests.history import History, with_pk

LIST = "/admin/django_rewind/migrationcode/"

# What a terminal acts upon or shows as something else, and what no encoding takes.
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069"
    "\ud800-\udfff\U000e0000-\U000e007f]|^forged",
    re.MULTILINE,
)
# On a page, the lines of a text are in an element of their own.
HARMFUL_HTML = re.compile(
    HARMFUL.pattern.replace("^forged", "<script>alert|</pre>x"), re.MULTILINE
)
MEBIBYTE = 1024 * 1024

VALUES = {
    "escapes": "\x1b[31mred\x1b]0;title\x07\x9b2J\x08\x7f",
    "html": "</code></pre>x<script>alert(1)</script>\"'{{ 7 }}",
    "bidi": "\u202e\u2066\u061c\u200b\xad\U000e0041",
    "lines": "0002\nforged.0001: all is well\r\nforged\rforged\u2028forged\x0bforged",
    "broken JSON": "[{",
    "wrong types": '[1, null, {"a": [2]}, [1, 2], "ab", [true, {}]]',
    "wrong mapping": '{"a": {"b": 1}, "": null, "c": [3]}',
    "number": "7",
    "infinity": "[Infinity, NaN, 1e999, " + "9" * 5000 + "]",
    "surrogates": r'["\ud800", ["\udfff", "\ud800"]]',
    "mapping of surrogates": r'{"\ud800": "\udfff", "users.\u001b[31m": "\u0000"}',
    "NUL in JSON": r'[["\u0000", "\u0000"], "\u001b[31m"]',
    "deep": "[" * 100_000,
    "deep mapping": '{"a":' * 100_000,
    # Some are parsed, and then too deep to be shown.
    **{f"{depth} deep": "[" * depth + "]" * depth for depth in (200, 400, 600, 900)},
    "deep values": '{"a":' + "[" * 900 + "]" * 900 + "}",
    "huge": "x" * (5 * MEBIBYTE),
    "huge list": json.dumps(["users", "\x1b"] * 50_000),
    "huge mapping": json.dumps({f"m{i}": f"{i:064x}" for i in range(10_000)}),
    "nothing": "",
}
if VENDOR != "postgresql":
    VALUES["NUL"] = "a\x00b\x1b[31m"

# The short ones together, and each of the others alone.
GROUPS = {
    "short": [value for value in VALUES.values() if len(value) < 10_000],
    **{name: [value] for name, value in VALUES.items() if len(value) >= 10_000},
}

COLUMNS = [
    "app_label",
    "migration_name",
    "source_code",
    "digest",
    "captured",
    "gap",
    "module_name",
    "dependencies",
    "replaces",
    "closure",
    "closure_gaps",
    "origin",
    "django_version",
    "python_version",
    "distribution",
    "signature",
    "signing_key",
]

# The command → what it exits with. The app is one that is installed.
LOOKING = {
    "show_stored_migrations": 0,
    "show_stored_migrations sessions": 0,
    "show_stored_migrations --format=json": 0,
    "verify_migrations": 1,
    "verify_migrations --format=json": 1,
    "verify_migrations --diff": 1,
    "verify_migrations --diff --strict --format=json": 1,
    "backfill_migration_code --dry-run": 0,
    "showmigrations": 0,
    "showmigrations --plan": 0,
    "showmigrations sessions": 0,
    "check --database=default": 0,
    "makemigrations --check --dry-run": 0,
    "migrate": 0,
    "migrate --plan": 0,
}
ROLLING_BACK = {
    "migrate sessions 0001 --plan": 1,
    "migrate sessions 0001": 1,
    "sqlmigrate sessions 0002_altered": 1,
}


@dataclass
class Result:
    code: int
    shown: str
    out: str


@pytest.fixture
def client(db: None) -> Client:
    return log_in()


def log_in() -> Client:
    user = User.objects.create(username="root", is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(user)
    return client


def run(capfd: pytest.CaptureFixture[str], command: str) -> Result:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command(*command.split(" "), stdout=out, stderr=err, no_color=True)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    except CommandError as error:
        code = 1
        err.write(str(error))
    shown = out.getvalue() + err.getvalue() + "".join(capfd.readouterr())
    return Result(code, shown, out.getvalue())


def fit(column: str, value: str) -> str:
    """As much as the column takes; for SQLite a length is no limit."""
    field: Any = MigrationCode._meta.get_field(column)
    length = field.max_length
    return value[: length and 100_000 if VENDOR == "sqlite" else length]


def keep_one_of_each(values: list[str], *, signed: bool = False) -> list[MigrationCode]:
    """For each value a ghost for each column, which has the value there."""
    # A name that is easy to type, and altered too.
    keep("0002_altered", "source_code", "altered", signed=signed)
    return [
        keep(f"{number:04}_{column}", column, fit(column, value), signed=signed)
        for number, (value, column) in enumerate(product(values, COLUMNS), 3)
    ]


def keep(name: str, column: str, value: Any, *, signed: bool = False) -> MigrationCode:
    code = MigrationCode(app_label="sessions", migration_name=name)
    code.captured = MigrationCode.Captured.AT_APPLY
    code.dependencies = '[["sessions", "0001_initial"]]'
    capture.set_source(code, "from django.db import migrations\n")
    capture.set_needed(code, Closure({"users.helpers": f"# {name}\n"}, []))
    if not signed:
        signing.sign(code)
    setattr(code, column, value)
    if column == "closure":
        code.needed = {}
    if signed and column not in ("signature", "signing_key"):
        signing.sign(code)
    store.save(connection, code)
    MigrationRecorder(connection).record_applied(*code.key)
    return with_pk(code)


def test_the_values_are_harmful() -> None:
    assert HARMFUL.search(VALUES["escapes"])
    assert HARMFUL_HTML.search(VALUES["html"])
    assert HARMFUL.search(VALUES["lines"])


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("values", GROUPS.values(), ids=GROUPS)
def test_commands_show_hostile_rows_harmlessly(
    db: None, capfd: pytest.CaptureFixture[str], values: list[str], signed: bool
) -> None:
    keep_one_of_each(values, signed=signed)
    # What is signed by this project is not hostile to a rollback.
    commands = LOOKING if signed else {**LOOKING, **ROLLING_BACK}
    for command, code in commands.items():
        result = run(capfd, command)
        assert not HARMFUL.search(result.shown), command
        assert result.code == code, (command, result.shown[:2000])
        if "--format=json" in command:
            assert json.loads(result.out), command


@pytest.mark.parametrize("column", COLUMNS[2:])
@pytest.mark.parametrize("values", GROUPS.values(), ids=GROUPS)
def test_one_hostile_row_is_shown_harmlessly(
    db: None, capfd: pytest.CaptureFixture[str], values: list[str], column: str
) -> None:
    for number, value in enumerate(values, 3):
        keep(f"{number:04}_a", column, fit(column, value))
        one = f"show_stored_migrations sessions {number:04}"
        text = run(capfd, one)
        assert not HARMFUL.search(text.shown), value[:100]
        assert text.code == 0
        found = json.loads(run(capfd, f"{one} --format=json").out)
        assert found["migration_name"] == f"{number:04}_a"
        if column == "source_code":
            assert found["source_code"] == value
            assert found["verifies"] is False


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("values", GROUPS.values(), ids=GROUPS)
def test_the_admin_shows_hostile_rows_harmlessly(
    client: Client, values: list[str], column: str
) -> None:
    codes = [
        # Signed too, so that no page ends with what verification says.
        keep(f"{number:04}_a", column, fit(column, value), signed=number % 2 == 0)
        for number, value in enumerate(values, 3)
    ]
    for url in [LIST, *(f"{LIST}{code.pk}/change/" for code in codes)]:
        response = client.get(url)
        assert response.status_code == 200, url
        assert not HARMFUL_HTML.search(response.content.decode()), url


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_hostile_needed_code_is_shown_harmlessly(
    client: Client, capfd: pytest.CaptureFixture[str], value: str
) -> None:
    code = keep("0002_a", "origin", "")
    capture.set_needed(
        code, Closure({"users.helpers": value, "a\x1b\nforged": "x"}, [])
    )
    signing.sign(code)
    store.save(connection, code)
    shown = run(capfd, "show_stored_migrations sessions 0002").shown
    html = client.get(f"{LIST}{code.pk}/change/").content.decode()
    assert len(html) > min(len(value), 2_000_000)
    assert len(shown) > len(value)
    assert not HARMFUL.search(shown)
    assert not HARMFUL_HTML.search(html)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_hostile_rows_of_the_other_tables_are_harmless(
    client: Client, capfd: pytest.CaptureFixture[str], value: str
) -> None:
    code = keep("0002_a", "origin", "")
    for column in COLUMNS[2:]:
        earlier = EarlierMigrationCode(
            app_label="sessions", migration_name="0002_a", stored_at=code.stored_at
        )
        setattr(earlier, column, fit(column, value))
        earlier.save(using="default")
    digest = NeededCode._meta.get_field("digest").max_length
    needed = value if VENDOR == "sqlite" else value[:digest]
    NeededCode._default_manager.create(digest=needed, source_code=value)
    NeededCode._default_manager.update(source_code=value)
    html = client.get(f"{LIST}{code.pk}/change/").content.decode()
    assert "Earlier versions" in html
    assert "Missing or altered: users.helpers<" in html
    assert not HARMFUL_HTML.search(html)
    for command in ["show_stored_migrations sessions 0002", "verify_migrations"]:
        shown = run(capfd, command).shown
        assert "users.helpers, is missing or was altered" in shown
        assert not HARMFUL.search(shown)
    assert run(capfd, "migrate sessions 0001 --plan").code == 1


# SQLite keeps anything in any column.
NO_TEXT = [
    *((column, "x'80'") for column in [*COLUMNS, "stored_at", "size", "faked"]),
    *((column, "CAST(x'80' AS TEXT)") for column in [*COLUMNS, "stored_at", "size"]),
    ("size", "9e999"),
    ("size", "char(27)"),
    ("faked", "char(27)"),
    ("stored_at", "'2020-99-99 10:00'"),
    ("stored_at", "'yesterday'"),
    ("stored_at", "7"),
]


@pytest.mark.only("sqlite")
@pytest.mark.parametrize(("column", "value"), NO_TEXT)
def test_what_is_no_text_is_harmless_too(
    client: Client, capfd: pytest.CaptureFixture[str], column: str, value: str
) -> None:
    keep("0003_b", "origin", "")
    MigrationRecorder(connection).record_unapplied("sessions", "0003_b")
    code = keep("0002_altered", "origin", "")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE django_migrations_code SET {column} = {value} WHERE id = {code.pk}"
        )
    one = "show_stored_migrations sessions 0002_altered"
    for command in [*LOOKING, *ROLLING_BACK, one, f"{one} --format=json"]:
        result = run(capfd, command)
        assert not HARMFUL.search(result.shown), command
        if "cannot be read" in result.shown and "check" not in command:
            assert f"rows of django_migrations_code: {code.pk}." in result.shown
        if command == "verify_migrations" and column not in NOT_SIGNED:
            assert result.code == 1
    for url in [LIST, f"{LIST}?status=ghost", f"{LIST}{code.pk}/change/"]:
        response = client.get(url, follow=True)
        assert response.status_code == 200
        assert not HARMFUL_HTML.search(response.content.decode()), url


# A reader is told of them, and no rollback depends on them.
NOT_SIGNED = {
    "captured",
    "closure_gaps",
    "digest",
    "distribution",
    "django_version",
    "faked",
    "gap",
    "origin",
    "python_version",
    "signing_key",
    "size",
    "stored_at",
}


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("value", ["x'80'", "CAST(x'80' AS TEXT)"])
def test_needed_code_that_is_no_text_counts_as_altered(
    client: Client, capfd: pytest.CaptureFixture[str], value: str
) -> None:
    code = keep("0002_a", "origin", "")
    keep("0003_b", "origin", "")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE django_migrations_code_needed SET source_code = {value} "
            "WHERE digest = %s",
            [code.needed_digests["users.helpers"]],
        )
    lines = run(capfd, "verify_migrations").shown.splitlines()
    altered = [line for line in lines if "missing or was altered" in line]
    assert [line.split(":")[0] for line in altered] == ["sessions.0002_a"]
    html = client.get(f"{LIST}{code.pk}/change/").content.decode()
    assert "Missing or altered: users.helpers<" in html


# Nothing stored is run by looking

MARKING = "open({path!r}, 'w').close()\n"
RUNNING_NOTHING = [
    *(command.replace("sessions", "users") for command in LOOKING),
    "show_stored_migrations users 0002",
    "show_stored_migrations users 0002 --format=json",
    "backfill_migration_code",
    "showmigrations users",
    "makemigrations users --empty --dry-run",
    "makemigrations --merge --dry-run",
    "squashmigrations users 0001 --no-input --no-optimize",
    "sqlmigrate users 0001",
    "migrate users",
    "migrate --check",
    "migrate users 0001 --fake --plan",
    "check",
]


class Markers:
    """The files that stored code leaves when it is run."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "the source ran"
        self.needed = folder / "the needed code ran"

    def exist(self) -> list[bool]:
        return [self.source.exists(), self.needed.exists()]


@pytest.fixture
def planted(history: History, tmp_path: Path) -> Iterator[Markers]:
    """A ghost and an edited migration, each rightly signed, that leave the markers."""
    history.have("users: 0001 > 0002_prefs")
    history.install(INSTALLED_APPS=[*settings.INSTALLED_APPS, "users"])
    history.migrate()
    history.lose("users.0002_prefs")
    markers = Markers(tmp_path)
    needed = MARKING.format(path=str(markers.needed)) + "default = 7\n"
    for key in [("users", "0001"), ("users", "0002_prefs")]:
        code = store.fetch(connection, [key])[key]
        mark = MARKING.format(path=str(markers.source))
        capture.set_source(
            code, f"import users.gone\nusers.gone.default\n{mark}{code.source_code}"
        )
        capture.set_needed(code, Closure({"users.gone": needed}, []))
        signing.sign(code)
        store.save(connection, code)
    yield markers
    history.install()


@pytest.mark.parametrize("command", RUNNING_NOTHING)
def test_nothing_but_a_rollback_runs_stored_code(
    history: History,
    planted: Markers,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    history.forget_modules()
    run(capfd, command)
    assert planted.exist() == [False, False]


def test_no_page_of_the_admin_runs_stored_code(
    history: History, planted: Markers
) -> None:
    client = log_in()
    pks = MigrationCode.objects.filter(app_label="users").values_list("pk", flat=True)
    for url in [LIST, f"{LIST}?status=edited", *(f"{LIST}{pk}/change/" for pk in pks)]:
        assert client.get(url).status_code == 200
    assert planted.exist() == [False, False]


@pytest.mark.parametrize(
    "command",
    [
        "migrate users 0001",
        "migrate users 0001 --plan",
        "sqlmigrate users 0002_prefs --backwards",
    ],
)
def test_a_rollback_and_its_plan_run_it(
    history: History,
    planted: Markers,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    history.forget_modules()
    result = run(capfd, command)
    assert result.code == 0, result.shown
    assert planted.exist() == [True, True]
