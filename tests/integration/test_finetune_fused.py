"""Fused LoRA layers: PEFT's answers and gradients, its dropout rate, and its files."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from edgeloop.recipe import Finetune, Lora, Training
from finetune.arena import Arena, trainable
from finetune.compute import Compute, has_fast_bf16, still_base
from finetune.encoder import load_config, load_encoder, quiet_transformers
from finetune.fused import ADAPTER, DropoutBits, fusible_layers, masked
from finetune.methods.lora import LoraMethod
from finetune.model import Classifier

# PEFT 0.21 still asks transformers 5 for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def settings(dropout: float = 0.0, bf16: bool = False, use_dora: bool = False) -> Finetune:
    return Finetune(
        lora=Lora(r=4, lora_dropout=dropout, use_dora=use_dora), training=Training(bf16=bf16)
    )


def make(base: Path, finetune: Finetune) -> Classifier:
    torch.manual_seed(0)
    with quiet_transformers():
        model = Classifier(load_encoder(base, load_config(base), torch.float32), 3)
        LoraMethod().attach(model, finetune, "base")
    for name, parameter in trainable(model).items():
        if "lora_B" in name or name.startswith("head"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def loss(model: Classifier) -> torch.Tensor:
    result: torch.Tensor = model(IDS, MASK).square().sum()
    return result


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """As a share of what was expected."""
    return float((found - expected).norm() / expected.norm())


def test_answers_and_gradients_are_pefts(tiny_bert: Path) -> None:
    finetune = settings()
    theirs, mine = make(tiny_bert, finetune), make(tiny_bert, finetune)
    for model in (theirs, mine):
        still_base(model.encoder)
        model.train()
    arena = Arena(mine, 1e-3, 0.0)
    compute = Compute(mine, arena, finetune)
    with compute.passes(training=True):
        found = loss(mine)
    found.backward()
    expected = loss(theirs)
    expected.backward()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    for name, parameter in trainable(theirs).items():
        gradient = mine.get_parameter(name).grad
        assert gradient is not None
        assert parameter.grad is not None
        assert distance(gradient, parameter.grad) < 1e-4, name


def test_bf16_is_close_to_fp32(tiny_bert: Path) -> None:
    answers = []
    for bf16 in (False, True):
        finetune = settings(bf16=bf16)
        model = make(tiny_bert, finetune).eval()
        compute = Compute(model, Arena(model, 1e-3, 0.0), finetune)
        with torch.inference_mode(), compute.passes(training=False):
            answers.append(model(IDS, MASK))
    assert 0.0 < distance(answers[1], answers[0]) < 0.1


def test_an_evaluation_drops_nothing(tiny_bert: Path) -> None:
    finetune = settings(dropout=0.5)
    plain, model = make(tiny_bert, finetune).eval(), make(tiny_bert, finetune).eval()
    compute = Compute(model, Arena(model, 1e-3, 0.0), finetune)
    with torch.inference_mode(), compute.passes(training=False):
        torch.testing.assert_close(model(IDS, MASK), plain(IDS, MASK), atol=1e-5, rtol=1e-5)


def test_training_drops_what_an_evaluation_does_not(tiny_bert: Path) -> None:
    finetune = settings(dropout=0.5)
    model = make(tiny_bert, finetune)
    still_base(model.encoder)
    model.train()
    compute = Compute(model, Arena(model, 1e-3, 0.0), finetune)
    compute.begin_epoch(0)
    with compute.passes(training=True):
        first = loss(model).item()
    with compute.passes(training=True):
        second = loss(model).item()
    compute.begin_epoch(0)
    with compute.passes(training=True):
        again = loss(model).item()
    assert first != second
    assert first == again


def test_the_random_state_goes_on_from_where_it_was(tiny_bert: Path) -> None:
    finetune = settings(dropout=0.5)
    model = make(tiny_bert, finetune).train()
    compute = Compute(model, Arena(model, 1e-3, 0.0), finetune)
    compute.begin_epoch(3)
    with compute.passes(training=True):
        loss(model)
    states = {name: state.clone() for name, state in compute.random_state().items()}
    with compute.passes(training=True):
        expected = loss(model).item()
    compute.begin_epoch(3)
    compute.set_random_state(states)
    with compute.passes(training=True):
        assert loss(model).item() == expected


def test_a_trained_adapter_is_pefts_on_disk(tiny_bert: Path, tmp_path: Path) -> None:
    finetune = settings()
    model = make(tiny_bert, finetune)
    arena = Arena(model, 1e-2, 0.0)
    compute = Compute(model, arena, finetune)
    for _ in range(3):
        with compute.passes(training=True):
            loss(model).backward()
        arena.step(1e-2, 1.0)
    LoraMethod().save(model, tmp_path)
    plain = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_bert), tmp_path)
    model.eval()
    with torch.inference_mode(), compute.passes(training=False):
        mine = model.states(IDS, MASK)
    theirs = plain(input_ids=IDS, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_dora_and_mixtures_keep_pefts_forward(tiny_bert: Path) -> None:
    assert fusible_layers(make(tiny_bert, settings()))
    assert fusible_layers(make(tiny_bert, settings(use_dora=True))) == []
    assert fusible_layers(torch.nn.Linear(2, 2)) == []


def test_pefts_dropout_stays_when_the_bases_goes(tiny_bert: Path) -> None:
    model = make(tiny_bert, settings(dropout=0.25))
    still_base(model.encoder)
    rates = {
        name.split(".")[-2] == "lora_dropout": module.p
        for name, module in model.encoder.named_modules()
        if isinstance(module, torch.nn.Dropout)
    }
    assert rates == {True: 0.25, False: 0.0}
    assert all(layer.lora_dropout[ADAPTER].p == 0.25 for layer in fusible_layers(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_a_mask_drops_at_its_rate(dtype: torch.dtype, rate: float) -> None:
    bits = DropoutBits(rate, dtype)
    bits.begin(7)
    ones = torch.ones(300, 1000, dtype=dtype)
    dropped = [1.0 - masked(ones, bits.mask(ones)).float().mean().item() for _ in range(4)]
    # 300,000 draws: four standard errors of a share.
    allowed = 4 * (rate * (1 - rate) / ones.numel()) ** 0.5
    assert all(abs(share - rate) < allowed + 2**-15 for share in dropped)
    assert len(set(dropped)) > 1


def test_what_a_mask_keeps_is_unchanged() -> None:
    bits = DropoutBits(0.5, torch.bfloat16)
    bits.begin(0)
    values = torch.randn(64, 64).to(torch.bfloat16)
    kept = masked(values, bits.mask(values))
    assert torch.equal(kept[kept != 0], values[kept != 0])


def test_a_tensor_larger_than_the_pool_has_a_mask() -> None:
    bits = DropoutBits(0.5, torch.bfloat16)
    bits.begin(0)
    like = torch.zeros(5_000_000, dtype=torch.bfloat16)
    assert bits.mask(like).shape == like.shape


def test_fast_bf16_is_read_from_the_processors_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags : avx2 amx_bf16 amx_tile\n")
    assert has_fast_bf16(info)
    info.write_text("flags : avx2 avx512f\n")
    assert not has_fast_bf16(info)
    assert not has_fast_bf16(tmp_path / "absent")
