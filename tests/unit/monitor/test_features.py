"""One number per row and feature, whatever the row."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.observer import Observation
from edgeloop.rows import Span
from edgeloop.tasks import TASKS, Answer
from monitor.features import (
    FEATURES,
    MOST_CHARACTERS,
    READERS,
    Context,
    main_script,
    read_features,
    script_of,
)

LATIN = Context("LATIN", np.array([1.0, 0.0], dtype=np.float32))
CYRILLIC = Context("CYRILLIC", LATIN.centre)


def row(text: str = "some text", tokens: int = 4, **given: object) -> Observation:
    known: dict[str, object] = {
        "embedding": np.array([3.0, 4.0], dtype=np.float32),
        "probabilities": np.array([0.7, 0.2, 0.1]),
    }
    return Observation(text=text, tokens=tokens, **{**known, **given})  # type: ignore[arg-type]


def read(name: str, of: Observation, context: Context = LATIN) -> float:
    (found,) = read_features(of, (name,), context)
    return found


def test_every_task_has_features_and_every_feature_a_task() -> None:
    assert set(FEATURES) == set(TASKS)
    assert {name for names in FEATURES.values() for name in names} == set(READERS)


def test_confidence_and_entropy_are_those_of_the_probabilities() -> None:
    assert read("confidence", row()) == 0.7
    assert read("entropy", row()) == pytest.approx(0.801819, abs=1e-6)
    certain = row(probabilities=np.array([1.0, 0.0]))
    assert read("entropy", certain) == 0.0


def test_tokens_are_counted_and_related_to_characters() -> None:
    asked = row("some text", tokens=4, unknown_tokens=1)
    assert read("token_length", asked) == 4.0
    assert read("unknown_token_ratio", asked) == 0.25
    assert read("characters_per_token", asked) == 2.25


def test_a_text_without_tokens_has_no_ratios() -> None:
    assert math.isnan(read("unknown_token_ratio", row("", tokens=0)))
    assert math.isnan(read("characters_per_token", row("", tokens=0)))


def test_a_tagger_tells_entities_their_share_and_its_least_sure_token() -> None:
    spans = (Span(0, 4, "name"), Span(6, 7, "place"))
    tagged = row("Anna, B...", answer=Answer(spans=spans, score=0.4))
    assert read("entities", tagged) == 2.0
    assert read("tagged_ratio", tagged) == 0.5
    assert read("least_token_confidence", tagged) == 0.4
    assert math.isnan(read("tagged_ratio", row("")))


def test_the_labels_of_an_answer_are_counted() -> None:
    assert read("labels", row(answer=Answer(labels=("a", "b")))) == 2.0


def test_centrality_is_the_cosine_to_the_mean() -> None:
    assert read("centrality", row()) == pytest.approx(0.6)
    assert read("centrality", row(embedding=np.zeros(2, dtype=np.float32))) == 0.0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("plain English", 0.0),
        ("café água", 0.0),
        ("привет", 1.0),
        ("ab где", 0.6),
        ("你好 ab", 0.5),
        ("12 €", math.nan),
        ("12 + 3", math.nan),
        ("", math.nan),
    ],
)
def test_letters_of_other_scripts_have_their_share(text: str, share: float) -> None:
    assert read("foreign_script_ratio", row(text)) == pytest.approx(share, nan_ok=True)


def test_plain_letters_are_foreign_to_another_script() -> None:
    assert read("foreign_script_ratio", row("english"), CYRILLIC) == 1.0
    assert read("foreign_script_ratio", row("да ok"), CYRILLIC) == 0.5
    assert math.isnan(read("foreign_script_ratio", row("12"), CYRILLIC))


def test_of_a_huge_text_the_beginning_is_read() -> None:
    assert read("foreign_script_ratio", row("é" * MOST_CHARACTERS + "д" * 5_000)) == 0.0


def test_the_main_script_is_that_of_most_letters() -> None:
    assert main_script(["hello", "да", "ab 123"]) == "LATIN"
    assert main_script(["да нет", "ok"]) == "CYRILLIC"
    assert main_script(["12", ""]) == "LATIN"
    assert main_script([]) == "LATIN"


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "LATIN"),
        ("ß", "LATIN"),
        ("я", "CYRILLIC"),
        ("中", "CJK"),
        ("ひ", "HIRAGANA"),
        ("1", ""),
    ],
)
def test_a_letter_has_the_script_of_its_name(character: str, script: str) -> None:
    assert script_of(character) == script


@given(st.text(max_size=80), st.integers(0, 20), st.sampled_from([LATIN, CYRILLIC]))
def test_no_text_is_without_its_features(text: str, tokens: int, context: Context) -> None:
    asked = row(text, tokens, unknown_tokens=tokens // 2)
    for task, names in FEATURES.items():
        found = read_features(asked, names, context)
        assert len(found) == len(names), task
        assert not any(math.isinf(value) for value in found)
        share = read("foreign_script_ratio", asked, context)
        assert math.isnan(share) or 0.0 <= share <= 1.0
