"""The data files that a piece of Python names: sql/x.sql beside it."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePath

from .paths import is_pattern
from .usage import Usage

LISTERS = frozenset(
    {"contents", "glob", "rglob", "iterdir", "listdir", "scandir", "walk"}
)
CODE = frozenset({".py", ".pyc"})
MOST_PATH = 255


def named_by(
    modules: Mapping[str, list[Usage]],
    places: Mapping[str, Collection[str]],
    find: Callable[[str], ModuleSpec | None],
) -> Iterator[tuple[str, Path]]:
    """Name, relative to the directory of the top-level package, and file.

    A name may be in another module than what it is relative to: SQL / "x.sql",
    load("x.sql"). `places`: of which other modules a module asks where they are.
    """
    everything = [usage for usages in modules.values() for usage in usages]
    names = {name for usage in everything for name in usage.paths if _is_data(name)}
    patterns = {pattern for usage in everything for pattern in usage.patterns}
    for module, usages in modules.items():
        anchors = places.get(module, ())
        if anchors or any(usage.uses_file for usage in usages):
            yield from _relative_to(module, anchors, usages, find, names, patterns)


def _relative_to(
    module: str,
    anchors: Collection[str],
    usages: list[Usage],
    find: Callable[[str], ModuleSpec | None],
    names_anywhere: set[str],
    patterns_anywhere: set[str],
) -> Iterator[tuple[str, Path]]:
    names = dict.fromkeys(sorted(names_anywhere), False)
    for usage in usages:
        for name, is_path in usage.paths.items():
            names[name] = names.get(name, False) or is_path
    patterns = {pattern for usage in usages for pattern in usage.patterns}
    if any(not LISTERS.isdisjoint(usage.words) for usage in usages):
        patterns.update(f"{name}/*" for name, is_path in names.items() if is_path)
    listings = {listing for usage in usages for listing in usage.listings}
    for anchor in dict.fromkeys([module, *anchors]):
        place = _place(anchor, find(anchor))
        if place is not None:
            search = _Search(*place, names, patterns, patterns_anywhere)
            yield from search.found()
            for folder, pattern in sorted(listings):
                if anchor == (folder.module or module):
                    yield from search.listed(folder.path, pattern)


def lists_the_unknown(usages: list[Usage], places: Collection[str]) -> bool:
    """Whether files that lie beside a module may be listed, nobody knows which."""
    knows_places = bool(places) or any(usage.uses_file for usage in usages)
    names_folders = any(is_path for u in usages for is_path in u.paths.values())
    is_listed = any(usage.lists_the_unknown for usage in usages)
    return is_listed and knows_places and not names_folders


class _Search:
    def __init__(
        self,
        file: Path,
        root: Path,
        names: dict[str, bool],
        patterns: set[str],
        patterns_in_folders: set[str],
    ) -> None:
        self.file = file
        self.root = root
        self.patterns = patterns
        self.patterns_in_folders = patterns | patterns_in_folders
        self.names = {n: p for n, p in names.items() if _may_be_path(n, p)}
        # with_suffix(".sql")
        self.names.update(
            {file.stem + n: False for n in names if n[:1] == "." and n[1:].isalnum()}
        )
        above = [file.parent, *file.parent.parents]
        self.bases = above[: above.index(root) + 1]

    def found(self) -> Iterator[tuple[str, Path]]:
        yield from self._files(self.bases)
        for pattern in sorted(self.patterns):
            yield from self._matching(pattern, self._bases_of(pattern))
        for folder in self._folders():
            # SQL = HERE / "sql", and SQL / "x.sql" elsewhere.
            yield from self._files([folder])
            for pattern in sorted(self.patterns_in_folders):
                yield from self._matching(pattern, [folder])

    def listed(self, folder: str, pattern: str) -> Iterator[tuple[str, Path]]:
        path = Path(os.path.normpath(self.file / folder))
        # What lies beside the packages is anything.
        if self.root in path.parents:
            yield from self._matching(pattern, [path])

    def _bases_of(self, pattern: str) -> list[Path]:
        if pattern.startswith(".."):
            return self.bases[:1]
        # What lies beside the packages is taken only if its folder is told.
        return self.bases[:-1] if is_pattern(pattern.partition("/")[0]) else self.bases

    def _matching(self, pattern: str, bases: list[Path]) -> Iterator[tuple[str, Path]]:
        for base in bases:
            with suppress(OSError, ValueError, NotImplementedError):
                for found in sorted(base.glob(pattern)):
                    path = Path(os.path.normpath(found))
                    if self.root in path.parents and _may_be_listed(path):
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


def _may_be_path(name: str, is_path: bool = False) -> bool:
    return (
        0 < len(name) <= MOST_PATH
        and name.isprintable()
        and (is_path or "." in name or "/" in name)
    )


def _is_data(name: str) -> bool:
    """Whether it looks like a data file's name, and like nothing else."""
    suffix = PurePath(name).suffix
    return (
        _may_be_path(name)
        and bool(suffix or "/" in name)
        and suffix not in CODE
        and not any(map(str.isspace, name))
    )


def _place(module: str, spec: ModuleSpec | None) -> tuple[Path, Path] | None:
    """The file of a module, and the directory that holds its top-level package."""
    folders = [*(spec.submodule_search_locations or ())] if spec is not None else []
    if spec is not None and spec.has_location and spec.origin:
        file = Path(spec.origin)
    elif folders:
        # A folder without __init__.py.
        file = Path(folders[0]) / "__init__.py"
    else:
        return None
    depth = module.count(".") + bool(folders)
    return (file, file.parents[depth]) if depth < len(file.parents) else None
