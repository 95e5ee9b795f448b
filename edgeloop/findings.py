"""What a drift report holds, and the few sentences that it comes down to."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edgeloop.records import Movement
from monitor.compare import LEVEL, Comparison, FeatureDrift
from monitor.domain import Separation
from monitor.gather import ClassMix
from monitor.offline import OfflineAlarm, OfflineResult

MOST_NAMED = 5
SMALLEST_P = 1e-6
LITTLE_PSI = 0.02


@dataclass(frozen=True)
class Accuracy:
    """Rows with a label up to `row`, since the window before: how many, how many of them right."""

    row: int
    right: int
    labelled: int


@dataclass(frozen=True)
class Estimate:
    """The accuracy of `rows` rows up to `row`, estimated without labels by both methods."""

    row: int
    rows: int
    atc: float
    cbpe: float


@dataclass(frozen=True)
class DriftReport:
    """All that the page shows; what is None or empty was not asked for or could not be said
    (`lacks`). Rows count from 1; `recent_from`: the first row that the reference is compared with.
    """

    title: str
    rows: int
    bundle: str = ""
    evidence: OfflineResult | None = None
    recent_from: int = 1
    comparison: Comparison | None = None
    separation: Separation | None = None
    separated_by: str = ""
    classes: ClassMix | None = None
    risen: tuple[Movement, ...] = ()
    fallen: tuple[Movement, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    recent_estimate: Estimate | None = None
    floor: float | None = None
    left_out: int = 0
    lacks: tuple[str, ...] = ()
    first_row: int = 0

    @property
    def shows_words(self) -> bool:
        """Words that differ by chance say nothing: only after an alarm or a clear separation."""
        alarmed = self.evidence is not None and bool(self.evidence.alarms)
        apart = self.separation is not None and self.separation.p_value <= LEVEL
        return (alarmed or apart) and bool(self.risen or self.fallen)


def at_time(time: str | None) -> str:
    """An ISO time in UTC as it is read; empty where there is none."""
    return "" if time is None else time[:19].replace("T", " ")


def p_words(p: float) -> str:
    """A p-value as it is read."""
    return f"p < {SMALLEST_P:g}" if p < SMALLEST_P else f"p = {p:.2g}"


def findings(report: DriftReport) -> Iterator[str]:
    """One sentence per question, the detector's first."""
    if report.evidence is not None:
        yield _alarms(report.evidence)
    if report.comparison is not None:
        yield from _compared(report.comparison, report.first_row)
    if report.separation is not None:
        yield _separated(report.separation, report.separated_by)
    if report.classes is not None:
        moved = "has moved" if report.classes.p_value <= LEVEL else "has not moved"
        yield f"The mix of predicted classes {moved} ({p_words(report.classes.p_value)})."
    if report.accuracy:
        right = sum(own.right for own in report.accuracy)
        rows = sum(own.labelled for own in report.accuracy)
        yield f"Of {rows:,} rows with a label {right / rows:.1%} were answered rightly."
    if report.recent_estimate is not None:
        yield _estimated(report.recent_estimate, report.recent_from, report.floor)


def _alarms(result: OfflineResult) -> str:
    if not result.may_alarm:
        return f"The drift alarm is {result.reason}."
    if not result.alarms:
        return (
            f"No drift alarm in {result.rows:,} rows; one false alarm is promised in "
            f"{result.target_run_length:,} at most."
        )
    first = result.alarms[0]
    at = "" if first.time is None else f" ({at_time(first.time)} UTC)"
    begun = onset_alarm(result)
    since = "" if begun.onset_time is None else f" ({at_time(begun.onset_time)} UTC)"
    more = len(result.alarms) - 1
    again = f", and {more} more after beginning anew" if more else ""
    by = ", ".join(first.detectors)
    return (
        f"Drift alarm at row {first.row:,}{at} by {by}{again}; "
        f"the drift seems to have begun at row {begun.onset_row:,}{since}."
    )


def onset_alarm(result: OfflineResult) -> OfflineAlarm:
    """Of several alarms, after each of which the evidence began anew, the one from whose onset on
    they come oftener than before: the change of a Poisson rate with the highest likelihood. An
    early false alarm is not taken for the drift."""
    count = len(result.alarms)

    def likelihood(place: int) -> float:
        before = max(result.alarms[place].onset_row - 1, 1)
        after = max(result.rows - before, 1)
        earlier = place * math.log(place / before) if place else 0.0
        return earlier + (count - place) * math.log((count - place) / after)

    return result.alarms[max(range(count), key=likelihood)]


def _estimated(own: Estimate, since: int, floor: float | None) -> str:
    limit = "" if floor is None else f"; the floor is {floor:.1%}"
    return (
        f"From row {since:,} on accuracy is estimated without labels at {own.atc:.1%} (ATC) and "
        f"{own.cbpe:.1%} (CBPE){limit}."
    )


def _compared(comparison: Comparison, first_row: int) -> Iterator[str]:
    features = comparison.features
    moved = sorted((f for f in features if f.psi > f.psi_threshold), key=lambda f: -f.psi)
    if moved:
        named = ", ".join(f"{f.name} (PSI {f.psi:.3g})" for f in moved[:MOST_NAMED])
        more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
        said = (
            f"{len(moved)} of {len(features)} features have moved by their deciles: {named}{more}"
        )
        little = "; by little: of so many rows the smallest difference is found"
        yield f"{said}{little if moved[0].psi < LITTLE_PSI else ''}."
    else:
        yield f"None of {len(features)} features has moved by its deciles."
    place = first_marked(features)
    if place is None:
        yield f"None of {len(comparison.window_starts)} windows differs from the reference."
        return
    start = comparison.window_starts[place] + first_row
    names = [f.name for f in features if f.p_values[place] <= LEVEL]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    yield (
        f"The first window that differs begins at row {start + 1:,}: "
        f"{', '.join(names[:MOST_NAMED])}{more}."
    )


def first_marked(features: tuple[FeatureDrift, ...]) -> int | None:
    """The first window in which a feature differs."""
    marked: list[int] = []
    for feature in features:
        places = (feature.p_values <= LEVEL).nonzero()[0]
        marked += [int(places[0])] if places.size else []
    return min(marked, default=None)


def _separated(separation: Separation, by: str) -> str:
    told = f"AUC {separation.auc:.3f}, {p_words(separation.p_value)}"
    if separation.p_value > LEVEL:
        return f"A classifier cannot tell recent rows from reference rows by {by} ({told})."
    return f"A classifier tells recent rows from reference rows by {by} ({told})."
