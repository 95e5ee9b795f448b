"""RAPL's counters, on a tree of files like the kernel's."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.energy import EnergyMeter, joules_between, package_zones

RANGE_UJ = 262_143_328_850


def zone(root: Path, number: str, name: str, energy_uj: int = 1_000_000) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two packages with a subzone each, the whole platform, and the control type's own folder."""
    root = tmp_path / "powercap"
    (root / "intel-rapl").mkdir(parents=True)
    zone(root, "0", "package-0")
    zone(root, "0:0", "core")
    zone(root, "1", "package-1")
    zone(root, "1:0", "dram")
    zone(root, "2", "psys")
    return root


def set_counter(root: Path, number: str, energy_uj: object) -> None:
    (root / f"intel-rapl:{number}" / "energy_uj").write_text(f"{energy_uj}\n")


# -- counters ----------------------------------------------------------------------------------


@given(before=st.integers(0, RANGE_UJ), used=st.integers(0, RANGE_UJ - 1))
def test_what_was_used_comes_back_whether_the_counter_wraps_or_not(before: int, used: int) -> None:
    after = before + used
    after = after if after <= RANGE_UJ else after - RANGE_UJ
    assert joules_between(before, after, RANGE_UJ) == pytest.approx(used / 1e6)


@pytest.mark.parametrize(("before", "after"), [(-1, 5), (5, -1), (11, 5), (5, 11)])
def test_a_reading_out_of_range_is_no_energy(before: int, after: int) -> None:
    with pytest.raises(ValueError, match="not within 0..10"):
        joules_between(before, after, 10)


def test_only_whole_packages_are_counted(root: Path) -> None:
    assert [z.folder.name for z in package_zones(root)] == ["intel-rapl:0", "intel-rapl:1"]


# -- the meter ---------------------------------------------------------------------------------


def test_the_packages_are_summed_and_the_rest_is_left_out(root: Path) -> None:
    with EnergyMeter(root) as meter:
        set_counter(root, "0", 3_500_000)
        set_counter(root, "1", 1_250_000)
        for other in ("0:0", "1:0", "2"):
            set_counter(root, other, 9_000_000)
    assert meter.joules == pytest.approx(2.75)
    assert meter.reason == ""


def test_a_wrapped_counter_is_followed(root: Path) -> None:
    set_counter(root, "0", RANGE_UJ - 500_000)
    with EnergyMeter(root) as meter:
        set_counter(root, "0", 250_000)
    assert meter.joules == pytest.approx(0.75)


def test_a_meter_can_be_used_again(root: Path) -> None:
    meter = EnergyMeter(root)
    for end in (2_000_000, 4_000_000):
        with meter:
            set_counter(root, "0", end)
    assert meter.joules == pytest.approx(2.0)


def test_a_machine_without_rapl_has_a_reason(tmp_path: Path) -> None:
    with EnergyMeter(tmp_path / "none") as meter:
        pass
    assert meter.joules is None
    assert "no RAPL package" in meter.reason


def test_a_counter_that_does_not_move_is_no_measurement(root: Path) -> None:
    with EnergyMeter(root) as meter:
        pass
    assert (meter.joules, "do not move" in meter.reason) == (None, True)


def _lost(root: Path) -> None:
    (root / "intel-rapl:1" / "energy_uj").unlink()


def _garbled(root: Path) -> None:
    set_counter(root, "0", "soon")


def _out_of_range(root: Path) -> None:
    set_counter(root, "0", RANGE_UJ + 1)


@pytest.mark.parametrize("spoil", [_lost, _garbled, _out_of_range])
@pytest.mark.parametrize("early", [True, False])
def test_a_counter_that_does_not_read_is_a_reason_and_no_exception(
    root: Path, spoil: Callable[[Path], None], early: bool
) -> None:
    if early:
        spoil(root)
    with EnergyMeter(root) as meter:
        if not early:
            spoil(root)
    assert meter.joules is None
    assert "RAPL cannot be read" in meter.reason


def test_a_counter_for_root_only_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = str(root / "intel-rapl:0" / "energy_uj")
    real = Path.read_text

    def read_text(path: Path) -> str:
        if str(path) == denied:
            raise PermissionError(13, "Permission denied", denied)
        return real(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    with EnergyMeter(root) as meter:
        pass
    assert meter.joules is None
    assert meter.reason.startswith(f"{denied} may be read by root only")


def test_this_machine_measures_or_says_why_not() -> None:
    with EnergyMeter() as meter:
        sum(i * i for i in range(200_000))
    assert (meter.joules is None) == bool(meter.reason)
