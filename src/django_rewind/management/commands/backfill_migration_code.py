from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import backfill, recovery
from ...commands import DatabaseCommand, check_app_is_known
from ...models import Key, MigrationCode
from ...recovery import Recovered, Search
from ...terminal import manage, on_one_line, printable_lines, quoted


class Command(DatabaseCommand):
    help = (
        "Stores the code of applied migrations that were not stored when they were "
        "applied, from their files as they are now, or from the history of git."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Shows what would be stored, and stores nothing.",
        )
        parser.add_argument(
            "--from-git",
            action="store_true",
            help=(
                "Searches the history of git for the files that are gone. Shows what "
                "it finds, and asks whether to trust it; with --noinput, it is stored "
                "and not trusted."
            ),
        )
        self.add_noinput(parser)
        parser.add_argument(
            "--trust-git",
            action="store_true",
            help="With --from-git and --noinput: trusts what is found in git, unseen.",
        )

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        if options["trust_git"] and (options["interactive"] or not options["from_git"]):
            raise CommandError(
                "--trust-git trusts what nobody was shown. Give it with --from-git and "
                "--noinput, or answer the questions of --from-git."
            )
        app_label = options["app_label"]
        contents = check_app_is_known(connection, app_label)
        lacking = [
            answer
            for answer in backfill.lacking_code(contents)
            if app_label in (None, answer.app_label)
        ]
        if not lacking:
            self.stdout.write("The code of every applied migration is stored.")
            return
        keys = backfill.candidates(lacking)
        lost = recovery.without_file(lacking) if options["from_git"] else []
        # Searched before anything is stored, since git may refuse.
        search = recovery.search(connection, contents, lost) if lost else Search()
        if options["dry_run"]:
            self.write_names("Would store", keys, self.style.MIGRATE_LABEL)
            stored = keys
        else:
            stored = list(backfill.backfill(connection, keys))
            self.write_names("Stored", stored, self.style.SUCCESS)
        without_file = [a.key for a in lacking if a.key not in keys + lost]
        self.write_names("No source here for", without_file, self.style.WARNING)
        all_recovered = self.recover(connection, search, options)
        if stored != keys or not all_recovered:
            # Each failure was told with its reason.
            sys.exit(1)

    def write_names(
        self, heading: str, keys: list[Key], style: Callable[[str], str]
    ) -> None:
        for app_label, name in keys:
            self.stdout.write(style(on_one_line(f"{heading} {app_label}.{name}")))

    def recover(
        self,
        connection: BaseDatabaseWrapper,
        search: Search,
        options: dict[str, Any],
    ) -> bool:
        """Store what was found in git; False if the database took something not."""
        for problem in search.problems:
            self.stdout.write(self.style.WARNING(f"Not found in git: {problem}"))
        for top in search.shallow:
            fact = f"The clone {top} is shallow, and older history was not searched."
            self.stdout.write(self.style.WARNING(on_one_line(fact)))
        saved = [self.store(connection, found, options) for found in search.recovered]
        return all(saved)

    def store(
        self,
        connection: BaseDatabaseWrapper,
        found: Recovered,
        options: dict[str, Any],
    ) -> bool:
        code = found.code
        if options["dry_run"]:
            self.write_found("Would store", found)
            return True
        trust = options["trust_git"]
        if options["interactive"]:
            self.write_found("Found", found)
            for line in printable_lines(code.source_code):
                # No line of the code can pretend to be one of ours.
                self.stdout.write(f"    {line}".rstrip())
            trust = self.ask(f"Trust and store {code}? [yes/N] ")
        try:
            is_saved = recovery.save(connection, code, trust=trust)
        except DatabaseError as error:
            self.stderr.write(on_one_line(f"{code} could not be stored: {error}"))
            return False
        if not is_saved:
            self.stdout.write(on_one_line(f"Stored by now, and left alone: {code}"))
        elif options["interactive"]:
            self.stdout.write(self.style.SUCCESS(on_one_line(f"Stored {code}")))
        else:
            self.write_found("Stored", found)
        if is_saved and not trust:
            self.write_untrusted(code)
        return True

    def write_found(self, heading: str, found: Recovered) -> None:
        heading = f"{heading} {found.code} from git: {found.code.origin}"
        self.stdout.write(self.style.SUCCESS(on_one_line(heading)))
        for remark in filter(None, [found.choice, *found.code.lacking]):
            self.stdout.write(f"    {on_one_line(remark[0].upper() + remark[1:])}.")

    def write_untrusted(self, code: MigrationCode) -> None:
        command = "trust_stored_migrations {} {}".format(*map(quoted, code.key))
        self.stdout.write(
            "    Not trusted: it cannot be reversed until "
            f"{manage(command, code.alias)} has shown it and you agreed."
        )

    def ask(self, question: str) -> bool:
        try:
            return input(on_one_line(question)).strip().lower() == "yes"
        except (EOFError, KeyboardInterrupt) as error:
            raise CommandError(
                "Cancelled: nothing more was stored. Where nobody can answer, give "
                "--noinput."
            ) from error
