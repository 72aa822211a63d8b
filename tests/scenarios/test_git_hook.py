"""`rewind_git_hook`, in real repositories."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.only("sqlite")

GHOSTS = (
    "django-rewind: Applied to database 'default', but their files are gone: "
    "users.0002_prefs. 'manage.py rewind' reverses them from stored code.\n"
)
STATE = ["users.0001", "users.0002_prefs"]


@pytest.fixture(autouse=True)
def _no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the person who runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def on_feature(project: Project) -> Project:
    project.have("users: 0001")
    project.commit("main")
    project.branch("feature")
    project.have("users: 0001 > 0002_prefs")
    project.commit("feature")
    project.manage("migrate")
    return project


def hook(project: Project) -> Path:
    return project.folder / ".git" / "hooks" / "post-checkout"


def write_hook(project: Project, text: str, mode: int = 0o755) -> Path:
    path = hook(project)
    path.write_text(text)
    path.chmod(mode)
    return path


def git(
    folder: Path, *arguments: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.com",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.com",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def switch(project: Project, branch: str, code: int = 0) -> str:
    done = git(project.folder, "switch", "--quiet", branch, code=code)
    return done.stdout + done.stderr


def test_it_reports_ghosts_after_a_switch_in_one_line(on_feature: Project) -> None:
    done = on_feature.manage("rewind_git_hook", "install")
    assert done.stdout == (
        f"Installed in {hook(on_feature)}: after a switch of branches it runs "
        "'manage.py rewind_git_hook report'.\n"
    )
    assert switch(on_feature, "main") == GHOSTS
    assert switch(on_feature, "feature") == ""
    assert on_feature.applied() == STATE


def test_it_rewinds(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install", "--rewind")
    assert "users.0002_prefs (ghost; from stored code)" in switch(on_feature, "main")
    assert on_feature.applied() == ["users.0001"]
    assert switch(on_feature, "feature") == ""
    assert on_feature.applied() == ["users.0001"]


def test_it_rewinds_and_migrates(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install", "--rewind-and-migrate")
    switch(on_feature, "main")
    assert on_feature.applied() == ["users.0001"]
    switch(on_feature, "feature")
    assert on_feature.applied() == STATE


def test_it_says_why_nothing_can_be_rewound(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install", "--rewind")
    on_feature.manage(
        "shell",
        "-c",
        "from django_rewind.models import MigrationCode as M; M.objects.all().delete()",
    )
    said = switch(on_feature, "main")
    assert said.startswith("django-rewind: Cannot rewind")
    assert "users.0002_prefs" in said
    assert "Traceback" not in said


def test_only_a_switch_of_branches_counts(on_feature: Project, tmp_path: Path) -> None:
    folder = on_feature.folder
    switch(on_feature, "main")
    on_feature.manage("rewind_git_hook", "install")
    (folder / "manage.py").write_text("import sys; sys.exit('called')\n")
    for arguments in (
        ("checkout", "manage.py"),
        ("checkout", "--quiet", "main"),
        ("switch", "--quiet", "--create", "other"),
        ("worktree", "add", "--quiet", str(tmp_path / "tree"), "main"),
    ):
        done = git(folder, *arguments)
        assert "django-rewind" not in done.stdout + done.stderr
    hooks = f"core.hooksPath={hook(on_feature).parent}"
    done = git(tmp_path, "clone", "--quiet", "-c", hooks, str(folder), "clone")
    assert "django-rewind" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("rebase", "--merge", "main"),
        ("rebase", "--apply", "main"),
        ("pull", "--rebase", ".", "main"),
        ("-c", "core.logAllRefUpdates=false", "rebase", "main"),
    ],
)
def test_a_rebase_is_no_switch(on_feature: Project, command: tuple[str, ...]) -> None:
    on_feature.switch("main")
    (on_feature.folder / "news.txt").touch()
    on_feature.commit("news")
    on_feature.switch("feature")
    on_feature.manage("rewind_git_hook", "install", "--rewind")
    done = git(on_feature.folder, *command)
    assert "ghost" not in done.stdout + done.stderr
    assert on_feature.applied() == STATE


def test_it_works_in_each_worktree(on_feature: Project, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(on_feature.folder, "worktree", "add", "--quiet", "--detach", str(tree))
    # From there, for both.
    installed = subprocess.run(
        [sys.executable, "manage.py", "rewind_git_hook", "install"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(hook(on_feature)) in installed.stdout
    assert git(tree, "checkout", "--quiet", "main").stderr == GHOSTS
    git(tree, "checkout", "--quiet", "--detach")
    assert switch(on_feature, "main") == GHOSTS


def test_manage_py_may_be_in_a_folder(on_feature: Project) -> None:
    top = on_feature.folder
    inner = top / "the project's"
    inner.mkdir()
    for branch in ("feature", "main"):
        on_feature.switch(branch)
        inner.mkdir(exist_ok=True)
        for name in ("manage.py", "config.py", "users"):
            git(top, "mv", name, inner.name)
        on_feature.commit("move")
    subprocess.run(
        [sys.executable, f"{inner.name}/manage.py", "rewind_git_hook", "install"],
        cwd=top,
        check=True,
        capture_output=True,
    )
    on_feature.switch("feature")
    assert switch(on_feature, "main") == GHOSTS


def test_a_branch_without_the_project(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install")
    git(on_feature.folder, "switch", "--quiet", "--orphan", "empty")
    git(on_feature.folder, "commit", "--quiet", "--allow-empty", "--message", "empty")
    switch(on_feature, "main")
    assert switch(on_feature, "empty") == ""


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            "import nothing_of_that_name",
            (
                "django-rewind: manage.py fails on this branch: ModuleNotFoundError: "
                "No module named 'nothing_of_that_name'\n"
            ),
        ),
        (
            'INSTALLED_APPS.remove("django_rewind")',
            "django-rewind: django_rewind is not installed on this branch.\n",
        ),
        ("DJANGO_REWIND_ENABLED = False", ""),
        (
            'DATABASES["default"]["NAME"] = "/nowhere/db.sqlite3"',
            (
                "django-rewind: No answer from database 'default': "
                "unable to open database file\n"
            ),
        ),
    ],
)
def test_a_branch_on_which_it_cannot_work(
    on_feature: Project, settings: str, line: str
) -> None:
    on_feature.manage("rewind_git_hook", "install")
    git(on_feature.folder, "switch", "--quiet", "--create", "broken", "main")
    with (on_feature.folder / "config.py").open("a") as file:
        file.write(f"{settings}\n")
    on_feature.commit("broken")
    switch(on_feature, "feature")
    assert switch(on_feature, "broken") == line


def test_a_python_that_is_gone(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install")
    path = hook(on_feature)
    path.write_text(re.sub("python=.*", "python=/gone/python", path.read_text()))
    assert switch(on_feature, "main") == (
        "django-rewind: /gone/python is gone. "
        "Run 'manage.py rewind_git_hook install' again.\n"
    )


SHELL = "#!/bin/sh\necho theirs $0 $#; read line || echo no input\nexit 0\n"
OTHERS = {
    "exits": SHELL,
    "execs": "#!/usr/bin/env bash\nset -euo pipefail\nexec echo theirs $0 $#\n",
    "stops at errors": "#!/bin/bash -eu\necho theirs $0 $#\n",
    "python": (
        f"#!{sys.executable}\nimport sys\nprint('theirs', sys.argv[0], len(sys.argv)-1)"
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_hook_is_called_first_and_restored(
    on_feature: Project, kind: str
) -> None:
    path = write_hook(on_feature, OTHERS[kind], 0o750)
    done = on_feature.manage("rewind_git_hook", "install")
    assert "The hook that was there is kept, and called first." in done.stdout
    said = switch(on_feature, "main")
    assert said.endswith(GHOSTS)
    theirs, *_ = said.splitlines()
    assert re.fullmatch(r"theirs \S*/post-checkout 3", theirs)
    assert said.count("theirs") == 1
    on_feature.manage("rewind_git_hook", "remove")
    assert path.read_text() == OTHERS[kind]
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert [p.name for p in path.parent.glob("*rewind*")] == []


def test_one_that_finds_its_files_by_its_own_path(on_feature: Project) -> None:
    """As husky does."""
    path = write_hook(on_feature, '#!/usr/bin/env sh\n. "$(dirname "$0")/h"\n')
    (path.parent / "h").write_text('echo "this is $(basename "$0")"\nexit 0\n')
    on_feature.manage("rewind_git_hook", "install")
    assert switch(on_feature, "main") == f"this is post-checkout\n{GHOSTS}"


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 3\n", f"#!{sys.executable}\nexit(3)\n"]
)
def test_one_that_fails_fails_as_before(on_feature: Project, text: str) -> None:
    write_hook(on_feature, text)
    on_feature.manage("rewind_git_hook", "install")
    # Of a hook's exit status, git tells only whether it is 0.
    assert switch(on_feature, "main", code=1) == GHOSTS
    arguments = [str(hook(on_feature)), "1" * 40, "1" * 40, "1"]
    assert subprocess.run(arguments, check=False).returncode == 3


@pytest.mark.parametrize("target", ["../../hooks/mine", "absolute"])
def test_a_link_goes_on_leading_there(on_feature: Project, target: str) -> None:
    mine = on_feature.folder / "hooks" / "mine"
    mine.parent.mkdir()
    mine.write_text("#!/bin/sh\necho theirs\n")
    mine.chmod(0o755)
    if target == "absolute":
        target = str(mine)
    path = hook(on_feature)
    path.symlink_to(target)
    on_feature.manage("rewind_git_hook", "install")
    assert switch(on_feature, "main") == f"theirs\n{GHOSTS}"
    on_feature.manage("rewind_git_hook", "remove")
    assert os.readlink(path) == target
    assert mine.read_text() == "#!/bin/sh\necho theirs\n"


def test_one_that_git_does_not_run_is_kept_and_not_run(on_feature: Project) -> None:
    path = write_hook(on_feature, SHELL, 0o644)
    on_feature.manage("rewind_git_hook", "install")
    assert switch(on_feature, "main") == GHOSTS
    on_feature.manage("rewind_git_hook", "remove")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("text", [None, SHELL, OTHERS["python"]])
def test_installed_twice_it_is_there_once(
    on_feature: Project, text: str | None
) -> None:
    if text:
        write_hook(on_feature, text)
    on_feature.manage("rewind_git_hook", "install")
    before = hook(on_feature).read_bytes()
    done = on_feature.manage("rewind_git_hook", "install")
    assert done.stdout == f"{hook(on_feature)} is as it should be already.\n"
    assert hook(on_feature).read_bytes() == before
    done = on_feature.manage("rewind_git_hook", "install", "--rewind")
    assert "'manage.py rewind --noinput" in done.stdout
    assert switch(on_feature, "main").count("ghost") == 1
    on_feature.manage("rewind_git_hook", "remove")
    assert hook(on_feature).exists() is bool(text)
    done = on_feature.manage("rewind_git_hook", "remove", fails=True)
    assert done.stderr == (
        f"CommandError: django-rewind is not installed in {hook(on_feature)}. "
        "Nothing was changed.\n"
    )


def test_the_work_of_others_is_not_deleted(on_feature: Project) -> None:
    path = write_hook(on_feature, OTHERS["python"])
    on_feature.manage("rewind_git_hook", "install")
    path.write_text("#!/bin/sh\necho newer\n")
    for action in ("remove", "install"):
        done = on_feature.manage("rewind_git_hook", action, fails=True)
        assert "was replaced since django-rewind was installed" in done.stderr
        assert path.read_text() == "#!/bin/sh\necho newer\n"
    assert (path.parent / "django-rewind" / "post-checkout").read_text() == OTHERS[
        "python"
    ]
    # Half-way between its two steps.
    path.unlink()
    on_feature.manage("rewind_git_hook", "remove")
    assert path.read_text() == OTHERS["python"]


def test_what_was_added_to_it_since_stays(on_feature: Project) -> None:
    on_feature.manage("rewind_git_hook", "install")
    with hook(on_feature).open("a") as file:
        file.write("echo more\n")
    on_feature.manage("rewind_git_hook", "remove")
    assert hook(on_feature).read_text() == "#!/bin/sh\necho more\n"


@pytest.mark.parametrize("scope", ["--local", "--global"])
def test_a_folder_of_hooks_in_the_working_tree(on_feature: Project, scope: str) -> None:
    git(on_feature.folder, "config", scope, "core.hooksPath", ".githooks")
    done = on_feature.manage("rewind_git_hook", "install")
    path = on_feature.folder / ".githooks" / "post-checkout"
    assert f"Installed in {path}" in done.stdout
    assert "do not commit it" in done.stdout
    assert switch(on_feature, "main") == GHOSTS


def test_the_hooks_of_all_repositories_are_left_alone(
    on_feature: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("hooks")
    git(on_feature.folder, "config", "--global", "core.hooksPath", str(folder))
    done = on_feature.manage("rewind_git_hook", "install", fails=True)
    assert f"The hooks of all your repositories are in {folder}" in done.stderr
    assert list(folder.iterdir()) == []
    git(on_feature.folder, *done.stderr.strip().rpartition("git ")[2].split())
    on_feature.manage("rewind_git_hook", "install")
    assert switch(on_feature, "main") == GHOSTS
    # For this one alone.
    git(on_feature.folder, "config", "--local", "core.hooksPath", str(folder))
    on_feature.manage("rewind_git_hook", "install")
    assert (folder / "post-checkout").exists()


def test_where_there_are_no_hooks(on_feature: Project) -> None:
    git(on_feature.folder, "config", "core.hooksPath", os.devnull)
    done = on_feature.manage("rewind_git_hook", "install", fails=True)
    assert done.stderr.startswith("CommandError: The hooks in /dev/null cannot be")


def test_where_there_is_no_repository(on_feature: Project) -> None:
    (on_feature.folder / ".git").rename(on_feature.folder / "git")
    done = on_feature.manage("rewind_git_hook", "install", fails=True)
    assert done.stderr.startswith("CommandError: There is no git repository in")


def test_modes_are_for_install(on_feature: Project) -> None:
    done = on_feature.manage("rewind_git_hook", "remove", "--rewind", fails=True)
    assert done.stderr == "CommandError: --rewind is for install, not for remove.\n"
