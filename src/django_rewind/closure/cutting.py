"""A module's text, cut into the statements of its top level."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from ..parsing import parse
from .bindings import (
    FUNCTIONS,
    Bindings,
    Context,
    Place,
    Reference,
    bindings,
    renamed_importers,
)
from .paths import place_of
from .running import ANY
from .side_effects import Effect, SideEffects
from .usage import Usage

# As Python splits lines; str.splitlines() would also split at form feeds.
LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
BLANK = " \t\f\r\n"


class Alias(NamedTuple):
    """One `b as c` of `from a import b as c`."""

    node: ast.alias
    reference: Reference

    @property
    def key(self) -> tuple[str, str]:
        return self.node.name, self.node.asname or ""

    def serves(self, path: tuple[str, ...]) -> bool:
        """Whether a path needs it: `import a.b` and `import a.c` both bind a."""
        if self.node.asname or self.reference.path:
            return path[0] == (self.node.asname or self.node.name)
        name = tuple(self.node.name.split("."))
        return all(one == other for one, other in zip(name, path))


class Piece:
    """One statement of the top level: its exact text, and what it does."""

    def __init__(
        self, text: str, node: ast.stmt, context: Context, *, keeps_tree: bool
    ) -> None:
        self.text = text
        self._tree = [node] if keeps_tree else None
        self.binds: Bindings = bindings([node], context)
        self.effect = Effect(frozenset(), connects_signals=False)
        self.is_block = isinstance(node, (*FUNCTIONS, ast.ClassDef))
        self.is_future = isinstance(node, ast.ImportFrom) and (
            node.module == "__future__"
        )
        self.is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        self._context = context
        self._import = node if isinstance(node, (ast.Import, ast.ImportFrom)) else None

    @cached_property
    def usage(self) -> Usage:
        usage = Usage(self._context)
        for node in self._tree or parse(self.text).body:
            usage.visit(node)
        return usage

    @cached_property
    def aliases(self) -> list[Alias]:
        """Of an import: its parts, which are kept one by one."""
        if self._import is None or self.is_future:
            return []
        found = []
        for alias in self._import.names:
            if isinstance(self._import, ast.Import):
                found.append(Alias(alias, Reference(alias.name)))
            elif alias.name != "*":
                module = self._context.resolve(self._import)
                found.append(Alias(alias, Reference(module, (alias.name,))))
        return found

    @cached_property
    def star(self) -> str:
        """The module of which it imports everything."""
        node = self._import
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            return self._context.resolve(node)
        return ""

    def with_aliases(self, keys: Iterable[tuple[str, str]]) -> str:
        """The import, of these only. A star import becomes one of names."""
        kept = set(keys)
        assert self._import is not None  # noqa: S101
        names = [alias.node for alias in self.aliases if alias.key in kept]
        if self.star:
            names = [ast.alias(name, asname or None) for name, asname in sorted(kept)]
        elif len(names) == len(self.aliases):
            return self.text
        if isinstance(self._import, ast.Import):
            return ast.unparse(ast.Import(names)) + "\n"
        node = ast.ImportFrom(self._import.module, names, self._import.level)
        return ast.unparse(node) + "\n"


class Module:
    """The pieces of one module's text, by what they bind and change.

    With `is_whole`, all of them are needed. Of others, few are, and those are parsed
    again then: trees are large.
    """

    def __init__(
        self, name: str, package: str, text: str, *, is_whole: bool = False
    ) -> None:
        text = text.lstrip("\ufeff")
        tree = parse(text)
        self.name = name
        self.package = package
        context = Context(
            name,
            package,
            constants=dict(_constants(tree.body)),
            places={},
            annotations_run=not _postpones_annotations(tree.body),
            walrus=":=" in text,
            renamed=renamed_importers(text),
        )
        context = context._replace(places=_places(tree.body, context))
        self.pieces = [
            Piece(part, node, context, keeps_tree=is_whole)
            for node, part in _parts(text, tree.body)
        ]
        self.binders: dict[str, list[int]] = {}
        for index, piece in enumerate(self.pieces):
            for bound in piece.binds:
                self.binders.setdefault(bound, []).append(index)
        self.stars = [i for i, piece in enumerate(self.pieces) if piece.star]
        if not is_whole:
            own = frozenset({ANY, *self.binders})
            effects = SideEffects(tree.body, (piece.binds for piece in self.pieces))
            for piece, node in zip(self.pieces, tree.body):
                effect = effects.of(node)
                piece.effect = effect._replace(changed=effect.changed & own)
        self._changers: dict[str, list[int]] = {}
        for index, piece in enumerate(self.pieces):
            for changed in piece.effect.changed:
                self._changers.setdefault(changed, []).append(index)
        # What a star import binds, and whether it binds what this module got by one.
        self.exports, self.exports_stars = self._exports()

    @property
    def changed(self) -> Collection[str]:
        """What its own statements change, besides binding it."""
        return self._changers.keys()

    def changers(self, name: str) -> list[int]:
        """The statements that may change what a name stands for."""
        return [*self._changers.get(name, ()), *self._changers.get(ANY, ())]

    def apart(self, some: set[int], shared: Callable[[str], bool]) -> set[int]:
        """Those of some statements that neither change nor are changed by the others.

        What is changed of a name that is shared does not count.
        """
        before: set[int] = set()
        while some != before:
            before = some
            for index, piece in enumerate(self.pieces):
                for name in piece.effect.changed:
                    binders = set(self.binders.get(name, ()))
                    if name == ANY:
                        some = some - {index}
                    elif not (shared(name) or {index, *binders} <= some):
                        some = some - {index, *binders}
        return some

    def _exports(self) -> tuple[set[str], bool]:
        indexes = self.binders.get("__all__")
        if indexes is None:
            return set(self.public), True
        names: set[str] = set()
        made_of_others = False
        for index in {*indexes, *self._changers.get("__all__", ())}:
            for node in ast.walk(parse(self.pieces[index].text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    names.add(node.value)
                elif isinstance(node, ast.Name) and node.id != "__all__":
                    # Such as a.__all__: at most what is public, or imported.
                    names.update(self.public, *self._imported())
                    made_of_others = True
        return names, made_of_others

    def _imported(self) -> Iterator[Iterable[str]]:
        return (piece.binds for piece in self.pieces if piece.aliases)

    @cached_property
    def public(self) -> list[str]:
        return [name for name in self.binders if not name.startswith("_")]


@lru_cache(maxsize=512)
def module(name: str, package: str, text: str) -> Module:
    """Kept for the next migration that needs the same text."""
    return Module(name, package, text)


def join(pieces: Iterable[tuple[Piece, str]]) -> str:
    text = ""
    before = None
    for piece, part in pieces:
        if before is not None and (piece.is_block or before.is_block):
            text += "\n\n"
        elif before is not None and before.is_import and not piece.is_import:
            text += "\n"
        text += part
        before = piece
    return text


def _parts(text: str, body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    lines = LINES.findall(text)
    end_before = 0
    for node in body:
        assert node.end_lineno is not None  # noqa: S101
        assert node.end_col_offset is not None  # noqa: S101
        start, last = node.lineno, lines[node.end_lineno - 1]
        head = _before(lines[start - 1], node.col_offset)
        tail = last[len(_before(last, node.end_col_offset)) :]
        if getattr(node, "decorator_list", None):
            start, head = _decorated_from(lines, start, end_before), ""
        if not head.strip(BLANK):
            while start - 1 > end_before and _is_comment(lines[start - 2]):
                start -= 1
            head = ""
        part = "".join(lines[start - 1 : node.end_lineno])[len(head) :]
        if tail.strip(BLANK) and not _is_comment(tail):
            # Another statement, or a line that goes on.
            part = part[: -len(tail)]
        yield node, part if part.endswith(("\n", "\r")) else part + "\n"
        end_before = node.end_lineno


def _decorated_from(lines: list[str], line: int, end_before: int) -> int:
    """The line of the first @, above the line of def or class."""
    first = line
    while line - 1 > end_before:
        line -= 1
        if lines[line - 1].lstrip(BLANK).startswith("@"):
            first = line
    return first


def _is_comment(line: str) -> bool:
    return line.lstrip(BLANK).startswith("#")


def _before(line: str, offset: int) -> str:
    """The part of a line before an offset of ast, which counts bytes."""
    return line.encode()[:offset].decode()


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, str):
                    yield target.id, node.value.value


def _places(body: list[ast.stmt], context: Context) -> dict[str, Place]:
    found: dict[str, Place] = {}
    context = context._replace(places=found)
    for node in body:
        if isinstance(node, ast.Assign) and (place := place_of(node.value, context)):
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            found.update(dict.fromkeys(names, place))
    return found


def _postpones_annotations(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in body
    )
