"""Which threads answer: what is tried, what is chosen of it, and that it is measured once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bundle import Bundle
from edgeloop.records_measured import Layout
from serve.autotune import Threads, Tuned, arrangements, can_tune, open_models, shared, tune
from tests import tiny


def own(workers: int, each: int) -> Threads:
    return Threads(layout=Layout(workers=workers, intra_op_threads=each), own_sessions=True)


@given(st.integers(1, 64))
def test_every_arrangement_fills_the_cores_and_none_is_tried_twice(cores: int) -> None:
    found = arrangements(cores)
    assert all(t.layout.workers * t.layout.intra_op_threads == cores for t in found)
    assert len(set(found)) == len(found)
    assert found[0] == shared(cores)
    assert all(t.layout.intra_op_threads == 1 for t in found if not t.own_sessions)


def test_the_fastest_is_chosen_and_memory_is_spent_for_more_than_a_little() -> None:
    choices = (shared(2), own(2, 1), own(1, 2))

    def best(*rates: float) -> Threads:
        return Tuned(arrangements=choices, texts_per_second=rates).best()

    assert best(100.0, 104.0, 90.0) == shared(2)
    assert best(100.0, 106.0, 90.0) == own(2, 1)
    assert best(100.0, 101.0, 120.0) == own(1, 2)
    assert Tuned(arrangements=(own(1, 1),), texts_per_second=(5.0,)).best() == own(1, 1)


def test_models_are_shared_or_not_as_it_is_said(tiny_bundle: Bundle) -> None:
    first, second = open_models(tiny_bundle, shared(2))
    assert first is second
    first, second = open_models(tiny_bundle, own(2, 1))
    assert first is not second
    assert len(open_models(tiny_bundle, own(1, 2))) == 1


def test_it_is_measured_once_for_a_machine_and_a_bundle(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert can_tune(tiny_bundle, 2)
    assert not can_tune(tiny_bundle, 1)
    kept = tmp_path / "not there yet"
    chosen = tune(tiny_bundle, 2, kept)
    (path,) = kept.iterdir()
    found = Tuned.read(path)
    assert found.arrangements == arrangements(2)
    assert found.best() == chosen
    assert all(rate > 0.0 for rate in found.texts_per_second)
    Tuned(arrangements=(own(1, 2),), texts_per_second=(1.0,)).write(path)
    assert tune(tiny_bundle, 2, kept) == own(1, 2)  # it is read, not measured
    path.write_text("{")
    assert tune(tiny_bundle, 2, kept) in arrangements(2)
    assert Tuned.read(path).arrangements == arrangements(2)


def test_where_nothing_can_be_measured_threads_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle")
    (tmp_path / "file").write_text("")
    assert tune(bundle, 2, tmp_path / "file") == shared(2)
    (bundle.path / "golden.jsonl").unlink()
    assert tune(bundle, 2, tmp_path) == shared(2)
    assert caplog.text.count("event=not_tuned") == 2
