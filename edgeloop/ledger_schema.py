"""The ledger's tables and their migrations: ordered functions with a version row."""

from collections.abc import Callable
from types import SimpleNamespace

import sqlalchemy as sa

from edgeloop.errors import LedgerError

metadata = sa.MetaData()


def _sequence() -> sa.Column[int]:
    return sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


tables = SimpleNamespace(
    version=sa.Table("version", metadata, sa.Column("version", sa.Integer, nullable=False)),
    runs=sa.Table(
        "runs",
        metadata,
        sa.Column("id", sa.Text, primary_key=True),
        _text("model"),
        _text("trigger"),
        _text("path"),
        _text("dataset_digest"),
        _text("started_at"),
        _text("finished_at", nullable=True),
        _text("result", nullable=True),
        sa.Column("document", sa.JSON, nullable=False),
    ),
    deployments=sa.Table(
        "deployments",
        metadata,
        _sequence(),
        _text("model"),
        _text("bundle_digest"),
        _text("path"),
        _text("at"),
        _text("reason"),
    ),
    deployed=sa.Table(
        "deployed",
        metadata,
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
    ),
    labels=sa.Table(
        "labels",
        metadata,
        _sequence(),
        _text("model"),
        _text("row_id"),
        _text("text"),
        _text("label"),
        _text("source"),
        _text("at"),
        sa.Column("inclusion_probability", sa.Float, nullable=True),
        _text("rule", nullable=True),
        sa.UniqueConstraint("model", "row_id", "label"),
    ),
    verdicts=sa.Table(
        "verdicts",
        metadata,
        _sequence(),
        _text("model"),
        _text("bundle_digest"),
        _text("at"),
        _text("document"),
    ),
    decisions=sa.Table(
        "decisions",
        metadata,
        _sequence(),
        _text("model"),
        _text("at"),
        _text("action"),
        _text("document"),
    ),
    leases=sa.Table(
        "leases",
        metadata,
        sa.Column("model", sa.Text, primary_key=True),
        _text("holder"),
        sa.Column("fence", sa.Integer, nullable=False),
        _text("until"),
    ),
)


def _first_tables(connection: sa.Connection) -> None:
    metadata.create_all(connection)


def _how_rows_were_drawn(connection: sa.Connection) -> None:
    """Columns that a ledger of version 1 lacks; a new one has them from the start."""
    known = {column["name"] for column in sa.inspect(connection).get_columns("labels")}
    for name, kind in (("inclusion_probability", "FLOAT"), ("rule", "TEXT")):
        if name not in known:
            connection.execute(sa.text(f"ALTER TABLE labels ADD COLUMN {name} {kind}"))


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first_tables, _how_rows_were_drawn)


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to the newest version, in the caller's transaction.

    Raises LedgerError where the ledger was written by a newer edgeloop.
    """
    tables.version.create(connection, checkfirst=True)
    row = connection.execute(sa.select(tables.version.c.version)).first()
    version = 0 if row is None else int(row.version)
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger has version {version}, this edgeloop knows {len(MIGRATIONS)}: upgrade it"
        )
    for migration in MIGRATIONS[version:]:
        migration(connection)
    if row is None:
        connection.execute(tables.version.insert().values(version=len(MIGRATIONS)))
    elif version < len(MIGRATIONS):
        connection.execute(tables.version.update().values(version=len(MIGRATIONS)))
