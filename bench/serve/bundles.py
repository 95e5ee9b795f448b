"""The bundles that are served: banking77's merged model from bench.compress, as int8 and as the
cascade, each shipped by the loop's own stages; and the texts that are sent.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.compress.parts import CASCADE_BUDGET, CONFIDENCE
from bench.compress.parts import Setting as Compressed
from edgeloop.bundle import Bundle
from edgeloop.loop import STEPS, Run
from edgeloop.recipe import Compress
from edgeloop.rows import read_rows
from edgeloop.rundir import RunDir

BUILT = ("dataset", "adapter", "merged")
CANDIDATES = {"int8": ["onnx-int8"], "cascade": ["cascade-linear-int8"]}


@dataclass(frozen=True)
class Served:
    """A bundle by the candidate that it ships."""

    name: str
    bundle: Bundle

    @property
    def folder(self) -> Path:
        return self.bundle.path


def make_bundle(name: str, compressed: Compressed) -> Served:
    """Compress and ship what bench.compress trained; what is complete is left as it is."""
    teacher, folder = compressed.teacher(), RunDir(compressed.home / f"serve-{name}")
    for stage in BUILT:
        if not folder.folder(stage).exists():
            shutil.copytree(teacher.folder(stage), folder.folder(stage))
    budget = {**CASCADE_BUDGET, "confidence": CONFIDENCE} if name == "cascade" else {}
    if compressed.quick:
        budget = {"max_accuracy_drop": 0.1}  # its few rows show no more
    chosen = Compress.model_validate_json(
        json.dumps({"candidates": CANDIDATES[name], "budget": budget})
    )
    recipe = compressed.recipe.model_copy(update={"compress": chosen})
    run = Run(recipe, folder, print, extra=())
    for stage in (*BUILT, "candidates", "reference", "bundle"):
        STEPS[stage](run)
    if run.bundle is None:
        raise SystemExit(f"the {name} candidate does not keep to the budget")
    return Served(name, run.bundle)


def write_texts(compressed: Compressed, folder: Path) -> Path:
    """texts.txt, a text a line: the test rows, in an order that mixes the lengths."""
    run = compressed.home / "serve-int8" / "dataset"
    texts = [" ".join(str(row.input).split()) for row in read_rows(run, "test")]
    path = folder / "texts.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def write_bodies(texts: Path, path: Path, shape: str) -> Path:
    """One JSON request a line: "inputs" or "oip"."""
    lines = []
    for text in texts.read_text(encoding="utf-8").splitlines():
        body: dict[str, object] = {"inputs": text}
        if shape == "oip":
            tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
            body = {"inputs": [tensor]}
        lines.append(json.dumps(body))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
