"""What fine-tuning came to, as text: estimate, search, retention, evaluation, baselines."""

from typing import Any

from edgeloop.columns import MEGABYTE, columns, percent

# Classes that a table of what was forgotten shows; --json has them all.
RETENTION_ROWS = 10


def estimate(document: dict[str, Any]) -> str:
    """What a run will need, one line per method; the recipe's own is marked."""
    head = ["method", "memory MB", "time s", "disk MB", "trained"]
    rows = [
        [
            f"{found['method']} *" if found["method"] == document["own"] else found["method"],
            *([found["problem"]] if found["problem"] else _needs(found)),
        ]
        for found in document["methods"]
    ]
    padded = [[*row, *[""] * (len(head) - len(row))] for row in rows if len(row) > 2]
    lines = [columns(head, padded)]
    lines += [f"{row[0]}: no figures: {row[1]}" for row in rows if len(row) == 2]
    lines.append(
        f"\n* the recipe's own. Memory and time are those of fine-tuning, all {document['epochs']} "
        "epochs: early\nstopping can only shorten it. Disk is the whole run folder: merged model, "
        "candidates and bundle."
    )
    searched = document["search"]
    if searched is not None:
        lines.append(
            f"The search comes before it: at most {searched['seconds']:.0f} s "
            f"({searched['trial_seconds']:.0f} s a trial) and "
            f"{_megabytes(searched['memory_bytes'])} MB."
        )
    return "\n".join(lines)


def _needs(found: dict[str, Any]) -> list[str]:
    return [
        _megabytes(found["memory_bytes"]),
        f"{found['seconds']:.0f}",
        _megabytes(found["disk_bytes"]),
        f"{found['trainable_ratio']:.2%}",
    ]


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:.0f}"


def retention(document: dict[str, Any]) -> str:
    """What was forgotten: the reasons, and the classes whose answers changed as a table."""
    word = "FORGOTTEN" if document["verdict"] == "forgotten" else document["verdict"]
    lines = [f"retention  {word}", *(f"because    {reason}" for reason in document["reasons"])]
    changed = [c for c in document["classes"] if c["lost"] or c["gained"]]
    if not changed:
        return "\n".join(lines)
    rows = [
        [
            c["label"],
            str(c["rows"]),
            f"{c['before']:.3f}",
            f"{c['after']:.3f}",
            str(c["lost"]),
            str(c["gained"]),
            "FORGOTTEN" if c["forgotten"] else "",
        ]
        for c in sorted(changed, key=lambda c: c["gained"] - c["lost"])[:RETENTION_ROWS]
    ]
    head = ["class", "rows", "before", "after", "lost", "gained", ""]
    return "\n".join([*lines, "", columns(head, rows), ""])


def evaluation(document: dict[str, Any]) -> str:
    """The headline figure with its interval, calibration, and the weakest slice."""
    name = document["headline"]
    figure = document["figures"][name]
    lines = [
        f"tested     {name} {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}, "
        f"{percent(document['confidence'])}) on {document['rows']:,} "
        f"{'queries' if document['task'] == 'text-embedding' else 'test rows'}"
    ]
    if document["calibration"] is not None:
        lines[0] += f"; calibration error {document['calibration']['ece']:.3f}"
    if document["worst_slice"] is not None:
        lines.append(f"weakest    {document['worst_slice']}, below the whole by more than chance")
    return "\n".join(lines)


def baselines(document: dict[str, Any]) -> str:
    """Every way to do the task, the cheapest first, and which one to ship."""
    rows = []
    for result in document["results"]:
        figure, loss = result["figure"], result["loss"]
        rows.append(
            [
                result["name"],
                f"{figure['value']:.3f}",
                f"{figure['low']:.3f} to {figure['high']:.3f}",
                "" if loss is None else f"{loss['value']:+.3f}",
                "" if loss is None else f"{loss['low']:+.3f} to {loss['high']:+.3f}",
                f"{result['train_seconds']:.1f}",
                f"{result['latency_p50_ms']:.2f}",
                f"{result['size_bytes'] / MEGABYTE:.1f}",
                "SHIP" if result["name"] == document["ship"] else "",
            ]
        )
    share = percent(document["interval_confidence"])
    head = [
        "baseline",
        document["headline"],
        share,
        "fine-tuned +",
        share,
        "train s",
        "p50 ms",
        "MB",
    ]
    return f"{columns([*head, ''], rows)}\n\nworth it   {document['reason']}"


def search(document: dict[str, Any]) -> str:
    """What a search found, and what came of its trials."""
    found = ", ".join(f"{key} {_figure(value)}" for key, value in document["parameters"].items())
    best = next(t for t in document["trials"] if t["number"] == document["best"])
    ends = [t["state"] for t in document["trials"]]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends))
    return (
        f"search     {found}: {document['metric']} {best['figure']:.3f} on "
        f"{document['holdout_rows']} training rows held out (trials: {counts})"
    )


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
