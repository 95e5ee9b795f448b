"""The ledger's table of labels: what is written to it and read from it, in the caller's
transaction."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from edgeloop.ledger_rows import LabelledRow, StoredLabel
from edgeloop.ledger_schema import tables


def store(
    connection: sa.Connection, model: str, rows: Iterable[LabelledRow], source: str, at: str
) -> int:
    """Insert what is not known with the same label; how many rows that were."""
    added, labels = 0, tables.labels
    for row in rows:
        known = sa.select(labels.c.sequence).where(
            labels.c.model == model, labels.c.row_id == row.id, labels.c.label == row.label
        )
        if connection.execute(known).first() is not None:
            continue
        values = {
            "model": model,
            "row_id": row.id,
            "text": row.text,
            "label": row.label,
            "source": source,
            "at": at,
            "inclusion_probability": row.inclusion_probability,
            "rule": row.rule,
        }
        connection.execute(labels.insert().values(values))
        added += 1
    return added


def everything(connection: sa.Connection, model: str) -> list[LabelledRow]:
    """Every label, in order of arrival."""
    query = (
        sa.select(tables.labels)
        .where(tables.labels.c.model == model)
        .order_by(tables.labels.c.sequence)
    )
    return [_labelled(row) for row in connection.execute(query)]


def last(connection: sa.Connection, model: str) -> int:
    """The number of the label that was stored last; 0 without labels."""
    labels = tables.labels
    query = sa.select(sa.func.max(labels.c.sequence)).where(labels.c.model == model)
    return connection.execute(query).scalar_one() or 0


def after(connection: sa.Connection, model: str, sequence: int, most: int) -> list[StoredLabel]:
    """Up to `most` labels behind the one of that number, in order."""
    labels, earlier = tables.labels, tables.labels.alias()
    corrects = sa.exists().where(
        earlier.c.model == labels.c.model,
        earlier.c.row_id == labels.c.row_id,
        earlier.c.sequence < labels.c.sequence,
    )
    query = (
        sa.select(labels, corrects.label("corrects"))
        .where(labels.c.model == model, labels.c.sequence > sequence)
        .order_by(labels.c.sequence)
        .limit(most)
    )
    return [
        StoredLabel(row.sequence, _labelled(row), bool(row.corrects))
        for row in connection.execute(query)
    ]


def _labelled(row: Any) -> LabelledRow:
    return LabelledRow(
        row.row_id, row.text, row.label, row.source, row.inclusion_probability, row.rule
    )
