"""Python as text that ran before: whatever it is warned of is no news."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unwarned() -> Iterator[None]:
    """Python warned when it compiled the file; as an error, it would be no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(text: str, filename: str = "<unknown>") -> ast.Module:
    with unwarned():
        return ast.parse(without_bom(text), filename)


def without_bom(text: str) -> str:
    """Python takes a byte order mark for a part of the encoding, and only in bytes."""
    return text[1:] if text.startswith("\ufeff") else text
