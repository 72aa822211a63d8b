"""SIGKILL in the middle: recorded and stored agree, whatever the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import VENDOR
from tests.history import write_migration
from tests.project import Project

# Stops where it is, as long as nobody asked it to go on.
STOP = """
def stop(apps, schema_editor):
    import pathlib, time

    folder = pathlib.Path({folder!r})
    if not (folder / "go_on").exists():
        (folder / "marker").touch()
        time.sleep(60)
"""

TEXT = """\
from django.db import migrations, models
{stop}

class Migration(migrations.Migration):
    dependencies = [("users", {before!r})]
    operations = [
        {operations}
    ]
"""

CAN_ROLL_BACK_DDL = VENDOR != "mysql"


@pytest.fixture
def stopping(project: Project) -> Project:
    """users.0003_stop stops after it added a column, and before it drops it."""
    project.have("users: 0001 > 0002_prefs")
    stop = STOP.format(folder=str(project.folder))
    write_migration(
        project.folder,
        "users.0003_stop",
        text=TEXT.format(
            stop=stop,
            before="0002_prefs",
            operations="""\
migrations.AddField("thing", "age", models.IntegerField(null=True)),
        migrations.RunPython(stop, stop),
        migrations.AddField("thing", "rank", models.IntegerField(null=True)),""",
        ),
    )
    write_migration(
        project.folder, "users.0004_last", dependencies=[("users", "0003_stop")]
    )
    return project


@pytest.fixture
def marker(project: Project) -> Path:
    return project.folder / "marker"


@pytest.fixture
def go_on(project: Project) -> Path:
    return project.folder / "go_on"


REVERSED_IN_PART = "users.0003_stop: it was reversed in part"
APPLIED_IN_PART = "users.0003_stop: it was begun to be applied"
FAILED_IN_PART = "users.0003_stop: applying it failed"


def assert_recorded_and_stored_agree(project: Project, *, but: str = "") -> None:
    """`but`: what a person has to hear of, where DDL cannot be taken back."""
    is_left = bool(but) and not CAN_ROLL_BACK_DDL
    verified = project.manage("verify_migrations", fails=is_left).stdout
    if is_left:
        assert but in verified
        assert "1 of " in verified
    stored = [
        f"{row['app_label']}.{row['migration_name']}"
        for row in project.stored()
        if row["applied"]
    ]
    assert stored == sorted(project.applied())


def test_in_a_migration(stopping: Project, marker: Path, go_on: Path) -> None:
    stopping.manage_and_kill("migrate", when=marker)
    assert stopping.applied() == ["users.0001", "users.0002_prefs"]
    assert_recorded_and_stored_agree(stopping, but=APPLIED_IN_PART)
    # Nothing was stored for the one that did not get through.
    assert len(stopping.stored()) == 2
    go_on.touch()
    if CAN_ROLL_BACK_DDL:
        stopping.manage("migrate")
        assert stopping.applied()[2:] == ["users.0003_stop", "users.0004_last"]
    else:
        # As with Django alone: the first column is there already.
        assert "age" in stopping.manage("migrate", fails=True).stderr
    assert_recorded_and_stored_agree(stopping, but=FAILED_IN_PART)


def test_in_the_rollback_of_a_ghost(
    stopping: Project, marker: Path, go_on: Path
) -> None:
    go_on.touch()
    stopping.manage("migrate")
    go_on.unlink()
    for name in ["users.0002_prefs", "users.0003_stop", "users.0004_last"]:
        stopping.path(name).unlink()
    stopping.manage_and_kill("migrate", "users", "0001", when=marker)
    assert stopping.applied() == ["users.0001", "users.0002_prefs", "users.0003_stop"]
    assert_recorded_and_stored_agree(stopping, but=REVERSED_IN_PART)
    # Reversing deletes no code.
    assert len(stopping.stored()) == 4
    go_on.touch()
    # Also where a part of it is reversed already, and cannot be taken back.
    stopping.manage("migrate", "users", "0001")
    assert stopping.applied() == ["users.0001"]
    assert_recorded_and_stored_agree(stopping)


def test_a_ghost_from_a_run_that_crashed_is_reversed(
    stopping: Project, marker: Path
) -> None:
    stopping.manage_and_kill("migrate", when=marker)
    for name in ["users.0002_prefs", "users.0003_stop", "users.0004_last"]:
        stopping.path(name).unlink()
    stopping.manage("migrate", "users", "0001")
    assert stopping.applied() == ["users.0001"]
    assert_recorded_and_stored_agree(stopping, but=APPLIED_IN_PART)
