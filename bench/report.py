"""What every benchmark writes: the machine, the versions, tables, and a last line of JSON."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

S = TypeVar("S")
RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Processor, cores and memory in one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    flags = Path("/proc/cpuinfo").read_text()
    isa = [name for name in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx2") if name in flags]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{cpu}, {os.cpu_count()} cores, {memory_bytes / 2**30:.0f} GiB, {' '.join(isa)}"


def versions(packages: Sequence[str]) -> str:
    """Installed versions in one line."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def read_options(name: str, parts: Iterable[str], keep: str) -> argparse.Namespace:
    """quick, data (resolved), only and keep, as every benchmark of parts takes them."""
    names = list(parts)
    parser = argparse.ArgumentParser(prog=f"bench.{name}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--keep", type=Path, default=Path(keep))
    options = parser.parse_args()
    options.data = options.data.resolve()
    return options


def run_parts(
    parts: Mapping[str, Callable[[S], dict[str, Any]]], only: Sequence[str], setting: S, home: Path
) -> dict[str, Any]:
    """Run those parts, keep each one's figures in the folder, and return all that are kept."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: home / f"{name}.json" for name in parts}
    for name in only:
        kept[name].write_text(json.dumps(parts[name](setting), indent=1))
    return {name: json.loads(path.read_text()) for name, path in kept.items() if path.exists()}


def finish(
    name: str, sections: Sequence[str], packages: Sequence[str], figures: Mapping[str, object]
) -> None:
    """Rewrite results/NAME.md, print it, and end with one line of JSON."""
    head = f"# bench.{name}\n\n{datetime.now(UTC):%Y-%m-%d}. {machine()}. {versions(packages)}.\n"
    text = head + "\n" + "\n\n".join(sections) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps(figures), flush=True)
