"""What stands in the way of a rollback. Pure: works on keys and operations."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterIndexTogether,
    AlterUniqueTogether,
    CreateModel,
    RemoveConstraint,
    RemoveIndex,
    RenameField,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Model
from django.db.models.options import normalize_together

from . import naming
from .models import Key

# Those that make an index or a constraint of fields again when they are undone.
INDEXING = AlterUniqueTogether, AlterIndexTogether, RemoveConstraint, RemoveIndex

# As a name, what `migrate` takes for "before the first one".
ZERO = "zero"


def key_of(migration: Migration) -> Key:
    """In the graph, where a migration that says to be another app's is its file's."""
    key: Key = getattr(migration, "graph_key", (migration.app_label, migration.name))
    return key


def database_operations(operations: Iterable[Operation]) -> Iterator[Operation]:
    """With what SeparateDatabaseAndState does to the database in its place."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from database_operations(operation.database_operations)
        else:
            yield operation


def model_of(operation: Any) -> str:
    """In lower case. Not for RenameModel, which has two."""
    name: str = getattr(operation, "model_name_lower", None) or operation.name_lower
    return name


def irreversible_operations(operations: Iterable[Operation]) -> Iterator[Operation]:
    return (o for o in database_operations(operations) if not o.reversible)


def makes_what_is_there(migration: Migration, state: ProjectState) -> bool:
    """Whether a state that should not have it yet has the model, or the field.

    As after two migrations that did the same, of which one was faked: to reverse the
    one would drop what is the other's, and the state would not tell.
    """
    if getattr(migration, "is_faked", False):
        return False
    for operation in migration.operations:
        if isinstance(operation, CreateModel):
            model, field = operation.name_lower, None
        elif isinstance(operation, AddField):
            model, field = operation.model_name_lower, operation.name
        else:
            # Those after it work on what it made.
            return False
        found = state.models.get((migration.app_label, model))
        if found is not None and (field is None or field in found.fields):
            return True
    return False


def alters_what_is_not_there(migration: Migration, state: ProjectState) -> bool:
    """Whether the model lacks a field that is altered: the state would make it."""
    if getattr(migration, "is_faked", False):
        return False
    made = set()
    for operation in _state_operations(migration.operations):
        if isinstance(operation, AddField):
            made.add((operation.model_name_lower, operation.name))
        elif isinstance(operation, RenameField):
            made.add((operation.model_name_lower, operation.new_name))
        elif isinstance(operation, AlterField):
            name = operation.model_name_lower, operation.name
            model = state.models.get((migration.app_label, name[0]))
            if model and name[1] not in model.fields and name not in made:
                return True
    return False


def indexes_what_is_not_there(migration: Migration, state: ProjectState) -> bool:
    """Whether it changes an index or constraint of fields that its model lacks then.

    To undo that makes it once more, if only on the way.
    """
    if getattr(migration, "is_faked", False) or not any(
        isinstance(operation, INDEXING)
        for operation in database_operations(migration.operations)
    ):
        return False
    state = state.clone()
    for operation in migration.operations:
        for inner in database_operations([operation]):
            if isinstance(inner, INDEXING) and _lacks_indexed(
                inner, state.models.get((migration.app_label, model_of(inner)))
            ):
                return True
        operation.state_forwards(migration.app_label, state)
    return False


def _lacks_indexed(operation: Any, model: ModelState | None) -> bool:
    if model is None:
        return False
    if isinstance(operation, (RemoveConstraint, RemoveIndex)):
        kept = model.options.get(operation.option_name) or ()
        found = [getattr(o, "fields", ()) for o in kept if o.name == operation.name]
    else:
        found = [
            fields
            for together in (
                model.options.get(operation.option_name),
                operation.option_value,
            )
            for fields in normalize_together(together or ())
        ]
    names = {name.lstrip("-") for fields in found for name in fields}
    # What order_with_respect_to makes is no field of a state.
    return not names <= {*model.fields, "_order"}


def _state_operations(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from _state_operations(operation.state_operations)
        else:
            yield operation


def refers_to_what_is_not_there(state: ProjectState, app_label: str) -> bool:
    """As to a model that another branch's migration renamed since."""
    return any(
        _lacks_fields(model) or _lacks_models(model, state)
        for (label, _), model in state.models.items()
        if label == app_label
    )


def _lacks_fields(model: ModelState) -> bool:
    together = normalize_together(model.options.get("unique_together") or ())
    return any(name not in model.fields for names in together for name in names)


def _lacks_models(model: ModelState, state: ProjectState) -> bool:
    for field in model.fields.values():
        if not isinstance(getattr(field.remote_field, "model", None), str):
            continue
        key = naming.target(field, model)
        if key not in state.models and key[0] not in state.real_apps:
            return True
    return False


def remakes_what_cannot_be_generated(
    migration: Migration, state: ProjectState, steps: Collection[Migration]
) -> bool:
    """Whether a field that it adds is made of one that its model lacks after it.

    Of no matter if nothing but such fields goes: SQLite drops them as they are.
    """
    for operation in _generated(migration):
        key = migration.app_label, operation.model_name_lower
        model = state.models.get(key)
        field: Any = model and model.fields.get(operation.name)
        if model and field:
            made_of = fields_in(field.expression)
            if not made_of <= model.fields.keys() and _alters_table(steps, key):
                return True
    return False


def _alters_table(steps: Collection[Migration], key: Key) -> bool:
    return any(
        getattr(operation, "model_name_lower", None) == key[1]
        and operation not in _generated(step)
        for step in steps
        if step.app_label == key[0]
        for operation in database_operations(step.operations)
    )


def _generated(migration: Migration) -> list[AddField]:
    if getattr(migration, "is_faked", False):
        return []
    return [
        operation
        for operation in database_operations(migration.operations)
        if isinstance(operation, AddField)
        and getattr(operation.field, "generated", False)
    ]


def fields_in(expression: Any) -> set[str]:
    any_model: Any = Model
    names = {names[0] for names in any_model._get_expr_references(expression)}
    return names - {"pk"}


def inherits(migration: Migration) -> bool:
    """Whether it makes a model from another one that may not be there some time."""
    return any(
        isinstance(base, str)
        for operation in _state_operations(migration.operations)
        if isinstance(operation, CreateModel)
        for base in operation.bases or ()
    )


def can_be_rendered(state: ProjectState) -> bool:
    """As far as one model inherits from another; rendering them takes long.

    RenameModel leaves the bases of others as they are, and a field that a base got
    may have the name of one that its child has.
    """
    try:
        return all(
            model.fields.keys().isdisjoint(_inherited_fields(model, state))
            for model in state.models.values()
        )
    except KeyError:
        return False


def _inherited_fields(model: ModelState, state: ProjectState) -> Iterator[str]:
    """Raises KeyError for a base that is not there."""
    for base in model.bases:
        if isinstance(base, str):
            # As Apps.get_model() has it, case matters in the label of the app alone.
            label, name = base.split(".", 1)
            if label not in state.real_apps:
                parent = state.models[label, name.lower()]
                yield from parent.fields
                yield from _inherited_fields(parent, state)


def applied(runner: MigrationExecutor) -> Iterator[Migration]:
    """All that is, in the order of its graph."""
    loader = runner.loader
    plan = runner.migration_plan(loader.graph.leaf_nodes(), clean_start=True)
    return (m for m, _ in plan if key_of(m) in loader.applied_migrations)


def missing_dependencies(
    migrations: Mapping[Key, Migration], is_on_disk: Callable[[Key], bool]
) -> dict[Key, Key]:
    """Migrations that cannot enter the graph → a dependency that is nowhere.

    Also those that depend on one of these, and so on.
    """
    lost: dict[Key, Key] = {}
    while True:
        found = {
            key: dependency
            for key, migration in migrations.items()
            if key not in lost
            for dependency in migration.dependencies
            if not is_on_disk(dependency)
            and (dependency not in migrations or dependency in lost)
        }
        if not found:
            return lost
        lost.update(found)


def recorded_after(
    target: Key, recorded: Sequence[Key], replaced: Collection[Key] = ()
) -> set[Key]:
    """What of the target's app was recorded after it; everything after zero.

    A squashed migration is recorded when its squash is found, so it counts as
    recorded with the last of those that it replaced.
    """
    app_label, name = target
    of_app = [key for key in recorded if key[0] == app_label]
    if name == ZERO:
        return set(of_app)
    ends = [of_app.index(key) for key in (replaced or [target]) if key in of_app]
    return set(of_app[max(ends, default=-1) + 1 :]) - {target}


def order_of_application(
    ancestors: Mapping[Key, Collection[Key]], recorded: Sequence[Key]
) -> list[Key]:
    """The keys of `ancestors` as they were recorded, each after its ancestors.

    Records can contradict the graph, as after --fake; then the graph is right.
    """
    position = {key: index for index, key in enumerate(recorded)}
    pending = sorted(ancestors, key=lambda key: position.get(key, len(recorded)))
    order: list[Key] = []
    while pending:
        ready = next(
            (k for k in pending if not set(ancestors[k]) & set(pending) - {k}),
            pending[0],
        )
        pending.remove(ready)
        order.append(ready)
    return order


def in_the_way(
    unreachable: Mapping[Key, Collection[Key] | None],
    after_target: Collection[Key],
    plan: Collection[Key],
    recorded: Sequence[Key],
) -> list[Key]:
    """Which unreachable migrations would have to be reversed too, or depend on it.

    `unreachable` maps each to its dependencies, None where nobody knows them: such
    a one is in the way if it was recorded after something that it may depend on.
    """
    position = {key: index for index, key in enumerate(recorded)}
    earliest = min((position[k] for k in plan if k in position), default=len(recorded))

    def is_in_the_way(key: Key, others: Collection[Key]) -> bool:
        if key in plan or key in after_target:
            return True
        dependencies = unreachable[key]
        if dependencies is None:
            return position[key] > earliest
        return any(d in plan or d in others for d in dependencies)

    found: set[Key] = set()
    while True:
        more = {k for k in unreachable if k not in found and is_in_the_way(k, found)}
        if not more:
            return sorted(found, key=lambda key: position[key])
        found |= more


def with_dependants(
    graph: MigrationGraph, wanted: Iterable[Key], applied: Collection[Key]
) -> list[Key]:
    """The applied ones of these, and of what depends on them."""
    found: dict[Key, None] = {}
    for key in wanted:
        if key not in found:
            found.update(dict.fromkeys(graph.backwards_plan(key)))
    return [key for key in found if key in applied]


def last_of(graph: MigrationGraph, keys: Collection[Key]) -> list[Key]:
    """Those on which no other of them depends."""
    known = frozenset(keys)
    return [
        key
        for key in keys
        if not any(child.key in known for child in graph.node_map[key].children)
    ]


def reasons(
    graph: MigrationGraph, plan: Sequence[Key], wanted: Mapping[Key, str]
) -> dict[Key, str]:
    """Why each step is there; those that nobody wanted depend on another one."""
    found = {}
    for key in plan:
        parents = {parent.key for parent in graph.node_map[key].parents}
        others = sorted(parents.intersection(plan))
        if key in wanted:
            found[key] = wanted[key]
        elif others:
            found[key] = "depends on {}.{}".format(*others[0])
        else:
            found[key] = "a part of what is reversed"
    return found
