"""Show that a long step lives."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

# Seconds after which a step counts as long, and after which it is shown again.
FIRST, AGAIN = 10, 30

# Seconds between two looks.
BEAT = 1


class Pulse:
    """Writes how long a step has been running, after its name and before its OK."""

    def __init__(self, stdout: Any, verbosity: int) -> None:
        self.stdout = stdout
        self.is_shown = verbosity >= 1
        self._began: float | None = None
        self._ended = Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        if self.is_shown:
            self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self.is_shown:
            self._thread.join()

    def around(self, progress: Callable[..., None]) -> Callable[..., None]:
        """Tells begin and end of each step from what the executor reports."""

        def report(action: str, *args: Any) -> None:
            if action.endswith("_success"):
                self._began = None
            progress(action, *args)
            if action.endswith("_start"):
                self._began = time.monotonic()

        return report

    def _beat(self) -> None:
        shown = 0.0
        while not self._ended.wait(BEAT):
            began = self._began
            if began is None:
                shown = 0.0
                continue
            seconds = time.monotonic() - began
            if seconds >= (shown + AGAIN if shown else FIRST):
                shown = seconds
                self.stdout.write(f" {seconds:.0f} s...", ending="")
                self.stdout.flush()
