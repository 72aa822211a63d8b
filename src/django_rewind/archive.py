"""The tables beside that of stored migrations. Imported late: few runs need them."""

from __future__ import annotations

from collections.abc import Mapping

from django.apps.registry import Apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from .models import ExactTextField, StoredCode


class EarlierMigrationCode(StoredCode):
    """Code that was stored before the same name was applied with other code.

    Outside the app registry, as the model of django_migrations is.
    """

    # Copied from MigrationCode, so not auto_now_add.
    stored_at = models.DateTimeField(db_index=True)

    class Meta:
        apps = Apps()
        app_label = "django_rewind"
        db_table = "django_migrations_code_earlier"
        ordering = ["app_label", "migration_name", "stored_at"]


class NeededCode(models.Model):
    """Code that stored migrations need: a text once, however many of them need it."""

    digest = models.CharField("SHA-256 of the source", max_length=64, primary_key=True)
    source_code = ExactTextField()

    class Meta:
        apps = Apps()
        app_label = "django_rewind"
        db_table = "django_migrations_code_needed"

    def __str__(self) -> str:
        return self.digest


def keep_texts(connection: BaseDatabaseWrapper, texts: Mapping[str, str]) -> None:
    """By their digests; of those that are there already, nothing is written."""
    NeededCode._default_manager.using(connection.alias).bulk_create(
        [NeededCode(digest=d, source_code=text) for d, text in sorted(texts.items())],
        ignore_conflicts=True,
    )


class JournalEntry(models.Model):
    """One line of the journal, as JSON text, and the hash that chains it; see journal.

    Rows are only ever added.
    """

    id = models.BigAutoField(primary_key=True)
    previous = models.CharField("hash of the one before", max_length=64)
    hash = models.CharField(max_length=64)
    entry = models.TextField()

    class Meta:
        apps = Apps()
        app_label = "django_rewind"
        db_table = "django_migrations_journal"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.hash
