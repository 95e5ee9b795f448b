"""The whole loop on real text, through the command line, as a person would type it.

    make demo        (or: python examples/support_tickets/demo.py)

Fine-tunes, merges, compresses, serves, sends ordinary and then shifted traffic, labels a sample,
retrains, and swaps the model under load. Everything it writes goes to build/demo.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from edgeloop import show
from edgeloop.columns import columns

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "build" / "demo"
RECIPE = HERE / "recipe.yaml"
DATA = HERE / "data"
NAME = "support-tickets"
SWAP_WAIT_SECONDS = 60.0
START_WAIT_SECONDS = 30.0
PAUSE_BETWEEN_REQUESTS_SECONDS = 0.02
STARTED = time.monotonic()


def heading(text: str) -> None:
    print(f"\n== {text}  [{time.monotonic() - STARTED:.0f} s]", flush=True)


def edgeloop(*words: str) -> str:
    """Run one command, show it, and return what it printed. A failure ends the demo."""
    print(f"$ edgeloop {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "edgeloop", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(done.returncode)
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int) -> Iterator[str]:
    """`edgeloop serve --follow`, stopped with SIGTERM at the end."""
    words = ["serve", "--follow", NAME, "--port", str(port)]
    print(f"$ edgeloop {' '.join(words)} &", flush=True)
    with (OUT / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeloop", *words], cwd=ROOT, stdout=log, stderr=log
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_healthy(url, process)
            yield url
        finally:
            process.terminate()
            try:
                print(f"server ended with exit code {process.wait(timeout=30)}")
            except subprocess.TimeoutExpired:
                process.kill()
                sys.exit("the server did not end within 30 s of SIGTERM")


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_WAIT_SECONDS:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                print(f"server answers after {time.monotonic() - started:.1f} s")
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    sys.exit(f"the server did not start; see {OUT / 'server.log'}")


@dataclass
class Client:
    """A customer who keeps asking while the model is swapped."""

    url: str
    texts: list[str]
    sent: int = 0
    failed: int = 0
    bundles: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client() as client:
            while not self._stop.is_set():
                text = self.texts[self.sent % len(self.texts)]
                self.sent += 1
                try:
                    answer = client.post(f"{self.url}/predict", json={"inputs": text})
                    self.failed += answer.status_code != 200
                    self.bundles.add(answer.headers.get("x-edgeloop-bundle", ""))
                except httpx.TransportError:
                    self.failed += 1
                time.sleep(PAUSE_BETWEEN_REQUESTS_SECONDS)

    @contextmanager
    def asking(self) -> Iterator["Client"]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def replay(name: str, file: Path, url: str, *options: str) -> dict[str, Any]:
    """`edgeloop monitor replay`, its result kept for the report."""
    words = ("monitor", "replay", shown(file), "--url", url, *options, "--json")
    document: dict[str, Any] = json.loads(edgeloop(*words))
    (OUT / f"{name}.json").write_text(json.dumps(document))
    print(show.replay(document))
    return document


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows_without(file: Path, ids: set[str], out: Path) -> Path:
    """Copy a csv without the rows whose answers were given away."""
    with file.open(newline="", encoding="utf-8") as source:
        reader = csv.DictReader(source)
        kept = [row for row in reader if row["id"] not in ids]
        names = list(reader.fieldnames or ())
    with out.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return out


def wait_for_swap(url: str, digest: str) -> float:
    started = time.monotonic()
    while time.monotonic() - started < SWAP_WAIT_SECONDS:
        if httpx.get(f"{url}/info").json()["bundle_digest"] == digest:
            return time.monotonic() - started
        time.sleep(0.05)
    sys.exit(f"the server did not take the new bundle; see {OUT / 'server.log'}")


@dataclass
class Story:
    """What the demo saw, step by step: results of the commands as they printed them."""

    run: dict[str, Any] = field(default_factory=dict)
    ordinary: dict[str, Any] = field(default_factory=dict)
    shifted: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    ordinary_after: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    client: Client | None = None
    swap_seconds: float = 0.0


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    os.environ["EDGELOOP_HOME"] = str(OUT / "home")
    os.environ["HF_HUB_OFFLINE"] = "1"
    story = Story()
    build(story)
    with server(free_port()) as url:
        unseen = drift(story, url)
        retrain(story, url)
        heading("7. The same traffic on the new model")
        story.ordinary_after = replay("ordinary after", DATA / "test.csv", url)
        story.after = replay("unseen after", unseen, url)
        if story.after["verdict"] is not None:
            print("(the new reference holds old and new rows; this was nothing but new ones)")
    tell(story)


def build(story: Story) -> None:
    recipe = shown(RECIPE)
    heading("1. Check the recipe and its rows")
    print(edgeloop("check", recipe))
    heading("2. Fine-tune, merge with proof, compress under the budget, ship")
    story.run = json.loads(edgeloop("run", recipe, "--json"))
    print(show.run(story.run))
    print(edgeloop("bundle", "verify", shown(Path(story.run["bundle"]["path"]))))


def drift(story: Story, url: str) -> Path:
    """Ordinary traffic, shifted traffic, labels. Returns the shifted rows that stay unseen."""
    heading("3. Serve, and send ordinary traffic")
    story.ordinary = replay("ordinary traffic", DATA / "test.csv", url)
    heading("4. A new product is launched: the traffic shifts")
    story.shifted = replay("shifted traffic", DATA / "shifted.csv", url, "--stop-at-alarm")
    heading("5. A person labels a sample; the rest stays unseen")
    words = ("label", shown(RECIPE), "--answers", shown(DATA / "shifted.csv"), "--json")
    labelled = json.loads(edgeloop(*words))
    print(show.labelled(labelled))
    unseen = rows_without(DATA / "shifted.csv", set(labelled["ids"]), OUT / "unseen.csv")
    story.before = replay("unseen before", unseen, url)
    return unseen


def retrain(story: Story, url: str) -> None:
    heading("6. Decide, retrain, gate, promote; the server swaps while requests flow")
    with (DATA / "test.csv").open(newline="", encoding="utf-8") as source:
        story.client = Client(url, [row["text"] for row in csv.DictReader(source)])
    with story.client.asking():
        outcome = json.loads(edgeloop("retrain", shown(RECIPE), "--json"))
        print(show.retrained(outcome))
        if "deployed" not in outcome:
            sys.exit("nothing was promoted; the reasons stand above")
        story.swap_seconds = wait_for_swap(url, outcome["deployed"])
        time.sleep(1.0)


def tell(story: Story) -> None:
    """The closing table and the report; ends with 1 where the demo did not show what it should."""
    assert story.client is not None
    unseen = story.before["sent"]
    figures = {
        "accuracy on ordinary traffic": accuracies(story.ordinary, story.ordinary_after),
        f"accuracy on shifted traffic, {unseen} unseen rows": accuracies(story.before, story.after),
        "alarms on ordinary traffic": "none" if story.ordinary["verdict"] is None else "1",
        "requests until the alarm, all shifted": until_alarm(story.shifted),
        "requests during retraining and swap": f"{story.client.sent} sent, "
        f"{story.client.failed} failed, answered by {len(story.client.bundles)} bundles",
        "promotion to swap": f"{story.swap_seconds:.1f} s",
        **candidate_figures(story.run),
        "whole demo": f"{time.monotonic() - STARTED:.0f} s",
    }
    (OUT / "summary.json").write_text(json.dumps(figures))
    heading("8. What came of it")
    print(edgeloop("history", NAME))
    print(write_report())
    print(columns(["what", "figure"], list(figures.items())))
    problems = shortfalls(story)
    if problems:
        sys.exit("the demo falls short: " + "; ".join(problems))


def shortfalls(story: Story) -> list[str]:
    """What the demo promises and did not show this time."""
    assert story.client is not None
    gain = story.after["accuracy"] - story.before["accuracy"]
    until = story.shifted["requests_until_alarm"]
    checks = {
        f"test accuracy {story.ordinary['accuracy']:.3f} < 0.90": story.ordinary["accuracy"] < 0.9,
        "an alarm on ordinary traffic": story.ordinary["verdict"] is not None,
        "no alarm within 150 shifted requests": until is None or until > 150,
        f"shifted accuracy rose by {gain:.3f} < 0.15": gain < 0.15,
        f"{story.client.failed} requests failed": story.client.failed > 0,
        "the swap was not seen by the client": len(story.client.bundles) != 2,
    }
    return [name for name, wrong in checks.items() if wrong]


def accuracies(before: dict[str, Any], after: dict[str, Any]) -> str:
    return f"{before['accuracy']:.3f} before, {after['accuracy']:.3f} after retraining"


def until_alarm(replayed: dict[str, Any]) -> str:
    return "no alarm" if replayed["verdict"] is None else str(replayed["requests_until_alarm"])


def candidate_figures(run: dict[str, Any]) -> dict[str, str]:
    """Size and latency of every candidate of the first run, as measured, and their ratio."""
    measured = {c["kind"]: c["measurement"] for c in run["certificate"]["candidates"]}
    figures = {
        kind: f"{m['size_bytes'] / 1e6:.1f} MB, p50 {m['latency_p50_ms']['value']:.2f} ms, "
        f"p95 {m['latency_p95_ms']['value']:.2f} ms"
        for kind, m in measured.items()
    }
    fp32, int8 = measured["onnx-fp32"], measured["onnx-int8"]
    speed = fp32["latency_p50_ms"]["value"] / int8["latency_p50_ms"]["value"]
    size = int8["size_bytes"] / fp32["size_bytes"]
    return {**figures, "int8 against fp32": f"{speed:.2f} x the speed, {size:.2f} of the size"}


def write_report() -> str:
    words = ["report", NAME, "--out", shown(OUT / "report.html")]
    words += ["--summary", shown(OUT / "summary.json")]
    for name in ("ordinary traffic", "shifted traffic"):
        words += ["--replay", shown(OUT / f"{name}.json")]
    return edgeloop(*words)


if __name__ == "__main__":
    main()
