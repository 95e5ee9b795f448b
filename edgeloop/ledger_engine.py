"""How the ledger's database is reached: SQLite in a folder, or whatever a URL names."""

import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa

BUSY_TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 0.01
READ_ONLY = "edgeloop_read_only"


def sqlite_url(home: Path) -> sa.URL:
    """The URL of a home folder's own ledger; the folder is made. Raises OSError."""
    home.mkdir(parents=True, exist_ok=True)
    return sa.URL.create("sqlite", database=str(home / "ledger.db"))


def make_engine(url: sa.URL) -> sa.Engine:
    """An engine whose transactions see and leave the ledger whole."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    sa.event.listen(engine, "connect", _sqlite_settings)
    sa.event.listen(engine, "begin", _begin)
    return engine


def reading(engine: sa.Engine) -> sa.Engine:
    """The same engine for transactions that only read: in SQLite they wait for no writer."""
    return engine.execution_options(**{READ_ONLY: True})


def _sqlite_settings(connection: sqlite3.Connection, _record: object) -> None:
    """WAL lets the server read while a run writes; the driver's own BEGIN comes too late."""
    connection.isolation_level = None
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Two processes that open a new ledger at once: here SQLite says "locked" without waiting.
    Source: https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as problem:
            busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _begin(connection: sa.Connection) -> None:
    """Who may write takes the write lock first: two schedulers must not both read an expired
    lease."""
    only_reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN DEFERRED" if only_reads else "BEGIN IMMEDIATE")
