"""What a table of SQLite is made of, as its CREATE TABLE has it.

https://www.sqlite.org/lang_createtable.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]"""
    r"""|--[^\n]*|/\*.*?\*/|[(),]|\w+|\s+|.""",
    re.DOTALL,
)
CLOSING = {'"': '"', "`": "`", "[": "]"}
OF_TABLES = "constraint", "unique", "check", "foreign", "primary"


class Definition(NamedTuple):
    """One column, or one constraint of the table."""

    # Empty for a constraint that has none.
    name: str
    # "column", or the word that says which constraint: "unique", "check" ...
    kind: str
    # Of a column, what comes after its name.
    sql: str
    # All that it mentions, in lower case.
    names: frozenset[str]


def read(create_table: str) -> list[Definition]:
    return [_definition(part) for part in _parts(create_table) if part]


def _parts(create_table: str) -> Iterator[list[str]]:
    part: list[str] = []
    depth = 0
    for match in TOKEN.finditer(create_table):
        text = " " if match[0].startswith(("--", "/*")) else match[0]
        if text == ")":
            depth -= 1
        if text == ")" and depth == 0:
            break
        if text == "," and depth == 1:
            yield part
            part = []
        elif depth > 0:
            part.append(text)
        if text == "(":
            depth += 1
    yield part


def _definition(part: list[str]) -> Definition:
    words = [text for text in part if not text.isspace()]
    sql = "".join(part).strip()
    names = frozenset(_unquoted(w).casefold() for w in words if not w.startswith("'"))
    kind = words[0].lower()
    if kind not in OF_TABLES:
        rest = sql[len(words[0]) :].strip()
        return Definition(_unquoted(words[0]), "column", rest, names)
    if kind != "constraint":
        return Definition("", kind, sql, names)
    return Definition(_unquoted(words[1]), words[2].lower(), sql, names)


def _unquoted(text: str) -> str:
    if text[0] not in CLOSING:
        return text
    closing = CLOSING[text[0]]
    return text[1:-1].replace(closing * 2, closing)
