from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandParser

from ... import conf, runs
from ...commands import next_command, stock_migrate

if TYPE_CHECKING:
    from django.core.management.commands.migrate import Command as NextCommand
else:
    NextCommand = next_command("migrate")


class Command(NextCommand):
    """What it does beside its options, it does in Django's handle(); see hooks."""

    runs_stored_code = False
    is_started_by_name = False

    def add_arguments(self, parser: CommandParser) -> None:
        self.is_started_by_name = True
        super().add_arguments(parser)
        edited = parser.add_mutually_exclusive_group()
        edited.add_argument(
            "--from-file",
            action="store_true",
            help=(
                "Going back, reverse migrations that were edited after they were "
                "applied as their files are now."
            ),
        )
        edited.add_argument(
            "--from-stored",
            action="store_true",
            help=(
                "Going back, reverse edited migrations as they were applied, or refuse "
                "to, and never use their files instead."
            ),
        )

    def execute(self, *args: Any, **options: Any) -> Any:
        if self.is_started_by_name or issubclass(NextCommand, stock_migrate()):
            return super().execute(*args, **options)
        # By the next command itself, which would run this one again and again: as that
        # of django-tenants, with this one as its TENANT_BASE_MIGRATE_COMMAND.
        command = stock_migrate()(stdout=self.stdout._out, stderr=self.stderr._out)
        return command.execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> Any:
        if not conf.is_enabled():
            # Nobody else would say that they do nothing.
            runs.chosen(options)
        return super().handle(*args, **options)

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except Exception:
            if not self.runs_stored_code or sys.excepthook is not sys.__excepthook__:
                raise
            # Before Python 3.13 the interpreter itself shows the lines of files
            # only, not those of stored code.
            traceback.print_exc()
            sys.exit(1)
