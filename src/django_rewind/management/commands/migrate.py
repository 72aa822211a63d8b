from __future__ import annotations

import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ... import conf, history, hooks, locks, warned
from ...commands import next_command
from ...exceptions import RewindError
from ...terminal import manage

if TYPE_CHECKING:
    from django.core.management.commands.migrate import Command as NextCommand

    from ... import rewind
else:
    NextCommand = next_command("migrate")


# The options of Django's command that ours looks at.
OF_DJANGO = {
    *("app_label", "check_unapplied", "database", "fake", "migration_name", "plan"),
}


class Command(NextCommand):
    runs_stored_code = False

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
        if not options.keys() >= OF_DJANGO:
            # The command of another app, which has nothing but the name in common.
            return super().handle(*args, **options)
        try:
            with warned.at_least_on(self.stderr), self.guarding(options):
                return self.migrate(*args, **options)
        except RewindError as error:
            raise CommandError(str(error)) from error

    def guarding(self, options: dict[str, Any]) -> AbstractContextManager[Any]:
        """The lock is taken at once, if more is done than what Django plans."""
        if not conf.is_enabled() or options["plan"] or options["check_unapplied"]:
            return nullcontext()
        conf.check()
        choices = "migration_name", "prune", "run_syncdb"
        is_needed = any(options.get(choice) for choice in choices)
        is_needed = is_needed or self.is_automatic(options)
        guard = locks.holding if is_needed else locks.guarding
        return guard(
            connections[options["database"]],
            self.say if options["verbosity"] >= 1 else lambda text: None,
        )

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def migrate(self, *args: Any, **options: Any) -> Any:
        if self.is_automatic(options):
            self.rewind_first(options)
        rollback = self.prepare(options)
        if rollback is None:
            return super().handle(*args, **options)
        self.announce(rollback, options)
        app_label = options["app_label"]
        with history.using(rollback.history), hooks.knowing_app(app_label):
            return super().handle(*args, **options)

    def is_automatic(self, options: dict[str, Any]) -> bool:
        others = "migration_name", "plan", "check_unapplied", "prune", "fake"
        if not conf.is_automatic() or any(options.get(other) for other in others):
            return False
        # Late, as few projects set it.
        from ... import journal, keepdb

        # Else it is `rewind` that migrates, or whoever makes a test database.
        return (
            conf.is_enabled()
            and not journal.is_running()
            and not keepdb.is_for_tests(connections[options["database"]])
        )

    def rewind_first(self, options: dict[str, Any]) -> None:
        from ... import plans
        from ...plans import Request

        alias, app_label = options["database"], options["app_label"]
        if app_label and app_label not in apps.app_configs:
            # Then Django says so.
            return
        request = Request(app_label, migrate=True)
        if not plans.make(connections[alias], request).steps:
            return
        if not settings.DEBUG:
            raise CommandError(
                f"There is something to rewind in database '{alias}', and "
                "DJANGO_REWIND_AUTO is for development only: DEBUG is off. Run "
                f"{manage('rewind', alias)}, or remove the setting. Nothing was "
                "changed."
            )
        if options["verbosity"] >= 1:
            self.say("DJANGO_REWIND_AUTO is on: rewinding first.")
        call_command(
            "rewind",
            *filter(None, [app_label]),
            databases=[alias],
            interactive=False,
            verbosity=options["verbosity"],
            migrate=True,
            before_migrate=True,
            no_color=options["no_color"],
            force_color=options["force_color"],
            # One wrapper inside another would break lines.
            stdout=self.stdout._out,
            stderr=self.stderr._out,
        )

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
        self.runs_stored_code = bool(rollback.from_stored)
        if options["plan"]:
            for note in rollback.notes.values():
                self.stdout.write(self.style.NOTICE(note))
            from ...importer import StoredMigration

            for migration in rollback.history.migrations.values():
                if isinstance(migration, StoredMigration):
                    migration.mark = " (stored code)"
            return
        if options["verbosity"] < 1 or options["check_unapplied"]:
            return
        if rollback.from_stored:
            self.stdout.write(self.style.MIGRATE_HEADING("Loading stored migrations:"))
        for migration in rollback.from_stored:
            self.stdout.write(f"  Loading {migration} from stored code...", ending="")
            self.stdout.write(self.style.SUCCESS(" OK"))
        for note in rollback.notes.values():
            self.stdout.write(self.style.NOTICE(f"  {note}"))

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
