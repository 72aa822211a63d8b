"""What names stand for: the scopes of a text, and what imports bind in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import resolve_name
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeGuard

IMPORTERS = frozenset({"import_module", "__import__"})
# `from importlib import import_module as load`, `load = importlib.import_module`
RENAMED = re.compile(
    r"\b(import_module|import_string|__import__)\s+as\s+(\w+)"
    r"|\b(\w+)\s*=\s*(?:\w+\.)*(import_module|import_string|__import__)\s*$",
    re.MULTILINE,
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)


class Reference(NamedTuple):
    """A module, then names: users.models, ("Person", "make_token").

    An import needs it to be there, anything else uses its value as well. An
    optional one is in a place where its absence is foreseen.
    """

    module: str
    path: tuple[str, ...] = ()
    imported: bool = False
    optional: bool = False

    def then(self, path: tuple[str, ...]) -> Reference:
        return self._replace(path=self.path + path)


Bindings = dict[str, list[Reference]]


class Place(NamedTuple):
    """A path relative to the file of a module, of the one that names it if ""."""

    module: str
    path: str

    def then(self, *parts: str) -> Place:
        return self._replace(path="/".join([self.path, *parts]))


class Context(NamedTuple):
    """What must be known of a module to read a piece of it."""

    module: str
    package: str
    constants: dict[str, str]
    # HERE = Path(__file__).parent
    places: Mapping[str, Place]
    annotations_run: bool
    walrus: bool
    # What imports by a name that is given, under a name of its own.
    renamed: Mapping[str, str]

    def resolve(self, node: ast.ImportFrom) -> str:
        return self.absolute("." * node.level + (node.module or ""))

    def absolute(self, name: str, package: str | None = None) -> str:
        try:
            return resolve_name(name, self.package if package is None else package)
        except (ImportError, ValueError):
            return ""

    def constant(self, node: ast.expr | None) -> str | None:
        """The text that an expression stands for, None if that is not certain."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            own = {"__name__": self.module, "__package__": self.package}
            return own.get(node.id) or self.constants.get(node.id)
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [node.left, node.right]
        elif isinstance(node, ast.JoinedStr):
            parts = node.values
        elif isinstance(node, ast.FormattedValue) and node.format_spec is None:
            parts = [node.value]
        texts = [self.constant(part) for part in parts]
        known = [text for text in texts if text is not None]
        return "".join(known) if known and len(known) == len(texts) else None

    def called(self, node: ast.Call) -> str:
        name = last_name(node.func)
        is_name = isinstance(node.func, ast.Name)
        return self.renamed.get(name, name) if is_name else name

    def is_dynamic_import(self, node: ast.AST | None) -> TypeGuard[ast.Call]:
        return isinstance(node, ast.Call) and self.called(node) in IMPORTERS

    def dynamic_import(self, node: ast.expr | None) -> Reference | None:
        """The module that import_module("…") or __import__("…") returns."""
        if not self.is_dynamic_import(node):
            return None
        name = self.constant(argument_of(node, 0, "name"))
        if not name:
            return None
        if self.called(node) == "__import__":
            whole = argument_of(node, 3, "fromlist") is not None
            return Reference(name if whole else name.partition(".")[0])
        package = self.constant(argument_of(node, 1, "package"))
        return Reference(self.absolute(name, package))


def bindings(nodes: Iterable[ast.AST], context: Context) -> Bindings:
    """The names that code binds in its own scope, with what imports bind them to."""
    found: Bindings = {}
    for node in own_nodes(nodes, walrus=context.walrus):
        for name, reference in _bound_by(node, context):
            found.setdefault(name, [])
            if reference is not None and reference not in found[name]:
                found[name].append(reference)
    return found


def _bound_by(
    node: ast.AST, context: Context
) -> Iterator[tuple[str, Reference | None]]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _imported_by(node, context)
    elif isinstance(node, (ast.Assign, ast.NamedExpr)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, context.dynamic_import(node.value)
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield node.id, None
    elif not isinstance(node, ast.alias):
        # def, class, except … as, and the captures of match.
        for name in (getattr(node, "name", None), getattr(node, "rest", None)):
            if isinstance(name, str):
                yield name, None


def _imported_by(
    node: ast.Import | ast.ImportFrom, context: Context
) -> Iterator[tuple[str, Reference]]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            if alias.name != "*":
                module = context.resolve(node)
                yield alias.asname or alias.name, Reference(module, (alias.name,))
        else:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, Reference(alias.name if alias.asname else top)


def own_nodes(nodes: Iterable[ast.AST], *, walrus: bool) -> Iterator[ast.AST]:
    """The nodes of the scope that these are in, without the scopes inside it."""
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(list(_inside(node, walrus))[::-1])


def _inside(node: ast.AST, walrus: bool) -> Iterable[ast.AST]:
    if isinstance(node, SCOPES):
        return ()
    if isinstance(node, ast.expr):
        if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            return ast.iter_child_nodes(node)
        # Most nodes are in expressions, which bind nothing but with a walrus.
        below = [n for n in ast.walk(node) if n is not node] if walrus else []
        return [n for n in below if isinstance(n, ast.NamedExpr)]
    if isinstance(node, ast.If) and never_runs(node):
        return node.orelse
    return ast.iter_child_nodes(node)


def never_runs(node: ast.If) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    left = node.test.left if isinstance(node.test, ast.Compare) else node.test
    return last_name(left) in {"TYPE_CHECKING", "__name__"}


def renamed_importers(text: str) -> dict[str, str]:
    found = (match.groups() for match in RENAMED.finditer(text))
    return {new or other: name or of for name, new, other, of in found}


def is_own_module(node: ast.AST) -> bool:
    """sys.modules[__name__], import_module(__name__)."""
    if isinstance(node, ast.Subscript):
        key = last_name(node.slice)
        return last_name(node.value) == "modules" and key == "__name__"
    if not isinstance(node, ast.Call):
        return False
    first = argument_of(node, 0, "name")
    return (
        last_name(node.func) in {"import_module", "get"}
        and first is not None
        and last_name(first) == "__name__"
    )


def is_own_namespace(node: ast.AST) -> bool:
    """globals(), vars() and locals()."""
    return (
        isinstance(node, ast.Call)
        and not node.args
        and isinstance(node.func, ast.Name)
        and node.func.id in {"globals", "locals", "vars"}
    )


def last_name(node: ast.AST) -> str:
    """The name in a, b.a and c().a."""
    name = getattr(node, "id", None) or getattr(node, "attr", None)
    return name if isinstance(name, str) else ""


def argument_of(node: ast.Call, position: int, name: str) -> ast.expr | None:
    if len(node.args) > position:
        return node.args[position]
    return next((k.value for k in node.keywords if k.arg == name), None)
