"""What `rewind` is going to do to one database, for people and programs to read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from . import (
    adoption,
    choices,
    effects,
    halfway,
    history,
    journal,
    points,
    reapplication,
    rewind,
    source,
    store,
    targets,
    unfinished,
    untold,
)
from .adoption import Adoption
from .effects import Effects
from .exceptions import (
    Problem,
    Refused,
    RewindError,
    applied_by_hand,
    by_hand,
)
from .ghosts import Ghosts
from .halfway import Half
from .importer import FakedMigration, StoredMigration
from .models import Key
from .planning import key_of
from .reapplication import Reapplication
from .rewind import Rollback
from .terminal import manage, on_one_line, quoted
from .unfinished import Unfinished


class Request(NamedTuple):
    """What a person asked for; without a name, point or number, all ghosts."""

    app_label: str | None = None
    migration_name: str | None = None
    to: str | None = None
    steps: int | None = None
    fake: bool = False
    adopt: bool = True
    # Whether `migrate` follows.
    migrate: bool = False
    # Whether a person finished or undid what was left half-done.
    mended: bool = False


class Step(NamedTuple):
    """One migration that is reversed, or gets another name."""

    database: str
    app_label: str
    migration_name: str
    # "reverse", "fake" (only the record goes), "adopt", "apply", "record" (only the
    # record comes back) or "mend".
    action: str
    reason: str
    # "stored code" or "file".
    source: str
    destroys: list[str]
    # Of the code.
    digest: str
    note: str = ""
    sql: list[str] | None = None
    # Of what is adopted: the name that its record gets, if it is one.
    new_name: str = ""

    def __str__(self) -> str:
        return on_one_line(f"{self.app_label}.{self.migration_name}")

    @property
    def how(self) -> str:
        return {
            "reverse": f"from {self.source}",
            "fake": "only its record goes",
            "adopt": {
                "": "these get their records back",
                self.migration_name: "its code is stored anew",
            }.get(self.new_name, "its record gets that name"),
            "apply": f"applied again, from {self.source}",
            "record": "only its record comes back",
            "mend": "it stays",
        }[self.action]


class Plan(NamedTuple):
    connection: BaseDatabaseWrapper
    rollback: Rollback
    adoptions: list[Adoption]
    steps: list[Step]
    # What a person should know besides.
    notes: list[str]
    # What is applied again, with --to and --migrate.
    again: Reapplication | None = None
    # Whether some adoptions need --migrate.
    waits: bool = False
    # What stays, since a person undid the part of it that was reversed.
    mended: Sequence[Key] = ()
    # What was begun to be applied, and has not ended; named in `notes`, too.
    unfinished: Sequence[Unfinished] = ()

    @property
    def has_work(self) -> bool:
        return self.waits or bool(self.steps) or bool(self.unfinished)


def digest(plans: Collection[Plan]) -> str:
    """Equal for plans that do the same, however much data there is."""
    facts = [
        [*step._replace(destroys=[], note="", sql=None)]
        for plan in plans
        for step in plan.steps
    ]
    return hashlib.sha256(json.dumps(facts, default=repr).encode()).hexdigest()[:16]


def as_data(plans: Collection[Plan], digest: str) -> dict[str, object]:
    """As `rewind --plan --format json` shows it; see docs/commands.md."""
    steps = []
    for step in (step for plan in plans for step in plan.steps):
        data = step._asdict()
        if step.sql is None:
            del data["sql"]
        steps.append(data)
    return {
        "digest": digest,
        "steps": steps,
        "notes": [note for plan in plans for note in plan.notes],
    }


def make(connection: BaseDatabaseWrapper, request: Request) -> Plan:
    """Raises Refused, and other RewindErrors."""
    if request.migrate and not request.to:
        # Else `migrate` would, after all was reversed.
        targets.check_conflicts(connection)
    if request.migration_name is not None:
        if request.app_label in apps.app_configs:
            # What Django would say with a traceback.
            targets.load_files(connection)
        rollback = rewind.prepare(
            connection,
            str(request.app_label),
            request.migration_name,
            fake=request.fake,
            as_applied=True,
        )
        if rollback is None:
            raise RewindError(
                f"No applied migration of app '{request.app_label}' is the one that "
                f"'{request.migration_name}' matches. "
                f"{manage('showmigrations', connection.alias)} shows what is applied."
            )
        return _Describer(connection, request, rollback).plan()
    if request.to is not None:
        return _for_point(connection, request, request.to)
    if request.steps is not None:
        number = request.steps
        rollback = rewind.prepare_each(
            connection,
            f"unapply the last {number}",
            lambda ghosts: choices.last(number, ghosts),
            fake=request.fake,
        )
        return _Describer(connection, request, rollback).plan()
    return _for_ghosts(connection, request)


def mends(plan: Plan) -> bool:
    """Whether there is something half-done that it takes for undone by hand."""
    halves = halfway.find(journal.read(plan.connection))
    return bool(plan.mended) or not halves.keys().isdisjoint(plan.rollback.keys)


def refuse_unfinished(plan: Plan, request: Request) -> None:
    """What the rest of the plan would leave as it is, and end with "done" all the same.

    Raises Refused, or HalfDone. What has its file here is for `migrate`, which goes on,
    or knows whether it was undone by hand; but for what is there as a whole, or of
    which it is known that only a person can go on.
    """
    has_more = request.migrate or plan.waits or bool(plan.steps)
    found = [
        begun
        for begun in plan.unfinished
        if begun.is_whole
        or not (begun.has_file and has_more)
        or (request.migrate and begun.half and not begun.can_go_on)
    ]
    for begun in found:
        if begun.half is not None and not begun.can_go_on:
            raise begun.half.error(begun.remedy)
    problems = [Problem(*begun.key, begun.fact, begun.remedy) for begun in found]
    if problems:
        raise Refused(_goal(request), problems)


def _goal(request: Request) -> str:
    return f"rewind {request.app_label or 'all ghosts'}"


def _for_point(connection: BaseDatabaseWrapper, request: Request, text: str) -> Plan:
    point, now = points.find(connection, text), points.now(connection)
    squashes: dict[Key, list[Key]] = {}

    seen: list[Ghosts] = []

    def choose(ghosts: Ghosts) -> Mapping[Key, str]:
        seen.append(ghosts)
        squashes.update((k, list(a.replaces)) for k, a in ghosts.statuses.items())
        for key, squash in ghosts.files.replacements.items():
            squashes[key] = list(squash.replaces)
        return choices.after(point, now, squashes)

    goal = f"go back to {point.name}"
    rollback = rewind.prepare_each(connection, goal, choose, fake=request.fake)
    missing = choices.missing(point, now, rollback.records, squashes)
    describer = _Describer(connection, request, rollback)
    if not missing:
        return describer.plan()
    if not request.migrate:
        names = on_one_line(", ".join(map(".".join, missing)))
        note = f"Applied then, and not now: {names}. --migrate applies them."
        return describer.plan(notes=[note])
    again = reapplication.prepare(
        connection, point, missing, rollback, seen[0], fake=request.fake
    )
    halves = {} if request.fake else halfway.find_applied(journal.read(connection))
    begun = {k: half for k, half in halves.items() if half.is_begun}
    if request.mended:
        mended = [k for k in map(key_of, again.plan) if k in begun]
        return describer.plan(again=again, mended=mended)
    return describer.plan(notes=list(_going_on(again, begun)), again=again)


def _going_on(again: Reapplication, halves: Mapping[Key, Half]) -> Iterator[str]:
    """What a run before left half-applied and goes on; raises HalfDone if it cannot."""
    for migration in again.plan:
        half = halves.get(key_of(migration))
        if half is None:
            continue
        if not half.can_go_on_with(again.digest(migration)):
            has_file = not isinstance(migration, StoredMigration)
            alias = again.runner.connection.alias
            remedy = applied_by_hand(half.key, alias, has_file=has_file)
            raise half.error(remedy)
        yield half.goes_on


class _Prepared(NamedTuple):
    rollback: Rollback
    ghosts: Ghosts
    adoptions: list[Adoption]
    notes: list[str]
    # What has its file, and only --migrate would reverse and apply again.
    left: dict[Key, str]


def _prepare(
    connection: BaseDatabaseWrapper, request: Request, also: Mapping[Key, str]
) -> _Prepared:
    """`also`: what must go too, beside what is not of this checkout."""
    adoptions: list[Adoption] = []
    notes: list[str] = []
    seen: list[Ghosts] = []
    left: dict[Key, str] = {}

    def choose(ghosts: Ghosts) -> Mapping[Key, str]:
        chosen = choices.not_of_this_checkout(
            connection,
            ghosts,
            request.app_label,
            migrate=request.migrate,
            mended=request.mended,
        )
        seen.append(ghosts)
        notes.extend(chosen.notes)
        reasons = {**also, **chosen.reasons}
        if request.adopt and not request.fake:
            found = adoption.find(connection, ghosts, reasons, never=also)
            adoptions.extend(a for a in found if _is_within(a, request.app_label))
        stays = {adopted.old for adopted in adoptions}
        if not request.migrate or request.fake:
            left.update((k, reasons[k]) for k in chosen.to_apply_again - stays)
        stays.update(left)
        return {k: reason for k, reason in reasons.items() if k not in stays}

    rollback = rewind.prepare_each(
        connection, _goal(request), choose, fake=request.fake
    )
    # Those that depend on what goes, by way of a file, go too.
    kept = adoption.without(seen[0], adoptions, rollback.keys)
    return _Prepared(rollback, seen[0], kept, notes, left)


def _for_ghosts(connection: BaseDatabaseWrapper, request: Request) -> Plan:
    also: dict[Key, str] = {}
    while True:
        prepared = _prepare(connection, request, also)
        rollback, ghosts, kept, notes, left = prepared
        more = {}
        if request.migrate and not request.fake:
            more = _left_without_what_goes(prepared)
        if not more:
            break
        also.update(more)
    if request.migrate and not request.fake:
        _refuse_what_migrate_refuses(ghosts, rollback, kept)
    waiting = [_is_left(k, left[k]) for k in sorted(left) if k not in rollback.keys]
    begun = [
        one
        for one in unfinished.find(connection)
        if request.app_label in (None, one.key[0])
    ]
    mended: Sequence[Key] = ()
    if request.mended:
        mended = _half_reversed(connection, request, ghosts, rollback)
        mended += [one.key for one in begun]
        begun = []
    notes.extend(
        one.half.goes_on if request.migrate and one.half and one.can_go_on else str(one)
        for one in begun
    )
    plan = _Describer(connection, request, rollback).plan(
        kept, notes, waiting, mended=mended
    )
    return plan._replace(unfinished=begun)


def _half_reversed(
    connection: BaseDatabaseWrapper,
    request: Request,
    ghosts: Ghosts,
    rollback: Rollback,
) -> list[Key]:
    halves = halfway.find(journal.read(connection))
    return [
        key
        for key in ghosts.recorded
        if key in halves
        and key not in rollback.keys
        and request.app_label in (None, key[0])
    ]


def _left_without_what_goes(prepared: _Prepared) -> dict[Key, str]:
    """What stays, and depends on what goes by its file alone, which was edited."""
    files, gone = prepared.ghosts.files, prepared.rollback.records
    names = {name for adopted in prepared.adoptions for name in adopted.names}
    found = {}
    for key in prepared.ghosts.recorded:
        if key in files.graph.nodes and key not in gone and key not in names:
            parents = (parent.key for parent in files.graph.node_map[key].parents)
            if lost := sorted(gone.intersection(parents) - names):
                found[key] = f"its file depends on {'.'.join(lost[0])}, which goes"
    return found


def _refuse_what_migrate_refuses(
    ghosts: Ghosts, rollback: Rollback, adoptions: Collection[Adoption]
) -> None:
    """What was applied before a dependency, as by --fake; edited ones were chosen."""
    files = ghosts.files
    names = {name for adopted in adoptions for name in adopted.names}
    problems = []
    for key in ghosts.recorded:
        if key not in files.graph.nodes or key in rollback.keys or key in names:
            continue
        lacking = set(choices.unapplied_parents(files, key)) - names
        if lacking:
            first = ", ".join(map(".".join, sorted(lacking)))
            going_back = manage(f"rewind {quoted(key[0])} NAME", ghosts.alias)
            problems.append(
                Problem(
                    *key,
                    f"it depends on {first}, which is not recorded, and 'migrate' "
                    "refuses that.",
                    "If the database has what that does, put its record into "
                    f"django_migrations. Else {going_back} goes back to before it.",
                )
            )
    if problems:
        raise Refused("migrate after that", problems)


def _is_left(key: Key, reason: str) -> str:
    return on_one_line(
        f"{'.'.join(key)} is left alone: {reason}. --migrate reverses it, and applies "
        "it again."
    )


def _is_within(adopted: Adoption, app_label: str | None) -> bool:
    """What comes first in other apps may be one of their ghosts, under a new name."""
    return all(app_label in (None, label) for label, _ in adopted.first)


class _Describer:
    def __init__(
        self, connection: BaseDatabaseWrapper, request: Request, rollback: Rollback
    ) -> None:
        self.connection = connection
        self.request = request
        self.rollback = rollback
        self.digests = store.digests(connection) if rollback.plan else {}

    def plan(
        self,
        adoptions: Sequence[Adoption] = (),
        notes: Sequence[str] = (),
        waiting: Sequence[str] = (),
        again: Reapplication | None = None,
        mended: Sequence[Key] = (),
    ) -> Plan:
        """`waiting`: what only --migrate would do."""
        now = [a for a in adoptions if self.request.migrate or not a.first]
        found = self._effects()
        steps = [self._adoption(adopted) for adopted in now if adopted.beneath]
        steps += [self._step(m, found.destroys) for m in self.rollback.plan]
        steps += [self._adoption(adopted) for adopted in now if not adopted.beneath]
        waiting = [*waiting, *(_waits(a) for a in adoptions if a not in now)]
        notes = [*self._half_done(), *notes, *found.notes, *waiting]
        if again is not None:
            steps += [self._apply_again(migration, again) for migration in again.plan]
        steps += map(self._mended, mended)
        return Plan(
            self.connection,
            self.rollback,
            now,
            steps,
            notes,
            again,
            bool(waiting),
            mended,
        )

    def _half_done(self) -> Iterator[str]:
        """What a run before left half-done and goes on; raises Refused if it cannot."""
        can_stop = not self.connection.features.can_rollback_ddl or not all(
            migration.atomic for migration in self.rollback.plan
        )
        if self.request.fake or not can_stop:
            return
        halves = halfway.find(journal.read(self.connection))
        for key in self.rollback.keys:
            if key not in halves or self.request.mended:
                continue
            half = halves[key]
            if not half.can_go_on:
                raise half.error(by_hand(key[0], self.connection.alias))
            yield half.goes_on

    def _effects(self) -> Effects:
        rollback = self.rollback
        if self.request.fake or not rollback.plan:
            return Effects({}, [])
        return effects.find(self.connection, rollback.plan, rollback.changes)

    def _step(self, migration: Migration, destroys: Mapping[Key, list[str]]) -> Step:
        key = key_of(migration)
        is_faked = self.request.fake or isinstance(migration, FakedMigration)
        is_stored = isinstance(migration, StoredMigration)
        return Step(
            database=self.connection.alias,
            app_label=key[0],
            migration_name=key[1],
            action="fake" if is_faked else "reverse",
            reason=on_one_line(self.rollback.reasons[key]),
            source="stored code" if is_stored else "file",
            destroys=destroys.get(key, []),
            digest=self.digests.get(key, "")
            if is_stored
            else source.digest_of_file(key),
            note=self.rollback.notes.get(key, ""),
        )

    def _adoption(self, adopted: Adoption) -> Step:
        app_label, name = adopted.new
        reason = "its file does the same, and depends on others"
        if adopted.is_renamed:
            reason = f"does the same as {app_label}.{name}, which is not applied"
        if adopted.is_split:
            names = ", ".join(map(".".join, adopted.names))
            reason = on_one_line(f"does the same as {names}, which it replaced")
        return Step(
            database=self.connection.alias,
            app_label=adopted.old[0],
            migration_name=adopted.old[1],
            action="adopt",
            reason=reason,
            source="file",
            destroys=[],
            digest=source.digest_of_file(adopted.new),
            note=_waits(adopted) if adopted.first else "",
            new_name="" if adopted.is_split else name,
        )

    def _mended(self, key: Key) -> Step:
        return Step(
            database=self.connection.alias,
            app_label=key[0],
            migration_name=key[1],
            action="mend",
            reason="what was done of it was undone by hand",
            source="file",
            destroys=[],
            digest=source.digest_of_file(key),
        )

    def _apply_again(self, migration: Migration, again: Reapplication) -> Step:
        is_faked = self.request.fake or isinstance(migration, FakedMigration)
        is_stored = isinstance(migration, StoredMigration)
        replaced = ", ".join(map(".".join, migration.replaces))
        return Step(
            database=self.connection.alias,
            app_label=migration.app_label,
            migration_name=migration.name,
            action="record" if is_faked else "apply",
            reason="was applied then",
            source="stored code" if is_stored else "file",
            destroys=[],
            digest=again.digest(migration),
            note=on_one_line(f"stands for {replaced}.") if replaced else "",
        )


def _waits(adopted: Adoption) -> str:
    first = ", ".join("{}.{}".format(*key) for key in adopted.first)
    if not adopted.is_renamed:
        return (
            f"{'.'.join(adopted.old)} stays with --migrate, once {first} is applied, "
            "on which its file depends."
        )
    if adopted.is_split:
        return (
            f"{adopted} with --migrate, once {first} is applied, on which these depend."
        )
    return (
        f"{'.'.join(adopted.old)} gets the name {adopted.new[1]} with --migrate, once "
        f"{first} is applied, on which that depends."
    )


def add_sql(plan: Plan) -> Plan:
    """With the SQL of each step, as `sqlmigrate --backwards` would show it."""
    loader: Any = plan.rollback.runner.loader
    sql = {}
    with history.using(plan.rollback.history):
        for migration in plan.rollback.plan:
            try:
                lines = loader.collect_sql([(untold.without_code(migration), True)])
            except Exception as error:
                # Names of constraints that are not there.
                lines = [on_one_line(f"-- its SQL cannot be told: {error}")]
            sql[key_of(migration)] = lines
    steps = [
        step._replace(
            sql=sql.get((step.app_label, step.migration_name), [])
            if step.action == "reverse"
            else []
        )
        for step in plan.steps
    ]
    return plan._replace(steps=steps)
