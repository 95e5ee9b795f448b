"""The drift report of real files: texts and scores of a tiny bundle, and tables of numbers."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.drift_report import Asked, write_drift_report
from edgeloop.errors import DatasetError
from edgeloop.replaying import replay_bundle
from monitor.offline import Settings
from monitor.reference import load_reference
from tests import monitored, tiny

ORDINARY = tiny.sentences(240, seed=7)
SHIFTED = [("gas bottle swap my cylinder", "billing"), ("swap the empty bottle", "repair")] * 40


def quiet(_: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="module")
def files(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reference and traffic that drifts, as texts and as scores."""
    folder = tmp_path_factory.mktemp("files")
    rows = {"reference": tiny.sentences(300, seed=8), "quiet": ORDINARY}
    rows["traffic"] = [*ORDINARY, *SHIFTED]
    found = {}
    for name, own in rows.items():
        found[name] = folder / f"{name}.csv"
        with found[name].open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", "text", "label"])
            writer.writerows((i, text, label) for i, (text, label) in enumerate(own))
        found[f"{name} scores"] = folder / f"{name}.npz"
        replay_bundle(found[name], bundle.path, Settings(), found[f"{name} scores"], quiet)
    return found


def report(out: Path, *traffic: Path, **changed: Any) -> tuple[dict[str, Any], str]:
    known: dict[str, Any] = {
        "bundle": None,
        "reference": None,
        "baseline_rows": None,
        "window_rows": 80,
    }
    document = write_drift_report(Asked(traffic=traffic, **{**known, **changed}), out, quiet)
    return document, out.read_text()


def test_texts_that_drift_are_told_with_what_moved(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, page = report(
        tmp_path / "sub" / "r.html",
        files["traffic"],
        bundle=bundle.path,
        reference=files["reference"],
    )
    assert document["alarms"] >= 1
    assert document["auc"] > 0.9
    assert document["auc_p_value"] < 0.01
    assert document["class_mix_p_value"] < 0.01
    moved = {feature["name"] for feature in document["features"] if feature["has_moved"]}
    assert {"confidence", "entropy"} <= moved
    assert "swap" in page.split("<h3>Words that came up")[1].split("<h3>")[0]
    assert "<h2>Accuracy" in page
    assert "by their words" in page


def test_features_are_named_as_the_detectors_that_watch_them(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    known = load_reference(bundle.file(REFERENCE)).family
    for kind in ("", " scores"):
        document, page = report(
            tmp_path / "r.html",
            files[f"traffic{kind}"],
            bundle=bundle.path,
            reference=files[f"reference{kind}"],
        )
        names = {feature["name"] for feature in document["features"]}
        assert set(known.names) <= names
        assert ("characters" in names) == (kind == "")
        assert document["detectors"] == ["mixture", *known.names, "class_mix"]
        assert "unknown_token_ratio" in next(f for f in document["findings"] if "alarm" in f)
        assert "Detectors: mixture, confidence" in page


def test_accuracy_is_estimated_without_labels_from_the_onset_on(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    fit = load_reference(bundle.file(REFERENCE)).accuracy
    assert fit is not None
    with np.load(files["traffic scores"]) as scores:
        probabilities = scores["probabilities"]
    document, page = report(tmp_path / "r.html", files["traffic scores"], bundle=bundle.path)
    own = document["estimated_accuracy"]
    recent = probabilities[-own["rows"] :]
    assert 70 <= own["rows"] <= 85
    assert own["atc"] == pytest.approx(np.mean([fit.is_above(row) for row in recent]))
    assert own["cbpe"] == pytest.approx(np.mean([fit.confidence(row) for row in recent]))
    assert document["accuracy_floor"] == fit.floor
    assert "CBPE" in page.split("<h2>Accuracy")[1]
    assert any("estimated without labels at" in line for line in document["findings"])


def test_models_of_vectors_have_no_accuracy_to_estimate(
    files: dict[str, Path], tmp_path: Path
) -> None:
    made = monitored.make_bundle(tmp_path / "m", rows=20, task="text-embedding")
    document, page = report(tmp_path / "r.html", files["quiet"], bundle=made.path)
    assert (document["estimated_accuracy"], document["accuracy_floor"]) == (None, None)
    assert "CBPE" not in page


def test_traffic_as_the_reference_has_it_is_left_alone(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, page = report(
        tmp_path / "r.html", files["quiet"], bundle=bundle.path, reference=files["reference"]
    )
    assert document["auc_p_value"] > 0.01
    assert not any(feature["has_moved"] for feature in document["features"])
    assert "Words that came up" not in page


def test_scores_are_compared_by_their_embeddings(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, page = report(
        tmp_path / "r.html",
        files["traffic scores"],
        bundle=bundle.path,
        reference=files["reference scores"],
    )
    assert document["auc"] > 0.9
    assert "by their embeddings" in page
    assert "Words that came up" not in page


def test_the_traffics_own_first_rows_may_be_the_reference(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, page = report(
        tmp_path / "r.html", files["traffic"], bundle=bundle.path, baseline_rows=160
    )
    assert document["reference_rows"] == 160
    assert "windows of 80 rows, from row 161 on" in page
    first = next(line for line in document["findings"] if "first window" in line)
    assert "row 241" in first
    with pytest.raises(DatasetError, match="320 rows, not more than the 400"):
        report(tmp_path / "n.html", files["traffic"], bundle=bundle.path, baseline_rows=400)
    assert not (tmp_path / "n.html").exists()


def test_without_rows_to_compare_with_the_detector_and_the_classes_speak(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, page = report(tmp_path / "r.html", files["traffic"], bundle=bundle.path)
    assert document["alarms"] >= 1
    assert (document["features"], document["auc"]) == ([], None)
    assert "name --reference FILE" in page
    assert "swap" in page


def test_several_files_are_one_traffic(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path
) -> None:
    document, _ = report(
        tmp_path / "r.html",
        files["quiet"],
        files["quiet scores"],
        bundle=bundle.path,
        reference=files["reference"],
    )
    assert document["rows"] == 2 * len(ORDINARY)


def test_tables_need_no_bundle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference, traffic = rng.normal(size=(2, 600, 3))
    traffic[300:, 2] += 1.5
    np.savez(tmp_path / "r.npz", features=reference, names=np.array(["a", "b", "<i>c</i>"]))
    lines = [",".join(map(str, row)) for row in traffic]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,<i>c</i>", *lines]))
    document, page = report(tmp_path / "o.html", tmp_path / "t.csv", reference=tmp_path / "r.npz")
    moved = [feature["name"] for feature in document["features"] if feature["has_moved"]]
    assert moved == ["<i>c</i>"]
    assert "<i>" not in page
    assert "&lt;i&gt;c&lt;/i&gt;" in page
    divided, _ = report(tmp_path / "o.html", tmp_path / "t.csv", baseline_rows=200)
    assert (divided["reference_rows"], divided["rows"]) == (200, 400)


def test_an_old_report_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    out = tmp_path / "o.html"
    out.write_text("old")
    (tmp_path / "r.csv").write_text("a\n1\n2\n")
    (tmp_path / "t.csv").write_text("b\n1\n2\n")
    with pytest.raises(DatasetError, match="share no column"):
        report(out, tmp_path / "t.csv", reference=tmp_path / "r.csv")
    assert out.read_text() == "old"
