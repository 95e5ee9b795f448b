"""Texts through the models that ship: embeddings and logits of int8 ONNX files, computed once and
kept in a folder by the digest of the model and the texts.

`base` is the recipe's base MiniLM as a text-embedding model ships; `fine_tuned` is banking77's
bundle from bench.serve, made where it is not there.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.compress.parts import Setting as Compressed
from bench.finetune.data import BASE
from bench.serve.bundles import make_bundle
from compress.export import export_merged
from compress.merged import load_merged
from compress.quantize.dynamic import dynamic_int8
from compress.source import Source
from edgeloop.bundle import MANIFEST, MODEL, TOKENIZER
from edgeloop.models import open_model
from edgeloop.rundir import digest_file, digest_of
from finetune.base import resolve_base

MAX_TOKENS = 128
SAY_SECONDS = 20.0

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Embedder:
    """A model's folder, its classes (an embedding model has none), where its answers are kept."""

    name: str
    folder: Path
    labels: tuple[str, ...]
    cache: Path

    def embed(self, texts: Sequence[str]) -> tuple[Vectors, Vectors]:
        """embeddings (n, hidden) and logits (n, classes), one text at a time as when served."""
        files = {name: digest_file(self.folder / name) for name in (MODEL, TOKENIZER)}
        path = self.cache / f"{digest_of([files, list(texts)])[:16]}.npz"
        if not path.exists():
            self._write(texts, path)
        with np.load(path) as stored:
            return stored["embeddings"], stored["logits"]

    def _write(self, texts: Sequence[str], path: Path) -> None:
        model = open_model(self.folder, MAX_TOKENS)
        embeddings, logits, said = [], [], time.monotonic()
        for done, text in enumerate(texts):
            (output,) = model.score([text])
            embeddings.append(output.embedding)
            logits.append(output.logits)
            if time.monotonic() - said > SAY_SECONDS:
                said = time.monotonic()
                print(f"  {self.name}: {done} of {len(texts)} texts", file=sys.stderr, flush=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial.npz")
        np.savez(aside, embeddings=np.stack(embeddings), logits=np.stack(logits))
        aside.replace(path)


def base(home: Path, texts: Sequence[str]) -> Embedder:
    """The base as int8; `texts`, none of them of a stream, steady the quantization."""
    folder = home / "base-int8"
    if not (folder / TOKENIZER).exists():
        source, fp32 = resolve_base(BASE).folder, home / "base-fp32.onnx"
        home.mkdir(parents=True, exist_ok=True)
        export_merged(load_merged(source, (), "text-embedding"), fp32)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        dynamic_int8(Source(fp32, source / TOKENIZER, texts, MAX_TOKENS), folder)
        fp32.unlink()
    return Embedder("base", folder, (), home / "embeddings")


def fine_tuned(home: Path, compressed: Compressed) -> Embedder:
    """banking77 fine-tuned on 9,003 of its train rows (1,000 more chose the epoch)."""
    shipped = compressed.home / "serve-int8" / "bundle"
    if not (shipped / MANIFEST).exists():
        make_bundle("int8", compressed)
    labels = json.loads((shipped / MANIFEST).read_text(encoding="utf-8"))["labels"]
    return Embedder("fine-tuned", shipped.resolve(), tuple(labels), home / "embeddings")
