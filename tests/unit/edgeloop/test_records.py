"""Records: what is written is what is read back, and nothing else is accepted."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeloop.errors import EdgeloopError
from edgeloop.records import SPLITS, Dataset, Epoch, FileEntry, Interval, Movement, Verdict


def dataset(**changes: object) -> Dataset:
    values: dict[str, object] = {
        "inputs_digest": "a" * 64,
        "files": (FileEntry(path="train.jsonl", bytes=3, sha256="b" * 64),),
        "digest": "c" * 64,
        "labels": ("bean", "cup"),
        "rows": {"train": 2, "test": 1},
        "sources": (),
        "reference_is_test": True,
        "warnings": ("só uma linha",),
    }
    return Dataset.model_validate({**values, **changes})


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    dataset().write(path)
    assert Dataset.read(path) == dataset()
    assert path.read_bytes() == dataset().to_bytes()
    assert set(dataset().rows) <= set(SPLITS)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        dataset().digest = "other"  # type: ignore[misc]


_finite = st.floats(allow_nan=False, allow_infinity=False)


@given(_finite, _finite, _finite)
def test_figures_come_back_bit_for_bit(value: float, low: float, high: float) -> None:
    record = Interval(value=value, low=low, high=high)
    again = Interval.model_validate_json(record.to_bytes())
    assert [x.hex() for x in (again.value, again.low, again.high)] == [
        x.hex() for x in (value, low, high)
    ]


@given(st.text(st.characters(codec="utf-8")))
def test_texts_come_back_unchanged(text: str) -> None:
    record = Movement(name=text, reference_ratio=0.0, recent_ratio=1.0)
    assert Movement.model_validate_json(record.to_bytes()).name == text


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_figure_that_json_cannot_say_is_refused_when_it_is_made(figure: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Epoch(
            epoch=1,
            train_loss=figure,
            validation_loss=0.1,
            validation_metric=0.9,
            train_seconds=1.0,
            seconds=1.0,
        )
    with pytest.raises(ValidationError, match="finite number"):
        Verdict(
            model="tiny",
            bundle_digest="a" * 64,
            at="2026-01-01T00:00:00+00:00",
            observation=3,
            detector="novelty",
            log_evidence=1.0,
            threshold=1.0,
            parts={"novelty": figure},
            target_run_length=100,
            words=(),
            classes=(),
        )


def test_a_verdict_of_an_earlier_version_still_reads() -> None:
    old = {
        "model": "tiny",
        "bundle_digest": "a" * 64,
        "at": "2026-01-01T00:00:00+00:00",
        "observation": 3,
        "detector": "e-process-mixture",
        "log_evidence": 7.0,
        "threshold": 6.0,
        "parts": {"novelty": 7.5},
        "target_run_length": 100,
        "words": [],
        "classes": [],
    }
    verdict = Verdict.model_validate_json(json.dumps(old))
    assert (verdict.detectors, verdict.onset_observation, verdict.features) == ((), None, ())


def _without(key: str) -> bytes:
    document = json.loads(dataset().to_bytes())
    del document[key]
    return json.dumps(document).encode()


def _with(**values: object) -> bytes:
    return json.dumps({**json.loads(dataset().to_bytes()), **values}).encode()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "document"),
        (b"{", "document"),
        (b"[]", "document"),
        (b"\xff\xfe", "document"),
        (_without("digest"), "digest"),
        (_with(extra=1), "extra"),
        (_with(reference_is_test=1), "reference_is_test"),
        (_with(rows={"train": "2"}), "rows.train"),
        (_with(files=[{"path": "a", "bytes": 1.5, "sha256": ""}]), "files.0.bytes"),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_place(
    tmp_path: Path, content: bytes, where: str
) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(EdgeloopError, match="delete the folder and run the stage again") as caught:
        Dataset.read(path)
    assert f"{path}: not a Dataset record ({where}: " in str(caught.value)


def test_a_missing_record_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeloopError, match="run the stage first"):
        Dataset.read(tmp_path / "record.json")
    with pytest.raises(EdgeloopError, match="cannot be read"):
        Dataset.read(tmp_path)
