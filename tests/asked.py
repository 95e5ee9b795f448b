"""Requests and answers by hand, for the tests of the dialects."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.records import Manifest
from edgeloop.runtime import RowOutput
from serve.dialects.dialect import MAX_BATCH_TEXTS, Asked, Dialect
from serve.jobs import Reader, Scored
from serve.refused import Refused
from tests import tiny

LABELS = ("billing", "delivery")
DIGEST = "0123456789abcdef" * 4


def bundle_of(manifest: Manifest) -> Bundle:
    """Of no files."""
    return Bundle(Path("bundle"), manifest, DIGEST)


SINGLE = bundle_of(tiny.make_manifest(labels=LABELS))
PAIRS = bundle_of(tiny.make_manifest(labels=LABELS, text_pair=True))
MULTI = bundle_of(tiny.make_manifest("multi-label-classification", LABELS))
TAGGER = bundle_of(tiny.make_manifest("token-classification", LABELS))
EMBEDDER = bundle_of(tiny.make_manifest("text-embedding", ()))


def scored(logits: Any, bundle: Bundle = SINGLE, text: str = "t", tokens: int = 3) -> Scored:
    """An answer of a model with these logits; a tagger's tokens are single characters."""
    values = np.array(logits, dtype=np.float32)
    offsets = tuple((i, i + 1) for i in range(len(text)))
    output = RowOutput(values, np.array([0.6, 0.8], np.float32), offsets)
    manifest = bundle.manifest
    reader = Reader(manifest.task, manifest.labels, manifest.abstain_below)
    answer, probabilities, abstained = reader.read(output)
    return Scored(text, tokens, output, answer, probabilities, abstained, 0.0, 0.0)


def parse(
    dialect: Dialect[Any],
    document: Any,
    bundle: Bundle = SINGLE,
    headers: dict[bytes, bytes] | None = None,
    **names: str,
) -> Any:
    """What a dialect reads in a document, or in bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return dialect.parse(Asked(body, headers or {}, names), bundle, MAX_BATCH_TEXTS)


def refusal(ask: Callable[[], object]) -> Refused:
    """What is refused."""
    with pytest.raises(Refused) as caught:
        ask()
    return caught.value


def status_of(ask: Callable[[], object]) -> int:
    """200, or the status of the refusal."""
    try:
        ask()
    except Refused as problem:
        return problem.status
    return 200
