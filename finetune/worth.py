"""Is fine-tuning worth it here? Loads the models that the baselines compare. Run by
`edgeloop run --baselines`.
"""

from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, MergedModel
from edgeloop.records_evaluation import Baselines
from edgeloop.rundir import RunDir
from finetune.base import resolve_base
from finetune.baselines import stage
from finetune.baselines.stage import Models
from finetune.scoring import frozen_scorer, merged_scorer
from finetune.train import Say


def compare(
    recipe: Recipe,
    dataset: Dataset,
    adapter: Adapter,
    merged: MergedModel,
    run: RunDir,
    progress: Say,
) -> Baselines:
    """The baselines and the fine-tuned model on the same rows. Raises DatasetError without rows."""
    max_tokens = recipe.serve.max_tokens

    def load() -> Models:
        base = resolve_base(recipe.base).folder
        folder = run.folder("merged")
        return Models(
            frozen=frozen_scorer(base, max_tokens),
            tuned=merged_scorer(folder, recipe.task, merged.labels, max_tokens),
            base_bytes=sum(path.stat().st_size for path in base.glob("*.safetensors")),
            tuned_bytes=sum(path.stat().st_size for path in folder.rglob("*.safetensors")),
        )

    return stage.run(recipe, dataset, adapter, merged, run, load, progress)
