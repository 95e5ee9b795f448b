"""Results of `edgeloop monitor` as text for a person."""

from typing import Any

MOST_ALARMS = 10


def replayed(document: dict[str, Any]) -> str:
    """What a bundle's detectors would have said of stored traffic."""
    lines = [_rows(document), _detectors(document)]
    if document["accuracy"] is not None:
        lines.append(
            f"accuracy   {document['accuracy']:.3f} on {document['labelled']} rows with a label"
        )
    lines.append(
        f"threshold  ln {document['threshold']:.2f}, of secondary detectors "
        f"{document['secondary_threshold']:.2f}, for one false alarm in "
        f"{document['target_run_length']:,} requests ({document['threshold_source']})"
    )
    if not document["may_alarm"]:
        lines += [
            f"not armed  {document['reason'].removeprefix('not armed: ')}",
            f"evidence   {document['evidence_ratio']:.2f} of the threshold at the end; "
            "--target-run-length tries "
            "an alarm that promises nothing",
        ]
    elif not document["alarms"]:
        highest = max((value for _, value in document["highest_ratios"]), default=0.0)
        lines.append(
            f"no alarm   evidence {document['evidence_ratio']:.2f} of the threshold at the end, "
            f"{highest:.2f} at its highest"
        )
    alarms = document["alarms"]
    lines += [line for alarm in alarms[:1] for line in _alarm(alarm)]
    lines += [_short_alarm(alarm) for alarm in alarms[1:MOST_ALARMS]]
    if len(alarms) > MOST_ALARMS:
        lines.append(f"           and {len(alarms) - MOST_ALARMS} more alarms (--json has all)")
    if "scores" in document:
        lines.append(
            f"scores     {document['scores']['rows']} rows in {document['scores']['file']}"
        )
    return "\n".join(lines)


def _detectors(document: dict[str, Any]) -> str:
    said = f"detectors  {', '.join(document['detectors'])}"
    lacking = document["rows_without_features"]
    return said + (
        f"; {lacking} rows hold scores without features, the primary alone saw them"
        if lacking
        else ""
    )


def _rows(document: dict[str, Any]) -> str:
    said = f"rows       {document['sent']}, {document['skipped']} skipped (not finite)"
    if document["left_out"]:
        said += f", {document['left_out']} left out (kept for being unsure, not by chance)"
    if document["requests"] > document["sent"]:
        said += f"; they stand for about {document['requests']:,.0f} requests"
    return said


def _alarm(alarm: dict[str, Any]) -> list[str]:
    at = "" if alarm["time"] is None else f" ({alarm['time']})"
    since = "" if alarm["onset_time"] is None else f" ({alarm['onset_time']})"
    parts = ", ".join(f"{name} {value:.1f}" for name, value in alarm["parts"].items())
    lines = [
        f"ALARM      at row {alarm['row']}{at}, id {alarm['id']}",
        f"  onset    row {alarm['onset_row']}{since}",
        f"  evidence ln {alarm['log_evidence']:.2f} of {alarm['detector']} (primary: {parts})",
        f"  by       {_over(alarm)}",
    ]
    if alarm["requests"] > alarm["row"]:
        lines.append(f"  requests about {alarm['requests']:,.0f} until then")
    for kind in ("words", "classes"):
        lines += [
            f"  {kind:<8} {m['name']}: {m['reference_ratio']:.1%} of reference rows, "
            f"{m['recent_ratio']:.1%} since the onset"
            for m in alarm[kind]
        ]
    lines += [
        f"  {'features':<8} {f['name']}: median {f['reference_median']:.3g} in the reference, "
        f"{f['recent_median']:.3g} since the onset"
        for f in alarm["features"]
        if f["evidence_ratio"] >= 1.0
    ]
    return lines


def _over(alarm: dict[str, Any]) -> str:
    """The detectors that alarm, with their evidence over the threshold."""
    ratios = alarm["evidence_ratios"]
    return ", ".join(f"{name} ({ratios[name]:.2f})" for name in alarm["detectors"])


def _short_alarm(alarm: dict[str, Any]) -> str:
    at = "" if alarm["time"] is None else f" ({alarm['time']})"
    onset = f"onset row {alarm['onset_row']}"
    return f"ALARM      at row {alarm['row']}{at}, {onset}, by {_over(alarm)}"


def reported(document: dict[str, Any]) -> str:
    """Where the report lies and what it found, in a few lines."""
    return "\n".join([document["out"], *(f"  {line}" for line in document["findings"])])
