"""Bases of several architectures: what is trained, what is refused, and that a merge holds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune, Recipe
from edgeloop.rundir import RunDir
from finetune import stage
from finetune.arena import trainable
from finetune.encoder import load_config, load_encoder, load_tokenizer, quiet_transformers
from finetune.methods.lora import LoraMethod
from finetune.methods.targets import linear_targets
from finetune.model import Classifier
from tests import tiny

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

VOCABULARY = tiny.word_tokenizer().get_vocab_size()
KEY = "finetune.lora.target_modules"
BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}


def roberta() -> PreTrainedModel:
    return RobertaModel(RobertaConfig(**BERT))


def distilbert() -> PreTrainedModel:
    return DistilBertModel(
        DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    )


def modernbert() -> PreTrainedModel:
    config = BERT | {"global_attn_every_n_layers": 1, "local_attention": 8}
    specials = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    return ModernBertModel(ModernBertConfig(**config, **specials))


def bert_without_pooler() -> PreTrainedModel:
    return BertForMaskedLM(BertConfig(**BERT))


def bert_in_half_precision() -> PreTrainedModel:
    return BertModel(BertConfig(**BERT)).to(torch.bfloat16)


def classifier_for_other_labels() -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**BERT, num_labels=7))


BASES = {
    "roberta": roberta,
    "distilbert": distilbert,
    "modernbert": modernbert,
    "masked-lm": bert_without_pooler,
    "bfloat16": bert_in_half_precision,
    "classifier": classifier_for_other_labels,
}


def save_base(folder: Path, model: PreTrainedModel) -> Path:
    """The model with the tiny tokenizer."""
    tiny.make_bert(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    with quiet_transformers():
        model.save_pretrained(folder)
    return folder


def classifier_on(folder: Path) -> Classifier:
    with quiet_transformers():
        encoder = load_encoder(folder, load_config(folder), torch.float32)
    classifier = Classifier(encoder, len(tiny.LABELS))
    classifier.eval()
    return classifier


def complaint(folder: Path) -> str:
    with pytest.raises(TrainingError) as raised:
        classifier_on(folder)
    return str(raised.value)


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_trained_and_merged(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    base = save_base(tmp_path / "base", BASES[name]())
    tiny.write_rows(tmp_path / "rows.csv", tiny.sentences(60, seed=1))
    document = {
        "name": "tiny",
        "base": str(base),
        "data": {"files": [str(tmp_path / "rows.csv")]},
        "finetune": {"lora": {"r": 2}, "training": {"num_train_epochs": 1}},
        "serve": {"max_tokens": 16},
    }
    recipe, run = Recipe.model_validate_json(json.dumps(document)), RunDir(tmp_path / "run")
    dataset = stage.prepare(recipe, run)
    adapter = stage.train(recipe, dataset, run, lambda _: None)
    merged = stage.merge(recipe, dataset, adapter, run)
    assert merged.parity.max_abs_difference <= merged.parity.tolerance
    assert merged.parity.tolerance == (2e-2 if name == "bfloat16" else 1e-4)
    weights = load_file(run.folder("merged") / "model.safetensors")
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    assert {tensor.dtype for tensor in weights.values()} == {dtype}


def test_all_linear_is_every_linear_layer_of_the_encoder(tiny_bert: Path) -> None:
    encoder = classifier_on(tiny_bert).encoder
    targets = linear_targets(encoder, "all-linear", KEY)
    assert len(targets) == 2 * 6
    assert linear_targets(encoder, ("key",), KEY) == tuple(
        name for name in targets if name.endswith(".key")
    )


def test_only_the_adapter_and_the_head_are_trained(tiny_bert: Path) -> None:
    classifier = classifier_on(tiny_bert)
    LoraMethod().attach(classifier, Finetune(), "package:carries_weights/model")
    config = classifier.encoder.edgeloop_config
    assert config.base_model_name_or_path == "package:carries_weights/model"
    trained = set(trainable(classifier))
    assert {"head.weight", "head.bias"} <= trained
    assert all("lora_" in name for name in trained if not name.startswith("head."))
    assert len(trained) == 2 + 2 * 12


def test_padding_does_not_change_an_answer(tiny_bert: Path) -> None:
    classifier = classifier_on(tiny_bert)
    torch.manual_seed(0)
    assert classifier.head is not None
    torch.nn.init.normal_(classifier.head.weight)
    ids, mask = torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.int64)
    padding = torch.zeros(1, 4, dtype=torch.int64)
    with torch.inference_mode():
        alone = classifier(ids, mask)
        padded = classifier(torch.cat([ids, padding], 1), torch.cat([mask, padding], 1))
    assert torch.allclose(alone, padded, atol=1e-5)


def test_a_folded_head_reads_the_unit_vector(tiny_bert: Path) -> None:
    classifier = classifier_on(tiny_bert)
    assert classifier.head is not None
    torch.nn.init.normal_(classifier.head.weight)
    ids, mask = torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.int64)
    head = classifier.folded_head()
    with torch.inference_mode():
        hidden = classifier.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        unit = torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)
        assert torch.allclose(
            classifier(ids, mask), unit @ head["weight"].T + head["bias"], atol=1e-4
        )


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    model = GPT2Model(GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2))
    base = save_base(tmp_path / "base", model)
    assert "architecture 'gpt2' is not an encoder" in complaint(base)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", roberta())
    (base / "config.json").write_text('{"model_type": "novelty"}')
    assert "config.json" in complaint(base)


def test_code_in_the_base_is_not_run(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", roberta())
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "novelty", "auto_map": {"AutoConfig": "evil.Config"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text("raise SystemExit('ran')")
    assert "config.json" in complaint(base)


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", roberta())
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"{base}: the weights do not load" in complaint(base)


def test_an_encoder_with_a_layer_missing_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", BertModel(BertConfig(**BERT)))
    weights = load_file(base / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert "lacks 1 tensors of the encoder, among them encoder.layer.0.output.dense.weight" in (
        complaint(base)
    )


def test_an_encoder_with_a_layer_too_many_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", BertModel(BertConfig(**BERT | {"num_hidden_layers": 2})))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert "has no place for, 16 tensors of the encoder" in complaint(base)


def test_a_tokenizer_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", roberta())
    (base / "tokenizer.json").write_text("{}")
    with pytest.raises(TrainingError, match=f"{base}: the tokenizer does not load"):
        load_tokenizer(base, RobertaConfig(**BERT), 16)


def test_the_merged_tokenizer_neither_cuts_nor_pads_by_itself(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_base(tmp_path / "base", roberta()))
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.save_pretrained(tmp_path / "base")
    loaded = load_tokenizer(tmp_path / "base", RobertaConfig(**BERT), 16)
    assert len(loaded("my parcel is late again today please help")["input_ids"]) == 10
