import pytest

from edgeloop.errors import DatasetError
from edgeloop.rows import Row, Span
from edgeloop.tasks import TASKS
from finetune.audit import audit_rows, refuse_errors
from finetune.audit.languages import detect
from finetune.audit.scripts import main_script, mixed_words
from tests import tiny
from tests.audited import findings, recipe, rows

ENGLISH = "could you please tell me when the parcel will arrive at my house number "
GERMAN = "könnten Sie mir bitte sagen, wann das Paket bei mir zu Hause ankommen wird"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer that cuts and pads, as those of the hub do."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tiny.word_tokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_too_long_is_an_error_with_special_tokens_counted(base: str) -> None:
    train = rows(["my " * 6, "my " * 7, "my"])
    found = findings("length", {"train": train}, recipe(base=base, max_tokens=8))["too-long"]
    assert (found.severity, found.rows) == ("error", ("r1",))
    assert found.details[0]["tokens"] == 9
    assert found.fix is None


def test_too_long_is_a_warning_where_the_recipe_truncates(base: str) -> None:
    chosen = recipe(base=base, max_tokens=8, data={"excess_length": "truncate"})
    found = findings("length", {"train": rows(["my " * 20])}, chosen)["too-long"]
    assert found.severity == "warning"
    assert "cut off" in found.message
    refuse_errors({"train": rows(["my " * 20])}, chosen)


def test_a_pair_counts_as_one_input_and_for_embeddings_each_text_does(base: str) -> None:
    row = Row(id="p", text="my " * 5, text_pair="my " * 5, negatives=("the " * 3,))
    chosen = recipe(base=base, max_tokens=8)
    assert "too-long" in findings("length", {"train": [row]}, chosen)
    embedding = recipe("text-embedding", base=base, max_tokens=8)
    assert findings("length", {"train": [row]}, embedding) == {}
    longer = Row(id="p", text="my", text_pair="my", negatives=("the", "the " * 30))
    assert "too-long" in findings("length", {"train": [longer]}, embedding)


def test_without_a_base_the_lengths_are_told_to_be_unknown_and_nothing_is_refused() -> None:
    assert set(findings("length", {"train": rows(["a"])})) == {"length-unknown"}
    refuse_errors({"train": rows(["a"])}, recipe())


def test_a_run_is_refused_with_all_rows_in_at_most_20_lines(base: str) -> None:
    splits = {"train": rows(["my " * 30] * 40), "test": rows(["my"], prefix="t")}
    with pytest.raises(DatasetError) as refused:
        refuse_errors(splits, recipe(base=base, max_tokens=8))
    lines = str(refused.value).split("\n")
    assert len(lines) == 20
    assert lines[0].startswith("rows.jsonl:1: id 'r0': 32 tokens, at most 8")
    assert lines[-1].startswith("and 21 more")


def test_empty_texts_are_errors_and_name_the_row() -> None:
    train = [Row(id="e", text=" \u2003", where="f:3"), Row(id="n", text="a", negatives=("",))]
    assert findings("empty", {"train": train})["empty"].rows == ("e", "n")
    with pytest.raises(DatasetError, match="f:3: id 'e': a text is empty"):
        refuse_errors({"train": train}, recipe())


def test_outer_white_space_of_any_text_is_noted() -> None:
    train = [Row(id="a", text="a\u00a0"), Row(id="b", text="b", text_pair="\tx"), *rows(["c"])]
    assert findings("white-space", {"train": train})["outer-white-space"].rows == ("a", "b")


def test_one_text_with_two_labels_conflicts_whatever_its_case_and_split() -> None:
    splits = {
        "train": rows(["Help me", "fine"], ["a", "a"]),
        "test": rows(["help  ME", "fine"], ["b", "a"], prefix="t"),
    }
    found = findings("conflicts", splits)["conflicting-labels"]
    assert found.rows == ("r0", "t0")
    assert found.details[0]["answers"] == ["a", "b"]
    assert found.fix == "set-aside"


def test_the_order_of_several_labels_is_no_conflict_but_another_set_is() -> None:
    def row(name: str, *labels: str) -> Row:
        return Row(id=name, text="x", labels=labels)

    chosen = recipe("multi-label-classification")
    assert findings("conflicts", {"train": [row("1", "a", "b"), row("2", "b", "a")]}, chosen) == {}
    found = findings("conflicts", {"train": [row("1", "a"), row("2")]}, chosen)
    assert found["conflicting-labels"].rows == ("1", "2")


def test_another_span_is_a_conflict_and_an_anchor_with_two_partners_is_none() -> None:
    tagged = [
        Row(id="1", text="to Rome", spans=(Span(3, 7, "city"),)),
        Row(id="2", text="to  rome", spans=(Span(4, 8, "city"),)),
        Row(id="3", text="to rome"),
    ]
    found = findings("conflicts", {"train": tagged[:2]}, recipe("token-classification"))
    assert found == {}
    assert findings("conflicts", {"train": tagged}, recipe("token-classification"))
    pairs = [Row(id="1", text="a", text_pair="b"), Row(id="2", text="a", text_pair="c")]
    assert findings("conflicts", {"train": pairs}, recipe("text-embedding")) == {}


def test_classes_that_are_rare_missing_or_tiny_are_told() -> None:
    splits = {
        "train": rows(["x"] * 103, ["big"] * 100 + ["small"] * 3),
        "test": rows(["x"], "big", prefix="t"),
    }
    found = findings("classes", splits)
    assert "33.3 times" in found["class-imbalance"].message
    assert found["class-missing"].details == ({"class": "small", "split": "test"},)
    assert found["tiny-class"].rows == ("r100", "r101", "r102")
    assert findings("classes", splits, recipe(audit={"max_class_ratio": 40}))["tiny-class"]


def test_entity_types_are_classes_and_embeddings_have_none() -> None:
    tagged = [Row(id=str(i), text="at two", spans=(Span(3, 6, "time"),)) for i in range(4)]
    found = findings("classes", {"train": tagged, "test": []}, recipe("token-classification"))
    assert set(found) == {"class-missing", "tiny-class"}
    pairs = [Row(id="1", text="a", text_pair="b")]
    assert findings("classes", {"train": pairs, "test": []}, recipe("text-embedding")) == {}


def test_rows_of_another_language_are_named_and_short_ones_are_not_judged() -> None:
    train = rows([*(f"{ENGLISH}{number}" for number in range(5)), GERMAN, "ja, danke", "?"])
    found = findings("languages", {"train": train})["language-mix"]
    assert found.rows == ("r5",)
    assert found.details[0]["language"] == "de"
    assert "2 rows were too short" in found.message


def test_languages_are_what_langid_says_of_each_text() -> None:
    import langid

    texts = [ENGLISH, GERMAN, "", "\U0001f600" * 50, "où est ma carte bancaire"]
    for text, (language, probability) in zip(texts, detect(texts), strict=True):
        assert language == langid.classify(text)[0]
        assert 0.0 < probability <= 1.0


def test_scripts_are_told_and_words_that_mix_lookalikes() -> None:
    train = rows(["hello there", "привет всем", "my p\u0430ypal account", "東京タワー", "12 :-)"])
    found = findings("scripts", {"train": train})
    assert found["script-mix"].rows == ("r1", "r3")
    assert found["mixed-script-words"].rows == ("r2",)
    assert "\u0430" not in str(found["mixed-script-words"].details)


@pytest.mark.parametrize(
    "text", ["naïve café", "5 µm at 3 Ω", "Tokyo東京", "ﬁne", "e\u0301te\u0301"]
)
def test_words_that_mix_no_lookalike_scripts_are_fine(text: str) -> None:
    assert mixed_words(text) == []


def test_the_script_of_a_text_is_that_of_most_letters() -> None:
    assert main_script("Привет, Bob") == "CYRILLIC"
    assert main_script("カタカナ") == "CJK"
    assert main_script("ＦＵＬＬ") == "LATIN"
    assert main_script("123 !?") == ""


def test_spans_with_loose_borders_and_cut_words_are_told_apart() -> None:
    row = Row(
        id="s",
        text="from New York, at 12:30 东京人 U.S.",
        spans=(
            Span(5, 14, "loose"),
            Span(5, 13, "fine"),
            Span(6, 13, "cut"),
            Span(18, 23, "fine"),
            Span(24, 26, "fine"),
            Span(28, 32, "fine"),
        ),
    )
    found = findings("span-borders", {"train": [row]}, recipe("token-classification"))
    assert [detail["label"] for detail in found["loose-spans"].details] == ["loose"]
    assert [detail["label"] for detail in found["cut-words"].details] == ["cut"]
    assert found["loose-spans"].fix == "trim"
    assert found["cut-words"].fix is None


def test_a_surface_with_several_tags_names_the_rows_of_the_rarer_ones() -> None:
    def row(name: str, label: str) -> Row:
        return Row(id=name, text="Four", spans=(Span(0, 4, label),))

    train = [*(row(f"p{i}", "people") for i in range(6)), row("t0", "time"), row("t1", "time")]
    found = findings("span-labels", {"train": train}, recipe("token-classification"))
    assert found["span-labels"].rows == ("t0", "t1")
    assert found["span-labels"].details[0]["tags"] == {"people": 6, "time": 2}
    assert findings("span-labels", {"train": train[:-1]}, recipe("token-classification")) == {}


def test_pairs_that_teach_nothing_or_the_opposite_are_told() -> None:
    train = [
        Row(id="same", text="A b", text_pair="a  B"),
        Row(id="ok", text="q", text_pair="yes", negatives=("no",)),
        Row(id="wrong", text="Q", text_pair="fine", negatives=("other", "YES")),
        Row(id="self", text="z", text_pair="y", negatives=("z",)),
    ]
    found = findings("pairs", {"train": train}, recipe("text-embedding"))
    assert found["anchor-is-positive"].rows == ("same",)
    assert found["negative-is-positive"].rows == ("wrong", "self")
    assert findings("pairs", {"train": train}) == {}


def test_rows_of_one_template_are_told_per_class() -> None:
    slots = ["rome", "paris", "oslo", "berlin", "rome", "paris", "oslo", "berlin"]
    texts = [f"book me a table in {city} for {i + 2}" for i, city in enumerate(slots)]
    other = ["where is it", "is it open late", "no thanks then", "do you take cards here"]
    train = rows([*texts, *other], ["book"] * 8 + ["ask"] * 4)
    found = findings("templates", {"train": train})["templates"]
    assert found.rows == tuple(f"r{i}" for i in range(8))
    assert found.details[0]["class"] == "book"
    rare = recipe(audit={"template_ratio": 1.0})
    assert findings("templates", {"train": train}, rare) == {}


def test_ordinary_texts_and_exact_repeats_are_no_template() -> None:
    assert findings("templates", {"train": rows(["open a new account"] * 20)}) == {}
    texts = [text for text, _ in tiny.sentences(60, seed=3)]
    assert findings("templates", {"train": rows(texts)}) == {}


def test_findings_come_worst_first_and_hold_no_text(base: str) -> None:
    secret = "jane.doe@example.com"
    splits = {
        "train": rows([f" my mail is {secret}", "my " * 40, "my mail", "my mail"]),
        "test": rows(["my mail"], prefix="t"),
        "validation": [],
    }
    found = audit_rows(splits, recipe(base=base, max_tokens=32))
    order = ["error", "warning", "note"]
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=order.index)
    assert found[0].kind == "too-long"
    assert secret not in str(found)


def test_every_task_and_no_rows_at_all_pass_the_whole_audit() -> None:
    empty: list[dict[str, list[Row]]] = [{}, {name: [] for name in ("train", "test", "reference")}]
    for task in TASKS:
        for splits in empty:
            assert {f.kind for f in audit_rows(splits, recipe(task))} <= {
                "length-unknown",
                "label-errors-skipped",
            }
