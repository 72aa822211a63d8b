"""What stored code needs and is neither stored with it nor here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from inspect import isfunction
from typing import Any

from django.conf import settings
from django.db.migrations.operations.base import Operation
from django.utils.module_loading import import_string

from . import closure, planning
from .exceptions import Problem
from .importer import RESTORE, FakedMigration, StoredMigration
from .models import StoredCode
from .terminal import first_of, on_one_line

# As capture says it.
OF_A_SETTING = re.compile(r"the setting (\w+) ")


def problems(migration: StoredMigration) -> Iterator[Problem]:
    """What a function that reverses it imports: it would stop there."""
    if isinstance(migration, FakedMigration) or not migration.code.lacking:
        return
    for function in _reverse_functions(migration.operations):
        names = ", ".join(first_of(_needed_by(migration.code, function)))
        if names:
            yield Problem(
                migration.app_label,
                migration.name,
                f"'{function.__name__}' reverses it and needs {names}, which is "
                "neither stored with it nor here.",
                RESTORE,
            )


def describe(code: StoredCode) -> str:
    """What was known to be missing when it was stored; empty if all is here now.

    Some of it may be needed by functions, which nobody runs to find out.
    """
    facts = [fact for fact in code.lacking if not _is_about_what_is_here(fact)]
    return on_one_line("; ".join(first_of(facts)))


def _is_about_what_is_here(fact: str) -> bool:
    setting = OF_A_SETTING.match(fact)
    if setting is not None:
        return hasattr(settings, setting[1])
    # It begins with the name, if it is about one.
    return _is_here(fact.partition(" ")[0])


def _reverse_functions(operations: Iterable[Operation]) -> Iterator[Any]:
    for operation in planning.database_operations(operations):
        function = getattr(operation, "reverse_code", None)
        # Of another one, no definition can be cut out.
        if isfunction(function) and function.__qualname__.isidentifier():
            yield function


def _needed_by(code: StoredCode, function: Any) -> list[str]:
    module = function.__module__
    texts = {**code.needed, code.module_name: code.source_code}
    if module not in texts:
        # It is this checkout's own.
        return []
    cut = closure.Tracer(texts.get)
    cut.take(module, function.__name__)
    tracer = closure.Tracer(lambda m: texts[m] if m in texts else closure.read(m))
    tracer.follow(module, cut.texts().get(module, ""))
    absent = (lack for lack in tracer.lacks if lack.fact == "absent")
    names = [f"{lack.module}.{lack.name}".rstrip(".") for lack in absent]
    return [name for name in names if not _is_here(name)]


def _is_here(name: str) -> bool:
    """A module, or what one has."""
    for find in (import_string, import_module):
        # Whatever a module does when it is imported.
        with suppress(Exception):
            find(name)
            return True
    return False
