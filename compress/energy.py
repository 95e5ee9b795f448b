"""Energy of the processor packages by RAPL's counters, where the kernel lets us read them.

    with EnergyMeter() as meter: ...
    meter.joules, or None and meter.reason

The counters are those of whole packages, idle share and other processes included: a figure means
something only on a machine that is otherwise quiet. Memory is not in it. Since CVE-2020-8694 only
root may read them.
Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

POWERCAP = Path("/sys/class/powercap")
PACKAGE_PREFIX = "package-"
MICROJOULES = 1e6


@dataclass(frozen=True)
class Zone:
    """A package's counter: it goes up to `max_range_uj` microjoules, and then starts again."""

    folder: Path
    max_range_uj: int

    def read_uj(self) -> int:
        """The counter, in microjoules. Raises OSError or ValueError where it does not read."""
        return int((self.folder / "energy_uj").read_text())


def package_zones(root: Path = POWERCAP) -> tuple[Zone, ...]:
    """The packages' zones below `root`. Cores are counted in them already, as packages are in the
    zone psys; memory (dram) has subzones of its own on some machines only, and is left out.

    Raises OSError or ValueError where a zone does not read.
    """
    zones = []
    for folder in sorted(root.glob("intel-rapl:*")):  # AMD's are named alike
        if (folder / "name").read_text().strip().startswith(PACKAGE_PREFIX):
            zones.append(Zone(folder, int((folder / "max_energy_range_uj").read_text())))
    return tuple(zones)


def joules_between(before_uj: int, after_uj: int, max_range_uj: int) -> float:
    """What a counter went through, at most once past its end (that takes most of an hour at 100 W).

    Raises ValueError where a reading is not within the counter's range.
    """
    if not (0 <= before_uj <= max_range_uj and 0 <= after_uj <= max_range_uj):
        raise ValueError(f"{before_uj} and {after_uj} uJ are not within 0..{max_range_uj}")
    gone_uj = after_uj - before_uj
    return (gone_uj if gone_uj >= 0 else gone_uj + max_range_uj) / MICROJOULES


class EnergyMeter:
    """Measures what its block takes: `joules` of all packages together after it, or None with the
    reason. Never raises."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._root = root
        self._zones: tuple[Zone, ...] = ()
        self._before_uj: list[int] = []
        self.joules: float | None = None
        self.reason = ""

    def __enter__(self) -> Self:
        self.joules, self.reason = None, ""
        try:
            self._zones = package_zones(self._root)
            self._before_uj = [zone.read_uj() for zone in self._zones]
        except (OSError, ValueError) as problem:
            self.reason = _reason(problem)
        else:
            if not self._zones:
                self.reason = (
                    f"no RAPL package below {self._root} (a virtual machine, or another CPU)"
                )
        return self

    def __exit__(self, *_: object) -> None:
        if self.reason:
            return
        try:
            pairs = zip(self._zones, self._before_uj, strict=True)
            joules = sum(
                joules_between(before_uj, zone.read_uj(), zone.max_range_uj)
                for zone, before_uj in pairs
            )
        except (OSError, ValueError) as problem:
            self.reason = _reason(problem)
            return
        if joules == 0.0:
            self.reason = f"the RAPL counters below {self._root} do not move"
        else:
            self.joules = joules


def _reason(problem: OSError | ValueError) -> str:
    if isinstance(problem, PermissionError):
        return f"{problem.filename} may be read by root only (chmod a+r makes energy measurable)"
    return f"RAPL cannot be read ({problem})"
