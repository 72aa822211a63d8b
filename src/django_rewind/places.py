"""Where the files of migrations may be, or have been, in git repositories."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from django.apps import apps

from . import git, source
from .exceptions import RewindError
from .git import Repository, Version
from .models import Key


class Place(NamedTuple):
    """Where the migrations of an app are."""

    # Their folder, which may be gone; None if the app is not installed.
    folder: Path | None
    # What the path of their folder may end with, or may have ended with.
    endings: tuple[str, ...]


class Candidate(NamedTuple):
    """A version of a file that may be that of a migration."""

    version: Version
    top: Path
    # The lower, the more the file is the app's own.
    rank: tuple[bool, bool, int]
    # Its name, were the project as it was then.
    module: str

    @property
    def file(self) -> tuple[Path, str]:
        return self.top, self.version.path


def project_folder() -> Path:
    """That of manage.py, else the current one; raises RewindError if that is gone."""
    try:
        script = Path(os.path.realpath((sys.argv or [""])[0]))
        is_there = script.name == "manage.py" and script.is_file()
        return script.parent if is_there else Path(os.path.realpath(os.curdir))
    except OSError as error:
        raise RewindError(f"The current folder cannot be read: {error}.") from error


def find_place(app_label: str) -> Place:
    endings = [f"{app_label}/migrations"]
    module = source.module_name(app_label, "")
    if module is None:
        return Place(None, tuple(endings))
    package = module.rstrip(".").split(".")
    app = apps.get_app_config(app_label)
    own = app.name.split(".")
    folder = None
    if package[: len(own)] == own:
        folder = Path(os.path.realpath(app.path), *package[len(own) :])
    endings = ["/".join(package), "/".join(package[-2:]), *endings]
    if package[-1] != "migrations":
        # MIGRATION_MODULES; any app has a folder named migrations.
        endings.append(package[-1])
    return Place(folder, tuple(dict.fromkeys(endings)))


def find_repositories(places: Iterable[Place]) -> list[Repository]:
    """The project's own, then those of apps that come from elsewhere.

    Raises RewindError if there is none, or git cannot read one.
    """
    folders = [project_folder(), *(place.folder for place in places if place.folder)]
    found: dict[Path, Repository] = {}
    for folder in dict.fromkeys(map(_existing, folders)):
        repository = git.find_repository(folder)
        if repository is not None:
            found.setdefault(repository.top, repository)
    if not found:
        raise RewindError(
            f"There is no git repository in {project_folder()} or above it. Run this "
            "in a clone of the project, with the settings of the same database."
        )
    return list(found.values())


def find_candidates(
    repository: Repository, keys: Iterable[Key], places: Mapping[str, Place]
) -> Iterator[tuple[Key, Candidate]]:
    """Each version of each file that may be one of the migrations, oldest first."""
    labels: dict[str, list[str]] = {}
    for app_label, name in keys:
        labels.setdefault(f"{name}.py", []).append(app_label)
    own = {label: _within(repository, place.folder) for label, place in places.items()}
    paths = {ending for place in places.values() for ending in place.endings}
    paths.update(path for path in own.values() if path)
    # Nearly always one, and git takes longer the more there are.
    folders = {path.rpartition("/")[2] for path in paths}
    path = _within(repository, project_folder())
    project = f"/{path}/" if path else "/"
    for version in git.find_versions(repository, sorted(folders)):
        folder, _, file = version.path.rpartition("/")
        for app_label in labels.get(file, ()):
            is_own = folder == own[app_label]
            ending = _ending(folder, places[app_label])
            if is_own or ending is not None:
                is_inside = f"/{folder}/".startswith(project)
                rank = (not is_own, not is_inside, ending or 0)
                module = _module(f"/{version.path}"[len(project) if is_inside else 1 :])
                key = app_label, file[: -len(".py")]
                yield key, Candidate(version, repository.top, rank, module)


def _ending(folder: str, place: Place) -> int | None:
    for index, ending in enumerate(place.endings):
        if f"/{folder}".endswith(f"/{ending}"):
            return index
    return None


def _module(path: str) -> str:
    parts = path[: -len(".py")].split("/")
    while not all(map(str.isidentifier, parts[:-1])):
        del parts[0]
    return ".".join(parts)


def _within(repository: Repository, folder: Path | None) -> str | None:
    """The path from the top of the repository, "" for the top, None if elsewhere."""
    try:
        path = folder.relative_to(repository.top).as_posix() if folder else None
    except ValueError:
        return None
    return "" if path == "." else path


def _existing(folder: Path) -> Path:
    return next(parent for parent in [folder, *folder.parents] if parent.is_dir())
