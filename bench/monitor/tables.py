"""The parts' figures as Markdown."""

from collections.abc import Mapping
from typing import Any

from bench.monitor import accuracy as estimates
from bench.monitor.plan import BEFORE_ROWS, FULL, LENGTH_OVER_TARGET, SEED, WAIT_ROWS
from bench.report import table

Figures = dict[str, Any]

KILOBYTE = 1_000
CAVEATS = (
    "## Caveats\n\nReference and traffic are disjoint rows of the same files, and the traffic is "
    "drawn from its rows again and again: to the monitor, which can allow for its own reference's "
    "error alone, a small live pool is a slightly different population. Where it has fewer rows "
    "than the reference, or hardly more (banking77 at 1,500, tickets), run lengths are understated "
    "and the worst tenth more so. The worst tenth is of what was counted: with 30 alarms per "
    "reference, chance alone puts it a fifth below the mean. Delays count from the change, after "
    f"{BEFORE_ROWS} rows without drift; a stream that alarmed before is left out. The other "
    "language is 48 German and Spanish questions written for this benchmark. Seeds: "
    f"{SEED} with each cell's name, and the reference's number for the fit."
)


def run_lengths(found: Figures) -> str:
    """Independent rows."""
    about = "\n".join(
        f"- {name}: {one['about']} ({one['rows']} rows)" for name, one in found["sources"].items()
    )
    rows = [
        (
            cell["source"],
            f"{cell['target']:,}",
            f"{cell['reference_rows']:,} of {cell['reference_rows'] + cell['live_rows']:,}",
            f"{cell['drawn'] - cell['refused']} of {cell['drawn']}",
            *_ratio(cell),
            *_worst(cell),
            f"{cell['fit_seconds']:.1f}",
        )
        for cell in found["cells"]
    ]
    head = (
        *("source", "promised", "reference rows", "armed", "run length over promised"),
        *("alarms in rows", "worst tenth of references", "fit s"),
    )
    return (
        "## Without drift: independent rows\n\n"
        f"{about}\n\n{FULL.streams} streams per reference, each {LENGTH_OVER_TARGET} times as long "
        "as the promise (as many rows at longer promises); standard errors by the jackknife over "
        "references, of the worst tenth by the bootstrap.\n\n"
        f"{table(head, rows)}"
    )


def _ratio(cell: Figures) -> tuple[str, str]:
    if "ratio" not in cell:
        return "refused", ""
    error = cell["ratio_error"]
    said = "" if error is None else f" ± {error:.2f}"
    return f"{cell['ratio']:.2f}{said}", f"{cell['alarms']:,} in {cell['rows']:,}"


def _worst(cell: Figures) -> tuple[str]:
    told = "worst_tenth_ratio" in cell and cell["drawn"] >= FULL.many
    if not told:
        return ("",)
    return (f"{cell['worst_tenth_ratio']:.2f} ± {cell['worst_tenth_ratio_error']:.2f}",)


def bursts(found: Figures) -> str:
    """Bursty rows."""
    rows = [
        (
            cell["source"],
            f"{cell['mean_burst']:g}",
            f"{cell['reference_rows']:,}",
            f"{cell['drawn'] - cell['refused']} of {cell['drawn']}",
            *_ratio(cell),
        )
        for cell in found["cells"]
    ]
    head = (
        *("source", "mean burst", "reference rows", "armed", "run length over promised"),
        "alarms in rows",
    )
    reasons = dict.fromkeys(cell["reason"] for cell in found["cells"] if cell["reason"])
    said = "".join(f"\n\nRefused: {reason}." for reason in reasons)
    target = found["cells"][0]["target"]
    return (
        f"## Without drift: bursts of one class\n\n{target:,} promised; reference and traffic in "
        f"geometric runs of one class, row by row through update().\n\n{table(head, rows)}{said}"
    )


def shifts(found: Figures) -> str:
    """Delays by shift and source."""
    cells = [cell for cell in found["cells"] if cell["references"]]
    names = list(dict.fromkeys(name for cell in cells for name in cell["shifts"]))
    rows = [(name, *(_both(cell["shifts"].get(name)) for cell in cells)) for name in names]
    head = ("shift", *(f"{cell['source']}, {cell['reference_rows']:,}" for cell in cells))
    streams = max(s["matched"]["streams"] for cell in cells for s in cell["shifts"].values())
    realised = "; ".join(
        f"{cell['source']} {cell['run_length']['promised']['rows_per_alarm']:,.0f}"
        for cell in cells
    )
    target = cells[0]["target"]
    return (
        f"## Rows until the alarm\n\nMedian at a realised run length of {target:,} (as armed for a "
        f"promise of {target:,}), and the share not seen within {WAIT_ROWS:,} rows where there is "
        f"any. Up to {streams} streams per cell over {cells[0]['references']} references; run "
        f"lengths as armed: {realised}.\n\n{table(head, rows)}"
    )


def _both(measured: Mapping[str, Figures] | None) -> str:
    if measured is None:
        return ""
    matched, promised = measured["matched"], measured["promised"]
    missed = f", {matched['missed_ratio']:.0%} missed" if matched["missed_ratio"] else ""
    return f"{median(matched)} ({median(promised)}){missed}"


def median(measured: Figures) -> str:
    """A delay, or that most were missed."""
    found = measured["median"]
    return f">{WAIT_ROWS:,}" if found is None else f"{found:.0f}"


def cost(found: Figures) -> str:
    """Time and sizes."""
    fits = ", ".join(f"{s:.1f} s for {int(t):,}" for t, s in found["fit_seconds"].items())
    return (
        f"## Cost\n\n{found['source']}, {found['hidden']} numbers and {found['classes']} classes "
        f"per row, {found['reference_rows']:,} reference rows, one thread: "
        f"{found['update_microseconds']:.1f} µs per update in the median, "
        f"{found['update_p99_microseconds']:.1f} at p99 ({found['updates']:,} updates); state "
        f"{found['state_bytes'] / KILOBYTE:.1f} kB, model {found['model_bytes'] / KILOBYTE:.0f} "
        f"kB; a fit takes {fits}."
    )


def peers(found: Figures) -> str:
    """One table per source."""
    return "\n\n".join(["## Beside peers", *(_peers_of(cell) for cell in found["cells"])])


def _peers_of(cell: Figures) -> str:
    shifts = list(cell["detectors"][0]["delays"])
    rows = [
        (
            f"{one['name']}: {one['setting']}",
            " and ".join(word for word in ("usual", "tuned") if one[word]),
            f"{'>' if not one['alarms'] else ''}{one['run_length']:,.0f} ({one['alarms']})",
            *(_delay(one["delays"][name]) for name in shifts),
        )
        for one in cell["detectors"]
    ]
    head = ("detector", "setting", "run length (alarms)", *shifts)
    spent = ", ".join(f"{name} {us:,.1f}" for name, us in cell["microseconds"].items())
    said = "".join(f"\n\n{peer}: {why}." for peer, why in cell["problems"].items())
    return (
        f"{cell['source']}, {cell['reference_rows']:,} reference rows, one reference, the same "
        "streams for all (of the slow ones the first few); windows do not overlap, and one begins "
        "with the change. Tuned: the most eager setting that still ran "
        f"{cell['target']:,} rows on these streams.\n\n{table(head, rows)}\n\n"
        f"Microseconds per row: {spent}.{said}"
    )


def _delay(measured: Figures) -> str:
    missed = f" ({measured['missed_ratio']:.0%} missed)" if measured["missed_ratio"] else ""
    return f"{median(measured)}{missed}" if measured["streams"] else "all alarmed before"


def accuracy(found: Figures) -> str:
    """By shift."""
    return (
        "## Accuracy without labels\n\nbanking77's test rows, half the reference, 1,000 of the "
        "others the traffic, 20 splits: mean distance from the true accuracy (mean signed error). "
        f"Texts of another data set count as answered wrongly.\n\n{estimates.table(found)}"
    )


def report(found: Figures) -> str:
    """By kind of file."""
    rows = [
        (kind, f"{own['report_seconds']:.1f}", f"{own['report_mb']:.0f}")
        for kind, own in found.items()
    ]
    return (
        "## The report\n\n1,000,000 rows of 20 numbers against as many, in a process of its own."
        f"\n\n{table(('file', 'seconds', 'peak MB'), rows)}"
    )


SECTIONS = {
    "run_lengths": run_lengths,
    "bursts": bursts,
    "shifts": shifts,
    "cost": cost,
    "peers": peers,
    "accuracy": accuracy,
    "report": report,
}
