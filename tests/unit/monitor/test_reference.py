"""reference.npz: what goes in comes out, the same content gives the same bytes, and whatever else
lies there is refused."""

import io
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.errors import MonitorError
from monitor.accuracy.fit import fit_accuracy
from monitor.detector import Detector
from monitor.family import Cluster, Family
from monitor.fit import Fitted
from monitor.reference import ReferenceData, encode_reference, load_reference, save_reference
from monitor.secondary import Scale
from tests import clouds, traffic
from tests.classifiers import draw

LABELS = tuple(f"class {i}" for i in range(clouds.CLASSES))
words = st.dictionaries(
    st.text(st.characters(categories=["L"]), min_size=2, max_size=8), st.integers(2, 500)
)
per_function = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def data_of(fitted: Fitted, known: dict[str, int] | None = None) -> ReferenceData:
    counts = (fitted.rows, *[0] * (clouds.CLASSES - 1))
    words = {"gas": 3, "água": 2} if known is None else known
    return ReferenceData(fitted, LABELS, counts, words, family_of(fitted))


@cache
def scales() -> tuple[Scale, ...]:
    return traffic.fit(traffic.draw(100, np.random.default_rng(0)))[0]


def family_of(fitted: Fitted) -> Family:
    """Secondary detectors of other rows than the primary's: here they are only stored."""
    centre = np.ones(3, dtype="<f4").tobytes()
    clusters = (Cluster(7, ("row-1", "row-2")),)
    return Family(
        scales=scales(),
        threshold=9.0,
        promised=300,
        target_run_length=1500,
        verified_run_length=1600.0,
        armed=fitted.armed,
        main_script="LATIN",
        centre=centre,
        salt=b"salt",
        ngrams={1: 2, 4_000_000_000: 3},
        clusters=clusters,
    )


@given(words)
@per_function
def test_everything_survives_the_disk(
    fitted: Fitted, tmp_path: Path, known: dict[str, int]
) -> None:
    path = tmp_path / "reference.npz"
    save_reference(data_of(fitted, known), path)
    found = load_reference(path)
    assert list(found.words.items()) == list(known.items())
    assert found.labels == LABELS
    assert found.class_counts[0] == fitted.rows
    assert encode_reference(found) == path.read_bytes()
    assert found.family == family_of(fitted)
    assert found.verified_run_length == pytest.approx(
        1.0 / (1.0 / fitted.verified_run_length + 1.0 / 1600.0)
    )


def test_a_loaded_detector_answers_as_the_fitted_one(fitted: Fitted, tmp_path: Path) -> None:
    save_reference(data_of(fitted), tmp_path / "reference.npz")
    first = Detector(fitted)
    second = Detector(load_reference(tmp_path / "reference.npz").fitted)
    for x, p in zip(*clouds.draw(100, np.random.default_rng(0), 0.3), strict=True):
        assert first.update(x, p) == second.update(x, p)
    assert first.state() == second.state()


def test_it_is_an_npz_that_numpy_reads_without_pickle(fitted: Fitted) -> None:
    with np.load(io.BytesIO(encode_reference(data_of(fitted))), allow_pickle=False) as found:
        assert found["centroids"].dtype == np.float32
        assert found["centroids"].shape == fitted.centroids.shape


def test_it_holds_no_word_but_those_it_was_given(fitted: Fitted) -> None:
    assert b"gas" in encode_reference(data_of(fitted))
    assert b"gas" not in encode_reference(data_of(fitted, {}))


@given(st.data())
@per_function
def test_a_damaged_file_is_refused_or_means_the_same(
    fitted: Fitted, tmp_path: Path, data: st.DataObject
) -> None:
    good = encode_reference(data_of(fitted))
    path = tmp_path / "reference.npz"
    damaged = bytearray(good)
    damaged[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(damaged))
    with suppress(MonitorError):
        # Where it loads, the bit stood in a zip header that carries nothing.
        assert encode_reference(load_reference(path)) == good


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=True, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a zip", npz(x=np.arange(3)), npz(centroids=np.array([{}], dtype=object))],
    ids=["empty", "text", "another npz", "pickle"],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(MonitorError, match="not a drift reference"):
        load_reference(tmp_path / "reference.npz")


def test_a_missing_or_truncated_file_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    with pytest.raises(MonitorError, match="cannot be read"):
        load_reference(path)
    path.write_bytes(encode_reference(data_of(fitted))[:-200])
    with pytest.raises(MonitorError, match="cannot be read"):
        load_reference(path)


def test_a_reference_of_an_older_format_says_what_to_do(tmp_path: Path) -> None:
    document = b'{"format": "edgeloop-reference-1"}'
    content = npz(settings=np.frombuffer(document, dtype=np.uint8))
    (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(
        MonitorError, match=r"'edgeloop-reference-1', this edgeloop reads .*run the stage again"
    ):
        load_reference(tmp_path / "reference.npz")


def test_parts_that_do_not_fit_together_are_refused(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    nan = replace(fitted.tails, rates=np.full((2, 3), np.nan))
    short = replace(fitted.whitening, mean=fitted.whitening.mean[:-1])
    for bad in (
        replace(data_of(fitted), labels=("one",)),
        replace(data_of(fitted), class_counts=(1,) * clouds.CLASSES),
        replace(data_of(fitted), family=msgspec.structs.replace(family_of(fitted), scales=())),
        data_of(replace(fitted, centroids=fitted.centroids[0])),
        data_of(replace(fitted, whitening=short)),
        data_of(replace(fitted, kind_of_class=np.full(clouds.CLASSES, clouds.CLASSES))),
        data_of(replace(fitted, design_effects=(0.5,) * 4)),
        data_of(replace(fitted, design_effects=(1.0,) * 2)),
        data_of(replace(fitted, tails=nan)),
        data_of(replace(fitted, tails=replace(fitted.tails, thresholds=np.zeros((2, 2))))),
    ):
        save_reference(bad, path)
        with pytest.raises(MonitorError, match="holds something else"):
            load_reference(path)


def test_the_accuracy_survives_the_disk_and_an_earlier_file_has_none(
    fitted: Fitted, tmp_path: Path
) -> None:
    accuracy = fit_accuracy(*draw(80, np.random.default_rng(1)), 0.8)
    path = tmp_path / "reference.npz"
    save_reference(replace(data_of(fitted), accuracy=accuracy), path)
    assert load_reference(path).accuracy == accuracy
    save_reference(data_of(fitted), path)
    assert load_reference(path).accuracy is None


def test_an_accuracy_that_means_nothing_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    accuracy = fit_accuracy(*draw(80, np.random.default_rng(1)), 0.8)
    path = tmp_path / "reference.npz"
    save_reference(replace(data_of(fitted), accuracy=replace(accuracy, floor=7.0)), path)
    with pytest.raises(MonitorError, match="floor 7"):
        load_reference(path)


def test_thresholds_of_shorter_intervals_come_back_and_may_be_missing(
    fitted: Fitted, tmp_path: Path
) -> None:
    assert len(fitted.shorter_thresholds) > 1
    path = tmp_path / "r.npz"
    for own in (fitted, replace(fitted, shorter_thresholds=())):
        save_reference(data_of(own), path)
        assert load_reference(path).fitted.shorter_thresholds == own.shorter_thresholds
    save_reference(data_of(replace(fitted, shorter_thresholds=((5.0, 1.0), (2.0, 2.0)))), path)
    with pytest.raises(MonitorError, match="thresholds of shorter intervals"):
        load_reference(path)
