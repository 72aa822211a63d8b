"""Whether two migrations do the same, whatever they are called and wherever they are.

Compares what was loaded, not texts: names are resolved by then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from django.db import models
from django.db.migrations import Migration, RunPython
from django.db.migrations.operations.base import Operation
from django.utils.functional import Promise

# What no database knows of, and what does not change how rows are made.
NOT_IN_SCHEMA = {
    "choices",
    "editable",
    "error_messages",
    "help_text",
    "limit_choices_to",
    "related_name",
    "related_query_name",
    "validators",
    "verbose_name",
    "verbose_name_plural",
}

# Functions that call functions: so deep is looked.
DEPTH = 20


def do_the_same(one: Migration, other: Migration) -> bool:
    return _equal(one.operations, other.operations)


def make_the_same_schema(one: Migration, other: Migration) -> bool:
    """Also if their RunPython operations differ: an edit that spares new databases."""
    return _equal(_of_schema(one.operations), _of_schema(other.operations))


def _of_schema(operations: Collection[Operation]) -> list[Operation]:
    return [o for o in operations if not isinstance(o, RunPython)]


def _equal(one: Collection[Operation], other: Collection[Operation]) -> bool:
    if len(one) != len(other):
        return False
    try:
        return all(meaning(a) == meaning(b) for a, b in zip(one, other))
    except (RecursionError, TypeError, ValueError):
        # Who cannot be compared is not the same.
        return False


def meaning(value: Any, depth: int = 0) -> Any:
    """Equal for values that do the same in a migration."""
    below = depth + 1
    if depth > DEPTH:
        return repr(type(value))
    if isinstance(value, Mapping):
        return {
            str(key): meaning(item, below)
            for key, item in value.items()
            if key not in NOT_IN_SCHEMA
        }
    if isinstance(value, (list, tuple)):
        return [meaning(item, below) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(meaning(item, below)) for item in value)
    if isinstance(value, models.Field):
        _, path, args, kwargs = value.deconstruct()
        return path, meaning(args, below), meaning(kwargs, below)
    if isinstance(value, (type, Promise)):
        return _name(value)
    if hasattr(value, "deconstruct"):
        # Operations, constraints, indexes, managers, validators and the like.
        return _class_of(value), meaning(list(value.deconstruct())[-2:], below)
    return _meaning_of_code(value, below)


def _name(value: Any) -> str:
    if isinstance(value, Promise):
        return str(value)
    return f"{value.__module__}.{value.__qualname__}"


def _class_of(value: Any) -> str:
    """Stored and present classes of one name are two; see what they are made of."""
    return type(value).__qualname__


def _meaning_of_code(value: Any, depth: int) -> Any:
    if isinstance(value, partial):
        return "partial", meaning([value.func, value.args, value.keywords], depth)
    if isinstance(value, MethodType):
        return "method", meaning([value.__func__, value.__self__], depth)
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return (
            _meaning_of_bytecode(value.__code__, depth),
            meaning([value.__defaults__, value.__kwdefaults__, cells], depth),
            meaning(list(_called(value)), depth),
        )
    if isinstance(value, re.Pattern):
        return value.pattern, value.flags
    return value


def _meaning_of_bytecode(code: CodeType, depth: int) -> Any:
    """Without the lines and the file."""
    constants = [
        _meaning_of_bytecode(c, depth + 1) if isinstance(c, CodeType) else (type(c), c)
        for c in code.co_consts
    ]
    return (
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )


def _called(function: FunctionType) -> Iterator[Any]:
    """The plain functions and values of its module that it names."""
    for name in _names(function.__code__):
        found = function.__globals__.get(name)
        if found is function:
            continue
        if isinstance(found, (FunctionType, str, int, float, tuple, list, dict)):
            yield name, found


def _names(code: CodeType) -> list[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_names(constant))
    return sorted(names)
