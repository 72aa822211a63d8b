"""Stored definitions, for what stored code needs and the checkout has no longer.

For one migration only: nothing of this stays in sys.modules, and no module of the
project is altered. Stored code gets an `__import__` of its own, which also serves the
imports inside functions that run later.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import shutil
import tempfile
import weakref
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from weakref import WeakValueDictionary

from django.db.migrations.operations.base import Operation
from django.db.models import Index, Q, QuerySet
from django.db.models.constraints import BaseConstraint
from django.db.models.expressions import Combinable
from django.db.models.manager import BaseManager
from django.utils.functional import Promise
from django.utils.safestring import SafeData

from . import closure, source
from .closure.outside import is_installed, is_outside
from .parsing import parse
from .stored_text import StoredText, running, stepping_aside

MISSING: Any = object()

# In the place of a module: settings that a package made; see capture.
SETTINGS = "django.conf.settings"

# Of Django's classes, those of which there may be two, and those of which it keeps no
# object anywhere, as it does of fields and signals.
APART = (Operation, Enum, QuerySet, BaseManager)
VALUES = (Q, Combinable, Index, BaseConstraint, Promise, SafeData)

# Functions of Python and Django that are given the name of a module, and the method
# that stands in for each, and is given it first.
SHIMS: dict[str, dict[str, str]] = {
    "importlib": {"import_module": "import_module"},
    "importlib.resources": dict.fromkeys(closure.OF_RESOURCES, "read_resource"),
    "pkgutil": {"get_data": "get_data"},
    # For `from django.utils import module_loading`.
    "django.utils": {},
    "django.utils.module_loading": {"import_string": "import_string"},
}


class MergedModule(ModuleType):
    """A module of the checkout, with what stands in for the rest."""

    def __init__(self, name: str, find: Callable[[str], Any]) -> None:
        super().__init__(name)
        self.__dict__["__find__"] = find

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["__find__"](name)


class WithDefaults:
    """The settings, with what a package added to them that is not there now."""

    def __init__(self, settings: object, defaults: ModuleType) -> None:
        self.__dict__["settings"] = settings
        self.__dict__["defaults"] = defaults

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.__dict__["settings"], name)
        except AttributeError:
            return getattr(self.__dict__["defaults"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["settings"], name, value)


class StandIns:
    """What a stored migration needs: module, or path of a data file → its text.

    With `prefer_stored`, whatever differs is as it was stored.
    """

    def __init__(
        self, needed: Mapping[str, str], owner: str, *, prefer_stored: bool = False
    ) -> None:
        self.owner = owner
        self.prefer_stored = prefer_stored
        self.texts, self.packages, self.files = closure.sort_out(needed)
        folders = [path.rpartition("/")[0].replace("/", ".") for path in self.files]
        self.folders = {parent for name in folders for parent in _parents(name)}
        modules = {parent for name in self.texts for parent in _parents(name)}
        self.parents = self.folders | modules
        self.merged: dict[str, ModuleType] = {}
        self.stored: dict[str, ModuleType] = {}
        self.present: dict[str, ModuleType | None] = {}
        self.folder = self._write_files()
        self.builtins = {**vars(builtins), "__import__": self.import_}

    def serve(self, module: ModuleType, *, is_package: bool = False) -> None:
        """Let the code of a module use them; to be called before it runs."""
        module.__dict__["__builtins__"] = self.builtins
        if self.folder is not None:
            path = _path_of(module.__name__, is_package=is_package)
            module.__file__ = str(self.folder / path)

    # The imports of stored code

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        absolute = name
        if level:
            absolute = resolve_name("." * level + name, (globals or {})["__package__"])
        if fromlist and self._concerns(absolute):
            return self._module(absolute)
        top = absolute.partition(".")[0]
        if not fromlist and self._concerns(top):
            self._module(absolute)
            return self._module(top)
        with stepping_aside():
            return builtins.__import__(name, globals, locals, fromlist or (), level)

    def import_module(
        self, _real: Callable[..., Any], name: str, package: str | None = None
    ) -> ModuleType:
        return self._module(resolve_name(name, package or ""))

    def import_string(self, real: Callable[..., Any], dotted_path: str) -> Any:
        module, _, name = dotted_path.rpartition(".")
        if not self._concerns(module):
            return real(dotted_path)
        try:
            return getattr(self._module(module), name)
        except AttributeError as error:
            raise ImportError(str(error)) from error

    def _concerns(self, name: str) -> bool:
        return name in self.texts or name in self.parents or name in SHIMS

    def _module(self, name: str) -> ModuleType:
        if not self._concerns(name):
            with stepping_aside():
                return importlib.import_module(name)
        if name not in self.merged:
            self.merged[name] = self._shim(name) if name in SHIMS else self._merge(name)
        return self.merged[name]

    def _merge(self, name: str) -> ModuleType:
        module = MergedModule(name, lambda attribute: self._find(name, attribute))
        # So that it is asked for.
        del module.__dict__["__package__"]
        return module

    def _shim(self, name: str) -> ModuleType:
        real = importlib.import_module(name)

        def find(attribute: str) -> Any:
            if f"{name}.{attribute}" in SHIMS:
                return self._module(f"{name}.{attribute}")
            if not hasattr(real, attribute):
                with suppress(ImportError):
                    importlib.import_module(f"{name}.{attribute}")
            return getattr(real, attribute)

        shim = MergedModule(name, find)
        for attribute, method in SHIMS[name].items():
            if hasattr(real, attribute):
                stands_in = partial(getattr(self, method), getattr(real, attribute))
                vars(shim)[attribute] = stands_in
        return shim

    # Which definition serves

    def _find(self, module: str, name: str) -> Any:
        if name == "__all__":
            return self._public_names(module)
        if name.startswith("__") and not self._defines(module, name):
            return self._given(module, name)
        present = self._present(module)
        full_name = f"{module}.{name}"
        if full_name == SETTINGS:
            return WithDefaults(getattr(present, name), self._stored(SETTINGS))
        if full_name in self.texts and not self._defines(module, name):
            return self._module(full_name)
        if self._stands_in(module, name):
            return getattr(self._stored(module), name)
        value = getattr(present, name, MISSING)
        if value is MISSING or isinstance(value, ModuleType):
            return self._submodule(module, name, value)
        return value

    def _given(self, module: str, name: str) -> Any:
        """What Python gives a module, such as its place."""
        present = self._present(module)
        is_package = module in self.packages | self.folders or module not in self.texts
        package = module if is_package else module.rpartition(".")[0]
        is_place = name in ("__file__", "__path__") and package in self.folders
        if present is not None and not is_place:
            return getattr(present, name)
        if name == "__package__":
            return package
        path = Path(self.folder or "", _path_of(module, is_package=is_package))
        if name == "__path__" and is_package:
            return [str(path.parent)]
        if name == "__file__":
            return str(path)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    def _submodule(self, module: str, name: str, present: Any) -> Any:
        full_name = getattr(present, "__name__", f"{module}.{name}")
        if present is not MISSING and not self._concerns(full_name):
            return present
        try:
            return self._module(full_name)
        except ImportError as error:
            message = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(message) from error

    def _present(self, name: str) -> ModuleType | None:
        if name not in self.present:
            try:
                with stepping_aside():
                    self.present[name] = importlib.import_module(name)
            except (Exception, SystemExit):
                # Gone, or broken without the rest of its package.
                self.present[name] = None
        return self.present[name]

    def _stands_in(self, module: str, name: str) -> bool:
        """Whether the stored definition serves, and not that of the checkout."""
        if module not in self.texts:
            return False
        present = getattr(self._present(module), name, MISSING)
        if present is MISSING:
            return hasattr(self._stored(module), name)
        if isinstance(present, ModuleType):
            return self._defines(module, name)
        if self.prefer_stored or is_compared(present, module):
            return not self._means_the_same(module, name)
        if isinstance(present, type):
            return False
        # An object that the module fills when it is imported: a registry.
        is_filled = name in self._cut(module).changed
        return is_filled and not self._means_the_same(module, name)

    def _defines(
        self, module: str, name: str, before: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a stored module, or one that it imports from, has a name for anything
        but a module, as its text tells.
        """
        if module not in self.texts or module in before:
            return False
        bindings = [p.binds[name] for p in self._cut(module).pieces if name in p.binds]
        return any(
            not references
            or any(
                self._defines(one.module, one.path[-1], before | {module})
                for one in references
                if one.path
            )
            for references in bindings
        )

    def _cut(self, module: str) -> closure.Module:
        package = module if module in self.packages else module.rpartition(".")[0]
        return closure.cut(module, package, self.texts[module])

    def _means_the_same(self, module: str, name: str) -> bool:
        stored = closure.Tracer(self.texts.get)
        here = closure.Tracer(lambda m: closure.read(m) if m in self.texts else None)
        for tracer in (stored, here):
            tracer.take(module, name)
        one, other = stored.texts(), here.texts()
        return not one or (
            one.keys() == other.keys()
            and all(source.means_the_same(one[m], other[m]) for m in one)
        )

    def _public_names(self, module: str) -> list[str]:
        present = vars(self._present(module) or MISSING.__class__)
        stored = vars(self._stored(module)) if module in self.texts else {}
        names = {*present, *stored}
        public = {*present.get("__all__", ()), *stored.get("__all__", ())}
        return sorted(public or {name for name in names if not name.startswith("_")})

    # Stored modules

    def _stored(self, name: str) -> ModuleType:
        if name in self.stored:
            return self.stored[name]
        module = self.stored[name] = ModuleType(name)
        is_package = name in self.packages
        module.__package__ = name if is_package else name.rpartition(".")[0]
        loader = StoredText(self.texts[name], f"{self.owner}: {name}")
        module.__loader__ = loader
        self.serve(module, is_package=is_package)
        tree = parse(loader.text)
        tree.body = self._statements_to_run(name, tree.body)
        with running(module):
            exec(loader.compile(tree), vars(module))  # noqa: S102
        make_managers_importable(module)
        return module

    def _statements_to_run(self, module: str, body: list[ast.stmt]) -> list[ast.stmt]:
        """Without those whose names the checkout has, so that there are no two.

        Of a statement and what it changes, both are the checkout's or neither is:
        nothing stored changes what is the checkout's, but for a class of which there
        must be no two.
        """
        cut = self._cut(module)
        present = self._present(module)
        served: dict[int, list[str]] = {}
        for index, (node, piece) in enumerate(zip(body, cut.pieces)):
            changed = piece.effect.changed
            names = [*piece.binds] if changed else defined_names(node)
            if (names or changed) and all(self._is_here(module, n) for n in names):
                served[index] = names
        kept = cut.apart(
            set(served), lambda name: is_shared_class(getattr(present, name, MISSING))
        )
        for index in kept:
            here = {name: getattr(present, name) for name in served[index]}
            vars(self.stored[module]).update(here)
        return [node for index, node in enumerate(body) if index not in kept]

    def _is_here(self, module: str, name: str) -> bool:
        present = getattr(self._present(module), name, MISSING)
        return present is not MISSING and not self._stands_in(module, name)

    # Data files

    def _write_files(self) -> Path | None:
        modules = {
            _path_of(name, is_package=name in self.packages): text
            for name, text in self.texts.items()
            if not name.endswith(closure.PACKAGE)
        }
        if not self.files and "__file__" not in "".join(modules.values()):
            return None
        # Modules have to be there for who resolves their place.
        folder = Path(tempfile.mkdtemp(prefix="django-rewind-")).resolve()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, text in {**modules, **self.files}.items():
            path = (folder / name).resolve()
            if folder not in path.parents:
                raise ImportError(f"the data file {name} is outside its package")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
        return folder

    def get_data(
        self, real: Callable[..., Any], package: str, resource: str
    ) -> bytes | None:
        text = self.files.get(f"{package.replace('.', '/')}/{resource}")
        return real(package, resource) if text is None else text.encode()

    def read_resource(self, real: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """What a function of importlib.resources finds among the files."""
        for name in named.keys() & {"anchor", "package"}:
            named[name] = self._with_files(named[name])
        return real(*map(self._with_files, args[:1]), *args[1:], **named)

    def _with_files(self, package: Any) -> ModuleType | str:
        name = str(getattr(package, "__name__", package))
        if self.folder is None or name not in self.folders:
            return name
        folder = self.folder / name.replace(".", "/")
        spec = spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        return module_from_spec(cast(ModuleSpec, spec))


# ModelState imports a manager, or its queryset, by its path.
_managers: WeakValueDictionary[str, type] = WeakValueDictionary()


def __getattr__(name: str) -> type:
    try:
        return _managers[name]
    except KeyError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None


def make_managers_importable(module: ModuleType) -> None:
    """Those that the code of a module, not known to Python, defines."""
    for value in vars(module).values():
        is_manager = isinstance(value, type) and issubclass(
            value, (BaseManager, QuerySet)
        )
        if is_manager and value.__module__ == module.__name__:
            value.__module__ = __name__
            value.__name__ += f"_{id(value):x}"
            _managers[value.__name__] = value


def is_compared(value: object, module: str) -> bool:
    """Whether what a module has can make a difference to what a reverse function does.

    Else the checkout's own serves: there must be no two of a field, a mixin or a
    registry, which other modules of the checkout know too.
    """
    if isinstance(value, type):
        return not is_shared_class(value)
    # With __wrapped__, what functools.wraps() and functools.lru_cache() made.
    return hasattr(value, "__wrapped__") or _makes_values(type(value), module)


def is_shared_class(value: object) -> bool:
    if not isinstance(value, type) or issubclass(value, APART):
        return False
    return not all(map(_is_plain, value.__mro__))


def _makes_values(one: type, module: str) -> bool:
    """Whether the objects of a class, one of which a module has, are values."""
    if issubclass(one, (*APART, *VALUES)):
        return True
    if issubclass(one, ModuleType) or is_shared_class(one):
        return False
    # Of another package, it may be an application, or what else that package knows.
    top, _, _ = one.__module__.partition(".")
    return top == module.partition(".")[0] or not is_installed(top)


def _is_plain(one: type) -> bool:
    """Known to nothing else: no part of a framework, and no exception."""
    if is_outside(one.__module__):
        return type(one) in (type, ABCMeta)
    is_of_python = one.__module__.partition(".")[0] != "django"
    return is_of_python and not issubclass(one, BaseException)


def defined_names(node: ast.stmt) -> list[str]:
    """What a plain definition binds; [] for any other statement."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    else:
        return []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def _path_of(module: str, *, is_package: bool) -> str:
    return module.replace(".", "/") + ("/__init__.py" if is_package else ".py")


def _parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
