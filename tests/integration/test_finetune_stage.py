"""Rows to adapter to merged model on a tiny BERT: what is written, that it repeats, and that it
resumes after a kill with the same bits.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from edgeloop.errors import DatasetError, EdgeloopError, MergeError, TrainingError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, MergedModel
from edgeloop.rows import read_rows
from edgeloop.rundir import RunDir, digest_entries, list_files
from finetune import stage
from finetune.adapt import HEAD_WEIGHTS
from finetune.batches import Encoded
from finetune.checkpoint import CHECKPOINT
from finetune.encode import encode
from finetune.encoder import load_config, load_encoder, quiet_transformers
from finetune.merged import load_merged
from finetune.model import Classifier, TaskModel
from finetune.train import evaluate
from tests import tiny

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SEED = 3


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    tiny.write_rows(path, tiny.sentences(240, seed=1))
    return path


def make_recipe(base: Path, rows_file: Path, **finetune: Any) -> Recipe:
    training = {
        "num_train_epochs": 4,
        "learning_rate": 2e-2,
        "seed": SEED,
        "early_stopping_patience": 4,
    }
    document = {
        "name": "tiny",
        "base": str(base),
        "data": {"files": [str(rows_file)]},
        "finetune": {
            "lora": finetune.get("lora", {"r": 4, "lora_alpha": 8}),
            "training": training | finetune.get("training", {}),
        },
        "serve": {"max_tokens": finetune.get("max_tokens", 32)},
    }
    return Recipe.model_validate_json(json.dumps(document))


class Outcome:
    """A whole pass: the three records and what was said on the way."""

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe, self.run, self.said = recipe, RunDir(root), list[str]()
        self.dataset: Dataset = stage.prepare(recipe, self.run)
        self.adapter: Adapter = stage.train(recipe, self.dataset, self.run, self.said.append)
        self.merged: MergedModel = stage.merge(recipe, self.dataset, self.adapter, self.run)


@pytest.fixture(scope="session")
def outcome(tiny_bert: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return Outcome(make_recipe(tiny_bert, rows_file), tmp_path_factory.mktemp("run"))


TASK = "text-classification"


def adapted_model(outcome: Outcome, base: Path) -> Classifier:
    """The adapter on its base, put together from the folder's files by plain PEFT."""
    folder = outcome.run.folder("adapter")
    with quiet_transformers():
        encoder = load_encoder(base, load_config(base), torch.float32)
        classifier = Classifier(encoder, len(tiny.LABELS))
        classifier.encoder = PeftModel.from_pretrained(classifier.encoder, folder)
    classifier.set_folded_head(load_file(folder / HEAD_WEIGHTS))
    classifier.eval()
    return classifier


def merged_model(outcome: Outcome) -> TaskModel:
    with quiet_transformers():
        return load_merged(outcome.run.folder("merged"), TASK, tiny.LABELS)


def validation_rows(outcome: Outcome, tokenizer_folder: Path) -> Encoded:
    rows = read_rows(outcome.run.folder("dataset"), "validation")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    return encode(rows, TASK, tiny.LABELS, tokenizer, 32)


# -- dataset ---------------------------------------------------------------------------------


def test_the_splits_are_written(outcome: Outcome) -> None:
    folder = outcome.run.folder("dataset")
    assert outcome.dataset.labels == tiny.LABELS
    assert outcome.dataset.rows == {"train": 184, "validation": 29, "reference": 27, "test": 27}
    for name, count in outcome.dataset.rows.items():
        rows = read_rows(folder, name)
        assert len(rows) == count
    assert outcome.dataset.reference_is_test
    assert [source.path for source in outcome.dataset.sources] == ["rows.csv"]


def test_the_dataset_does_not_depend_on_where_the_files_lie(
    outcome: Outcome, rows_file: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "rows.csv"
    moved.write_bytes(rows_file.read_bytes())
    again = stage.prepare(make_recipe(tiny_bert, moved), RunDir(tmp_path / "run"))
    assert again == outcome.dataset


def test_labelled_rows_join_the_splits(outcome: Outcome, tmp_path: Path) -> None:
    extra = [LabelledRow(f"x{i}", f"new words {i}", "new") for i in range(20)]
    run = RunDir(tmp_path)
    dataset = stage.prepare(outcome.recipe, run, extra)
    assert dataset.labels == ("billing", "delivery", "new", "repair")
    assert dataset.rows["train"] == 196
    assert dataset.rows["fresh"] == len(read_rows(run.folder("dataset"), "fresh")) == 6
    assert dataset.digest != outcome.dataset.digest


def test_unlabelled_texts_lie_beside_the_splits_without_those_that_have_joined_them(
    outcome: Outcome, tmp_path: Path
) -> None:
    (tmp_path / "more.csv").write_text("text\nnew words 3\nunheard of\n")
    data = outcome.recipe.data.model_copy(update={"unlabelled": (tmp_path / "more.csv",)})
    recipe, run = outcome.recipe.model_copy(update={"data": data}), RunDir(tmp_path / "run")
    dataset = stage.prepare(recipe, run)
    found = [row.text for row in read_rows(run.folder("dataset"), "unlabelled")]
    assert found == ["new words 3", "unheard of"]
    assert dataset.digest != outcome.dataset.digest
    extra = [LabelledRow(f"x{i}", f"new words {i}", "new") for i in range(20)]
    stage.prepare(recipe, run, extra)
    found = [row.text for row in read_rows(run.folder("dataset"), "unlabelled")]
    assert found == ["unheard of"]


def test_bad_rows_leave_no_dataset(tiny_bert: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    recipe = make_recipe(tiny_bert, rows)
    with pytest.raises(DatasetError, match="there is no such file"):
        stage.prepare(recipe, RunDir(tmp_path / "run"))
    rows.write_text("text,label\nhello,a\n,b\n")
    with pytest.raises(DatasetError, match="rows.csv:3: text is empty"):
        stage.prepare(recipe, RunDir(tmp_path / "run"))
    assert not (tmp_path / "run" / "dataset").exists()


# -- adapter ---------------------------------------------------------------------------------


def test_the_adapter_learns(outcome: Outcome) -> None:
    best = outcome.adapter.epochs[outcome.adapter.best_epoch - 1]
    assert best.validation_metric > 0.6  # a guess is right in 0.36
    assert best.validation_metric == max(e.validation_metric for e in outcome.adapter.epochs)


def test_the_adapter_folder_holds_the_adapter_and_no_checkpoint(outcome: Outcome) -> None:
    names = {path.name for path in outcome.run.folder("adapter").iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors", HEAD_WEIGHTS}
    assert names == adapter | {"record.json"}
    assert {entry.path for entry in outcome.adapter.files} == adapter


def test_the_best_epoch_is_what_is_kept(outcome: Outcome, tiny_bert: Path) -> None:
    figures = evaluate(adapted_model(outcome, tiny_bert), validation_rows(outcome, tiny_bert))
    best = outcome.adapter.epochs[outcome.adapter.best_epoch - 1]
    # Where the processor has bf16 the validation rows were answered in it.
    assert figures.loss == pytest.approx(best.validation_loss, abs=5e-3)


def test_progress_is_told_after_every_epoch(outcome: Outcome) -> None:
    assert outcome.said[0].startswith("training ")
    assert [line.partition(":")[0] for line in outcome.said[1:]] == [
        f"epoch {i}/4" for i in range(1, 5)
    ]


def test_the_same_inputs_give_the_same_bits(outcome: Outcome, tmp_path: Path) -> None:
    torch.manual_seed(999)  # what happened before must not matter
    again = Outcome(outcome.recipe, tmp_path)
    assert again.adapter.files == outcome.adapter.files
    assert again.merged.files == outcome.merged.files
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_seed_gives_another_adapter(
    outcome: Outcome, tiny_bert: Path, rows_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(tiny_bert, rows_file, training={"seed": SEED + 1})
    assert Outcome(recipe, tmp_path).adapter.files != outcome.adapter.files


def test_complete_stages_are_skipped(outcome: Outcome) -> None:
    said: list[str] = []
    adapter = stage.train(outcome.recipe, outcome.dataset, outcome.run, said.append)
    assert adapter == outcome.adapter
    assert said == []


def test_early_stopping_ends_the_training(tiny_bert: Path, rows_file: Path, tmp_path: Path) -> None:
    training = {"num_train_epochs": 60, "early_stopping_patience": 1}
    adapter = Outcome(make_recipe(tiny_bert, rows_file, training=training), tmp_path).adapter
    assert len(adapter.epochs) == adapter.best_epoch + 1 < 60


def test_target_modules_are_those_of_the_recipe(
    tiny_bert: Path, rows_file: Path, tmp_path: Path
) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}
    found = Outcome(make_recipe(tiny_bert, rows_file, lora=lora), tmp_path)
    assert found.merged.merged_weights == 4
    assert found.merged.adapter_tensors == 8 + 2
    lora["target_modules"] = ["q_proj"]
    with pytest.raises(TrainingError, match="target_modules: q_proj names no linear layer"):
        Outcome(make_recipe(tiny_bert, rows_file, lora=lora), tmp_path)


def test_a_loss_that_is_no_number_says_what_to_try(
    tiny_bert: Path, rows_file: Path, tmp_path: Path
) -> None:
    training = {"learning_rate": 1e18, "weight_decay": 1e18}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at .* lower finetune"):
        Outcome(make_recipe(tiny_bert, rows_file, training=training), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_more_tokens_than_the_base_reads(tiny_bert: Path, rows_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="set serve.max_tokens to 64 or less"):
        Outcome(make_recipe(tiny_bert, rows_file, max_tokens=65), tmp_path)


SCRIPT = """
import sys, time
from pathlib import Path
from edgeloop.recipe import Recipe
from edgeloop.rundir import RunDir
from finetune import stage

recipe, run = Recipe.model_validate_json(sys.argv[1]), RunDir(Path(sys.argv[2]))
wait_at = sys.argv[3]

def say(line):
    print(line, flush=True)
    if line.startswith(wait_at):
        time.sleep(600)

stage.train(recipe, stage.prepare(recipe, run), run, say)
"""


def kill_at(recipe: Recipe, root: Path, moment: str, wait: bool) -> None:
    """Train in a process of its own and kill it at a line of its progress."""
    arguments = [recipe.model_dump_json(), str(root), moment if wait else "never"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "wait"),
    [("training", True), ("epoch 1/", False), ("epoch 3/", True), ("epoch 4/", True)],
)
def test_a_killed_training_resumes_to_the_same_adapter(
    outcome: Outcome, tmp_path: Path, moment: str, wait: bool
) -> None:
    kill_at(outcome.recipe, tmp_path, moment, wait)
    run = RunDir(tmp_path)
    assert not run.folder("adapter").exists()
    said: list[str] = []
    adapter = stage.train(outcome.recipe, outcome.dataset, run, said.append)
    assert any(line.startswith("resumed after epoch") for line in said) == (moment != "training")
    assert adapter.files == outcome.adapter.files
    assert [e.validation_loss for e in adapter.epochs] == [
        e.validation_loss for e in outcome.adapter.epochs
    ]


def test_a_checkpoint_that_cannot_be_read_starts_over(
    outcome: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kill_at(outcome.recipe, tmp_path, "epoch 2/", wait=True)
    (tmp_path / ".work-adapter" / CHECKPOINT).write_bytes(b"torn")
    adapter = stage.train(outcome.recipe, outcome.dataset, RunDir(tmp_path), lambda _: None)
    assert adapter.files == outcome.adapter.files
    assert "training=restarts" in caplog.text


# -- merged ----------------------------------------------------------------------------------


def test_the_merged_folder_opens_as_a_plain_hugging_face_encoder(outcome: Outcome) -> None:
    folder = outcome.run.folder("merged")
    with quiet_transformers():
        encoder = AutoModel.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert encoder.config.id2label == dict(enumerate(tiny.LABELS))
    assert encoder.config.label2id == {label: i for i, label in enumerate(tiny.LABELS)}
    assert tokenizer.get_vocab() == tiny.word_tokenizer().get_vocab()
    assert outcome.merged.labels == tiny.LABELS
    names = {entry.path for entry in outcome.merged.files}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert list_files(folder) == outcome.merged.files


def test_the_proof_is_in_the_record(outcome: Outcome) -> None:
    parity = outcome.merged.parity
    assert parity.rows == outcome.dataset.rows["test"]
    assert parity.max_abs_difference <= parity.tolerance == 1e-4
    assert parity.argmax_agreement_ratio >= 0.999
    assert outcome.merged.adapter_digest == digest_entries(outcome.adapter.files)


def test_the_trained_head_survives(outcome: Outcome) -> None:
    trained = load_file(outcome.run.folder("adapter") / HEAD_WEIGHTS)
    assert trained["weight"].abs().max() > 0
    found = merged_model(outcome).folded_head()
    for name, tensor in trained.items():
        assert torch.allclose(tensor, found[name], rtol=1e-6), name


def test_the_merged_model_answers_as_well_as_the_best_epoch(outcome: Outcome) -> None:
    rows = validation_rows(outcome, outcome.run.folder("merged"))
    figures = evaluate(merged_model(outcome), rows)
    best = outcome.adapter.epochs[outcome.adapter.best_epoch - 1]
    assert figures.metric == best.validation_metric
    # Where the processor has bf16 the validation rows were answered in it, the merge is fp32.
    assert figures.loss == pytest.approx(best.validation_loss, abs=5e-3)


@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"use_rslora": True, "r": 8}])
def test_the_merge_equals_pefts_own(
    tiny_bert: Path, rows_file: Path, tmp_path: Path, kind: dict[str, Any]
) -> None:
    recipe = make_recipe(
        tiny_bert,
        rows_file,
        lora={"r": 4, "lora_alpha": 8, **kind},
        training={"num_train_epochs": 2},
    )
    found = Outcome(recipe, tmp_path)
    ours = merged_model(found).encoder.state_dict()
    theirs = adapted_model(found, tiny_bert).encoder.merge_and_unload().state_dict()
    base = load_file(tiny_bert / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], atol=1e-6), name
    assert any(not torch.equal(tensor, base[name]) for name, tensor in ours.items())


def test_every_tensor_of_the_encoder_is_copied_or_summed(outcome: Outcome, tiny_bert: Path) -> None:
    base = load_file(tiny_bert / "model.safetensors")
    merged = load_file(outcome.run.folder("merged") / "model.safetensors")
    assert merged.keys() == {name for name in base if not name.startswith("pooler.")}
    summed = {name for name in merged if not torch.equal(merged[name], base[name])}
    assert summed == {
        name for name in merged if name.startswith("encoder.") and merged[name].ndim == 2
    }
    assert len(summed) == outcome.merged.merged_weights
    assert len(merged) - len(summed) == outcome.merged.copied_tensors


@pytest.mark.parametrize("name", ["adapter_model.safetensors", HEAD_WEIGHTS])
def test_a_damaged_adapter_is_not_merged(
    tiny_bert: Path, rows_file: Path, tmp_path: Path, name: str
) -> None:
    run = RunDir(tmp_path)
    recipe = make_recipe(tiny_bert, rows_file, training={"num_train_epochs": 1})
    dataset = stage.prepare(recipe, run)
    adapter = stage.train(recipe, dataset, run, lambda _: None)
    path = run.folder("adapter") / name
    tensors = load_file(path)
    lost = max(tensors)
    del tensors[lost]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(EdgeloopError, match="the files are not those that its record names"):
        stage.merge(recipe, dataset, adapter, run)
    # Even a record that vouches for the damage does not get it through.
    vouching = adapter.model_copy(update={"files": list_files(run.folder("adapter"))})
    with pytest.raises(MergeError, match=f"{re.escape(lost)} is missing"):
        stage.merge(recipe, dataset, vouching, run)
    assert not run.folder("merged").exists()


def test_a_changed_dataset_is_not_trained_on(
    tiny_bert: Path, rows_file: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    recipe = make_recipe(tiny_bert, rows_file)
    dataset = stage.prepare(recipe, run)
    with (run.folder("dataset") / "train.jsonl").open("a") as stream:
        stream.write('{"id": "x", "label": "billing", "text": "slipped in"}\n')
    with pytest.raises(EdgeloopError, match="the files are not those that its record names"):
        stage.train(recipe, dataset, run, lambda _: None)


def test_another_base_than_the_adapters_is_not_merged_into(
    outcome: Outcome, rows_file: Path, tmp_path: Path
) -> None:
    tiny.make_bert(tmp_path / "other", seed=7)
    recipe = make_recipe(tmp_path / "other", rows_file)
    with pytest.raises(MergeError, match="changed since the adapter was trained"):
        stage.merge(recipe, outcome.dataset, outcome.adapter, outcome.run)
