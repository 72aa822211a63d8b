"""Which code of the project and of other packages a migration needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from typing import NamedTuple

from django.core.management import get_commands

from ..parsing import without_bom
from . import datafiles, private
from .cutting import Module
from .cutting import module as cut
from .outside import OWN_APP, is_outside, is_uninstalled
from .tracer import PACKAGE, Lack, TooMuch, Tracer
from .usage import OF_RESOURCES, Usage

__all__ = [
    "OF_RESOURCES",
    "PACKAGE",
    "Closure",
    "Module",
    "Tracer",
    "cut",
    "of_uninstalled",
    "sort_out",
    "trace",
]

# What else than an import statement leads to code or files outside.
MENTIONS = re.compile(
    "__file__|__import__|call_command|import_module|import_string|get_data|resources"
)
IMPORTS = re.compile(r"\bfrom\s+([\w.]+)\s+import\b|\bimport\s+([\w.,\s]+)")
OF_DJANGO = re.compile(r"\b(django\.contrib(?:\.\w+)+)\.(\w+)")
# What code does that cannot be followed.
DOES = {
    "imports the unknown": "imports a module whose name is not a constant",
    "lists the unknown": "lists a folder that cannot be told",
    "looks itself up": "looks up its own names when it runs",
}


Read = Callable[[str], "str | None"]


class Closure(NamedTuple):
    texts: dict[str, str]
    gaps: list[str]


def trace(module: str, text: str, limit: int) -> Closure:
    """What a migration needs outside Django and the standard library.

    Keys with a slash are data files, relative to the directory that holds their
    top-level package. The others are modules, cut to what is used of them, and
    "a.b.__init__", which says that a.b is a package. The limit is in bytes.
    Imports nothing and never raises.
    """
    if not needs_more(text):
        return Closure({}, [])
    text = without_bom(text)
    try:
        try:
            return _trace(module, text, limit, read)
        except TooMuch:
            return _trace_near(module, text, limit)
    except Exception as error:
        fact = f"what it needs cannot be told: {type(error).__name__}: {error}"
        return Closure({}, [fact])


def of_uninstalled(module: str, text: str, needed: Mapping[str, str]) -> dict[str, str]:
    """What a stored migration needs of Django's own apps that are not installed here.

    Cut from the Django that is here, since their modules cannot be imported. `needed`:
    what is stored with it.
    """
    mentions = (m for one in (text, *needed.values()) for m in OWN_APP.finditer(one))
    if not any(is_uninstalled(mention[0]) for mention in mentions):
        return {}

    def read_here(name: str) -> str | None:
        return read(name) if is_uninstalled(name) else needed.get(name)

    tracer = Tracer(read_here)
    tracer.follow(module, without_bom(text))
    for line in text.splitlines():
        # To `import a.b.c`, the name that it binds is `a`: all of Django.
        for match in OF_DJANGO.finditer(line) if "import " not in line else ():
            if is_uninstalled(match[1]):
                tracer.take(match[1], match[2])
    texts = tracer.texts()
    for lack in tracer.lacks:
        if lack.fact == "a model":
            # The methods of a manager name it, and nothing calls them.
            text = texts.get(lack.module, "")
            texts[lack.module] = f"{text}\n\nclass {lack.name}:\n    pass\n"
    return {name: texts[name] for name in filter(is_uninstalled, texts)}


def _trace_near(module: str, text: str, limit: int) -> Closure:
    """Of its own package and of those that it names: others are most often there."""
    near = {name.partition(".")[0] for name in [module, *_imported_in(text)]}

    def read_near(name: str) -> str | None:
        return read(name) if name.partition(".")[0] in near else None

    size = f"more than {limit / 1000:g} kB"
    try:
        texts, _ = _trace(module, text, limit, read_near)
    except TooMuch:
        return Closure({}, [f"the code that it needs has {size}"])
    return Closure(texts, [f"the code that it needs indirectly has {size}"])


def needs_more(text: str) -> bool:
    """Whether a migration may need more than Django and the standard library.

    Fast for those that makemigrations writes; errs on the side of yes.
    """
    lines = [line for line in text.splitlines() if "import" in line]
    return MENTIONS.search(text) is not None or any(
        line.rstrip().endswith("\\") or any(map(_leads_outside, _imported_in(line)))
        for line in lines
    )


def _imported_in(line: str) -> Iterator[str]:
    for match in IMPORTS.finditer(line):
        for part in (match.group(1) or match.group(2)).split(","):
            yield part.strip().partition(" ")[0]


def _leads_outside(name: str) -> bool:
    return name.startswith(".") or is_outside(name)


def _trace(module: str, text: str, limit: int, read: Read) -> Closure:
    tracer = Tracer(read, limit)
    tracer.follow(module, text)
    texts = tracer.texts()
    usages = dict(tracer.usages())
    places = tracer.places
    lists = [
        name
        for name in usages
        if datafiles.lists_the_unknown(usages[name], places.get(name, ()))
    ]
    lacks = [*tracer.lacks, *(Lack(name, "", "lists the unknown") for name in lists)]
    gaps = [_describe(lack, module) for lack in lacks]
    gaps += _commands_called(usages)
    unreadable: dict[str, list[str]] = {}
    for key, path in datafiles.named_by(usages, places, find):
        if fact := _why_private(key):
            gaps.append(fact)
            continue
        if path.stat().st_size > limit:
            raise TooMuch
        text_of_file = _decode(path.read_bytes())
        if text_of_file is None:
            folder, _, _ = key.rpartition("/")
            unreadable.setdefault(folder, []).append(key.removeprefix("./"))
        else:
            texts[key] = text_of_file
    for folder, keys in unreadable.items():
        one = f"the data file {keys[0]} is not text"
        many = f"{len(set(keys))} data files in {folder} are not text"
        gaps.append(one if len(set(keys)) == 1 else many)
    if sum(len(text.encode()) for text in texts.values()) > limit:
        raise TooMuch
    return Closure(dict(sorted(texts.items())), list(dict.fromkeys(gaps)))


def _decode(data: bytes) -> str | None:
    """Text that every database stores: PostgreSQL has no NUL character."""
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _why_private(key: str) -> str:
    """Why a data file must not be stored, "" if it may."""
    if private.is_hidden(key):
        return f"the data file {key.removeprefix('./')} is hidden"
    module = (
        key.removeprefix("./")
        .removesuffix(".py")
        .replace("/", ".")
        .removesuffix(PACKAGE)
    )
    return f"{module} is a settings module" if is_settings(module) else ""


def is_settings(module: str) -> bool:
    return private.is_settings(module, find, _read)


def sort_out(
    texts: Mapping[str, str],
) -> tuple[dict[str, str], frozenset[str], dict[str, str]]:
    """Texts of modules, for a Tracer too; which of them are packages; data files."""
    files = {key: text for key, text in texts.items() if "/" in key}
    modules = {key: text for key, text in texts.items() if "/" not in key}
    parents = {parent for key in modules for parent in _parents(key)}
    return modules, frozenset(parents.intersection(modules)), files


def read(module: str) -> str | None:
    """The text of a module, found without importing anything, None if it has none.

    Or if it is private.
    """
    return None if is_settings(module) else _read(module)


def _read(module: str) -> str | None:
    if module.endswith(PACKAGE):
        spec = find(module[: -len(PACKAGE)])
        is_package = spec is not None and spec.submodule_search_locations is not None
        return "" if is_package else None
    spec = find(module)
    if spec is None:
        return None
    if spec.origin is None and spec.submodule_search_locations is not None:
        # A folder without __init__.py.
        return ""
    get_source = getattr(spec.loader, "get_source", lambda name: None)
    try:
        text = get_source(module)
    except (OSError, ImportError, SyntaxError, ValueError):
        return None
    return None if text is None else str(text)


def find(module: str) -> ModuleSpec | None:
    """Where a module comes from. Unlike source.find(), imports no parents.

    What has not been imported by now may fail, or do anything, when it is.
    """
    imported = getattr(sys.modules.get(module), "__spec__", None)
    if isinstance(imported, ModuleSpec):
        return imported
    above, _, name = module.rpartition(".")
    parent = find(above) if above else None
    path = parent.submodule_search_locations if parent is not None else None
    if not name or (above and path is None):
        return None
    for finder in sys.meta_path:
        spec = finder.find_spec(module, path)
        if spec is not None:
            return spec
    return None


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _commands_called(modules: Mapping[str, list[Usage]]) -> Iterator[str]:
    called = {c for usages in modules.values() for one in usages for c in one.commands}
    for command in sorted(called):
        app = str(get_commands().get(command, "django"))
        if is_outside(app):
            yield f"{app}.management.commands.{command} is called as a command"


def _describe(lack: Lack, root: str) -> str:
    who = "it" if lack.module == root else lack.module
    if lack.fact in DOES:
        return f"{who} {DOES[lack.fact]}"
    if lack.fact == "not Python":
        return f"{lack.module} cannot be parsed"
    name = f"{lack.module}.{lack.name}".rstrip(".")
    for one in (lack.module, name):
        if is_settings(one):
            return f"{one} is a settings module"
    if lack.fact == "a model":
        return f"{name} is a model class"
    if lack.fact == "a receiver":
        return f"{name} connects to a signal when it is imported"
    if find(name) is not None:
        return f"{name} has no source"
    if not lack.name:
        return f"the module {name} cannot be found"
    imported = getattr(sys.modules.get(lack.module), "__dict__", {})
    return f"{name} " + (
        "is made at run time" if lack.name in imported else "cannot be found"
    )
