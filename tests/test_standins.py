"""Stored code runs again where what it needs is gone, or is another."""

from __future__ import annotations

import re
import shutil
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


VALUES = """
import re
from abc import ABC
from collections import OrderedDict, deque
from datetime import date
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

from django.db import models

DAY = date({0}, 1, 1)
RATE = Decimal({0})
PATTERN = re.compile("{0}")
AGAIN = partial(str, {0})


class Row(NamedTuple):
    year: int = {0}


class Base:
    pass


class Tool(Base):
    year = {0}


YEARS = OrderedDict(year={0})
LAST = deque([{0}])
SPACE = SimpleNamespace(year={0})


class Part(ABC):
    year = {0}


class Table(dict):
    year = {0}


class Rows(models.QuerySet):
    year = {0}
    if {0} == 2000:
        only_then = 2000


class Keeper(models.Manager.from_queryset(Rows)):
    year = {0}
"""


@pytest.mark.parametrize(
    "value",
    [
        *("DAY.year", "RATE", "PATTERN.pattern", "AGAIN()", "Row().year"),
        *("Tool().year", "YEARS['year']", "LAST[0]", "SPACE.year", "Part.year"),
        *("Table().year", "Rows.only_then", "Keeper.year", "Keeper().all().year"),
    ],
)
def test_a_value_or_plain_class_that_differs(branches: Branches, value: str) -> None:
    branches.write("users/values.py", VALUES.format(2000))
    imports = f"from users.values import {re.split(r'[^A-Za-z]', value)[0]}"
    branches.migrate(imports, BACK.replace("what()", f"str({value})"))
    branches.write("users/values.py", VALUES.format(3000))
    assert branches.seen() == "2000"


OBJECTS = """
import re
from collections import namedtuple
from dataclasses import dataclass
from enum import Enum

from django.db import migrations
from django.db.models import F, Index, Q, Value
from django.db.models.functions import Upper
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from core.rules import Rule

NAME = {0!r}


class Service:
    def __call__(self):
        return {0!r}

    run = __call__


class Kind(Enum):
    STORED = "stored"
    EDITED = "edited"


@dataclass(frozen=True)
class Plan:
    name: str


class Mark(Upper):
    pass


Row = namedtuple("Row", "name")

CONDITION = Q(name={0!r})
FIELD = F({0!r})
VALUE = Value({0!r})
EXPRESSION = Upper(Value({0!r}))
OWN_EXPRESSION = Mark(Value({0!r}))
INDEX = Index(fields=["name"], name={0!r})
OPERATION = migrations.RunSQL({0!r})
SERVICE = Service()
RUN = Service().run
METHOD = {{"stored": str.lower, "edited": str.upper}}[{0!r}]
CHANGE = re.compile({0!r}).sub
JOIN = {0!r}.join
ROW = Row({0!r})
PLAN = Plan({0!r})
KIND = Kind({0!r})
SAFE = mark_safe({0!r})
LAZY = gettext_lazy({0!r})
RULE = Rule({0!r})
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONDITION", "CONDITION.children[0][1]"),
        ("FIELD", "FIELD.name"),
        ("VALUE", "VALUE.value"),
        ("EXPRESSION", "EXPRESSION.source_expressions[0].value"),
        ("OWN_EXPRESSION", "OWN_EXPRESSION.source_expressions[0].value"),
        ("INDEX", "INDEX.name"),
        ("OPERATION", "OPERATION.sql"),
        ("SERVICE", "SERVICE()"),
        ("RUN", "RUN()"),
        ("METHOD", "METHOD('Stored') and METHOD('STORED')"),
        ("CHANGE", "CHANGE.__self__.pattern"),
        ("JOIN", "JOIN(['', ''])"),
        *((name, f"{name}.name") for name in ("ROW", "PLAN", "RULE")),
        ("KIND", "KIND.value"),
        *((name, f"str({name})") for name in ("SAFE", "LAZY")),
    ],
)
def test_an_object_that_differs(branches: Branches, name: str, value: str) -> None:
    branches.write(
        "core/rules.py", "class Rule:\n    def __init__(self, n): self.name = n\n"
    )
    branches.write("users/values.py", OBJECTS.format("stored"))
    branches.migrate(f"from users.values import {name}", BACK.replace("what()", value))
    branches.write("users/values.py", OBJECTS.format("edited"))
    assert branches.seen() == "stored"


@pytest.mark.parametrize("name", ["FIELD", "SIGNAL", "ERROR", "APPLICATION"])
def test_an_object_of_a_framework_is_the_checkouts_own(
    branches: Branches, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may know it: what stored code does to one more would be lost."""
    folder = branches.history.folder / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "framework", raising=False)
    branches.write(
        "site-packages/framework.py",
        "class Application:\n    def __init__(self, x): pass\n",
    )
    text = """
        from django.db import models
        from django.dispatch import Signal
        from framework import Application
        class WordField(models.CharField): pass
        FIELD = WordField(max_length={0})
        SIGNAL = Signal(use_caching={0})
        ERROR = ValueError({0})
        APPLICATION = Application({0})
        """
    branches.write("users/values.py", text.format(1))
    branches.migrate(
        f"from users.values import {name}",
        f"""
        def back(apps, schema_editor):
            import sys
            is_own = {name} is sys.modules["users.values"].{name}
            note(apps, schema_editor, str(is_own))
        """,
    )
    branches.write("users/values.py", text.format(2))
    __import__("users.values")
    assert branches.seen() == "True"


def test_operations_of_the_migrations_package(branches: Branches) -> None:
    path = "users/migrations/__init__.py"
    operation = """
        from django.db import migrations
        V = migrations.RunSQL(
            migrations.RunSQL.noop, "UPDATE users_thing SET name = '{0}'"
        )
        """
    branches.write(path, operation.format("stored"))
    text = REVERSE.format(imports="from . import V", code="")
    text = text.replace("migrations.RunPython(migrations.RunPython.noop, back)", "V")
    history = branches.history
    history.write("users.0002", text=text)
    history.migrate()
    history.sql("INSERT INTO users_thing (name) VALUES ('')")
    history.lose("users.0002")
    branches.write(path, operation.format("edited"))
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


@pytest.mark.parametrize(
    ("imports", "what"),
    [
        ("from importlib import import_module as load", "load('users.helpers').what()"),
        ("import importlib as i", "i.import_module('users.helpers').what()"),
        (
            "from django.utils.module_loading import import_string",
            "import_string('users.helpers.what')()",
        ),
        (
            "from django.utils import module_loading as loading, timezone",
            "timezone and loading.import_string('users.helpers.what')()",
        ),
    ],
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_an_import_by_a_name_that_is_given(
    branches: Branches, imports: str, what: str, is_gone: bool
) -> None:
    branches.write("users/helpers.py", "def what(): return 'stored'\n")
    branches.migrate(imports, BACK.replace("what()", what))
    if is_gone:
        branches.remove("users/helpers.py")
    else:
        branches.write("users/helpers.py", "def what(): return 'edited'\n")
    assert branches.seen() == "stored"


def test_an_import_of_a_string_that_nothing_stands_in_for(branches: Branches) -> None:
    branches.write("users/helpers.py", "x = 1\n")
    branches.migrate(
        "import users.helpers\nfrom django.utils.module_loading import import_string",
        """
        def back(apps, schema_editor):
            try:
                import_string("users.helpers.gone")
            except ImportError:
                note(apps, schema_editor, import_string("string.digits"))
        """,
    )
    branches.remove("users/helpers.py")
    assert branches.seen() == "0123456789"


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


@pytest.mark.parametrize(
    "stored",
    [
        {"users/tools.py": "def what(): return 'stored'\n"},
        {
            "users/tools/__init__.py": "from .what import what\n",
            "users/tools/what.py": "def what(): return 'stored'\n",
        },
        {
            "users/tools/__init__.py": "from .other import *\n",
            "users/tools/other.py": "from .words import say as what\n",
            "users/tools/words.py": "def say(): return 'stored'\n",
        },
    ],
)
@pytest.mark.parametrize(
    "imports", ["from users.tools import what", "import users.tools"]
)
def test_a_function_that_is_a_module_here(
    branches: Branches, stored: dict[str, str], imports: str
) -> None:
    for path, text in stored.items():
        branches.write(path, text)
    call = "what()" if "what" in imports else "users.tools.what()"
    branches.migrate(imports, BACK.replace("what()", call))
    for path in stored:
        branches.remove(path)
    branches.write("users/tools/__init__.py", "from . import what\n")
    branches.write("users/tools/what.py", "def run(): return 'edited'\n")
    assert branches.seen() == "stored"


def test_a_module_that_is_a_function_here(branches: Branches) -> None:
    branches.write("users/tools/__init__.py", "from . import what\n")
    branches.write("users/tools/what.py", "def run(): return 'stored'\n")
    branches.migrate(
        "from users.tools import what", BACK.replace("what()", "what.run()")
    )
    branches.remove("users/tools/__init__.py")
    branches.remove("users/tools/what.py")
    (branches.history.folder / "users/tools").rmdir()
    branches.write("users/tools.py", "def what(): return 'edited'\n")
    assert branches.seen() == "stored"


@pytest.fixture
def without_package(branches: Branches) -> Branches:
    branches.write("users/tools/__init__.py", "from .words import what\n")
    branches.write("users/tools/words.py", "def what(): return 'stored'\n")
    branches.migrate("from users.tools import what", BACK)
    branches.remove("users/tools/__init__.py")
    branches.remove("users/tools/words.py")
    return branches


def test_a_package_that_is_gone(without_package: Branches) -> None:
    (without_package.history.folder / "users/tools").rmdir()
    assert without_package.seen() == "stored"


def test_a_package_of_which_git_left_the_folder(without_package: Branches) -> None:
    # For the bytecode in it; to Python, that is a namespace package.
    (without_package.history.folder / "users/tools/__pycache__").mkdir()
    assert without_package.seen() == "stored"


def test_a_star_import_of_a_package_that_collects_its_modules(
    branches: Branches,
) -> None:
    package = "from .words import *\nfrom . import words\n__all__ = [*words.__all__]\n"
    branches.write("users/tools/__init__.py", package)
    branches.write(
        "users/tools/words.py", "__all__ = ['_what']\ndef _what(): return 'stored'\n"
    )
    branches.migrate("from users.tools import *", BACK.replace("what()", "_what()"))
    branches.remove("users/tools/__init__.py")
    branches.remove("users/tools/words.py")
    assert branches.seen() == "stored"


def test_a_sibling_that_a_star_import_passes_on(branches: Branches) -> None:
    modules = {
        "users/tools/__init__.py": "from .people import *\n",
        "users/tools/people.py": "from . import tokens\n",
        "users/tools/tokens.py": "def make(): return 'stored'\n",
    }
    for path, text in modules.items():
        branches.write(path, text)
    branches.migrate(
        "import users.tools", BACK.replace("what()", "users.tools.tokens.make()")
    )
    for path in modules:
        branches.remove(path)
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


@pytest.mark.parametrize("imports", ["from users import __version__", "import users"])
@pytest.mark.parametrize("later", [None, "", "__version__ = 'later'\n"])
def test_a_name_like_those_that_python_gives(
    branches: Branches, imports: str, later: str | None
) -> None:
    branches.write("users/tools/__init__.py", "__version__ = 'stored'\n")
    imports = imports.replace("users", "users.tools")
    name = "__version__" if "from" in imports else "users.tools.__version__"
    branches.migrate(imports, BACK.replace("what()", name))
    branches.remove("users/tools/__init__.py")
    if later is not None:
        branches.write("users/tools/__init__.py", later)
    assert branches.seen() == "stored"


PLACES = {
    "from users import tools": "Path(tools.__file__).parent / 'word.sql'",
    "import users.tools": "Path(users.tools.__path__[0]) / 'word.sql'",
    "import users.tools as t": "Path(os.path.dirname(t.__file__), 'word.sql')",
    "from users.tools import names": "Path(names.__file__).with_name('word.sql')",
    "from users import tools as t": "resources.files(t).joinpath('word.sql')",
}


@pytest.mark.parametrize("imports", PLACES)
@pytest.mark.parametrize("stays", [True, False])
def test_a_data_file_beside_another_module(
    branches: Branches, imports: str, stays: bool
) -> None:
    modules = ["users/tools/__init__.py", "users/tools/names.py"]
    for path in [*modules, "users/tools/word.sql"]:
        branches.write(path, "stored" if path.endswith(".sql") else "")
    branches.migrate(
        f"import os\nfrom importlib import resources\nfrom pathlib import Path\n"
        f"{imports}",
        BACK.replace("what()", f"({PLACES[imports]}).read_text()"),
    )
    branches.remove("users/tools/word.sql")
    for path in [] if stays else modules:
        branches.remove(path)
    assert branches.seen() == "stored"


@pytest.mark.parametrize("name", ["file", "name", "package", "path"])
@pytest.mark.parametrize("module", ["users", "users.names", "users.tools"])
@pytest.mark.parametrize("stays", [True, False])
def test_what_python_gives_a_module(
    branches: Branches, name: str, module: str, stays: bool
) -> None:
    branches.write("users/tools/__init__.py", "")
    branches.write("users/names.py", "")
    see = f"str(getattr({module}, '__{name}__', 'nothing')).strip(\"[]'\")"
    branches.migrate(
        f"import {module}, users.names", BACK.replace("what()", f"{see}[-19:]")
    )
    if not stays:
        branches.remove("users/names.py")
        shutil.rmtree(branches.history.folder / "users/tools")
    is_package = module != "users.names"
    path = module.replace(".", "/")
    expected = {
        "file": f"{path}/__init__.py" if is_package else f"{path}.py",
        "name": module,
        "package": module if is_package else "users",
        "path": path if is_package else "nothing",
    }
    assert expected[name].endswith(branches.seen()[-len(expected[name]) :])


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


@pytest.mark.parametrize("module", ["users/helpers.py", "users/tools/__init__.py"])
def test_a_helper_that_knows_its_own_folder(branches: Branches, module: str) -> None:
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    branches.write(
        module,
        """
        from pathlib import Path
        FILE = Path(__file__).resolve(strict=True)
        HERE = FILE.parent
        def what(): return f"{HERE.name}/{FILE.name}"
        """,
    )
    branches.migrate(f"from {name} import what", BACK)
    branches.remove(module)
    assert branches.seen() == "/".join(module.split("/")[-2:])


@pytest.mark.parametrize(
    "call",
    [
        "resources.read_text('users', 'word.sql', encoding='utf-8')",
        "resources.read_binary('users', 'word.sql').decode()",
        "read(resources.open_text('users', 'word.sql', encoding='utf-8'))",
        "read(resources.open_binary('users', 'word.sql')).decode()",
        "resources.files('users').joinpath('word.sql').read_text('utf-8')",
        "resources.path('users', 'word.sql').__enter__().read_text('utf-8')",
        "resources.is_resource('users', 'word.sql') and 'störed'",
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resource(branches: Branches, call: str) -> None:
    branches.write("users/word.sql", "störed")
    branches.migrate(
        "from importlib import resources\ndef read(file):\n"
        "    with file:\n        return file.read()",
        BACK.replace("what()", call),
    )
    branches.remove("users/word.sql")
    assert branches.seen() == "störed"


@pytest.mark.parametrize(
    "files",
    [
        "(Path(__file__).parent / 'words').iterdir()",
        "HERE.joinpath('words').iterdir()",
        "resources.files('users.migrations.words').iterdir()",
    ],
)
def test_the_files_of_a_folder_that_is_listed(branches: Branches, files: str) -> None:
    paths = [f"users/migrations/words/{number}.txt" for number in range(2)]
    for path in paths:
        branches.write(path, "stored")
    branches.write("users/migrations/words/__init__.py", "")
    branches.migrate(
        "from importlib import resources\nfrom pathlib import Path\n"
        "HERE = Path(__file__).parent",
        f"""
        def back(apps, schema_editor):
            words = [f.read_text() for f in {files} if f.suffix == ".txt"]
            note(apps, schema_editor, "".join(words))
        """,
    )
    for path in paths:
        branches.remove(path)
    assert branches.seen() == "storedstored"


def test_resources_of_the_checkout_are_still_found(branches: Branches) -> None:
    branches.write("users/words.txt", "word")
    branches.write("users/helpers.py", "HERE = __file__\n")
    branches.migrate(
        "import users.helpers\nfrom importlib import resources\n"
        "package, name = users.__name__, '.'.join(['words', 'txt'])\n"
        "HERE = users.helpers.HERE",
        BACK.replace("what()", "resources.files(package).joinpath(name).read_text()"),
    )
    branches.remove("users/helpers.py")
    assert branches.seen() == "word"


def test_a_data_file_with_nul_characters_is_a_gap(branches: Branches) -> None:
    data = branches.history.folder / "users/migrations/data.csv"
    data.write_bytes("a,b".encode("utf-16-le"))
    branches.migrate(
        "from pathlib import Path",
        "DATA = Path(__file__).with_name('data.csv')\n" + BACK.replace("what()", "''"),
    )
    branches.history.find("users.0002")
    gap = "the data file users/migrations/data.csv is not text"
    assert gap in branches.history.run("verify_migrations")


def test_a_data_file_beside_the_packages(branches: Branches) -> None:
    branches.write("word.sql", "stored")
    branches.migrate(
        "from pathlib import Path\nROOT = Path(__file__).parent.parent.parent",
        BACK.replace("what()", "(ROOT / 'word.sql').read_text()"),
    )
    branches.remove("word.sql")
    target = branches.history.folder / "exported"
    branches.history.run("export_stored_migrations", "users", f"--output={target}")
    assert [p.read_text() for p in target.rglob("word.sql")] == ["stored"]
    assert branches.seen() == "stored"


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


EFFECTS = {
    "singledispatch": """
        from functools import singledispatch
        @singledispatch
        def word(x): return "nothing"
        @word.register(int)
        def _(x): return "stored"
        def what(): return word(1)
    """,
    "decorator": """
        WORDS = {}
        def register(f):
            WORDS[f.__name__] = f
            return f
        @register
        def word(): return "stored"
        def what(): return ",".join(f() for f in WORDS.values()) or "nothing"
    """,
    "function that fills": """
        WORDS = []
        def _fill():
            WORDS.append("stored")
        _fill()
        def what(): return ",".join(WORDS) or "nothing"
    """,
    "function that is given it": """
        WORDS = []
        def _fill(words): words.append("stored")
        _fill(WORDS)
        def what(): return ",".join(WORDS) or "nothing"
    """,
    "global": """
        WORD = "nothing"
        def _init():
            global WORD
            WORD = "stored"
        _init()
        def what(): return WORD
    """,
    "subclasses": """
        class Word:
            known = []
            def __init_subclass__(cls): Word.known.append(cls.__name__)
        class stored(Word): pass
        def what(): return ",".join(Word.known) or "nothing"
    """,
    "setattr": """
        class Word: pass
        setattr(Word, "word", "stored")
        def what(): return getattr(Word, "word", "nothing")
    """,
}


ANNOTATIONS = {
    "ClassVar": """
        @dataclass
        class Plan:
            kind: {ClassVar[str]} = "plan"
            name: str = "nothing"
        def what(): return Plan("stored").name
    """,
    "InitVar": """
        @dataclass
        class Plan:
            name: {InitVar[str]}
            def __post_init__(self, name): self.word = name
        def what(): return Plan("stored").word
    """,
    "singledispatch": """
        Word = str
        @singledispatch
        def word(x): return "nothing"
        @word.register
        def _(x: {Word}): return "stored"
        def what(): return word("")
    """,
}


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize("is_postponed", [True, False])
def test_an_annotation_that_is_looked_up_later(
    branches: Branches, name: str, is_postponed: bool
) -> None:
    imports = """\
from dataclasses import InitVar, dataclass
from functools import singledispatch
from typing import ClassVar
"""
    text = imports + dedent(ANNOTATIONS[name])
    if is_postponed:
        text = f"from __future__ import annotations\n{text}"
    text = re.sub("{(.*)}", r"\1" if is_postponed else r"'\1'", text)
    branches.write("users/helpers.py", text)
    branches.migrate("from users.helpers import what", BACK)
    branches.remove("users/helpers.py")
    assert branches.seen() == "stored"


@pytest.mark.parametrize("name", EFFECTS)
def test_what_a_module_does_when_it_is_imported(branches: Branches, name: str) -> None:
    branches.write("users/helpers.py", EFFECTS[name])
    branches.migrate("from users.helpers import what", BACK)
    branches.remove("users/helpers.py")
    assert branches.seen() == "stored"


def test_a_filled_table_that_differs_is_used_as_it_was_applied(
    branches: Branches,
) -> None:
    text = EFFECTS["function that fills"]
    branches.write("users/helpers.py", text)
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/helpers.py", text.replace('"stored"', '"edited"'))
    assert branches.seen() == "stored"


def test_a_table_of_the_checkout_is_not_filled_twice(branches: Branches) -> None:
    text = """
        WORDS = []
        def _fill(words): words.append("stored")
        _fill(WORDS)
        class Words(list): pass
        MORE = Words()
        MORE.append("stored")
        """
    what = "def what(): return ' '.join([*WORDS, *MORE])\n"
    branches.write("users/helpers.py", dedent(text) + what)
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/helpers.py", text)
    assert branches.seen() == "stored stored"
    here: Any = sys.modules["users.helpers"]
    assert here.WORDS == here.MORE == ["stored"]


def test_a_table_that_has_less_here_is_left_alone(branches: Branches) -> None:
    text = """
        class Registry:
            def __init__(self): self.words = []
            def add(self, f):
                self.words.append(f)
                return f
        words = Registry()
        @words.add
        def one(): return "st"
        """
    gone = """
        @words.add
        def two(): return "ored"
        """
    what = "from users.helpers import words\ndef what(): return ''.join("
    what += "f() for f in words.words)\n"
    branches.write("users/helpers.py", dedent(text) + dedent(gone))
    branches.write("users/words.py", what)
    branches.migrate("from users.words import what", BACK)
    branches.write("users/helpers.py", text)
    assert branches.seen() == "stored"
    here: Any = sys.modules["users.helpers"]
    assert [f() for f in here.words.words] == ["st"]


def test_what_is_set_on_a_function_of_the_checkout_is_not_set_again(
    branches: Branches,
) -> None:
    text = """
        def word(): return "stored"
        word.times = getattr(word, "times", 0) + 1
        """
    branches.write("users/helpers.py", dedent(text) + "def what(): return word()\n")
    branches.migrate("from users.helpers import what", BACK)
    branches.write("users/helpers.py", text)
    assert branches.seen() == "stored"
    here: Any = sys.modules["users.helpers"]
    assert here.word.times == 1


def test_a_field_of_the_checkout_is_still_the_only_one(branches: Branches) -> None:
    field = """
        from django.db import models
        class WordField(models.CharField): pass
        WordField.word = WORD
        """
    branches.write(
        "users/fields.py",
        dedent(field.replace("= WORD", "= " + "'stored'"))
        + "def what(): return WordField\n",
    )
    branches.migrate(
        "import users.fields",
        BACK.replace("what()", "users.fields.what().word"),
    )
    branches.write("users/fields.py", field.replace("= WORD", "= " + "'here'"))
    assert branches.seen() == "here"


def test_what_is_private_is_named_and_not_stored(
    branches: Branches, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches.write("users/conf.py", "WORD = 'very secret'\n")
    branches.write(".env", "WORD=hunter2\n")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "users.conf")
    branches.migrate(
        "from pathlib import Path\nfrom users.conf import WORD\n"
        "ENV = Path(__file__).parent.parent.parent / '.env'",
        BACK.replace("what()", "WORD"),
    )
    history = branches.history
    assert "secret" not in str(history.sql("SELECT * FROM django_migrations_code"))
    needed = history.sql("SELECT source_code FROM django_migrations_code_needed")
    assert "secret" not in str(needed)
    assert "hunter2" not in str(needed)
    history.find("users.0002")
    said = history.run("verify_migrations")
    assert "users.conf is a settings module; the data file .env is hidden" in said


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
