"""Which tokens of a tokenizer.json a smaller one needs, and that tokenizer under new ids.

A text whose tokens, and everything that leads to them, are kept is cut into the same tokens:
WordPiece takes the longest match, and the longest of all is there; BPE applies its merges by rank,
and all that were applied are there; Unigram takes the path with the highest score, and it is there,
while an unknown character costs what it did, since the piece with the lowest score is kept. New ids
are the old ones' ranks, so that special tokens keep their order.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgeloop.errors import ExportError

Document = dict[str, Any]

# Tokens that no training text has are still met. Without these, 6.6% of banking77's held-out texts
# were cut into other tokens, which cost 0.5 points of accuracy; with them 4.3%, and 0.26.
COMMON_RATIO = 0.19
# BERT's vocabularies begin with a thousand of them.
UNUSED = re.compile(r"\[unused\d+\]")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
WORD_START = "▁"  # what SentencePiece writes for a space


def read_vocabulary(document: Document) -> dict[str, int]:
    """Every token of the tokenizer, added ones as well, and its id.

    Raises ExportError for a kind of tokenizer that is not known here.
    """
    model = document["model"]
    if model.get("type") not in KINDS:
        raise ExportError(
            f"tokenizer.json: its model is {model.get('type')!r}; a vocabulary is trimmed for "
            f"{', '.join(KINDS)} only; leave the trimmed candidates out"
        )
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        vocabulary = {piece: i for i, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary) | {t["content"]: t["id"] for t in document["added_tokens"]}


def needed_tokens(document: Document, used: Iterable[str]) -> set[str]:
    """The `used` tokens with all that the tokenizer needs to arrive at them, the special and added
    ones, the commonest of the language, and what unknown words are spelled with: single characters
    and bytes."""
    model, vocabulary = document["model"], read_vocabulary(document)
    used = {*used, *_commonest(vocabulary)}
    needed = {token["content"] for token in document["added_tokens"]}
    needed |= {token for token in vocabulary if BYTE.fullmatch(token)}
    needed |= set(_special_tokens(document.get("post_processor")))
    needed.add(model.get("unk_token") or "")
    pad_id = (document.get("padding") or {}).get("pad_id")
    needed |= {token for token, i in vocabulary.items() if i == pad_id}
    needed |= {token for token in vocabulary if len(_letters(token, model)) == 1}
    needed |= KINDS[model["type"]](model, set(used))
    return needed & set(vocabulary)


def _commonest(vocabulary: Mapping[str, int]) -> list[str]:
    """The first tokens by id: learned vocabularies list what is frequent first."""
    real = [token for token in vocabulary if not UNUSED.fullmatch(token)]
    count = round(COMMON_RATIO * len(vocabulary))
    return sorted(real, key=lambda token: vocabulary[token])[:count]


def cut(document: Document, needed: set[str]) -> tuple[Document, dict[int, int]]:
    """The tokenizer with these tokens only, and the new id of every old one that is kept."""
    vocabulary = read_vocabulary(document)
    kept = sorted({vocabulary[token] for token in needed})
    ids = {old: new for new, old in enumerate(kept)}
    made = copy.deepcopy(document)
    model = made["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in ids]
        if model.get("unk_id") is not None:
            model["unk_id"] = ids[model["unk_id"]]
    else:
        model["vocab"] = {token: ids[i] for token, i in model["vocab"].items() if i in ids}
    if model["type"] == "BPE":
        model["merges"] = [
            merge for merge in model["merges"] if set(_merged(merge, model)) <= needed
        ]
    for token in made["added_tokens"]:
        token["id"] = ids[token["id"]]
    if made.get("padding"):
        made["padding"]["pad_id"] = ids[made["padding"]["pad_id"]]
    _renumber(made.get("post_processor"), ids)
    return made, ids


def _letters(token: str, model: Document) -> str:
    """The token without the marks of where in a word it stands."""
    token = token.removeprefix(model.get("continuing_subword_prefix") or "")
    return token.removesuffix(model.get("end_of_word_suffix") or "")


def _special_tokens(processor: Document | None) -> list[str]:
    """What a post-processor puts around a text."""
    if not processor:
        return []
    found = [token for each in processor.get("processors", []) for token in _special_tokens(each)]
    found += [processor[name][0] for name in ("cls", "sep") if name in processor]
    for token in processor.get("special_tokens", {}).values():
        found += token["tokens"]
    return found


def _renumber(processor: Document | None, ids: Mapping[int, int]) -> None:
    if not processor:
        return
    for each in processor.get("processors", []):
        _renumber(each, ids)
    for name in ("cls", "sep"):
        if name in processor:
            processor[name][1] = ids[processor[name][1]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [ids[i] for i in token["ids"]]


def _whole_words(_: Document, used: set[str]) -> set[str]:
    """WordLevel and WordPiece arrive at a token at once."""
    return used


def _unigram(model: Document, used: set[str]) -> set[str]:
    """The unknown token, and the piece with the lowest score: an unknown character costs so much
    more than that."""
    unknown = [] if model.get("unk_id") is None else [model["vocab"][model["unk_id"]][0]]
    lowest = min(model["vocab"], key=lambda entry: float(entry[1]))[0]
    return used | {WORD_START, lowest, *unknown}


def _byte_pairs(model: Document, used: set[str]) -> set[str]:
    """Every token that a merge on the way to a used one makes."""
    merges = [_merged(merge, model) for merge in model["merges"]]
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(merges)}
    needed = set(used)
    for token in used:
        parts = _first_parts(token, model)
        while True:
            pairs = [pair for pair in zip(parts, parts[1:], strict=False) if pair in ranks]
            if not pairs:
                break
            parts = _apply(parts, merges[ranks[min(pairs, key=ranks.__getitem__)]])
            needed.update(parts)
    return needed


def _first_parts(token: str, model: Document) -> list[str]:
    """The symbols that a token's merging begins with. A token without the end of a word stands
    inside it, one without the prefix at its beginning."""
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    is_inside = bool(prefix) and token.startswith(prefix)
    is_last = bool(suffix) and token.endswith(suffix)
    letters = list(_letters(token, model))
    parts = [
        letter if i == 0 and not is_inside else prefix + letter for i, letter in enumerate(letters)
    ]
    if is_last and parts:
        parts[-1] += suffix
    return parts


def _apply(parts: list[str], merge: tuple[str, str, str]) -> list[str]:
    left, right, whole = merge
    made: list[str] = []
    i = 0
    while i < len(parts):
        if parts[i : i + 2] == [left, right]:
            made.append(whole)
            i += 2
        else:
            made.append(parts[i])
            i += 1
    return made


def _merged(merge: str | list[str], model: Document) -> tuple[str, str, str]:
    """Left, right and what they become; older files write a merge as one string."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right, left + right.removeprefix(model.get("continuing_subword_prefix") or "")


# What of a tokenizer's own is needed to arrive at the used tokens, by its kind.
KINDS: dict[str, Callable[[Document, set[str]], set[str]]] = {
    "WordPiece": _whole_words,
    "WordLevel": _whole_words,
    "BPE": _byte_pairs,
    "Unigram": _unigram,
}
