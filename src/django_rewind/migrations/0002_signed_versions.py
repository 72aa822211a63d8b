from django.db import migrations, models

from django_rewind.operations import UpgradeTables


class Migration(migrations.Migration):
    dependencies = [
        ("django_rewind", "0001_initial"),
    ]

    operations = [
        UpgradeTables(),
        # Unmanaged from here on. In the state only, since UpgradeTables did the work;
        # and at once, since each operation on a model is paid for by each `migrate`.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel(name="MigrationCode"),
                migrations.CreateModel(
                    name="MigrationCode",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True,
                                primary_key=True,
                                serialize=False,
                                verbose_name="ID",
                            ),
                        ),
                        (
                            "app_label",
                            models.CharField(
                                db_index=True,
                                help_text=(
                                    "Django app label (matches "
                                    "django_migrations.app field)"
                                ),
                                max_length=100,
                            ),
                        ),
                        (
                            "migration_name",
                            models.CharField(
                                db_index=True,
                                help_text=(
                                    "Migration name (e.g., '0001_initial', matches "
                                    "django_migrations.name). Typically follows "
                                    "pattern: NNNN_name where NNNN is a 4-digit number."
                                ),
                                max_length=255,
                            ),
                        ),
                        (
                            "source_code",
                            models.TextField(
                                help_text=(
                                    "Complete Python source code of the migration file"
                                )
                            ),
                        ),
                        (
                            "size",
                            models.PositiveIntegerField(
                                default=0, verbose_name="size in bytes"
                            ),
                        ),
                        (
                            "digest",
                            models.CharField(
                                default="",
                                max_length=64,
                                verbose_name="SHA-256 of the source",
                            ),
                        ),
                        (
                            "captured",
                            models.CharField(
                                choices=[
                                    ("apply", "at apply"),
                                    ("later", "later"),
                                    ("git", "from git"),
                                ],
                                default="later",
                                max_length=10,
                                verbose_name="captured",
                            ),
                        ),
                        (
                            "gap",
                            models.CharField(
                                blank=True,
                                default="",
                                max_length=255,
                                verbose_name="gap",
                            ),
                        ),
                        (
                            "module_name",
                            models.CharField(
                                default="", max_length=512, verbose_name="module"
                            ),
                        ),
                        (
                            "dependencies",
                            models.TextField(default="", verbose_name="dependencies"),
                        ),
                        (
                            "replaces",
                            models.TextField(default="[]", verbose_name="replaces"),
                        ),
                        (
                            "closure",
                            models.TextField(
                                default="{}", verbose_name="what it needs"
                            ),
                        ),
                        (
                            "closure_gaps",
                            models.TextField(
                                default="[]", verbose_name="what it needs and lacks"
                            ),
                        ),
                        (
                            "faked",
                            models.BooleanField(default=False, verbose_name="faked"),
                        ),
                        (
                            "origin",
                            models.CharField(
                                blank=True,
                                default="",
                                max_length=255,
                                verbose_name="origin",
                            ),
                        ),
                        (
                            "django_version",
                            models.CharField(
                                default="", max_length=32, verbose_name="Django version"
                            ),
                        ),
                        (
                            "python_version",
                            models.CharField(
                                default="", max_length=32, verbose_name="Python version"
                            ),
                        ),
                        (
                            "distribution",
                            models.CharField(
                                default="", max_length=255, verbose_name="distribution"
                            ),
                        ),
                        (
                            "signature",
                            models.CharField(
                                default="", max_length=86, verbose_name="signature"
                            ),
                        ),
                        (
                            "signing_key",
                            models.CharField(
                                default="", max_length=16, verbose_name="signing key"
                            ),
                        ),
                        (
                            "stored_at",
                            models.DateTimeField(
                                auto_now_add=True,
                                db_index=True,
                                help_text=(
                                    "Timestamp when the migration source code was "
                                    "stored in this table"
                                ),
                            ),
                        ),
                    ],
                    options={
                        "verbose_name": "stored migration",
                        "verbose_name_plural": "stored migrations",
                        "db_table": "django_migrations_code",
                        "ordering": ["app_label", "migration_name"],
                        "managed": False,
                        "unique_together": {("app_label", "migration_name")},
                        "indexes": [
                            models.Index(
                                fields=["app_label", "migration_name"],
                                name="django_migr_app_lab_d98bd3_idx",
                            ),
                            models.Index(
                                fields=["stored_at"],
                                name="django_migr_stored__87212c_idx",
                            ),
                        ],
                    },
                ),
            ],
        ),
    ]
