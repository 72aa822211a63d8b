from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import conf, journal, locks, points
from ...commands import DatabaseCommand
from ...exceptions import RewindError
from ...terminal import migrations, shortened


class Command(DatabaseCommand):
    help = (
        "Remembers under a name what is applied now, so that 'rewind --to NAME' can "
        "go back to it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("name", nargs="?", help="Name of the new restore point.")
        what.add_argument(
            "--list", action="store_true", help="Shows the restore points."
        )
        what.add_argument(
            "--delete", metavar="NAME", help="Deletes the restore point of that name."
        )
        self.add_database(parser)

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        if options["list"]:
            self.show(connection)
            return
        if not conf.is_enabled():
            raise CommandError("DJANGO_REWIND_ENABLED is off: nothing is journalled.")
        with locks.holding(connection, self.stdout.write), journal.running():
            if options["delete"] is not None:
                points.delete(connection, options["delete"])
                said = f"Deleted restore point '{options['delete']}'."
            else:
                said = self.make(connection, options["name"])
        if options["verbosity"] >= 1:
            self.stdout.write(said)

    def make(self, connection: BaseDatabaseWrapper, name: str) -> str:
        if not name or shortened(name, 100) != name:
            raise RewindError(
                "The name of a restore point has at most 100 characters that can be "
                "printed."
            )
        number = len(points.make(connection, name))
        return (
            f"Made restore point '{name}' in database '{connection.alias}': "
            f"{migrations(number)} applied."
        )

    def show(self, connection: BaseDatabaseWrapper) -> None:
        found = points.restore_points(journal.read(connection)).values()
        for point in found:
            self.stdout.write(
                f"{shortened(point.name)}  {shortened(point.at)}  "
                f"{migrations(len(point.records))}"
            )
        if not found:
            self.stdout.write(f"No restore points in database '{connection.alias}'.")
