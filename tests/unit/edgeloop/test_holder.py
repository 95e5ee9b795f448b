"""A lease holder is gone only where it certainly is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeloop.holder import is_gone, this_process
from edgeloop.ledger import open_ledger

ACQUIRE = """
import sys, time
from pathlib import Path
from edgeloop.ledger import open_ledger
assert open_ledger(Path(sys.argv[1])).acquire("m", 3600.0)
print("held", flush=True)
time.sleep(60)
"""


def test_a_living_process_is_not_gone() -> None:
    assert not is_gone(this_process())


def test_a_dead_process_is_gone_and_a_reused_number_is_not_the_same_process() -> None:
    host, namespace, number, start, nonce = this_process().split("|")
    ticks, boot = start.split("@")
    assert is_gone(f"{host}|{namespace}|{number}|{int(ticks) - 100}@{boot}|{nonce}")
    assert is_gone(f"{host}|{namespace}|{number}|{ticks}@another-boot|{nonce}")
    assert is_gone(f"{host}|{namespace}|999999999|{start}|{nonce}")


def test_a_process_whose_parent_has_not_asked_for_its_end_is_gone() -> None:
    script = "from edgeloop.holder import this_process; print(this_process())"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    holder = process.stdout.read().strip()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert is_gone(holder)
    process.communicate()


def test_without_proc_a_process_is_known_by_its_time_of_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgeloop.holder.BOOT_ID", tmp_path / "absent")
    host, namespace, number, start, nonce = this_process().split("|")
    assert not is_gone(f"{host}|{namespace}|{number}|{start}|{nonce}")
    assert is_gone(f"{host}|{namespace}|{number}|{float(start) - 100:.2f}|{nonce}")
    assert is_gone(f"{host}|{namespace}|999999999|{start}|{nonce}")


def test_another_host_or_an_unknown_form_is_never_gone() -> None:
    _, namespace, _, start, nonce = this_process().split("|")
    assert not is_gone(f"elsewhere|{namespace}|999999999|{start}|{nonce}")
    for holder in ("", "a:b:c", "a|b|c|d|e", "|||||"):
        assert not is_gone(holder)


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ACQUIRE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    ledger = open_ledger(tmp_path)
    assert ledger.acquire("m", 10.0) is None, "its holder lives"
    process.kill()
    process.communicate()
    lease = ledger.acquire("m", 10.0)
    assert lease is not None
    assert lease.fence == 2
