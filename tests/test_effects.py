"""What find() says of a rollback is what the rollback then does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import django
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext, override_settings

from django_rewind import effects
from django_rewind.exceptions import Problem
from django_rewind.importer import make_faked
from tests.databases import VENDOR
from tests.history import History

MODEL = """
migrations.CreateModel("Person", [
    ("id", models.BigAutoField(primary_key=True)),
    ("age", {field}),
    ("name", models.CharField(max_length=50, default="")),
], options={options}),
"""


class Found(NamedTuple):
    destroys: dict[tuple[str, str], list[str]]
    problems: list[Problem]
    notes: list[str]


def find(migration_name: str | None = "0001", app_label: str = "users") -> Found:
    runner = MigrationExecutor(connection)
    plan = runner.migration_plan([(app_label, migration_name)])
    steps = [migration for migration, _ in plan]
    changes = effects.follow(runner, steps)
    found = effects.find(connection, steps, changes)
    problems = list(effects.problems(connection, changes))
    return Found(found.destroys, problems, found.notes)


def roll_back(migration_name: str | None = "0001", app_label: str = "users") -> None:
    MigrationExecutor(connection).migrate([(app_label, migration_name)])


def have(history: History, first: str, *others: str) -> None:
    """users.0001 that makes Person, then one migration for each of these."""
    history.write("users.0001", first)
    before = "0001"
    for number, operations in enumerate(others, 2):
        name = f"{number:04}"
        history.write(f"users.{name}", operations, [("users", before)])
        before = name
    history.migrate()


def person(field: str, options: str = "{}") -> str:
    return MODEL.format(field=field, options=options)


def insert(history: History, *ages: object, name: str = "") -> None:
    for age in ages:
        history.sql("INSERT INTO users_person (age, name) VALUES (%s, %s)", [age, name])


def problems(found: Found) -> list[tuple[str, str]]:
    return [(problem.fact, problem.remedy) for problem in found.problems]


class Case(NamedTuple):
    name: str
    before: str
    after: str
    ages: list[object]
    fact: str | None
    only: tuple[str, ...] = ("sqlite", "postgresql", "mysql")
    options: str = "{}"


def alter(field: str) -> str:
    return f'migrations.AlterField("person", "age", {field}),'


REMOVE = 'migrations.RemoveField("person", "age"),'
SERVERS = "postgresql", "mysql"
NOT_NULL = "it would make users_person.age NOT NULL again, and {} NULL there."
UNIQUE = "it would make users_person.age unique again, and {} more than once."
ADD = (
    "it would add users_person.age, which is NOT NULL and has no default, and "
    "users_person has {}."
)
ADD_UNIQUE = (
    "it would add users_person.age, which is unique and gets one value for all rows, "
    "and users_person has {}."
)
CHANGE = "it would change users_person.age from {} to {}, and {}."
REMADE = "it would make the constraint {} of users_person again, and {}."
INTEGER = "models.IntegerField({})"
TEXT = "models.CharField(max_length={})"

ONE_AGE = """{"constraints": [models.UniqueConstraint(
    fields=["age"], name="one_age", condition=models.Q(age__gte=4)
)]}"""
CHECK = "check" if django.VERSION < (5, 1) else "condition"
ADULT = f"""{{"constraints": [models.CheckConstraint(
    {CHECK}=models.Q(age__gte=18), name="adult"
)]}}"""

CASES = [
    Case(
        "null",
        INTEGER.format(""),
        alter(INTEGER.format("null=True")),
        [1, None, None],
        NOT_NULL.format("2 rows have"),
    ),
    Case(
        "one null",
        INTEGER.format(""),
        alter(INTEGER.format("null=True")),
        [1, None],
        NOT_NULL.format("1 row has"),
    ),
    Case(
        "no null", INTEGER.format(""), alter(INTEGER.format("null=True")), [1, 2], None
    ),
    Case(
        "null that a default fills",
        INTEGER.format("default=7"),
        alter(INTEGER.format("null=True")),
        [None],
        None,
    ),
    Case(
        "null and no real default",
        INTEGER.format("default=None"),
        alter(INTEGER.format("null=True")),
        [None],
        NOT_NULL.format("1 row has"),
    ),
    Case(
        "null that the empty string fills",
        "models.CharField(max_length=9, blank=True)",
        alter("models.CharField(max_length=9, blank=True, null=True)"),
        [None],
        None,
        ("sqlite",),
    ),
    Case(
        "null that the empty string does not fill",
        "models.CharField(max_length=9, blank=True)",
        alter("models.CharField(max_length=9, blank=True, null=True)"),
        [None],
        NOT_NULL.format("1 row has"),
        SERVERS,
    ),
    Case(
        "null in a text that the empty string does not fill",
        "models.TextField(blank=True)",
        alter("models.TextField(blank=True, null=True)"),
        [None],
        NOT_NULL.format("1 row has"),
        SERVERS,
    ),
    Case(
        "null that a default fills, and unique",
        INTEGER.format("default=7, unique=True"),
        alter(INTEGER.format("null=True, unique=True")),
        [None, None],
        "it would fill users_person.age, which is unique, with one value, and 2 rows "
        "have NULL there.",
    ),
    Case(
        "one null that a default fills, and unique",
        INTEGER.format("default=7, unique=True"),
        alter(INTEGER.format("null=True, unique=True")),
        [None, 1],
        None,
    ),
    Case(
        "null that a one-off default fills",
        INTEGER.format(""),
        'migrations.AlterField("person", "age", models.IntegerField(null=True, '
        "default=7), preserve_default=False),",
        [None],
        None,
    ),
    Case(
        "unique",
        INTEGER.format("unique=True, null=True"),
        alter(INTEGER.format("null=True")),
        [1, 1, 1, 2, 2, None, None],
        UNIQUE.format("2 values occur"),
    ),
    Case(
        "unique over nulls",
        INTEGER.format("unique=True, null=True"),
        alter(INTEGER.format("null=True")),
        [1, None, None],
        None,
    ),
    Case(
        "one-to-one",
        'models.OneToOneField("self", models.CASCADE, null=True, db_column="age")',
        alter('models.ForeignKey("self", models.CASCADE, null=True, db_column="age")'),
        [None, 1, 1],
        UNIQUE.format("1 value occurs"),
    ),
    Case(
        "together",
        INTEGER.format(""),
        'migrations.AlterUniqueTogether("person", set()),',
        [1, 1],
        "it would make users_person (age, name) unique again, and 1 value occurs more "
        "than once.",
        options='{"unique_together": {("age", "name")}}',
    ),
    Case(
        "constraint",
        INTEGER.format(""),
        'migrations.RemoveConstraint("person", "one_age"),',
        [1, 1],
        UNIQUE.format("1 value occurs"),
        options='{"constraints": '
        '[models.UniqueConstraint(fields=["age"], name="one_age")]}',
    ),
    Case(
        "constraint that is deferred",
        INTEGER.format(""),
        'migrations.RemoveConstraint("person", "one_age"),',
        [1, 1],
        UNIQUE.format("1 value occurs"),
        ("postgresql",),
        options='{"constraints": [models.UniqueConstraint(fields=["age"], '
        'name="one_age", deferrable=models.Deferrable.DEFERRED)]}',
    ),
    Case(
        "constraint with a condition",
        INTEGER.format("null=True"),
        'migrations.RemoveConstraint("person", "one_age"),',
        [1, 1, 5, 5, 5, 6, 6, None, None],
        REMADE.format("one_age", "2 values occur more than once"),
        ("sqlite", "postgresql"),
        options=ONE_AGE,
    ),
    Case(
        "constraint with a condition that is not met",
        INTEGER.format("null=True"),
        'migrations.RemoveConstraint("person", "one_age"),',
        [1, 1, 5, None, None],
        None,
        options=ONE_AGE,
    ),
    Case(
        "constraint with a condition that the database ignores",
        INTEGER.format("null=True"),
        'migrations.RemoveConstraint("person", "one_age"),',
        [5, 5],
        None,
        ("mysql",),
        options=ONE_AGE,
    ),
    Case(
        "constraint of an expression",
        INTEGER.format(""),
        'migrations.RemoveConstraint("person", "one_name"),',
        [1, 2],
        REMADE.format("one_name", "1 value occurs more than once"),
        ("sqlite", "postgresql") if django.VERSION >= (4, 0) else (),
        options='{"constraints": [models.UniqueConstraint('
        'models.functions.Lower("name").desc(), name="one_name")]}',
    ),
    Case(
        "check",
        INTEGER.format("null=True"),
        'migrations.RemoveConstraint("person", "adult"),',
        [1, 17, 18, None],
        REMADE.format("adult", "2 rows violate it"),
        options=ADULT,
    ),
    Case(
        "check that all rows meet",
        INTEGER.format("null=True"),
        'migrations.RemoveConstraint("person", "adult"),',
        [18, None],
        None,
        options=ADULT,
    ),
    Case(
        "removed",
        INTEGER.format(""),
        REMOVE,
        [1, 2],
        ADD.format("2 rows"),
        ("sqlite", "postgresql"),
    ),
    Case("removed from no row", INTEGER.format(""), REMOVE, [], None),
    Case(
        "removed, MySQL gives a zero",
        INTEGER.format(""),
        REMOVE,
        [1, 2],
        None,
        ("mysql",),
    ),
    Case("removed, with a default", INTEGER.format("default=7"), REMOVE, [1, 2], None),
    Case("removed, nullable", INTEGER.format("null=True"), REMOVE, [1, 2], None),
    Case(
        "removed, blank",
        "models.CharField(max_length=9, blank=True)",
        REMOVE,
        [1, 2],
        None,
    ),
    Case(
        "removed, auto_now",
        "models.DateField(auto_now=True)",
        REMOVE,
        ["2020-01-01"],
        None,
    ),
    Case(
        "removed, unique and not nullable, MySQL gives zeros",
        INTEGER.format("unique=True"),
        REMOVE,
        [1, 2],
        ADD_UNIQUE.format("2 rows"),
        ("mysql",),
    ),
    Case(
        "removed, unique and with a default",
        INTEGER.format("unique=True, default=7"),
        REMOVE,
        [1, 2],
        ADD_UNIQUE.format("2 rows"),
    ),
    Case(
        "removed from one row, unique and with a default",
        INTEGER.format("unique=True, default=7"),
        REMOVE,
        [1],
        None,
    ),
    Case(
        "removed foreign key",
        'models.ForeignKey("self", models.CASCADE, db_column="age")',
        REMOVE,
        [1],
        ADD.format("1 row"),
    ),
    Case(
        "removed foreign key without a constraint",
        'models.ForeignKey("self", models.CASCADE, db_column="age", '
        "db_constraint=False)",
        REMOVE,
        [1],
        None,
        ("mysql",),
    ),
    *(
        Case(f"removed {kind}", f"models.{kind}", REMOVE, [value], None, ("mysql",))
        for kind, value in [
            ("DateField()", "2020-01-01"),
            ("DateTimeField()", "2020-01-01"),
            ("UUIDField()", "0" * 32),
            ("TextField()", ""),
            ("PositiveIntegerField()", 1),
            ("JSONField()", "{}"),
        ]
    ),
    Case(
        "longer",
        TEXT.format(5),
        alter(TEXT.format(50)),
        ["12345", "123456", "1234567", "12345   "],
        CHANGE.format("varchar(50)", "varchar(5)", "2 values are longer"),
        SERVERS,
    ),
    Case(
        "longer, where nobody checks",
        TEXT.format(5),
        alter(TEXT.format(50)),
        ["123456"],
        None,
        ("sqlite",),
    ),
    Case(
        "longer than a text",
        TEXT.format(5),
        alter("models.TextField()"),
        ["123456"],
        CHANGE.format("longtext", "varchar(5)", "1 value is longer"),
        ("mysql",),
    ),
    Case(
        "longer than a text, cut by a cast",
        TEXT.format(5),
        alter("models.TextField()"),
        ["123456"],
        None,
        ("postgresql",),
    ),
    # What may be NULL since, and is not.
    Case(
        "longer, and no null",
        TEXT.format(5),
        alter(TEXT.format("50, null=True")),
        ["12345", "123456"],
        CHANGE.format("varchar(50)", "varchar(5)", "1 value is longer"),
        SERVERS,
    ),
    Case(
        "not unique, and no null",
        INTEGER.format("unique=True"),
        alter(INTEGER.format("null=True")),
        [1, 1, 2],
        UNIQUE.format("1 value occurs"),
    ),
    Case(
        "not unique, and null that a default fills",
        INTEGER.format("unique=True, default=7"),
        alter(INTEGER.format("null=True")),
        [1, 1, None],
        UNIQUE.format("1 value occurs"),
    ),
    Case(
        "not together, and no null",
        INTEGER.format(""),
        'migrations.AlterUniqueTogether("person", set()),'
        + alter(INTEGER.format("null=True")),
        [1, 1],
        "it would make users_person (age, name) unique again, and 1 value occurs more "
        "than once.",
        options='{"unique_together": {("age", "name")}}',
    ),
    Case(
        "no check, and no null",
        INTEGER.format(""),
        'migrations.RemoveConstraint("person", "adult"),'
        + alter(INTEGER.format("null=True")),
        [1, 18],
        REMADE.format("adult", "1 row violates it"),
        options=ADULT,
    ),
    Case(
        "no check, and null that a default fills",
        INTEGER.format("default=20"),
        'migrations.RemoveConstraint("person", "adult"),'
        + alter(INTEGER.format("null=True")),
        [18, None],
        None,
        options=ADULT.replace("age__gte=18", "age__isnull=False"),
    ),
    Case(
        "no constraint, and no null",
        'models.ForeignKey("self", models.CASCADE, db_column="age")',
        alter(
            'models.ForeignKey("self", models.CASCADE, db_column="age", null=True, '
            "db_constraint=False)"
        ),
        [99],
        "it would make users_person.age a foreign key to users_person.id again, and 1 "
        "row there points to nothing.",
    ),
    Case(
        "greater",
        INTEGER.format(""),
        alter("models.BigIntegerField()"),
        [2**31 - 1, 2**31, -(2**31) - 1],
        CHANGE.format("bigint", "integer", "2 values are out of its range"),
        SERVERS,
    ),
    Case(
        "negative",
        "models.PositiveIntegerField()",
        alter(INTEGER.format("")),
        [1, -1],
        CHANGE.format(
            "integer",
            {"mysql": "integer UNSIGNED", "sqlite": "integer unsigned"}.get(
                VENDOR, "integer"
            ),
            "1 value is out of its range",
        ),
    ),
    Case(
        "more digits",
        "models.DecimalField(max_digits=4, decimal_places=2)",
        alter("models.DecimalField(max_digits=6, decimal_places=2)"),
        ["99.99", "100", "-1000.5"],
        CHANGE.format(
            "numeric(6, 2)", "numeric(4, 2)", "2 values are out of its range"
        ),
        SERVERS,
    ),
    Case(
        "more decimal places",
        "models.DecimalField(max_digits=6, decimal_places=1)",
        alter("models.DecimalField(max_digits=7, decimal_places=2)"),
        ["99.99"],
        None,
    ),
]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in CASES if VENDOR in case.only],
)
def test_what_is_a_problem_fails_and_what_is_none_does_not(
    history: History, case: Case
) -> None:
    have(history, person(case.before, case.options), case.after)
    if case.after == REMOVE:
        for _ in case.ages:
            history.sql("INSERT INTO users_person (name) VALUES ('')")
    else:
        insert(history, *case.ages)
    assert [p.fact for p in find().problems] == ([case.fact] if case.fact else [])
    if case.fact:
        with pytest.raises(DatabaseError):
            roll_back()
    else:
        roll_back()


OTHER = """
migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
"""
POINTER = """models.ForeignKey(
    "users.{}", models.CASCADE, null=True, db_constraint={}, related_name="+"
)"""


@pytest.mark.parametrize(
    ("ghost", "column"),
    [
        (POINTER.format("Other", False), "age_id"),
        ("models.BigIntegerField(null=True)", "age"),
        (POINTER.format("Person", True), "age_id"),
    ],
)
def test_a_foreign_key_to_what_is_not_there(
    history: History, ghost: str, column: str
) -> None:
    first = OTHER + person(POINTER.format("Other", True))
    have(history, first, alter(ghost))
    history.sql("INSERT INTO users_other (id) VALUES (7)")
    for pk, age in (7, "NULL"), (8, 7), (9, 8), (10, 8):
        history.sql(
            f"INSERT INTO users_person (id, name, {column}) VALUES ({pk}, '', {age})"
        )
    fact = (
        f"it would make users_person.{column} a foreign key to users_other.id again, "
        "and 2 rows there point to nothing."
    )
    assert problems(find()) == [(fact, "Change these rows first.")]
    if connection.features.can_rollback_ddl:
        with pytest.raises(DatabaseError):
            roll_back()
    history.sql("INSERT INTO users_other (id) VALUES (8)")
    assert problems(find()) == []
    roll_back()


@pytest.fixture
def set_sql_mode(history: History) -> Iterator[Callable[[str], None]]:
    def forget() -> None:
        for name in ("mysql_server_data", "sql_mode"):
            vars(connections["default"]).pop(name, None)

    def set_sql_mode(mode: str) -> None:
        history.sql("SET SESSION sql_mode = %s", [mode])
        forget()

    yield set_sql_mode
    forget()


@pytest.mark.only("mysql")
def test_mysql_without_zero_dates(
    history: History, set_sql_mode: Callable[[str], None]
) -> None:
    have(history, person("models.DateField()"), REMOVE)
    history.sql("INSERT INTO users_person (name) VALUES ('')")
    set_sql_mode("STRICT_TRANS_TABLES,NO_ZERO_DATE")
    assert [p.fact for p in find().problems] == [ADD.format("1 row")]
    with pytest.raises(DatabaseError):
        roll_back()


@pytest.mark.only("mysql")
def test_mysql_that_is_not_strict_cuts_what_is_longer(
    history: History, set_sql_mode: Callable[[str], None]
) -> None:
    have(history, person(TEXT.format(5)), alter(TEXT.format(50)))
    insert(history, "123456", "1")
    set_sql_mode("")
    found = find()
    assert (found.problems, found.destroys["users", "0002"]) == (
        [],
        ["changes users_person.age from varchar(50) to varchar(5): 1 value is longer"],
    )
    roll_back()
    assert history.sql("SELECT age FROM users_person") == (("12345",), ("1",))


@pytest.mark.only("mysql")
def test_mysql_that_is_not_strict_makes_zeros_of_nulls(
    history: History, set_sql_mode: Callable[[str], None]
) -> None:
    have(history, person("models.IntegerField()"), AGE_NULLABLE)
    insert(history, None)
    set_sql_mode("")
    found = find()
    assert (found.problems, found.destroys["users", "0002"]) == (
        [],
        ["makes users_person.age NOT NULL again: 1 row has NULL there"],
    )
    roll_back()
    assert history.sql("SELECT age FROM users_person") == ((0,),)


@pytest.mark.only("postgresql")
def test_a_cast_cuts_what_is_longer(history: History) -> None:
    have(history, person(TEXT.format(5)), alter("models.TextField()"))
    insert(history, "123456", "1")
    assert find().destroys["users", "0002"] == [
        "changes users_person.age from text to varchar(5): 1 value is longer"
    ]
    roll_back()
    assert history.sql("SELECT age FROM users_person") == [("12345",), ("1",)]


@pytest.mark.only("postgresql", "mysql")
def test_decimal_places_that_are_rounded(history: History) -> None:
    decimal = "models.DecimalField(max_digits={}, decimal_places={})"
    have(history, person(decimal.format(5, 1)), alter(decimal.format(6, 2)))
    insert(history, "1.25", "1.5")
    found = find()
    assert found.destroys["users", "0002"] == [
        (
            "changes users_person.age from numeric(6, 2) to numeric(5, 1): "
            "1 value has more decimal places"
        )
    ]
    roll_back()
    ages = [str(age) for (age,) in history.sql("SELECT age FROM users_person")]
    assert ages == ["1.3", "1.5"]


def test_another_kind_of_type_is_named(history: History) -> None:
    have(history, person("models.DateField()"), alter("models.DateTimeField()"))
    (fact,) = find().destroys["users", "0002"]
    assert fact.startswith("changes users_person.age from ")
    assert fact.endswith(" to date")


@pytest.mark.only("postgresql")
@pytest.mark.parametrize(
    ("before", "good", "bad"),
    [
        ("models.IntegerField(null=True)", "12", "1 2"),
        ("models.DateField(null=True)", "2020-02-29", "2021-02-29"),
        ("models.JSONField(null=True)", "{}", "{"),
        ("models.UUIDField(null=True)", "a" * 32, "a"),
    ],
)
def test_what_cannot_be_cast_is_found(
    history: History, before: str, good: str, bad: str
) -> None:
    have(history, person(before), alter("models.CharField(max_length=50, null=True)"))
    insert(history, good, None)
    assert find().problems == []
    insert(history, bad)
    (problem,) = find().problems
    assert problem.fact.endswith(", and 1 value or more cannot be cast.")
    assert "it would change users_person.age from varchar(50) to " in problem.fact
    history.sql("UPDATE users_person SET age = %s", [good])
    roll_back()


AGE_NULLABLE = alter("models.IntegerField(null=True)")
REMEDIES = [
    ("models.IntegerField()", "models.IntegerField(null=True)", [None, 1], "age = 5"),
    ("models.IntegerField(unique=True)", "models.IntegerField()", [1, 1], "age = id"),
]


@pytest.mark.parametrize(("before", "after", "ages", "remedy"), REMEDIES)
def test_after_the_remedy_it_goes_through(
    history: History, before: str, after: str, ages: list[object], remedy: str
) -> None:
    have(history, person(before), alter(after))
    insert(history, *ages)
    (problem,) = find().problems
    assert problem[:2] == ("users", "0002")
    assert problem.remedy in (
        "Give these rows a value first.",
        "Make them unique first.",
    )
    history.sql(f"UPDATE users_person SET {remedy}")
    assert find().problems == []
    roll_back()


def test_what_goes_is_counted(history: History) -> None:
    have(
        history,
        person("models.IntegerField(null=True)"),
        'migrations.AddField("person", "size", models.IntegerField(null=True)),'
        'migrations.AddField("person", "hat", models.IntegerField(null=True)),',
        'migrations.CreateModel("Team", [("id", models.BigAutoField(primary_key=True)),'
        '("people", models.ManyToManyField("users.Person"))]),'
        'migrations.AddField("team", "size", models.IntegerField(null=True)),',
        'migrations.AddField("person", "friends", '
        'models.ManyToManyField("users.Team", related_name="+")),',
    )
    history.sql(
        "INSERT INTO users_person (age, name, size) VALUES (1, '', 1), (1, '', NULL)"
    )
    with CaptureQueriesContext(connection) as queries:
        MigrationExecutor(connection)
    without = len(queries)
    with CaptureQueriesContext(connection) as queries:
        found = find()
    assert found == Found(
        {
            ("users", "0004"): ["drops users_person_friends: 0 rows"],
            ("users", "0003"): [
                "drops users_team_people: 0 rows",
                "drops users_team: 0 rows",
            ],
            ("users", "0002"): [
                "drops users_person.hat: 0 values that are not null",
                "drops users_person.size: 1 value that is not null",
            ],
        },
        [],
        [],
    )
    counted = [q for q in queries.captured_queries if "COUNT(" in q["sql"]]
    assert len(counted) == 4
    assert len(queries) <= without + 3 * len(counted)


def test_thousands_are_separated(history: History) -> None:
    have(history, person("models.IntegerField(null=True)"))
    values = ", ".join(["(1, '')"] * 1204)
    history.sql(f"INSERT INTO users_person (age, name) VALUES {values}")
    assert find(None).destroys["users", "0001"] == ["drops users_person: 1,204 rows"]


def test_what_has_another_name_now_is_counted_under_it(history: History) -> None:
    have(
        history,
        person("models.IntegerField(null=True)"),
        'migrations.AddField("person", "prefs", models.IntegerField(default=1)),'
        'migrations.AddField("person", "friends", '
        'models.ManyToManyField("users.Person")),',
        'migrations.RenameField("person", "prefs", "settings"),'
        'migrations.AlterField("person", "settings", '
        'models.IntegerField(db_column="the settings")),',
        'migrations.RenameModel("Person", "Human"),',
        'migrations.AlterModelTable("human", "humans"),'
        'migrations.AddField("human", "prefs", models.IntegerField(null=True)),',
    )
    history.sql(
        "INSERT INTO {} (age, name, {}) VALUES (1, '', 1)".format(
            *map(connection.ops.quote_name, ["humans", "the settings"])
        )
    )
    destroys = find(None).destroys
    assert destroys["users", "0005"] == [
        "drops humans.prefs: 0 values that are not null"
    ]
    assert destroys["users", "0002"] == [
        "drops users_person_friends (now humans_friends): 0 rows",
        "drops users_person.prefs (now humans.the settings): 1 value that is not null",
    ]
    assert destroys["users", "0001"] == ["drops users_person (now humans): 1 row"]
    roll_back(None)


def test_what_the_plan_makes_again_has_no_count(history: History) -> None:
    have(
        history,
        person("models.IntegerField(null=True)"),
        'migrations.AddField("person", "hat", models.IntegerField(null=True)),',
        'migrations.RemoveField("person", "hat"),',
        'migrations.DeleteModel("person"),',
    )
    assert find(None).destroys == {
        ("users", "0004"): [],
        ("users", "0003"): [],
        ("users", "0002"): ["drops users_person.hat"],
        ("users", "0001"): ["drops users_person"],
    }
    roll_back(None)


def test_a_column_of_the_same_name_is_not_the_same(history: History) -> None:
    add = 'migrations.AddField("person", "hat", models.IntegerField(null=True)),'
    remove = 'migrations.RemoveField("person", "hat"),'
    have(history, person("models.IntegerField()"), add, remove, add)
    assert find().destroys == {
        ("users", "0004"): ["drops users_person.hat: 0 values that are not null"],
        ("users", "0003"): [],
        ("users", "0002"): ["drops users_person.hat"],
    }


def test_a_column_of_nulls_made_again_fails_too(history: History) -> None:
    have(
        history,
        person("models.IntegerField()"),
        alter("models.IntegerField(null=True)"),
        REMOVE,
    )
    history.sql("INSERT INTO users_person (name) VALUES ('')")
    assert problems(find()) == [
        (
            NOT_NULL.format("1 row has"),
            "Go back to users.0002, and give these rows a value first.",
        )
    ]
    roll_back("0002")
    history.sql("UPDATE users_person SET age = 1")
    assert find().problems == []
    roll_back()


def test_one_value_for_all_rows_becomes_unique_again(history: History) -> None:
    have(
        history,
        person("models.IntegerField(unique=True, default=7)"),
        alter("models.IntegerField(default=7)"),
        REMOVE,
    )
    history.sql("INSERT INTO users_person (name) VALUES (''), ('')")
    assert problems(find()) == [
        (
            (
                "it would make users_person.age unique again, and 2 rows would have "
                "the same value there."
            ),
            "Go back to users.0002, and make them unique first.",
        )
    ]
    with pytest.raises(DatabaseError):
        roll_back()


MIXED = """
migrations.CreateModel("Person", [
    ("id", models.BigAutoField(primary_key=True)),
    ("nick", models.TextField(default="")),
    ("name", models.CharField(max_length=50, default="")),
], options={"constraints": [models.UniqueConstraint(
    models.functions.Coalesce("name", "nick"), name="one_name"
)]}),
"""
REMOVE_MIXED = 'migrations.RemoveConstraint("person", "one_name"),'


@pytest.mark.only("sqlite", "postgresql")
@pytest.mark.skipif(django.VERSION < (4, 0), reason="has no expressions there")
def test_a_constraint_that_is_no_query_is_not_counted(history: History) -> None:
    have(history, MIXED, REMOVE_MIXED)
    assert find() == Found({("users", "0002"): []}, [], [])
    roll_back()


def test_a_constraint_on_rows_that_a_manager_hides(history: History) -> None:
    options = ADULT[:-1] + ', "base_manager_name": "people"}'
    have(
        history,
        person(INTEGER.format(""), options),
        'migrations.RemoveConstraint("person", "adult"),',
    )
    insert(history, 1)
    fact = REMADE.format("adult", "1 row violates it")
    assert problems(find()) == [(fact, "Change these rows first.")]


def test_a_constraint_on_a_table_of_another_name_is_not_counted(
    history: History,
) -> None:
    have(
        history,
        person(INTEGER.format(""), ADULT),
        'migrations.RemoveConstraint("person", "adult"),',
        'migrations.RenameModel("person", "human"),',
        person(INTEGER.format("")),
    )
    insert(history, 3)
    assert find().problems == []
    roll_back()


def test_a_constraint_on_a_column_of_another_type_is_not_counted(
    history: History,
) -> None:
    have(
        history,
        person(TEXT.format(9), ADULT),
        'migrations.RemoveConstraint("person", "adult"),',
        alter(INTEGER.format("")),
    )
    insert(history, 3)
    assert find().problems == []


def test_a_constraint_on_what_has_another_name_now_is_not_counted(
    history: History,
) -> None:
    have(
        history,
        person(INTEGER.format(""), ADULT),
        'migrations.RemoveConstraint("person", "adult"),',
        'migrations.RenameField("person", "age", "years"),',
    )
    history.sql("INSERT INTO users_person (years, name) VALUES (1, '')")
    assert find("0002").problems == []
    assert find().problems == []
    history.migrate("users", "0002")
    fact = REMADE.format("adult", "1 row violates it")
    assert problems(find()) == [(fact, "Change these rows first.")]


def test_a_later_step_that_fills_nulls_mends_an_earlier_one(history: History) -> None:
    have(
        history,
        person("models.IntegerField()"),
        alter("models.IntegerField(null=True)"),
        alter("models.IntegerField(default=7)"),
        alter("models.IntegerField(null=True)"),
    )
    insert(history, None)
    assert find().problems == []
    roll_back()


@pytest.mark.parametrize(
    ("code", "description"),
    [
        (
            (
                "migrations.RunPython(lambda apps, editor: None, lambda apps, editor: "
                "apps.get_model('users', 'person').objects.update(age=1)),"
            ),
            "Raw Python operation",
        ),
        (
            'migrations.RunSQL("", "UPDATE users_person SET age = 1"),',
            "Raw SQL operation",
        ),
    ],
)
def test_code_that_runs_before_may_mend_the_data(
    history: History, code: str, description: str
) -> None:
    have(history, person("models.IntegerField()"), AGE_NULLABLE, code)
    insert(history, None)
    assert find() == Found(
        {
            ("users", "0003"): [f"runs its own reverse code: {description}"],
            ("users", "0002"): [],
        },
        [],
        [
            (
                "users.0002: it would make users_person.age NOT NULL again, and 1 row "
                "has NULL there. Its rollback fails unless code that runs before it "
                "changes that."
            )
        ],
    )
    roll_back()


def test_code_that_runs_after_does_not(history: History) -> None:
    code = 'migrations.RunSQL("", "UPDATE users_person SET age = 1"),'
    have(history, person("models.IntegerField()"), code, AGE_NULLABLE)
    insert(history, None)
    found = find()
    assert [p.migration_name for p in found.problems] == ["0003"]
    assert found.notes == []


@pytest.mark.parametrize(
    "code",
    [
        "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),",
        "migrations.RunPython(migrations.RunPython.noop),",
        'migrations.RunSQL("", ""),',
        'migrations.RunSQL("", []),',
        'migrations.AlterModelOptions("person", {"managed": False}),',
        'migrations.SeparateDatabaseAndState([], [migrations.DeleteModel("person")]),',
        (
            'migrations.SeparateDatabaseAndState([], [migrations.CreateModel("Other", '
            '[("id", models.BigAutoField(primary_key=True))])]),'
        ),
        (
            'migrations.CreateModel("Other", [("id", '
            'models.BigAutoField(primary_key=True))], options={"managed": False}),'
        ),
        (
            'migrations.CreateModel("Other", [], options={"proxy": True}, '
            'bases=["users.person"]),'
        ),
    ],
)
def test_what_destroys_nothing(history: History, code: str) -> None:
    have(history, person("models.IntegerField()"), code)
    assert find() == Found({("users", "0002"): []}, [], [])


def test_database_operations_apart_from_the_state(history: History) -> None:
    have(
        history,
        person("models.IntegerField()"),
        "migrations.SeparateDatabaseAndState(["
        'migrations.CreateModel("Other", [("id", '
        "models.BigAutoField(primary_key=True))]),"
        'migrations.RunSQL("", "SELECT 1"),'
        'migrations.AddField("person", "hat", models.IntegerField(null=True))], []),',
    )
    assert find().destroys["users", "0002"] == [
        "drops users_person.hat: 0 values that are not null",
        "runs its own reverse code: Raw SQL operation",
        "drops users_other: 0 rows",
    ]


@pytest.mark.skipif(
    VENDOR == "sqlite" and django.VERSION < (4, 1),
    reason="To add a column, it remakes the table, without what the state lacks.",
)
def test_what_the_database_alone_was_given_is_not_in_the_state(
    history: History,
) -> None:
    add = 'migrations.AddField("person", "hat", models.IntegerField(null=True{})),'
    have(
        history,
        person("models.IntegerField()"),
        f"migrations.SeparateDatabaseAndState([{add.format('')}], []),",
        add.format(', db_column="cap"'),
    )
    assert find().destroys == {
        ("users", "0003"): ["drops users_person.cap: 0 values that are not null"],
        ("users", "0002"): ["drops users_person.hat: 0 values that are not null"],
    }


class NotHere:
    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return app_label != "users"


def test_what_routers_keep_out_destroys_nothing(history: History) -> None:
    code = 'migrations.RunSQL("", "SELECT 1"),'
    have(history, person("models.IntegerField()"), REMOVE, code)
    with override_settings(DATABASE_ROUTERS=[NotHere()]):
        assert set(map(tuple, find(None).destroys.values())) == {()}


def test_an_operation_of_a_project(history: History) -> None:
    text = """\
from django.db import migrations
from django.db.migrations.operations.base import Operation

class Odd(Operation):
    def state_forwards(self, app_label, state): pass
    def database_forwards(self, *args): pass
    def database_backwards(self, *args): pass
    def describe(self): return "Odd\\x1b[31m\\nthing"

class Migration(migrations.Migration):
    dependencies = [("users", "0001")]
    operations = [Odd()]
"""
    history.have("users: 0001")
    history.write("users.0002", text=text)
    history.migrate()
    assert find().destroys["users", "0002"] == [
        "runs its own reverse code: Odd\\x1b[31m\\nthing"
    ]


def test_order_with_respect_to_has_a_column(history: History) -> None:
    have(
        history,
        person('models.ForeignKey("self", models.CASCADE, null=True)'),
        'migrations.AlterOrderWithRespectTo("person", "age"),',
        'migrations.AlterOrderWithRespectTo("person", None),',
    )
    history.sql("INSERT INTO users_person (name) VALUES (''), ('')")
    assert find("0001").destroys["users", "0002"] == ["drops users_person._order"]
    assert find("0002").problems == []
    roll_back("0002")
    assert find().destroys["users", "0002"] == [
        "drops users_person._order: 2 values that are not null"
    ]


def test_what_cannot_be_counted_is_left_out(history: History) -> None:
    add = 'migrations.AddField("person", "{}", models.IntegerField(null=True)),'
    have(history, person("models.IntegerField()"), add.format("a"), add.format("b"))
    history.sql("ALTER TABLE users_person DROP COLUMN a")
    assert find().destroys == {
        ("users", "0003"): ["drops users_person.b: 0 values that are not null"],
        ("users", "0002"): ["drops users_person.a"],
    }
    history.sql("DROP TABLE users_person")
    with transaction.atomic():
        assert find().destroys == {
            ("users", "0003"): ["drops users_person.b"],
            ("users", "0002"): ["drops users_person.a"],
        }
        history.sql("SELECT 1")


@pytest.mark.only("sqlite", "postgresql")
def test_a_quoted_table(history: History) -> None:
    quoted = connection.ops.quote_name("Odd one")
    options = repr({"db_table": quoted})
    have(history, person("models.IntegerField()", options))
    assert find(None).destroys["users", "0001"] == ["drops Odd one: 0 rows"]


def test_a_child_table(history: History) -> None:
    have(
        history,
        person("models.IntegerField()"),
        'migrations.CreateModel("Boss", [("person_ptr", models.OneToOneField('
        "auto_created=True, on_delete=models.CASCADE, parent_link=True, "
        'primary_key=True, serialize=False, to="users.person")), '
        '("desk", models.IntegerField())], bases=("users.person",)),',
        'migrations.AddField("boss", "hat", models.IntegerField(null=True)),',
    )
    insert(history, 1)
    assert find().destroys == {
        ("users", "0003"): ["drops users_boss.hat: 0 values that are not null"],
        ("users", "0002"): ["drops users_boss: 0 rows"],
    }


def test_a_migration_that_was_faked(history: History) -> None:
    history.have("users: 0001 > 0002_prefs > 0003_b")
    history.migrate("users", "0001")
    history.migrate("users", "0002", fake=True)
    history.migrate()
    runner = MigrationExecutor(connection)
    plan = [m for m, _ in runner.migration_plan([("users", "0001")])]
    plan[1] = make_faked(plan[1])
    found = effects.find(connection, plan, effects.follow(runner, plan))
    assert found.destroys == {
        ("users", "0003_b"): ["drops users_thing.b: 0 values that are not null"],
        ("users", "0002_prefs"): [],
    }


def test_a_project_with_many_models_takes_seconds(history: History) -> None:
    models = "".join(
        person("models.IntegerField()").replace("Person", f"Model{number}")
        for number in range(120)
    )
    history.have("users: 0001")
    history.write("users.0001", models)
    before = "0001"
    for number in range(200):
        name = f"1{number:03}"
        history.write(
            f"users.{name}",
            f'migrations.AddField("model{number % 120}", "f{number}", '
            "models.IntegerField(null=True)),"
            f'migrations.AlterField("model{number % 120}", "name", '
            f"models.CharField(max_length={51 + number})),",
            [("users", before)],
        )
        before = name
    runner = MigrationExecutor(connection)
    for key in sorted(runner.loader.disk_migrations):
        if key[0] == "users":
            runner.recorder.ensure_schema()
            runner.recorder.record_applied(*key)
    started = time.monotonic()
    found = find()
    assert len(found.destroys) == 200
    assert time.monotonic() - started < 10
