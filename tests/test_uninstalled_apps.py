"""Reversing the migrations of apps that are no longer in INSTALLED_APPS."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError
from django.db import connection
from django.db.models.signals import post_migrate, pre_migrate

from django_rewind.models import MigrationCode
from tests.history import History

AUTH = ["django.contrib.contenttypes", "django.contrib.auth"]


def uninstall(history: History, *labels: str, **settings: Any) -> None:
    """Also from the disk, as `pip uninstall` would."""
    for label in labels:
        history.labels.remove(label)
        shutil.rmtree(history.folder / label)
    history.install(**settings)


def lines_with(word: str, output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if word in line]


def refusal(history: History, *args: str, **options: Any) -> str:
    """What a refused migrate says; that nothing changed is asserted."""
    before = history.recorded(), history.tables()
    with pytest.raises(CommandError) as error:
        history.migrate(*args, **options)
    assert (history.recorded(), history.tables()) == before
    assert "Nothing was changed." in str(error.value)
    return str(error.value)


@pytest.fixture
def shop(history: History) -> History:
    """shop.0001 > 0002_price was applied, then shop was uninstalled."""
    history.have("users: 0001; shop: 0001 > 0002_price")
    history.migrate()
    uninstall(history, "shop")
    return history


def foreign_key(to: str, name: str = "link", options: str = "") -> str:
    return (
        f'migrations.AddField("thing", "{name}", models.ForeignKey('
        f'"{to}", models.CASCADE, null=True{options})),'
    )


# As in Django's migrate


def test_zero_reverses_all_of_it(shop: History) -> None:
    output = shop.migrate("shop", "zero", interactive=False)
    assert output == (
        "Loading stored migrations:\n"
        "  Loading shop.0002_price from stored code... OK\n"
        "  Loading shop.0001 from stored code... OK\n"
        "Operations to perform:\n"
        "  Unapply all migrations: shop\n"
        "Running migrations:\n"
        "  Rendering model states... DONE\n"
        "  Unapplying shop.0002_price... OK\n"
        "  Unapplying shop.0001... OK\n"
    )
    assert shop.recorded() == ["users.0001"]
    assert "shop_thing" not in shop.tables()
    assert "users_thing" in shop.tables()


@pytest.mark.parametrize("name", ["0001", "000"])
def test_a_name_or_prefix_is_gone_back_to(shop: History, name: str) -> None:
    if name == "000":
        with pytest.raises(CommandError, match=r"More than one migration.*0002_price"):
            shop.migrate("shop", name)
        return
    output = shop.migrate("shop", name)
    assert "  Target specific migration: 0001, from shop\n" in output
    assert lines_with("Unapplying", output) == ["Unapplying shop.0002_price... OK"]
    assert shop.recorded("shop") == ["shop.0001"]
    assert shop.columns("shop_thing") == ["id", "name"]


def test_the_plan_is_shown_and_nothing_done(shop: History) -> None:
    output = shop.migrate("shop", "zero", "--plan")
    assert lines_with("shop.", output) == [
        "shop.0002_price (stored code)",
        "shop.0001 (stored code)",
    ]
    assert "    Undo Create model Thing" in output
    with pytest.raises(SystemExit):
        shop.migrate("shop", "zero", "--check")
    assert shop.recorded("shop") == ["shop.0001", "shop.0002_price"]
    assert "shop_thing" in shop.tables()


def test_fake_removes_the_records_only(shop: History) -> None:
    MigrationCode.objects.filter(app_label="shop").delete()
    output = shop.migrate("shop", "zero", "--fake")
    assert lines_with("Unapplying", output) == [
        "Unapplying shop.0002_price... FAKED",
        "Unapplying shop.0001... FAKED",
    ]
    assert shop.recorded("shop") == []
    assert "shop_thing" in shop.tables()


def test_verbosity_is_that_of_django(shop: History) -> None:
    assert shop.migrate("shop", "0001", verbosity=0) == ""
    output = shop.migrate("shop", "zero", verbosity=2)
    assert "Running pre-migrate handlers" in output
    assert "Unapplying shop.0001... OK (" in output


def test_once_it_is_reversed_there_is_nothing_to_do(shop: History) -> None:
    """A deployment may say it each time."""
    shop.migrate("shop", "zero")
    assert "No migrations to apply." in shop.migrate("shop", "zero")
    shop.migrate("shop", "zero", "--check")
    for arguments in [["shop", "zero"], ["shop"]]:
        assert "Nothing to rewind" in shop.run("rewind", *arguments, interactive=False)
    with pytest.raises(CommandError, match="No installed app with label 'shop'"):
        shop.migrate("shop", "0001")


def test_a_label_that_the_database_does_not_know_is_djangos_error(
    shop: History,
) -> None:
    for name in ["zero", "0001"]:
        with pytest.raises(CommandError) as error:
            shop.migrate("nothing", name)
        assert str(error.value) == "No installed app with label 'nothing'."


def test_without_a_name_the_label_is_unknown_as_in_django(shop: History) -> None:
    with pytest.raises(CommandError, match="No installed app with label 'shop'"):
        shop.migrate("shop")


def test_only_the_database_that_is_named_is_touched(history: History) -> None:
    history.have("shop: 0001")
    for alias in ["default", "other"]:
        history.migrate(database=alias)
    uninstall(history, "shop")
    history.migrate("shop", "zero", database="other")
    assert history.recorded(alias="other") == []
    assert "shop_thing" not in history.tables("other")
    assert history.recorded() == ["shop.0001"]
    assert "shop_thing" in history.tables()


def test_signals_are_sent_for_the_installed_apps(shop: History) -> None:
    sent = []

    def receive(signal: Any, app_config: Any, plan: Any, **kwargs: Any) -> None:
        steps = [(str(migration), backwards) for migration, backwards in plan]
        sent.append((signal is pre_migrate, app_config.label, steps))
        names = {model._meta.label for model in kwargs["apps"].get_models()}
        assert ("shop.Thing" in names) is (signal is pre_migrate)

    pre_migrate.connect(receive)
    post_migrate.connect(receive)
    try:
        shop.migrate("shop", "zero")
    finally:
        pre_migrate.disconnect(receive)
        post_migrate.disconnect(receive)
    plan = [("shop.0002_price", True), ("shop.0001", True)]
    assert sent == [(True, "users", plan), (False, "users", plan)]


def test_the_registry_does_not_know_it_afterwards(shop: History) -> None:
    shop.migrate("shop", "zero")
    with pytest.raises(LookupError):
        apps.get_app_config("shop")
    with pytest.raises(CommandError, match="No installed app with label 'shop'"):
        shop.migrate("shop")


# What stands in the way


def test_what_was_never_stored_is_refused(shop: History) -> None:
    MigrationCode.objects.filter(migration_name="0002_price").delete()
    for args in [("zero",), ("0001",), ("0001", "--plan")]:
        message = refusal(shop, "shop", *args)
        assert (
            "shop.0002_price: it is recorded, but its code was never stored and its "
            "file is missing. Check out the code that has its file"
        ) in message


def test_what_was_excluded_is_refused(history: History) -> None:
    history.have("users: 0001; shop: 0001")
    excluded = {"DJANGO_REWIND_EXCLUDE_APPS": ["shop"]}
    history.install(**excluded)
    history.migrate()
    uninstall(history, "shop", **excluded)
    message = refusal(history, "shop", "zero")
    assert message.startswith("Cannot unapply all of shop. Nothing was changed.\n")
    assert "shop.0001: it is recorded, but its code was never stored" in message
    history.migrate("shop", "zero", "--fake")
    assert history.recorded() == ["users.0001"]


def test_what_is_irreversible_is_refused(history: History) -> None:
    history.have("shop: 0001")
    history.write("shop.0002", 'migrations.RunSQL("SELECT 1"),', [("shop", "0001")])
    history.migrate()
    uninstall(history, "shop")
    assert "shop.0002: its operation" in refusal(history, "shop", "zero")


def test_a_file_that_depends_on_it_is_refused_without_a_traceback(
    history: History,
) -> None:
    """Django's migrate ends with a NodeNotFoundError, whatever it is asked."""
    history.have("shop: 0001; blog: 0001 > 0002_link(shop.0001) > 0003_more")
    history.migrate()
    uninstall(history, "shop")
    assert refusal(history, "shop", "zero") == (
        "Cannot unapply all of shop. Nothing was changed.\n"
        "  blog.0002_link: its file depends on shop.0001, whose app is not installed. "
        "Take the dependency out of its file, or put the app back into "
        "INSTALLED_APPS."
    )
    with pytest.raises(CommandError, match=r"blog\.0002_link: its file depends on"):
        history.run("sqlmigrate", "shop", "0001")


@pytest.fixture
def linked(history: History) -> History:
    """blog.0002 has a foreign key to shop's table, and shop was uninstalled.

    Who did it took the dependency out of blog's file, so that Django works again.
    """
    history.have("shop: 0001; blog: 0001")
    link = foreign_key("shop.Thing")
    history.write("blog.0002", link, [("blog", "0001"), ("shop", "0001")])
    history.migrate()
    uninstall(history, "shop")
    history.write("blog.0002", "", [("blog", "0001")])
    return history


LINKED = (
    "shop.0001: it would drop the table shop_thing, to which the table blog_thing "
    "(blog.Thing) has a foreign key in its column link_id. Remove that foreign key "
    "first."
)


def test_a_foreign_key_of_an_installed_app_is_refused(linked: History) -> None:
    for args in [("shop", "zero"), ("shop", "zero", "--plan")]:
        assert LINKED in refusal(linked, *args)
    linked.migrate("shop", "zero", "--fake")


def test_without_that_foreign_key_the_installed_app_stays(linked: History) -> None:
    """As applied, its migration depends on the other app; as it is now, it does not."""
    linked.sql("DROP TABLE blog_thing")
    linked.sql("CREATE TABLE blog_thing (id integer, name varchar(50), link_id bigint)")
    linked.migrate("shop", "zero")
    assert linked.recorded() == ["blog.0001", "blog.0002"]
    assert "link_id" in linked.columns("blog_thing")
    assert "shop_thing" not in linked.tables()


def test_a_foreign_key_that_no_migration_knows_is_refused(shop: History) -> None:
    type_ = "integer" if connection.vendor == "sqlite" else "bigint"
    shop.sql(
        f"CREATE TABLE raw (shop {type_}, "
        "FOREIGN KEY (shop) REFERENCES shop_thing (id))"
    )
    assert (
        "shop.0001: it would drop the table shop_thing, to which the table raw has a "
        "foreign key in its column shop. Remove that foreign key first."
    ) in refusal(shop, "shop", "zero")
    # Which drops no table.
    shop.migrate("shop", "0001")


def test_the_name_of_a_table_that_was_renamed_is_followed(history: History) -> None:
    history.have("shop: 0001")
    rename = 'migrations.RenameModel("Thing", "Item"),'
    history.write("shop.0002", rename, [("shop", "0001")])
    history.migrate()
    uninstall(history, "shop")
    type_ = "integer" if connection.vendor == "sqlite" else "bigint"
    history.sql(
        f"CREATE TABLE raw (s {type_}, FOREIGN KEY (s) REFERENCES shop_item (id))"
    )
    assert "the table shop_item, to which" in refusal(history, "shop", "zero")
    history.migrate("shop", "0001")
    assert "the table shop_thing, to which" in refusal(history, "shop", "zero")


@pytest.mark.only("postgresql")
def test_a_foreign_key_in_another_schema_is_refused(shop: History) -> None:
    """Django drops tables with CASCADE there, which would drop the key silently."""
    shop.sql("CREATE SCHEMA tenant")
    try:
        shop.sql("CREATE TABLE tenant.raw (s bigint REFERENCES public.shop_thing)")
        assert "to which the table tenant.raw has a foreign key in its column s." in (
            refusal(shop, "shop", "zero")
        )
    finally:
        shop.sql("DROP SCHEMA tenant CASCADE")


def test_a_table_that_sql_of_the_plan_drops_is_not_in_the_way(
    history: History,
) -> None:
    history.have("shop: 0001")
    raw = "CREATE TABLE raw (s bigint, FOREIGN KEY (s) REFERENCES shop_thing (id))"
    if connection.vendor == "sqlite":
        raw = raw.replace("bigint", "integer")
    sql = f'migrations.RunSQL("{raw}", "DROP TABLE raw"),'
    history.write("shop.0002", sql, [("shop", "0001")])
    history.migrate()
    uninstall(history, "shop")
    history.migrate("shop", "zero")
    assert not {"raw", "shop_thing"} & history.tables()


MOVED = """
migrations.SeparateDatabaseAndState(
    {database}
    state_operations=[{state}],
),
"""


@pytest.mark.parametrize("renamed", [True, False])
def test_a_table_that_another_app_took_over_is_kept(
    history: History, renamed: bool
) -> None:
    """As models are moved between apps: in the state only, or with a new name."""
    history.have("shop: 0001; blog: 0001")
    table = "blog_shop" if renamed else "shop_thing"
    rename = f'database_operations=[migrations.AlterModelTable("thing", "{table}")],'
    state = 'migrations.DeleteModel("Thing")'
    moved = MOVED.format(database=rename if renamed else "", state=state)
    history.write("shop.0002", moved, [("shop", "0001")])
    state = (
        'migrations.CreateModel("Moved", [("id", models.BigAutoField('
        f'primary_key=True))], {{"db_table": "{table}"}})'
    )
    taken = MOVED.format(database="", state=state)
    history.write("blog.0002", taken, [("blog", "0001"), ("shop", "0002")])
    history.migrate()
    uninstall(history, "shop")
    history.write("blog.0002", taken, [("blog", "0001")])
    assert (
        f"shop.0001: it would drop the table {table}, which is now that of blog.Moved. "
        "Drop its other tables by hand, and remove its records with --fake."
    ) in refusal(history, "shop", "zero")


def test_a_table_that_a_file_would_take_over_is_dropped(shop: History) -> None:
    """It was not applied yet."""
    model = '"Thing", [("id", models.BigAutoField(primary_key=True))]'
    create = f'migrations.CreateModel({model}, {{"db_table": "shop_thing"}}),'
    shop.write("blog.0001", create)
    shop.migrate("shop", "zero")
    assert "shop_thing" not in shop.tables()
    shop.migrate()
    assert shop.columns("shop_thing") == ["id"]


# What goes with it


def unapplied(output: str) -> list[str]:
    return [line.split()[1].strip(".") for line in lines_with("Unapplying", output)]


def test_another_uninstalled_app_that_depends_on_it_goes_too(
    history: History,
) -> None:
    history.have("users: 0001; shop: 0001; bill: 0001")
    link = foreign_key("shop.Thing")
    history.write("bill.0002", link, [("bill", "0001"), ("shop", "0001")])
    history.migrate()
    uninstall(history, "shop", "bill")
    assert unapplied(history.migrate("shop", "zero")) == ["bill.0002", "shop.0001"]
    assert history.recorded() == ["bill.0001", "users.0001"]
    assert history.columns("bill_thing") == ["id", "name"]
    history.migrate("bill", "zero")
    assert "bill_thing" not in history.tables()


def test_without_code_an_app_that_may_depend_on_it_is_in_the_way(
    history: History,
) -> None:
    history.have("shop: 0001; bill: 0001(shop.0001)")
    history.migrate()
    MigrationCode.objects.filter(app_label="bill").delete()
    uninstall(history, "shop", "bill")
    assert "bill.0001: it is recorded, but" in refusal(history, "shop", "zero")
    history.migrate("bill", "zero", "--fake")
    history.migrate("shop", "zero")
    assert "shop_thing" not in history.tables()


def test_a_ghost_of_an_installed_app_goes_too(history: History) -> None:
    history.have("shop: 0001; blog: 0001")
    both = foreign_key("shop.Thing") + (
        '\nmigrations.AddField("thing", "many", models.ManyToManyField("shop.Thing")),'
    )
    history.make_ghost("blog.0002", both, [("blog", "0001"), ("shop", "0001")])
    uninstall(history, "shop")
    assert unapplied(history.migrate("shop", "zero")) == ["blog.0002", "shop.0001"]
    assert history.recorded() == ["blog.0001"]
    assert history.columns("blog_thing") == ["id", "name"]
    assert not {"shop_thing", "blog_thing_many"} & history.tables()


def test_run_before_binds_no_file_once_the_app_is_gone(history: History) -> None:
    history.have("shop: 0001; blog: 0001")
    path = history.path("shop.0001")
    text = path.read_text().replace(
        "operations", 'run_before = [("blog", "0001")]\n    operations'
    )
    path.write_text(text)
    history.migrate()
    uninstall(history, "shop")
    assert unapplied(history.migrate("shop", "zero")) == ["shop.0001"]
    assert history.recorded() == ["blog.0001"]


def test_what_was_recorded_with_fake_keeps_its_table(history: History) -> None:
    history.have("users: 0001; shop: 0001")
    history.sql("CREATE TABLE shop_thing (id integer)")
    history.migrate("shop", "--fake")
    uninstall(history, "shop")
    output = history.migrate("shop", "zero")
    assert "shop.0001 was recorded with --fake, so only its record goes." in output
    assert history.recorded("shop") == []
    assert "shop_thing" in history.tables()


def test_a_foreign_key_of_a_faked_one_stays_and_is_in_the_way(
    history: History,
) -> None:
    history.have("shop: 0001; bill: 0001")
    history.migrate()
    link = foreign_key("shop.Thing")
    history.write("bill.0002", link, [("bill", "0001"), ("shop", "0001")])
    history.migrate()
    history.migrate("bill", "0001", "--fake")
    history.migrate("bill", "--fake")
    uninstall(history, "shop", "bill")
    assert "the table bill_thing (bill.Thing) has a foreign key" in refusal(
        history, "shop", "zero"
    )


# Models of all kinds

ALL_KINDS = """
migrations.CreateModel(
    "Owner",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("user", models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)),
        ("groups", models.ManyToManyField("auth.Group")),
        ("friends", models.ManyToManyField("self")),
    ],
),
migrations.CreateModel(
    "Staff",
    [
        (
            "user_ptr",
            models.OneToOneField(
                "auth.User",
                models.CASCADE,
                parent_link=True,
                auto_created=True,
                primary_key=True,
                serialize=False,
            ),
        ),
        ("rank", models.IntegerField(default=1)),
    ],
    bases=("auth.user",),
),
migrations.CreateModel("Visitor", [], {"proxy": True}, bases=("shop.staff",)),
migrations.CreateModel(
    "Foreign",
    [("id", models.BigAutoField(primary_key=True))],
    {"managed": False, "db_table": "users_thing"},
),
migrations.RenameModel("Owner", "Keeper"),
migrations.AddField(
    "staff", "boss", models.ForeignKey("shop.Keeper", models.CASCADE, null=True)
),
migrations.AlterModelTable("Staff", "shop_people"),
migrations.SeparateDatabaseAndState(
    [migrations.DeleteModel("Visitor")], [migrations.DeleteModel("Visitor")]
),
"""


def test_models_of_all_kinds_go(history: History) -> None:
    history.have("users: 0001; shop: 0001")
    path = history.write(
        "shop.0002_kinds", ALL_KINDS, [("shop", "0001"), ("users", "0001")]
    )
    text = path.read_text().replace(
        "dependencies = [",
        "dependencies = [\n"
        "        migrations.swappable_dependency(settings.AUTH_USER_MODEL),\n"
        '        ("auth", "0001_initial"),\n        ',
    )
    path.write_text("from django.conf import settings\n" + text)
    installed = ["django_rewind", *AUTH, "users"]
    history.install(INSTALLED_APPS=[*installed, "shop"])
    history.migrate()
    made = {"shop_keeper", "shop_keeper_groups", "shop_keeper_friends", "shop_people"}
    assert made <= history.tables()
    uninstall(history, "shop", INSTALLED_APPS=installed)
    before = history.tables()
    history.migrate("shop", "zero")
    assert before - history.tables() == {*made, "shop_thing"}
    assert history.recorded("shop") == []
    assert "No migrations to apply." in history.migrate()


SQUASH = """
migrations.CreateModel(
    "Thing",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=50, default="")),
        ("price", models.IntegerField(null=True)),
    ],
),
"""


@pytest.mark.parametrize("is_new_database", [True, False])
def test_squashed_migrations_go_with_what_they_replaced(
    history: History, is_new_database: bool
) -> None:
    history.have("users: 0001; shop: 0001 > 0002_price")
    if not is_new_database:
        history.migrate()
    path = history.write("shop.0001_squashed", SQUASH)
    replaces = 'replaces = [("shop", "0001"), ("shop", "0002_price")]\n    operations'
    path.write_text(path.read_text().replace("operations", replaces))
    history.write("shop.0003", "", [("shop", "0001_squashed")])
    history.migrate()
    uninstall(history, "shop")
    output = history.migrate("shop", "zero")
    assert unapplied(output) == ["shop.0003", "shop.0001_squashed"]
    assert history.recorded() == ["users.0001"]
    assert "shop_thing" not in history.tables()


# The app is installed, and its migrations are gone


@pytest.mark.parametrize("how", ["package", "setting"])
def test_an_installed_app_without_migrations_goes_back(
    history: History, how: str
) -> None:
    history.have("users: 0001; shop: 0001 > 0002_price(users.0001)")
    history.migrate()
    settings = {}
    if how == "package":
        shutil.rmtree(history.folder / "shop" / "migrations")
    else:
        settings = {"MIGRATION_MODULES": {"shop": None}}
    history.install(**settings)
    assert "No migrations to apply." in history.migrate()
    output = history.migrate("shop", "0001")
    assert unapplied(output) == ["shop.0002_price"]
    history.migrate("shop", "zero")
    assert history.recorded() == ["users.0001"]
    assert "shop_thing" not in history.tables()


# Other commands


def test_sqlmigrate_knows_its_migrations(shop: History) -> None:
    assert "CREATE TABLE" in shop.run("sqlmigrate", "shop", "0001")
    assert "DROP TABLE" in shop.run("sqlmigrate", "shop", "0001", "--backwards")
    with pytest.raises(CommandError, match="No installed app with label 'nothing'"):
        shop.run("sqlmigrate", "nothing", "0001")


def test_showmigrations_lists_its_migrations(shop: History) -> None:
    lines = [
        "shop\n",
        " [X] 0001 (ghost: its code is stored)\n",
        " [X] 0002_price (ghost: its code is stored)\n",
    ]
    assert "".join(lines) in shop.run("showmigrations")
    assert shop.run("showmigrations", "shop") == "".join(lines)
    shop.migrate("shop", "zero")
    assert "shop" not in shop.run("showmigrations")


def test_other_commands_do_as_if_it_had_never_been(shop: History) -> None:
    assert "No migrations to apply." in shop.migrate()
    assert "No migrations to apply." in shop.migrate("users")
    shop.migrate("--check")
    assert "No planned migration operations." in shop.migrate("--plan")
    assert "shop" not in shop.run("makemigrations", dry_run=True)
    shop.sql("INSERT INTO shop_thing (id, name) VALUES (1, 'kept')")
    shop.run("flush", interactive=False)
    assert shop.sql("SELECT name FROM shop_thing") == shop.sql("SELECT 'kept'")
    shop.write("users.0002", None, [("users", "0001")])
    assert "Applying users.0002... OK" in shop.migrate()
    assert unapplied(shop.migrate("users", "zero")) == ["users.0002", "users.0001"]
    assert shop.recorded() == ["shop.0001", "shop.0002_price"]


# What the files of installed apps no longer say of it


BEFORE = [("blog", "0001")]
WITH_SHOP = [*BEFORE, ("shop", "0001")]
ADD_EXTRA = 'migrations.AddField("thing", "extra", models.IntegerField(null=True)),'


def rewind(history: History, **options: Any) -> str:
    return history.run("rewind", interactive=False, **options)


def switch(history: History, dependency: bool, operations: str = ADD_EXTRA) -> None:
    """To the branch that has shop, and on which blog depends on it, or to the other."""
    if dependency:
        history.have("shop: 0001; blog: 0001")
    elif "shop" in history.labels:
        uninstall(history, "shop")
    history.write("blog.0002", operations, WITH_SHOP if dependency else BEFORE)


def test_what_only_depended_on_the_gone_app_stays_as_it_is(history: History) -> None:
    """In each direction, as often as somebody switches; its code is stored anew."""
    switch(history, True)
    history.migrate()
    history.sql("INSERT INTO blog_thing (id, name, extra) VALUES (1, 'a', 5)")
    for dependency in (False, True, False):
        switch(history, dependency)
        output = rewind(history, migrate=True)
        assert "Adopting blog.0002... OK" in output
        assert ("shop_thing" in history.tables()) == dependency
        assert [*map(list, history.sql("SELECT extra FROM blog_thing"))] == [[5]]
        history.run("verify_migrations", "blog")
        assert "Nothing to rewind" in rewind(history, migrate=True)
    history.lose("blog.0002")
    rewind(history)
    assert history.columns("blog_thing") == ["id", "name"]


@pytest.mark.parametrize(
    ("applied", "file", "columns"),
    [
        pytest.param(ADD_EXTRA, "", [], id="nothing now"),
        pytest.param(ADD_EXTRA, ADD_EXTRA.replace("extra", "y"), ["y"], id="another"),
        pytest.param(
            ADD_EXTRA + '\nmigrations.RenameField("thing", "name", "title"),',
            ADD_EXTRA,
            ["extra"],
            id="more then",
        ),
        pytest.param(foreign_key("shop.Thing"), ADD_EXTRA, ["extra"], id="foreign key"),
        pytest.param(
            foreign_key("shop.Thing") + '\nmigrations.RunSQL("SELECT 1", ""),',
            ADD_EXTRA,
            ["extra"],
            id="nobody can tell",
        ),
    ],
)
def test_what_does_something_else_now_goes_with_the_gone_app(
    history: History, applied: str, file: str, columns: list[str]
) -> None:
    """As it was applied: as with an app that is here, Django reverses dependants."""
    switch(history, True, applied)
    history.migrate()
    switch(history, False, file)
    output = rewind(history, migrate=True)
    assert "blog.0002 was edited after it was applied: reversed as it" in output
    assert "shop_thing" not in history.tables()
    assert sorted(history.columns("blog_thing")) == sorted(["id", "name", *columns])
    assert history.recorded() == ["blog.0001", "blog.0002"]
    history.run("verify_migrations")


def test_after_the_gone_app_was_reversed_alone_no_other_code_runs(
    history: History,
) -> None:
    """The stored code depends on what is gone: its file counts if it does the same."""
    switch(history, True)
    history.migrate()
    switch(history, False, ADD_EXTRA.replace("extra", "y"))
    history.migrate("shop", "zero")
    assert (
        "blog.0002: it depends on shop.0001, which cannot be loaded. Check out the "
        "code that has its file, and reverse it there. 'manage.py migrate blog NAME "
        "--from-file' reverses what its file does now, which was edited."
    ) in refusal(history, "blog", "0001")
    switch(history, False)
    output = history.migrate("blog", "0001")
    assert "its file is used, since its stored code depends on shop.0001, which" in (
        output
    )
    assert history.columns("blog_thing") == ["id", "name"]
