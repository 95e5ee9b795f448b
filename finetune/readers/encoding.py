"""How a text file's bytes are to be decoded: as the recipe says, else UTF-8 or UTF-16 by their
marks, else by charset-normalizer's guess where it is a good one.
"""

import codecs
from importlib.util import find_spec
from pathlib import Path

from edgeloop.rundir import CHUNK_BYTES
from finetune.problems import Problems

# UTF-32's mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UTF8 = "utf-8-sig"  # takes a byte order mark or none

# What files that are not UTF-8 are written in. A guess among all of Python's encodings names
# cousins that nobody uses, with other letters in a few places.
SINGLE_BYTE = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r", "mac_roman", "cp850",
)  # fmt: skip
MULTI_BYTE = ("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr")

# A guess is good where the text is clean, enough of it is not plain ASCII, its letters are those
# of a language, and no other encoding makes as much sense of it.
SAMPLE_BYTES = 1 << 16
MIN_FOREIGN_BYTES = 3
MAX_CHAOS = 0.08
MIN_COHERENCE = 0.2
MIN_CHAOS_MARGIN = 0.1


def find_encoding(path: Path, named: str | None, problems: Problems) -> str | None:
    """The name under which Python decodes the whole file; None where none does, which is noted with
    the first bad byte and its offset. A guess is noted as a warning."""
    if named is not None:
        return _named(path, named, problems)
    with path.open("rb") as stream:
        head = stream.read(CHUNK_BYTES)
    mark = next((name for mark, name in MARKS if head.startswith(mark)), None)
    if mark is None and head.count(0) * 4 > len(head):
        problems.add(
            f"{path}: looks like UTF-16 without its byte order mark; set data.encoding to "
            "utf-16-le or utf-16-be, or save the file as UTF-8"
        )
        return None
    bad = first_bad_byte(path, mark or UTF8)
    if bad is None:
        return mark or UTF8
    guess = None if mark else guess_encoding(foreign_lines(path))
    if guess is None or first_bad_byte(path, guess) is not None:
        name = "UTF-8" if mark is None else mark.upper()
        problems.add(
            f"{path}: not {name}: byte 0x{bad[1]:02x} at byte offset {bad[0]}; save the file as "
            "UTF-8, or name its encoding in data.encoding"
        )
        return None
    problems.warnings.append(f"{path}: not UTF-8, read as {guess}; set data.encoding")
    return guess


def _named(path: Path, named: str, problems: Problems) -> str | None:
    try:
        name = codecs.lookup(named).name
        "".encode(name)  # base64 and the like are codecs, too, but not of text
    except LookupError:
        problems.add(
            f"{path}: data.encoding is {named!r}, which is no encoding; write one like utf-8, "
            "cp1252 or utf-16"
        )
        return None
    encoding = UTF8 if name == "utf-8" else name
    bad = first_bad_byte(path, encoding)
    if bad is not None:
        problems.add(
            f"{path}: not {named} as data.encoding says: byte 0x{bad[1]:02x} at byte offset "
            f"{bad[0]}; save the file as UTF-8, or name its own encoding"
        )
        return None
    return encoding


def first_bad_byte(path: Path, encoding: str) -> tuple[int, int] | None:
    """(offset, byte) of the first byte that does not decode; the file is read as a stream."""
    # Python counts a position behind UTF-8's mark from the mark's end on.
    decoder = codecs.getincrementaldecoder("utf-8" if encoding == UTF8 else encoding)()
    start = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(CHUNK_BYTES)
            state = decoder.getstate()[0]
            pending = len(state) if isinstance(state, bytes) else 0
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as problem:
                return start - pending + problem.start, problem.object[problem.start]
            if not chunk:
                return None
            start += len(chunk)


def foreign_lines(path: Path) -> bytes:
    """The file's lines that are not plain ASCII, up to SAMPLE_BYTES: all else tells nothing."""
    sample = bytearray()
    with path.open("rb") as stream:
        while (line := stream.readline(SAMPLE_BYTES)) and len(sample) < SAMPLE_BYTES:
            if not line.isascii():
                sample += line
    return bytes(sample)


def guess_encoding(sample: bytes) -> str | None:
    """The encoding of text that is not UTF-8; None where no guess is good enough."""
    foreign = sum(byte >= 0x80 for byte in sample)
    if foreign < MIN_FOREIGN_BYTES or _is_damaged_utf8(sample):
        return None
    # Only here: the edge reads UTF-8 without this package.
    if find_spec("charset_normalizer") is None:
        return None
    from charset_normalizer import from_bytes

    found = from_bytes(sample, cp_isolation=[*SINGLE_BYTE, *MULTI_BYTE])
    matches = sorted(found, key=lambda match: (match.chaos, -match.coherence))
    if not matches or matches[0].chaos > MAX_CHAOS:
        return None
    best, others = matches[0], matches[1:]
    if best.encoding in MULTI_BYTE:
        clear = all(other.chaos - best.chaos > MIN_CHAOS_MARGIN for other in others)
        return best.encoding if clear else None
    if best.coherence < MIN_COHERENCE:
        return None
    rank = (best.chaos, best.coherence)
    tied = [best, *(other for other in others if (other.chaos, other.coherence) == rank)]
    # cp1250 and cp1252 share most letters; of the two, cp1252 is by far the more common.
    if len(tied) > 1 and {match.encoding for match in tied} != {"cp1250", "cp1252"}:
        return None
    names = {name for match in tied for name in match.could_be_from_charset}
    return "cp1252" if "cp1252" in names else best.encoding


def _is_damaged_utf8(sample: bytes) -> bool:
    """Other encodings hardly ever make a valid sequence of several bytes; UTF-8 with a damaged
    place in it has them everywhere else."""
    decoded = sample.decode("utf-8", "ignore")
    return any(character > "\x7f" for character in decoded)
