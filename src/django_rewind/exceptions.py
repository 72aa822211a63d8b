from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import django
from django.apps import apps

from .terminal import manage, on_one_line, quoted, said

RUN_AGAIN = "Remove the cause and run the same command again: it goes on from there."


class Problem(NamedTuple):
    """What keeps one migration from being reversed: the fact, then the remedy."""

    app_label: str
    migration_name: str
    fact: str
    remedy: str

    def __str__(self) -> str:
        return on_one_line(
            f"{self.app_label}.{self.migration_name}: {self.fact} {self.remedy}"
        )


class RewindError(Exception):
    """Base of the errors that django-rewind foresees."""


class BadSetting(RewindError):
    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name = name
        self.fact = f"{name} is {value!r}."
        self.remedy = f"Set it to {expected}."
        super().__init__(f"{self.fact} {self.remedy}")


class LockTimeout(RewindError):
    """Another process migrates the database, and goes on for too long."""

    def __init__(self, alias: str, holder: str, seconds: float) -> None:
        self.alias = alias
        self.holder = holder
        super().__init__(
            f"The lock of database '{alias}' is held by {holder}, and was not free "
            f"within {seconds:g} seconds. Nothing was changed. Try again when that "
            "process is done, or raise DJANGO_REWIND_LOCK_TIMEOUT. If no such process "
            "runs, a connection pooler keeps the lock: set DJANGO_REWIND_LOCK = False."
        )


class SourceUnavailable(RewindError):
    """A migration has no text that could be stored."""


class TableOutdated(RewindError):
    """django_migrations_code has the columns of django-rewind 0.1.0."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.fact = (
            f"The table django_migrations_code in database '{alias}' was made by an "
            "older release of django-rewind."
        )
        self.remedy = f"Run {manage('migrate django_rewind', alias)} to upgrade it."
        super().__init__(f"{self.fact} {self.remedy}")


class TablesNotMade(RewindError):
    """Without the right to make tables, or another reason that the database has."""

    def __init__(self, alias: str, error: Exception) -> None:
        reason = on_one_line(str(error)).strip().rstrip(".")
        super().__init__(
            f"The table django_migrations_code in database '{alias}' could not be made "
            f"or upgraded: {reason}. See that its user may make tables, and run "
            f"{manage('migrate', alias)}."
        )


class StoreUnreadable(RewindError):
    """What is stored cannot be read, for example since it is no text."""

    def __init__(
        self,
        alias: str,
        error: Exception,
        table: str = "",
        rows: Sequence[object] = (),
    ) -> None:
        self.alias = alias
        reason = on_one_line(str(error)).strip().rstrip(".")
        self.fact = f"What is stored in database '{alias}' cannot be read: {reason}."
        self.remedy = "See that it can be reached."
        if table:
            self.remedy = f"Grant the rights to read and write {table}."
        if rows:
            ids = on_one_line(", ".join(map(str, rows)))
            self.remedy = f"Restore or delete these rows of {table}: {ids}."
        super().__init__(f"{self.fact} {self.remedy}")


class Unreachable(RewindError):
    """Stored code that must not or cannot be loaded: the fact, then the remedy."""

    def __init__(self, fact: str, remedy: str) -> None:
        self.fact = fact
        self.remedy = remedy
        super().__init__(f"{fact} {remedy}")


class NotTrusted(Unreachable):
    """Stored code that is not what this project signed."""


class Refused(RewindError):
    """A rollback that was refused before its first statement."""

    def __init__(self, goal: str, problems: list[Problem]) -> None:
        self.goal = goal
        self.problems = problems
        super().__init__(goal, problems)

    def __str__(self) -> str:
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"Cannot {on_one_line(self.goal)}. Nothing was changed.\n{lines}"


class HalfDone(RewindError):
    """A migration of which a run before did a part, between two commits."""

    def __init__(
        self, key: tuple[str, str], what: str, at: str, described: str, remedy: str
    ) -> None:
        """`what`: "reversed" or "applied"."""
        self.key = key
        super().__init__(
            f"{on_one_line('.'.join(key))} was {what} in part, on {at}. Nothing was "
            f"changed now.\n{described}\n{remedy}"
        )


def by_hand(app_label: str, alias: str) -> str:
    """What to run after a step that cannot go on by itself was mended."""
    fake = manage(f"migrate {quoted(app_label)} NAME --fake", alias)
    return (
        f"Finished: {fake}, with the migration before it, removes its record. Undone: "
        f"{manage('rewind --mended', alias)} reverses it as a whole, or lets it stay "
        "where its file is here."
    )


def applied_by_hand(key: tuple[str, str], alias: str, *, has_file: bool) -> str:
    """The same after one that was applied in part."""
    recording = manage("migrate {} {} --fake".format(*map(quoted, key)), alias)
    mended = manage("rewind --mended", alias)
    if has_file:
        return (
            f"Finished: {recording} records it. Undone: {mended} forgets it, and "
            f"{manage('migrate', alias)} applies it as a whole."
        )
    return (
        f"Undone: {mended} forgets it. Finished: {recording} records it where its file "
        "is."
    )


def pruning(app_label: str, alias: str) -> str:
    """What removes the records of an app that have no file; "" if Django has nothing.

    It takes all of them, and only of an installed app.
    """
    if django.VERSION < (4, 1) or app_label not in apps.app_configs:
        return ""
    return manage(f"migrate {quoted(app_label)} --prune", alias)


def of_leftover(app_label: str, alias: str) -> str:
    """What else a record without code and file may be, and what to do then."""
    prune = pruning(app_label, alias)
    return prune and (
        " If another migration stands for it, as after a squash whose `replaces` was "
        f"removed, {prune} forgets it."
    )


class Stopped(RewindError):
    """A run that stopped part-way: what is done, what is left, and what went wrong."""

    def __init__(
        self,
        done: Sequence[str],
        left: Sequence[str],
        error: BaseException,
        half: str = "",
        remedy: str = RUN_AGAIN,
    ) -> None:
        self.done = done
        self.left = left
        self.error = error
        # What is known of the first one that is left, or of the end, in lines.
        self.half = half
        self.remedy = remedy
        super().__init__(done, left, error, half, remedy)

    def __str__(self) -> str:
        where = self.left[0] if self.left else "the end"
        lines = [
            f"Stopped at {where}: {said(self.error)}",
            *self.half.splitlines(),
            f"Done: {', '.join(self.done) or 'nothing'}.",
            f"Left: {', '.join(self.left) or 'nothing'}.",
            self.remedy,
        ]
        return "\n  ".join(lines)
