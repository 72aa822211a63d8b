"""Two branches, one database: play the story in a temporary folder (`make demo`).

Stops with an error if any step does not do what the story says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

GIT = {
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.com",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
}
MODEL = """\
from django.db import models


class Person(models.Model):
    name = models.CharField(max_length=50)
"""
STOCK = """\
from config.settings import *

INSTALLED_APPS.remove("django_rewind")
"""


class Story:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self, text: str) -> None:
        print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}")

    def run(self, command: str, expect: str = "", absent: str | None = None) -> None:
        """Show a command and its real output, and check what must be in it."""
        print(f"$ {command}", flush=True)
        words = command.split()
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, **GIT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode:
            sys.exit(f"The demo failed: exit {done.returncode} of: {command}")
        if expect not in done.stdout:
            sys.exit(f"The demo failed: {expect!r} is not in the output.")
        if absent is not None and absent in done.stdout:
            sys.exit(f"The demo failed: {absent!r} is still in the output.")

    def append(self, path: str, text: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(text)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="django-rewind-demo-") as folder:
        play(Story(Path(folder)))
    print("\nThe demo did what it said.")


def play(story: Story) -> None:
    story.tell("A new project with one app, in git. django_rewind is installed.")
    story.run("git init --quiet --initial-branch=main .")
    story.run("python -m django startproject config .")
    story.run("python manage.py startapp users")
    story.append("config/settings.py", 'INSTALLED_APPS += ["users", "django_rewind"]\n')
    # The same project without django-rewind.
    story.append("config/stock.py", STOCK)
    (story.folder / "users/models.py").write_text(MODEL)
    (story.folder / ".gitignore").write_text("__pycache__/\n*.sqlite3\n")
    story.run("python manage.py makemigrations users")
    story.run("git add .")
    story.run("git commit --quiet -m main")

    story.tell("On a branch, somebody adds a field, and migrates.")
    story.run("git switch --quiet --create feature")
    story.append("users/models.py", '    prefs = models.TextField(default="")\n')
    story.run("python manage.py makemigrations users --name prefs")
    story.run("git add .")
    story.run("git commit --quiet -m feature")
    story.run("python manage.py migrate", "Applying users.0002_prefs... OK")

    story.tell("Back on main the file is gone. Django alone cannot go back:")
    story.run("git switch --quiet main")
    story.run(
        "python manage.py migrate users 0001 --settings config.stock",
        "No migrations to apply.",
    )
    story.run("python manage.py inspectdb users_person", "prefs = ")

    story.tell("With django-rewind, it can.")
    story.run("python manage.py showmigrations users", "0002_prefs (ghost")
    story.run("python manage.py migrate users 0001 --plan", "users.0002_prefs")
    story.run(
        "python manage.py migrate users 0001", "Unapplying users.0002_prefs... OK"
    )
    story.run("python manage.py inspectdb users_person", absent="prefs = ")
    story.run("python manage.py verify_migrations", "migrations verified")

    story.tell("There and back again: rewind finds what to reverse by itself.")
    story.run("git switch --quiet feature")
    story.run("python manage.py migrate", "Applying users.0002_prefs... OK")
    story.run("git switch --quiet main")
    story.run("python manage.py rewind --plan", "users.0002_prefs (ghost")
    story.run(
        "python manage.py rewind --migrate --noinput",
        "Unapplying users.0002_prefs... OK",
    )
    story.run("python manage.py inspectdb users_person", absent="prefs = ")


if __name__ == "__main__":
    main()
