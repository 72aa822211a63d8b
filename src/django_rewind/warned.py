"""Warnings that a project's LOGGING would drop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("django_rewind")


class _ToStderr(logging.Handler):
    def __init__(self, stderr: Any) -> None:
        super().__init__(logging.WARNING)
        self._stderr = stderr

    def emit(self, record: logging.LogRecord) -> None:
        self._stderr.write(record.getMessage())


@contextmanager
def at_least_on(stderr: Any) -> Iterator[None]:
    """What nobody would see is written to the stderr of a command.

    Where warnings are kept, be it in a file, they are not said twice.
    """
    if not _are_dropped():
        yield
        return
    before = logger.level, logger.propagate, logger.disabled
    handler = _ToStderr(stderr)
    logger.addHandler(handler)
    # What drops them keeps dropping them.
    logger.propagate = logger.disabled = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.level, logger.propagate, logger.disabled = before
        logger.setLevel(logger.level)
        logger.removeHandler(handler)


def _are_dropped() -> bool:
    if logger.disabled or not logger.isEnabledFor(logging.WARNING):
        return True
    levels = [handler.level for handler in _handlers()]
    # Without any handler, Python writes them to stderr itself.
    return bool(levels) and min(levels) > logging.WARNING


def _handlers() -> Iterator[logging.Handler]:
    one: logging.Logger | None = logger
    while one is not None:
        yield from one.handlers
        one = one.parent if one.propagate else None
