"""How a model.onnx with its tokenizer.json is loaded and run. Whoever wants to ask a model that may
be of any kind opens it through edgeloop.models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.rows import TextInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NEEDED_INPUTS = {"input_ids", "attention_mask"}
KNOWN_INPUTS = NEEDED_INPUTS | {"token_type_ids"}
LOGITS, EMBEDDING = "logits", "embedding"
ONLY_STAGE = "model"
CUDA = "CUDAExecutionProvider"
PROVIDERS = (CUDA, "CPUExecutionProvider")
UNKNOWN_TOKENS = ("<unk>", "[UNK]")
OUTPUTS = [LOGITS, EMBEDDING]  # a model of task text-embedding has no logits
# onnxruntime 1.32's fused SkipLayerNormalization takes 51 us where Add and LayerNormalization take
# 20 (MiniLM, one short text, AVX-512): without the fusion int8 answers 9% sooner, fp32 6%.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch, padded to its longest row: (batch, seq) int64; per row how many of
    them are real, whether the text was longer and was cut, where it is asked for each real token's
    characters in the first text (start == end for a special token and for a second text's), and how
    many tokens are the tokenizer's unknown one."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    tokens: tuple[int, ...]
    truncated: tuple[bool, ...]
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    unknown: tuple[int, ...] = ()

    def feed(self) -> dict[str, NDArray[np.int64]]:
        """Everything that a model may want as its input, by name."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
        }


@dataclass(frozen=True)
class Output:
    """logits (batch, classes), or (batch, seq, tags) of a tagger, or (batch, 0) where the task has
    none; embedding (batch, hidden); both float32."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RowOutput:
    """One row of an Output without its padding: logits (classes,) or (tokens, tags) or (0,),
    embedding (hidden,); `offsets` (tokens,) of a tagger alone."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    offsets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's answer to one text or pair: how many tokens of it were read, whether it had more,
    which stage answered ("model" where there is only one), and how many of the tokens the model
    does not know (of a linear model, n-grams)."""

    output: RowOutput
    tokens: int
    truncated: bool
    stage: str = ONLY_STAGE
    unknown_tokens: int = 0


class Model(Protocol):
    """What answers texts and pairs, each alone. Thread-safe."""

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        """The answer to one text or pair. What is longer than the model's most tokens is cut.

        Raises TextTooLong, before any inference, where it would be and `truncate` is false;
        EngineError where the model cannot answer.
        """
        ...

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        """One text at a time, so that no answer depends on the company it was scored in."""
        ...


def split_rows(encoded: Encoded, output: Output) -> list[RowOutput]:
    """The rows of a batch, each as if it had come alone."""
    is_tagger = output.logits.ndim == 3
    return [
        RowOutput(
            output.logits[i][encoded.attention_mask[i] == 1] if is_tagger else output.logits[i],
            output.embedding[i],
            encoded.offsets[i],
        )
        for i in range(len(encoded.tokens))
    ]


def load_tokenizer(path: Path, max_tokens: int) -> "Tokenizer":
    """A tokenizer.json that cuts at max_tokens and pads a batch to its longest row.

    Raises what the tokenizers library raises, which has no type of its own for it.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    padding = tokenizer.padding
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=int(padding["pad_id"]) if padding else 0)
    return tokenizer


def providers() -> list[str]:
    """Those of PROVIDERS that this onnxruntime has: CUDA's only with onnxruntime-gpu."""
    import onnxruntime as ort

    return [name for name in PROVIDERS if name in ort.get_available_providers()]


class OnnxModel:
    """An ONNX Runtime session with its tokenizer. Thread-safe: ONNX Runtime's run() is."""

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int, threads: int = 1) -> None:
        """Raises EngineError where either file does not load."""
        # Imported here: a box with a linear model alone may do without it, and without its memory.
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Texts have every length: an arena keeps the largest buffers of each for ever.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(model),
                options,
                providers=providers(),
                disabled_optimizers=SLOWER_FUSIONS,
            )
            self._tokenizer = load_tokenizer(tokenizer, max_tokens)
        except Exception as problem:  # both libraries raise their own, unexported types
            raise EngineError(f"{model} with {tokenizer}: does not load ({problem})") from problem
        self._inputs = {node.name for node in self._session.get_inputs()}
        if not NEEDED_INPUTS <= self._inputs <= KNOWN_INPUTS:
            raise EngineError(f"{model}: wants {sorted(self._inputs)}, not {sorted(KNOWN_INPUTS)}")
        names = {node.name for node in self._session.get_outputs()}
        if EMBEDDING not in names or not names <= set(OUTPUTS):
            raise EngineError(f"{model}: has the outputs {sorted(names)}, needs {OUTPUTS}")
        self._outputs = [name for name in OUTPUTS if name in names]
        self._unknown_id = unknown_id(self._tokenizer)
        # Only a tagger's answer is about characters.
        self._with_offsets = any(
            node.name == LOGITS and len(node.shape) == 3 for node in self._session.get_outputs()
        )

    def encode(self, texts: Sequence[TextInput]) -> Encoded:
        """Tokenize texts or pairs of texts; what is longer than max_tokens is cut at the end of the
        longer text."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return read_encodings(encodings, self._with_offsets, self._unknown_id)

    def run(self, encoded: Encoded) -> Output:
        """One forward pass over the batch. Raises EngineError where the model cannot answer."""
        every = encoded.feed()
        feed = {name: every[name] for name in self._inputs}
        try:
            outputs = dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        except Exception as problem:  # ONNX Runtime's exceptions have no common base of their own
            shape = encoded.input_ids.shape
            raise EngineError(
                f"the model does not answer a batch of shape {shape} ({problem})"
            ) from problem
        none = np.zeros((len(encoded.tokens), 0), dtype=np.float32)
        return Output(outputs.get(LOGITS, none), outputs[EMBEDDING])

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        """The answer to one text or pair.

        Raises TextTooLong where it would be cut and `truncate` is false, EngineError where the
        model cannot answer.
        """
        encoded = self.encode([text])
        if encoded.truncated[0] and not truncate:
            raise TextTooLong(f"the text has more tokens than the {encoded.tokens[0]} it may have")
        (output,) = split_rows(encoded, self.run(encoded))
        return Answered(
            output, encoded.tokens[0], encoded.truncated[0], unknown_tokens=encoded.unknown[0]
        )

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        """One text at a time, so that no answer depends on the company it was scored in
        (dynamic int8 takes one activation scale for the whole batch)."""
        return [self.answer(text).output for text in texts]


def unknown_id(tokenizer: "Tokenizer") -> int | None:
    """The id of the token for what a tokenizer does not know; None where it knows every byte."""
    # A Unigram model names its unknown token by number, and only in its file.
    own = getattr(tokenizer.model, "unk_token", None)
    named = (own,) if own else UNKNOWN_TOKENS
    ids = (tokenizer.token_to_id(token) for token in named)
    return next((found for found in ids if found is not None), None)


def read_encodings(
    rows: Sequence[Any], with_offsets: bool = True, unknown: int | None = None
) -> Encoded:
    """A batch from the tokenizers library's own encodings, which are padded to one length.
    `unknown`: the id of the unknown token, where there is one."""
    mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
    ids = [row.ids for row in rows]
    return Encoded(
        input_ids=np.array(ids, dtype=np.int64),
        attention_mask=mask,
        token_type_ids=np.array([row.type_ids for row in rows], dtype=np.int64),
        tokens=tuple(mask.sum(axis=1).tolist()),
        truncated=tuple(bool(row.overflowing) for row in rows),
        offsets=tuple(_offsets(row) if with_offsets else () for row in rows),
        unknown=tuple(0 if unknown is None else own.count(unknown) for own in ids),
    )


def _offsets(row: Any) -> tuple[tuple[int, int], ...]:
    """Characters per real token; those of special tokens and of a second text are empty."""
    return tuple(
        offset if sequence == 0 else (0, 0)
        for offset, sequence, real in zip(
            row.offsets, row.sequence_ids, row.attention_mask, strict=True
        )
        if real
    )


def best_of(numbers: NDArray[np.float64]) -> int:
    """The place of the largest of (classes,), the first one of several. numpy's argmax gives up
    Python's lock even for so few: on a busy server it comes back a tenth of a millisecond later."""
    listed: list[float] = numbers.tolist()
    return listed.index(max(listed))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Class probabilities along the last axis, in float64."""
    # In place and by the ufuncs themselves: a server does this for every text.
    found = logits.astype(np.float64)
    found -= np.maximum.reduce(found, axis=-1, keepdims=True)
    np.exp(found, out=found)
    found /= np.add.reduce(found, axis=-1, keepdims=True)
    return found
