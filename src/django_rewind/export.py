"""Stored code as files again. Runs and parses none of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from . import needs, signing, source
from .exceptions import Problem, RewindError, Unreachable
from .models import MigrationCode
from .terminal import on_one_line

# No separator, no drive, no "..", nothing hidden.
NAME = re.compile(r"\w([\w -]*[\w-])?")
DATA_NAME = re.compile(r"\w([\w .-]*[\w-])?")
# On Windows, whatever their extension.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
NAME_LIMIT = 200

PACKAGE = ".__init__"


class File(NamedTuple):
    """What is written, and where below the folder."""

    path: Path
    data: bytes


class Target(NamedTuple):
    """A file that may be written. The path begins with the folder."""

    path: Path
    data: bytes
    exists: bool
    is_same: bool


def check(code: MigrationCode) -> None:
    """Raise NotTrusted or Unreachable for what must not be given out as its code.

    Whoever writes a file back is going to run it.
    """
    signing.verify(code)
    if code.gap:
        raise Unreachable(
            f"it was stored without code: {code.gap}.", "There is nothing to export."
        )


def collect(codes: Iterable[MigrationCode]) -> tuple[list[File], list[Problem]]:
    """The files of stored migrations, and why some have none."""
    found: dict[str, File] = {}
    problems = []
    for code in codes:
        try:
            found = _with(found, _files_of(code))
        except Unreachable as reason:
            problems.append(Problem(*code.key, reason.fact, reason.remedy))
    return list(found.values()), problems


def _with(found: dict[str, File], files: Iterable[File]) -> dict[str, File]:
    found = dict(found)
    for file in files:
        # Some file systems do not tell case.
        if found.setdefault(str(file.path).casefold(), file) != file:
            raise Unreachable(
                f"something else has {file.path} as its file.",
                "Export it to a folder of its own.",
            )
    return found


def _files_of(code: MigrationCode) -> Iterator[File]:
    check(code)
    if fact := needs.damage(code):
        raise Unreachable(fact, "Print its own code with --stdout.")
    yield File(_path_of_module(source.module_of(code)), encode(code.source_code))
    app, name = _checked([code.app_label, code.migration_name], NAME)
    # No module has a dot in its name, so that nothing else can be in this folder.
    yield from _needed_files(Path("needed", f"{app}.{name}"), code.needed)


def _needed_files(folder: Path, needed: Mapping[str, str]) -> Iterator[File]:
    for name, text in needed.items():
        if "/" in name:
            path = Path(*_checked(name.removeprefix("./").split("/"), DATA_NAME))
            yield File(folder / path, text.encode())
        elif text or not name.endswith(PACKAGE) or name[: -len(PACKAGE)] not in needed:
            is_package = f"{name}{PACKAGE}" in needed
            path = _path_of_module(f"{name}{PACKAGE}" if is_package else name)
            yield File(folder / path, encode(text))


def _path_of_module(name: str) -> Path:
    *folders, last = _checked(name.split("."), NAME)
    return Path(*folders, f"{last}.py")


def _checked(parts: list[str], allowed: re.Pattern[str]) -> list[str]:
    for part in parts:
        if (
            not allowed.fullmatch(part)
            or RESERVED.fullmatch(part)
            or len(part.encode()) > NAME_LIMIT
        ):
            raise Unreachable(
                f"'{part}' in its name cannot be that of a file.",
                "Print its code with --stdout.",
            )
    return parts


def encode(text: str) -> bytes:
    """In the encoding that the text declares (PEP 263), as its file was."""
    try:
        data = text.encode(source.encoding_of(text.encode()))
        if source.decode(data) == text:
            return data
    except (LookupError, SyntaxError, UnicodeError):
        pass
    raise Unreachable(
        "it cannot be written in the encoding that it declares.",
        "Print its code with --stdout.",
    )


def prepare(files: Iterable[File], folder: Path, *, force: bool) -> list[Target]:
    """Raise RewindError, naming each file that stands in the way."""
    targets, reasons = [], []
    for file in files:
        try:
            targets.append(_prepare(file, folder, force=force))
        except (OSError, RuntimeError, RewindError) as error:
            # RuntimeError: symbolic links in a circle.
            reasons.append(on_one_line(f"{file.path}: {error}"))
    if reasons:
        lines = "\n".join(f"  {reason}" for reason in reasons)
        raise RewindError(
            f"Nothing was written to '{on_one_line(str(folder))}'.\n{lines}"
        )
    return targets


def _prepare(file: File, folder: Path, *, force: bool) -> Target:
    path = folder / file.path
    if folder.resolve() not in path.resolve().parents:
        raise RewindError("a symbolic link leads out of the folder.")
    if any(parent.is_symlink() and not parent.exists() for parent in path.parents):
        # Python 3.13 resolves them too, and those in a circle.
        raise RewindError("a symbolic link leads nowhere.")
    if not next(parent for parent in path.parents if parent.exists()).is_dir():
        raise RewindError("what should be its folder is a file.")
    exists = path.exists()
    if exists and not path.is_file():
        raise RewindError("there is something that is no file.")
    is_same = exists and path.read_bytes() == file.data
    if exists and not is_same and not force:
        raise RewindError("it exists and is different. --force overwrites it.")
    return Target(path, file.data, exists, is_same)


def write(target: Target) -> None:
    """Raises RewindError if the file system refuses, or a file came up meanwhile."""
    try:
        target.path.parent.mkdir(parents=True, exist_ok=True)
        with target.path.open("wb" if target.exists else "xb") as file:
            file.write(target.data)
    except OSError as error:
        raise RewindError(f"{target.path} could not be written: {error}") from error
