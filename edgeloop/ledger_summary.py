"""The ledger of one model in numbers, for metrics: counted by the database, no text is read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

import sqlalchemy as sa

from edgeloop.holder import is_gone
from edgeloop.ledger_rows import FEEDBACK
from edgeloop.ledger_schema import tables
from edgeloop.records import LedgerAction

OTHER = "other"
SAMPLE = "sample"
SOURCES = (FEEDBACK, SAMPLE)
# `roll back` of the records is `roll_back` here: metrics' label values have no spaces.
ACTIONS = tuple(action.replace(" ", "_") for action in get_args(LedgerAction))
COMMAND = "edgeloop "
TRIGGERS = ("run", "retrain", OTHER)
RESULTS = ("built", "infeasible", "forgotten", "promoted", "rejected", OTHER)
CHECKS = ("golden", "fresh")
BOUNDS = {"estimate": "drop_ratio", "upper": "upper_bound_ratio"}


@dataclass(frozen=True)
class LedgerSummary:
    """Counts since the ledger began; times in seconds since the epoch, 0 for never.

    `runs`: ended runs by (trigger, result). `unfinished_runs`: begun after the last one that ended,
    not ended, and nobody holds the lease. `missing_labels`: what the last decision still asked
    people for. `rollbacks`: deployments of a bundle that was deployed before. `gate_drops`:
    shares of the rows that the last challenger to reach its gate lost there, by (check, bound).
    """

    runs: Mapping[tuple[str, str], int]
    unfinished_runs: int
    in_progress: bool
    labels: Mapping[str, int]
    decisions: Mapping[str, int]
    alarms: int
    missing_labels: float
    last_decision_seconds: float
    promotions: int
    rollbacks: int
    last_promotion_seconds: float
    cooldown_until_seconds: float
    gate_drops: Mapping[tuple[str, str], float]


def summarize(connection: sa.Connection, model: str, now: str) -> LedgerSummary:
    """Read a model's summary; `now` as edgeloop.ledger.utc_now writes it.

    Raises ValueError where a stored time or document is damaged.
    """
    in_progress = _in_progress(connection, model, now)
    first, again, last = _deployments(connection, model)
    figures, decided_seconds = _last_decision(connection, model)
    ended = _last_retraining_seconds(connection, model)
    cooldown = timedelta(hours=figures.get("cooldown_hours", 0.0)).total_seconds()
    return LedgerSummary(
        runs=_runs(connection, model),
        unfinished_runs=0 if in_progress else _unfinished(connection, model),
        in_progress=in_progress,
        labels=_labels(connection, model),
        decisions=_decisions(connection, model),
        alarms=_count(connection, tables.verdicts, tables.verdicts.c.model == model),
        missing_labels=figures.get("missing", 0.0),
        last_decision_seconds=decided_seconds,
        promotions=first,
        rollbacks=again,
        last_promotion_seconds=last,
        cooldown_until_seconds=ended + cooldown if ended else 0.0,
        gate_drops=_gate_drops(connection, model),
    )


def _count(connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(*where)
    return int(connection.execute(query).scalar_one())


def _grouped(
    connection: sa.Connection, model: str, columns: Sequence[sa.Column[Any]]
) -> Counter[tuple[Any, ...]]:
    """Rows of the columns' table by their values."""
    table = columns[0].table
    query = sa.select(*columns, sa.func.count()).where(table.c.model == model).group_by(*columns)
    return Counter({tuple(row[:-1]): row[-1] for row in connection.execute(query)})


def _known(value: str, names: Sequence[str]) -> str:
    return value if value in names else OTHER


def _runs(connection: sa.Connection, model: str) -> dict[tuple[str, str], int]:
    found = dict.fromkeys(((t, r) for t in TRIGGERS for r in RESULTS), 0)
    columns = (tables.runs.c.trigger, tables.runs.c.result)
    for (trigger, result), count in _grouped(connection, model, columns).items():
        if result is not None:
            name = _known(trigger.removeprefix(COMMAND), TRIGGERS)
            found[name, _known(result, RESULTS)] += count
    return found


def _unfinished(connection: sa.Connection, model: str) -> int:
    """Of the runs since the last one that ended: what came before it was given up for it."""
    runs = tables.runs.c
    ended = sa.select(sa.func.max(runs.started_at)).where(
        runs.model == model, runs.finished_at.is_not(None)
    )
    since = connection.execute(ended).scalar_one() or ""
    return _count(
        connection,
        tables.runs,
        runs.model == model,
        runs.finished_at.is_(None),
        runs.started_at > since,
    )


def _in_progress(connection: sa.Connection, model: str, now: str) -> bool:
    row = connection.execute(sa.select(tables.leases).where(tables.leases.c.model == model)).first()
    return row is not None and row.until > now and not is_gone(row.holder)


def _labels(connection: sa.Connection, model: str) -> dict[str, int]:
    found = dict.fromkeys(SOURCES, 0)
    # A sample's source is the path of the answers that it was drawn from.
    for (source,), count in _grouped(connection, model, (tables.labels.c.source,)).items():
        found[FEEDBACK if source == FEEDBACK else SAMPLE] += count
    return found


def _decisions(connection: sa.Connection, model: str) -> dict[str, int]:
    found = dict.fromkeys(ACTIONS, 0)
    for (action,), count in _grouped(connection, model, (tables.decisions.c.action,)).items():
        found[action.replace(" ", "_")] += count
    return found


def _last_decision(connection: sa.Connection, model: str) -> tuple[dict[str, float], float]:
    """Its figures, `missing` among them where it asks for labels, and when it was made."""
    decisions = tables.decisions.c
    query = (
        sa.select(decisions.document, decisions.at, decisions.action)
        .where(decisions.model == model)
        .order_by(decisions.sequence.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return {}, 0.0
    figures: dict[str, float] = json.loads(row.document)["figures"]
    if row.action == "label":
        figures["missing"] = max(figures["labels_per_round"] - figures["new_labels"], 0.0)
    return figures, _seconds(row.at)


def _deployments(connection: sa.Connection, model: str) -> tuple[int, int, float]:
    """Bundles deployed for the first time, deployed again, and the last of the first times."""
    deployments = tables.deployments.c
    firsts = (
        sa.select(sa.func.min(deployments.sequence).label("sequence"))
        .where(deployments.model == model)
        .group_by(deployments.bundle_digest)
        .subquery()
    )
    query = sa.select(sa.func.count(), sa.func.max(deployments.at)).where(
        deployments.sequence.in_(sa.select(firsts.c.sequence))
    )
    first, last = connection.execute(query).one()
    total = _count(connection, tables.deployments, deployments.model == model)
    return first, total - first, 0.0 if last is None else _seconds(last)


def _last_retraining_seconds(connection: sa.Connection, model: str) -> float:
    runs = tables.runs.c
    query = sa.select(sa.func.max(runs.finished_at)).where(
        runs.model == model, runs.trigger == f"{COMMAND}retrain"
    )
    last = connection.execute(query).scalar_one()
    return 0.0 if last is None else _seconds(last)


def _gate_drops(connection: sa.Connection, model: str) -> dict[tuple[str, str], float]:
    found = dict.fromkeys(((check, bound) for check in CHECKS for bound in BOUNDS), 0.0)
    runs = tables.runs.c
    # Only these two come from a gate.
    query = (
        sa.select(runs.document)
        .where(
            runs.model == model,
            runs.trigger == f"{COMMAND}retrain",
            runs.result.in_(("promoted", "rejected")),
        )
        .order_by(runs.finished_at.desc())
        .limit(1)
    )
    document = connection.execute(query).scalar_one_or_none()
    gate = {} if document is None else document.get("gate", {})
    for check in CHECKS:
        for bound, field in BOUNDS.items():
            found[check, bound] = float(gate.get(check, {}).get(field, 0.0))
    return found


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
