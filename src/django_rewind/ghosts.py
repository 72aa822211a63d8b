"""The stored migrations that a rollback may need, loaded, or why they cannot be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from . import importer, journal, likeness, planning, signing, source, store
from .exceptions import NotTrusted, Problem, Unreachable, of_leftover
from .history import StoredHistory
from .journal import Entry
from .models import Key, MigrationCode
from .status import File, Status
from .terminal import manage, on_one_line, quoted


class Edited(Enum):
    """Which code of edited migrations to reverse, if it is not for us to choose."""

    FROM_FILE = "--from-file"
    FROM_STORED = "--from-stored"


class Stub(Migration):
    """Stands for a ghost of which only the record goes. Its name is not verified."""

    def __str__(self) -> str:
        return on_one_line(super().__str__())


class Ghosts:
    """Also holds edited migrations, as they were applied, unless their files count.

    With `fake`, nothing is loaded: a migration that is only unrecorded needs none
    of its code.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        statuses: dict[Key, Status],
        files: MigrationLoader,
        *,
        fake: bool = False,
        edited: Edited | None = None,
    ) -> None:
        self.alias = connection.alias
        self.connection = connection
        self.statuses = statuses
        self.files = files
        self.edited = edited
        self.recorded = [key for key, answer in statuses.items() if answer.recorded]
        self.loaded: dict[Key, Migration] = {}
        # Names that a squashed migration replaced → that one, whose code ran for them.
        self.applied_by: dict[Key, Key] = {}
        # Names of the same kind that have their files here.
        self.applied_as_squash: set[Key] = set()
        self.unreachable: dict[Key, Unreachable] = {}
        # Of the unreachable; None where nobody knows.
        self.dependencies: dict[Key, Collection[Key] | None] = {}
        # Siblings of the target → the target.
        self._after: dict[Key, Key] = {}
        # Edited, and why it is nevertheless the file that is reversed.
        self.files_instead: dict[Key, str] = {}
        from_files = fake or edited is Edited.FROM_FILE
        wanted = [
            key
            for key, answer in statuses.items()
            if answer.is_ghost or (answer.file is File.EDITED and not from_files)
        ]
        codes = store.fetch(connection, wanted)
        for key in wanted:
            if fake:
                self._add_stub(key, codes.get(key))
            else:
                self._load(key, codes.get(key))
        self._let_squashes_stand_alone()
        self._drop_those_that_lack_a_dependency()
        migration: Any
        for migration in self.loaded.values():
            migration.run_before = list(filter(self._is_known, migration.run_before))
            if self._is_uninstalled(migration.app_label):
                # With its app, Django forgot that it came before any file.
                migration.run_before = list(
                    filter(self.has_ghost, migration.run_before)
                )
        if not fake and edited is None:
            self._use_files_that_alone_reverse()

    def _let_squashes_stand_alone(self) -> None:
        """Those that are recorded, and of what they replaced not all is any more.

        As after `migrate --prune`. Django would find them not applied.
        """
        alone: dict[Key, Key] = {}
        migration: Any
        for key, migration in self.loaded.items():
            replaced = {(app_label, name) for app_label, name in migration.replaces}
            if key in self.recorded and not replaced.issubset(self.recorded):
                migration.replaces = []
                alone.update(dict.fromkeys(replaced.difference(self.recorded), key))
        if not alone:
            return
        for key, migration in self.loaded.items():
            found = (alone.get(d, d) for d in migration.dependencies)
            migration.dependencies = [d for d in found if d != key]
        for key in self.files.disk_migrations.keys() & self.recorded:
            for dependency in self.files.disk_migrations[key].dependencies:
                if dependency in alone:
                    self._after[key] = alone[dependency]

    def use_originals(self) -> None:
        """Not a squashed migration that is gone, where all that it replaced is here."""
        for key, migration in list(self.loaded.items()):
            originals = {(app_label, name) for app_label, name in migration.replaces}
            if originals and originals <= self.files.disk_migrations.keys() - {key}:
                del self.loaded[key]
                for original in originals:
                    self.applied_by.pop(original, None)

    def _use_files_that_alone_reverse(self) -> None:
        for key, migration in list(self.loaded.items()):
            file = self.files.disk_migrations.get(key)
            if (
                file is not None
                and not isinstance(migration, importer.FakedMigration)
                and any(planning.irreversible_operations(migration.operations))
                and not any(planning.irreversible_operations(file.operations))
            ):
                del self.loaded[key]
                self.files_instead[key] = "its stored code is irreversible."

    def add_faked(self, connection: BaseDatabaseWrapper, keys: Collection[Key]) -> None:
        """Those that have their files too: stored code takes part, so as it says."""
        faked = {
            key: names
            for key in keys
            if key not in self.loaded and key in self.files.disk_migrations
            if (names := self._faked_as(key))
        }
        codes = store.fetch(connection, {n for names in faked.values() for n in names})
        for key, names in faked.items():
            try:
                for name in names:
                    signing.verify(codes[name])
                self._add(importer.make_faked(self.files.disk_migrations[key]))
            except NotTrusted as reason:
                self._add_unreachable(key, reason, codes[name])

    def _faked_as(self, key: Key) -> list[Key]:
        """The names that were faked; of a squash maybe all those that it replaces."""
        answer, squash = self.statuses.get(key), self.files.replacements.get(key)
        if answer is not None or squash is None:
            return [key] if answer is not None and answer.faked else []
        replaced = [(app_label, name) for app_label, name in squash.replaces]
        answers = map(self.statuses.get, replaced)
        return replaced if all(a is not None and a.faked for a in answers) else []

    def has_ghost(self, key: Key) -> bool:
        return key in self.loaded and key not in self.files.disk_migrations

    def let_come_after(self, target: Key, keys: Collection[Key]) -> None:
        """What was recorded after the target, though it stands beside it in the graph.

        Files stand where Django sees them, unless it does not see the target.
        """
        for key in keys:
            if self.has_ghost(key) or (
                self.has_ghost(target)
                and key in self.files.applied_migrations
                and not self.replaces_what_is_recorded(key)
            ):
                self._after[key] = target

    def replaces_what_is_recorded(self, key: Key) -> bool:
        """Then its record tells when it was found, not when it was applied."""
        squash = self.files.replacements.get(key)
        replaced = {*(squash.replaces if squash else self.statuses[key].replaces)}
        return not (replaced - {key}).isdisjoint(self.recorded)

    def let_stay(self, key: Key, gone: Collection[Key]) -> None:
        """Let a ghost depend on what these depend on, which are reversed beneath it."""
        found: dict[Key, None] = {}
        pending = [*self.loaded[key].dependencies]
        while pending:
            dependency = pending.pop(0)
            if dependency in gone:
                pending = [*self.loaded[dependency].dependencies, *pending]
            else:
                found[dependency] = None
        migration: Any = self.loaded[key]
        migration.dependencies = list(found)

    def history(
        self, order: Sequence[Key] = (), staying: Sequence[Key] = ()
    ) -> StoredHistory:
        """`order`: the migrations to reverse, in the order of their application.

        `staying`: what they all come after.
        """
        superseded: dict[Key, list[Key]] = {}
        for key, answer in self.statuses.items():
            if answer.superseded_by is not None:
                # A squash stands for it, or each of its originals does.
                for other in (answer.superseded_by, *answer.replaces):
                    superseded.setdefault(other, []).append(key)
        squashes = {**self.files.replacements, **self.loaded}
        for key, migration in squashes.items():
            for original in migration.replaces:
                # Django 3.2 leaves the record of a squash that it reversed.
                superseded.setdefault(original, []).append(key)
        before = {key: [other] for key, other in zip(order[1:], order)}
        if order:
            before[order[0]] = list(staying)
        for key, target in self._after.items():
            before[key] = [*before.get(key, ()), target]
        uninstalled = {
            label for label, _ in self.statuses if self._is_uninstalled(label)
        }
        return StoredHistory(
            self.alias, self.loaded, superseded, before, frozenset(uninstalled)
        )

    def fit(
        self, more: Mapping[Key, Migration], staying: Mapping[Key, Migration]
    ) -> dict[Key, Key]:
        """Let more stored migrations depend on what is in force.

        Gives those that cannot enter the graph, and a dependency that is nowhere.
        """
        known = {**staying, **more}
        migration: Any
        for migration in more.values():
            migration.dependencies = [
                dependency if dependency in more else self._in_force(dependency)
                for dependency in migration.dependencies
            ]
            migration.run_before = [
                key
                for key in migration.run_before
                if key in known or self._is_on_disk(key)
            ]
        lost = planning.missing_dependencies(known, self._is_on_disk)
        return {key: dependency for key, dependency in lost.items() if key in more}

    def problem(self, key: Key) -> Problem:
        reason = self.unreachable[key]
        remedy = reason.remedy
        if self.statuses[key].file is File.EDITED:
            command = manage(f"migrate {quoted(key[0])} NAME --from-file", self.alias)
            remedy += f" {command} reverses what its file does now, which was edited."
        return Problem(*key, reason.fact, remedy)

    def _load(self, key: Key, code: MigrationCode | None) -> None:
        try:
            if code is None:
                raise self._never_stored(key)
            migration = importer.load(code)
            self._check_operations(code, migration)
            self._add(migration)
            if migration.name != key[1]:
                if self.statuses[key].is_ghost:
                    self.applied_by[key] = (code.app_label, migration.name)
                else:
                    self.applied_as_squash.add(key)
        except NotTrusted as reason:
            self._add_unreachable(key, reason, code)
        except Unreachable as reason:
            if self.statuses[key].is_ghost or self.edited is Edited.FROM_STORED:
                self._add_unreachable(key, reason, code)
            else:
                self.files_instead[key] = reason.fact

    def _check_operations(self, code: MigrationCode, migration: Migration) -> None:
        """Settings, and what else surrounds it, may make others of the same code."""
        applied = self._applied_kinds.get(code.digest)
        if applied is None or applied == journal.kinds_of(migration):
            return
        raise Unreachable(
            "its stored code makes other operations here than those that were applied: "
            "by a setting, or what else differs.",
            importer.RESTORE,
        )

    @cached_property
    def _applied_kinds(self) -> dict[str, list[str]]:
        return journal.applied_kinds(self._entries)

    def _never_stored(self, key: Key) -> Unreachable:
        fact = "it is recorded, but its code was never stored and its file is missing."
        by_hand = "undo it by hand and go back with --fake."
        checkout = "Check out the code that has its file and"
        if self.statuses[key].excluded:
            return Unreachable(
                f"{fact} Its app is in DJANGO_REWIND_EXCLUDE_APPS.",
                f"{checkout} reverse it there. Or {by_hand}",
            )
        storing = manage("migrate", self.alias)
        return Unreachable(
            fact,
            f"{checkout} run {storing} there, which stores it. Or {by_hand}"
            f"{of_leftover(key[0], self.alias)}",
        )

    def _add(self, migration: Any) -> None:
        migration.dependencies = [self._in_force(d) for d in migration.dependencies]
        self.loaded[planning.key_of(migration)] = migration

    def _add_unreachable(
        self, key: Key, reason: Unreachable, code: MigrationCode | None
    ) -> None:
        self.unreachable[key] = reason
        self.dependencies[key] = known_dependencies(code)

    def _add_stub(self, key: Key, code: MigrationCode | None) -> None:
        migration: Any = Stub(key[1], key[0])
        migration.dependencies = list(known_dependencies(code) or [])
        if not any(app_label == key[0] for app_label, _ in migration.dependencies):
            migration.dependencies += self._recorded_before(key)
        self._add(migration)

    def _recorded_before(self, key: Key) -> list[Key]:
        before = self.recorded[: self.recorded.index(key)]
        # But for what it stands for itself, as a squash.
        others = [k for k in before if k[0] == key[0] and self._in_force(k) != key]
        return others[-1:]

    def _drop_those_that_lack_a_dependency(self) -> None:
        lost = planning.missing_dependencies(self.loaded, self._is_on_disk)
        for key, (app_label, name) in lost.items():
            file = self.files.disk_migrations.get(key)
            if (
                file is not None
                and self.edited is not Edited.FROM_STORED
                and likeness.do_the_same(self.loaded[key], file)
            ):
                del self.loaded[key]
                self.files_instead[key] = (
                    f"its stored code depends on {app_label}.{name}, which cannot be "
                    "loaded."
                )
                continue
            self.dependencies[key] = self.loaded.pop(key).dependencies
            self.unreachable[key] = Unreachable(
                f"it depends on {app_label}.{name}, which cannot be loaded.",
                importer.RESTORE,
            )

    def _in_force(self, dependency: Key) -> Key:
        seen = set()
        while dependency not in seen:
            seen.add(dependency)
            answer = self.statuses.get(dependency)
            if answer is not None and answer.superseded_by is not None:
                # A squash may have been squashed again.
                dependency = answer.superseded_by
            elif dependency not in self.recorded and not self._is_on_disk(dependency):
                # It may have another name since; see adoption.
                found = journal.follow({dependency: ""}, self._entries)
                dependency, _ = found[dependency]
        return dependency

    @cached_property
    def _entries(self) -> list[Entry]:
        return journal.read(self.connection)

    def _is_known(self, key: Key) -> bool:
        return key in self.loaded or self._is_on_disk(key)

    def _is_on_disk(self, key: Key) -> bool:
        app_label, name = key
        if name in ("__first__", "__latest__"):
            return app_label in self._apps()
        return key in self.files.disk_migrations or any(
            key in squash.replaces for squash in self.files.replacements.values()
        )

    def _is_uninstalled(self, app_label: str) -> bool:
        return app_label not in self.files.migrated_apps | self.files.unmigrated_apps

    def _apps(self) -> set[str]:
        files = self.files
        return files.migrated_apps | files.unmigrated_apps | {a for a, _ in self.loaded}


def known_dependencies(code: MigrationCode | None) -> Collection[Key] | None:
    """None also of a row that does not verify: what it says was not signed."""
    if code is None or not signing.is_verified(code):
        return None
    if code.resolved_dependencies is not None:
        return code.resolved_dependencies
    return source.literal_dependencies(code.source_code)
