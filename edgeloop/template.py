"""The recipe that `edgeloop init` writes."""

from pathlib import Path

from edgeloop.errors import RecipeError

RECIPE = """\
# edgeloop recipe. `edgeloop check recipe.yaml` prints it with every default filled in.
name: my-classifier
task: text-classification
base: sentence-transformers/all-MiniLM-L6-v2   # hub id, local folder, or package:NAME/SUBFOLDER
data:
  files: [rows.csv]                            # csv, jsonl or parquet with the columns below
  columns: {text: text, label: label}
  split: {train: 0.6, validation: 0.1, reference: 0.2, test: 0.1}
finetune:
  method: lora
  lora: {r: 16, lora_alpha: 32}
  training: {num_train_epochs: 6, learning_rate: 1e-3, seed: 0}
compress:
  budget: {latency_p95_ms: 25, size_mb: 30, max_accuracy_drop: 0.02, confidence: 0.95}
monitor:
  target_run_length: 20000                     # requests between false alarms, at least
  accuracy_floor: 0.85
retrain:
  schedule: "0 3 * * 0"                        # cron, UTC; null: drift and labels decide
  labels_per_round: 200
"""


def write_recipe(folder: Path) -> Path:
    """Write recipe.yaml into the folder. Raises RecipeError where there is one."""
    path = folder / "recipe.yaml"
    if path.exists():
        raise RecipeError(f"{path}: exists already; it was not touched")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(RECIPE, encoding="utf-8")
    return path
