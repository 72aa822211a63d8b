from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import trust
from ...commands import DatabaseCommand, stored_keys
from ...terminal import manage, migrations, on_one_line
from ...trust import Candidate


class Command(DatabaseCommand):
    help = (
        "Signs stored code that does not verify anew, after it was shown and agreed "
        "to. Exits with 1 if some of it is left."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_name(parser)
        self.add_noinput(parser)
        parser.add_argument(
            "--all-matching-files",
            action="store_true",
            help="Trusts what its file says too, and asks about nothing else.",
        )

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        name = options["migration_name"]
        keys = stored_keys(connection, options["app_label"], name, earlier=True)
        renewed = trust.sign_with_current_key(connection, keys)
        if renewed:
            self.stdout.write(
                f"Signed anew, since an earlier key of this project had signed them: "
                f"{renewed}."
            )
        candidates = trust.find(connection, keys)
        if not candidates:
            self.stdout.write("All stored code that was looked at verifies.")
            return
        matching = [c for c in candidates if c.matches_file]
        others = [c for c in candidates if not c.matches_file]
        asks = options["interactive"] and not options["all_matching_files"]
        trusted = 0
        try:
            for candidate in matching:
                trusted += self.trust(connection, candidate, "as its file has it")
            for candidate in others:
                if self.agrees(candidate, asks):
                    trusted += self.trust(connection, candidate, "as shown")
        except (KeyboardInterrupt, EOFError):
            self.stderr.write("\nOperation cancelled.")
        left = len(candidates) - trusted
        self.stdout.write(f"{migrations(trusted)} trusted, {left} left.")
        if left:
            sys.exit(1)

    def agrees(self, candidate: Candidate, asks: bool) -> bool:
        name = candidate.name
        self.stdout.write(self.style.WARNING(f"{name}: {candidate.fact}"))
        if candidate.obstacle:
            self.stdout.write(f"    It cannot be trusted: {self.why(candidate)}")
            return False
        if not asks:
            why = "no file here says the same"
            if candidate.is_earlier:
                why = "no file vouches for an earlier version"
            self.stdout.write(
                f"    Left: {why}. "
                f"{manage('trust_stored_migrations', candidate.code.alias)} shows it "
                "and asks."
            )
            return False
        for line in trust.describe(candidate):
            self.stdout.write(f"    {line}".rstrip())
        return input(f"Trust {name}? [yes/N] ") == "yes"

    def why(self, candidate: Candidate) -> str:
        return f"{on_one_line(candidate.obstacle)} {candidate.remedy}"

    def trust(
        self, connection: BaseDatabaseWrapper, candidate: Candidate, how: str
    ) -> bool:
        is_trusted = trust.trust(connection, candidate)
        if is_trusted:
            self.stdout.write(self.style.SUCCESS(f"Trusted {candidate.name}, {how}."))
        else:
            self.stdout.write(
                self.style.ERROR(
                    f"{candidate.name}: it was changed while it was looked at. Run "
                    "this again."
                )
            )
        return is_trusted
