"""The lock that each database has to offer: taken, given back, and who has it.

None of them waits inside the server, where a timeout could end the statement. On
PostgreSQL, one that waits would also hold up CREATE INDEX CONCURRENTLY.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .terminal import shortened
from .transactions import savepoint

# What Django or SQLite's driver raises where a lock cannot be had.
UNAVAILABLE = (Error, sqlite3.Error)


class Holder(NamedTuple):
    who: str
    # In UTC.
    since: datetime | None = None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return shortened(self.who) + since


SOMEBODY = Holder("another process")


class Lock:
    """Taken and given back by one process at a time; raises UNAVAILABLE."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    def take(self) -> bool:
        """At once; False if another process has it."""
        raise NotImplementedError("subclasses of Lock must provide take()")

    def give_back(self) -> None:
        raise NotImplementedError("subclasses of Lock must provide give_back()")

    def holder(self) -> Holder | None:
        """Who else has it; None if nobody does."""
        raise NotImplementedError("subclasses of Lock must provide holder()")

    def is_taken(self) -> bool:
        """Whether another process has it; one query."""
        return self.holder() is not None


class SessionLock(Lock):
    """On the connection that migrates, since a server goes on with the statement of a
    process that was killed: until that is done, nobody else must begin.
    """

    session: Any = None

    def ask(self, statement: str, parameters: Any = None) -> tuple[Any, ...] | None:
        with savepoint(self.connection), self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row

    def give_back(self) -> None:
        if self.connection.connection is not self.session:
            raise DatabaseError(
                "the connection was closed in the meantime, and the lock was free "
                "from then on"
            )
        self.let_go()

    def let_go(self) -> None:
        raise NotImplementedError("subclasses of SessionLock must provide let_go()")


class PostgreSQLLock(SessionLock):
    # The first of its two numbers: "rwnd". The second one stands for the schema, since
    # tenants may share a database.
    SPACE = 0x72776E64
    KEY = "hashtext(coalesce(current_schema(), ''))"
    TAKE = f"SELECT {{}}(%s, {KEY}), {KEY}, current_setting('application_name')"
    NAME = "SELECT set_config('application_name', %s, %s)"
    HOLDER = f"""
        SELECT application_name FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = %s AND objid::bigint = {KEY}::bigint & 4294967295
        AND objsubid = 2
    """  # noqa: S608
    # Names of applications have at most 63 bytes, so no separators.
    TIME = "%Y%m%dT%H%M%SZ"

    def take(self) -> bool:
        # What a transaction does is seen when it ends, so its lock and name end then.
        self.is_of_transaction = of_it = self.connection.in_atomic_block
        function = "pg_try_advisory_xact_lock" if of_it else "pg_try_advisory_lock"
        row = self.ask(self.TAKE.format(function), [self.SPACE])
        taken, self.key, self.before = row or (False, 0, "")
        if taken:
            self.session = self.connection.connection
            name = f"django-rewind {datetime.now(timezone.utc):{self.TIME}} {me()}"
            self.ask(self.NAME, [name.encode()[:63].decode(errors="ignore"), of_it])
        return bool(taken)

    def let_go(self) -> None:
        if not self.is_of_transaction:
            self.ask(self.NAME, [self.before, False])
            self.ask("SELECT pg_advisory_unlock(%s, %s)", [self.SPACE, self.key])

    def holder(self) -> Holder | None:
        row = self.ask(self.HOLDER, [self.SPACE])
        if row is None:
            return None
        match = re.fullmatch(r"django-rewind (\d{8}T\d{6}Z) (.+)", row[0] or "")
        if match is None:
            return SOMEBODY
        try:
            since = datetime.strptime(match[1], self.TIME)
        except ValueError:
            return SOMEBODY
        return Holder(match[2], since.replace(tzinfo=timezone.utc))


class MySQLLock(SessionLock):
    """Nobody can list the locks of others, or read their variables. But who knows the
    name of a lock can ask for its holder: so the time is written in locks, one for each
    bit of it that is set, and one more when it is complete.
    """

    # Locks are the server's, and names have at most 64 characters.
    NAME = "CONCAT('django_rewind_', SHA1(DATABASE()), '{}')"
    COMPLETE = ".ok"
    BITS = [f".{bit}" for bit in range(32)]
    WHO = "SELECT user, host FROM information_schema.processlist WHERE id = %s"

    def take(self) -> bool:
        (taken,) = self._of("GET_LOCK({}, 0)", "")
        if taken is None:
            raise DatabaseError("GET_LOCK() gave NULL")
        if taken:
            self.session = self.connection.connection
            now = int(datetime.now(timezone.utc).timestamp())
            self.bits = [b for n, b in enumerate(self.BITS) if now >> n & 1]
            self._of("GET_LOCK({}, 0)", *self.bits, self.COMPLETE)
        return bool(taken)

    def let_go(self) -> None:
        # In this order, so that no time is read that is not whole.
        self._of("RELEASE_LOCK({})", self.COMPLETE, *self.bits, "")

    def is_taken(self) -> bool:
        taken_by, me = self.ask(
            f"SELECT {self._call('IS_USED_LOCK({})', '')}, CONNECTION_ID()"
        ) or (None, None)
        return taken_by not in (None, me)

    def holder(self) -> Holder | None:
        number, complete, *bits = self._of(
            "IS_USED_LOCK({})", "", self.COMPLETE, *self.BITS
        )
        if number is None:
            return None
        since = None
        if complete == number:
            seconds = sum(1 << n for n, used in enumerate(bits) if used == number)
            since = datetime.fromtimestamp(seconds, timezone.utc)
        row = self.ask(self.WHO, [number])
        if row is None:
            return SOMEBODY._replace(since=since)
        user, host = row
        return Holder(f"{user}@{host.rpartition(':')[0] or host}", since)

    def _of(self, function: str, *suffixes: str) -> tuple[Any, ...]:
        calls = ", ".join(self._call(function, suffix) for suffix in suffixes)
        return self.ask(f"SELECT {calls}") or (None,) * len(suffixes)

    def _call(self, function: str, suffix: str) -> str:
        return function.format(self.NAME.format(suffix))


class SQLiteLock(Lock):
    """A file beside the database, and SQLite's lock on it.

    There every process finds it that can write the database, in other containers too.
    The system frees the lock of a process that dies.
    """

    taken: sqlite3.Connection | None = None

    def __init__(self, connection: BaseDatabaseWrapper, database: str) -> None:
        super().__init__(connection)
        self.path = f"{os.path.realpath(database)}-migrating"

    def take(self) -> bool:
        connection = self._open("rwc")
        try:
            if self._write_and_lock(connection):
                self.taken = connection
                return True
        finally:
            if self.taken is None:
                connection.close()
        return False

    def _write_and_lock(self, connection: sqlite3.Connection) -> bool:
        now = datetime.now(timezone.utc).timestamp()
        mine = os.urandom(16).hex(), me(), now
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS holder (token, who, since)")
            connection.execute("DELETE FROM holder")
            connection.execute("INSERT INTO holder VALUES (?, ?, ?)", mine)
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            if not os.access(self.path, os.W_OK) and os.path.exists(self.path):
                raise
            return False
        # Another one may have been faster between the two transactions, or have
        # removed the file that this connection has.
        return self._read() == mine

    def give_back(self) -> None:
        if self.taken is None:
            return
        with closing(self.taken):
            self.taken = None
            # Windows removes no file that is open.
            with suppress(OSError):
                os.unlink(self.path)

    def is_taken(self) -> bool:
        if self.taken or not os.path.exists(self.path):
            return False
        with suppress(sqlite3.OperationalError), closing(self._open("rw")) as other:
            # It is left behind by a process that was killed.
            other.execute("BEGIN IMMEDIATE")
            return False
        return True

    def holder(self) -> Holder | None:
        if not self.is_taken():
            return None
        row = self._read()
        if row is None:
            return SOMEBODY
        return Holder(row[1], datetime.fromtimestamp(row[2], timezone.utc))

    def _read(self) -> tuple[Any, ...] | None:
        with suppress(sqlite3.OperationalError), closing(self._open("rw")) as reader:
            row: tuple[Any, ...] | None = reader.execute(
                "SELECT token, who, since FROM holder"
            ).fetchone()
            return row
        return None

    def _open(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{Path(self.path).as_uri()}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
        )


def find(connection: BaseDatabaseWrapper) -> Lock | None:
    """None for databases in memory, and for those that we know no lock of."""
    if connection.vendor == "postgresql":
        return PostgreSQLLock(connection)
    if connection.vendor == "mysql":
        return MySQLLock(connection)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA database_list")
            files = {name: path for _, name, path in cursor.fetchall()}
        return SQLiteLock(connection, files["main"]) if files["main"] else None
    return None


def me() -> str:
    from socket import gethostname

    return f"{user()}@{gethostname()}"


def user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (ImportError, KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid()) if hasattr(os, "getuid") else "somebody"
