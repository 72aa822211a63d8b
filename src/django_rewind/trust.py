"""Stored code that does not verify, and what a person decides about it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from . import capture, needs, signing, store
from .exceptions import NotTrusted, SourceUnavailable
from .models import Key, MigrationCode, StoredCode
from .source import Disk
from .terminal import on_one_line, printable, printable_lines

RESTORE = (
    "Restore its file, which then reverses it, and stores it anew when it is applied "
    "again."
)
RESTORE_EARLIER = (
    "Where it is to be applied again, restore its file of then. Once no restore point "
    "remembers it, prune_stored_migrations removes it, with --older-than."
)


class Candidate(NamedTuple):
    """A row that does not verify. With an obstacle, nobody can trust it."""

    code: StoredCode
    fact: str
    obstacle: str = ""
    # What would be stored for its file here and now. None beside an obstacle, and for
    # an earlier version.
    file: MigrationCode | None = None

    @property
    def is_earlier(self) -> bool:
        return not isinstance(self.code, MigrationCode)

    @property
    def name(self) -> str:
        if self.is_earlier:
            return f"{self.code}, its earlier version of {self.code.stored_when}"
        return str(self.code)

    @property
    def remedy(self) -> str:
        return RESTORE_EARLIER if self.is_earlier else RESTORE

    @property
    def matches_file(self) -> bool:
        """Whether the row says nothing that its file does not say."""
        code, file = self.code, self.file
        return (
            file is not None
            and code.source_code == file.source_code
            and code.module_name == file.module_name
            and code.replaced_keys == file.replaced_keys
            and code.resolved_dependencies in (None, file.resolved_dependencies)
            and code.needed_digests in ({}, file.needed_digests)
            and code.gap == file.gap
            and code.lacking in ([], file.lacking)
            # No file says that it was recorded without being applied.
            and not code.faked
        )


def find(connection: BaseDatabaseWrapper, keys: Collection[Key]) -> list[Candidate]:
    """Those of the stored migrations that do not verify. Parses no stored code.

    And those of their earlier versions to which a rollback may go back.
    """
    if not keys:
        return []
    facts = {}
    with store.reading(connection):
        for code in store.versions(connection):
            if code.key in keys and (fact := fault_of(code)):
                facts[code] = fact
        needs.attach(connection, facts)
    disk = Disk()
    return [_candidate(code, fact, disk) for code, fact in facts.items()]


def sign_with_current_key(
    connection: BaseDatabaseWrapper, keys: Collection[Key]
) -> int:
    """How many that an earlier key vouches for have a new signature now."""
    if not keys:
        return 0
    with store.reading(connection):
        older = [
            code
            for code in store.versions(connection)
            if code.key in keys
            and not signing.is_of_current_key(code)
            and not fault_of(code)
        ]
    return sum(trust(connection, Candidate(code, "")) for code in older)


def fault_of(code: StoredCode) -> str:
    """Why a row does not verify; empty if it does."""
    try:
        signing.verify(code)
    except NotTrusted as reason:
        return reason.fact
    return ""


def _candidate(code: StoredCode, fact: str, disk: Disk) -> Candidate:
    obstacle = "".join(_unreadable(code)) or needs.damage(code)
    # What a file says now is nothing that an earlier version could be held against.
    has_file = isinstance(code, MigrationCode) and not obstacle
    return Candidate(code, fact, obstacle, _on_disk(code, disk) if has_file else None)


def _unreadable(code: StoredCode) -> Iterator[str]:
    """What is signed is what is written, so it must be what is read and shown."""
    names = code.app_label, code.migration_name, code.module_name
    texts = *names, code.source_code, code.gap, code.closure_gaps
    # SQLite keeps anything in any column.
    if not (all(isinstance(t, str) for t in texts) and isinstance(code.faked, bool)):
        yield "a column of its row holds what does not belong there."
        return
    written: list[tuple[str, Any]] = [
        (code.replaces, code.replaced_keys),
        (code.closure, code.needed_digests),
    ]
    if code.dependencies != "":
        written.append((code.dependencies, code.resolved_dependencies))
    if any(text != json.dumps(read) for text, read in written):
        yield "what it replaces, depends on or needs is not as django-rewind writes it."


def _on_disk(code: StoredCode, disk: Disk) -> MigrationCode | None:
    try:
        file = capture.capture(*code.key, MigrationCode.Captured.LATER)
    except SourceUnavailable:
        return None
    # A migration that is nowhere would be stored as a gap too.
    return file if disk.has(code.key) or not file.gap else None


def describe(candidate: Candidate) -> Iterator[str]:
    """All that would be signed, as lines that are safe to show."""
    code = candidate.code
    dependencies = code.resolved_dependencies
    if code.origin:
        yield f"Said to come from: {on_one_line(code.origin)}"
    yield f"Module: {on_one_line(code.module_name) or 'that of its file'}"
    yield f"Replaces: {_names(code.replaced_keys)}"
    yield "Depends on: " + (
        "what its code says" if dependencies is None else _names(dependencies)
    )
    if code.faked:
        yield "Recorded with --fake: a rollback removes the record only."
    if code.gap and code.source_code:
        yield f"Said to have no code, so that none is used: {on_one_line(code.gap)}."
    if code.lacking:
        yield f"Not stored with it: {on_one_line('; '.join(code.lacking))}."
    yield from _describe_code(candidate)
    for name, text in sorted(code.needed.items()):
        yield f"It needs {on_one_line(name)}:"
        yield from _indented(printable_lines(text))


def _describe_code(candidate: Candidate) -> Iterator[str]:
    code, file = candidate.code, candidate.file
    if not code.source_code:
        yield f"It has no code: {on_one_line(code.gap) or 'nobody says why'}."
    elif candidate.is_earlier:
        yield "Its code then:"
        yield from _indented(printable_lines(code.source_code))
    elif file is None or not file.source_code:
        yield "Its file is not here. Its code:"
        yield from _indented(printable_lines(code.source_code))
    elif code.source_code == file.source_code:
        yield "Its code is that of its file."
    elif diff := list(_diff(file, code)):
        yield "Its code differs from its file:"
        yield from _indented(diff)
    else:
        yield "Its code differs from its file in line endings only."


def _diff(file: StoredCode, code: StoredCode) -> Iterator[str]:
    lines = difflib.unified_diff(
        _lines(file.source_code),
        _lines(code.source_code),
        f"{code} (file)",
        f"{code} (stored)",
        lineterm="",
    )
    # Escaped last, since what an escape looks like may stand in the file.
    return map(printable, lines)


def _lines(text: str) -> list[str]:
    """As Python counts them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """So that no line of the code can pretend to be one of ours."""
    return (f"  {line}".rstrip() for line in lines)


def _names(keys: Iterable[Key]) -> str:
    return on_one_line(", ".join(map(".".join, keys))) or "nothing"


def trust(connection: BaseDatabaseWrapper, candidate: Candidate) -> bool:
    """Sign a row anew; False if it is no longer what was shown.

    Raises NotTrusted for one with an obstacle.
    """
    if candidate.obstacle:
        raise NotTrusted(candidate.obstacle, candidate.remedy)
    rows = store.same_row(connection, candidate.code)
    with transaction.atomic(using=connection.alias):
        code = rows.select_for_update().first()
        if code is None or _values(code) != _values(candidate.code):
            return False
        capture.set_source(code, code.source_code)
        signing.sign(code)
        signed = "signature", "signing_key", "digest", "size"
        store.update(connection, code, *signed)
    return True


def _values(code: StoredCode) -> list[Any]:
    return [getattr(code, field.attname) for field in code._meta.concrete_fields]
