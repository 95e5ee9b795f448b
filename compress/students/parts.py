"""Where an architecture's layers keep their heads and their FFN's inner width, and how both are
made smaller: the matrices lose rows and columns, and what was cut is gone.

A layer attends through as many heads as its matrices hold, so layers may differ from config.json;
the student is never saved as a Hugging Face folder, only exported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compress.modules import Exported
from compress.students.layers import encoder_layers
from edgeloop.errors import ExportError

# What attention modules call the number of their heads, and the width of all of them.
HEADS_NAMES = ("num_attention_heads", "n_heads", "num_heads")
HEAD_SIZE_NAMES = ("attention_head_size", "head_dim")


@dataclass(frozen=True)
class Family:
    """Paths below a layer. `projections` make queries, keys and values, `fused` all three in one;
    `gated`: the FFN's first matrix makes the values and after them their gates. `optional`
    projections exist in some configurations. `bias` is a table (buckets, heads) that all layers
    share, beside the list of layers."""

    attention: str
    projections: tuple[str, ...]
    output: str
    inner: str
    outer: str
    optional: tuple[str, ...] = ()
    fused: bool = False
    gated: bool = False
    bias: str = ""


BERT = Family(
    attention="attention.self",
    projections=("query", "key", "value"),
    output="attention.output.dense",
    inner="intermediate.dense",
    outer="output.dense",
)
FAMILIES = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "distilbert": Family(
        attention="attention",
        projections=("q_lin", "k_lin", "v_lin"),
        output="attention.out_lin",
        inner="ffn.lin1",
        outer="ffn.lin2",
    ),
    "mpnet": Family(
        attention="attention.attn",
        projections=("q", "k", "v"),
        output="attention.attn.o",
        inner="intermediate.dense",
        outer="output.dense",
        bias="relative_attention_bias",
    ),
    "deberta-v2": Family(
        attention="attention.self",
        projections=("query_proj", "key_proj", "value_proj"),
        output="attention.output.dense",
        inner="intermediate.dense",
        outer="output.dense",
        optional=("pos_key_proj", "pos_query_proj"),
    ),
    "modernbert": Family(
        attention="attn",
        projections=("Wqkv",),
        output="attn.Wo",
        inner="mlp.Wi",
        outer="mlp.Wo",
        fused=True,
        gated=True,
    ),
}


def family_of(module: Exported, kind: str) -> Family:
    """Raises ExportError for an architecture whose matrices are not known here."""
    model_type = module.model.config.model_type
    if model_type not in FAMILIES:
        raise ExportError(
            f"{kind}: heads and FFN of {model_type} are not known to be removable (they are of "
            f"{', '.join(FAMILIES)}); leave {kind} out of compress.candidates"
        )
    return FAMILIES[model_type]


@dataclass(frozen=True)
class Parts:
    """One layer's matrices."""

    family: Family
    layer: torch.nn.Module

    @property
    def attention(self) -> torch.nn.Module:
        """The module that splits its input into heads."""
        return self.layer.get_submodule(self.family.attention)

    @property
    def output(self) -> torch.nn.Linear:
        """Its columns are the heads', one after another."""
        return self._linear(self.family.output)

    @property
    def outer(self) -> torch.nn.Linear:
        """Its columns are the FFN's inner units."""
        return self._linear(self.family.outer)

    @property
    def head_size(self) -> int:
        """Components of a head."""
        return next(
            int(getattr(self.attention, name))
            for name in HEAD_SIZE_NAMES
            if hasattr(self.attention, name)
        )

    @property
    def heads(self) -> int:
        """How many heads the layer has."""
        return int(self.output.in_features) // self.head_size

    @property
    def projections(self) -> list[torch.nn.Linear]:
        """Whose rows are the heads'."""
        names = (*self.family.projections, *self.family.optional)
        found = [getattr(self.attention, name, None) for name in names]
        return [linear for linear in found if linear is not None]

    @property
    def inner(self) -> torch.nn.Linear:
        """Whose rows are the FFN's inner units."""
        return self._linear(self.family.inner)

    def keep_heads(self, kept: Sequence[int]) -> None:
        """Remove all other heads."""
        width, size = self.output.in_features, self.head_size
        columns = (torch.tensor(kept)[:, None] * size + torch.arange(size)).flatten()
        turns = 3 if self.family.fused else 1
        rows = torch.cat([columns + turn * width for turn in range(turns)])
        for linear in self.projections:
            cut_rows(linear, rows)
        cut_columns(self.output, columns)
        for name in HEADS_NAMES:
            if hasattr(self.attention, name):
                setattr(self.attention, name, len(kept))
        if hasattr(self.attention, "all_head_size"):
            self.attention.all_head_size = len(columns)

    def keep_units(self, kept: Sequence[int]) -> None:
        """Remove all other inner units of the FFN."""
        columns = torch.tensor(kept)
        width = self.outer.in_features
        rows = torch.cat([columns, columns + width]) if self.family.gated else columns
        cut_rows(self.inner, rows)
        cut_columns(self.outer, columns)

    def _linear(self, path: str) -> torch.nn.Linear:
        return self.layer.get_submodule(path)


def parts_of(module: Exported, kind: str) -> list[Parts]:
    """Every layer's. Raises ExportError for an architecture that is not known."""
    family = family_of(module, kind)
    return [Parts(family, layer) for layer in encoder_layers(module)]


def keep_heads(module: Exported, kind: str, kept: Sequence[Sequence[int]]) -> None:
    """Remove all heads but these, per layer, and what a bias that layers share has for them."""
    parts = parts_of(module, kind)
    for own, heads in zip(parts, kept, strict=True):
        own.keep_heads(heads)
    if not parts[0].family.bias:
        return
    for part in module.modules():
        table = getattr(part, parts[0].family.bias, None)
        if table is not None:
            cut_table(table, torch.tensor(kept[0]))
            part.n_heads = len(kept[0])


def cut_rows(linear: torch.nn.Linear, rows: torch.Tensor) -> None:
    """Keep these outputs of a linear layer, in place."""
    linear.weight = torch.nn.Parameter(linear.weight.detach()[rows].clone())
    if linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias.detach()[rows].clone())
    linear.out_features = len(rows)


def cut_columns(linear: torch.nn.Linear, columns: torch.Tensor) -> None:
    """Keep these inputs of a linear layer, in place."""
    linear.weight = torch.nn.Parameter(linear.weight.detach()[:, columns].clone())
    linear.in_features = len(columns)


def cut_table(table: torch.nn.Embedding, columns: torch.Tensor) -> None:
    """Keep these components of a table's vectors, in place."""
    table.weight = torch.nn.Parameter(table.weight.detach()[:, columns].clone())
    table.embedding_dim = len(columns)


def cut_norm(norm: torch.nn.LayerNorm, columns: torch.Tensor) -> None:
    """Keep these components of a layer norm, in place."""
    for name in ("weight", "bias"):
        values = getattr(norm, name)
        if values is not None:
            setattr(norm, name, torch.nn.Parameter(values.detach()[columns].clone()))
    norm.normalized_shape = (len(columns),)
