"""The ring: bounded, in order, and right with a thread at each end."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from serve.capture.ring import Ring

STEPS = st.lists(st.one_of(st.integers(0, 40), st.none()), max_size=200)


@given(STEPS)
def test_it_holds_what_fits_in_order_and_nothing_else(steps: list[int | None]) -> None:
    ring: Ring[int] = Ring(most_rows=5, most_bytes=100)
    held: list[tuple[int, int]] = []
    for number, size_bytes in enumerate(steps):
        if size_bytes is None:
            assert ring.take(2) == [item for item, _ in held[:2]]
            held = held[2:]
            continue
        fits = len(held) < 5 and sum(size for _, size in held) + size_bytes <= 100
        assert ring.put(number, size_bytes) is fits
        if fits:
            held.append((number, size_bytes))
    assert ring.take(1000) == [item for item, _ in held]


def test_nothing_is_lost_or_doubled_between_two_threads() -> None:
    ring: Ring[int] = Ring(most_rows=8, most_bytes=1000)
    count, taken = 20_000, list[int]()

    def take() -> None:
        while not taken or taken[-1] != count - 1:
            taken.extend(ring.take(3))
            time.sleep(0.0)

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(count):
        while not ring.put(number, 10):
            time.sleep(0.0)
    taker.join(60)
    assert taken == list(range(count))
    assert ring.put(0, 1000)  # the bytes are all given back
