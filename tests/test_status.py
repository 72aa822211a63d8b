"""recorded × stored × on disk, as tables of cases."""

from __future__ import annotations

import pytest
from django.test import override_settings

from django_rewind import source, status
from django_rewind.models import Key
from django_rewind.source import Disk
from django_rewind.status import File, Status
from django_rewind.store import Contents

pytestmark = pytest.mark.only("sqlite")

APP = "app"


def parse(text: str) -> dict[str, list[Key]]:
    """ "1 2 s=1,2" → name → what it replaces."""
    found = {}
    for word in text.split():
        name, _, replaced = word.partition("=")
        found[name] = [(APP, other) for other in replaced.split(",") if other]
    return found


class ThisDisk(Disk):
    def __init__(self, names: str) -> None:
        super().__init__()
        self._names[APP] = frozenset(parse(names))


def contents(recorded: str, stored: str, gaps: str = "") -> Contents:
    return Contents(
        recorded=[(APP, name) for name in recorded.split()],
        stored={(APP, name): others for name, others in parse(stored).items()},
        gaps={(APP, name): "it has no source" for name in gaps.split()},
    )


@pytest.fixture
def squashes_on_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Key]]:
    """What the files say that they replace."""
    replaces: dict[str, list[Key]] = {}
    monkeypatch.setattr(source, "module_name", lambda app_label, name: name)
    monkeypatch.setattr(source, "replaces", lambda name: replaces.get(name, []))
    return replaces


@pytest.mark.parametrize(
    ("disk", "recorded", "stored", "expected"),
    [
        ("1", "1", "1", (True, True, File.PRESENT)),
        ("1", "1", "", (True, False, File.PRESENT)),
        ("", "1", "1", (True, True, File.MISSING)),
        ("", "1", "", (True, False, File.MISSING)),
        # Reversed: what is stored stays.
        ("1", "", "1", (False, True, File.PRESENT)),
        ("", "", "1", (False, True, File.MISSING)),
        # Neither recorded nor stored: nothing to say.
        ("1", "", "", None),
    ],
)
def test_each_migration_that_is_recorded_or_stored_has_one_answer(
    squashes_on_disk: dict[str, list[Key]],
    disk: str,
    recorded: str,
    stored: str,
    expected: tuple[bool, bool, File] | None,
) -> None:
    answers = status.classify(contents(recorded, stored), ThisDisk(disk))
    found = [(a.recorded, a.stored, a.file) for a in answers.values()]
    assert found == ([] if expected is None else [expected])
    assert all(key == answer.key == (APP, "1") for key, answer in answers.items())


def test_the_answers_come_in_the_order_of_the_records(
    squashes_on_disk: dict[str, list[Key]],
) -> None:
    answers = status.classify(contents("3 1", "9 2 1 3"), ThisDisk("1 2 3 9"))
    assert [name for _, name in answers] == ["3", "1", "2", "9"]


def answer(**facts: object) -> Status:
    known: dict[str, object] = {
        "recorded": True,
        "stored": True,
        "file": File.MISSING,
        **facts,
    }
    return Status(APP, "1", **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "is_ghost"),
    [
        (answer(), True),
        (answer(stored=False), True),
        (answer(gap="it has no source"), True),
        (answer(excluded=True), True),
        (answer(recorded=False), False),
        (answer(file=File.PRESENT), False),
        (answer(file=File.EDITED), False),
        (answer(superseded_by=(APP, "s")), False),
    ],
)
def test_a_ghost_is_recorded_and_neither_on_disk_nor_superseded(
    one: Status, is_ghost: bool
) -> None:
    assert one.is_ghost is is_ghost


@pytest.mark.parametrize(
    ("one", "lacks_code"),
    [
        (answer(), False),
        (answer(stored=False), True),
        (answer(stored=False, file=File.PRESENT), True),
        (answer(stored=False, recorded=False), False),
        (answer(stored=False, excluded=True), False),
        (answer(stored=False, superseded_by=(APP, "s")), False),
    ],
)
def test_code_is_lacking_where_it_is_recorded_and_wanted(
    one: Status, lacks_code: bool
) -> None:
    assert one.lacks_code is lacks_code


def test_edited_gaps_excluded_and_replaces_are_told(
    squashes_on_disk: dict[str, list[Key]],
) -> None:
    known = contents("1 2", "1 2=1", gaps="1")
    with override_settings(DJANGO_REWIND_EXCLUDE_APPS=[APP]):
        answers = status.classify(known, ThisDisk("1 2"), edited=[(APP, "2")])
    one, two = answers.values()
    assert (one.file, one.gap) == (File.PRESENT, "it has no source")
    assert (two.file, two.gap) == (File.EDITED, "")
    assert (one.replaces, two.replaces) == ((), ((APP, "1"),))
    assert one.excluded
    assert two.excluded


SQUASHED = "1 2 s=1,2"


@pytest.mark.parametrize(
    ("disk", "recorded", "stored", "gaps", "expected"),
    [
        pytest.param("1 2", "1 2", "1 2", "", "", id="nothing is missing"),
        pytest.param("1", "1 2", "1 2", "", "", id="a ghost and no squash"),
        pytest.param("s=1,2", "1 2 s", SQUASHED, "", "1>s 2>s", id="in force"),
        pytest.param("s", "1 2 s", SQUASHED, "", "1>s 2>s", id="replaces removed"),
        # `migrate` would record the squash, since all that it replaces is applied.
        pytest.param("s=1,2", "1 2", "1 2", "", "1>s 2>s", id="not recorded yet"),
        # The file tells, if the row does not.
        pytest.param("s=1,2", "1 2 s", "1 2", "", "1>s 2>s", id="squash not stored"),
        pytest.param("s", "1 2", "1 2", "", "", id="no longer a squash"),
        pytest.param("s=1,2", "1", "1", "", "", id="partly applied"),
        pytest.param("s=1,2 3", "1 3", "1 3", "", "", id="partly applied, and more"),
        pytest.param(
            "s=1,2", "1 2 s 3", f"{SQUASHED} 3", "", "1>s 2>s", id="a ghost after it"
        ),
        pytest.param("1 2", "1 2 s", SQUASHED, "", "s>1", id="before the squash"),
        pytest.param(
            "1", "1 2 s", SQUASHED, "", "s>1", id="before it, and 2 is a ghost"
        ),
        pytest.param(
            "1 2", "s", "s=1,2", "", "", id="before it, originals not recorded"
        ),
        pytest.param(
            "1", "1 2 s", "1 s=1,2", "", "2>s", id="before it, and 2 is not stored"
        ),
        pytest.param(
            "1", "1 2 s", SQUASHED, "2", "2>s", id="before it, and 2 has a gap"
        ),
        pytest.param("", "1 2 s", SQUASHED, "", "1>s 2>s", id="all gone"),
        pytest.param("", "1 2 s", "1 2", "", "", id="all gone, squash not stored"),
        pytest.param("", "1 2 s", SQUASHED, "s", "", id="all gone, squash has a gap"),
        pytest.param("", "1 2", SQUASHED, "", "", id="all gone, squash reversed"),
    ],
)
def test_who_stands_for_whom(
    squashes_on_disk: dict[str, list[Key]],
    disk: str,
    recorded: str,
    stored: str,
    gaps: str,
    expected: str,
) -> None:
    squashes_on_disk.update(parse(disk))
    found = status.find_superseded(contents(recorded, stored, gaps), ThisDisk(disk))
    assert " ".join(f"{one}>{other}" for (_, one), (_, other) in found.items()) == (
        expected
    )


def test_what_a_squash_replaces_is_no_ghost_and_does_not_lack_code(
    squashes_on_disk: dict[str, list[Key]],
) -> None:
    squashes_on_disk.update(parse("s=1,2"))
    answers = status.classify(contents("1 2 s 3", "s=1,2"), ThisDisk("s=1,2"))
    ghosts = [name for (_, name), found in answers.items() if found.is_ghost]
    lacking = [name for (_, name), found in answers.items() if found.lacks_code]
    assert ghosts == lacking == ["3"]


def test_without_a_missing_file_no_file_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(module: str) -> list[Key]:
        raise AssertionError(f"{module} was imported")

    monkeypatch.setattr(source, "replaces", refuse)
    assert status.find_superseded(contents("1 2", "1 2"), ThisDisk("1 2")) == {}
