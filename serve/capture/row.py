"""A captured row, as it lies on the disk: one line of JSON."""

import msgspec

from serve.capture.sampling import Rule


class CaptureRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`id`: of the request, `index`: the text's place in it; `time`: of the answer, Unix seconds;
    `texts`: one, or a pair, redacted; `labels`: of entities without their places, which are those
    of another text now; `scores`: of the labels; `score`: of the whole answer;
    `inclusion_probability` of sampling.Sampler."""

    id: str
    index: int
    time: float
    bundle: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    score: float
    abstained: bool
    inclusion_probability: float
    rule: Rule


_decoder = msgspec.json.Decoder(CaptureRow)
_encoder = msgspec.json.Encoder()


def encode_row(row: CaptureRow) -> bytes:
    """The row's line, with its end."""
    return _encoder.encode(row) + b"\n"


def decode_row(line: bytes) -> CaptureRow | None:
    """None for what is no row: a line that a crash has cut off, be it of its end alone."""
    if not line.endswith(b"\n"):
        return None
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
