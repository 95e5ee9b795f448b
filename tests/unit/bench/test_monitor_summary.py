"""bench.monitor's last line: the keys that it promises, and none of a part that was not run."""

import json
from typing import Any

from bench.monitor.accuracy import METHODS
from bench.monitor.summary import summary
from bench.monitor.tables import SECTIONS


def null(reference_rows: int, drawn: int, **found: Any) -> dict[str, Any]:
    return {
        "source": "gsm8k",
        "target": 5_000,
        "reference_rows": reference_rows,
        "live_rows": 900,
        "drawn": drawn,
        "refused": 0 if found else drawn,
        "reason": None if found else "too few rows",
        "fit_seconds": 1.0,
        **found,
    }


RATIO = {
    "ratio": 1.5,
    "ratio_error": None,
    "worst_tenth_ratio": 1.1,
    "worst_tenth_ratio_error": 0.2,
    "alarms": 12,
    "rows": 90_000,
}


def one_delay(median: float | None, missed: float = 0.0) -> dict[str, Any]:
    own = {"median": median, "missed_ratio": missed, "streams": 20, "alarmed_before": 0}
    return {"matched": own, "promised": own}


def found() -> dict[str, Any]:
    return {
        "run_lengths": {
            "sources": {"gsm8k": {"about": "questions", "rows": 1_400}},
            "cells": [null(500, 30, **RATIO), null(800, 8, **RATIO), null(200, 8)],
        },
        "bursts": {"cells": [null(500, 8) | {"mean_burst": 2.0}]},
        "shifts": {
            "cells": [
                {
                    "source": "gsm8k",
                    "reference_rows": 500,
                    "references": 8,
                    "target": 5_000,
                    "run_length": {"promised": {"rows_per_alarm": 9_000.0}},
                    "shifts": {
                        "5% new": one_delay(None, 0.6),
                        "30% new": one_delay(20.0),
                        "30% other language": one_delay(9.0),
                        "30% cut to 3 words": one_delay(8.0),
                        "half the class mix": one_delay(80.0),
                        "typos in 30% of words": one_delay(30.0),
                    },
                }
            ]
        },
    }


def test_no_part_no_keys() -> None:
    assert summary({}) == {}


def test_run_lengths_by_source_target_and_reference_size() -> None:
    said = summary(found())
    assert said["run_length_ratio"] == {
        "gsm8k": {"5000": {"500": 1.5, "800": 1.5, "200": "refused"}}
    }
    # Eight references have no worst tenth.
    assert said["worst_tenth_ratio"] == {"gsm8k": {"5000": {"500": 1.1}}}
    assert said["bursty_ratio"] == {"gsm8k": {"2": "refused"}}


def test_delays_are_of_new_topics_alone() -> None:
    said = summary(found())
    assert said["delay_30"] == {"gsm8k: 30% new": 20.0}
    assert said["delay_5"] == {"gsm8k: 5% new": None}
    assert said["miss_5"] == {"gsm8k: 5% new": 0.6}
    assert said["delay_class_mix"] == {"gsm8k: half the class mix": 80.0}
    assert said["delay_typos"] == {"gsm8k: typos in 30% of words": 30.0}


def test_the_last_line_is_json_and_every_part_has_a_table() -> None:
    parts = found()
    assert json.loads(json.dumps(summary(parts))) == summary(parts)
    for name, figures in parts.items():
        assert "| gsm8k" in SECTIONS[name](figures)


def test_estimates_and_the_report_are_told_by_their_worst() -> None:
    method = {"error": 0.01, "bias": -0.002, "p90": 0.03}
    parts: dict[str, dict[str, Any]] = {
        "accuracy": {"none": {"accuracy": 0.93, "gap": 0.01, **dict.fromkeys(METHODS, method)}},
        "report": {
            "npz": {"report_seconds": 3.0, "report_mb": 110.0},
            "csv": {"report_seconds": 11.0, "report_mb": 90.0},
        },
    }
    assert summary(parts) == {
        "atc_error": {"none": 0.01},
        "cbpe_error": {"none": 0.01},
        "report_seconds": 11.0,
        "report_mb": 110.0,
    }
    assert "| none | 0.930 |" in SECTIONS["accuracy"](parts["accuracy"])
    assert "| csv | 11.0 | 90 |" in SECTIONS["report"](parts["report"])
