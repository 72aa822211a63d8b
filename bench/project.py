"""Write a Django project with 200 migrations, as makemigrations would have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter

APPS = [f"app{number:02}" for number in range(1, 11)]
NOUNS = ["Customer", "Product", "Order", "Invoice"]

SETTINGS = """
import os

SECRET_KEY = "bench"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    *os.environ["BENCH_APP"].split(),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *{apps},
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
DATABASES = {{"default": {{**{database}, "NAME": os.environ["BENCH_DATABASE"]}}}}
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    try:
        import MySQLdb
    except ImportError:
        import pymysql

        pymysql.install_as_MySQLdb()
"""

MANAGE = """
import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""

HELPERS = """
import re
import unicodedata

SEPARATORS = re.compile("[-_ ]+")
LONGEST = 40


def without_accents(text):
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def shorten(text):
    words = SEPARATORS.split(without_accents(text).lower())
    return "-".join(words)[:LONGEST]


def is_code(value):
    if value != shorten(value):
        raise ValueError(value)


def name_of_file(instance, name):
    return f"{shorten(instance.name)}/{name}"
"""

DATA_MIGRATION = """
from django.db import migrations{imports}


def set_code(apps, schema_editor):
    {model} = apps.get_model("{app_label}", "{model}")
    for row in {model}.objects.filter(code=None):
        row.code = {code}
        row.save(update_fields=["code"])


class Migration(migrations.Migration):

    dependencies = [
        ("{app_label}", "{before}"),
    ]

    operations = [
        migrations.RunPython(set_code, migrations.RunPython.noop),
    ]
"""


def write(folder: Path, database: dict[str, str], *, needs_code: bool) -> None:
    """With `needs_code`, a quarter of the migrations use a helper module of their app.

    Of 1,336 migrations in 35 packages on PyPI, 351 use code outside Django.
    """
    if not settings.configured:
        settings.configure(
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]
        )
        django.setup()
    (folder / "manage.py").write_text(MANAGE)
    (folder / "settings.py").write_text(SETTINGS.format(apps=APPS, database=database))
    before = None
    for app_label in APPS:
        _write_app(folder / app_label, app_label, before, needs_code=needs_code)
        before = app_label


def _write_app(
    folder: Path, app_label: str, app_before: str | None, *, needs_code: bool
) -> None:
    (folder / "migrations").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "migrations" / "__init__.py").touch()
    (folder / "helpers.py").write_text(HELPERS)
    state = ProjectState()
    names: list[str] = []
    helper = _refer(app_label, "is_code") if needs_code else None
    for name, operations in _history(app_label, app_before, helper):
        name = f"{len(names) + 1:04}_{name}"
        path = folder / "migrations" / f"{name}.py"
        if not operations:
            model = NOUNS[len(names) // 5] + app_label[-2:]
            path.write_text(
                DATA_MIGRATION.format(
                    app_label=app_label,
                    model=model,
                    before=names[-1],
                    imports="\n\nfrom ..helpers import shorten" if needs_code else "",
                    code="shorten(row.name)" if needs_code else "row.name.lower()",
                )
            )
        else:
            dependencies = (
                [(app_label, names[-1])] if names else [("auth", "__first__")]
            )
            if app_before and not names:
                dependencies.append((app_before, "0001_initial"))
            body = {
                "initial": not names or None,
                "dependencies": dependencies,
                "operations": operations,
            }
            migration = type("Migration", (migrations.Migration,), body)
            path.write_text(MigrationWriter(migration(name, app_label)).as_string())
            for operation in operations:
                operation.state_forwards(app_label, state)
        names.append(name)
    (folder / "models.py").write_text(_models_module(state))


def _refer(app_label: str, name: str) -> Any:
    """A function that MigrationWriter takes for one of the app's helpers."""
    return type(name, (), {"__module__": f"{app_label}.helpers"})


def _history(
    app_label: str, app_before: str | None, validator: Any
) -> Iterator[tuple[str, list[Operation]]]:
    """(name, operations) of 20 migrations; no operations stand for RunPython."""
    before = f"{app_before}.{NOUNS[0]}{app_before[-2:]}" if app_before else None
    for noun in NOUNS:
        model = noun + app_label[-2:]
        created = _create(model, before)
        yield ("initial" if noun == NOUNS[0] else model.lower(), [created])
        code = models.CharField(max_length=40, null=True)
        choices = [("new", "New"), ("open", "Open"), ("done", "Done")]
        yield (
            f"{model.lower()}_code_status",
            [
                migrations.AddField(model, "code", code),
                migrations.AddField(
                    model,
                    "status",
                    models.CharField(max_length=8, choices=choices, default="new"),
                ),
            ],
        )
        yield f"set_{model.lower()}_code", []
        code = models.CharField(
            max_length=40,
            unique=True,
            verbose_name="short code",
            validators=[validator] if validator and noun == NOUNS[0] else [],
        )
        yield (
            f"alter_{model.lower()}_code",
            [migrations.AlterField(model, "code", code)],
        )
        index = models.Index(
            fields=["status", "created_at"], name=f"{model.lower()}_status_idx"
        )
        watchers = models.ManyToManyField(
            "auth.User", blank=True, related_name=f"watched_{model.lower()}"
        )
        yield (
            f"{model.lower()}_status_idx_and_watchers",
            [
                migrations.AddIndex(model, index),
                migrations.AddField(model, "watchers", watchers),
            ],
        )
        before = f"{app_label}.{model}"


def _create(model: str, related: str | None) -> migrations.CreateModel:
    key = models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )
    fields: list[tuple[str, models.Field[Any, Any]]] = [
        ("id", key),
        ("name", models.CharField(max_length=200)),
        ("slug", models.SlugField(unique=True)),
        ("description", models.TextField(blank=True, help_text="Shown to customers.")),
        ("amount", models.DecimalField(decimal_places=2, default=0, max_digits=12)),
        ("is_active", models.BooleanField(default=True)),
        ("created_at", models.DateTimeField(auto_now_add=True)),
        ("owner", models.ForeignKey("auth.User", models.CASCADE)),
    ]
    if related:
        parent = models.ForeignKey(related, models.SET_NULL, blank=True, null=True)
        fields.append(("parent", parent))
    return migrations.CreateModel(model, fields, {"ordering": ["name"]})


def _models_module(state: ProjectState) -> str:
    """What the migrations lead to: `migrate` compares its state with the models."""
    imports = {"from django.db import models"}

    def serialize(value: object) -> str:
        text, needed = MigrationWriter.serialize(value)
        imports.update(needed)
        return str(text)

    def lines(model: ModelState) -> Iterator[str]:
        yield f"\n\nclass {model.name}(models.Model):"
        for name, field in model.fields.items():
            if not field.auto_created:
                yield f"    {name} = {serialize(field)}"
        yield "\n    class Meta:"
        for name, value in model.options.items():
            if name in ("indexes", "ordering"):
                yield f"        {name} = {serialize(value)}"

    body = [line for model in state.models.values() for line in lines(model)]
    return "\n".join([*sorted(imports), *body, ""])
