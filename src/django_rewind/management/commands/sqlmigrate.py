from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.db import connections

from ... import conf, history, rewind
from ...commands import next_command
from ...exceptions import RewindError
from ...loader import make_loader

if TYPE_CHECKING:
    from django.core.management.commands.sqlmigrate import Command as NextCommand
else:
    NextCommand = next_command("sqlmigrate")


class Command(NextCommand):
    def handle(self, *args: Any, **options: Any) -> Any:
        connection = connections[options["database"]]
        try:
            found = conf.is_enabled() and rewind.load_ghost(
                connection, options["app_label"], options["migration_name"]
            )
        except RewindError as error:
            raise CommandError(str(error)) from error
        if not found:
            return super().handle(*args, **options)
        stored, migration = found
        # As in Django's own handle(), but with ghosts in the graph.
        self.output_transaction = (
            migration.atomic and connection.features.can_rollback_ddl
        )
        with history.using(stored):
            loader = make_loader(connection, replace_migrations=False)
            plan = [(migration, options["backwards"])]
            return "\n".join(loader.collect_sql(plan))
