"""Ask git what it remembers of some files. Changes nothing, runs nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .exceptions import RewindError
from .terminal import printable

# Seconds for one command. The history of a large repository takes some.
TIME_LIMIT = 300

# What the configuration of a repository could have git run, or print differently.
OVERRIDES = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "diff.orderFile": "/dev/null",
    "log.diffMerges": "separate",
    "log.follow": "false",
    "log.showRoot": "true",
    "log.showSignature": "false",
}

LOG = (
    # References to nothing are ignored only from here on.
    *("log", "--ignore-missing", "--all", "--reflog", "--stdin", "--topo-order"),
    # Also what a merge brought, or left behind.
    *("--full-history", "-m", "--diff-filter=AMT"),
    *("--raw", "-z", "--no-abbrev", "--format=%H,%ct,%aI"),
    *("--no-ext-diff", "--no-textconv", "--no-renames"),
)

# A broken commit may lack its dates.
COMMIT = re.compile(rb"([0-9a-f]{40,64}),(-?[0-9]*),([^,]*)")

# To whom the configuration belongs is for the person to say. Any other GIT_* could
# mean another repository, as in a hook, or another program.
KEPT = (
    "GIT_CONFIG",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS",
    "GIT_EXEC_PATH",
)


class Repository(NamedTuple):
    top: Path
    is_shallow: bool


class Hooks(NamedTuple):
    """Where git looks for the hooks of a repository."""

    folder: Path
    # What all working trees of the repository have in common.
    common: Path
    # Where core.hooksPath is set: "global", "system", "local", ...; "" if it is not.
    scope: str


class Version(NamedTuple):
    """A text that a commit gave to a file."""

    # From the top of the repository, with slashes.
    path: str
    blob: str
    commit: str
    # ISO 8601
    authored: str
    # Seconds since the epoch.
    committed: int


def find_repository(folder: Path) -> Repository | None:
    """The repository that has the folder in its working tree, None if there is none.

    Raises RewindError if git is missing, or refuses to read the repository.
    """
    folder = Path(os.path.realpath(folder))
    # What may not be looked at is no repository either.
    if not any(os.path.exists(f / ".git") for f in [folder, *folder.parents]):
        return None
    output = _run(folder, ["rev-parse", "--show-toplevel", "--is-shallow-repository"])
    # The path of a folder may contain line breaks.
    top, shallow = (
        output.decode("utf-8", "surrogateescape").rstrip("\n").rsplit("\n", 1)
    )
    return Repository(Path(os.path.realpath(top)), shallow == "true")


def head(repository: Repository) -> tuple[str, str]:
    """The branch that is checked out ("HEAD" if none is), and its commit.

    Raises RewindError, also where nothing is committed yet.
    """
    output = _run(repository.top, ["rev-parse", "HEAD", "--abbrev-ref", "HEAD"])
    commit, branch = output.decode("utf-8", "replace").split("\n")[:2]
    return branch, commit


def resolve(repository: Repository, name: str) -> str:
    """The commit that a name stands for. Raises RewindError if there is none."""
    arguments = ["rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"]
    return _run(repository.top, arguments).decode().strip()


def find_hooks(repository: Repository) -> Hooks:
    """Raises RewindError."""

    def ask(*arguments: str) -> str:
        # The configuration is what is asked for.
        output = _run(repository.top, arguments, overrides={})
        return output.decode("utf-8", "surrogateescape")

    folder = ask("rev-parse", "--git-path", "hooks").rstrip("\n")
    common = ask("rev-parse", "--git-common-dir").rstrip("\n")
    # By turns where it is set, and what; the last one wins.
    fields = ask("config", "--show-scope", "--null", "--list").split("\0")
    scopes = [
        scope
        for scope, entry in zip(fields[::2], fields[1::2])
        if entry.partition("\n")[0] == "core.hookspath"
    ]
    return Hooks(
        Path(os.path.realpath(repository.top / folder)),
        Path(os.path.realpath(repository.top / common)),
        scopes[-1] if scopes else "",
    )


def find_versions(repository: Repository, folders: Iterable[str]) -> list[Version]:
    """Each text of each Python file in folders of these names, oldest first.

    Of all branches, remotes, tags and stashes, and of what reflogs still know.
    """
    # Names from the database are no patterns, and no further lines.
    specs = [f":(top,glob)**/{_literal(f)}/*.py" for f in folders if "\n" not in f]
    if not specs:
        return []
    stdin = "\n".join(["--", *specs, ""]).encode("utf-8", "surrogatepass")
    found = list(parse_log(_run(repository.top, LOG, stdin)))
    # Of equal dates, children come before their parents.
    found.reverse()
    found.sort(key=lambda version: version.committed)
    return found


def read_blobs(repository: Repository, blobs: Collection[str]) -> dict[str, bytes]:
    """The bytes of each that is there.

    Raises RewindError for what a partial clone lacks: nothing is fetched.
    """
    if not blobs:
        return {}
    stdin = "\n".join([*blobs, ""]).encode()
    output = _run(
        repository.top,
        ["cat-file", "--batch"],
        stdin,
        remedy="If this clone is a partial one, run this in a full one",
    )
    return dict(parse_batch(output))


def parse_log(output: bytes) -> Iterator[Version]:
    """The commits and files in the output of LOG, which no name can imitate."""
    tokens = iter(output.split(b"\0"))
    commit, committed, authored = "", 0, ""
    for token in tokens:
        token = token.lstrip(b"\n")
        if not token.startswith(b":"):
            if match := COMMIT.fullmatch(token):
                commit, authored = match[1].decode(), match[3].decode()
                committed = int(match[2] or 0)
            continue
        _, mode, _, blob, _ = token.split()
        path = next(tokens).decode("utf-8", "backslashreplace")
        # Neither a symbolic link nor a submodule.
        if mode.startswith(b"100"):
            yield Version(path, blob.decode(), commit, authored, committed)


def parse_batch(output: bytes) -> Iterator[tuple[str, bytes]]:
    """The objects in the output of `git cat-file --batch`."""
    start = 0
    while start < len(output):
        end = output.index(b"\n", start)
        name, *described = output[start:end].decode().split()
        start = end + 1
        if len(described) == 2:
            size = int(described[1])
            yield name, output[start : start + size]
            start += size + 1


def _literal(name: str) -> str:
    return re.sub(r"[\\*?\[]", r"\\\g<0>", name)


def _run(
    folder: Path,
    arguments: Sequence[str],
    stdin: bytes = b"",
    remedy: str = "Do what it says, then try again",
    overrides: Mapping[str, str] = OVERRIDES,
) -> bytes:
    program = shutil.which("git")
    if program is None:
        raise RewindError(
            "The program 'git' was not found. Install it, or add it to PATH."
        )
    options = [
        part for name, value in overrides.items() for part in ("-c", f"{name}={value}")
    ]
    try:
        done = subprocess.run(
            [program, "--no-pager", *options, *arguments],
            cwd=folder,
            env=_environment(),
            input=stdin,
            capture_output=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RewindError(
            f"'git {arguments[0]}' in {folder} took longer than {TIME_LIMIT} seconds. "
            "Name an app, or try again."
        ) from error
    except OSError as error:
        raise RewindError(f"git cannot be run: {error}.") from error
    if done.returncode:
        reason = printable(done.stderr.decode("utf-8", "replace")).strip()
        raise RewindError(
            f"'git {arguments[0]}' failed in {folder}. {remedy}:\n{reason}"
        )
    return done.stdout


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(KEPT)
    }
    return {
        **kept,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # A partial clone would be completed, with programs of its configuration.
        "GIT_NO_LAZY_FETCH": "1",
        # The same for versions of git that do not know it.
        "GIT_ALLOW_PROTOCOL": "none",
    }
