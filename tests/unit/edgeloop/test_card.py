"""The model card: true figures, no places on the machine that built it."""

import pytest
import yaml

from edgeloop.abstain import Abstention
from edgeloop.card import TASK_WORDS, render
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset
from edgeloop.tasks import TASKS
from tests import certified, tiny

NEVER = Abstention(None, 3, "never: 3 reference rows are too few")
ROWS = {"train": 40, "validation": 5, "reference": 7, "test": 6, "fresh": 2}


def card(
    base: str = "org/model",
    confidence: float = 0.95,
    reference_is_test: bool = False,
    task: str = "text-classification",
    abstention: Abstention = NEVER,
) -> str:
    recipe = Recipe.model_validate_json(
        f'{{"name": "tiny", "task": "{task}", "base": "{base}", "data": {{"files": ["rows.csv"]}}}}'
    )
    measurement, accuracy, _ = tiny.figures()
    dataset = Dataset(
        inputs_digest="0" * 64,
        files=(),
        digest="d" * 64,
        labels=tiny.LABELS,
        rows=ROWS,
        sources=(),
        reference_is_test=reference_is_test,
        warnings=(),
    )
    judged = accuracy.model_copy(update={"confidence": confidence})
    candidate = certified.candidate(measurement=measurement, accuracy=judged)
    return render(recipe, dataset, candidate, tiny.no_reference(), abstention)


def cell(text: str, name: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return line.split("|")[2].strip()


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("org/model", "org/model"),
        ("/home/somebody/models/mini-lm", "mini-lm"),
        ("/home/somebody/models/2024", "2024"),
        ("./models/mini-lm", "mini-lm"),
        ("package:some_package/model", "some_package"),
        ("package:some_package", "some_package"),
    ],
)
def test_the_base_is_named_without_its_place(base: str, shown: str) -> None:
    text = card(base)
    assert yaml.safe_load(text.split("---")[1])["base_model"] == shown
    assert "somebody" not in text


def test_only_the_training_rows_are_said_to_be_trained_on() -> None:
    text = card()
    assert cell(text, "trained on") == "40 rows"
    assert cell(text, "other rows") == (
        "5 validation, 7 reference (never trained on), 6 test, 2 fresh (never trained on)"
    )


def test_a_reference_that_is_the_test_rows_is_called_so() -> None:
    assert "7 reference (never trained on; the test rows are among them)" in cell(
        card(reference_is_test=True), "other rows"
    )


@pytest.mark.parametrize(
    ("confidence", "shown"),
    [(0.95, "95%"), (0.995, "99.5%"), (0.57, "57%"), (0.9999999, "99.99999%")],
)
def test_a_confidence_is_not_rounded_up(confidence: float, shown: str) -> None:
    assert f" at {shown} confidence" in card(confidence=confidence)


@pytest.mark.parametrize(
    ("task", "does", "measure"),
    [
        ("text-classification", "Sorts a text into one of 3 classes", "test accuracy"),
        (
            "multi-label-classification",
            "Gives a text any number of 3 labels, or none: billing, delivery, repair.",
            "test rows with exactly the right labels",
        ),
        (
            "token-classification",
            "Finds entities of 3 kinds in a text: billing, delivery, repair.",
            "test rows answered exactly (every entity, nothing else)",
        ),
        (
            "text-embedding",
            "Turns a text into a vector of length 1",
            "test rows whose own text is the nearest (recall at 1 among test and reference rows)",
        ),
    ],
)
def test_every_task_says_what_it_does_and_what_was_measured(
    task: str, does: str, measure: str
) -> None:
    text = card(task=task)
    assert does in text
    assert cell(text, measure) == "0.900 on 6 rows"


def test_every_task_has_its_words() -> None:
    assert set(TASK_WORDS) == set(TASKS)


def test_the_card_says_when_answers_are_marked_or_why_never() -> None:
    assert cell(card(), "marked as out of scope") == NEVER.reason
    some = Abstention(0.5, 99, "below a score of 0.5000")
    assert cell(card(abstention=some), "marked as out of scope") == some.reason
