"""Write migration histories in one line, run them in this process.

    history.have("users: 0001 > 0002_prefs; blog: 0001(users.0002_prefs) > 0002_body")
    history.migrate()
    history.lose("users.0002_prefs")
    history.migrate("users", "0001")

The first migration of an app creates the model Thing, each other one adds a nullable
integer field that is named as the migration is.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from django.core.management import call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate
from django.dispatch.dispatcher import NONE_ID
from django.test import override_settings

from django_rewind.models import MigrationCode

MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = {dependencies}

    operations = [
{operations}
    ]
"""

CREATE = """\
migrations.CreateModel(
    "Thing",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=50, default="")),
    ],
),"""

ADD = 'migrations.AddField("thing", "{field}", models.IntegerField(null=True)),'


def write_history(folder: Path, histories: str) -> list[str]:
    """Write the files of "app: name > name(dependency, ...); app: ..."; the apps."""
    labels = []
    for history in histories.split(";"):
        label, _, names = (part.strip() for part in history.partition(":"))
        labels.append(label)
        before: list[tuple[str, ...]] = []
        for step in names.split(">"):
            match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", step)
            assert match, f"cannot read {step!r} in {histories!r}"
            name, others = match[1], match[2] or ""
            named = [tuple(o.strip().split(".")) for o in others.split(",") if o]
            write_migration(folder, f"{label}.{name}", None, [*before, *named])
            before = [(label, name)]
    return labels


def write_migration(
    folder: Path,
    migration: str,
    operations: str | None = None,
    dependencies: Iterable[tuple[str, ...]] = (),
    text: str | None = None,
) -> Path:
    label, name = migration.split(".")
    package = folder / label / "migrations"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    # Django sends post_migrate for apps that have it.
    (package.parent / "models.py").touch()
    dependencies = list(dependencies)
    if operations is None:
        is_first = not any(app == label for app, _ in dependencies)
        field = name.partition("_")[2] or f"field_{name}"
        operations = CREATE if is_first else ADD.format(field=field)
    path = package / f"{name}.py"
    path.write_text(
        text
        or MIGRATION.format(
            dependencies=dependencies,
            operations=indent(dedent(operations).strip(), " " * 8),
        ),
        encoding="utf-8",
    )
    return path


def forget_receivers() -> None:
    """A receiver knows its AppConfig by its id, which a new one may be given."""
    for signal in (pre_migrate, post_migrate):
        signal.receivers = [
            receiver for receiver in signal.receivers if receiver[0][1] == NONE_ID
        ]


def with_pk(code: MigrationCode, alias: str = "default") -> MigrationCode:
    """Not every database tells it of what is inserted in bulk."""
    rows = MigrationCode._default_manager.using(alias)
    same = rows.filter(app_label=code.app_label, migration_name=code.migration_name)
    code.pk = same.values_list("pk", flat=True)[0]
    return code


class History:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost: dict[str, str] = {}
        self.labels: list[str] = []
        self.stack = ExitStack()

    def __enter__(self) -> History:
        sys.path.insert(0, str(self.folder))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stack.close()
        sys.path.remove(str(self.folder))
        self.forget_modules()

    def have(self, histories: str) -> None:
        """Write the files of "app: name > name(dependency, ...); app: ..."."""
        for label in write_history(self.folder, histories):
            if label not in self.labels:
                self.labels.append(label)
        self.install()

    def install(self, **settings: Any) -> None:
        """Restart with these apps (and settings), as a new process would."""
        self.stack.close()
        self.forget_modules()
        forget_receivers()
        settings = {"INSTALLED_APPS": ["django_rewind", *self.labels], **settings}
        self.stack.enter_context(override_settings(**settings))

    def write(
        self,
        migration: str,
        operations: str | None = None,
        dependencies: Iterable[tuple[str, ...]] = (),
        text: str | None = None,
    ) -> Path:
        """Write one file, with other operations or as another text."""
        path = write_migration(self.folder, migration, operations, dependencies, text)
        label = migration.partition(".")[0]
        if label not in self.labels:
            self.labels.append(label)
            self.install()
        self.forget_modules()
        return path

    def make_not_atomic(self, migration: str) -> None:
        path = self.path(migration)
        text = path.read_text()
        text = text.replace("    operations", "    atomic = False\n    operations")
        path.write_text(text)

    def make_ghost(
        self,
        migration: str,
        operations: str | None = None,
        dependencies: Iterable[tuple[str, ...]] = (),
        text: str | None = None,
    ) -> None:
        """Write one file, apply it with all that is not applied, and lose it."""
        self.write(migration, operations, dependencies, text)
        self.migrate()
        self.lose(migration)

    def path(self, migration: str) -> Path:
        label, name = migration.split(".")
        return self.folder / label / "migrations" / f"{name}.py"

    def lose(self, *migrations: str) -> None:
        for migration in migrations:
            path = self.path(migration)
            self.lost[migration] = path.read_text(encoding="utf-8")
            path.unlink()
        self.forget_modules()

    def find(self, *migrations: str) -> None:
        for migration in migrations:
            self.path(migration).write_text(self.lost.pop(migration), encoding="utf-8")
        self.forget_modules()

    def forget_modules(self) -> None:
        for name in list(sys.modules):
            if name.partition(".")[0] in self.labels:
                del sys.modules[name]
        importlib.invalidate_caches()

    def migrate(self, *args: str, **options: Any) -> str:
        return self.run("migrate", *args, **options)

    def run(self, command: str, *args: str, **options: Any) -> str:
        """What the command prints, to stdout and stderr."""
        self.forget_modules()
        out = StringIO()
        # Receivers of post_migrate print on Django 3.2, which passes them no stdout.
        with redirect_stdout(out):
            call_command(
                command, *args, stdout=out, stderr=out, no_color=True, **options
            )
        return out.getvalue()

    def recorded(self, label: str | None = None, alias: str = "default") -> list[str]:
        """As "app.name", in the order of the records, without our own."""
        recorder = MigrationRecorder(connections[alias])
        if not recorder.has_table():
            return []
        return [
            f"{record.app}.{record.name}"
            for record in recorder.migration_qs.order_by("id")
            if record.app != "django_rewind" and label in (None, record.app)
        ]

    def columns(self, table: str, alias: str = "default") -> list[str]:
        connection = connections[alias]
        with connection.cursor() as cursor:
            description = connection.introspection.get_table_description(cursor, table)
        return [column.name for column in description]

    def tables(self, alias: str = "default") -> set[str]:
        return set(connections[alias].introspection.table_names())

    def sql(self, statement: str, params: Any = None, alias: str = "default") -> Any:
        with connections[alias].cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else None
