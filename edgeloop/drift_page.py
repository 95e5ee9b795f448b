"""The drift report as one self-contained HTML file, for light and dark, wide and narrow screens."""

import html
from collections.abc import Sequence

import numpy as np

from edgeloop import svg
from edgeloop.drift_accuracy import accuracy_section
from edgeloop.findings import DriftReport, at_time, findings, onset_alarm, p_words
from edgeloop.page import folded, paragraph, table
from edgeloop.records import Movement
from monitor.compare import LEVEL, Comparison, FeatureDrift
from monitor.gather import ClassMix
from monitor.offline import OfflineAlarm, OfflineResult

MOST_ALARMS = 10
MOST_CLASSES = 12
# As far as a distance is told from a larger one by the eye.
DARKEST_DISTANCE = 0.5

CSS = """
:root { color-scheme: light dark; --ink: #22313f; --paper: #ffffff; --accent: #c8553d;
        --second: #2a7f86; --line: #dfe4e8; --soft: #5d6b78; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde4ea; --paper: #161b20; --accent: #e98069; --second: #58b4bb; --line: #333d46;
          --soft: #9aa7b2; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       margin: 2rem auto; max-width: 62rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
summary { cursor: pointer; font-weight: 600; } .soft { color: var(--soft); }
table.narrow { max-width: 24rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; width: 100%; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
         vertical-align: middle; overflow-wrap: normal; }
td:first-child { overflow-wrap: anywhere; min-width: 7rem; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.alarm { color: var(--accent); font-weight: 600; }
ul.findings { padding-left: 1.2rem; } ul.findings li { margin: .3rem 0; }
.plot { overflow-x: auto; margin: .6rem 0; } .plot svg { width: 100%; height: auto;
       display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg text.small { font-size: 11px; }
svg .grid { stroke: var(--line); fill: none; } svg .axis { stroke: var(--soft); fill: none; }
svg .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
svg .second { fill: var(--second); } svg .accent { fill: var(--accent); }
svg .second.line { stroke: var(--second); fill: none; }
svg .accent.line { stroke: var(--accent); fill: none; }
svg .dot { stroke: none; fill: var(--accent); }
svg .dashed { stroke-dasharray: 5 3; }
svg .limit { stroke: var(--ink); stroke-dasharray: 6 4; fill: none; }
svg .alarmed { stroke: var(--accent); stroke-width: 1.2; opacity: .7; }
svg .onset { stroke: var(--soft); stroke-dasharray: 2 3; stroke-width: 1.4; }
svg .band { fill: var(--accent); opacity: .18; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; }
.key.second { background: var(--second); margin-left: 0; }
.key.accent { background: var(--accent); }
.key.dashed { background: none; border-top: 2px dashed var(--second); height: .3em; }
.key.onset { background: none; border-left: 2px dotted var(--soft); width: 0; }
.key.alarmed { background: var(--accent); width: 2px; }
"""
METHOD = (
    "Evidence is that of the bundle's detectors over the rows in order, each over its threshold; "
    "after an alarm of any all begin anew. PSI compares the counts in the reference's deciles; its "
    f"limit is that of a chi-squared test for these numbers of rows at {LEVEL:g}, divided by the "
    "number of features.",
    "Each window of rows is compared with the reference, feature by feature, by a two-sample "
    "Kolmogorov-Smirnov test; the p-values are corrected over all features and windows (Holm): "
    f"where nothing has moved, one report in {round(1 / LEVEL)} marks a window at all.",
    "The classifier is a logistic regression that ranks rows which it was not fitted on; an AUC of "
    "0.5 is chance. All tests take rows for independent: bursts and retries look like drift. With "
    "many rows differences too small to matter are found: look at the size, not at the mark alone.",
)


def drift_page(report: DriftReport) -> str:
    """The whole file."""
    title = html.escape(f"Drift: {report.title}")
    sections = [
        _in_short(report),
        _evidence(report.evidence) if report.evidence is not None else "",
        _moved(report),
        _features(report.comparison) if report.comparison is not None else "",
        _windows(report.comparison, report.first_row) if report.comparison is not None else "",
        _classifier(report),
        accuracy_section(report),
        "<h2>How this was computed</h2>"
        + folded("Tests and levels", "".join(map(paragraph, METHOD))),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head>\n<body><h1>{title}</h1>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )


def _in_short(report: DriftReport) -> str:
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in findings(report))
    notes = "".join(paragraph(line, "soft") for line in _notes(report))
    return f'<h2>In short</h2><ul class="findings">{listed}</ul>{notes}'


def _notes(report: DriftReport) -> list[str]:
    notes = list(report.lacks)
    if report.bundle:
        notes.append(f"Bundle {report.bundle[:12]}.")
    if report.left_out:
        notes.append(
            f"{report.left_out:,} captured rows were left out: they were kept for being unsure, "
            "not by the uniform draw."
        )
    if report.evidence is not None and report.evidence.skipped:
        notes.append(f"{report.evidence.skipped:,} rows were skipped: they are not finite.")
    if report.comparison is not None and report.comparison.left_out:
        names = [svg.short(name) for name in report.comparison.left_out[:20]]
        more = len(report.comparison.left_out) - len(names)
        tail = f" and {more} more" if more else ""
        notes.append(f"Columns that were not compared: {', '.join(names)}{tail}.")
    return notes


def _evidence(result: OfflineResult) -> str:
    limit = "alarm" if result.may_alarm else "not armed"
    begun = [onset_alarm(result)] if result.alarms else []
    plot = svg.evidence(
        result.ratios,
        limit,
        [(alarm.observation, f"alarm at row {alarm.row:,}") for alarm in result.alarms],
        [(alarm.onset_observation, f"onset at row {alarm.onset_row:,}") for alarm in begun],
    )
    words = (
        f"The highest evidence (ln) of all detectors over its threshold, {result.rows:,} rows; "
        f"thresholds for one false alarm of them together in {result.target_run_length:,} rows: "
        f"{result.threshold_source}. {_watched(result)}"
    )
    key = (
        '<p class="soft"><span class="key alarmed"></span>alarm'
        '<span class="key onset"></span>estimated onset</p>'
        if result.alarms
        else ""
    )
    return f"<h2>Evidence</h2>{paragraph(words)}{plot}{key}{_alarms(result.alarms)}"


def _watched(result: OfflineResult) -> str:
    said = f"Detectors: {', '.join(result.detectors)}."
    if not result.rows_without_features:
        return said
    return (
        f"{said} {result.rows_without_features:,} rows hold scores without features: the primary "
        "detector alone saw them."
    )


def _alarms(alarms: Sequence[OfflineAlarm]) -> str:
    if not alarms:
        return ""
    rows = [
        (
            alarm.row,
            at_time(alarm.time) or "–",
            alarm.onset_row,
            ", ".join(f"{name} {alarm.evidence_ratios[name]:.2f}" for name in alarm.detectors),
            ", ".join(f"{name} {value:.1f}" for name, value in alarm.parts.items()),
        )
        for alarm in alarms[:MOST_ALARMS]
    ]
    head = (
        "row",
        "time (UTC)",
        "onset at row",
        "detectors (evidence / threshold)",
        "parts of the primary (ln)",
    )
    more = len(alarms) - len(rows)
    tail = paragraph(f"and {more:,} more alarms", "soft") if more else ""
    return f'<div class="scroll">{table(head, rows)}</div>{tail}'


KEY = (
    '<p class="soft"><span class="key second"></span>reference'
    '<span class="key accent"></span>recent</p>'
)


def _moved(report: DriftReport) -> str:
    parts = []
    if report.classes is not None:
        parts.append(_classes(report.classes))
    if report.shows_words:
        parts.append(_words("Words that came up", report.risen))
        parts.append(_words("Words that went away", report.fallen))
    if not parts:
        return ""
    since = f"Rows from {report.recent_from:,} on against the reference."
    return f"<h2>What moved</h2>{paragraph(since)}{KEY}{''.join(parts)}"


def _classes(mix: ClassMix) -> str:
    known, recent = mix.reference_counts.sum(), mix.recent_counts.sum()
    shares = list(
        zip(
            mix.labels,
            (mix.reference_counts / known).tolist(),
            (mix.recent_counts / recent).tolist(),
            strict=True,
        )
    )
    rest = shares[MOST_CLASSES:]
    shown = shares[:MOST_CLASSES]
    if rest:
        others = (sum(row[1] for row in rest), sum(row[2] for row in rest))
        shown.append((f"{len(rest)} other classes", *others))
    words = f"Predicted classes, the most moved first ({p_words(mix.p_value)})"
    return f"<h3>{html.escape(words)}</h3>{svg.pairs(shown, 'Predicted classes')}"


def _words(title: str, movements: Sequence[Movement]) -> str:
    if not movements:
        return ""
    rows = [(m.name, m.reference_ratio, m.recent_ratio) for m in movements]
    return f"<h3>{html.escape(title)}</h3>{svg.pairs(rows, title)}"


def _features(comparison: Comparison) -> str:
    ordered = sorted(comparison.features, key=lambda f: -f.psi)
    head = (
        "<th>feature</th><th>share in each of the reference's deciles</th>"
        '<th class="number">PSI</th><th class="number">limit</th><th class="number">median</th>'
    )
    missing = any(f.reference_missing_ratio or f.recent_missing_ratio for f in ordered)
    head += '<th class="number">missing</th>' if missing else ""
    body = "".join(_feature_row(feature, missing) for feature in ordered)
    words = (
        f"{comparison.recent_rows:,} recent rows ({comparison.recent}) against "
        f"{comparison.reference_rows:,} of the reference ({comparison.reference}), the most moved "
        "first."
    )
    return (
        f'<h2>Features</h2>{paragraph(words)}{KEY}<div class="scroll"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _feature_row(feature: FeatureDrift, shows_missing: bool) -> str:
    known, recent = feature.reference_counts, feature.recent_counts
    picture = svg.histogram(
        (known / max(known.sum(), 1)).tolist(),
        (recent / max(recent.sum(), 1)).tolist(),
        feature.name,
    )
    moved = feature.psi > feature.psi_threshold
    cells = [
        svg.number(feature.psi_threshold),
        f"{svg.number(feature.reference_median)} → {svg.number(feature.recent_median)}",
    ]
    if shows_missing:
        cells.append(f"{feature.reference_missing_ratio:.1%} → {feature.recent_missing_ratio:.1%}")
    return (
        f"<tr><td>{html.escape(svg.short(feature.name, svg.MOST_NAME))}</td><td>{picture}</td>"
        f'<td class="number{" alarm" * moved}">{svg.number(feature.psi)}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + "</tr>"
    )


def _windows(comparison: Comparison, first_row: int) -> str:
    starts = comparison.window_starts
    if not starts:
        return ""
    ordered = sorted(comparison.features, key=lambda f: float(f.p_values.min()))
    titles = [
        [
            f"{svg.short(f.name, svg.MOST_NAME)}, from row {start + first_row + 1:,}: distance "
            f"{distance:.3f}, {p_words(float(p))}"
            for start, distance, p in zip(starts, f.distances, f.p_values, strict=True)
        ]
        for f in ordered
    ]
    plot = svg.grid(
        [f.name for f in ordered],
        [np.minimum(f.distances / DARKEST_DISTANCE, 1.0).tolist() for f in ordered],
        [(f.p_values <= LEVEL).tolist() for f in ordered],
        titles,
        f"windows of {comparison.window_rows:,} rows, from row {first_row + 1:,} on",
    )
    words = (
        "Each window against the reference, the stronger the further apart "
        "(Kolmogorov-Smirnov distance)."
    )
    key = (
        '<p class="soft"><span class="key second"></span>within chance'
        '<span class="key accent"></span>differs</p>'
    )
    return f"<h2>Windows</h2>{paragraph(words)}{plot}{key}"


def _classifier(report: DriftReport) -> str:
    found = report.separation
    if found is None:
        return ""
    rows = [
        ("AUC", f"{found.auc:.3f}"),
        ("p-value", p_words(found.p_value)),
        ("reference rows", f"{found.reference_rows:,}"),
        ("recent rows", f"{found.recent_rows:,}"),
    ]
    words = (
        f"Can a classifier tell recent rows from reference rows by {report.separated_by}? An "
        "AUC of 0.5 is chance, 1 is always."
    )
    listed = "".join(
        f'<tr><td>{name}</td><td class="number">{value}</td></tr>' for name, value in rows
    )
    return (
        f"<h2>Domain classifier</h2>{paragraph(words)}"
        f'<table class="narrow"><tbody>{listed}</tbody></table>'
    )
