"""What a candidate is made from: a model that works, and the texts that its making may look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.rows import TextInput
from edgeloop.runtime import Encoded, load_tokenizer, read_encodings

Feed = dict[str, NDArray[np.int64]]

CALIBRATION_ROWS = 128


@dataclass(frozen=True)
class Source:
    """model.onnx in fp32 with its tokenizer.json. `texts` are what the model reads of the training
    rows, and the recipe's unlabelled texts; no row that a candidate is judged on is among them."""

    model: Path
    tokenizer: Path
    texts: Sequence[TextInput]
    max_tokens: int

    def encoded(self, most: int = CALIBRATION_ROWS) -> list[Encoded]:
        """At most `most` of the texts, spread evenly over them, each a batch of its own."""
        chosen = np.linspace(0, len(self.texts) - 1, min(most, len(self.texts))).round()
        tokenizer = load_tokenizer(self.tokenizer, self.max_tokens)
        return [read_encodings(tokenizer.encode_batch([self.texts[int(i)]])) for i in chosen]

    def feeds(self, model: onnx.ModelProto, most: int = CALIBRATION_ROWS) -> list[Feed]:
        """The same as the model's inputs, one text at a time."""
        names = {value.name for value in model.graph.input}
        return [
            {name: values for name, values in encoded.feed().items() if name in names}
            for encoded in self.encoded(most)
        ]

    def made(self, folder: Path) -> "Source":
        """The model that a step wrote into `folder`, for the step that follows it."""
        return replace(self, model=folder / MODEL, tokenizer=folder / TOKENIZER)


# Writes model.onnx and tokenizer.json into an empty folder, made from the source.
Step = Callable[[Source, Path], None]
