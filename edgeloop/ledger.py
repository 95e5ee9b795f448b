"""The ledger: what happened and what is deployed.

SQLite in $EDGELOOP_HOME/ledger.db (WAL) or PostgreSQL by URL. History is append-only; what is
deployed now is one row per model, moved in one transaction. A lease with a fencing number makes
retraining single-flight.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from edgeloop import ledger_labels
from edgeloop.errors import LedgerError
from edgeloop.holder import is_gone, this_process
from edgeloop.ledger_engine import make_engine, reading, sqlite_url
from edgeloop.ledger_rows import (
    FEEDBACK,
    Deployment,
    LabelledRow,
    Lease,
    RunEntry,
    RunResult,
    StoredLabel,
)
from edgeloop.ledger_schema import migrate, tables
from edgeloop.ledger_summary import LedgerSummary, summarize
from edgeloop.records import Decision, Verdict

Stored = TypeVar("Stored", Verdict, Decision)
__all__ = [
    "FEEDBACK",
    "Deployment",
    "LabelledRow",
    "Lease",
    "Ledger",
    "RunEntry",
    "RunResult",
    "StoredLabel",
    "default_home",
    "open_ledger",
    "utc_now",
]


def utc_now() -> str:
    """The time now as text that sorts: 2026-11-23T03:00:00.123456+00:00."""
    return _in_seconds(0.0)


def _in_seconds(seconds: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="microseconds")


def default_home() -> Path:
    """$EDGELOOP_HOME, else .edgeloop in the current folder."""
    return Path(os.environ.get("EDGELOOP_HOME", ".edgeloop")).resolve()


class Ledger:
    """Open with `open_ledger`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reading = reading(engine)

    @contextmanager
    def _transaction(self, read_only: bool = False) -> Iterator[sa.Connection]:
        engine = self._reading if read_only else self._engine
        try:
            with engine.begin() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise LedgerError(
                f"{self._engine.url.render_as_string(hide_password=True)}: {_cause(problem)}; "
                "check that the file or server can be reached and written"
            ) from problem

    # -- labels ------------------------------------------------------------------------------

    def add_labels(self, model: str, rows: Iterable[LabelledRow], source: str) -> int:
        """Store labels; a row that is known with the same label is left alone. Returns how many
        were new. All or none are stored."""
        with self._transaction() as connection:
            return ledger_labels.store(connection, model, rows, source, utc_now())

    def last_label(self, model: str) -> int:
        """The number of the label that was stored last; 0 without labels."""
        with self._transaction(read_only=True) as connection:
            return ledger_labels.last(connection, model)

    def labels_after(self, model: str, sequence: int, most: int) -> list[StoredLabel]:
        """Up to `most` labels that were stored after the one of that number, in order."""
        with self._transaction(read_only=True) as connection:
            return ledger_labels.after(connection, model, sequence, most)

    def labels(self, model: str) -> tuple[list[LabelledRow], list[str]]:
        """Rows with one label, in order of arrival, and the ids of rows whose labels disagree."""
        with self._transaction(read_only=True) as connection:
            found = ledger_labels.everything(connection, model)
        by_id: dict[str, list[LabelledRow]] = {}
        for row in found:
            by_id.setdefault(row.id, []).append(row)
        agreed = [rows[0] for rows in by_id.values() if len(rows) == 1]
        return agreed, [row_id for row_id, rows in by_id.items() if len(rows) > 1]

    # -- verdicts and decisions --------------------------------------------------------------

    def add_verdict(self, verdict: Verdict) -> None:
        """Store a drift alarm."""
        with self._transaction() as connection:
            connection.execute(
                tables.verdicts.insert().values(
                    model=verdict.model,
                    bundle_digest=verdict.bundle_digest,
                    at=verdict.at,
                    document=verdict.model_dump_json(),
                )
            )

    def verdicts(self, model: str) -> list[Verdict]:
        """Every drift alarm of a model, oldest first. Raises LedgerError where one is damaged."""
        return self._documents(tables.verdicts, Verdict, model)

    def add_decision(self, decision: Decision) -> None:
        """Store a decision."""
        with self._transaction() as connection:
            connection.execute(
                tables.decisions.insert().values(
                    model=decision.model,
                    at=decision.at,
                    action=decision.action,
                    document=decision.model_dump_json(),
                )
            )

    def decisions(self, model: str) -> list[Decision]:
        """Every decision about a model, oldest first. Raises LedgerError where one is damaged."""
        return self._documents(tables.decisions, Decision, model)

    def _documents(self, table: sa.Table, kind: type[Stored], model: str) -> list[Stored]:
        query = sa.select(table).where(table.c.model == model).order_by(table.c.sequence)
        with self._transaction(read_only=True) as connection:
            rows = connection.execute(query).all()
        return [_parsed(kind, table.name, row.sequence, row.document) for row in rows]

    # -- runs --------------------------------------------------------------------------------

    def start_run(
        self, run_id: str, model: str, trigger: str, path: Path, dataset_digest: str
    ) -> None:
        """Note that a run began; a run that is known is left as it is."""
        with self._transaction() as connection:
            known = sa.select(tables.runs.c.id).where(tables.runs.c.id == run_id)
            if connection.execute(known).first() is None:
                connection.execute(
                    tables.runs.insert().values(
                        id=run_id,
                        model=model,
                        trigger=trigger,
                        path=str(path),
                        dataset_digest=dataset_digest,
                        started_at=utc_now(),
                        document={},
                    )
                )

    def finish_run(self, finished: RunResult) -> None:
        """Note how a run ended; a run that ended before is left as it is.

        Raises LedgerError where it was never started.
        """
        with self._transaction() as connection:
            self._finish(connection, finished)

    @staticmethod
    def _finish(connection: sa.Connection, finished: RunResult) -> None:
        connection.execute(
            tables.runs.update()
            .where(
                tables.runs.c.id == finished.id,
                # A busy machine may have made a budget infeasible, another deployment may have
                # been forgotten: these ends may be overtaken.
                tables.runs.c.finished_at.is_(None)
                | tables.runs.c.result.in_(("infeasible", "forgotten")),
            )
            .values(finished_at=utc_now(), result=finished.result, document=finished.document)
        )
        known = sa.select(tables.runs.c.id).where(tables.runs.c.id == finished.id)
        if connection.execute(known).first() is None:
            raise LedgerError(f"run {finished.id} is not in the ledger; it was never started there")

    def runs(self, model: str) -> list[RunEntry]:
        """Every run of a model, oldest first."""
        query = (
            sa.select(tables.runs)
            .where(tables.runs.c.model == model)
            .order_by(tables.runs.c.started_at)
        )
        with self._transaction(read_only=True) as connection:
            return [RunEntry(**row._mapping) for row in connection.execute(query)]

    # -- deployments -------------------------------------------------------------------------

    def promote(
        self,
        model: str,
        bundle_digest: str,
        path: Path,
        reason: str,
        lease: Lease | None = None,
        finished: RunResult | None = None,
        expected: Deployment | None = None,
    ) -> Deployment:
        """Make a bundle the one to serve: history, pointer and the end of the run that made it
        move in one transaction. `expected`: what this bundle was compared with, if with anything.

        Raises LedgerError where the lease was taken over by somebody else, or something else than
        `expected` is deployed by now.
        """
        at = utc_now()
        with self._transaction() as connection:
            if lease is not None:
                self._check_fence(connection, lease)
            if expected is not None:
                self._check_deployed(connection, expected)
            sequence = connection.execute(
                tables.deployments.insert().values(
                    model=model, bundle_digest=bundle_digest, path=str(path), at=at, reason=reason
                )
            ).inserted_primary_key[0]  # type: ignore[index]
            connection.execute(tables.deployed.delete().where(tables.deployed.c.model == model))
            connection.execute(tables.deployed.insert().values(model=model, sequence=sequence))
            if finished is not None:
                self._finish(connection, finished)
        return Deployment(sequence, model, bundle_digest, path, at, reason)

    @staticmethod
    def _check_deployed(connection: sa.Connection, expected: Deployment) -> None:
        query = sa.select(tables.deployed.c.sequence).where(
            tables.deployed.c.model == expected.model
        )
        sequence = connection.execute(query.with_for_update()).scalar_one_or_none()
        if sequence != expected.sequence:
            raise LedgerError(
                f"the deployment changed meanwhile: {expected.model} is at number {sequence}, not "
                f"{expected.sequence} any more; nothing was promoted; run again"
            )

    def deployed(self, model: str) -> Deployment | None:
        """What should be served now."""
        query = (
            sa.select(tables.deployments)
            .join(tables.deployed, tables.deployed.c.sequence == tables.deployments.c.sequence)
            .where(tables.deployed.c.model == model)
        )
        with self._transaction(read_only=True) as connection:
            row = connection.execute(query).first()
        return None if row is None else _deployment(row)

    def deployments(self, model: str) -> list[Deployment]:
        """Everything that was ever deployed, oldest first."""
        query = (
            sa.select(tables.deployments)
            .where(tables.deployments.c.model == model)
            .order_by(tables.deployments.c.sequence)
        )
        with self._transaction(read_only=True) as connection:
            return [_deployment(row) for row in connection.execute(query)]

    # -- figures -----------------------------------------------------------------------------

    def summary(self, model: str) -> LedgerSummary:
        """A model's counts and times, as metrics. Raises LedgerError where a row is damaged."""
        with self._transaction(read_only=True) as connection:
            try:
                return summarize(connection, model, utc_now())
            except (ValueError, KeyError) as problem:
                raise LedgerError(
                    f"the ledger's rows of {model} hold a damaged value ({problem}); put the "
                    "ledger back from a copy"
                ) from problem

    # -- lease -------------------------------------------------------------------------------

    def acquire(self, model: str, seconds: float) -> Lease | None:
        """Take the lease where nobody holds a living one; None where somebody does. A holder on
        this machine that is gone does not hold it any more."""
        holder, until = this_process(), _in_seconds(seconds)
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(tables.leases).where(tables.leases.c.model == model)
            ).first()
            if row is None:
                connection.execute(
                    tables.leases.insert().values(model=model, holder=holder, fence=1, until=until)
                )
                return Lease(model, holder, 1)
            if row.until > utc_now() and not is_gone(row.holder):
                return None
            taken = connection.execute(
                tables.leases.update()
                .where(tables.leases.c.model == model, tables.leases.c.fence == row.fence)
                .values(holder=holder, fence=row.fence + 1, until=until)
            ).rowcount
        return Lease(model, holder, row.fence + 1) if taken else None

    def renew(self, lease: Lease, seconds: float) -> None:
        """Hold the lease for longer. Raises LedgerError where it was taken over."""
        with self._transaction() as connection:
            self._check_fence(connection, lease)
            connection.execute(
                tables.leases.update()
                .where(tables.leases.c.model == lease.model)
                .values(until=_in_seconds(seconds))
            )

    def release(self, lease: Lease) -> None:
        """Give the lease back; a lease that was taken over stays with its new holder."""
        with self._transaction() as connection:
            connection.execute(
                tables.leases.update()
                .where(tables.leases.c.model == lease.model, tables.leases.c.fence == lease.fence)
                .values(until=utc_now())
            )

    @staticmethod
    def _check_fence(connection: sa.Connection, lease: Lease) -> None:
        query = sa.select(tables.leases.c.fence).where(tables.leases.c.model == lease.model)
        fence = connection.execute(query.with_for_update()).scalar_one()
        if fence != lease.fence:
            raise LedgerError(
                f"the lease on {lease.model} passed to another process (fence {fence}, ours "
                f"{lease.fence}); nothing was promoted. `edgeloop history` shows what it did"
            )


def _cause(problem: Exception) -> object:
    """The driver's own words: SQLAlchemy adds the statement with people's texts in it."""
    return getattr(problem, "orig", None) or problem


def _parsed(kind: type[Stored], table: str, sequence: int, document: str) -> Stored:
    try:
        return kind.model_validate_json(document)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise LedgerError(
            f"the ledger's table {table}, row {sequence}: {where}: {first['msg']}; put the ledger "
            "back from a copy, or remove this row"
        ) from None


def _deployment(row: Any) -> Deployment:
    return Deployment(
        row.sequence, row.model, row.bundle_digest, Path(row.path), row.at, row.reason
    )


def open_ledger(home: Path, url: str | None = None) -> Ledger:
    """Open the ledger of a home folder, or of a URL where one is given, and migrate it.

    Raises LedgerError where it cannot be reached, written, or is from a newer edgeloop.
    """
    place = "the ledger's URL" if url else str(home)
    try:
        where = sa.make_url(url) if url else sqlite_url(home)
        place = where.render_as_string(hide_password=True)
        engine = make_engine(where)
        with engine.begin() as connection:
            migrate(connection)
    except (SQLAlchemyError, OSError, ImportError) as problem:
        raise LedgerError(
            f"{place}: the ledger does not open ({_cause(problem)}). Check that it can be reached "
            "and written; a damaged file must be put back from a copy, or moved away to begin anew"
        ) from problem
    return Ledger(engine)
