"""Golden rows of every task: made by the artefact, kept by the same artefact, broken by another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import MODEL, TOKENIZER, GoldenRow
from edgeloop.golden import GOLDEN_ROWS, GOLDEN_VECTORS, agrees, difference, make_golden
from edgeloop.rows import Row
from edgeloop.runtime import OnnxModel, RowOutput
from edgeloop.tasks import TASKS
from tests import tiny

KINDS = [*((task, False) for task in TASKS), ("text-classification", True)]


def load(folder: Path, task: str, text_pair: bool = False) -> OnnxModel:
    tiny.make_model(folder, task=task, text_pair=text_pair)
    return OnnxModel(folder / MODEL, folder / TOKENIZER, 64)


def known(task: str) -> tuple[str, ...]:
    return () if task == "text-embedding" else tiny.LABELS


@pytest.mark.parametrize(("task", "text_pair"), KINDS)
def test_the_artefact_agrees_with_its_own_rows_and_not_with_those_of_others(
    task: str, text_pair: bool, tmp_path: Path
) -> None:
    model, rows = load(tmp_path, task, text_pair), tiny.rows(task, 20, 3, text_pair)
    golden = make_golden(TASKS[task], model, known(task), rows)
    stored = [GoldenRow.model_validate_json(row.model_dump_json()) for row in golden]
    assert stored == golden
    outputs = model.score([row.input for row in stored])
    agreeing = [
        agrees(row, output, TASKS[task], known(task))
        for row, output in zip(stored, outputs, strict=True)
    ]
    assert all(agreeing)
    turned = [
        replace(output, logits=-output.logits, embedding=-output.embedding) for output in outputs
    ]
    assert not any(
        agrees(row, output, TASKS[task], known(task))
        for row, output in zip(stored, turned, strict=True)
        if row.expected or row.vector
    )


@pytest.mark.parametrize(
    ("task", "most"), [("text-classification", GOLDEN_ROWS), ("text-embedding", GOLDEN_VECTORS)]
)
def test_there_are_only_so_many_and_the_same_ones_in_any_order(
    task: str, most: int, tmp_path: Path
) -> None:
    model, rows = load(tmp_path, task), tiny.rows(task, 150, 3)
    golden = make_golden(TASKS[task], model, known(task), rows)
    assert len(golden) == most
    assert make_golden(TASKS[task], model, known(task), rows[::-1]) == golden


def test_a_label_that_a_person_gave_is_told_in_one_word(tmp_path: Path) -> None:
    tagged = tiny.rows("token-classification", 1, 3)
    model = load(tmp_path, "token-classification")
    (golden,) = make_golden(TASKS["token-classification"], model, tiny.LABELS, tagged)
    spans = tagged[0].spans
    assert (
        golden.label == golden.expected == "|".join(f"{s.start}:{s.end}:{s.label}" for s in spans)
    )
    several = [Row("1", "tax leak", ("repair", "billing"))]
    folder = tmp_path / "several"
    loaded = load(folder, "multi-label-classification")
    (golden,) = make_golden(TASKS["multi-label-classification"], loaded, tiny.LABELS, several)
    assert golden.label == "billing|repair"


def test_a_vector_may_differ_by_rounding_and_not_by_more(tmp_path: Path) -> None:
    task = TASKS["text-embedding"]
    model, rows = load(tmp_path, "text-embedding"), tiny.rows("text-embedding", 1, 3)
    (golden,) = make_golden(task, model, (), rows)
    (output,) = model.score([golden.input])
    assert golden.input == rows[0].text, "the anchor alone, no pair"
    noise = np.random.default_rng(0).normal(size=output.embedding.shape).astype(np.float32)
    noise /= np.linalg.norm(noise)
    near = replace(output, embedding=output.embedding + 0.05 * noise)
    far = replace(output, embedding=output.embedding + 0.5 * noise)
    short = replace(output, embedding=output.embedding[:-1])
    assert agrees(golden, near, task, ())
    assert not agrees(golden, far, task, ())
    assert not agrees(golden, short, task, ())


@pytest.mark.parametrize(("task", "text_pair"), KINDS)
def test_an_answer_differs_from_itself_by_rounding_alone_and_from_its_opposite_by_more(
    task: str, text_pair: bool, tmp_path: Path
) -> None:
    model, rows = load(tmp_path, task, text_pair), tiny.rows(task, 20, 3, text_pair)
    golden = make_golden(TASKS[task], model, known(task), rows)
    outputs = model.score([row.input for row in golden])
    for row, output in zip(golden, outputs, strict=True):
        assert difference(row, output, TASKS[task], known(task)) < 1e-5
    far = [
        difference(
            row,
            replace(output, logits=-output.logits, embedding=-output.embedding),
            TASKS[task],
            known(task),
        )
        for row, output in zip(golden, outputs, strict=True)
    ]
    assert max(far) > 0.05


def test_of_another_answer_it_says_what_the_promised_one_lost_at_least() -> None:
    task, labels = TASKS["text-classification"], ("a", "b")
    row = GoldenRow(id="1", text="t", label="a", expected="a", score=0.7)

    def output(first: float) -> RowOutput:
        logits = np.log(np.array([first, 1.0 - first], dtype=np.float32))
        return RowOutput(logits, np.zeros(2, np.float32))

    assert difference(row, output(0.6), task, labels) == pytest.approx(0.1, abs=1e-6)
    assert difference(row, output(0.4), task, labels) == pytest.approx(0.3, abs=1e-6)
    row = row.model_copy(update={"score": 0.3})
    assert difference(row, output(0.4), task, labels) == 0.0


def test_a_vector_of_another_length_is_as_far_off_as_can_be() -> None:
    row = GoldenRow(id="1", text="t", label="", expected="", score=1.0, vector=(1.0, 0.0))
    none = np.zeros(0, np.float32)
    task = TASKS["text-embedding"]
    assert difference(row, RowOutput(none, np.ones(3, np.float32)), task, ()) == 1.0
    assert difference(row, RowOutput(none, np.zeros(2, np.float32)), task, ()) == 1.0
    assert difference(row, RowOutput(none, np.array([2, 0], np.float32)), task, ()) == 0.0
