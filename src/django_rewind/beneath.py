"""Nothing is reversed under a ghost that stays, whoever drives the executor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from . import conf, history, status, store
from .exceptions import Problem, Refused
from .models import Key
from .terminal import manage, quoted


def check(connection: BaseDatabaseWrapper, plan: Sequence[Migration]) -> None:
    """Raises Refused. A rollback of ours has a history, and has checked more."""
    if not conf.is_active() or history.of(connection):
        return
    answers = status.read(connection, compare=False)
    ghosts = [key for key, answer in answers.items() if answer.is_ghost]
    if not ghosts:
        return
    problems = list(_problems(connection, plan, ghosts, list(answers)))
    if problems:
        raise Refused(f"reverse {plan[-1]}", problems)


def _problems(
    connection: BaseDatabaseWrapper,
    plan: Sequence[Migration],
    ghosts: Sequence[Key],
    recorded: Sequence[Key],
) -> Iterator[Problem]:
    # Late, since most runs meet no ghost.
    from . import planning
    from .ghosts import known_dependencies

    codes = store.fetch(connection, ghosts)
    steps = {
        key
        for step in plan
        for key in [planning.key_of(step), *map(tuple, step.replaces)]
    }
    after: dict[Key, Key] = {}
    for step in plan:
        key = planning.key_of(step)
        later = planning.recorded_after(key, recorded, step.replaces)
        after.update(dict.fromkeys(later, key))
    for ghost in ghosts:
        needed = steps.intersection(known_dependencies(codes.get(ghost)) or ())
        if needed:
            fact = "it depends on {}.{}".format(*min(needed))
        elif ghost in after:
            fact = "it was applied after {}.{}".format(*after[ghost])
        else:
            continue
        remedy = manage(f"migrate {quoted(ghost[0])} NAME", connection.alias)
        yield Problem(
            *ghost,
            f"its file is missing, and {fact}.",
            f"{remedy} goes back to the one before it; run that first.",
        )
