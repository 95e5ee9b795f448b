"""What a folder's files make it: one rule for all who open a model."""

from pathlib import Path
from typing import get_args

import pytest

from edgeloop.errors import EngineError
from edgeloop.kinds import KINDS, Engine, find_kind, kind_of, lacking, model_bytes, model_files
from edgeloop.models import OPENERS


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"12345")
    return folder


def test_every_engine_has_a_kind_and_can_be_opened() -> None:
    assert {kind.engine for kind in KINDS} == set(OPENERS) == set(get_args(Engine))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind.files))
def test_a_folder_is_of_the_kind_whose_files_lie_in_it(tmp_path: Path, kind: object) -> None:
    known = next(k for k in KINDS if k is kind)
    write(tmp_path, *known.files, *known.optional, "record.json")
    assert kind_of(tmp_path) == known
    assert model_files(tmp_path) == known.files + known.optional
    assert model_bytes(tmp_path) == 5 * len(known.files + known.optional)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind.files))
def test_a_kind_with_a_file_less_is_another_kind_or_none(kind: object) -> None:
    known = next(k for k in KINDS if k is kind)
    for name in known.files:
        names = set(known.files) - {name}
        assert find_kind(names) is not known
        assert len(lacking(known.engine, names)) == 1


def test_a_folder_without_a_whole_model_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", write(tmp_path, "model.onnx")):
        with pytest.raises(EngineError, match=r"no whole model lies here \(.*model\.onnx"):
            model_files(folder)
