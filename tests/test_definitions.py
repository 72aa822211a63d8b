"""CREATE TABLE of SQLite, taken apart."""

from __future__ import annotations

import pytest

from django_rewind import definitions

TABLE = """CREATE TABLE "a (b" (
    "id" integer NOT NULL PRIMARY KEY, -- a comment, with a comma (and more
    [order] varchar(9) DEFAULT ')' /* another, one */ CHECK ("order" <> 'it''s, so'),
    `x``y` decimal(4, 2) NULL,
    "constraint" text NULL,
    CONSTRAINT "by_a" CHECK ("a"."id" LIKE 'a%' ESCAPE '\\'),
    constraint by_b UNIQUE (id, [ORDER]),
    UNIQUE ("x`y"),
    FOREIGN KEY (id) REFERENCES other ("number"),
    CONSTRAINT "key" PRIMARY KEY ("id")
) WITHOUT ROWID"""


def test_columns_and_constraints() -> None:
    assert [(found.kind, found.name) for found in definitions.read(TABLE)] == [
        ("column", "id"),
        ("column", "order"),
        ("column", "x`y"),
        ("column", "constraint"),
        ("check", "by_a"),
        ("unique", "by_b"),
        ("unique", ""),
        ("foreign", ""),
        ("primary", "key"),
    ]


def test_of_a_column_what_comes_after_its_name() -> None:
    found = {d.name: d.sql for d in definitions.read(TABLE) if d.kind == "column"}
    assert found["x`y"] == "decimal(4, 2) NULL"
    assert found["order"].startswith("varchar(9) DEFAULT ')'")
    assert found["order"].endswith("""CHECK ("order" <> 'it''s, so')""")


@pytest.mark.parametrize(
    ("sql", "expression", "is_stored", "rest"),
    [
        (
            'integer GENERATED ALWAYS AS ("id" * 2) VIRTUAL',
            '"id" * 2',
            False,
            "integer",
        ),
        ("text as ((lower(a) || ')')) STORED UNIQUE", "(lower(a) || ')')", True, None),
        ("text AS (a) CHECK (a > 'stored')", "a", False, "text CHECK (a > 'stored')"),
    ],
)
def test_a_generated_column(
    sql: str, expression: str, is_stored: bool, rest: str | None
) -> None:
    made = definitions.take_apart(sql)
    assert made[:3] == (expression, is_stored, rest or "text UNIQUE")
    assert made.names & {"id", "a"}


@pytest.mark.parametrize(
    ("constraint", "mentioned"),
    [
        ("by_a", {"a", "id"}),
        ("by_b", {"id", "order"}),
    ],
)
def test_what_a_constraint_mentions(constraint: str, mentioned: set[str]) -> None:
    (found,) = [d for d in definitions.read(TABLE) if d.name == constraint]
    assert mentioned <= found.names
    assert "a%" not in found.names
