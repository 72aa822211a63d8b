"""recorded × stored × on disk → one answer for each migration.

The only place that decides what a ghost is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper

from . import conf, signing, source, store
from .exceptions import SourceUnavailable
from .models import Key, MigrationCode
from .source import Disk
from .store import Contents


class File(str, Enum):
    PRESENT = "present"
    MISSING = "missing"
    EDITED = "edited"


class Status(NamedTuple):
    """One migration of one database."""

    app_label: str
    migration_name: str
    recorded: bool
    stored: bool
    file: File
    gap: str = ""
    # What stands for this migration, if its file is merely replaced.
    superseded_by: Key | None = None
    # What it replaces, if it is a squashed migration that is stored.
    replaces: tuple[Key, ...] = ()
    excluded: bool = False
    # Recorded, and never applied.
    faked: bool = False
    # Its app is installed, and Django is kept from seeing its migrations.
    switched_off: bool = False
    # Its alias.
    database: str = DEFAULT_DB_ALIAS

    @property
    def key(self) -> Key:
        return self.app_label, self.migration_name

    @property
    def is_ghost(self) -> bool:
        return (
            self.recorded and self.file is File.MISSING and self.superseded_by is None
        )

    @property
    def lacks_code(self) -> bool:
        return (
            self.recorded
            and not self.stored
            and not self.excluded
            and self.superseded_by is None
        )


def read(connection: BaseDatabaseWrapper, *, compare: bool = True) -> dict[Key, Status]:
    """Each recorded migration in the order of the records, then each other stored one.

    Without `compare`, only the recorded ones, and not which files were edited: that
    reads each file, and the stored code of those that differ. Raises TableOutdated,
    and StoreUnreadable.
    """
    with store.reading(connection):
        contents = store.contents(connection)
        if compare:
            store.add_unrecorded(connection, contents)
    disk = Disk()
    _believe_only_what_verifies(connection, contents, disk)
    edited = find_edited(connection, contents, disk) if compare else ()
    return classify(contents, disk, edited, connection.alias)


def _believe_only_what_verifies(
    connection: BaseDatabaseWrapper, contents: Contents, disk: Disk
) -> None:
    """Forget what other rows replace: by that, they could hide a ghost.

    One query where a file is missing and a row may stand for it, else none.
    """
    missing = {key for key in contents.recorded if not disk.has(key)}
    claims = [
        key
        for key, replaced in contents.stored.items()
        if replaced and (key in missing or not missing.isdisjoint(replaced))
    ]
    if not claims:
        return
    with store.reading(connection):
        found = store.fetch(connection, claims)
    for key in claims:
        if key not in found or not signing.is_verified(found[key]):
            contents.stored[key] = []


def classify(
    contents: Contents,
    disk: Disk,
    edited: Collection[Key] = (),
    alias: str = DEFAULT_DB_ALIAS,
) -> dict[Key, Status]:
    recorded = dict.fromkeys(contents.recorded)
    superseded = find_superseded(contents, disk)
    excluded_apps = conf.excluded_apps()
    answers = {}
    others = (key for key in contents.stored if key not in recorded)
    # As text, since SQLite keeps bytes in a column for text.
    for key in [*recorded, *sorted(others, key=lambda key: tuple(map(str, key)))]:
        if not disk.has(key):
            file = File.MISSING
        else:
            file = File.EDITED if key in edited else File.PRESENT
        answers[key] = Status(
            *key,
            recorded=key in recorded,
            stored=key in contents.stored,
            file=file,
            gap=contents.gaps.get(key, ""),
            superseded_by=superseded.get(key),
            replaces=tuple(contents.stored.get(key, ())),
            excluded=key[0] in excluded_apps,
            faked=key in contents.faked,
            switched_off=file is File.MISSING and disk.hides(key),
            database=alias,
        )
    return answers


def ghosts_to_rewind(answers: Iterable[Status]) -> list[Status]:
    """Not those of an app whose migrations are switched off: it has use for them."""
    return [a for a in answers if a.is_ghost and not a.switched_off]


def find_superseded(contents: Contents, disk: Disk) -> dict[Key, Key]:
    """Recorded migrations without a file → the migration that stands for each."""
    missing = [key for key in contents.recorded if not disk.has(key)]
    return _Squashes(contents, disk).find_superseded(missing) if missing else {}


class _Squashes:
    """Who stands for whom.

    A squashed migration in force stands for what it replaces, also where its
    `replaces` was removed since, or its own file is gone. On a branch from before
    the squash it is the other way round: the originals stand for it.
    """

    def __init__(self, contents: Contents, disk: Disk) -> None:
        self.contents = contents
        self.disk = disk
        self.recorded = frozenset(contents.recorded)

    def find_superseded(self, missing: list[Key]) -> dict[Key, Key]:
        superseded: dict[Key, Key] = {}
        for squash, replaced in self._all({app_label for app_label, _ in missing}):
            if self._is_in_force(squash, replaced):
                superseded.update(dict.fromkeys(replaced, squash))
        for key in missing:
            if key not in superseded and self._has_originals(key):
                originals = self.contents.stored[key]
                superseded[key] = next(filter(self.disk.has, originals))
        return {key: superseded[key] for key in missing if key in superseded}

    def names(self, app_labels: set[str]) -> dict[Key, Key]:
        """What is squashed → by what."""
        return {
            key: squash
            for squash, replaced in self._all(app_labels)
            for key in replaced
        }

    def _all(self, app_labels: set[str]) -> Iterator[tuple[Key, list[Key]]]:
        yield from self.contents.stored.items()
        for app_label in app_labels:
            for name in self.disk[app_label]:
                module = source.module_name(app_label, name)
                yield (app_label, name), source.replaces(module or "")

    def _is_in_force(self, squash: Key, replaced: list[Key]) -> bool:
        if self.disk.has(squash):
            return squash in self.recorded or self.recorded.issuperset(replaced)
        return (
            squash in self.recorded
            and self._has_code(squash)
            and not self._has_originals(squash)
        )

    def _has_originals(self, squash: Key) -> bool:
        originals = self.contents.stored.get(squash, [])
        return any(map(self.disk.has, originals)) and all(
            original in self.recorded
            and (self.disk.has(original) or self._has_code(original))
            for original in originals
        )

    def _has_code(self, key: Key) -> bool:
        return key in self.contents.stored and key not in self.contents.gaps


def find_edited(
    connection: BaseDatabaseWrapper, contents: Contents, disk: Disk
) -> set[Key]:
    """Recorded migrations whose file no longer does what their stored code does."""
    files = {}
    with store.reading(connection):
        digests = store.digests(connection)
    for key, digest in digests.items():
        module = source.module_name(*key)
        if key in contents.gaps or module is None or not disk.has(key):
            continue
        if key[0] == "django_rewind":
            # Another release spells them in another way, and they make the same.
            continue
        try:
            text = source.read(module)
        except SourceUnavailable:
            continue
        if source.digest(text) != digest:
            files[key] = text
    differing = store.fetch(connection, set(contents.recorded).intersection(files))
    squashes = _Squashes(contents, disk)
    return {
        key
        for key, code in differing.items()
        if not (
            signing.is_verified(code)
            and (
                source.means_the_same(code.source_code, files[key])
                or _depends_on_squashes(code, files[key], squashes)
            )
        )
    }


def _depends_on_squashes(code: MigrationCode, text: str, squashes: _Squashes) -> bool:
    """Whether only its dependencies differ: they name squashed migrations instead.

    As they have to before the originals are deleted, see
    https://docs.djangoproject.com/en/stable/topics/migrations/#squashing-migrations
    """
    then = code.resolved_dependencies
    now = source.dependencies(source.module_name(*code.key) or "", code.app_label)
    if then is None or now is None:
        return False
    names = squashes.names({app_label for app_label, _ in [*then, *now]})
    return {names.get(key, key) for key in then} == {
        names.get(key, key) for key in now
    } and source.means_the_same(
        code.source_code, text, but_for=("replaces", "dependencies")
    )
