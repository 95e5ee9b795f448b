"""An observer that was saved and restored goes on exactly as one that never stopped."""

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.bundle import Bundle
from edgeloop.errors import MonitorError
from edgeloop.observer import Observation
from edgeloop.records import Verdict
from monitor.observer import DriftObserver
from monitor.observer_state import HEAD
from tests import monitored
from tests.integration.test_monitor_observer import SHIFTED, observations, ordinary


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def stream(bundle: Bundle) -> list[Observation]:
    """Ordinary rows, then some that raise an alarm, then ordinary ones again."""
    return observations(bundle, [*ordinary(240), *(SHIFTED * 25), *ordinary(30)])


def timeless(verdict: Verdict | None) -> Verdict | None:
    """Without the time of the clock, which no state holds."""
    return None if verdict is None else verdict.model_copy(update={"at": ""})


@settings(deadline=None, max_examples=15)
@given(stops=st.lists(st.integers(0, 345), max_size=4))
def test_stops_anywhere_change_no_verdict_and_no_evidence(
    bundle: Bundle, stream: list[Observation], stops: list[int]
) -> None:
    steady, stopped = DriftObserver(bundle), DriftObserver(bundle)
    verdicts = []
    for at, row in enumerate(stream):
        for _ in range(stops.count(at)):
            state = stopped.state()
            stopped = DriftObserver(bundle)
            stopped.restore(state)
            assert stopped.state() == state
        verdicts.append(timeless(steady.observe(row)))
        assert timeless(stopped.observe(row)) == verdicts[-1]
        assert stopped.status() == steady.status()
    assert sum(verdict is not None for verdict in verdicts) == 1


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_damaged_state_is_taken(
    bundle: Bundle, stream: list[Observation], data: st.DataObject
) -> None:
    observer = DriftObserver(bundle)
    for row in stream[:5]:
        observer.observe(row)
    state = observer.state()
    at = data.draw(st.integers(0, len(state) - 1))
    damaged = data.draw(
        st.sampled_from([state[:at], state[:at] + bytes([state[at] ^ 1]) + state[at + 1 :], b""])
    )
    other = DriftObserver(bundle)
    with pytest.raises(MonitorError, match="damaged or of another version"):
        other.restore(damaged)
    assert other.status().observations == 0


def test_the_state_of_another_bundle_is_refused(
    tmp_path: Path, bundle: Bundle, stream: list[Observation]
) -> None:
    other = DriftObserver(monitored.make_bundle(tmp_path, rows=500))
    with pytest.raises(MonitorError, match=bundle.digest[:12]):
        other.restore(DriftObserver(bundle).state())
    assert other.status().observations == 0


def test_a_state_holds_no_numbers_and_no_addresses(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    texts = ["refund order 4711 to jane@example.com please"]
    for row in observations(bundle, texts):
        observer.observe(row)
    state = observer.state()
    inside = zlib.decompress(state[HEAD.size :])
    assert b"refund" in inside
    assert b"4711" not in inside
    assert b"jane" not in inside
