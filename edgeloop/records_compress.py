"""What is found out about a candidate's file besides its figures: the kernels that it really runs
on, and whether its answers depend on anything but the text.
"""

from edgeloop.records import Record


class KernelLint(Record):
    """Matrix products of the graph as onnxruntime runs it. integer_matmuls: in integers.
    float_matmuls: with weights that are float. float_products: of two activations, as in attention,
    which no candidate quantizes. qdq_islands: float operators of any kind between DequantizeLinear
    and QuantizeLinear, which run slower than they did before."""

    integer_matmuls: int
    float_matmuls: int
    float_products: int
    qdq_islands: int
    warnings: tuple[str, ...]


class Change(Record):
    """max_change: the largest difference of any logit, or of the embedding where there are no
    logits. flips: rows with another answer."""

    max_change: float
    flips: int


class Invariance(Record):
    """Answers to the same `rows` texts, each alone and by one thread, against those in a batch with
    others, padded longer, and by more threads."""

    rows: int
    batch: Change
    padding: Change
    threads: Change
