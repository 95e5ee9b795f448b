"""The embedding tables that input_ids looks up in, cut to fewer rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compress.graph import attribute, constants
from edgeloop.errors import ExportError

INPUT_IDS = "input_ids"
# What tells nothing of the ids' values, or hands them on unchanged.
ONLY_THE_SHAPE = ("Shape", "Size")
UNCHANGED = ("Cast", "Identity")
COMPARISONS = ("Equal",)


def cut_rows(model: onnx.ModelProto, kept: Sequence[int]) -> int:
    """Leave only the rows `kept` of every table that is looked up by input_ids, and write ids that
    input_ids is compared with (the padding's, for one) as their new ones, in place. Returns how
    many rows the largest table had.

    Raises ExportError where a table has other readers, or ids are used in a way not known here.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    known = constants(model.graph)
    rows = [
        _cut_table(model.graph, known, node, kept)
        if node.op_type == "Gather"
        else _renumber(model.graph, known, node, name, new_ids)
        for node, name in _readers(model.graph)
    ]
    if not any(rows):
        raise ExportError("the graph looks up no embedding table by input_ids; nothing to trim")
    return max(rows)


def compared_ids(model: onnx.ModelProto) -> set[int]:
    """The ids that input_ids is compared with, which have to be kept. Raises as `cut_rows` does."""
    known = constants(model.graph)
    return {
        _compared(known, node, name)[1]
        for node, name in _readers(model.graph)
        if node.op_type != "Gather"
    }


def _readers(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, str]]:
    """What reads the ids' values, and under which name."""
    names, found = {INPUT_IDS}, []
    for node in graph.node:  # in the order of computation
        for name in [name for name in node.input if name in names]:
            if node.op_type in UNCHANGED:
                names.add(node.output[0])
            elif node.op_type not in ONLY_THE_SHAPE:
                found.append((node, name))
    return found


def _cut_table(
    graph: onnx.GraphProto,
    known: Mapping[str, NDArray[np.generic]],
    node: onnx.NodeProto,
    kept: Sequence[int],
) -> int:
    table = node.input[0]
    is_only = sum(table in other.input for other in graph.node) == 1
    if table not in known or attribute(node, "axis", 0) != 0 or not is_only:
        raise ExportError(
            f"the table {table!r} is not looked up by input_ids alone; it cannot be trimmed"
        )
    rows = known[table]
    if kept[-1] >= len(rows):
        raise ExportError(f"the table {table!r} has {len(rows)} rows, the tokenizer id {kept[-1]}")
    for weight in graph.initializer:
        if weight.name == table:
            weight.CopyFrom(numpy_helper.from_array(rows[list(kept)], table))
    return len(rows)


def _compared(
    known: Mapping[str, NDArray[np.generic]], node: onnx.NodeProto, ids: str
) -> tuple[int, int]:
    """Which input of a comparison the other side is, and the one id there."""
    position = 1 if node.input[0] == ids else 0
    value = known.get(node.input[position]) if node.op_type in COMPARISONS else None
    if value is None or value.size != 1:
        raise ExportError(
            f"{node.op_type} {node.name!r} computes with input_ids; a vocabulary cannot be trimmed "
            "where ids are more than rows of a table"
        )
    return position, int(value.reshape(-1)[0])


def _renumber(
    graph: onnx.GraphProto,
    known: Mapping[str, NDArray[np.generic]],
    node: onnx.NodeProto,
    ids: str,
    new_ids: Mapping[int, int],
) -> int:
    position, old = _compared(known, node, ids)
    if old not in new_ids:
        raise ExportError(f"{node.op_type} {node.name!r} asks for id {old}, which no token has")
    constant = f"{node.input[position]}_trimmed_{old}"
    # Under a name of its own: the old constant may be something else's as well.
    if constant not in {weight.name for weight in graph.initializer}:
        array = np.full_like(known[node.input[position]], new_ids[old])
        graph.initializer.append(numpy_helper.from_array(array, constant))
    node.input[position] = constant
    return 0
