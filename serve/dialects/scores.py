"""The numbers that the dialects tell, computed once for all of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.runtime import softmax
from edgeloop.tasks import sigmoid
from serve.jobs import Scored

CLASSIFIERS = ("text-classification", "multi-label-classification")


def class_scores(answer: Scored, task: str, raw: bool) -> NDArray[Any]:
    """What a classifier says of each label, (labels,): its probability, float64, of several labels
    each one's own; or its logit, float32."""
    if raw:
        return answer.output.logits
    return answer.probabilities if task == "text-classification" else sigmoid(answer.output.logits)


def tag_scores(answer: Scored, raw: bool) -> NDArray[Any]:
    """What a tagger says of each token, (tokens, tags), special tokens with the others."""
    return answer.output.logits if raw else softmax(answer.output.logits)


def best_first(scores: NDArray[Any]) -> list[int]:
    """The order of the scores; equals in the order of the labels."""
    return [int(i) for i in np.argsort(-scores, kind="stable")]
