"""What django-rewind costs: `python -m bench`, against Django without it."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from . import project

CHILD = str(Path(__file__).with_name("child.py"))
RATIO_LIMIT = 1.05
MORE_QUERIES = 3
SERVERS = {
    "postgresql": {"HOST": "127.0.0.1", "USER": "postgres"},
    "mysql": {"HOST": "127.0.0.1", "USER": "root"},
}


class Side(NamedTuple):
    """The same project, with or without django_rewind, on its own database."""

    database: str
    app: str = "django_rewind"


PLAIN = Side("bench_plain", "")
REWIND = Side("bench_rewind")
CROWDED = Side("bench_crowded")


class Cost(NamedTuple):
    """Seconds of one process."""

    cpu: float
    wall: float


class Bench:
    def __init__(self, folder: Path, database: str, *, needs_code: bool) -> None:
        self.folder = folder
        self.is_server = database in SERVERS
        engine = f"django.db.backends.{database}"
        settings = {"ENGINE": engine, **SERVERS.get(database, {})}
        project.write(folder, settings, needs_code=needs_code)

    def run(self, side: Side, *arguments: str, seed: int = 0) -> str:
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "BENCH_APP": side.app,
                "BENCH_DATABASE": side.database,
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONPATH": str(self.folder),
                # Both sides from bytecode, whatever the caller's settings are.
                "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
                "PYTHONDONTWRITEBYTECODE": "",
                # How much Django does depends on the order of its sets.
                "PYTHONHASHSEED": str(seed),
            },
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return process.stdout

    def drop_database(self, side: Side) -> None:
        if self.is_server:
            self.run(side, CHILD, "drop_database")
        else:
            (self.folder / side.database).unlink(missing_ok=True)

    def migrate(self, side: Side, seed: int = 0) -> Cost:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        self.run(side, "manage.py", "migrate", "--verbosity", "0", seed=seed)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(cpu, wall)

    def migrate_fresh(self, side: Side, seed: int = 0) -> Cost:
        self.drop_database(side)
        if self.is_server:
            self.run(side, CHILD, "create_database")
        return self.migrate(side, seed)

    def count_queries(self, side: Side) -> int:
        return int(self.run(side, CHILD, "count_queries"))


class Report:
    """Prints a line for each measure, and keeps what exceeds its limit."""

    def __init__(self) -> None:
        self.exceeded: list[str] = []
        self._print("", "Django", "django-rewind", "ratio", "limit")

    def add_seconds(self, title: str, plain: list[float], rewind: list[float]) -> None:
        # Of each round, because the machine's speed changes from round to round.
        ratio = median(other / one for one, other in zip(plain, rewind))
        one, other = median(plain), median(rewind)
        row = f"{one:.3f}", f"{other:.3f}", f"{ratio:.3f}", f"{RATIO_LIMIT:.2f}"
        self._add(title, row, ratio > RATIO_LIMIT)

    def add_queries(self, title: str, plain: int, rewind: int) -> None:
        more = rewind - plain
        row = str(plain), str(rewind), f"{more:+}", f"{MORE_QUERIES:+}"
        self._add(title, row, more > MORE_QUERIES)

    def _add(self, title: str, row: tuple[str, ...], exceeds: bool) -> None:
        self._print(title, *row)
        if exceeds:
            ratio, limit = row[-2:]
            self.exceeded.append(f"{title}: {ratio} is over the limit of {limit}.")

    def _print(self, title: str, *columns: str) -> None:
        print(
            f"{title:42}" + "".join(f"{column:>15}" for column in columns), flush=True
        )


def alternate(
    rounds: int, migrate: Callable[[Side, int], Cost], *sides: Side
) -> dict[Side, list[Cost]]:
    costs: dict[Side, list[Cost]] = {side: [] for side in sides}
    for number in range(rounds):
        # There and back, so that neither always comes first.
        for side in sides if number % 2 else reversed(sides):
            costs[side].append(migrate(side, number))
    return costs


def measure_fresh(report: Report, title: str, bench: Bench, rounds: int) -> None:
    fresh = alternate(rounds, bench.migrate_fresh, PLAIN, REWIND)
    plain, rewind = ([cost.cpu for cost in fresh[s]] for s in (PLAIN, REWIND))
    report.add_seconds(f"fresh, {title}, cpu s", plain, rewind)


def measure_code_needed(report: Report, bench: Bench, rounds: int) -> None:
    for side in (PLAIN, REWIND):
        bench.migrate_fresh(side)
    bench.run(PLAIN, "manage.py", "makemigrations", "--check", "--dry-run")
    bench.run(REWIND, CHILD, "check_needed")
    measure_fresh(report, "50 of 200 need other code", bench, rounds)


def measure(report: Report, bench: Bench, rounds: int) -> None:
    for side in (PLAIN, REWIND, CROWDED):
        # Writes the bytecode.
        bench.migrate_fresh(side)
    # Fails if the migrations of the project do not lead to its models.
    bench.run(PLAIN, "manage.py", "makemigrations", "--check", "--dry-run")
    bench.run(CROWDED, CHILD, "store_more")

    measure_fresh(report, "200 migrations", bench, rounds)
    idle = alternate(4 * rounds + 1, bench.migrate, PLAIN, REWIND, CROWDED)
    for side, stored in (REWIND, "200"), (CROWDED, "5,000"):
        title = f"nothing to do, {stored} stored"
        for unit in Cost._fields:
            plain, rewind = ([getattr(c, unit) for c in idle[s]] for s in (PLAIN, side))
            report.add_seconds(f"{title}, {unit} s", plain, rewind)
        queries = bench.count_queries(PLAIN), bench.count_queries(side)
        report.add_queries(f"{title}, queries", *queries)


def main() -> str | None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--database", default="sqlite3", choices=["sqlite3", *SERVERS])
    parser.add_argument("--rounds", type=int, default=7, help="of a fresh migrate")
    options = parser.parse_args()
    report = Report()
    for needs_code, measures in (False, measure), (True, measure_code_needed):
        with TemporaryDirectory() as folder:
            bench = Bench(Path(folder), options.database, needs_code=needs_code)
            try:
                measures(report, bench, options.rounds)
            finally:
                for side in (PLAIN, REWIND, CROWDED):
                    bench.drop_database(side)
    return "\n".join(report.exceeded) or None


if __name__ == "__main__":
    sys.exit(main())
