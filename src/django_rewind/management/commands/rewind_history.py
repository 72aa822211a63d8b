from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import chronicle, journal
from ...chronicle import Event
from ...commands import DatabaseCommand, as_json, check_app_is_known
from ...terminal import shortened


class Command(DatabaseCommand):
    help = (
        "Shows what was done to a database and when: each migration that was applied, "
        "reversed, faked, renamed or pruned, or failed, and the restore points."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_format(parser)

    def run(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        events = chronicle.tell(journal.read(connection))
        app_label = options["app_label"]
        if app_label is not None:
            events = [event for event in events if event.app_label == app_label]
            if not events:
                check_app_is_known(connection, app_label)
        if options["format"] == "json":
            self.stdout.write(as_json([event._asdict() for event in events]))
            return
        if not events:
            self.stdout.write(f"The journal of '{connection.alias}' has no entries.")
        run = None
        for event in events:
            if event.run != run:
                run = event.run
                self.stdout.write(
                    self.style.MIGRATE_HEADING(f"Run {shortened(run)}")
                    + shortened(f"  {event.user}@{event.host}  {code(event)}")
                )
                self.stdout.write(shortened(f"  {event.command}"))
            self.show(event)

    def show(self, event: Event) -> None:
        style = {"done": self.style.SUCCESS, "failed": self.style.ERROR}.get(
            event.status, self.style.WARNING
        )
        took = "" if event.seconds is None else f" in {event.seconds} s"
        self.stdout.write(
            f"  {shortened(event.at)}  {shortened(event.what)}  "
            + style(shortened(event.status) + took)
        )
        if event.error:
            self.stdout.write(self.style.ERROR(f"    {shortened(event.error)}"))


def code(event: Event) -> str:
    return " ".join(filter(None, [event.branch, event.commit[:12]]))
