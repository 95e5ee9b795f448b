"""The figures that the benchmark promises; a part that was not run has none."""

from typing import Any

Figures = dict[str, Any]

REFUSED = "refused"
# What the keys of the last line are called, by the shifts' names.
SHIFTS = {
    "delay_30": "30% ",
    "delay_10": "10% ",
    "delay_5": "5% ",
    "delay_class_mix": "half the class mix",
    "delay_typos": "typos in ",
}
LANGUAGE = "other language"


def summary(found: Figures) -> Figures:
    """Keys as the benchmark's last line has them."""
    return {
        **(_run_lengths(found["run_lengths"]) if "run_lengths" in found else {}),
        **({"bursty_ratio": _bursts(found["bursts"])} if "bursts" in found else {}),
        **(_delays(found["shifts"]) if "shifts" in found else {}),
        **(_cost(found["cost"]) if "cost" in found else {}),
        **(_estimates(found["accuracy"]) if "accuracy" in found else {}),
        **(_report(found["report"]) if "report" in found else {}),
        **({"peers": _peers(found["peers"])} if "peers" in found else {}),
    }


def _run_lengths(found: Figures) -> Figures:
    ratios: Figures = {}
    worst: Figures = {}
    for cell in found["cells"]:
        keys = (cell["source"], str(cell["target"]), str(cell["reference_rows"]))
        _put(ratios, keys, cell.get("ratio", REFUSED))
        if cell["drawn"] >= 30 and "worst_tenth_ratio" in cell:
            _put(worst, keys, cell["worst_tenth_ratio"])
    return {"run_length_ratio": ratios, "worst_tenth_ratio": worst}


def _put(tree: Figures, keys: tuple[str, ...], value: object) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _bursts(found: Figures) -> Figures:
    ratios: Figures = {}
    for cell in found["cells"]:
        _put(ratios, (cell["source"], f"{cell['mean_burst']:g}"), cell.get("ratio", REFUSED))
    return ratios


def _delays(found: Figures) -> Figures:
    """Medians at the matched run length, by source and what is new; None where most are missed."""
    delays: Figures = {key: {} for key in SHIFTS}
    missed: Figures = {}
    for cell in found["cells"]:
        for shift, measured in cell.get("shifts", {}).items():
            key = next((k for k, start in SHIFTS.items() if shift.startswith(start)), None)
            if key is None or shift.endswith((LANGUAGE, "words")) and key != "delay_typos":
                continue
            what = f"{cell['source']}: {shift}"
            delays[key][what] = measured["matched"]["median"]
            if key == "delay_5":
                missed[what] = measured["matched"]["missed_ratio"]
    return {**delays, "miss_5": missed}


def _cost(found: Figures) -> Figures:
    keys = ("update_microseconds", "update_p99_microseconds", "state_bytes", "model_bytes")
    return {**{key: found[key] for key in keys}, "fit_seconds": found["fit_seconds"]}


def _estimates(found: Figures) -> Figures:
    """By shift, the mean distance of the estimate from the true accuracy."""
    return {
        f"{method}_error": {shift: own[method]["error"] for shift, own in found.items()}
        for method in ("atc", "cbpe")
    }


def _report(found: Figures) -> Figures:
    """Of the slowest kind of file, and of the largest."""
    return {key: max(own[key] for own in found.values()) for key in ("report_seconds", "report_mb")}


def _peers(found: Figures) -> Figures:
    """Of the tuned settings the run length and the median delays."""
    return {
        cell["source"]: {
            one["name"]: {
                "setting": one["setting"],
                "run_length": one["run_length"],
                **{name: own["median"] for name, own in one["delays"].items()},
            }
            for one in cell["detectors"]
            if one["tuned"]
        }
        for cell in found["cells"]
    }
