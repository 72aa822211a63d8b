"""Model classes in modules that nobody imported, told from their text."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Collection, Iterator

from ..parsing import parse
from . import cutting

# A module by its name, None if there is no text.
Find = Callable[[str], "cutting.Module | None"]

Name = tuple[str, str]


def is_model(module: cutting.Module, name: str, find: Find) -> bool:
    """Whether to run its definition would register a model.

    Of a module that is imported, its classes tell.
    """
    return (
        module.name not in sys.modules
        and not any(map(_is_abstract, _classes(module, name)))
        and _derives_from_model(module, name, find, {(module.name, name)})
    )


def _derives_from_model(
    module: cutting.Module, name: str, find: Find, seen: Collection[Name]
) -> bool:
    for node in _classes(module, name):
        for base in node.bases:
            for owner, path in _meanings(module, _path(base)):
                if owner.partition(".")[0] == "django" and path[-1] == "Model":
                    return True
                key = ".".join([owner, *path[:-1]]), path[-1]
                other = None if key in seen else find(key[0])
                if other and _derives_from_model(other, key[1], find, {*seen, key}):
                    return True
    return False


def _meanings(
    module: cutting.Module, path: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The modules in which a path leads to a name, and the rest of it."""
    for index in module.binders.get(path[0], ()) if path else ():
        references = module.pieces[index].binds[path[0]]
        for reference in references:
            if onward := reference.path + path[1:]:
                yield reference.module, onward
        if not references:
            yield module.name, path


def _classes(module: cutting.Module, name: str) -> Iterator[ast.ClassDef]:
    for index in module.binders.get(name, ()):
        for node in parse(module.pieces[index].text).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                yield node


def _is_abstract(node: ast.ClassDef) -> bool:
    return any(
        isinstance(inner, ast.Assign)
        and any(getattr(target, "id", "") == "abstract" for target in inner.targets)
        and getattr(inner.value, "value", False) is True
        for meta in node.body
        if isinstance(meta, ast.ClassDef) and meta.name == "Meta"
        for inner in meta.body
    )


def _path(node: ast.expr) -> tuple[str, ...]:
    """("models", "Model") of `models.Model`; empty for anything but names."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (above := _path(node.value)):
        return (*above, node.attr)
    return ()
