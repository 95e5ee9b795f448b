"""int8 but for the MatMuls that suffer most from it, which stay in fp32.

The rule: MatMuls are ranked by the noise that each one adds to the answers where it alone is int8.
From the worst on they are left in fp32 until the noise of the whole is at most half of what it is
with all of them in int8, and 30 dB below the answers; or until a quarter of them is left.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.quantize.dynamic import write_dynamic
from compress.quantize.graphs import calibration_feeds, load, quantize_lookups, split_gemms
from compress.quantize.outliers import tame_outliers
from compress.quantize.sensitivity import Probe, make_probe
from compress.source import CALIBRATION_ROWS, Source
from edgeloop.errors import ExportError

WANTED_NOISE_RATIO = 0.5
QUIET = 1e-3  # 30 dB below the answers
MOST_KEPT_RATIO = 0.25
PROBED_ROWS = 24


def mixed_int8(source: Source, folder: Path) -> None:
    """Write the model by the rule above.

    Raises ExportError where it leaves nothing in fp32, since that model is dynamic int8.
    """
    model = load(source)
    split_gemms(model.graph)
    feeds = calibration_feeds(source, model, CALIBRATION_ROWS)
    probed = calibration_feeds(source, model, PROBED_ROWS)
    expected = make_probe(model, probed).expected()
    tame_outliers(model, feeds)
    quantize_lookups(model)
    kept = choose(make_probe(model, probed), expected)
    if not kept:
        raise ExportError(
            "int8 leaves every MatMul as good as it was, or there are too few to choose from: "
            "mixed precision would be dynamic int8 again"
        )
    write_dynamic(model, source, folder, kept)


def choose(probe: Probe, expected: NDArray[np.float32]) -> tuple[str, ...]:
    """The names of the MatMuls to leave in fp32, the most sensitive first."""
    count = len(probe.names)
    alone = [probe.noise(expected, np.arange(count) == i) for i in range(count)]
    worst = sorted(range(count), key=lambda i: -alone[i])
    is_int8 = np.ones(count, dtype=np.bool_)
    everything = probe.noise(expected, is_int8)
    kept: list[str] = []
    noise, wanted = everything, min(WANTED_NOISE_RATIO * everything, QUIET)
    while noise > wanted and len(kept) < int(MOST_KEPT_RATIO * count):
        is_int8[worst[len(kept)]] = False
        kept.append(probe.names[worst[len(kept)]])
        noise = probe.noise(expected, is_int8)
    return tuple(kept)
