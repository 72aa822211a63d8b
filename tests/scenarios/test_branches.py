"""Two branches, one database: the story that this project is for."""

from __future__ import annotations

import pytest

from tests.project import Project


@pytest.fixture
def on_main(project: Project) -> Project:
    """The feature branch was migrated, then main was checked out."""
    project.have("users: 0001")
    project.commit("main")
    project.branch("feature")
    project.have("users: 0001 > 0002_prefs > 0003_age; blog: 0001(users.0002_prefs)")
    project.commit("feature")
    project.manage("migrate")
    project.switch("main")
    return project


def test_main_can_go_back(on_main: Project) -> None:
    assert "No migrations to apply" in on_main.manage("migrate").stdout
    plan = on_main.manage("migrate", "users", "0001", "--plan").stdout
    assert "users.0003_age (stored code)" in plan
    done = on_main.manage("migrate", "users", "0001")
    assert "Loading users.0002_prefs from stored code... OK" in done.stdout
    assert "Unapplying users.0002_prefs... OK" in done.stdout
    assert on_main.applied() == ["users.0001"]
    on_main.switch("feature")
    on_main.manage("migrate")
    assert on_main.applied() == [
        "users.0001",
        "users.0002_prefs",
        "blog.0001",
        "users.0003_age",
    ]
