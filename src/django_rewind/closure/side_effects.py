"""What the statements of a module change when it is imported, besides binding names.

Through functions and classes of its own. Where that cannot be told, rather more.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import running
from .bindings import FUNCTIONS, Bindings, last_name, own_nodes
from .running import ANY, ATTRIBUTE, GIVEN, NONE, SELF, Block, Call, Names, Subclass

MARKS = frozenset({ATTRIBUTE, GIVEN, SELF})
# Methods that run when a class is called, used in `with`, or has a subclass.
CALLED = [
    "__new__",
    "__init__",
    "__post_init__",
    "__set_name__",
    "__enter__",
    "__exit__",
]
SUBCLASSED = ["__init_subclass__"]
OF_METACLASS = ["__prepare__", "__new__", "__init__"]
# What calls return is called again, nobody knows how often.
OFTEN = 99

CONSTANT = (ast.Constant, ast.JoinedStr, ast.Tuple, ast.UnaryOp)
DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
CONTAINERS = frozenset(
    {
        "Counter",
        "OrderedDict",
        "bytearray",
        "defaultdict",
        "deque",
        "dict",
        "list",
        "set",
    }
)


class Effect(NamedTuple):
    changed: Names
    connects_signals: bool


class _Run(NamedTuple):
    """A block that runs, with what its parameters stand for there."""

    block: Block
    times: int
    given: Names = NONE
    first: Names = NONE
    # The classes that it may be a method of.
    owners: Names = NONE
    # Whether its first parameter is a class that is being made.
    is_new: bool = False

    def merged(self, other: _Run) -> _Run:
        """Both at once: to tell them apart would take far too long."""
        return _Run(
            self.block,
            max(self.times, other.times),
            self.given | other.given,
            self.first | other.first,
            self.owners | other.owners,
            self.is_new and other.is_new,
        )


class SideEffects:
    def __init__(self, body: list[ast.stmt], binds: Iterable[Bindings]) -> None:
        self._imported = _imported(binds)
        self._functions: dict[str, list[running.Function]] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        self._values: dict[str, list[ast.expr]] = {}
        for name, node in _definitions(body):
            if isinstance(node, FUNCTIONS):
                self._functions.setdefault(name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                self._classes.setdefault(name, []).append(node)
            elif isinstance(node, ast.expr):
                self._values.setdefault(name, []).append(node)
        self._aliases = running.aliases(body, self._imported)
        self._foreign = self._imported.union(
            name for name, roots in self._aliases.items() if roots & self._imported
        )
        self._blocks: dict[ast.AST, Block] = {}
        self._methods_of: dict[str, dict[str, list[running.Function]]] = {}
        self._parts_of: dict[ast.expr, tuple[Names, list[ast.Lambda]]] = {}

    def of(self, statement: ast.stmt) -> Effect:
        block = running.statement(statement, self._foreign)
        changed: set[str] = set()
        connects = False
        known: dict[Block, _Run] = {}
        waiting = deque([_Run(block, 1)])
        while waiting:
            run = waiting.popleft()
            before = known.get(run.block)
            if before is not None:
                run = before.merged(run)
            if run == before:
                continue
            known[run.block] = run
            changed.update(self._changed_by(run))
            connects = connects or run.block.connects_signals
            waiting.extend(self._runs_with(run))
        return Effect(frozenset(self._with_aliases(changed)), connects)

    def _changed_by(self, run: _Run) -> Iterator[str]:
        block = run.block
        direct = block.changed | block.called
        if SELF in direct or (ATTRIBUTE in direct and not run.is_new):
            yield from run.first
        if GIVEN in direct:
            yield from filter(self._is_changeable, run.given)
        if {SELF, GIVEN} & block.passed_on:
            yield from filter(self._is_container, run.given)
        yield from block.changed
        # What a function has as an attribute is seldom the function's.
        yield from (n for n in block.called if not self._is_plain_function(n))
        yield from filter(self._is_container, block.passed_on)

    def _with_aliases(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self._aliases.get(name, ()))
        return found - self._imported - MARKS

    # What runs then

    def _runs_with(self, run: _Run) -> Iterator[_Run]:
        block = run.block
        for inner in block.run:
            yield run._replace(block=inner)
        if run.times > 1:
            for inner in block.inner:
                yield run._replace(block=inner, times=run.times - 1)
        for call in block.calls:
            yield from self._called_by(call, run)
        for subclass in block.subclassed:
            meant = Subclass(*(self._meant(names, run) for names in subclass))
            for one in self._subclassed(meant):
                yield one._replace(is_new=True)

    def _called_by(self, call: Call, run: _Run) -> Iterator[_Run]:
        meant = call._replace(given=self._meant(call.given, run))
        for name in call.names:
            if name == SELF:
                yield from self._called_on_itself(meant, run)
            elif name == GIVEN:
                for one in run.given:
                    yield from self._called(one, meant)
            else:
                yield from self._called(name, meant)

    def _meant(self, names: Names, run: _Run) -> Names:
        meant = names - {SELF, GIVEN}
        meant |= run.given if GIVEN in names else NONE
        return meant | (run.first if SELF in names else NONE)

    def _called_on_itself(self, call: Call, run: _Run) -> Iterator[_Run]:
        methods = [call.method] if call.method else [*CALLED, "__call__"]
        for owner in run.owners:
            for one in self._methods(owner, methods, call.given, run.first):
                yield one._replace(is_new=run.is_new)

    def _called(self, name: str, call: Call) -> Iterator[_Run]:
        given, method = call.given, call.method
        if name in self._classes:
            if method:
                yield from self._methods(name, [method], given, frozenset({name}))
            else:
                again = ["__call__"] if call.times > 1 else []
                yield from self._methods(name, [*CALLED, *again], given)
        for node in self._functions.get(name, ()) if not method else ():
            yield _Run(self._block(node), call.times, given)
        for value in self._values.get(name, ()):
            yield from self._value_called(name, value, call)

    def _value_called(self, name: str, value: ast.expr, call: Call) -> Iterator[_Run]:
        """A call of what an expression made, with whatever it is made of."""
        itself = frozenset({name})
        names, lambdas = self._parts(value)
        given = call.given | (names - self._imported)
        for one in names & self._classes.keys():
            methods = [call.method or "__call__"]
            yield from self._methods(one, methods, call.given, itself)
        if call.method:
            return
        for one in names & self._functions.keys():
            for node in self._functions[one]:
                yield _Run(self._block(node), OFTEN, given)
        for function in lambdas:
            yield _Run(self._block(function), OFTEN, given)

    def _parts(self, value: ast.expr) -> tuple[Names, list[ast.Lambda]]:
        if value not in self._parts_of:
            nodes = list(ast.walk(value))
            names = frozenset(n.id for n in nodes if isinstance(n, ast.Name))
            lambdas = [node for node in nodes if isinstance(node, ast.Lambda)]
            self._parts_of[value] = names, lambdas
        return self._parts_of[value]

    def _subclassed(self, subclass: Subclass) -> Iterator[_Run]:
        above = [a for base in subclass.bases for a in self._ancestors(base)]
        bases = subclass.bases.union(above)
        metaclasses = set(subclass.metaclass)
        for base in subclass.bases & self._classes.keys():
            yield from self._methods(base, SUBCLASSED, bases, bases)
        for name in above:
            metaclasses |= self._metaclasses(name)
        for name in metaclasses & self._classes.keys():
            yield from self._methods(name, OF_METACLASS, bases, bases | {name})

    def _methods(
        self, owner: str, names: list[str], given: Names, first: Names = NONE
    ) -> Iterator[_Run]:
        if owner not in self._methods_of:
            self._methods_of[owner] = self._find_methods(owner)
        owners = frozenset({owner})
        for name in names:
            for node in self._methods_of[owner].get(name, ()):
                block = self._block(node, is_method=True)
                yield _Run(block, OFTEN, given, first, owners)

    def _find_methods(self, owner: str) -> dict[str, list[running.Function]]:
        """With those of its bases, as far as they are here."""
        found: dict[str, list[running.Function]] = {}
        for name in self._ancestors(owner):
            for node in self._classes[name]:
                for method in own_nodes(node.body, walrus=False):
                    if isinstance(method, FUNCTIONS):
                        found.setdefault(method.name, []).append(method)
        return found

    def _ancestors(self, owner: str) -> list[str]:
        found: list[str] = []
        waiting = [owner]
        while waiting:
            name = waiting.pop()
            if name in self._classes and name not in found:
                found.append(name)
                for node in self._classes[name]:
                    waiting.extend(last_name(base) for base in node.bases)
        return found

    def _metaclasses(self, name: str) -> set[str]:
        return {
            last_name(keyword.value)
            for node in self._classes.get(name, ())
            for keyword in node.keywords
            if keyword.arg == "metaclass"
        }

    def _block(self, node: running.Function, *, is_method: bool = False) -> Block:
        if node not in self._blocks:
            if is_method:
                decorators = map(last_name, getattr(node, running.DECORATORS, ()))
                is_method = "staticmethod" not in decorators
            block = running.function(node, self._foreign, is_method=is_method)
            self._blocks[node] = block
        return self._blocks[node]

    # What can be changed

    def _is_plain_function(self, name: str) -> bool:
        nodes = self._functions.get(name, [])
        return (
            bool(nodes)
            and name not in self._classes
            and name not in self._values
            and not any(getattr(node, running.DECORATORS) for node in nodes)
        )

    def _is_changeable(self, name: str) -> bool:
        values = self._values.get(name, [])
        return name == ANY or not values or not all(map(_is_constant, values))

    def _is_container(self, name: str) -> bool:
        return any(map(self._makes_container, self._values.get(name, ())))

    def _makes_container(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Call):
            name = last_name(value.func)
            return name in CONTAINERS or name in self._classes
        return isinstance(value, DISPLAYS)


def _imported(binds: Iterable[Bindings]) -> Names:
    return frozenset(
        name for bindings in binds for name, found in bindings.items() if found
    )


def _is_constant(value: ast.expr) -> bool:
    return isinstance(value, CONSTANT)


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in own_nodes(body, walrus=True):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name, node
        else:
            targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            for target in targets:
                if isinstance(target, ast.Name) and value is not None:
                    yield target.id, value
