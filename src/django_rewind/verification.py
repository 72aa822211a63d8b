"""Does the stored code still tell what was applied?"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from enum import Enum
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from . import (
    halfway,
    journal,
    needs,
    signing,
    source,
    status,
    store,
    tables,
    unfinished,
)
from .exceptions import NotTrusted, of_leftover
from .halfway import Half
from .models import Key, MigrationCode, StoredCode
from .status import File, Status
from .terminal import first_of, manage, quoted, shortened


class Verdict(str, Enum):
    OK = "ok"
    ALTERED = "altered"
    NOT_STORED = "not stored"
    EDITED = "edited"
    GAP = "gap"
    GHOST = "ghost"
    EXCLUDED = "excluded"
    DOES_NOT_LOAD = "does not load"
    HALF = "half reversed"
    UNFINISHED = "unfinished"


FAILURES = {
    Verdict.ALTERED,
    Verdict.NOT_STORED,
    Verdict.EDITED,
    Verdict.DOES_NOT_LOAD,
    Verdict.HALF,
    Verdict.UNFINISHED,
}
STRICT_FAILURES = FAILURES | {Verdict.GAP, Verdict.GHOST}


class Finding(NamedTuple):
    """The verdict on one migration: the fact, then the remedy."""

    status: Status
    verdict: Verdict
    fact: str = ""
    remedy: str = ""

    def fails(self, *, strict: bool = False) -> bool:
        return self.verdict in (STRICT_FAILURES if strict else FAILURES)


def verify(connection: BaseDatabaseWrapper) -> list[Finding]:
    """One finding for each migration that is recorded or stored, or unfinished.

    Then one more for each earlier version of stored code that cannot be used.
    Parses stored code at most, where a file differs. Raises TableOutdated, and
    StoreUnreadable.
    """
    answers = status.read(connection)
    findings = {key: judge(answer) for key, answer in answers.items()}
    earlier: list[Finding] = []
    if tables.exist(connection):
        with store.reading(connection):
            intact = needs.intact(connection)
            for code in store.versions(connection):
                if not isinstance(code, MigrationCode):
                    answer = answers.get(code.key) or _read_file(
                        *code.key, connection.alias
                    )
                    earlier += _judge_earlier(code, answer, intact)
                elif code.key in answers:
                    findings[code.key] = judge_stored(code, answers[code.key], intact)
    for key, half in halfway.find(journal.read(connection)).items():
        if key in answers and answers[key].recorded:
            findings[key] = _judge_half(answers[key], half)
    for begun in unfinished.find(connection):
        answer = answers.get(begun.key) or _read_file(*begun.key, begun.alias)
        remedy = begun.remedy
        if begun.half is not None and not begun.can_go_on:
            rewind = manage("rewind --migrate", begun.alias)
            remedy = f"{rewind} says what is to be done by hand."
        findings[begun.key] = Finding(answer, Verdict.UNFINISHED, begun.fact, remedy)
    return [*findings.values(), *earlier]


def _read_file(app_label: str, name: str, alias: str) -> Status:
    """Of what is neither recorded nor stored."""
    return Status(
        app_label,
        name,
        recorded=False,
        stored=False,
        file=File.PRESENT if source.Disk().has((app_label, name)) else File.MISSING,
        database=alias,
    )


def _judge_earlier(
    code: StoredCode, answer: Status, intact: Collection[str]
) -> Iterator[Finding]:
    fact, remedy = "", ""
    try:
        signing.verify(code)
    except NotTrusted as reason:
        fact, remedy = reason.fact, reason.remedy
    else:
        fact = needs.damage(code, intact)
        remedy = (
            "Where it is to be applied again, restore its file of then. Find out who "
            f"wrote to {tables.NEEDED}."
        )
    if fact:
        fact = (
            f"an earlier version of it, stored {code.stored_when}, cannot be used: "
            f"{fact}"
        )
        yield Finding(answer, Verdict.ALTERED, fact, remedy)


def _judge_half(answer: Status, half: Half) -> Finding:
    rewind = "rewind" if answer.is_ghost else "rewind --migrate"
    return Finding(
        answer,
        Verdict.HALF,
        f"it was reversed in part, on {shortened(half.at)}.",
        f"{manage(rewind, answer.database)} goes on, or says what is to be done by "
        "hand.",
    )


def rehearse(
    connection: BaseDatabaseWrapper, findings: Collection[Finding]
) -> list[Finding]:
    """The same findings, but for those that do not load without their branch.

    Runs stored code, in a process of its own, and only what verifies.
    """
    # Late, since the admin needs the rest of this module only.
    from . import rehearsal

    keys = [
        finding.status.key
        for finding in findings
        if finding.status.stored
        and not finding.status.gap
        and finding.verdict is not Verdict.ALTERED
    ]
    codes = store.fetch(connection, keys)
    failures = rehearsal.rehearse([codes[key] for key in keys if key in codes])
    return [
        finding._replace(
            verdict=Verdict.DOES_NOT_LOAD,
            fact=failures[finding.status.key],
            remedy=_keep_its_file(finding.status),
        )
        if finding.status.key in failures and finding.verdict is not Verdict.ALTERED
        else finding
        for finding in findings
    ]


def judge_stored(
    code: MigrationCode, answer: Status, intact: Collection[str] | None = None
) -> Finding:
    """The same of a stored migration, whose row may have been altered.

    `intact`: the digests of the needed code that is as it was signed; None if the
    row has what it needs, as a fetched one does.
    """
    try:
        signing.verify(code)
    except NotTrusted as reason:
        return Finding(answer, Verdict.ALTERED, reason.fact, reason.remedy)
    if fact := needs.damage(code, intact):
        return Finding(
            answer,
            Verdict.ALTERED,
            fact,
            f"{_keep_its_file(answer)} Find out who wrote to "
            "django_migrations_code_needed.",
        )
    finding = judge(answer)
    if finding.verdict is Verdict.EDITED and code.ran_as != code.migration_name:
        # A squash was applied in its place, and nobody edited anything.
        finding = Finding(answer, Verdict.OK)
    if finding.verdict in (Verdict.OK, Verdict.GHOST) and answer.recorded:
        return _judge_needs(code, finding)
    return finding


def _judge_needs(code: MigrationCode, finding: Finding) -> Finding:
    answer = finding.status
    lacking = first_of(code.lacking)
    if not lacking or answer.superseded_by is not None:
        return finding
    if answer.is_ghost:
        remedy = (
            f"{_going_back(answer)} reverses it where that is there too. Else "
            "check out the code that has its file, and reverse it there."
        )
    else:
        remedy = (
            "Reverse it while its file and that are here, or keep both for as long as "
            "it may have to be reversed."
        )
    return Finding(
        answer,
        Verdict.GAP,
        f"it would not load without its branch: {'; '.join(lacking)}.",
        remedy,
    )


def _keep_its_file(answer: Status) -> str:
    if answer.file is File.PRESENT:
        return "Keep its file for as long as it may have to be reversed."
    return (
        "Check out the code that has its file as it was applied, and reverse it there."
    )


def _going_back(answer: Status) -> str:
    return manage(f"migrate {quoted(answer.app_label)} NAME", answer.database)


def judge(answer: Status) -> Finding:
    """What a status means for one who has to roll back some day."""
    if answer.lacks_code and answer.file is File.MISSING:
        return Finding(
            answer,
            Verdict.NOT_STORED,
            "it is recorded, but its code is not stored and its file is missing.",
            "Check out the code that has its file and run "
            f"{manage('migrate', answer.database)} there."
            f"{of_leftover(answer.app_label, answer.database)}",
        )
    if answer.lacks_code:
        return Finding(
            answer,
            Verdict.NOT_STORED,
            "it is recorded, but its code is not stored.",
            f"Run {manage('backfill_migration_code', answer.database)} while its file "
            "is here.",
        )
    if answer.gap and answer.is_ghost:
        return Finding(
            answer,
            Verdict.NOT_STORED,
            "its file is missing, and it is stored without code: "
            f"{shortened(answer.gap)}.",
            "Check out the code that has its file, and reverse it there.",
        )
    if answer.gap and answer.superseded_by is None:
        return Finding(
            answer,
            Verdict.GAP,
            f"it is stored without code: {shortened(answer.gap)}.",
            "Keep its file for as long as it may have to be reversed.",
        )
    if answer.file is File.EDITED:
        command = f"verify_migrations {quoted(answer.app_label)} --diff"
        diffing = manage(command, answer.database)
        return Finding(
            answer,
            Verdict.EDITED,
            "its file was edited after it was applied.",
            f"Restore the file, or reverse it, which uses the stored code, and apply "
            f"it again. {diffing} shows how it differs.",
        )
    if answer.is_ghost and not answer.stored:
        return Finding(
            answer,
            Verdict.NOT_STORED,
            "its file is missing, and its code is not stored, since its app is in "
            "DJANGO_REWIND_EXCLUDE_APPS.",
            "Check out the code that has its file, and reverse it there.",
        )
    if answer.is_ghost:
        return Finding(
            answer,
            Verdict.GHOST,
            "its file is missing, and its code is stored.",
            f"{_going_back(answer)} can reverse it.",
        )
    if answer.recorded and not answer.stored and answer.excluded:
        return Finding(
            answer, Verdict.EXCLUDED, "its app is in DJANGO_REWIND_EXCLUDE_APPS."
        )
    return Finding(answer, Verdict.OK)


def diff(connection: BaseDatabaseWrapper, key: Key) -> str:
    """From the stored code of an edited migration to its file, as a unified diff."""
    code = store.fetch(connection, [key])[key]
    module = source.module_name(*key)
    text = source.read(module) if module else ""
    lines = difflib.unified_diff(
        code.source_code.splitlines(keepends=True),
        text.splitlines(keepends=True),
        f"{code} (stored)",
        f"{code} (file)",
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in lines
    )
