"""A linear model over word and character n-grams by table, for the tiniest boxes and as the first
stage of a cascade. Needs numpy alone.

What is read of a text: NFKC, case folded (str.casefold), split at white space; its first max_tokens
words, and no more than 16 characters for each of them (scripts without spaces). N-grams: all 2, 3
and 4 characters in a row of " word word ", all runs of letters and digits, and each two of them in
a row. Those of a pair's second text are other n-grams than the same ones of the first.

linear.npz is a plain zip of .npy arrays, read without pickle; the same content, the same bytes:

    ngrams        UTF-8, one per line        table         int8 (n-grams, classes + dimensions)
    idf           float32 (n-grams,)         row_scale     float32 (n-grams,)
    bias          float32 (classes,)         column_scale  float32 (classes + dimensions,)
"""

import re
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, RowOutput

Floats = NDArray[np.float32]

WORD = re.compile(r"\w+")
WORD_MARK, SECOND_TEXT_MARK = "\x01", "\x02"
MOST_CHARACTERS_PER_WORD = 16
# Lone surrogates are no characters, but a text may hold them.
ENCODING = ("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Read:
    """The n-grams of a text or pair, as often as they stand there; how many words were read, and
    whether there were more."""

    ngrams: list[str]
    tokens: int
    truncated: bool


def read_text(asked: TextInput, max_tokens: int) -> Read:
    """The n-grams of a text or pair. A pair's longer text is cut first."""
    if isinstance(asked, str):
        words, truncated = _cut(_words(asked), max_tokens)
        return Read(list(_ngrams(words)), len(words), truncated)
    both = [_words(text) for text in asked]
    shares = _shares(len(both[0]), len(both[1]), max_tokens)
    (first, first_cut), (second, second_cut) = map(_cut, both, shares)
    marked = map(SECOND_TEXT_MARK.__add__, _ngrams(second))
    return Read([*_ngrams(first), *marked], len(first) + len(second), first_cut or second_cut)


def _words(text: str) -> list[str]:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return plain.casefold().split()


def _cut(words: list[str], most: int) -> tuple[list[str], bool]:
    """What is read of the words, and whether that is less than all."""
    kept = words[:most]
    room = MOST_CHARACTERS_PER_WORD * most
    line = " ".join(kept)
    if len(line) > room:
        return line[:room].split(), True
    return kept, len(kept) < len(words)


def _shares(first: int, second: int, most: int) -> tuple[int, int]:
    """How many words of each text may be read: the longer one's end is left out."""
    half = most // 2
    if first + second <= most:
        return most - second, most - first
    if first <= half:
        return first, most - first
    return (most - second, second) if second <= half else (most - half, half)


def _ngrams(words: Sequence[str]) -> Iterator[str]:
    """All in C: this is most of an answer's time."""
    line = " ".join(words)
    padded = f" {line} "
    twos = list(map(add, padded, padded[1:]))
    threes = list(map(add, twos, padded[2:]))
    fours = map(add, threes, padded[3:])
    ones = [WORD_MARK + word for word in WORD.findall(line)]
    return chain(twos, threes, fours, ones, map(add, ones, ones[1:]))


def weigh(counts: NDArray[np.float32], idf: Floats) -> Floats:
    """The weights of a text's n-grams, (n-grams,) each: (1 + log count) * idf, of length 1."""
    weights: Floats = np.asarray((1.0 + np.log(counts)) * idf, dtype=np.float32)
    length = float(np.sqrt(weights @ weights))
    return weights / np.float32(length) if length > 0.0 else weights


@dataclass(frozen=True)
class LinearArrays:
    """See the module. An n-gram's value in a column is table * row_scale * column_scale; the first
    columns are the classes', the others an embedding's dimensions."""

    ngrams: tuple[str, ...]
    table: NDArray[np.int8]
    idf: Floats
    row_scale: Floats
    column_scale: Floats
    bias: Floats

    def save(self, path: Path) -> None:
        """Write linear.npz, in place. The caller makes that safe."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        listed = "\n".join(self.ngrams).encode(*ENCODING)
        arrays["ngrams"] = np.frombuffer(listed, dtype=np.uint8)
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)


def load_arrays(path: Path) -> LinearArrays:
    """Read linear.npz. Raises EngineError where it is missing, damaged or something else."""
    try:
        # Opened here: numpy leaves a file open that is none of its own.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            arrays = {field.name: saved[field.name] for field in fields(LinearArrays)}
        listed = arrays.pop("ngrams").tobytes().decode(*ENCODING)
        made = LinearArrays(tuple(listed.split("\n")), **arrays)
        _check(made)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise EngineError(f"{path}: cannot be read ({problem}); copy it again") from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise EngineError(f"{path}: no linear model ({problem}); build it again") from None
    return made


def _check(made: LinearArrays) -> None:
    """Raises ValueError where the arrays do not belong together."""
    rows, columns = len(made.ngrams), len(made.column_scale)
    shapes = {
        "table": (np.int8, (rows, columns)),
        "idf": (np.float32, (rows,)),
        "row_scale": (np.float32, (rows,)),
        "column_scale": (np.float32, (columns,)),
        "bias": (np.float32, made.bias.shape[:1]),
    }
    for name, (kind, shape) in shapes.items():
        array = getattr(made, name)
        if array.dtype != kind or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {kind.__name__} {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    if not 0 < len(made.bias) < columns or len(set(made.ngrams)) != rows:
        raise ValueError(f"{len(made.bias)} classes, {columns} columns, {rows} n-grams")


class LinearModel:
    """linear.npz in memory, as small as in the file. Thread-safe: nothing changes."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        """Raises EngineError where the file does not load."""
        made = load_arrays(path)
        self._row_of = {ngram: row for row, ngram in enumerate(made.ngrams)}.get
        self._table, self._idf, self._row_scale = made.table, made.idf, made.row_scale
        self._column_scale, self._bias = made.column_scale, made.bias
        self._classes = len(made.bias)
        self._max_tokens = max_tokens

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        """The answer to one text or pair: logits (classes,) and a vector of length 1, of 0 where
        no n-gram of the text is known.

        Raises TextTooLong where it would be cut and `truncate` is false.
        """
        read = read_text(text, self._max_tokens)
        if read.truncated and not truncate:
            raise TextTooLong(f"the text has more words than the {self._max_tokens} it may have")
        output, unknown = self._output(read.ngrams)
        return Answered(output, read.tokens, read.truncated, unknown_tokens=unknown)

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        """One text at a time."""
        return [self.answer(text).output for text in texts]

    def _output(self, ngrams: Sequence[str]) -> tuple[RowOutput, int]:
        """The answer to a text's n-grams, and how many of them are unknown."""
        known = Counter(map(self._row_of, ngrams))
        unknown = known.pop(None, 0)
        rows = np.fromiter(known, np.intp, len(known))
        times = np.fromiter(known.values(), np.float32, len(known))
        weights = weigh(times, self._idf[rows]) * self._row_scale[rows]
        columns = weights @ self._table[rows].astype(np.float32) * self._column_scale
        embedding = columns[self._classes :]
        length = np.sqrt(embedding @ embedding)
        if length > 0.0:
            embedding /= length
        return RowOutput(columns[: self._classes] + self._bias, embedding), unknown
