"""Stored modules run under their names, where nobody else meets them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from django_rewind.stored_text import running, stepping_aside


@pytest.fixture
def forgetting() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("is_imported", [True, False])
def test_a_module_of_the_checkout_meets_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forgetting: None,
    is_imported: bool,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stored_one.py").write_text("whose = 'checkout'")
    (tmp_path / "another_one.py").write_text("from stored_one import whose")
    if is_imported:
        __import__("stored_one")
    stored = ModuleType("stored_one")
    stored.__dict__["whose"] = "stored"
    with running(stored):
        assert sys.modules["stored_one"] is stored
        with stepping_aside():
            another = __import__("another_one")
        assert sys.modules["stored_one"] is stored
    assert another.whose == "checkout"
    own = sys.modules["stored_one"]
    assert own is not stored
    assert own.whose == "checkout"


def test_what_the_checkout_has_not_is_gone_again() -> None:
    with running(ModuleType("stored_one")), running(ModuleType("stored_one")):
        pass
    assert "stored_one" not in sys.modules
