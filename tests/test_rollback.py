"""The contract of a rollback, on whichever database the run is about."""

from __future__ import annotations

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from django_rewind import source
from django_rewind.archive import EarlierMigrationCode
from tests.history import History


def test_a_ghost_is_reversed(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    history.lose("users.0002_prefs")
    output = history.migrate("users", "0001")
    assert "Loading users.0002_prefs from stored code... OK" in output
    assert "Unapplying users.0002_prefs... OK" in output
    assert history.recorded() == ["users.0001"]
    assert history.columns("users_thing") == ["id", "name"]


def test_several_ghosts_are_reversed_in_the_order_of_the_graph(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a > 0003_b; blog: 0001(users.0003_b) > 0002_c")
    history.migrate()
    history.lose("users.0002_a", "users.0003_b", "blog.0001", "blog.0002_c")
    output = history.migrate("users", "0001")
    lines = [line.strip() for line in output.splitlines() if "Unapplying" in line]
    assert lines == [
        "Unapplying blog.0002_c... OK",
        "Unapplying blog.0001... OK",
        "Unapplying users.0003_b... OK",
        "Unapplying users.0002_a... OK",
    ]
    assert history.recorded() == ["users.0001"]
    assert "blog_thing" not in history.tables()


def test_plain_migrate_never_rolls_back(history: History) -> None:
    history.have("users: 0001 > 0002_prefs")
    history.migrate()
    history.lose("users.0002_prefs")
    for args in [(), ("users",)]:
        assert "No migrations to apply" in history.migrate(*args)
    assert history.recorded() == ["users.0001", "users.0002_prefs"]
    assert "prefs" in history.columns("users_thing")


def test_an_unreachable_ghost_is_refused_before_anything_changes(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.sql("DELETE FROM django_migrations_code WHERE migration_name = '0002_a'")
    history.lose("users.0002_a", "users.0003_b")
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    assert "users.0002_a: it is recorded, but its code was never stored" in str(
        refusal.value
    )
    assert history.recorded() == ["users.0001", "users.0002_a", "users.0003_b"]
    assert "b" in history.columns("users_thing")


def test_the_target_may_be_a_ghost(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.lose("users.0002_a", "users.0003_b")
    history.migrate("users", "0002")
    assert history.recorded() == ["users.0001", "users.0002_a"]
    assert history.columns("users_thing") == ["id", "name", "a"]


def test_files_recorded_after_a_ghost_that_is_the_target_are_reversed(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0002_a")
    history.have("users: 0001 > 0002_b > 0003_c; blog: 0001(users.0002_b)")
    history.migrate()
    history.migrate("users", "0002_a")
    assert history.recorded() == ["users.0001", "users.0002_a"]
    assert history.columns("users_thing") == ["id", "name", "a"]
    history.migrate()
    assert history.recorded("users")[1:] == [
        "users.0002_a",
        "users.0002_b",
        "users.0003_c",
    ]


def test_ghosts_and_files_are_reversed_together(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b; blog: 0001(users.0002_a) > 0002_c")
    history.migrate()
    history.lose("users.0003_b", "blog.0002_c")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]
    assert history.tables() >= {"users_thing"}
    assert "blog_thing" not in history.tables()


def test_what_fails_on_the_data_that_is_there_is_refused(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0001", PERSON)
    history.write("users.0002_free", NULLABLE, [("users", "0001")])
    history.write("users.0003_x", "", [("users", "0002_free")])
    history.migrate()
    history.sql("INSERT INTO users_person (id, age) VALUES (1, NULL)")
    history.lose("users.0002_free", "users.0003_x")
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    assert "Nothing was changed." in str(refusal.value)
    assert (
        "users.0002_free: it would make users_person.age NOT NULL again, and 1 row has "
        "NULL there." in str(refusal.value)
    )
    assert len(history.recorded()) == 3
    history.sql("UPDATE users_person SET age = 1")
    history.migrate("users", "0001")
    assert history.recorded("users") == ["users.0001"]


def test_zero_reverses_an_app_without_any_file(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0001", "users.0002_a")
    history.migrate("users", "zero")
    assert history.recorded() == []
    assert "users_thing" not in history.tables()


def test_another_branchs_ghost_recorded_after_the_target_is_reversed(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.have("users: 0001 > 0002_b")
    history.lose("users.0002_a")
    history.migrate()
    history.find("users.0002_a")
    history.lose("users.0002_b")
    history.migrate("users", "0002_a")
    assert history.recorded() == ["users.0001", "users.0002_a"]
    assert history.columns("users_thing") == ["id", "name", "a"]


def test_a_prefix_that_fits_a_file_and_a_ghost_means_the_file(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0002_a")
    history.have("users: 0001 > 0002_b")
    output = history.migrate("users", "0002")
    assert "Applying users.0002_b... OK" in output
    assert history.recorded() == ["users.0001", "users.0002_a", "users.0002_b"]


def test_a_ghost_is_applied_again_with_other_code_and_nothing_is_lost(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    first = history.path("users.0002_a").read_text()
    history.migrate("users", "0001")
    history.make_ghost("users.0002_a", ADD_TEXT, [("users", "0001")])
    history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]
    codes = EarlierMigrationCode._default_manager.filter(migration_name="0002_a")
    assert [code.source_code for code in codes] == [first]


PERSON = """
migrations.CreateModel("Person", [
    ("id", models.BigAutoField(primary_key=True)), ("age", models.IntegerField()),
]),"""
NULLABLE = 'migrations.AlterField("person", "age", models.IntegerField(null=True)),'
ADD_TEXT = 'migrations.AddField("thing", "text", models.TextField(default="")),'
IRREVERSIBLE = """
migrations.RunPython(lambda apps, schema_editor: None),
"""
HIDDEN = """
migrations.SeparateDatabaseAndState(
    database_operations=[migrations.RunSQL("SELECT 1")],
),
"""


@pytest.mark.parametrize("is_ghost", [True, False])
@pytest.mark.parametrize("operations", [IRREVERSIBLE, HIDDEN])
def test_an_irreversible_migration_is_refused_before_anything_changes(
    history: History, operations: str, is_ghost: bool
) -> None:
    history.have("users: 0001")
    history.write("users.0002_data", operations, [("users", "0001")])
    history.write("users.0003_b", ADD_TEXT, [("users", "0002_data")])
    history.migrate()
    if is_ghost:
        history.lose("users.0002_data", "users.0003_b")
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    assert "users.0002_data: its operation" in str(refusal.value)
    assert "is irreversible" in str(refusal.value)
    assert history.recorded() == ["users.0001", "users.0002_data", "users.0003_b"]
    assert "text" in history.columns("users_thing")
    assert "IRREVERSIBLE" in history.migrate("users", "0001", plan=True) or is_hidden(
        operations
    )


def is_hidden(operations: str) -> bool:
    """Django's own plan does not look inside SeparateDatabaseAndState."""
    return operations is HIDDEN


def test_each_migration_in_the_way_is_named(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b > 0004_c")
    history.migrate()
    history.sql(
        "UPDATE django_migrations_code SET source_code = 'raise SystemExit' "
        "WHERE migration_name = '0002_a'"
    )
    history.sql("DELETE FROM django_migrations_code WHERE migration_name = '0004_c'")
    history.lose("users.0002_a", "users.0003_b", "users.0004_c")
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    message = str(refusal.value)
    assert "users.0002_a: its stored code was altered after it was signed" in message
    assert "users.0003_b: it depends on users.0002_a, which cannot be loaded" in message
    assert "users.0004_c: it is recorded, but its code was never stored" in message
    assert len(history.recorded()) == 4


def test_nothing_is_reversed_under_a_dependant_that_cannot_be_loaded(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a; blog: 0001(users.0002_a)")
    history.migrate()
    history.sql(
        "UPDATE django_migrations_code SET signature = 'x' WHERE app_label = 'blog'"
    )
    history.lose("blog.0001")
    with pytest.raises(CommandError, match=r"blog\.0001"):
        history.migrate("users", "0001")
    assert history.recorded() == ["users.0001", "users.0002_a", "blog.0001"]


def test_what_is_not_in_the_way_does_not_matter(history: History) -> None:
    history.have("users: 0001 > 0002_a; blog: 0001")
    history.migrate()
    history.sql(
        "UPDATE django_migrations_code SET signature = 'x' WHERE app_label = 'blog'"
    )
    history.lose("blog.0001", "users.0002_a")
    history.migrate("users", "0001")
    assert set(history.recorded()) == {"users.0001", "blog.0001"}


def test_code_that_does_not_load_breaks_nothing_else(history: History) -> None:
    history.have("users: 0001")
    history.write(
        "users.0002_a",
        # Not seen when it is stored, so not stored with it.
        text="__import__('users.' + 'gone'.lower())\n" + COMPLETE,
        operations="",
    )
    (history.folder / "users" / "gone.py").write_text("nothing = None")
    history.migrate()
    history.lose("users.0002_a")
    (history.folder / "users" / "gone.py").unlink()
    with pytest.raises(CommandError) as refusal:
        history.migrate("users", "0001")
    assert "users.0002_a: its stored code does not load: ModuleNotFoundError" in str(
        refusal.value
    )
    assert history.recorded() == ["users.0001", "users.0002_a"]
    assert "No migrations to apply" in history.migrate()
    history.write("users.0002_b", ADD_TEXT, [("users", "0001")])
    history.migrate()
    assert history.recorded()[-1] == "users.0002_b"


COMPLETE = """\
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = []
"""


def test_an_edited_migration_is_reversed_as_it_was_applied(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.write("users.0002_a", ADD_TEXT, [("users", "0001")])
    output = history.migrate("users", "0001")
    assert "Loading users.0002_a from stored code... OK" in output
    assert history.columns("users_thing") == ["id", "name"]
    history.migrate()
    assert history.columns("users_thing") == ["id", "name", "text"]


def test_if_only_the_edited_file_is_reversible_it_is_used(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_data", IRREVERSIBLE, [("users", "0001")])
    history.migrate()
    history.write(
        "users.0002_data",
        IRREVERSIBLE.replace("None)", "None, migrations.RunPython.noop)"),
        [("users", "0001")],
    )
    output = history.migrate("users", "0001")
    assert "its file is used" in output
    assert history.recorded() == ["users.0001"]


def test_fake_unrecords_what_cannot_be_reached(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.sql("DELETE FROM django_migrations_code WHERE app_label = 'users'")
    history.lose("users.0002_a", "users.0003_b")
    output = history.migrate("users", "0001", fake=True)
    assert "Unapplying users.0003_b... FAKED" in output
    assert history.recorded() == ["users.0001"]
    assert history.columns("users_thing") == ["id", "name", "a", "b"]


def test_the_other_database_has_its_own_history(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.migrate(database="other")
    history.lose("users.0002_a")
    history.migrate("users", "0001", database="other")
    assert history.recorded(alias="other") == ["users.0001"]
    assert history.recorded() == ["users.0001", "users.0002_a"]
    assert history.columns("users_thing", alias="other") == ["id", "name"]
    assert history.columns("users_thing") == ["id", "name", "a"]


SQUASH = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    replaces = [("users", "0001"), ("users", "0002_a")]
    initial = True
    operations = [
        migrations.CreateModel(
            "Thing",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=50, default="")),
                ("a", models.IntegerField(null=True)),
            ],
        ),
    ]
"""


@pytest.fixture
def squashed(history: History) -> History:
    """users.0001 and 0002_a were applied, then squashed, and the squash recorded."""
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate()
    assert history.recorded() == ["users.0001", "users.0002_a", "users.0001_squashed"]
    return history


def test_what_a_squash_replaced_is_no_ghost(squashed: History) -> None:
    squashed.lose("users.0001", "users.0002_a")
    assert "ghost" not in squashed.run("showmigrations", "users")
    squashed.write("users.0001_squashed", text=SQUASH.replace("replaces", "replaced"))
    assert "ghost" not in squashed.run("showmigrations", "users")
    squashed.migrate("users", "zero")
    assert "users_thing" not in squashed.tables()
    assert squashed.recorded() == []


def test_before_the_squash_its_originals_are_reversed_once(squashed: History) -> None:
    squashed.lose("users.0001_squashed")
    assert "ghost" not in squashed.run("showmigrations", "users")
    squashed.migrate("users", "0001")
    assert squashed.recorded() == ["users.0001"]
    assert squashed.columns("users_thing") == ["id", "name"]


def test_a_squash_and_its_originals_are_all_gone(squashed: History) -> None:
    squashed.lose("users.0001_squashed", "users.0001", "users.0002_a")
    squashed.migrate("users", "zero")
    assert squashed.recorded() == []
    assert "users_thing" not in squashed.tables()


def test_a_ghost_after_a_squash_is_reversed(squashed: History) -> None:
    squashed.have("users: 0001 > 0002_a > 0003_b")
    squashed.migrate()
    squashed.lose("users.0001", "users.0002_a", "users.0003_b")
    squashed.migrate("users", "0001_squashed")
    assert squashed.columns("users_thing") == ["id", "name", "a"]


def test_our_own_tables_stay_while_a_ghost_needs_them(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0002_a")
    with pytest.raises(CommandError, match=r"users\.0002_a: .* only copy of its code"):
        history.migrate("django_rewind", "zero")
    history.migrate("users", "0001")
    history.migrate("django_rewind", "zero")
    assert not {t for t in history.tables() if t.startswith("django_migrations_code")}


def test_names_that_a_squash_recorded_are_reversed_once(history: History) -> None:
    """On a new database only the squash runs, and its originals may have no file."""
    history.write("users.0001_squashed", text=SQUASH)
    history.migrate()
    assert set(history.recorded()) >= {"users.0001", "users.0002_a"}
    history.sql(
        "DELETE FROM django_migrations WHERE app = 'users' AND name = '0001_squashed'"
    )
    history.lose("users.0001_squashed")
    with pytest.raises(CommandError, match="was applied by a squashed migration"):
        history.run("sqlmigrate", "users", "0001")
    history.migrate("users", "zero")
    assert history.recorded() == []
    assert "users_thing" not in history.tables()


def test_a_dependency_on_an_app_without_migrations_is_refused(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a row that 0.1.0 stored.
    monkeypatch.setattr(source, "dependencies", lambda *args: None)
    history.have("users: 0001; blog: 0001")
    history.write("users.0002_a", ADD_TEXT, [("users", "0001"), ("blog", "__first__")])
    history.migrate()
    history.lose("users.0002_a", "blog.0001")
    history.sql("DELETE FROM django_migrations WHERE app = 'blog'")
    with pytest.raises(CommandError, match="do not fit the files"):
        history.migrate("users", "0001")
    assert history.recorded("users") == ["users.0001", "users.0002_a"]


READS_PEOPLE = """
migrations.RunPython(
    migrations.RunPython.noop,
    lambda apps, schema_editor: list(
        apps.get_model("users", "Thing").objects.using(schema_editor.connection.alias)
    ),
),
"""


@pytest.mark.parametrize("second_is_ghost", [True, False])
def test_siblings_are_reversed_in_the_reverse_order_of_their_application(
    history: History, second_is_ghost: bool
) -> None:
    """By name 0002_a would go first, and 0002_b then read a column that is gone."""
    history.have("users: 0001 > 0002_a")
    history.migrate()
    history.lose("users.0002_a")
    history.write("users.0002_b", READS_PEOPLE, [("users", "0001")])
    history.find("users.0002_a")
    history.write("users.0003_m", "", [("users", "0002_a"), ("users", "0002_b")])
    history.migrate()
    history.lose("users.0003_m", "users.0002_a")
    if second_is_ghost:
        history.lose("users.0002_b")
    output = history.migrate("users", "0001")
    lines = [line.split()[1] for line in output.splitlines() if "Unapplying" in line]
    assert lines == ["users.0003_m...", "users.0002_b...", "users.0002_a..."]
    assert history.columns("users_thing") == ["id", "name"]


def test_the_graph_wins_over_contradicting_records(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.sql("DELETE FROM django_migrations WHERE name = '0002_a'")
    MigrationRecorder(connection).record_applied("users", "0002_a")
    history.lose("users.0002_a", "users.0003_b")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]
    assert history.columns("users_thing") == ["id", "name"]


def test_a_first_migration_is_the_one_that_was_first_then(history: History) -> None:
    history.have("users: 0001; blog: 0001")
    history.write("users.0002_a", ADD_TEXT, [("users", "0001"), ("blog", "__first__")])
    history.migrate()
    history.lose("users.0002_a", "blog.0001")
    # Another branch's first migration, which was never applied.
    history.write("blog.0001_other", "", [])
    history.migrate("users", "0001")
    assert history.recorded() == ["blog.0001", "users.0001"]


# Recorded with --fake


def test_a_faked_ghost_is_faked_back(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate("users", "0001")
    history.sql("ALTER TABLE users_thing ADD COLUMN a integer")
    history.migrate("users", "0002", fake=True)
    history.migrate("users")
    history.lose("users.0002_a", "users.0003_b")
    output = history.migrate("users", "0001")
    assert "users.0002_a was recorded with --fake, so only its record goes." in output
    assert "users.0003_b was recorded" not in output
    assert history.recorded() == ["users.0001"]
    assert history.columns("users_thing") == ["id", "name", "a"]


def test_a_faked_file_is_faked_back_with_a_ghost(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate("users", "0001")
    history.sql("ALTER TABLE users_thing ADD COLUMN a integer")
    history.migrate("users", "0002", fake=True)
    history.migrate("users")
    history.lose("users.0003_b")
    output = history.migrate("users", "0001")
    assert "users.0002_a was recorded with --fake, so only its record goes." in output
    assert history.recorded() == ["users.0001"]
    assert history.columns("users_thing") == ["id", "name", "a"]


def test_without_a_ghost_a_faked_migration_is_reversed_as_django_does(
    history: History,
) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate("users", "0001")
    history.sql("ALTER TABLE users_thing ADD COLUMN a integer")
    history.migrate("users", "0002", fake=True)
    assert "--fake" not in history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]


def test_an_irreversible_faked_ghost_is_faked_back(history: History) -> None:
    history.have("users: 0001")
    history.write("users.0002_a", IRREVERSIBLE, [("users", "0001")])
    history.migrate("users", "0001")
    history.migrate("users", fake=True)
    history.lose("users.0002_a")
    history.migrate("users", "0001")
    assert history.recorded() == ["users.0001"]


def test_tables_that_an_initial_migration_found_stay(history: History) -> None:
    history.have("users: 0001")
    history.migrate()
    history.migrate("users", "zero", fake=True)
    history.migrate("users", fake_initial=True)
    history.lose("users.0001")
    assert "users.0001 was recorded with --fake" in history.migrate("users", "zero")
    assert history.recorded() == []
    assert "users_thing" in history.tables()


def test_applied_after_a_fake_it_is_reversed(history: History) -> None:
    history.have("users: 0001 > 0002_a")
    history.migrate("users", "0001")
    history.migrate("users", fake=True)
    history.migrate("users", "0001", fake=True)
    history.migrate("users")
    history.lose("users.0002_a")
    assert "--fake" not in history.migrate("users", "0001")
    assert history.columns("users_thing") == ["id", "name"]


def test_that_it_was_faked_is_signed(history: History) -> None:
    history.have("users: 0001 > 0002_a > 0003_b")
    history.migrate()
    history.sql(
        "UPDATE django_migrations_code SET faked = %s WHERE migration_name = '0002_a'",
        [True],
    )
    history.lose("users.0003_b")
    with pytest.raises(CommandError, match=r"users\.0002_a: .* altered"):
        history.migrate("users", "0001")
    assert "b" in history.columns("users_thing")


DEPENDS_ON_A_SETTING = """\
from django.conf import settings
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [
        migrations.AddField("thing", name, models.IntegerField(null=True))
        for name in ["a", settings.FEATURE]
        if name
    ]
"""


@pytest.mark.parametrize("other", ["", "other", None])
def test_a_ghost_that_does_something_else_under_these_settings_is_refused(
    history: History, other: str | None
) -> None:
    history.have("users: 0001")
    history.write("users.0002_b", text=DEPENDS_ON_A_SETTING)
    history.install(FEATURE="feature")
    history.migrate()
    history.lose("users.0002_b")
    if other is None:
        # The setting is here.
        assert "may stop half-way" not in history.migrate("users", "0001")
        assert history.columns("users_thing") == ["id", "name"]
        return
    history.install(FEATURE=other)
    for command in (["migrate", "users", "0001"], ["rewind", "--noinput"]):
        with pytest.raises(CommandError) as refused:
            history.run(*command)
        assert "users.0002_b: its stored code makes other" in str(refused.value)
    assert history.columns("users_thing") == ["id", "name", "a", "feature"]
    assert history.recorded() == ["users.0001", "users.0002_b"]


# Two recipes for altering a model of another app from one's own.
OF_ANOTHER_APP = """\
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("users", "0001"), ("blog", "0001")]
    operations = [migrations.AddField("thing", "phone", models.IntegerField(null=True))]
"""
BY_REPLACING = (
    OF_ANOTHER_APP
    + """
    replaces = [("blog", "0002_phone")]

    def __init__(self, name, app_label):
        super().__init__(name, "blog")
"""
)
BY_ITS_METHODS = (
    OF_ANOTHER_APP
    + """
    def _as_blog(self, method, *args, **kwargs):
        before, self.app_label = self.app_label, "blog"
        try:
            return method(*args, **kwargs)
        finally:
            self.app_label = before

    def apply(self, *args, **kwargs):
        return self._as_blog(super().apply, *args, **kwargs)

    def unapply(self, *args, **kwargs):
        return self._as_blog(super().unapply, *args, **kwargs)

    def mutate_state(self, *args, **kwargs):
        return self._as_blog(super().mutate_state, *args, **kwargs)
"""
)


@pytest.mark.parametrize("text", [BY_REPLACING, BY_ITS_METHODS])
@pytest.mark.parametrize("lost", ["", "0003_b", "0002_phone 0003_b"])
def test_a_migration_that_alters_another_apps_model_is_reversed(
    history: History, text: str, lost: str
) -> None:
    history.have("users: 0001; blog: 0001")
    history.write("users.0002_phone", text=text)
    history.write("users.0003_b", dependencies=[("users", "0002_phone")])
    history.migrate()
    assert "phone" in history.columns("blog_thing")
    assert "verified" in history.run("verify_migrations")
    history.lose(*(f"users.{name}" for name in lost.split()))
    assert "phone" in history.migrate("users", "0001", plan=True)
    history.migrate("users", "0001")
    assert "phone" not in history.columns("blog_thing")
    assert history.recorded("users") == ["users.0001"]
    assert history.recorded("blog") == ["blog.0001"]
    if not lost:
        history.migrate()
        assert "phone" in history.columns("blog_thing")


def test_such_a_ghost_is_rewound(history: History) -> None:
    history.have("users: 0001; blog: 0001")
    history.write("users.0002_phone", text=BY_REPLACING)
    history.migrate()
    history.lose("users.0002_phone")
    plan = history.run("rewind", plan=True)
    assert "users.0002_phone (ghost; from stored code)\n    drops blog_thing.phone" in (
        plan
    )
    history.run("rewind", interactive=False)
    assert history.columns("blog_thing") == ["id", "name"]
    assert "Nothing to rewind" in history.run("rewind", interactive=False)
