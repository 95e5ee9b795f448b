"""Finding the base model."""

import sys
from pathlib import Path

import pytest

from edgeloop.errors import RecipeError
from finetune.base import resolve_base


def make_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text(name)
    return folder


def complaint(name: str) -> str:
    with pytest.raises(RecipeError) as raised:
        resolve_base(name)
    return str(raised.value)


def test_a_folder(tmp_path: Path) -> None:
    base = resolve_base(str(make_base(tmp_path / "base")))
    assert base.folder == tmp_path / "base"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_digest_follows_every_file_that_is_used(tmp_path: Path, name: str) -> None:
    folder = make_base(tmp_path / "base")
    before = resolve_base(str(folder)).digest
    (folder / "README.md").write_text("not used")
    assert resolve_base(str(folder)).digest == before
    (folder / name).write_text("changed")
    assert resolve_base(str(folder)).digest != before


def test_shards_of_an_index(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    assert resolve_base(str(folder)).digest
    (folder / "model-00001-of-00001.safetensors").unlink()
    assert "lacks model-00001-of-00001.safetensors" in complaint(str(folder))
    index.write_text("[]")
    assert "is not an index of safetensors" in complaint(str(folder))


def test_a_folder_without_weights_says_where_and_what(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    assert f"{folder} has no weights: no model.safetensors;" in complaint(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "pytorch_model.bin is a pickle and is not opened" in complaint(str(folder))


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "config.json").unlink()
    assert f"{folder} lacks config.json" in complaint(str(folder))


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    assert f"{folder} lacks a tokenizer (tokenizer.json)" in complaint(str(folder))
    (folder / "vocab.txt").write_text("[PAD]")
    assert resolve_base(str(folder)).digest


def test_a_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_base(tmp_path / "carries_weights" / "model")
    (tmp_path / "carries_weights" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_base("package:carries_weights/model").folder == folder
    assert "carries_weights" not in sys.modules
    assert "the package has no folder 'weights'" in complaint("package:carries_weights/weights")


@pytest.mark.parametrize("name", ["package:no_such_package/model", "package:os/path", "package:"])
def test_a_package_that_is_not_there(name: str) -> None:
    assert "no package" in complaint(name)


def test_a_hub_id_offline_says_how_to_get_it() -> None:
    said = complaint("nobody/has-this-model")
    assert "cannot be reached" in said
    assert "hf download" in said


def test_what_is_neither_folder_nor_hub_id(tmp_path: Path) -> None:
    assert "neither a folder nor a hub id" in complaint("too/many/parts")
    assert "there is no such folder" in complaint(str(tmp_path / "gone"))
