"""What a text says of a migration, read without being run."""

from __future__ import annotations

import ast
from typing import NamedTuple

from . import source
from .closure import outside
from .models import Key
from .parsing import parse

# Which migration these name depends on what else is there.
RELATIVE = ("__first__", "__latest__")


class Outline(NamedTuple):
    dependencies: list[Key]
    # Whether these are all of them, and the same in every checkout.
    is_complete: bool
    replaces: list[Key]
    imports_more: bool


def read(text: str) -> Outline | None:
    """None if the text defines no migration."""
    try:
        tree = parse(text)
    except source.UNPARSABLE:
        return None
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    migration = next((node for node in classes if node.name == "Migration"), None)
    if migration is None:
        return None
    dependencies = _literal_keys(tree, migration, "dependencies")
    return Outline(
        dependencies=source.literal_dependencies(text) or [],
        is_complete=dependencies is not None
        and not any(name in RELATIVE for _, name in dependencies),
        replaces=_literal_keys(tree, migration, "replaces") or [],
        imports_more=any(map(_imports_more, ast.walk(tree))),
    )


def _literal_keys(
    tree: ast.Module, migration: ast.ClassDef, name: str
) -> list[Key] | None:
    """The keys assigned to a name, None if they are not literals or not all."""
    if sum(_mentions(node, name) for node in ast.walk(tree)) != 1:
        # Never assigned, or changed somewhere.
        return None
    values = [
        statement.value
        for statement in migration.body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        and any(_mentions(node, name) for node in ast.iter_child_nodes(statement))
    ]
    try:
        return [
            (str(app_label), str(migration_name))
            for value in values
            for app_label, migration_name in ast.literal_eval(value or "")
        ]
    except (TypeError, *source.UNPARSABLE):
        return None


def _mentions(node: ast.AST, name: str) -> bool:
    return name in (getattr(node, "id", None), getattr(node, "attr", None))


def _imports_more(node: ast.AST) -> bool:
    """Whether it imports something else than Django and the standard library."""
    if isinstance(node, ast.Import):
        return any(outside.is_outside(alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or outside.is_outside(node.module or "")
    return False
