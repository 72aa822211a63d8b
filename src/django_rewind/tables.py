"""Make and upgrade our tables, beside django_migrations and like it.

Django makes django_migrations by hand, because it is needed before any migration
can run and whatever the routers say. The same holds for the code beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from django.apps.registry import Apps
from django.db import DatabaseError, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.recorder import MigrationRecorder

from .exceptions import TablesNotMade
from .models import MigrationCode
from .transactions import savepoint

if TYPE_CHECKING:
    AnyField = models.Field[Any, Any]

logger = logging.getLogger("django_rewind")

CODE = "django_migrations_code"
EARLIER = "django_migrations_code_earlier"
NEEDED = "django_migrations_code_needed"
JOURNAL = "django_migrations_journal"

# The migration that brings what 0.1.0 did not have.
UPGRADE = "0002_signed_versions"

COLUMNS = "SELECT * FROM django_migrations_code WHERE 1 = 0"

# "Visible" is not enough: under schema-per-tenant set-ups the search path of a
# tenant shows the table of the public schema as well.
POSTGRESQL_TABLES = """
    SELECT code.relname FROM pg_class AS code
    JOIN pg_class AS record ON record.relnamespace = code.relnamespace
    WHERE record.relname = %s AND pg_table_is_visible(record.oid)
    AND pg_table_is_visible(code.oid) AND code.relname = ANY(%s)
"""

POSTGRESQL_SCHEMA = """
    SELECT relnamespace::regnamespace::text, current_setting('search_path')
    FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)
    AND relnamespace::regnamespace::text <> quote_ident(current_schema())
"""


def existing(connection: BaseDatabaseWrapper) -> set[str]:
    """Those of our tables that stand beside django_migrations; one query."""
    names = [CODE, EARLIER, NEEDED, JOURNAL]
    record_table = MigrationRecorder.Migration._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL_TABLES, [record_table, names])
            return {name for (name,) in cursor.fetchall()}
        tables = set(connection.introspection.table_names(cursor))
    return tables.intersection(names) if record_table in tables else set()


def exist(connection: BaseDatabaseWrapper) -> bool:
    """Whether stored code can be looked for in this database; one query."""
    return CODE in existing(connection)


def missing_columns(connection: BaseDatabaseWrapper) -> list[str]:
    """Columns that django-rewind 0.1.0 did not make."""
    # A savepoint where there is a transaction, which a missing right would spoil.
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        # Introspection also asks for types and collations, which takes SQLite long.
        cursor.execute(COLUMNS)
        present = {column[0] for column in cursor.description}
    columns = [str(f.column) for f in MigrationCode._meta.local_concrete_fields]
    return [column for column in columns if column not in present]


def ensure(connection: BaseDatabaseWrapper) -> None:
    """Make what is missing. Safe to call at any time, by two processes at once.

    Raises TablesNotMade.
    """
    try:
        with savepoint(connection):
            _ensure(connection)
    except DatabaseError as error:
        raise TablesNotMade(connection.alias, error) from error


def _ensure(connection: BaseDatabaseWrapper) -> None:
    present = existing(connection)
    if CODE in present:
        # Nothing but 0.1.0 has been here, or else somebody who did not get far.
        is_old = present <= {CODE, NEEDED} and not _is_recorded(connection)
        if is_old and NEEDED not in present:
            from .archive import NeededCode

            # For what completes the rows of 0.1.0.
            _create(connection, NeededCode)
            present.add(NEEDED)
        # First, since the others are not there only as long as that is to be done.
        _upgrade(connection, is_old=is_old)
    for model in _models():
        if model._meta.db_table not in present:
            _create(connection, model)


def try_to_ensure(connection: BaseDatabaseWrapper) -> None:
    """The same, or a warning: migrations must not fail for want of our tables."""
    try:
        ensure(connection)
    except TablesNotMade as error:
        logger.warning("%s", error)


def drop(connection: BaseDatabaseWrapper) -> None:
    present = existing(connection)
    with connection.schema_editor() as editor:
        for model in _models():
            if model._meta.db_table in present:
                editor.delete_model(model)


def _models() -> tuple[type[models.Model], ...]:
    from .archive import EarlierMigrationCode, JournalEntry, NeededCode

    return MigrationCode, EarlierMigrationCode, NeededCode, JournalEntry


@contextmanager
def _beside_the_record(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """PostgreSQL makes tables in the first schema; the record may be in another."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute(POSTGRESQL_SCHEMA, [MigrationRecorder.Migration._meta.db_table])
        row = cursor.fetchone()
    if row is None:
        yield
        return
    schema, path = row
    try:
        _set_search_path(connection, schema)
        yield
    finally:
        _set_search_path(connection, path)


def _set_search_path(connection: BaseDatabaseWrapper, path: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", [path])


def _create(connection: BaseDatabaseWrapper, model: type[models.Model]) -> None:
    try:
        with _beside_the_record(connection), connection.schema_editor() as editor:
            editor.create_model(_managed(model, model._meta.local_concrete_fields))
            _use_utf8mb4(editor, model)
    except DatabaseError:
        # Another process may have been faster.
        if model._meta.db_table not in existing(connection):
            raise


def _is_recorded(connection: BaseDatabaseWrapper) -> bool:
    recorded = MigrationRecorder(connection).migration_qs
    return bool(recorded.filter(app="django_rewind", name=UPGRADE).exists())


def _upgrade(connection: BaseDatabaseWrapper, *, is_old: bool) -> None:
    """`is_old`: nothing but 0.1.0 has been here, and signed nothing.

    A table that lost its signatures since is not signed anew: somebody may have taken
    them away, to have other code signed.
    """
    missing = missing_columns(connection)
    if not missing:
        return
    fields: list[AnyField] = list(MigrationCode._meta.local_concrete_fields)
    present = [field for field in fields if field.column not in missing]
    with connection.schema_editor() as editor:
        for field in fields:
            if field.column in missing:
                before = _managed(MigrationCode, present)
                present.append(field)
                after = _managed(MigrationCode, present)
                added = after._meta.get_field(field.name)
                editor.add_field(before, cast("AnyField", added))
        _use_utf8mb4(editor, MigrationCode)
        if is_old and "signature" in missing:
            # Here and nowhere else, so that no later row is signed unread. And late,
            # since it happens once.
            from .legacy import complete_and_sign

            complete_and_sign(connection)


def _use_utf8mb4(editor: BaseDatabaseSchemaEditor, model: type[models.Model]) -> None:
    """So that MySQL holds any source, and compares with django_migrations.

    The _bin collation of the larger character set wins in a UNION:
    https://dev.mysql.com/doc/refman/8.4/en/charset-collation-coercibility.html
    """
    if editor.connection.vendor == "mysql":
        editor.execute(
            f"ALTER TABLE {editor.quote_name(model._meta.db_table)} "
            "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        )


def _managed(
    model: type[models.Model], fields: Iterable[AnyField]
) -> type[models.Model]:
    """The model with these fields, as a schema editor needs it.

    For an unmanaged one it makes no indexes.
    """
    meta = {
        "app_label": "django_rewind",
        "db_table": model._meta.db_table,
        "unique_together": model._meta.unique_together,
        "indexes": model._meta.indexes,
        "apps": Apps(),
    }
    body = {
        "__module__": __name__,
        "Meta": type("Meta", (), meta),
        **{field.name: field.clone() for field in fields},
    }
    return type(model.__name__, (models.Model,), body)
