from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.rows import Row, Span
from finetune.audit.near import RECALL, bands, clusters, jaccard, near_texts, shingles
from tests.audited import findings, recipe, rows

LONG = "the parcel that you sent me on the second of may has still not come to my door "


def test_exact_repeats_within_a_split_name_every_row_but_the_first() -> None:
    found = findings("duplicates", {"train": rows(["one", "two", " one ", "one"])})
    assert found["duplicates"].rows == ("r2", "r3")
    assert found["duplicates"].details[0]["same_as"] == "r0"
    assert found["duplicates"].fix == "remove"


def test_rows_with_another_label_case_or_pair_are_no_exact_repeats() -> None:
    train = rows(["one", "one", "ONE", "one"], ["a", "b", "a", "a"])
    train.append(Row(id="p", text="one", labels=("a",), text_pair="two"))
    assert findings("duplicates", {"train": train})["duplicates"].rows == ("r3",)


def test_spans_decide_whether_rows_are_the_same_wherever_the_text_begins() -> None:
    train = [
        Row(id="a", text="to Paris", spans=(Span(3, 8, "city"),)),
        Row(id="b", text="  to Paris", spans=(Span(5, 10, "city"),)),
        Row(id="c", text="to Paris", spans=(Span(3, 8, "name"),)),
    ]
    assert findings("duplicates", {"train": train})["duplicates"].rows == ("b",)


def test_the_same_row_in_two_splits_is_leakage_and_no_duplicate() -> None:
    splits = {"train": rows(["One  text"]), "test": rows(["one text"], prefix="t")}
    assert findings("duplicates", splits) == {}
    leak = findings("leakage", splits)["leakage"]
    assert leak.rows == ("r0",)
    assert leak.fix == "remove"
    assert leak.details[0] == {"row": "r0", "split": "train", "same_as": "t0", "in": "test"}


def test_a_reference_that_is_the_test_rows_again_leaks_nothing() -> None:
    test = rows([LONG, LONG + "yet"], prefix="t")
    splits = {"train": rows(["something else"]), "test": test, "reference": list(test)}
    assert findings("leakage", splits) == {}
    assert findings("duplicates", splits) == {}
    assert findings("near-duplicates", splits)["near-duplicates"].rows == ("t0", "t1")


def test_near_texts_leak_once_per_train_row_and_only_for_review() -> None:
    splits = {
        "train": rows([LONG, LONG + "yet", "nothing like it"]),
        "validation": rows([LONG + "now"], prefix="v"),
        "test": rows([LONG + "so"], prefix="t"),
    }
    found = findings("leakage", splits)
    assert set(found) == {"near-leakage"}
    assert found["near-leakage"].rows == ("r0", "r1")
    assert found["near-leakage"].fix == "review"


def test_texts_that_held_out_splits_share_are_noted() -> None:
    splits = {
        "train": rows(["a"]),
        "validation": rows(["b"], prefix="v"),
        "test": rows(["B "], prefix="t"),
    }
    found = findings("leakage", splits)
    assert set(found) == {"shared-texts"}
    assert found["shared-texts"].rows == ("t0",)


def test_clusters_of_near_texts_tell_splits_and_labels_the_largest_first() -> None:
    train = rows([LONG, LONG + "yet", "Small text", "small  text"], ["a", "b", "a", "a"])
    found = findings("near-duplicates", {"train": train})["near-duplicates"]
    assert [detail["rows"] for detail in found.details] == [["r0", "r1"], ["r2", "r3"]]
    assert found.details[0]["labels"] == ["a", "b"]


def test_the_recipe_says_what_is_near() -> None:
    train = rows([LONG, LONG + "but here is more of it"])
    assert findings("near-duplicates", {"train": train}) == {}
    low = recipe(audit={"near_duplicate_ratio": 0.6})
    assert findings("near-duplicates", {"train": train}, low)["near-duplicates"].rows == (
        "r0",
        "r1",
    )


def test_no_rows_and_empty_splits_have_no_findings() -> None:
    empty: list[dict[str, list[Row]]] = [{}, {"train": []}, {"train": [], "test": []}]
    for splits in empty:
        for check in ("duplicates", "near-duplicates", "leakage", "conflicts"):
            assert findings(check, splits) == {}


def test_texts_of_one_template_are_nearly_all_one_cluster_though_buckets_are_bounded() -> None:
    texts = [f"{LONG}and my order has the number {number:05d} on it" for number in range(1000)]
    near = near_texts(texts, 0.9)
    assert len(near.clusters[0]) >= 900
    assert len(near.pairs) <= 8 * len(texts)


@given(st.text(max_size=40), st.text(max_size=40))
def test_jaccard_is_that_of_the_shingle_sets(left: str, right: str) -> None:
    ours, theirs = shingles(left), shingles(right)
    assert jaccard(ours, theirs) == len(ours & theirs) / len(ours | theirs)
    assert jaccard(ours, ours) == 1.0


@given(st.floats(0.5, 1.0, exclude_min=True))
def test_bands_find_a_pair_at_the_ratio_with_the_stated_probability(ratio: float) -> None:
    number, length = bands(ratio)
    assert number * length <= 128
    assert length == 1 or 1.0 - (1.0 - ratio**length) ** number >= RECALL


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=12, unique=True))
def test_every_reported_pair_has_the_ratio(texts: list[str]) -> None:
    for earlier, later, ratio in near_texts(texts, 0.7).pairs:
        assert earlier < later
        assert ratio == jaccard(shingles(texts[earlier]), shingles(texts[later])) >= 0.7


def test_nearly_all_pairs_just_above_the_ratio_are_found() -> None:
    """The stated recall, on 300 pairs of random texts with one word of many exchanged."""
    import numpy as np

    rng = np.random.default_rng(0)
    texts = []
    for _ in range(300):
        words = ["".join(rng.choice(list("abcdefghijklmnop"), 7)) for _ in range(16)]
        texts.append(" ".join(words))
        texts.append(" ".join([*words[:-1], words[-1][:-1] + "z"]))
    near = {(a, b) for a, b, _ in near_texts(texts, 0.9).pairs}
    wanted = {(2 * i, 2 * i + 1) for i in range(300)}
    assert all(jaccard(shingles(texts[a]), shingles(texts[b])) >= 0.9 for a, b in wanted)
    assert len(near & wanted) >= 0.97 * 300


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_clusters_hold_joined_positions_together_and_apart(pairs: list[tuple[int, int]]) -> None:
    found = clusters(pairs)
    cluster_of = {member: i for i, members in enumerate(found) for member in members}
    assert len(cluster_of) == sum(map(len, found))
    assert all(cluster_of[left] == cluster_of[right] for left, right in pairs)
    assert all(list(members) == sorted(members) for members in found)
