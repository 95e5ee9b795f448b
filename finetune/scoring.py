"""What a merged model, or a frozen base, answers: in fp32, batched by length, in torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from edgeloop.rows import TextInput
from edgeloop.runtime import RowOutput
from finetune.batches import Batch, Encoded, Sequences, make_batch
from finetune.encode import tokenize
from finetune.encoder import load_config, load_encoder, quiet_transformers
from finetune.merged import load_merged
from finetune.model import Embedder, TaskModel

BATCH_ROWS = 64


class Scorer:
    """A model with its tokenizer, loaded once. `with_states`: the logits are the hidden states,
    (tokens, hidden)."""

    def __init__(
        self, model: TaskModel, tokenizer_folder: Path, max_tokens: int, with_states: bool = False
    ) -> None:
        self._model = model.eval()
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
        self._max_tokens = max_tokens
        self._with_states = with_states

    def __call__(self, inputs: Sequence[TextInput]) -> list[RowOutput]:
        """One output per input, in their order."""
        sequences = tokenize(inputs, self._tokenizer, self._max_tokens)
        encoded = unlabelled(sequences)
        order = sorted(range(len(inputs)), key=encoded.tokens)
        found: dict[int, RowOutput] = {}
        with torch.inference_mode():
            for start in range(0, len(order), BATCH_ROWS):
                chosen = order[start : start + BATCH_ROWS]
                rows = _rows(self._model, make_batch(encoded, chosen), self._with_states)
                for i, (logits, embedding) in zip(chosen, rows, strict=True):
                    found[i] = RowOutput(logits, embedding, sequences.offsets[i])
        return [found[i] for i in range(len(inputs))]


def merged_scorer(folder: Path, task: str, labels: Sequence[str], max_tokens: int) -> Scorer:
    """Answers as the merged model in the folder does."""
    with quiet_transformers():
        return Scorer(load_merged(folder, task, labels), folder, max_tokens)


def frozen_scorer(base_folder: Path, max_tokens: int) -> Scorer:
    """What a base makes of texts as it is: `embedding` the pooled unit vector, `logits` the hidden
    states."""
    with quiet_transformers():
        encoder = load_encoder(base_folder, load_config(base_folder), torch.float32)
        return Scorer(Embedder(encoder, 0), base_folder, max_tokens, with_states=True)


def score_merged(
    folder: Path, task: str, labels: Sequence[str], inputs: Sequence[TextInput], max_tokens: int
) -> list[RowOutput]:
    """A merged folder's answers, in the order of the inputs."""
    return merged_scorer(folder, task, labels, max_tokens)(inputs)


def unlabelled(sequences: Sequences) -> Encoded:
    """Rows of one sequence each, with nothing to learn."""
    every = [[i] for i in range(len(sequences))]
    return Encoded("text-embedding", sequences, every, every)


def _rows(
    model: TaskModel, batch: Batch, with_states: bool
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    states = model.states(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    embeddings = model.pooled(states, batch.attention_mask).numpy()
    if with_states:
        outputs = states
    elif model.head is None:
        outputs = torch.zeros(len(embeddings), 0)
    else:
        outputs = model.answer(states, batch.attention_mask)
    lengths = batch.attention_mask.sum(dim=1).tolist()
    logits = outputs.numpy()
    if logits.ndim == 2:
        return list(zip(logits, embeddings, strict=True))
    return [
        (row[:length].copy(), embedding)
        for row, length, embedding in zip(logits, lengths, embeddings, strict=True)
    ]
