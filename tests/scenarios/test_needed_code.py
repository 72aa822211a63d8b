"""A feature branch whose migrations need code that main has not."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.project import Project

FEATURE = {
    "users/fields.py": """
        from django.db import models


        class ShortField(models.CharField):
            def __init__(self, *args, **kwargs):
                kwargs["max_length"] = 20
                super().__init__(*args, **kwargs)
        """,
    "users/helpers.py": """
        from pathlib import Path

        WORDS = {"old": "alt", "new": "neu"}
        UNUSED = "not stored"


        def translate(word):
            return WORDS[word]


        def read_sql(name):
            return (Path(__file__).parent / "sql" / name).read_text()


        def unused():
            return UNUSED
        """,
    "users/sql/back.sql": "UPDATE users_thing SET name = 'from the file'",
    "users/migrations/0002_prefs.py": """
        from django.db import migrations, models

        import users.fields
        from users.helpers import read_sql


        def back(apps, schema_editor):
            from users.helpers import translate

            Thing = apps.get_model("users", "Thing")
            things = Thing.objects.using(schema_editor.connection.alias)
            things.filter(prefs="new").update(prefs=translate("new"))
            assert things.filter(prefs="neu").count() == 1


        class Migration(migrations.Migration):
            dependencies = [("users", "0001")]
            operations = [
                migrations.AddField(
                    "thing", "prefs", users.fields.ShortField(default="new")
                ),
                migrations.RunSQL(
                    migrations.RunSQL.noop, read_sql("back.sql")
                ),
                migrations.RunPython(migrations.RunPython.noop, back),
            ]
        """,
}


def write(project: Project, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip())


@pytest.fixture
def on_feature(project: Project) -> Project:
    """Migrated there, with a row."""
    project.have("users: 0001")
    project.commit("main")
    project.branch("feature")
    write(project, FEATURE)
    project.commit("feature")
    project.manage("migrate")
    insert = "from django.db import connection as c; c.cursor().execute"
    project.manage(
        "shell",
        "--command",
        insert + "(\"INSERT INTO users_thing (name, prefs) VALUES ('', 'new')\")",
    )
    return project


def test_main_can_go_back(on_feature: Project) -> None:
    on_feature.manage("verify_migrations", "--rehearse", "--strict")
    on_feature.switch("main")
    assert not (on_feature.folder / "users/helpers.py").exists()
    on_feature.manage("migrate", "users", "0001")
    assert on_feature.applied() == ["users.0001"]
    names = on_feature.manage(
        "shell",
        "--command",
        "from django.db import connection; c = connection.cursor(); "
        "c.execute('SELECT name FROM users_thing'); print(*c.fetchone())",
    )
    assert names.stdout.splitlines()[-1] == "from the file"
    # And there again.
    on_feature.switch("feature")
    on_feature.manage("migrate")
    assert on_feature.applied() == ["users.0001", "users.0002_prefs"]


def test_what_is_stored_is_cut_to_what_is_used(on_feature: Project) -> None:
    done = on_feature.manage("show_stored_migrations", "users", "0002", "--format=json")
    needed = json.loads(done.stdout)["needed"]
    assert sorted(needed) == ["users.fields", "users.helpers", "users/sql/back.sql"]
    assert "def translate" in needed["users.helpers"]
    assert "nused" not in needed["users.helpers"].lower()


MODEL = """
    from django.db import models


    class Person(models.Model):
        name = models.CharField(max_length=50)

        class Meta:
            managed = False
    """
USES_MODEL = """
    from django.db import migrations

    from users.models import Person


    class Migration(migrations.Migration):
        dependencies = [("users", "0001")]
        operations = [
            migrations.RunPython(lambda *args: Person, lambda *args: Person),
        ]
    """
ENDS = """
    import os
    import sys

    from django.db import migrations

    if "migrate" not in sys.argv:
        os._exit(0)


    class Migration(migrations.Migration):
        dependencies = [("users", "0002_person")]
    """


def test_a_gap_is_named_while_its_file_is_here(project: Project) -> None:
    project.have("users: 0001")
    project.commit("main")
    project.branch("feature")
    write(project, {"users/models.py": MODEL})
    write(project, {"users/migrations/0002_person.py": USES_MODEL})
    project.commit("feature")
    project.manage("migrate")
    fact = "users.models.Person is a model class"
    done = project.manage("verify_migrations")
    assert fact in done.stdout
    project.manage("verify_migrations", "--strict", fails=True)
    done = project.manage("verify_migrations", "--rehearse", fails=True)
    (line,) = [line for line in done.stdout.splitlines() if "does not load" in line]
    assert line.startswith("users.0002_person: ")
    assert fact in line
    project.switch("main")
    done = project.manage("migrate", "users", "0001", fails=True)
    assert fact in done.stderr
    assert project.applied() == ["users.0001", "users.0002_person"]


def test_what_ends_the_rehearsal_does_not_hide_the_others(project: Project) -> None:
    project.have("users: 0001")
    write(project, {"users/models.py": MODEL})
    write(project, {"users/migrations/0002_person.py": USES_MODEL})
    write(project, {"users/migrations/0003_ends.py": ENDS})
    project.manage("migrate")
    done = project.manage(
        "verify_migrations", "--rehearse", "--format=json", fails=True
    )
    failed = {
        row["migration_name"]: row["fact"]
        for row in json.loads(done.stdout)
        if row["failed"]
    }
    assert set(failed) == {"0002_person", "0003_ends"}
    assert "ended the process" in failed["0003_ends"]


def test_only_code_that_verifies_is_rehearsed(on_feature: Project) -> None:
    marker = on_feature.folder / "marker"
    code = f"open({str(marker)!r}, 'w').close()"
    statement = "UPDATE django_migrations_code SET source_code = %s"
    on_feature.manage(
        "shell",
        "--command",
        f"from django.db import connection; "
        f"connection.cursor().execute({statement!r}, [{code!r}])",
    )
    on_feature.manage("verify_migrations", "--rehearse", fails=True)
    assert not Path(marker).exists()


ASKS = """
    from importlib import import_module

    from django.db import migrations
    from django.urls import get_callable

    {code}


    class Migration(migrations.Migration):
        dependencies = [("users", "{before}")]
    """


@pytest.mark.parametrize(
    "code",
    [
        "get_callable('users.helpers.translate')",
        "import_module(''.join(['l', 'ib'])).words.WORD",
        "import_module(''.join(['vendor', '.tools']))",
        "import_module(''.join(['shared', '.vendor', '.tools']))",
    ],
)
def test_what_was_not_stored_is_not_found_in_the_rehearsal(
    project: Project, code: str
) -> None:
    project.have("users: 0001")
    apps = ["vendor.contrib.first", "shared.vendor.second"]
    site_packages = str(project.folder / "site-packages")
    project.configure(
        f"import sys\nsys.path.insert(0, {site_packages!r})\nINSTALLED_APPS += {apps}\n"
    )
    write(
        project,
        {
            "users/helpers.py": "def translate(): pass\n",
            "users/models.py": "import lib.words, users.helpers\n"
            "from django.urls import get_callable\n"
            "get_callable('users.helpers.translate')\n",
            "lib/__init__.py": "",
            "lib/words.py": "WORD = 1\n",
            "site-packages/vendor/__init__.py": "",
            "site-packages/vendor/tools.py": "",
            "site-packages/vendor/contrib/__init__.py": "",
            "site-packages/vendor/contrib/first/__init__.py": "",
            "site-packages/shared/vendor/__init__.py": "",
            "site-packages/shared/vendor/tools.py": "",
            "site-packages/shared/vendor/second/__init__.py": "",
            "site-packages/shared/other.py": "",
            "users/migrations/0002_asks.py": ASKS.format(code=code, before="0001"),
            "users/migrations/0003_needs.py": ASKS.format(
                code="from lib.words import WORD", before="0002_asks"
            ),
            "users/migrations/0004_other.py": ASKS.format(
                code="import_module(''.join(['shared', '.other']))",
                before="0003_needs",
            ),
        },
    )
    project.manage("migrate")
    done = project.manage("verify_migrations", "--rehearse", fails=True)
    failed = [line for line in done.stdout.splitlines() if "does not load" in line]
    assert [line.partition(":")[0] for line in failed] == ["users.0002_asks"]
