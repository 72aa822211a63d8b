"""Text from the database, safe to show in a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS

# What a terminal would act upon, or show as something else.
UNPRINTABLE = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


class Encodable:
    """A stream that escapes what its encoding lacks, as Python's stderr does."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None)
        if encoding:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(text)


def printable(text: object) -> str:
    """With escapes for what a terminal would act upon; line breaks stay.

    SQLite keeps bytes in columns for text.
    """
    shown = text if isinstance(text, str) else repr(text)
    # Much faster than a call for each, where a text has millions of them.
    for character in set(re.findall(UNPRINTABLE, shown)):
        shown = shown.replace(character, ascii(character)[1:-1])
    return shown


def on_one_line(text: object) -> str:
    """A name or a fact from the database, which cannot pretend to be another line."""
    return printable(text).replace("\n", "\\n")


def printable_lines(text: object) -> list[str]:
    """A text's lines as Python counts them, each safe to show."""
    if isinstance(text, str):
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    *lines, last = printable(text).split("\n")
    return [*lines, last] if last else lines


def quoted(name: object) -> str:
    """For a command that a reader may copy; most names are as they are."""
    from shlex import quote

    return quote(shortened(name))


def said(error: BaseException) -> str:
    """What it is and says, to be followed by a full stop."""
    return on_one_line(f"{type(error).__name__}: {error}").rstrip(".: ")


def manage(command: str, alias: str | None) -> str:
    """What a reader should run, for the database that it is about."""
    is_default = alias in (None, DEFAULT_DB_ALIAS)
    option = "" if is_default else f" --database {quoted(alias)}"
    return f"'manage.py {command}{option}'"


def first_of(texts: Sequence[object], limit: int = 3) -> list[str]:
    """Each shortened; how many more there are is the last one."""
    shown = [shortened(text) for text in texts[:limit]]
    more = len(texts) - limit
    return [*shown, f"and {more} more"] if more > 0 else shown


def migrations(number: int) -> str:
    return "1 migration" if number == 1 else f"{number} migrations"


def shortened(text: object, limit: int = 400) -> str:
    """On one line, and cut if it is longer than anything that this app writes."""
    shown = on_one_line(text[: limit + 1] if isinstance(text, str) else text)
    return shown if len(shown) <= limit else f"{shown[:limit]}…"
