"""What several checks share, each computed once and only when a check asks for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from edgeloop.errors import EdgeloopError
from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.near import NearTexts, near_texts
from finetune.base import tokenizer_path
from finetune.dataset import normalised

Splits = Mapping[str, Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A row and the split that it is in."""

    split: str
    row: Row


def texts_of(row: Row) -> tuple[str, ...]:
    """Every text that the row holds."""
    pair = () if row.text_pair is None else (row.text_pair,)
    return (row.text, *pair, *row.negatives)


class Context:
    """Rows in order, each once: a reference that is the test rows again is left out."""

    def __init__(self, splits: Splits, recipe: Recipe) -> None:
        self.recipe = recipe
        self.splits = own_splits(splits)
        self.placed = [Placed(name, row) for name, rows in self.splits.items() for row in rows]

    @cached_property
    def texts(self) -> list[str]:
        """The normalised text of each row, with its second text below."""
        return [
            normalised(p.row.text)
            if p.row.text_pair is None
            else f"{normalised(p.row.text)}\n{normalised(p.row.text_pair)}"
            for p in self.placed
        ]

    @cached_property
    def same(self) -> dict[str, list[int]]:
        """Normalised text to the positions of its rows, in order."""
        groups: dict[str, list[int]] = {}
        for position, text in enumerate(self.texts):
            groups.setdefault(text, []).append(position)
        return groups

    @cached_property
    def near(self) -> NearTexts:
        """Near-duplicates among the keys of `same`, by their position there."""
        return near_texts(list(self.same), self.recipe.data.audit.near_duplicate_ratio)

    @cached_property
    def near_groups(self) -> list[int]:
        """A group number per row: rows with the same or a near text share it."""
        group_of_text = list(range(len(self.same)))
        for cluster in self.near.clusters:
            for member in cluster:
                group_of_text[member] = cluster[0]
        groups = [0] * len(self.placed)
        for text, positions in enumerate(self.same.values()):
            for position in positions:
                groups[position] = group_of_text[text]
        return groups

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The base's own, which neither cuts nor pads; None where the base has no tokenizer.json
        or cannot be found."""
        try:
            path = tokenizer_path(self.recipe.base)
        except EdgeloopError:
            return None
        if path is None:
            return None
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def own_splits(splits: Splits) -> dict[str, Sequence[Row]]:
    """The splits without a reference that only repeats the test rows."""
    test = [row.id for row in splits.get("test", ())]
    return {
        name: rows
        for name, rows in splits.items()
        if name != "reference" or [row.id for row in rows] != test or not test
    }


def chunks(count: int, size: int) -> Iterator[range]:
    """Ranges of at most `size` positions."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))
