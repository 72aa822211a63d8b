"""What `make test` does: lint, types, layers, then the tests on every database.

SQLite is always there. PostgreSQL and MariaDB are used if they answer; those that
REWIND_REQUIRE names ("postgresql,mysql") must. REWIND_ONLY names those to run on, for
a run that does not take all of them. With --tests-only, no linters.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINTERS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["lint-imports", "--no-logo"],
]
PROPERTIES = "tests/test_properties.py"
APART = ["--ignore", PROPERTIES]
VERSIONS = {
    "sqlite": "SELECT 'SQLite ' || sqlite_version()",
    "postgresql": "SELECT 'PostgreSQL ' || current_setting('server_version')",
    "mysql": (
        "SELECT CONCAT(IF(VERSION() LIKE '%MariaDB%', 'MariaDB ', 'MySQL '), VERSION())"
    ),
}


def main(arguments: list[str]) -> int:
    if "--tests-only" in arguments:
        arguments.remove("--tests-only")
    else:
        for command in LINTERS:
            run([str(Path(sys.executable).with_name(command[0])), *command[1:]])
    required = os.environ.get("REWIND_REQUIRE", "").split(",")
    only = os.environ.get("REWIND_ONLY", ",".join(VERSIONS)).split(",")
    covered, missing = [], []
    for vendor in filter(only.__contains__, VERSIONS):
        version = server_version(vendor)
        if version is None and vendor in required:
            sys.exit(f"{vendor} is required (REWIND_REQUIRE), and it does not answer.")
        if version is None:
            missing.append(vendor)
            continue
        print(f"\n=== Tests on {version}", flush=True)
        pytest = [sys.executable, "-m", "pytest"]
        run([*pytest, "-n", "2", *coverage(vendor), *arguments, *APART], vendor)
        # Counting lines would double its time.
        run([*pytest, "--quiet", PROPERTIES], vendor)
        covered.append(version)
    import django

    print(f"\nCovered: {', '.join(covered)}", end="")
    print(
        f" - Django {django.__version__}, Python {platform.python_version()}.", end=""
    )
    print(f" Not covered, no answer: {', '.join(missing)}." if missing else "")
    if left_out := ", ".join(vendor for vendor in VERSIONS if vendor not in only):
        print(f"Not covered, as REWIND_ONLY says: {left_out}.")
    return 0


def coverage(vendor: str) -> list[str]:
    """Lines are counted on SQLite, which runs every test."""
    if vendor != "sqlite":
        return []
    # Not those that run in processes of their own: scenarios.
    return ["--cov", "--cov-report=term:skip-covered", "--cov-fail-under=90"]


def run(command: list[str], vendor: str = "sqlite") -> None:
    print("$", " ".join([Path(command[0]).name, *command[1:]]), flush=True)
    environment = {**os.environ, "REWIND_TEST_DATABASE": vendor}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def server_version(vendor: str) -> str | None:
    """What the server says of itself, None if it does not answer."""
    code = f"from tests.databases import ask\nprint(ask({VERSIONS[vendor]!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "REWIND_TEST_DATABASE": vendor},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
