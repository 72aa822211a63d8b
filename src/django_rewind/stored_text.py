"""Run a text from the database as a module."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.abc import InspectLoader
from types import CodeType, ModuleType
from typing import Any

from django.apps import apps

from .parsing import parse, unwarned

# Names of stored modules that are running → the modules of the checkout, if imported.
_displaced: dict[str, ModuleType | None] = {}


class StoredText(InspectLoader):
    """Loads a module from a text; linecache asks it for a traceback's lines."""

    def __init__(self, text: str, owner: str) -> None:
        self.text = text
        # In angle brackets, linecache would not look for the lines.
        self.filename = f"stored code of {owner}"
        # linecache never asks a loader twice, and another database may have other
        # code under the same name.
        linecache.cache.pop(self.filename, None)

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_code(self, fullname: str) -> CodeType:
        return self.compile(parse(self.text, self.filename))

    def compile(self, tree: ast.Module) -> CodeType:
        with unwarned():
            return compile(tree, self.filename, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return False


@contextmanager
def running(module: ModuleType) -> Iterator[None]:
    """While its code runs: what dataclasses and the like look up, and no model."""
    name = module.__name__
    before = sys.modules.get(name)
    is_first = name not in _displaced
    if is_first:
        _displaced[name] = before
    sys.modules[name] = module
    registered = {label: dict(models) for label, models in apps.all_models.items()}
    try:
        # What it prints must not stand in the JSON of a plan.
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _put(name, _displaced.pop(name) if is_first else before)
        _forget_models(module, registered)


@contextmanager
def stepping_aside() -> Iterator[None]:
    """While a module of the checkout is imported: it must not meet stored ones."""
    inside = {name: sys.modules.get(name) for name in _displaced}
    for name, module in _displaced.items():
        _put(name, module)
    try:
        yield
    finally:
        for name, module in inside.items():
            _displaced[name] = sys.modules.get(name)
            _put(name, module)


def _put(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


def _forget_models(module: ModuleType, before: dict[str, dict[str, Any]]) -> None:
    """Else a model of the project would be there twice, or be another one."""
    for label, models in apps.all_models.items():
        for name, model in list(models.items()):
            known = before.get(label, {}).get(name)
            if model is known or model.__module__ != module.__name__:
                continue
            if known is None:
                del models[name]
            else:
                models[name] = known
            apps.clear_cache()
