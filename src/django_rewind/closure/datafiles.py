"""The data files that a piece of Python names: sql/x.sql beside it."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from .usage import Usage

LISTERS = frozenset({"glob", "rglob", "iterdir", "listdir", "scandir", "walk"})
CODE = frozenset({".py", ".pyc"})
MOST_PATH = 255


def named_by(
    module: str, usages: list[Usage], find: Callable[[str], ModuleSpec | None]
) -> Iterator[tuple[str, Path]]:
    """Name, relative to the directory of the top-level package, and file."""
    anchors = [anchor for usage in usages for anchor in usage.anchors]
    if not anchors and not any(usage.uses_file for usage in usages):
        return
    names: dict[str, bool] = {}
    for usage in usages:
        for name, is_path in usage.paths.items():
            names[name] = names.get(name, False) or is_path
    folders = {folder for usage in usages for folder in usage.folders}
    if any(not LISTERS.isdisjoint(usage.words) for usage in usages):
        folders.update(name for name, is_path in names.items() if is_path)
    for anchor in dict.fromkeys([module, *anchors]):
        place = _place(anchor, find(anchor))
        if place is not None:
            yield from _Search(*place, names, folders).found()


class _Search:
    def __init__(
        self, file: Path, root: Path, names: dict[str, bool], folders: set[str]
    ) -> None:
        self.root = root
        self.folders = folders
        self.names = {n: p for n, p in names.items() if _may_be_path(n, p)}
        # with_suffix(".sql")
        self.names.update(
            {file.stem + n: False for n in names if n[:1] == "." and n[1:].isalnum()}
        )
        above = [file.parent, *file.parent.parents]
        self.bases = above[: above.index(root) + 1]

    def found(self) -> Iterator[tuple[str, Path]]:
        yield from self._files(self.bases)
        for folder in self._folders():
            # SQL = HERE / "sql", and SQL / "x.sql" elsewhere.
            yield from self._files([folder])
            if any(folder.match(name) for name in self.folders):
                for path in sorted(folder.iterdir()):
                    if _may_be_listed(path):
                        yield self._key(path), path

    def _files(self, bases: list[Path]) -> Iterator[tuple[str, Path]]:
        for path in self._existing(bases, list(self.names)):
            if path.is_file():
                yield self._key(path), path

    def _folders(self) -> Iterator[Path]:
        certain = [name for name, is_path in self.names.items() if is_path]
        for path in self._existing(self.bases, certain):
            if path.is_dir() and path not in self.bases:
                yield path

    def _existing(self, bases: list[Path], names: list[str]) -> Iterator[Path]:
        for name in names:
            for base in bases:
                path = Path(os.path.normpath(base / name.lstrip("/")))
                if self.root in path.parents and path.exists():
                    yield path

    def _key(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        # Without a slash it would be a module.
        return name if "/" in name else f"./{name}"


def _may_be_listed(path: Path) -> bool:
    # What begins with a dot is seldom meant, such as .gitkeep.
    is_meant = path.suffix not in CODE and not path.name.startswith(".")
    return is_meant and path.is_file()


def _may_be_path(name: str, is_path: bool) -> bool:
    return (
        0 < len(name) <= MOST_PATH
        and name.isprintable()
        and (is_path or "." in name or "/" in name)
    )


def _place(module: str, spec: ModuleSpec | None) -> tuple[Path, Path] | None:
    """The file of a module, and the directory that holds its top-level package."""
    if spec is None or not spec.has_location or not spec.origin:
        return None
    file = Path(spec.origin)
    depth = module.count(".") + (spec.submodule_search_locations is not None)
    return (file, file.parents[depth]) if depth < len(file.parents) else None
