from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from .terminal import shortened

Key = tuple[str, str]

# What json.loads() and taking its result apart raise for what somebody else wrote.
UNREADABLE = (AttributeError, TypeError, ValueError, RecursionError)


class ExactTextField(models.TextField):  # type: ignore[type-arg]
    """Text that comes out as it went in.

    Before Django 5.2, a connection to MySQL speaks utf8mb3 unless told otherwise, which
    has no emoji: so it goes as bytes, from and to a column that is utf8mb4. See
    https://docs.djangoproject.com/en/stable/releases/5.2/
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor == "mysql" and isinstance(value, str):
            return value.encode()
        return value

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        if compiler.connection.vendor == "mysql":
            sql = f"CAST({sql} AS BINARY)"
        return sql, params

    def from_db_value(
        self, value: Any, expression: Any, connection: BaseDatabaseWrapper
    ) -> Any:
        if connection.vendor == "mysql" and isinstance(value, bytes):
            return value.decode(errors="replace")
        return value


class StoredCode(models.Model):
    """The code of one migration, and what is known of its capture."""

    class Captured(models.TextChoices):
        AT_APPLY = "apply", "at apply"
        LATER = "later", "later"
        FROM_GIT = "git", "from git"

    app_label = models.CharField(
        max_length=100,
        db_index=True,
        help_text="Django app label (matches django_migrations.app field)",
    )
    migration_name = models.CharField(
        max_length=255,
        db_index=True,
        help_text=(
            "Migration name (e.g., '0001_initial', matches django_migrations.name). "
            "Typically follows pattern: NNNN_name where NNNN is a 4-digit number."
        ),
    )
    source_code = ExactTextField(
        help_text="Complete Python source code of the migration file"
    )
    stored_at = models.DateTimeField(
        auto_now_add=True,
        db_index=True,
        help_text="Timestamp when the migration source code was stored in this table",
    )
    size = models.PositiveIntegerField("size in bytes", default=0)
    digest = models.CharField("SHA-256 of the source", max_length=64, default="")
    captured = models.CharField(
        "captured", max_length=10, choices=Captured.choices, default=Captured.LATER
    )
    gap = models.CharField("gap", max_length=255, default="", blank=True)
    module_name = models.CharField("module", max_length=512, default="")
    # Of a row of 0.1.0, nobody knows them.
    dependencies = models.TextField("dependencies", default="")
    replaces = models.TextField("replaces", default="[]")
    closure = models.TextField("what it needs", default="{}")
    closure_gaps = models.TextField("what it needs and lacks", default="[]")
    faked = models.BooleanField("faked", default=False)
    origin = models.CharField("origin", max_length=255, default="", blank=True)
    django_version = models.CharField("Django version", max_length=32, default="")
    python_version = models.CharField("Python version", max_length=32, default="")
    distribution = models.CharField("distribution", max_length=255, default="")
    signature = models.CharField("signature", max_length=86, default="")
    signing_key = models.CharField("signing key", max_length=16, default="")

    # Module, or path of a data file → its text. In a table of its own; see needs.
    needed: Mapping[str, str] = MappingProxyType({})

    # The table that it was read from, if that is not the one that it is to be saved in.
    read_from = ""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return shortened(f"{self.app_label}.{self.migration_name}")

    @property
    def key(self) -> Key:
        return self.app_label, self.migration_name

    @property
    def stored_when(self) -> str:
        # SQLite keeps anything in any column, and Django reads what is no date as None.
        return f"{self.stored_at:%Y-%m-%d %H:%M:%S}" if self.stored_at else "?"

    @property
    def how_captured(self) -> str:
        # get_captured_display() fails on the bytes that SQLite may keep.
        words: dict[object, object] = dict(self.Captured.choices)
        return str(words.get(self.captured, self.captured))

    @property
    def ran_as(self) -> str:
        """Its name, or that of the squash that was applied for it."""
        return self.module_name.rpartition(".")[2] or self.migration_name

    @property
    def replaced_keys(self) -> list[Key]:
        return parse_keys(self.replaces)

    @property
    def resolved_dependencies(self) -> list[Key] | None:
        """As they were when it was stored; None if they were not."""
        return parse_keys(self.dependencies) if self.dependencies else None

    @property
    def needed_digests(self) -> dict[str, str]:
        """Of the code that it needs: module, or path of a data file → digest."""
        return parse_digests(self.closure)

    @property
    def needed_texts(self) -> dict[str, str]:
        """Digest → text of the code that it needs, all of which is at hand."""
        return {d: self.needed[name] for name, d in self.needed_digests.items()}

    @property
    def alias(self) -> str | None:
        """Of the database that it was fetched from."""
        return self._state.db

    @property
    def lacking(self) -> list[str]:
        """What it needs that could not be stored."""
        return parse_facts(self.closure_gaps)


class MigrationCode(StoredCode):
    """The code of each migration as it was last applied.

    Unmanaged, like django_migrations itself: its table is made by the recorder,
    whatever the routers say, and `flush` must not empty it.
    """

    class Meta:
        db_table = "django_migrations_code"
        managed = False
        verbose_name = "stored migration"
        verbose_name_plural = "stored migrations"
        unique_together = [("app_label", "migration_name")]
        indexes = [
            models.Index(
                fields=["app_label", "migration_name"],
                name="django_migr_app_lab_d98bd3_idx",
            ),
            models.Index(fields=["stored_at"], name="django_migr_stored__87212c_idx"),
        ]
        ordering = ["app_label", "migration_name"]


def parse_keys(text: str) -> list[Key]:
    """The keys in a stored list of them; [] for text that this app did not write."""
    if text == "[]":
        return []
    try:
        return [(str(app_label), str(name)) for app_label, name in json.loads(text)]
    except UNREADABLE:
        return []


def parse_digests(text: str) -> dict[str, str]:
    if text == "{}":
        return {}
    try:
        found = json.loads(text)
        return {str(name): str(digest) for name, digest in found.items()}
    except UNREADABLE:
        return {}


def parse_facts(text: str) -> list[str]:
    if text == "[]":
        return []
    try:
        found = json.loads(text)
        return list(map(str, found)) if isinstance(found, list) else []
    except UNREADABLE:
        return []
