"""Which recorded migrations are to be reversed, and why each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from . import likeness
from .ghosts import Ghosts
from .models import Key
from .points import Point
from .status import File

# Its migrations are reversed if they are named, and not with others: the stored code
# of all the others would go with them.
OWN_APP = "django_rewind"


class Chosen(NamedTuple):
    """What is to be reversed and why; and what is left alone, and why."""

    reasons: dict[Key, str]
    notes: list[str]


def not_of_this_checkout(
    connection: BaseDatabaseWrapper, ghosts: Ghosts, app_label: str | None = None
) -> Chosen:
    """Ghosts; and names whose files now make another schema than what was applied."""
    chosen = Chosen({}, [])
    for key, answer in ghosts.statuses.items():
        if app_label not in (None, key[0]) or key[0] == OWN_APP:
            continue
        if answer.is_ghost:
            chosen.reasons[key] = "ghost"
        elif answer.recorded and answer.file is File.EDITED:
            _choose_edited(connection, ghosts, key, chosen)
    return chosen


def _choose_edited(
    connection: BaseDatabaseWrapper, ghosts: Ghosts, key: Key, chosen: Chosen
) -> None:
    name = "{}.{}".format(*key)
    if key in ghosts.unreachable:
        # Then it is named, and nothing is done.
        chosen.reasons[key] = "its file is not what was applied"
        return
    squash = _squash_in_force(ghosts.files, key)
    is_known = squash is not None or key in ghosts.files.graph.nodes
    if ghosts.statuses[key].faked or not is_known:
        return
    is_same = None
    before = _state_before(ghosts.files, key, squash)
    if key in ghosts.loaded and before is not None:
        is_same = likeness.make_the_same_schema(
            ghosts.loaded[key], ghosts.files.disk_migrations[key], before, connection
        )
    if is_same is None:
        chosen.notes.append(
            f"{name} was edited after it was applied, and whether its file makes "
            "the same schema cannot be told: it is left alone. 'manage.py rewind "
            "APP NAME' with the one before it reverses it."
        )
    elif not is_same and squash is not None:
        chosen.notes.append(
            f"{name} makes another schema in its file than was applied. It is left "
            f"alone, since {squash[0]}.{squash[1]} stands for it now. Check out the "
            "code that has it as it was applied, and reverse it there."
        )
    elif not is_same:
        chosen.reasons[key] = "its file makes another schema than was applied"


def _squash_in_force(files: MigrationLoader, key: Key) -> Key | None:
    """The one that has the place of the migration in the graph."""
    for squash, migration in files.replacements.items():
        if key in migration.replaces and squash in files.graph.nodes:
            return squash
    return None


def _state_before(
    files: MigrationLoader, key: Key, squash: Key | None
) -> ProjectState | None:
    state = files.project_state(squash or key, at_end=False)
    if squash is not None:
        originals = list(map(tuple, files.replacements[squash].replaces))
        for original in originals[: originals.index(key)]:
            if original not in files.disk_migrations:
                return None
            files.disk_migrations[original].mutate_state(state, preserve=False)
    return state


def after(
    point: Point, now: Mapping[Key, str], squashes: Mapping[Key, Collection[Key]]
) -> dict[Key, str]:
    """What was applied since, or again with other code.

    `squashes`: squashed migrations and what they replace. To record one for what was
    applied is to apply nothing.
    """
    replaced_then = {k for squash in point.records for k in squashes.get(squash, ())}
    found = {}
    for key, digest in now.items():
        if key[0] == OWN_APP or key in replaced_then:
            continue
        if key not in point.records:
            replaced = squashes.get(key, ())
            if not replaced or not set(replaced) <= point.records.keys():
                found[key] = f"applied after {point.name}"
        elif "" != digest != point.records[key] != "":
            found[key] = f"applied again with other code after {point.name}"
    return found


def missing(
    point: Point,
    now: Mapping[Key, str],
    goes: Collection[Key],
    squashes: Mapping[Key, Collection[Key]],
) -> list[Key]:
    """What was applied then, and will not be once `goes` is reversed."""
    stays = now.keys() - set(goes)
    replaced = {key for squash in stays for key in squashes.get(squash, ())}
    return [
        key
        for key in point.records
        if key[0] != OWN_APP
        and key not in stays
        and key not in replaced
        and not (squashes.get(key) and set(squashes[key]) <= stays)
    ]


def last(steps: int, ghosts: Ghosts) -> Mapping[Key, str]:
    """The last ones that were applied; what a squash replaced counts as one."""
    reason = (
        "the last one applied" if steps == 1 else f"one of the last {steps} applied"
    )
    recorded = [key for key in _as_applied(ghosts) if key[0] != OWN_APP]
    return dict.fromkeys(recorded[-steps:], reason)


def _as_applied(ghosts: Ghosts) -> Collection[Key]:
    found: dict[Key, None] = {}
    for key in ghosts.recorded:
        for node in _stands_for(ghosts, key):
            # As late as the last of what it stands for.
            found.pop(node, None)
            found[node] = None
    return found


def _stands_for(ghosts: Ghosts, key: Key) -> Iterator[Key]:
    superseded_by = ghosts.statuses[key].superseded_by
    if superseded_by is not None:
        yield superseded_by
    elif key in ghosts.applied_by:
        yield ghosts.applied_by[key]
    elif key in ghosts.files.graph.nodes or key not in ghosts.files.disk_migrations:
        yield key
    else:
        for squash, migration in ghosts.files.replacements.items():
            if key in migration.replaces:
                yield squash
