"""What Hugging Face datasets says of its columns: the names behind class numbers."""

from collections.abc import Mapping
from typing import Any

ClassNames = Mapping[str, tuple[str, ...]]


def class_names(features: Any) -> ClassNames:
    """Column to class names, from the `features` of a dataset_info.json or of a parquet file's
    metadata; columns of other kinds are left out."""
    if not isinstance(features, dict):
        return {}
    named = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in named.items() if names is not None}


def _names(feature: Any) -> tuple[str, ...] | None:
    """Of a ClassLabel, also inside Sequence, List or the bare list of older versions."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return tuple(map(str, names)) if isinstance(names, list) else None
    return _names(feature["feature"]) if "feature" in feature else None


def with_names(cells: dict[str, Any], named: ClassNames) -> tuple[dict[str, Any], str]:
    """The cells with names for numbers, and what is wrong with them ("" for nothing)."""
    result = dict(cells)
    for column in cells.keys() & named.keys():
        try:
            result[column] = _name(cells[column], named[column])
        except IndexError:
            most = len(named[column]) - 1
            return result, (
                f"{column} is {cells[column]}, the dataset names classes 0 to {most}; give the "
                "row one of them or remove it"
            )
    return result, ""


def _name(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 0 <= value < len(names):
        raise IndexError(value)
    return names[value]
