"""The verdict on what migrations need beside their own code."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext

from django_rewind import capture, signing, source, store, verification
from django_rewind.archive import NeededCode
from django_rewind.closure import Closure
from django_rewind.exceptions import Refused
from django_rewind.models import Key, MigrationCode
from django_rewind.rewind import prepare
from django_rewind.verification import Finding, Verdict
from tests.history import with_pk

GHOST = ("sessions", "0002_ghost")
ON_DISK = ("sessions", "0001_initial")
PERSON = "users.models.Person is a model class"


def need(
    key: Key,
    texts: dict[str, str],
    gaps: list[str] | None = None,
    *,
    recorded: bool = True,
    replaces: str = "[]",
) -> MigrationCode:
    """Store a migration, rightly signed, with what it needs and lacks."""
    codes = MigrationCode.objects.filter(app_label=key[0], migration_name=key[1])
    code = codes.first() or MigrationCode(app_label=key[0], migration_name=key[1])
    if code.pk is None:
        capture.set_source(
            code,
            "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            "    dependencies = [('sessions', '0001_initial')]\n",
        )
        code.replaces = replaces
        if recorded:
            MigrationRecorder(connection).record_applied(*key)
    capture.set_needed(code, Closure(texts, gaps or []))
    signing.sign(code)
    store.save(connection, code)
    return with_pk(code)


def judge(key: Key) -> Finding:
    return {f.status.key: f for f in verification.verify(connection)}[key]


def refusal() -> str:
    with pytest.raises(Refused) as refused:
        prepare(connection, "sessions", "0001")
    return str(refused.value)


def test_a_migration_with_all_that_it_needs_is_well(db: None) -> None:
    need(ON_DISK, {"users.helpers": "x = 1\n", "users/a.json": "[]"})
    need(GHOST, {"users.helpers": "x = 1\n"})
    assert judge(ON_DISK).verdict is Verdict.OK
    assert judge(GHOST).verdict is Verdict.GHOST
    assert prepare(connection, "sessions", "0001")


@pytest.mark.parametrize("text", [None, "x = 2\n", ""])
def test_needed_code_that_is_missing_or_altered_fails(
    db: None, text: str | None
) -> None:
    code = need(GHOST, {"users.helpers": "x = 1\n", "users.other": "y = 1\n"})
    texts = NeededCode._default_manager.filter(
        digest=code.needed_digests["users.helpers"]
    )
    if text is None:
        texts.delete()
    else:
        texts.update(source_code=text)
    finding = judge(GHOST)
    assert finding.verdict is Verdict.ALTERED
    assert finding.fails()
    fact = "the code that it needs, users.helpers, is missing or was altered."
    assert finding.fact == fact
    assert fact in refusal()
    assert finding.remedy.startswith("Check out the code that has its file as it was")
    assert "django_migrations_code_needed" in finding.remedy


def test_the_file_still_reverses_it_where_it_is_there(db: None) -> None:
    need(ON_DISK, {"users.helpers": "x = 1\n"})
    NeededCode._default_manager.all().delete()
    finding = judge(ON_DISK)
    assert finding.verdict is Verdict.ALTERED
    assert finding.remedy.startswith("Keep its file for as long as it may have to be")
    assert prepare(connection, "sessions", "zero")


def test_each_of_those_that_share_an_altered_text_is_found(db: None) -> None:
    need(GHOST, {"users.helpers": "x = 1\n"})
    need(("sessions", "0003_other"), {"users.renamed": "x = 1\n"})
    need(("sessions", "0004_well"), {"users.well": "y = 1\n"})
    digest = source.digest("x = 1\n")
    NeededCode._default_manager.filter(digest=digest).update(source_code="x = 2\n")
    verdicts = [
        judge(("sessions", f"000{n}_{name}")).verdict.value
        for n, name in [(2, "ghost"), (3, "other"), (4, "well")]
    ]
    assert verdicts == ["altered", "altered", "ghost"]


def test_an_altered_row_is_not_asked_what_it_needs(db: None) -> None:
    code = need(GHOST, {})
    digests = '{"users.helpers": "0"}'
    MigrationCode.objects.filter(pk=code.pk).update(closure=digests)
    assert judge(GHOST).fact == "its stored code was altered after it was signed."


def test_what_could_not_be_stored_is_a_gap_while_the_file_is_there(db: None) -> None:
    need(ON_DISK, {}, [PERSON])
    finding = judge(ON_DISK)
    assert finding.verdict is Verdict.GAP
    assert (finding.fails(), finding.fails(strict=True)) == (False, True)
    assert finding.fact == f"it would not load without its branch: {PERSON}."
    assert finding.remedy == (
        "Reverse it while its file and that are here, or keep both for as long as it "
        "may have to be reversed."
    )


def test_a_ghost_that_lacks_something_may_still_load(db: None) -> None:
    need(GHOST, {}, [PERSON])
    finding = judge(GHOST)
    assert finding.verdict is Verdict.GAP
    assert finding.remedy == (
        "'manage.py migrate sessions NAME' reverses it where that is there too. Else "
        "check out the code that has its file, and reverse it there."
    )
    assert prepare(connection, "sessions", "0001")


def test_a_command_to_copy_is_quoted(db: None) -> None:
    for gaps in [[], [PERSON]]:
        need(("x; rm -r ~", "0001_a"), {}, gaps)
        remedy = judge(("x; rm -r ~", "0001_a")).remedy
        assert remedy.startswith("'manage.py migrate 'x; rm -r ~' NAME' ")


def test_of_many_things_that_it_lacks_some_are_named(db: None) -> None:
    need(GHOST, {}, [f"users.models.M{n} is a model class" for n in range(5)])
    assert judge(GHOST).fact == (
        "it would not load without its branch: users.models.M0 is a model class; "
        "users.models.M1 is a model class; users.models.M2 is a model class; "
        "and 2 more."
    )


def test_what_is_not_applied_has_no_such_gap(db: None) -> None:
    need(GHOST, {}, [PERSON], recorded=False)
    assert judge(GHOST).verdict is Verdict.OK


def test_what_is_superseded_has_no_such_gap(db: None) -> None:
    need(GHOST, {}, [PERSON])
    need(("sessions", "0002_squashed"), {}, replaces='[["sessions", "0002_ghost"]]')
    assert judge(GHOST).verdict is Verdict.OK


def test_what_is_superseded_needs_no_code(db: None) -> None:
    """As of a package whose app once had another label, and that still replaces it."""
    former = "former", "0001_initial"
    MigrationRecorder(connection).record_applied(*former)
    gap = MigrationCode(app_label=former[0], migration_name=former[1])
    capture.set_source(gap, "")
    gap.gap = "app 'former' has no migrations module"
    signing.sign(gap)
    store.save(connection, gap)
    assert judge(former).verdict is Verdict.NOT_STORED
    need(GHOST, {}, replaces='[["former", "0001_initial"]]')
    assert judge(former).verdict is Verdict.OK


def test_the_number_of_queries_does_not_grow_with_the_rows(db: None) -> None:
    def need_ten_more(start: int) -> None:
        for n in range(start, start + 10):
            need(("sessions", f"{n:04}_a"), {"users.a": "a = 1\n", "users.b": f"{n}\n"})

    need_ten_more(1000)
    with CaptureQueriesContext(connection) as few:
        verification.verify(connection)
    need_ten_more(2000)
    need_ten_more(3000)
    with CaptureQueriesContext(connection) as many:
        verification.verify(connection)
    # One more for each 20 texts.
    assert len(many) == len(few) + 1


def test_strict_fails_on_such_a_gap(db: None) -> None:
    need(ON_DISK, {}, [PERSON])
    call_command("verify_migrations", verbosity=0)
    with pytest.raises(SystemExit):
        call_command("verify_migrations", "--strict", verbosity=0)
