"""The ledger of one model in numbers."""

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import LedgerError
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger, RunResult, open_ledger, utc_now
from edgeloop.ledger_summary import ACTIONS, CHECKS, RESULTS, SOURCES, TRIGGERS
from edgeloop.records import Decision, Gate, LedgerAction, PairedDrop, Verdict


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return open_ledger(home)


def decide(ledger: Ledger, action: LedgerAction, **figures: float) -> str:
    known = {"labels_per_round": 50.0, "new_labels": 20.0, "cooldown_hours": 6.0}
    at = utc_now()
    ledger.add_decision(
        Decision(model="tiny", at=at, action=action, reasons=("why",), figures=known | figures)
    )
    return at


def drop(ratio: float, upper: float) -> PairedDrop:
    return PairedDrop(
        rows=100,
        reference_accuracy=0.9,
        candidate_accuracy=0.9 - ratio,
        lost=5,
        gained=3,
        drop_ratio=ratio,
        upper_bound_ratio=upper,
        confidence=0.95,
    )


def gate(golden: PairedDrop, fresh: PairedDrop) -> Gate:
    return Gate(promoted=True, reasons=("so",), golden=golden, fresh=fresh, fresh_p_value=0.01)


def end_run(
    ledger: Ledger, run_id: str, trigger: str, result: str | None, **document: object
) -> None:
    ledger.start_run(run_id, "tiny", trigger, Path("runs") / run_id, "d" * 64)
    if result is not None:
        ledger.finish_run(RunResult(run_id, result, document))


def seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def test_an_empty_ledger_is_all_zeros_with_every_label_there(ledger: Ledger) -> None:
    found = ledger.summary("tiny")
    assert found.runs == {(trigger, result): 0 for trigger in TRIGGERS for result in RESULTS}
    assert found.labels == dict.fromkeys(SOURCES, 0)
    assert found.decisions == dict.fromkeys(ACTIONS, 0)
    assert set(found.gate_drops) == {(c, b) for c in CHECKS for b in ("estimate", "upper")}
    assert set(found.gate_drops.values()) == {0.0}
    assert not found.in_progress
    assert (found.alarms, found.unfinished_runs, found.promotions, found.rollbacks) == (0, 0, 0, 0)
    assert found.missing_labels == found.last_decision_seconds == 0.0
    assert found.last_promotion_seconds == found.cooldown_until_seconds == 0.0


def test_runs_are_counted_by_who_started_them_and_how_they_ended(ledger: Ledger) -> None:
    end_run(ledger, "a", "edgeloop run", "promoted")
    end_run(ledger, "b", "edgeloop retrain", "rejected", labels=[], inputs_digest="0")
    end_run(ledger, "c", "edgeloop retrain", "rejected", labels=[], inputs_digest="1")
    end_run(ledger, "d", "somebody else's program", "exploded")
    end_run(ledger, "e", "edgeloop retrain", None)
    found = ledger.summary("tiny")
    assert {key: n for key, n in found.runs.items() if n} == {
        ("run", "promoted"): 1,
        ("retrain", "rejected"): 2,
        ("other", "other"): 1,
    }
    assert found.unfinished_runs == 1
    assert ledger.summary("another").runs[("run", "promoted")] == 0


def test_a_run_whose_process_holds_the_lease_is_in_progress_and_not_left_behind(
    ledger: Ledger,
) -> None:
    end_run(ledger, "a", "edgeloop retrain", None)
    lease = ledger.acquire("tiny", 60.0)
    assert lease is not None
    found = ledger.summary("tiny")
    assert (found.in_progress, found.unfinished_runs) == (True, 0)
    ledger.release(lease)
    found = ledger.summary("tiny")
    assert (found.in_progress, found.unfinished_runs) == (False, 1)


def test_a_run_that_was_given_up_for_a_later_one_is_not_left_behind(ledger: Ledger) -> None:
    end_run(ledger, "a", "edgeloop retrain", None)
    end_run(ledger, "b", "edgeloop retrain", "rejected", labels=[])
    assert ledger.summary("tiny").unfinished_runs == 0


def test_a_lease_of_a_process_that_is_gone_is_no_progress(ledger: Ledger, home: Path) -> None:
    lease = ledger.acquire("tiny", 60.0)
    assert lease is not None
    place, _, _ = lease.holder.rsplit("|", 2)
    place = place.rsplit("|", 1)[0]
    connection = sqlite3.connect(home / "ledger.db")
    with connection:
        # The largest number a process may have, with a start that it never had.
        connection.execute("UPDATE leases SET holder = ?", (f"{place}|4194304|0@0|nonce",))
    connection.close()
    assert not ledger.summary("tiny").in_progress


def test_labels_are_counted_by_where_they_came_from(ledger: Ledger) -> None:
    rows = [LabelledRow(str(n), f"text {n}", "billing") for n in range(7)]
    ledger.add_labels("tiny", rows[:3], FEEDBACK)
    ledger.add_labels("tiny", rows[3:5], "/data/monday.csv")
    ledger.add_labels("tiny", rows[5:], "/data/tuesday.csv")
    ledger.add_labels("another", rows, FEEDBACK)
    assert ledger.summary("tiny").labels == {"feedback": 3, "sample": 4}


def test_labels_are_missing_only_while_the_last_decision_asks_for_them(ledger: Ledger) -> None:
    at = decide(ledger, "label", new_labels=20.0)
    found = ledger.summary("tiny")
    assert (found.missing_labels, found.last_decision_seconds) == (30.0, seconds(at))
    decide(ledger, "wait", new_labels=20.0)
    assert ledger.summary("tiny").missing_labels == 0.0
    assert ledger.summary("tiny").decisions == {"wait": 1, "label": 1, "retrain": 0, "roll_back": 0}


def test_cooldown_counts_from_the_end_of_the_last_retraining(ledger: Ledger) -> None:
    decide(ledger, "wait", cooldown_hours=6.0)
    end_run(ledger, "a", "edgeloop run", "promoted")
    assert ledger.summary("tiny").cooldown_until_seconds == 0.0
    end_run(ledger, "b", "edgeloop retrain", "rejected", labels=[], inputs_digest="0")
    (run,) = [run for run in ledger.runs("tiny") if run.id == "b"]
    ended = datetime.fromisoformat(run.finished_at or "")
    until = (ended + timedelta(hours=6)).timestamp()
    assert ledger.summary("tiny").cooldown_until_seconds == pytest.approx(until)


def test_the_last_gate_is_shown_and_runs_without_one_do_not_hide_it(ledger: Ledger) -> None:
    old = gate(drop(0.5, 0.6), drop(0.5, 0.6)).model_dump(mode="json")
    new = gate(drop(0.02, 0.04), drop(-0.1, -0.05)).model_dump(mode="json")
    end_run(ledger, "a", "edgeloop retrain", "rejected", labels=[], gate=old)
    end_run(ledger, "b", "edgeloop retrain", "promoted", labels=[], gate=new)
    end_run(ledger, "c", "edgeloop retrain", "infeasible", labels=[])
    end_run(ledger, "d", "edgeloop run", "promoted")
    assert ledger.summary("tiny").gate_drops == {
        ("golden", "estimate"): 0.02,
        ("golden", "upper"): 0.04,
        ("fresh", "estimate"): -0.1,
        ("fresh", "upper"): -0.05,
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=8))
def test_a_bundle_is_promoted_once_and_every_return_to_it_is_a_rollback(digests: list[str]) -> None:
    with TemporaryDirectory() as folder:
        ledger = open_ledger(Path(folder))
        made = [ledger.promote("tiny", digest * 64, Path(digest), "test") for digest in digests]
        found = ledger.summary("tiny")
    firsts = [
        d for n, d in enumerate(made) if d.bundle_digest not in {m.bundle_digest for m in made[:n]}
    ]
    assert (found.promotions, found.rollbacks) == (len(firsts), len(made) - len(firsts))
    assert found.last_promotion_seconds == (seconds(firsts[-1].at) if firsts else 0.0)


def test_drift_alarms_are_counted(ledger: Ledger) -> None:
    verdict = Verdict(
        model="tiny",
        bundle_digest="d" * 64,
        at=utc_now(),
        observation=10,
        detector="mixture",
        log_evidence=9.0,
        threshold=7.0,
        parts={},
        target_run_length=100,
        words=(),
        classes=(),
    )
    ledger.add_verdict(verdict)
    assert ledger.summary("tiny").alarms == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET document = 'no json'",
        "UPDATE decisions SET document = '{}'",
        "UPDATE decisions SET at = 'yesterday'",
    ],
)
def test_a_damaged_row_is_a_ledger_error(ledger: Ledger, home: Path, statement: str) -> None:
    decide(ledger, "wait")
    connection = sqlite3.connect(home / "ledger.db")
    with connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(LedgerError, match="rows of tiny hold a damaged value"):
        ledger.summary("tiny")
