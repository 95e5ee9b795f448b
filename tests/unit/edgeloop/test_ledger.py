"""The ledger: append-only history, one pointer per model, one lease per model."""

import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgeloop.errors import LedgerError
from edgeloop.ledger import (
    LabelledRow,
    Lease,
    Ledger,
    RunResult,
    default_home,
    open_ledger,
    utc_now,
)
from edgeloop.ledger_schema import MIGRATIONS
from edgeloop.records import Decision, Movement, Verdict

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return open_ledger(home)


def row(row_id: str, label: str = "billing", text: str = "my card") -> LabelledRow:
    return LabelledRow(row_id, text, label)


def sql(home: Path, statement: str) -> None:
    """What a hand in the database would do."""
    connection = sqlite3.connect(home / "ledger.db")
    with connection:
        connection.execute(statement)
    connection.close()


def verdict(model: str = "tiny") -> Verdict:
    return Verdict(
        model=model,
        bundle_digest="d" * 64,
        at=utc_now(),
        observation=120,
        detector="novelty",
        log_evidence=12.5,
        threshold=11.0,
        parts={"novelty": 12.0},
        target_run_length=20_000,
        words=(Movement(name="cilindro", reference_ratio=0.0, recent_ratio=0.4),),
        classes=(),
    )


def decision(action: Any = "label") -> Decision:
    return Decision(model="tiny", at=utc_now(), action=action, reasons=("drift",), figures={"x": 1})


# -- labels ------------------------------------------------------------------------------------


def test_a_label_that_is_known_is_not_stored_again(ledger: Ledger) -> None:
    assert ledger.add_labels("tiny", [row("1"), row("2", "repair")], "a file") == 2
    assert ledger.add_labels("tiny", [row("1"), row("3"), row("3")], "another") == 1
    assert ledger.labels("tiny") == ([row("1"), row("2", "repair"), row("3")], [])


def test_labels_that_disagree_are_set_aside_by_id(ledger: Ledger) -> None:
    ledger.add_labels("tiny", [row("1", "billing"), row("2"), row("1", "repair")], "a file")
    assert ledger.labels("tiny") == ([row("2")], ["1"])


def test_labels_of_another_model_are_not_seen(ledger: Ledger) -> None:
    ledger.add_labels("tiny", [row("1", "billing")], "a file")
    ledger.add_labels("other", [row("1", "repair")], "a file")
    assert ledger.labels("tiny") == ([row("1", "billing")], [])
    assert ledger.labels("nobody") == ([], [])


def test_a_label_keeps_the_source_that_it_came_from_first(ledger: Ledger) -> None:
    ledger.add_labels("tiny", [row("1")], "feedback")
    ledger.add_labels("tiny", [row("1"), row("2")], "answers.csv")
    assert [r.source for r in ledger.labels("tiny")[0]] == ["feedback", "answers.csv"]


def test_all_labels_of_a_call_are_stored_or_none(ledger: Ledger) -> None:
    def rows() -> Any:
        yield row("1")
        raise ValueError("line 2 is damaged")

    with pytest.raises(ValueError, match="line 2"):
        ledger.add_labels("tiny", rows(), "a file")
    assert ledger.labels("tiny") == ([], [])


@pytest.mark.parametrize("text", ["'); DROP TABLE labels; --", "é ☕ \u2028", "", "x" * 100_000])
def test_any_text_comes_back_as_it_was(ledger: Ledger, text: str) -> None:
    ledger.add_labels("tiny", [row("1", text=text)], "a file")
    assert ledger.labels("tiny")[0][0].text == text


# -- verdicts, decisions, runs -----------------------------------------------------------------


def test_verdicts_and_decisions_come_back_in_order_of_arrival(ledger: Ledger) -> None:
    verdicts = [verdict(), verdict()]
    decisions = [decision("label"), decision("retrain"), decision("wait")]
    for one in verdicts:
        ledger.add_verdict(one)
    for other in decisions:
        ledger.add_decision(other)
    ledger.add_verdict(verdict("other"))
    assert ledger.verdicts("tiny") == verdicts
    assert ledger.decisions("tiny") == decisions
    assert ledger.decisions("other") == []


def test_a_run_is_started_once_and_finished(ledger: Ledger) -> None:
    ledger.start_run("r1", "tiny", "cron", Path("/runs/r1"), "d1")
    (started,) = ledger.runs("tiny")
    assert (started.finished_at, started.result, started.document) == (None, None, {})
    ledger.start_run("r1", "tiny", "by hand", Path("/elsewhere"), "d2")
    assert ledger.runs("tiny") == [started]
    ledger.finish_run(RunResult("r1", "built", {"test_accuracy": 0.93}))
    (finished,) = ledger.runs("tiny")
    assert (finished.trigger, finished.path) == ("cron", "/runs/r1")
    assert (finished.result, finished.document) == ("built", {"test_accuracy": 0.93})
    assert finished.finished_at is not None
    assert started.started_at <= finished.finished_at


def test_a_run_that_ended_keeps_its_end(ledger: Ledger) -> None:
    ledger.start_run("r1", "tiny", "cron", Path("/runs/r1"), "d")
    ledger.finish_run(RunResult("r1", "promoted", {"accuracy": 0.9}))
    before = ledger.runs("tiny")
    ledger.finish_run(RunResult("r1", "rejected", {}))
    assert ledger.runs("tiny") == before


@pytest.mark.parametrize("table", ["verdicts", "decisions"])
@pytest.mark.parametrize("document", ["", "{", "{}", '{"model": 3}'])
def test_a_damaged_document_is_said_with_its_table(
    ledger: Ledger, home: Path, table: str, document: str
) -> None:
    ledger.add_verdict(verdict())
    ledger.add_decision(decision())
    sql(home, f"UPDATE {table} SET document = '{document}'")
    with pytest.raises(LedgerError, match=f"table {table}, row 1: "):
        getattr(ledger, table)("tiny")


def test_a_run_that_was_never_started_cannot_be_finished(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="run r9 is not in the ledger"):
        ledger.finish_run(RunResult("r9", "built", {}))


def test_runs_are_listed_oldest_first(ledger: Ledger) -> None:
    for name in ("b", "a", "c"):
        ledger.start_run(name, "tiny", "cron", Path(name), "d")
    assert [run.id for run in ledger.runs("tiny")] == ["b", "a", "c"]


# -- deployments -------------------------------------------------------------------------------


def test_a_promotion_moves_the_pointer_and_keeps_the_history(ledger: Ledger) -> None:
    assert ledger.deployed("tiny") is None
    first = ledger.promote("tiny", "d1", Path("/b/1"), "first")
    second = ledger.promote("tiny", "d2", Path("/b/2"), "better")
    other = ledger.promote("other", "d3", Path("/b/3"), "first")
    again = ledger.promote("tiny", "d1", Path("/b/1"), "rolled back")
    assert ledger.deployed("tiny") == again
    assert ledger.deployed("other") == other
    assert ledger.deployments("tiny") == [first, second, again]
    assert first.sequence < second.sequence < again.sequence


def test_a_promotion_that_fails_half_way_moves_nothing(ledger: Ledger, home: Path) -> None:
    first = ledger.promote("tiny", "d1", Path("/b/1"), "first")
    sql(home, "CREATE TRIGGER no BEFORE INSERT ON deployed BEGIN SELECT RAISE(ABORT, 'cut'); END")
    with pytest.raises(LedgerError, match="cut"):
        ledger.promote("tiny", "d2", Path("/b/2"), "better")
    assert ledger.deployed("tiny") == first
    assert ledger.deployments("tiny") == [first]


def test_a_promotion_and_the_end_of_its_run_are_one(ledger: Ledger) -> None:
    ledger.start_run("r1", "tiny", "drift", Path("/runs/r1"), "d")
    ledger.promote("tiny", "d1", Path("/b/1"), "better", finished=RunResult("r1", "promoted", {}))
    assert ledger.runs("tiny")[0].result == "promoted"
    with pytest.raises(LedgerError, match="run r9"):
        ledger.promote("tiny", "d2", Path("/b"), "x", finished=RunResult("r9", "promoted", {}))
    assert [d.bundle_digest for d in ledger.deployments("tiny")] == ["d1"]


def test_a_promotion_over_another_deployment_than_the_expected_one_is_refused(
    ledger: Ledger,
) -> None:
    first = ledger.promote("tiny", "d1", Path("/b/1"), "first")
    second = ledger.promote("tiny", "d2", Path("/b/2"), "better", expected=first)
    ledger.start_run("r1", "tiny", "drift", Path("/runs/r1"), "d")
    with pytest.raises(LedgerError, match="deployment changed meanwhile.*nothing was promoted"):
        ledger.promote(
            "tiny", "d3", Path("/b"), "x", finished=RunResult("r1", "promoted", {}), expected=first
        )
    assert ledger.deployments("tiny") == [first, second]
    assert ledger.deployed("tiny") == second
    assert ledger.runs("tiny")[0].finished_at is None
    # The same bundle deployed again is another deployment: somebody decided meanwhile.
    ledger.promote("tiny", "d2", Path("/b/2"), "again")
    with pytest.raises(LedgerError, match="run again"):
        ledger.promote("tiny", "d3", Path("/b/3"), "late", expected=second)


def test_reading_does_not_wait_for_a_writer(ledger: Ledger, home: Path) -> None:
    first = ledger.promote("tiny", "d1", Path("/b/1"), "first")
    writer = sqlite3.connect(home / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM deployed")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ledger.deployed, "tiny").result(timeout=10) == first
    writer.rollback()
    writer.close()


def test_a_reader_sees_the_old_pointer_or_the_new_one(ledger: Ledger, home: Path) -> None:
    ledger.promote("tiny", "d0", Path("/b/0"), "first")
    process = FORK.Process(target=_promote_many, args=(home, 40))
    process.start()
    while process.is_alive():
        assert ledger.deployed("tiny") is not None
    process.join()
    assert process.exitcode == 0
    assert len(ledger.deployments("tiny")) == 41


def _promote_many(home: Path, count: int) -> None:
    ledger = open_ledger(home)
    for i in range(count):
        ledger.promote("tiny", f"d{i}", Path(f"/b/{i}"), "again")


# -- lease -------------------------------------------------------------------------------------


def expire(home: Path, model: str = "tiny") -> None:
    sql(home, f"UPDATE leases SET until = '2000-01-01T00:00:00+00:00' WHERE model = '{model}'")


def held(ledger: Ledger, model: str = "tiny", seconds: float = 600) -> Lease:
    lease = ledger.acquire(model, seconds)
    assert lease is not None
    return lease


def test_a_living_lease_keeps_others_out_until_it_is_released(ledger: Ledger) -> None:
    first = held(ledger)
    assert ledger.acquire("tiny", 600) is None
    assert held(ledger, "other").fence == 1
    ledger.release(first)
    second = held(ledger)
    assert second.fence == first.fence + 1
    assert second.holder != first.holder


def test_a_lease_that_expired_is_taken_over_and_its_holder_is_fenced_off(
    ledger: Ledger, home: Path
) -> None:
    stale = held(ledger)
    expire(home)
    new = held(ledger)
    assert new.fence == stale.fence + 1
    with pytest.raises(LedgerError, match="passed to another process .* nothing was promoted"):
        ledger.promote("tiny", "d1", Path("/b/1"), "late", lease=stale)
    with pytest.raises(LedgerError, match="passed to another process"):
        ledger.renew(stale, 600)
    ledger.release(stale)  # must not free what is no longer its own
    assert ledger.acquire("tiny", 600) is None
    assert ledger.deployments("tiny") == []
    promoted = ledger.promote("tiny", "d2", Path("/b/2"), "in time", lease=new)
    assert ledger.deployed("tiny") == promoted


def test_a_lease_that_nobody_took_over_still_counts(ledger: Ledger, home: Path) -> None:
    lease = held(ledger)
    expire(home)
    ledger.renew(lease, 600)
    assert ledger.acquire("tiny", 600) is None
    assert ledger.promote("tiny", "d1", Path("/b/1"), "late", lease=lease).bundle_digest == "d1"


def test_a_lease_of_no_time_is_free_at_once_and_a_renewed_one_is_not(ledger: Ledger) -> None:
    lease = held(ledger, seconds=0)
    ledger.renew(lease, 600)
    assert ledger.acquire("tiny", 600) is None
    ledger.renew(lease, 0)
    assert held(ledger).fence == 2


def test_a_lease_that_was_never_given_cannot_promote(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        ledger.promote("tiny", "d1", Path("/b/1"), "x", lease=Lease("tiny", "nobody", 1))
    assert ledger.deployments("tiny") == []


# -- several processes -------------------------------------------------------------------------


def _acquire(home: Path, start: Event, shared: "tuple[Queue[Any], Barrier]") -> None:
    answers, all_asked = shared
    start.wait()
    answers.put(open_ledger(home).acquire("tiny", 600))
    all_asked.wait(timeout=60)  # the lease of a process that is gone may be taken over


def _label(home: Path, start: Event, name: str) -> None:
    start.wait()
    ledger = open_ledger(home)
    for i in range(20):
        ledger.add_labels("tiny", [row(f"{name}-{i}"), row(f"shared-{i}")], name)


def _race(target: Callable[..., None], home: Path, arguments: list[Any]) -> None:
    start = FORK.Event()
    processes = [FORK.Process(target=target, args=(home, start, a)) for a in arguments]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("attempt", range(3))
def test_exactly_one_of_several_processes_gets_the_lease(home: Path, attempt: int) -> None:
    answers: Queue[Any] = FORK.Queue()
    _race(_acquire, home, [(answers, FORK.Barrier(4))] * 4)
    leases = [answers.get(timeout=10) for _ in range(4)]
    assert sum(lease is not None for lease in leases) == 1


def test_rows_that_several_processes_write_are_all_there_once(home: Path) -> None:
    _race(_label, home, ["a", "b", "c"])
    agreed, disagreeing = open_ledger(home).labels("tiny")
    assert sorted(r.id for r in agreed) == sorted(
        [f"{name}-{i}" for name in ("a", "b", "c", "shared") for i in range(20)]
    )
    assert disagreeing == []


def test_opening_waits_for_a_process_that_is_making_the_ledger(home: Path) -> None:
    home.mkdir()
    other = sqlite3.connect(home / "ledger.db", isolation_level=None)
    other.execute("CREATE TABLE half_made (x)")
    other.execute("BEGIN IMMEDIATE")  # the lock on which SQLite answers at once, without waiting
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_ledger, home)
        with pytest.raises(TimeoutError):
            opening.result(timeout=0.3)
        other.rollback()
        assert opening.result(timeout=30).labels("tiny") == ([], [])
    other.close()


# -- opening -----------------------------------------------------------------------------------


def test_everything_survives_reopening(ledger: Ledger, home: Path) -> None:
    ledger.add_labels("tiny", [row("1")], "a file")
    alarm, choice = verdict(), decision()
    ledger.add_verdict(alarm)
    ledger.add_decision(choice)
    ledger.start_run("r1", "tiny", "cron", Path("/runs/r1"), "d")
    deployment = ledger.promote("tiny", "d1", Path("/b/1"), "first")
    lease = held(ledger)
    again = open_ledger(home)
    assert again.labels("tiny") == ([row("1")], [])
    assert again.verdicts("tiny") == [alarm]
    assert again.decisions("tiny") == [choice]
    assert again.runs("tiny") == ledger.runs("tiny")
    assert again.deployed("tiny") == deployment
    assert again.acquire("tiny", 600) is None
    again.renew(lease, 600)


@pytest.mark.parametrize("name", ["plain", "with space", "odd?name#%20", "çafé"])
def test_the_ledger_lies_in_its_home_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    open_ledger(tmp_path / name).add_labels("tiny", [row("1")], "a file")
    assert (tmp_path / name / "ledger.db").stat().st_size > 0
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_url_is_taken_instead_of_the_home(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    open_ledger(home, url).add_labels("tiny", [row("1")], "a file")
    assert open_ledger(home, url).labels("tiny")[0] == [row("1")]
    assert not home.exists()


def test_a_newer_ledger_is_refused(ledger: Ledger, home: Path) -> None:
    sql(home, f"UPDATE version SET version = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError, match="has version 3, this edgeloop knows 2: upgrade"):
        open_ledger(home)


@pytest.mark.parametrize("content", [b"not a database at all" * 300, b"SQLite format 3\0" * 500])
def test_a_damaged_file_is_refused_with_advice(home: Path, content: bytes) -> None:
    home.mkdir()
    (home / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerError, match="put back from a copy, or moved away") as caught:
        open_ledger(home)
    assert str(home) in str(caught.value)
    assert (home / "ledger.db").read_bytes() == content


def test_a_file_that_is_damaged_later_is_a_ledger_error_without_peoples_texts(
    ledger: Ledger, home: Path
) -> None:
    sql(home, "DROP TABLE labels")
    with pytest.raises(LedgerError, match="no such table: labels") as caught:
        ledger.add_labels("tiny", [row("1", text="my card is 4111")], "a file")
    assert "4111" not in str(caught.value)


def test_a_home_that_cannot_be_made_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="does not open"):
        open_ledger(tmp_path / "file" / "home")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_home_is_a_ledger_error(home: Path) -> None:
    home.mkdir(mode=0o500)
    with pytest.raises(LedgerError, match="unable to open database file"):
        open_ledger(home)


def test_a_folder_that_the_system_keeps_read_only_is_a_ledger_error() -> None:
    with pytest.raises(LedgerError, match="unable to open database file"):
        open_ledger(Path("/proc/self"))  # not even root may make a file there


@pytest.mark.parametrize(
    "url", ["nonsense", "nosuch://user:secret@host/x", "postgresql+nosuch://u:secret@h/x"]
)
def test_a_url_that_leads_nowhere_is_refused_without_its_password(home: Path, url: str) -> None:
    with pytest.raises(LedgerError, match="does not open") as caught:
        open_ledger(home, url)
    assert "secret" not in str(caught.value)


def test_the_home_is_the_environments_or_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGELOOP_HOME", str(tmp_path / "a" / ".." / "b"))
    assert default_home() == tmp_path / "b"
    monkeypatch.delenv("EDGELOOP_HOME")
    monkeypatch.chdir(tmp_path)
    assert default_home() == tmp_path / ".edgeloop"


def test_times_sort_as_text() -> None:
    times = []
    for _ in range(50):
        times.append(utc_now())
        time.sleep(0)
    assert times == sorted(times)
    assert {len(t) for t in times} == {len("2026-11-23T03:00:00.123456+00:00")}


# -- any order of calls against a model in plain Python ----------------------------------------

MODELS = st.sampled_from(["tiny", "other"])


class LedgerMachine(RuleBasedStateMachine):
    """Leases do not expire by time here; `expire` is a rule of its own."""

    home: Path

    @initialize()
    def begin(self) -> None:
        self.home = Path(os.environ["EDGELOOP_HOME"]) / f"{time.monotonic_ns()}"
        self.ledger = open_ledger(self.home)
        self.history: dict[str, list[str]] = {"tiny": [], "other": []}
        self.known: dict[str, dict[str, list[str]]] = {"tiny": {}, "other": {}}
        self.fence = {"tiny": 0, "other": 0}
        self.living = {"tiny": False, "other": False}
        self.leases: list[Lease] = []

    @rule(model=MODELS, digest=st.sampled_from("abc"))
    def promote_by_hand(self, model: str, digest: str) -> None:
        self.ledger.promote(model, digest, Path(digest), "by hand")
        self.history[model].append(digest)

    @rule(data=st.data(), digest=st.sampled_from("abc"))
    def promote_with_a_lease(self, data: st.DataObject, digest: str) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        if lease.fence == self.fence[lease.model]:
            self.ledger.promote(lease.model, digest, Path(digest), "x", lease=lease)
            self.history[lease.model].append(digest)
        else:
            with pytest.raises(LedgerError):
                self.ledger.promote(lease.model, digest, Path(digest), "x", lease=lease)

    @rule(model=MODELS)
    def acquire(self, model: str) -> None:
        lease = self.ledger.acquire(model, 3600)
        assert (lease is None) == self.living[model]
        if lease is not None:
            self.fence[model] += 1
            assert lease.fence == self.fence[model]
            self.living[model] = True
            self.leases.append(lease)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        self.ledger.release(lease)
        if lease.fence == self.fence[lease.model]:
            self.living[lease.model] = False

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        if not self.leases:
            return
        lease = data.draw(st.sampled_from(self.leases))
        if lease.fence == self.fence[lease.model]:
            self.ledger.renew(lease, 3600)
            self.living[lease.model] = True
        else:
            with pytest.raises(LedgerError):
                self.ledger.renew(lease, 3600)

    @rule(model=MODELS)
    def expire(self, model: str) -> None:
        expire(self.home, model)
        self.living[model] = False

    @rule(
        model=MODELS,
        rows=st.lists(st.tuples(st.sampled_from("1234"), st.sampled_from("xy")), max_size=4),
    )
    def label(self, model: str, rows: list[tuple[str, str]]) -> None:
        expected = 0
        for row_id, label in rows:
            labels = self.known[model].setdefault(row_id, [])
            if label not in labels:
                labels.append(label)
                expected += 1
        added = self.ledger.add_labels(model, [row(i, label) for i, label in rows], "a file")
        assert added == expected

    @rule()
    def reopen(self) -> None:
        self.ledger = open_ledger(self.home)

    @invariant()
    def agrees_with_plain_python(self) -> None:
        for model, digests in self.history.items():
            assert [d.bundle_digest for d in self.ledger.deployments(model)] == digests
            deployed = self.ledger.deployed(model)
            assert (deployed.bundle_digest if deployed else None) == (
                digests[-1] if digests else None
            )
            agreed, disagreeing = self.ledger.labels(model)
            known = self.known[model]
            assert agreed == [row(i, one[0]) for i, one in known.items() if len(one) == 1]
            assert disagreeing == [i for i, labels in known.items() if len(labels) > 1]


TestAnyOrderOfCalls = LedgerMachine.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


# -- labels as a stream --------------------------------------------------------------------------


def test_labels_are_read_on_from_where_one_was(ledger: Ledger) -> None:
    assert ledger.last_label("tiny") == 0
    assert ledger.labels_after("tiny", 0, 10) == []
    ledger.add_labels("tiny", [row("1"), row("2")], "a file")
    ledger.add_labels("other", [row("1")], "a file")
    ledger.add_labels("tiny", [row("3")], "feedback")
    found = ledger.labels_after("tiny", 0, 2)
    assert [label.row.id for label in found] == ["1", "2"]
    (last,) = ledger.labels_after("tiny", found[-1].sequence, 2)
    assert (last.row.id, last.row.source, last.corrects) == ("3", "feedback", False)
    assert ledger.last_label("tiny") == last.sequence
    assert ledger.labels_after("tiny", last.sequence, 2) == []


def test_a_second_label_of_a_row_is_a_correction_and_the_same_one_is_not_there_twice(
    ledger: Ledger,
) -> None:
    first = row("1")
    ledger.add_labels("other", [first], "a file")
    ledger.add_labels("tiny", [first], "a file")
    ledger.add_labels("tiny", [first], "a file")
    ledger.add_labels("tiny", [replace(first, label="repair")], "a file")
    found = ledger.labels_after("tiny", 0, 10)
    assert [label.corrects for label in found] == [False, True]


def test_how_a_row_was_drawn_is_kept(ledger: Ledger) -> None:
    drawn = replace(row("1"), inclusion_probability=0.25, rule="low_confidence")
    ledger.add_labels("tiny", [drawn, row("2")], "feedback")
    (one, two), _ = ledger.labels("tiny")
    assert (one.inclusion_probability, one.rule) == (0.25, "low_confidence")
    assert (two.inclusion_probability, two.rule) == (None, None)
    assert ledger.labels_after("tiny", 0, 1)[0].row.rule == "low_confidence"


def test_a_ledger_of_version_1_gets_the_new_columns_and_keeps_its_labels(
    ledger: Ledger, home: Path
) -> None:
    ledger.add_labels("tiny", [row("1")], "a file")
    sql(home, "ALTER TABLE labels DROP COLUMN inclusion_probability")
    sql(home, "ALTER TABLE labels DROP COLUMN rule")
    sql(home, "UPDATE version SET version = 1")
    upgraded = open_ledger(home)
    assert upgraded.labels("tiny")[0] == [row("1")]
    drawn = replace(row("2"), inclusion_probability=0.5, rule="uniform")
    upgraded.add_labels("tiny", [drawn], "feedback")
    assert upgraded.labels("tiny")[0][1].inclusion_probability == 0.5
    assert open_ledger(home).last_label("tiny") == 2
