"""What a drift report says: traffic through a bundle's detector and against a reference, or tables
of numbers against one another. Command: `edgeloop monitor report`. The page: drift_page.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.drift_accuracy import estimate, estimated, measured
from edgeloop.drift_page import drift_page
from edgeloop.errors import DatasetError
from edgeloop.findings import DriftReport, Estimate, findings, onset_alarm
from edgeloop.replaying import Pace, open_traffic
from edgeloop.rundir import write_atomic
from edgeloop.stored import is_scores, read_stored
from monitor.compare import CLASSIFIED_ROWS, Comparison, compare_tables
from monitor.domain import Separation, hashed_ngrams, separate, standardised, word_counts
from monitor.gather import ClassMix, Gathered, class_mix, separating_words
from monitor.offline import Offline, Settings
from monitor.reference import ReferenceData
from monitor.sampling import Reservoir
from monitor.scored import Scored, ScoreFile
from monitor.tables import Joined, Stretch, Table, open_table

Progress = Callable[[str], None]

SEED = 0


@dataclass(frozen=True)
class Asked:
    """Which files; `baseline_rows`: of the traffic, in place of a reference file."""

    bundle: Path | None
    reference: Path | None
    traffic: tuple[Path, ...]
    baseline_rows: int | None
    window_rows: int | None


def write_drift_report(asked: Asked, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the HTML file; returns what it found as plain values.

    Raises EdgeloopError for files that do not read, do not fit the bundle or share no column.
    """
    report = _tables(asked, progress) if asked.bundle is None else _bundle(asked, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, drift_page(report).encode())
    return _document(report, out)


def _tables(asked: Asked, progress: Progress) -> DriftReport:
    traffic: Table = Joined([open_table(path) for path in asked.traffic])
    if asked.reference is not None:
        reference = open_table(asked.reference)
    else:
        assert asked.baseline_rows is not None
        reference, traffic = _divided(traffic, asked.baseline_rows)
    comparison = compare_tables(reference, traffic, asked.window_rows, 0, progress)
    return DriftReport(
        title=f"{comparison.recent} against {comparison.reference}",
        rows=comparison.recent_rows,
        comparison=comparison,
        separation=comparison.separation,
        separated_by="the features",
    )


def _divided(traffic: Table, rows: int) -> tuple[Table, Table]:
    if traffic.rows <= rows:
        raise DatasetError(
            f"{traffic.name}: has {traffic.rows} rows, not more than the {rows} of "
            "--baseline-rows; name fewer"
        )
    first = Stretch(traffic, 0, rows, f"the first {rows:,} rows")
    return first, Stretch(traffic, rows, None, f"{traffic.name} after them")


@dataclass
class _Source:
    """Files of rows that go with a bundle, read more than once."""

    bundle: Bundle
    files: Sequence[Path]
    known: ReferenceData
    progress: Progress
    left_out: int = 0

    @property
    def is_scores(self) -> bool:
        return all(map(is_scores, self.files))

    def gather(self, offline: Offline | None) -> Gathered:
        """Score or read all rows; they pass the detector where one is given."""
        family = self.known.family
        gathered = Gathered(family.names, self.known.accuracy)
        for file in self.files:
            traffic = open_traffic(file, self.bundle, family)
            self.left_out += traffic.left_out
            pace, done = Pace(traffic.rows, self.progress), 0
            for chunk in traffic.chunks:
                gathered.add(chunk)
                done += len(chunk)
                pace(done)
                if offline is not None:
                    offline.take(chunk)
        return gathered

    def sample(self, start: int, stop: int | None) -> "_Sample":
        """Of the rows [start, stop): texts, and embeddings where the files hold them."""
        texts, vectors = Reservoir(CLASSIFIED_ROWS, SEED), Reservoir(CLASSIFIED_ROWS, SEED)
        at = 0
        for file in self.files:
            if not is_scores(file):
                rows = read_stored(file, self.bundle).rows
                kept = rows[_within(at, len(rows), start, stop)]
                texts.add(_objects([row.asked for row in kept]))
                at += len(rows)
                continue
            for chunk in ScoreFile(file, self.bundle, self.known.family).chunks():
                own = chunk.at(_within(at, len(chunk), start, stop))
                at += len(chunk)
                vectors.add(own.embeddings[_is_finite(own)])
                if own.texts is not None:
                    texts.add(own.texts)
        return _Sample(list(texts.rows()), vectors.rows())


@dataclass(frozen=True)
class _Sample:
    texts: list[Any]
    embeddings: NDArray[np.float32]


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _within(at: int, length: int, start: int, stop: int | None) -> slice:
    """The part of a chunk of `length` rows from row `at` on that lies in [start, stop)."""
    end = length if stop is None else min(max(stop - at, 0), length)
    return slice(min(max(start - at, 0), end), end)


def _is_finite(chunk: Scored) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(chunk.embeddings).all(axis=1))


def _bundle(asked: Asked, progress: Progress) -> DriftReport:
    assert asked.bundle is not None
    bundle = open_bundle(asked.bundle)
    offline = Offline(bundle, Settings(restart=True))
    known = offline.reference
    source = _Source(bundle, asked.traffic, known, progress)
    gathered = source.gather(offline)
    result = offline.result()
    baseline = _baseline(asked, source, gathered)
    first_row = asked.baseline_rows or 0
    # Rows count from 1; what came before the drift would dilute what moved.
    onset = max(onset_alarm(result).onset_row - 1, first_row) if result.alarms else first_row
    comparison = None
    if baseline is not None:
        traffic = Stretch(gathered.table("the traffic"), first_row, None, "the traffic")
        comparison = compare_tables(
            baseline.table, traffic, asked.window_rows, onset - first_row, progress
        )
    recent = source.sample(onset, None)
    separation, by = (None, "") if baseline is None else _separation(baseline.sample, recent)
    risen, fallen = _words(known, baseline, recent)
    return DriftReport(
        title=f"{bundle.manifest.name}: {', '.join(path.name for path in asked.traffic)}",
        rows=result.rows,
        bundle=bundle.digest,
        evidence=result,
        recent_from=onset + 1,
        comparison=comparison,
        separation=separation,
        separated_by=by,
        classes=_classes(known, baseline, gathered, onset),
        risen=risen,
        fallen=fallen,
        accuracy=measured(gathered.right),
        estimates=estimated(gathered.estimates),
        recent_estimate=estimate(gathered.estimates, np.arange(onset, gathered.rows)),
        floor=None if known.accuracy is None else known.accuracy.floor,
        left_out=source.left_out,
        lacks=_lacks(asked, source, baseline is not None, separation),
        first_row=first_row,
    )


@dataclass(frozen=True)
class _Baseline:
    table: Table
    classes: NDArray[np.int64]
    sample: _Sample


def _baseline(asked: Asked, source: _Source, gathered: Gathered) -> _Baseline | None:
    """What the traffic's rows are compared with, None where nothing is named."""
    count = len(source.known.labels) + 1
    if asked.reference is not None:
        known = _Source(source.bundle, (asked.reference,), source.known, source.progress)
        rows = known.gather(None)
        return _Baseline(
            rows.table(asked.reference.name), rows.classes(count), known.sample(0, None)
        )
    if asked.baseline_rows is None:
        return None
    first, _ = _divided(gathered.table(source.files[0].name), asked.baseline_rows)
    return _Baseline(
        first,
        gathered.classes(count, 0, asked.baseline_rows),
        source.sample(0, asked.baseline_rows),
    )


def _separation(known: _Sample, recent: _Sample) -> tuple[Separation | None, str]:
    """A classifier on embeddings where both sides have them, else on the texts' words."""
    if len(known.embeddings) and len(recent.embeddings):
        return separate(*standardised(known.embeddings, recent.embeddings)), "their embeddings"
    if known.texts and recent.texts:
        return separate(_ngrams(known.texts), _ngrams(recent.texts)), "their words"
    return None, ""


def _ngrams(texts: Sequence[Any]) -> NDArray[np.float32]:
    return hashed_ngrams([t if isinstance(t, str) else "\n".join(t) for t in texts])


def _words(known: ReferenceData, baseline: _Baseline | None, recent: _Sample) -> Any:
    if not recent.texts:
        return (), ()
    if baseline is not None and baseline.sample.texts:
        texts = ["\n".join(t) if isinstance(t, tuple) else t for t in baseline.sample.texts]
        return separating_words(word_counts(texts), len(texts), recent.texts)
    return separating_words(known.words, known.fitted.rows, recent.texts)


def _classes(
    known: ReferenceData, baseline: _Baseline | None, gathered: Gathered, onset: int
) -> ClassMix | None:
    count = len(known.labels)
    counts = np.array(known.class_counts) if baseline is None else baseline.classes[:count]
    return class_mix(known.labels, counts, gathered.classes(count, onset)[:count])


def _lacks(
    asked: Asked, source: _Source, has_baseline: bool, separation: Separation | None
) -> tuple[str, ...]:
    """What the report could not say, and what would let it."""
    said = []
    if not has_baseline:
        said.append(
            "Features, windows and the classifier need rows to compare with: name --reference FILE "
            "(rows as the model was made for) or --baseline-rows N (the traffic's own first rows)."
        )
    elif separation is None:
        said.append(
            "No classifier: reference and traffic must both hold texts or both embeddings, of at "
            "least 20 rows each."
        )
    return tuple(said)


def _estimate_document(own: Estimate | None) -> dict[str, Any] | None:
    return None if own is None else {"rows": own.rows, "atc": own.atc, "cbpe": own.cbpe}


def _document(report: DriftReport, out: Path) -> dict[str, Any]:
    comparison, separation = report.comparison, report.separation
    return {
        "out": str(out),
        "findings": list(findings(report)),
        "rows": report.rows,
        "reference_rows": None if comparison is None else comparison.reference_rows,
        "alarms": None if report.evidence is None else len(report.evidence.alarms),
        "auc": None if separation is None else separation.auc,
        "auc_p_value": None if separation is None else separation.p_value,
        "detectors": [] if report.evidence is None else list(report.evidence.detectors),
        "estimated_accuracy": _estimate_document(report.recent_estimate),
        "accuracy_floor": report.floor,
        "class_mix_p_value": None if report.classes is None else report.classes.p_value,
        "features": [] if comparison is None else _feature_documents(comparison),
    }


def _feature_documents(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "name": feature.name,
            "psi": feature.psi,
            "psi_threshold": min(feature.psi_threshold, 1e9),
            "smallest_window_p_value": float(feature.p_values.min())
            if feature.p_values.size
            else 1.0,
            "has_moved": feature.has_moved,
        }
        for feature in comparison.features
    ]
