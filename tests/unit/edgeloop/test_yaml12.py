"""YAML 1.2 scalars, keys and the refusals of edgeloop.yaml12."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.yaml12 import YamlProblem, load_yaml, parse_scalar

SCALARS = {
    "1e-3": 1e-3,
    "1e5": 1e5,
    "1E+2": 100.0,
    ".5": 0.5,
    "5.": 5.0,
    "-.inf": -math.inf,
    "+.INF": math.inf,
    "1e400": math.inf,
    "3.10": 3.1,
    "007": 7,
    "-12": -12,
    "+1": 1,
    "0o17": 15,
    "0x1F": 31,
    "true": True,
    "False": False,
    "no": "no",
    "yes": "yes",
    "on": "on",
    "Off": "Off",
    "y": "y",
    "1_000": "1_000",
    "1:30": "1:30",
    "0b11": "0b11",
    "2026-01-05": "2026-01-05",
    "=": "=",
    "null": None,
    "Null": None,
    "NULL": None,
    "~": None,
    "": None,
    "nULL": "nULL",
    "''": "",
    "'1e-3'": "1e-3",
    '"no"': "no",
    "!!str 3": "3",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_a_scalar_has_the_value_and_type_of_yaml_12(text: str, value: object) -> None:
    loaded = load_yaml(f"key: {text}")["key"]
    assert loaded == value
    assert type(loaded) is type(value)
    assert parse_scalar(text) == value


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_number(text: str) -> None:
    assert math.isnan(load_yaml(text))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_document_is_none(text: str) -> None:
    assert load_yaml(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{a: 1, b: 2, a: 3}", "line 1: the key a stands here a second time"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4: the key b stands here a second time"),
        ("a: 1\n'a': 2\n", "line 2: the key a stands here a second time"),
    ],
)
def test_a_duplicate_key_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(YamlProblem, match=said):
        load_yaml(text)


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "~", "? [a]\n"])
def test_a_key_that_is_not_text_is_refused(key: str) -> None:
    with pytest.raises(YamlProblem, match="line 2: the key .* is not text; put it in quotes"):
        load_yaml(f"a: 1\n{key}: 2\n")


def test_the_same_key_in_two_mappings_is_no_duplicate() -> None:
    assert load_yaml("[{a: 1}, {a: 2}]") == [{"a": 1}, {"a": 2}]


def test_an_anchor_copies_and_never_shares() -> None:
    loaded = load_yaml("a: &x {b: [1]}\nc: *x\n")
    loaded["a"]["b"].append(2)
    assert loaded == {"a": {"b": [1, 2]}, "c": {"b": [1]}}


def test_a_merge_key_is_an_ordinary_key() -> None:
    assert load_yaml("a: &x {b: 1}\nc: {<<: *x}\n")["c"] == {"<<": {"b": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "!!int no",
        "!!float abc",
        "!!bool maybe",
        "!!binary aGk=",
        "!!timestamp 2026-01-05",
        "!!set {a, b}",
        "&x [*x]",
        r'"\ud800"',
        "[" * 5000,
        "9" * 5000,
        "0x" + "f" * 5000,
    ],
)
def test_what_json_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(YamlProblem):
        load_yaml(text)


@pytest.mark.parametrize(
    "text", ["a: [1", "a: !!python/object:os.system x", "--- 1\n--- 2\n", "\a"]
)
def test_what_is_not_yaml_or_not_plain_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)


_texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=20,
)


class _Quoting(yaml.SafeDumper):
    """Quotes every text, so that nothing about it is guessed by YAML 1.1's rules."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(_plain)
def test_what_pyyaml_dumps_with_quoted_texts_is_read_back_equal(value: object) -> None:
    text = yaml.dump(value, Dumper=_Quoting, allow_unicode=True, sort_keys=False)
    loaded = load_yaml(text)
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 is not True, 1.0 is not 1
