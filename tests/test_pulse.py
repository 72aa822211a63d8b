"""A long step says that it lives."""

from __future__ import annotations

import time
from io import StringIO
from typing import Any

import pytest
from django.core.management.base import OutputWrapper

from django_rewind import pulse
from django_rewind.pulse import Pulse

pytestmark = pytest.mark.only("sqlite")


def run(monkeypatch: pytest.MonkeyPatch, seconds: float, verbosity: int = 1) -> str:
    monkeypatch.setattr(pulse, "FIRST", 0.05)
    monkeypatch.setattr(pulse, "AGAIN", 100)
    monkeypatch.setattr(pulse, "BEAT", 0.02)
    out = OutputWrapper(StringIO())
    heard: list[Any] = []
    with Pulse(out, verbosity) as shown:
        progress = shown.around(lambda *args: heard.append(args[0]))
        progress("unapply_start", None, False)
        time.sleep(seconds)
        progress("unapply_success", None, False)
        time.sleep(seconds)
    assert heard == ["unapply_start", "unapply_success"]
    return str(out.getvalue())


def test_a_long_step_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 0.3) == " 0 s..."


def test_a_short_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 0) == ""


def test_verbosity_0_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, 0.3, verbosity=0) == ""
