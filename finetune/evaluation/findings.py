"""From rows and a model's outputs to everything that is said about it, for each task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeloop import calibration
from edgeloop.errors import DatasetError
from edgeloop.records_evaluation import Calibration, Confusion
from edgeloop.rows import Row, TextInput
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS, Answer
from finetune.evaluation.errors import Mistake
from finetune.evaluation.judged import Judged
from finetune.evaluation.labels import confusion, judge_labels
from finetune.evaluation.retrieval import corpus, dense, judge_ranking, rank
from finetune.evaluation.spans import judge_spans


@dataclass(frozen=True)
class Findings:
    """`rows` (the first row of each query for text-embedding) are those that the figures are over,
    in their order."""

    judged: Judged
    rows: tuple[Row, ...]
    mistakes: tuple[Mistake, ...]
    brier: float | None = None
    calibration: Calibration | None = None
    confusion: tuple[Confusion, ...] = ()


def texts_to_score(task: str, rows: Sequence[Row]) -> list[TextInput]:
    """What the model must answer so that these rows can be evaluated, in that order.

    Raises DatasetError where there is no row, or a row lacks what the task needs.
    """
    if not rows:
        raise DatasetError("there are no test rows to evaluate on; see data.split.test")
    if task == "text-embedding":
        return list(corpus(rows).texts)
    return [row.input for row in rows]


def evaluate(
    task: str, labels: Sequence[str], rows: Sequence[Row], outputs: Sequence[RowOutput]
) -> Findings:
    """`outputs` answer `texts_to_score(task, rows)`, `labels` are those of the training rows."""
    return EVALUATE[task](task, labels, rows, outputs)


def judge(task: str, rows: Sequence[Row], answers: Sequence[Answer]) -> Judged:
    """Answers to the rows, for every task but text-embedding."""
    if task == "token-classification":
        return judge_spans([row.spans for row in rows], [answer.spans for answer in answers])
    whole = "accuracy" if task == "text-classification" else "exact_match"
    return judge_labels([row.labels for row in rows], [answer.labels for answer in answers], whole)


def _classification(
    task: str, labels: Sequence[str], rows: Sequence[Row], outputs: Sequence[RowOutput]
) -> Findings:
    answers = _answers(task, labels, outputs)
    judged = judge(task, rows, answers)
    several = task == "multi-label-classification"
    return Findings(
        judged=judged,
        rows=tuple(rows),
        mistakes=_mistakes(task, rows, answers, judged),
        brier=calibration.brier(task, rows, outputs, labels),
        calibration=calibration.of_task(task, rows, outputs, labels),
        confusion=()
        if several
        else confusion([row.labels for row in rows], [answer.labels for answer in answers]),
    )


def _tokens(
    task: str, labels: Sequence[str], rows: Sequence[Row], outputs: Sequence[RowOutput]
) -> Findings:
    answers = _answers(task, labels, outputs)
    judged = judge(task, rows, answers)
    return Findings(
        judged=judged,
        rows=tuple(rows),
        mistakes=_mistakes(task, rows, answers, judged),
        calibration=calibration.of_task(task, rows, outputs, labels),
    )


def _embedding(
    task: str, labels: Sequence[str], rows: Sequence[Row], outputs: Sequence[RowOutput]
) -> Findings:
    texts = corpus(rows)
    ranking = rank(texts, dense(texts, np.stack([output.embedding for output in outputs])))
    judged = judge_ranking(ranking)
    mistakes = tuple(
        Mistake(
            id=rows[texts.row[query]].id,
            text=texts.queries[query],
            text_pair=None,
            truth=texts.documents[texts.relevant[query][0]],
            answer=texts.documents[ranking.top[query]],
            score=ranking.margin[query],
        )
        for query in np.flatnonzero(~judged.right).tolist()
    )
    return Findings(judged, tuple(rows[i] for i in texts.row), mistakes)


def _answers(task: str, labels: Sequence[str], outputs: Sequence[RowOutput]) -> list[Answer]:
    return [TASKS[task].answer(output, labels) for output in outputs]


def _mistakes(
    task: str, rows: Sequence[Row], answers: Sequence[Answer], judged: Judged
) -> tuple[Mistake, ...]:
    return tuple(
        Mistake(
            id=rows[i].id,
            text=rows[i].text,
            text_pair=rows[i].text_pair,
            truth=TASKS[task].truth(rows[i]).label,
            answer=answers[i].label,
            score=answers[i].score,
        )
        for i in np.flatnonzero(~judged.right).tolist()
    )


Evaluate = Callable[[str, Sequence[str], Sequence[Row], Sequence[RowOutput]], Findings]
EVALUATE: dict[str, Evaluate] = {
    "text-classification": _classification,
    "multi-label-classification": _classification,
    "token-classification": _tokens,
    "text-embedding": _embedding,
}
