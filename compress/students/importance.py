"""How much a model's outputs would change without one of its heads, FFN units or hidden
components: the squared derivative of the outputs by a gate on each, in the mean over texts
(Michel et al. 2019, arXiv 1905.10650, with the outputs themselves in the loss's stead: a trained
model's loss is flat on its own training rows, and vectors have no labels).

For a gate g = 1 on the input of a matrix W, the derivative is the sum over W * dL/dW of the columns
that the gate scales. L is a random direction of the outputs, whose expected square over directions
is the sum of squares over all outputs.
"""

from dataclasses import dataclass

import torch

from compress.modules import Exported
from compress.students.compute import deterministic
from compress.students.lesson import Lesson
from compress.students.material import Batch, run
from compress.students.parts import Parts, parts_of
from edgeloop.runtime import LOGITS

PROBED_TEXTS = 1024
PROBED_BATCH = 8


@dataclass(frozen=True)
class Importance:
    """heads (layers, heads), units (layers, FFN width), components (hidden,); only ratios within
    one of them mean something."""

    heads: torch.Tensor
    units: torch.Tensor
    components: torch.Tensor


def importance(lesson: Lesson, kind: str) -> Importance:
    """The teacher's, from texts spread evenly over the lesson's. Raises ExportError for an
    architecture that is not known."""
    teacher, material = lesson.teacher, lesson.material
    parts = parts_of(teacher.module, kind)
    norms = hidden_norms(teacher.module)
    sums: list[torch.Tensor] = []
    count = min(PROBED_TEXTS, len(material))
    chosen = torch.linspace(0, len(material) - 1, count).long().tolist()
    chosen.sort(key=material.tokens)
    with deterministic(lesson.settings.seed):
        for start in range(0, count, PROBED_BATCH):
            batch = material.batch(chosen[start : start + PROBED_BATCH])
            _differentiate(teacher.module, teacher.inputs, batch)
            found = _squares(parts, norms)
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    teacher.module.requires_grad_(False)
    teacher.module.zero_grad(set_to_none=True)
    return Importance(*sums)


def hidden_norms(module: Exported) -> list[torch.nn.LayerNorm]:
    """Layer norms over the hidden state, in the order of the model."""
    hidden = int(module.model.config.hidden_size)
    return [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.LayerNorm) and tuple(part.normalized_shape) == (hidden,)
    ]


def _differentiate(module: Exported, inputs: tuple[str, ...], batch: Batch) -> None:
    module.requires_grad_(True)
    module.zero_grad(set_to_none=True)
    outputs = run(module, inputs, batch.feed)
    total = torch.zeros(())
    for name, values in outputs.items():
        direction = torch.randn_like(values)
        if name == LOGITS and values.ndim == 3:  # what a tagger says of pads is read by nobody
            direction = direction * batch.spoken[:, :, None]
        # The embedding has length 1; logits are brought to the same scale.
        total = total + (values * direction).sum() / values.detach().square().sum().sqrt()
    total.backward()


def _squares(parts: list[Parts], norms: list[torch.nn.LayerNorm]) -> list[torch.Tensor]:
    heads, units = [], []
    for own in parts:
        columns = _gates(own.output.weight)
        heads.append(columns.reshape(own.heads, own.head_size).sum(dim=1).square())
        units.append(_gates(own.outer.weight).square())
    components = [
        sum(p.detach() * p.grad for p in (n.weight, n.bias) if p is not None and p.grad is not None)
        for n in norms
    ]
    squares = torch.stack([c for c in components if isinstance(c, torch.Tensor)]).square()
    return [torch.stack(heads), torch.stack(units), squares.sum(dim=0)]


def _gates(weight: torch.Tensor) -> torch.Tensor:
    return (weight.detach() * weight.grad).sum(dim=0)
