"""After any sequence of switches, the database is that of a fresh `migrate`.

A machine of hypothesis writes histories into a repository in memory (see
tests/branches.py) and switches between its branches. REWIND_TEST_EXAMPLES multiplies
the number of histories.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.core.management import CommandError
from django.db import DatabaseError, connection, connections
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_rewind import journal
from django_rewind.management.commands import rewind as command
from tests.branches import (
    APPS,
    KINDS,
    Changes,
    Files,
    Impossible,
    Key,
    Repository,
)
from tests.databases import VENDOR
from tests.history import History
from tests.schemas import (
    Rows,
    forget_everything,
    records_of,
    refers_to_nothing,
    schema_of,
)

EXAMPLES = {"sqlite": 200, "postgresql": 30, "mysql": 15}[VENDOR]
FACTOR = float(os.environ.get("REWIND_TEST_EXAMPLES", "1"))
SETTINGS = settings(
    max_examples=max(1, int(EXAMPLES * FACTOR)),
    stateful_step_count=12,
    # The same in each run, unless a seed is asked for.
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    # Each example takes long, and many rules have nothing to do.
    suppress_health_check=list(HealthCheck),
)
# What is worth nothing if it never happens.
WANTED = [
    "adopted",
    "edit",
    "makes another schema",
    "merge",
    "migrate",
    "rebase",
    "rebased by dependencies",
    "rename",
    "reversed",
    "several at once",
    "squash",
]

apps = st.sampled_from(APPS)
numbers = st.integers(0, 30)
changes = st.lists(
    st.tuples(st.sampled_from(list(KINDS)), numbers), min_size=1, max_size=3
)
# Two branches may choose the same name.
titles = st.sampled_from(["", "", "", "auto"])

# What the graph or the database says where the other branch is in the way.
CANNOT_MIGRATE = (
    CommandError,
    DatabaseError,
    FieldDoesNotExist,
    InconsistentMigrationHistory,
    LookupError,
)

Database = tuple[set[Key], dict[str, Any]]


COUNTS: Counter[str] = Counter()


def write_files(history: History, files: Files) -> None:
    for label in APPS:
        package = history.folder / label / "migrations"
        shutil.rmtree(package.parent, ignore_errors=True)
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
    for (label, name), file in files.items():
        path = history.folder / label / "migrations" / f"{name}.py"
        path.write_text(file.text(label), encoding="utf-8")
    history.forget_modules()


class Machine(RuleBasedStateMachine):
    history: History
    fresh: dict[Any, Database] = {}

    def __init__(self) -> None:
        super().__init__()
        self.repository = Repository()
        self.rows = Rows()
        self.is_broken = False
        # The files that the database is known to match, and what it has then.
        self.last: Files | None = None
        self.known: Database | None = None
        for alias in connections:
            forget_everything(alias)
        # Otherwise most histories would go on one branch only.
        for label in APPS:
            self.repository.commit(label, [("create", 1), ("create", 0)], "auto", label)
        self.write_files()
        self.rewind_and_compare()
        self.repository.branch()
        self.repository.branch()

    # The repository

    def attempt_with_other(
        self, what: str, pick: int, label: str, changes: Changes, **options: Any
    ) -> None:
        """With something on the other branch that this one has not."""
        ours, others = self.repository.current, self.repository.others()
        self.repository.current = other = others[pick % len(others)]
        self.attempt("commit", label, changes, "", label)
        self.repository.current = ours
        if self.attempt(what, other, **options) and not options.get("renumber", True):
            COUNTS["rebased by dependencies"] += 1

    def attempt(self, what: str, *args: Any, **kwargs: Any) -> bool:
        try:
            getattr(self.repository, what)(*args, **kwargs)
        except Impossible:
            return False
        COUNTS[what] += 1
        return True

    @rule(label=apps, changes=changes, title=titles, needs=apps)
    def commit(self, label: str, changes: Changes, title: str, needs: str) -> None:
        self.attempt("commit", label, changes, title, needs)

    @rule(labels=st.permutations(APPS), changes=changes, title=titles)
    def commit_to_each(self, labels: list[str], changes: Changes, title: str) -> None:
        for label in labels:
            self.attempt("commit", label, changes, title, label)

    @precondition(lambda self: len(self.repository.branches) < 4)
    @rule()
    def branch(self) -> None:
        self.repository.branch()

    @precondition(lambda self: self.repository.others())
    @rule(pick=numbers, label=apps, changes=changes)
    def merge(self, pick: int, label: str, changes: Changes) -> None:
        self.attempt_with_other("merge", pick, label, changes)

    @precondition(lambda self: self.repository.others())
    @rule(pick=numbers, label=apps, changes=changes, renumber=st.booleans())
    def rebase(self, pick: int, label: str, changes: Changes, renumber: bool) -> None:
        self.attempt_with_other("rebase", pick, label, changes, renumber=renumber)

    @rule(label=apps, title=titles, ahead=st.integers(0, 2))
    def rename(self, label: str, title: str, ahead: int) -> None:
        self.attempt("rename", label, title, ahead=ahead)

    @rule(label=apps, changes=changes, back=st.integers(0, 2))
    def edit(self, label: str, changes: Changes, back: int) -> None:
        self.attempt("edit", label, changes, back)

    @rule(label=apps, start=st.integers(0, 2), length=st.integers(2, 4))
    def squash(self, label: str, start: int, length: int) -> None:
        """Or the next stage of one that is there."""
        if not self.attempt("finish_squash", label):
            self.attempt("squash", label, start, length)

    # The database

    @rule()
    def insert_rows(self) -> None:
        if not self.is_broken:
            self.rows.insert("default")

    @rule()
    def rewind(self) -> None:
        self.write_files()
        self.rewind_and_compare()

    @precondition(lambda self: self.repository.others())
    @rule(pick=numbers)
    def switch(self, pick: int) -> None:
        # Otherwise there would be nothing to reverse.
        self.rewind()
        others = self.repository.others()
        self.repository.current = others[pick % len(others)]
        self.write_files()
        self.rewind_and_compare()

    @precondition(lambda self: self.repository.others())
    @rule(pick=numbers)
    def switch_and_only_migrate(self, pick: int) -> None:
        """As people do: siblings of two branches are applied then."""
        self.rewind()
        others = self.repository.others()
        self.repository.current = others[pick % len(others)]
        self.write_files()
        if self.is_broken:
            return
        self.last = self.known = None
        try:
            self.history.migrate()
        except CANNOT_MIGRATE as error:
            COUNTS[f"migrate: {type(error).__name__}"] += 1
            # MariaDB has half of the migration then, and nobody knows which.
            self.is_broken = connection.vendor == "mysql"
        else:
            COUNTS["migrate"] += 1
        if refers_to_nothing("default"):
            COUNTS["refers to nothing"] += 1
            self.is_broken = True

    def write_files(self) -> None:
        write_files(self.history, self.repository.files)

    def rewind_and_compare(self) -> None:
        files = self.repository.files
        if self.is_broken or files == self.last:
            return
        expected = self.migrate_fresh()
        before = self.known or (records_of("default"), schema_of("default"))
        self.last = self.known = None
        refusal = self.run_rewind()
        if refusal is not None:
            assert refusal.returncode == command.REFUSED, str(refusal)
            assert self.is_rightly_refused(str(refusal)), str(refusal)
            assert (records_of("default"), schema_of("default")) == before
            return
        if self.is_broken:
            return
        records, schema = records_of("default"), schema_of("default")
        assert schema == expected[1]
        # Records of what a squash stands for stay, and of a squash for which its
        # originals do. `migrate --prune` is for these.
        assert records - self.superseded() == expected[0]
        self.history.run("rewind", check_only=True)
        runner = MigrationExecutor(connection)
        assert runner.migration_plan(runner.loader.graph.leaf_nodes()) == []
        assert not list(journal.broken_links(journal.read(connection)))
        self.last, self.known = dict(files), (records, schema)

    def run_rewind(self) -> CommandError | None:
        COUNTS["rewinds"] += 1
        try:
            output = self.history.run("rewind", migrate=True, interactive=False)
        except CommandError as error:
            return error
        self.count(output)
        # Another branch's migrations have names that were squashed: left alone.
        self.is_broken = "by the names that it replaces" in output
        return None

    def superseded(self) -> set[Key]:
        files = self.repository.files
        found = set()
        for squash, originals in self.repository.squashes.items():
            if squash in files:
                found |= originals - set(files)
            elif originals.issubset(files):
                found.add(squash)
        return found - self.migrate_fresh()[0]

    def is_rightly_refused(self, text: str) -> bool:
        COUNTS["refused"] += 1
        # The code of a squash ran for all of it at once; and what is to be reversed may
        # build on what a plain migrate renamed or removed since.
        return any(
            reason in text
            for reason in (
                "which can be reversed as a whole only",
                "cannot be reversed in the state that the other",
                "which is not in the database",
            )
        )

    def migrate_fresh(self) -> Database:
        files = self.repository.files
        content = tuple(sorted(files.items(), key=lambda item: item[0]))
        if content not in self.fresh:
            forget_everything("other")
            with override_settings(DJANGO_REWIND_ENABLED=False):
                self.history.migrate(database="other")
            self.fresh[content] = records_of("other"), schema_of("other")
        return self.fresh[content]

    def count(self, output: str) -> None:
        reversed_ = output.count("Unapplying ")
        COUNTS["reversed"] += reversed_
        COUNTS["several at once"] += reversed_ > 1
        COUNTS["adopted"] += output.count("Adopting ")
        for reason in (
            "depends on",
            "was applied after",
            "makes another schema",
            "by the names that it replaces",
        ):
            COUNTS[reason] += reason in output

    def teardown(self) -> None:
        for name, number in self.repository.counts.items():
            COUNTS[name] += number


@pytest.mark.usefixtures("empty_databases")
def test_rewind_migrate_leaves_what_a_fresh_migrate_does(history: History) -> None:
    history.labels = list(APPS)
    write_files(history, {})
    history.install()
    for alias in connections:
        history.migrate(database=alias)
        if VENDOR == "sqlite":
            # Nobody needs these after a power failure.
            history.sql("PRAGMA synchronous = OFF", alias=alias)
    Machine.history = history
    Machine.fresh = {}
    COUNTS.clear()
    try:
        run_state_machine_as_test(Machine, settings=SETTINGS)
    finally:
        # For pytest -s, and for who wants to know how often things happen.
        for name, number in sorted(COUNTS.items()):
            print(f"{number:6} {name}")
    # What does not happen is not tested. Fewer examples cannot have it all.
    if VENDOR == "sqlite" and FACTOR >= 1:
        assert {name for name in WANTED if not COUNTS[name]} == set()
