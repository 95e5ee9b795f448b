"""A recipe that a tiny BERT learns in seconds."""

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture
def recipe(tmp_path: Path, tiny_bert: Path) -> Path:
    """A recipe for the tiny BERT with rows that it can learn."""
    rows = tiny.sentences(160, seed=1)
    tiny.write_rows(tmp_path / "rows.csv", rows)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
name: tiny
base: {tiny_bert}
data:
  files: [rows.csv]
  split: {{train: 0.5, validation: 0.1, reference: 0.2, test: 0.2}}
finetune:
  lora: {{r: 4, lora_alpha: 8}}
  training: {{num_train_epochs: 2, learning_rate: 5e-3}}
compress:
  candidates: [onnx-fp32, onnx-int8]
  budget: {{max_accuracy_drop: 0.2}}
serve: {{max_tokens: 32}}
"""
    )
    return path
