"""Texts that are longer than the served model reads."""

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from edgeloop.recipe import Recipe
from edgeloop.rows import Row, TextInput
from finetune.audit.context import Context, Splits, chunks, texts_of
from finetune.audit.finding import Finding, count

CHUNK_ROWS = 1000


def check_lengths(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Rows over serve.max_tokens, counted with the base's tokenizer, special tokens included.

    An error, or a warning where data.excess_length is truncate; no row is ever dropped.
    """
    if context.tokenizer is None:
        return [_not_counted(recipe)]
    limit = recipe.serve.max_tokens
    rows = [placed.row for placed in context.placed]
    lengths = list(row_lengths(context.tokenizer, rows, recipe.task))
    found = [(p, n) for p, n in zip(context.placed, lengths, strict=True) if n > limit]
    if not found:
        return []
    truncated = recipe.data.excess_length == "truncate"
    return [
        Finding(
            kind="too-long",
            severity="warning" if truncated else "error",
            message=f"{count(len(found), 'row')} over {limit} tokens (serve.max_tokens), the "
            f"longest has {max(n for _, n in found)}"
            + ("; the end of each is cut off (data.excess_length: truncate)" * truncated),
            rows=tuple(p.row.id for p, _ in found),
            suggestion="raise serve.max_tokens"
            + (", shorten the texts, or set data.excess_length: truncate" * (not truncated)),
            details=tuple(
                {
                    "row": p.row.id,
                    "split": p.split,
                    "where": p.row.where,
                    "tokens": tokens,
                    "problem": f"{tokens} tokens, at most {limit}; raise serve.max_tokens, shorten "
                    "the text, or set data.excess_length: truncate",
                }
                for p, tokens in found
            ),
        )
    ]


def row_lengths(tokenizer: Tokenizer, rows: Sequence[Row], task: str) -> Iterator[int]:
    """Tokens of each row's longest input; a pair is one input, for text-embedding each text is."""
    for part in chunks(len(rows), CHUNK_ROWS):
        inputs: list[TextInput] = []
        owners: list[int] = []
        for position in part:
            row = rows[position]
            own = texts_of(row) if task == "text-embedding" else (row.input,)
            inputs.extend(own)
            owners.extend([position] * len(own))
        longest = dict.fromkeys(part, 0)
        for owner, encoding in zip(owners, tokenizer.encode_batch(inputs), strict=True):
            longest[owner] = max(longest[owner], len(encoding.ids))
        yield from longest.values()


def _not_counted(recipe: Recipe) -> Finding:
    return Finding(
        kind="length-unknown",
        severity="note",
        message=f"the lengths were not counted: the base {recipe.base!r} has no tokenizer.json "
        "that can be read here",
        suggestion="make the base available (a folder, package:NAME/SUBFOLDER, or a downloaded "
        "hub id) and check again",
    )
