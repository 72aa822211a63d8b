"""Stored code is trusted only as this project signed it."""

from __future__ import annotations

import json

import pytest
from django.test import override_settings

from django_rewind import conf, importer, signing
from django_rewind.archive import EarlierMigrationCode
from django_rewind.exceptions import NotTrusted
from django_rewind.models import MigrationCode, StoredCode

SOURCE = "class Migration:\n    dependencies = []\n"


def signed(model: type[StoredCode] = MigrationCode) -> StoredCode:
    code = model(
        app_label="users",
        migration_name="0001_initial",
        module_name="users.migrations.0001_initial",
        source_code=SOURCE,
        replaces=json.dumps([["users", "0001_a"]]),
    )
    signing.sign(code)
    return code


def secret_keys(key: str, *fallbacks: str) -> override_settings:
    return override_settings(SECRET_KEY=key, SECRET_KEY_FALLBACKS=fallbacks)


def reason(code: StoredCode) -> str:
    with pytest.raises(NotTrusted) as distrust:
        signing.verify(code)
    return str(distrust.value)


@pytest.mark.parametrize("model", [MigrationCode, EarlierMigrationCode])
def test_what_this_project_signed_is_trusted(model: type[StoredCode]) -> None:
    signing.verify(signed(model))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source_code", SOURCE + "import os\n"),
        ("source_code", ""),
        ("module_name", "users.migrations.0002_other"),
        ("replaces", "[]"),
        ("app_label", "blog"),
        ("migration_name", "0002_other"),
        ("gap", "it has no source"),
        ("signature", "A" * 43),
    ],
)
def test_an_altered_row_is_refused_as_altered(field: str, value: str) -> None:
    code = signed()
    setattr(code, field, value)
    assert "altered after it was signed" in reason(code)


def test_text_cannot_move_from_one_field_to_the_next() -> None:
    code = signed()
    code.app_label, code.migration_name = "users0001", "_initial"
    assert "altered" in reason(code)


def test_the_signature_of_one_row_does_not_fit_another() -> None:
    code, other = signed(), signed()
    other.source_code = "import os\n"
    signing.sign(other)
    code.signature = other.signature
    assert "altered" in reason(code)


def test_an_unsigned_row_is_refused_and_told_of_the_upgrade_and_of_trust() -> None:
    code = signed()
    code.signature = code.signing_key = ""
    assert "not signed" in reason(code)
    assert "migrate django_rewind" in reason(code)
    assert "'manage.py trust_stored_migrations users 0001_initial'" in reason(code)
    code.migration_name = "\x1b[2K"
    assert "\x1b" not in reason(code)


def test_another_key_is_refused_as_signed_elsewhere() -> None:
    code = signed()
    with secret_keys("another key"):
        assert "signed with a key that this project does not have" in reason(code)
        assert "SECRET_KEY_FALLBACKS" in reason(code)


def test_a_fallback_of_the_secret_key_is_accepted() -> None:
    code = signed()
    with secret_keys("another key", "older", "a key for tests"):
        signing.verify(code)
        code.source_code += "#"
        assert "altered" in reason(code)


def test_our_own_key_stands_alone() -> None:
    code = signed()
    with override_settings(DJANGO_REWIND_SIGNING_KEY="our own"):
        assert "this project does not have" in reason(code)
        own = signed()
        signing.verify(own)
    assert "this project does not have" in reason(own)


def test_fallbacks_of_our_own_key_are_accepted() -> None:
    code = signed()
    with override_settings(
        DJANGO_REWIND_SIGNING_KEY="our own",
        DJANGO_REWIND_SIGNING_KEY_FALLBACKS=["older", "a key for tests"],
    ):
        signing.verify(code)
        assert conf.signing_keys() == ["our own", "older", "a key for tests"]


def test_the_first_key_signs() -> None:
    with secret_keys("new", "a key for tests"):
        code = signed()
    with secret_keys("new"):
        signing.verify(code)


def test_keys_may_be_bytes() -> None:
    with override_settings(DJANGO_REWIND_SIGNING_KEY=b"\xff\x00"):
        signing.verify(signed())


def test_a_fingerprint_tells_keys_apart_and_fits_its_column() -> None:
    one, other = signing.fingerprint("one"), signing.fingerprint("other")
    assert one != other
    assert "one" not in one
    # As in the columns.
    assert len(one) == 16
    assert len(signed().signature) == 43


def test_code_is_not_run_before_its_signature_is_verified() -> None:
    code = signed()
    code.source_code = "raise SystemExit('it ran')"
    with pytest.raises(NotTrusted):
        importer.load(code)
