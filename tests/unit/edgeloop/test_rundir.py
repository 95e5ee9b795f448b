"""Run folders: skip what is done, take up what was interrupted, never leave half a result."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import EdgeloopError
from edgeloop.records import StageRecord
from edgeloop.rundir import (
    RunDir,
    digest_entries,
    digest_file,
    digest_of,
    discard_run,
    list_files,
    open_run,
    work_in_run,
    write_atomic,
)

ROOT = Path(__file__).parents[3]


class Counting:
    """A stage's work that writes a file and counts how often it was asked."""

    def __init__(self, content: str = "new") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, folder: Path, inputs_digest: str) -> StageRecord:
        self.calls += 1
        (folder / "out.txt").write_text(self.content)
        return StageRecord(inputs_digest=inputs_digest, files=list_files(folder))


def visible(run: RunDir) -> list[str]:
    return sorted(p.name for p in run.root.iterdir())


def test_a_stage_is_done_once_and_then_skipped(tmp_path: Path) -> None:
    run, work = RunDir(tmp_path), Counting()
    first = run.run_stage("adapter", StageRecord, {"seed": 1}, work)
    second = run.run_stage("adapter", StageRecord, {"seed": 1}, work)
    assert work.calls == 1
    assert first == second == StageRecord.read(run.folder("adapter") / "record.json")
    assert [e.path for e in first.files] == ["out.txt"]
    assert visible(run) == ["adapter"]
    assert sorted(p.name for p in run.folder("adapter").iterdir()) == ["out.txt", "record.json"]


def test_other_inputs_do_the_stage_again_and_replace_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.run_stage("adapter", StageRecord, {"seed": 1}, Counting("old"))
    again = Counting("new")
    record = run.run_stage("adapter", StageRecord, {"seed": 2}, again)
    assert again.calls == 1
    assert (run.folder("adapter") / "out.txt").read_text() == "new"
    assert run.record("adapter", StageRecord, record.inputs_digest) == record
    assert run.record("adapter", StageRecord, "another digest") is None
    assert visible(run) == ["adapter"]


def test_after_an_exception_the_same_folder_is_handed_out_again(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    def fails(folder: Path, inputs_digest: str) -> StageRecord:
        (folder / "epoch-1.txt").write_text("kept")
        raise RuntimeError("power")

    def goes_on(folder: Path, inputs_digest: str) -> StageRecord:
        assert (folder / "epoch-1.txt").read_text() == "kept"
        return StageRecord(inputs_digest=inputs_digest, files=list_files(folder))

    with pytest.raises(RuntimeError, match="power"):
        run.run_stage("adapter", StageRecord, {"seed": 1}, fails)
    assert not run.folder("adapter").exists()
    record = run.run_stage("adapter", StageRecord, {"seed": 1}, goes_on)
    assert [e.path for e in record.files] == ["epoch-1.txt"]


def test_half_done_work_of_other_inputs_is_thrown_away(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    def fails(folder: Path, inputs_digest: str) -> StageRecord:
        (folder / "stray.txt").write_text("of seed 1")
        raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        run.run_stage("adapter", StageRecord, {"seed": 1}, fails)
    record = run.run_stage("adapter", StageRecord, {"seed": 2}, Counting())
    assert [e.path for e in record.files] == ["out.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"inputs_digest": 3}'])
def test_a_stage_with_a_damaged_record_is_done_again(tmp_path: Path, content: bytes) -> None:
    run = RunDir(tmp_path)
    run.run_stage("adapter", StageRecord, {}, Counting("old"))
    (run.folder("adapter") / "record.json").write_bytes(content)
    work = Counting("new")
    run.run_stage("adapter", StageRecord, {}, work)
    assert work.calls == 1
    assert (run.folder("adapter") / "out.txt").read_text() == "new"


# For each n, a process that replaces a stage's old result and kills itself before its nth step. The
# steps are the audit events by which Python announces each change to a file or folder.
KILLER = """
import os, signal, sys
from pathlib import Path
from edgeloop.records import StageRecord
from edgeloop.rundir import RunDir, list_files

def stage(root, seed, content):
    def work(folder, digest):
        (folder / "out.txt").write_text(content)
        (folder / "second.txt").write_text(content)
        return StageRecord(inputs_digest=digest, files=list_files(folder))
    RunDir(root).run_stage("adapter", StageRecord, {"seed": seed}, work)

def killed(root, last_step):
    steps = 0
    def audit(event, arguments):
        nonlocal steps
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"
        steps += writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
        if steps > last_step:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(audit)
    stage(root, 2, "new")

for n in range(100):
    root = Path(sys.argv[1], f"{n:02}")
    stage(root, 1, "old")
    child = os.fork()
    if not child:
        killed(root, n)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


@pytest.fixture
def killed_runs(tmp_path: Path) -> list[RunDir]:
    """A run folder as each kill left it, and last the one that was not killed."""
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path)], cwd=ROOT, check=True)
    return [RunDir(path) for path in sorted(tmp_path.iterdir())]


class Both(Counting):
    """The work of `KILLER`."""

    def __call__(self, folder: Path, inputs_digest: str) -> StageRecord:
        (folder / "second.txt").write_text(self.content)
        return super().__call__(folder, inputs_digest)


def state(run: RunDir) -> str:
    """old, new, or aside where a kill between two renames left the old result aside."""
    for name, seed in (("old", 1), ("new", 2)):
        record = run.record("adapter", StageRecord, digest_of({"seed": seed}))
        if record is not None and record.files == list_files(run.folder("adapter")):
            assert (run.folder("adapter") / "out.txt").read_text() == name
            return name
    assert not run.folder("adapter").exists()
    assert StageRecord.read(run.root / ".stale-adapter" / "record.json")
    return "aside"


def test_a_kill_at_any_step_leaves_a_whole_result_and_the_rerun_completes(
    killed_runs: list[RunDir],
) -> None:
    states = [state(run) for run in killed_runs]
    assert states == sorted(states, key=["old", "aside", "new"].index)
    assert set(states) == {"old", "aside", "new"}
    for run in killed_runs:
        run.run_stage("adapter", StageRecord, {"seed": 2}, Both("new"))
        assert state(run) == "new"
        assert visible(run) == ["adapter"]


def test_work_that_was_complete_at_the_kill_is_not_done_again(killed_runs: list[RunDir]) -> None:
    (run,) = (run for run in killed_runs if state(run) == "aside")
    work = Both("again")
    run.run_stage("adapter", StageRecord, {"seed": 2}, work)
    assert work.calls == 0
    assert state(run) == "new"


def test_the_old_result_is_put_back_where_its_inputs_are_asked_for_again(
    killed_runs: list[RunDir],
) -> None:
    for run in killed_runs:
        before, work = state(run), Both("old")
        run.run_stage("adapter", StageRecord, {"seed": 1}, work)
        assert work.calls == (before == "new")
        assert state(run) == "old"


# -- open_run ----------------------------------------------------------------------------------


def test_the_same_inputs_find_the_same_run_and_others_another(tmp_path: Path) -> None:
    first = open_run(tmp_path, "tiny", {"seed": 1, "files": ["a", "b"]})
    assert open_run(tmp_path, "tiny", {"files": ["a", "b"], "seed": 1}).root == first.root
    assert open_run(tmp_path, "tiny", {"seed": 2, "files": ["a", "b"]}).root != first.root
    assert open_run(tmp_path, "other", {"seed": 1, "files": ["a", "b"]}).root != first.root
    assert first.root.parent == tmp_path / "runs"
    name, stamp, digest = first.root.name.split("-")
    assert name == "tiny"
    assert digest == digest_of({"seed": 1, "files": ["a", "b"]})[:8]
    assert len(stamp) == len("20261123T030000Z")


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b'{"seed": 2}'])
def test_a_run_whose_inputs_are_damaged_is_left_alone(
    tmp_path: Path, content: bytes | None
) -> None:
    digest = digest_of({"seed": 1})
    damaged = tmp_path / "runs" / f"tiny-20260101T000000Z-{digest[:8]}"
    damaged.mkdir(parents=True)
    if content is not None:
        (damaged / "inputs.json").write_bytes(content)
    run = open_run(tmp_path, "tiny", {"seed": 1})
    assert run.root != damaged
    assert open_run(tmp_path, "tiny", {"seed": 1}).root == run.root


# -- one process at a time ---------------------------------------------------------------------

WORKER = """
import sys
from pathlib import Path
from edgeloop.rundir import work_in_run

with work_in_run(Path(sys.argv[1]), "tiny", {"seed": 1}) as run:
    print(run.root, flush=True)
    sys.stdin.read()
"""


def test_a_run_is_locked_while_a_process_works_in_it_and_free_after_a_kill(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with worker:
        assert worker.stdout is not None
        root = worker.stdout.readline().strip()
        with (
            pytest.raises(EdgeloopError, match=f"another process is working in {root}; wait"),
            work_in_run(tmp_path, "tiny", {"seed": 1}),
        ):
            pass
        with work_in_run(tmp_path, "tiny", {"seed": 2}) as other:
            assert str(other.root) != root
        worker.kill()
    with work_in_run(tmp_path, "tiny", {"seed": 1}) as run:
        assert str(run.root) == root


def test_a_lock_is_given_back_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), work_in_run(tmp_path, "tiny", {}):
        raise RuntimeError("power")
    with work_in_run(tmp_path, "tiny", {}) as run:
        assert run.root.is_dir()


def test_a_discarded_run_is_gone_and_a_new_one_can_begin(tmp_path: Path) -> None:
    with work_in_run(tmp_path, "tiny", {}) as run:
        discard_run(run)
        assert list((tmp_path / "runs").iterdir()) == []
        with work_in_run(tmp_path, "tiny", {}) as again:
            assert (again.root / "inputs.json").is_file()


# -- files and digests -------------------------------------------------------------------------


def test_write_atomic_replaces_and_leaves_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_write_atomic_keeps_the_old_file_where_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    write_atomic(path, b"old")
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from edgeloop.rundir import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomic(Path(sys.argv[1]), bytes(100_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(path)],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_write_atomic_keeps_what_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "pointer").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "pointer", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_a_reader_never_sees_a_part_of_what_threads_write(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    texts = [bytes([65 + i]) * 50_000 for i in range(4)]
    write_atomic(path, texts[0])
    problems: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as problem:
            problems.append(problem)

    def write(text: bytes) -> None:
        for _ in range(20):
            write_atomic(path, text)

    threads = [
        threading.Thread(target=guarded, args=(lambda text=text: write(text),)) for text in texts
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in texts
    for thread in threads:
        thread.join()
    assert problems == []
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_files_are_listed_by_relative_path_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "b" / ".cache").mkdir(parents=True)
    for name in ("z.txt", "b/a.txt", ".hidden", "b/.cache/x", "record.json", "b/record.json"):
        (tmp_path / name).write_text(name)
    entries = list_files(tmp_path)
    assert [e.path for e in entries] == ["b/a.txt", "b/record.json", "z.txt"]
    assert entries[0].bytes == len("b/a.txt")
    assert entries[0].sha256 == hashlib.sha256(b"b/a.txt").hexdigest()
    assert [e.path for e in list_files(tmp_path, ("z.txt",))] == [
        "b/a.txt",
        "b/record.json",
        "record.json",
    ]


def test_a_digest_of_entries_knows_names_and_contents_only(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text("1")
        (tmp_path / folder / "b").write_text("2")
    os.utime(tmp_path / "two" / "a", (0, 0))
    one, two = list_files(tmp_path / "one"), list_files(tmp_path / "two")
    assert digest_entries(one) == digest_entries(reversed(two))
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "c")
    assert digest_entries(list_files(tmp_path / "two")) != digest_entries(one)


def test_a_file_larger_than_a_chunk_has_its_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "big").write_bytes(data)
    assert digest_file(tmp_path / "big") == hashlib.sha256(data).hexdigest()


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _plain), st.randoms())
def test_the_order_of_keys_does_not_change_a_digest(
    values: dict[str, object], random: Random
) -> None:
    keys = list(values)
    random.shuffle(keys)
    assert digest_of({key: values[key] for key in keys}) == digest_of(values)
    assert digest_of(json.loads(json.dumps(values))) == digest_of(values)


@given(_plain, _plain)
def test_different_values_have_different_digests(one: object, two: object) -> None:
    assert (digest_of(one) == digest_of(two)) == (
        json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    )
