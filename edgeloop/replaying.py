"""Stored traffic against a running server or a bundle. Command: `edgeloop monitor replay`."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import RecipeError
from edgeloop.models import open_model
from edgeloop.rows import first_text
from edgeloop.rundir import write_atomic
from edgeloop.stored import is_scores, read_stored
from monitor.family import Family
from monitor.offline import Offline, OfflineResult, Settings, first_verdict, replay_offline
from monitor.replay import PROGRESS_SECONDS, ReplayResult, replay
from monitor.scored import Scored, ScoreFile, ScoreKeeper, score_texts

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Traffic:
    """Scored rows to come, how many, and how many captured ones were left out."""

    chunks: Iterator[Scored]
    rows: int
    left_out: int = 0


def replay_served(file: Path, url: str, stop_at_alarm: bool, progress: Progress) -> dict[str, Any]:
    """A file's texts, sent once each. Raises EdgeloopError for a file that does not read or holds
    no texts, a server that does not answer, and a model that answers something else than labels of
    single texts."""
    if is_scores(file):
        raise RecipeError(
            f"{file}: scores are no requests; replay them with --bundle, or send the texts"
        )
    stored = read_stored(file)
    rows = [(row.id, first_text(row.asked), row.label) for row in stored.rows]
    result = replay(rows, url, progress, stop_at_alarm)
    return {**served_document(result), "left_out": stored.left_out}


def replay_bundle(
    file: Path, folder: Path, settings: Settings, scores: Path | None, progress: Progress
) -> dict[str, Any]:
    """A file's rows through the bundle's detectors in this process; `scores`: where the embeddings,
    probabilities and features of texts are kept, so that the next replay need not make them.

    Raises EdgeloopError for a file that does not read or does not fit the bundle, and for a bundle
    that does not open.
    """
    if scores is not None and is_scores(file):
        raise RecipeError(f"{file}: holds scores already; --scores keeps those of texts")
    bundle = open_bundle(folder)
    offline = Offline(bundle, settings)
    family = offline.reference.family
    traffic = open_traffic(file, bundle, family)
    keeper = ScoreKeeper(bundle, family) if scores is not None else None
    chunks = traffic.chunks if keeper is None else keeper.watch(traffic.chunks)
    started = time.monotonic()
    result = replay_offline(chunks, offline, Pace(traffic.rows, progress))
    seconds = time.monotonic() - started
    document = offline_document(result, bundle)
    if keeper is not None and scores is not None:
        document["scores"] = {"file": str(scores), "rows": keeper.save(scores, write_atomic)}
    pace = result.rows / seconds if seconds > 0.0 else 0.0
    return {**document, "left_out": traffic.left_out, "rows_per_second": pace}


def open_traffic(file: Path, bundle: Bundle, family: Family) -> Traffic:
    """A file's rows as the bundle's model sees them; `family`: the bundle's. Raises
    EdgeloopError."""
    if is_scores(file):
        scored = ScoreFile(file, bundle, family)
        return Traffic(scored.chunks(), scored.rows)
    stored = read_stored(file, bundle)
    model = open_model(bundle.path, bundle.manifest.max_tokens)
    return Traffic(
        score_texts(stored.rows, bundle, model, family), len(stored.rows), stored.left_out
    )


class Pace:
    """Says every few seconds how far it is."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._said >= PROGRESS_SECONDS or done == self._total:
            self._said = time.monotonic()
            self._progress(f"replay: {done} of {self._total} rows")


def served_document(result: ReplayResult) -> dict[str, Any]:
    """The result as plain values."""
    verdict = result.verdict
    return {
        "sent": result.sent,
        "failed": result.failed,
        "accuracy": result.accuracy,
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
        "requests_until_alarm": result.requests_until_alarm,
        "alarmed_before": result.alarmed_before,
        "armed": result.armed,
        "log_evidence": result.log_evidence,
        "threshold": result.threshold,
        "evidence": [list(point) for point in result.evidence],
    }


def offline_document(result: OfflineResult, bundle: Bundle) -> dict[str, Any]:
    """The same names as `served_document` where they mean the same, and every alarm."""
    verdict = first_verdict(result, bundle)
    alarms = [
        {
            **dataclasses.asdict(alarm),
            "detectors": list(alarm.detectors),
            "reference_rows": list(alarm.reference_rows),
            **{
                name: [movement.model_dump(mode="json") for movement in getattr(alarm, name)]
                for name in ("words", "classes", "features", "ngrams")
            },
        }
        for alarm in result.alarms
    ]
    return {
        "sent": result.rows,
        "failed": 0,
        "skipped": result.skipped,
        "requests": result.requests,
        "accuracy": result.accuracy,
        "labelled": result.labelled,
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
        "requests_until_alarm": result.alarms[0].row if result.alarms else None,
        "alarmed_before": False,
        "armed": result.armed,
        "reason": result.reason,
        "may_alarm": result.may_alarm,
        "log_evidence": result.log_evidence,
        "threshold": result.threshold,
        "secondary_threshold": result.secondary_threshold,
        "threshold_source": result.threshold_source,
        "target_run_length": result.target_run_length,
        "detectors": list(result.detectors),
        "rows_without_features": result.rows_without_features,
        "evidence_ratio": result.evidence_ratio,
        "alarms": alarms,
        "evidence": [list(point) for point in result.evidence],
        "highest_ratios": [list(point) for point in result.ratios],
    }
