"""The other code that stored migrations need: each text once, under its digest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.db import DatabaseError, DataError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from . import source, tables
from .models import StoredCode

# SQLite takes no more than 999 parameters by default.
BATCH = 500

DIGEST = "[0-9a-f]{64}"


def rows(connection: BaseDatabaseWrapper) -> QuerySet[Any]:
    from .archive import NeededCode

    return NeededCode._default_manager.using(connection.alias)


def attach(connection: BaseDatabaseWrapper, codes: Collection[StoredCode]) -> None:
    """Give each row the code that it needs; what was altered since is left out."""
    wanted = {digest for code in codes for digest in code.needed_digests.values()}
    texts: dict[str, str] = {}
    for batch in _batches(connection, wanted, BATCH):
        texts.update(_intact_texts(connection, batch))
    for code in codes:
        code.needed = {
            name: texts[digest]
            for name, digest in code.needed_digests.items()
            if digest in texts
        }


def intact(connection: BaseDatabaseWrapper) -> set[str]:
    """The digests of all needed code that is as it was signed.

    Reads every text once, and holds few of them at a time.
    """
    found: set[str] = set()
    for batch in _batches(connection, None, size=20):
        found.update(_intact_texts(connection, batch))
    return found


def damaged(code: StoredCode, intact: Collection[str] | None = None) -> list[str]:
    """The names of what a row needs and that is missing or was altered.

    `intact`: the digests of what is as it was signed; None if attach() was called.
    """
    if intact is None:
        return sorted(code.needed_digests.keys() - code.needed.keys())
    found = code.needed_digests.items()
    return sorted(name for name, digest in found if digest not in intact)


def damage(code: StoredCode, intact: Collection[str] | None = None) -> str:
    """The same as a fact; empty if there is none."""
    names = ", ".join(damaged(code, intact))
    return names and f"the code that it needs, {names}, is missing or was altered."


def _batches(
    connection: BaseDatabaseWrapper, wanted: Collection[str] | None, size: int
) -> Iterator[list[str]]:
    """In batches; all that there are, unless some are wanted."""
    if wanted == set() or tables.NEEDED not in tables.existing(connection):
        return
    if wanted is None:
        wanted = rows(connection).values_list("digest", flat=True)
    # Not every driver takes what somebody else may have written there.
    ordered = sorted(
        d for d in wanted if isinstance(d, str) and re.fullmatch(DIGEST, d)
    )
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _intact_texts(
    connection: BaseDatabaseWrapper, digests: Sequence[str]
) -> dict[str, str]:
    try:
        texts = dict(
            rows(connection)
            .filter(digest__in=digests)
            .values_list("digest", "source_code")
        )
    except DatabaseError:
        if connection.vendor != "sqlite":
            raise
        # It keeps what is no text, and then reads none of these.
        if len(digests) == 1:
            return {}
        middle = len(digests) // 2
        return {
            **_intact_texts(connection, digests[:middle]),
            **_intact_texts(connection, digests[middle:]),
        }
    # It is the digest that was signed.
    return {
        digest: text
        for digest, text in texts.items()
        if isinstance(text, str) and source.digest(text) == digest
    }


def digests(connection: BaseDatabaseWrapper) -> set[str]:
    """Of all the code that any stored migration needed, intact or not."""
    if tables.NEEDED not in tables.existing(connection):
        return set()
    return set(rows(connection).values_list("digest", flat=True))


def save(connection: BaseDatabaseWrapper, code: StoredCode) -> None:
    """Store what a row needs, also in the place of what was altered since.

    In a transaction, so that whoever removes some is waited for.
    """
    # Late, since few migrations need any.
    from .archive import keep_texts

    texts = code.needed_texts
    # Before anything is read.
    keep_texts(connection, texts)
    altered = texts.keys() - _intact_texts(connection, sorted(texts)).keys()
    if altered:
        delete(connection, altered)
        keep_texts(connection, {digest: texts[digest] for digest in altered})
        if altered - _intact_texts(connection, sorted(altered)).keys():
            # MySQL's INSERT IGNORE stores what its character set can hold.
            raise DataError("the database does not keep the code that it needs")


def delete(connection: BaseDatabaseWrapper, digests: Collection[str]) -> None:
    ordered = sorted(digests)
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        rows(connection).filter(pk__in=batch).delete()
