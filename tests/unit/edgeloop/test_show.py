"""What a person reads."""

from typing import Any

import pytest

from edgeloop import show
from edgeloop.columns import percent
from tests import tiny

REPLAY: dict[str, Any] = {
    "sent": 60,
    "failed": 0,
    "accuracy": None,
    "verdict": None,
    "requests_until_alarm": None,
    "alarmed_before": False,
    "armed": True,
    "log_evidence": 1.5,
    "threshold": 9.0,
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "no alarm"),
        ({"alarmed_before": True}, "no news"),
        ({"armed": False}, "not armed"),
    ],
)
def test_a_replay_without_an_alarm_says_which_kind_of_silence_it_is(
    changed: dict[str, Any], said: str
) -> None:
    lines = show.replay({**REPLAY, **changed}).splitlines()
    assert lines[-1].startswith(said)
    assert len(lines) == 2


def test_an_alarm_says_by_which_detector_since_when_and_what_moved() -> None:
    verdict = {
        "detector": "token_length",
        "advisory": True,
        "log_evidence": 12.0,
        "threshold": 11.0,
        "parts": {"novelty": 2.0},
        "onset_observation": 41,
        "words": [{"name": "gas", "reference_ratio": 0.0, "recent_ratio": 0.4}],
        "classes": [],
        "detectors": ["token_length"],
        "features": [
            {
                "name": "token_length",
                "reference_median": 12.0,
                "recent_median": 31.0,
                "distance": 0.6,
            },
            {"name": "entropy", "reference_median": 0.1, "recent_median": 0.1, "distance": 0.1},
        ],
        "reference_rows": ["r-7", "r-9"],
    }
    text = show.replay({**REPLAY, "verdict": verdict, "requests_until_alarm": 60})
    assert "nothing is promised" in text
    assert "token_length: ln 12.00 above 11.00 (novelty 2.0)" in text
    assert "began      about observation 41" in text
    assert "gas: 0.0% of reference rows, 40.0% of recent ones" in text
    assert "token_length: median 12 in the reference, 31 now, 60% apart" in text
    assert "entropy" not in text
    assert text.endswith("reference rows r-7, r-9")


def test_an_unarmed_monitor_points_to_its_reason() -> None:
    text = show.replay({**REPLAY, "armed": False})
    assert "`edgeloop bundle inspect` tells why" in text
    assert "no alarm" not in text


@pytest.mark.parametrize(
    ("ratio", "said"), [(0.995, "99.5%"), (0.95, "95%"), (0.07, "7%"), (1.0, "100%")]
)
def test_a_confidence_is_not_rounded_up(ratio: float, said: str) -> None:
    assert percent(ratio) == said


def test_labels_say_how_many_rows_were_known() -> None:
    document = {"model": "m", "drawn": 2, "added": 2, "known": 5, "skipped": 3}
    assert "skipped    3 rows" in show.labelled(document)


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (None, "marks      no answer as out of scope"),
        (0.5, "marks      answers of a score below 0.5000 as out of scope, at most 2% of ordinary"),
    ],
)
def test_a_bundle_says_which_answers_it_marks(below: float | None, said: str) -> None:
    manifest = tiny.make_manifest(abstain_below=below).model_copy(
        update={"max_abstain_ratio": 0.02}
    )
    assert said in show.bundle({"digest": "d", **manifest.model_dump(mode="json")})
