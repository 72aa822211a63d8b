"""Stored code that nothing relies on any more."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from . import journal, needs, points, store
from .actions import PRUNE_CODE
from .exceptions import RewindError
from .models import Key, MigrationCode, StoredCode

UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class Scope(NamedTuple):
    """What is looked at: one app or all, and what was stored before some moment."""

    app_label: str | None = None
    before: datetime | None = None

    def has(
        self,
        code: StoredCode,
        relied_on: Collection[Key],
        remembered: Collection[tuple[Key, str]],
    ) -> bool:
        if self.app_label not in (None, code.app_label):
            return False
        if (code.key, code.digest) in remembered:
            return False
        if self.before is None:
            return code.key not in relied_on
        if isinstance(code, MigrationCode) and code.key in relied_on:
            return False
        # SQLite keeps anything in any column, and Django reads what is no date as None.
        return code.stored_at is not None and code.stored_at < self.before


class Surplus(NamedTuple):
    """What may go: rows, and the digests of code that only these rows needed."""

    codes: list[StoredCode]
    needed: set[str]


def read_age(text: str) -> timedelta:
    """ "90d", "2w" or "12h"; raises RewindError for anything else."""
    match = re.fullmatch("([0-9]{1,5})([hdw])", text)
    if match is None:
        raise RewindError(
            f"'{text}' is no age. Give a number of at most five digits and its unit, "
            "h (hours), d (days) or w (weeks), as in '90d'."
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def older_than(age: str | None) -> datetime | None:
    return None if age is None else timezone.now() - read_age(age)


def find(connection: BaseDatabaseWrapper, scope: Scope) -> Surplus:
    """Rows of what is not recorded and not relied on, and earlier versions.

    Those of what is relied on stay, unless the scope has an age; what a restore point
    remembers stays in any case.
    """
    with store.reading(connection):
        recorded = store.contents(connection).recorded
        current = list(store.without_source(connection))
        codes: list[StoredCode] = [*current, *store.every_earlier(connection)]
        needed = needs.digests(connection)
    remembered = {
        version
        for point in points.restore_points(journal.read(connection)).values()
        for version in point.records.items()
    }
    relied_on = find_relied_on([*recorded, *(key for key, _ in remembered)], current)
    going = [code for code in codes if scope.has(code, relied_on, remembered)]
    staying = (code for code in codes if code not in going)
    return Surplus(going, needed.difference(_mentioned(staying)))


def find_relied_on(recorded: Iterable[Key], codes: Iterable[StoredCode]) -> set[Key]:
    """What is recorded; what that replaces or depends on; and what replaces it.

    A branch from before a squash needs the originals, one from after it the squash.
    """
    is_recorded = frozenset(recorded)
    relied_on = set(is_recorded)
    relations = {}
    for code in codes:
        replaced = code.replaced_keys
        relations[code.key] = [*replaced, *(code.resolved_dependencies or ())]
        if not is_recorded.isdisjoint(replaced):
            relied_on.add(code.key)
    pending = list(relied_on)
    while pending:
        more = set(relations.get(pending.pop(), ())) - relied_on
        relied_on |= more
        pending += more
    return relied_on


def _mentioned(codes: Iterable[StoredCode]) -> set[str]:
    """Digests in a closure, also in one that was altered: then a person must look."""
    return {
        digest
        for code in codes
        for digest in re.findall("[0-9a-f]{64}", str(code.closure))
    }


def prune(connection: BaseDatabaseWrapper, scope: Scope, agreed: Surplus) -> Surplus:
    """Remove what was agreed to, as far as it still may go; what was removed."""
    known = {_identity(code) for code in agreed.codes}
    run = journal.current()
    with transaction.atomic(using=connection.alias):
        # A migrate may have recorded something meanwhile, and may do so now.
        store.lock(connection)
        now = find(connection, scope)
        going = [code for code in now.codes if _identity(code) in known]
        stays = (code for code in now.codes if _identity(code) not in known)
        needed = (agreed.needed & now.needed).difference(_mentioned(stays))
        store.delete(connection, going)
        needs.delete(connection, needed)
        for code in going:
            run.note(connection, PRUNE_CODE, code.key, code.digest)
    return Surplus(going, needed)


def _identity(code: StoredCode) -> tuple[object, ...]:
    return type(code), code.pk, code.key, code.digest, code.stored_at
