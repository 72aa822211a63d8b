from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Any
from unittest import mock

import django
import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from django_rewind import capture, signing, status, store, tables
from django_rewind.archive import EarlierMigrationCode, NeededCode
from django_rewind.closure import Closure
from django_rewind.models import MigrationCode, StoredCode
from tests.databases import make_empty
from tests.history import with_pk

LIST = "/admin/django_rewind/migrationcode/"
EMPTY_MIGRATION = """\
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = []
"""
HOSTILE = """</code></pre><script>alert("x")</script>&lt;b&gt;{{ 7 }}"""


class FromOther:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if issubclass(model, StoredCode) else None


@pytest.fixture
def client(db: None) -> Client:
    return log_in(User.objects.create(username="root", is_superuser=True))


@pytest.fixture
def spoiled_client(migrated_databases: None) -> Iterator[Client]:
    """Logged in to a database that is made anew after the test."""
    yield log_in(User.objects.create(username="root", is_superuser=True))
    connection.close()
    make_empty("default")
    call_command("migrate", verbosity=0)


def log_in(user: User) -> Client:
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def keep(
    name: str,
    source: str = EMPTY_MIGRATION,
    *,
    recorded: bool = True,
    key: str | None = None,
    alias: str = "default",
    needed: dict[str, str] | None = None,
    lacking: Sequence[str] = (),
    **fields: Any,
) -> MigrationCode:
    """Store a migration, signed, and record it."""
    app_label, _, migration_name = name.partition(".")
    code = MigrationCode(app_label=app_label, migration_name=migration_name)
    code.captured = StoredCode.Captured.AT_APPLY
    capture.set_source(code, source)
    capture.set_needed(code, Closure(needed or {}, list(lacking)))
    for field, value in fields.items():
        setattr(code, field, value)
    if key is None:
        signing.sign(code)
    else:
        with override_settings(SECRET_KEY=key):
            signing.sign(code)
    store.save(connections[alias], code)
    if recorded:
        records = MigrationRecorder(connections[alias]).migration_qs
        records.create(app=app_label, name=migration_name)
    return with_pk(code, alias)


def edit(name: str) -> MigrationCode:
    """Let the file of a stored migration differ from what was applied."""
    app_label, migration_name = name.split(".")
    code = MigrationCode.objects.get(app_label=app_label, migration_name=migration_name)
    capture.set_source(code, code.source_code + "\napplied = 'something else'\n")
    signing.sign(code)
    code.save()
    return code


def read(client: Client, url: str = LIST) -> str:
    response = client.get(url)
    assert response.status_code == 200, response
    html: str = response.content.decode()
    return html


def detail(client: Client, code: MigrationCode) -> str:
    return read(client, f"{LIST}{code.pk}/change/")


def rows(html: str) -> dict[str, list[str]]:
    """app.name → the text of its other cells."""
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        app_label, name, *others = map(as_text, cells)
        found[f"{app_label}.{name}"] = others
    return found


def as_text(html: str) -> str:
    html = re.sub(r'<img [^>]*alt="(\w+)"[^>]*>', r"\1", html)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def banners(html: str) -> list[tuple[str, str]]:
    found = re.findall(
        r'<ul class="messagelist">\s*<li class="(\w+)">(.*?)</li>', html, re.DOTALL
    )
    return [(level, as_text(text)) for level, text in found]


def counts(html: str) -> str:
    paragraphs = re.findall(r"<p>\s*(In database.*?)</p>", html, re.DOTALL)
    assert len(paragraphs) == 1
    return as_text(paragraphs[0])


def source_block(html: str) -> tuple[str, str]:
    """The line numbers and the source, as a browser shows them."""
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", html, re.DOTALL)
    assert len(blocks) == 2
    numbers, source = map(unescape, blocks)
    return numbers, source


def keep_one_of_each() -> None:
    keep("users.0002_ghost")
    edit("auth.0002_alter_permission_name_max_length")
    keep("users.0001_old", recorded=False)
    keep("users.0003_gap", "", gap="users/0003_gap.pyc has no source")
    keep("shop.0001_first")
    keep("shop.0001_squashed", replaces='[["shop", "0001_first"]]')


# The list


def test_the_list_tells_what_there_is_to_know_of_each(client: Client) -> None:
    keep_one_of_each()
    listed = rows(read(client))
    told = {name: (cells[0], cells[1]) for name, cells in listed.items()}
    assert told["users.0002_ghost"] == ("True", "missing (ghost)")
    assert told["auth.0002_alter_permission_name_max_length"] == ("True", "edited")
    assert told["users.0001_old"] == ("False", "missing")
    assert told["users.0003_gap"] == ("True", "missing (gap, ghost)")
    assert told["shop.0001_first"] == ("True", "missing (superseded)")
    assert told["auth.0001_initial"] == ("True", "present")


def test_the_list_tells_when_and_how_each_was_captured_and_its_size(
    client: Client,
) -> None:
    keep("users.0001_a", "x" * 2048)
    keep("users.0002_b", captured="later")
    listed = rows(read(client))
    captured, size, stored_at = listed["users.0001_a"][2:]
    assert re.fullmatch(r"\w+\.? \d+, \d{4}, .*m\.|\w+.*(noon|midnight)", stored_at)
    assert (captured, size) == ("at apply", "2.0 KB")
    assert listed["users.0002_b"][2] == "later"


def test_a_line_counts_each_status(client: Client) -> None:
    before = len(rows(read(client)))
    keep_one_of_each()
    MigrationRecorder(connection).record_unapplied("sessions", "0001_initial")
    MigrationCode.objects.filter(app_label="contenttypes").delete()
    assert counts(read(client)) == (
        f"In database 'default': present: {before - 3} · missing: 5 · edited: 1 · "
        "ghost: 3 · superseded: 1 · gap: 1 · not applied: 2 · not stored: 2"
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("edited", {"auth.0002_alter_permission_name_max_length"}),
        (
            "missing",
            {
                "users.0001_old",
                "users.0002_ghost",
                "users.0003_gap",
                "shop.0001_first",
                "shop.0001_squashed",
            },
        ),
        ("ghost", {"users.0002_ghost", "users.0003_gap", "shop.0001_squashed"}),
        ("superseded", {"shop.0001_first"}),
        ("gap", {"users.0003_gap"}),
        ("not+applied", {"users.0001_old"}),
    ],
)
def test_a_filter_shows_those_of_one_status(
    client: Client, status: str, expected: set[str]
) -> None:
    keep_one_of_each()
    assert set(rows(read(client, f"{LIST}?status={status}"))) == expected


def test_the_filter_for_present_shows_none_of_the_others(client: Client) -> None:
    untouched = set(rows(read(client)))
    keep_one_of_each()
    edited = {"auth.0002_alter_permission_name_max_length"}
    assert set(rows(read(client, f"{LIST}?status=present"))) == untouched - edited


def test_filters_by_app_and_status_work_together(client: Client) -> None:
    keep_one_of_each()
    html = read(client)
    for choice in ["?app_label=users", "?status=ghost"]:
        assert f'<a href="{choice}"' in html.partition('id="changelist-filter"')[2]
    listed = rows(read(client, f"{LIST}?app_label=users&status=ghost"))
    assert set(listed) == {"users.0002_ghost", "users.0003_gap"}


def test_the_counts_link_to_their_filter(client: Client) -> None:
    keep_one_of_each()
    html = read(client)
    assert '<a href="?status=not%20applied">not applied</a>: 1' in html


if django.VERSION >= (5, 0):

    def test_facets_count_each_status(client: Client) -> None:
        keep_one_of_each()
        html = as_text(read(client, f"{LIST}?_facets=True"))
        assert "ghost (3)" in html
        assert "superseded (1)" in html


@pytest.mark.parametrize("term", ["users.0002_ghost", "0002_gho", "users 0002"])
def test_search_finds_by_name(client: Client, term: str) -> None:
    keep_one_of_each()
    assert list(rows(read(client, f"{LIST}?q={term}"))) == ["users.0002_ghost"]


def test_sorts_by_what_the_database_knows(client: Client) -> None:
    keep("users.0001_small", "")
    keep("users.0002_large", "x" * 999_999)
    headings = re.findall(r'class="(sortable )?[^"]*column-(\w+)', read(client))
    sortable = {name for is_sortable, name in headings if is_sortable}
    assert sortable == {
        "app_label",
        "migration_name",
        "stored_at",
        "captured",
        "size",
    }
    by_size = list(rows(read(client, f"{LIST}?o=-5")))
    assert by_size[0] == "users.0002_large"
    assert by_size[-1] == "users.0001_small"


def test_the_number_of_queries_does_not_grow_with_the_rows(client: Client) -> None:
    def keep_twenty_of_each(number: int) -> None:
        for i in range(20 * number, 20 * (number + 1)):
            keep(f"users.{i:04}_ghost")
            keep(f"users.{i:04}_gap", "", gap="it has no source")
            keep(f"users.{i:04}_not_applied", recorded=False)

    keep_twenty_of_each(0)
    read(client)
    with CaptureQueriesContext(connection) as few:
        read(client, f"{LIST}?all=")
    keep_twenty_of_each(1)
    with CaptureQueriesContext(connection) as many:
        html = read(client, f"{LIST}?all=")
    assert len(rows(html)) > 120
    assert len(many) == len(few)


def test_the_list_does_not_load_any_source(client: Client) -> None:
    keep("users.0001_ghost", needed={"users.helpers": "x = 1"}, lacking=["a thing"])
    with CaptureQueriesContext(connection) as queries:
        read(client, f"{LIST}?status=ghost&q=users&o=-5")
    assert any("django_migrations_code" in query["sql"] for query in queries)
    texts = ["source_code", "closure", "dependencies", "django_migrations_code_needed"]
    for text in texts:
        assert not [query for query in queries if f'{text}"' in query["sql"]], text


def test_the_list_loads_only_the_source_of_files_that_differ(client: Client) -> None:
    edit("auth.0002_alter_permission_name_max_length")
    with mock.patch.object(store, "fetch", wraps=store.fetch) as fetch:
        read(client)
    keys = {("auth", "0002_alter_permission_name_max_length")}
    assert fetch.call_args_list == [mock.call(connection, keys)]


def test_status_is_read_once_for_each_request(client: Client) -> None:
    code = keep("users.0001_ghost")
    for url in [f"{LIST}?status=ghost&app_label=users", f"{LIST}{code.pk}/change/"]:
        with mock.patch.object(status, "read", wraps=status.read) as spy:
            read(client, url)
        assert spy.call_count == 1


def test_the_next_request_reads_it_again(client: Client) -> None:
    keep("users.0001_a")
    assert rows(read(client))["users.0001_a"][0] == "True"
    MigrationRecorder(connection).migration_qs.filter(app="users").delete()
    assert rows(read(client))["users.0001_a"][0] == "False"


def test_what_is_applied_but_not_stored_is_named(client: Client) -> None:
    MigrationCode.objects.filter(app_label="contenttypes").delete()
    html = read(client)
    assert "not stored: 2" in counts(html)
    [(level, text)] = banners(html)
    assert level == "warning"
    assert text == (
        "Applied, but not stored: contenttypes.0001_initial, "
        "contenttypes.0002_remove_content_type_name. 'manage.py "
        "backfill_migration_code' stores those whose file is here. 'manage.py "
        "verify_migrations' says what helps with the others."
    )


def test_of_many_that_are_not_stored_ten_are_named(client: Client) -> None:
    count = MigrationCode.objects.count()
    MigrationCode.objects.all().delete()
    [(_, text)] = banners(read(client))
    assert text.count(", ") == 10
    assert f" and {count - 10} more." in text


def test_nothing_is_said_where_nothing_is_the_matter(client: Client) -> None:
    assert banners(read(client)) == []


def test_a_row_that_comes_after_the_status_was_read_is_listed(client: Client) -> None:
    def read_and_add(*args: Any) -> Any:
        answers = status_read(*args)
        pks.append(keep("users.0009_new").pk)
        return answers

    pks: list[int] = []
    status_read = status.read
    with mock.patch.object(status, "read", read_and_add):
        listed = rows(read(client))
    assert listed["users.0009_new"][0] == "None"
    MigrationCode.objects.filter(pk__in=pks).delete()
    with mock.patch.object(status, "read", return_value={}):
        assert banners(detail(client, edit("auth.0001_initial"))) == []


# Read-only


def test_nobody_adds_changes_or_deletes(client: Client) -> None:
    code = keep("users.0001_a")
    urls = [
        f"{LIST}add/",
        f"{LIST}{code.pk}/delete/",
    ]
    for url in urls:
        assert client.get(url).status_code == 403
        assert client.post(url, {"post": "yes"}).status_code == 403
    changed = {"app_label": "owned", "source_code": "owned", "_save": "Save"}
    for extra in [{}, {"_saveasnew": "1"}]:
        response = client.post(f"{LIST}{code.pk}/change/", {**changed, **extra})
        assert response.status_code == 403
    assert MigrationCode.objects.filter(pk=code.pk, app_label="users").exists()


def test_actions_delete_nothing_either(client: Client) -> None:
    code = keep("users.0001_a")
    action = {"action": "delete_selected", "_selected_action": [code.pk], "index": 0}
    for confirmed in [{}, {"post": "yes"}]:
        assert client.post(LIST, {**action, **confirmed}).status_code == 403
    change = client.post(f"{LIST}{code.pk}/change/", {**action, "post": "yes"})
    assert change.status_code == 403
    assert MigrationCode.objects.filter(pk=code.pk).exists()


def test_actions_of_the_whole_site_are_not_offered(client: Client) -> None:
    def wipe(modeladmin: Any, request: HttpRequest, queryset: Any) -> None:
        queryset.delete()

    admin.site.add_action(wipe)
    try:
        code = keep("users.0001_a")
        for html in [read(client), detail(client, code)]:
            assert "wipe" not in html
        data = {"action": "wipe", "_selected_action": [code.pk], "index": 0}
        assert client.post(LIST, data).status_code == 403
    finally:
        admin.site.disable_action("wipe")
    assert MigrationCode.objects.filter(pk=code.pk).exists()


def test_nothing_on_the_pages_can_be_filled_in(client: Client) -> None:
    pages = [read(client), detail(client, keep("users.0001_a"))]
    for html in pages:
        content = html.partition('id="content-main"')[2].partition("<footer")[0]
        fields = re.findall(r"<(?:input|select|textarea)[^>]*>", content)
        names = set(re.findall(r'name="(\w+)"', "".join(fields)))
        assert names <= {"csrfmiddlewaretoken", "q"}
        assert "/add/" not in content
        assert "/delete/" not in content


@pytest.mark.parametrize(
    ("permissions", "code"), [(["view"], 200), (["add", "delete"], 403), ([], 403)]
)
def test_who_may_view_them_sees_them(
    db: None, permissions: list[str], code: int
) -> None:
    user = User.objects.create(username="staff")
    for permission in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=f"{permission}_migrationcode")
        )
    client = log_in(user)
    stored = keep("users.0001_a")
    for url in [LIST, f"{LIST}{stored.pk}/change/"]:
        assert client.get(url).status_code == code


def test_others_are_asked_to_log_in(db: None) -> None:
    assert Client().get(LIST)["Location"].startswith("/admin/login/")


# One migration


def test_the_whole_source_is_shown_with_line_numbers(client: Client) -> None:
    code = keep("users.0001_a", "\nfirst\r\n\tsecond\rthird\n\n")
    numbers, source = source_block(detail(client, code))
    assert source == "\nfirst\n\tsecond\nthird\n"
    assert numbers == "1\n2\n3\n4\n5"


def test_a_large_source_is_shown_whole(client: Client) -> None:
    html = detail(client, keep("users.0001_a", "a = '<&>'\n" * 20_000))
    numbers, source = source_block(html)
    assert source.count("a = '<&>'") == 20_000
    assert numbers.endswith("\n20000")
    assert "only the beginning" not in html


@pytest.mark.parametrize(
    ("text", "lines"), [("a = 1\n" * 20_001, 20_000), ("a" * 2_000_001, 1)]
)
def test_of_a_huge_source_the_beginning_is_shown_and_what_shows_all(
    client: Client, text: str, lines: int
) -> None:
    html = detail(client, keep("users.0001_a", text))
    numbers, source = source_block(html)
    assert text.startswith(source)
    assert numbers.count("\n") + 1 == lines
    assert (
        "This is only the beginning. 'manage.py show_stored_migrations users 0001_a' "
        "shows all."
    ) in as_text(html).replace("&#x27;", "'")


def test_what_is_known_of_the_capture_is_shown(client: Client) -> None:
    code = keep(
        "users.0001_a",
        module_name="users.migrations.0001_a",
        distribution="users 1.2",
        django_version="4.2.1",
        python_version="3.9.8",
        faked=True,
        origin="git 1a2b3c4",
        dependencies='[["users", "0001_x"], ["blog", "0001_y"]]',
        replaces='[["users", "0001_x"], ["users", "0002_y"]]',
    )
    html = as_text(detail(client, code))
    for known in [
        "Applied: True",
        "File: missing (ghost)",
        "Captured: at apply",
        "Module: users.migrations.0001_a",
        "Distribution: users 1.2",
        "Django version: 4.2.1",
        "Python version: 3.9.8",
        "Faked: yes, a rollback only removes the record",
        "Origin: git 1a2b3c4",
        "Depends on: users.0001_x, blog.0001_y",
        f"SHA-256 of the source: {code.digest}",
        "Replaces: users.0001_x, users.0002_y",
    ]:
        assert known in html


def test_what_nobody_knows_is_said(client: Client) -> None:
    html = as_text(detail(client, keep("users.0001_a")))
    for unknown in ["Faked: no", "Origin: this checkout", "Depends on: unknown"]:
        assert unknown in html


def test_what_it_needs_is_shown_as_its_source_is(client: Client) -> None:
    needed = {"users.helpers": "x = '<&>'\r\ny = 2\n", "users/a.json": "[\x1b]"}
    html = detail(client, keep("users.0001_a", needed=needed))
    assert re.findall("<details open>\\s*<summary>(.*?)</summary>", html) == [
        "users.helpers",
        "users/a.json",
    ]
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", html, re.DOTALL)
    assert list(map(unescape, blocks[2:])) == [
        "1\n2",
        "x = '<&>'\ny = 2",
        "1",
        r"[\x1b]",
    ]
    assert "Missing or altered" not in html


def test_many_texts_are_folded_up(client: Client) -> None:
    needed = {f"users.part{n}": f"x = {n}\n" for n in range(4)}
    html = detail(client, keep("users.0001_a", needed=needed))
    assert html.count("<details>") == 4
    assert "<details open>" not in html


def test_nothing_is_said_of_a_migration_that_needs_nothing(client: Client) -> None:
    assert "Code that it needs" not in detail(client, keep("users.0001_a"))


def test_what_it_lacks_is_named(client: Client) -> None:
    html = detail(client, keep("users.0001_a", lacking=["users.models.A is a model"]))
    assert "<li>users.models.A is a model</li>" in html
    [(level, text)] = banners(html)
    assert level == "warning"
    assert text.startswith(
        "It would not load without its branch: users.models.A is a model."
    )


def test_needed_code_that_was_altered_is_named_and_not_shown(client: Client) -> None:
    code = keep("users.0001_a", needed={"users.helpers": "x = 1\n"})
    NeededCode._default_manager.update(source_code="altered = True")
    html = detail(client, code)
    assert "Missing or altered: users.helpers<" in html
    assert "altered = True" not in html
    [(level, text)] = banners(html)
    assert level == "error"
    assert "users.helpers, is missing or was altered." in text


def test_a_page_does_not_ask_for_each_text(client: Client) -> None:
    def count(names: int) -> int:
        needed = {f"users.m{n}": f"x = {n}\n" for n in range(names)}
        code = keep(f"users.{names:04}", needed=needed)
        detail(client, code)
        with CaptureQueriesContext(connection) as queries:
            detail(client, code)
        return len(queries)

    assert count(30) == count(1)


def test_hostile_content_is_shown_as_text(client: Client) -> None:
    hostile: dict[str, Any] = {
        field: HOSTILE[:length]
        for field, length in [
            ("gap", 255),
            ("module_name", 512),
            ("distribution", 255),
            ("django_version", 32),
            ("python_version", 32),
            ("digest", 64),
            ("captured", 10),
        ]
    }
    hostile["replaces"] = json.dumps([[HOSTILE, "x"]])
    code = keep(f"{HOSTILE[:60]}.{HOSTILE[60:]}{HOSTILE}", HOSTILE, **hostile)
    [(_, text)] = banners(detail(client, code))
    assert "it is stored without code" in text
    for html in [read(client), detail(client, code), read(client, f"{LIST}?q=</")]:
        assert "<script>alert" not in html
        assert "</code></pre><" not in html.replace("</code></pre>\n", "")
        assert "{{ 7 }}" in html
    assert source_block(detail(client, code))[1] == HOSTILE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("user\u202e\u2066 nimda", r"user\u202e\u2066 nimda"),
        ("form\x0cfeed", r"form\x0cfeed"),
        pytest.param("nul\x00", r"nul\x00", marks=pytest.mark.only("sqlite", "mysql")),
        ("ünïcödé 🐍", "ünïcödé 🐍"),
    ],
)
def test_what_a_reader_would_not_see_is_spelt_out(
    client: Client, text: str, shown: str
) -> None:
    assert source_block(detail(client, keep("users.0001_a", text)))[1] == shown


def test_looking_runs_nothing_that_is_stored(client: Client) -> None:
    run = "import builtins\nbuiltins.stored_code_ran = True\n"
    code = keep("users.0001_ghost", run)
    edited = edit("auth.0001_initial")
    capture.set_source(edited, run)
    signing.sign(edited)
    edited.save()
    for html in [read(client), detail(client, code), detail(client, edited)]:
        assert html
    assert not hasattr(builtins, "stored_code_ran")


def test_a_ghost_has_a_banner_with_the_command(client: Client) -> None:
    [(level, text)] = banners(detail(client, keep("users.0002_ghost")))
    assert level == "warning"
    assert text.startswith("Its file is missing, and its code is stored.")
    assert "'manage.py migrate users " in text


def test_an_edited_file_has_a_banner(client: Client) -> None:
    [(level, text)] = banners(detail(client, edit("auth.0001_initial")))
    assert level == "warning"
    assert text.startswith("Its file was edited after it was applied.")
    assert "--diff" in text


def test_a_gap_has_a_banner_that_says_why(client: Client) -> None:
    code = keep("users.0001_a", "", gap="users/0001_a.pyc has no source")
    html = detail(client, code)
    [(level, text)] = banners(html)
    assert level == "warning"
    assert "it is stored without code: users/0001_a.pyc has no source." in text.replace(
        "It is", "it is"
    )
    assert "Stored code None." in as_text(html)


def test_altered_code_has_a_banner(client: Client) -> None:
    code = keep("users.0001_a")
    MigrationCode.objects.filter(pk=code.pk).update(source_code="altered = True")
    [(level, text)] = banners(detail(client, code))
    assert level == "error"
    assert text.startswith("Its stored code was altered after it was signed.")


def test_code_that_was_signed_elsewhere_has_a_banner(client: Client) -> None:
    [(level, text)] = banners(detail(client, keep("users.0001_a", key="another")))
    assert level == "error"
    assert "signed with a key that this project does not have" in text


def test_a_superseded_migration_has_a_banner(client: Client) -> None:
    code = keep("shop.0001_first")
    keep("shop.0001_squashed", replaces='[["shop", "0001_first"]]')
    assert banners(detail(client, code)) == [
        (
            "info",
            "Superseded: shop.0001_squashed stands for it. Nothing is to be done.",
        )
    ]


def test_a_migration_that_is_not_applied_has_a_banner(client: Client) -> None:
    code = keep("users.0001_a", recorded=False)
    assert banners(detail(client, code)) == [
        (
            "info",
            "Not applied: its code is kept from when it was. Nothing is to be done.",
        )
    ]


def test_a_later_capture_has_a_banner(client: Client) -> None:
    code = MigrationCode.objects.get(app_label="auth", migration_name="0001_initial")
    assert banners(detail(client, code)) == []
    code.captured = StoredCode.Captured.LATER
    code.save()
    assert banners(detail(client, code)) == [
        (
            "info",
            "Captured later, from its file: what ran may have been something else.",
        )
    ]


def test_earlier_versions_are_listed(client: Client) -> None:
    code = keep("users.0001_a", "first = True\n")
    other = keep("users.0002_b", "other = True\n")
    assert "Earlier versions" not in detail(client, code)
    digests = []
    for text in ["second = True\n", "third = True\n"]:
        digests.append(code.digest)
        code = MigrationCode(app_label="users", migration_name="0001_a")
        capture.set_source(code, text)
        signing.sign(code)
        store.save(connection, code)
        with_pk(code)
    assert EarlierMigrationCode._default_manager.count() == 2
    with CaptureQueriesContext(connection) as queries:
        html = as_text(detail(client, code)).partition("Earlier versions")[2]
    assert all(digest in html for digest in digests)
    assert "13 bytes" in html
    assert sum("source_code" in query["sql"] for query in queries) == 1
    assert "Earlier versions" not in detail(client, other)


def test_a_migration_that_is_not_there_is_not_an_error(client: Client) -> None:
    response = client.get(f"{LIST}0/change/", follow=True)
    [(level, text)] = banners(response.content.decode())
    assert level == "warning"
    assert "Perhaps it was deleted?" in text


# Databases


def test_the_router_says_which_database_is_shown(client: Client) -> None:
    code = keep("users.0002_other", alias="other")
    keep("users.0001_default")
    with override_settings(DATABASE_ROUTERS=["tests.test_admin.FromOther"]):
        html = read(client)
        assert counts(html).startswith("In database 'other': ")
        assert rows(html)["users.0002_other"][1] == "missing (ghost)"
        assert "users.0001_default" not in rows(html)
        [(_, text)] = banners(detail(client, code))
        assert "--database other" in text


def test_without_the_table_it_says_what_to_run(spoiled_client: Client) -> None:
    pk = MigrationCode.objects.values_list("pk", flat=True)[0]
    tables.drop(connection)
    html = read(spoiled_client)
    [(level, text)] = banners(html)
    assert level == "error"
    assert text == (
        "There is no table django_migrations_code in database 'default'. Run "
        "'manage.py migrate' to make it."
    )
    assert rows(html) == {}
    assert "In database" not in html
    assert_other_pages_do_not_fail(spoiled_client, pk)


def test_with_the_table_of_an_older_release_it_says_what_to_run(
    spoiled_client: Client,
) -> None:
    tables.drop(connection)
    state = MigrationLoader(None).project_state(("django_rewind", "0001_initial"))
    old_model = state.apps.get_model("django_rewind", "MigrationCode")
    with connection.schema_editor() as editor:
        editor.create_model(old_model)
    row = old_model._default_manager.create(app_label="users", migration_name="0001_a")
    [(level, text)] = banners(read(spoiled_client))
    assert level == "error"
    assert "Run 'manage.py migrate django_rewind' to upgrade it." in text
    assert_other_pages_do_not_fail(spoiled_client, row.pk)


def assert_other_pages_do_not_fail(client: Client, pk: int) -> None:
    for url in [f"{LIST}{pk}/change/", f"{LIST}?status=ghost", f"{LIST}?q=users"]:
        assert "manage.py migrate" in client.get(url, follow=True).content.decode()
    assert client.get(f"{LIST}{pk}/history/").status_code == 302
    assert client.post(f"{LIST}{pk}/delete/").status_code == 403


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("column", ["app_label", "source_code"])
def test_a_row_that_the_driver_refuses_is_not_a_traceback(
    client: Client, column: str
) -> None:
    code = edit("auth.0001_initial")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE django_migrations_code SET {column} = CAST(x'ff' AS TEXT), "
            f"digest = 'x' WHERE id = {code.pk}"
        )
    [(level, text)] = banners(read(client))
    assert level == "error"
    assert "cannot be read: Could not decode to UTF-8" in text
    response = client.get(f"{LIST}{code.pk}/change/", follow=True)
    assert response.redirect_chain == [(LIST, 302)] or response.status_code == 200


@pytest.mark.only("sqlite")
def test_a_ghost_that_the_driver_refuses_is_not_a_traceback(client: Client) -> None:
    code = keep("users.0001_ghost")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations_code SET source_code = CAST(x'ff' AS TEXT) "
            f"WHERE id = {code.pk}"
        )
    assert "users.0001_ghost" in rows(read(client))
    response = client.get(f"{LIST}{code.pk}/change/", follow=True)
    [(level, text)] = banners(response.content.decode())
    assert level == "error"
    assert text.startswith("What is stored in database 'default' cannot be read: ")
    assert f"Restore or delete these rows of django_migrations_code: {code.pk}." in text
