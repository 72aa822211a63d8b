"""What a block of code does in the moment that it runs, told from its syntax tree."""

from __future__ import annotations

import ast
import builtins
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
    Set,
)
from typing import NamedTuple, Union

from .bindings import (
    FUNCTIONS,
    SCOPES,
    is_own_module,
    is_own_namespace,
    last_name,
    never_runs,
    own_nodes,
)

Names = frozenset[str]
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda]
# What the names in a scope stand for, as far as it is told by others.
Scope = dict[str, Names]

# In the place of a name: any one of the module, and the parameters of a function.
ANY = "any name"
SELF = "its first parameter"
GIVEN = "what it is given"
# self.x = …, which of a class that is being made changes no base.
ATTRIBUTE = "an attribute of its first parameter"
NONE: Names = frozenset()

DECORATORS = "decorator_list"
PARTS = (ast.Attribute, ast.Subscript)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SETTERS = frozenset({"setattr", "delattr", "__setattr__", "update_wrapper"})
# As a statement of its own, any method may do so.
CHANGING = frozenset(
    {*dir(MutableMapping), *dir(MutableSequence), *dir(MutableSet), "sort"}
    | {"appendleft", "extendleft", "popleft"}
).difference(dir(Mapping), dir(Sequence), dir(Set))
LOGGING = frozenset({"critical", "debug", "error", "exception", "info", "log"})
UNCHANGING = LOGGING | {"warn", "warning", "deleter", "getter", "setter"}
# What they return is, or has in it, what they are called on.
RETURNING = frozenset({"get", "items", "keys", "setdefault", "values"})


class Call(NamedTuple):
    """A call of a name, or of a method of what it stands for."""

    names: Names
    method: str
    # Two in register("x")(f).
    times: int
    given: Names


class Subclass(NamedTuple):
    bases: Names
    metaclass: Names = NONE


class Block:
    """What runs at once: a statement of the top level, or a function's body."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        # By a method of theirs, or by something of which nothing is known.
        self.called: set[str] = set()
        self.passed_on: set[str] = set()
        self.calls: list[Call] = []
        self.subclassed: list[Subclass] = []
        # Functions that it defines: run with it, or when what it returns is called.
        self.run: list[Block] = []
        self.inner: list[Block] = []
        self.connects_signals = False


def statement(node: ast.stmt, imported: Names) -> Block:
    return _Reader([], imported).read([node])


def function(node: Function, imported: Names, *, is_method: bool = False) -> Block:
    return _read_function(node, [], imported, is_method=is_method)


def aliases(nodes: Iterable[ast.stmt], imported: Names) -> Scope:
    """The names that these bind to others, or to something in them."""
    return _Reader([], imported).bound(nodes)


def _read_function(
    node: Function, scopes: list[Scope], imported: Names, *, is_method: bool = False
) -> Block:
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    given = node.args
    names = [a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
    names += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
    scope = dict.fromkeys(names, frozenset({GIVEN}))
    if is_method and names:
        scope[names[0]] = frozenset({SELF})
    reader = _Reader([*scopes, scope], imported, in_function=True)
    for name, roots in reader.bound(body).items():
        scope[name] = scope.get(name, NONE) | roots
    for inner in own_nodes(body, walrus=False):
        if isinstance(inner, ast.Global):
            for name in inner.names:
                scope.pop(name, None)
                reader.block.changed.add(name)
    return reader.read(body)


class _Reader:
    def __init__(
        self, scopes: list[Scope], imported: Names, *, in_function: bool = False
    ) -> None:
        self.scopes = scopes
        self.imported = imported
        self.in_function = in_function
        self.block = Block()
        self.functions: dict[str, Block] = {}

    def read(self, nodes: Iterable[ast.AST]) -> Block:
        waiting = list(nodes)[::-1]
        while waiting:
            node = waiting.pop()
            waiting.extend(list(self._read(node))[::-1])
        return self.block

    def _read(self, node: ast.AST) -> Iterable[ast.AST]:
        """Note what a node does. Returns those in it that run as well."""
        if isinstance(node, ast.Constant):
            return ()
        if isinstance(node, SCOPES):
            return self._read_scope(node)
        if isinstance(node, ast.If) and never_runs(node):
            return node.orelse
        if isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._call(node.value, alone=True)
            return ast.iter_child_nodes(node.value)
        elif isinstance(node, PARTS) and not isinstance(node.ctx, ast.Load):
            self.block.changed |= self._target(node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.block.changed |= self.roots(node.target)
        return ast.iter_child_nodes(node)

    def _read_scope(self, node: ast.AST) -> Iterable[ast.AST]:
        for decorator in getattr(node, DECORATORS, ()):
            self._decorate(decorator)
        if isinstance(node, ast.ClassDef):
            made_by = [k.value for k in node.keywords if k.arg == "metaclass"]
            subclass = Subclass(self._roots_of(node.bases), self._roots_of(made_by))
            self.block.subclassed.append(subclass)
            self._read_class(node)
            return [*node.decorator_list, *node.bases, *node.keywords]
        assert isinstance(node, (*FUNCTIONS, ast.Lambda))  # noqa: S101
        if self.in_function:
            inner = _read_function(node, self.scopes, self.imported)
            self.block.inner.append(inner)
            self.functions[getattr(node, "name", "")] = inner
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return [*getattr(node, DECORATORS, ()), *defaults]

    def _read_class(self, node: ast.ClassDef) -> None:
        names = dict.fromkeys(_bound_in(node.body), NONE)
        inside = _Reader([*self.scopes, names], self.imported)
        names.update(inside.bound(node.body))
        self.block.run.append(inside.read(node.body))

    # Calls

    def _decorate(self, decorator: ast.expr) -> None:
        function, times, arguments = _applied(decorator)
        self._note(function, times + 1, arguments, alone=True, decorates=True)

    def _call(self, node: ast.Call, *, alone: bool = False) -> None:
        function, times, arguments = _applied(node)
        self._note(function, times, arguments, alone=alone)
        own = self.functions.get(last_name(function))
        if own is not None and isinstance(function, ast.Name):
            self.block.run.append(own)

    def _note(
        self,
        function: ast.expr,
        times: int,
        arguments: list[ast.expr],
        *,
        alone: bool,
        decorates: bool = False,
    ) -> None:
        name = last_name(function)
        given = self._roots_of(arguments)
        if name in SETTERS and arguments:
            self.block.changed |= self.roots(arguments[0])
        if isinstance(function, ast.Attribute):
            receiver = self.roots(function.value)
            method = name
            if name in CHANGING or (alone and name not in UNCHANGING):
                self.block.called |= receiver
        else:
            receiver = self.roots(function)
            method = ""
        is_foreign = not receiver or bool(receiver & self.imported)
        is_builtin = isinstance(function, ast.Name) and hasattr(builtins, name)
        if alone and is_foreign and not (decorates or is_builtin or _only_uses(name)):
            self.block.passed_on |= given
        if is_foreign and _connects(name, arguments, decorates=decorates):
            self.block.connects_signals = True
        self.block.calls.append(Call(receiver, method, times, given))
        if is_builtin or name == "reduce":
            self._call_builtin(name, arguments, given)
        if is_builtin or not is_foreign:
            for argument in arguments:
                if isinstance(argument, ast.Lambda):
                    inner = _read_function(argument, self.scopes, self.imported)
                    self.block.run.append(inner)

    def _call_builtin(self, name: str, arguments: list[ast.expr], given: Names) -> None:
        """map(f, …), sorted(…, key=f), next(f), type("X", (Base,), {}), exec(…)."""
        if name == "exec" and not self.in_function:
            self.block.changed.add(ANY)
        elif name == "next":
            self.block.changed |= given
        elif name == "type" and len(arguments) > 1:
            self.block.subclassed.append(Subclass(self.roots(arguments[1])))
        elif name not in SETTERS:
            self.block.calls.append(Call(given, "", 1, given))

    def _target(self, node: ast.expr) -> Names:
        if isinstance(node, ast.Subscript) and is_own_namespace(node.value):
            key = getattr(node.slice, "value", None)
            if isinstance(key, str):
                return frozenset({key})
        roots = self.roots(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return frozenset(ATTRIBUTE if root == SELF else root for root in roots)
        return roots

    # Names

    def roots(self, node: ast.expr, *, alias: bool = False) -> Names:
        """The names of which an expression is a part, or that are parts of it.

        As an alias, only if what is done to it is done to them too.
        """
        if isinstance(node, ast.Name):
            return self._stands_for(node.id)
        if is_own_module(node) or is_own_namespace(node):
            return frozenset({ANY})
        if isinstance(node, (*PARTS, ast.Starred, ast.Await)):
            return self.roots(node.value, alias=alias)
        if isinstance(node, ast.Call):
            return self._roots_of_call(node, alias=alias)
        parts: list[ast.expr | None] = []
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            parts = [*node.elts]
        elif isinstance(node, (ast.Dict, ast.BoolOp)):
            parts = [*node.values]
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.NamedExpr):
            parts = [node.value]
        return self._roots_of(filter(None, parts), alias=alias)

    def _roots_of(self, nodes: Iterable[ast.expr], *, alias: bool = False) -> Names:
        return NONE.union(*(self.roots(node, alias=alias) for node in nodes))

    def _roots_of_call(self, node: ast.Call, *, alias: bool) -> Names:
        name = last_name(node.func)
        arguments = _arguments(node)
        if isinstance(node.func, ast.Name) and hasattr(builtins, name):
            if name == "super":
                return self._first_parameter()
            return self._roots_of(arguments, alias=alias)
        if not alias:
            return self.roots(node.func)
        if isinstance(node.func, ast.Attribute) and name in RETURNING:
            return self.roots(node.func.value, alias=True)
        # An object may keep what it is given.
        names = self.roots(node.func)
        is_own = bool(names) and not names & self.imported
        return self._roots_of(arguments, alias=True) if is_own else NONE

    def _stands_for(self, name: str) -> Names:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return frozenset({name})

    def _first_parameter(self) -> Names:
        found = (s for scope in self.scopes for s in scope.values() if SELF in s)
        return next(found, NONE)

    def bound(self, nodes: Iterable[ast.AST]) -> Scope:
        """The names that are bound in this scope, and what each stands for."""
        found: Scope = {}
        nodes = list(nodes)
        if self.in_function:
            found.update(dict.fromkeys(_bound_in(nodes), NONE))
        for target, value in _assigned_in(nodes):
            roots = self.roots(value, alias=True)
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    if self.scopes:
                        # Of a scope's own name, only what it stands for is known.
                        meant = (found.get(root, {root}) for root in roots)
                        roots = NONE.union(*meant)
                    found[node.id] = found.get(node.id, NONE) | (roots - {node.id})
        return found


def _only_uses(name: str) -> bool:
    """As admin.site.register(MODELS) and logger.info(TABLE) do."""
    return name in UNCHANGING or name.startswith(("connect", "register"))


def _connects(name: str, arguments: list[ast.expr], *, decorates: bool) -> bool:
    """Whether a call makes a function a receiver of a signal."""
    return name == "receiver" if decorates else name == "connect" and bool(arguments)


def _applied(node: ast.expr) -> tuple[ast.expr, int, list[ast.expr]]:
    """What is called, how often, and with what: register("x")(f)."""
    times = 0
    arguments: list[ast.expr] = []
    while isinstance(node, ast.Call):
        times += 1
        arguments += _arguments(node)
        node = node.func
    return node, times, arguments


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _bound_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in own_nodes(nodes, walrus=True):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(getattr(node, "name", None), str):
            yield node.name  # type: ignore[attr-defined]


def _assigned_in(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in own_nodes(nodes, walrus=False):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in getattr(node, "targets", None) or [node.target]:  # type: ignore[union-attr]
                if node.value and isinstance(target, (ast.Name, ast.Tuple, ast.List)):
                    yield target, node.value
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            yield node.target, node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.optional_vars, node.context_expr
        elif isinstance(node, ast.Expr) and isinstance(node.value, COMPREHENSIONS):
            for generator in node.value.generators:
                yield generator.target, generator.iter
