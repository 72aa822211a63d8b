"""Django's MigrationLoader, which can also see ghosts."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, executor

from . import history
from .models import Key

if TYPE_CHECKING:
    from django.db.migrations.loader import MigrationLoader
else:
    MigrationLoader = object


def make_loader(
    connection: BaseDatabaseWrapper,
    *,
    load: bool = True,
    replace_migrations: bool = True,
) -> MigrationLoader:
    """Of the class that executors use now; see hooks."""
    loader_class: type[MigrationLoader] = vars(executor)["MigrationLoader"]
    return loader_class(connection, load=load, replace_migrations=replace_migrations)


class SeesGhosts(MigrationLoader):
    """Extends whichever MigrationLoader the executor uses; see hooks.

    Outside a rollback there is no stored history, and it does what Django's does.
    """

    @property
    def applied_migrations(self) -> Any:
        return self._applied_migrations

    @applied_migrations.setter
    def applied_migrations(self, found: Any) -> None:
        # build_graph() goes by it as soon as it has it.
        stored = history.of(self.connection)
        if found and stored and stored.gone:
            found = {k: record for k, record in found.items() if k not in stored.gone}
        self._applied_migrations = found

    def load_disk(self) -> None:
        super().load_disk()
        self.ghosts: dict[Key, Migration] = {}
        stored = history.of(self.connection)
        if stored is None:
            return
        migration: Any
        for key, migration in self.disk_migrations.items():
            # See planning.key_of().
            migration.graph_key = key
        # Copies, since what is added below is for this run only.
        copies = {key: copy(migration) for key, migration in stored.migrations.items()}
        self.ghosts = {k: m for k, m in copies.items() if k not in self.disk_migrations}
        self.disk_migrations.update(copies)
        for key, before in stored.before.items():
            # Siblings in the graph were applied one after the other. Without this,
            # Django reverses them in the order of their names, each from a state
            # in which the others are still applied.
            migration = self.disk_migrations.get(key)
            if migration is not None:
                known = migration.dependencies
                more = [other for other in before if other not in known]
                migration.dependencies = [*known, *more]
        for app_label, _ in self.ghosts:
            # Else the state would take its models from the models module.
            self.unmigrated_apps.discard(app_label)
            self.migrated_apps.add(app_label)
        # Also those of which nothing is recorded any more.
        self.migrated_apps.update(stored.uninstalled)

    def get_migration_by_prefix(self, app_label: str, name_prefix: str) -> Migration:
        """A prefix that fits one file and one ghost means the file."""
        everything = self.disk_migrations
        files = {k: m for k, m in everything.items() if k not in self.ghosts}
        try:
            self.disk_migrations = files
            return super().get_migration_by_prefix(app_label, name_prefix)
        except KeyError:
            if (app_label, name_prefix) in self.ghosts:
                return self.ghosts[app_label, name_prefix]
            self.disk_migrations = self.ghosts
            return super().get_migration_by_prefix(app_label, name_prefix)
        finally:
            self.disk_migrations = everything

    def detect_conflicts(self) -> dict[str, list[str]]:
        if not self.ghosts:
            return super().detect_conflicts()
        return self._without_ghosts().detect_conflicts()

    def check_consistent_history(self, connection: BaseDatabaseWrapper) -> None:
        if not self.ghosts:
            super().check_consistent_history(connection)
        else:
            self._without_ghosts().check_consistent_history(connection)

    def _without_ghosts(self) -> MigrationLoader:
        with history.using(None):
            return type(self)(self.connection)
