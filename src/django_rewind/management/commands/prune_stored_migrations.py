from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper
from django.template.defaultfilters import filesizeformat

from ... import pruning
from ...commands import DatabaseCommand, stored_keys
from ...models import MigrationCode, StoredCode
from ...pruning import Scope, Surplus


class Command(DatabaseCommand):
    help = (
        "Removes the stored code of migrations that are not applied, and that nothing "
        "applied relies on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_noinput(parser)
        parser.add_argument(
            "--older-than",
            metavar="AGE",
            help=(
                "Removes only what was stored before, as in 90d, 12h or 2w; then also "
                "earlier versions of applied migrations."
            ),
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Shows what would be removed, and removes nothing.",
        )

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        # Raises for an unknown app.
        stored_keys(connection, options["app_label"])
        before = pruning.older_than(options["older_than"])
        scope = Scope(options["app_label"], before)
        surplus = pruning.find(connection, scope)
        if not any(surplus):
            self.stdout.write("Nothing to remove.")
            return
        heading = "Would remove" if options["dry_run"] else "To be removed"
        self.stdout.write(self.style.MIGRATE_HEADING(f"{heading}:"))
        for code in surplus.codes:
            self.stdout.write(f"  {describe(code)}")
        if surplus.needed:
            self.stdout.write(f"  {describe_needed(surplus)}")
        if options["dry_run"]:
            return
        if options["interactive"] and not self.agrees():
            raise CommandError("Nothing was removed.")
        removed = pruning.prune(connection, scope, surplus)
        summary = f"Removed {len(removed.codes)} stored migrations"
        if removed.needed:
            summary += f" and {describe_needed(removed)}"
        self.stdout.write(self.style.SUCCESS(f"{summary}."))
        if len(removed.codes) < len(surplus.codes):
            self.stdout.write("The rest changed while it was looked at, and stays.")

    def agrees(self) -> bool:
        try:
            return input("Remove it for good? [yes/N] ") == "yes"
        except (KeyboardInterrupt, EOFError):
            raise CommandError("\nOperation cancelled. Nothing was removed.") from None


def describe(code: StoredCode) -> str:
    is_earlier = not isinstance(code, MigrationCode)
    stored_at = f"{code.stored_at:%Y-%m-%d %H:%M}" if code.stored_at else "?"
    size = filesizeformat(code.size).replace("\xa0", " ")
    version = "  (earlier version)" if is_earlier else ""
    return f"{code}  {stored_at}  {size}{version}"


def describe_needed(surplus: Surplus) -> str:
    return f"{len(surplus.needed)} texts of other code that nothing else needs"
