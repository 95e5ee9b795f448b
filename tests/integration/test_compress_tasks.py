"""Merged folders of every task through export, parity and the whole stage, against transformers
and sentence-transformers' own arithmetic."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

import compress.stage
from compress.export import _torchscript, export_merged
from compress.merged import Merged, load_merged, quiet
from compress.parity import TOLERANCE, Expected, check_parity
from compress.rows import read_gate_rows
from compress.source import Source
from edgeloop.errors import ExportError
from edgeloop.recipe import TaskName
from edgeloop.rows import TextInput
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from tests import tiny
from tests.merged_run import (
    MAX_TOKENS,
    labels_of,
    make_merged,
    make_recipe,
    make_run,
    write_pooling,
)

KINDS: list[tuple[TaskName, bool]] = [
    ("text-classification", True),
    ("token-classification", False),
    ("text-embedding", False),
]
OTHERS = [task for task, text_pair in KINDS if not text_pair]
PAIRS: list[TextInput] = [("my invoice is late", "help"), ("tax", "the pump leaks again and again")]
TEXTS: list[TextInput] = ["my invoice is late", "help", "the pump is broken and leaks again today"]


@pytest.fixture(scope="module")
def folders(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[TaskName, Path]:
    """Merged folders with their exported model.onnx inside, by task."""
    made = {}
    for task, _ in KINDS:
        folder = tmp_path_factory.mktemp("merged")
        make_merged(tiny_bert, folder, task=task)
        assert export_merged(load(folder, task), folder / "model.onnx") == "dynamo"
        made[task] = folder
    return made


def load(folder: Path, task: TaskName) -> Merged:
    return load_merged(folder, labels_of(task), task)


def runtime(folder: Path) -> OnnxModel:
    return OnnxModel(folder / "model.onnx", folder / "tokenizer.json", MAX_TOKENS)


def prove(folder: Path, task: TaskName, model: OnnxModel, texts: list[TextInput]) -> float:
    merged = load(folder, task)
    encoded = [merged.encode(text, MAX_TOKENS) for text in texts]
    expected = Expected(texts, encoded, merged.answer(encoded, lambda done: None))
    return check_parity(merged, model, expected, folder).max_abs_difference


def asked_of_torch(folder: Path, architecture: Any, text: TextInput) -> Any:
    """Plain transformers on one text or pair; its output with hidden states."""
    model = architecture.from_pretrained(folder).eval()
    texts = (text,) if isinstance(text, str) else text
    with torch.inference_mode():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        # A generic fast tokenizer of transformers 5 leaves them out unless it is asked.
        tokens = tokenizer(*texts, return_tensors="pt", return_token_type_ids=True)
        return model(**tokens, output_hidden_states=True)


def mean_of(hidden: torch.Tensor) -> np.ndarray:
    mean = hidden[0].mean(dim=0).numpy()
    return np.asarray(mean / np.linalg.norm(mean))


@pytest.mark.parametrize(("task", "text_pair"), KINDS)
def test_the_export_is_the_same_model(
    folders: dict[TaskName, Path], task: TaskName, text_pair: bool
) -> None:
    texts = [*PAIRS, *TEXTS] if text_pair else TEXTS
    assert prove(folders[task], task, runtime(folders[task]), texts) <= 1e-5


def test_a_pairs_token_types_reach_the_model(folders: dict[TaskName, Path]) -> None:
    folder = folders["text-classification"]
    for text in PAIRS:
        expected = asked_of_torch(folder, BertForSequenceClassification, text)
        (found,) = runtime(folder).score([text])
        np.testing.assert_allclose(found.logits, expected.logits[0], atol=1e-5)
    zeros = runtime(folder).encode([PAIRS[0]])
    assert zeros.token_type_ids.any()
    blind = zeros.__class__(**{**vars(zeros), "token_type_ids": np.zeros_like(zeros.input_ids)})
    without = runtime(folder).run(blind).logits
    assert np.abs(without - runtime(folder).run(zeros).logits).max() > 0.01


def test_a_tagger_has_a_row_of_logits_per_token(folders: dict[TaskName, Path]) -> None:
    folder = folders["token-classification"]
    for text in TEXTS:
        expected = asked_of_torch(folder, BertForTokenClassification, text)
        (found,) = runtime(folder).score([text])
        np.testing.assert_allclose(found.logits, expected.logits[0], atol=1e-5)
        np.testing.assert_allclose(found.embedding, mean_of(expected.hidden_states[-1]), atol=1e-5)
    outputs = ort.InferenceSession(folder / "model.onnx").get_outputs()
    assert [output.name for output in outputs] == ["logits", "embedding"]
    assert outputs[0].shape[:2] == ["batch", "seq"]


def test_an_embedder_has_its_vector_alone(folders: dict[TaskName, Path]) -> None:
    folder = folders["text-embedding"]
    for text in TEXTS:
        expected = asked_of_torch(folder, BertModel, text)
        (found,) = runtime(folder).score([text])
        np.testing.assert_allclose(found.embedding, mean_of(expected.last_hidden_state), atol=1e-5)
        assert found.logits.shape == (0,)
    outputs = ort.InferenceSession(folder / "model.onnx").get_outputs()
    assert [output.name for output in outputs] == ["embedding"]


def test_the_older_exporter_writes_the_same_outputs(
    folders: dict[TaskName, Path], tmp_path: Path
) -> None:
    task: TaskName = "token-classification"
    merged = load(folders[task], task)
    ids = torch.arange(16).reshape(2, 8)
    every = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    every["token_type_ids"] = torch.zeros_like(ids)
    with quiet():
        model = _torchscript(merged.module, merged.feed(every), merged.outputs)
    onnx.save(model, tmp_path / "model.onnx")
    older = OnnxModel(tmp_path / "model.onnx", folders[task] / "tokenizer.json", MAX_TOKENS)
    assert prove(folders[task], task, older, TEXTS) <= TOLERANCE


@pytest.mark.parametrize("task", OTHERS)
def test_another_model_of_the_task_is_found(
    folders: dict[TaskName, Path], tiny_bert: Path, task: TaskName, tmp_path: Path
) -> None:
    make_merged(tiny_bert, tmp_path, seed=1, task=task)
    with pytest.raises(ExportError, match="differs from the merged model"):
        prove(tmp_path, task, runtime(folders[task]), TEXTS)


def test_a_tokenizer_with_other_token_types_is_found(
    folders: dict[TaskName, Path], tmp_path: Path
) -> None:
    folder = folders["text-classification"]
    document = json.loads((folder / "tokenizer.json").read_text())
    for part in document["post_processor"]["pair"]:
        next(iter(part.values()))["type_id"] = 0
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    model = OnnxModel(folder / "model.onnx", tmp_path / "tokenizer.json", MAX_TOKENS)
    with pytest.raises(ExportError, match=r"tokenizer\.json gives token_type_ids"):
        prove(folder, "text-classification", model, PAIRS)


def test_calibration_feeds_carry_the_token_types_of_pairs(folders: dict[TaskName, Path]) -> None:
    folder = folders["text-classification"]
    merged = load(folder, "text-classification")
    source = Source(folder / "model.onnx", folder / "tokenizer.json", PAIRS, MAX_TOKENS)
    feeds = source.feeds(onnx.load(folder / "model.onnx"))
    assert [set(feed) for feed in feeds] == [set(merged.inputs)] * 2
    assert all(feed["token_type_ids"].max() == 1 for feed in feeds)


# -- folders that are refused ------------------------------------------------------------------


def test_tags_in_another_order_are_refused(folders: dict[TaskName, Path]) -> None:
    with pytest.raises(ExportError, match="the merge recorded"):
        load_merged(folders["token-classification"], tiny.LABELS[::-1], "token-classification")


def test_a_classifier_is_no_tagger(folders: dict[TaskName, Path]) -> None:
    with pytest.raises(ExportError, match="config.json names"):
        load_merged(folders["text-classification"], tiny.LABELS, "token-classification")


def test_an_encoder_with_another_pooling_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    make_merged(tiny_bert, tmp_path, task="text-embedding")
    write_pooling(tmp_path, "cls_token")
    with pytest.raises(ExportError, match="only the mean is exported"):
        load_merged(tmp_path, (), "text-embedding")


# -- the stage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "text_pair"), KINDS)
def test_the_stage_measures_and_judges_every_task(
    tiny_bert: Path, tmp_path: Path, task: TaskName, text_pair: bool
) -> None:
    made = make_run(tiny_bert, tmp_path / "run", 60, 40, task, text_pair)
    recipe = make_recipe(task=task, candidates=["onnx-int8"], budget={"max_accuracy_drop": 0.9})
    lines: list[str] = []
    certificate = compress.stage.run(recipe, made.dataset, made.merged, made.folder, lines.append)
    (int8,) = certificate.candidates
    assert certificate.chosen == int8.kind == "onnx-int8"
    assert int8.parity is not None
    assert int8.parity.max_abs_difference <= TOLERANCE
    assert int8.parity.argmax_agreement_ratio == 1.0
    assert (int8.parity.rows, int8.accuracy.rows) == (
        400 if task == "text-embedding" else 200,
        100,
    )
    if task != "text-embedding":
        assert int8.accuracy.reference_accuracy == 1.0
    rows = read_gate_rows(made.folder.folder("dataset")).judging
    outputs = runtime(made.folder.folder("candidates") / "onnx-int8").score(
        TASKS[task].inputs(rows)
    )
    right = TASKS[task].right(outputs, rows, labels_of(task))
    assert int8.accuracy.candidate_accuracy == pytest.approx(right.mean())
    assert int8.test_accuracy == pytest.approx(right[:60].mean())
