"""Every kind of operation is reversed from stored code, on each database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import django
import pytest
from django.db import connection

from tests.databases import VENDOR
from tests.history import History

LIBRARY = """
migrations.CreateModel("Author", [
    ("id", models.AutoField(primary_key=True)),
    ("name", models.CharField(max_length=50)),
]),
migrations.CreateModel("Tag", [
    ("id", models.BigAutoField(primary_key=True)),
    ("label", models.CharField(max_length=20)),
]),
migrations.CreateModel("Book", [
    ("id", models.BigAutoField(primary_key=True)),
    ("title", models.CharField(max_length=50)),
    ("pages", models.IntegerField(null=True)),
    ("author", models.ForeignKey("shop.Author", models.CASCADE)),
    ("tags", models.ManyToManyField("shop.Tag")),
]),
"""

ROWS = """
migrations.RunSQL([
    "INSERT INTO shop_author (id, name) VALUES (1, 'Ann'), (2, 'Bo')",
    "INSERT INTO shop_tag (id, label) VALUES (1, 'old'), (2, 'rare')",
    "INSERT INTO shop_book (id, title, pages, author_id) VALUES (1, 'A', 10, 1)",
    "INSERT INTO shop_book (id, title, pages, author_id) VALUES (2, 'B', NULL, 2)",
    "INSERT INTO shop_book_tags (id, book_id, tag_id) VALUES (1, 1, 1), (2, 1, 2)",
]),
"""

MIGRATION = """\
import datetime
import uuid

from django.conf import settings
from django.db import migrations, models
{code}

class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [{dependencies}]

    operations = [
{operations}
    ]
"""

EVERYWHERE = ("sqlite", "postgresql", "mysql")
POSTGRESQL = ("postgresql",)
# MariaDB has neither conditions nor expressions in an index, and Django leaves
# these out without a word.
NOT_MYSQL = ("sqlite", "postgresql")
# SQLite has no comments, and Django leaves these out without a word.
NOT_SQLITE = ("postgresql", "mysql")


class Case(NamedTuple):
    id: str
    # The operations of the ghost.
    ghost: str
    # Those of the migration before it.
    before: str = ""
    # Above the class, in both.
    code: str = ""
    atomic: bool = True
    dependencies: str = ""
    # Other apps: {migration: operations}.
    others: dict[str, str] = {}
    # What the ghost takes away or makes up: "table" or "table.column".
    not_kept: tuple[str, ...] = ()
    # Whether tables or rows change, or only Django's state.
    changes: bool = True
    only: tuple[str, ...] = EVERYWHERE
    since: tuple[int, int] = (3, 2)
    # The first version that warns of it, or lacks it.
    before_django: tuple[int, int] = (99, 0)
    # Other apps that are installed, and other settings.
    installed: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


LOWER = "from django.db.models.functions import Lower"
CHECK = "condition" if django.VERSION >= (5, 1) else "check"


class NotOnHint:
    """A router that obeys a hint."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if hints.get("nowhere") else None


DATA = [
    Case(
        "RunPython with historical models",
        "migrations.RunPython(write, undo),",
        code="""
PREFIX = "The "


def books(apps, schema_editor):
    manager = apps.get_model("shop", "Book").objects
    return manager.using(schema_editor.connection.alias)


def write(apps, schema_editor):
    for book in books(apps, schema_editor).select_related("author"):
        book.title = PREFIX + book.title + book.author.name
        book.save()
    books(apps, schema_editor).create(id=3, title="C", author_id=1)


def undo(apps, schema_editor):
    books(apps, schema_editor).filter(id=3).delete()
    for book in books(apps, schema_editor).select_related("author"):
        book.title = book.title[len(PREFIX) : -len(book.author.name)]
        book.save()
""",
    ),
    Case(
        "RunPython between changes of its model",
        """
        migrations.AddField("book", "sort", models.CharField(max_length=50, null=True)),
        migrations.RunPython(write, undo),
        migrations.RemoveField("book", "title"),
        """,
        code="""
def write(apps, schema_editor):
    manager = apps.get_model("shop", "Book").objects
    manager.using(schema_editor.connection.alias).update(sort=models.F("title"))


def undo(apps, schema_editor):
    manager = apps.get_model("shop", "Book").objects
    manager.using(schema_editor.connection.alias).update(title=models.F("sort"))
""",
        before="""
        migrations.AlterField("book", "title", models.CharField(max_length=50, null=1)),
        """,
        # PostgreSQL does not alter a table that has pending events of triggers.
        atomic=False,
    ),
    *[
        Case(
            f"RunPython {arguments}",
            f"migrations.RunPython(write, undo, {arguments}),",
            code="""
def write(apps, schema_editor):
    manager = apps.get_model("shop", "Tag").objects
    manager.using(schema_editor.connection.alias).create(id=3, label="new")


def undo(apps, schema_editor):
    manager = apps.get_model("shop", "Tag").objects
    manager.using(schema_editor.connection.alias).get(label="new").delete()
""",
        )
        for arguments in ("elidable=True", "atomic=False", "hints={'a': 'b'}")
    ],
    Case(
        "RunPython.noop",
        "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),",
        changes=False,
    ),
    Case(
        "RunPython of a migration with atomic = False",
        "migrations.RunPython(write, undo),",
        atomic=False,
        code="""
from django.db import transaction


def tags(apps, schema_editor):
    manager = apps.get_model("shop", "Tag").objects
    return manager.using(schema_editor.connection.alias)


def write(apps, schema_editor):
    assert not schema_editor.connection.in_atomic_block
    with transaction.atomic(using=schema_editor.connection.alias):
        tags(apps, schema_editor).create(id=3, label="new")


def undo(apps, schema_editor):
    assert not schema_editor.connection.in_atomic_block
    with transaction.atomic(using=schema_editor.connection.alias):
        tags(apps, schema_editor).get(label="new").delete()
""",
    ),
    Case(
        "RunSQL string",
        """migrations.RunSQL(
            "UPDATE shop_book SET title = 'A%' WHERE id = 1",
            "UPDATE shop_book SET title = 'A' WHERE title = 'A%'",
        ),""",
    ),
    Case(
        "RunSQL string of several statements",
        '''migrations.RunSQL(
            """
            -- A comment; with a semicolon.
            CREATE TABLE shop_log (id integer PRIMARY KEY);
            INSERT INTO shop_log (id) VALUES (1);
            """,
            reverse_sql="DELETE FROM shop_log; DROP TABLE shop_log;",
        ),''',
    ),
    Case(
        "RunSQL list of strings",
        """migrations.RunSQL(
            ["CREATE TABLE shop_log (id integer PRIMARY KEY)",
             "INSERT INTO shop_log (id) VALUES (1)"],
            reverse_sql=["DELETE FROM shop_log", "DROP TABLE shop_log"],
        ),""",
    ),
    Case(
        "RunSQL list with parameters",
        """migrations.RunSQL(
            [("INSERT INTO shop_tag (id, label) VALUES (%s, %s)", [3, "it's"]),
             ("UPDATE shop_tag SET label = '%' WHERE id = 1", None)],
            [("UPDATE shop_tag SET label = %s WHERE label = %s", ["old", "%"]),
             ("DELETE FROM shop_tag WHERE label = %s", ["it's"])],
        ),""",
    ),
    Case(
        "RunSQL.noop",
        """
        migrations.RunSQL(migrations.RunSQL.noop, migrations.RunSQL.noop),
        migrations.RunSQL("SELECT 1", migrations.RunSQL.noop),
        migrations.RunSQL("SELECT 1", ""),
        """,
        changes=False,
    ),
    Case(
        "RunSQL elidable",
        """migrations.RunSQL(
            "UPDATE shop_tag SET label = 'new' WHERE id = 1",
            "UPDATE shop_tag SET label = 'old' WHERE id = 1",
            elidable=True,
        ),""",
    ),
    Case(
        "RunSQL with hints",
        """
        migrations.RunSQL("nonsense", "nonsense", hints={"nowhere": True}),
        migrations.RunSQL(
            "UPDATE shop_tag SET label = 'new' WHERE id = 1",
            "UPDATE shop_tag SET label = 'old' WHERE id = 1",
            hints={"nowhere": False},
        ),
        """,
        settings={"DATABASE_ROUTERS": [NotOnHint()]},
    ),
    Case(
        "RunSQL with state_operations",
        """
        migrations.RunSQL(
            "ALTER TABLE shop_tag ADD COLUMN color varchar(9) NULL",
            "ALTER TABLE shop_tag DROP COLUMN color",
            state_operations=[
                migrations.AddField(
                    "tag", "color", models.CharField(max_length=9, null=True)
                ),
            ],
        ),
        migrations.AlterField("tag", "color", models.CharField(max_length=9)),
        migrations.RenameField("tag", "color", "hue"),
        """,
        before="migrations.RunSQL('DELETE FROM shop_book_tags'),"
        "migrations.RunSQL('DELETE FROM shop_tag'),",
    ),
    Case(
        "SeparateDatabaseAndState that makes a table a model",
        """
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE shop_book_tags RENAME TO shop_booktag",
                    "ALTER TABLE shop_booktag RENAME TO shop_book_tags",
                ),
            ],
            state_operations=[
                migrations.CreateModel("BookTag", [
                    ("id", models.BigAutoField(primary_key=True)),
                    ("book", models.ForeignKey("shop.Book", models.CASCADE)),
                    ("tag", models.ForeignKey("shop.Tag", models.CASCADE)),
                ]),
                migrations.AlterField(
                    "book",
                    "tags",
                    models.ManyToManyField("shop.Tag", through="shop.BookTag"),
                ),
            ],
        ),
        migrations.AddField("booktag", "page", models.IntegerField(null=True)),
        """,
        # Reversed by Django 3.2, the table on SQLite lacks a unique constraint.
        since=(4, 2),
    ),
    Case(
        "SeparateDatabaseAndState that changes the state only",
        """
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField("book", "pages")],
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField("book", "pages", models.IntegerField(null=True)),
            ],
        ),
        migrations.RenameField("book", "pages", "leaves"),
        """,
    ),
    Case(
        "an operation of its own",
        "Rename('shop_tag', 'shop_label'),",
        code="""
from django.db.migrations.operations.base import Operation


class Rename(Operation):
    def __init__(self, old, new):
        self.old = old
        self.new = new

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute(f"ALTER TABLE {self.old} RENAME TO {self.new}")

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute(f"ALTER TABLE {self.new} RENAME TO {self.old}")
""",
    ),
]

LOOK = """
def book(apps):
    return apps.get_model("shop", "Book")


def look(apps, schema_editor):
    assert {}
"""
SEEN = "\nmigrations.RunPython(look, look),"

MODELS = [
    Case(
        "CreateModel with each kind of field",
        """migrations.CreateModel("Shelf", [
            ("id", models.BigAutoField(primary_key=True)),
            ("binary", models.BinaryField(null=True)),
            ("boolean", models.BooleanField(default=False)),
            ("date", models.DateField(default=datetime.date.today)),
            ("decimal", models.DecimalField(max_digits=5, decimal_places=2)),
            ("duration", models.DurationField(default=datetime.timedelta)),
            ("email", models.EmailField(max_length=254, unique=True)),
            ("file", models.FileField(upload_to="files/%Y")),
            ("ip", models.GenericIPAddressField(null=True)),
            ("json", models.JSONField(default=dict)),
            ("slug", models.SlugField()),
            ("small", models.PositiveSmallIntegerField(choices=[(1, "one")])),
            ("text", models.TextField(blank=True)),
            ("time", models.TimeField(auto_now=True)),
            ("uuid", models.UUIDField(default=uuid.uuid4, editable=False)),
            ("parent", models.ForeignKey("self", models.SET_NULL, null=True)),
            ("only", models.OneToOneField("shop.Book", models.PROTECT)),
        ], options={"unique_together": {("slug", "small")}, "ordering": ["slug"]}),""",
    ),
    Case(
        "CreateModel of a proxy",
        """migrations.CreateModel(
            "Novel", [], options={"proxy": True}, bases=("shop.book",)
        ),
        migrations.RunPython(write, undo),
        """,
        code="""
def write(apps, schema_editor):
    manager = apps.get_model("shop", "Novel").objects
    manager.using(schema_editor.connection.alias).filter(id=1).update(pages=11)


def undo(apps, schema_editor):
    manager = apps.get_model("shop", "Novel").objects
    manager.using(schema_editor.connection.alias).filter(pages=11).update(pages=10)
""",
    ),
    Case(
        "CreateModel of a child in a table of its own",
        """migrations.CreateModel("Novel", [
            ("book_ptr", models.OneToOneField(
                "shop.Book", models.CASCADE, auto_created=True, parent_link=True,
                primary_key=True, serialize=False,
            )),
            ("genre", models.CharField(max_length=9)),
        ], bases=("shop.book",)),
        migrations.RunPython(write, undo),
        """,
        code="""
def write(apps, schema_editor):
    manager = apps.get_model("shop", "Novel").objects
    manager.using(schema_editor.connection.alias).create(
        id=3, title="C", author_id=1, genre="crime"
    )


def undo(apps, schema_editor):
    manager = apps.get_model("shop", "Novel").objects
    manager.using(schema_editor.connection.alias).get(genre="crime").delete()
""",
        # PostgreSQL does not alter a table that has pending events of triggers.
        atomic=False,
    ),
    Case(
        "CreateModel of a model that is not managed",
        """
        migrations.CreateModel("Raw", [
            ("id", models.IntegerField(primary_key=True)),
        ], options={"managed": False, "db_table": "shop_tag"}),
        migrations.RunPython(write, undo),
        """,
        code="""
def write(apps, schema_editor):
    manager = apps.get_model("shop", "Raw").objects
    manager.using(schema_editor.connection.alias).filter(id=2).update(id=3)


def undo(apps, schema_editor):
    manager = apps.get_model("shop", "Raw").objects
    manager.using(schema_editor.connection.alias).filter(id=3).update(id=2)
""",
        before="migrations.RemoveField('book', 'tags'),",
    ),
    Case(
        "CreateModel with order_with_respect_to",
        """migrations.CreateModel("Page", [
            ("id", models.BigAutoField(primary_key=True)),
            ("book", models.ForeignKey("shop.Book", models.CASCADE)),
        ], options={"order_with_respect_to": "book"}),""",
    ),
    Case(
        "CreateModel with a composite primary key",
        """migrations.CreateModel("Loan", [
            ("pk", models.CompositePrimaryKey("book", "day")),
            ("book", models.ForeignKey("shop.Book", models.CASCADE)),
            ("day", models.DateField()),
        ]),""",
        since=(5, 2),
    ),
    Case(
        "DeleteModel",
        "migrations.DeleteModel('Note'),",
        before="""
        migrations.CreateModel("Note", [
            ("id", models.BigAutoField(primary_key=True)),
            ("text", models.TextField(default="")),
            ("book", models.ForeignKey("shop.Book", models.CASCADE)),
        ]),
        migrations.RunSQL("INSERT INTO shop_note (text, book_id) VALUES ('x', 1)"),
        """,
        atomic=False,
        not_kept=("shop_note",),
    ),
    Case(
        "DeleteModel of a model with many-to-many and constraints",
        "migrations.DeleteModel('Note'),",
        before=f"""
        migrations.CreateModel("Note", [
            ("id", models.BigAutoField(primary_key=True)),
            ("stars", models.IntegerField(db_index=True)),
            ("tags", models.ManyToManyField("shop.Tag")),
        ]),
        migrations.AddIndex("note", models.Index(fields=["-stars"], name="by_stars")),
        migrations.AddConstraint("note", models.CheckConstraint(
            {CHECK}=models.Q(stars__gt=0), name="by_check")),
        """,
    ),
    Case(
        "RenameModel that others refer to",
        "migrations.RenameModel('Author', 'Writer'),",
    ),
    Case(
        "RenameModel with a many-to-many of its own",
        "migrations.RenameModel('Book', 'Volume'),",
    ),
    Case(
        "AlterModelTable",
        "migrations.AlterModelTable('book', 'shop_works'),",
    ),
    Case(
        "AlterModelTable back to the default",
        "migrations.AlterModelTable('author', None),",
        before="migrations.AlterModelTable('author', 'shop_people'),",
    ),
    Case(
        "AlterModelTableComment",
        "migrations.AlterModelTableComment('book', 'Volumes'),",
        before="migrations.AlterModelTableComment('book', 'Books, it\\'s said'),",
        since=(4, 2),
        only=NOT_SQLITE,
    ),
    Case(
        "AlterModelOptions",
        "migrations.AlterModelOptions('book', {'ordering': ['-id']})," + SEEN,
        code=LOOK.format("book(apps)._meta.ordering == ['-id']"),
        changes=False,
    ),
    Case(
        "AlterModelManagers",
        "migrations.AlterModelManagers('book', [('all', models.Manager())])," + SEEN,
        code=LOOK.format("book(apps).all.model is book(apps)"),
        changes=False,
    ),
    Case(
        "AlterOrderWithRespectTo",
        "migrations.AlterOrderWithRespectTo('book', 'author'),",
    ),
    Case(
        "AlterOrderWithRespectTo to nothing",
        "migrations.AlterOrderWithRespectTo('book', None),",
        before="migrations.AlterOrderWithRespectTo('book', 'author'),",
    ),
]


def added(name: str, field: str, **options: Any) -> Case:
    ghost = f"migrations.AddField('book', 'extra', models.{field}),"
    return Case(f"AddField {name}", ghost, **options)


def altered(name: str, model: str, field: str, definition: str, **options: Any) -> Case:
    ghost = f"migrations.AlterField('{model}', '{field}', models.{definition}),"
    return Case(f"AlterField {name}", ghost, **options)


COLLATIONS = {"sqlite": "nocase", "postgresql": "C", "mysql": "utf8mb4_bin"}
GENERATED = """models.GeneratedField(
    expression=models.F("pages") + 1,
    output_field=models.BigIntegerField(null=True),
    db_persist={},
)"""

FIELDS = [
    added("null", "IntegerField(null=True)"),
    added("default", "CharField(max_length=9, default='it\\'s')"),
    added("uuid.uuid4", "UUIDField(default=uuid.uuid4)"),
    added("datetime.date.today", "DateField(default=datetime.date.today)"),
    added("default=dict", "JSONField(default=dict)"),
    added("auto_now_add", "DateTimeField(auto_now_add=True, null=True)"),
    added("unique", "IntegerField(unique=True, null=True)"),
    added("db_index", "CharField(max_length=9, db_index=True, default='')"),
    added("db_column", "IntegerField(db_column='the Column', default=1)"),
    added("ForeignKey", "ForeignKey('shop.Tag', models.CASCADE, null=True)"),
    added("ForeignKey to itself", "ForeignKey('self', models.CASCADE, null=True)"),
    added("OneToOne", "OneToOneField('shop.Tag', models.CASCADE, null=True)"),
    added("ManyToMany", "ManyToManyField('shop.Author', related_name='+')"),
    added("ManyToMany to itself", "ManyToManyField('self')"),
    added("db_comment", "IntegerField(db_comment='it\\'s', null=True)", since=(4, 2)),
    added("db_default", "IntegerField(db_default=7)", since=(5, 0)),
    added(
        "db_default of a function",
        "CharField(max_length=9, db_default=Lower(models.Value('X')))",
        code=LOWER,
        since=(5, 0),
    ),
    added("GeneratedField", GENERATED[len("models.") :].format(True), since=(5, 0)),
    added(
        "virtual GeneratedField",
        GENERATED[len("models.") :].format(False),
        since=(5, 0),
        only=("sqlite", "mysql"),
    ),
    Case(
        "AddField with a default for once",
        """migrations.AddField(
            "book", "extra", models.IntegerField(default=3), preserve_default=False
        ),""",
    ),
    Case(
        "AddField ManyToMany through a model",
        """
        migrations.CreateModel("Role", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=9)),
            ("book", models.ForeignKey("shop.Book", models.CASCADE)),
            ("author", models.ForeignKey("shop.Author", models.CASCADE)),
        ]),
        migrations.AddField("book", "cast", models.ManyToManyField(
            "shop.Author", through="shop.Role", related_name="+")),
        """,
    ),
    Case(
        "RemoveField that may be null",
        "migrations.RemoveField('book', 'pages'),",
        not_kept=("shop_book.pages",),
    ),
    Case(
        "RemoveField with a default",
        "migrations.RemoveField('book', 'kind'),",
        before="""migrations.AddField(
            "book", "kind", models.CharField(max_length=9, default="x", db_index=True)
        ),""",
    ),
    Case(
        "RemoveField of a ForeignKey",
        "migrations.RemoveField('book', 'editor'),",
        before="""migrations.AddField("book", "editor", models.ForeignKey(
            "shop.Author", models.CASCADE, null=True, related_name="+")),""",
    ),
    Case(
        "RemoveField of a ManyToMany",
        "migrations.RemoveField('book', 'tags'),",
        not_kept=("shop_book_tags",),
    ),
    Case(
        "RemoveField of a GeneratedField",
        "migrations.RemoveField('book', 'extra'),",
        before=f"migrations.AddField('book', 'extra', {GENERATED.format(True)}),",
        since=(5, 0),
    ),
    altered(
        "to not null",
        "book",
        "pages",
        "IntegerField(default=0)",
        not_kept=("shop_book.pages",),
    ),
    altered("to null", "book", "title", "CharField(max_length=50, null=True)"),
    altered("length", "book", "title", "CharField(max_length=99)"),
    altered("type", "book", "pages", "CharField(max_length=9, null=True)"),
    altered("unique", "book", "title", "CharField(max_length=50, unique=True)"),
    altered("db_index", "book", "pages", "IntegerField(null=True, db_index=True)"),
    altered("db_column", "book", "pages", "IntegerField(null=True, db_column='p')"),
    altered(
        "db_column of a ForeignKey",
        "book",
        "author",
        "ForeignKey('shop.Author', models.CASCADE, db_column='a')",
    ),
    altered(
        "ForeignKey to another model",
        "book",
        "author",
        "ForeignKey('shop.Tag', models.CASCADE)",
    ),
    altered(
        "ForeignKey to OneToOne",
        "book",
        "author",
        "OneToOneField('shop.Author', models.CASCADE)",
        # Django gives the index of the ForeignKey another form there.
        only=NOT_MYSQL,
    ),
    altered(
        "ForeignKey without constraint",
        "book",
        "author",
        "ForeignKey('shop.Author', models.CASCADE, db_constraint=False)",
    ),
    altered(
        "primary key that a ForeignKey refers to",
        "author",
        "id",
        "BigAutoField(primary_key=True)",
        # SQLite has one type for both.
        changes=VENDOR != "sqlite",
    ),
    altered(
        "primary key that a ManyToMany refers to",
        "tag",
        "id",
        "AutoField(primary_key=True)",
        changes=VENDOR != "sqlite",
        # Reversed by Django 3.2, the column in the other table keeps its new type.
        since=(4, 2),
    ),
    altered(
        "ManyToMany to another table",
        "book",
        "tags",
        "ManyToManyField('shop.Tag', db_table='shop_bt')",
    ),
    altered(
        "choices",
        "book",
        "pages",
        "IntegerField(null=True, choices=[(1, 'one')])",
        changes=False,
    ),
    altered(
        "db_default",
        "book",
        "pages",
        "IntegerField(null=True, db_default=1)",
        since=(5, 0),
    ),
    altered(
        "db_comment",
        "book",
        "pages",
        "IntegerField(null=True, db_comment='how many')",
        since=(4, 2),
        only=NOT_SQLITE,
    ),
    altered(
        "db_collation",
        "book",
        "title",
        f"CharField(max_length=50, db_collation='{COLLATIONS[VENDOR]}')",
        # Reversed by Django 3.2, the column on MySQL keeps its new collation.
        since=(4, 2),
    ),
    Case(
        "RenameField",
        "migrations.RenameField('book', 'title', 'name'),",
    ),
    Case(
        "RenameField of a ForeignKey",
        "migrations.RenameField('book', 'author', 'writer'),",
    ),
    Case(
        "RenameField that a ForeignKey refers to",
        "migrations.RenameField('tag', 'code', 'key'),",
        before="""
        migrations.AddField("tag", "code", models.IntegerField(unique=True, null=True)),
        migrations.AddField("book", "main", models.ForeignKey(
            "shop.Tag", models.CASCADE, to_field="code", null=True, related_name="+")),
        """,
    ),
    Case(
        "RenameField of a ManyToMany",
        "migrations.RenameField('book', 'tags', 'labels'),",
    ),
    Case(
        "RenameField in indexes and constraints",
        "migrations.RenameField('book', 'pages', 'leaves'),",
        before=f"""
        migrations.AlterUniqueTogether("book", {{("title", "pages")}}),
        migrations.AddIndex("book", models.Index(fields=["pages"], name="by_pages")),
        migrations.AddConstraint("book", models.CheckConstraint(
            {CHECK}=models.Q(pages__gt=0), name="by_check")),
        """,
    ),
]

CHECKED = f"models.CheckConstraint({CHECK}=models.Q(pages__gt=0), name='by_rule')"
CONSTRAINTS: list[tuple[str, str, dict[str, Any]]] = [
    ("check", CHECKED, {}),
    (
        "unique",
        "models.UniqueConstraint(fields=['title', 'pages'], name='by_rule')",
        {},
    ),
    (
        "unique with a condition",
        """models.UniqueConstraint(
            fields=["title"], name="by_rule", condition=models.Q(pages__gt=0)
        )""",
        {"only": NOT_MYSQL},
    ),
    (
        "unique expression",
        "models.UniqueConstraint(Lower('title'), name='by_rule')",
        {"only": NOT_MYSQL, "since": (4, 0), "code": LOWER},
    ),
    (
        "unique and deferrable",
        """models.UniqueConstraint(
            fields=["title"], name="by_rule", deferrable=models.Deferrable.DEFERRED
        )""",
        {"only": POSTGRESQL},
    ),
]


def added_and_removed(
    name: str, constraint: str, options: dict[str, Any]
) -> tuple[Case, Case]:
    add = f"migrations.AddConstraint('book', {constraint}),"
    remove = "migrations.RemoveConstraint('book', 'by_rule'),"
    return (
        Case(f"AddConstraint {name}", add, **options),
        Case(f"RemoveConstraint {name}", remove, before=add, **options),
    )


INDEXES = [
    Case(
        "AddIndex",
        """migrations.AddIndex(
            "book", models.Index(fields=["title", "-pages"], name="by_title")
        ),""",
    ),
    Case(
        "AddIndex with a condition",
        """migrations.AddIndex("book", models.Index(
            fields=["title"], name="by_title", condition=models.Q(pages__gt=1))),""",
        only=NOT_MYSQL,
    ),
    Case(
        "AddIndex of an expression",
        'migrations.AddIndex("book", models.Index(Lower("title"), name="by_lower")),',
        code=LOWER,
        only=NOT_MYSQL,
    ),
    Case(
        "RemoveIndex",
        "migrations.RemoveIndex('book', 'by_title'),",
        before="""migrations.AddIndex(
            "book", models.Index(fields=["title", "-pages"], name="by_title")
        ),""",
    ),
    Case(
        "RenameIndex",
        "migrations.RenameIndex('book', new_name='by_name', old_name='by_title'),",
        before="""migrations.AddIndex(
            "book", models.Index(fields=["title"], name="by_title")
        ),""",
        since=(4, 1),
    ),
    Case(
        "AlterIndexTogether",
        "migrations.AlterIndexTogether('book', {('title', 'pages')}),",
        before_django=(4, 2),
    ),
    Case(
        "AlterIndexTogether to nothing",
        "migrations.AlterIndexTogether('book', set()),",
        before="migrations.AlterIndexTogether('book', {('title', 'pages')}),",
        before_django=(4, 2),
    ),
    Case(
        "AlterUniqueTogether",
        "migrations.AlterUniqueTogether('book', {('title', 'pages')}),",
    ),
    Case(
        "AlterUniqueTogether to others",
        "migrations.AlterUniqueTogether('book', {('id', 'pages')}),",
        before="migrations.AlterUniqueTogether('book', {('title', 'pages')}),",
    ),
    *(
        case
        for name, constraint, options in CONSTRAINTS
        for case in added_and_removed(name, constraint, options)
    ),
    Case(
        "AlterConstraint",
        f"""migrations.AlterConstraint("book", "by_rule", models.CheckConstraint(
            {CHECK}=models.Q(pages__gt=0), name="by_rule",
            violation_error_message="Too short")),""",
        before=f"""migrations.AddConstraint("book", models.CheckConstraint(
            {CHECK}=models.Q(pages__gt=0), name="by_rule")),""",
        since=(5, 2),
        changes=False,
    ),
]

POSTGRES = """
from django.contrib.postgres import constraints, fields, indexes, operations, search
"""

ON_POSTGRESQL = [
    case._replace(code=POSTGRES, only=POSTGRESQL)
    for case in [
        Case(
            "HStoreExtension",
            """
            operations.HStoreExtension(),
            migrations.AddField("book", "extra", fields.HStoreField(null=True)),
            """,
        ),
        Case(
            "BtreeGinExtension",
            """
            operations.BtreeGinExtension(),
            migrations.AddIndex("book", indexes.GinIndex(
                fields=["title"], name="by_gin")),
            """,
        ),
        Case(
            "TrigramExtension",
            """
            operations.TrigramExtension(),
            migrations.AddIndex("book", indexes.GinIndex(
                fields=["title"], name="by_gin", opclasses=["gin_trgm_ops"])),
            """,
        ),
        Case(
            "CreateExtension",
            "operations.CreateExtension('unaccent'),",
        ),
        Case(
            "ArrayField",
            """migrations.AddField("book", "extra", fields.ArrayField(
                models.IntegerField(), default=list)),""",
        ),
        Case(
            "range field and ExclusionConstraint",
            """
            operations.BtreeGistExtension(),
            migrations.AddField("book", "span", fields.DateRangeField(null=True)),
            migrations.AddConstraint("book", constraints.ExclusionConstraint(
                name="by_rule",
                expressions=[("span", fields.RangeOperators.OVERLAPS), ("title", "=")],
                condition=models.Q(pages__gt=0),
            )),
            """,
        ),
        Case(
            "SearchVectorField and GinIndex",
            """
            migrations.AddField("book", "words", search.SearchVectorField(null=True)),
            migrations.AddIndex("book", indexes.GinIndex(
                fields=["words"], name="by_words")),
            """,
        ),
        Case(
            "AddIndexConcurrently",
            """operations.AddIndexConcurrently(
                "book", models.Index(fields=["title"], name="by_title")
            ),""",
            atomic=False,
        ),
        Case(
            "RemoveIndexConcurrently",
            "operations.RemoveIndexConcurrently('book', 'by_title'),",
            before="""migrations.AddIndex(
                "book", models.Index(fields=["title"], name="by_title")
            ),""",
            atomic=False,
        ),
        Case(
            "AddConstraintNotValid",
            f"""operations.AddConstraintNotValid("book", models.CheckConstraint(
                {CHECK}=models.Q(pages__gt=99), name="by_rule")),""",
            since=(4, 0),
        ),
        Case(
            "AddConstraintNotValid, then ValidateConstraint",
            f"""
            operations.AddConstraintNotValid("book", models.CheckConstraint(
                {CHECK}=models.Q(pages__gt=0), name="by_rule")),
            operations.ValidateConstraint("book", "by_rule"),
            """,
            since=(4, 0),
        ),
        Case(
            "CreateCollation",
            """
            operations.CreateCollation("german", provider="icu", locale="de"),
            migrations.AlterField("book", "title", models.CharField(
                max_length=50, db_collation="german")),
            """,
        ),
        Case(
            "RemoveCollation",
            "operations.RemoveCollation('german', provider='icu', locale='de'),",
            before="operations.CreateCollation('german', provider='icu', locale='de'),",
        ),
    ]
]


OTHER_APPS = [
    Case(
        "__first__",
        """migrations.AddField("book", "thing", models.ForeignKey(
            "blog.Thing", models.CASCADE, null=True)),""",
        dependencies="('blog', '__first__')",
        others={
            "blog.0001": """
            migrations.CreateModel("Thing", [
                ("id", models.BigAutoField(primary_key=True)),
            ]),
            """
        },
    ),
    Case(
        "swappable, with auth.User",
        """migrations.AddField("book", "owner", models.ForeignKey(
            settings.AUTH_USER_MODEL, models.CASCADE, null=True)),""",
        dependencies="migrations.swappable_dependency(settings.AUTH_USER_MODEL)",
        installed=("django.contrib.contenttypes", "django.contrib.auth"),
    ),
    Case(
        "swappable, with a user of our own",
        """
        migrations.AddField("book", "owner", models.ForeignKey(
            settings.AUTH_USER_MODEL, models.CASCADE, null=True)),
        migrations.AddField("book", "readers", models.ManyToManyField(
            settings.AUTH_USER_MODEL, related_name="+")),
        """,
        dependencies="migrations.swappable_dependency(settings.AUTH_USER_MODEL)",
        others={
            "people.0001": """
            migrations.CreateModel("User", [
                ("key", models.CharField(max_length=9, primary_key=True)),
            ], options={"swappable": "AUTH_USER_MODEL"}),
            """
        },
        settings={"AUTH_USER_MODEL": "people.User"},
    ),
]

CASES = [
    pytest.param(case, id=case.id, marks=pytest.mark.only(*case.only))
    for case in [*DATA, *MODELS, *FIELDS, *INDEXES, *ON_POSTGRESQL, *OTHER_APPS]
    if case.since <= django.VERSION[:2] < case.before_django
]


def schema() -> dict[str, Any]:
    """What is in the database, but for the order and the names that Django gives."""
    found: dict[str, Any] = {}
    introspection: Any = connection.introspection
    with connection.cursor() as cursor:
        for table in introspection.get_table_list(cursor):
            if table.name.startswith("django_"):
                continue
            columns = introspection.get_table_description(cursor, table.name)
            constraints = introspection.get_constraints(cursor, table.name)
            found[table.name] = (
                table,
                sorted(map(repr, map(without_number, columns))),
                sorted(
                    repr((name if name.startswith("by_") else "", details))
                    for name, details in map(without_definition, constraints.items())
                ),
            )
        if connection.vendor == "postgresql":
            for query in (
                "SELECT extname FROM pg_extension",
                "SELECT collname FROM pg_collation WHERE collnamespace >= 16384",
                "SELECT conname FROM pg_constraint WHERE NOT convalidated",
                "SELECT indexrelid FROM pg_index WHERE NOT indisvalid",
            ):
                cursor.execute(query)
                found[query] = sorted(cursor.fetchall())
    return found


def without_number(column: Any) -> Any:
    """The type of an extension gets another number each time it is made."""
    is_of_extension = isinstance(column.type_code, int) and column.type_code >= 16384
    return column._replace(type_code="extension") if is_of_extension else column


def without_definition(item: tuple[str, dict[str, Any]]) -> tuple[str, Any]:
    """A check lists its columns as it likes; the rest is comparable."""
    name, details = item
    columns = details["columns"]
    if details.get("check"):
        columns = sorted(columns or [])
    return name, sorted({**details, "columns": columns}.items())


def rows(not_kept: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Everything in the tables of shop, but for what is not kept."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if not table.startswith("shop_") or table in not_kept:
                continue
            cursor.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            kept = [name for name in columns if f"{table}.{name}" not in not_kept]
            lines = (dict(zip(columns, values)) for values in cursor.fetchall())
            found[table] = sorted(
                ({name: line[name] for name in sorted(kept)} for line in lines), key=str
            )
    return found


def write(
    history: History,
    migration: str,
    operations: str,
    after: str = "",
    code: str = "",
    atomic: bool = True,
    dependencies: str = "",
) -> None:
    known = [f"('shop', '{after}')"] if after else []
    history.write(
        migration,
        text=MIGRATION.format(
            code=code,
            atomic=atomic,
            dependencies=", ".join(filter(None, [*known, dependencies])),
            operations=operations,
        ),
    )


def have(history: History, case: Case) -> History:
    """Apply what is before the ghost, which is written only, and lose another one."""
    history.have("users: 0001 > 0002_other")
    for migration, operations in case.others.items():
        write(history, migration, operations)
    write(history, "shop.0001_library", LIBRARY)
    write(history, "shop.0002_rows", ROWS, "0001_library")
    write(history, "shop.0003_before", case.before, "0002_rows", case.code)
    installed = ["django_rewind", *case.installed, *history.labels]
    history.install(INSTALLED_APPS=installed, **case.settings)
    history.migrate()
    history.lose("users.0002_other")
    write(
        history,
        "shop.0004_ghost",
        case.ghost,
        "0003_before",
        case.code,
        case.atomic,
        case.dependencies,
    )
    return history


@pytest.mark.parametrize("case", CASES)
def test_a_ghost_is_reversed_and_applied_again_whatever_it_did(
    history: History, case: Case
) -> None:
    have(history, case)
    before, all_rows, kept_rows = schema(), rows(), rows(case.not_kept)
    history.migrate()
    after = schema()
    assert ((after, rows()) != (before, all_rows)) is case.changes
    history.lose("shop.0004_ghost")
    assert "No migrations to apply" in history.migrate()
    assert history.recorded("shop")[-1] == "shop.0004_ghost"

    output = history.migrate("shop", "0003")

    assert "Loading shop.0004_ghost from stored code... OK" in output
    assert history.recorded("shop")[-1] == "shop.0003_before"
    assert schema() == before
    assert rows(case.not_kept) == kept_rows
    history.find("shop.0004_ghost")
    history.migrate()
    assert schema() == after
    assert "users.0002_other" in history.recorded()


@pytest.mark.parametrize("both", [True, False])
def test_what_a_ghost_ran_before_is_reversed_before_it(
    history: History, both: bool
) -> None:
    history.have("users: 0001; blog: 0001 > 0002_b")
    path = history.write(
        "users.0002_a",
        "migrations.AddField('thing', 'a', models.IntegerField(null=True)),",
        [("users", "0001")],
    )
    path.write_text(
        path.read_text().replace(
            "    dependencies",
            "    run_before = [('blog', '0002_b')]\n    dependencies",
        )
    )
    history.migrate()
    applied = history.recorded()
    assert applied.index("users.0002_a") < applied.index("blog.0002_b")
    history.lose("users.0002_a", *(["blog.0002_b"] if both else []))
    assert "No migrations to apply" in history.migrate()
    output = history.migrate("users", "0001")
    lines = [line.strip() for line in output.splitlines() if "Unapplying" in line]
    assert lines == ["Unapplying blog.0002_b... OK", "Unapplying users.0002_a... OK"]
    assert history.columns("users_thing") == ["id", "name"]
    assert history.columns("blog_thing") == ["id", "name"]
    history.find("users.0002_a", *(["blog.0002_b"] if both else []))
    history.migrate()
    assert sorted(history.recorded()) == sorted(applied)


def test_the_first_migration_that_a_ghost_names_may_be_a_ghost(
    history: History,
) -> None:
    history.have("blog: 0001; users: 0001 > 0002_a(blog.__first__)")
    history.migrate()
    history.lose("blog.0001", "users.0002_a")
    output = history.migrate("blog", "zero")
    lines = [line.strip() for line in output.splitlines() if "Unapplying" in line]
    assert lines == ["Unapplying users.0002_a... OK", "Unapplying blog.0001... OK"]
    assert history.recorded() == ["users.0001"]
    history.find("blog.0001", "users.0002_a")
    history.migrate()
    assert "users.0002_a" in history.recorded()


# Each needs what the one before it left.
ROW = [
    "migrations.AddField('book', 'key', models.UUIDField(default=uuid.uuid4)),",
    "migrations.RenameField('book', 'pages', 'leaves'),",
    "migrations.AddIndex('book', models.Index(fields=['leaves'], name='by_leaves')),",
    "migrations.AlterField('book', 'leaves', models.BigIntegerField(null=True)),",
    """migrations.RunSQL(
        "UPDATE shop_book SET leaves = leaves + 1",
        "UPDATE shop_book SET leaves = leaves - 1",
    ),""",
    "migrations.AlterUniqueTogether('book', {('title', 'leaves')}),",
    "migrations.RenameField('book', 'author', 'writer'),",
    """migrations.CreateModel("Note", [
        ("id", models.BigAutoField(primary_key=True)),
        ("book", models.ForeignKey("shop.Book", models.CASCADE)),
    ]),""",
    "migrations.AlterField('author', 'name', models.CharField(max_length=99)),",
    """migrations.AddConstraint(
        "book", models.UniqueConstraint(fields=["key", "writer"], name="by_key")
    ),""",
    "migrations.AlterModelTable('book', 'shop_works'),",
    "migrations.RenameModel('Author', 'Writer'),",
    "migrations.RemoveConstraint('book', 'by_key'),",
    "migrations.RemoveField('book', 'key'),",
    "migrations.DeleteModel('Note'),",
]


@pytest.mark.parametrize("at_once", [True, False])
def test_many_ghosts_in_a_row_are_reversed(history: History, at_once: bool) -> None:
    have(history, Case("before the row", ghost=""))
    history.lose("shop.0004_ghost")
    snapshots = [(schema(), rows())]
    ghosts = []
    before = "0003_before"
    for number, operations in enumerate(ROW, start=4):
        name = f"{number:04}_ghost"
        write(history, f"shop.{name}", operations, before)
        before = name
        history.migrate("shop", name)
        ghosts.append(f"shop.{name}")
        snapshots.append((schema(), rows()))
    history.lose(*ghosts)
    assert "No migrations to apply" in history.migrate()
    assert (schema(), rows()) == snapshots[-1]
    assert history.recorded("shop")[-len(ghosts) :] == ghosts
    made_up = ["shop_works.key", "shop_book.key"]
    for number in [3] if at_once else reversed(range(3, 3 + len(ROW))):
        history.migrate("shop", f"{number:04}")
        expected_schema, expected_rows = snapshots[number - 3]
        assert schema() == expected_schema
        assert len(rows(made_up)) == len(expected_rows)
        for table, lines in rows(made_up).items():
            assert lines == [
                {name: value for name, value in line.items() if name != "key"}
                for line in expected_rows[table]
            ]
    history.find(*ghosts)
    history.migrate()
    assert schema() == snapshots[-1][0]
