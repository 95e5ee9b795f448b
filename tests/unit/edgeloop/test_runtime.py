"""The ONNX model with its tokenizer: shapes, padding, truncation, damage."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.errors import EngineError
from edgeloop.runtime import OnnxModel, softmax, split_rows, unknown_id
from tests import tiny

TEXTS = ["the invoice is late", "parcel", "my pump is broken and jammed again please help today"]


def load(folder: Path, max_tokens: int = 64) -> OnnxModel:
    return OnnxModel(folder / MODEL, folder / TOKENIZER, max_tokens)


@pytest.fixture(scope="module")
def model(tiny_bundle: Bundle) -> OnnxModel:
    return load(tiny_bundle.path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder that a test may change."""
    tiny.make_model(tmp_path)
    return tmp_path


def change_model(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    proto = onnx.load(folder / MODEL)
    change(proto)
    onnx.save(proto, folder / MODEL)


def change_tokenizer(folder: Path, **values: object) -> None:
    document = json.loads((folder / TOKENIZER).read_text())
    (folder / TOKENIZER).write_text(json.dumps({**document, **values}))


def test_a_batch_is_padded_to_its_longest_row(model: OnnxModel) -> None:
    encoded = model.encode(TEXTS)
    assert encoded.input_ids.shape == encoded.attention_mask.shape == (3, 12)
    assert encoded.input_ids.dtype == encoded.attention_mask.dtype == np.int64
    assert encoded.tokens == (6, 3, 12)
    assert encoded.attention_mask.sum(axis=1).tolist() == [6, 3, 12]
    assert (encoded.input_ids[encoded.attention_mask == 0] == 0).all()


def test_outputs_have_a_row_per_text(model: OnnxModel) -> None:
    output = model.run(model.encode(TEXTS))
    assert output.logits.shape == (3, len(tiny.LABELS))
    assert output.embedding.shape == (3, tiny.HIDDEN)
    assert output.logits.dtype == output.embedding.dtype == np.float32


def test_the_model_knows_what_its_words_mean(model: OnnxModel) -> None:
    rows = tiny.sentences(60, seed=5)
    best = [int(row.logits.argmax()) for row in model.score([text for text, _ in rows])]
    assert [tiny.LABELS[i] for i in best] == [label for _, label in rows]


_words = st.sampled_from([*tiny.FILLER, *(w for ws in tiny.WORDS.values() for w in ws), "zebra"])
_texts = st.lists(_words, max_size=20).map(" ".join)


@given(texts=st.lists(_texts, min_size=1, max_size=6))
def test_one_at_a_time_and_as_a_batch_agree_in_fp32(model: OnnxModel, texts: list[str]) -> None:
    encoded = model.encode(texts)
    for alone, row in zip(model.score(texts), split_rows(encoded, model.run(encoded)), strict=True):
        np.testing.assert_allclose(alone.logits, row.logits, atol=1e-5)
        np.testing.assert_allclose(alone.embedding, row.embedding, atol=1e-5)
        assert alone.offsets == row.offsets


@pytest.mark.parametrize("extra", [1, 7, 40])
def test_padding_does_not_change_the_answer(model: OnnxModel, extra: int) -> None:
    encoded = model.encode([TEXTS[0]])
    wide = ((0, 0), (0, extra))
    padded = replace(
        encoded,
        input_ids=np.pad(encoded.input_ids, wide),
        attention_mask=np.pad(encoded.attention_mask, wide),
    )
    np.testing.assert_allclose(
        model.run(padded).logits, model.run(encoded).logits, rtol=1e-6, atol=1e-6
    )


def test_a_long_text_is_cut_at_its_end(tiny_bundle: Bundle) -> None:
    short = load(tiny_bundle.path, max_tokens=8)
    long_text = "invoice refund " * 500
    encoded = short.encode([long_text, "parcel"])
    assert encoded.tokens == (8, 3)
    assert encoded.truncated == (True, False)
    assert short.encode(["invoice refund " * 3]).truncated == (False,)  # exactly eight tokens
    np.testing.assert_array_equal(
        short.encode([long_text]).input_ids, short.encode(["invoice refund " * 3]).input_ids
    )


def test_the_tokenizers_own_padding_and_truncation_do_not_count(folder: Path) -> None:
    change_tokenizer(
        folder,
        padding={
            "strategy": {"Fixed": 50}, "direction": "Left", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        truncation={
            "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Left",
        },
    )  # fmt: skip
    encoded = load(folder).encode(TEXTS)
    assert encoded.input_ids.shape == (3, 12)
    assert encoded.attention_mask[1].tolist() == [1] * 3 + [0] * 9


def test_a_tokenizer_without_padding_is_padded_with_zero(folder: Path) -> None:
    change_tokenizer(folder, padding=None)
    encoded = load(folder).encode(TEXTS)
    assert encoded.tokens == (6, 3, 12)
    assert (encoded.input_ids[1, 3:] == 0).all()


@pytest.mark.parametrize("text", ["", "   ", "zebra ☕ \u2028 \x00", "x" * 100_000])
def test_any_text_gets_an_answer(model: OnnxModel, text: str) -> None:
    (row,) = model.score([text])
    assert np.isfinite(row.logits).all()


def test_words_that_the_tokenizer_does_not_know_are_counted(model: OnnxModel) -> None:
    assert model.answer("the invoice is late").unknown_tokens == 0
    assert model.answer("the gas bottle is late gas").unknown_tokens == 3
    assert model.encode(["gas", "the gas gas bottle"]).unknown == (1, 3), "padding is no token"


def test_the_unknown_token_is_found_in_every_kind_of_tokenizer() -> None:
    vocabulary = {"<unk>": 0, "a": 1}
    unigram = models.Unigram([("a", -1.0), ("<unk>", 0.0)], 1, False)
    assert unknown_id(Tokenizer(models.WordLevel(vocabulary, "<unk>"))) == 0
    assert unknown_id(Tokenizer(models.WordPiece({"x": 0, "[UNK]": 1}, unk_token="[UNK]"))) == 1
    assert unknown_id(Tokenizer(unigram)) == 1
    assert unknown_id(Tokenizer(models.BPE())) is None


def test_no_text_has_no_answer(model: OnnxModel) -> None:
    assert model.score([]) == []


def test_threads_share_one_model(model: OnnxModel) -> None:
    alone = [model.score([text])[0].logits for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: model.score([text])[0].logits, TEXTS * 30))
    for i, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[i % 3])


# -- what a model may want and must give -------------------------------------------------------


def _wants_token_types(proto: onnx.ModelProto) -> None:
    """Adds 1000 for every token of another type than 0."""
    graph = proto.graph
    graph.input.append(
        helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["batch", "seq"])
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1000), "much"))
    graph.node[-1].output[0] = "plain_logits"
    graph.node.extend(
        [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["types", "one"], ["type_sum"], keepdims=1),
            helper.make_node("Mul", ["type_sum", "much"], ["penalty"]),
            helper.make_node("Add", ["plain_logits", "penalty"], ["logits"]),
        ]
    )


def test_token_types_are_fed_as_zeros_where_the_model_wants_them(
    folder: Path, model: OnnxModel
) -> None:
    change_model(folder, _wants_token_types)
    for found, plain in zip(load(folder).score(TEXTS), model.score(TEXTS), strict=True):
        np.testing.assert_allclose(found.logits, plain.logits)


def _drop_embedding(proto: onnx.ModelProto) -> None:
    del proto.graph.output[1]


def _rename_logits(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "scores"


@pytest.mark.parametrize(
    ("change", "found"), [(_drop_embedding, "logits"), (_rename_logits, "scores")]
)
def test_a_model_without_our_outputs_is_refused(
    folder: Path, change: Callable[[onnx.ModelProto], None], found: str
) -> None:
    change_model(folder, change)
    with pytest.raises(EngineError, match=f"has the outputs .*{found}.*needs"):
        load(folder)


def _rename_mask(proto: onnx.ModelProto) -> None:
    proto.graph.input[1].name = proto.graph.node[1].input[0] = "mask_of_its_own"


def test_a_model_with_other_inputs_is_refused(folder: Path) -> None:
    change_model(folder, _rename_mask)
    with pytest.raises(EngineError, match="mask_of_its_own"):
        load(folder)


def test_a_model_that_fails_on_a_batch_says_its_shape(folder: Path) -> None:
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    tokenizer["model"]["vocab"]["zebra"] = 5000  # beyond the model's table
    (folder / TOKENIZER).write_text(json.dumps(tokenizer))
    with pytest.raises(EngineError, match=r"shape \(1, 3\)"):
        load(folder).score(["zebra"])


# -- damaged files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"not a model {", None])
def test_a_damaged_or_missing_file_is_refused(
    folder: Path, name: str, content: bytes | None
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(EngineError, match="does not load") as caught:
        load(folder)
    assert str(folder / name) in str(caught.value)


def test_a_truncated_model_is_refused(folder: Path) -> None:
    os.truncate(folder / MODEL, (folder / MODEL).stat().st_size // 2)
    with pytest.raises(EngineError, match="does not load"):
        load(folder)


# -- softmax -----------------------------------------------------------------------------------

_logits = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(_logits)
def test_softmax_rows_are_distributions_in_the_order_of_the_logits(
    logits: NDArray[np.float32],
) -> None:
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    rows = np.arange(len(logits))
    np.testing.assert_array_equal(
        probabilities[rows, logits.argmax(axis=1)], probabilities.max(axis=1)
    )


@given(_logits, st.integers(-1000, 1000))
def test_softmax_ignores_a_shift(logits: NDArray[np.float32], shift: int) -> None:
    whole = np.round(logits)  # so that the shift is exact in float32
    shifted = whole + np.float32(shift)
    np.testing.assert_allclose(softmax(shifted), softmax(whole), atol=1e-12)


def test_softmax_of_two_logits_is_the_logistic_function() -> None:
    expected = 1 / (1 + np.exp(-3.0))
    assert softmax(np.array([[3.0, 0.0]], np.float32))[0, 0] == pytest.approx(expected, abs=1e-12)
