"""Real projects in real git repositories, driven through manage.py.

project.have("users: 0001")
project.commit("main")
project.branch("feature")
project.have("users: 0001 > 0002_prefs")
project.manage("migrate")
project.switch("main")
assert project.manage("migrate", "users", "0001").returncode == 0
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import databases
from tests.history import write_history

MANAGE = """\
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "config"
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""

SETTINGS = """\
{prelude}
SECRET_KEY = "a key for tests"
DATABASES = {databases!r}
INSTALLED_APPS = {apps!r}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""

MYSQL = """\
import pymysql

pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apps = ["django_rewind"]
        self.started: list[subprocess.Popen[str]] = []
        (folder / "manage.py").write_text(MANAGE)
        (folder / ".gitignore").write_text("__pycache__/\n*.sqlite3\n")
        self.configure()
        self.git("init", "--quiet", "--initial-branch=main")

    def configure(self, extra: str = "") -> None:
        """Write the settings: two aliases, the apps so far, and what is given."""
        text = SETTINGS.format(
            prelude=MYSQL if databases.VENDOR == "mysql" else "",
            databases={
                name: databases.settings_for(f"project_{name}")
                for name in ("default", "other")
            },
            apps=self.apps,
        )
        (self.folder / "config.py").write_text(text + extra)

    def have(self, histories: str, extra_settings: str = "") -> None:
        """Write migration files, see tests.history."""
        for label in write_history(self.folder, histories):
            if label not in self.apps:
                self.apps.append(label)
        self.configure(extra_settings)

    def path(self, migration: str) -> Path:
        label, name = migration.split(".")
        return self.folder / label / "migrations" / f"{name}.py"

    def git(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.com",
        }
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def branch(self, name: str) -> None:
        self.git("switch", "--quiet", "--create", name)

    def switch(self, name: str) -> None:
        self.git("switch", "--quiet", name)

    def manage(
        self, *arguments: str, fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run manage.py; it must succeed, or fail, as the test expects."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run manage.py meanwhile; what it prints comes as one text."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """Else what a failed test started would keep the lock from all that follow."""
        for process in self.started:
            with process:
                process.kill()

    def manage_and_kill(self, *arguments: str, when: Path) -> None:
        """SIGKILL manage.py as soon as the file exists that it is going to write."""
        process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not when.exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "it never got there"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def stored(self, *arguments: str) -> list[dict[str, Any]]:
        """What show_stored_migrations says, without our own migrations."""
        done = self.manage("show_stored_migrations", "--format=json", *arguments)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return [row for row in found if row["app_label"] != "django_rewind"]

    def applied(self, *arguments: str) -> list[str]:
        """What showmigrations says is applied, ghosts too, without our own."""
        lines = self.manage("showmigrations", "--plan", *arguments).stdout.splitlines()
        names = [line[3:].split()[0] for line in lines if line.startswith("[X]")]
        return [name for name in names if not name.startswith("django_rewind.")]
