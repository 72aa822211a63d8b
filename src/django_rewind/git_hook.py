"""A post-checkout hook that looks at the database after a switch of branches.

Another hook that is there goes on being called, and comes first. It has to find
itself as it was, since some go by the name and folder of `$0`. So a shell script gets
our lines on top, which call the script itself and then go on. Anything else is moved
to a folder beside.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from . import conf, git, notice, places, status
from .exceptions import RewindError
from .git import Hooks, Repository
from .terminal import shortened

NAME = "post-checkout"
# Below the folder of the hooks.
FOLDER = "django-rewind"

# What manage.py is called with. Nobody can be asked, and checks would say each time
# what has nothing to do with the switch.
RUNS = {
    "report": "rewind_git_hook report",
    "rewind": "rewind --noinput --skip-checks --verbosity 0",
    "rewind-and-migrate": "rewind --migrate --noinput --skip-checks --verbosity 0",
}


class Theirs(str, Enum):
    """Where the hook is that was there before, as a command that calls it."""

    NOWHERE = ":"
    BELOW = 'DJANGO_REWIND_HOOK=theirs "$0" "$@"'
    BESIDE = f'[ ! -x "${{0%/*}}/{FOLDER}/{NAME}" ] || "${{0%/*}}/{FOLDER}/{NAME}" "$@"'


SHEBANG = b"#!/bin/sh\n"
SHELL_SCRIPT = re.compile(
    rb"#![ \t]*(/usr/bin/env[ \t]+|/[\w./-]*/)(sh|bash|dash|ksh)([ \t]+-\w+)*[ \t]*\n"
)

# git switch fails if its hook does, so nothing of ours may.
BLOCK = """\
# >>> django-rewind >>>
# Made by 'manage.py rewind_git_hook install', and 'remove' takes it out.
if [ "${{DJANGO_REWIND_HOOK-}}" != theirs ]; then
    exit_status=0
    {{ {theirs}; }} || exit_status=$?
    (
        old=${{1-}} new=${{2-}} is_switch=${{3-}}
        python={python}
        manage={manage}
        if [ "$is_switch" != 1 ] || [ "$old" = "$new" ]; then exit; fi
        # A new clone or working tree.
        case $old in *[!0]*) ;; *) exit ;; esac
        # A rebase takes the branch away for a moment, and its migrations with it.
        case $(git -c log.showSignature=false log -g -1 --format=%gs 2>/dev/null) in
        checkout:* | '') ;;
        *) exit ;;
        esac
        if [ -d "$(git rev-parse --git-path rebase-merge)" ]; then exit; fi
        if [ ! -f "$manage" ]; then exit; fi
        if [ ! -x "$python" ]; then
            echo "django-rewind: $python is gone." \\
                "Run 'manage.py rewind_git_hook install' again." >&2
            exit
        fi
        # Else other programs take the repository of the hook for theirs.
        unset $(git rev-parse --local-env-vars)
        exec 3>&1
        if said=$("$python" "$manage" {run} 2>&1 >&3); then
            if [ -n "$said" ]; then printf '%s\\n' "$said" >&2; fi
            exit
        fi
        line_break='
'
        case $said in
        *"Unknown command"*)
            said="django_rewind is not installed on this branch." ;;
        *"Traceback (most recent call last)"*)
            said="$manage fails on this branch: ${{said##*"$line_break"}}" ;;
        esac
        printf 'django-rewind: %s\\n' "${{said#CommandError: }}" >&2
    ) </dev/null || :
    exit "$exit_status"
fi
unset DJANGO_REWIND_HOOK
# <<< django-rewind <<<
"""
WRITTEN = re.compile(
    rb"^# >>> django-rewind >>>\n.*?^# <<< django-rewind <<<\n",
    re.DOTALL | re.MULTILINE,
)


class Installed(NamedTuple):
    path: Path
    # From the top of the working tree.
    manage: str
    theirs: Theirs
    is_changed: bool
    # Whether git would commit the hook.
    is_in_working_tree: bool


class Hook:
    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.kept = folder / FOLDER / NAME

    def text(self) -> bytes | None:
        """None if it is no file of its own."""
        if self.path.is_symlink() or not self.path.is_file():
            return None
        return self.path.read_bytes()

    def split(self) -> tuple[bytes, bytes, bytes] | None:
        """What is before our lines, these, and what is after; None without them."""
        match = WRITTEN.search(self.text() or b"")
        if match is None:
            return None
        return match.string[: match.start()], match[0], match.string[match.end() :]

    def theirs(self) -> Theirs:
        """Where to keep what is there now."""
        if not os.path.lexists(self.path):
            return Theirs.NOWHERE
        text = self.text()
        if text and SHELL_SCRIPT.match(text) and os.access(self.path, os.X_OK):
            return Theirs.BELOW
        return Theirs.BESIDE

    def check_kept(self) -> None:
        if os.path.lexists(self.kept):
            raise RewindError(
                f"{self.path} was replaced since django-rewind was installed there, "
                f"and {self.kept} is what was there before. Put together by hand what "
                "you need of both, and delete the second one. Nothing was changed."
            )

    def write(self, text: bytes) -> None:
        """At once, since git may run it meanwhile."""
        new = self.path.with_name(f"{NAME}.{FOLDER}")
        try:
            new.write_bytes(text)
            if os.path.lexists(self.path):
                shutil.copymode(self.path, new)
            else:
                new.chmod(0o755)
            os.replace(new, self.path)
        finally:
            new.unlink(missing_ok=True)

    def move_away(self) -> None:
        self.kept.parent.mkdir(exist_ok=True)
        _move(self.path, self.kept, lambda target: os.path.join(os.pardir, target))

    def move_back(self) -> None:
        _move(self.kept, self.path, lambda target: target[len(os.pardir) + 1 :])
        self.kept.parent.rmdir()


def install(mode: str) -> Installed:
    """Raises RewindError; then nothing was changed."""
    repository, hooks = _find()
    manage = _manage(repository)
    _check_whose(repository, hooks)
    hook = Hook(hooks.folder)
    with _writing(hooks.folder):
        theirs, is_changed = _install(hook, mode, manage)
    is_ours = hooks.folder.is_relative_to(hooks.common)
    return Installed(hook.path, manage, theirs, is_changed, not is_ours)


def remove() -> Path:
    """Raises RewindError; then nothing was changed."""
    _, hooks = _find()
    hook = Hook(hooks.folder)
    with _writing(hooks.folder):
        _remove(hook)
    return hook.path


def report() -> str:
    """What there is to rewind in the default database; "" if there is nothing."""
    if not conf.is_enabled():
        return ""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        connection.ensure_connection()
        answers = status.read(connection, compare=False).values()
    except RewindError as error:
        return shortened(str(error))
    except (DatabaseError, ImproperlyConfigured) as error:
        return f"No answer from database '{DEFAULT_DB_ALIAS}': {shortened(str(error))}"
    ghosts = status.ghosts_to_rewind(answers)
    return notice.of_ghosts(DEFAULT_DB_ALIAS, ghosts) if ghosts else ""


def _install(hook: Hook, mode: str, manage: str) -> tuple[Theirs, bool]:
    there = hook.split()
    if there is not None:
        before, block, after = there
        theirs = _theirs(block)
        new = _block(mode, manage, theirs)
        if new != block:
            hook.write(before + new + after)
        return theirs, new != block
    if os.path.lexists(hook.kept) and not os.path.lexists(hook.path):
        hook.move_back()
    hook.check_kept()
    theirs = hook.theirs()
    block = _block(mode, manage, theirs)
    hook.path.parent.mkdir(parents=True, exist_ok=True)
    if theirs is Theirs.BELOW:
        first, line_break, rest = (hook.text() or b"").partition(b"\n")
        hook.write(first + line_break + block + rest)
        return theirs, True
    if theirs is Theirs.BESIDE:
        hook.move_away()
    try:
        hook.write(SHEBANG + block)
    except OSError:
        if theirs is Theirs.BESIDE:
            hook.move_back()
        raise
    return theirs, True


def _remove(hook: Hook) -> None:
    there = hook.split()
    if there is None:
        if os.path.lexists(hook.path):
            hook.check_kept()
        elif os.path.lexists(hook.kept):
            return hook.move_back()
        raise RewindError(
            f"django-rewind is not installed in {hook.path}. Nothing was changed."
        )
    before, block, after = there
    theirs = _theirs(block)
    if theirs is Theirs.BELOW or before + after != SHEBANG:
        if theirs is Theirs.BESIDE:
            hook.check_kept()
        return hook.write(before + after)
    if os.path.lexists(hook.kept):
        return hook.move_back()
    return hook.path.unlink()


def _block(mode: str, manage: str, theirs: Theirs) -> bytes:
    text = BLOCK.format(
        theirs=theirs.value,
        python=quote(Path(sys.executable).as_posix()),
        manage=quote(manage),
        run=RUNS[mode],
    )
    return os.fsencode(text)


def _theirs(block: bytes) -> Theirs:
    for theirs in (Theirs.BELOW, Theirs.BESIDE):
        if os.fsencode(theirs.value) in block:
            return theirs
    return Theirs.NOWHERE


def _find() -> tuple[Repository, Hooks]:
    folder = places.project_folder()
    repository = git.find_repository(folder)
    if repository is None:
        raise RewindError(
            f"There is no git repository in {folder} or above it. Run this in a clone "
            "of the project."
        )
    return repository, git.find_hooks(repository)


def _manage(repository: Repository) -> str:
    path = places.project_folder() / "manage.py"
    if not path.is_file():
        raise RewindError(
            f"There is no manage.py in {path.parent}. Run this with the project's."
        )
    return path.relative_to(repository.top).as_posix()


def _check_whose(repository: Repository, hooks: Hooks) -> None:
    is_inside = any(map(hooks.folder.is_relative_to, (repository.top, hooks.common)))
    if hooks.scope in ("global", "system") and not is_inside:
        raise RewindError(
            f"The hooks of all your repositories are in {hooks.folder}: core.hooksPath "
            f"is set in the {hooks.scope} configuration of git. Give this repository a "
            "folder of its own, and call the others from there: "
            f"git config core.hooksPath {quote(str(hooks.common / 'hooks'))}"
        )


def _move(path: Path, to: Path, change: Callable[[str], str]) -> None:
    """A link to a relative path goes on leading there."""
    if not path.is_symlink():
        os.replace(path, to)
        return
    target = os.readlink(path)
    new = to.with_name(f"{to.name}.{FOLDER}")
    new.symlink_to(target if os.path.isabs(target) else change(target))
    os.replace(new, to)
    path.unlink()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RewindError(
            f"The hooks in {folder} cannot be changed: {error}. Grant the rights to "
            "write there, or see what core.hooksPath of git is set to."
        ) from error
