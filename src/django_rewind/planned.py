"""What an executor is about to do: checked first, and told to its recorder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.migrations import Migration

from . import ahead, beneath
from .recorder import StoresCode


def check(
    runner: Any,
    targets: Any,
    plan: Sequence[tuple[Migration, bool]],
    *,
    fake: bool,
    fake_initial: bool,
) -> None:
    """Raises RewindError for what must not begin; see ahead and beneath."""
    migrations = [migration for migration, _ in plan]
    _, goes_back = plan[0]
    if goes_back:
        if not fake:
            beneath.check(runner.connection, migrations)
        return
    if not (fake or fake_initial):
        ahead.check(runner, migrations)
    if isinstance(runner.recorder, StoresCode):
        # For other targets, Django applies the same in another order.
        in_this_order = targets == runner.loader.graph.leaf_nodes()
        runner.recorder.expect(migrations, in_this_order=in_this_order)
