"""Renamed migrations: applied under one name, on disk under another.

Instead of dropping and making again what they made, their record gets the new name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from . import likeness
from .ghosts import Ghosts
from .models import Key
from .terminal import on_one_line


class Adoption(NamedTuple):
    """A ghost that becomes the migration of a file."""

    old: Key
    new: Key
    # What the file depends on and is not applied: a rename alone would be a record
    # before its dependency.
    first: list[Key]
    is_faked: bool

    def __str__(self) -> str:
        old, new = map(".".join, (self.old, self.new))
        return on_one_line(f"{old} as {new}")


def find(ghosts: Ghosts, keys: Collection[Key]) -> list[Adoption]:
    """The ghosts among `keys` that do what a file does that is not applied."""
    files = ghosts.files
    unapplied = [
        key for key in sorted(files.graph.nodes) if key not in files.applied_migrations
    ]
    found: dict[Key, Key] = {}
    for key in keys:
        if not ghosts.has_ghost(key):
            continue
        alike = [
            file
            for file in unapplied
            if file[0] == key[0]
            and file not in found.values()
            and not files.disk_migrations[file].replaces
            and likeness.do_the_same(ghosts.loaded[key], files.disk_migrations[file])
        ]
        # Of several, the one that differs in its number alone.
        same = [file for file in alike if _title(file) == _title(key)] or alike
        if len(same) == 1 and ghosts.loaded[key].operations:
            found[key] = same[0]
    _drop_those_on_what_goes(ghosts, keys, found)
    news = set(found.values())
    return [
        Adoption(
            old,
            new,
            [
                key
                for key in files.graph.forwards_plan(new)
                if key in unapplied and key not in news
            ],
            ghosts.statuses[old].faked,
        )
        for old, new in found.items()
    ]


def _title(key: Key) -> str:
    number, _, title = key[1].partition("_")
    return title if number.isdigit() else key[1]


def _drop_those_on_what_goes(
    ghosts: Ghosts, keys: Collection[Key], found: dict[Key, Key]
) -> None:
    """Nothing is reversed under a dependant that stays."""
    while True:
        lost = [
            key
            for key in found
            if any(
                dependency in keys and dependency not in found
                for dependency in ghosts.loaded[key].dependencies
            )
        ]
        if not lost:
            return
        for key in lost:
            del found[key]
