"""Is fine-tuning worth it here? Cheaper ways to do the same task, on the same split."""

from finetune.baselines.fitted import Fitted, Kind, Material
from finetune.baselines.kinds import BASELINES

__all__ = ["BASELINES", "Fitted", "Kind", "Material"]
