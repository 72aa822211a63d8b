"""Go back from newer to older releases of real packages (`make test-packages`).

A database is migrated with the newer release. Then, where only the older one is
installed, what that one does not have is reversed, with the command that `manage.py
check` gives. What is left must be what a database has that never saw the newer release.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

ROOT = Path(__file__).resolve().parent.parent
# What all releases below can be installed on; uv finds or fetches it.
PYTHON = ">=3.10,<3.13"
DRIVERS: dict[str, list[str]] = {
    "sqlite": [],
    "postgresql": ["psycopg[binary]"],
    "mysql": ["pymysql"],
}
# The database on which Django works alone.
STOCK = "stock"
SHOWN_LINES = 15
CHECK = "check --database default --tag database"
# Names that Django makes up for constraints that have none in SQLite.
NUMBERED = re.compile(r"__unnamed_constraint_\d+__|fk_\d+")
HINTED = re.compile(r"'manage\.py (rewind[^']*)'")


class Case(NamedTuple):
    package: str
    old: str
    new: str
    django: str
    # Beside those that SETTINGS has.
    apps: str
    # Lines of the settings, of both releases.
    settings: str = ""
    # What to install too, with both releases.
    also: str = ""
    # Run with the newer release, so that tables are not empty.
    data: str = ""


CASES = [
    Case(
        "django-auditlog",
        "2.3.0",
        "3.2.1",
        "4.2",
        "auditlog",
        data="""\
from auditlog.models import LogEntry
from django.contrib.auth.models import User
user = User.objects.create_user("user")
LogEntry.objects.log_create(user, action=0, changes={"a": ["b", "c"]})
""",
    ),
    Case(
        "django-celery-beat",
        "2.1.0",
        "2.8.1",
        "4.2",
        "django_celery_beat",
        data="""\
from django_celery_beat.models import CrontabSchedule, PeriodicTask
crontab = CrontabSchedule.objects.create(hour="4")
PeriodicTask.objects.create(name="a", task="b", crontab=crontab)
""",
    ),
    Case(
        "wagtail",
        "5.0.5",
        "6.4.2",
        "4.2",
        "wagtail wagtail.admin wagtail.documents wagtail.images wagtail.search "
        "wagtail.users wagtail.sites wagtail.embeds wagtail.snippets "
        "wagtail.contrib.forms wagtail.contrib.redirects "
        "wagtail.contrib.search_promotions modelcluster taggit",
    ),
    Case(
        "django-oauth-toolkit",
        "2.2.0",
        "3.0.1",
        "4.2",
        "oauth2_provider",
        data="""\
from oauth2_provider.models import AccessToken
from django.utils.timezone import now
AccessToken.objects.create(token="a", expires=now(), scope="b")
""",
    ),
    Case(
        "django-allauth",
        "0.54.0",
        "0.61.1",
        "4.2",
        "allauth allauth.account allauth.socialaccount",
        settings="""\
from importlib.util import find_spec
if find_spec("allauth.account.middleware"):
    MIDDLEWARE.append("allauth.account.middleware.AccountMiddleware")
""",
        data="""\
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
user = User.objects.create_user("user")
EmailAddress.objects.create(user=user, email="user@example.com")
""",
    ),
    Case("django-guardian", "2.4.0", "3.2.0", "4.2", "guardian"),
    Case(
        "django-filer",
        "2.2.6",
        "3.3.1",
        "4.2",
        "easy_thumbnails filer mptt",
        also="django-mptt",
    ),
    Case(
        "django-organizations",
        "2.0.2",
        "2.5.0",
        "4.2",
        "organizations",
        also="django-extensions",
    ),
    Case("django-push-notifications", "3.0.0", "3.2.0", "4.2", "push_notifications"),
    Case("django-q2", "1.4.5", "1.7.6", "4.2", "django_q", also="setuptools<81"),
    Case(
        "django-admin-interface",
        "0.20.0",
        "0.30.0",
        "4.2",
        "admin_interface colorfield",
    ),
    Case(
        "djangorestframework-simplejwt",
        "4.6.0",
        "5.5.0",
        "4.2",
        "rest_framework_simplejwt.token_blacklist",
        also="setuptools<81",
    ),
    Case("social-auth-app-django", "5.0.0", "5.4.3", "4.2", "social_django"),
    Case("django-cookie-consent", "0.4.0", "0.6.0", "4.2", "cookie_consent"),
    Case(
        "django-otp",
        "1.1.6",
        "1.6.0",
        "4.2",
        "django_otp django_otp.plugins.otp_email django_otp.plugins.otp_hotp "
        "django_otp.plugins.otp_static django_otp.plugins.otp_totp",
    ),
    Case("django-celery-results", "2.2.0", "2.6.0", "4.2", "django_celery_results"),
    Case(
        "django-ca",
        "1.26.0",
        "1.29.0",
        "4.2",
        "django_ca",
        # Without pydantic, which the older release does not need, it is refused.
        also="cryptography<44 pydantic<3",
    ),
    Case(
        "dj-stripe",
        "2.7.3",
        "2.8.4",
        "4.2",
        "djstripe",
        also="setuptools<81",
        settings="""\
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DJSTRIPE_WEBHOOK_VALIDATION = "retrieve_event"
STRIPE_TEST_SECRET_KEY = "sk_test_123"
STRIPE_LIVE_MODE = False
""",
    ),
    Case("django-photologue", "3.15", "3.18", "4.2", "photologue sortedm2m"),
    Case("djangorestframework", "3.11.2", "3.16.0", "4.2", "rest_framework.authtoken"),
]

SETTINGS = """\
import json
import os

{prelude}
BASE_DIR = os.path.dirname(__file__)
SECRET_KEY = "a key for tests, long enough for those that check how long it is"
DATABASES = {{"default": json.loads(os.environ["DATABASE"])}}
INSTALLED_APPS = [
    "django_rewind",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    *{apps},
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        }},
    }},
]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
SITE_ID = 1
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
{extra}
if "STOCK" in os.environ:
    INSTALLED_APPS.remove("django_rewind")
"""

MYSQL = """\
import pymysql

pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
"""


Description = dict[str, Any]
Finished = subprocess.CompletedProcess[str]


class Failed(Exception):
    """Why a case did not pass."""


def main() -> int:
    options = parse_arguments()
    if options.describe:
        print(json.dumps(describe()))
        return 0
    cases = [c for c in CASES if not options.packages or c.package in options.packages]
    # Read by tests.databases, when it is imported.
    os.environ["REWIND_TEST_DATABASE"] = options.database
    os.environ["REWIND_TEST_RUN"] = f"packages_{os.getpid()}"
    began = time.monotonic()
    with folder_for_environments(options.keep) as folder:

        def report(case: Case) -> bool:
            return run(case, folder, options.database, prove=options.prove)

        with ThreadPoolExecutor(options.jobs) as pool:
            passed = list(pool.map(report, cases)).count(True)
    seconds = time.monotonic() - began
    print(f"{passed} of {len(cases)} passed on {options.database}, in {seconds:.0f} s.")
    return 0 if passed == len(cases) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.package for case in CASES]
    parser.add_argument(
        "packages",
        nargs="*",
        metavar="PACKAGE",
        help=f"one of {', '.join(names)}; all if none is given",
    )
    parser.add_argument("--database", choices=DRIVERS, default="sqlite")
    parser.add_argument(
        "--prove",
        action="store_true",
        help="check first that Django alone can reverse it where the files are",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep the environments, to be used again",
    )
    parser.add_argument("--jobs", type=int, default=2, help="cases run at once")
    # This script runs itself in the environments that it makes.
    parser.add_argument("--describe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for unknown in set(options.packages).difference(names):
        parser.error(f"there is no case '{unknown}'")
    return options


@contextmanager
def folder_for_environments(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="django-rewind-packages-") as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()


def run(case: Case, environments: Path, vendor: str, *, prove: bool) -> bool:
    """Run a case, and print one line; below it, what failed."""
    title = f"{case.package} {case.old} ← {case.new}, Django {case.django}"
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_project(case, folder, vendor)
            databases = {
                purpose: stack.enter_context(database(case, purpose, vendor))
                for purpose in ("rewound", "fresh", STOCK)
            }
            older, newer = (
                Project(install(case, version, environments, vendor), folder, databases)
                for version in (case.old, case.new)
            )
            result = check(case, older, newer, prove=prove)
    except Failed as failure:
        print(f"{title}: FAILED\n{textwrap.indent(str(failure), '    ')}", flush=True)
        return False
    print(f"{title}: {result}: OK", flush=True)
    return True


def check(case: Case, older: Project, newer: Project, *, prove: bool) -> str:
    migrate(case, newer, "rewound")
    before = newer.describe("rewound")
    ghosts = older.ghosts("rewound")
    if not ghosts:
        raise Failed("The older release has all migrations of the newer one.")
    hint = older.manage("rewound", *CHECK.split())
    commands = HINTED.findall(hint)
    if not commands:
        raise Failed(f"No command to reverse them is hinted at.\n{hint}")
    targets = targets_before(older.steps("rewound"), before["migrations"])

    @cache
    def django_alone() -> Description:
        return reverse_with_django(case, newer, targets, ghosts)

    if prove:
        django_alone()
    try:
        reverse(older, "rewound", commands[0])
    except Failed as failure:
        django_alone()
        raise Failed(f"{failure}\nDjango can, where the newer files are.") from failure
    older.manage("fresh", "migrate")
    after, fresh = older.describe("rewound"), older.describe("fresh")
    compare_rows(before, after)
    apps = {ghost.split(".")[0] for ghost in ghosts}
    result = f"reversed {len(ghosts)} of {', '.join(sorted(apps))}"
    if same_schema(after, fresh):
        return result
    # Some migrations do not lead back to where they came from, if only in the names
    # of constraints.
    if same_schema(after, django_alone()):
        return f"{result}, as Django leaves it"
    raise Failed(difference(fresh, after))


def migrate(case: Case, newer: Project, database: str) -> None:
    newer.manage(database, "migrate")
    if case.data:
        newer.manage(database, "shell", "--command", case.data)


def targets_before(steps: list[str], migrations: list[str]) -> list[tuple[str, str]]:
    """What to tell `migrate` in order to reverse these steps, one for each app."""
    targets = {}
    for app_label in dict.fromkeys(step.split(".")[0] for step in steps):
        left = [
            name
            for label, name in (migration.split(".") for migration in migrations)
            if label == app_label and f"{label}.{name}" not in steps
        ]
        targets[app_label] = left[-1] if left else "zero"
    return list(targets.items())


def reverse(older: Project, database: str, command: str) -> None:
    """Reverse what the older release lacks, and apply again what was in between."""
    older.manage(database, *command.split(), "--noinput")
    older.manage(database, "migrate")
    left = older.ghosts(database)
    if left:
        raise Failed(f"Still applied: {', '.join(left)}")


def reverse_with_django(
    case: Case, newer: Project, targets: list[tuple[str, str]], ghosts: list[str]
) -> Description:
    """What Django alone leaves, where the newer files are."""
    migrate(case, newer, STOCK)
    try:
        for target in targets:
            newer.manage(STOCK, "migrate", *target)
    except Failed as failure:
        raise Failed(f"Not reversible by Django either.\n{failure}") from failure
    described = newer.describe(STOCK)
    left = sorted(set(ghosts).intersection(described["migrations"]))
    if left:
        raise Failed(f"Django alone leaves applied: {', '.join(left)}")
    return described


def write_project(case: Case, folder: Path, vendor: str) -> None:
    text = SETTINGS.format(
        prelude=MYSQL if vendor == "mysql" else "",
        apps=case.apps.split(),
        extra=case.settings,
    )
    (folder / "settings.py").write_text(text)
    (folder / "urls.py").write_text("urlpatterns = []\n")


def install(case: Case, version: str, environments: Path, vendor: str) -> Path:
    """The interpreter of an environment that has this release, and no other."""
    environment = environments / f"{case.package}-{version}"
    python = environment / "bin" / "python"
    if not python.exists():
        uv("venv", "--python", PYTHON, str(environment))
    packages = [f"{case.package}=={version}", f"django=={case.django}.*"]
    packages += [*case.also.split(), *DRIVERS[vendor]]
    uv("pip", "install", "--python", str(python), *packages)
    return python


@contextmanager
def database(case: Case, purpose: str, vendor: str) -> Iterator[dict[str, Any]]:
    """An empty database, dropped in the end: its entry for DATABASES."""
    from tests import databases

    name = re.sub(r"\W", "_", f"{case.package}_{purpose}")
    entry = databases.settings_for(name)
    databases.make_empty(name)
    try:
        yield entry
    finally:
        if vendor != "sqlite":
            databases.ask(f"DROP DATABASE {entry['NAME']}")


class Project(NamedTuple):
    """The project of a case, with one of the two releases."""

    python: Path
    folder: Path
    databases: dict[str, dict[str, Any]]

    def manage(self, database: str, *arguments: str) -> str:
        done = self.run(database, "-m", "django", *arguments)
        return done.stdout + done.stderr

    def ghosts(self, database: str) -> list[str]:
        done = self.run(
            database,
            *("-m", "django", "verify_migrations", "--format", "json"),
            # 1 where a release has edited an earlier migration, as many do.
            accepted={0, 1},
        )
        return [
            f"{finding['app_label']}.{finding['migration_name']}"
            for finding in from_json(done)
            # A ghost that might lack something has the verdict "gap".
            if finding["file"] == "missing" and finding["verdict"] in ("ghost", "gap")
        ]

    def steps(self, database: str) -> list[str]:
        """What `rewind` is going to reverse."""
        plan = self.run(
            database, *("-m", "django", "rewind", "--plan", "--format", "json")
        )
        return [
            f"{step['app_label']}.{step['migration_name']}"
            for step in from_json(plan)["steps"]
        ]

    def describe(self, database: str) -> Description:
        described: Description = from_json(self.run(database, __file__, "--describe"))
        return described

    def run(
        self, database: str, *arguments: str, accepted: Container[int] = (0,)
    ) -> Finished:
        environment = {
            **os.environ,
            "DATABASE": json.dumps(self.databases[database]),
            "DJANGO_SETTINGS_MODULE": "settings",
            # django-rewind itself is not installed: always that of this checkout.
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT / "src")]),
            "PYTHONWARNINGS": "ignore",
            # Much faster, also where the user has turned off writing it.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.python.parent.parent / "bytecode"),
        }
        if database == STOCK:
            environment["STOCK"] = "1"
        done = call([str(self.python), *arguments], self.folder, environment)
        if done.returncode not in accepted:
            raise Failed(output_of(done))
        return done


def uv(*arguments: str) -> None:
    done = call([str(Path(sys.executable).with_name("uv")), "--quiet", *arguments])
    if done.returncode:
        raise Failed(output_of(done))


def call(
    command: list[str],
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> Finished:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def output_of(done: Finished) -> str:
    command = " ".join([Path(done.args[0]).name, *done.args[1:]])
    lines = f"{done.stdout}{done.stderr}".splitlines()
    return "\n".join([f"$ {command}", *lines[-SHOWN_LINES:]])


def from_json(done: Finished) -> Any:
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failed(output_of(done)) from None


def compare_rows(before: Description, after: Description) -> None:
    """Tables that were there with both releases must have the same number of rows."""
    for table, count in before["rows"].items():
        # Empty ones may get a default row after any migrate.
        if count and count != after["rows"].get(table, count):
            raise Failed(f"{table} had {count} rows, and has {after['rows'][table]}.")


def same_schema(first: Description, second: Description) -> bool:
    return all(first[key] == second[key] for key in ("tables", "migrations"))


def difference(fresh: Description, after: Description) -> str:
    before, now = (
        json.dumps(described, indent=1, sort_keys=True).splitlines()
        for described in (fresh, after)
    )
    lines = difflib.unified_diff(before, now, "fresh", "after", lineterm="")
    return "\n".join(lines)


def describe() -> Description:
    """The database of the settings, without what django-rewind has in it."""
    import django
    from django.db import connection

    django.setup()
    with connection.cursor() as cursor:
        names = [
            name
            for name in connection.introspection.table_names(cursor)
            if not name.startswith("django_migrations_")
        ]
        tables = {name: describe_table(connection, cursor, name) for name in names}
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        recorded = [f"{label}.{name}" for label, name in cursor.fetchall()]
        rows = {
            name: count_rows(connection, cursor, name)
            for name in names
            # Filled after each migrate.
            if not name.startswith("django_") and name != "auth_permission"
        }
    migrations = [name for name in recorded if not name.startswith("django_rewind.")]
    return {"tables": tables, "migrations": migrations, "rows": rows}


def describe_table(connection: Any, cursor: Any, table: str) -> dict[str, Any]:
    introspection = connection.introspection
    columns = {}
    for column in introspection.get_table_description(cursor, table):
        described = {**column._asdict(), "type": column_type(introspection, column)}
        # The number that PostgreSQL has for a type may differ, and for its sequence.
        del described["name"], described["type_code"]
        columns[column.name] = {key: str(value) for key, value in described.items()}
    return {
        "columns": dict(sorted(columns.items())),
        "primary key": introspection.get_primary_key_column(cursor, table),
        "constraints": sorted(
            ("" if NUMBERED.fullmatch(name) else name, json.dumps(constraint))
            for name, constraint in introspection.get_constraints(cursor, table).items()
        ),
    }


def column_type(introspection: Any, column: Any) -> str:
    try:
        return str(introspection.get_field_type(column.type_code, column))
    except KeyError:
        return "unknown"


def count_rows(connection: Any, cursor: Any, table: str) -> int:
    quoted = connection.ops.quote_name(table)
    cursor.execute(f"SELECT COUNT(*) FROM {quoted}")  # noqa: S608
    count: int = cursor.fetchone()[0]
    return count


if __name__ == "__main__":
    sys.exit(main())
