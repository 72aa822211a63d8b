"""What our management commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import find_commands, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import store, warned
from .exceptions import RewindError
from .models import Key
from .store import Contents
from .terminal import Encodable, said, shortened


class DatabaseCommand(BaseCommand):
    """A command about the migrations of one database: [APP] [--database ALIAS]."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "app_label", nargs="?", help="App label of the only app to look at."
        )
        self.add_database(parser)

    def add_database(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default=DEFAULT_DB_ALIAS,
            help=(
                "Nominates the database to look at. Defaults to the "
                f'"{DEFAULT_DB_ALIAS}" database.'
            ),
        )

    def add_name(self, parser: CommandParser) -> None:
        parser.add_argument(
            "migration_name",
            nargs="?",
            help="Name of the only migration to look at, or how it begins.",
        )

    def add_noinput(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="Asks nothing.",
        )

    def add_format(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=("text", "json"),
            default="text",
            help="Output format. Defaults to text.",
        )

    def execute(self, *args: Any, **options: Any) -> Any:
        # What is stored may have characters that this terminal has not.
        options["stdout"] = Encodable(options.get("stdout") or self.stdout._out)
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with warned.at_least_on(self.stderr):
                self.run(find_connection(options["database"]), options)
        except RewindError as error:
            raise CommandError(str(error)) from error
        except Error as error:
            raise CommandError(cannot_read(options["database"], error)) from error
        except ImproperlyConfigured as error:
            # DATABASES may be empty, or SECRET_KEY, where an image is built.
            raise CommandError(f"Settings are missing: {error}") from error

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        raise NotImplementedError("subclasses of DatabaseCommand must provide run()")


def cannot_read(alias: str, error: Exception) -> str:
    return f"The database '{alias}' cannot be read: {said(error)}."


def find_connection(alias: str) -> BaseDatabaseWrapper:
    """Raises RewindError if there is none."""
    if alias not in connections:
        raise RewindError(
            f"There is no database '{alias}' in DATABASES. "
            f"Choose from: {', '.join(connections)}."
        )
    return connections[alias]


def as_json(found: Any) -> str:
    # SQLite keeps bytes in columns for text.
    return json.dumps(found, indent=2, default=repr)


def check_app_label(app_label: str | None, known: Collection[Key]) -> None:
    """Raise CommandError unless the app is installed or the database knows it."""
    if app_label is None or app_label in apps.app_configs:
        return
    if app_label not in {label for label, _ in known}:
        raise CommandError(
            f"No installed app with label '{app_label}', and the database knows no "
            "migration of one."
        )


def check_app_is_known(
    connection: BaseDatabaseWrapper, app_label: str | None
) -> Contents:
    """What the database knows; raises CommandError for an app that nobody knows."""
    with store.reading(connection):
        contents = store.contents(connection)
        store.add_unrecorded(connection, contents)
    check_app_label(app_label, [*contents.recorded, *contents.stored])
    return contents


def stored_keys(
    connection: BaseDatabaseWrapper,
    app_label: str | None,
    name: str | None = None,
    *,
    earlier: bool = False,
) -> list[Key]:
    """The stored migrations that [APP [NAME]] chooses.

    With `earlier`, also those of which only earlier versions are stored.
    As in Django, a prefix that fits one name is enough. Raises CommandError if there
    is no such app or migration.
    """
    contents = check_app_is_known(connection, app_label)
    known = dict.fromkeys(contents.stored)
    if earlier:
        with store.reading(connection):
            known.update((c.key, None) for c in store.every_earlier(connection))
    keys = [key for key in known if app_label in (None, key[0])]
    if name is None:
        return keys
    # As text, since SQLite keeps bytes in a column for text.
    names = {str(key[1]): key for key in keys}
    chosen = [name] if name in names else [n for n in names if n.startswith(name)]
    if not chosen:
        raise CommandError(
            f"No stored migration of app '{app_label}' matches '{name}'. Stored: "
            f"{shortened(', '.join(sorted(names))) or 'none'}."
        )
    if len(chosen) > 1:
        raise CommandError(
            f"More than one migration matches '{name}' in app '{app_label}': "
            f"{shortened(', '.join(sorted(chosen)))}. Please be more specific."
        )
    return [names[chosen[0]]]


def load_command(name: str) -> tuple[str, BaseCommand]:
    """The app whose command of that name Django runs, and the command."""
    app = get_commands()[name]
    if isinstance(app, str):
        return app, load_command_class(app, name)
    return type(app).__module__, app


def next_command(name: str) -> type[BaseCommand]:
    """The Command of that name in the next app that has one, else Django's.

    So that a package that extends it too goes on working.
    """
    labels = list(apps.app_configs)
    for label in labels[labels.index("django_rewind") + 1 :]:
        config = apps.get_app_config(label)
        if name in find_commands(os.path.join(config.path, "management")):
            module = f"{config.name}.management.commands.{name}"
            break
    else:
        module = f"django.core.management.commands.{name}"
    command: type[BaseCommand] = import_module(module).Command
    return command


def stock_migrate() -> Any:
    """The Command of Django's own `migrate`, which a next one need not extend."""
    return import_module("django.core.management.commands.migrate").Command
