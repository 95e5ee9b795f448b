"""The report's part about compression: the promise, all candidates in one table and one picture."""

import html

from edgeloop import plots
from edgeloop.columns import percent
from edgeloop.page import folded, table
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.show_certificate import verdict

HEAD = "candidate|MB|p50 ms|p95 ms|RSS MB|texts/s|accuracy|drop at most|verdict"


def certificate(record: Certificate) -> str:
    """HTML."""
    ordered = sorted(record.candidates, key=lambda c: (not c.finalist, c.measurement.size_bytes))
    budget = ", ".join(f"{key} {value:g}" for key, value in record.budget.items())
    parts = [
        f"<p>Budget: {html.escape(budget)}. Outcome: "
        f"{html.escape(record.chosen or 'INFEASIBLE')}. Machine: "
        f"{html.escape(record.machine.cpu)}, {record.machine.cores} cores.</p>",
        f"<p>{len(record.finalists)} finalists were named on {record.choosing_rows} choosing rows "
        f"and tested at {percent(record.finalist_confidence)} on other rows, so that what ships "
        f"keeps to the budget with {percent(record.confidence)} confidence.</p>",
        table(HEAD.split("|"), [_row(candidate, record.chosen) for candidate in ordered]),
        plots.candidates(record),
    ]
    if record.left_out:
        reasons = table(("candidate", "why"), record.left_out.items())
        parts.append(folded(f"{len(record.left_out)} left out", reasons))
    return "".join(parts)


def _row(candidate: Candidate, chosen: str | None) -> tuple[object, ...]:
    measured = candidate.measurement
    return (
        candidate.kind,
        measured.size_bytes / 1e6,
        measured.latency_p50_ms.value,
        measured.latency_p95_ms.value,
        measured.rss_bytes / 1e6,
        candidate.throughput.texts_per_second if candidate.throughput else "",
        candidate.accuracy.candidate_accuracy,
        candidate.accuracy.upper_bound_ratio if candidate.finalist else "",
        verdict(candidate.model_dump(), chosen),
    )
