from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import git_hook
from ...exceptions import RewindError
from ...git_hook import Theirs


class Command(BaseCommand):
    help = (
        "Installs or removes a git hook that looks at the database after a switch of "
        "branches."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "action",
            choices=("install", "remove", "report"),
            help="'report' is what the hook runs.",
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument(
            "--report",
            action="store_const",
            const="report",
            dest="mode",
            help="The hook says what there is to rewind. This is the default.",
        )
        mode.add_argument(
            "--rewind",
            action="store_const",
            const="rewind",
            dest="mode",
            help="The hook runs 'manage.py rewind --noinput'.",
        )
        mode.add_argument(
            "--rewind-and-migrate",
            action="store_const",
            const="rewind-and-migrate",
            dest="mode",
            help="The hook runs 'manage.py rewind --migrate --noinput'.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        action, mode = options["action"], options["mode"]
        if mode and action != "install":
            raise CommandError(f"--{mode} is for install, not for {action}.")
        try:
            if action == "install":
                self.install(mode or "report")
            elif action == "remove":
                self.stdout.write(f"Removed from {git_hook.remove()}.")
            elif text := git_hook.report():
                self.stdout.write(f"django-rewind: {text}")
        except RewindError as error:
            raise CommandError(str(error)) from error

    def install(self, mode: str) -> None:
        installed = git_hook.install(mode)
        if not installed.is_changed:
            self.stdout.write(f"{installed.path} is as it should be already.")
            return
        self.stdout.write(
            f"Installed in {installed.path}: after a switch of branches it runs "
            f"'{installed.manage} {git_hook.RUNS[mode]}'."
        )
        if installed.theirs is not Theirs.NOWHERE:
            self.stdout.write("The hook that was there is kept, and called first.")
        if installed.is_in_working_tree:
            self.stdout.write(
                "It has the path of this Python in it, and is in the working tree: "
                "do not commit it."
            )
