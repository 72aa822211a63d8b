from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import export, store
from ...commands import DatabaseCommand, stored_keys
from ...models import MigrationCode
from ...terminal import on_one_line, printable


class Command(DatabaseCommand):
    help = (
        "Writes stored migrations back to files. Exits with 1 if one had to be left "
        "out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_name(parser)
        destination = parser.add_mutually_exclusive_group(required=True)
        destination.add_argument(
            "--output", metavar="DIR", help="The folder to write the files to."
        )
        # Of two names, call_command() goes by the first in the alphabet: alone,
        # --stdout would be what it takes the stream from.
        destination.add_argument(
            "--print",
            "--stdout",
            action="store_true",
            dest="to_stdout",
            help="Prints the code of one migration.",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="Overwrites files that are different.",
        )

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        keys = stored_keys(connection, options["app_label"], options["migration_name"])
        if options["to_stdout"] and len(keys) != 1:
            raise CommandError(
                f"--stdout takes one migration, and {len(keys)} are chosen. Give its "
                "APP and NAME."
            )
        codes = list(store.fetch(connection, keys).values())
        if options["to_stdout"]:
            self.print(codes[0])
        else:
            self.write(codes, Path(options["output"]), force=options["force"])

    def print(self, code: MigrationCode) -> None:
        export.check(code)
        buffer = getattr(self.stdout, "buffer", None)
        if self.stdout.isatty():
            self.stdout.write(printable(code.source_code), ending="")
        elif buffer is None:
            self.stdout.write(code.source_code, ending="")
        else:
            self.stdout.flush()
            buffer.write(export.encode(code.source_code))
            buffer.flush()

    def write(self, codes: list[MigrationCode], folder: Path, *, force: bool) -> None:
        files, problems = export.collect(codes)
        for target in export.prepare(files, folder, force=force):
            path = on_one_line(str(target.path))
            if target.is_same:
                self.stdout.write(f"Unchanged {path}")
                continue
            export.write(target)
            self.stdout.write(self.style.SUCCESS(f"Wrote {path}"))
        for problem in problems:
            self.stderr.write(self.style.ERROR(f"Left out {problem}"))
        if problems:
            sys.exit(1)
        if not files:
            self.stdout.write("No migrations are stored.")
