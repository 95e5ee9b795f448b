"""Texts as a student reads them, with what it is to say of them: the labels, and the teacher's
answers, computed once.

A text's targets, by task: the class's index; 0 or 1 per class; the tag's index per token; nothing.
IGNORED stands for no class or tag, NaN for no label set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compress.merged import Merged
from compress.modules import Exported
from compress.students.compute import deterministic, passes
from compress.students.layers import encoder_layers, listening
from edgeloop.errors import ExportError
from edgeloop.rows import Row, TextInput
from edgeloop.runtime import EMBEDDING, LOGITS, Encoded
from edgeloop.tasks import TASKS

IGNORED = -100  # torch's cross_entropy leaves these targets out
ANSWERED_ROWS = 64
BATCHES_PER_BUCKET = 16

Feed = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """input_ids, attention_mask and token_type_ids (batch, seq), as `feed`.

    spoken      (batch, seq): tokens of the first text, the ones that a tagger is asked about
    targets     (batch,), (batch, classes) or (batch, seq); (batch, 0) of task text-embedding
    logits      the teacher's: (batch, classes), (batch, seq, tags) or (batch, 0)
    embedding   the teacher's: (batch, hidden), of length 1
    states      (batch, layers, hidden): the mean over the tokens of each of the teacher's layers
    """

    feed: Feed
    spoken: torch.Tensor
    targets: torch.Tensor
    logits: torch.Tensor
    embedding: torch.Tensor
    states: torch.Tensor


@dataclass(frozen=True)
class Material:
    """All texts. targets, logits per text and without padding; embedding (texts, hidden) and
    states (texts, layers, hidden, in bf16) as in Batch. The first `labelled` texts have targets."""

    encoded: list[Encoded]
    labelled: int
    targets: list[NDArray[np.float32]]
    logits: list[NDArray[np.float32]]
    embedding: torch.Tensor
    states: torch.Tensor

    def __len__(self) -> int:
        return len(self.encoded)

    def tokens(self, text: int) -> int:
        """How many tokens a text has."""
        return self.encoded[text].tokens[0]

    def token_ids(self) -> NDArray[np.int64]:
        """Every token of every text, one after another."""
        return np.concatenate([encoded.input_ids[0] for encoded in self.encoded])

    def batch(self, texts: Sequence[int]) -> Batch:
        """These texts, padded to the longest."""
        encoded = [self.encoded[i] for i in texts]
        return Batch(
            feed=pad_feed(encoded),
            spoken=_padded([_spoken(one) for one in encoded], 0.0) > 0.0,
            targets=_padded([self.targets[i] for i in texts], float(IGNORED)),
            logits=_padded([self.logits[i] for i in texts], 0.0),
            embedding=self.embedding[texts],
            states=self.states[texts].float(),
        )

    def shuffled(self, batch_rows: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Every text once, in batches of similar length; the order follows from seed and epoch."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self)).tolist()
        bucket_rows = batch_rows * BATCHES_PER_BUCKET
        batches: list[list[int]] = []
        for start in range(0, len(order), bucket_rows):
            bucket = sorted(order[start : start + bucket_rows], key=self.tokens)
            batches += [bucket[i : i + batch_rows] for i in range(0, len(bucket), batch_rows)]
        for position in rng.permutation(len(batches)):
            yield self.batch(batches[position])


def make_material(
    teacher: Merged,
    task: str,
    labels: Sequence[str],
    rows: Sequence[Row],
    unlabelled: Sequence[TextInput],
    max_tokens: int,
) -> Material:
    """Tokenize all texts and ask the teacher. Raises ExportError where there is none."""
    inputs = TASKS[task].inputs(rows)
    inputs += [negative for row in rows for negative in row.negatives]
    labelled = len(inputs)
    inputs += unlabelled
    if not inputs:
        raise ExportError("no text to teach a student with; add training rows or unlabelled texts")
    encoded = [teacher.encode(text, max_tokens) for text in inputs]
    targets = _targets(task, labels, rows, encoded)
    with deterministic(0):
        logits, embedding, states = _ask(teacher, encoded)
    if not bool(embedding.isfinite().all() and states.isfinite().all()):
        raise ExportError("the teacher's answers are not numbers; run finetune again")
    return Material(encoded, labelled, targets, logits, embedding, states)


def pad_feed(encoded: Sequence[Encoded]) -> Feed:
    """Texts as one batch; a pad is token 0 under a mask of 0."""
    names = encoded[0].feed()
    return {name: _padded([one.feed()[name][0] for one in encoded], 0) for name in names}


def run(module: Exported, names: Sequence[str], feed: Feed) -> dict[str, torch.Tensor]:
    """The module's outputs in fp32, by name."""
    with passes():
        outputs = module(**{name: feed[name] for name in names})
    return {name: value.float() for name, value in zip(module.outputs, outputs, strict=True)}


def _ask(
    teacher: Merged, encoded: Sequence[Encoded]
) -> tuple[list[NDArray[np.float32]], torch.Tensor, torch.Tensor]:
    """(logits per text, embedding, states) as Material has them; longest texts first."""
    layers = encoder_layers(teacher.module)
    logits: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(encoded)
    embeddings: dict[int, torch.Tensor] = {}
    states: dict[int, torch.Tensor] = {}
    order = sorted(range(len(encoded)), key=lambda i: -encoded[i].tokens[0])
    for start in range(0, len(order), ANSWERED_ROWS):
        chosen = order[start : start + ANSWERED_ROWS]
        feed = pad_feed([encoded[i] for i in chosen])
        with torch.inference_mode(), listening(layers, feed["attention_mask"]) as heard:
            outputs = run(teacher.module, teacher.inputs, feed)
        means = torch.stack(heard, dim=1).to(torch.bfloat16)
        for place, i in enumerate(chosen):
            embeddings[i], states[i] = outputs[EMBEDDING][place], means[place]
            if LOGITS in outputs:
                own = outputs[LOGITS][place].numpy()
                logits[i] = own[: encoded[i].tokens[0]].copy() if own.ndim == 2 else own
    places = range(len(encoded))
    return (
        logits,
        torch.stack([embeddings[i] for i in places]),
        torch.stack([states[i] for i in places]),
    )


def _targets(
    task: str, labels: Sequence[str], rows: Sequence[Row], encoded: Sequence[Encoded]
) -> list[NDArray[np.float32]]:
    """One array per text, of shape (), (classes,), (tokens,) or (0,)."""
    index = {label: i for i, label in enumerate(labels)}
    found: list[NDArray[np.float32]] = []
    for i, one in enumerate(encoded):
        row = rows[i] if i < len(rows) else None
        if task == "text-embedding":
            target = np.zeros(0)
        elif task == "token-classification":
            target = np.full(one.tokens[0], IGNORED) if row is None else _tags(row, one, index)
        elif task == "multi-label-classification":
            wanted = [float(label in row.labels) for label in labels] if row else np.nan
            target = np.full(len(labels), wanted)
        else:
            target = np.array(index.get(row.labels[0], IGNORED) if row else IGNORED)
        found.append(target.astype(np.float32))
    return found


def _tags(row: Row, encoded: Encoded, index: dict[str, int]) -> NDArray[np.float64]:
    """The column of edgeloop.tasks.TokenClassification per token: one that shares a character with
    a span is in it; special tokens and a second text are ignored."""
    tags, begun = [], set()
    for start, end in encoded.offsets[0]:
        if end <= start:
            tags.append(IGNORED)
            continue
        span = next((s for s in row.spans if start < s.end and s.start < end), None)
        if span is None or span.label not in index:
            tags.append(0)
            continue
        tags.append(1 + 2 * index[span.label] + (span in begun))
        begun.add(span)
    return np.array(tags, dtype=np.float64)


def _spoken(encoded: Encoded) -> NDArray[np.float32]:
    return np.array([float(end > start) for start, end in encoded.offsets[0]], dtype=np.float32)


def _padded(rows: Sequence[NDArray[np.generic]], filler: float) -> torch.Tensor:
    """Rows of one number of axes as one tensor, filled up along their first."""
    if rows[0].ndim == 0:
        return torch.from_numpy(np.array(rows))
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest, *rows[0].shape[1:]), filler, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)
