"""Stored traffic through a bundle's detector in this process: texts, captured rows, scores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop import show_monitor
from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.errors import DatasetError, EdgeloopError, RecipeError
from edgeloop.models import open_model
from edgeloop.observer import observed
from edgeloop.recipe import TaskName
from edgeloop.records import Verdict
from edgeloop.replaying import replay_bundle, replay_served
from edgeloop.tasks import TASKS
from monitor.observer import DriftObserver
from monitor.offline import Settings
from monitor.reference import load_reference
from monitor.rehearsal import TOLERANCE
from serve.capture.row import CaptureRow, encode_row
from serve.capture.sampling import Rule
from serve.capture.store import Store
from tests import monitored, tiny

ORDINARY = tiny.sentences(60, seed=77)
SHIFTED = [("gas bottle swap my cylinder", "billing")] * 80
START = 1_770_000_000.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("offline"))


def quiet(_: str) -> None:
    """Progress that nobody watches."""


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(path: Path, rows: list[tuple[str, str]], with_label: bool = True) -> Path:
    documents = [{"id": f"r{i}", "text": t, "label": label} for i, (t, label) in enumerate(rows)]
    for document in documents:
        if not with_label:
            del document["label"]
    return write_jsonl(path, documents)


def run(
    file: Path, bundle: Bundle, settings: Settings | None = None, scores: Path | None = None
) -> dict[str, Any]:
    return replay_bundle(file, bundle.path, settings or Settings(), scores, quiet)


def test_texts_without_labels_alarm_where_the_live_observer_would(
    bundle: Bundle, tmp_path: Path
) -> None:
    rows = [*ORDINARY, *SHIFTED]
    found = run(texts(tmp_path / "t.jsonl", rows, with_label=False), bundle)
    observer, (verdict,) = observe(bundle, [text for text, _ in rows])
    assert found["accuracy"] is None
    assert found["requests_until_alarm"] == verdict.observation
    alarm = found["alarms"][0]
    assert alarm["log_evidence"] == pytest.approx(verdict.log_evidence, abs=TOLERANCE)
    assert alarm["parts"] == pytest.approx(verdict.parts, abs=TOLERANCE)
    assert alarm["effect_size"] == pytest.approx(verdict.effect_size, abs=TOLERANCE)
    assert found["verdict"]["words"] == [m.model_dump(mode="json") for m in verdict.words]
    assert found["verdict"]["classes"] == [m.model_dump(mode="json") for m in verdict.classes]
    assert found["log_evidence"] == pytest.approx(observer.status().log_evidence, abs=TOLERANCE)
    assert len(found["evidence"]) == len(rows)


def observe(bundle: Bundle, rows: Sequence[str]) -> tuple[DriftObserver, list[Verdict]]:
    """The same texts as a server's observer sees them."""
    observer, task = DriftObserver(bundle), TASKS[bundle.manifest.task]
    model, labels = open_model(bundle.path, bundle.manifest.max_tokens), bundle.manifest.labels
    found = [observer.observe(observed(t, model.answer(t), task, labels)) for t in rows]
    return observer, [verdict for verdict in found if verdict is not None]


ORDINARY_TEXTS = [text for text, _ in ORDINARY]
LONG = [f"{text} {text} {text} {text}" for text, _ in tiny.sentences(120, seed=5)]
TRAFFIC = {
    "ordinary": ORDINARY_TEXTS * 3,
    "shifted": [*ORDINARY_TEXTS, *(text for text, _ in SHIFTED)],
    "half shifted": [
        text for pair in zip(ORDINARY_TEXTS, (t for t, _ in SHIFTED), strict=False) for text in pair
    ],
    "long": [*ORDINARY_TEXTS, *LONG],
    "another script": [*ORDINARY_TEXTS, *["где моя посылка"] * 40],
    "digits alone": [*ORDINARY_TEXTS, *["1 2 3 4 5 6"] * 40],
}


@pytest.mark.parametrize("kind", TRAFFIC)
@pytest.mark.parametrize("stop_at_alarm", [False, True])
def test_the_first_alarm_is_the_live_observers_first_verdict(
    kind: str, stop_at_alarm: bool, bundle: Bundle, tmp_path: Path
) -> None:
    rows = TRAFFIC[kind]
    _, verdicts = observe(bundle, rows)
    file = texts(tmp_path / "t.jsonl", [(text, "billing") for text in rows], with_label=False)
    kept = tmp_path / "scores.npz"
    found = run(file, bundle, Settings(stop_at_alarm=stop_at_alarm), kept)
    assert len(verdicts) == (kind != "ordinary")
    assert len(found["alarms"]) == len(verdicts)
    for verdict, alarm in zip(verdicts, found["alarms"], strict=True):
        assert alarm["row"] == verdict.observation
        assert alarm["detectors"] == list(verdict.detectors)
        assert alarm["detector"] == verdict.detector
        assert alarm["evidence_ratios"] == pytest.approx(verdict.evidence_ratios, abs=TOLERANCE)
        assert alarm["log_evidence"] == pytest.approx(verdict.log_evidence, abs=TOLERANCE)
        assert verdict.onset_observation is not None
        assert abs(alarm["onset_row"] - verdict.onset_observation) <= 2
        told = found["verdict"]
        live = verdict.model_dump(mode="json")
        for name in ("words", "classes", "ngrams", "reference_rows", "threshold"):
            assert told[name] == live[name], name
        assert [f["name"] for f in told["features"]] == [f["name"] for f in live["features"]]
        assert found["sent"] == (verdict.observation if stop_at_alarm else len(rows))
    again = run(kept, bundle, Settings(stop_at_alarm=stop_at_alarm))
    assert [a["row"] for a in again["alarms"]] == [a["row"] for a in found["alarms"]]
    assert [a["detectors"] for a in again["alarms"]] == [a["detectors"] for a in found["alarms"]]


def test_most_of_those_alarms_are_the_secondary_detectors(bundle: Bundle, tmp_path: Path) -> None:
    """Else the test above would say nothing of them."""
    first = {}
    for kind in ("long", "another script"):
        rows = [(text, "billing") for text in TRAFFIC[kind]]
        first[kind] = run(texts(tmp_path / "t.jsonl", rows), bundle)["alarms"][0]
    assert "token_length" in first["long"]["detectors"]
    assert "mixture" not in first["another script"]["detectors"]


def test_scores_without_features_run_the_primary_detector_alone_and_say_so(
    bundle: Bundle, tmp_path: Path
) -> None:
    rows = [(text, "billing") for text in TRAFFIC["another script"]]
    kept, bare = tmp_path / "scores.npz", tmp_path / "bare.npz"
    full = run(texts(tmp_path / "t.jsonl", rows), bundle, scores=kept)
    with np.load(kept) as saved:
        arrays = dict(saved)
    names = arrays.pop("feature_names").tolist()
    features = arrays.pop("features")
    np.savez(bare, **arrays)
    alone = run(bare, bundle)
    assert full["detectors"] == ["mixture", *names, "class_mix"]
    assert full["rows_without_features"] == 0
    assert (alone["detectors"], alone["rows_without_features"]) == (["mixture"], len(rows))
    assert all(alarm["detectors"] == ["mixture"] for alarm in alone["alarms"])
    assert all(set(alarm["evidence_ratios"]) == {"mixture"} for alarm in alone["alarms"])
    said = show_monitor.replayed(alone)
    assert f"mixture; {len(rows)} rows hold scores without features" in said
    for wrong in (names[::-1], names[1:], [*names[1:], "colour"]):
        np.savez(bare, features=features, feature_names=np.array(wrong), **arrays)
        with pytest.raises(DatasetError, match="detectors watch confidence, .*leave the array"):
            run(bare, bundle)
    np.savez(bare, features=features[:, 1:], feature_names=np.array(names), **arrays)
    with pytest.raises(DatasetError, match="this bundle's detectors watch"):
        run(bare, bundle)
    np.savez(bare, features=features, **arrays)
    with pytest.raises(DatasetError, match="array 'feature_names' is missing"):
        run(bare, bundle)


def test_another_interval_is_the_promise_of_all_detectors_together(
    bundle: Bundle, tmp_path: Path
) -> None:
    rows = [(text, "billing") for text in TRAFFIC["another script"]]
    file = texts(tmp_path / "t.jsonl", rows)
    own, longer = run(file, bundle), run(file, bundle, Settings(30_000))
    moved = longer["secondary_threshold"] - own["secondary_threshold"]
    assert moved == pytest.approx(np.log(100.0))
    assert own["target_run_length"] == load_reference(bundle.file(REFERENCE)).family.promised
    assert longer["alarms"][0]["row"] > own["alarms"][0]["row"]
    assert "secondary" not in own["threshold_source"]


def test_all_detectors_begin_anew_after_an_alarm(bundle: Bundle, tmp_path: Path) -> None:
    rows = [(text, "billing") for text in TRAFFIC["another script"]]
    found = run(texts(tmp_path / "t.jsonl", rows), bundle, Settings(restart=True))
    onsets = [alarm["onset_row"] for alarm in found["alarms"]]
    ends = [alarm["row"] for alarm in found["alarms"]]
    assert len(ends) > 2
    assert all(onset > end for onset, end in zip(onsets[1:], ends[:-1], strict=True))


def test_an_alarm_tells_row_time_onset_and_what_moved(bundle: Bundle, tmp_path: Path) -> None:
    rows = [
        {"id": f"r{i}", "text": text, "time": START + 60.0 * i}
        for i, (text, _) in enumerate([*ORDINARY, *SHIFTED])
    ]
    found = run(write_jsonl(tmp_path / "t.jsonl", rows), bundle)
    alarm = found["alarms"][0]
    assert 60 < alarm["onset_row"] <= alarm["row"] <= 75
    assert alarm["id"] == f"r{alarm['row'] - 1}"
    assert alarm["time"] == f"2026-02-02T03:{39 + alarm['row'] - 60:02}:00+00:00"
    assert alarm["onset_time"] <= alarm["time"]
    later = run(write_jsonl(tmp_path / "t.jsonl", rows), bundle, Settings(1_000_000))["alarms"][0]
    assert {"gas", "bottle"} <= {word["name"] for word in later["words"]} or later["row"] < 65


def test_times_may_be_written_in_iso_and_a_wrong_one_is_told(
    bundle: Bundle, tmp_path: Path
) -> None:
    times = ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00", "", None]
    rows = [{"text": "my parcel is late", "timestamp": time} for time in times]
    assert run(write_jsonl(tmp_path / "t.jsonl", rows), bundle)["sent"] == 4
    rows[2]["timestamp"] = "soon"
    with pytest.raises(DatasetError, match="row 3 has the time 'soon'.*ISO 8601"):
        run(write_jsonl(tmp_path / "t.jsonl", rows), bundle)


def test_a_replay_may_stop_at_the_alarm(bundle: Bundle, tmp_path: Path) -> None:
    file = texts(tmp_path / "t.jsonl", SHIFTED)
    found = run(file, bundle, Settings(stop_at_alarm=True))
    assert found["sent"] == found["requests_until_alarm"] == len(found["evidence"]) < 80
    assert found["labelled"] == found["sent"]


def test_with_restart_every_alarm_of_the_file_is_counted(bundle: Bundle, tmp_path: Path) -> None:
    rows = [*SHIFTED[:20], *ORDINARY, *SHIFTED[:20]]
    file = texts(tmp_path / "t.jsonl", rows)
    once, all_of_them = run(file, bundle), run(file, bundle, Settings(restart=True))
    assert len(once["alarms"]) == 1
    assert once["alarms"][0] == all_of_them["alarms"][0]
    late = [alarm for alarm in all_of_them["alarms"] if alarm["row"] > 80]
    assert late
    assert late[0]["onset_row"] > 20


def test_another_interval_moves_the_threshold_by_its_logarithm(
    bundle: Bundle, tmp_path: Path
) -> None:
    file = texts(tmp_path / "t.jsonl", [*ORDINARY, *SHIFTED])
    own, longer = run(file, bundle), run(file, bundle, Settings(30_000))
    assert longer["threshold"] - own["threshold"] == pytest.approx(np.log(100.0))
    assert (own["target_run_length"], longer["target_run_length"]) == (300, 30_000)
    assert "not simulated" in longer["threshold_source"]
    assert longer["alarms"][0]["row"] > own["alarms"][0]["row"]
    same = run(file, bundle, Settings(300))
    assert (same["alarms"], same["threshold"]) == (own["alarms"], own["threshold"])


def test_an_unarmed_reference_alarms_only_where_an_interval_is_tried(tmp_path: Path) -> None:
    unarmed = monitored.make_bundle(tmp_path / "unarmed", rows=40)
    file = texts(tmp_path / "t.jsonl", SHIFTED)
    found = run(file, unarmed)
    assert (found["armed"], found["may_alarm"], found["alarms"]) == (False, False, [])
    assert found["threshold"] > 0
    tried = run(file, unarmed, Settings(300))
    assert (tried["armed"], tried["may_alarm"]) == (False, True)
    assert "no interval is promised" in tried["threshold_source"]
    assert tried["alarms"]


def test_kept_scores_replay_as_their_texts_did(bundle: Bundle, tmp_path: Path) -> None:
    file, kept = texts(tmp_path / "t.jsonl", [*ORDINARY, *SHIFTED]), tmp_path / "scores.npz"
    first = run(file, bundle, scores=kept)
    assert first["scores"] == {"file": str(kept), "rows": 140}
    again = run(kept, bundle)
    for name in ("accuracy", "labelled", "requests_until_alarm", "threshold"):
        assert again[name] == first[name], name
    assert np.array(again["evidence"]) == pytest.approx(np.array(first["evidence"]), abs=TOLERANCE)
    assert [a["row"] for a in again["alarms"]] == [a["row"] for a in first["alarms"]]
    assert [a["id"] for a in again["alarms"]] == [a["id"] for a in first["alarms"]]
    with np.load(kept) as saved:
        assert "texts" not in saved.files


def test_several_labels_are_compared_in_any_order(tmp_path: Path) -> None:
    several = monitored.make_bundle(tmp_path / "m", rows=20, task="multi-label-classification")
    rows: list[dict[str, Any]] = [
        {"id": "1", "text": "tax invoice leak pump", "label": "repair|billing"},
        {"id": "2", "text": "tax invoice leak pump", "label": ["billing", "repair"]},
        {"id": "4", "text": "my the is", "label": "billing"},
        {"id": "5", "text": "my the is"},
    ]
    found = run(write_jsonl(tmp_path / "t.jsonl", rows), several)
    assert (found["accuracy"], found["labelled"]) == (pytest.approx(2 / 3), 3)


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_models_of_every_task_can_be_replayed_offline(task: TaskName, tmp_path: Path) -> None:
    made = monitored.make_bundle(tmp_path / "m", rows=20, task=task)
    found = run(texts(tmp_path / "t.jsonl", ORDINARY), made)
    assert (found["sent"], found["accuracy"]) == (60, None)


def test_pairs_of_texts_are_read_from_their_columns(tmp_path: Path) -> None:
    made = monitored.make_bundle(tmp_path / "m", rows=20, text_pair=True)
    pairs = [{"text": "my invoice", "text_pair": "the parcel is late"}] * 5
    assert run(write_jsonl(tmp_path / "t.jsonl", pairs), made)["sent"] == 5
    with pytest.raises(DatasetError, match="column 'text_pair' is missing"):
        run(texts(tmp_path / "u.jsonl", ORDINARY), made)


def captured(number: int, text: str, rule: Rule = "uniform", p: float = 0.1) -> CaptureRow:
    return CaptureRow(
        id=f"c{number}",
        index=0,
        time=START + number,
        bundle="0" * 64,
        texts=(text,),
        labels=("billing",),
        scores=(0.9,),
        score=0.9,
        abstained=False,
        inclusion_probability=p,
        rule=rule,
    )


def test_captured_rows_of_the_uniform_draw_stand_for_the_traffic(
    bundle: Bundle, tmp_path: Path
) -> None:
    rows = [captured(i, text) for i, (text, _) in enumerate([*ORDINARY, *SHIFTED])]
    unsure = [captured(1000 + i, "unsure", "low_confidence", 0.2) for i in range(5)]
    both = captured(2000, "my invoice please", "both", 0.5)
    exported = tmp_path / "captured.jsonl"
    exported.write_bytes(b"".join(map(encode_row, [*rows, *unsure, both])))
    found = run(exported, bundle)
    assert (found["sent"], found["left_out"]) == (141, 5)
    assert found["requests"] == pytest.approx(140 / 0.1 + 5 / 0.2 + 1 / 0.5)
    alarm = found["alarms"][0]
    assert alarm["requests"] == pytest.approx(10 * alarm["row"])
    assert alarm["time"] is not None
    folder = tmp_path / "capture"
    store = Store(folder, 10_000_000, 1e9, lambda: START)
    store.append([encode_row(row) for row in rows])
    again = run(folder, bundle)
    assert again["alarms"] == found["alarms"]


def test_captures_that_cannot_stand_for_the_traffic_are_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    exported = tmp_path / "captured.jsonl"
    unsure = captured(1, "unsure", "low_confidence", 0.2)
    exported.write_bytes(encode_row(unsure))
    with pytest.raises(DatasetError, match=r"none of its 1 captured rows .* capture\.share"):
        run(exported, bundle)
    pair = replace_texts(captured(1, "a"), ("a", "b"))
    exported.write_bytes(encode_row(pair))
    with pytest.raises(DatasetError, match="'c1' holds 2 texts, the model reads single texts"):
        run(exported, bundle)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeloopError):
        run(tmp_path / "empty", bundle)


def replace_texts(row: CaptureRow, asked: tuple[str, ...]) -> CaptureRow:
    import msgspec

    return msgspec.structs.replace(row, texts=asked)


def scores(bundle: Bundle, rows: int = 100, seed: int = 0) -> dict[str, Any]:
    """Arrays that fit the bundle."""
    rng = np.random.default_rng(seed)
    hidden = load_reference(bundle.file(REFERENCE)).fitted.centroids.shape[1]
    odds = rng.gamma(1.0, size=(rows, len(bundle.manifest.labels)))
    return {
        "embeddings": rng.normal(size=(rows, hidden)).astype(np.float32),
        "probabilities": odds / odds.sum(axis=1, keepdims=True),
    }


def test_rows_that_are_not_finite_are_counted_and_skipped(bundle: Bundle, tmp_path: Path) -> None:
    arrays = scores(bundle)
    arrays["embeddings"][3] = np.nan
    arrays["probabilities"][5, 0] = np.nan
    arrays["timestamps"] = np.arange(100).astype("datetime64[s]")
    arrays["texts"] = np.array(["a gas bottle"] * 100)
    arrays["labels"] = np.array(["billing"] * 99 + [""])
    np.savez(tmp_path / "s.npz", **arrays)
    found = run(tmp_path / "s.npz", bundle, Settings(restart=True))
    assert (found["sent"], found["skipped"], len(found["evidence"])) == (100, 2, 98)
    assert found["labelled"] == 99
    alarm = found["alarms"][0]
    # Rows 4 and 6 are left out.
    skipped_before = int(alarm["observation"] > 3) + int(alarm["observation"] > 4)
    assert alarm["row"] == alarm["observation"] + skipped_before
    assert alarm["time"] == f"1970-01-01T00:00:{alarm['row'] - 1:02}+00:00"
    arrays["embeddings"][:] = np.nan
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DatasetError, match="all 100 rows hold numbers that are not finite"):
        run(tmp_path / "s.npz", bundle)


def changed(arrays: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    kept = {key: array for key, array in arrays.items() if key != name}
    return kept if value is None else {**kept, name: value}


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("embeddings", lambda a: None, "array 'embeddings' is missing; the file has prob"),
        ("embeddings", lambda a: a[:, 0], "array 'embeddings' is float32 .*2 dimensions of floats"),
        ("embeddings", lambda a: a[:, :3], "3.* do not fit a reference of"),
        ("embeddings", lambda a: a[:50], "not one row each per row .*embeddings 50"),
        ("embeddings", lambda a: a[:0], "the file has no rows"),
        ("embeddings", lambda a: a.astype(object), "holds Python objects"),
        ("embeddings", lambda a: np.asfortranarray(a), "lies column by column"),
        ("probabilities", lambda a: a[:, :2], "of 2 classes, this bundle's model gives 3"),
        ("probabilities", lambda a: a * 5 - 1, "row 1 of probabilities sums to 2, .*softmax"),
        ("tokens", lambda a: np.array(["x"] * 100), "array 'tokens' is"),
        ("bundle", lambda a: np.array("f" * 64), "scores of the bundle ffffffffffff, this is"),
    ],
)
def test_scores_that_do_not_fit_are_bad_input(
    name: str, make: Any, said: str, bundle: Bundle, tmp_path: Path
) -> None:
    arrays = scores(bundle)
    np.savez(tmp_path / "s.npz", **changed(arrays, name, make(arrays.get(name))))
    with pytest.raises(EdgeloopError, match=said) as raised:
        run(tmp_path / "s.npz", bundle)
    assert isinstance(raised.value, DatasetError)


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_score_file_is_bad_input(
    damage: bytes | None, bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, **scores(bundle))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(DatasetError, match="not an .npz file that can be read"):
        run(path, bundle)


def test_scores_cannot_be_sent_nor_kept_twice(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="scores are no requests"):
        replay_served(tmp_path / "s.npz", "http://127.0.0.1:9", False, quiet)
    with pytest.raises(RecipeError, match="holds scores already"):
        run(tmp_path / "s.npz", bundle, scores=tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "id,words\n1,hello\n", "column 'text' is missing"),
        ("t.csv", "id,text\n", "the file has no rows"),
        ("t.jsonl", "", "the file has no rows"),
        ("t.jsonl", "{\n", "not JSON"),
        ("t.doc", "x", "unknown kind '.doc'"),
    ],
)
def test_files_that_are_no_traffic_are_bad_input(
    name: str, content: str, said: str, bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DatasetError, match=said):
        run(path, bundle)
    with pytest.raises(DatasetError, match="no such file"):
        run(tmp_path / "none.csv", bundle)
