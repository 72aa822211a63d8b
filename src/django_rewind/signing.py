"""Sign and verify a stored migration (docs: Security)."""

from __future__ import annotations

import json
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import Signer
from django.utils.crypto import constant_time_compare

from . import conf
from .exceptions import NotTrusted
from .models import StoredCode
from .terminal import manage, quoted

SALT = "django_rewind.StoredCode"


def has_key() -> bool:
    """Where images are built, SECRET_KEY may be empty."""
    try:
        return bool(conf.signing_keys()[0])
    except ImproperlyConfigured:
        return False


def sign(code: StoredCode) -> None:
    key = conf.signing_keys()[0]
    code.signature = _signature(code, key)
    code.signing_key = fingerprint(key)


def verify(code: StoredCode) -> None:
    """Raise NotTrusted unless one of this project's keys signed this very code."""
    keys = conf.signing_keys()
    if any(constant_time_compare(code.signature, _signature(code, k)) for k in keys):
        return
    if not code.signature:
        raise NotTrusted(
            "its stored code is not signed.",
            "If django-rewind 0.1.0 stored it, run "
            f"{manage('migrate django_rewind', code.alias)} first. Otherwise read it "
            f"and trust it, with {_trust(code)}, or restore its file.",
        )
    if code.signing_key in {fingerprint(key) for key in keys}:
        raise NotTrusted(
            "its stored code was altered after it was signed.",
            "Do not trust it: restore its file and find out who wrote to "
            f"{code.read_from or code._meta.db_table}.",
        )
    raise NotTrusted(
        "its stored code was signed with a key that this project does not have.",
        "Add the key to SECRET_KEY_FALLBACKS or DJANGO_REWIND_SIGNING_KEY_FALLBACKS, "
        f"restore its file, or read it and trust it, with {_trust(code)}.",
    )


def is_verified(code: StoredCode) -> bool:
    """Else the code must not be parsed either: that can take long, or crash Python."""
    try:
        verify(code)
    except NotTrusted:
        return False
    return True


def is_of_current_key(code: StoredCode) -> bool:
    key = conf.signing_keys()[0]
    return constant_time_compare(code.signature, _signature(code, key))


@cache
def fingerprint(key: str | bytes) -> str:
    """Tells keys apart without giving them away."""
    return Signer(key=key, salt=f"{SALT}.key").signature("")[:16]


def _trust(code: StoredCode) -> str:
    name = f"{quoted(code.app_label)} {quoted(code.migration_name)}"
    return manage(f"trust_stored_migrations {name}", code.alias)


def _signature(code: StoredCode, key: str | bytes) -> str:
    # SQLite may hold bytes in a text column; they never verify.
    signed = [
        code.app_label,
        code.migration_name,
        code.module_name,
        code.source_code,
        code.replaces,
        code.dependencies,
        code.closure,
        code.faked,
        code.digest,
        code.gap,
        code.closure_gaps,
    ]
    return Signer(key=key, salt=SALT).signature(json.dumps(signed, default=repr))
