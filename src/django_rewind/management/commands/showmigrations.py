from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from ... import conf, status
from ...commands import next_command
from ...exceptions import RewindError
from ...status import Status
from ...terminal import on_one_line

SECONDS = "%Y-%m-%d %H:%M:%S"

if TYPE_CHECKING:
    from django.core.management.commands.showmigrations import Command as NextCommand
else:
    NextCommand = next_command("showmigrations")


class Command(NextCommand):
    def show_list(
        self, connection: BaseDatabaseWrapper, app_names: list[str] | None = None
    ) -> None:
        ghosts = self.find_ghosts(connection)
        if not ghosts:
            super().show_list(connection, app_names)
            return
        recorded = MigrationRecorder(connection).applied_migrations()
        files = MigrationLoader(None, ignore_no_migrations=True)
        labels = app_names or sorted(files.migrated_apps | ghosts.keys(), key=str)
        for has_ghosts, group in groupby(labels, key=ghosts.__contains__):
            if not has_ghosts:
                super().show_list(connection, list(group))
                continue
            for label in group:
                if any(app == label for app, _ in files.disk_migrations):
                    super().show_list(connection, [label])
                else:
                    self.stdout.write(on_one_line(label), self.style.MIGRATE_LABEL)
                for ghost in ghosts[label]:
                    line = on_one_line(f" [X] {ghost.migration_name} ")
                    line += describe(ghost)
                    if self.verbosity >= 2 and ghost.key in recorded:
                        # As Django shows it.
                        line += f" (applied at {recorded[ghost.key].applied:{SECONDS}})"
                    self.stdout.write(line)

    def show_plan(
        self, connection: BaseDatabaseWrapper, app_names: list[str] | None = None
    ) -> None:
        ghosts = self.find_ghosts(connection)
        if not ghosts:
            super().show_plan(connection, app_names)
            return
        files = MigrationLoader(None, ignore_no_migrations=True)
        # A label that only the database knows is not an error here.
        known = [
            label
            for label in app_names or ()
            if label in files.migrated_apps or label not in ghosts
        ]
        if known or not app_names:
            super().show_plan(connection, known)
        for label in app_names or ghosts:
            for ghost in ghosts.get(label, ()):
                name = on_one_line("{}.{}".format(*ghost.key))
                self.stdout.write(f"[X]  {name} {describe(ghost)}")

    def find_ghosts(self, connection: BaseDatabaseWrapper) -> dict[str, list[Status]]:
        ghosts: dict[str, list[Status]] = {}
        if not conf.is_enabled():
            return ghosts
        try:
            answers = status.read(connection, compare=False).values()
        except RewindError as error:
            # What Django knows can be shown all the same.
            self.stderr.write(f"Whether there are ghosts cannot be told: {error}")
            return ghosts
        for answer in answers:
            if answer.is_ghost:
                ghosts.setdefault(answer.app_label, []).append(answer)
        return ghosts


def describe(ghost: Status) -> str:
    if ghost.switched_off:
        return "(applied, and Django does not see its file)"
    code = "its code is stored" if ghost.stored and not ghost.gap else "not stored"
    return f"(ghost: {code})"
