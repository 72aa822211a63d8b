"""Migrations that were applied, and are on disk with another name or dependencies.

Instead of dropping and making again what they made, their record gets the new name, or
their code is stored anew. What a squashed migration replaced gets its records back,
where it is here again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AddIndex,
    AlterModelManagers,
    AlterModelOptions,
    CreateModel,
    RunPython,
)

from . import importer, likeness, source, store, touched
from .capture import capture
from .exceptions import NotTrusted, RewindError, Unreachable
from .ghosts import Ghosts
from .models import Key, MigrationCode, StoredCode
from .terminal import on_one_line

# They neither change rows nor what others made.
ADDITIVE = AddField, AddIndex, AlterModelManagers, AlterModelOptions, CreateModel


class Adoption(NamedTuple):
    """A ghost that becomes the migration of a file, or one that depends on others now.

    The latter keeps its name: as after a rebase by hand. A squashed migration becomes
    all that it replaced.
    """

    old: Key
    # In the order of the files' graph.
    names: list[Key]
    # What the file depends on and is not applied: a rename alone would be a record
    # before its dependency.
    first: list[Key]
    # Ghosts that the old name depends on and that are reversed: by then it must be the
    # new one, which does not.
    beneath: list[Key]
    is_faked: bool

    @property
    def new(self) -> Key:
        return self.names[-1]

    @property
    def is_split(self) -> bool:
        return len(self.names) > 1

    @property
    def is_renamed(self) -> bool:
        return self.old != self.new

    def __str__(self) -> str:
        old, names = ".".join(self.old), ", ".join(map(".".join, self.names))
        return on_one_line(f"{old} as {names}" if self.is_renamed else old)


def find(
    connection: BaseDatabaseWrapper,
    ghosts: Ghosts,
    keys: Collection[Key],
    never: Collection[Key] = (),
) -> list[Adoption]:
    """The ghosts among `keys` that do what a file does that is not applied.

    And those whose own files do, but depend on what is not applied, or no longer on
    ghosts among `keys`. But for those that are `never` to stay. In the order of the
    files' graph.
    """
    files = ghosts.files
    unapplied = [
        key for key in sorted(files.graph.nodes) if key not in files.applied_migrations
    ]
    edited = [
        key
        for key in ghosts.loaded
        if key in files.graph.nodes
        and (key in keys or _reversed_beneath(ghosts, keys, (), key))
    ]
    wanted = [k for k in (*filter(ghosts.has_ghost, keys), *edited) if k not in never]
    codes = store.fetch(connection, wanted)
    found: dict[Key, list[Key]] = {}
    for key in wanted:
        if replaced := ghosts.statuses[key].replaces:
            is_ghost = ghosts.has_ghost(key)
            if is_ghost and _are_as_applied(connection, ghosts, key, replaced):
                found[key] = sorted(replaced, key=partial(_depth, files))
            continue
        if key in edited:
            candidates = [key]
        elif ghosts.loaded[key].operations:
            candidates = [file for file in unapplied if file[0] == key[0]]
        else:
            candidates = []
        alike = [
            file
            for file in candidates
            if file not in _all_names(found)
            and not files.disk_migrations[file].replaces
            and _do_the_same(
                ghosts.loaded[key], codes[key], files.disk_migrations[file]
            )
        ]
        # Of several, the one that differs in its number alone.
        same = [file for file in alike if _title(file) == _title(key)] or alike
        if len(same) == 1:
            found[key] = same
    while _drop_one(ghosts, keys, found):
        pass
    adoptions = _in_order(ghosts, keys, found)
    for adopted in adoptions:
        ghosts.let_stay(adopted.old, adopted.beneath)
    return adoptions


def _in_order(
    ghosts: Ghosts, keys: Collection[Key], found: dict[Key, list[Key]]
) -> list[Adoption]:
    files, everything = ghosts.files, _all_names(found)
    adoptions = [
        Adoption(
            old,
            names,
            list(_unapplied_before(files, names, everything)),
            _reversed_beneath(ghosts, keys, found, old),
            ghosts.statuses[old].faked,
        )
        for old, names in found.items()
    ]
    return sorted(adoptions, key=lambda a: _depth(files, a.new))


def _all_names(found: dict[Key, list[Key]]) -> set[Key]:
    return {name for names in found.values() for name in names}


def _depth(files: MigrationLoader, key: Key) -> int:
    return len(files.graph.forwards_plan(key))


def without(
    ghosts: Ghosts, adoptions: list[Adoption], keys: Collection[Key]
) -> list[Adoption]:
    """Those whose old names are not in `keys`."""
    kept = {a.old: a.names for a in adoptions if a.old not in keys}
    if len(kept) == len(adoptions):
        return adoptions
    return _in_order(ghosts, keys, kept)


def _unapplied_before(
    files: MigrationLoader, names: list[Key], others: Collection[Key]
) -> Iterator[Key]:
    needed = dict.fromkeys(k for n in names for k in files.graph.forwards_plan(n))
    for key in needed:
        if key not in files.applied_migrations and key not in others:
            yield key


def _are_as_applied(
    connection: BaseDatabaseWrapper, ghosts: Ghosts, squash: Key, keys: Collection[Key]
) -> bool:
    """Whether the files of what a squash replaced are here, and do what it did.

    Each does what was stored for it, or together they make the schema of the squash.
    """
    files = ghosts.files
    if not all(
        k in files.graph.nodes and k not in files.applied_migrations for k in keys
    ):
        return False
    codes = store.fetch(connection, keys)
    if all(
        key in codes and _is_as_stored(codes[key], files.disk_migrations[key])
        for key in keys
    ):
        return True
    return bool(likeness.make_together(keys, ghosts.loaded[squash], files, connection))


def _is_as_stored(code: MigrationCode, file: Migration) -> bool:
    if code.ran_as != file.name:
        return False
    try:
        return _do_the_same(importer.load(code), code, file)
    except (NotTrusted, Unreachable):
        return False


def _title(key: Key) -> str:
    number, _, title = key[1].partition("_")
    return title if number.isdigit() else key[1]


def _do_the_same(ghost: Migration, code: MigrationCode, file: Migration) -> bool:
    """Also what they need: functions are compared as code, not by their names."""
    try:
        there = capture(file.app_label, file.name, StoredCode.Captured.LATER)
    except RewindError:
        return False
    if there.gap or code.needed_digests != there.needed_digests:
        return False
    return likeness.do_the_same(ghost, file) or source.mean_the_same_elsewhere(
        code.source_code, there.source_code
    )


def _drop_one(
    ghosts: Ghosts, keys: Collection[Key], found: dict[Key, list[Key]]
) -> bool:
    """Drop one that cannot be adopted; whether there was one."""
    for key in list(found):
        if _is_in_between(ghosts, keys, found, key):
            del found[key]
            return True
    return False


def _reversed_beneath(
    ghosts: Ghosts, keys: Collection[Key], found: Collection[Key], key: Key
) -> list[Key]:
    """What of `keys` the ghost depends on, and is not adopted as it is."""
    needed: dict[Key, None] = {}
    pending = [*ghosts.loaded[key].dependencies]
    while pending:
        dependency = pending.pop()
        if dependency in keys and dependency not in needed:
            needed[dependency] = None
            if ghosts.has_ghost(dependency):
                pending += ghosts.loaded[dependency].dependencies
    return [dependency for dependency in needed if dependency not in found]


def _is_in_between(
    ghosts: Ghosts, keys: Collection[Key], found: dict[Key, list[Key]], key: Key
) -> bool:
    """Whether something else comes before it now, or came before or after it, and would
    not do.

    As where another branch alters a field that this one alters: the last one counts.
    """
    files = ghosts.files
    names, new = _all_names(found), found[key][-1]
    first = list(_unapplied_before(files, found[key], names))
    beneath = _reversed_beneath(ghosts, keys, found, key)
    if beneath and (first or not all(map(ghosts.has_ghost, beneath))):
        # With neither name it would have what it depends on.
        return True
    needed = files.graph.forwards_plan(new)
    after = ghosts.recorded[ghosts.recorded.index(key) + 1 :]
    # They change places with it, and so do those that are adopted like it.
    later = [k for k in after if k in needed and k not in names]
    later += [k for k in after if k in found and found[k][-1] in needed]
    position = {one: number for number, one in enumerate(ghosts.recorded)}
    staying = {key: ghosts.loaded[key]}
    for dependant in files.graph.backwards_plan(new):
        # Those that stay as they are; each of the others is looked at by itself.
        if dependant in files.applied_migrations.keys() - found.keys() - set(keys):
            staying[dependant] = files.disk_migrations[dependant]
    for other in [*first, *beneath, *later]:
        migration = files.disk_migrations.get(other) or ghosts.loaded.get(other)
        if migration is None:
            return True
        its = list(touched.by(other[0], migration.operations))
        is_additive = all(isinstance(o, ADDITIVE) for o in migration.operations)
        for name, mine in staying.items():
            if other in later and position.get(name, -1) > position[other]:
                # It came after that already.
                continue
            operations = mine.operations
            if is_additive:
                # What was not there when a function ran cannot have mattered to it.
                operations = [o for o in operations if not isinstance(o, RunPython)]
            if touched.collide(touched.by(name[0], operations), its):
                return True
    return False
