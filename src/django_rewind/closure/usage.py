"""What a piece of Python uses outside itself, told from its syntax tree alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Union

from ..parsing import unwarned
from ..source import UNPARSABLE
from .bindings import (
    Bindings,
    Context,
    Place,
    Reference,
    argument_of,
    bindings,
    is_own_module,
    is_own_namespace,
    last_name,
    never_runs,
)
from .outside import is_outside
from .paths import GLOBS, JOINERS, is_pattern, listed_by, path_of, place_of

if TYPE_CHECKING:
    from typing import TypeGuard

# What importlib.resources has for a package, which is the first argument.
OF_RESOURCES = frozenset(
    {"contents", "files", "is_resource", "open_binary", "open_text", "path"}
    | {"read_binary", "read_text"}
)
# Of these and pkgutil; path() is also what others have.
READERS = OF_RESOURCES - {"path"} | {"get_data"}
ABSENCES = frozenset(
    {
        "AttributeError",
        "BaseException",
        "Exception",
        "ImportError",
        "ModuleNotFoundError",
    }
)

# Who asks one of these foresees that the answer is no.
QUESTIONS = frozenset({"find_spec", "hasattr", "is_installed"})

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
Comprehension = Union[ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp]


class Usage(ast.NodeVisitor):
    """Collects what the statements of one piece use."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.references: dict[Reference, None] = {}
        # Of annotations that are texts when they are looked up, if they ever are.
        self.annotated: dict[Reference, None] = {}
        # Modules of which a star import takes everything.
        self.stars: dict[str, None] = {}
        self.words: set[str] = set()
        # Possible paths of data files → whether it can only be a path.
        self.paths: dict[str, bool] = {}
        # The same, with * for each part that is not told.
        self.patterns: set[str] = set()
        # Folders of which all files may be meant, and how deep.
        self.listings: set[tuple[Place, str]] = set()
        self.lists_the_unknown = False
        # Names that call_command() is given.
        self.commands: set[str] = set()
        self.uses_file = False
        self.imports_the_unknown = False
        # By a name that is not told, or by its own.
        self.looks_up_its_names = False
        self.looks_itself_up = False
        # Innermost last: whether it is a class, and what it binds.
        self._scopes: list[tuple[bool, Bindings]] = []
        self._optional = 0
        self._in_annotation = False

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        self.words.add(node.id)
        if node.id == "__file__":
            self.uses_file = True
        elif isinstance(node.ctx, ast.Load):
            self._use(node.id, ())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._visit_chain(node)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self._add(Reference(self.context.module, (name,)))

    def _visit_chain(self, node: ast.expr) -> None:
        path: list[str] = []
        root = node
        before = self._optional
        while True:
            if isinstance(root, ast.Attribute):
                path.insert(0, root.attr)
                root = root.value
            elif _is_getattr(root):
                for argument in root.args[2:]:
                    self.visit(argument)
                    # What is there instead of it.
                    self._optional += 1
                path.insert(0, root.args[1].value)  # type: ignore[attr-defined]
                root = root.args[0]
            else:
                break
        self.words.update(path)
        target = self.context.dynamic_import(root)
        if isinstance(root, ast.Name):
            self.words.add(root.id)
            self.uses_file = self.uses_file or root.id == "__file__"
            self._use(root.id, tuple(path))
        elif target is not None and isinstance(root, ast.Call):
            self._visit_import(root)
            self._add(target.then(tuple(path)))
        else:
            self.visit(root)
        self._optional = before

    def _use(self, name: str, path: tuple[str, ...]) -> None:
        for is_class, names in reversed(self._scopes):
            if name not in names:
                continue
            for reference in names[name]:
                self._add(reference.then(path))
            # Functions in a class do not see its names, and outside of them a name
            # may be read before it is bound.
            if not is_class:
                return
        self._add(Reference(self.context.module, (name, *path)))

    def _add(self, reference: Reference) -> None:
        if reference.module == self.context.module or is_outside(reference.module):
            optional = reference.optional or self._in_annotation or self._optional > 0
            found = self.annotated if self._in_annotation else self.references
            found[reference._replace(optional=optional)] = None

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(Reference(alias.name, imported=True))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self.context.resolve(node)
        for alias in node.names:
            if alias.name != "*":
                self._add(Reference(module, (alias.name,), imported=True))
            elif is_outside(module):
                self._add(Reference(module, imported=True))
                self.stars[module] = None

    def _visit_import(self, node: ast.Call) -> None:
        """import_module("…"), apart from what is done with what it returns."""
        target = self.context.dynamic_import(node)
        if target is None:
            self.imports_the_unknown = True
        else:
            name = self.context.constant(argument_of(node, 0, "name")) or ""
            module = (
                name if self.context.called(node) == "__import__" else target.module
            )
            self._add(Reference(module, imported=True))
        self.visit(node.func)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(argument)

    def _import_string(self, node: ast.Call) -> None:
        path = self.context.constant(argument_of(node, 0, "dotted_path"))
        module, _, name = (path or "").rpartition(".")
        if module:
            self._add(Reference(module, (name,), imported=True))
        else:
            self.imports_the_unknown = True

    # Calls and assignments

    def visit_Call(self, node: ast.Call) -> None:
        name = self.context.called(node)
        if self.context.is_dynamic_import(node) or _is_getattr(node):
            if self.context.dynamic_import(node) or _is_getattr(node):
                self._visit_chain(node)
            else:
                self._visit_import(node)
            return
        if is_own_namespace(node) and (name == "globals" or not self._scopes):
            self.looks_up_its_names = True
        self._note_own_module(node)
        self._add_listing(node)
        if name == "import_string":
            self._import_string(node)
        elif name == "call_command":
            command = self.context.constant(argument_of(node, 0, "command_name"))
            self.commands.update([command] if command else [])
        elif name in READERS or _is_path(node):
            self._use_place_of(argument_of(node, 0, "package"))
        elif name in JOINERS or name in GLOBS:
            self._add_path(node)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = self.context.constant(node.slice)
        if is_own_namespace(node.value) and name:
            self._add(Reference(self.context.module, (name,)))
        else:
            self._note_own_module(node)
            self.generic_visit(node)

    def _note_own_module(self, node: ast.expr) -> None:
        if is_own_module(node):
            # When it is imported, it is there.
            if self._in_function():
                self.looks_itself_up = True
            else:
                self.looks_up_its_names = True

    def visit_Expr(self, node: ast.Expr) -> None:
        self._visit_value(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self.visit(target)
        if all(isinstance(target, ast.Name) for target in node.targets):
            # What is done with the module is told by the uses of the name.
            self._visit_value(node.value)
        else:
            self.visit(node.value)

    def _visit_value(self, node: ast.expr) -> None:
        if self.context.is_dynamic_import(node):
            self._visit_import(node)
        else:
            self.visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        in_class = bool(self._scopes) and self._scopes[-1][0]
        if in_class or not self._scopes:
            self._visit_annotation(node.annotation, is_looked_up=in_class)
        if node.value is not None:
            self.visit(node.value)

    def _visit_annotation(self, node: ast.expr, *, is_looked_up: bool) -> None:
        """Where it is looked up, as dataclasses do, also what it names in a text."""
        later = _quoted_in(node) if is_looked_up else []
        if self.context.annotations_run:
            self.visit(node)
        elif is_looked_up:
            later.append(node)
        before, self._in_annotation = self._in_annotation, True
        for part in later:
            self.visit(part)
        self._in_annotation = before

    # Where an absence is foreseen

    def visit_If(self, node: ast.If) -> None:
        # Code at the top level did run: what is not there was not needed.
        self._visit_all(
            [node.test, *([] if never_runs(node) else node.body), *node.orelse],
            optional=not self._in_function() or _is_question(node.test),
        )

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._visit_all(
            [node.test, node.body, node.orelse], optional=_is_question(node.test)
        )

    def visit_Try(self, node: ast.Try) -> None:
        at_top = not self._in_function()
        caught = {name for handler in node.handlers for name in _caught(handler)}
        self._visit_all(node.body, optional=at_top or bool(caught & ABSENCES))
        self._visit_all(
            [*node.handlers, *node.orelse, *node.finalbody], optional=at_top
        )

    # Its fields are the same; ast has it from Python 3.11 on.
    visit_TryStar = visit_Try  # type: ignore[assignment]  # noqa: N815

    def visit_With(self, node: ast.With) -> None:
        suppressed = {
            last_name(argument)
            for item in node.items
            if isinstance(item.context_expr, ast.Call)
            and last_name(item.context_expr.func) == "suppress"
            for argument in item.context_expr.args
        }
        self._visit_all(node.items, optional=False)
        self._visit_all(node.body, optional=bool(suppressed & ABSENCES))

    def _visit_all(self, nodes: Iterable[ast.AST], *, optional: bool) -> None:
        self._optional += optional
        for node in nodes:
            self.visit(node)
        self._optional -= optional

    # Scopes

    def visit_FunctionDef(self, node: Function) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._visit_defaults(node.args)
        annotations = [argument.annotation for argument in _arguments(node.args)]
        for annotation in filter(None, [*annotations, node.returns]):
            # As functools.singledispatch() does.
            is_looked_up = bool(node.decorator_list)
            self._visit_annotation(annotation, is_looked_up=is_looked_up)
        for parameter in getattr(node, "type_params", ()):
            self.visit(parameter)
        names = bindings(node.body, self.context)
        # A foreseen absence outside says nothing about when the function runs.
        before, self._optional = self._optional, 0
        self._visit_inside(node.body, {**_parameters(node.args), **names})
        self._optional = before

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_defaults(node.args)
        self._visit_inside([node.body], _parameters(node.args))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        parameters = getattr(node, "type_params", ())
        for outside in [*node.decorator_list, *node.bases, *node.keywords, *parameters]:
            self.visit(outside)
        names = bindings(node.body, self.context)
        self._visit_inside(node.body, names, is_class=True)

    def _visit_comprehension(self, node: Comprehension) -> None:
        first, *others = node.generators
        self.visit(first.iter)
        targets = [generator.target for generator in node.generators]
        inside = [first.target, *first.ifs, *others]
        result = (
            [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        )
        self._visit_inside([*inside, *result], bindings(targets, self.context))

    visit_ListComp = visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)

    def _visit_inside(
        self, nodes: Iterable[ast.AST], names: Bindings, *, is_class: bool = False
    ) -> None:
        self._scopes.append((is_class, names))
        for node in nodes:
            self.visit(node)
        self._scopes.pop()

    def _in_function(self) -> bool:
        return any(not is_class for is_class, _ in self._scopes)

    # Data files

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            if node.value.isidentifier():
                self.words.add(node.value)
            self.paths.setdefault(node.value, False)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if any("/" in value.value for value in node.values if _is_text(value)):  # type: ignore[attr-defined]
            self._add_path(node)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Div):
            self._add_path(node)
        self.generic_visit(node)

    def _use_place_of(self, package: ast.expr | None) -> None:
        """Of a package, by its name or as a module: what lies beside it is meant."""
        name = self.context.constant(package)
        if name:
            self._add(Reference(name, ("__file__",)))
        elif isinstance(package, (ast.Attribute, ast.Name)):
            self._visit_chain(ast.Attribute(package, "__file__", ast.Load()))

    def _add_listing(self, node: ast.Call) -> None:
        folder = listed_by(node)
        if folder is None or path_of(node, self.context):
            # Or of which the path tells what is meant.
            return
        name = self.context.called(node)
        place = place_of(folder, self.context)
        if place is not None:
            self.listings.add((place, "**/*" if name in ("rglob", "walk") else "*"))
        elif name in ("iterdir", "listdir", "scandir"):
            self.lists_the_unknown = True

    def _add_path(self, node: ast.expr) -> None:
        path = path_of(node, self.context)
        if is_pattern(path):
            self.patterns.add(path)
        elif path:
            self.paths[path] = True


def _is_getattr(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) > 1
        and _is_text(node.args[1])
    )


def _is_path(node: ast.Call) -> bool:
    """importlib.resources.path(), whose name others have, too."""
    return (
        isinstance(node.func, ast.Attribute)
        and node.func.attr == "path"
        and last_name(node.func.value) == "resources"
    )


def _is_question(test: ast.expr) -> bool:
    calls = (node.func for node in ast.walk(test) if isinstance(node, ast.Call))
    return not QUESTIONS.isdisjoint(map(last_name, calls))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _quoted_in(annotation: ast.expr) -> list[ast.expr]:
    """What the texts in it stand for, such as "ClassVar[str]"."""
    found = []
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            with suppress(*UNPARSABLE), unwarned():
                found.append(ast.parse(node.value.strip(), mode="eval").body)
    return found


def _caught(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return ["BaseException"]
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [last_name(node) for node in types]


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return named + [a for a in (arguments.vararg, arguments.kwarg) if a is not None]


def _parameters(arguments: ast.arguments) -> Bindings:
    return {argument.arg: [] for argument in _arguments(arguments)}
