"""A uniform sample of a stream."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.sampling import Reservoir


@given(
    chunks=st.lists(st.integers(0, 30), max_size=8),
    size=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_the_sample_does_not_depend_on_the_chunks(chunks: list[int], size: int, seed: int) -> None:
    whole, parts = Reservoir(size, seed), Reservoir(size, seed)
    rows = np.arange(sum(chunks))
    whole.add(rows)
    start = 0
    for length in chunks:
        parts.add(rows[start : start + length])
        start += length
    assert whole.rows().tolist() == parts.rows().tolist()
    assert len(whole.rows()) == min(size, len(rows))
    assert (np.diff(parts.rows()) > 0).all()
    assert parts.seen == len(rows)


def test_every_row_is_as_likely() -> None:
    """Each of 40 rows in a quarter of 2,000 samples of 10; five deviations."""
    counts = np.zeros(40)
    for seed in range(2_000):
        reservoir = Reservoir(10, seed)
        for start in range(0, 40, 7):
            reservoir.add(np.arange(start, min(start + 7, 40)))
        counts[reservoir.rows()] += 1
    assert np.abs(counts / 2_000 - 0.25).max() < 5.0 * np.sqrt(0.25 * 0.75 / 2_000)


def test_texts_are_sampled_as_they_are() -> None:
    reservoir = Reservoir(2, 0)
    pair = np.empty(1, dtype=object)
    pair[0] = ("a", "b")
    reservoir.add(pair)
    assert reservoir.rows().tolist() == [("a", "b")]
