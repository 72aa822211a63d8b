from __future__ import annotations

from django.apps import AppConfig


class DjangoRewindConfig(AppConfig):
    name = "django_rewind"
    verbose_name = "django-rewind"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        super().import_models()
        # Like those of django_migrations, its rows tell of one database, and loaddata
        # would fail with them in another. Django leaves an app without this out of
        # fixtures, and sends it no signals; see backfill.
        self.models_module = None

    def ready(self) -> None:
        from . import checks, conf, hooks

        if conf.is_enabled():
            hooks.install()
        checks.register()
