"""Out-of-fold class probabilities from a quick linear model of words and characters."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
DIMENSIONS = 300
MAX_FEATURES = 50_000
MIN_FEATURE_ROWS = 2
# Weak shrinkage: the rows are unit vectors of few dimensions, and the errors are to stand out.
INVERSE_REGULARISATION = 10.0
MAX_ITERATIONS = 100
# More rows make 300 directions no better, and 100,000 would take minutes.
MAX_FIT_ROWS = 20_000
MIN_FIT_ROWS_PER_CLASS = 20


def out_of_fold(
    texts: Sequence[str], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(rows, classes): what a model says that never saw the row. Every class is needed in the rows
    outside each fold; `labels` are 0..classes-1."""
    from sklearn.linear_model import LogisticRegression

    vectors = _vectors(texts)
    result = np.zeros((len(texts), int(labels.max()) + 1))
    for fold in np.unique(folds):
        held = folds == fold
        model = LogisticRegression(
            C=INVERSE_REGULARISATION,
            max_iter=MAX_ITERATIONS,
            tol=1e-3,
            # Else most rows of a rare class look wrong.
            class_weight="balanced",
        )
        chosen = thinned(np.flatnonzero(~held), labels)
        model.fit(vectors[chosen], labels[chosen])
        result[held] = model.predict_proba(vectors[held])
    return result


def thinned(rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each class the same number of rows at most, evenly spaced, MAX_FIT_ROWS in all unless the
    classes are very many."""
    classes = np.unique(labels[rows])
    most = max(MAX_FIT_ROWS // len(classes), MIN_FIT_ROWS_PER_CLASS)
    kept = []
    for label in classes:
        members = rows[labels[rows] == label]
        places = np.linspace(0, len(members) - 1, min(len(members), most)).round().astype(np.int64)
        kept.append(members[places])
    return np.sort(np.concatenate(kept))


def assign_folds(labels: Sequence[int], groups: Sequence[int]) -> NDArray[np.int64]:
    """A fold per row: the rows of a group together, each class spread evenly.

    The largest groups go first, each to the fold that has the fewest rows of its classes.
    """
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    per_class: dict[int, NDArray[np.int64]] = {}
    total = np.zeros(FOLDS, dtype=np.int64)
    folds = np.zeros(len(labels), dtype=np.int64)
    for positions in sorted(members.values(), key=len, reverse=True):
        wanted = Counter(labels[position] for position in positions)
        load = np.zeros(FOLDS, dtype=np.int64)
        for label, number in wanted.items():
            load += number * per_class.setdefault(label, np.zeros(FOLDS, dtype=np.int64))
        fold = int(np.lexsort((total, load))[0])
        for label, number in wanted.items():
            per_class[label][fold] += number
        total[fold] += len(positions)
        folds[positions] = fold
    return folds


def _vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """(rows, dimensions): unit vectors, the main directions of TF-IDF over words, word pairs and
    characters."""
    from scipy.sparse import hstack
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    common = {
        "sublinear_tf": True,
        "min_df": MIN_FEATURE_ROWS,
        "max_features": MAX_FEATURES,
        "dtype": np.float32,  # half the time of float64, the same ranking
    }
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", **common)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **common)
    features = hstack([words.fit_transform(texts), characters.fit_transform(texts)]).tocsr()
    dimensions = min(DIMENSIONS, features.shape[1] - 1, features.shape[0] - 1)
    reduced = TruncatedSVD(dimensions, n_iter=2, random_state=0).fit_transform(features)
    vectors: NDArray[np.float64] = normalize(reduced.astype(np.float64))
    return vectors
