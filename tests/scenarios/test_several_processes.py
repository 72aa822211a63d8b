"""Pods that start at once: one migrates, the others wait, and see what it did."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from socket import gethostname

import pytest

from tests import databases
from tests.history import write_migration
from tests.project import Project

# Goes on when it is told to.
STOP = """\
from django.db import migrations


def stop(apps, schema_editor):
    import pathlib, time

    folder = pathlib.Path({folder!r})
    (folder / "stopped").touch()
    while not (folder / "go_on").exists():
        time.sleep(0.01)


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [migrations.RunPython(stop, migrations.RunPython.noop)]
"""

# Here they wait for each other, so that they are as close together as can be.
GATE = """
import pathlib, time

def wait_for_the_others():
    while not pathlib.Path("go").exists():
        time.sleep(0.002)

if {"migrate", "rewind"}.intersection(__import__("sys").argv):
    wait_for_the_others()
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


@pytest.fixture
def stopping(project: Project) -> Project:
    project.have("users: 0001; blog: 0001")
    text = STOP.format(folder=str(project.folder))
    write_migration(project.folder, "users.0002_stop", text=text)
    return project


@contextmanager
def holder(project: Project) -> Iterator[subprocess.Popen[str]]:
    """In the middle of `migrate users`, and let go in the end."""
    process = project.start("migrate", "users")
    try:
        wait_for(project.folder / "stopped")
        yield process
    finally:
        (project.folder / "go_on").touch()
        output, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -9), output


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError("".join(seen))


def recorded_twice() -> int:
    return int(
        databases.ask(
            "SELECT COUNT(*) FROM (SELECT app, name FROM django_migrations "
            "GROUP BY app, name HAVING COUNT(*) > 1) AS twice",
            databases.settings_for("project_default")["NAME"],
        )
    )


def test_four_that_start_at_once_on_an_empty_database(project: Project) -> None:
    project.apps += ["django.contrib.contenttypes", "django.contrib.auth"]
    project.have("users: 0001 > 0002_prefs; blog: 0001(users.0002_prefs)", GATE)
    processes = [project.start("migrate") for _ in range(4)]
    time.sleep(1)
    (project.folder / "go").touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    everything = "".join(outputs)
    for name in ["users.0001", "users.0002_prefs", "blog.0001", "auth.0001_initial"]:
        assert everything.count(f"Applying {name}...") == 1, everything
    assert everything.count("No migrations to apply.") == 3
    assert recorded_twice() == 0
    project.manage("verify_migrations")
    # As a single one would have left it.
    assert "No migrations to apply" in project.manage("migrate").stdout


def test_four_that_go_back_at_once(project: Project) -> None:
    project.have("users: 0001 > 0002_prefs > 0003_more", GATE)
    (project.folder / "go").touch()
    project.manage("migrate")
    (project.folder / "go").unlink()
    project.path("users.0003_more").unlink()
    processes = [project.start("migrate", "users", "0001") for _ in range(4)]
    time.sleep(1)
    (project.folder / "go").touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert "".join(outputs).count("Unapplying users.0003_more...") == 1
    assert project.applied() == ["users.0001"]


def test_four_that_rewind_at_once(project: Project) -> None:
    ghosts = [f"{number:04}_f{number}" for number in range(2, 12)]
    project.have(f"users: 0001 > {' > '.join(ghosts)}; blog: 0001 > 0002_b", GATE)
    (project.folder / "go").touch()
    project.manage("migrate")
    (project.folder / "go").unlink()
    for ghost in ghosts:
        project.path(f"users.{ghost}").unlink()
    processes = [project.start("rewind", "--noinput") for _ in range(4)]
    time.sleep(1)
    (project.folder / "go").touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    for ghost in ghosts:
        assert "".join(outputs).count(f"Unapplying users.{ghost}...") == 1
    assert project.applied() == ["blog.0001", "blog.0002_b", "users.0001"]


def test_two_that_go_back_by_one_step_at_once(project: Project) -> None:
    """The second waits, and then its last one is another one than it had shown."""
    project.have("users: 0001 > 0002_prefs > 0003_more", GATE)
    (project.folder / "go").touch()
    project.manage("migrate")
    (project.folder / "go").unlink()
    arguments = "rewind", "--steps", "1", "--noinput"
    processes = [project.start(*arguments) for _ in range(2)]
    time.sleep(1)
    (project.folder / "go").touch()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    for process, output in zip(processes, outputs):
        # One that planned when the other was done has shown what it takes.
        shown = output.partition("Unapplying")[0]
        assert ("Unapplying users.0003_more" in output) <= ("users.0003_more" in shown)
        assert ("Unapplying users.0002_prefs" in output) <= (
            "users.0002_prefs" in shown
        )
        assert process.returncode in (0, 2), outputs


def test_the_waiting_one_says_for_whom_and_goes_on_when_it_is_done(
    stopping: Project,
) -> None:
    with holder(stopping):
        waiting = stopping.start("migrate")
        line = read_until(waiting, "Waiting for")
        assert line.startswith("Waiting for the lock of database 'default', held by ")
        if databases.VENDOR == "mysql":
            # All that its server knows.
            assert f"{databases.SERVERS['mysql']['USER']}@" in line
        else:
            assert f"{getuser()}@{gethostname()} since " in line
        assert time.strftime(" since %Y-%m-%d %H:", time.gmtime()) in line
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, output
    assert "Applying blog.0001... OK" in output
    assert "users" not in output.partition("Running migrations:")[2]
    assert "Waiting" not in output


def test_a_killed_holder_frees_the_lock(stopping: Project) -> None:
    with holder(stopping) as killed:
        waiting = stopping.start("migrate")
        read_until(waiting, "Waiting for")
        (stopping.folder / "go_on").touch()
        killed.kill()
        killed.wait()
        output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, output
    assert "blog.0001" in stopping.applied()
    assert "users.0002_stop" in stopping.applied()
    assert recorded_twice() == 0


def test_after_its_time_the_waiting_one_gives_up(stopping: Project) -> None:
    stopping.configure("DJANGO_REWIND_LOCK_TIMEOUT = 1")
    with holder(stopping):
        for arguments in [["migrate"], ["migrate", "blog", "0001"]]:
            done = stopping.manage(*arguments, fails=True)
            assert done.returncode == 1
            assert "CommandError: The lock of database 'default' is held by" in (
                done.stderr
            )
            assert "was not free within 1 seconds" in done.stderr
            assert "DJANGO_REWIND_LOCK_TIMEOUT" in done.stderr
            assert "Traceback" not in done.stderr
            assert "Waiting for" in done.stdout
        assert stopping.applied() == ["users.0001"]


def test_what_changes_nothing_does_not_wait(stopping: Project) -> None:
    stopping.configure("DJANGO_REWIND_LOCK_TIMEOUT = 0")
    with holder(stopping):
        stopping.manage("migrate", "--plan")
        stopping.manage("migrate", "--check", fails=True)
        assert "Waiting" not in stopping.manage("showmigrations").stdout
        stopping.manage("migrate", "--database", "other", "blog")


def test_with_nothing_to_do_it_waits_for_who_is_not_done(stopping: Project) -> None:
    stopping.manage("migrate", "blog")
    with holder(stopping):
        waiting = stopping.start("migrate", "blog")
        read_until(waiting, "Waiting for")
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, output
    assert "No migrations to apply" in output


def test_without_the_lock_nobody_waits(stopping: Project) -> None:
    with holder(stopping):
        stopping.configure("DJANGO_REWIND_LOCK = False")
        done = stopping.manage("migrate", "blog")
        assert "Waiting" not in done.stdout
        assert "Applying blog.0001... OK" in done.stdout
