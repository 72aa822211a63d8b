from __future__ import annotations

from django.apps import AppConfig


class DjangoRewindConfig(AppConfig):
    name = "django_rewind"
    verbose_name = "django-rewind"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, conf, hooks

        if conf.is_enabled():
            hooks.install()
        checks.register()
