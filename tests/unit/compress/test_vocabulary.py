"""A cut tokenizer gives every covered text the same tokens, for every kind of tokenizer."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from compress.vocabulary import cut, needed_tokens, read_vocabulary
from edgeloop.errors import ExportError
from tests import tiny

WORDS = [*tiny.FILLER, *(word for words in tiny.WORDS.values() for word in words)]
CORPUS = [text for text, _ in tiny.sentences(200)] + ["größer", "naïve", "überall", "zażółć"]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]


def around(tokenizer: Tokenizer) -> None:
    """Specials around every text, and padding."""
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[(name, ids[name]) for name in ("<s>", "</s>")],
    )
    tokenizer.enable_padding(pad_id=ids["<pad>"], pad_token="<pad>")


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_pairs() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_pairs_marked(**mark: Any) -> Tokenizer:
    """Pairs of characters whose place in a word is marked on the token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **mark))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=250, special_tokens=SPECIAL, show_progress=False, **mark
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_pairs_with_word_ends() -> Tokenizer:
    return byte_pairs_marked(end_of_word_suffix="</w>")


def byte_pairs_with_prefix() -> Tokenizer:
    return byte_pairs_marked(continuing_subword_prefix="##")


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_level() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": word_piece,
    "BPE of bytes": byte_pairs,
    "BPE with word ends": byte_pairs_with_word_ends,
    "BPE with a prefix": byte_pairs_with_prefix,
    "Unigram": unigram,
    "WordLevel": word_level,
}


@cache
def document_of(kind: str) -> str:
    tokenizer = KINDS[kind]()
    around(tokenizer)
    return str(tokenizer.to_str())


def plain(document: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(document)
    tokenizer.no_padding()
    return tokenizer


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str]) -> set[str]:
    ids = {i for row in tokenizer.encode_batch(list(texts)) for i in row.ids}
    return {str(tokenizer.id_to_token(i)) for i in ids}


def trimmed(kind: str, texts: Sequence[str]) -> tuple[Tokenizer, Tokenizer, set[str], Any]:
    """Before, after, the tokens that are kept, and the map of ids."""
    before = plain(document_of(kind))
    document = json.loads(document_of(kind))
    needed = needed_tokens(document, tokens_of(before, texts))
    made, ids = cut(document, needed)
    return before, plain(json.dumps(made)), needed, ids


known_texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
any_texts = st.text(alphabet="abcdefghijklmnopqrstuvwxyzäéßżłó 漢!", max_size=20)
texts = st.lists(st.one_of(known_texts, any_texts), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(seen=texts)
def test_every_seen_text_has_the_same_tokens_under_their_new_ids(
    kind: str, seen: list[str]
) -> None:
    before, after, _, ids = trimmed(kind, seen)
    for old, new in zip(before.encode_batch(seen), after.encode_batch(seen), strict=True):
        assert [ids[i] for i in old.ids] == new.ids
        assert old.offsets == new.offsets


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(seen=texts, other=st.one_of(known_texts, any_texts))
def test_so_has_every_other_text_of_kept_tokens(kind: str, seen: list[str], other: str) -> None:
    before, after, needed, ids = trimmed(kind, seen)
    if tokens_of(before, [other]) <= needed:
        assert [ids[i] for i in before.encode(other).ids] == after.encode(other).ids


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_without_gaps_and_in_their_old_order(kind: str) -> None:
    _, after, needed, ids = trimmed(kind, CORPUS[:3])
    assert sorted(after.get_vocab().values()) == list(range(len(needed)))
    assert list(ids) == sorted(ids)
    assert list(ids.values()) == list(range(len(ids)))
    assert len(needed) < len(read_vocabulary(json.loads(document_of(kind))))


@pytest.mark.parametrize("kind", ["WordPiece", "BPE of bytes", "Unigram"])
def test_a_word_that_no_text_had_is_spelled_with_what_is_kept(kind: str) -> None:
    before, after, needed, _ = trimmed(kind, ["my"])
    word = "receipt"
    assert not tokens_of(before, [word]) <= needed
    encoding = after.encode(word)
    assert after.token_to_id("<unk>") not in encoding.ids
    assert len(encoding.ids) > len(before.encode(word).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_special_tokens_move_with_the_vocabulary(kind: str) -> None:
    document = json.loads(document_of(kind))
    made, ids = cut(document, needed_tokens(document, {"my"}))
    assert made["padding"]["pad_id"] == ids[document["padding"]["pad_id"]]
    after = Tokenizer.from_str(json.dumps(made))
    assert after.encode("my").tokens[0] == "<s>"
    assert after.encode("my").tokens[-1] == "</s>"


def test_processors_of_the_older_kinds_are_renumbered_as_well() -> None:
    document = json.loads(document_of("WordLevel"))
    end, start = read_vocabulary(document)["</s>"], read_vocabulary(document)["<s>"]
    document["model"]["vocab"] = {f"unused{i}": i for i in range(9)} | {
        token: i + 9 for token, i in document["model"]["vocab"].items()
    }
    older = {"type": "BertProcessing", "sep": ["</s>", end + 9], "cls": ["<s>", start + 9]}
    document["post_processor"] = {"type": "Sequence", "processors": [older]}
    document["padding"] = None
    made, ids = cut(document, needed_tokens(document, {"my"}))
    (moved,) = made["post_processor"]["processors"]
    assert moved["sep"] == ["</s>", ids[end + 9]]
    assert Tokenizer.from_str(json.dumps(made)).encode("my").tokens == ["<s>", "my", "</s>"]


def test_merges_of_older_files_are_read() -> None:
    document = json.loads(document_of("BPE of bytes"))
    pairs = document["model"]["merges"]
    document["model"]["merges"] = [" ".join(pair) for pair in pairs]
    used = tokens_of(plain(document_of("BPE of bytes")), CORPUS[:2])
    made, _ = cut(document, needed_tokens(document, used))
    same, _ = cut(json.loads(document_of("BPE of bytes")), needed_tokens(document, used))
    assert [merge.split(" ") for merge in made["model"]["merges"]] == same["model"]["merges"]


def test_another_kind_of_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="'Phonetic'.*WordPiece"):
        read_vocabulary({"model": {"type": "Phonetic"}, "added_tokens": []})


def test_an_unknown_character_costs_what_it_did() -> None:
    """It costs more than the lowest of all scores, which may be that of a piece nothing uses."""
    pieces = [("<unk>", 0.0), ("ab", -30.0), ("c", -30.0), ("bc", -1.0), ("zz", -100.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("yy", -2.0)], 0, byte_fallback=False))
    document = json.loads(tokenizer.to_str())
    before = tokenizer.encode("abc").tokens
    assert before == ["ab", "c"]
    made, _ = cut(document, needed_tokens(document, {"ab", "c", "bc"}))
    assert Tokenizer.from_str(json.dumps(made)).encode("abc").tokens == before
    assert "yy" not in read_vocabulary(made)
