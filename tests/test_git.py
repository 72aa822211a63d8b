"""Git is asked, and neither changed nor trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from django_rewind import git
from django_rewind.exceptions import RewindError

pytestmark = pytest.mark.only("sqlite")

FILE = "users/migrations/0002_prefs.py"


class Clone:
    """A repository for a test, with the dates that the test gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.run("init", "--quiet", "--initial-branch=main")

    def run(self, *arguments: str, at: str = "2024-01-01T00:00:00+00:00") -> str:
        identity = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "a"), ("EMAIL", "a@b"), ("DATE", at))
        }
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=self.folder,
            env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, text: str, path: str = FILE) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self, at: str = "2024-01-01", message: str = "message") -> str:
        self.run("add", "--all")
        self.run("commit", "--quiet", "--allow-empty", "-m", message, at=f"{at}T00:00Z")
        return self.run("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script in the place of git; $GIT is the real one."""
    monkeypatch.setenv("GIT", shutil.which("git") or "")

    def replace(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return replace


def repository(folder: Path) -> git.Repository:
    found = git.find_repository(folder)
    assert found is not None
    return found


def texts(folder: Path, name: str = "migrations") -> list[str]:
    """The versions that are found, oldest first."""
    found = repository(folder)
    versions = git.find_versions(found, [name])
    blobs = git.read_blobs(found, {version.blob for version in versions})
    return [blobs[version.blob].decode() for version in versions]


def test_each_version_of_a_file_is_found_oldest_first(clone: Clone) -> None:
    clone.write("one")
    first = clone.commit("2024-01-01")
    clone.write("two")
    second = clone.commit("2024-01-02")
    (clone.folder / FILE).unlink()
    clone.commit("2024-01-03")
    assert texts(clone.folder) == ["one", "two"]
    versions = git.find_versions(repository(clone.folder), ["migrations"])
    assert [v.commit for v in versions] == [first, second]
    assert {v.path for v in versions} == {FILE}
    assert [v.authored for v in versions] == [
        "2024-01-01T00:00:00+00:00",
        "2024-01-02T00:00:00+00:00",
    ]
    assert versions[1].committed - versions[0].committed == 24 * 60 * 60


def test_with_equal_dates_children_come_after_their_parents(clone: Clone) -> None:
    for text in ("one", "two", "three"):
        clone.write(text)
        clone.commit()
    assert texts(clone.folder) == ["one", "two", "three"]


def test_branches_tags_remotes_and_reflogs_are_searched(clone: Clone) -> None:
    clone.commit()
    other = Clone(clone.folder.parent / "other")
    other.write("remote")
    other.commit()
    clone.run("fetch", "--quiet", str(other.folder), "main:refs/remotes/origin/main")
    for name in ("branch", "tag", "stash", "lost"):
        clone.run("switch", "--quiet", "--create", name, "main")
        clone.write(name)
        if name == "stash":
            clone.run("add", "--all")
            clone.run("stash")
        else:
            clone.commit()
    clone.run("tag", "v1", "tag")
    clone.run("switch", "--quiet", "--detach", "main")
    clone.run("branch", "--quiet", "-D", "lost", "tag")
    assert set(texts(clone.folder)) == {"branch", "lost", "remote", "stash", "tag"}


def test_what_a_merge_brought_or_left_behind_is_found(clone: Clone) -> None:
    clone.commit()
    clone.run("switch", "--quiet", "--create", "feature")
    clone.write("left behind")
    clone.commit("2024-01-02")
    clone.run("switch", "--quiet", "main")
    clone.commit("2024-01-03")
    clone.run("merge", "--quiet", "--no-commit", "--strategy=ours", "feature")
    clone.write("of the merge")
    clone.commit("2024-01-04")
    clone.run("branch", "--quiet", "-D", "feature")
    clone.run("reflog", "expire", "--expire=now", "--all")
    assert set(texts(clone.folder)) == {"left behind", "of the merge"}


def test_what_a_merge_dropped_altogether_is_found(clone: Clone) -> None:
    clone.commit()
    clone.run("switch", "--quiet", "--create", "feature")
    clone.write("dropped")
    clone.commit("2024-01-02")
    clone.run("switch", "--quiet", "main")
    clone.run("merge", "--quiet", "--strategy=ours", "feature")
    clone.run("branch", "--quiet", "-D", "feature")
    clone.run("reflog", "expire", "--expire=now", "--all")
    assert texts(clone.folder) == ["dropped"]


def test_hostile_names_and_messages_are_no_commits_and_no_files(clone: Clone) -> None:
    blob = "0" * 39 + "1"
    fake = f"\n:000000 100644 {'0' * 40} {blob} A"
    clone.write("one", f"users/migrations/{fake}.py")
    clone.write("two", f"x{fake}\n{'a' * 40},0,/users/migrations/0001.py")
    clone.write("three", "users/migrations/\x1b[31m\xe9.py")
    commit = clone.commit(message=f"{'a' * 40},0,2024\n\n{fake}\n{FILE}")
    versions = git.find_versions(repository(clone.folder), ["migrations"])
    assert {v.commit for v in versions} == {commit}
    assert {v.path for v in versions} == {
        f"users/migrations/{fake}.py",
        f"x{fake}\n{'a' * 40},0,/users/migrations/0001.py",
        "users/migrations/\x1b[31m\xe9.py",
    }
    assert blob not in {v.blob for v in versions}


@pytest.mark.parametrize("name", ["*", "migration?", "a\\b", "[m]igrations", "users"])
def test_a_name_is_no_pattern(clone: Clone, name: str) -> None:
    clone.write("one")
    clone.commit()
    assert texts(clone.folder, name) == []
    clone.write("two", f"x/{name}/0001.py")
    clone.commit()
    assert texts(clone.folder, name) == ["two"]


@pytest.mark.parametrize("name", ["..", ".", "", "a\n:(nothing)x"])
def test_a_name_that_no_folder_has_is_left_out(clone: Clone, name: str) -> None:
    clone.write("one")
    clone.commit()
    assert texts(clone.folder, name) == []
    assert len(git.find_versions(repository(clone.folder), [name, "migrations"])) == 1


def test_links_are_no_texts(clone: Clone) -> None:
    (clone.folder / FILE).parent.mkdir(parents=True)
    (clone.folder / FILE).symlink_to("/etc/passwd")
    clone.commit()
    assert texts(clone.folder) == []
    (clone.folder / FILE).unlink()
    clone.write("one")
    clone.commit()
    assert texts(clone.folder) == ["one"]


def test_any_bytes_are_read(clone: Clone) -> None:
    data = [b"", b"\n", b"\0\xff\n" * 3, b"0" * 40 + b" blob 3\nabc\n"]
    for number, content in enumerate(data):
        clone.write("", f"users/migrations/{number}.py")
        (clone.folder / f"users/migrations/{number}.py").write_bytes(content)
    clone.commit()
    found = repository(clone.folder)
    blobs = {v.blob for v in git.find_versions(found, ["migrations"])}
    assert sorted(git.read_blobs(found, blobs).values()) == sorted(data)


def test_a_worktree_and_a_subfolder_are_of_the_repository(clone: Clone) -> None:
    clone.write("one")
    clone.commit()
    assert repository(clone.folder / "users").top == clone.folder.resolve()
    clone.run("worktree", "add", "--quiet", "-b", "other", "../worktree", "main")
    worktree = clone.folder.parent / "worktree"
    (worktree / FILE).unlink()
    assert repository(worktree).top == worktree.resolve()
    assert texts(worktree / "users") == ["one"]


def test_the_worktree_of_a_bare_repository_will_do(clone: Clone) -> None:
    clone.write("one")
    clone.commit()
    clone.run("clone", "--quiet", "--bare", ".", "../project/.bare")
    project = clone.folder.parent / "project"
    (project / ".git").write_text("gitdir: .bare\n")
    clone.run("-C", str(project), "worktree", "add", "--quiet", "main")
    assert texts(project / "main") == ["one"]


def test_a_folder_without_a_repository_is_no_error(tmp_path: Path) -> None:
    assert git.find_repository(tmp_path) is None


def test_a_repository_without_commits_knows_nothing(clone: Clone) -> None:
    assert texts(clone.folder) == []


def test_a_shallow_clone_says_so(clone: Clone) -> None:
    clone.write("one")
    clone.commit("2024-01-01")
    clone.write("two")
    clone.commit("2024-01-02")
    url = clone.folder.as_uri()
    clone.run("clone", "--quiet", "--depth=1", url, "../shallow")
    shallow = clone.folder.parent / "shallow"
    assert not repository(clone.folder).is_shallow
    assert repository(shallow).is_shallow
    assert texts(shallow) == ["two"]


def test_a_partial_clone_is_not_completed(clone: Clone) -> None:
    clone.write("one")
    clone.commit()
    clone.run("config", "uploadpack.allowFilter", "true")
    options = ["--quiet", "--filter=blob:none", "--no-checkout"]
    clone.run("clone", *options, clone.folder.as_uri(), "../partial")
    found = repository(clone.folder.parent / "partial")
    (version,) = git.find_versions(found, ["migrations"])
    with pytest.raises(RewindError, match=r"(?s)partial one.*promisor"):
        git.read_blobs(found, {version.blob})


def test_nothing_that_the_repository_configures_is_run(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = clone.folder.parent / "it-ran"
    program = clone.folder.parent / "program"
    program.write_text(f"#!/bin/sh\necho $0 $* >> {marker}\n")
    program.chmod(0o755)
    hooks = clone.folder.parent / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        (hooks / hook).symlink_to(program)
    clone.write("* diff=hostile filter=hostile\n", ".gitattributes")
    clone.write("one")
    clone.commit("2024-01-01")
    clone.run("switch", "--quiet", "--create", "feature")
    clone.commit("2024-01-02")
    clone.run("switch", "--quiet", "main")
    clone.run("merge", "--quiet", "--no-commit", "--no-ff", "feature")
    clone.write("of the merge")
    clone.commit("2024-01-03")
    clone.write("two")
    sign(clone, clone.commit("2024-01-04"))
    for name in (
        "core.pager",
        "pager.log",
        "core.editor",
        "core.fsmonitor",
        "core.sshCommand",
        "core.askPass",
        "credential.helper",
        "diff.external",
        "diff.hostile.command",
        "diff.hostile.textconv",
        "filter.hostile.smudge",
        "filter.hostile.clean",
        "gpg.program",
        "alias.log",
    ):
        clone.run("config", name, str(program))
    for name, value in {
        "core.hooksPath": str(hooks),
        "log.showSignature": "true",
        "log.follow": "true",
        "log.diffMerges": "off",
        "log.showRoot": "false",
        "diff.orderFile": "/nowhere",
        "diff.relative": "true",
        "diff.noPrefix": "true",
        "diff.renames": "copies",
        "color.ui": "always",
        "core.quotePath": "true",
        "core.abbrev": "4",
    }.items():
        clone.run("config", name, value)
    for variable in ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "GIT_SSH_COMMAND"):
        monkeypatch.setenv(variable, str(program))
    marker.unlink(missing_ok=True)
    assert texts(clone.folder / "users") == [
        "one",
        *["of the merge"] * 2,
        *["two"] * 2,
    ]
    assert not marker.exists(), marker.read_text()


def sign(clone: Clone, commit: str) -> None:
    """Let a tag point to a copy of a commit that says that it is signed."""
    head, _, message = clone.run("cat-file", "commit", commit).partition("\n\n")
    file = clone.folder / ".git/signed"
    begin, end = (f"-----{word} PGP SIGNATURE-----" for word in ("BEGIN", "END"))
    file.write_text(f"{head}\ngpgsig {begin}\n \n x\n {end}\n\n{message}\n")
    signed = clone.run("hash-object", "-t", "commit", "-w", str(file))
    clone.run("tag", "signed", signed)


def test_the_variables_of_a_hook_do_not_lead_elsewhere(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.write("one")
    clone.commit()
    other = Clone(clone.folder.parent / "other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.folder))
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert texts(clone.folder) == ["one"]


def test_the_repository_stays_as_it_is(clone: Clone) -> None:
    clone.write("one")
    clone.commit()
    clone.write("changed")

    def files() -> dict[Path, tuple[int, bytes]]:
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in clone.folder.rglob("*")
            if path.is_file()
        }

    before = files()
    assert texts(clone.folder) == ["one"]
    assert files() == before


def test_a_reference_to_nothing_is_no_error(clone: Clone) -> None:
    clone.write("one")
    clone.commit()
    (clone.folder / ".git/refs/heads/broken").write_text("1" * 40 + "\n")
    assert texts(clone.folder) == ["one"]


def test_a_commit_without_dates_is_the_oldest() -> None:
    output = b"%s,,\0\n:000000 100644 0 %s A\0a/0001.py\0" % (b"1" * 40, b"2" * 40)
    (version,) = git.parse_log(output)
    assert (version.committed, version.authored) == (0, "")


def test_without_git_the_error_says_so(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(clone.folder))
    with pytest.raises(RewindError, match=r"program 'git' was not found. Install it"):
        git.find_repository(clone.folder)


def test_a_git_that_cannot_be_run_is_told(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: str(clone.folder))
    with pytest.raises(RewindError, match=r"git cannot be run: .*Permission denied"):
        git.find_repository(clone.folder)


def test_dubious_ownership_is_told_in_the_words_of_git(
    clone: Clone, program: Callable[[str], None]
) -> None:
    program('GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec "$GIT" "$@"')
    with pytest.raises(RewindError) as refusal:
        git.find_repository(clone.folder)
    assert "dubious ownership" in str(refusal.value)
    assert "safe.directory" in str(refusal.value)
    assert str(clone.folder) in str(refusal.value)


def test_what_git_says_cannot_act_on_the_terminal(
    clone: Clone, program: Callable[[str], None]
) -> None:
    program("printf 'fatal: \\033[31m' >&2; exit 128")
    with pytest.raises(RewindError, match=r"fatal: \\x1b\[31m"):
        git.find_repository(clone.folder)


def test_a_git_that_does_not_end_is_ended(
    clone: Clone, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "TIME_LIMIT", 0.2)
    program("exec sleep 60")
    with pytest.raises(RewindError, match=r"longer than 0\.2 seconds"):
        git.find_repository(clone.folder)


def test_what_may_not_be_looked_at_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, **kwargs: object) -> bool:
        raise PermissionError(str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    assert git.find_repository(tmp_path) is None
