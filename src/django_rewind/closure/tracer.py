"""Follows names through modules, and cuts each module to what is needed of it."""

from __future__ import annotations

import builtins
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from django.db.models import Model

from ..source import UNPARSABLE
from . import cutting, declared
from .bindings import Reference
from .outside import is_outside
from .usage import Usage

# Stands for the fact that a module is a package: relative imports and its own path
# depend on it.
PACKAGE = ".__init__"
RELATIVE = re.compile(r"\bfrom[\s\\]*\.|\b__package__\b|\b__file__\b")
# Every module has them, without a statement that binds them.
GIVEN = frozenset(
    [f"__{name}__" for name in ("builtins", "cached", "dict", "doc", "file", "loader")]
    + [f"__{name}__" for name in ("name", "package", "path", "spec")]
)
# Which tell where it is.
PLACES = frozenset({"__file__", "__package__", "__path__"})

Fact = Literal[
    "absent",
    "a model",
    "a receiver",
    "not Python",
    "imports the unknown",
    "lists the unknown",
    "looks itself up",
]


class Lack(NamedTuple):
    """What is needed and not kept: a module, or a name of it."""

    module: str
    name: str
    fact: Fact = "absent"


class TooMuch(Exception):
    """What is kept has more bytes than it may have."""


def is_model(module: str, name: str) -> bool:
    """Whether an imported module defines a model under this name.

    Defined once more it would be registered once more; an abstract one is not.
    """
    value = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    return (
        isinstance(value, type)
        and issubclass(value, Model)
        and value.__module__ == module
        and hasattr(value, "_meta")
        and not value._meta.abstract
    )


class Cut:
    """What is kept of one module."""

    def __init__(self, module: cutting.Module) -> None:
        self.module = module
        self.whole: set[int] = set()
        # Of an import: the aliases.
        self.parts: dict[int, set[tuple[str, str]]] = {}
        # Named by an import, so that it must be there even with nothing in it.
        self.is_imported = False

    def text(self) -> str:
        kept = []
        for index, piece in enumerate(self.module.pieces):
            if index in self.whole or (piece.is_future and (self.whole or self.parts)):
                kept.append((piece, piece.text))
            elif index in self.parts:
                kept.append((piece, piece.with_aliases(self.parts[index])))
        return cutting.join(kept)

    def usages(self) -> Iterator[Usage]:
        for index in sorted(self.whole):
            yield self.module.pieces[index].usage


class Tracer:
    """Takes names with everything that they need, as far as there are texts.

    `read` returns the text of a module, None if it has none; asked for
    "a.b.__init__", any text if a.b is a package. What it returned for one tracer,
    cut, gives the same cut to another one.
    """

    def __init__(
        self,
        read: Callable[[str], str | None],
        limit: int | None = None,
        is_model: Callable[[str, str], bool] = is_model,
    ) -> None:
        self._read = read
        self._limit = limit
        self._is_model = is_model
        self._size = 0
        self._cuts: dict[str, Cut | None] = {}
        self._root = ""
        self._queue: deque[tuple[str, Reference]] = deque()
        self._seen: set[tuple[str, Reference]] = set()
        self._lacks: dict[Lack, None] = {}
        self._excused: set[Lack] = set()
        # Which module uses which other one in a way that does not tell what of it.
        self._vaguely_used: dict[tuple[str, str], None] = {}
        # Module → others of which it asks where they are.
        self.places: dict[str, dict[str, None]] = {}

    def follow(self, module: str, text: str) -> None:
        """Take what a whole module needs, which is itself not among the texts."""
        package = self._package_of(module)
        whole = cutting.Module(module, package, text, is_whole=True)
        cut = self._cuts[module] = Cut(whole)
        self._root = module
        for index in range(len(cut.module.pieces)):
            self._keep(cut, index)
        self._run()

    def take(self, module: str, name: str) -> None:
        """Take a name, "Choices.default" as well as "Choices"."""
        self._ask("", Reference(module, tuple(name.split("."))))
        self._run()

    def texts(self) -> dict[str, str]:
        texts = {}
        for name in sorted(self._cuts):
            cut = self._cuts[name]
            if cut is None or name == self._root:
                continue
            text = cut.text()
            is_place = False
            if text or cut.is_imported:
                texts[name] = text
                is_place = any(name in asked_for for asked_for in self.places.values())
            if cut.module.package == name and (is_place or RELATIVE.search(text)):
                texts[name + PACKAGE] = ""
        return texts

    @property
    def lacks(self) -> list[Lack]:
        return [lack for lack in self._lacks if lack not in self._excused]

    def usages(self) -> Iterator[tuple[str, list[Usage]]]:
        """Module → what each piece that is kept of it uses."""
        for name in sorted(self._cuts):
            cut = self._cuts[name]
            if cut is not None and cut.whole:
                yield name, list(cut.usages())

    # The queue

    def _ask(self, user: str, reference: Reference) -> None:
        # What was asked for once with an import and once without is two things.
        if (user, reference) not in self._seen:
            self._seen.add((user, reference))
            self._queue.append((user, reference))

    def _run(self) -> None:
        while self._queue:
            while self._queue:
                self._follow(*self._queue.popleft())
            for user, module in list(self._vaguely_used):
                for name in self._probably_used(user, module):
                    self._ask(module, Reference(module, (name,), imported=True))

    def _follow(self, user: str, reference: Reference) -> None:
        module, path = reference.module, reference.path
        while is_outside(module):
            cut = self._cut(module)
            if not path:
                return self._reach(user, cut, reference._replace(module=module))
            if cut is not None and self._resolve(cut, path, reference):
                return None
            depth = self._depth_of_submodule(module, path)
            if not depth:
                return self._fall_back(user, module, path[0], reference)
            module, path = ".".join([module, *path[:depth]]), path[depth:]
        return None

    def _depth_of_submodule(self, module: str, path: tuple[str, ...]) -> int:
        """How much of a path leads to the next module, 0 if nothing does.

        Of a package of which nothing is kept there is no text among stored ones.
        """
        for depth in range(1, len(path) + 1):
            if self._cut(".".join([module, *path[:depth]])) is not None:
                return depth
        return 0

    def _reach(self, user: str, cut: Cut | None, reference: Reference) -> None:
        """A reference that ends at a module."""
        if cut is None:
            if reference.imported:
                self._lack(Lack(reference.module, ""), reference, user)
        elif reference.imported:
            cut.is_imported = True
        else:
            self._vaguely_used[user, reference.module] = None

    def _resolve(self, cut: Cut, path: tuple[str, ...], reference: Reference) -> bool:
        """Keep what binds the first name of a path, False if nothing does."""
        module, name = cut.module, path[0]
        if module.name == self._root:
            # All of it is kept; only where its imports lead is left to follow.
            for index in module.binders.get(name, ()):
                self._pass_on(cut, index, path, reference)
            return name in module.binders
        if self._makes_model(module, name):
            self._lack(Lack(module.name, name, "a model"), Reference(""))
            return True
        if name in module.binders:
            for index in module.binders[name]:
                self._keep_binder(cut, index, path, reference)
            for index in module.changers(name):
                if not self._must_not_run(cut, index):
                    self._keep(cut, index)
            return True
        for index in reversed(module.stars):
            piece = module.pieces[index]
            if name in self._exports(piece.star):
                cut.parts.setdefault(index, set()).add((name, ""))
                self._ask(module.name, reference._replace(module=piece.star, path=path))
                return True
        return False

    def _keep_binder(
        self, cut: Cut, index: int, path: tuple[str, ...], reference: Reference
    ) -> None:
        piece = cut.module.pieces[index]
        if self._must_not_run(cut, index):
            return
        if not piece.aliases:
            self._keep(cut, index)
        for alias in piece.aliases:
            if alias.serves(path):
                cut.parts.setdefault(index, set()).add(alias.key)
                self._ask(cut.module.name, alias.reference._replace(imported=True))
        self._pass_on(cut, index, path, reference)

    def _makes_model(self, module: cutting.Module, name: str) -> bool:
        return self._is_model(module.name, name) or declared.is_model(
            module, name, self._module
        )

    def _module(self, name: str) -> cutting.Module | None:
        cut = self._cut(name)
        return None if cut is None else cut.module

    def _must_not_run(self, cut: Cut, index: int) -> bool:
        """What it makes would be in the project's registries once more."""
        module, piece = cut.module.name, cut.module.pieces[index]
        models = [name for name in piece.binds if self._makes_model(cut.module, name)]
        for name in models:
            self._lack(Lack(module, name, "a model"), Reference(""))
        if piece.effect.connects_signals and not models:
            name = next(iter(piece.binds), "")
            self._lack(Lack(module, name, "a receiver"), Reference(""))
        return bool(models) or piece.effect.connects_signals

    def _registers(self, module: cutting.Module, index: int) -> bool:
        piece = module.pieces[index]
        return piece.effect.connects_signals or any(
            self._makes_model(module, name) for name in piece.binds
        )

    def _pass_on(
        self, cut: Cut, index: int, path: tuple[str, ...], reference: Reference
    ) -> None:
        name = cut.module.name
        for module, onward in self._meanings(cut.module, index, path):
            self._ask(name, reference._replace(module=module, path=onward))

    def _meanings(
        self, module: cutting.Module, index: int, path: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Where the imports of a statement lead from a path."""
        for target in module.pieces[index].binds[path[0]]:
            submodule = f"{target.module}.{path[0]}"
            if target.path == path[:1] and (
                target.module == module.name
                or (
                    self._cut(submodule)
                    and self._comes_from(module.name, target.module, path[0])
                )
            ):
                # `from . import x` in a package, or in a module that this imports x
                # from: its submodule, not its own x.
                yield submodule, path[1:]
            else:
                yield target.module, target.path + path[1:]

    def _comes_from(
        self, source: str, module: str, name: str, before: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a module has a name by imports that lead to another module."""
        cut = self._cut(module)
        if module == source or cut is None or module in before:
            return module == source
        origins = {
            one.module
            for index in cut.module.binders.get(name, ())
            for one in cut.module.pieces[index].binds[name]
            if one.path == (name,)
        }
        if name not in cut.module.binders:
            stars = (cut.module.pieces[index].star for index in cut.module.stars)
            origins = {star for star in stars if name in self._exports(star)}
        inside = before | {module}
        return any(self._comes_from(source, one, name, inside) for one in origins)

    def _keep(self, cut: Cut, index: int) -> None:
        if index in cut.whole:
            return
        cut.whole.add(index)
        name, piece = cut.module.name, cut.module.pieces[index]
        if name != self._root:
            self._grow(len(piece.text.encode()))
        for reference in piece.usage.references:
            self._ask(name, reference)
        for reference in piece.usage.annotated:
            if self._can_be_kept(reference.module, reference.path):
                self._ask(name, reference)
        for star in piece.usage.stars:
            self._take_star(name, star)
        if piece.usage.imports_the_unknown:
            self._lack(Lack(name, "", "imports the unknown"), Reference(""))
        is_cut = name != self._root
        if piece.usage.looks_itself_up or (piece.usage.looks_up_its_names and is_cut):
            self._lack(Lack(name, "", "looks itself up"), Reference(""))

    def _can_be_kept(
        self,
        module: str,
        path: tuple[str, ...],
        before: frozenset[tuple[str, tuple[str, ...]]] = frozenset(),
    ) -> bool:
        """Whether what an annotation names is there, and not a model or the like."""
        if not is_outside(module):
            return True
        cut = self._cut(module)
        if not path or (module, path) in before:
            return cut is not None and not path
        depth = self._depth_of_submodule(module, path)
        onward = [(".".join([module, *path[:depth]]), path[depth:])] if depth else []
        if cut is not None and path[0] in cut.module.binders:
            indexes = cut.module.binders[path[0]]
            if any(self._registers(cut.module, index) for index in indexes):
                return False
            onward = [m for i in indexes for m in self._meanings(cut.module, i, path)]
            if not onward:
                return True
        elif cut is not None:
            stars = (cut.module.pieces[index].star for index in cut.module.stars)
            onward += [(s, path) for s in stars if path[0] in self._exports(s)]
        inside = before | {(module, path)}
        return any(self._can_be_kept(*one, inside) for one in onward)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._limit is not None and self._size > self._limit:
            raise TooMuch

    def _fall_back(
        self, user: str, module: str, name: str, reference: Reference
    ) -> None:
        """Neither a statement nor a file: how else a name can come to be there."""
        cut = self._cut(module)
        if name in PLACES:
            self.places.setdefault(user, {})[module] = None
        if name in GIVEN or (user == module and hasattr(builtins, name)):
            return
        if cut is None:
            if reference.imported:
                self._lack(Lack(module, ""), reference, user)
            return
        unread = [
            index
            for index in cut.module.stars
            if self._cut(cut.module.pieces[index].star) is None
        ]
        for index in unread:
            self._keep(cut, index)
        if unread or user == module:
            return
        if "__getattr__" in cut.module.binders:
            self._resolve(cut, ("__getattr__",), reference)
        else:
            self._lack(Lack(module, name), reference, user)

    def _lack(self, lack: Lack, reference: Reference, user: str = "") -> None:
        if lack._replace(fact="not Python") in self._lacks:
            return
        if reference.optional:
            self._excused.add(lack)
        # What nobody imported did not run: packages import what they can do without.
        elif user in ("", self._root) or user in sys.modules:
            self._lacks[lack] = None

    # Everything of a module, or what is probably used of it

    def _take_star(self, user: str, module: str) -> None:
        cut = self._cut(module)
        if cut is None:
            return
        for name in sorted(self._exports(module)):
            self._ask(user, Reference(module, (name,), imported=True, optional=True))
        if "__all__" in cut.module.binders:
            self._ask(user, Reference(module, ("__all__",)))
        for index in cut.module.stars:
            if self._cut(cut.module.pieces[index].star) is None:
                self._keep(cut, index)

    def _exports(self, module: str, inside: frozenset[str] = frozenset()) -> set[str]:
        """What a star import of a module binds."""
        cut = self._cut(module)
        if cut is None or module in inside:
            return set()
        indexes = cut.module.stars if cut.module.exports_stars else ()
        stars = (cut.module.pieces[index].star for index in indexes)
        return cut.module.exports.union(
            *(self._exports(star, inside | {module}) for star in stars)
        )

    def _probably_used(self, user: str, module: str) -> list[str]:
        used = self._cut(module)
        assert used is not None  # noqa: S101
        names = self._exports(module) | set(used.module.binders)
        using = self._cut(user) if user else None
        words = {w for usage in using.usages() for w in usage.words} if using else set()
        return sorted(names & words) or sorted(names)

    # Texts

    def _cut(self, module: str) -> Cut | None:
        if module not in self._cuts:
            self._cuts[module] = None
            text = self._read(module) if is_outside(module) else None
            if text is not None:
                try:
                    package = self._package_of(module)
                    self._cuts[module] = Cut(cutting.module(module, package, text))
                except UNPARSABLE:
                    self._lack(Lack(module, "", "not Python"), Reference(""))
        return self._cuts[module]

    def _package_of(self, module: str) -> str:
        is_package = self._read(module + PACKAGE) is not None
        return module if is_package else module.rpartition(".")[0]
