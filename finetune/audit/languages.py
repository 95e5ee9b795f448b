"""The languages of the rows, by langid, which needs no network.

Short texts cannot be told apart: a row is judged where it has MIN_LETTERS letters, and named as
another language than the rest only where its probability is at least MIN_PROBABILITY.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits, chunks
from finetune.audit.finding import Finding

MIN_LETTERS = 40
MIN_PROBABILITY = 0.99
CHUNK_ROWS = 512
MAX_CHARACTERS = 2000


def check_languages(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """The share of each language, and the rows that are surely not in the main one."""
    judged = [p.row for p in context.placed if sum(map(str.isalpha, p.row.text)) >= MIN_LETTERS]
    languages = list(zip(judged, detect([row.text for row in judged]), strict=True))
    sure = [(row, name, p) for row, (name, p) in languages if p >= MIN_PROBABILITY]
    counts = Counter(name for _, name, _ in sure)
    if len(counts) < 2:
        return []
    main = min(counts, key=lambda name: (-counts[name], name))
    others = [(row, name, p) for row, name, p in sure if name != main]
    shares = ", ".join(f"{name} {n / len(sure):.1%}" for name, n in counts.most_common(5))
    rest = f" and {len(counts) - 5} more" * (len(counts) > 5)
    return [
        Finding(
            kind="language-mix",
            severity="note",
            message=f"{len(others)} of {len(sure)} rows are not in {main!r} ({shares}{rest}); "
            f"{len(context.placed) - len(sure)} rows were too short (under {MIN_LETTERS} letters) "
            f"or unsure (probability under {MIN_PROBABILITY:g}) and are not counted",
            rows=tuple(row.id for row, _, _ in others),
            suggestion="see that the base was trained on these languages and that each has test "
            "rows",
            details=tuple(
                {"row": row.id, "language": name, "probability": round(p, 4)}
                for row, name, p in others
            ),
        )
    ]


def detect(texts: Sequence[str]) -> Iterator[tuple[str, float]]:
    """(ISO 639-1 code, probability) per text: what langid.classify says, many texts at a time."""
    from scipy.sparse import csr_matrix
    from scipy.special import softmax

    if not texts:
        return
    identifier = _identifier()
    for part in chunks(len(texts), CHUNK_ROWS):
        counts = np.stack([identifier.instance2fv(texts[i][:MAX_CHARACTERS]) for i in part])
        scores = csr_matrix(counts.astype(np.float64)) @ identifier.nb_ptc + identifier.nb_pc
        probabilities = softmax(scores, axis=1)
        best = probabilities.argmax(axis=1)
        for row, language in enumerate(best):
            yield str(identifier.nb_classes[language]), float(probabilities[row, language])


@cache
def _identifier() -> Any:
    """langid's own model; unpacking it takes a second."""
    from langid.langid import LanguageIdentifier, model

    return LanguageIdentifier.from_modelstring(model, norm_probs=True)
