"""What stands in the way of a rollback, as tables of cases."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from django.db import migrations, models
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from django_rewind import planning
from django_rewind.models import Key

pytestmark = pytest.mark.only("sqlite")

# Maps each migration to what it depends on, None where nobody knows.
Dependencies = dict[str, Optional[str]]


def keys(names: str) -> list[Key]:
    """ "a1 b1" → a.a1 and b.b1: the letter is the app."""
    return [(name[0], name) for name in names.split()]


def names(found: list[Key] | set[Key]) -> str:
    in_order = sorted(found) if isinstance(found, set) else found
    return " ".join(name for _, name in in_order)


@pytest.mark.parametrize(
    ("target", "recorded", "replaced", "expected"),
    [
        ("a1", "a1 a2 a3", "", "a2 a3"),
        ("a3", "a1 a2 a3", "", ""),
        # The order of the records, not of the names.
        ("a2", "a1 a3 a2 a4", "", "a4"),
        # Only of the target's app.
        ("a1", "b1 a1 b2 a2", "", "a2"),
        # Zero, and a target that was never recorded: everything.
        ("zero", "a1 b1 a2", "", "a1 a2"),
        ("a9", "a1 a2", "", "a1 a2"),
        ("zero", "b1", "", ""),
        # A squash counts as recorded with the last that it replaced, though its
        # own record came after a3.
        ("a2s", "a1 a2 a3 a2s", "a1 a2", "a3"),
        # On a fresh database they were recorded with it.
        ("a2s", "a1 a2 a2s a3", "a1 a2", "a3"),
        # Where the replaced ones were pruned.
        ("a2s", "a2s a3", "", "a3"),
    ],
)
def test_recorded_after(
    target: str, recorded: str, replaced: str, expected: str
) -> None:
    key = ("a", target) if target != "zero" else ("a", planning.ZERO)
    after = planning.recorded_after(key, keys(recorded), keys(replaced))
    assert names(after) == expected


@pytest.mark.parametrize(
    ("unreachable", "after_target", "plan", "recorded", "expected"),
    [
        # Nothing is unreachable.
        ({}, "a2", "a2", "a1 a2", ""),
        # It would have to be reversed itself.
        ({"a2": "a1"}, "a2 a3", "a3", "a1 a2 a3", "a2"),
        ({"a2": None}, "a2", "", "a1 a2", "a2"),
        # An edited migration that does not verify is in the plan as a file.
        ({"a2": "a1"}, "", "a2", "a1 a2", "a2"),
        # It depends on what would be reversed.
        ({"b1": "a2"}, "a2", "a2", "a1 a2 b1", "b1"),
        # It depends on what stays, also when it was recorded later.
        ({"b1": "a1"}, "a2", "a2", "a1 a2 b1", ""),
        ({"b1": ""}, "a2", "a2", "a1 a2 b1", ""),
        # Nobody knows what it depends on: it counts if it was recorded later.
        ({"b1": None}, "a2", "a2", "a1 a2 b1", "b1"),
        ({"b1": None}, "a2", "a2", "a1 b1 a2", ""),
        # Nothing would be reversed.
        ({"b1": None}, "", "", "a1 b1", ""),
        # It depends on another one that is in the way, and so on.
        ({"b1": "a2", "c1": "b1", "d1": "c1"}, "a2", "a2", "a2 b1 c1 d1", "b1 c1 d1"),
        ({"b1": "a1", "c1": "b1"}, "a2", "a2", "a1 a2 b1 c1", ""),
        # Named in the order of the records.
        ({"a3": "a2", "a2": "a1"}, "a2 a3", "", "a1 a3 a2", "a3 a2"),
        ({"c1": "a2", "b1": "a2"}, "a2", "a2", "a2 b1 c1", "b1 c1"),
    ],
)
def test_in_the_way(
    unreachable: Dependencies,
    after_target: str,
    plan: str,
    recorded: str,
    expected: str,
) -> None:
    found = planning.in_the_way(
        {
            keys(name)[0]: None if others is None else keys(others)
            for name, others in unreachable.items()
        },
        keys(after_target),
        keys(plan),
        keys(recorded),
    )
    assert names(found) == expected


@pytest.mark.parametrize(
    ("dependencies", "on_disk", "expected"),
    [
        ({}, "", {}),
        ({"a2": "a1"}, "a1", {}),
        ({"a3": "a2", "a2": "a1"}, "a1", {}),
        ({"a2": "a1"}, "", {"a2": "a1"}),
        # What depends on a lost one is lost, from near to far.
        ({"a3": "a2", "a2": "a1"}, "", {"a2": "a1", "a3": "a2"}),
        (
            {"a2": "b1", "a3": "a2", "c1": "a3 d1"},
            "d1",
            {"a2": "b1", "a3": "a2", "c1": "a3"},
        ),
        # One that is there does not help where another is missing.
        ({"a2": "a1 b1"}, "a1", {"a2": "b1"}),
        ({"a2": "a1", "b2": "b1"}, "b1", {"a2": "a1"}),
        # A circle is the graph's affair.
        ({"a1": "b1", "b1": "a1"}, "", {}),
    ],
)
def test_missing_dependencies(
    dependencies: dict[str, str], on_disk: str, expected: dict[str, str]
) -> None:
    loaded = {}
    for name, others in dependencies.items():
        migration: Any = Migration(name, name[0])
        migration.dependencies = keys(others)
        loaded[name[0], name] = migration
    lost = planning.missing_dependencies(loaded, keys(on_disk).__contains__)
    found = {name: other for (_, name), (_, other) in lost.items()}
    assert found == expected


def nothing(apps: object, schema_editor: object) -> None:
    pass


NO_WAY_BACK = migrations.RunPython(nothing)
AND_BACK = migrations.RunPython(nothing, migrations.RunPython.noop)
SQL_NO_WAY_BACK = migrations.RunSQL("SELECT 1")
SQL_AND_BACK = migrations.RunSQL("SELECT 1", migrations.RunSQL.noop)
ADD = migrations.AddField("thing", "age", models.IntegerField(null=True))


def separate(
    database: list[Operation], state: list[Operation] | None = None
) -> migrations.SeparateDatabaseAndState:
    return migrations.SeparateDatabaseAndState(database, state or [])


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([], []),
        ([ADD, AND_BACK, SQL_AND_BACK], []),
        ([ADD, NO_WAY_BACK], [NO_WAY_BACK]),
        ([SQL_NO_WAY_BACK, ADD, NO_WAY_BACK], [SQL_NO_WAY_BACK, NO_WAY_BACK]),
        ([separate([AND_BACK])], []),
        ([separate([ADD, NO_WAY_BACK])], [NO_WAY_BACK]),
        ([separate([separate([SQL_NO_WAY_BACK])])], [SQL_NO_WAY_BACK]),
        # Operations on the state alone are never run.
        ([separate([], [NO_WAY_BACK])], []),
    ],
)
def test_irreversible_operations(
    operations: list[Operation], expected: list[Operation]
) -> None:
    assert list(planning.irreversible_operations(operations)) == expected


def test_steps_are_ordered_as_they_were_recorded_unless_the_graph_says_otherwise() -> (
    None
):
    a, b, c = ("users", "0002_a"), ("users", "0002_b"), ("users", "0003_c")
    order = planning.order_of_application
    assert order({a: [a], b: [b]}, [b, a]) == [b, a]
    assert order({a: [a], b: [b], c: [c, a, b]}, [c, b, a]) == [b, a, c]
    assert order({a: [a], b: [b]}, []) == [a, b]
