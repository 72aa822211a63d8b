"""Stored code runs again where what it needs is gone, or is another."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError

from tests.history import History

# A migration that adds a field and notes, in a table of its own, what its reverse saw.
REVERSE = """\
from django.db import migrations, models
{imports}


def note(apps, schema_editor, what):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("UPDATE users_thing SET name = %s", [what])


{code}


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]

    operations = [
        migrations.AddField("thing", "extra", models.IntegerField(null=True)),
        migrations.RunPython(migrations.RunPython.noop, back),
    ]
"""


class Branches:
    """The module of a feature branch, which another branch lacks or has otherwise."""

    def __init__(self, history: History) -> None:
        self.history = history
        history.have("users: 0001")

    def write(self, path: str, text: str) -> None:
        file = self.history.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        self.history.forget_modules()

    def remove(self, path: str) -> None:
        (self.history.folder / path).unlink()
        self.history.forget_modules()

    def migrate(self, imports: str, code: str) -> None:
        """Apply 0002 of this code with a row in the table, then lose its file."""
        text = REVERSE.format(imports=imports, code=dedent(code).strip())
        self.history.write("users.0002", text=text)
        # A row that backs can write to.
        self.history.migrate()
        self.history.sql("INSERT INTO users_thing (name) VALUES ('')")
        self.history.lose("users.0002")

    def seen(self) -> str:
        """What the reverse function noted."""
        before = set(sys.modules)
        self.history.migrate("users", "0001")
        left = {m for m in set(sys.modules) - before if m.startswith("users")}
        for name in left:
            # The checkout's own, if anything.
            spec = sys.modules[name].__spec__
            assert spec is not None
            assert spec.origin is None or spec.origin.endswith(".py")
        assert self.history.columns("users_thing") == ["id", "name"]
        ((name,),) = self.history.sql("SELECT name FROM users_thing")
        return str(name)


@pytest.fixture
def branches(history: History) -> Branches:
    return Branches(history)


BACK = """
def back(apps, schema_editor):
    note(apps, schema_editor, what())
"""


def test_a_module_that_is_gone(branches: Branches) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate("from users.helpers import what", BACK)
    branches.remove("users/helpers.py")
    assert branches.seen() == "stored"


def test_an_attribute_that_is_gone(branches: Branches) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate(
        "import users.helpers", BACK.replace("what()", "users.helpers.what()")
    )
    branches.write("users/helpers.py", "other = 1\n")
    assert branches.seen() == "stored"


def test_a_helper_that_is_the_same_comes_from_the_checkout(branches: Branches) -> None:
    branches.write("users/helpers.py", "def what(): return what.__code__.co_filename\n")
    branches.migrate(
        "from users.helpers import what",
        BACK.replace("what()", "'stored' if 'stored' in what() else 'checkout'"),
    )
    branches.write(
        "users/helpers.py",
        "# Another comment.\ndef what():\n    return what.__code__.co_filename\n",
    )
    assert branches.seen() == "checkout"


def test_a_helper_that_differs_is_used_as_it_was_applied(branches: Branches) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/helpers.py", "def what(): return 'edited'\n")
    assert branches.seen() == "stored"


def test_a_helper_of_a_helper_that_differs(branches: Branches) -> None:
    branches.write("users/words.py", "WORD = 'stored'\n")
    branches.write(
        "users/helpers.py", "from .words import WORD\ndef what(): return WORD\n"
    )
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/words.py", "WORD = 'edited'\n")
    assert branches.seen() == "stored"


def test_data_that_differs_is_used_as_it_was_applied(branches: Branches) -> None:
    branches.write("users/words.py", "WORD = 'stored'\n")
    branches.migrate("from users import words", BACK.replace("what()", "words.WORD"))
    branches.write("users/words.py", "WORD = 'edited'\n")
    assert branches.seen() == "stored"


@pytest.mark.parametrize(
    "statement",
    [
        "from users.helpers import what",
        "from .. import helpers; what = helpers.what",
        "from ..helpers import what as what",
        "import users.helpers as helpers; what = helpers.what",
        "import importlib; what = importlib.import_module('users.helpers').what",
        "from users.helpers import *",
    ],
)
def test_an_import_inside_a_function(branches: Branches, statement: str) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    if "*" in statement:
        branches.migrate(statement, BACK)
    else:
        branches.migrate(
            "",
            f"""
            def back(apps, schema_editor):
                {statement}
                note(apps, schema_editor, what())
            """,
        )
    branches.remove("users/helpers.py")
    assert branches.seen() == "stored"


def test_a_sibling_migration(branches: Branches) -> None:
    sibling = branches.history.path("users.0001")
    text = sibling.read_text()
    sibling.write_text(f"{text}\n\ndef what(): return 'stored'\n")
    branches.migrate(
        "from importlib import import_module\n"
        "what = import_module('users.migrations.0001').what",
        BACK,
    )
    sibling.write_text(text)
    assert branches.seen() == "stored"


def test_the_migrations_package_itself(branches: Branches) -> None:
    branches.write("users/migrations/__init__.py", "def what(): return 'stored'\n")
    branches.migrate("from . import what", BACK)
    branches.write("users/migrations/__init__.py", "other = 1\n")
    assert branches.seen() == "stored"


def test_a_package_that_is_gone(branches: Branches) -> None:
    branches.write("users/tools/__init__.py", "from .words import what\n")
    branches.write("users/tools/words.py", "def what(): return 'stored'\n")
    branches.migrate("from users.tools import what", BACK)
    branches.remove("users/tools/__init__.py")
    branches.remove("users/tools/words.py")
    (branches.history.folder / "users/tools").rmdir()
    assert branches.seen() == "stored"


def test_another_module_of_the_package_stays_the_checkouts(branches: Branches) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.write("users/kept.py", "def word(): return 'kept'\n")
    branches.migrate(
        "import users.helpers\nimport users.kept",
        BACK.replace("what()", "users.helpers.what() + users.kept.word()"),
    )
    branches.remove("users/helpers.py")
    assert branches.seen() == "storedkept"


FILES = {
    "pathlib": "Path(__file__).parent / 'sql' / 'word.sql'",
    "parent": "Path(__file__).resolve().parent.parent / 'word.sql'",
    "os.path": "os.path.join(os.path.dirname(__file__), 'sql', 'word.sql')",
    "with_name": "Path(__file__).with_name('word.sql')",
}


@pytest.mark.parametrize("name", FILES)
def test_a_data_file(branches: Branches, name: str) -> None:
    paths = ["users/word.sql", "users/migrations/sql/word.sql"]
    paths.append("users/migrations/word.sql")
    for path in paths:
        branches.write(path, "störed")
    branches.migrate(
        "import os\nfrom pathlib import Path",
        BACK.replace("what()", f"Path({FILES[name]}).read_text(encoding='utf-8')"),
    )
    for path in paths:
        branches.remove(path)
    assert branches.seen() == "störed"


def test_a_class_is_the_checkouts_own(branches: Branches) -> None:
    # Two of a field or of an exception would not be caught or found by isinstance().
    branches.write("users/errors.py", "class Gone(Exception): word = 'stored'\n")
    branches.write(
        "users/helpers.py",
        """
        from .errors import Gone
        class Here(Exception): pass
        def what():
            import users.helpers
            return f"{Here is users.helpers.Here} {Gone.word}"
        """,
    )
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/errors.py", "class Gone(Exception): word = 'edited'\n")
    branches.write("users/helpers.py", "class Here(Exception): pass\n")
    assert branches.seen() == "True edited"


def test_fields_defaults_validators_and_bases(history: History) -> None:
    history.have("users: 0001")
    modules = {
        "fields": """
            from django.db import models
            class ShortField(models.CharField):
                def __init__(self, *args, **kwargs):
                    kwargs["max_length"] = LENGTH
                    super().__init__(*args, **kwargs)
            LENGTH = 20
            """,
        "models": """
            from django.db import models
            def make_word(): return "word"
            def is_fine(value): pass
            class People(models.Manager):
                use_in_migrations = True
                def grown_up(self): return self.filter(size__gt=17)
            class Words(models.QuerySet):
                def short(self): return self.filter(word="")
            def make_path(instance, name): return name
            class Mixin(models.Model):
                class Meta:
                    abstract = True
            Wordy = Words.as_manager()
            Wordy.use_in_migrations = True
            """,
        "operations": """
            from django.db import migrations
            class Note(migrations.RunPython):
                reversible = True
                def __init__(self): super().__init__(noop, noop)
                def deconstruct(self): return (type(self).__name__, [], {})
            def noop(apps, schema_editor): pass
            """,
    }
    for name, text in modules.items():
        (history.folder / f"users/{name}.py").write_text(dedent(text))
    text = """
from django.db import migrations, models
import users.fields
import users.models
from users.operations import Note


class Own(models.Manager):
    use_in_migrations = True


def use_managers(apps, schema_editor):
    Person = apps.get_model("users", "Person")
    alias = schema_editor.connection.alias
    assert list(Person.objects.using(alias).all()) == []
    assert list(Person.objects.db_manager(alias).grown_up()) == []
    assert list(Person.words.using(alias).short()) == []
    assert list(Person.own.using(alias).all()) == []


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [
        migrations.CreateModel(
            "Person",
            [
                ("id", models.AutoField(primary_key=True)),
                ("word", users.fields.ShortField(default=users.models.make_word)),
                ("size", models.IntegerField(validators=[users.models.is_fine])),
                ("file", models.FileField(upload_to=users.models.make_path)),
            ],
            bases=(users.models.Mixin, models.Model),
            managers=[
                ("objects", users.models.People()),
                ("words", users.models.Wordy),
                ("own", Own()),
            ],
        ),
        Note(),
        migrations.RunPython(use_managers, use_managers),
        migrations.AddField("person", "age", models.IntegerField(null=True)),
    ]
"""
    history.write("users.0002", text=text)
    history.forget_modules()
    history.migrate()
    history.lose("users.0002")
    for name in modules:
        (history.folder / f"users/{name}.py").write_text("")
    history.forget_modules()
    registered = {label: dict(models) for label, models in apps.all_models.items()}
    history.migrate("users", "0001")
    assert "users_person" not in history.tables()
    assert registered == {label: dict(m) for label, m in apps.all_models.items()}
    assert not [
        m
        for m in sys.modules
        if m.startswith("users.")
        and getattr(sys.modules[m].__spec__, "origin", None) is None
    ]


def test_a_custom_operation_reverses_as_it_was_applied(branches: Branches) -> None:
    operation = """
        from django.db.migrations.operations.base import Operation
        class Note(Operation):
            reversible = True
            def state_forwards(self, *args): pass
            def database_forwards(self, *args): pass
            def database_backwards(self, app_label, schema_editor, *args):
                schema_editor.execute("UPDATE users_thing SET name = 'WORD'")
        """
    branches.write("users/operations.py", operation.replace("WORD", "stored"))
    text = REVERSE.format(imports="from users.operations import Note", code="")
    text = text.replace(
        "migrations.RunPython(migrations.RunPython.noop, back)", "Note()"
    )
    history = branches.history
    history.write("users.0002", text=text)
    history.migrate()
    history.sql("INSERT INTO users_thing (name) VALUES ('')")
    history.lose("users.0002")
    branches.write("users/operations.py", operation.replace("WORD", "edited"))
    assert branches.seen() == "stored"


def test_shared_code_is_stored_once(history: History) -> None:
    history.have("users: 0001")
    (history.folder / "users/helpers.py").write_text("def what(): return 1\n")
    for name, before in [("0002", "0001"), ("0003", "0002")]:
        text = REVERSE.format(imports="from users.helpers import what", code=BACK)
        text = text.replace('"0001"', f'"{before}"').replace('"extra"', f'"x{name}"')
        history.write(f"users.{name}", text=text)
    history.migrate()
    count = history.sql("SELECT count(*) FROM django_migrations_code_needed")
    assert count == [(1,)] or count == ((1,),)
    needed: Any = history.sql(
        "SELECT closure FROM django_migrations_code WHERE app_label = 'users' "
        "ORDER BY migration_name"
    )
    assert needed[0][0] == "{}"
    assert needed[1] == needed[2] != needed[0]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM django_migrations_code_needed",
        "UPDATE django_migrations_code_needed SET source_code = 'def what(): 1'",
        "UPDATE django_migrations_code SET closure = '{}' WHERE app_label = 'users'",
    ],
)
def test_what_it_needs_is_trusted_as_it_was_stored_only(
    branches: Branches, statement: str
) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate("from users.helpers import what", BACK)
    branches.remove("users/helpers.py")
    branches.history.sql(statement)
    with pytest.raises(CommandError, match=r"users\.0002: .*altered"):
        branches.history.migrate("users", "0001")
    assert "extra" in branches.history.columns("users_thing")


def test_settings_that_a_package_made(branches: Branches) -> None:
    # As packages do for the defaults of their settings.
    branches.write(
        "users/conf.py",
        """
        from django.conf import settings
        if not hasattr(settings._wrapped, "USERS_WORD"):
            vars(settings._wrapped)["USERS_WORD"] = "stored"
        """,
    )
    branches.write("users/__init__.py", "from . import conf")
    made: Any = vars(settings)["_wrapped"]
    is_overridden = made.is_overridden
    with mock.patch.object(
        type(made), "is_overridden", lambda self, name: name != "USERS_WORD"
    ):
        assert is_overridden("INSTALLED_APPS")
        branches.migrate(
            "from django.conf import settings\n"
            "from django.db.models import Model\n"
            "import django.utils.timezone\n"
            "assert settings.USERS_WORD and settings.SECRET_KEY",
            BACK.replace("what()", "settings.USERS_WORD"),
        )
    branches.write("users/__init__.py", "")
    (texts,) = branches.history.sql(
        "SELECT source_code FROM django_migrations_code_needed"
    )
    assert texts[0] == "USERS_WORD = 'stored'\n"
    vars(made).pop("USERS_WORD", None)
    assert branches.seen() == "stored"


def test_what_does_not_fit_here_is_loaded_as_it_was_stored(branches: Branches) -> None:
    field = """
        from django.db import models
        class WordField(models.CharField):
            def __init__(self, *args, OPTIONS **kwargs):
                super().__init__(*args, **kwargs)
            def deconstruct(self): return super().deconstruct()
        """
    branches.write("users/fields.py", field.replace("OPTIONS", "is_short=True,"))
    branches.migrate(
        "from users.fields import WordField\n"
        "field = WordField(is_short=False, max_length=5)",
        BACK.replace("what()", "type(field).__name__"),
    )
    branches.write("users/fields.py", field.replace("OPTIONS", ""))
    assert branches.seen() == "WordField"


def test_what_was_altered_is_mended_when_it_is_applied_again(
    branches: Branches,
) -> None:
    history = branches.history
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate("from users.helpers import what", BACK)
    history.sql("UPDATE django_migrations_code_needed SET source_code = 'altered'")
    history.find("users.0002")
    history.migrate("users", "0001")
    history.migrate("users")
    history.sql("INSERT INTO users_thing (name) VALUES ('')")
    history.sql("DELETE FROM users_thing WHERE name <> ''")
    history.lose("users.0002")
    branches.remove("users/helpers.py")
    assert branches.seen() == "stored"
