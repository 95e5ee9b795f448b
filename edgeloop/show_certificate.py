"""A certificate as text: the outcome, the finalists' figures, everybody else's, and the reasons."""

from typing import Any

from edgeloop.columns import MEGABYTE, columns, percent

NEAREST = 3


def certificate(document: dict[str, Any]) -> str:
    """The candidates against the budget, or INFEASIBLE with the nearest misses."""
    candidates = sorted(
        document["candidates"], key=lambda c: (not c["finalist"], c["measurement"]["size_bytes"])
    )
    head = ["candidate", "MB", "p50 ms", "p95 ms", "RSS MB", "accuracy", "drop <=", "verdict"]
    rows = [_row(candidate, document) for candidate in candidates]
    lines = [
        f"budget     {', '.join(f'{key} {value:g}' for key, value in document['budget'].items())}",
        f"promise    {_promise(document)}",
        "",
        columns(head, rows),
        "",
        f"outcome    {_outcome(document)}",
    ]
    lines += [f"nearest    {line}" for line in _nearest(document)]
    lines += [f"left out   {kind}: {reason}" for kind, reason in document["left_out"].items()]
    lines += [
        f"kernels    {candidate['kind']}: {warning}"
        for candidate in candidates
        if candidate["lint"]
        for warning in candidate["lint"]["warnings"]
    ]
    return "\n".join(lines)


def _promise(document: dict[str, Any]) -> str:
    count = len(document["finalists"])
    return (
        f"{count} finalist{'s' if count != 1 else ''} named on {document['choosing_rows']} "
        f"choosing rows, each tested at {percent(document['finalist_confidence'])} on other rows, "
        f"so that what ships holds at {percent(document['confidence'])}"
    )


def _row(candidate: dict[str, Any], document: dict[str, Any]) -> list[str]:
    measured = candidate["measurement"]
    return [
        candidate["kind"],
        f"{measured['size_bytes'] / MEGABYTE:.1f}",
        f"{measured['latency_p50_ms']['value']:.2f}",
        f"{measured['latency_p95_ms']['value']:.2f}",
        f"{measured['rss_bytes'] / MEGABYTE:.0f}",
        f"{candidate['test_accuracy']:.3f}",
        f"{candidate['accuracy']['upper_bound_ratio']:.4f}" if candidate["finalist"] else "",
        verdict(candidate, document["chosen"]),
    ]


def verdict(candidate: dict[str, Any], chosen: str | None) -> str:
    """What became of a candidate, in words."""
    if candidate["kind"] == chosen:
        return "chosen"
    missed = "; ".join(candidate["misses"])
    if candidate["finalist"]:
        return missed or "meets the budget"
    return f"expected: {missed}" if missed else "no finalist: others are preferred"


def _outcome(document: dict[str, Any]) -> str:
    if document["chosen"] is None:
        return "INFEASIBLE: no candidate is shown to keep to the budget"
    return f"{document['chosen']} (preferred by {document['prefer']})"


def _nearest(document: dict[str, Any]) -> list[str]:
    """Where nothing was chosen: who comes closest, and what it misses."""
    if document["chosen"] is not None:
        return []
    ranked = sorted(document["candidates"], key=lambda candidate: candidate["excess_ratio"])
    return [f"{c['kind']}: {'; '.join(c['misses'])}" for c in ranked[:NEAREST]]
