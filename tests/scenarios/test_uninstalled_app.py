"""An app is uninstalled, and its tables are dropped afterwards."""

from __future__ import annotations

import shutil

import pytest

from tests.project import Project

CONTENT_TYPES = "django.contrib.contenttypes"

MODELS = """\
from django.db import models


def make_price():
    return 7


class Thing(models.Model):
    name = models.CharField(max_length=50, default="")
    price = models.IntegerField(default=make_price)
"""

WITH_DEFAULT = """\
import shop.models
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001")]
    operations = [
        migrations.AddField(
            "thing", "price", models.IntegerField(default=shop.models.make_price)
        ),
    ]
"""

FLUSHED = """\
from django.test import TransactionTestCase


class Flushed(TransactionTestCase):
    def test_it(self):
        pass
"""


@pytest.fixture
def installed(project: Project) -> Project:
    project.apps.insert(0, CONTENT_TYPES)
    project.have("users: 0001; shop: 0001 > 0002_price")
    (project.folder / "shop" / "models.py").write_text(MODELS)
    project.path("shop.0002_price").write_text(WITH_DEFAULT)
    project.manage("migrate")
    return project


def uninstall(project: Project, *, stays: str = "") -> None:
    project.apps.remove("shop")
    project.configure()
    if stays != "package":
        shutil.rmtree(project.folder / "shop")
    if stays == "bytecode":
        # As git leaves it; to Python, that is a namespace package.
        (project.folder / "shop" / "migrations" / "__pycache__").mkdir(parents=True)


@pytest.mark.parametrize("stays", ["package", "bytecode", ""])
def test_it_is_named_and_then_gone(installed: Project, stays: str) -> None:
    """Also if its package stays: its models can no longer be imported."""
    uninstall(installed, stays=stays)
    migrated = installed.manage("migrate")
    assert "No migrations to apply" in migrated.stdout
    assert "'manage.py rewind' reverses them" in migrated.stderr
    plan = installed.manage("migrate", "shop", "zero", "--plan").stdout
    assert "shop.0002_price (stored code)" in plan
    done = installed.manage("migrate", "shop", "zero", "--noinput").stdout
    assert "Unapply all migrations: shop" in done
    assert "Unapplying shop.0002_price... OK" in done
    assert [name for name in installed.applied() if name.startswith("shop")] == []
    assert "W002" not in installed.manage("migrate").stderr
    assert "No installed app with label 'shop'" in (
        installed.manage("migrate", "shop", fails=True).stderr
    )


def test_content_types_are_left_as_django_leaves_them(installed: Project) -> None:
    uninstall(installed)
    installed.manage("migrate", "shop", "zero")
    stale = ["remove_stale_contenttypes", "--include-stale-apps", "--noinput", "-v2"]
    assert "Deleting stale content type 'shop | thing'" in (
        installed.manage(*stale).stdout
    )


def test_while_it_is_there_everything_else_works(installed: Project) -> None:
    uninstall(installed)
    (installed.folder / "users" / "tests.py").write_text(FLUSHED)
    installed.manage("check")
    installed.manage("makemigrations", "--check", "--dry-run", CONTENT_TYPES[15:])
    installed.manage("flush", "--noinput")
    tested = installed.manage("test", "users", "--noinput").stderr
    assert "Ran 1 test" in tested
    assert "shop.0002_price" in installed.applied()


def test_a_refusal_is_no_traceback(installed: Project) -> None:
    installed.have("blog: 0001(shop.0001)")
    uninstall(installed)
    refused = installed.manage("migrate", "shop", "zero", fails=True).stderr
    assert "blog.0001: its file depends on shop.0001" in refused
    assert "Traceback" not in refused


def test_apps_of_django_itself_go_too(project: Project) -> None:
    """Their modules with models cannot be imported where they are not installed."""
    own = [f"django.contrib.{app}" for app in ("admin", "auth", "sessions", "sites")]
    project.apps = [CONTENT_TYPES, *own, "django_rewind"]
    project.have("users: 0001")
    # The admin wants middleware.
    project.manage("migrate", "--skip-checks")
    project.apps = ["django_rewind", "users"]
    project.configure()
    output = project.manage("rewind", "--noinput").stdout
    assert "Unapplying sites.0001_initial... OK" in output
    others = [name for name in project.applied() if "django_rewind" not in name]
    assert others == ["users.0001"]
    tables = project.manage("inspectdb").stdout
    assert "class UsersThing" in tables
    assert "class Django" not in tables.replace("class DjangoMigrations", "")
