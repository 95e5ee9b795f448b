"""A model.onnx that is not the merged model does not get past the parity check."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tokenizers import Tokenizer, normalizers

from compress.export import export_merged
from compress.merged import load_merged
from compress.parity import Expected, check_parity
from edgeloop.errors import ExportError
from edgeloop.records import Parity
from edgeloop.runtime import OnnxModel
from tests import tiny
from tests.merged_run import MAX_TOKENS, make_merged

TEXTS = [text for text, _ in tiny.sentences(12, seed=3)]

Check = Callable[[Path, Path], Parity]


@pytest.fixture(scope="module")
def exported(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    make_merged(tiny_bert, folder)
    export_merged(load_merged(folder, tiny.LABELS), folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def check(exported: Path) -> Check:
    merged = load_merged(exported, tiny.LABELS)
    encoded = [merged.encode(text, MAX_TOKENS) for text in TEXTS]
    reference = merged.answer(encoded, lambda done: None)

    def compare(model: Path, tokenizer: Path) -> Parity:
        runtime = OnnxModel(model, tokenizer, MAX_TOKENS)
        return check_parity(merged, runtime, Expected(TEXTS, encoded, reference), model)

    return compare


def tampered(source: Path, target: Path, name: str, change: float) -> Path:
    """A copy in which one number of the initializer that ends with `name` is changed."""
    model = onnx.load(source)
    (weight,) = [w for w in model.graph.initializer if w.name.endswith(name)]
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += change
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, target)
    return target


def test_the_untouched_export_passes(exported: Path, check: Check) -> None:
    parity = check(exported / "model.onnx", exported / "tokenizer.json")
    assert parity.rows == len(TEXTS)
    assert parity.max_abs_difference <= parity.tolerance
    assert parity.argmax_agreement_ratio == 1.0


@pytest.mark.parametrize("change", [0.01, np.nan])
def test_one_changed_weight_is_found(
    exported: Path, check: Check, tmp_path: Path, change: float
) -> None:
    model = tampered(exported / "model.onnx", tmp_path / "model.onnx", "classifier.weight", change)
    with pytest.raises(ExportError, match=r"differs from the merged model by (0\.0\d+|nan)"):
        check(model, exported / "tokenizer.json")


def test_an_embedding_of_another_model_is_found(
    exported: Path, check: Check, tmp_path: Path
) -> None:
    """The last layer norm feeds the embedding; the logits see only its first token."""
    model = onnx.load(exported / "model.onnx")
    mean = [n for n in model.graph.node if "embedding" in n.output][0]
    mean.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], ["embedding"]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="differs from the merged model"):
        check(tmp_path / "model.onnx", exported / "tokenizer.json")


def test_a_tokenizer_that_cuts_texts_differently_is_found(
    exported: Path, check: Check, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Replace("a", "b")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ExportError, match=r"tokenizer\.json gives"):
        check(exported / "model.onnx", tmp_path / "tokenizer.json")
