"""What django-rewind 0.1.0 stored, with what it did not."""

from __future__ import annotations

import logging

from django.db.backends.base.base import BaseDatabaseWrapper

from . import outline, signing, source
from .archive import keep_texts
from .capture import capture, set_outline, set_source
from .models import MigrationCode
from .terminal import migrations

logger = logging.getLogger("django_rewind")

FROM_FILE = ["module_name", "dependencies", "replaces", "closure", "closure_gaps"]
GIVEN = [*FROM_FILE, "size", "digest", "signature", "signing_key"]

NOT_SEARCHED = "the code that it imports, which django-rewind 0.1.0 did not store"


def complete_and_sign(connection: BaseDatabaseWrapper) -> None:
    """All rows, as they are found: 0.1.0 signed nothing."""
    codes = list(MigrationCode._default_manager.using(connection.alias))
    has_key = signing.has_key()
    for code in codes:
        _complete(code)
        if has_key:
            signing.sign(code)
        keep_texts(connection, code.needed_texts)
    # Without the signals of a model; see store.
    MigrationCode._default_manager.using(connection.alias).bulk_update(codes, GIVEN)
    if codes:
        logger.warning(
            "Database '%s' was upgraded from django-rewind 0.1.0, which signed "
            "nothing. The code of %s was %s.",
            connection.alias,
            migrations(len(codes)),
            "signed as it was found" if has_key else "not signed: no SECRET_KEY",
        )


def _complete(code: MigrationCode) -> None:
    """From its file, if that says the same; else from what its text says."""
    set_source(code, code.source_code)
    code.module_name = source.module_name(*code.key) or ""
    if source.digest_of_file(code.key) == code.digest:
        captured = capture(*code.key, code.captured)
        for name in [*FROM_FILE, "needed"]:
            setattr(code, name, getattr(captured, name))
    elif (found := outline.read(code.source_code)) is not None:
        set_outline(code, found, NOT_SEARCHED)
