"""README and docs say what the code does."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

import django_rewind
from django_rewind import conf

pytestmark = pytest.mark.only("sqlite")

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
DOCS = {path.stem: path.read_text() for path in (ROOT / "docs").glob("*.md")}
PYTHONS: dict[str, list[str]] = ast.literal_eval(
    (ROOT / "noxfile.py").read_text().partition("PYTHONS = ")[2].partition("\n}")[0]
    + "}"
)
SOURCE = {path: path.read_text() for path in (ROOT / "src").rglob("*.py")}


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_and_metadata_name_the_tested_versions() -> None:
    assert re.findall(r"Framework :: Django :: ([\d.]+)", PYPROJECT) == list(PYTHONS)
    *first, last = PYTHONS
    assert f"Django {', '.join(first)} and {last}" in README
    pythons = sorted(
        {p for ps in PYTHONS.values() for p in ps}, key=lambda p: int(p[2:])
    )
    assert re.findall(r"Python :: (3\.\d+)", PYPROJECT) == pythons
    assert f"Python {pythons[0]} to {pythons[-1]}" in README


def test_each_setting_is_documented_and_read() -> None:
    read = set(
        re.findall(r"DJANGO_REWIND_[A-Z_]+[A-Z]", Path(conf.__file__).read_text())
    )
    for text in (DOCS["settings"], README):
        assert set(re.findall(r"DJANGO_REWIND_[A-Z_]+[A-Z]", text)) == read


def test_each_check_is_documented() -> None:
    ids = {
        check_id
        for text in SOURCE.values()
        for check_id in re.findall(r"django_rewind\.[WE]\d+", text)
    }
    assert ids
    assert set(re.findall(r"django_rewind\.[WE]\d+", DOCS["checks"])) == ids


@pytest.mark.parametrize(
    "command",
    [
        "rewind",
        "rewind_history",
        "restore_point",
        "show_stored_migrations",
        "verify_migrations",
        "backfill_migration_code",
        "trust_stored_migrations",
        "prune_stored_migrations",
        "export_stored_migrations",
        "rewind_git_hook",
    ],
)
def test_each_option_is_documented(command: str) -> None:
    parser = load_command_class("django_rewind", command).create_parser(
        "manage.py", command
    )
    common = BaseCommand().create_parser("manage.py", command)
    options = {
        o for a in parser._actions for o in a.option_strings if o.startswith("--")
    }
    options -= {o for a in common._actions for o in a.option_strings}
    section = DOCS["commands"].partition(f"\n## {command}")[2].partition("\n## ")[0]
    if command != "rewind_git_hook":
        section += DOCS["commands"].partition("\n## ")[0]
    assert options == set(re.findall(r"--[a-z][a-z-]*", section))


def test_each_module_is_in_the_architecture() -> None:
    table = DOCS["architecture"].partition("## Modules")[2].partition("## Decisions")[0]
    named = set(re.findall(r"`([a-z_/]+)`", table))
    package = Path(django_rewind.__file__).parent
    modules = {p.stem for p in package.glob("[a-z]*.py")} | {"management/commands"}
    assert modules <= named


def test_nothing_but_django_is_needed() -> None:
    assert 'dependencies = ["Django>=3.2"]' in PYPROJECT
    imported = {
        (node.module or "").partition(".")[0]
        for text in SOURCE.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.level == 0
    } | {
        alias.name.partition(".")[0]
        for text in SOURCE.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    known = {"django", "django_rewind", "sqlparse", "__future__"}
    stdlib = getattr(sys, "stdlib_module_names", imported)
    assert imported <= known | set(stdlib)
