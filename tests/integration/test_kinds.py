"""A linear model and a cascade on their whole way: measured, shipped, opened, served, watched."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from compress.evaluate import Meter, measurement
from edgeloop.bundle import CARD, GOLDEN, MANIFEST, REFERENCE, Bundle, open_bundle
from edgeloop.errors import BundleError
from edgeloop.gate import correct
from edgeloop.golden import agrees
from edgeloop.kinds import CASCADE, FIRST_LINEAR, FIRST_ONNX, LINEAR, MODEL, TOKENIZER, model_bytes
from edgeloop.models import open_model
from edgeloop.observer import observed
from edgeloop.rundir import list_files
from edgeloop.tasks import TASKS
from monitor.observer import DriftObserver
from tests import monitored, stages, tiny
from tests.edge_server import launch, serving
from tests.shipped import make_run

ALWAYS = {REFERENCE, GOLDEN, CARD}
UNSURE = "zebra zebra zebra"


def cascade_of_encoders(folder: Path) -> None:
    stages.make_cascade(folder, first="onnx")


MAKERS: dict[str, tuple[str, Callable[[Path], object], set[str]]] = {
    "linear": ("linear", stages.make_linear, {LINEAR}),
    "cascade": ("cascade", stages.make_cascade, {CASCADE, FIRST_LINEAR, MODEL, TOKENIZER}),
    "encoders": ("cascade", cascade_of_encoders, {CASCADE, FIRST_ONNX, MODEL, TOKENIZER}),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("kinds")
    return {name: make_run(root / name, name, make).ship() for name, (_, make, _) in MAKERS.items()}


@pytest.fixture(params=sorted(MAKERS))
def shipped(request: pytest.FixtureRequest, bundles: dict[str, Bundle]) -> tuple[str, Bundle]:
    return request.param, bundles[request.param]


# -- ship and open -----------------------------------------------------------------------------


def test_the_bundle_holds_the_kinds_files_and_opens(shipped: tuple[str, Bundle]) -> None:
    name, bundle = shipped
    engine, _, files = MAKERS[name]
    assert open_bundle(bundle.path) == bundle
    assert bundle.manifest.engine == engine
    assert {entry.path for entry in bundle.manifest.files} == files | ALWAYS


def test_the_golden_rows_are_its_own_answers(shipped: tuple[str, Bundle]) -> None:
    _, bundle = shipped
    model = open_model(bundle.path, bundle.manifest.max_tokens)
    task = TASKS[bundle.manifest.task]
    for row in bundle.golden():
        assert agrees(row, model.answer(row.input).output, task, bundle.manifest.labels)


def test_the_gate_between_bundles_asks_any_kind(bundles: dict[str, Bundle]) -> None:
    rows = tiny.rows("text-classification", 60, seed=21)
    for bundle in bundles.values():
        assert correct(bundle, rows).mean() > 0.9


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def test_a_flipped_byte_in_any_of_its_files_is_found(
    shipped: tuple[str, Bundle], tmp_path: Path
) -> None:
    name, bundle = shipped
    for file in sorted(MAKERS[name][2]):
        copy = Path(shutil.copytree(bundle.path, tmp_path / file))
        data = bytearray((copy / file).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / file).write_bytes(data)
        assert f"{file} has another SHA-256 than the manifest says" in refusal(copy)


def test_a_file_that_the_manifest_leaves_out_is_found(
    shipped: tuple[str, Bundle], tmp_path: Path
) -> None:
    name, bundle = shipped
    for file in sorted(MAKERS[name][2]):
        copy = Path(shutil.copytree(bundle.path, tmp_path / file))
        (copy / file).unlink()
        document = json.loads((copy / MANIFEST).read_text())
        document["files"] = [e for e in document["files"] if e["path"] != file]
        (copy / MANIFEST).write_text(json.dumps(document))
        said = refusal(copy)
        assert file in said
        assert "is not in the manifest" in said


def test_a_manifest_that_calls_it_another_kind_is_refused(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundles["cascade"].path, tmp_path / "copy"))
    document = json.loads((copy / MANIFEST).read_text()) | {"engine": "onnx"}
    (copy / MANIFEST).write_text(json.dumps(document))
    assert "its engine is onnx, its files are of cascade" in refusal(copy)


# -- serve -------------------------------------------------------------------------------------


class Client:
    """A client of a bundle's own server."""

    def __init__(self, http: httpx.Client, bundle: Bundle) -> None:
        self.http = http
        self.model = open_model(bundle.path, bundle.manifest.max_tokens)

    def post(self, path: str, inputs: Any, **options: Any) -> httpx.Response:
        return self.http.post(path, json={"inputs": inputs, **options})

    def counted(self) -> dict[str, float]:
        """Answered texts by stage."""
        start = "edgeloop_stage_answers_total{"
        lines = [m for m in self.http.get("/metrics").text.splitlines() if m.startswith(start)]
        return {
            line.partition('stage="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
            for line in lines
        }


@pytest.fixture(scope="module")
def clients(
    bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Client]]:
    running: dict[str, tuple[Any, httpx.Client, Client]] = {}

    def client(name: str) -> Client:
        if name not in running:
            home = tmp_path_factory.mktemp(f"home-{name}")
            server = serving(bundle=bundles[name].path, home=home)
            http = httpx.Client(base_url=server.__enter__().url, timeout=20)
            running[name] = (server, http, Client(http, bundles[name]))
        return running[name][2]

    yield client
    for server, http, _ in running.values():
        http.close()
        server.__exit__(None, None, None)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_server_answers_what_the_model_answers(
    clients: Callable[[str], Client], name: str
) -> None:
    client = clients(name)
    for text, label in tiny.sentences(20, seed=7):
        expected = client.model.answer(text).output
        rows = client.post("/predict", text, raw_scores=True).json()
        assert rows[0]["label"] == label
        found = {row["label"]: row["score"] for row in rows}
        np.testing.assert_allclose([found[k] for k in tiny.LABELS], expected.logits, rtol=1e-5)
    assert client.http.get("/health").status_code == 200


@pytest.mark.parametrize("name", ["cascade", "encoders"])
def test_which_stage_answered_is_in_timings_headers_and_metrics(
    clients: Callable[[str], Client], name: str
) -> None:
    client = clients(name)
    texts = [*(text for text, _ in tiny.sentences(20, seed=8)), UNSURE]
    expected = [client.model.answer(text).stage for text in texts]
    before = client.counted()
    reply = client.post("/v1/predict", [[text] for text in texts])
    assert reply.json()["timings"]["stages"] == expected
    assert reply.headers["x-edgeloop-stage"] == ",".join(expected)
    assert client.post("/predict", texts[0]).headers["x-edgeloop-stage"] == expected[0]
    expected.append(expected[0])
    after = client.counted()
    assert set(after) == {"first", "second"}
    assert {s: after[s] - before[s] for s in after} == {s: expected.count(s) for s in after}


def test_a_model_of_one_stage_says_nothing_of_stages(clients: Callable[[str], Client]) -> None:
    client = clients("linear")
    reply = client.post("/v1/predict", "late parcel")
    assert set(reply.json()["timings"]) == {"queue_ms", "inference_ms"}
    assert "x-edgeloop-stage" not in reply.headers
    assert client.counted() == {"first": 0.0, "second": 0.0}


@pytest.mark.parametrize("name", ["linear", "cascade"])
def test_a_text_that_is_too_long_is_refused_and_cut_on_request(
    clients: Callable[[str], Client], name: str
) -> None:
    client = clients(name)
    text = "late parcel " * 300
    reply = client.post("/predict", text)
    assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")
    assert client.post("/predict", text, truncate=True).status_code == 200


def test_golden_rows_that_it_no_longer_answers_keep_it_from_serving(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    """A bundle whose promises are another model's: its manifest agrees with its files."""
    run = make_run(tmp_path / "run", "linear", stages.make_linear)
    bundle = run.ship()
    wrong = [row.model_copy(update={"expected": "none"}) for row in bundle.golden()]
    text = "".join(f"{row.model_dump_json()}\n" for row in wrong)
    bundle.file(GOLDEN).write_text(text, encoding="utf-8", newline="\n")
    files = [e.model_dump() for e in list_files(bundle.path, (MANIFEST,))]
    document = json.loads(bundle.file(MANIFEST).read_text()) | {"files": files}
    bundle.file(MANIFEST).write_text(json.dumps(document))
    process = launch(bundle=bundle.path, home=tmp_path / "home")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "0 of 6 golden rows get the answer" in said


# -- measure -----------------------------------------------------------------------------------


def test_the_measuring_process_measures_any_kind(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    texts = [text for text, _ in tiny.sentences(30, seed=5)]
    folders = {name: bundle.path for name, bundle in bundles.items()}
    meter = Meter(64, tmp_path, lambda line: None)
    found, failures = meter.rounds(folders, [texts], "measuring")
    assert failures == {}
    for name, bundle in bundles.items():
        measured = measurement(bundle.path, found[name], 0.95)
        assert measured.size_bytes == model_bytes(bundle.path)
        for output, own in zip(
            found[name][0].outputs, open_model(bundle.path, 64).score(texts), strict=True
        ):
            np.testing.assert_array_equal(output.logits, own.logits)
            np.testing.assert_array_equal(output.embedding, own.embedding)
    rss = {name: found[name][0].rss_bytes for name in found}
    assert rss["linear"] < rss["cascade"]


# -- drift -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "cascade"])
def test_drift_is_watched_on_every_row(name: str, tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path)
    candidate = run.folder("candidates") / monitored.CANDIDATE
    shutil.rmtree(candidate)
    MAKERS[name][1](candidate)
    record = monitored.fit_run(run)
    assert record.armed, record.reason
    made = tiny.make_bundle(
        tmp_path / "bundle",
        reference=record,
        reference_npz=(run.folder("reference") / REFERENCE).read_bytes(),
    )
    model = open_model(candidate, 64)

    def alarmed(texts: list[str]) -> bool:
        observer = DriftObserver(made)
        for text in texts:
            task = TASKS["text-classification"]
            observer.observe(observed(text, model.answer(text), task, tiny.LABELS))
        return observer.status().alarmed

    assert not alarmed([text for text, _ in tiny.sentences(150, seed=77)])
    assert alarmed(["gas bottle swap my cylinder"] * 80)
