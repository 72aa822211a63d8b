"""Run Django's own tests without and with django-rewind, and compare.

Takes the tests from the sdist of the Django that is installed beside the running
interpreter. Fails if a test fails only with django-rewind, and names each of these.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import django

DEFAULT_LABELS = [
    "migrations",
    "migrate_signals",
    "schema",
    "backends",
    "sites_tests",
    "admin_checks",
]

# "FAIL: test_name (dotted.path)"; what follows tells sub-tests apart.
FAILURE = re.compile(
    r"^(?:ERROR|FAIL|UNEXPECTED SUCCESS): (\S+ \([\w.]+\))", re.MULTILINE
)


def main() -> int:
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        tests = download_tests(django.get_version(), Path(folder))
        before = run(tests / "runtests.py", options.settings, options.labels)
        after = run(with_rewind(tests), options.settings, options.labels)
    failed_before, failed_after = failures(before), failures(after)
    print(f"Django {django.get_version()}: {', '.join(options.labels)}")
    print(f"  without django-rewind: {summary(before)}")
    print(f"  with django-rewind:    {summary(after)}")
    only_after = sorted(failed_after - failed_before)
    if only_after:
        print(after)
        print("These fail only with django-rewind:")
        for test in only_after:
            print(f"  {test}")
    return 1 if only_after else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", nargs="*", default=DEFAULT_LABELS)
    parser.add_argument(
        "--settings",
        default="test_sqlite",
        help="settings module with the databases 'default' and 'other'",
    )
    return parser.parse_args()


def download_tests(version: str, folder: Path) -> Path:
    """The folder with the tests of that version of Django; wheels do not have them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet"]
    command += ["--no-binary", ":all:", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, f"django=={version}"], check=True)
    (archive,) = folder.iterdir()
    unpacked = folder / "unpacked"
    shutil.unpack_archive(archive, unpacked)
    (tests,) = unpacked.glob("*/tests")
    return tests


def with_rewind(tests: Path) -> Path:
    """A copy of runtests.py that installs django-rewind too."""
    text = (tests / "runtests.py").read_text()
    text, count = re.subn(
        r"^ALWAYS_INSTALLED_APPS = \[",
        r'\g<0>"django_rewind",',
        text,
        flags=re.MULTILINE,
    )
    if count != 1:
        sys.exit("runtests.py does not list ALWAYS_INSTALLED_APPS as expected.")
    copy = tests / "runtests_with_rewind.py"
    copy.write_text(text)
    return copy


def run(script: Path, settings: str, labels: Sequence[str]) -> str:
    """The output of the tests. One process, so that both runs have the same order."""
    command = [sys.executable, script.name, "--settings", settings]
    command += ["--parallel", "1", "--noinput", *labels]
    finished = subprocess.run(
        command,
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    # A label that cannot be imported would fail in both runs, and so count for nothing.
    if not summary(finished.stdout) or "unittest.loader._FailedTest" in finished.stdout:
        sys.exit(f"{finished.stdout}\n{script.name} could not run all tests.")
    return finished.stdout


def failures(output: str) -> set[str]:
    return set(FAILURE.findall(output))


def summary(output: str) -> str:
    """For example "Ran 784 tests in 4.0s: OK (skipped=2)"; empty if it crashed."""
    found = re.search(
        r"^(Ran \d+ tests? in .*)\n+((?:OK|FAILED).*)$", output, re.MULTILINE
    )
    return ": ".join(found.groups()) if found else ""


if __name__ == "__main__":
    sys.exit(main())
