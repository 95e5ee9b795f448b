"""The sum, and the account of every adapter tensor."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgeloop.errors import MergeError
from finetune.adapt import HEAD_WEIGHTS
from finetune.batches import Encoded, Sequences
from finetune.join import read_head
from finetune.methods.lora import LoraSettings, merge_tensors, read_adapter
from finetune.proof import prove

ROWS, COLUMNS, RANK = 3, 5, 2
A = "base_model.model.layer.lora_A.weight"
B = "base_model.model.layer.lora_B.weight"
M = "base_model.model.layer.lora_magnitude_vector"


def settings(**changes: Any) -> LoraSettings:
    fields: dict[str, Any] = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 4,
        "use_dora": False,
        "use_rslora": False,
        "target_modules": ("layer",),
    }
    return LoraSettings(**{**fields, **changes})


def base(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "layer.weight": torch.randn(ROWS, COLUMNS).to(dtype),
        "layer.bias": torch.randn(ROWS).to(dtype),
    }


def adapter() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        A: torch.randn(RANK, COLUMNS),
        B: torch.randn(ROWS, RANK),
    }


def test_the_sum_is_w_plus_scaled_b_a() -> None:
    merged = merge_tensors(base(), adapter(), settings())
    expected = base()["layer.weight"] + 2.0 * adapter()[B] @ adapter()[A]
    assert torch.allclose(merged.tensors["layer.weight"], expected)
    assert torch.equal(merged.tensors["layer.bias"], base()["layer.bias"])
    assert (merged.summed, merged.copied) == (1, 1)


def test_rslora_divides_by_the_root_of_the_rank() -> None:
    merged = merge_tensors(base(), adapter(), settings(use_rslora=True))
    expected = base()["layer.weight"] + 4 / math.sqrt(RANK) * adapter()[B] @ adapter()[A]
    assert torch.allclose(merged.tensors["layer.weight"], expected)


def test_dora_gives_every_row_its_magnitude() -> None:
    magnitude = torch.tensor([1.0, 2.0, 3.0])
    merged = merge_tensors(base(), {**adapter(), M: magnitude}, settings(use_dora=True))
    assert torch.allclose(merged.tensors["layer.weight"].norm(dim=1), magnitude)


def test_the_sum_is_rounded_once_to_the_dtype_of_the_base() -> None:
    merged = merge_tensors(base(torch.bfloat16), adapter(), settings())
    exact = base(torch.bfloat16)["layer.weight"].float() + 2.0 * adapter()[B] @ adapter()[A]
    assert torch.equal(merged.tensors["layer.weight"], exact.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({B: None}, f"{B} is missing"),
        ({A: None, B: None}, f"{A} is missing; {B} is missing"),
        ({"base_model.model.lost.weight": torch.ones(1)}, "base_model.model.lost.weight belongs"),
        ({M: torch.ones(ROWS)}, f"{M} belongs to nothing"),
        ({B: torch.ones(ROWS, 7)}, f"{B} has the shape (3, 7), needs (3, 2)"),
        ({B: torch.full((ROWS, RANK), math.nan)}, f"{B} holds values that are not numbers"),
        ({A: torch.full((RANK, COLUMNS), math.inf)}, f"{A} holds values that are not numbers"),
    ],
)
def test_every_tensor_is_accounted_for(
    change: dict[str, torch.Tensor | None], expected: str
) -> None:
    damaged = {name: t for name, t in {**adapter(), **change}.items() if t is not None}
    with pytest.raises(MergeError) as raised:
        merge_tensors(base(), damaged, settings())
    assert expected in str(raised.value)


def test_modules_that_the_base_lacks_are_named() -> None:
    with pytest.raises(MergeError, match="target module gone: the base has no gone.weight"):
        merge_tensors(base(), adapter(), settings(target_modules=("gone",)))


def write_adapter(folder: Path, **changes: Any) -> Path:
    document = json.loads(settings().model_dump_json()) | changes
    (folder / "adapter_config.json").write_text(json.dumps(document))
    save_file(adapter(), folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_read_as_it_was_written(tmp_path: Path) -> None:
    found, tensors = read_adapter(write_adapter(tmp_path))
    assert found == settings()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in adapter().items())


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"rank_pattern": {"layer": 4}},
        {"alpha_pattern": {"layer": 4}},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["classifier"]},
    ],
)
def test_what_would_change_the_sum_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(MergeError, match="cannot merge"):
        read_adapter(write_adapter(tmp_path, **changes))


def test_a_damaged_adapter_file(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(MergeError, match="adapter_model.safetensors: does not load"):
        read_adapter(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"peft_type": "LORA"}'])
def test_a_damaged_config(tmp_path: Path, text: str) -> None:
    folder = write_adapter(tmp_path)
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(MergeError, match="not an adapter"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"weight": torch.ones(2, ROWS)}, "bias is missing"),
        ({"weight": torch.ones(9, ROWS), "bias": torch.ones(2)}, r"weight has the shape \(9, 3\)"),
        (
            {"weight": torch.ones(2, ROWS), "bias": torch.ones(2), "extra": torch.ones(1)},
            "extra belongs to nothing",
        ),
    ],
)
def test_every_tensor_of_the_head_is_accounted_for(
    tmp_path: Path, head: dict[str, torch.Tensor], expected: str
) -> None:
    save_file(head, tmp_path / HEAD_WEIGHTS)
    with pytest.raises(MergeError, match=expected):
        read_head(tmp_path, hidden=ROWS, width=2)


def test_an_adapter_without_its_head_is_not_merged(tmp_path: Path) -> None:
    with pytest.raises(MergeError, match="head.safetensors: does not load"):
        read_head(tmp_path, hidden=ROWS, width=2)


class Answers(torch.nn.Module):  # type: ignore[misc]
    """A model that answers with a table: one row of logits per token id."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: None
    ) -> torch.Tensor:
        return self.table[input_ids[:, 0]]


def two_rows(task: str = "text-classification") -> Encoded:
    sequences = Sequences([[0], [1]], None, [((0, 1),)] * 2, 0)
    return Encoded(task, sequences, [[0], [1]], [0, 1])


def test_the_proof_tells_the_difference() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    parity = prove(Answers(table), Answers(table + 5e-5), two_rows(), 1e-4)
    assert parity.rows == 2
    assert 4e-5 < parity.max_abs_difference < 6e-5
    assert parity.argmax_agreement_ratio == 1.0


@pytest.mark.parametrize(
    "table",
    [
        torch.tensor([[1.0, 0.0], [0.0, 1.001]]),
        torch.tensor([[1.0, 0.0], [0.0, float("nan")]]),
    ],
)
def test_a_difference_fails_the_proof(table: torch.Tensor) -> None:
    rows = two_rows()
    with pytest.raises(MergeError, match="the merged model is not the adapter on its base"):
        prove(Answers(torch.eye(2)), Answers(table), rows, 1e-4)


def test_other_answers_fail_the_proof_within_the_tolerance() -> None:
    rows = two_rows()
    close, other = torch.tensor([[0.0, 1e-5]] * 2), torch.tensor([[1e-5, 0.0]] * 2)
    with pytest.raises(MergeError, match=r"0\.0000 of the answers to 2 rows agree"):
        prove(Answers(close), Answers(other), rows, 1e-4)
