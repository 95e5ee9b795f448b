"""One self-contained HTML file about a model: what was trained, shipped, seen, decided, promoted.

Reads the ledger, the run folders that it names, and the results of `edgeloop monitor replay`.
Command: `edgeloop report NAME`. The file opens without a network.
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeloop import plots, report_evaluation
from edgeloop.errors import EdgeloopError, LedgerError
from edgeloop.ledger import Ledger, RunEntry
from edgeloop.page import table
from edgeloop.records import Adapter, Gate, Movement, Verdict
from edgeloop.records_compress import Certificate
from edgeloop.records_retention import RetentionRecord
from edgeloop.report_certificate import certificate
from edgeloop.rundir import RECORD_NAME, write_atomic

CSS = """
:root { color-scheme: light; --ink: #22313f; --accent: #c8553d; --line: #dfe4e8; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-top: 1.6rem; } summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; margin: .8rem 0; width: 100%; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line);
         vertical-align: top; overflow-wrap: break-word; }
th { font-weight: 600; overflow-wrap: normal; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { max-width: 100%; height: auto; }
.narrow { max-width: 22rem; } .alarm { color: var(--accent); font-weight: 600; }
"""


class Replay(BaseModel):
    """What a report reads of a replay's result: (observation, log evidence) and the threshold."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    evidence: tuple[tuple[int, float], ...]
    threshold: float


@dataclass(frozen=True)
class Inputs:
    """What a report is made of besides the ledger."""

    replays: Sequence[tuple[str, Replay]]
    summary: dict[str, str]


def write_report(ledger: Ledger, model: str, inputs: Inputs, path: Path) -> Path:
    """Write the report. Raises LedgerError where the ledger knows no run of the model."""
    runs = ledger.runs(model)
    if not runs:
        raise LedgerError(f"the ledger knows no run of {model}; `edgeloop run` makes one")
    sections = [
        _summary(inputs.summary),
        *(_run(entry) for entry in runs),
        _drift(inputs.replays, ledger.verdicts(model)),
        _gates(runs),
        _decisions(ledger, model),
        _deployments(ledger, model),
    ]
    body = "\n".join(section for section in sections if section)
    title = f"edgeloop: {html.escape(model)}"
    document = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, document.encode())
    return path


def _summary(summary: dict[str, str]) -> str:
    return f"<h2>In short</h2>{table(('what', 'figure'), summary.items())}" if summary else ""


def _run(entry: RunEntry) -> str:
    """Training curves and the certificate of one run, as far as it came."""
    folder = Path(entry.path)
    parts = [
        f"<h2>Run {html.escape(entry.id)}</h2><p>Started by {html.escape(entry.trigger)} at "
        f"{html.escape(entry.started_at[:19])} UTC; result: {html.escape(entry.result or 'open')}."
        "</p>"
    ]
    try:
        adapter = Adapter.read(folder / "adapter" / RECORD_NAME)
        parts.append(_training(adapter))
        parts.append(_retention(folder / "retention" / RECORD_NAME))
        if entry.result == "forgotten":
            return "".join(parts)  # such a model is neither evaluated nor compressed
        parts.append(report_evaluation.evaluation(folder))
        parts.append(report_evaluation.baselines(folder))
        parts.append(certificate(Certificate.read(folder / "candidates" / RECORD_NAME)))
    except EdgeloopError:
        parts.append("<p>Its folder is incomplete or was removed.</p>")
    return "".join(parts)


def _training(adapter: Adapter) -> str:
    share = adapter.trainable_parameters / adapter.total_parameters
    return (
        f"<p>{html.escape(adapter.method)}: {adapter.trainable_parameters:,} of "
        f"{adapter.total_parameters:,} parameters trained ({share:.1%}) in {adapter.seconds:.0f} s."
        f"</p>{plots.training(adapter.epochs, adapter.best_epoch, adapter.metric)}"
        f"{report_evaluation.training_note(adapter)}"
    )


def _retention(path: Path) -> str:
    """What the run's model forgot of what the previous one knew; nothing where it was not asked."""
    if not path.exists():
        return ""
    record = RetentionRecord.read(path)
    head = ("class", "rows", "before", "after", "lost", "gained", "verdict")
    rows = [
        (
            c.label,
            c.rows,
            "" if c.before is None else c.before,
            c.after,
            c.lost,
            c.gained,
            "forgotten" if c.forgotten else "",
        )
        for c in record.classes
    ]
    said = html.escape("; ".join(record.reasons))
    return f"<p>Retention: {record.verdict}. {said}.</p>{table(head, rows)}"


def _drift(replays: Sequence[tuple[str, Replay]], verdicts: Sequence[Verdict]) -> str:
    if not replays and not verdicts:
        return ""
    parts = ["<h2>Drift</h2>"]
    if replays:
        series = [(name, replay.evidence) for name, replay in replays]
        parts.append(plots.evidence(series, replays[0][1].threshold))
    return "".join(parts) + "".join(_verdict(v) for v in verdicts)


def _verdict(verdict: Verdict) -> str:
    return (
        f'<p class="alarm">Alarm at request {verdict.observation:,} ({verdict.at[:19]} UTC): '
        f"{html.escape(verdict.detector)}, ln evidence {verdict.log_evidence:.1f} above "
        f"{verdict.threshold:.1f}.</p><p>At most one false alarm in "
        f"{verdict.target_run_length:,} requests is promised on average.</p>"
        + _movements("word", verdict.words)
        + _movements("class", verdict.classes)
    )


def _movements(kind: str, movements: Sequence[Movement]) -> str:
    head = (kind, "share of rows in the reference", "in recent traffic")
    return table(head, [(m.name, m.reference_ratio, m.recent_ratio) for m in movements])


def _gates(runs: Sequence[RunEntry]) -> str:
    rows = []
    for run in runs:
        gate = _gate(run.document)
        if gate is None:
            continue
        for name, drop in (("golden", gate.golden), ("fresh", gate.fresh)):
            rows.append(
                (
                    run.id,
                    f"{name} ({drop.rows} rows)",
                    drop.reference_accuracy,
                    drop.candidate_accuracy,
                    drop.upper_bound_ratio,
                    "; ".join(gate.reasons),
                )
            )
    if not rows:
        return ""
    head = ("run", "rows", "champion", "challenger", "drop at most", "reasons")
    return f"<h2>Champion against challenger</h2>{table(head, rows)}"


def _gate(document: Any) -> Gate | None:
    """A run's gate; None where it came to none, or where another version wrote it."""
    try:
        return Gate.model_validate(document["gate"], strict=False)
    except (LookupError, TypeError, ValidationError):
        return None


def _decisions(ledger: Ledger, model: str) -> str:
    rows = [(d.at[:19], d.action, "; ".join(d.reasons)) for d in ledger.decisions(model)]
    if not rows:
        return ""
    return f"<h2>Decisions</h2>{table(('at (UTC)', 'action', 'reasons'), rows)}"


def _deployments(ledger: Ledger, model: str) -> str:
    rows = [(d.at[:19], d.bundle_digest[:12], d.reason) for d in ledger.deployments(model)]
    return f"<h2>Deployments</h2>{table(('at (UTC)', 'bundle', 'reason'), rows)}" if rows else ""


def read_replay(path: Path) -> tuple[str, Replay]:
    """A file that `edgeloop monitor replay --json` printed, by its name.

    Raises EdgeloopError where it is not one.
    """
    try:
        return path.stem, Replay.model_validate_json(path.read_bytes())
    except OSError as problem:
        said = str(problem)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        said = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
    raise EdgeloopError(f"{path}: not a result of monitor replay --json ({said})")


def read_summary(path: Path) -> dict[str, str]:
    """A JSON object of figures for the first table. Raises EdgeloopError where it is not one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise EdgeloopError(f"{path}: not a JSON file ({problem})") from None
    if not isinstance(document, dict):
        raise EdgeloopError(f"{path}: a summary is a JSON object of names and figures")
    return {str(key): str(value) for key, value in document.items()}
