"""Side by side with Olive and optimum: the same fine-tuned encoder, each tool's own int8.

Every tool works as its documentation says for int8 on a CPU, in a process of its own by its own
environment's Python (bench/compress/peers.sh makes those): once from the merged folder with its own
exporter ("olive", "optimum"), and once on the fp32 model.onnx that edgeloop exports ("olive on
edgeloop's export", ...). What they write is judged by bench.compress.turns.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.compress.turns import Side, in_turns
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.rows import read_rows
from edgeloop.runtime import load_tokenizer

HERE = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("EDGELOOP_PEERS", HERE.parents[1] / "build" / "peers"))
PEERS = ("optimum", "olive")
OWN = "edgeloop"
MAX_TOKENS = 128
POLL_SECONDS = 0.02
QUIET = {"OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

Figures = dict[str, Any]


def side_by_side(merged: Path, dataset: Path, own: Path) -> dict[str, Figures]:
    """Per name accuracy, size_bytes, p50_ms, p95_ms, seconds and peak_rss_bytes of making it,
    export_seconds within those, and a note; or {"problem": why there is nothing}.

    `own` is edgeloop's onnx-int8 candidate, made of `merged`; it is what "edgeloop" is judged by.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = _make_all(merged, dataset, Path(scratch))
        if "problem" not in made[OWN]:
            same = made[OWN]["model"].read_bytes() == (own / MODEL).read_bytes()
            said = f"the timed run wrote {'the same' if same else 'other'} bytes"
            made[OWN] |= {"model": own / MODEL, "note": f"{made[OWN]['note']}; {said}"}
        rows = read_rows(dataset, "test")
        sides = _open_all(made, own / TOKENIZER, _labels(merged), rows[0].text)
        judged = in_turns(sides, rows)
    return {name: {**judged.get(name, {}), **side} for name, side in made.items()}


def _open_all(
    made: dict[str, Figures], tokenizer: Path, labels: Sequence[str], text: str
) -> dict[str, Side]:
    """Those that answer; of one that does not the problem takes the place of its figures."""
    sides = {}
    for name, figures in made.items():
        if "problem" in figures:
            continue
        model, output = figures.pop("model"), figures.pop("output")
        try:
            side = Side(model, output, load_tokenizer(tokenizer, MAX_TOKENS), labels)
            side.answer(text)
        except Exception as problem:  # onnxruntime's exceptions have no common base of their own
            made[name] = {"problem": f"what it wrote does not answer ({problem})"}
        else:
            sides[name] = side
    return sides


def _labels(merged: Path) -> list[str]:
    names = json.loads((merged / "config.json").read_text(encoding="utf-8"))["id2label"]
    return [names[str(i)] for i in range(len(names))]


def _make_all(merged: Path, dataset: Path, scratch: Path) -> dict[str, Figures]:
    """Every tool's model in a folder below `scratch`, one after the other."""
    folder = scratch / OWN
    arguments = [str(merged), str(dataset), str(folder), str(MAX_TOKENS)]
    made = {OWN: _make(module_command("bench.compress.peer_edgeloop", *arguments), folder)}
    exported = folder / "exported.onnx"
    for peer in PEERS:
        made[peer] = _peer(peer, "own", merged, scratch / peer)
        if exported.exists():
            name = f"{peer} on {OWN}'s export"
            made[name] = _peer(peer, "given", exported, scratch / f"{peer}-given")
    return made


def _peer(peer: str, mode: str, source: Path, folder: Path) -> Figures:
    environment = ENVIRONMENTS / peer
    if not (environment / ".ready").exists():
        why = environment.with_suffix(".txt")
        said = why.read_text(encoding="utf-8").strip() if why.exists() else ""
        return {"problem": said or "not installed: run bench/compress/peers.sh"}
    script = str(HERE / f"peer_{peer}.py")
    python = str(environment / "bin" / "python")
    return _make([python, script, mode, str(source), str(folder)], folder)


def _make(command: Sequence[str], folder: Path) -> Figures:
    """Run a peer's script, which writes its model and peer.json into `folder`."""
    folder.mkdir()
    seconds, peak_rss_bytes, problem = measured(command)
    if problem is not None:
        return {"problem": problem}
    document = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "export_seconds": document["export_seconds"],
        "peak_rss_bytes": peak_rss_bytes,
        "model": folder / document["model"],
        "output": document["output"],
        "note": document["note"],
    }


def measured(command: Sequence[str]) -> tuple[float, int, str | None]:
    """Seconds from start to end, the largest resident size that any process of its tree reached,
    and the last line of its error output where it failed.

    Linux keeps each process's own maximum, so that looking from time to time misses only what is
    gained after the last look.
    """
    environment = {**module_environment(), **QUIET}
    if command[0] != sys.executable:
        environment.pop("PYTHONPATH")  # a peer must not find our modules
    with tempfile.TemporaryFile("w+") as errors:
        started, peak_rss_bytes = time.monotonic(), 0
        process = psutil.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=errors, text=True
        )
        while process.poll() is None:
            peak_rss_bytes = max(peak_rss_bytes, _tree_peak_bytes(process))
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - started
        errors.seek(0)
        problem = last_line(errors.read()) if process.returncode else None
    return seconds, peak_rss_bytes, problem


def _tree_peak_bytes(process: psutil.Process) -> int:
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return max(_peak_bytes(member.pid) for member in tree)


def _peak_bytes(pid: int) -> int:
    """0 where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
