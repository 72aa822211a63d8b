"""What operations touch, to tell which of them can change places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple

from django.db.migrations.operations import (
    AddField,
    AddIndex,
    AlterField,
    AlterModelManagers,
    AlterModelOptions,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import IndexOperation, ModelOptionOperation

from . import naming, planning
from .models import Key

OF_DJANGO = "django.db.migrations.", "django.contrib."


class Touched(NamedTuple):
    """One field of a model or, without a field, all of it; without a model, anything.

    SQLite makes a table anew for most of this. The state from which it does so has
    what the table has, so that other fields do not matter.
    """

    model: Key | None = None
    field: str | None = None
    # A field that is made, or what it refers to: the rest of the model is left alone.
    is_added: bool = False
    # The model as it was: what is added to it is left alone.
    is_rest: bool = False

    def collides_with(self, other: Touched) -> bool:
        if self.model is None or other.model is None:
            return True
        if self.model != other.model:
            return False
        if (self.is_added and other.is_rest) or (self.is_rest and other.is_added):
            return False
        return None in (self.field, other.field) or self.field == other.field


def collide(one: Iterable[Touched], other: Iterable[Touched]) -> bool:
    others = list(other)
    return any(mine.collides_with(its) for mine in one for its in others)


def by(app_label: str, operations: Iterable[Operation]) -> Iterator[Touched]:
    for operation in operations:
        if type(operation).__module__.startswith(OF_DJANGO):
            yield from _by(operation, app_label)
        else:
            yield Touched()


@singledispatch
def _by(operation: Any, app_label: str) -> Iterator[Touched]:
    """RunPython, RunSQL, extensions, and those that contain others."""
    yield Touched()


@_by.register
def _by_create_model(operation: CreateModel, app_label: str) -> Iterator[Touched]:
    model = app_label, operation.name_lower
    yield Touched(model)
    for _, field in operation.fields:
        yield from _referred_to(model, field)
    for base in operation.bases or ():
        if isinstance(base, str):
            yield Touched(naming.resolve(base, model))


@_by.register
def _by_delete_model(operation: DeleteModel, app_label: str) -> Iterator[Touched]:
    yield Touched((app_label, operation.name_lower))


@_by.register
def _by_rename_model(operation: RenameModel, app_label: str) -> Iterator[Touched]:
    yield Touched((app_label, operation.old_name_lower))
    yield Touched((app_label, operation.new_name_lower))


@_by.register
def _by_add_field(operation: AddField, app_label: str) -> Iterator[Touched]:
    model = app_label, operation.model_name_lower
    yield Touched(model, operation.name_lower, is_added=True)
    yield from _referred_to(model, operation.field)


@_by.register
def _by_alter_field(operation: AlterField, app_label: str) -> Iterator[Touched]:
    model = app_label, operation.model_name_lower
    yield Touched(model, operation.name_lower)
    yield from _referred_to(model, operation.field)


@_by.register
def _by_remove_field(operation: RemoveField, app_label: str) -> Iterator[Touched]:
    yield Touched((app_label, operation.model_name_lower), operation.name_lower)


@_by.register
def _by_rename_field(operation: RenameField, app_label: str) -> Iterator[Touched]:
    for name in (operation.old_name_lower, operation.new_name_lower):
        yield Touched((app_label, operation.model_name_lower), name)


@_by.register
def _by_index(operation: IndexOperation, app_label: str) -> Iterator[Touched]:
    model = app_label, operation.model_name_lower
    index: Any = operation.index if isinstance(operation, AddIndex) else None
    if index is not None and index.fields and not (index.condition or index.include):
        for name, _ in index.fields_orders:
            yield Touched(model, name.lower())
    else:
        yield Touched(model, is_rest=True)


@_by.register
def _by_option(operation: ModelOptionOperation, app_label: str) -> Iterator[Touched]:
    # Of the others, the database knows nothing.
    if not isinstance(operation, (AlterModelManagers, AlterModelOptions)):
        yield Touched((app_label, operation.name_lower), is_rest=True)


def _referred_to(model: Key, field: Any) -> Iterator[Touched]:
    """Other models, and the field of one; of its own model, what it is made of."""
    relation = field.remote_field
    for other in (
        (relation.model, getattr(relation, "through", None)) if relation else ()
    ):
        if other:
            name = getattr(relation, "field_name", None) or ""
            yield Touched(naming.resolve(other, model), name, is_added=True)
    if getattr(field, "generated", False):
        for name in planning.fields_in(field.expression):
            yield Touched(model, name.lower(), is_added=True)
