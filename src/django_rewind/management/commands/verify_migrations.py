from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import journal, tables, verification
from ...commands import DatabaseCommand, as_json, check_app_label
from ...terminal import first_of, migrations, on_one_line, printable
from ...verification import Finding, Verdict


class Command(DatabaseCommand):
    help = (
        "Checks that the code of each applied migration is stored, unaltered, and "
        "still what its file does. Exits with 1 if not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_format(parser)
        parser.add_argument(
            "--diff",
            action="store_true",
            help="Shows how each edited file differs from its stored code.",
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="Fails on ghosts and gaps too.",
        )
        parser.add_argument(
            "--rehearse",
            action="store_true",
            help=(
                "Loads what is stored in a fresh process that does not have the files "
                "of the apps, and fails on what does not load there."
            ),
        )

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        findings = verification.verify(connection)
        app_label = options["app_label"]
        check_app_label(app_label, [finding.status.key for finding in findings])
        findings = [f for f in findings if app_label in (None, f.status.app_label)]
        if options["rehearse"]:
            findings = verification.rehearse(connection, findings)
        diffs = {}
        if options["diff"]:
            diffs = {
                finding: verification.diff(connection, finding.status.key)
                for finding in findings
                if finding.verdict is Verdict.EDITED
            }
        failures = [f for f in findings if f.fails(strict=options["strict"])]
        if options["format"] == "json":
            described = [
                describe(finding, finding in failures, diffs.get(finding))
                for finding in findings
            ]
            self.stdout.write(as_json(described))
        else:
            for finding in findings:
                if finding.fact:
                    self.report(finding, finding in failures)
                self.stdout.write(printable(diffs.get(finding, "")), ending="")
            failed = {finding.status.key for finding in failures}
            self.summarize(len({f.status.key for f in findings}), len(failed))
        broken = self.report_journal(connection)
        if failures or broken:
            sys.exit(1)

    def report_journal(self, connection: BaseDatabaseWrapper) -> bool:
        """On stderr, since its entries are no migrations. True if one is broken."""
        broken = list(journal.broken_links(journal.read(connection)))
        if broken:
            ids = first_of([entry.id for entry in broken], 10)
            self.stderr.write(
                "The journal was altered or lacks entries. These rows of "
                f"{tables.JOURNAL} do not follow what is before them: "
                f"{', '.join(ids)}. "
                "Find out who wrote to that table."
            )
        return bool(broken)

    def report(self, finding: Finding, is_failure: bool) -> None:
        style = self.style.ERROR if is_failure else self.style.NOTICE
        name = "{}.{}".format(*finding.status.key)
        self.stdout.write(style(on_one_line(f"{name}: {finding.fact}")))
        if finding.remedy:
            self.stdout.write(f"    {on_one_line(finding.remedy)}")

    def summarize(self, count: int, failures: int) -> None:
        if failures:
            self.stdout.write(f"{failures} of {migrations(count)} failed verification.")
        elif count:
            self.stdout.write(self.style.SUCCESS(f"{migrations(count)} verified."))
        else:
            self.stdout.write("No migrations are recorded or stored.")


def describe(finding: Finding, is_failure: bool, diff: str | None) -> dict[str, Any]:
    answer = finding.status
    described = {
        "app_label": answer.app_label,
        "migration_name": answer.migration_name,
        "verdict": finding.verdict.value,
        "failed": is_failure,
        "applied": answer.recorded,
        "file": answer.file.value,
        "fact": finding.fact,
        "remedy": finding.remedy,
    }
    return described if diff is None else {**described, "diff": diff}
