"""A linear model on fixed features, for one label per row or several (one against the rest)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from edgeloop.rows import Row
from edgeloop.tasks import Answer
from finetune.baselines.fitted import Answerer, Material

SEED = 0
# Inverse regularisation strengths that are tried on the validation rows.
SVC_STRENGTHS = (0.1, 1.0, 10.0)
LOGISTIC_STRENGTHS = (1.0, 10.0, 100.0)
LOGISTIC_ITERATIONS = 200

Features = Callable[[Sequence[Row]], Any]


def support_vectors(strength: float) -> LinearSVC:
    """The linear model on TF-IDF."""
    return LinearSVC(C=strength, random_state=SEED)


def logistic(strength: float) -> LogisticRegression:
    """The linear model on embeddings."""
    return LogisticRegression(C=strength, max_iter=LOGISTIC_ITERATIONS, random_state=SEED)


@dataclass(frozen=True)
class Linear:
    """One estimator of classes, or for several labels one per label; a bool where the training rows
    all agree."""

    labels: tuple[str, ...]
    estimators: tuple[Any, ...]
    several: bool

    def answer(self, features: Any) -> list[Answer]:
        """One answer per row of the features."""
        columns = [predict(estimator, features) for estimator in self.estimators]
        if self.several:
            rows = np.column_stack(columns)
            return [
                Answer(labels=tuple(n for n, on in zip(self.labels, row, strict=True) if on))
                for row in rows
            ]
        return [Answer(labels=(self.labels[int(i)],)) for i in columns[0]]


def fit_linear(
    make: Callable[[float], Any], strength: float, features: Any, material: Material
) -> Linear:
    """`features` are those of the training rows: (rows, features), dense or sparse."""
    truth = material.membership(material.train)
    several = material.task == "multi-label-classification"
    targets = list(truth.T) if several else [truth.argmax(axis=1)]
    estimators = tuple(fit_or_constant(make(strength), features, target) for target in targets)
    return Linear(material.labels, estimators, several)


def answerer(linear: Linear, features: Features) -> Answerer:
    """The model together with how rows become features."""
    return lambda rows: linear.answer(features(rows))


def fit_or_constant(estimator: Any, features: Any, target: NDArray[Any]) -> Any:
    """Fitted; the one target itself where all rows have the same."""
    if len(np.unique(target)) == 1:
        return target[0]
    with warnings.catch_warnings():
        # Stopped early it is a fair baseline all the same: what it answers is measured.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(features, target)


def predict(estimator: Any, features: Any) -> NDArray[Any]:
    """What `fit_or_constant` fitted says of the features: (rows,)."""
    if hasattr(estimator, "predict"):
        return np.asarray(estimator.predict(features))
    return np.full(features.shape[0], estimator)
