"""Save and fetch stored code, in the database that it describes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import QuerySet
from django.utils import timezone

from . import needs, tables
from .exceptions import StoreUnreadable, TableOutdated
from .models import Key, MigrationCode, StoredCode, parse_keys
from .transactions import savepoint

# One query, since plain `migrate` asks twice; and none that grows with what is stored
# beyond the records.
RECORDED = """
    SELECT {is_beside},
    record.app, record.name, record.id, code.gap, code.replaces, code.faked
    FROM django_migrations AS record LEFT JOIN django_migrations_code AS code
    ON code.app_label = record.app AND code.migration_name = record.name
"""


# The same as in tables: a tenant sees the table of the public schema as well.
IS_BESIDE = """(
    SELECT COUNT(DISTINCT relnamespace) = 1 FROM pg_class
    WHERE oid IN ('django_migrations'::regclass, 'django_migrations_code'::regclass)
)"""


class Contents:
    """What one database says of its migrations, without any code."""

    def __init__(
        self,
        recorded: list[Key] | None = None,
        stored: dict[Key, list[Key]] | None = None,
        gaps: dict[Key, str] | None = None,
        faked: set[Key] | None = None,
    ) -> None:
        # In the order in which they were recorded.
        self.recorded = recorded or []
        # What each stored migration replaces.
        self.stored = stored or {}
        # Why a stored migration has no code.
        self.gaps = gaps or {}
        # Recorded by --fake, or by --fake-initial for tables that were there.
        self.faked = faked or set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contents) and vars(self) == vars(other)

    def without_code(self) -> list[Key]:
        return [k for k in self.recorded if k not in self.stored or k in self.gaps]


@contextmanager
def reading(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Raise StoreUnreadable for what a driver or Django cannot read."""
    try:
        yield
    except (DatabaseError, ValueError) as error:
        if isinstance(error, DatabaseError) and _is_outdated(connection):
            raise TableOutdated(connection.alias) from error
        if connection.connection is None:
            raise StoreUnreadable(connection.alias, error) from error
        # ValueError: a date that is none. SQLite keeps anything in any column.
        table, broken = _broken_rows(connection)
        raise StoreUnreadable(connection.alias, error, table, broken) from error


def _is_outdated(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        # It could not be opened.
        return False
    try:
        return tables.exist(connection) and bool(tables.missing_columns(connection))
    except DatabaseError:
        # The rights may be missing, too.
        return False


def _broken_rows(connection: BaseDatabaseWrapper) -> tuple[str, list[int]]:
    """And the table that they are in; else the one that is read most."""
    both = [rows(connection), _earlier_rows(connection)]
    for queryset in both if connection.vendor == "sqlite" else []:
        try:
            pks = list(queryset.values_list("pk", flat=True))
        except DatabaseError:
            continue
        if broken := [pk for pk in pks if _is_broken(queryset, pk)]:
            return queryset.model._meta.db_table, broken
    return tables.CODE, []


def _is_broken(queryset: QuerySet[Any], pk: int) -> bool:
    try:
        queryset.get(pk=pk)
    except (DatabaseError, ValueError):
        return True
    return False


def rows(connection: BaseDatabaseWrapper) -> QuerySet[MigrationCode]:
    return MigrationCode._default_manager.using(connection.alias)


def contents(connection: BaseDatabaseWrapper) -> Contents:
    """What is recorded, and which of that is stored; one query if our tables exist.

    Raises TableOutdated for a table that django-rewind 0.1.0 made.
    """
    try:
        return contents_of_tables(connection)
    except DatabaseError:
        if connection.connection is None or tables.exist(connection):
            raise
    recorder = MigrationRecorder(connection)
    if not recorder.has_table():
        return Contents()
    records = recorder.migration_qs.order_by("id")
    return Contents(recorded=list(records.values_list("app", "name")))


def contents_of_tables(connection: BaseDatabaseWrapper) -> Contents:
    """The same, and a DatabaseError if our tables do not exist."""
    is_beside = IS_BESIDE if connection.vendor == "postgresql" else "1"
    found = Contents()
    try:
        with savepoint(connection), connection.cursor() as cursor:
            cursor.execute(RECORDED.format(is_beside=is_beside))
            records = cursor.fetchall()
    except DatabaseError as error:
        if _is_outdated(connection):
            raise TableOutdated(connection.alias) from error
        raise
    for beside, app_label, name, _, *stored in sorted(records, key=itemgetter(3)):
        if not beside:
            raise DatabaseError(f"{tables.CODE} belongs to another schema")
        key = app_label, name
        found.recorded.append(key)
        gap, replaces, faked = stored
        if replaces is not None:
            _add_stored(found, key, gap, replaces)
        if faked:
            found.faked.add(key)
    return found


def add_unrecorded(connection: BaseDatabaseWrapper, found: Contents) -> None:
    """Add what is stored and not recorded; two queries."""
    if not tables.exist(connection):
        return
    columns = "app_label", "migration_name", "gap", "replaces"
    for app_label, name, gap, replaces in rows(connection).values_list(*columns):
        if (app_label, name) not in found.stored:
            _add_stored(found, (app_label, name), gap, replaces)


def _add_stored(found: Contents, key: Key, gap: str, replaces: str) -> None:
    found.stored[key] = parse_keys(replaces)
    if gap:
        found.gaps[key] = gap


def digests(connection: BaseDatabaseWrapper) -> dict[Key, str]:
    if not tables.exist(connection):
        return {}
    columns = rows(connection).values_list("app_label", "migration_name", "digest")
    return {(app_label, name): digest for app_label, name, digest in columns}


def digest(connection: BaseDatabaseWrapper, key: Key) -> str:
    """Of the code that is stored for a migration; empty if none is."""
    app_label, name = key
    found = rows(connection).filter(app_label=app_label, migration_name=name)
    return found.values_list("digest", flat=True).first() or ""


def has_code(connection: BaseDatabaseWrapper, key: Key) -> bool:
    """Whether there is a row, which is no gap."""
    same = rows(connection).filter(app_label=key[0], migration_name=key[1], gap="")
    return same.exists()


def without_source(connection: BaseDatabaseWrapper) -> Iterable[MigrationCode]:
    """Every stored row, without its code."""
    if not tables.exist(connection):
        return ()
    return rows(connection).defer("source_code")


def fetch(
    connection: BaseDatabaseWrapper, keys: Collection[Key]
) -> dict[Key, MigrationCode]:
    """The stored rows of some migrations, with their code and what it needs."""
    if not keys or not tables.exist(connection):
        return {}
    labels = {app_label for app_label, _ in keys}
    names = list({name for _, name in keys})
    found = {}
    with reading(connection):
        for start in range(0, len(names), needs.BATCH):
            batch = names[start : start + needs.BATCH]
            codes = rows(connection).filter(
                app_label__in=labels, migration_name__in=batch
            )
            found.update({code.key: code for code in codes if code.key in keys})
        needs.attach(connection, found.values())
    return found


def with_digest(
    connection: BaseDatabaseWrapper, key: Key, digest: str
) -> MigrationCode | None:
    """The version of a stored migration that has this digest, ready to be saved."""
    current = fetch(connection, [key]).get(key)
    if current is None or current.digest == digest:
        return current
    for code in earlier(connection, key):
        if code.digest == digest:
            found = MigrationCode()
            with reading(connection):
                _copy(code, found)
                needs.attach(connection, [found])
            found.read_from = tables.EARLIER
            # For what a reader should run.
            found._state.db = connection.alias
            return found
    return None


def earlier(connection: BaseDatabaseWrapper, key: Key) -> list[StoredCode]:
    """The earlier versions of a stored migration, newest first, without their code."""
    if tables.EARLIER not in tables.existing(connection):
        return []
    newest_first = _earlier_rows(connection).order_by("-stored_at", "-pk")
    same_name = newest_first.filter(app_label=key[0], migration_name=key[1])
    with reading(connection):
        return list(same_name.defer("source_code"))


def every_earlier(connection: BaseDatabaseWrapper) -> Iterable[StoredCode]:
    """All earlier versions, without their code."""
    if tables.EARLIER not in tables.existing(connection):
        return ()
    return _earlier_rows(connection).defer("source_code")


def versions(connection: BaseDatabaseWrapper) -> Iterator[StoredCode]:
    """All that with_digest() may find, with their code: current rows come first.

    Of those with the same digest, it finds the one that was stored last.
    """
    found: set[tuple[Key, str]] = set()
    for code in chain(_current(connection), _earlier(connection)):
        if (code.key, code.digest) not in found:
            found.add((code.key, code.digest))
            yield code


def _current(connection: BaseDatabaseWrapper) -> Iterator[StoredCode]:
    yield from rows(connection).iterator(chunk_size=100)


def _earlier(connection: BaseDatabaseWrapper) -> Iterator[StoredCode]:
    if tables.EARLIER in tables.existing(connection):
        newest_first = _earlier_rows(connection).order_by("-stored_at", "-pk")
        yield from newest_first.iterator(chunk_size=100)


def _earlier_rows(connection: BaseDatabaseWrapper) -> QuerySet[Any]:
    from .archive import EarlierMigrationCode

    return EarlierMigrationCode._default_manager.using(connection.alias)


def lock(connection: BaseDatabaseWrapper) -> None:
    """Wait for who is storing, and let nobody store, until this transaction ends."""
    present = tables.existing(connection)
    if tables.NEEDED in present:
        if connection.vendor == "postgresql":
            # INSERT ... ON CONFLICT DO NOTHING locks no row that is there already.
            with connection.cursor() as cursor:
                cursor.execute(
                    f"LOCK TABLE {tables.NEEDED} IN SHARE ROW EXCLUSIVE MODE"
                )
        list(needs.rows(connection).select_for_update().values_list("pk"))
    if tables.CODE in present:
        list(rows(connection).select_for_update().values_list("pk"))


def delete(connection: BaseDatabaseWrapper, codes: Iterable[StoredCode]) -> None:
    """Of either table."""
    for code in codes:
        same_row(connection, code)._raw_delete(connection.alias)


def same_row(connection: BaseDatabaseWrapper, code: StoredCode) -> QuerySet[Any]:
    """As it is now, in the table that it is from."""
    return type(code)._default_manager.using(connection.alias).filter(pk=code.pk)


def insert(connection: BaseDatabaseWrapper, code: StoredCode) -> None:
    """Without the signals of a model: the apps that receive them may not be there yet.

    Such as those which keep an audit of everything, in the first `migrate`. In plain
    SQL, since bulk_create() takes as long as all else that storing does.
    """
    quoted = connection.ops.quote_name
    values = {
        quoted(str(field.column)): field.get_db_prep_save(
            field.pre_save(code, add=True), connection
        )
        for field in code._meta.concrete_fields
        if not field.primary_key
    }
    table, columns = quoted(code._meta.db_table), ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES ({places})",  # noqa: S608
            list(values.values()),
        )


def update(connection: BaseDatabaseWrapper, code: StoredCode, *names: str) -> None:
    """The same for a row that is there: all of its fields, or some."""
    fields = [f.name for f in code._meta.concrete_fields if not f.primary_key]
    values = {name: getattr(code, name) for name in names or fields}
    same_row(connection, code).update(**values)


def save(connection: BaseDatabaseWrapper, code: MigrationCode) -> None:
    """Store a row; other code under the same name is kept as an earlier version."""
    _put_right(code)
    try:
        with _sparing_the_transaction(connection):
            if code.needed:
                needs.save(connection, code)
            # It is nearly always new, and then this is the only query.
            insert(connection, code)
    except IntegrityError:
        with transaction.atomic(using=connection.alias):
            if code.needed:
                needs.save(connection, code)
            _replace(connection, code)


@contextmanager
def _sparing_the_transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """What fails takes nothing back but itself."""
    if not connection.in_atomic_block or connection.vendor != "sqlite":
        with transaction.atomic(using=connection.alias):
            yield
        return
    # SQLite takes back a failing statement alone, so that the two queries of a
    # savepoint can be spared; a full disk may end the transaction, though.
    try:
        yield
    except Exception:
        has_ended = not connection.connection.in_transaction
        transaction.set_rollback(has_ended, using=connection.alias)
        raise


def _replace(connection: BaseDatabaseWrapper, code: MigrationCode) -> None:
    before = rows(connection).get(
        app_label=code.app_label, migration_name=code.migration_name
    )
    is_same = (before.source_code, before.closure) == (code.source_code, code.closure)
    if before.source_code and not is_same:
        _keep(connection, before)
    code.pk = before.pk
    code.stored_at = (before.stored_at if is_same else None) or timezone.now()
    update(connection, code)


def _keep(connection: BaseDatabaseWrapper, code: MigrationCode) -> None:
    from .archive import EarlierMigrationCode

    earlier = EarlierMigrationCode()
    _copy(code, earlier)
    _put_right(earlier)
    earlier.stored_at = earlier.stored_at or timezone.now()
    insert(connection, earlier)


def _copy(code: StoredCode, other: StoredCode) -> None:
    """All of a row, for the other table."""
    for model_field in code._meta.fields:
        if not model_field.primary_key:
            setattr(other, model_field.name, getattr(code, model_field.name))


def _put_right(code: StoredCode) -> None:
    """Its size is not signed, and SQLite keeps anything in any column."""
    text: str | bytes = code.source_code
    code.size = len(text.encode() if isinstance(text, str) else text)
