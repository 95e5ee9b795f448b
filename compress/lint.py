"""Which matrix products of a candidate really became integer kernels: counted in the graph that
onnxruntime makes of the file with the settings of edgeloop.runtime, since a quantized file whose
patterns it does not know runs in float, and slower than before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort

from compress.graph import all_nodes
from edgeloop.errors import EngineError
from edgeloop.records_compress import KernelLint
from edgeloop.runtime import SLOWER_FUSIONS

INTEGER = {
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QAttention",
    "QGemm",
    "QLinearMatMul",
}
FLOAT = {"FusedGemm", "FusedMatMul", "Gemm", "MatMul"}
# What hands values on as they are: an island may be bridged by it.
SHAPE_ONLY = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
# A quantized candidate with fewer of its weighted MatMuls in integers is hardly one.
EXPECTED_INTEGER_RATIO = 0.5

Graph = Sequence[onnx.NodeProto]


def lint_kernels(model: Path) -> KernelLint:
    """Raises EngineError where onnxruntime does not load the file."""
    graph = optimised(model).graph
    is_quantized = any(
        node.op_type in INTEGER or node.op_type.endswith("uantizeLinear")
        for node in all_nodes(onnx.load(str(model), load_external_data=False).graph)
    )
    nodes = list(all_nodes(graph))
    weights = {weight.name for weight in graph.initializer}
    weights |= {
        node.output[0]
        for node in nodes
        if node.op_type == "DequantizeLinear" and node.input[0] in weights
    }
    floats = [node for node in nodes if node.op_type in FLOAT]
    weighted = sum(not weights.isdisjoint(node.input[:2]) for node in floats)
    integers = sum(node.op_type in INTEGER for node in nodes)
    islands = qdq_islands(nodes)
    return KernelLint(
        integer_matmuls=integers,
        float_matmuls=weighted,
        float_products=len(floats) - weighted,
        qdq_islands=len(islands),
        warnings=_warnings(nodes, integers, weighted if is_quantized else 0, islands),
    )


def optimised(model: Path) -> onnx.ModelProto:
    """The graph that onnxruntime runs. Raises EngineError where it does not load the file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # it warns that such a file suits only this machine
    with TemporaryDirectory(prefix="edgeloop-lint-") as scratch:
        target = Path(scratch) / "optimised.onnx"
        options.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(
                str(model),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=SLOWER_FUSIONS,
            )
        except Exception as problem:  # onnxruntime's exceptions have no common base of their own
            raise EngineError(f"{model}: does not load ({problem})") from problem
        return onnx.load(str(target))


def qdq_islands(nodes: Graph) -> list[str]:
    """The kinds of the float operators whose every computed input was dequantized for them, and
    whose output is quantized again."""
    makers = {name: node for node in nodes for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return [
        node.op_type
        for node in nodes
        if node.op_type not in {"DequantizeLinear", "QuantizeLinear", *SHAPE_ONLY}
        and _is_dequantized(node, makers)
        and _is_quantized(node, readers)
    ]


def _is_dequantized(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    kinds = [makers[name].op_type for name in node.input if name in makers]
    return bool(kinds) and all(kind == "DequantizeLinear" for kind in kinds)


def _is_quantized(node: onnx.NodeProto, readers: Mapping[str, Graph]) -> bool:
    return any(
        reader.op_type == "QuantizeLinear"
        or (reader.op_type in SHAPE_ONLY and _is_quantized(reader, readers))
        for name in node.output
        for reader in readers.get(name, [])
    )


def _warnings(
    nodes: Graph, integers: int, weighted: int, islands: Sequence[str]
) -> tuple[str, ...]:
    """`weighted` float products that were meant to be integer ones."""
    said = []
    if weighted and integers < EXPECTED_INTEGER_RATIO * (integers + weighted):
        said.append(
            f"only {integers} of {integers + weighted} MatMuls with weights run in integers; the "
            "others are as slow as in fp32"
        )
    dequantized = _dequantized_products(nodes)
    if dequantized:
        said.append(
            f"{dequantized} MatMuls turn their int8 weights back into floats for every text; "
            "onnxruntime does not know their pattern"
        )
    if islands:
        kinds = ", ".join(sorted(set(islands)))
        said.append(
            f"{len(islands)} float operators ({kinds}) stand between DequantizeLinear and "
            "QuantizeLinear, which costs more than it saves"
        )
    return tuple(said)


def _dequantized_products(nodes: Graph) -> int:
    """Float products that read what a DequantizeLinear made."""
    made = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
    return sum(n.op_type in FLOAT and not made.isdisjoint(n.input[:2]) for n in nodes)
