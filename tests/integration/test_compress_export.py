"""Export: dynamic shapes, the pooled embedding, the ladder of exporters, same bytes, no chatter."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from compress.export import export_merged, export_module
from compress.merged import Merged, load_merged, quiet
from compress.parity import Expected, check_parity
from edgeloop.errors import ExportError
from edgeloop.runtime import OnnxModel
from tests import tiny
from tests.merged_run import MAX_TOKENS, make_merged

TEXTS = ["my invoice is late", "help", "the pump is broken and leaks again and again today"]


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("merged")
    make_merged(tiny_bert, path)
    return path


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    assert export_merged(load_merged(folder, tiny.LABELS), path) == "dynamo"
    return path


def prove(merged: Merged, folder: Path, model: Path) -> float:
    encoded = [merged.encode(text, MAX_TOKENS) for text in TEXTS]
    reference = merged.answer(encoded, lambda done: None)
    runtime = OnnxModel(model, folder / "tokenizer.json", MAX_TOKENS)
    expected = Expected(TEXTS, encoded, reference)
    return check_parity(merged, runtime, expected, model).max_abs_difference


def test_the_export_is_the_same_model_on_every_shape(folder: Path, exported: Path) -> None:
    assert prove(load_merged(folder, tiny.LABELS), folder, exported) <= 1e-5


def test_the_embedding_is_the_masked_mean_scaled_to_length_one(
    folder: Path, exported: Path
) -> None:
    runtime = OnnxModel(exported, folder / "tokenizer.json", MAX_TOKENS)
    embedding = runtime.run(runtime.encode(TEXTS)).embedding
    bert = BertForSequenceClassification.from_pretrained(folder).bert.eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, found in zip(TEXTS, embedding, strict=True):
        with torch.inference_mode():
            hidden = bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(dim=0).numpy()
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


def test_both_axes_of_every_input_are_dynamic(exported: Path) -> None:
    session = ort.InferenceSession(exported)
    assert {i.name: i.shape for i in session.get_inputs()} == {
        name: ["batch", "seq"] for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    assert [o.shape[0] for o in session.get_outputs()] == ["batch", "batch"]


def test_another_process_writes_the_same_bytes_and_says_nothing(
    folder: Path, exported: Path, tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path\n"
        "from compress.export import export_merged\n"
        "from compress.merged import load_merged\n"
        f"export_merged(load_merged(Path({str(folder)!r}), {tiny.LABELS!r}), Path('model.onnx'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True, timeout=300
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / "model.onnx").read_bytes() == exported.read_bytes()


def test_no_path_of_this_machine_is_in_the_file(folder: Path, exported: Path) -> None:
    data = exported.read_bytes()
    root = Path(__file__).resolve().parents[2]
    for path in (root, folder, Path(torch.__file__).parent):
        assert str(path).encode() not in data


@pytest.mark.parametrize("architecture", ["distilbert", "roberta"])
def test_architectures_without_token_types_are_exported_as_well(
    tiny_bert: Path, tmp_path: Path, architecture: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    names = dict(enumerate(tiny.LABELS))
    if architecture == "distilbert":
        model = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=len(tokenizer),
                dim=32,
                n_layers=2,
                n_heads=2,
                hidden_dim=64,
                max_position_embeddings=64,
                id2label=names,
            )
        )
    else:
        model = RobertaForSequenceClassification(
            RobertaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=66,
                type_vocab_size=1,
                pad_token_id=0,
                id2label=names,
            )
        )
    model.save_pretrained(tmp_path)
    merged = load_merged(tmp_path, tiny.LABELS)
    export_merged(merged, tmp_path / "model.onnx")
    assert merged.inputs == ("input_ids", "attention_mask")
    assert prove(merged, tmp_path, tmp_path / "model.onnx") <= 1e-5


class Branching(torch.nn.Module):  # type: ignore[misc]
    """torch.export cannot follow a branch on data; a trace can."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept = (input_ids * attention_mask).float()
        if kept.sum().item() > 0.0:
            kept = kept * 2.0
        return kept.sum(dim=1, keepdim=True), kept.mean(dim=1, keepdim=True)


class Impossible(torch.nn.Module):  # type: ignore[misc]
    """Neither exporter can run it."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
        raise NotImplementedError("this layer only runs on Tuesdays")


def sample() -> dict[str, torch.Tensor]:
    ids = torch.arange(1, 17).reshape(2, 8)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_the_older_exporter_steps_in_and_the_reason_is_kept(tmp_path: Path) -> None:
    exporter = export_module(Branching(), sample(), tmp_path / "model.onnx")
    assert exporter.startswith("torchscript (dynamo: ")
    assert "\n" not in exporter
    session = ort.InferenceSession(tmp_path / "model.onnx")
    ids = np.array([[1, 2, 3]], dtype=np.int64)
    logits, _ = session.run(
        ["logits", "embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    )
    assert logits.tolist() == [[12.0]]


def test_where_no_exporter_can_every_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"dynamo: .*torchscript: .*only runs on Tuesdays"):
        export_module(Impossible(), sample(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_quiet_ends_with_its_block() -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with quiet():
        warnings.warn("not heard", UserWarning, stacklevel=1)
        assert not logger.isEnabledFor(logging.ERROR)
    assert logger.level == before


# -- folders that cannot be exported ---------------------------------------------------------------


def copy_without(folder: Path, target: Path, name: str) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        if path.name != name:
            (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize(
    ("missing", "said"),
    [("model.safetensors", "does not load"), ("tokenizer.json", "has no tokenizer.json")],
)
def test_a_folder_that_lacks_a_file_is_refused(
    folder: Path, tmp_path: Path, missing: str, said: str
) -> None:
    broken = copy_without(folder, tmp_path / "broken", missing)
    with pytest.raises(ExportError, match=said):
        load_merged(broken, tiny.LABELS)


def test_truncated_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = copy_without(folder, tmp_path / "broken", "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ExportError, match="does not load"):
        load_merged(broken, tiny.LABELS)


def test_an_encoder_without_its_classification_head_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ExportError, match=r"lack 2 .*classifier\.bias"):
        load_merged(tiny_bert, tiny.LABELS)


def test_labels_in_another_order_than_the_merge_recorded_are_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match="the merge recorded"):
        load_merged(folder, tiny.LABELS[::-1])
