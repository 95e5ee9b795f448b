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


def score_merged(
    folder: Path, task: str, labels: Sequence[str], inputs: Sequence[TextInput], max_tokens: int
) -> list[RowOutput]:
    """A merged folder's answers, in the order of the inputs."""
    with quiet_transformers():
        return score(load_merged(folder, task, labels), folder, inputs, max_tokens)


def hidden_states(folder: Path, inputs: Sequence[TextInput], max_tokens: int) -> list[RowOutput]:
    """What a frozen base makes of the inputs: `embedding` is the pooled unit vector (hidden,),
    `logits` are the hidden states (tokens, hidden)."""
    with quiet_transformers():
        model = Embedder(load_encoder(folder, load_config(folder), torch.float32), 0)
        return score(model, folder, inputs, max_tokens, with_states=True)


def score(
    model: TaskModel,
    folder: Path,
    inputs: Sequence[TextInput],
    max_tokens: int,
    with_states: bool = False,
) -> list[RowOutput]:
    """A model's answers, tokenized by the folder's tokenizer; with_states: hidden states in the
    place of the logits."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    sequences = tokenize(inputs, tokenizer, max_tokens)
    encoded = unlabelled(sequences)
    order = sorted(range(len(inputs)), key=encoded.tokens)
    found: dict[int, RowOutput] = {}
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_ROWS):
            chosen = order[start : start + BATCH_ROWS]
            rows = _rows(model, make_batch(encoded, chosen), with_states)
            for i, (logits, embedding) in zip(chosen, rows, strict=True):
                found[i] = RowOutput(logits, embedding, sequences.offsets[i])
    return [found[i] for i in range(len(inputs))]


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
