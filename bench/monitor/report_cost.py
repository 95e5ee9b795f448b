"""What a drift report costs: 1,000,000 rows of 20 numbers against as many, from npz, csv, parquet,
in a process of its own each: the clock and the peak of its resident memory.

    python -m bench.monitor.report_cost [--quick] [--kinds npz csv parquet]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import machine, table, versions

ROWS, COLUMNS = 1_000_000, 20
QUICK_ROWS = 50_000
SHIFTED_COLUMNS, SHIFT = 3, 0.1
KINDS = ("npz", "csv", "parquet")
MOST_SECONDS, MOST_MB = 60.0, 500.0


def write_tables(folder: Path, rows: int, kind: str) -> tuple[Path, Path]:
    """Two tables of normal numbers; a few columns of the second are shifted in its second half."""
    paths = folder / f"reference.{kind}", folder / f"traffic.{kind}"
    for seed, path in enumerate(paths):
        rng = np.random.default_rng(seed)
        columns = {f"f{i:02}": rng.normal(size=rows) for i in range(COLUMNS)}
        for name in list(columns)[: SHIFTED_COLUMNS * seed]:
            columns[name][rows // 2 :] += SHIFT
        _write(path, columns)
    return paths


def _write(path: Path, columns: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".csv":
        values, header = np.stack(list(columns.values()), axis=1), ",".join(columns)
        np.savetxt(path, values, delimiter=",", header=header, comments="", fmt="%.7g")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)


def report_once(reference: Path, traffic: Path, out: Path) -> dict[str, Any]:
    """One report in this process: seconds, peak MB of memory, and how many features were found."""
    from edgeloop.drift_report import Asked, write_drift_report

    started = time.perf_counter()
    asked = Asked(None, reference, (traffic,), None, None)
    document = write_drift_report(asked, out, lambda _: None)
    return {
        "report_seconds": time.perf_counter() - started,
        "report_mb": _peak_mb(),
        "moved": sum(feature["has_moved"] for feature in document["features"]),
    }


def _peak_mb() -> float:
    """Of this process; getrusage would count what its parent held when it was started."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(rows: int = ROWS, kinds: Sequence[str] = KINDS) -> dict[str, dict[str, Any]]:
    """Per kind of file what `report_once` says in a fresh process."""
    found = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_tables(Path(folder), rows, kind)
            out = Path(folder) / "report.html"
            found[kind] = json.loads(_fresh([*map(str, paths), str(out)]))
    return found


def _fresh(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", "bench.monitor.report_cost", "--once", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Tables for a person, then one line of JSON: that of the dearest kind, and all kinds."""
    parser = argparse.ArgumentParser(prog="bench.monitor.report_cost")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--once", nargs=3, type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(report_once(*options.once)))
        return
    rows = QUICK_ROWS if options.quick else ROWS
    found = measure(rows, options.kinds)
    print(machine())
    print(versions(["numpy", "pyarrow"]))
    print(f"{rows:,} rows x {COLUMNS} features, reference and traffic; at most ", end="")
    print(f"{MOST_SECONDS:g} s and {MOST_MB:g} MB\n")
    lines = [
        (kind, f"{own['report_seconds']:.1f}", f"{own['report_mb']:.0f}", own["moved"])
        for kind, own in found.items()
    ]
    print(table(("file", "seconds", "peak MB", "features moved"), lines))
    worst = {name: max(o[name] for o in found.values()) for name in ("report_seconds", "report_mb")}
    print(json.dumps({**worst, "kinds": found}))


if __name__ == "__main__":
    main()
