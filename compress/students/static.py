"""A student without an encoder: a vector per token, their sum scaled to length 1, a linear head.

Made in the manner of model2vec: each token's vector is what the teacher says of the token alone,
reduced by PCA and weighted down where it is frequent (SIF, Arora et al. 2017); then all of it
learns from the teacher. It reads neither order nor token types, so no tagger is made this way.

Vectors of hashed pairs of neighbours, as in fastText, were tried and left out: they cost a second
table of 16,384 vectors and gained nothing (banking77, validation rows: 0.916 with, 0.920 without).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from compress.merged import Merged
from compress.modules import Classifier, Embedder, Exported
from compress.students.compute import deterministic
from compress.students.lesson import Lesson
from compress.students.losses import Match
from compress.students.material import Feed, Material, run
from compress.students.train import Course, teach
from edgeloop.errors import ExportError
from edgeloop.runtime import EMBEDDING

KIND = "static"
# SIF's a / (a + p(token)), with the a of the paper.
SIF_A = 1e-3
WORDS_AT_ONCE = 512
# Of larger vocabularies, the vectors of tokens that no text has are fitted, not asked for.
ASKED_TOKENS = 40_000
RIDGE = 1e-2
INPUTS = ("input_ids", "attention_mask")


class Bag(torch.nn.Module):  # type: ignore[misc]
    """input_ids, attention_mask (batch, seq) -> (batch, width) of length 1."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding.from_pretrained(table, freeze=False)

    def get_input_embeddings(self) -> torch.nn.Module:
        """As transformers' models have it."""
        return self.tokens

    def set_input_embeddings(self, table: torch.nn.Module) -> None:
        """As transformers' models have it."""
        self.tokens = table

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """See the class."""
        weights = attention_mask.unsqueeze(1).float()  # (batch, 1, seq)
        total = (weights @ self.tokens(input_ids).float()).squeeze(1)
        # As torch.nn.functional.normalize, whose export has three more operations.
        return total / torch.linalg.vector_norm(total, dim=-1, keepdim=True).clamp(min=1e-12)


class Static(Exported):
    """The bag, and for a task with logits the head."""

    model: Bag

    def __init__(self, bag: Bag, head: torch.nn.Linear | None) -> None:
        super().__init__(bag, head)
        self.outputs = Embedder.outputs if head is None else Classifier.outputs

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """See compress.modules."""
        embedding = self.model(input_ids, attention_mask)
        return (embedding,) if self.head is None else (self.head(embedding), embedding)


def static(lesson: Lesson) -> Merged:
    """Raises ExportError for a tagger: what a token is depends on its neighbours."""
    if lesson.task == "token-classification":
        raise ExportError(
            f"{KIND}: a tagger of token vectors would not read a token's context; leave {KIND} "
            "out of compress.candidates of task token-classification"
        )
    settings, material = lesson.settings, lesson.material
    projection = principal(material.embedding, settings.static_width)
    with deterministic(settings.seed):
        table = weighted(token_vectors(lesson.teacher, material) @ projection, lesson)
        bag = Bag(table)
        head = None if lesson.task == "text-embedding" else first_head(bag, material)
    module = Static(bag, head)
    student = replace(lesson.teacher, module=module, inputs=INPUTS)
    course = Course(
        kind=KIND,
        epochs=settings.static_epochs,
        batch_rows=settings.static_batch_rows,
        learning_rate=settings.static_learning_rate,
        rate_key="compress.distill.static_learning_rate",
        match=Match((), projection),
    )
    teach(module, INPUTS, lesson, course)
    return student


def principal(vectors: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, hidden) -> (hidden, width): directions that hold the most of the vectors, not centred,
    so that dot products stay what they are; `width` is at most the rows' rank."""
    moments = vectors.double().T @ vectors.double()
    _, directions = torch.linalg.eigh(moments)  # by rising eigenvalue
    kept = directions[:, -min(width, vectors.shape[1]) :].flip(1)
    return kept.float().contiguous()


def token_vectors(teacher: Merged, material: Material) -> torch.Tensor:
    """(vocabulary, hidden): the teacher's embedding of each token alone; in a large vocabulary
    those of tokens that no text has are a linear function of the teacher's own table, fitted to
    the others."""
    count = int(teacher.module.model.get_input_embeddings().num_embeddings)
    everyone = np.arange(count)
    asked = everyone
    if count > ASKED_TOKENS:
        seen = np.unique(material.token_ids())
        spread = np.linspace(0, count - 1, max(ASKED_TOKENS - len(seen), 0)).astype(np.int64)
        asked = np.union1d(seen, spread)
    vectors = torch.zeros(count, material.embedding.shape[1])
    for tokens in np.array_split(asked, -(-len(asked) // WORDS_AT_ONCE)):
        with torch.inference_mode():
            feed = alone(teacher, torch.from_numpy(tokens))
            vectors[tokens] = run(teacher.module, teacher.inputs, feed)[EMBEDDING]
    others = np.setdiff1d(everyone, asked)
    if len(others):
        own = teacher.module.model.get_input_embeddings().weight.detach()
        vectors[others] = own[others] @ ridge(own[asked], vectors[asked])
    return vectors


def alone(teacher: Merged, tokens: torch.Tensor) -> Feed:
    """Each token between the special tokens that the teacher's tokenizer puts around a text."""
    encoded = teacher.encode("a", teacher.most_tokens)
    ids = encoded.input_ids[0].tolist()
    spoken = [i for i, (start, end) in enumerate(encoded.offsets[0]) if end > start]
    before, after = ids[: spoken[0]], ids[spoken[-1] + 1 :]
    rows = [[*before, int(token), *after] for token in tokens]
    input_ids = torch.tensor(rows)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "token_type_ids": torch.zeros_like(input_ids),
    }


def weighted(vectors: torch.Tensor, lesson: Lesson) -> torch.Tensor:
    """The mean taken off, each token's vector by its SIF weight; special tokens begin at zero."""
    counts = np.bincount(lesson.material.token_ids(), minlength=len(vectors))
    special = [i for i in lesson.teacher.tokenizer.all_special_ids if i < len(vectors)]
    counts[special] = 0
    ratio = torch.from_numpy(counts / max(1, counts.sum())).float()
    table = (vectors - vectors.mean(dim=0)) * (SIF_A / (SIF_A + ratio)).unsqueeze(1)
    table[special] = 0.0
    return table


def first_head(bag: Bag, material: Material) -> torch.nn.Linear:
    """The linear head that is nearest to the teacher's logits before anything is learned."""
    vectors = torch.cat([bag(*(f[name] for name in INPUTS)) for f in _feeds(material)]).detach()
    logits = torch.from_numpy(np.stack(material.logits))
    ones = torch.ones(len(vectors), 1)
    weights = ridge(torch.cat([vectors, ones], dim=1), logits)  # (width + 1, classes)
    head = torch.nn.Linear(vectors.shape[1], logits.shape[1])
    with torch.no_grad():
        head.weight.copy_(weights[:-1].T)
        head.bias.copy_(weights[-1])
    return head


def _feeds(material: Material) -> Iterator[Feed]:
    for start in range(0, len(material), WORDS_AT_ONCE):
        yield material.batch(range(start, min(start + WORDS_AT_ONCE, len(material)))).feed


def ridge(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """The (in, out) matrix of least squared error, with a small penalty on its size."""
    inputs, outputs = inputs.double(), outputs.double()
    moments = inputs.T @ inputs
    penalty = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
    return torch.linalg.solve(moments + penalty, inputs.T @ outputs).float()
