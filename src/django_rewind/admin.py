from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat

from . import needs, status, store, tables
from .exceptions import StoreUnreadable, TableOutdated
from .models import Key, MigrationCode, StoredCode
from .status import File, Status
from .terminal import first_of, manage, on_one_line, printable_lines, quoted, shortened

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[MigrationCode]
else:
    ModelAdmin = admin.ModelAdmin

STATUSES: dict[str, Callable[[Status], bool]] = {
    "present": lambda answer: answer.file is File.PRESENT,
    "missing": lambda answer: answer.file is File.MISSING,
    "edited": lambda answer: answer.file is File.EDITED,
    "ghost": lambda answer: answer.is_ghost,
    "superseded": lambda answer: answer.superseded_by is not None,
    "gap": lambda answer: bool(answer.gap),
    "not applied": lambda answer: not answer.recorded,
}

# They may be very long, and no list shows them.
TEXTS = [
    "source_code",
    "dependencies",
    "replaces",
    "closure",
    "closure_gaps",
]

# With more, each is folded up.
SHOWN_OPEN = 3

# With more, a browser would not answer for minutes.
LISTED_LINES = 20_000
LISTED_CHARACTERS = 2_000_000


class Overview(NamedTuple):
    """What one request is told of one database."""

    alias: str
    answers: dict[Key, Status]
    # Why there are no answers, and what to run.
    fault: str = ""

    @property
    def remedies(self) -> dict[str, str]:
        """What stores code, and what says why it cannot."""
        commands = {"store": "backfill_migration_code", "explain": "verify_migrations"}
        return {what: manage(run, self.alias) for what, run in commands.items()}

    def counts(self) -> list[tuple[str, int]]:
        stored = [answer for answer in self.answers.values() if answer.stored]
        counted = Counter(word for answer in stored for word in words(answer))
        return [(word, counted[word]) for word in STATUSES]

    def not_stored(self) -> list[str]:
        lacking = [answer for answer in self.answers.values() if answer.lacks_code]
        return [shortened("{}.{}".format(*answer.key)) for answer in lacking]


def overview(request: HttpRequest, alias: str) -> Overview:
    """Read once for each request, however many rows it shows."""
    known: dict[str, Overview] = vars(request).setdefault("django_rewind", {})
    if alias not in known:
        known[alias] = read_overview(alias)
    return known[alias]


def read_overview(alias: str) -> Overview:
    connection = connections[alias]
    try:
        with store.reading(connection):
            if tables.exist(connection):
                return Overview(alias, status.read(connection))
        fault = (
            f"There is no table django_migrations_code in database '{alias}'. "
            f"Run {manage('migrate', alias)} to make it."
        )
    except (TableOutdated, StoreUnreadable) as error:
        fault = str(error)
    return Overview(alias, {}, fault)


def words(answer: Status) -> list[str]:
    return [word for word, applies in STATUSES.items() if applies(answer)]


def status_columns(answers: dict[Key, Status]) -> list[Callable[..., Any]]:
    # A row that was stored after the answers were read has none.
    @admin.display(description="applied", boolean=True)
    def applied(code: MigrationCode) -> bool | None:
        return answers[code.key].recorded if code.key in answers else None

    @admin.display(description="file")
    def file(code: MigrationCode) -> str:
        if code.key not in answers:
            return ""
        answer = answers[code.key]
        more = {"ghost", "superseded", "gap"}.intersection(words(answer))
        return f"{answer.file.value} ({', '.join(sorted(more))})".replace(" ()", "")

    return [applied, file]


def text_column(
    name: str, description: str, otherwise: str = ""
) -> Callable[[MigrationCode], str]:
    """A field, with what a reader would not see spelt out."""

    @admin.display(description=description, ordering=name)
    def column(code: MigrationCode) -> str:
        return shortened(getattr(code, name)) or otherwise

    column.__name__ = name
    return column


app_label = text_column("app_label", "app label")
migration_name = text_column("migration_name", "migration name")
module_name = text_column("module_name", "module", "unknown")
distribution = text_column("distribution", "distribution", "none")
django_version = text_column("django_version", "Django version", "unknown")
python_version = text_column("python_version", "Python version", "unknown")
digest = text_column("digest", "SHA-256 of the source")
origin = text_column("origin", "origin", "this checkout")


@admin.display(description="captured", ordering="captured")
def captured(code: MigrationCode) -> str:
    return shortened(code.how_captured)


@admin.display(description="faked")
def faked(code: MigrationCode) -> str:
    # Not an icon: a red cross would look like a fault.
    return "yes, a rollback only removes the record" if code.faked else "no"


@admin.display(description="stored at")
def stored(code: MigrationCode) -> str:
    # Not the field, whose help text would be shown too.
    return str(display_for_value(code.stored_at, "-"))


@admin.display(description="size", ordering="size")
def size(code: StoredCode) -> str:
    # SQLite keeps what is no number in a column for numbers.
    return filesizeformat(code.size) if isinstance(code.size, int) else "?"


@admin.display(description="replaces")
def replaces(code: MigrationCode) -> str:
    return names(code.replaced_keys)


@admin.display(description="depends on")
def depends_on(code: MigrationCode) -> str:
    dependencies = code.resolved_dependencies
    return "unknown" if dependencies is None else names(dependencies)


def names(keys: list[Key]) -> str:
    return shortened(", ".join(map(".".join, keys))) or "nothing"


class AppFilter(admin.AllValuesFieldListFilter):
    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": shortened(str(choice["display"]))}


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in STATUSES]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[MigrationCode]
    ) -> QuerySet[MigrationCode]:
        applies = STATUSES.get(self.value() or "")
        if applies is None:
            return queryset
        answers = overview(request, queryset.db).answers
        keys = {key for key, answer in answers.items() if applies(answer)}
        rows = queryset.values_list("pk", "app_label", "migration_name")
        return queryset.filter(pk__in=[pk for pk, *key in rows if tuple(key) in keys])


@admin.register(MigrationCode)
class MigrationCodeAdmin(ModelAdmin):
    actions = None
    list_display_links = [migration_name]
    list_filter = [("app_label", AppFilter), StatusFilter]
    search_fields = ["app_label", "migration_name"]

    class Media:
        css = {"all": ["django_rewind/admin.css"]}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def overview(self, request: HttpRequest) -> Overview:
        return overview(request, super().get_queryset(request).db)

    def get_queryset(self, request: HttpRequest) -> QuerySet[MigrationCode]:
        queryset = super().get_queryset(request).defer(*TEXTS)
        return queryset.none() if self.overview(request).fault else queryset

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = status_columns(self.overview(request).answers)
        return [app_label, migration_name, *columns, captured, size, "stored_at"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        columns = status_columns(self.overview(request).answers)
        return [
            (*columns, faked, stored, captured, origin, size),
            (module_name, distribution, django_version, python_version),
            (digest, depends_on, replaces),
        ]

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        # Whatever prints a migration prints users.0002_name.
        term = search_term.replace(".", " ")
        return super().get_search_results(request, queryset, term)

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        if request.method == "POST":
            raise PermissionDenied
        context = {"overview": self.overview(request), **(extra_context or {})}
        try:
            with store.reading(connections[context["overview"].alias]):
                return super().changelist_view(request, context)
        except StoreUnreadable as error:
            # The second time nothing is listed.
            context["overview"] = seen = Overview(error.alias, {}, str(error))
            vars(request)["django_rewind"][error.alias] = seen
            return super().changelist_view(request, context)

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        back_to_list = HttpResponseRedirect("../../")
        if self.overview(request).fault:
            # The list says what to run.
            return back_to_list
        try:
            with store.reading(connections[self.overview(request).alias]):
                return super().change_view(request, *args, **kwargs)
        except StoreUnreadable as error:
            self.message_user(request, str(error), messages.ERROR)
            return back_to_list

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        code = context["original"]
        seen = self.overview(request)
        connection = connections[seen.alias]
        code.refresh_from_db(using=seen.alias, fields=TEXTS)
        needs.attach(connection, [code])
        answer = seen.answers.get(code.key)
        # Late, since every process that has an admin imports this module.
        from .verification import judge_stored

        finding = judge_stored(code, answer) if answer else None
        context.update(
            overview=seen,
            answer=answer,
            finding=finding,
            fact=on_one_line(finding.fact) if finding else "",
            remedy=on_one_line(finding.remedy) if finding else "",
            source=Listing.of("Stored code", code.source_code),
            needed=[Listing.of(name, text) for name, text in code.needed.items()],
            damaged=first_of(needs.damaged(code), 50),
            lacking=first_of(code.lacking, 50),
            shown_open=len(code.needed) <= SHOWN_OPEN,
            shown_by=show_command(code, seen.alias),
            earlier=list(map(Version.of, store.earlier(connection, code.key))),
        )
        return super().render_change_form(request, context, *args, **kwargs)


def show_command(code: MigrationCode, alias: str) -> str:
    name = f"{quoted(code.app_label)} {quoted(code.migration_name)}"
    return manage(f"show_stored_migrations {name}", alias)


class Listing(NamedTuple):
    """A text beside the numbers of its lines."""

    name: str
    text: str
    numbers: str
    is_cut: bool

    @classmethod
    def of(cls, name: str, text: object) -> Listing:
        lines = printable_lines(text)
        shown = "\n".join(lines[:LISTED_LINES])[:LISTED_CHARACTERS]
        numbers = map(str, range(1, shown.count("\n") + 2))
        is_cut = len(shown) < sum(map(len, lines)) + len(lines) - 1
        return cls(shortened(name), shown, "\n".join(numbers), is_cut)


class Version(NamedTuple):
    """An earlier version of the code."""

    stored: str
    captured: str
    size: str
    digest: str

    @classmethod
    def of(cls, code: StoredCode) -> Version:
        return cls(
            str(display_for_value(code.stored_at, "-")),
            shortened(code.how_captured),
            size(code),
            shortened(code.digest),
        )
