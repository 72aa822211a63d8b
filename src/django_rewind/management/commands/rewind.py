from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser, SystemCheckError
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import conf, execution, journal, locks, plans, store, warned
from ...adoption import Adoption
from ...commands import (
    DatabaseCommand,
    as_json,
    cannot_read,
    check_app_label,
    find_connection,
    load_command,
    stock_migrate,
)
from ...exceptions import RUN_AGAIN, RewindError, Stopped
from ...execution import Output, Tally
from ...models import Key
from ...plans import Plan, Request, Step
from ...pulse import Pulse
from ...terminal import first_of, manage, quoted, said, shortened

# Exit codes; 0 is: done, or nothing to do.
FOUND_WORK, REFUSED, STOPPED = 1, 2, 3

# Of what will be destroyed, so much is named when asking.
NAMED = 20


class Command(DatabaseCommand):
    help = (
        "Makes the database match this checkout: reverses what was applied and is "
        "not on disk, from stored code. Exits with 0 if that is done or there is "
        "nothing to do, 1 if --check found something, 2 if it was refused before "
        "anything changed, 3 if it stopped part-way."
    )

    # Called by `migrate` itself, which goes on then.
    stealth_options = ("before_migrate",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "app_label", nargs="?", help="App label of the only app to rewind."
        )
        parser.add_argument(
            "migration_name",
            nargs="?",
            help="Goes back to after this migration; 'zero' for all of the app's.",
        )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--to",
            metavar="POINT",
            help=(
                "Goes back to what was applied at a restore point, after a run (its "
                "id), at an ISO date-time or at a git commit."
            ),
        )
        what.add_argument(
            "--steps",
            type=int,
            metavar="N",
            help="Goes back by so many migrations, in the order of their application.",
        )
        databases = parser.add_mutually_exclusive_group()
        databases.add_argument(
            "--database",
            action="append",
            dest="databases",
            metavar="ALIAS",
            help=(
                "Nominates a database to rewind; may be given several times. Defaults "
                f'to the "{DEFAULT_DB_ALIAS}" database.'
            ),
        )
        databases.add_argument(
            "--all-databases", action="store_true", help="Rewinds each database."
        )
        parser.add_argument(
            "--plan", action="store_true", help="Shows the plan, and changes nothing."
        )
        self.add_format(parser)
        parser.add_argument(
            "--sql",
            action="store_true",
            help="Shows the SQL of each step, with --plan.",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            dest="check_only",
            help=(
                "Exits with 1 if something is to be rewound, or half-done, and changes "
                "nothing."
            ),
        )
        parser.add_argument(
            "--expect",
            metavar="DIGEST",
            help="Refuses unless the plan still has the digest that --plan showed.",
        )
        parser.add_argument(
            "--migrate", action="store_true", help="Then migrates forward to the code."
        )
        parser.add_argument(
            "--fake", action="store_true", help="Removes the records only."
        )
        parser.add_argument(
            "--no-adopt",
            action="store_false",
            dest="adopt",
            help=(
                "Reverses renamed migrations too, instead of giving their records the "
                "new name."
            ),
        )
        parser.add_argument(
            "--mended",
            action="store_true",
            help=(
                "What an earlier run left half-done was undone by hand: reverses it "
                "as a whole, or lets it stay where its file is here."
            ),
        )
        self.add_noinput(parser)

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Of the project. What fails here is not what --check finds."""
        try:
            super().check(*args, **kwargs)
        except SystemCheckError as error:
            error.returncode = REFUSED
            raise
        except Exception as error:
            # A check may import anything, as the views of another branch.
            raise CommandError(
                f"The system checks cannot run: {said(error)}. Nothing was changed.",
                returncode=REFUSED,
            ) from error

    def handle(self, *args: Any, **options: Any) -> None:
        self.verbosity = options["verbosity"]
        self.options = options
        try:
            self.check_options()
            with warned.at_least_on(self.stderr):
                self.rewind()
        except Stopped as error:
            raise CommandError(str(error), returncode=STOPPED) from error
        except RewindError as error:
            raise CommandError(str(error), returncode=REFUSED) from error

    def check_options(self) -> None:
        options = self.options
        if not conf.is_enabled():
            raise RewindError("DJANGO_REWIND_ENABLED is off: nothing can be rewound.")
        if options["app_label"] and (options["to"] or options["steps"] is not None):
            raise RewindError("--to and --steps are about all apps: name none.")
        if options["steps"] is not None and options["steps"] < 1:
            raise RewindError("--steps takes a number of at least 1.")
        if not options["plan"] and (options["sql"] or options["format"] != "text"):
            raise RewindError("--sql and --format are for --plan.")
        if options["app_label"] == "":
            raise RewindError("The name of an app cannot be empty.")

    @property
    def request(self) -> Request:
        options = self.options
        return Request(
            options["app_label"],
            options["migration_name"],
            to=options["to"],
            steps=options["steps"],
            fake=options["fake"],
            adopt=options["adopt"],
            migrate=options["migrate"],
            mended=options["mended"],
        )

    def rewind(self) -> None:
        self.check_app()
        # Of all databases, before anything changes in one.
        found = [self.make_plan(connection) for connection in self.targets()]
        if self.options["mended"] and not any(map(plans.mends, found)):
            raise RewindError(
                "--mended is only for what was left half-done, and nothing of this is. "
                "Nothing was changed."
            )
        digest = plans.digest(found)
        if self.options["expect"] not in (None, digest):
            raise RewindError(
                f"The plan is not the one that was expected: its digest is {digest}. "
                "Review it with --plan. Nothing was changed."
            )
        has_work = any(plan.has_work for plan in found)
        if self.options["plan"]:
            self.show(found, digest)
        else:
            # What goes is told however silent it should be.
            self.show_text([p for p in found if p.steps or self.verbosity >= 1])
            if self.asks(found):
                self.ask(found)
        if self.options["check_only"] and has_work:
            sys.exit(FOUND_WORK)
        if self.options["plan"] or self.options["check_only"]:
            return
        with journal.running():
            self.carry_out_each(found)

    def check_app(self) -> None:
        known: list[Key] = []
        for connection in self.targets():
            known += self.read_records(connection)
            if self.options["app_label"] is not None:
                known += self.read_stored(connection)
        try:
            check_app_label(self.options["app_label"], known)
        except CommandError as error:
            raise RewindError(str(error)) from error

    def targets(self) -> list[BaseDatabaseWrapper]:
        aliases = self.options["databases"] or [DEFAULT_DB_ALIAS]
        if self.options["all_databases"]:
            aliases = list(connections)
        found = []
        for alias in dict.fromkeys(aliases):
            with _looking_at(alias):
                found.append(find_connection(alias))
        return found

    def make_plan(self, connection: BaseDatabaseWrapper) -> Plan:
        before = self.read_records(connection)
        with _looking_at(connection.alias):
            try:
                return self.make_plan_now(connection)
            except (Error, RewindError):
                # In the middle of what another process does, nothing fits.
                with locks.guarding(connection, self.announce) as guard:
                    if guard.is_taken():
                        guard.acquire()
                    elif self.read_records(connection) == before:
                        raise
                    return self.make_plan_now(connection)

    def make_plan_now(self, connection: BaseDatabaseWrapper) -> Plan:
        plan = plans.make(connection, self.request)
        if not (self.options["plan"] or self.options["check_only"]):
            plans.refuse_unfinished(plan, self.request)
        return plan

    def read_records(self, connection: BaseDatabaseWrapper) -> list[Key]:
        with _looking_at(connection.alias):
            return store.contents(connection).recorded

    def read_stored(self, connection: BaseDatabaseWrapper) -> Collection[Key]:
        with _looking_at(connection.alias):
            return store.digests(connection).keys()

    def carry_out_each(self, shown: list[Plan]) -> None:
        done: list[str] = []
        for index, plan in enumerate(shown):
            if len(shown) > 1:
                name = self.style.MIGRATE_LABEL(plan.connection.alias)
                self.announce(self.style.MIGRATE_HEADING("Database: ") + name)
            try:
                before = self.read_records(plan.connection)
                self.carry_out(plan)
            except Stopped as error:
                raise self.stopped(error, done, shown, index) from error
            except RewindError as error:
                if not done:
                    raise
                # It was refused, but not before anything was changed.
                refused = Stopped([], [], error)
                raise self.stopped(refused, done, shown, index) from error
            if store.contents(plan.connection).recorded != before:
                done.append(_database(plan))

    def stopped(
        self, stopped: Stopped, done: list[str], shown: list[Plan], index: int
    ) -> Stopped:
        """The same, with what is done and left in all databases, not only in one."""
        where = f" in {_database(shown[index])}" if len(shown) > 1 else ""
        left = [f"{name}{where}" for name in stopped.left]
        if not stopped.done and not left:
            left = [_database(shown[index])]
        rest = shown[index:] if left else shown[index + 1 :]
        is_first = not (done or stopped.done)
        return Stopped(
            [*done, *(f"{name}{where}" for name in stopped.done)],
            [*left, *map(_database, shown[index + 1 :])],
            stopped.error,
            stopped.half,
            stopped.remedy if is_first else self.how_to_go_on(stopped, shown, rest),
        )

    def how_to_go_on(
        self, stopped: Stopped, shown: list[Plan], rest: list[Plan]
    ) -> str:
        """The same command again, unless that would do something else now."""
        if not rest:
            return "Nothing of the plan is left to be done."
        if stopped.remedy != RUN_AGAIN:
            return stopped.remedy
        if self.options["steps"] is not None:
            how = ", then ".join(self.steps_left(stopped, rest))
            return f"Remove the cause and run {how}."
        if self.options["expect"] is not None:
            aliases = [plan.connection.alias for plan in rest if len(shown) > 1]
            only = "".join(f" --database {quoted(alias)}" for alias in aliases)
            return (
                f"Remove the cause, review what is left with --plan{only}, and run it "
                "with the digest of that."
            )
        return RUN_AGAIN

    def steps_left(self, stopped: Stopped, rest: list[Plan]) -> Iterator[str]:
        """The command for each database: of the first one, a part may be done."""
        options = "".join(f" --{o}" for o in ("fake", "migrate") if self.options[o])
        for plan in rest:
            steps = self.options["steps"]
            if stopped.done and stopped.left and plan is rest[0]:
                steps = sum(str(step) in stopped.left for step in plan.steps)
            # What is half-applied goes on only in a run of this.
            last = "rewind --migrate" if stopped.half else "migrate"
            how = f"rewind --steps {steps}{options}" if steps else last
            yield manage(how, plan.connection.alias)

    def carry_out(self, shown: Plan) -> None:
        connection = shown.connection
        with locks.holding(connection, self.announce):
            # Somebody else may have migrated since.
            plan = self.make_plan(connection)
            is_reviewed = self.options["interactive"] or self.options["expect"]
            has_changed = plans.digest([plan]) != plans.digest([shown])
            if plan.steps and is_reviewed and has_changed:
                raise RewindError(
                    f"The plan for database '{connection.alias}' changed since it was "
                    "shown. Nothing was changed in it. Look at the new one with --plan."
                )
            _refuse_what_was_not_shown(plan, shown)
            if shown.has_work and not plan.has_work:
                name = connection.alias
                self.announce(f"Another process did it meanwhile in database '{name}'.")
            migrates = self.options["migrate"] and not (
                self.options["to"] or self.options.get("before_migrate")
            )
            tally = Tally(plan, ["migrate"] if migrates else [])
            with execution.sending_signals(plan, tally):
                for adopted in plan.adoptions:
                    if adopted.beneath:
                        self.adopt(plan, adopted, tally)
                with Pulse(self.stdout, self.verbosity) as pulse:
                    output = self.output(pulse)
                    execution.reverse(plan, output, tally, fake=self.options["fake"])
                # Before what it is about is applied as a whole.
                execution.note_mended(plan, tally)
                self.go_forward(plan, tally)
                if migrates:
                    self.migrate(plan.connection, tally)

    def go_forward(self, plan: Plan, tally: Tally) -> None:
        """What comes after the last step backward."""
        with Pulse(self.stdout, self.verbosity) as pulse:
            output = self.output(pulse)
            for adopted in plan.adoptions:
                if not adopted.beneath:
                    execution.apply_first(plan, adopted.first, output, tally)
                    self.adopt(plan, adopted, tally)
            execution.apply_again(plan, output, tally, fake=self.options["fake"])

    def adopt(self, plan: Plan, adopted: Adoption, tally: Tally) -> None:
        execution.adopt(plan, adopted, tally)
        self.announce(f"  Adopting {adopted}... {self.style.SUCCESS('OK')}")

    def output(self, pulse: Pulse) -> Output:
        """As `migrate` shows its progress."""
        command: Any
        _, command = load_command("migrate")
        if not isinstance(command, stock_migrate()):
            # As that of django-tenants, which runs Django's for each schema.
            command = stock_migrate()()
        command.stdout, command.style = self.stdout, self.style
        command.verbosity = self.verbosity
        progress = pulse.around(command.migration_progress_callback)
        return Output(self.stdout, self.verbosity, progress)

    def migrate(self, connection: BaseDatabaseWrapper, tally: Tally) -> None:
        try:
            call_command(
                "migrate",
                database=connection.alias,
                verbosity=self.verbosity,
                interactive=self.options["interactive"],
                skip_checks=True,
                # One wrapper inside another would break lines.
                stdout=self.stdout._out,
                stderr=self.stderr._out,
                no_color=self.options["no_color"],
                force_color=self.options["force_color"],
            )
        except (Exception, KeyboardInterrupt) as error:
            then = manage("migrate", connection.alias)
            raise execution.stopped_forward(connection, tally, error, then) from error
        tally.count("migrate")

    def announce(self, text: str) -> None:
        if self.verbosity >= 1:
            self.stdout.write(text)

    def asks(self, found: list[Plan]) -> bool:
        """Not about what only --migrate would do."""
        is_for_show = self.options["check_only"] or not self.options["interactive"]
        return not is_for_show and any(plan.steps for plan in found)

    def ask(self, found: list[Plan]) -> None:
        destroyed = [f for p in found for step in p.steps for f in step.destroys]
        if destroyed:
            self.stdout.write(self.style.WARNING("This destroys data:"))
            for fact in first_of(destroyed, NAMED):
                self.stdout.write(f"  {fact}")
        else:
            self.stdout.write("No data is destroyed.")
        try:
            answer = input("Type 'yes' to go on, or 'no' to cancel: ")
        except (EOFError, KeyboardInterrupt):
            # Below the question.
            self.stdout.write("")
            answer = ""
        if answer != "yes":
            raise RewindError("Cancelled. Nothing was changed.")

    def say_nothing_to_do(self, found: list[Plan]) -> None:
        for plan in found:
            for note in plan.notes:
                self.stdout.write(self.style.NOTICE(note))
            if plan.unfinished:
                continue
            without = " without --migrate" if plan.waits else ""
            self.stdout.write(
                f"Nothing to rewind{without} in database '{plan.connection.alias}'."
            )

    def show(self, found: list[Plan], digest: str) -> None:
        if self.options["sql"]:
            found = [plans.add_sql(plan) for plan in found]
        if self.options["format"] == "json":
            self.stdout.write(as_json(plans.as_data(found, digest)))
            return
        self.show_text(found)
        self.stdout.write(f"Digest of this plan: {digest}")

    def show_text(self, found: Sequence[Plan]) -> None:
        for plan in found:
            if not plan.steps:
                self.say_nothing_to_do([plan])
                continue
            self.stdout.write(
                self.style.MIGRATE_HEADING(
                    f"Rewind plan for database '{plan.connection.alias}':"
                )
            )
            for step in plan.steps:
                self.show_step(step)
            for note in plan.notes:
                self.stdout.write(self.style.NOTICE(f"  {note}"))

    def show_step(self, step: Step) -> None:
        self.stdout.write(
            f"  {self.style.MIGRATE_LABEL(str(step))} ({step.reason}; {step.how})"
        )
        if step.note:
            self.stdout.write(self.style.NOTICE(f"    {step.note}"))
        for fact in step.destroys:
            self.stdout.write(self.style.WARNING(f"    {shortened(fact)}"))
        for line in step.sql or ():
            self.stdout.write(f"    {line}")


def _database(plan: Plan) -> str:
    return f"database '{plan.connection.alias}'"


def _refuse_what_was_not_shown(plan: Plan, shown: Plan) -> None:
    """As --steps finds it, where another process has done the same meanwhile."""
    known = set(map(_what_it_does, shown.steps))
    more = [str(step) for step in plan.steps if _what_it_does(step) not in known]
    if more:
        raise RewindError(
            f"Another process changed database '{plan.connection.alias}' meanwhile: "
            f"the plan for it now has {', '.join(first_of(more))}, which was not "
            "shown. Nothing was changed in it. Look at the new plan with --plan."
        )


def _what_it_does(step: Step) -> tuple[str, ...]:
    """Whatever the reason, and however much data there is."""
    key = step.app_label, step.migration_name
    return (*key, step.action, step.source, step.digest, step.new_name)


@contextmanager
def _looking_at(alias: str) -> Iterator[None]:
    """At a database that may not be there, before anything changes in it."""
    try:
        yield
    except (Error, ImproperlyConfigured) as error:
        raise RewindError(
            f"{cannot_read(alias, error)} Nothing was changed in it."
        ) from error
