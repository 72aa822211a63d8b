"""A run of Django's `migrate`: its lock, what it rolls back, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from . import conf, history, locks, warned
from .exceptions import RewindError
from .terminal import manage

if TYPE_CHECKING:
    from django.core.management.commands.migrate import Command

    from . import rewind

# The options of Django's command that are looked at here.
OF_DJANGO = {
    *("app_label", "check_unapplied", "database", "fake", "migration_name", "plan"),
}

KnowingApp = Callable[[str], AbstractContextManager[None]]


def rolling_back(
    handle: Callable[..., Any], knowing_app: KnowingApp
) -> Callable[..., Any]:
    """Extends handle() of Django's migrate, whoever calls it."""

    @wraps(handle)
    def handle_with_ghosts(self: Any, *args: Any, **options: Any) -> Any:
        if not conf.is_active() or not options.keys() >= OF_DJANGO:
            return handle(self, *args, **options)
        try:
            with warned.at_least_on(self.stderr), guarding(self, options):
                if is_automatic(options):
                    rewind_first(self, options)
                rollback = prepare(options)
                # Each is a run of its own, also one inside another: a migration may
                # make a tenant, whose schema is migrated then.
                with history.using(rollback and rollback.history):
                    if rollback is None:
                        return handle(self, *args, **options)
                    announce(self, rollback, options)
                    with knowing_app(options["app_label"]):
                        return handle(self, *args, **options)
        except RewindError as error:
            raise CommandError(str(error)) from error

    return handle_with_ghosts


def guarding(command: Command, options: dict[str, Any]) -> AbstractContextManager[Any]:
    """The lock is taken at once, if more is done than what Django plans."""
    if options["plan"] or options["check_unapplied"]:
        return nullcontext()
    conf.check()
    choices = "migration_name", "prune", "run_syncdb"
    is_needed = any(options.get(choice) for choice in choices)
    is_needed = is_needed or is_automatic(options)
    guard = locks.holding if is_needed else locks.guarding

    def announce(text: str) -> None:
        if options["verbosity"] >= 1:
            say(command, text)

    return guard(connections[options["database"]], announce)


def say(command: Command, text: str) -> None:
    command.stdout.write(text)
    command.stdout.flush()


def is_automatic(options: dict[str, Any]) -> bool:
    others = "migration_name", "plan", "check_unapplied", "prune", "fake"
    if not conf.is_automatic() or any(options.get(other) for other in others):
        return False
    # Late, as few projects set it.
    from . import journal, keepdb

    # Else it is `rewind` that migrates, or whoever makes a test database.
    return not (
        journal.is_running() or keepdb.is_for_tests(connections[options["database"]])
    )


def rewind_first(command: Command, options: dict[str, Any]) -> None:
    from . import plans
    from .plans import Request

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
        say(command, "DJANGO_REWIND_AUTO is on: rewinding first.")
    call_command(
        "rewind",
        *filter(None, [app_label]),
        databases=[alias],
        interactive=False,
        verbosity=options["verbosity"],
        migrate=True,
        before_migrate=True,
        no_color=options.get("no_color", False),
        force_color=options.get("force_color", False),
        # One wrapper inside another would break lines.
        stdout=command.stdout._out,
        stderr=command.stderr._out,
    )


def prepare(options: dict[str, Any]) -> rewind.Rollback | None:
    """None for a forward run, which must see what Django sees."""
    choice = chosen(options)
    rollback = None
    if options["app_label"] and options["migration_name"] and not options.get("prune"):
        # Late, since most runs of migrate go forward.
        from . import ghosts, rewind

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


def announce(command: Any, rollback: rewind.Rollback, options: dict[str, Any]) -> None:
    # Ours looks at it when it fails.
    command.runs_stored_code = bool(rollback.from_stored)
    if options["plan"]:
        for note in rollback.notes.values():
            command.stdout.write(command.style.NOTICE(note))
        from .importer import StoredMigration

        for migration in rollback.history.migrations.values():
            if isinstance(migration, StoredMigration):
                migration.mark = " (stored code)"
        return
    if options["verbosity"] < 1 or options["check_unapplied"]:
        return
    if rollback.from_stored:
        command.stdout.write(
            command.style.MIGRATE_HEADING("Loading stored migrations:")
        )
    for migration in rollback.from_stored:
        command.stdout.write(f"  Loading {migration} from stored code...", ending="")
        command.stdout.write(command.style.SUCCESS(" OK"))
    for note in rollback.notes.values():
        command.stdout.write(command.style.NOTICE(f"  {note}"))


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
