"""The linear model at run time: what it reads of a text, its file, and its answers."""

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.kinds import LINEAR
from edgeloop.linear import LinearArrays, LinearModel, load_arrays, read_text, weigh
from edgeloop.models import open_model
from edgeloop.rows import TextInput
from tests import stages, tiny

PLAIN = st.text(st.characters(), max_size=60)
TEXTS: st.SearchStrategy[TextInput] = st.one_of(PLAIN, st.tuples(PLAIN, PLAIN))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("linear") / "linear"
    stages.make_linear(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> LinearModel:
    return LinearModel(folder / LINEAR, 64)


def counts(text: TextInput, max_tokens: int = 64) -> Counter[str]:
    return Counter(read_text(text, max_tokens).ngrams)


# -- what is read ------------------------------------------------------------------------------


def test_the_ngrams_are_words_pairs_of_words_and_characters() -> None:
    found = counts("My card")
    assert {n for n in found if n[0] == "\x01"} == {"\x01my", "\x01card", "\x01my\x01card"}
    assert {n for n in found if len(n) == 4 and n[0] != "\x01"} == {
        *(" my ", "my c", "y ca", " car", "card", "ard "),
    }
    assert counts("a a")["\x01a"] == 2


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Card", "card"),
        ("ＣＡＲＤ", "card"),
        ("Straße", "strasse"),
        ("cafe\u0301", "café"),
        ("my\u00a0card \t\n", " my card"),
        ("Ⅳ ﬁ", "iv fi"),
    ],
)
def test_case_width_composition_and_white_space_make_no_difference(text: str, same: str) -> None:
    assert counts(text) == counts(same)


@given(TEXTS, st.integers(1, 12))
def test_extraction_is_deterministic_and_never_reads_more_than_it_may(
    text: TextInput, most: int
) -> None:
    read = read_text(text, most)
    assert read == read_text(text, most)
    assert read.tokens <= most
    assert all("\n" not in ngram and ngram for ngram in read.ngrams)
    everything = read_text(text, 10_000)
    assert read.truncated == (read.ngrams != everything.ngrams or read.tokens < everything.tokens)


@given(*[st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)] * 2)
def test_the_second_text_has_ngrams_of_its_own(first: str, second: str) -> None:
    found = counts((first, second))
    assert {n: c for n, c in found.items() if n[0] != "\x02"} == dict(counts(first))
    assert {n[1:]: c for n, c in found.items() if n[0] == "\x02"} == dict(counts(second))


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [(3, 4, (3, 4)), (20, 2, (8, 2)), (2, 20, (2, 8)), (20, 20, (5, 5)), (5, 6, (5, 5))],
)
def test_a_pairs_longer_text_is_cut_first(first: int, second: int, kept: tuple[int, int]) -> None:
    read = read_text((" ".join("a" * first), " ".join("b" * second)), 10)
    assert (read.ngrams.count("\x01a"), read.ngrams.count("\x02\x01b")) == kept
    assert read.truncated == (first + second > 10)
    assert read.tokens == sum(kept)


def test_a_text_without_spaces_is_cut_by_its_characters() -> None:
    read = read_text("字" * 1000, 4)
    assert read.truncated
    assert len(read.ngrams) <= 3 * (4 * 16 + 1) + 1


@given(st_numpy.arrays(np.float32, st.integers(1, 20), elements=st.integers(1, 9)))
def test_weights_have_length_one(times: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    idf = np.linspace(1, 9, len(times), dtype=np.float32)
    assert np.linalg.norm(weigh(times, idf)) == pytest.approx(1.0, abs=1e-5)


# -- the file ----------------------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn) -> LinearArrays:
    ngrams = draw(
        st.lists(
            st.text(st.characters(exclude_characters="\n"), min_size=1),
            min_size=1,
            max_size=8,
            unique=True,
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    classes, dimensions = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rows, columns = len(ngrams), classes + dimensions
    return LinearArrays(
        ngrams=tuple(ngrams),
        table=rng.integers(-127, 128, (rows, columns)).astype(np.int8),
        idf=rng.random(rows, np.float32),
        row_scale=rng.random(rows, np.float32),
        column_scale=rng.random(columns, np.float32),
        bias=rng.random(classes, np.float32),
    )


@settings(max_examples=40)
@given(arrays())
def test_what_is_saved_comes_back_and_has_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, made: LinearArrays
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    made.save(folder / "one.npz")
    found = load_arrays(folder / "one.npz")
    assert found.ngrams == made.ngrams
    for name in ("table", "idf", "row_scale", "column_scale", "bias"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    found.save(folder / "two.npz")
    assert (folder / "one.npz").read_bytes() == (folder / "two.npz").read_bytes()


def test_a_file_that_is_no_linear_model_is_refused(folder: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / LINEAR, (folder / LINEAR).read_bytes()
    for data in (b"", b"not a zip", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(EngineError, match=str(path)):
            load_arrays(path)
    np.savez(path, ngrams=np.zeros(3, dtype=np.uint8))
    with pytest.raises(EngineError, match="no linear model"):
        load_arrays(path)
    with pytest.raises(EngineError, match="cannot be read"):
        load_arrays(tmp_path / "none.npz")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / LINEAR, ngrams=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(EngineError, match="no linear model"):
        load_arrays(tmp_path / LINEAR)


@pytest.mark.parametrize(
    "change",
    [
        {"table": np.zeros((2, 3), np.int8)},
        {"table": np.zeros((1, 3), np.float32)},
        {"idf": np.array([np.nan], np.float32)},
        {"column_scale": np.ones(4, np.float32)},
        {"bias": np.zeros(3, np.float32)},
        {"bias": np.zeros((1, 2), np.float32)},
        {"ngrams": ("a", "a")},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    good: dict[str, object] = {
        "ngrams": ("a",),
        "table": np.zeros((1, 3), np.int8),
        "idf": np.ones(1, np.float32),
        "row_scale": np.ones(1, np.float32),
        "column_scale": np.ones(3, np.float32),
        "bias": np.zeros(2, np.float32),
    }
    LinearArrays(**good).save(tmp_path / LINEAR)  # type: ignore[arg-type]
    load_arrays(tmp_path / LINEAR)
    LinearArrays(**(good | change)).save(tmp_path / LINEAR)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="no linear model"):
        load_arrays(tmp_path / LINEAR)


# -- answers -----------------------------------------------------------------------------------


@given(TEXTS)
def test_any_text_gets_a_finite_answer(model: LinearModel, text: TextInput) -> None:
    answered = model.answer(text)
    assert answered.stage == "model"
    assert answered.output.logits.shape == (len(tiny.LABELS),)
    assert answered.output.logits.dtype == answered.output.embedding.dtype == np.float32
    assert np.isfinite(answered.output.logits).all()
    length = float(np.linalg.norm(answered.output.embedding))
    assert length == 0.0 or length == pytest.approx(1.0, abs=1e-5)


def test_an_answer_is_the_sum_of_the_tables_rows(folder: Path, model: LinearModel) -> None:
    made = load_arrays(folder / LINEAR)
    row_of = {ngram: i for i, ngram in enumerate(made.ngrams)}
    values = made.table * made.row_scale[:, None].astype(np.float64) * made.column_scale
    for text, _ in tiny.sentences(20, seed=5):
        known = {row_of[n]: c for n, c in counts(text).items() if n in row_of}
        weights = np.array([(1 + np.log(c)) * made.idf[row] for row, c in known.items()])
        total = weights @ values[list(known)] / np.linalg.norm(weights)
        output = model.answer(text).output
        np.testing.assert_allclose(output.logits, total[:3] + made.bias, atol=1e-4)
        unit = total[3:] / np.linalg.norm(total[3:])
        np.testing.assert_allclose(output.embedding, unit, atol=1e-4)


def test_a_text_of_unknown_ngrams_gets_the_bias_and_no_direction(
    folder: Path, model: LinearModel
) -> None:
    output = model.answer("ЖЖЖ").output
    np.testing.assert_array_equal(output.logits, load_arrays(folder / LINEAR).bias)
    assert not output.embedding.any()


def test_unknown_ngrams_are_counted(model: LinearModel) -> None:
    known, foreign = model.answer("late parcel"), model.answer("late ЖЖЖ")
    assert known.unknown_tokens < foreign.unknown_tokens
    assert model.answer("ЖЖЖ").unknown_tokens == len(read_text("ЖЖЖ", 9).ngrams)


def test_a_long_text_is_cut_only_on_request(folder: Path) -> None:
    model = open_model(folder, max_tokens=5)
    text = "late parcel " * 5
    answered = model.answer(text)
    assert (answered.truncated, answered.tokens) == (True, 5)
    with pytest.raises(TextTooLong, match="more words than the 5"):
        model.answer(text, truncate=False)
    assert not model.answer("late parcel", truncate=False).truncated


def test_threads_share_one_model(model: LinearModel) -> None:
    texts = [text for text, _ in tiny.sentences(30, seed=6)]
    expected = model.score(texts)
    wrong: list[str] = []

    def work() -> None:
        for text, output in zip(texts, expected, strict=True):
            if not np.array_equal(model.answer(text).output.logits, output.logits):
                wrong.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_it_answers_without_onnxruntime_tokenizers_and_the_training_side(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgeloop.models import open_model\n"
        "open_model(Path(sys.argv[1]), 64).answer('late parcel')\n"
        "print(' '.join({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    heavy = {"onnxruntime", "tokenizers", "scipy", "sklearn", "torch", "onnx"}
    assert set(done.stdout.split()) & heavy == set()
