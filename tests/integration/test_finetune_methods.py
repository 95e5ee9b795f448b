"""Every method on every task: trained for real on a tiny BERT, merged with proof where it can be,
and read again by plain PEFT and transformers.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BitsAndBytesConfig

from edgeloop.errors import MergeError, RecipeError, TrainingError
from edgeloop.recipe import Method
from edgeloop.tasks import TASKS
from finetune import stage
from finetune.encoder import load_config, load_encoder, quiet_transformers
from finetune.methods.registry import METHODS
from finetune.methods.virtual_tokens import EMBEDDINGS
from finetune.scoring import score_merged
from tests.tuned import Tuned, rows_for

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PAIRS = [(m, t) for m in METHODS for t in TASKS if (m, t) != ("head", "text-embedding")]
MERGEABLE = [pair for pair in PAIRS if METHODS[pair[0]].unmergeable is None]
SOFT = [name for name, method in METHODS.items() if method.unmergeable is not None]

Train = Callable[[str, str], Tuned]


@pytest.fixture(scope="session")
def trained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains each pair once."""
    found: dict[tuple[str, str], Tuned] = {}

    def train(method: str, task: str) -> Tuned:
        if (method, task) not in found:
            root = tmp_path_factory.mktemp("run")
            found[method, task] = Tuned(tiny_bert, root, method, task)
        return found[method, task]

    return train


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts, the second one padded."""
    ids = torch.tensor([[2, 9, 17, 22, 30, 3], [2, 11, 25, 3, 0, 0]])
    return ids, (ids != 0).long()


def states(model: torch.nn.Module, **more: torch.Tensor) -> torch.Tensor:
    """The last hidden state of the real tokens, the others 0."""
    ids, mask = batch()
    with torch.inference_mode():
        found = model.eval()(input_ids=ids, attention_mask=mask, **more).last_hidden_state
    return found[:, -ids.shape[1] :] * mask.unsqueeze(-1)


def own_states(tuned: Tuned) -> torch.Tensor:
    ids, mask = batch()
    with torch.inference_mode():
        return tuned.restored().states(ids, mask) * mask.unsqueeze(-1)


def plain_base(tuned: Tuned) -> torch.nn.Module:
    folder = Path(tuned.recipe.base)
    return load_encoder(folder, load_config(folder), torch.float32)


def test_every_method_of_the_recipe_is_there() -> None:
    assert set(METHODS) == set(get_args(Method))


@pytest.mark.parametrize(("method", "task"), PAIRS)
def test_what_is_trained_changes_and_nothing_else(trained: Train, method: str, task: str) -> None:
    tuned = trained(method, task)
    base = states(plain_base(tuned))
    if method == "head":
        assert torch.equal(own_states(tuned), base)
    else:
        assert not torch.allclose(own_states(tuned), base, atol=1e-6)
    heads = {"head.safetensors"} if TASKS[task].width(tuned.dataset.labels) else set()
    names = {entry.path for entry in tuned.adapter.files}
    assert names >= heads
    assert names - heads == (
        set()
        if method == "head"
        else {"config.json", "model.safetensors"}
        if method == "full"
        else {"adapter_config.json", "adapter_model.safetensors"}
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_trainable_share_counts_every_weight_once(trained: Train, method: str) -> None:
    adapter = trained(method, "text-classification").adapter
    others = trained("full", "text-classification").adapter
    assert adapter.total_parameters == others.total_parameters == others.trainable_parameters
    if method != "full":
        assert 0 < adapter.trainable_parameters < adapter.total_parameters


@pytest.mark.parametrize(("method", "task"), MERGEABLE)
def test_the_merged_model_is_proven_and_opens_in_transformers(
    trained: Train, method: str, task: str
) -> None:
    tuned = trained(method, task)
    merged = stage.merge(tuned.recipe, tuned.dataset, tuned.adapter, tuned.run)
    assert merged.parity.max_abs_difference <= merged.parity.tolerance == 1e-4
    assert merged.proof.startswith("answers like the adapter on the ")
    folder = tuned.run.folder("merged")
    with quiet_transformers():
        plain = AutoModel.from_pretrained(folder)
    if method != "qlora":  # the other base of qlora: below
        assert torch.allclose(states(plain), own_states(tuned), atol=1e-5)
    texts = [row.input for row in rows_for(task, 3, seed=5)]
    outputs = score_merged(folder, task, tuned.dataset.labels, texts, 32)
    assert all(output.embedding.shape == (32,) for output in outputs)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_inputs_give_the_same_bytes(
    trained: Train, tiny_bert: Path, tmp_path: Path, method: str
) -> None:
    torch.manual_seed(999)  # what happened before must not matter
    again = Tuned(tiny_bert, tmp_path, method, "text-classification")
    assert again.adapter.files == trained(method, "text-classification").adapter.files


# -- read elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "ia3", "prompt"])
def test_plain_peft_reads_the_adapter(trained: Train, method: str) -> None:
    tuned = trained(method, "token-classification")
    with quiet_transformers():
        model = PeftModel.from_pretrained(plain_base(tuned), tuned.run.folder("adapter"))
        assert torch.allclose(states(model), own_states(tuned), atol=1e-6)


def test_plain_peft_reads_a_prefix_at_the_texts_own_positions(trained: Train) -> None:
    tuned = trained("prefix", "token-classification")
    folder = tuned.run.folder("adapter")
    tokens = tuned.recipe.finetune.prefix.num_virtual_tokens
    # PEFT adds the length of the prefix to every position.
    positions = torch.arange(batch()[0].shape[1]).expand(2, -1) - tokens
    with quiet_transformers():
        model = PeftModel.from_pretrained(plain_base(tuned), folder)
        found = states(model, position_ids=positions)
    assert torch.allclose(found, own_states(tuned), atol=1e-6)


def test_plain_peft_reads_a_qlora_adapter_on_the_4_bit_base(trained: Train) -> None:
    tuned = trained("qlora", "text-classification")
    settings = tuned.recipe.finetune.qlora
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=torch.float32,
    )
    with quiet_transformers():
        base = AutoModel.from_pretrained(
            tuned.recipe.base, quantization_config=quantisation, device_map={"": "cpu"}
        )
        model = PeftModel.from_pretrained(base, tuned.run.folder("adapter"))
    for module in model.modules():  # see finetune.methods.qlora
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    assert torch.allclose(states(model), own_states(tuned), atol=1e-6)


def test_plain_transformers_reads_full_weights(trained: Train) -> None:
    tuned = trained("full", "text-classification")
    with quiet_transformers():
        model = AutoModel.from_pretrained(tuned.run.folder("adapter"), add_pooling_layer=False)
    assert torch.equal(states(model), own_states(tuned))


# -- merges against PEFT's own -----------------------------------------------------------------


def test_the_ia3_merge_equals_pefts_own(trained: Train) -> None:
    tuned = trained("ia3", "text-classification")
    folder = tuned.run.folder("adapter")
    ours = METHODS["ia3"].merge(plain_base(tuned), folder)
    with quiet_transformers():
        theirs = PeftModel.from_pretrained(plain_base(tuned), folder).merge_and_unload()
    assert ours.tensors.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.allclose(ours.tensors[name], tensor, atol=1e-6), name
    assert (ours.adapter_tensors, ours.summed) == (2 * 3, 2 * 5)


# -- qlora's two bases -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_both_merges_of_a_qlora_adapter_are_judged(
    tiny_bert: Path, tmp_path: Path, kind: str
) -> None:
    qlora = {"bnb_4bit_quant_type": kind}
    tuned = Tuned(tiny_bert, tmp_path, "qlora", "text-classification", qlora=qlora)
    merged = stage.merge(tuned.recipe, tuned.dataset, tuned.adapter, tuned.run)
    gaps = {gap.base: gap for gap in merged.qlora_gap}
    assert set(gaps) == {f"the dequantised {kind} base", "the float32 base"}
    assert abs(gaps[f"the dequantised {kind} base"].loss_rise) < 1e-5
    kept = merged.qlora_gap[0]
    assert kept.base in merged.proof
    best = min((gap.metric_drop, gap.loss_rise) for gap in gaps.values())
    assert (kept.metric_drop, kept.loss_rise) == best


def test_four_bits_round_the_base(trained: Train) -> None:
    tuned = trained("qlora", "text-classification")
    with quiet_transformers():
        bases = METHODS["qlora"].merge_bases(
            Path(tuned.recipe.base), tuned.inputs.config(), tuned.recipe.finetune
        )
    rounded, stored = (base.state_dict() for base in bases.values())
    changed = {name for name in stored if not torch.equal(rounded[name], stored[name])}
    assert changed == {
        name for name in stored if name.startswith("encoder.") and stored[name].ndim == 2
    }


def test_answering_does_not_change_the_4_bit_weights(trained: Train) -> None:
    model = trained("qlora", "text-classification").restored()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states(model.encoder)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_without_bitsandbytes_the_missing_package_is_named(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn.modules", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        Tuned(tiny_bert, tmp_path, "qlora", "text-classification")
    assert str(raised.value.name).startswith("bitsandbytes")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_qlora_adapter_answers_the_same_on_a_gpu(trained: Train) -> None:
    tuned = trained("qlora", "text-classification")
    expected, model = own_states(tuned), tuned.restored().to("cuda")
    ids, mask = (tensor.to("cuda") for tensor in batch())
    with torch.inference_mode():
        found = model.states(ids, mask) * mask.unsqueeze(-1)
    assert torch.allclose(found.cpu(), expected, atol=1e-3)


# -- adapters grow the model -------------------------------------------------------------------


def test_a_bottleneck_ships_as_a_wider_model(trained: Train) -> None:
    tuned = trained("adapter", "text-classification")
    stage.merge(tuned.recipe, tuned.dataset, tuned.adapter, tuned.run)
    config = load_config(tuned.run.folder("merged"))
    assert config.intermediate_size == 64 + 8  # hidden 32 / 8 = 4, rounded up to a multiple of 8


@pytest.mark.parametrize(("factor", "width"), [(32, 8), (2, 16), (1, 32)])
def test_the_width_follows_from_the_factor(
    tiny_bert: Path, tmp_path: Path, factor: int, width: int
) -> None:
    adapter = {"reduction_factor": factor}
    tuned = Tuned(tiny_bert, tmp_path, "adapter", "text-embedding", adapter=adapter)
    per_block = 2 * width * 32 + width + 32
    assert tuned.adapter.trainable_parameters == 2 * per_block


# -- soft prompts cannot ship ------------------------------------------------------------------


@pytest.mark.parametrize("method", SOFT)
def test_soft_prompts_say_so_before_training(trained: Train, method: str) -> None:
    tuned = trained(method, "text-classification")
    reason = METHODS[method].unmergeable
    assert reason is not None
    assert "use finetune.method lora" in reason
    with pytest.raises(RecipeError, match=f"finetune.method {method}: .* use finetune.method lora"):
        stage.refuse_unmergeable(tuned.recipe)
    with pytest.raises(MergeError, match="use finetune.method lora"):
        stage.merge(tuned.recipe, tuned.dataset, tuned.adapter, tuned.run)


@pytest.mark.parametrize("method", SOFT)
def test_the_virtual_tokens_leave_padding_and_positions_alone(trained: Train, method: str) -> None:
    model = trained(method, "token-classification").restored()
    ids, mask = batch()
    with torch.inference_mode():
        both = model(ids, mask)
        alone = model(ids[1:, :4], mask[1:, :4])
    assert both.shape == (2, 6, 7)
    assert torch.allclose(both[1:, :4], alone, atol=1e-6)


def test_a_prompt_keeps_the_segments_of_pairs(trained: Train) -> None:
    model = trained("prompt", "text-classification").restored()
    ids, mask = batch()
    types = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]])
    with torch.inference_mode():
        one = model.states(ids, mask, torch.zeros_like(types))
        assert torch.allclose(one, model.states(ids, mask), atol=1e-6)
        assert not torch.allclose(one, model.states(ids, mask, types), atol=1e-6)


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused(
    tiny_bert: Path, tmp_path: Path
) -> None:
    prompt = {"num_virtual_tokens": 40}
    with pytest.raises(TrainingError, match="with 40 virtual tokens the base reads at most 24"):
        Tuned(tiny_bert, tmp_path, "prompt", "text-classification", prompt=prompt)


@pytest.mark.parametrize("method", SOFT)
def test_a_damaged_soft_prompt_is_not_restored(
    tiny_bert: Path, tmp_path: Path, method: str
) -> None:
    tuned = Tuned(tiny_bert, tmp_path, method, "text-classification")
    path = tuned.run.folder("adapter") / "adapter_model.safetensors"
    whole = load_file(path)[EMBEDDINGS]
    damaged = {
        "is missing": {"other": whole},
        "has the shape": {EMBEDDINGS: whole[:, 1:].contiguous()},
        "not numbers": {EMBEDDINGS: torch.full_like(whole, torch.nan)},
    }
    for complaint, tensors in damaged.items():
        save_file(tensors, path)
        with pytest.raises(MergeError, match=complaint):
            tuned.restored()
