"""A trimmed model answers covered texts as before, with fewer rows; it proves that, or refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.source import Source
from compress.trim import (
    MOST_TOKEN_GROWTH_RATIO,
    MOST_UNKNOWN_RISE_RATIO,
    Coverage,
    coverage,
    trim_vocabulary,
    unknown_ratio,
)
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.runtime import OnnxModel
from tests import tiny
from tests.exported import EXPORTS, MAX_TOKENS, PAD_ID, UNUSED


@pytest.mark.parametrize("export", EXPORTS, ids="-".join)
def test_logits_are_equal_alone_and_padded_in_a_batch(
    encoders: dict[tuple[str, str], Source], tmp_path: Path, export: tuple[str, str]
) -> None:
    source = encoders[export]
    (tmp_path / "made").mkdir()
    trim_vocabulary(source, tmp_path / "made")
    made = source.made(tmp_path / "made")
    old, new = (OnnxModel(s.model, s.tokenizer, MAX_TOKENS) for s in (source, made))
    texts = ["my invoice is late", "help", "the pump is broken and leaks again and again"]
    for batch in ([text] for text in texts), [texts]:
        for together in batch:
            before, after = (m.run(m.encode(together)) for m in (old, new))
            np.testing.assert_allclose(after.logits, before.logits, atol=1e-6)
            np.testing.assert_allclose(after.embedding, before.embedding, atol=1e-6)
    padding = json.loads(made.tokenizer.read_bytes())["padding"]
    assert padding["pad_id"] != PAD_ID
    assert made.model.stat().st_size < source.model.stat().st_size
    assert made.tokenizer.stat().st_size < source.tokenizer.stat().st_size


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A tiny model without torch, and texts that use a part of its words."""
    tiny.make_model(tmp_path / "source")
    texts = ["my parcel is late", "the courier is late again"]
    return Source(tmp_path / "source" / MODEL, tmp_path / "source" / TOKENIZER, texts, 16)


def trim(source: Source, folder: Path) -> Source:
    folder.mkdir()
    trim_vocabulary(source, folder)
    return source.made(folder)


def rows_of(source: Source) -> int:
    (table,) = [w for w in onnx.load(source.model).graph.initializer if w.name == "table"]
    return int(table.dims[0])


def test_the_table_has_a_row_for_every_token_that_is_left(source: Source, tmp_path: Path) -> None:
    made = trim(source, tmp_path / "made")
    vocabulary = json.loads(made.tokenizer.read_bytes())["model"]["vocab"]
    words = {word for text in source.texts for word in str(text).split()}
    assert set(vocabulary) == {*tiny.SPECIAL, *words, "i"}  # and single letters
    assert rows_of(made) == len(vocabulary) < rows_of(source)


def test_pairs_are_covered_as_well(source: Source, tmp_path: Path) -> None:
    paired = replace(source, texts=[("my parcel", "is late")])
    made = trim(paired, tmp_path / "made")
    tokens = OnnxModel(made.model, made.tokenizer, 16).encode([("my parcel", "is late")])
    assert json.loads(made.tokenizer.read_bytes())["model"]["vocab"]["[UNK]"] not in (
        tokens.input_ids[0].tolist()
    )


def test_words_beyond_max_tokens_are_kept(source: Source, tmp_path: Path) -> None:
    made = trim(replace(source, max_tokens=3), tmp_path / "made")
    assert "again" in json.loads(made.tokenizer.read_bytes())["model"]["vocab"]


def test_the_same_source_gives_the_same_bytes(source: Source, tmp_path: Path) -> None:
    one, two = trim(source, tmp_path / "a"), trim(source, tmp_path / "b")
    assert one.model.read_bytes() == two.model.read_bytes()
    assert one.tokenizer.read_bytes() == two.tokenizer.read_bytes()


def test_trimming_twice_has_nothing_to_do(source: Source, tmp_path: Path) -> None:
    made = trim(source, tmp_path / "a")
    with pytest.raises(ExportError, match="none to trim"):
        trim(made, tmp_path / "b")


def test_without_texts_nothing_is_trimmed(source: Source, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no training text"):
        trim(replace(source, texts=[]), tmp_path / "made")


def test_a_graph_that_computes_with_ids_is_refused(source: Source, tmp_path: Path) -> None:
    model = onnx.load(source.model)
    nodes = model.graph.node
    nodes.insert(0, onnx.helper.make_node("Neg", ["input_ids"], ["negative"]))
    nodes.insert(1, onnx.helper.make_node("Neg", ["negative"], ["ids"]))
    nodes[2].input[1] = "ids"
    onnx.save(model, source.model)
    with pytest.raises(ExportError, match="Neg.*computes with input_ids"):
        trim(source, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


def test_a_tokenizer_that_cuts_differently_afterwards_is_refused(
    source: Source, tmp_path: Path
) -> None:
    """An added token inside another word's place: ids that the library itself would not give."""
    document = json.loads(source.tokenizer.read_bytes())
    vocabulary = document["model"]["vocab"]
    late = vocabulary.pop("late")
    document["added_tokens"] = [
        {
            "id": late,
            "content": "late",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
    ]
    source.tokenizer.write_text(json.dumps(document))
    with pytest.raises(ExportError, match="leave the trimmed candidates out"):
        trim(source, tmp_path / "made")


# -- what other texts lose ------------------------------------------------------------------------


def test_the_unknown_ratio_counts_unknown_words_and_no_special_tokens(source: Source) -> None:
    assert unknown_ratio(source.tokenizer, ["my parcel is zebra"]) == 0.25
    assert unknown_ratio(source.tokenizer, ["my parcel"]) == 0.0
    assert unknown_ratio(source.tokenizer, [""]) == 0.0


def test_coverage_tells_what_unseen_texts_lose(source: Source, tmp_path: Path) -> None:
    made = trim(source, tmp_path / "made")
    found = coverage(source.tokenizer, made.tokenizer, ["my parcel", "my invoice"])
    assert found == Coverage(
        unknown_before_ratio=0.0,
        unknown_after_ratio=0.25,
        changed_ratio=0.5,
        growth_ratio=1.0,
    )
    (problem,) = found.problems
    assert "0.0000 of all to 0.2500" in problem
    assert coverage(source.tokenizer, made.tokenizer, ["my parcel"]).problems == ()
    with pytest.raises(ValueError, match="no text"):
        coverage(source.tokenizer, made.tokenizer, [])


def test_longer_texts_are_a_problem_beyond_the_limit() -> None:
    fine = Coverage(0.1, 0.1 + MOST_UNKNOWN_RISE_RATIO / 2, 0.5, MOST_TOKEN_GROWTH_RATIO)
    assert fine.problems == ()
    (problem,) = replace(fine, growth_ratio=1.2).problems
    assert "1.200 times as many tokens" in problem


def test_most_of_the_wide_vocabulary_goes(
    encoders: dict[tuple[str, str], Source], tmp_path: Path
) -> None:
    source = encoders["bert", "torchscript"]
    made = trim(source, tmp_path / "made")
    before, after = (
        len(json.loads(s.tokenizer.read_bytes())["model"]["vocab"]) for s in (source, made)
    )
    assert before - after >= UNUSED
