"""Which recorded migrations are to be reversed, and why each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from . import halfway, importer, journal, likeness, planning, store
from .exceptions import NotTrusted, Unreachable
from .ghosts import Ghosts
from .models import Key
from .points import Point
from .status import File
from .terminal import first_of, manage, on_one_line

# Its migrations are reversed if they are named, and not with others: the stored code
# of all the others would go with them.
OWN_APP = "django_rewind"

ANOTHER_SCHEMA = "its file makes another schema than was applied"


class Chosen(NamedTuple):
    """What is to be reversed and why; and what is left alone, and why."""

    reasons: dict[Key, str]
    notes: list[str]
    # Of `reasons`, what has its file, and is not as `migrate` left it, or would refuse
    # it. To reverse it is no use, unless `migrate` follows.
    to_apply_again: set[Key]


def not_of_this_checkout(
    connection: BaseDatabaseWrapper,
    ghosts: Ghosts,
    app_label: str | None = None,
    *,
    migrate: bool = False,
    mended: bool = False,
) -> Chosen:
    """Ghosts; what was reversed in part, unless that is `mended`; and edited ones.

    Of these, names whose files now make another schema than what was applied, and those
    that Django finds applied before a dependency. Of the former only what can be
    reversed, and without `migrate` only those under which nothing else would go: it
    would not be applied again.
    """
    chosen = Chosen({}, [], set())
    halves = {} if mended else halfway.find(journal.read(connection))
    switched_off: dict[str, str] = {}
    for key, answer in ghosts.statuses.items():
        if app_label not in (None, key[0]) or key[0] == OWN_APP:
            continue
        if answer.is_ghost and answer.switched_off:
            switched_off.setdefault(key[0], key[1])
        elif answer.is_ghost:
            chosen.reasons[key] = "ghost"
        elif answer.recorded and key in halves:
            chosen.to_apply_again.add(key)
            chosen.reasons[key] = "it was reversed in part"
        elif answer.recorded and answer.file is File.EDITED:
            _choose_edited(connection, ghosts, key, chosen)
    _leave_what_cannot_go(ghosts, chosen)
    if not migrate:
        _leave_what_others_need(ghosts, chosen)
    chosen.notes.extend(map(_is_switched_off, switched_off.items()))
    for squash, note in _squashes_of_something_else(connection, ghosts):
        if app_label in (None, squash[0]):
            chosen.notes.append(note)
    return chosen


def _is_switched_off(first: Key) -> str:
    label, name = map(on_one_line, first)
    return (
        f"{label}: {name} and what came after it is left alone. The app is installed, "
        "and Django is kept from seeing its migrations, by MIGRATION_MODULES or for "
        "want of an __init__.py."
    )


def _choose_edited(
    connection: BaseDatabaseWrapper, ghosts: Ghosts, key: Key, chosen: Chosen
) -> None:
    files, name = ghosts.files, "{}.{}".format(*key)
    if key in ghosts.unreachable:
        # Then it is named, and nothing is done.
        chosen.reasons[key] = "its file is not what was applied"
    elif key in files.graph.nodes and (first := unapplied_parents(files, key)):
        chosen.to_apply_again.add(key)
        chosen.reasons[key] = f"its file depends on {_names(first)}, not applied"
    elif key in ghosts.applied_as_squash:
        # Nobody edited anything; see _originals_of_something_else().
        return
    elif key in files.graph.nodes and not ghosts.statuses[key].faked:
        is_same = None
        if key in ghosts.loaded:
            before = files.project_state(key, at_end=False)
            is_same = likeness.make_the_same_schema(
                ghosts.loaded[key], files.disk_migrations[key], before, connection
            )
        if is_same is None:
            chosen.notes.append(
                f"{name} was edited after it was applied, and whether its file makes "
                "the same schema cannot be told: it is left alone. "
                f"{manage(f'rewind {key[0]} NAME', connection.alias)} with the one "
                "before it reverses it."
            )
        elif not is_same:
            chosen.reasons[key] = ANOTHER_SCHEMA


def unapplied_parents(files: MigrationLoader, key: Key) -> list[Key]:
    """As check_consistent_history() of MigrationLoader finds them."""
    parents = (parent.key for parent in files.graph.node_map[key].parents)
    return [parent for parent in parents if parent not in files.applied_migrations]


def _leave_what_cannot_go(ghosts: Ghosts, chosen: Chosen) -> None:
    """What is no ghost must not keep ghosts from being reversed."""
    files = ghosts.files
    for key in _making_another_schema(chosen):
        goes = (k for k in files.graph.backwards_plan(key) if k in ghosts.recorded)
        stuck = [k for k in goes if _is_irreversible(ghosts, k)]
        if stuck:
            del chosen.reasons[key]
            fact = f"{_names(stuck)}, irreversible, would go with it"
            chosen.notes.append(
                f"{'{}.{}'.format(*key)} was edited after it was applied, and its file "
                "makes another schema. It is left alone, since "
                f"{'it is irreversible' if key in stuck else fact}: what its file does "
                "now has to be done by hand."
            )


def _is_irreversible(ghosts: Ghosts, key: Key) -> bool:
    migration = ghosts.loaded.get(key) or ghosts.files.disk_migrations[key]
    operations = planning.irreversible_operations(migration.operations)
    return not ghosts.statuses[key].faked and any(operations)


def _making_another_schema(chosen: Chosen) -> list[Key]:
    return [k for k, reason in chosen.reasons.items() if reason == ANOTHER_SCHEMA]


def _leave_what_others_need(ghosts: Ghosts, chosen: Chosen) -> None:
    graph = ghosts.files.graph
    edited = _making_another_schema(chosen)
    # Those that come later in the graph first: what is left alone needs the others.
    edited.sort(key=lambda key: len(graph.forwards_plan(key)), reverse=True)
    for key in edited:
        needed_by = {
            other
            for other in graph.backwards_plan(key)
            if other in ghosts.recorded and other not in chosen.reasons
        }
        if needed_by:
            del chosen.reasons[key]
            chosen.notes.append(
                f"{'{}.{}'.format(*key)} was edited after it was applied, and its file "
                f"makes another schema. It is left alone, since {_names(needed_by)} "
                "would go with it: --migrate reverses all that, and applies it again."
            )


def _names(keys: Collection[Key]) -> str:
    return ", ".join(first_of(list(map(".".join, sorted(keys)))))


def _squashes_of_something_else(
    connection: BaseDatabaseWrapper, ghosts: Ghosts
) -> Iterator[tuple[Key, str]]:
    """A squash goes by names, and another branch may have applied others by these."""
    yield from _originals_of_something_else(connection, ghosts)
    files = ghosts.files
    for squash, migration in files.replacements.items():
        if squash not in files.graph.nodes:
            continue
        applied = _applied_in_its_place(connection, ghosts, migration)
        if applied is None:
            continue
        before = files.project_state(squash, at_end=False)
        is_same = likeness.make_the_same_schema(applied, migration, before, connection)
        if is_same is False:
            yield (
                squash,
                "{}.{} makes another schema than what was applied by the names that "
                "it replaces. It is left alone. Check out the code that was applied, "
                "and reverse it there.".format(*squash),
            )


def _originals_of_something_else(
    connection: BaseDatabaseWrapper, ghosts: Ghosts
) -> Iterator[tuple[Key, str]]:
    """A squash was applied, and the checkout has what it replaced instead."""
    in_force = ghosts.applied_as_squash & ghosts.files.graph.nodes.keys()
    for squash, migration in ghosts.loaded.items():
        originals = {(app_label, name) for app_label, name in migration.replaces}
        if not originals or not originals <= in_force:
            continue
        is_same = likeness.make_together(originals, migration, ghosts.files, connection)
        if is_same is False:
            yield (
                squash,
                "{}.{} was applied, and makes another schema than the files of what it "
                "replaced. It is left alone. Check out the code that was applied, and "
                "reverse it there.".format(*squash),
            )


def _applied_in_its_place(
    connection: BaseDatabaseWrapper, ghosts: Ghosts, squash: Migration
) -> Migration | None:
    """All of that as one; None if the files say the same, or nobody can tell."""
    keys = [(app_label, name) for app_label, name in squash.replaces]
    answers = [ghosts.statuses.get(key) for key in keys]
    if all(answer is None or answer.file is File.PRESENT for answer in answers) or any(
        answer is None or not answer.recorded or answer.faked for answer in answers
    ):
        return None
    codes = store.fetch(connection, keys)
    operations: list[Operation] = []
    for key in keys:
        if key not in codes or codes[key].ran_as != key[1]:
            # Or it was the squash itself.
            return None
        try:
            operations += importer.load(codes[key]).operations
        except (NotTrusted, Unreachable):
            return None
    return likeness.as_one(squash, operations)


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
    applied = [key for key in _as_applied(ghosts) if key[0] != OWN_APP]
    graph = ghosts.files.graph
    # What was renumbered may have been applied before what it now depends on.
    ancestors = {
        key: graph.forwards_plan(key) if key in graph.nodes else [] for key in applied
    }
    order = planning.order_of_application(ancestors, applied)
    return dict.fromkeys(order[-steps:], reason)


def _as_applied(ghosts: Ghosts) -> Collection[Key]:
    found: dict[Key, None] = {}
    for key in ghosts.recorded:
        if ghosts.replaces_what_is_recorded(key):
            # It was applied as what it replaced.
            continue
        for node in _stands_for(ghosts, key):
            # As late as the last of what it stands for.
            found.pop(node, None)
            found[node] = None
    return found


def _stands_for(
    ghosts: Ghosts, key: Key, seen: Collection[Key] = frozenset()
) -> Iterator[Key]:
    """In the graph. A squash may have been squashed again."""
    files, answer = ghosts.files, ghosts.statuses.get(key)
    if key in ghosts.applied_by:
        yield ghosts.applied_by[key]
        return
    if answer is not None and answer.superseded_by is not None:
        others = [answer.superseded_by]
    elif key in files.graph.nodes or key not in files.disk_migrations:
        yield key
        return
    else:
        squashes = files.replacements.items()
        others = [squash for squash, found in squashes if key in found.replaces]
    for other in others:
        if other not in seen:
            yield from _stands_for(ghosts, other, {*seen, key})
