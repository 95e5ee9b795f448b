"""A certificate as people read it: in the terminal, as a table of the report and as a picture."""

from typing import Any

from edgeloop import plots
from edgeloop.records import Interval
from edgeloop.records_compress import Candidate, Certificate, KernelLint
from edgeloop.report_certificate import certificate as as_html
from edgeloop.show_certificate import certificate as as_text
from tests import certified

BUDGET = {"latency_p95_ms": 3.0, "max_accuracy_drop": 0.02}


def candidate(kind: str, p95_ms: float, accuracy: float, **changes: Any) -> Candidate:
    latency = Interval(value=p95_ms, low=p95_ms, high=p95_ms)
    drop = certified.drop().model_copy(update={"candidate_accuracy": accuracy})
    measured = certified.measurement(latency_p95_ms=latency)
    return certified.candidate(kind, measurement=measured, accuracy=drop, **changes)


def certificate(chosen: str | None, *candidates: Candidate, **changes: Any) -> Certificate:
    return certified.certificate(chosen, candidates, budget=BUDGET, **changes)


def test_the_text_says_what_is_promised_and_for_whom() -> None:
    record = certificate(
        "quick",
        candidate("slow", 9.0, 0.9, misses=("latency_p95_ms 9.00 > 3",), excess_ratio=2.0),
        candidate("quick", 2.0, 0.9),
        candidate("other", 2.5, 0.9, finalist=False),
        candidate("weak", 1.0, 0.5, finalist=False, misses=("max_accuracy_drop 0.4 > 0.02",)),
        finalist_confidence=0.975,
    )
    lines = as_text(record.model_dump()).splitlines()
    said = {line.split()[0]: line for line in lines if line}
    assert "2 finalists named on 100 choosing rows, each tested at 97.5%" in said["promise"]
    assert said["quick"].endswith("chosen")
    assert said["slow"].endswith("latency_p95_ms 9.00 > 3")
    assert said["other"].endswith("no finalist: others are preferred")
    assert said["weak"].endswith("expected: max_accuracy_drop 0.4 > 0.02")
    assert said["outcome"] == "outcome    quick (preferred by size)"
    assert "nearest" not in said


def test_an_infeasible_budget_names_the_three_nearest_in_order() -> None:
    far = [
        candidate(f"c{i}", 9.0, 0.9, misses=(f"size_mb {i} > 1",), excess_ratio=float(i))
        for i in (4, 2, 3, 1)
    ]
    lines = as_text(certificate(None, *far).model_dump()).splitlines()
    assert any(line.startswith("outcome    INFEASIBLE") for line in lines)
    nearest = [line for line in lines if line.startswith("nearest")]
    assert nearest == [f"nearest    c{i}: size_mb {i} > 1" for i in (1, 2, 3)]


def test_who_was_left_out_and_slow_kernels_are_told() -> None:
    lint = KernelLint(
        integer_matmuls=0,
        float_matmuls=9,
        float_products=2,
        qdq_islands=4,
        warnings=("4 islands run slower",),
    )
    record = certificate(
        "quick", candidate("quick", 2.0, 0.9, lint=lint), left_out={"static": "needs 8 rows"}
    )
    text = as_text(record.model_dump())
    assert "left out   static: needs 8 rows" in text
    assert "kernels    quick: 4 islands run slower" in text


def test_the_front_is_those_that_no_other_beats_at_both() -> None:
    found = [
        candidate("a", 1.0, 0.80),
        candidate("b", 2.0, 0.90),
        candidate("c", 3.0, 0.85),
        candidate("d", 2.0, 0.70),
        candidate("e", 4.0, 0.95),
    ]
    assert [c.kind for c in plots.pareto_front(found)] == ["a", "b", "e"]


def test_the_report_has_every_candidate_the_reasons_and_the_picture() -> None:
    record = certificate(
        "quick",
        candidate("quick", 2.0, 0.9),
        candidate("<slow>", 9.0, 0.9, misses=("size_mb 9 > 1",)),
        left_out={"static": "needs <8> rows"},
    )
    page = as_html(record)
    assert "&lt;slow&gt;" in page
    assert "needs &lt;8&gt; rows" in page
    assert "<svg" in page
    assert "<slow>" not in page.replace("<svg", "")


def test_the_picture_of_an_infeasible_budget_has_no_chosen_dot() -> None:
    only = candidate("only", 9.0, 0.9, misses=("size_mb 9 > 1",))
    assert plots.ACCENT not in plots.candidates(certificate(None, only))
    assert plots.ACCENT in plots.candidates(certificate("only", only))
