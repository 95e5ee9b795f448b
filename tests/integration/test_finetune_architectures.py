"""Every method on bases of several architectures with random weights: attached, changed, saved,
read back and merged, or refused with what to use instead.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune
from finetune.arena import trainable
from finetune.encoder import load_config, quiet_transformers
from finetune.join import encoder_of
from finetune.methods.registry import METHODS
from finetune.model import Tagger

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

WORDS = 40
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}


def distilbert() -> Any:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    return hf.DistilBertModel(hf.DistilBertConfig(vocab_size=WORDS, **sizes))


def deberta() -> Any:
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
    more = {"share_att_key": True, "type_vocab_size": 0}
    return hf.DebertaV2Model(hf.DebertaV2Config(**SIZES, **relative, **more))


def modernbert() -> Any:
    specials = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    local = {"global_attn_every_n_layers": 2, "local_attention": 8}
    return hf.ModernBertModel(hf.ModernBertConfig(**SIZES, **local, **specials))


BASES: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertModel(hf.BertConfig(**SIZES)),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**SIZES)),
    "xlm-roberta": lambda: hf.XLMRobertaModel(hf.XLMRobertaConfig(**SIZES)),
    "electra": lambda: hf.ElectraModel(hf.ElectraConfig(**SIZES, embedding_size=16)),
    "albert": lambda: hf.AlbertModel(hf.AlbertConfig(**SIZES, embedding_size=16)),
    "mpnet": lambda: hf.MPNetModel(hf.MPNetConfig(**SIZES)),
    "distilbert": distilbert,
    "deberta-v2": deberta,
    "modernbert": modernbert,
}
# What cannot be done, and a word of why.
REFUSED = {
    ("adapter", "modernbert"): "feed-forward blocks",
    ("ia3", "modernbert"): "keys and values",
    ("prefix", "albert"): "learned keys and values",
    ("prefix", "deberta-v2"): "learned keys and values",
    ("prefix", "mpnet"): "learned keys and values",
}
PAIRS = [(m, b) for m in METHODS if m not in ("full", "head") for b in BASES]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    with quiet_transformers():
        for name, make in BASES.items():
            make().save_pretrained(root / name)
    return {name: root / name for name in BASES}


def recipe_for(method: str) -> Finetune:
    return Finetune.model_validate({"method": method})


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(4, WORDS, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    ids[1, 5:], mask[1, 5:] = 0, 0
    return ids, mask


def states(model: Tagger) -> torch.Tensor:
    ids, mask = batch()
    with torch.inference_mode():
        return model.eval().states(ids, mask) * mask.unsqueeze(-1)


def model_on(folder: Path, method: str) -> Tagger:
    settings = recipe_for(method)
    return Tagger(METHODS[method].load_base(folder, load_config(folder), settings), 3)


def attached(folder: Path, method: str) -> Tagger:
    """Attached, and then moved away from where the base was, as training would."""
    torch.manual_seed(2)
    model = model_on(folder, method)
    METHODS[method].attach(model, recipe_for(method), "base")
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(("method", "name"), [pair for pair in PAIRS if pair not in REFUSED])
def test_a_method_works_on_an_architecture(
    folders: dict[str, Path], tmp_path: Path, method: str, name: str
) -> None:
    folder, chosen = folders[name], METHODS[method]
    with quiet_transformers():
        model, restored = attached(folder, method), model_on(folder, method)
        before = states(model_on(folder, method))
        chosen.save(model, tmp_path)
        chosen.restore(restored, tmp_path)
        expected = states(model)
        assert not torch.allclose(expected, before, atol=1e-4)
        assert torch.allclose(states(restored), expected, atol=1e-6)
        if chosen.unmergeable is None:
            bases = chosen.merge_bases(folder, load_config(folder), recipe_for(method))
            base = next(iter(bases.values()))
            merged = encoder_of(base, load_config(folder), chosen.merge(base, tmp_path))
            assert torch.allclose(states(Tagger(merged, 3)), expected, atol=1e-5)


@pytest.mark.parametrize(("method", "name"), REFUSED)
def test_what_does_not_fit_says_what_to_use(
    folders: dict[str, Path], method: str, name: str
) -> None:
    why = REFUSED[method, name]
    with quiet_transformers(), pytest.raises(TrainingError) as raised:
        attached(folders[name], method)
    said = str(raised.value)
    assert said.startswith(f"finetune.method {method}: architecture '{name}' has no ")
    assert why in said
    assert said.endswith("use finetune.method lora")
