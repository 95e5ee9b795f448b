"""Every quantizing step on every architecture, by both exporters: close to fp32, really in
integers, smaller, and the same bytes each time.
"""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from compress.lint import lint_kernels
from compress.quantize.calibrate import METHODS
from compress.quantize.dynamic import dynamic_int8
from compress.quantize.half import half_precision, half_precision_on_cuda
from compress.quantize.mixed import MOST_KEPT_RATIO, QUIET, mixed_int8
from compress.quantize.nbits import weight_only_4, weight_only_8
from compress.quantize.sensitivity import make_probe
from compress.quantize.static import (
    static_int8_entropy,
    static_int8_minmax,
    static_int8_percentile,
)
from compress.source import Source, Step
from compress.trim import trim_vocabulary
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.runtime import CUDA, OnnxModel, providers
from tests import tiny
from tests.exported import EXPORTS, MAX_TOKENS, with_texts

# By the step: the least signal to noise, in dB, of the logits of tiny random models.
STEPS: dict[str, tuple[Step, float]] = {
    "dynamic": (dynamic_int8, 25.0),
    "minmax": (static_int8_minmax, 25.0),
    "percentile": (static_int8_percentile, 25.0),
    "entropy": (static_int8_entropy, 22.0),
    "w8": (weight_only_8, 25.0),
    "w4": (weight_only_4, 8.0),
    "fp16": (half_precision, 50.0),
    "mixed": (mixed_int8, 25.0),
}
CALIBRATED = ("minmax", "percentile", "entropy", "mixed")
HELD_OUT = [text for text, _ in tiny.sentences(20, seed=9)]


@pytest.fixture(scope="session")
def source(encoders: dict[tuple[str, str], Source]) -> Source:
    return encoders["bert", "torchscript"]


def logits(source: Source) -> NDArray[np.float32]:
    model = OnnxModel(source.model, source.tokenizer, MAX_TOKENS)
    return np.stack([row.logits for row in model.score(HELD_OUT)])


def weight_bytes(source: Source) -> int:
    """Without the nodes, which weigh as much as the weights of so small a model."""
    return sum(weight.ByteSize() for weight in onnx.load(source.model).graph.initializer)


def signal_to_noise_db(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    noise = float(((found - expected) ** 2).sum())
    return 10.0 * float(np.log10((expected**2).sum() / noise))


def make(step: Step, source: Source, folder: Path) -> Source:
    folder.mkdir(parents=True)
    step(source, folder)
    return source.made(folder)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("export", EXPORTS, ids="-".join)
def test_a_step_keeps_the_answers_of_an_architecture(
    encoders: dict[tuple[str, str], Source], tmp_path: Path, export: tuple[str, str], name: str
) -> None:
    step, least = STEPS[name]
    source = encoders[export]
    made = make(step, source, tmp_path / "made")
    assert signal_to_noise_db(logits(source), logits(made)) >= least
    assert weight_bytes(made) < weight_bytes(source)
    assert made.tokenizer.read_bytes() == source.tokenizer.read_bytes()
    lint = lint_kernels(made.model)
    assert lint.warnings == ()
    assert lint.qdq_islands == 0
    if name != "fp16":
        assert lint.integer_matmuls > lint.float_matmuls


@pytest.mark.parametrize("name", STEPS)
def test_the_same_source_gives_the_same_bytes_and_no_chatter(
    source: Source, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = list(logging.getLogger().handlers)
    one, two = (make(STEPS[name][0], source, tmp_path / folder) for folder in "ab")
    assert one.model.read_bytes() == two.model.read_bytes()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize("name", STEPS)
def test_a_step_takes_what_trimming_made(source: Source, tmp_path: Path, name: str) -> None:
    trimmed = make(trim_vocabulary, source, tmp_path / "trimmed")
    made = make(STEPS[name][0], trimmed, tmp_path / "made")
    assert signal_to_noise_db(logits(source), logits(made)) >= STEPS[name][1]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(
    "task", ["multi-label-classification", "token-classification", "text-embedding"]
)
def test_a_step_takes_any_task(tmp_path: Path, task: str, name: str) -> None:
    tiny.make_model(tmp_path / "tiny", task=task)
    texts = [text for text, _ in tiny.sentences(30)]
    source = Source(tmp_path / "tiny" / MODEL, tmp_path / "tiny" / TOKENIZER, texts, MAX_TOKENS)
    if name == "mixed":  # one MatMul at most: there is nothing to mix
        with pytest.raises(ExportError, match="dynamic int8 again"):
            make(STEPS[name][0], source, tmp_path / "made")
        return
    made = make(STEPS[name][0], source, tmp_path / "made")
    old, new = (OnnxModel(s.model, s.tokenizer, MAX_TOKENS).score(texts) for s in (source, made))
    for a, b in zip(old, new, strict=True):
        assert a.logits.shape == b.logits.shape
        assert np.dot(a.embedding, b.embedding) >= 0.95 * np.dot(a.embedding, a.embedding)


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_on_three_rows_is_refused_with_how_many_it_takes(
    source: Source, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ExportError, match="has 3 texts, 16 are needed"):
        make(STEPS[name][0], with_texts(source, 3), tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("name", ["minmax", "percentile", "entropy", "w4"])
def test_static_and_four_bit_answers_do_not_depend_on_the_batch(
    source: Source, tmp_path: Path, name: str
) -> None:
    made = make(STEPS[name][0], source, tmp_path / "made")
    model = OnnxModel(made.model, made.tokenizer, MAX_TOKENS)
    together = model.run(model.encode(HELD_OUT)).logits
    np.testing.assert_allclose(together, logits(made), atol=1e-4)


def test_the_three_calibrations_differ_in_their_scales_alone(
    source: Source, tmp_path: Path
) -> None:
    kinds = []
    for name in METHODS:
        made = make(STEPS[name][0], source, tmp_path / name)
        kinds.append([node.op_type for node in onnx.load(made.model).graph.node])
    assert kinds[0] == kinds[1] == kinds[2]
    files = {(tmp_path / name / MODEL).read_bytes() for name in METHODS}
    assert len(files) == len(METHODS)


def test_embedding_tables_are_not_left_in_float(source: Source, tmp_path: Path) -> None:
    for name in ("dynamic", "minmax", "w8", "w4", "mixed"):
        made = make(STEPS[name][0], source, tmp_path / name)
        floats = [
            weight.name
            for weight in onnx.load(made.model).graph.initializer
            if weight.data_type == onnx.TensorProto.FLOAT and weight.dims[:1] == [80]
        ]
        assert all("scale" in name for name in floats)


# -- sensitivity -----------------------------------------------------------------------------------


def with_an_outlier(source: Source, folder: Path) -> Source:
    """One MatMul's weights far too coarse for int8: one value of every column is huge, and the
    activation that meets it is none."""
    folder.mkdir()
    model = onnx.load(source.model)
    (chosen,) = [n for n in model.graph.node if n.op_type == "MatMul" and "layer.1/inter" in n.name]
    (weight,) = [w for w in model.graph.initializer if w.name == chosen.input[1]]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] = 300.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    keep = np.ones(values.shape[0], dtype=np.float32)
    keep[0] = 0.0
    model.graph.initializer.append(onnx.numpy_helper.from_array(keep, "keep"))
    masked = onnx.helper.make_node("Mul", [chosen.input[0], "keep"], ["masked"])
    position = list(model.graph.node).index(chosen)
    chosen.input[0] = "masked"
    model.graph.node.insert(position, masked)
    onnx.save(model, folder / MODEL)
    (folder / TOKENIZER).write_bytes(source.tokenizer.read_bytes())
    return source.made(folder)


def test_the_matmul_that_int8_ruins_stays_in_fp32(source: Source, tmp_path: Path) -> None:
    ruined = with_an_outlier(source, tmp_path / "ruined")
    plain = make(dynamic_int8, ruined, tmp_path / "plain")
    mixed = make(mixed_int8, ruined, tmp_path / "mixed")
    expected = logits(ruined)
    gained = signal_to_noise_db(expected, logits(mixed)) - signal_to_noise_db(
        expected, logits(plain)
    )
    assert gained > 6.0
    kept = [node for node in onnx.load(mixed.model).graph.node if node.op_type == "MatMul"]
    assert "masked" in {node.input[0] for node in kept}
    lint = lint_kernels(mixed.model)
    assert 1 <= lint.float_matmuls <= MOST_KEPT_RATIO * 14


def test_the_probe_of_all_switches_off_is_the_model_and_leaves_it_alone(source: Source) -> None:
    model = onnx.load(source.model)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or str(number)
    before = model.SerializeToString()
    feeds = source.feeds(model, 8)
    probe = make_probe(model, feeds)
    assert model.SerializeToString() == before
    runtime = OnnxModel(source.model, source.tokenizer, MAX_TOKENS)
    alone = [runtime.run(encoded).logits[0] for encoded in source.encoded(8)]
    np.testing.assert_allclose(probe.expected(), np.concatenate(alone), atol=1e-5)
    count = len(probe.names)
    assert count == 12
    expected = probe.expected()
    each = [probe.noise(expected, np.arange(count) == i) for i in range(count)]
    everything = probe.noise(expected, np.ones(count, dtype=np.bool_))
    assert all(0.0 < noise < everything + QUIET for noise in each)


@pytest.mark.skipif(CUDA in providers(), reason="this onnxruntime has CUDA's provider")
def test_fp16_is_left_out_where_nothing_gains_from_it(
    encoders: dict[tuple[str, str], Source], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="fp16 gains only with CUDA"):
        half_precision_on_cuda(encoders[EXPORTS[0]], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif(CUDA not in providers(), reason="this onnxruntime has no CUDA provider")
def test_fp16_answers_as_fp32_does_on_a_gpu(
    encoders: dict[tuple[str, str], Source], tmp_path: Path
) -> None:
    source = encoders[EXPORTS[0]]
    half_precision_on_cuda(source, tmp_path)
    made = source.made(tmp_path)
    texts = ["my invoice is late", "the pump is broken"]
    old, new = (OnnxModel(s.model, s.tokenizer, MAX_TOKENS) for s in (source, made))
    for before, after in zip(old.score(texts), new.score(texts), strict=True):
        np.testing.assert_allclose(after.logits, before.logits, atol=0.05)
