"""What reversing the steps of a plan does to the data that is there now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from ..exceptions import Problem
from ..models import Key
from ..terminal import on_one_line, shortened
from . import absences
from .changes import follow
from .counts import ask
from .reversal import Finding, Reversal

__all__ = ["Effects", "absent", "find"]


class Effects(NamedTuple):
    # One list for each step, in the order of the plan: facts with live counts.
    destroys: dict[Key, list[str]]
    # What would certainly fail on the data that is there.
    problems: list[Problem]
    # What may fail: code of the plan runs before it, and may change the data.
    notes: list[str]


def find(runner: MigrationExecutor, plan: Sequence[Migration]) -> Effects:
    """Of reversing `plan`, latest applied first. Runs none of it."""
    effects = Effects({(m.app_label, m.name): [] for m in plan}, [], [])
    connection = runner.connection
    findings = list(Reversal(connection).undo(follow(runner, plan)))
    counts = ask(connection, (f.counted for f in findings if f.counted is not None))
    for finding in findings:
        number = None if finding.counted is None else counts[finding.counted]
        if number is not None and number < finding.least:
            continue
        fact = shortened(_fact(finding, number))
        if not finding.remedy:
            effects.destroys[finding.key].append(fact)
        elif number is None:
            continue
        elif finding.may_be_mended:
            effects.notes.append(
                on_one_line("{}.{}: ".format(*finding.key))
                + f"{fact}. Its rollback fails unless code that runs before it changes "
                "that."
            )
        else:
            effects.problems.append(Problem(*finding.key, f"{fact}.", finding.remedy))
    return effects


def absent(runner: MigrationExecutor, plan: Sequence[Migration]) -> list[Problem]:
    """What reversing `plan` needs, and the database has not."""
    return list(absences.find(runner.connection, follow(runner, plan)))


def _fact(finding: Finding, number: int | None) -> str:
    if number is None:
        return finding.fact
    one, many = finding.things
    return f"{finding.fact}{finding.lead}{number:,} {one if number == 1 else many}"
