"""The recipe that `edgeloop init` writes, for each task."""

from pathlib import Path

from edgeloop.errors import RecipeError

HEAD = """\
# edgeloop recipe. `edgeloop check recipe.yaml` prints it with every default filled in.
name: my-model
task: {task}
base: sentence-transformers/all-MiniLM-L6-v2   # hub id, local folder, or package:NAME/SUBFOLDER
data:
  files: [{file}]{gap}# csv, tsv, jsonl, parquet or a Hugging Face dataset's folder
{columns}
  split: {{train: 0.6, validation: 0.1, reference: 0.2, test: 0.1}}
finetune:
  method: lora                                 # full, qlora, adapter ...: docs/finetune.md
  lora: {{r: 16, lora_alpha: 32}}
  training: {{num_train_epochs: 6, seed: 0}}
compress:
  budget: {{latency_p95_ms: 25, size_mb: 30, max_accuracy_drop: 0.02, confidence: 0.95}}
monitor:
  target_run_length: 20000                     # requests between false alarms, at least
  accuracy_floor: 0.85
"""

RETRAIN = """\
retrain:
  schedule: "0 3 * * 0"                        # cron, UTC; null: drift and labels decide
  labels_per_round: 200
"""

# File and columns per task, and whether labels that come one by one can retrain it.
TASKS = {
    "text-classification": (
        "rows.csv",
        "  columns: {text: text, label: label}          # text_pair: ... where rows are pairs",
        True,
    ),
    "multi-label-classification": (
        "rows.csv",
        '  columns: {text: text, label: labels}         # "billing|delivery", or a list in jsonl',
        True,
    ),
    "token-classification": (
        "rows.jsonl",
        "  columns: {tokens: tokens, ner_tags: ner_tags}  # or text, spans [{start, end, label}]",
        False,
    ),
    "text-embedding": (
        "rows.jsonl",
        "  columns: {text: anchor, positive: positive}  # negative: ... where there are hard ones",
        False,
    ),
}
COMMENT_COLUMN = 47


def render(task: str) -> str:
    """The recipe for a task. Raises RecipeError for one that is none."""
    if task not in TASKS:
        raise RecipeError(f"--task {task}: no such task; take one of {', '.join(TASKS)}")
    file, columns, retrains = TASKS[task]
    gap = " " * (COMMENT_COLUMN - len(f"  files: [{file}]"))
    head = HEAD.format(task=task, file=file, gap=gap, columns=columns)
    return head + (RETRAIN if retrains else "")


def write_recipe(folder: Path, task: str) -> Path:
    """Write recipe.yaml into the folder. Raises RecipeError where there is one."""
    path = folder / "recipe.yaml"
    text = render(task)
    if path.exists():
        raise RecipeError(f"{path}: exists already; it was not touched")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
