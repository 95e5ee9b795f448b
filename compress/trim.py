"""Vocabulary trimming: the tokenizer and the embedding table with only the tokens that the training
texts use, special tokens, and what unknown words are spelled with.

A text of kept tokens gets the same logits as before, which is proven on all training texts (their
tokens) and on some of them (their logits). What other texts lose is for `coverage` to say.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Encoding, Tokenizer

from compress.lookup import compared_ids, cut_rows
from compress.source import Source
from compress.vocabulary import Document, cut, needed_tokens, read_vocabulary
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.rows import TextInput
from edgeloop.runtime import OnnxModel

# What a guard may allow on rows that no training saw; see Coverage.
MOST_UNKNOWN_RISE_RATIO = 0.002
MOST_TOKEN_GROWTH_RATIO = 1.1

PROVEN_ROWS = 32
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Coverage:
    """Some texts before and after a trimming. unknown_*: the share of tokens that stand for
    something unknown. changed_ratio: the share of texts that are cut into other tokens now.
    growth_ratio: tokens after by tokens before, which is what a call costs more."""

    unknown_before_ratio: float
    unknown_after_ratio: float
    changed_ratio: float
    growth_ratio: float

    @property
    def problems(self) -> tuple[str, ...]:
        """What is more than a guard allows, in words; () where nothing is."""
        said = []
        if self.unknown_after_ratio - self.unknown_before_ratio > MOST_UNKNOWN_RISE_RATIO:
            said.append(
                f"unknown tokens rise from {self.unknown_before_ratio:.4f} of all to "
                f"{self.unknown_after_ratio:.4f}, {MOST_UNKNOWN_RISE_RATIO:g} more is allowed"
            )
        if self.growth_ratio > MOST_TOKEN_GROWTH_RATIO:
            said.append(
                f"texts become {self.growth_ratio:.3f} times as many tokens, "
                f"{MOST_TOKEN_GROWTH_RATIO:g} is allowed"
            )
        return tuple(said)


def trim_vocabulary(source: Source, folder: Path) -> None:
    """Write the model and the tokenizer without the tokens that no training text uses.

    Raises ExportError where there is nothing to trim, the tokenizer or graph is of a kind that
    cannot be, or the result does not prove to be the same model.
    """
    if not source.texts:
        raise ExportError("no training text tells which tokens are used; add training rows")
    document = json.loads(source.tokenizer.read_bytes())
    before = _plain(Tokenizer.from_file(str(source.tokenizer)))
    encodings = _encode(before, source.texts)
    used = {str(before.id_to_token(i)) for i in {i for row in encodings for i in row.ids}}
    model = onnx.load(str(source.model))
    used |= {str(before.id_to_token(i)) for i in compared_ids(model)}
    trimmed, ids = cut(document, needed_tokens(document, used))
    rows = cut_rows(model, list(ids))
    if len(ids) == rows:
        raise ExportError(f"{source.tokenizer}: all of its {rows} tokens are needed; none to trim")
    onnx.save(model, str(folder / MODEL))
    text = json.dumps(trimmed, ensure_ascii=False, separators=(",", ":"))
    (folder / TOKENIZER).write_text(text, encoding="utf-8", newline="\n")
    _prove_tokens(source, encodings, ids, trimmed, folder)
    _prove_answers(source, folder)


def unknown_ratio(tokenizer: Path, texts: Sequence[TextInput]) -> float:
    """The share of tokens that stand for something unknown; 0 where the tokenizer has no such
    token, since it spells everything."""
    return _unknown_ratio(tokenizer, _encode(_plain(Tokenizer.from_file(str(tokenizer))), texts))


def coverage(before: Path, after: Path, texts: Sequence[TextInput]) -> Coverage:
    """What a trimming, from one tokenizer.json to another, does to texts that it did not see.
    Raises ValueError without texts."""
    if not texts:
        raise ValueError("no text to measure the coverage on")
    old, new = (_encode(_plain(Tokenizer.from_file(str(path))), texts) for path in (before, after))
    changed = [a.tokens != b.tokens for a, b in zip(old, new, strict=True)]
    return Coverage(
        unknown_before_ratio=_unknown_ratio(before, old),
        unknown_after_ratio=_unknown_ratio(after, new),
        changed_ratio=float(np.mean(changed)),
        growth_ratio=sum(len(row.ids) for row in new) / max(sum(len(row.ids) for row in old), 1),
    )


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """The same one, which neither cuts nor pads."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: Sequence[TextInput]) -> list[Encoding]:
    return list(tokenizer.encode_batch(list(texts)))


def _unknown_ratio(tokenizer: Path, encodings: Sequence[Encoding]) -> float:
    unknown = _unknown_id(json.loads(tokenizer.read_bytes()))
    real = [
        token == unknown
        for row in encodings
        for token, special in zip(row.ids, row.special_tokens_mask, strict=True)
        if not special
    ]
    return float(np.mean(real)) if real else 0.0


def _unknown_id(document: Document) -> int | None:
    model = document["model"]
    if model.get("type") == "Unigram":
        return None if model.get("unk_id") is None else int(model["unk_id"])
    return read_vocabulary(document).get(model.get("unk_token"))


def _prove_tokens(
    source: Source,
    before: Sequence[Encoding],
    ids: dict[int, int],
    document: Document,
    folder: Path,
) -> None:
    """Every text has the same tokens under their new ids, at the same characters."""
    tokenizer = _plain(Tokenizer.from_file(str(folder / TOKENIZER)))
    for token, expected in read_vocabulary(document).items():
        if tokenizer.token_to_id(token) != expected:
            raise ExportError(
                f"{source.tokenizer}: token {token!r} has id {tokenizer.token_to_id(token)} after "
                f"trimming, not {expected}; leave the trimmed candidates out"
            )
    for text, old, new in zip(source.texts, before, _encode(tokenizer, source.texts), strict=True):
        same = [ids.get(i) for i in old.ids] == new.ids and old.type_ids == new.type_ids
        if not same or old.offsets != new.offsets:
            raise ExportError(
                f"{source.tokenizer}: {str(text)[:60]!r} is cut into {new.tokens} after trimming, "
                f"not {old.tokens}; leave the trimmed candidates out"
            )


def _prove_answers(source: Source, folder: Path) -> None:
    """Evenly spread texts have the same logits and embedding as before."""
    spread = np.linspace(0, len(source.texts) - 1, min(PROVEN_ROWS, len(source.texts))).round()
    texts = [source.texts[int(i)] for i in spread]
    made = source.made(folder)
    old, new = (OnnxModel(s.model, s.tokenizer, s.max_tokens).score(texts) for s in (source, made))
    for text, a, b in zip(texts, old, new, strict=True):
        difference = max(
            float(np.abs(x - y).max(initial=0.0))
            for x, y in ((a.logits, b.logits), (a.embedding, b.embedding))
        )
        if not difference <= TOLERANCE:  # NaN is refused as well
            raise ExportError(
                f"{source.model}: answers to {str(text)[:60]!r} differ by {difference:.2g} after "
                f"trimming, {TOLERANCE:g} is allowed; leave the trimmed candidates out"
            )
