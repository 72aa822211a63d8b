"""Which recorded migrations are to be reversed, and why each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from . import likeness
from .ghosts import Ghosts
from .models import Key
from .points import Point
from .status import File

# Its migrations are reversed if they are named, and not with others: the stored code
# of all the others would go with them.
OWN_APP = "django_rewind"


def not_of_this_checkout(
    ghosts: Ghosts, app_label: str | None = None
) -> Mapping[Key, str]:
    """Ghosts; and names whose files now make another schema than what was applied."""
    found = {}
    for key, answer in ghosts.statuses.items():
        if app_label not in (None, key[0]) or key[0] == OWN_APP:
            continue
        if answer.is_ghost:
            found[key] = "ghost"
        elif key in ghosts.loaded and _makes_another_schema(ghosts, key):
            found[key] = "its file makes another schema than was applied"
    return found


def _makes_another_schema(ghosts: Ghosts, key: Key) -> bool:
    files = ghosts.files
    return (
        ghosts.statuses[key].file is File.EDITED
        and key in files.graph.nodes
        and not likeness.make_the_same_schema(
            ghosts.loaded[key], files.disk_migrations[key]
        )
    )


def after(point: Point, now: Mapping[Key, str]) -> Mapping[Key, str]:
    """What was applied since, or again with other code."""
    found = {}
    for key, digest in now.items():
        if key[0] == OWN_APP:
            continue
        if key not in point.records:
            found[key] = f"applied after {point.name}"
        elif "" != digest != point.records[key] != "":
            found[key] = f"applied again with other code after {point.name}"
    return found


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
