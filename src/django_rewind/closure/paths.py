"""The paths that expressions stand for, with * for each part that is not told."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .bindings import Context, Place, last_name

JOINERS = frozenset({"join", "joinpath", "Path", "open", "with_name"})
GLOBS = frozenset({"glob", "iglob", "rglob"})
# What returns the path that it is given, or is a method of, with the rest below it.
MAKERS = frozenset(
    {"Path", "PurePath", "abspath", "fspath", "join", "normpath", "realpath", "str"}
)
METHODS = frozenset({"absolute", "joinpath", "resolve"})
# Of "%(name)s.sql" and "{name}.sql".
PERCENT = re.compile(r"%(\(\w+\))?[-#0 +\d.]*[a-zA-Z]")
BRACES = re.compile(r"{[^{}]*}")


def path_of(node: ast.expr, context: Context) -> str:
    """HERE / "sql" / f"{name}.sql" → sql/*.sql; "" if nothing of it is told.

    That it begins somewhere that is not told is left out.
    """
    joined = "/".join(_parts(node, context))
    path = re.sub(r"/+", "/", joined).strip("/").removeprefix("*/")
    return path if any(map(str.isalnum, path)) else ""


def place_of(node: ast.expr, context: Context) -> Place | None:
    """The place that Path(__file__).parent / "sql" stands for, if that is certain."""
    if isinstance(node, ast.Name):
        is_file = node.id == "__file__"
        return Place("", ".") if is_file else context.places.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _place_below(node.left, [node.right], context)
    if isinstance(node, ast.Call):
        return _place_of_call(node, context)
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        return _place_above(node.value, 1, context)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
        number = getattr(node.slice, "value", None)
        if node.value.attr == "parents" and isinstance(number, int):
            return _place_above(node.value.value, number + 1, context)
    return None


def _place_above(node: ast.expr, steps: int, context: Context) -> Place | None:
    place = place_of(node, context)
    return None if place is None else place.then(*[".."] * steps)


def _place_below(
    node: ast.expr, parts: list[ast.expr], context: Context
) -> Place | None:
    place = place_of(node, context)
    texts = [text for part in parts if (text := context.constant(part)) is not None]
    if place is None or len(texts) < len(parts):
        return None
    return place.then(*texts)


def _place_of_call(node: ast.Call, context: Context) -> Place | None:
    name = last_name(node.func)
    package = context.constant(node.args[0]) if node.args else None
    if name in ("contents", "files") and package:
        # Its file is its __init__.py.
        return Place(package, "..")
    if isinstance(node.func, ast.Attribute) and name in METHODS:
        return _place_below(node.func.value, node.args, context)
    if name == "dirname" and node.args:
        return _place_above(node.args[0], 1, context)
    if name in MAKERS and node.args:
        return _place_below(node.args[0], node.args[1:], context)
    return None


def listed_by(node: ast.Call) -> ast.expr | None:
    """What a call may list: HERE of HERE.iterdir(), os.listdir(HERE)."""
    name = last_name(node.func)
    value = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name == "contents":
        return node
    if value is not None and name in ("glob", "iterdir", "rglob"):
        return value
    is_function = value is None or last_name(value) == "os"
    if is_function and name in ("listdir", "scandir", "walk") and node.args:
        return node.args[0]
    return None


def is_pattern(path: str) -> bool:
    return not {"*", "?", "["}.isdisjoint(path)


def _parts(node: ast.expr, context: Context) -> Iterator[str]:
    name = last_name(node.func) if isinstance(node, ast.Call) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        yield from _parts(node.left, context)
        yield from _parts(node.right, context)
    elif isinstance(node, ast.Call) and name in JOINERS | GLOBS:
        before = list(_parts_before(node, context))
        yield from before[:-1] if name == "with_name" else before
        if name == "rglob":
            yield "**"
        # What follows in the other calls is a mode, or the like.
        takes_all = name in ("join", "joinpath", "Path")
        for argument in node.args if takes_all else node.args[:1]:
            yield from _parts(argument, context)
    else:
        known = context.constant(node)
        yield re.sub(r"\*+", "*", _text(node, context)) if known is None else known


def _parts_before(node: ast.Call, context: Context) -> Iterator[str]:
    """Those of the object whose method it is; os.path and the like have none."""
    if isinstance(node.func, ast.Attribute):
        value = node.func.value
        if last_name(value) not in ("codecs", "glob", "io", "path", "pathlib"):
            yield from _parts(value, context)


def _text(node: ast.AST, context: Context) -> str:
    known = context.constant(node) if isinstance(node, ast.expr) else None
    if known is not None:
        return known
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, context) + _text(node.right, context)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return PERCENT.sub("*", _text(node.left, context))
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, context) for value in node.values)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            return BRACES.sub("*", _text(node.func.value, context))
        if last_name(node.func) in ("fspath", "str") and node.args:
            return "/".join(_parts(node.args[0], context))
    return "*"
