"""What a table of SQLite is made of, as its CREATE TABLE has it.

https://www.sqlite.org/lang_createtable.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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


class Generated(NamedTuple):
    """The parts of a generated column's SQL."""

    expression: str
    is_stored: bool
    # All else: its type and its constraints.
    rest: str
    # All that the expression mentions, in lower case.
    names: frozenset[str]


def read(create_table: str) -> list[Definition]:
    return [_definition(part) for part in _parts(create_table) if part]


def mentioned(sql: str) -> frozenset[str]:
    """Each name in any SQL, in lower case."""
    return _mentioned(TOKEN.findall(sql))


def take_apart(generated: str) -> Generated:
    """What comes after the name of a generated column."""
    tokens = TOKEN.findall(generated)
    start = [text.lower() for text in tokens].index("as")
    end = _closing(tokens, start)
    expression = "".join(tokens[start + 1 : end]).strip()[1:].strip()
    before, after = "".join(tokens[:start]), "".join(tokens[end + 1 :])
    before = re.sub(r"(?i)\s*generated\s+always\s*$", "", before)
    kind = re.match(r"(?i)\s*(stored|virtual)?\b", after)
    return Generated(
        expression,
        kind is not None and (kind[1] or "").lower() == "stored",
        f"{before.strip()} {after[kind.end() if kind else 0 :].strip()}".strip(),
        _mentioned(tokens[start + 1 : end]),
    )


def _closing(tokens: list[str], start: int) -> int:
    """Where the first parenthesis from there on is closed."""
    depth = 0
    for position in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position], 0)
        if depth == 0 and tokens[position] == ")":
            return position
    return len(tokens)


def _mentioned(tokens: Iterable[str]) -> frozenset[str]:
    words = (text for text in tokens if not text.isspace() and text[0] != "'")
    return frozenset(_unquoted(word).casefold() for word in words)


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
    names = _mentioned(words)
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
