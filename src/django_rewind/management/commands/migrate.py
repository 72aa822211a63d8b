from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ... import conf, history, hooks
from ...commands import next_command
from ...exceptions import RewindError

if TYPE_CHECKING:
    from django.core.management.commands.migrate import Command as NextCommand

    from ... import rewind
else:
    NextCommand = next_command("migrate")


class Command(NextCommand):
    def add_arguments(self, parser: CommandParser) -> None:
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

    def handle(self, *args: Any, **options: Any) -> Any:
        try:
            rollback = self.prepare(options)
            if rollback is None:
                return super().handle(*args, **options)
            self.announce(rollback, options)
            app_label = options["app_label"]
            with history.using(rollback.history), hooks.knowing_app(app_label):
                return super().handle(*args, **options)
        except RewindError as error:
            raise CommandError(str(error)) from error

    def prepare(self, options: dict[str, Any]) -> rewind.Rollback | None:
        """None for a forward run, which must see what Django sees."""
        choice = chosen(options)
        rollback = None
        if (
            conf.is_enabled()
            and options["app_label"]
            and options["migration_name"]
            and not options.get("prune")
        ):
            # Late, since most runs of migrate go forward.
            from ... import ghosts, rewind

            rollback = rewind.prepare(
                connections[options["database"]],
                options["app_label"],
                options["migration_name"],
                fake=options["fake"],
                only_show=options["plan"] or options["check_unapplied"],
                edited=ghosts.Edited(choice) if choice else None,
            )
        if choice and rollback is None:
            raise CommandError(
                f"{choice} is only for going back: to a migration that was applied, "
                "or to zero."
            )
        return rollback

    def announce(self, rollback: rewind.Rollback, options: dict[str, Any]) -> None:
        if options["plan"]:
            for migration in rollback.from_stored:
                migration.mark = " (stored code)"
            return
        if options["verbosity"] < 1 or options["check_unapplied"]:
            return
        if rollback.from_stored:
            self.stdout.write(self.style.MIGRATE_HEADING("Loading stored migrations:"))
        for migration in rollback.from_stored:
            self.stdout.write(f"  Loading {migration} from stored code...", ending="")
            self.stdout.write(self.style.SUCCESS(" OK"))
        for note in rollback.notes:
            self.stdout.write(self.style.NOTICE(f"  {note}"))

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except Exception:
            # Before Python 3.13 the interpreter itself shows the lines of files
            # only, not those of stored code.
            traceback.print_exc()
            sys.exit(1)


def chosen(options: dict[str, Any]) -> str | None:
    """--from-file or --from-stored, if it was given and can have an effect."""
    choices = [
        f"--from-{code}" for code in ("file", "stored") if options.get(f"from_{code}")
    ]
    if not choices:
        return None
    if not conf.is_enabled():
        raise CommandError(f"{choices[0]} does nothing: DJANGO_REWIND_ENABLED is off.")
    if options["fake"]:
        raise CommandError(
            f"{choices[0]} does nothing with --fake, which runs no code."
        )
    if len(choices) > 1:
        # argparse does not look at what call_command() is given as keywords.
        raise CommandError(f"{choices[0]} is not allowed with {choices[1]}.")
    return choices[0]
