"""`auto` on a tiny real BERT: every kind of the task is offered, what cannot be made is told with a
reason, and a budget that only a small model can meet gets one.
"""

from pathlib import Path
from typing import Any

import compress.stage
from compress.candidates import CANDIDATES, Cascade, of_task
from edgeloop.kinds import kind_of
from edgeloop.models import open_model
from edgeloop.records_compress import Candidate, Certificate
from tests.merged_run import MAX_TOKENS, MergedRun, make_recipe, make_run

GENEROUS = {"max_accuracy_drop": 0.95}
SHORT = {
    "num_train_epochs": 1,
    "narrow_epochs": 1,
    "pruned_epochs": 1,
    "static_epochs": 2,
    "static_width": 16,
}


def compressed(made: MergedRun, **settings: Any) -> tuple[Certificate, list[str]]:
    lines: list[str] = []
    recipe = make_recipe(**{"distill": SHORT, **settings})
    certificate = compress.stage.run(recipe, made.dataset, made.merged, made.folder, lines.append)
    return certificate, lines


def by_kind(certificate: Certificate) -> dict[str, Candidate]:
    return {candidate.kind: candidate for candidate in certificate.candidates}


def test_auto_offers_every_kind_of_the_task_and_tells_what_it_leaves_out(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 40, 30, train_rows=300)
    certificate, lines = compressed(made, budget=GENEROUS)
    found = by_kind(certificate)
    assert set(found) | set(certificate.left_out) == set(of_task("text-classification"))
    assert set(found) & set(certificate.left_out) == set()
    assert {"onnx-fp32", "onnx-int8", "student-half", "linear-ngrams"} <= set(found)
    folder = made.folder.folder("candidates")
    assert {path.name for path in folder.iterdir()} == {*found, "record.json"}
    for kind in found:
        model = open_model(folder / kind, MAX_TOKENS)
        assert model.score(["my invoice is late"])[0].embedding.ndim == 1
    for kind, reason in certificate.left_out.items():
        assert any(line == f"{kind} left out: {reason}" for line in lines)
        assert reason


def test_parts_of_a_cascade_that_nobody_asked_for_are_made_and_not_offered(
    tiny_bert: Path, tmp_path: Path
) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 40, 30)
    certificate, _ = compressed(made, candidates=["cascade-linear-int8"], budget=GENEROUS)
    (cascade,) = certificate.candidates
    assert cascade.kind == certificate.chosen
    folder = made.folder.folder("candidates")
    assert kind_of(folder / cascade.kind).engine == "cascade"
    assert {path.name for path in folder.iterdir()} == {cascade.kind, "record.json"}
    assert (cascade.source, cascade.lint) == ("merged", None)


def test_a_cascade_whose_part_cannot_be_built_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 40, 30)
    (made.folder.folder("dataset") / "train.jsonl").write_text("")
    kinds = ["onnx-fp32", "cascade-linear-int8"]
    certificate, _ = compressed(made, candidates=kinds, budget=GENEROUS)
    assert certificate.chosen == "onnx-fp32"
    assert "linear-ngrams could not be built" in certificate.left_out["cascade-linear-int8"]


def test_a_size_that_only_a_small_model_has_is_met_by_one(tiny_bert: Path, tmp_path: Path) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 40, 30)
    kinds = ["onnx-fp32", "onnx-int8", "static-embedding-int8"]
    sizes, _ = compressed(made, candidates=kinds, budget=GENEROUS)
    size_mb = {kind: c.measurement.size_bytes / 1e6 for kind, c in by_kind(sizes).items()}
    between = (size_mb["static-embedding-int8"] + size_mb["onnx-int8"]) / 2
    budget = {**GENEROUS, "size_mb": between}
    certificate, _ = compressed(made, candidates=kinds, budget=budget)
    assert certificate.chosen == "static-embedding-int8"
    nothing, _ = compressed(made, candidates=kinds, budget={**GENEROUS, "size_mb": 0.0001})
    assert nothing.chosen is None
    nearest = [found.kind for found in nothing.nearest()]
    assert nearest == ["static-embedding-int8", "onnx-int8", "onnx-fp32"]
    assert all(found.excess_ratio > 0.0 for found in nothing.candidates)


def test_finalists_are_inspected_and_the_others_are_not(tiny_bert: Path, tmp_path: Path) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 40, 30)
    kinds = ["onnx-fp32", "onnx-int8", "linear-ngrams"]
    certificate, _ = compressed(made, candidates=kinds, budget=GENEROUS, finalists=2)
    found = by_kind(certificate)
    assert {c.kind for c in found.values() if c.finalist} == set(certificate.finalists)
    for candidate in found.values():
        assert (candidate.throughput is not None) == candidate.finalist
        is_encoder = candidate.kind != "linear-ngrams"
        assert (candidate.invariance is not None) == (candidate.finalist and is_encoder)
        assert candidate.quality.rows == 70
    int8 = found["onnx-int8"]
    if int8.lint is not None:
        assert int8.lint.integer_matmuls > 0


def test_every_cascade_is_of_kinds_that_there_are() -> None:
    for plan in CANDIDATES.values():
        if isinstance(plan, Cascade):
            assert {plan.first, plan.second} <= set(CANDIDATES)
