"""Test databases that are kept, and what another branch left in them."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, update_wrapper, wraps
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from . import conf, signals, status
from .exceptions import RewindError, TableOutdated
from .models import Key
from .status import File
from .terminal import first_of, printable

# So many migrations are named.
NAMED = 10

# Alias → the name of the test database that was found or made for it.
_found: dict[str, str] = {}


class RewindingWhatWasKept:
    """Stands for create_test_db() of BaseDatabaseCreation, as a descriptor.

    So it has no frame of its own, and a warning still names the caller. The rewind
    comes between the two steps: to find the database, and to migrate it.
    """

    def __init__(self, create_test_db: Callable[..., str]) -> None:
        self._create_test_db: Any = create_test_db
        update_wrapper(self, create_test_db)  # type: ignore[arg-type]

    def __get__(self, creation: Any, owner: type | None = None) -> Any:
        if creation is not None:
            # Of the instance, if somebody put it there.
            find = vars(creation).get("_create_test_db")
            if getattr(find, "func", None) is not _find_and_rewind:
                creation._create_test_db = partial(_find_and_rewind, creation, find)
        return self._create_test_db.__get__(creation, owner)


def _find_and_rewind(
    creation: Any, find: Any, verbosity: int, autoclobber: bool, keepdb: bool = False
) -> Any:
    if find is None:
        del creation._create_test_db
    else:
        creation._create_test_db = find
    found = creation._create_test_db(verbosity, autoclobber, keepdb)
    _found[creation.connection.alias] = str(creation._get_test_db_name())
    if _is_kept(creation, keepdb=keepdb) and not _is_in_use(creation):
        with _connected_to(creation.connection, creation._get_test_db_name()):
            _rewind(creation, verbosity)
    return found


def is_for_tests(connection: BaseDatabaseWrapper) -> bool:
    """Whether it was rewound above as far as it can be, before Django migrates it."""
    name = str(connection.settings_dict["NAME"])
    return _found.get(connection.alias) == name


def replacing_outdated_clones(clone_test_db: Callable[..., Any]) -> Callable[..., Any]:
    """Extends clone_test_db() of BaseDatabaseCreation.

    Nobody migrates a clone that was kept. One that has other records than the
    database it was made of, which was just migrated, is made anew.
    """

    @wraps(clone_test_db)
    def clone(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(clone_test_db).bind(self, *args, **kwargs)
        given.apply_defaults()
        if _is_kept(self, keepdb=given.arguments["keepdb"]):
            given.arguments["keepdb"] = not _differs(self, given.arguments["suffix"])
        return clone_test_db(*given.args, **given.kwargs)

    return clone


def _is_kept(creation: Any, *, keepdb: bool) -> bool:
    test_settings = creation.connection.settings_dict["TEST"]
    is_in_memory = getattr(creation, "is_in_memory_db", lambda name: False)
    return (
        conf.is_enabled()
        and keepdb
        # Where nothing is migrated, files say nothing about the database.
        and test_settings["MIGRATE"] is not False
        and not is_in_memory(creation._get_test_db_name())
    )


def _is_in_use(creation: Any) -> bool:
    """Whether TEST["NAME"] is that of a database which is there for something else.

    As where a role may not create one.
    """
    name = str(creation._get_test_db_name())
    for alias in connections:
        other = str(connections[alias].settings_dict["NAME"])
        if name == other or os.path.realpath(name) == os.path.realpath(other):
            return True
    return False


@contextmanager
def _connected_to(connection: BaseDatabaseWrapper, name: str) -> Iterator[None]:
    """As create_test_db() does it itself, a moment later."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def _rewind(creation: Any, verbosity: int) -> None:
    alias = creation.connection.alias
    rewound: list[Key] = []
    options: dict[str, Any] = {
        "databases": [alias],
        # What was renamed waits for what its new name depends on.
        "migrate": True,
        "verbosity": 0,
        "stderr": StringIO(),
    }

    def note(plan: list[Key], adoptions: dict[Key, Key], **kwargs: Any) -> None:
        rewound.extend([*plan, *adoptions])

    try:
        if not _is_of_another_branch(creation.connection):
            return
        plan = StringIO()
        call_command("rewind", plan=True, format="json", stdout=plan, **options)
        if notes := json.loads(plan.getvalue())["notes"]:
            _say_that_it_differs(creation, "\n".join(notes))
        signals.post_rewind.connect(note)
        call_command("rewind", interactive=False, stdout=StringIO(), **options)
    except TableOutdated:
        # The next thing that happens is that it is migrated.
        return
    except (CommandError, RewindError, DatabaseError) as error:
        _say_that_it_differs(creation, str(error))
    finally:
        signals.post_rewind.disconnect(note)
    if rewound and verbosity >= 1:
        names = first_of([".".join(key) for key in rewound], NAMED)
        creation.log(
            f"Rewound in the test database for alias '{alias}': {', '.join(names)}."
        )


def _say_that_it_differs(creation: Any, fact: str) -> None:
    creation.log(
        f"The kept test database for alias '{creation.connection.alias}' is not that "
        f"of this checkout: {printable(fact)}\n"
        "Tests may fail because of it. Make it anew: run them once without --keepdb, "
        "or once with pytest's --create-db."
    )


def _is_of_another_branch(connection: BaseDatabaseWrapper) -> bool:
    found = [
        answer
        for answer in status.read(connection).values()
        if answer.is_ghost or (answer.recorded and answer.file is File.EDITED)
    ]
    # Switched off as by pytest's --no-migrations: its tables are made without them.
    return bool(found) and not any(answer.switched_off for answer in found)


def _differs(creation: Any, suffix: str) -> bool:
    connection = creation.connection
    settings = creation.get_test_db_clone_settings(suffix)
    if connection.vendor == "sqlite" and not os.path.exists(settings["NAME"]):
        return False
    # Pools of connections belong to an alias.
    clone: Any = connection.copy(alias=f"{connection.alias}_{suffix}")
    clone.settings_dict = settings
    try:
        return _recorded(clone) != _recorded(connection)
    except DatabaseError:
        # It is not there, and is going to be made.
        return False
    finally:
        clone.close()
        getattr(clone, "close_pool", clone.close)()


def _recorded(connection: BaseDatabaseWrapper) -> set[tuple[Any, ...]]:
    """With the time, since a name may mean something else on another branch."""
    table = MigrationRecorder.Migration._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return set()
        cursor.execute(f"SELECT app, name, applied FROM {table}")  # noqa: S608
        return set(cursor.fetchall())
