"""The settings, one function each, read whenever they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .exceptions import BadSetting


def is_enabled() -> bool:
    """DJANGO_REWIND_ENABLED: False leaves Django untouched."""
    return bool(getattr(settings, "DJANGO_REWIND_ENABLED", True))


def is_active() -> bool:
    """Hooks and checks stay where a test overrides INSTALLED_APPS."""
    return is_enabled() and apps.is_installed("django_rewind")


def excluded_apps() -> frozenset[str]:
    """DJANGO_REWIND_EXCLUDE_APPS: labels of the apps that are not stored."""
    return frozenset(_several("DJANGO_REWIND_EXCLUDE_APPS", "labels of apps"))


def closure_limit() -> int:
    """DJANGO_REWIND_CLOSURE_LIMIT: bytes of other code stored with one migration."""
    value = getattr(settings, "DJANGO_REWIND_CLOSURE_LIMIT", 512 * 1024)
    if not isinstance(value, int) or value < 0:
        raise BadSetting("DJANGO_REWIND_CLOSURE_LIMIT", value, "bytes, 0 or more")
    return value


def lock_is_used() -> bool:
    """DJANGO_REWIND_LOCK: False for poolers whose connections cannot hold a lock."""
    return bool(getattr(settings, "DJANGO_REWIND_LOCK", True))


def lock_timeout() -> float:
    """DJANGO_REWIND_LOCK_TIMEOUT: seconds to wait for another process; 0 for none."""
    value = getattr(settings, "DJANGO_REWIND_LOCK_TIMEOUT", 600)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1
    # Not a number is not more than anything.
    if not seconds >= 0:
        raise BadSetting("DJANGO_REWIND_LOCK_TIMEOUT", value, "seconds, 0 or more")
    return seconds


def is_automatic() -> bool:
    """DJANGO_REWIND_AUTO: `migrate` rewinds ghosts first; only while DEBUG is on."""
    return bool(getattr(settings, "DJANGO_REWIND_AUTO", False))


def signing_keys() -> Sequence[str | bytes]:
    """The key that signs, then those that are still accepted.

    DJANGO_REWIND_SIGNING_KEY and its _FALLBACKS stand alone where they are set:
    whoever knows SECRET_KEY then cannot sign.
    """
    own_key = getattr(settings, "DJANGO_REWIND_SIGNING_KEY", None)
    if own_key:
        return [own_key, *_several("DJANGO_REWIND_SIGNING_KEY_FALLBACKS", "keys")]
    # Django 3.2 and 4.0 have no SECRET_KEY_FALLBACKS of their own.
    return [settings.SECRET_KEY, *_several("SECRET_KEY_FALLBACKS", "keys")]


def check() -> None:
    """Raise BadSetting for any, before it would do so in the middle of something."""
    excluded_apps()
    closure_limit()
    lock_timeout()
    with suppress(ImproperlyConfigured):
        # There may be no SECRET_KEY where an image is built.
        signing_keys()


def _several(name: str, what: str) -> Sequence[Any]:
    value = getattr(settings, name, ())
    # Of a text, each letter would be one.
    if not isinstance(value, (list, tuple, set, frozenset)):
        secret = "no list" if "KEY" in name else value
        raise BadSetting(name, secret, f"a list of {what}")
    return list(value)
