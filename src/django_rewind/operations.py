"""The operations of our own migrations."""

from __future__ import annotations

from typing import Any

from django.db.migrations.operations.base import Operation

from . import tables


class MakeTables(Operation):
    """Make what is missing: the recorder may have made the tables already."""

    reduces_to_sql = False

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if not schema_editor.collect_sql:
            tables.try_to_ensure(schema_editor.connection)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        tables.drop(schema_editor.connection)

    def describe(self) -> str:
        return "Make the tables of django-rewind"


class UpgradeTables(MakeTables):
    """Add what django-rewind 0.1.0 did not have, and sign the rows that it left."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.collect_sql or not tables.exist(schema_editor.connection):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            # Recorded without this, nothing would ever sign those rows.
            tables.ensure(schema_editor.connection)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        # The columns do no harm, and without them stored code is worth nothing.
        pass

    def describe(self) -> str:
        return "Upgrade the tables of django-rewind and sign what 0.1.0 stored"
