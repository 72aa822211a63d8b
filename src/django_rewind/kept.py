"""What of a table of SQLite stays when it is remade, though the state lacks it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import strip_quotes
from django.db.models.constraints import BaseConstraint
from django.utils.functional import cached_property

from . import definitions, history, source, status, store
from .definitions import Definition
from .exceptions import RewindError, SourceUnavailable
from .models import Key, MigrationCode
from .status import File, Status
from .terminal import first_of, manage

SQL_OF_TABLE = """
    SELECT type, name, sql FROM sqlite_master
    WHERE tbl_name = %s COLLATE NOCASE AND sql IS NOT NULL
"""


class KeptColumn(models.Field):  # type: ignore[type-arg]
    """A column as it stands in the table's own SQL."""

    def __init__(self, number: int, column: str, definition: str) -> None:
        # SQLite takes the NULL that Django appends as no constraint at all.
        super().__init__(db_column=column, null=True)
        if definition.endswith(" NULL") and not definition.endswith("NOT NULL"):
            definition = definition[: -len(" NULL")]
        self.set_attributes_from_name(f"kept_{number}")
        self.definition = definition

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return self.definition


class KeptGeneratedColumn(KeptColumn):
    # So that Django copies no values.
    generated = True

    def __init__(self, number: int, column: str, definition: str) -> None:
        made = definitions.take_apart(definition)
        super().__init__(number, column, made.rest)
        self.needs = made.names
        self.expression = made.expression
        self.db_persist = made.is_stored

    def generated_sql(self, connection: BaseDatabaseWrapper) -> tuple[str, list[str]]:
        # Django puts parameters in.
        return self.expression.replace("%", "%%"), []


class KeptConstraint(BaseConstraint):
    """A table constraint as it stands in the table's own SQL."""

    def __init__(self, *, name: str, sql: str) -> None:
        super().__init__(name=name)
        self.sql = sql

    def constraint_sql(self, model: Any, schema_editor: Any) -> str:
        return self.sql

    def deconstruct(self) -> Any:
        return "", (), {"name": self.name, "sql": self.sql}


class Kept:
    """Of one remake. Its arguments are those of _remake_table()."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        model: type[models.Model],
        create_field: Any = None,
        delete_field: Any = None,
        alter_fields: Any = None,
        alter_field: Any = None,
    ) -> None:
        self._connection = connection
        self._model = model
        self._created = create_field
        self._deleted = delete_field
        self._altered = _altered(alter_fields, alter_field)
        self._table = strip_quotes(model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(SQL_OF_TABLE, [self._table])
            found = cursor.fetchall()
        self._indexes = {name: sql for kind, name, sql in found if kind == "index"}
        self._sql = "".join(sql for kind, _, sql in found if kind == "table")

    @cached_property
    def columns(self) -> list[KeptColumn]:
        """Those that the state does not know, if a ghost may have added them.

        Raises RewindError if the remake needs another one that is gone, or makes one
        of these anew, by which its data would be lost.
        """
        known = {_column(f) for f in self._model._meta.local_concrete_fields}
        for old, new in self._altered:
            # Django 3.2 gives the model as it will be, to rename a column of
            # many-to-many.
            if old.column and new.column:
                known.discard(_column(new))
                known.add(_column(old))
        is_generated = columns_of(self._connection, self._table)
        unknown = is_generated.keys() - known
        lacking = known - is_generated.keys() - self._may_lack()
        if not (unknown or lacking) or not self._answers:
            return []
        if lacking and self._unknown:
            raise self._lacks(min(lacking) if is_generated else None)
        if self._created and not self._may_have_made(self._created):
            # It is there for another reason, as a primary key that Django made up.
            unknown = unknown - {_column(self._created)}
        columns = []
        for number, found in enumerate(self._definitions):
            name = found.name.casefold()
            if found.kind == "column" and name in unknown:
                kind = KeptGeneratedColumn if is_generated[name] else KeptColumn
                columns.append(kind(number, found.name, found.sql))
        self._check(columns)
        return columns

    def _check(self, columns: list[KeptColumn]) -> None:
        new = [self._created, *(field for _, field in self._altered)]
        new_columns = {_column(field) for field in new if field}
        for column in columns:
            names = self._table, str(column.column), self._model._meta.app_label
            if _column(column) in new_columns:
                raise has_already(self._connection, *names)
            if not self._gone.isdisjoint(getattr(column, "needs", ())):
                raise is_needed(self._connection, *names)

    @cached_property
    def needed_constraints(self) -> list[KeptConstraint]:
        """Those on kept columns."""
        if not self.columns:
            return []
        return self._kept("needed", filter(self._is_on_kept_column, self._constraints))

    @cached_property
    def other_constraints(self) -> list[KeptConstraint]:
        """Those that a ghost made of columns that the state knows."""
        if "constraint" not in self._sql.casefold():
            # Most tables have none, and to read what they are made of takes time.
            return []
        known = {constraint.name for constraint in self._model._meta.constraints}
        found = [
            constraint
            for constraint in self._constraints
            if constraint.name
            and constraint.name not in known
            and not self._is_on_kept_column(constraint)
        ]
        found = [
            constraint
            for constraint in found
            if any(_is_named(constraint.name, t) for t in self._texts(known=False))
        ]
        # What is applied or reversed now may remove what another one made.
        others = self._others() if found else []
        found = [c for c in found if not any(_is_named(c.name, t) for t in others)]
        return self._kept("other", found)

    def lost_indexes(self) -> list[str]:
        """What made those of ghosts that are gone, once the table is remade."""
        if not self._indexes:
            return []
        with self._connection.cursor() as cursor:
            # Without a look at each table and index that there is.
            cursor.execute(f"PRAGMA index_list({self._quoted(self._table)})")
            present = {row[1] for row in cursor.fetchall()}
        lost = {name: self._indexes[name] for name in self._indexes.keys() - present}
        removed = {_column(self._deleted)} if self._deleted else set()
        return [
            self._as_renamed(sql)
            for name, sql in sorted(lost.items())
            # SQLite takes the name of a column that is not there for a text.
            if removed.isdisjoint(definitions.mentioned(sql))
            and self._is_index_of_ghost(name, sql)
        ]

    @cached_property
    def _answers(self) -> dict[Key, Status]:
        return may_be_unknown(self._connection)

    @cached_property
    def _codes(self) -> dict[Key, MigrationCode]:
        return store.fetch(self._connection, list(self._answers))

    @cached_property
    def _unknown(self) -> frozenset[Key]:
        """Those of which the state knows nothing.

        If a stored history is in force, it knows ghosts that could be loaded, and
        edited ones as they or their files were chosen.
        """
        stored = history.of(self._connection)
        if stored is None:
            return frozenset(self._answers)
        names = {key: (key[0], code.ran_as) for key, code in self._codes.items()}
        return frozenset(
            key
            for key, answer in self._answers.items()
            if answer.is_ghost
            and stored.migrations.keys().isdisjoint([key, names.get(key, key)])
        )

    def _texts(self, *, known: bool) -> list[str]:
        return [
            code.source_code
            for key, code in self._codes.items()
            if (key not in self._unknown) == known
        ]

    def _may_lack(self) -> set[str]:
        """What is in the state only: what was made up for want of a primary key, as
        may be what is made now; and nothing is copied from what goes.
        """
        fields = [f for f in self._model._meta.local_concrete_fields if f.auto_created]
        fields += [field for field in (self._created, self._deleted) if field]
        return set(map(_column, fields))

    def _may_have_made(self, field: Any) -> bool:
        """Those of other apps only by a name that their code has; few have not "id"."""
        label = self._model._meta.app_label
        if any(app_label == label for app_label, _ in self._answers):
            return True
        name = re.sub("_id$", "", _column(field))
        return not field.primary_key and any(
            name in code.source_code.casefold() for code in self._codes.values()
        )

    def _lacks(self, column: str | None) -> RewindError:
        """None if there is no such table at all."""
        others = ", ".join(first_of([".".join(key) for key in self._answers], 10))
        fact = f"The table {self._table} lacks the column '{column}', which is needed"
        if column is None:
            fact = f"The table {self._table} is not there, and is needed"
        return RewindError(
            f"{fact} to alter the table. A migration that was applied from other code "
            "may have removed or renamed it; this migration was not applied. Reverse "
            f"one of these first: {others}."
        )

    @cached_property
    def _gone(self) -> set[str]:
        gone = {_column(old) for old, new in self._altered if old.column != new.column}
        return gone.union(_column(field) for field in [self._deleted] if field)

    @cached_property
    def _definitions(self) -> list[Definition]:
        return definitions.read(self._sql) if self._sql else []

    @cached_property
    def _constraints(self) -> list[Definition]:
        """Of no column that goes."""
        return [
            found
            for found in self._definitions
            if found.kind in ("unique", "check", "foreign")
            and found.names.isdisjoint(self._gone)
        ]

    def _is_on_kept_column(self, constraint: Definition) -> bool:
        return not constraint.names.isdisjoint(map(_column, self.columns))

    def _kept(
        self, why: str, constraints: Iterable[Definition]
    ) -> list[KeptConstraint]:
        return [
            KeptConstraint(name=f"kept_{why}_{number}", sql=found.sql)
            for number, found in enumerate(constraints)
        ]

    def _others(self) -> list[str]:
        return [*_files(self._model._meta.app_label), *self._texts(known=True)]

    def _is_index_of_ghost(self, name: str, sql: str) -> bool:
        if any(self._quoted(str(column.column)) in sql for column in self.columns):
            return True
        texts = [code.source_code for code in self._codes.values()]
        if any(_is_named(name, text) for text in texts):
            return True
        # Under names of Django, it is in a state that knows it.
        return any(_made_together(text, sql) for text in self._texts(known=False)) and (
            _columns_of_index(self._as_renamed(sql)) not in self._indexed
        )

    @property
    def _indexed(self) -> list[list[str]]:
        """By Django too, under another name, once the table is remade."""
        with self._connection.cursor() as cursor:
            constraints = self._connection.introspection.get_constraints(
                cursor, self._table
            )
        return [found["columns"] for found in constraints.values() if found["index"]]

    def _as_renamed(self, sql: str) -> str:
        for old, new in self._altered:
            if old.column and new.column:
                sql = sql.replace(self._quoted(old.column), self._quoted(new.column))
        return sql

    def _quoted(self, name: str) -> str:
        return str(self._connection.ops.quote_name(name))


def may_be_unknown(connection: BaseDatabaseWrapper) -> dict[Key, Status]:
    """What is applied, and may be unknown to a state: ghosts, and what edited ones did.

    Of any app, since RunSQL may alter every table, and no state tells that.
    """
    return {
        key: answer
        for key, answer in status.read(connection).items()
        if answer.is_ghost or answer.file is File.EDITED
    }


def columns_of(connection: BaseDatabaseWrapper, table: str) -> dict[str, bool]:
    """The columns of the table, without case, and whether each is generated."""
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
        return {row[1].casefold(): bool(row[6]) for row in cursor.fetchall()}


def generated_from(
    connection: BaseDatabaseWrapper, table: str, column: str
) -> list[str]:
    """The columns of the table that are made of this one."""
    is_generated = columns_of(connection, table)
    if not any(is_generated.values()):
        return []
    with connection.cursor() as cursor:
        cursor.execute(SQL_OF_TABLE, [table])
        sql = "".join(sql for kind, _, sql in cursor.fetchall() if kind == "table")
    return [
        found.name
        for found in definitions.read(sql)
        if found.kind == "column"
        and is_generated.get(found.name.casefold())
        and column.casefold() in definitions.take_apart(found.sql).names
    ]


def has_already(
    connection: BaseDatabaseWrapper,
    table: str,
    column: str,
    app_label: str,
    by: str = "",
) -> RewindError:
    """Two branches may add the same column; Django would drop the ghost's.

    `by`: the migration that adds it, where it is not the one that is being applied.
    """
    return RewindError(
        f"The table {table} already has the column '{column}', from a migration whose "
        f"file is gone, and {by or 'this migration'} adds it anew. "
        + _reverse_first(connection, app_label, by)
    )


def is_needed(
    connection: BaseDatabaseWrapper,
    table: str,
    column: str,
    app_label: str,
    by: str = "",
) -> RewindError:
    """SQLite could not make it again, and Django would drop it."""
    return RewindError(
        f"The column '{column}' of the table {table} is from a migration whose file is "
        f"gone, and is generated from a column that {by or 'this migration'} removes "
        f"or renames. {_reverse_first(connection, app_label, by)}"
    )


def _reverse_first(connection: BaseDatabaseWrapper, app_label: str, by: str) -> str:
    showing, going_back = (
        manage(command, connection.alias)
        for command in (f"showmigrations {app_label}", f"migrate {app_label} NAME")
    )
    return (
        f"{'Nothing was' if by else 'It was not'} applied, so that no data are lost. "
        f"Reverse the other one first: {showing} names it, and {going_back} goes back "
        "to the one before it."
    )


def _column(field: Any) -> str:
    """As it is compared: to SQLite, case does not matter."""
    return strip_quotes(str(field.column)).casefold()


def _altered(alter_fields: Any, alter_field: Any) -> list[Any]:
    # Before Django 5, alter_field stands third, for both.
    if isinstance(alter_fields, tuple):
        alter_fields = [alter_fields]
    return [*(alter_fields or ()), *([alter_field] if alter_field else ())]


def _is_named(name: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))


def _files(app_label: str) -> Iterator[str]:
    for name in source.Disk()[app_label]:
        with suppress(SourceUnavailable):
            yield source.read(source.module_name(app_label, name) or "")


def _made_together(code: str, sql: str) -> bool:
    """By unique_together or index_together, whose indexes are named by Django."""
    columns = _columns_of_index(sql)
    return (
        len(columns) > 1
        and bool(re.search("(?i)(unique|index)_?together", code))
        and all(_is_named(re.sub("_id$", "", column), code) for column in columns)
    )


def _columns_of_index(sql: str) -> list[str]:
    return re.findall('"([^"]+)"', sql.partition("(")[2])
