"""Which columns a task reads from a file, and how."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edgeloop.recipe import Columns, Data, TaskName
from finetune.problems import Problems


@dataclass(frozen=True)
class Wanted:
    """The columns to read for a task, `key` (group or time) where it is asked, and how a file's
    bytes and a cell's labels are to be understood; `optional` columns are read where they are
    there."""

    task: TaskName
    columns: Columns
    key: str | None
    label_separator: str
    encoding: str | None
    is_labelled: bool = True
    optional: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Data, task: TaskName, key: str | None = None) -> Self:
        """As the recipe says."""
        return cls(task, data.columns, key, data.label_separator, data.encoding)

    def has_tags(self, there: Collection[str]) -> bool:
        """Whether a tagger's rows come as tokens and tags, not as text and spans."""
        return self.columns.tokens in there and self.columns.ner_tags in there

    def needed(self, there: Collection[str]) -> list[str]:
        """The columns that a file with the columns `there` must have."""
        named = [*self._content(there), *self.columns.slices]
        return list(dict.fromkeys(named if self.key is None else [*named, self.key]))

    def read(self, there: Collection[str]) -> list[str]:
        """The columns of the file that are worth reading at all."""
        wanted = {*self.needed(there), self.columns.id, *self.optional}
        if self.task == "text-embedding":
            wanted.add(self.columns.negative)
        return [name for name in there if name in wanted]

    def missing(self, there: Collection[str]) -> list[str]:
        """The needed columns that are not there."""
        return [name for name in self.needed(there) if name not in there]

    def check(self, path: Path, there: Iterable[str], problems: Problems) -> bool:
        """Note each needed column that the file lacks; False where there was one."""
        names = list(there)
        missing = self.missing(names)
        for name in missing:
            problems.add(
                f"{path}: column {name!r} is missing; the file has {', '.join(names) or 'none'} "
                f"(name yours in data.columns{self._instead(name)})"
            )
        return not missing

    def _content(self, there: Collection[str]) -> list[str]:
        columns = self.columns
        pair = [] if columns.text_pair is None else [columns.text_pair]
        if not self.is_labelled:
            return [columns.text, *pair]
        if self.task == "text-embedding":
            return [columns.text, columns.positive]
        if self.task != "token-classification":
            return [columns.text, *pair, columns.label]
        if self.has_tags(there):
            return [columns.tokens, columns.ner_tags, *pair]
        return [columns.text, columns.spans, *pair]

    def _instead(self, name: str) -> str:
        columns = self.columns
        if self.task == "token-classification" and name in (columns.text, columns.spans):
            return f", or bring {columns.tokens} and {columns.ner_tags}"
        return ""
