"""YAML with 1.2 scalars: `1e-5` is a number, `no` is text, a duplicate key is an error.

PyYAML resolves scalars by YAML 1.1, where `1e-5` is text, `no` is False and the last of two equal
keys wins in silence. The patterns below are the core schema of YAML 1.2.2, section 10.3.2.
"""

import json
import re
from typing import Any

import yaml


class YamlProblem(ValueError):
    """The text is YAML, but not a document that we accept."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2 and without duplicate keys."""

    yaml_implicit_resolvers: dict[Any, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                line = key_node.start_mark.line + 1
                raise YamlProblem(f"line {line}: the key {key!r} is not text; put it in quotes")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise YamlProblem(f"line {line}: the key {key} stands here a second time")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_CORE_SCHEMA: tuple[tuple[str, str, list[str | None]], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", "", None]),
)
for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(
        loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan")
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def load_yaml(text: str) -> Any:
    """One YAML document as what JSON can say, with no part shared between two places.

    Raises YamlProblem (duplicate or non-text key, a value that is none) and yaml.YAMLError.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        return json.loads(json.dumps(value, ensure_ascii=False).encode())
    except YamlProblem:
        raise
    except RecursionError:
        raise YamlProblem("the lists and mappings are nested too deeply") from None
    except (ValueError, KeyError, TypeError) as problem:  # an explicit tag, a cycle, a surrogate
        raise YamlProblem(f"a value cannot be read ({problem})") from None


def parse_scalar(text: str) -> Any:
    """The value of a `--set key=value`: a YAML scalar, list or mapping."""
    return load_yaml(text)
