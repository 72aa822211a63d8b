"""SQLite's remake of a table keeps what ghosts added to it."""

from __future__ import annotations

from contextlib import suppress

import django
import pytest
from django.core.management import CommandError
from django.db import connection

from tests.history import CREATE, History
from tests.schemas import schema_of

pytestmark = pytest.mark.only("sqlite")

GHOST = """
migrations.AddField("thing", "prefs", models.TextField(default="none")),
migrations.AddField(
    "thing", "friend", models.ForeignKey("users.Thing", models.CASCADE, null=True)
),
migrations.AddField(
    "thing", "rank", models.PositiveIntegerField(null=True, unique=True)
),
migrations.AddIndex("thing", models.Index(fields=["name"], name="ghost_by_name")),
migrations.AddIndex("thing", models.Index(fields=["prefs"], name="ghost_by_prefs")),
migrations.AddConstraint(
    "thing",
    models.UniqueConstraint(fields=["prefs", "name"], name="ghost_unique"),
),
"""
ALTER = 'migrations.AlterField("thing", "name", models.CharField(max_length=99)),'
ADD = 'migrations.AddField("thing", "{}", models.TextField(null=True)),'
UNIQUE = """migrations.AddConstraint(
    "thing", models.UniqueConstraint(fields=["name"], name="constraint_g")
),"""


@pytest.fixture
def ghost(history: History) -> History:
    """users.0002_prefs is a ghost, and there are two rows with its data."""
    history.have("users: 0001")
    history.write("users.0002_prefs", GHOST, [("users", "0001")])
    history.migrate()
    history.sql(
        "INSERT INTO users_thing (id, name, prefs, rank, friend_id) "
        "VALUES (1, 'Ann', 'dark', 7, NULL), (2, 'Bob', 'light', NULL, 1)"
    )
    history.lose("users.0002_prefs")
    return history


def rows(history: History) -> list[tuple[object, ...]]:
    return list(
        history.sql(
            "SELECT id, name, prefs, rank, friend_id FROM users_thing ORDER BY id"
        )
    )


def indexes(history: History) -> set[str]:
    return {
        name
        for (name,) in history.sql(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name = 'users_thing'"
        )
    }


def test_a_remake_keeps_columns_data_indexes_and_constraints(ghost: History) -> None:
    before = rows(ghost), indexes(ghost)
    ghost.write("users.0002_longer", ALTER, [("users", "0001")])
    ghost.migrate()
    assert (rows(ghost), indexes(ghost)) == before
    assert (
        "varchar(99)"
        in ghost.sql("SELECT sql FROM sqlite_master WHERE name = 'users_thing'")[0][0]
    )
    with pytest.raises(Exception, match="UNIQUE"):
        ghost.sql("INSERT INTO users_thing VALUES (3, 'Ann', 'dark', NULL, NULL)")
    with pytest.raises(Exception, match="UNIQUE"):
        ghost.sql(
            "INSERT INTO users_thing (id, name, prefs, rank) VALUES (3, 'C', 'c', 7)"
        )


def test_the_ghost_can_be_reversed_after_a_remake(ghost: History) -> None:
    ghost.write("users.0002_longer", ALTER, [("users", "0001")])
    ghost.migrate()
    ghost.migrate("users", "0001")
    assert ghost.columns("users_thing") == ["id", "name"]
    assert ghost.sql("SELECT id, name FROM users_thing") == [(1, "Ann"), (2, "Bob")]
    assert indexes(ghost) == set()


def test_a_column_that_no_ghost_added_is_dropped_as_by_django(
    history: History,
) -> None:
    history.have("users: 0001")
    history.migrate()
    history.sql("ALTER TABLE users_thing ADD COLUMN by_hand integer NULL")
    history.write("users.0002_longer", ALTER, [("users", "0001")])
    history.migrate()
    assert history.columns("users_thing") == ["id", "name"]


@pytest.mark.parametrize("column", ["prefs", "Prefs"])
def test_the_same_column_from_two_branches_is_refused(
    ghost: History, column: str
) -> None:
    ghost.write(
        "users.0002_other",
        'migrations.AddField("thing", "prefs", models.TextField('
        f'default="", db_column="{column}", unique=True)),',
        [("users", "0001")],
    )
    before = rows(ghost)
    with pytest.raises(CommandError) as refusal:
        ghost.migrate()
    assert f"already has the column '{column}'" in str(refusal.value)
    assert rows(ghost) == before
    assert "users.0002_other" not in ghost.recorded()


AGAIN = 'migrations.AddField("thing", "prefs", models.TextField(default="")),'


@pytest.mark.parametrize(
    "again", [AGAIN, f"migrations.SeparateDatabaseAndState([{AGAIN}]),"]
)
def test_nothing_of_the_run_is_applied_before_what_is_refused(
    ghost: History, again: str
) -> None:
    """It stopped at the migration that adds the column, with the first one applied."""
    ghost.write("users.0002_more", ADD.format("more"), [("users", "0001")])
    ghost.write("users.0003_again", again, [("users", "0002_more")])
    before = rows(ghost), ghost.columns("users_thing"), ghost.recorded()
    with pytest.raises(CommandError) as refusal:
        ghost.migrate()
    assert "already has the column 'prefs'" in str(refusal.value)
    assert "users.0003_again adds it anew. Nothing was applied" in str(refusal.value)
    assert (rows(ghost), ghost.columns("users_thing"), ghost.recorded()) == before


def test_a_migration_with_its_own_way_to_be_applied_is_not_foreseen(
    ghost: History,
) -> None:
    own = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [
        migrations.AddField("thing", "prefs", models.TextField(default="")),
    ]

    def apply(self, project_state, schema_editor, collect_sql=False):
        self.operations[0].state_forwards("users", project_state)
        return project_state
"""
    ghost.write("users.0002_own", text=own)
    before = rows(ghost)
    ghost.migrate()
    assert "users.0002_own" in ghost.recorded()
    assert rows(ghost) == before


@pytest.mark.parametrize(
    "first",
    [
        'migrations.RunSQL("ALTER TABLE users_thing RENAME COLUMN prefs TO old"),',
        'migrations.RunSQL("DROP INDEX ghost_by_name"),',
    ],
)
def test_what_the_run_itself_may_have_mended_is_not_refused_at_its_start(
    ghost: History, first: str
) -> None:
    ghost.sql("DROP INDEX ghost_by_prefs")
    ghost.write("users.0002_first", first, [("users", "0001")])
    ghost.migrate()
    assert "users.0002_first" in ghost.recorded()
    with suppress(CommandError):
        ghost.write("users.0003_again", AGAIN, [("users", "0002_first")])
        ghost.migrate()
    assert ("users.0003_again" in ghost.recorded()) == ("old" in first)


@pytest.mark.parametrize(
    "operations",
    [
        # Of another table, and of one that the run makes.
        'migrations.AddField("other", "prefs", models.TextField(default="")),',
        (
            'migrations.CreateModel("Third", [("id", models.AutoField(primary_key=1))])'
            ', migrations.AddField("third", "prefs", models.TextField(default="")),'
        ),
    ],
)
def test_a_column_of_that_name_elsewhere_is_added(
    ghost: History, operations: str
) -> None:
    ghost.write(
        "users.0002_other",
        'migrations.CreateModel("Other", [("id", models.AutoField(primary_key=True))])',
        [("users", "0001")],
    )
    ghost.migrate()
    ghost.write("users.0003_prefs", operations, [("users", "0002_other")])
    ghost.migrate()
    assert "users.0003_prefs" in ghost.recorded()


def test_siblings_leave_nothing_behind(history: History) -> None:
    """Reversed in the wrong order, a remake would make the ghost's column anew."""
    history.have("users: 0001")
    history.write(
        "users.0002_a",
        'migrations.AddField("thing", "a", models.TextField(default="x")),',
        [("users", "0001")],
    )
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a) VALUES (1, 'Ann', 'x')")
    history.lose("users.0002_a")
    history.make_ghost("users.0002_b", ALTER, [("users", "0001")])
    history.migrate("users", "0001")
    assert history.sql("SELECT id, name FROM users_thing") == [(1, "Ann")]
    assert sorted(history.columns("users_thing")) == ["id", "name"]


@pytest.mark.parametrize(
    "operation",
    [
        'migrations.RenameField("thing", "name", "full_name"),',
        'migrations.RemoveField("thing", "name"),',
    ],
)
def test_a_column_that_a_ghost_took_away_is_not_made_up(
    history: History, operation: str
) -> None:
    """SQLite reads a quoted name without a column as text, and would store that."""
    history.have("users: 0001")
    history.write("users.0002_a", operation, [("users", "0001")])
    history.migrate()
    columns = ", ".join(history.columns("users_thing"))
    values = "1, 'Ann'" if "full_name" in columns else "1"
    history.sql(f"INSERT INTO users_thing ({columns}) VALUES ({values})")
    before = history.sql("SELECT * FROM users_thing")
    history.lose("users.0002_a")
    history.write("users.0002_b", ALTER, [("users", "0001")])
    with pytest.raises(CommandError) as refusal:
        history.migrate()
    assert "lacks the column 'name'" in str(refusal.value)
    assert "users.0002_a" in str(refusal.value)
    assert history.sql("SELECT * FROM users_thing") == before
    history.migrate("users", "0001")
    assert sorted(history.columns("users_thing")) == ["id", "name"]


def test_what_an_edited_migration_added_is_kept(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, a) VALUES (1, 'Ann', 7)")
    history.write("users.0002_a", "", [("users", "0001")])
    history.write("users.0003_b", ALTER, [("users", "0002_a")])
    history.migrate()
    assert history.sql("SELECT id, name, a FROM users_thing") == [(1, "Ann", 7)]


CONSTRAIN = (
    'migrations.AddConstraint("thing", models.UniqueConstraint('
    'fields=["id", "name"], name="by_{}")),'
)


def constraints(history: History) -> set[str]:
    return {name for name in ("by_a", "by_b") if name in sql_of_table(history)}


def sql_of_table(history: History) -> str:
    ((sql,),) = history.sql("SELECT sql FROM sqlite_master WHERE name = 'users_thing'")
    return str(sql)


def test_a_constraint_of_a_ghost_on_columns_of_others_is_kept(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_a", CONSTRAIN.format("a"), [("users", "0001")])
    history.write("users.0002_b", CONSTRAIN.format("b"), [("users", "0001")])
    history.migrate()
    assert constraints(history) == {"by_a", "by_b"}
    history.migrate("users", "0001")
    assert constraints(history) == set()


def test_a_constraint_of_an_edited_migration_can_be_removed(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_a", CONSTRAIN.format("a"), [("users", "0001")])
    history.migrate()
    history.write(
        "users.0002_a", CONSTRAIN.format("a") + "\n" + ALTER, [("users", "0001")]
    )
    remove = 'migrations.RemoveConstraint("thing", "by_a"),'
    history.write("users.0003_b", remove, [("users", "0002_a")])
    history.migrate()
    assert constraints(history) == set()


def test_a_constraint_goes_with_the_column_that_it_needs(history: History) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_a", CONSTRAIN.format("a"), [("users", "0001")])
    alter = (
        'migrations.AlterField("thing", "name", '
        'models.CharField(max_length=9, db_column="called")),'
    )
    history.write("users.0002_b", alter, [("users", "0001")])
    history.migrate()
    assert history.columns("users_thing") == ["id", "called"]


def test_what_a_ghost_of_another_app_added_is_kept(history: History) -> None:
    history.have("users: 0001")
    history.write(
        "shop.0001",
        """
        migrations.RunSQL(
            "ALTER TABLE users_thing ADD COLUMN loyalty integer DEFAULT 5",
            "ALTER TABLE users_thing DROP COLUMN loyalty",
        ),
        """,
        [("users", "0001")],
    )
    history.migrate()
    history.sql("INSERT INTO users_thing VALUES (1, 'Ann', 99)")
    history.lose("shop.0001")
    history.write("users.0002_b", ALTER, [("users", "0001")])
    history.migrate()
    assert history.sql("SELECT * FROM users_thing") == [(1, "Ann", 99)]
    history.migrate("shop", "zero")
    assert history.columns("users_thing") == ["id", "name"]


def unique(name: str, *columns: str) -> str:
    fields = list(columns)
    return (
        f'migrations.AddConstraint("thing", models.UniqueConstraint(fields={fields}, '
        f'name="{name}")),'
    )


def check(name: str, condition: str) -> str:
    argument = "check" if django.VERSION < (5, 1) else "condition"
    return (
        'migrations.AddConstraint("thing", models.CheckConstraint('
        f'{argument}=models.Q({condition}), name="{name}")),'
    )


X = 'migrations.AddField("thing", "x", models.IntegerField(null=True)),'
TEXT = 'migrations.AddField("thing", "x", models.CharField(max_length=5, null=True)),'


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize(
    ("base", "ghost", "forward"),
    [
        ('migrations.AlterModelTable("thing", "Users_Thing"),', "", ALTER),
        ("migrations.AlterModelTable('thing', '\"people\"'),", "", ALTER),
        (
            check("many", "name__in=[str(n) for n in range(4000)]"),
            "",
            'migrations.RemoveConstraint("thing", "many"),',
        ),
        (
            X,
            unique("by_x", "x", "name"),
            'migrations.AlterField("thing", "x", models.IntegerField(default=0)),',
        ),
        (
            X,
            check("by_x", "x__gt=5"),
            'migrations.AlterField("thing", "x", models.IntegerField(default=0)),',
        ),
        (
            TEXT,
            unique("by_x", "x", "name"),
            'migrations.AlterField("thing", "x", models.IntegerField(null=True)),',
        ),
        (
            'migrations.AddField("thing", "constraint", models.TextField(null=True)),',
            unique("by_x", "name", "id"),
            ALTER,
        ),
        (
            "",
            'migrations.RunPython(print, print, hints={"note": "unrelated"}),',
            """
            migrations.AddField("thing", "code", models.CharField(
                max_length=9, primary_key=True, default="a")),
            migrations.RemoveField("thing", "id"),
            """,
        ),
    ],
)
def test_what_django_applies_is_applied(
    history: History, base: str, ghost: str, forward: str, is_enabled: bool
) -> None:
    history.have("users: 0001")
    # As makemigrations writes it.
    first = history.path("users.0001")
    first.write_text(
        first.read_text().replace(
            "primary_key=True", "primary_key=True, auto_created=True"
        )
    )
    history.write("users.0002_base", base, [("users", "0001")])
    history.write("users.0003_ghost", ghost, [("users", "0002_base")])
    history.migrate()
    (table,) = [
        name for name in history.tables() if "thing" in name.lower() or name == "people"
    ]
    columns, values = (
        ("name, x", "'a', '1'), ('a', '01'") if base == TEXT else ("name", "'a'), ('a'")
    )
    if "AlterField" in forward:
        history.sql(f"INSERT INTO {table} ({columns}) VALUES ({values})")
    history.lose("users.0003_ghost")
    history.write("users.0003_f", forward, [("users", "0002_base")])
    history.install(DJANGO_REWIND_ENABLED=is_enabled)
    history.migrate()
    assert "users.0003_f" in history.recorded()


@pytest.mark.parametrize(
    ("base", "ghost", "forward", "left"),
    [
        # One name is a part of the other.
        (unique("by_x_id", "x", "id"), unique("by_x", "x"), ALTER, {"by_x", "by_x_id"}),
        # SQLite's LIKE has a backslash in quotes.
        (
            check("by_b", "name__startswith='a'"),
            check("by_x", "name__startswith='a'"),
            'migrations.RemoveConstraint("thing", "by_b"),',
            {"by_x"},
        ),
        # It cannot stay.
        (
            "",
            unique("by_x", "x", "id") + unique("by_b", "name", "id"),
            'migrations.RemoveField("thing", "x"),',
            {"by_b"},
        ),
    ],
)
def test_which_constraints_are_left(
    history: History, base: str, ghost: str, forward: str, left: set[str]
) -> None:
    history.have("users: 0001")
    add = X.replace("null=True", "null=True, db_index=True")
    history.write("users.0002_base", add + base, [("users", "0001")])
    history.make_ghost("users.0003_ghost", ghost, [("users", "0002_base")])
    history.write("users.0003_f", forward, [("users", "0002_base")])
    history.migrate()
    sql = sql_of_table(history)
    assert {name for name in ("by_x", "by_x_id", "by_b") if f'"{name}"' in sql} == left


TWICE = """
migrations.AddField("thing", "twice", models.GeneratedField(
    expression=models.F("id") * 2, output_field=models.IntegerField(), db_persist={}
)),
migrations.AddField("thing", "lower", models.GeneratedField(
    expression=models.functions.Concat("name", models.Value("%")),
    output_field=models.CharField(max_length=99), db_persist=False
)),
"""


@pytest.mark.skipif(django.VERSION < (5, 0), reason="has no GeneratedField")
@pytest.mark.parametrize(
    "operation",
    ['migrations.AddField("thing", "z", models.IntegerField(default=1)),', ALTER],
)
def test_a_generated_column_stays(history: History, operation: str) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_twice", TWICE.format(False), [("users", "0001")])
    history.sql("INSERT INTO users_thing (id, name) VALUES (3, 'a')")
    history.write("users.0002_other", operation, [("users", "0001")])
    history.migrate()
    (row,) = history.sql("SELECT twice, lower FROM users_thing")
    assert list(row) == [6, "a%"]
    history.run("rewind", interactive=False, migrate=True)
    assert "twice" not in history.columns("users_thing")


@pytest.mark.skipif(django.VERSION < (5, 0), reason="has no GeneratedField")
def test_what_a_generated_column_is_made_from_is_not_removed(history: History) -> None:
    history.have("users: 0001")
    index = 'migrations.AddField("thing", "n", models.IntegerField(db_index=True)),'
    index = index.replace("db_index", "default=1, db_index")
    history.write("users.0002_n", index, [("users", "0001")])
    twice = TWICE.format(False).replace('"id"', '"n"')
    history.make_ghost("users.0003_twice", twice, [("users", "0002_n")])
    history.write("users.0003_first", X, [("users", "0002_n")])
    remove = 'migrations.RemoveField("thing", "n"),'
    history.write("users.0004_remove", remove, [("users", "0003_first")])
    with pytest.raises(CommandError) as refusal:
        history.migrate()
    assert str(refusal.value).startswith(
        "The column 'twice' of the table users_thing is from a migration whose file "
        "is gone, and is generated from a column that users.0004_remove removes or "
        "renames. Nothing was applied, so that no data are lost."
    )
    assert "n" in history.columns("users_thing")
    assert "users.0003_first" not in history.recorded()
    history.sql("INSERT INTO users_thing (id, name, n) VALUES (3, 'a', 2)")
    history.run("rewind", interactive=False, migrate=True)
    assert "twice" not in history.columns("users_thing")
    assert "users.0004_remove" in history.recorded()


@pytest.mark.skipif(django.VERSION < (5, 0), reason="has no GeneratedField")
def test_what_a_generated_column_is_made_from_may_be_renamed(history: History) -> None:
    """SQLite renames a column without a remake, also in what is made of it."""
    history.have("users: 0001")
    number = 'migrations.AddField("thing", "n", models.IntegerField(default=1)),'
    history.write("users.0002_n", number, [("users", "0001")])
    twice = TWICE.format(False).replace('"id"', '"n"')
    history.make_ghost("users.0003_twice", twice, [("users", "0002_n")])
    rename = 'migrations.RenameField("thing", "n", "number"),'
    history.write("users.0003_rename", rename, [("users", "0002_n")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, number) VALUES (3, 'a', 2)")
    ((found,),) = history.sql("SELECT twice FROM users_thing")
    assert found == 4
    history.run("rewind", interactive=False)
    assert history.columns("users_thing") == ["id", "name", "number"]


@pytest.mark.skipif(django.VERSION < (5, 0), reason="has no GeneratedField")
@pytest.mark.parametrize("in_another", [False, True])
def test_its_table_is_made_anew_as_it_was_before_the_renaming(
    history: History, in_another: bool
) -> None:
    """Of what it is made, the state would not know otherwise."""
    history.have("users: 0001")
    number = 'migrations.AddField("thing", "n", models.IntegerField(default=1)),'
    history.write("users.0002_n", number, [("users", "0001")])
    unique = 'migrations.AddField("thing", "u", models.IntegerField({})),'
    unique = unique.format("null=True, unique=True")
    twice = TWICE.format(False).replace('"id"', '"n"')
    twice += "" if in_another else unique
    history.make_ghost("users.0003_twice", twice, [("users", "0002_n")])
    if in_another:
        history.make_ghost("users.0004_u", unique, [("users", "0002_n")])
    rename = 'migrations.RenameField("thing", "n", "number"),'
    history.write("users.0003_rename", rename, [("users", "0002_n")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name, number) VALUES (3, 'a', 2)")
    history.run("rewind", interactive=False, migrate=True)
    assert history.columns("users_thing") == ["id", "name", "number"]
    assert [*map(list, history.sql("SELECT number FROM users_thing"))] == [[2]]
    assert "Nothing to rewind" in history.run("rewind", interactive=False)


@pytest.mark.skipif(django.VERSION < (5, 0), reason="has no GeneratedField")
def test_it_goes_where_the_files_make_it_themselves(history: History) -> None:
    """And take it away first."""
    history.have("users: 0001")
    number = 'migrations.AddField("thing", "n", models.IntegerField(default=1)),'
    history.write("users.0002_n", number, [("users", "0001")])
    twice = TWICE.format(False).replace('"id"', '"n"')
    history.write("users.0003_twice", twice, [("users", "0002_n")])
    history.migrate()
    alter = 'migrations.AlterModelOptions("thing", {"ordering": ["twice", "lower"]}),'
    history.make_ghost("users.0004_g", alter, [("users", "0003_twice")])
    remove = """
        migrations.RemoveField("thing", "twice"),
        migrations.RemoveField("thing", "n"),
    """
    history.write("users.0004_remove", remove, [("users", "0003_twice")])
    history.migrate()
    assert "n" not in history.columns("users_thing")


@pytest.mark.parametrize(
    "made",
    [
        'migrations.AlterUniqueTogether("thing", {("id", "name")}),',
        UNIQUE,
        'migrations.RunSQL("CREATE UNIQUE INDEX index_g ON users_thing (name)"),',
    ],
)
@pytest.mark.parametrize("can_be_loaded", [True, False])
def test_what_is_applied_again_keeps_what_ghosts_made(
    history: History, made: str, can_be_loaded: bool
) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_g", made, [("users", "0001")])
    history.write("users.0002_longer", ALTER, [("users", "0001")])
    history.migrate()
    history.run("restore_point", "before")
    history.run("rewind", steps=1, interactive=False)
    assert "users.0002_longer" not in history.recorded()
    if not can_be_loaded:
        history.sql(
            "UPDATE django_migrations_code SET signature = '' "
            "WHERE migration_name = '0002_g'"
        )
    history.run("rewind", to="before", migrate=True, interactive=False)
    assert "users.0002_longer" in history.recorded()
    assert (
        "varchar(99)"
        in history.sql("SELECT sql FROM sqlite_master WHERE name = 'users_thing'")[0][0]
    )
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "users_thing")
    assert any(c["unique"] and not c["primary_key"] for c in found.values())


@pytest.mark.parametrize("can_be_loaded", [True, False])
def test_a_rollback_keeps_what_another_ghost_made(
    history: History, can_be_loaded: bool
) -> None:
    history.have("users: 0001")
    history.make_ghost("users.0002_g", UNIQUE, [("users", "0001")])
    history.make_ghost("users.0002_longer", ALTER, [("users", "0001")])
    if not can_be_loaded:
        history.sql(
            "UPDATE django_migrations_code SET signature = '' "
            "WHERE migration_name = '0002_g'"
        )
    history.run("rewind", steps=1, interactive=False)
    assert history.recorded() == ["users.0001", "users.0002_g"]
    ((sql,),) = history.sql("SELECT sql FROM sqlite_master WHERE name = 'users_thing'")
    assert ("varchar(50)" in sql, "constraint_g" in sql) == (True, True)


MARK = """
migrations.CreateModel("Mark", [
    ("id", models.BigAutoField(primary_key=True)),
    ("thing", models.ForeignKey("users.Thing", models.CASCADE, related_name="+")),
    ("tag", models.ForeignKey("users.Tag", models.CASCADE, related_name="+")),
    ("n", models.IntegerField()),
], options={"unique_together": {("thing", "n")}}),
"""


def test_an_index_is_not_made_of_columns_that_have_another_name(
    history: History,
) -> None:
    """SQLite would take them for texts, and allow one row only."""
    tags = 'migrations.AddField("thing", "tags", models.ManyToManyField("users.Tag")),'
    history.have("users: 0001")
    history.write(
        "users.0002_tags", CREATE.replace("Thing", "Tag") + tags, [("users", "0001")]
    )
    history.make_ghost("users.0003_mark", MARK, [("users", "0002_tags")])
    rename = 'migrations.RenameModel("Tag", "Label"),'
    history.write("users.0003_label", rename, [("users", "0002_tags")])
    history.migrate()
    history.sql("INSERT INTO users_thing (id, name) VALUES (1, 'a')")
    history.sql("INSERT INTO users_label (id, name) VALUES (1, 'a'), (2, 'b')")
    history.sql(
        "INSERT INTO users_thing_tags (thing_id, label_id) VALUES (1, 1), (1, 2)"
    )
    history.sql("DELETE FROM users_thing_tags")
    history.run("rewind", interactive=False, migrate=True)
    history.migrate(database="other")
    assert schema_of("default") == schema_of("other")


def test_an_index_of_a_ghost_gets_the_new_names_of_its_columns(
    history: History,
) -> None:
    owner = 'models.ForeignKey("users.Thing", models.CASCADE, null=True)'
    history.have("users: 0001")
    history.write(
        "users.0002_owner",
        f'migrations.AddField("thing", "owner", {owner}),',
        [("users", "0001")],
    )
    together = 'migrations.AlterUniqueTogether("thing", {("owner", "name")}),'
    history.make_ghost("users.0003_g", together, [("users", "0002_owner")])
    rename = 'migrations.RenameField("thing", "owner", "boss"),'
    history.write("users.0003_boss", rename, [("users", "0002_owner")])
    history.migrate()
    constraints = connection.introspection.get_constraints
    with connection.cursor() as cursor:
        found = constraints(cursor, "users_thing").values()
    assert ["boss_id", "name"] in [one["columns"] for one in found if one["unique"]]
    history.run("rewind", interactive=False, migrate=True)
    history.migrate(database="other")
    assert schema_of("default") == schema_of("other")
