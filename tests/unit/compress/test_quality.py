"""A candidate beside the merged model: calibration, agreement, flips, and the class that falls."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from compress.quality import assess
from edgeloop.records_measured import ClassQuality, Quality
from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.slices import FEWEST_ROWS

LABELS = ("a", "b", "c")
CLASSIFY, SEVERAL = "text-classification", "multi-label-classification"
TAG, EMBED = "token-classification", "text-embedding"


def output(*logits: float) -> RowOutput:
    return RowOutput(np.array(logits, dtype=np.float32), np.zeros(2, np.float32))


def saying(label: str, sure: float = 4.0) -> RowOutput:
    return output(*(sure if name == label else 0.0 for name in LABELS))


def classified(truth: Sequence[str], merged: Sequence[str], candidate: Sequence[str]) -> Quality:
    rows = [Row(str(i), "text", (label,)) for i, label in enumerate(truth)]
    return assess(CLASSIFY, LABELS, rows, list(map(saying, merged)), list(map(saying, candidate)))


def by_name(quality: Quality) -> dict[str, ClassQuality]:
    return {figures.name: figures for figures in quality.classes}


# -- agreement and flips -----------------------------------------------------------------------


def test_a_model_beside_itself_agrees_and_flips_and_loses_nothing() -> None:
    found = classified("aabbc", "aabcc", "aabcc")
    assert (found.rows, found.agreement_ratio, found.flip_ratio) == (5, 1.0, 0.0)
    assert found.ece == found.merged_ece
    assert {(c.recall_drop, c.f1_drop) for c in found.classes} == {(0.0, 0.0)}


def test_flips_that_cancel_in_the_accuracy_are_counted() -> None:
    found = classified("aaaa", "aabb", "bbaa")
    assert (found.agreement_ratio, found.flip_ratio) == (0.0, 1.0)
    assert by_name(found)["a"].recall_drop == 0.0


def test_two_wrong_answers_that_differ_disagree_without_a_flip() -> None:
    found = classified("aa", "ab", "ac")
    assert (found.agreement_ratio, found.flip_ratio) == (0.5, 0.0)


names = st.sampled_from(LABELS)


@settings(deadline=None)
@given(st.lists(st.tuples(names, names, names), min_size=1, max_size=40))
def test_figures_are_those_of_scikit_learn(rows: list[tuple[str, str, str]]) -> None:
    truth, merged, candidate = (list(column) for column in zip(*rows, strict=True))
    found = classified(truth, merged, candidate)
    for answers, recall, f1 in (
        (merged, "merged_recall", "merged_f1"),
        (candidate, "recall", "f1"),
    ):
        expected = metrics.precision_recall_fscore_support(
            truth, answers, labels=LABELS, zero_division=0.0
        )
        assert [getattr(c, recall) for c in found.classes] == pytest.approx(list(expected[1]))
        assert [getattr(c, f1) for c in found.classes] == pytest.approx(list(expected[2]))
        assert [c.support for c in found.classes] == list(expected[3])
    changed = np.mean([one != other for one, other in zip(merged, candidate, strict=True)])
    assert found.agreement_ratio == pytest.approx(1.0 - changed)
    assert 0.0 <= found.flip_ratio <= changed + 1e-12


# -- the class that falls ----------------------------------------------------------------------


def test_the_class_that_falls_most_is_named_with_its_rows() -> None:
    found = classified("aaaabbbbcc", "aaaabbbbcc", "aaaabbaacc")
    worst = found.worst_recall
    assert worst is not None
    assert (worst.name, worst.support, worst.recall_drop) == ("b", 4, 0.5)
    assert found.worst_f1 == worst
    assert worst.f1_drop == pytest.approx(1.0 - 2.0 * 2 / (2.0 * 2 + 2))


def test_recall_and_f1_may_fall_most_in_different_classes() -> None:
    """Class a keeps its recall and loses precision; b loses a little recall."""
    found = classified(
        "a" + "b" * 10 + "c" * 10, "a" + "b" * 10 + "c" * 10, "a" * 3 + "b" * 8 + "c" * 10
    )
    assert found.worst_recall is not None
    assert found.worst_f1 is not None
    assert (found.worst_recall.name, found.worst_f1.name) == ("b", "a")


def test_of_equal_falls_the_class_with_more_rows_is_named() -> None:
    found = classified("aabbbb", "aabbbb", "acbbcc")
    assert found.worst_recall is not None
    assert found.worst_recall.name == "b"


def test_a_class_without_rows_is_shown_and_cannot_fall() -> None:
    found = classified("aab", "aab", "caa")
    assert by_name(found)["c"].support == 0
    assert found.worst_recall is not None
    assert found.worst_recall.name == "b"


def test_a_class_that_no_training_row_had_counts_as_missed() -> None:
    rows = [Row("0", "text", ("a",)), Row("1", "text", ("new",))]
    found = assess(CLASSIFY, LABELS, rows, [saying("a")] * 2, [saying("a")] * 2)
    assert (by_name(found)["new"].support, by_name(found)["new"].merged_recall) == (1, 0.0)


# -- the slice that falls ----------------------------------------------------------------------


def in_channels(count: int, *channels: str) -> list[Row]:
    return [
        Row(f"{channel}{i}", "text", ("a",), slices=(("channel", channel),))
        for channel in channels
        for i in range(count)
    ]


def test_the_slice_that_falls_most_is_named_with_its_rows() -> None:
    rows = in_channels(FEWEST_ROWS, "mail", "phone")
    merged = [saying("a")] * len(rows)
    candidate = [saying("a")] * FEWEST_ROWS + [saying("b")] * 3 + [saying("a")] * (FEWEST_ROWS - 3)
    worst = assess(CLASSIFY, LABELS, rows, merged, candidate).worst_slice
    assert worst is not None
    assert (worst.name, worst.rows, worst.merged_accuracy) == ("channel: phone", FEWEST_ROWS, 1.0)
    assert worst.drop == pytest.approx(3 / FEWEST_ROWS)


def test_a_slice_with_too_few_rows_is_not_judged() -> None:
    rows = in_channels(FEWEST_ROWS - 1, "mail", "phone")
    outputs = [saying("a")] * len(rows)
    found = assess(CLASSIFY, LABELS, rows, outputs, outputs)
    assert (found.slices, found.worst_slice) == ((), None)


# -- calibration -------------------------------------------------------------------------------


def test_a_candidate_that_is_surer_than_it_is_right_shows_it() -> None:
    rng = np.random.default_rng(0)
    truth = [str(label) for label in rng.choice(LABELS, 3_000)]
    said = [t if rng.random() < 0.7 else str(rng.choice(LABELS)) for t in truth]
    right = np.mean([one == other for one, other in zip(truth, said, strict=True)])
    rows = [Row(str(i), "text", (label,)) for i, label in enumerate(truth)]
    fair = float(np.log(2.0 * right / (1.0 - right)))  # softmax gives `right` to the best of three
    quality = assess(
        CLASSIFY, LABELS, rows, [saying(s, fair) for s in said], [saying(s, 9.0) for s in said]
    )
    assert quality.merged_ece is not None
    assert quality.ece is not None
    assert quality.merged_ece < 0.05
    assert quality.ece == pytest.approx(1.0 - right, abs=0.01)
    assert (quality.agreement_ratio, quality.flip_ratio) == (1.0, 0.0)


# -- the other tasks ---------------------------------------------------------------------------


def test_several_labels_are_judged_one_by_one_and_agree_as_a_whole() -> None:
    rows = [Row("0", "text", ("a", "b")), Row("1", "text", ())]
    merged = [output(5, 5, -5), output(-5, -5, -5)]
    candidate = [output(5, -5, -5), output(-5, -5, -5)]
    found = assess(SEVERAL, LABELS, rows, merged, candidate)
    assert (found.agreement_ratio, found.flip_ratio) == (0.5, 0.5)
    assert found.worst_recall is not None
    assert (found.worst_recall.name, found.worst_recall.recall_drop) == ("b", 1.0)
    assert found.ece is not None


def tagged(*tags: int) -> RowOutput:
    """Two words; tags 0 O, 1 B-city, 2 I-city, 3 B-name, 4 I-name."""
    logits = np.zeros((2, 5), dtype=np.float32)
    logits[range(2), tags] = 6.0
    return RowOutput(logits, np.zeros(2, np.float32), ((0, 4), (5, 9)))


def test_entities_are_judged_by_type() -> None:
    rows = [Row("0", "anna oslo", spans=(Span(0, 4, "name"), Span(5, 9, "city")))]
    found = assess(TAG, ("city", "name"), rows, [tagged(3, 1)], [tagged(3, 0)])
    assert (found.agreement_ratio, found.flip_ratio) == (0.0, 1.0)
    assert found.worst_f1 is not None
    assert (found.worst_f1.name, found.worst_f1.f1_drop) == ("city", 1.0)
    assert by_name(found)["name"].f1 == 1.0


def test_a_tagger_that_finds_nothing_has_no_calibration() -> None:
    found = assess(TAG, ("city",), [Row("0", "anna oslo")], [tagged(0, 0)], [tagged(0, 0)])
    assert (found.ece, found.merged_ece, found.worst_f1) == (None, None, None)
    assert found.agreement_ratio == 1.0


def test_vectors_flip_where_another_text_becomes_the_nearest() -> None:
    def vectors(*angles: float) -> list[RowOutput]:
        return [
            RowOutput(np.zeros(0, np.float32), np.array([np.cos(a), np.sin(a)], np.float32))
            for a in angles
        ]

    rows = [Row("0", "one", text_pair="eins"), Row("1", "two", text_pair="zwei")]
    found = assess(EMBED, (), rows, vectors(0, 1, 0.1, 1.1), vectors(0, 1, 0.1, -0.5))
    assert (found.agreement_ratio, found.flip_ratio) == (None, 0.5)
    assert (found.ece, found.classes, found.worst_f1) == (None, (), None)


# -- bad input ---------------------------------------------------------------------------------


def test_no_rows_and_rows_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="0 rows"):
        assess(CLASSIFY, LABELS, [], [], [])
    with pytest.raises(ValueError, match="zip"):
        assess(CLASSIFY, LABELS, [Row("0", "t", ("a",))], [saying("a")], [saying("a")] * 2)


def test_the_record_survives_the_disk() -> None:
    found = classified("aab", "aab", "aac")
    assert Quality.model_validate_json(found.to_bytes()) == found
