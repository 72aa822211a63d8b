"""`rewind` in real repositories: branch switches, old releases, crashes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.project import Project

SLOW = """\
import time
from pathlib import Path

from django.db import migrations

HERE = Path.cwd()


def wait(apps, schema_editor):
    (HERE / "reversing").touch()
    while not (HERE / "go_on").exists():
        time.sleep(0.05)


class Migration(migrations.Migration):
    dependencies = [("users", "0003_more")]
    operations = [
        migrations.RunSQL("SELECT 1", migrations.RunSQL.noop),
        migrations.RunPython(migrations.RunPython.noop, wait),
    ]
"""


@pytest.fixture
def branches(project: Project) -> Project:
    """Two branches that part after users.0001; the database is the feature's."""
    project.have("users: 0001; blog: 0001")
    project.commit("main")
    project.branch("other")
    project.have("users: 0001 > 0002_other; blog: 0001 > 0002_b(users.0002_other)")
    project.commit("other")
    project.switch("main")
    project.branch("feature")
    project.have("users: 0001 > 0002_prefs > 0003_more")
    project.commit("feature")
    project.manage("migrate")
    return project


def test_back_and_forth_between_branches(branches: Project) -> None:
    checkouts = {
        "main": ["blog.0001", "users.0001"],
        "other": ["blog.0001", "blog.0002_b", "users.0001", "users.0002_other"],
        "feature": ["blog.0001", "users.0001", "users.0002_prefs", "users.0003_more"],
    }
    for name in ["other", "feature", "main", "other", "main", "feature"]:
        branches.switch(name)
        branches.manage("rewind", "--migrate", "--noinput")
        assert sorted(branches.applied()) == checkouts[name]
        branches.manage("rewind", "--check")
        branches.manage("migrate", "--check")
        branches.manage("verify_migrations")


def test_an_old_release_carries_out_the_plan_that_was_reviewed(
    branches: Project,
) -> None:
    branches.switch("main")
    found = branches.manage("rewind", "--check", fails=True)
    assert found.returncode == 1
    plan = json.loads(branches.manage("rewind", "--plan", "--format=json").stdout)
    assert [step["migration_name"] for step in plan["steps"]] == [
        "0003_more",
        "0002_prefs",
    ]
    refused = branches.manage("rewind", "--expect=0", "--noinput", fails=True)
    assert refused.returncode == 2
    branches.manage("rewind", "--expect", plan["digest"], "--noinput")
    assert sorted(branches.applied()) == ["blog.0001", "users.0001"]
    plan = json.loads(branches.manage("rewind", "--plan", "--format=json").stdout)
    assert plan["steps"] == []


def test_nobody_answers(branches: Project) -> None:
    branches.switch("main")
    asked = branches.manage("rewind", fails=True)
    assert asked.returncode == 2
    assert "Cancelled. Nothing was changed." in asked.stderr
    assert len(branches.applied()) == 4


def test_after_a_rebase_the_data_stays(branches: Project) -> None:
    """The feature's first migration is numbered anew, after another one of main."""
    branches.switch("main")
    branches.have("users: 0001 > 0002_main > 0003_prefs > 0004_more")
    branches.commit("rebased")
    output = branches.manage("rewind", "--migrate", "--noinput").stdout
    assert "Adopting users.0002_prefs as users.0003_prefs... OK" in output
    assert "Adopting users.0003_more as users.0004_more... OK" in output
    assert "Unapplying" not in output
    assert sorted(branches.applied()) == [
        "blog.0001",
        "users.0001",
        "users.0002_main",
        "users.0003_prefs",
        "users.0004_more",
    ]
    branches.manage("verify_migrations")


def slow(project: Project) -> Project:
    """On main, with a ghost whose reversal waits for a file."""
    project.switch("feature")
    project.path("users.0004_slow").write_text(SLOW)
    project.manage("migrate")
    project.commit("slow")
    project.switch("main")
    return project


def test_killed_in_the_middle_it_goes_on(branches: Project) -> None:
    slow(branches)
    reversing = branches.folder / "reversing"
    branches.manage_and_kill("rewind", "--noinput", when=reversing)
    history = branches.manage("rewind_history", "users").stdout
    assert "reverse users.0004_slow  started" in history
    assert "users.0004_slow" in branches.applied()
    (branches.folder / "go_on").touch()
    branches.manage("rewind", "--noinput")
    assert sorted(branches.applied()) == ["blog.0001", "users.0001"]
    branches.manage("verify_migrations")


def test_interrupted_in_the_middle_it_says_so_and_goes_on(branches: Project) -> None:
    slow(branches)
    process = branches.start("rewind", "--noinput")
    wait_for(branches.folder / "reversing")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    assert "Traceback" not in output
    assert "Stopped at users.0004_slow: KeyboardInterrupt\n  Done: nothing." in output
    history = branches.manage("rewind_history", "users").stdout
    assert "reverse users.0004_slow  failed" in history
    (branches.folder / "go_on").touch()
    branches.manage("rewind", "--noinput")
    assert sorted(branches.applied()) == ["blog.0001", "users.0001"]
    branches.manage("verify_migrations")


def test_two_at_once(branches: Project) -> None:
    slow(branches)
    first = branches.start("rewind", "--migrate", "--noinput")
    wait_for(branches.folder / "reversing")
    second = branches.start("rewind", "--migrate", "--noinput")
    third = branches.start("migrate", "users", "0001")
    (branches.folder / "go_on").touch()
    for process in (first, second, third):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    assert sorted(branches.applied()) == ["blog.0001", "users.0001"]
    branches.manage("verify_migrations")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failure_leaves_no_traceback(branches: Project) -> None:
    branches.switch("feature")
    text = SLOW.replace("    while not (HERE", "    raise OSError('no disk')\n#")
    branches.path("users.0004_slow").write_text(
        text.replace("        time.sleep(0.05)\n", "")
    )
    branches.manage("migrate")
    branches.commit("fails")
    branches.switch("main")
    stopped = branches.manage("rewind", "--noinput", fails=True)
    assert stopped.returncode == 3
    assert "Traceback" not in stopped.stderr
    assert "Stopped at users.0004_slow: OSError: no disk" in stopped.stderr
