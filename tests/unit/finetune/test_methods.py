"""The merges of bottleneck adapters and IA3, tensor by tensor, and the blocks they look for."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgeloop.errors import MergeError, TrainingError
from finetune.methods.adapter import (
    BottleneckSettings,
    WithDown,
    WithUp,
    bottleneck_shapes,
    bottleneck_width,
    grow,
    read_bottlenecks,
)
from finetune.methods.ia3 import Ia3Settings, read_ia3, scale
from finetune.methods.method import account
from finetune.methods.targets import feed_forward_pairs, key_value_targets

HIDDEN, INNER, WIDTH = 4, 8, 3
FIRST, SECOND, KEY = "layer.0.up", "layer.0.down", "layer.0.key"
NAN = torch.tensor(math.nan)


def base(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {
        f"{KEY}.weight": (HIDDEN, HIDDEN),
        f"{KEY}.bias": (HIDDEN,),
        f"{FIRST}.weight": (INNER, HIDDEN),
        f"{FIRST}.bias": (INNER,),
        f"{SECOND}.weight": (HIDDEN, INNER),
        f"{SECOND}.bias": (HIDDEN,),
    }
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def damages(name: str, tensors: dict[str, torch.Tensor]) -> list[tuple[dict[str, Any], str]]:
    """What may be wrong with an adapter, and what is then said."""
    return [
        ({name: None}, f"{name} is missing"),
        ({"lost.weight": torch.ones(1)}, "lost.weight belongs to nothing"),
        ({name: torch.ones(9, 9)}, f"{name} has the shape (9, 9)"),
        ({name: tensors[name] * NAN}, f"{name} holds values that are not numbers"),
    ]


def changed(tensors: dict[str, torch.Tensor], change: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}


# -- bottlenecks -----------------------------------------------------------------------------

BOTTLENECK = BottleneckSettings(
    adapter_type="PARALLEL_BOTTLENECK",
    base_model_name_or_path="base",
    width=WIDTH,
    blocks=((FIRST, SECOND),),
)


def bottleneck() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    shapes = bottleneck_shapes(BOTTLENECK, HIDDEN)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("activation", [torch.nn.functional.gelu, torch.relu, torch.tanh])
def test_the_grown_block_is_the_block_and_the_bottleneck_beside_it(activation: Any) -> None:
    start, adapter = base(), bottleneck()
    merged = grow(start, adapter, BOTTLENECK)
    x = torch.randn(5, HIDDEN)

    def block(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        inner = activation(x @ tensors[f"{FIRST}.weight"].T + tensors[f"{FIRST}.bias"])
        return inner @ tensors[f"{SECOND}.weight"].T + tensors[f"{SECOND}.bias"]

    down = activation(x @ adapter[f"{FIRST}.down.weight"].T + adapter[f"{FIRST}.down.bias"])
    beside = down @ adapter[f"{SECOND}.up.weight"].T + adapter[f"{SECOND}.up.bias"]
    assert torch.allclose(block(merged), block(start) + beside, atol=1e-5)
    assert torch.equal(merged[f"{KEY}.weight"], start[f"{KEY}.weight"])


def test_a_new_bottleneck_changes_nothing() -> None:
    first, second = torch.nn.Linear(HIDDEN, INNER), torch.nn.Linear(INNER, HIDDEN)
    x = torch.randn(5, HIDDEN)
    grown = WithUp(second, WIDTH)(torch.relu(WithDown(first, WIDTH)(x)))
    assert torch.equal(grown, second(torch.relu(first(x))))


def test_a_grown_block_keeps_the_dtype_of_the_base() -> None:
    merged = grow(base(torch.bfloat16), bottleneck(), BOTTLENECK)
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}


@given(hidden=st.integers(1, 2000), inner=st.integers(1, 9000), factor=st.integers(1, 64))
def test_the_grown_size_is_a_multiple_of_eight(hidden: int, inner: int, factor: int) -> None:
    width = bottleneck_width(hidden, inner, factor)
    assert (inner + width) % 8 == 0
    assert hidden / factor <= width < hidden / factor + 9


@pytest.mark.parametrize(
    ("change", "said"), damages(f"{SECOND}.up.weight", bottleneck()), ids=range(4)
)
def test_every_tensor_of_a_bottleneck_is_accounted_for(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MergeError) as raised:
        account(bottleneck_shapes(BOTTLENECK, HIDDEN), changed(bottleneck(), change))
    assert said in str(raised.value)


def test_a_bottleneck_of_another_base_is_refused() -> None:
    other = BOTTLENECK.model_copy(update={"blocks": (("gone", SECOND),)})
    with pytest.raises(MergeError, match="the base has no gone"):
        grow(base(), bottleneck(), other)


@pytest.mark.parametrize("changes", [{"adapter_type": "HOULSBY"}, {"width": "x"}, {"more": 1}])
def test_another_adapters_config_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    document = BOTTLENECK.model_dump(mode="json") | changes
    (tmp_path / "adapter_config.json").write_text(json.dumps(document))
    with pytest.raises(MergeError, match="not a bottleneck adapter"):
        read_bottlenecks(tmp_path)


# -- IA3 -------------------------------------------------------------------------------------

IA3 = Ia3Settings(peft_type="IA3", target_modules=(KEY, SECOND), feedforward_modules=(SECOND,))
ROWS = f"base_model.model.{KEY}.ia3_l"
COLUMNS = f"base_model.model.{SECOND}.ia3_l"


def factors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {ROWS: torch.randn(HIDDEN, 1), COLUMNS: torch.randn(1, INNER)}


def test_keys_are_scaled_by_row_with_their_bias_and_blocks_by_column() -> None:
    start, learned = base(), factors()
    merged = scale(start, learned, IA3)
    x, inner = torch.randn(5, HIDDEN), torch.randn(5, INNER)
    key = x @ start[f"{KEY}.weight"].T + start[f"{KEY}.bias"]
    found = x @ merged.tensors[f"{KEY}.weight"].T + merged.tensors[f"{KEY}.bias"]
    assert torch.allclose(found, key * learned[ROWS][:, 0], atol=1e-5)
    block = (inner * learned[COLUMNS][0]) @ start[f"{SECOND}.weight"].T
    assert torch.allclose(inner @ merged.tensors[f"{SECOND}.weight"].T, block, atol=1e-5)
    assert torch.equal(merged.tensors[f"{SECOND}.bias"], start[f"{SECOND}.bias"])
    assert (merged.adapter_tensors, merged.summed, merged.copied) == (2, 3, 3)


def test_a_scaled_tensor_is_rounded_once_to_the_dtype_of_the_base() -> None:
    start, learned = base(torch.bfloat16), factors()
    merged = scale(start, learned, IA3)
    exact = (start[f"{KEY}.weight"].float() * learned[ROWS]).to(torch.bfloat16)
    assert torch.equal(merged.tensors[f"{KEY}.weight"], exact)


@pytest.mark.parametrize(("change", "said"), damages(COLUMNS, factors()), ids=range(4))
def test_every_factor_is_accounted_for(change: dict[str, Any], said: str) -> None:
    with pytest.raises(MergeError) as raised:
        scale(base(), changed(factors(), change), IA3)
    assert said in str(raised.value)


def test_a_factor_for_a_module_that_the_base_lacks_is_refused() -> None:
    with pytest.raises(MergeError, match="target module gone: the base has no gone.weight"):
        scale(base(), factors(), IA3.model_copy(update={"target_modules": ("gone",)}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "LORA"}, "cannot merge LORA"),
        ({"fan_in_fan_out": True}, "cannot merge IA3 fan_in_fan_out"),
        ({"modules_to_save": ["x"]}, "cannot merge IA3 modules_to_save"),
        ({"target_modules": None}, "not an IA3 adapter"),
    ],
)
def test_what_is_no_ia3_adapter_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    document = IA3.model_dump(mode="json") | changes
    (tmp_path / "adapter_config.json").write_text(json.dumps(document))
    save_file(factors(), tmp_path / "adapter_model.safetensors")
    with pytest.raises(MergeError, match=said):
        read_ia3(tmp_path)


# -- the blocks of an encoder ------------------------------------------------------------------


class Config:
    model_type = "bert"
    hidden_size = HIDDEN


class Block(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, **layers: tuple[int, int]) -> None:
        super().__init__()
        for name, (columns, rows) in layers.items():
            self.add_module(name, torch.nn.Linear(columns, rows))


def encoder(**layers: tuple[int, int]) -> torch.nn.Module:
    module = torch.nn.Module()
    module.layer = torch.nn.ModuleList([Block(**layers), Block(**layers)])
    module.config = Config()
    return module


ATTENTION = {"query": (HIDDEN, HIDDEN), "key": (HIDDEN, HIDDEN), "value": (HIDDEN, HIDDEN)}


def test_feed_forward_blocks_are_found_by_their_shapes() -> None:
    found = encoder(**ATTENTION, a=(HIDDEN, INNER), b=(INNER, HIDDEN))
    assert feed_forward_pairs(found, "adapter") == (
        ("layer.0.a", "layer.0.b"),
        ("layer.1.a", "layer.1.b"),
    )
    assert key_value_targets(found, "ia3") == tuple(
        f"layer.{i}.{name}" for i in range(2) for name in ("key", "value")
    )


@pytest.mark.parametrize(
    "layers",
    [
        {"gate": (HIDDEN, INNER), "up": (HIDDEN, INNER), "down": (INNER, HIDDEN)},
        {"both": (HIDDEN, 2 * INNER), "down": (INNER, HIDDEN)},
        {"qkv": (HIDDEN, 3 * HIDDEN), "a": (HIDDEN, INNER), "b": (INNER, HIDDEN)},
        {"a": (HIDDEN, HIDDEN), "b": (HIDDEN, HIDDEN)},
        {"down": (INNER, HIDDEN), "up": (HIDDEN, INNER)},
    ],
    ids=["gated", "gated-in-one", "joint-attention", "no-wider-layer", "the-wrong-way-round"],
)
def test_other_blocks_are_refused_with_what_to_use(layers: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(TrainingError, match=r"'bert' has no plain .*; use finetune.method lora"):
        feed_forward_pairs(encoder(**layers), "adapter")


def test_joint_attention_has_no_keys_of_its_own() -> None:
    with pytest.raises(TrainingError, match=r"method ia3: .* for keys and values; use"):
        key_value_targets(encoder(qkv=(HIDDEN, 3 * HIDDEN)), "ia3")
