from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper
from django.template.defaultfilters import filesizeformat

from ... import status, store, verification
from ...commands import DatabaseCommand, as_json, check_app_label, stored_keys
from ...models import Key, MigrationCode
from ...status import Status
from ...terminal import first_of, manage, printable_lines, shortened
from ...verification import Finding, Verdict

HEADINGS = ("Migration", "Applied", "File", "Captured", "Stored at", "Size", "Needs")

FAKED = "yes: recorded with --fake, so a rollback only removes the record"


class Command(DatabaseCommand):
    help = "Shows the migrations whose code is stored in a database, or one in full."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_name(parser)
        self.add_format(parser)

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        answers = status.read(connection)
        check_app_label(options["app_label"], answers)
        with store.reading(connection):
            if options["migration_name"]:
                self.show_one(connection, answers, options)
            else:
                self.show_all(connection, answers, options)

    def show_all(
        self,
        connection: BaseDatabaseWrapper,
        answers: dict[Key, Status],
        options: dict[str, Any],
    ) -> None:
        app_label = options["app_label"]
        codes = [
            code
            for code in store.without_source(connection)
            if app_label in (None, code.app_label) and code.key in answers
        ]
        if options["format"] == "json":
            described = [describe(code, answers[code.key]) for code in codes]
            self.stdout.write(as_json(described))
            return
        self.write_table([row(code, answers[code.key]) for code in codes])
        lacking = [
            answer
            for answer in answers.values()
            if answer.lacks_code and app_label in (None, answer.app_label)
        ]
        if lacking:
            self.stdout.write(
                self.style.WARNING(
                    f"Applied, but not stored: {len(lacking)}. "
                    f"{manage('verify_migrations', connection.alias)} names them."
                )
            )

    def write_table(self, rows: list[tuple[str, ...]]) -> None:
        if not rows:
            self.stdout.write("No migrations are stored.")
            return
        widths = [max(map(len, column)) for column in zip(HEADINGS, *rows)]
        heading, *lines = (
            "  ".join(map(str.ljust, cells, widths)).rstrip()
            for cells in (HEADINGS, *rows)
        )
        self.stdout.write(self.style.MIGRATE_HEADING(heading))
        for line in lines:
            self.stdout.write(line)

    def show_one(
        self,
        connection: BaseDatabaseWrapper,
        answers: dict[Key, Status],
        options: dict[str, Any],
    ) -> None:
        [key] = stored_keys(connection, options["app_label"], options["migration_name"])
        answer = answers[key]
        code = store.fetch(connection, [key])[key]
        finding = verification.judge_stored(code, answer)
        if options["format"] == "json":
            self.stdout.write(as_json(describe_in_full(code, answer, finding)))
            return
        self.write_facts(code, answer, finding)
        self.write_text(code.module_name or code, code.source_code)
        for name, text in code.needed.items():
            self.write_text(name, text)

    def write_facts(
        self, code: MigrationCode, answer: Status, finding: Finding
    ) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(str(code)))
        for name, values in facts(code, answer, finding).items():
            # Each on its own line; what somebody else wrote may be very much.
            shown = first_of(values, 50)
            for heading, value in zip([name, *[""] * len(shown)], shown):
                self.stdout.write(f"  {heading:<15} {value}".rstrip())

    def write_text(self, name: object, text: object) -> None:
        self.stdout.write()
        self.stdout.write(self.style.MIGRATE_HEADING(shortened(name)))
        # Indented, so that no text can look like the next heading.
        lines = printable_lines(text) or ["(nothing)"]
        self.stdout.write("\n".join(f"    {line}".rstrip() for line in lines))


def row(code: MigrationCode, answer: Status) -> tuple[str, ...]:
    applied = "[X]" if answer.recorded else "[ ]"
    return (
        shortened(str(code)),
        f"{applied} faked" if code.faked else applied,
        answer.file.value,
        "nothing (gap)" if code.gap else shortened(code.how_captured),
        f"{code.stored_at:%Y-%m-%d %H:%M}" if code.stored_at else "?",
        size(code),
        needs(code),
    )


def needs(code: MigrationCode) -> str:
    count = str(len(code.needed_digests) or "-")
    return f"{count}, lacks {len(code.lacking)}" if code.lacking else count


def size(code: MigrationCode) -> str:
    # SQLite keeps what is no number in a column for numbers.
    if not isinstance(code.size, int):
        return "?"
    return filesizeformat(code.size).replace("\xa0", " ")


def facts(
    code: MigrationCode, answer: Status, finding: Finding
) -> dict[str, Sequence[object]]:
    """What there is to know of a migration, beside its code."""
    dependencies = code.resolved_dependencies
    captured_under = [
        f"Django {shortened(code.django_version)}" if code.django_version else "",
        f"Python {shortened(code.python_version)}" if code.python_version else "",
        shortened(code.distribution) if code.distribution else "",
    ]
    found: dict[str, Sequence[object]] = {
        "Applied": ["yes" if answer.recorded else "no"],
        "Faked": [FAKED] if code.faked else [],
        "File": [answer.file.value],
        "Captured": [code.how_captured],
        "From": [code.origin] if code.origin else [],
        "Gap": [code.gap] if code.gap else [],
        "Stored at": [
            f"{code.stored_at:%Y-%m-%d %H:%M:%S %Z}" if code.stored_at else "?"
        ],
        "Size": [size(code)],
        "SHA-256": [code.digest],
        "Module": [code.module_name or "unknown"],
        "Depends on": (
            ["unknown"]
            if dependencies is None
            else list(map(".".join, dependencies)) or ["nothing"]
        ),
        "Replaces": list(map(".".join, code.replaced_keys)) or ["nothing"],
        "Captured under": [", ".join(filter(None, captured_under)) or "unknown"],
        "Needs": sorted(code.needed_digests) or ["nothing"],
        "Lacks": code.lacking,
        "Verifies": ["yes"],
    }
    if finding.verdict is Verdict.ALTERED:
        found["Verifies"] = [f"no: {finding.fact}", finding.remedy]
    elif finding.fact:
        found["Note"] = [finding.fact, finding.remedy]
    return found


def describe(code: MigrationCode, answer: Status) -> dict[str, Any]:
    return {
        "app_label": code.app_label,
        "migration_name": code.migration_name,
        "applied": answer.recorded,
        "file": answer.file.value,
        "captured": code.captured,
        "stored_at": code.stored_at.isoformat() if code.stored_at else None,
        "size": code.size if isinstance(code.size, int) else None,
        "gap": code.gap,
        "digest": code.digest,
        "module": code.module_name,
        "replaces": code.replaced_keys,
        "django_version": code.django_version,
        "python_version": code.python_version,
        "distribution": code.distribution,
        "faked": code.faked,
        "origin": code.origin,
        "dependencies": code.resolved_dependencies,
        "needs": sorted(code.needed_digests),
        "lacking": code.lacking,
    }


def describe_in_full(
    code: MigrationCode, answer: Status, finding: Finding
) -> dict[str, Any]:
    return {
        **describe(code, answer),
        "verifies": finding.verdict is not Verdict.ALTERED,
        "fact": finding.fact,
        "remedy": finding.remedy,
        "source_code": code.source_code,
        "needed": dict(code.needed),
    }
