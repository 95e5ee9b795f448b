"""A run folder with all that `ship` reads, around a tiny model of any kind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.recipe import Data, Recipe
from edgeloop.records import Adapter, Dataset
from edgeloop.records_compress import Certificate
from edgeloop.rundir import RunDir, digest_of, list_files
from edgeloop.ship import ship
from tests import certified, tiny

KIND = "onnx-fp32"
ODD_TEXT = "my invoice\u2028is \u00e4 late\x85parcel\r\ntoday"


@dataclass(frozen=True)
class Made:
    """A run folder with all that `ship` reads."""

    run: RunDir
    recipe: Recipe
    kind: str = KIND

    def ship(self, seed: int = 0) -> Bundle:
        """With another adapter for every seed."""
        return ship(
            self.recipe,
            dataset(self.run),
            adapter(seed),
            certificate(self.run, self.kind),
            tiny.no_reference(),
            self.run,
        )


def make_run(
    root: Path, kind: str = KIND, make: Callable[[Path], object] = tiny.make_model
) -> Made:
    """A run in `root` whose chosen candidate `make` writes."""
    make(root / "candidates" / kind)
    (root / "reference").mkdir()
    (root / "reference" / REFERENCE).write_bytes(b"arrays")
    (root / "dataset").mkdir()
    texts = [*tiny.sentences(5, seed=3), (ODD_TEXT, "billing")]
    lines = [
        json.dumps({"id": f"r{i}", "text": text, "label": label}, ensure_ascii=False)
        for i, (text, label) in enumerate(texts)
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    (root / "dataset" / "test.jsonl").write_bytes(data)
    recipe = Recipe(name="tiny", base="base", data=Data(files=(Path("/data/rows.csv"),)))
    return Made(RunDir(root), recipe, kind)


def dataset(run: RunDir) -> Dataset:
    """The run's rows."""
    return Dataset(
        inputs_digest="0" * 64,
        files=list_files(run.folder("dataset")),
        digest="d" * 64,
        labels=tiny.LABELS,
        rows={"train": 40, "validation": 5, "reference": 5, "test": 6},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


def adapter(seed: int) -> Adapter:
    """Another one for every seed."""
    return Adapter(
        inputs_digest="0" * 64,
        files=(),
        method="lora",
        metric="accuracy",
        base="base",
        base_digest=digest_of(seed),
        dataset_digest="d" * 64,
        labels=tiny.LABELS,
        trainable_parameters=1,
        total_parameters=2,
        epochs=(),
        best_epoch=1,
        seed=seed,
        seconds=1.0,
    )


def certificate(run: RunDir, kind: str = KIND) -> Certificate:
    """Of the one candidate."""
    measurement, accuracy, _ = tiny.figures()
    candidate = certified.candidate(
        kind,
        files=list_files(run.folder("candidates") / kind),
        measurement=measurement,
        accuracy=accuracy,
        test_accuracy=1.0,
    )
    return certified.certificate(kind, (candidate,))
