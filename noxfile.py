"""The matrix of `make test-all`: each pair of Python and Django that is supported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

# https://docs.djangoproject.com/en/stable/faq/install/
PYTHONS = {
    "3.2": ["3.9", "3.10"],
    "4.2": ["3.9", "3.10", "3.11", "3.12"],
    "5.0": ["3.10", "3.11", "3.12"],
    "5.1": ["3.10", "3.11", "3.12", "3.13"],
    "5.2": ["3.10", "3.11", "3.12", "3.13"],
    "6.0": ["3.12", "3.13"],
    "6.1": ["3.12", "3.13"],
}
PAIRS = [(python, django) for django, pythons in PYTHONS.items() for python in pythons]
OLDEST, NEWEST = PAIRS[0], PAIRS[-1]

nox.options.default_venv_backend = "uv"
nox.options.stop_on_first_error = True


def add_pyenv_to_path() -> None:
    """uv finds the Pythons of a pyenv only if they are on the PATH."""
    pyenv = shutil.which("pyenv")
    root = os.environ.get("PYENV_ROOT") or (pyenv and Path(pyenv).resolve().parents[1])
    folders = sorted(Path(root).glob("versions/3.*/bin")) if root else []
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, folders)])


add_pyenv_to_path()


@nox.session
@nox.parametrize(
    "python,django",
    [
        nox.param(*pair, tags=["edges"] if pair in (OLDEST, NEWEST) else [])
        for pair in PAIRS
    ],
)
def tests(session: nox.Session, django: str) -> None:
    session.install("--editable", ".", f"Django~={django}.0", *drivers(django), *TOOLS)
    pair = (str(session.python), django)
    if pair in (OLDEST, NEWEST):
        session.run("python", "-m", "scripts.test", "--tests-only", "--no-cov")
    else:
        # Thousands of histories on one pair; hundreds on each other one.
        examples = "20" if pair == ("3.12", "5.2") else "1"
        environment = {"REWIND_TEST_EXAMPLES": examples}
        session.run("python", "-m", "pytest", "-n", "2", "-q", env=environment)


TOOLS = ["pytest", "pytest-cov", "pytest-xdist", "hypothesis", "selenium", "pymysql"]


def drivers(django: str) -> list[str]:
    return ["psycopg2-binary"] if django == "3.2" else ["psycopg[binary]"]
