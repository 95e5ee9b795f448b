"""What `pip install 'edgeloop[cpu]'` puts on a box."""

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def install_bytes(scratch: Path) -> dict[str, Any]:
    """Bytes of site-packages without pip itself, and the largest packages."""
    environment = scratch / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    before = _bytes(environment)
    subprocess.run(
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[cpu]"),
        ],
        check=True,
    )
    (packages,) = environment.glob("lib/python3*/site-packages")
    largest = sorted(((_bytes(p), p.name) for p in packages.iterdir()), reverse=True)[:6]
    return {
        "bytes": _bytes(environment) - before,
        "has_torch": (packages / "torch").exists(),
        "largest": {name: size for size, name in largest},
    }


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(p.stat().st_size for p in files if p.is_file() and not p.is_symlink())
