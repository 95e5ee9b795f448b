"""The ring of labels."""

import numpy as np
import pytest

from edgeloop.observer import Labelled, LabelSource
from monitor.accuracy.labels import ROWS, Labels

P = np.array([0.9, 0.1])


def labelled(
    name: str, right: bool = True, source: LabelSource = "audit", inclusion: float = 1.0
) -> Labelled:
    return Labelled(name, 1, P, right, source, inclusion)


def test_a_row_is_found_by_its_id_for_as_long_as_it_is_kept() -> None:
    labels = Labels()
    assert labels.find("") is None, "an empty place has no id"
    for at in range(ROWS + 5):
        labels.add(labelled(f"r{at}"), 0.9, at)
    assert (len(labels), labels.taken) == (ROWS, ROWS + 5)
    assert labels.find("r4") is None
    assert labels.find("r5") == 5
    assert labels.find(f"r{ROWS + 4}") == 4


def test_a_correction_tells_the_number_and_one_that_changes_nothing_does_not() -> None:
    labels = Labels()
    labels.add(labelled("a", right=True), 0.8, 17)
    at = labels.find("a")
    assert at is not None
    assert labels.correct(at, True) is None
    assert labels.correct(at, False) == 17
    assert labels.correct(at, False) is None
    (confidence,), (right,) = labels.judged()
    assert confidence == pytest.approx(0.8, abs=1e-4)
    assert not right


def test_each_way_of_drawing_has_weights_of_mean_one() -> None:
    """A file's sample of 3 and a captured one of 4: neither outweighs the other by its share."""
    captured: list[tuple[LabelSource, float]] = [
        ("captured", 0.01),
        ("captured", 0.01),
        ("captured", 0.04),
        ("captured_unsure", 0.04),
    ]
    labels = Labels()
    for at in range(3):
        labels.add(labelled(f"file {at}"), 0.5, at)
    for at, (source, inclusion) in enumerate(captured):
        labels.add(labelled(f"captured {at}", True, source, inclusion), 0.5, at)
    labels.add(labelled("told", source="feedback"), 0.5, 9)
    right, confidence, weight = labels.audit()
    assert len(right) == len(confidence) == len(weight) == 7
    assert weight[:3].tolist() == [1.0, 1.0, 1.0]
    assert weight[3:] == pytest.approx([1.6, 1.6, 0.4, 0.4])


def test_without_drawn_rows_there_is_no_audit() -> None:
    labels = Labels()
    labels.add(labelled("told", source="feedback"), 0.5, 0)
    assert [len(part) for part in labels.audit()] == [0, 0, 0]


def test_a_state_that_does_not_fit_is_refused() -> None:
    taken, ring, numbers = Labels().state()
    strange = np.frombuffer(ring, dtype=Labels()._ring.dtype).copy()
    strange["source"][0] = 99
    for bad in (
        (-1, ring, numbers),
        (taken, ring[:-11], numbers),
        (taken, ring, numbers[:-4]),
        (taken, strange.tobytes(), numbers),
    ):
        with pytest.raises(ValueError, match="labels|buffer size"):
            Labels().restore(*bad)
