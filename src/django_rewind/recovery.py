"""Code that is recorded and gone, found in the history of git."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from . import git, outline, places, signing, source, store, tables
from .capture import set_outline, set_source
from .exceptions import Problem
from .git import Version
from .models import Key, MigrationCode, StoredCode
from .outline import RELATIVE, Outline
from .places import Candidate
from .status import File, Status
from .store import Contents

NOT_SEARCHED = "the code that it imports was not searched in git"
REMEDY = (
    "Check out the code that has its file and run 'manage.py backfill_migration_code' "
    "there."
)


class Recovered(NamedTuple):
    """A row that could be stored, neither signed nor saved."""

    code: MigrationCode
    # How its version was chosen; empty if there was no other.
    choice: str


class Search(NamedTuple):
    recovered: Sequence[Recovered] = ()
    problems: Sequence[Problem] = ()
    # Repositories that lack a part of their history.
    shallow: Sequence[Path] = ()


class Unfit(Exception):
    """The reason why a text cannot be what was applied."""


def without_file(answers: Iterable[Status]) -> list[Key]:
    return [answer.key for answer in answers if answer.file is File.MISSING]


def search(
    connection: BaseDatabaseWrapper, contents: Contents, keys: list[Key]
) -> Search:
    """Look for recorded migrations in the repositories of the project and its apps.

    Raises RewindError if there is no repository, or git cannot read one.
    """
    found_places = {label: places.find_place(label) for label, _ in keys}
    repositories = places.find_repositories(found_places.values())
    candidates: dict[Key, list[Candidate]] = {key: [] for key in keys}
    blobs: dict[str, bytes] = {}
    for repository in repositories:
        found = list(places.find_candidates(repository, keys, found_places))
        for key, candidate in found:
            candidates[key].append(candidate)
        names = {candidate.version.blob for _, candidate in found}
        blobs.update(git.read_blobs(repository, names))
    applied = _times_of_application(connection)
    records = Records(contents)
    recovered, problems = [], []
    for key in keys:
        try:
            result = decide(key, candidates[key], blobs, records.know, applied[key])
        except Unfit as reason:
            problems.append(Problem(*key, str(reason), REMEDY))
        else:
            result.code.faked = key in contents.faked
            recovered.append(result)
    shallow = [repository.top for repository in repositories if repository.is_shallow]
    return Search(recovered, problems, shallow)


def save(connection: BaseDatabaseWrapper, code: MigrationCode, *, trust: bool) -> bool:
    """Store a row, signed if it is trusted; False if there is code by now."""
    tables.ensure(connection)
    if trust:
        signing.sign(code)
    with transaction.atomic(using=connection.alias):
        rows = store.rows(connection).filter(
            app_label=code.app_label, migration_name=code.migration_name, gap=""
        )
        if rows.exists():
            return False
        store.save(connection, code)
    return True


def decide(
    key: Key,
    candidates: list[Candidate],
    blobs: dict[str, bytes],
    is_known: Callable[[Key], bool],
    applied: float,
) -> Recovered:
    """The row to store for a migration; `candidates` are the oldest first.

    Raises Unfit if none fits the records, or several files do.
    """
    unfit = "no commit that git can list has its file."
    fitting = []
    texts: dict[str, tuple[str, Outline]] = {}
    for candidate in candidates:
        blob = candidate.version.blob
        try:
            texts[blob] = texts.get(blob) or _read(blobs.get(blob), is_known)
            fitting.append(candidate)
        except Unfit as reason:
            unfit = f"{_describe(candidate.version)}: {reason}"
    if not fitting:
        raise Unfit(unfit)
    best = min(candidate.rank for candidate in fitting)
    files = _group_by_file(c for c in fitting if c.rank == best)
    chosen = [choose(versions, applied) for versions in files]
    if len({candidate.version.blob for candidate in chosen}) > 1:
        paths = ", ".join(candidate.version.path for candidate in chosen)
        raise Unfit(f"more than one file in git fits it: {paths}.")
    blob = chosen[0].version.blob
    # A text may come again, with a merge or a revert.
    first = next(c for c in files[0] if c.version.blob == blob)
    others = {c.version.blob for c in candidates if c.file == first.file}
    choice = _describe_choice(len(others), chosen[0].version.committed <= applied)
    return Recovered(_make_row(key, first, *texts[blob]), choice)


def choose(versions: list[Candidate], applied: float) -> Candidate:
    """Of one file, oldest first: the newest that was committed before `applied`.

    If all were committed later, as after a rebase, the oldest.
    """
    before = [c for c in versions if c.version.committed <= applied]
    return before[-1] if before else versions[0]


class Records:
    """What the database and the checkout know of dependencies."""

    def __init__(self, contents: Contents) -> None:
        self.stored = contents.stored
        self.recorded = frozenset(contents.recorded)
        self.disk = source.Disk()

    def know(self, dependency: Key) -> bool:
        """Whether it is recorded, or a squashed migration stands for it."""
        app_label, name = dependency
        if dependency in self.recorded or name in RELATIVE:
            return True
        return any(
            (squash == dependency and self.recorded.issuperset(replaced))
            or (squash in self.recorded and dependency in replaced)
            for squash, replaced in self._squashes(app_label)
            if replaced
        )

    def _squashes(self, app_label: str) -> Iterator[tuple[Key, list[Key]]]:
        yield from self.stored.items()
        for name in self.disk[app_label]:
            module = source.module_name(app_label, name)
            yield (app_label, name), source.replaces(module or "")


def _times_of_application(connection: BaseDatabaseWrapper) -> dict[Key, float]:
    records = MigrationRecorder(connection).migration_qs.order_by("id")
    return {
        (app_label, name): applied.timestamp()
        for app_label, name, applied in records.values_list("app", "name", "applied")
    }


def _group_by_file(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    ordered = sorted(candidates, key=lambda candidate: candidate.file)
    groups = groupby(ordered, key=lambda candidate: candidate.file)
    return [list(of_file) for _, of_file in groups]


def _read(data: bytes | None, is_known: Callable[[Key], bool]) -> tuple[str, Outline]:
    if data is None:
        raise Unfit("its text is not in this clone.")
    try:
        text = source.decode(data)
        # Some codecs make what no database stores.
        text.encode()
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise Unfit(f"its text cannot be decoded: {error}.") from error
    found = outline.read(text)
    if found is None:
        raise Unfit("its text is no migration.")
    for dependency in found.dependencies:
        if not is_known(dependency):
            name = ".".join(dependency)
            raise Unfit(f"its text depends on {name}, which was never recorded.")
    return text, found


def _make_row(
    key: Key, candidate: Candidate, text: str, found: Outline
) -> MigrationCode:
    app_label, name = key
    code = MigrationCode(
        app_label=app_label,
        migration_name=name,
        captured=StoredCode.Captured.FROM_GIT,
        origin=_shorten(_describe(candidate.version), candidate.version.path),
        module_name=source.module_name(*key) or candidate.module,
    )
    set_source(code, text)
    set_outline(code, found, NOT_SEARCHED)
    return code


def _describe(version: Version) -> str:
    return f"commit {version.commit[:12]}, {version.authored}, {version.path}"


def _describe_choice(count: int, is_before: bool) -> str:
    if count == 1:
        return ""
    if is_before:
        return f"the newest of {count} versions that was there before it was applied"
    return f"the oldest of {count} versions, none of them there before it was applied"


def _shorten(origin: str, path: str) -> str:
    """To what its column holds: the end of a path tells more than its beginning."""
    excess = len(origin) - 255
    if excess <= 0:
        return origin
    return f"{origin[: -len(path)]}…{path[excess + 1 :]}"
