"""How good a fine-tuned model is on the test rows: figures with intervals, calibration, slices, the
worst errors. Pure numpy and scipy, from rows and answers alone.
"""

from finetune.evaluation.findings import Findings, evaluate, texts_to_score
from finetune.evaluation.judged import HEADLINE, Judged
from finetune.evaluation.overfitting import overfitting_note

__all__ = ["HEADLINE", "Findings", "Judged", "evaluate", "overfitting_note", "texts_to_score"]
