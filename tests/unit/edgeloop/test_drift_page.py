"""The drift report's page: what it says, and that nothing of what it shows can act."""

import html
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop import svg
from edgeloop.drift_accuracy import estimate, estimated, wilson
from edgeloop.drift_page import drift_page
from edgeloop.findings import Accuracy, DriftReport, Estimate, findings, onset_alarm
from edgeloop.records import Movement
from monitor.compare import compare_tables
from monitor.domain import Separation
from monitor.gather import ClassMix, class_mix, same_shares_p, separating_words
from monitor.offline import OfflineAlarm, OfflineResult
from monitor.tables import ArrayTable

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


class Checker(HTMLParser):
    """Notes every element with its attributes, and whether all that is opened is closed."""

    VOID = ("meta", "br", "path", "rect", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID or self.get_starttag_text()[-2:] != "/>":  # type: ignore[index]
            self.open += [] if tag == "meta" else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


def alarm(**changed: Any) -> OfflineAlarm:
    known: dict[str, Any] = {
        "row": 402,
        "observation": 400,
        "onset_row": 390,
        "requests": 402.0,
        "id": HOSTILE,
        "time": "2026-03-01T12:00:00+00:00",
        "onset_time": None,
        "onset_observation": 388,
        "detector": "mixture",
        "detectors": ("mixture", HOSTILE),
        "evidence_ratios": {"mixture": 1.4, HOSTILE: 1.1, "entropy": 0.2},
        "log_evidence": 9.5,
        "threshold": 7.0,
        "parts": {"novelty": 9.0},
        "effect_size": 1.0,
        "advisory": False,
    }
    return OfflineAlarm(**{**known, **changed})


def result(**changed: Any) -> OfflineResult:
    known: dict[str, Any] = {
        "rows": 500,
        "skipped": 2,
        "requests": 500.0,
        "accuracy": None,
        "labelled": 0,
        "armed": True,
        "reason": "armed",
        "may_alarm": True,
        "threshold": 7.0,
        "secondary_threshold": 11.0,
        "threshold_source": HOSTILE,
        "detectors": ("mixture", "entropy"),
        "rows_without_features": 0,
        "target_run_length": 5_000,
        "log_evidence": 1.0,
        "evidence_ratio": 0.2,
        "alarms": (alarm(),),
        "evidence": ((1, 0.0), (400, 9.5), (498, 1e3)),
        "ratios": ((1, 0.0), (400, 1.4), (498, 1e3)),
    }
    return OfflineResult(**{**known, **changed})


def comparison(names: tuple[str, ...] = ("a", "b"), rows: int = 400) -> Any:
    rng = np.random.default_rng(0)
    reference, traffic = rng.normal(size=(2, rows, len(names)))
    traffic[rows // 2 :, 0] += 2.0
    traffic[:, 1] = np.nan
    return compare_tables(ArrayTable(HOSTILE, names, reference), ArrayTable("now", names, traffic))


def full() -> DriftReport:
    return DriftReport(
        title=HOSTILE,
        rows=500,
        bundle="f" * 64,
        evidence=result(),
        recent_from=390,
        comparison=comparison((HOSTILE, "b" * 300)),
        separation=Separation(0.9, 1e-9, 200, 200),
        separated_by="their words",
        classes=class_mix((HOSTILE, "b"), np.array([50, 50]), np.array([10, 90])),
        risen=(Movement(name=HOSTILE, reference_ratio=0.0, recent_ratio=0.5),),
        fallen=(Movement(name="gone", reference_ratio=0.5, recent_ratio=0.0),),
        accuracy=(Accuracy(100, 90, 100), Accuracy(200, 20, 100)),
        estimates=(Estimate(250, 250, 0.9, 0.85), Estimate(500, 250, 0.4, 0.5)),
        recent_estimate=Estimate(500, 111, 0.41, 0.52),
        floor=0.8,
        left_out=3,
        lacks=(HOSTILE,),
    )


def test_hostile_names_words_and_labels_are_text_and_nothing_else() -> None:
    page = drift_page(full())
    checker = parsed(page)
    assert checker.open == []
    assert {"script", "img", "iframe", "link"} & {tag for tag, _ in checker.elements} == set()
    for _, attributes in checker.elements:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert html.escape(HOSTILE) in page


def test_the_page_is_one_file_that_fits_dark_screens() -> None:
    page = drift_page(full())
    assert not re.search(r"https?:|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == page.count("</svg>") > 5


def test_all_sections_are_there_and_only_those_that_were_asked_for() -> None:
    page = drift_page(full())
    for head in ("In short", "Evidence", "What moved", "Features", "Windows", "Domain", "Accuracy"):
        assert f"<h2>{head}" in page
    bare = drift_page(DriftReport(title="t", rows=1))
    assert re.findall("<h2>([^<]*)", bare) == ["In short", "How this was computed"]
    assert parsed(bare).open == []


def test_words_are_kept_back_where_nothing_has_moved() -> None:
    quiet = DriftReport(
        title="t",
        rows=10,
        evidence=result(alarms=()),
        separation=Separation(0.52, 0.3, 50, 50),
        risen=full().risen,
    )
    assert "Words that came up" not in drift_page(quiet)
    assert "cannot tell" in " ".join(findings(quiet))


def test_findings_name_what_moved_and_when() -> None:
    said = list(findings(full()))
    assert said[0] == (
        f"Drift alarm at row 402 (2026-03-01 12:00:00 UTC) by mixture, {HOSTILE}; "
        "the drift seems to have begun at row 390."
    )
    assert said[1].startswith(f"2 of 2 features have moved by their deciles: {'b' * 300} (PSI ")
    assert f"{HOSTILE} (PSI " in said[1]
    assert said[2].startswith(f"The first window that differs begins at row 201: {HOSTILE}")
    assert said[3] == (
        "A classifier tells recent rows from reference rows by their words (AUC 0.900, p < 1e-06)."
    )
    assert said[4].startswith("The mix of predicted classes has moved (p < 1e-06)")
    assert said[5] == "Of 200 rows with a label 55.0% were answered rightly."
    assert said[6] == (
        "From row 390 on accuracy is estimated without labels at 41.0% (ATC) and 52.0% (CBPE); "
        "the floor is 80.0%."
    )


def test_an_alarm_names_its_detectors_and_rows_that_only_one_saw_are_told() -> None:
    page = drift_page(DriftReport(title="t", rows=500, evidence=result()))
    assert f"mixture 1.40, {html.escape(HOSTILE)} 1.10" in page
    assert "Detectors: mixture, entropy." in page
    assert "without features" not in page
    lacking = result(detectors=("mixture",), rows_without_features=500)
    page = drift_page(DriftReport(title="t", rows=500, evidence=lacking))
    assert "500 rows hold scores without features" in page


def test_estimates_and_measured_accuracy_stand_beside_the_floor() -> None:
    both = drift_page(full()).split("<h2>Accuracy")[1]
    assert all(word in both for word in ("ATC", "CBPE", "measured", ">floor<"))
    estimates = full().estimates
    alone = drift_page(DriftReport(title="t", rows=500, estimates=estimates, floor=0.8))
    assert "Estimated without labels" in alone
    assert "Measured on rows" not in alone
    assert parsed(alone).open == []


def test_an_early_false_alarm_is_not_where_the_drift_began() -> None:
    rows = [120, 402, 407, 411, 418, 424]
    alarms = tuple(alarm(row=row, onset_row=row - 2) for row in rows)
    assert onset_alarm(result(alarms=alarms)).row == 402
    assert onset_alarm(result(alarms=alarms[:1])).row == 120
    assert onset_alarm(result(alarms=alarms[1:])).row == 402


def test_an_unarmed_monitor_and_a_quiet_one_are_told_apart() -> None:
    unarmed = result(may_alarm=False, alarms=(), reason="not armed: 20 rows")
    (said, *_) = findings(DriftReport(title="t", rows=500, evidence=unarmed))
    assert said == "The drift alarm is not armed: 20 rows."
    (said, *_) = findings(DriftReport(title="t", rows=500, evidence=result(alarms=())))
    assert said.startswith("No drift alarm in 500 rows; one false alarm is promised in 5,000")


@pytest.mark.parametrize("points", [(), ((1, 0.0),), tuple((i, float(i)) for i in range(1, 50))])
def test_evidence_of_any_length_is_drawn(points: Any) -> None:
    drawn = svg.evidence(points, "alarm", [], [])
    assert "nan" not in drawn
    assert parsed(drawn).open == []


@given(
    low=st.floats(-1e6, 1e6, allow_subnormal=False),
    span=st.floats(1e-3, 1e6, allow_subnormal=False),
)
def test_ticks_are_few_and_within(low: float, span: float) -> None:
    found = svg.ticks(low, low + span)
    assert len(found) <= svg.TICKS + 1
    slack = span * 1e-6
    assert all(low - slack <= value <= low + span + slack for value in found)


@given(st.floats())
def test_every_number_has_a_short_form(value: float) -> None:
    assert 0 < len(svg.number(value)) <= 12


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(Accuracy(0, 8, 10)) == pytest.approx((0.4901, 0.9433), abs=1e-3)
    assert wilson(Accuracy(0, 0, 10))[0] == 0.0
    assert wilson(Accuracy(0, 10, 10))[1] == 1.0


def test_estimates_leave_out_rows_that_are_not_finite_and_short_ends() -> None:
    rows = np.column_stack([np.arange(130) % 2, np.full(130, 0.75)])
    rows[:10] = np.nan
    windows = estimated(rows)
    assert [(own.row, own.rows) for own in windows] == [(50, 40), (100, 50)]
    assert windows[0].atc == pytest.approx(0.5)
    assert windows[0].cbpe == pytest.approx(0.75)
    assert estimate(rows, np.arange(10)) is None
    assert estimated(np.empty((0, 2))) == ()


def test_the_class_mix_test_keeps_its_level_with_rare_classes() -> None:
    """Four deviations; half of the classes are expected in fewer than five rows."""
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, *[0.01] * 10])
    p = [
        same_shares_p(rng.multinomial(400, shares), rng.multinomial(100, shares))
        for _ in range(1_000)
    ]
    for alpha in (0.01, 0.05):
        assert np.mean(np.array(p) <= alpha) <= alpha + 4.0 * np.sqrt(alpha / 1_000)
    assert same_shares_p(np.array([1, 0]), np.array([0, 1])) == 1.0
    assert class_mix(("a", "b"), np.array([5, 5]), np.array([0, 0])) is None
    mix = class_mix(("a", "b", "c"), np.array([50, 50, 0]), np.array([50, 0, 50]))
    assert isinstance(mix, ClassMix)
    assert mix.labels[-1] == "a"


def test_words_of_fewer_than_three_rows_and_private_ones_are_not_shown() -> None:
    known = {"invoice": 60, "the": 100, "rare": 2}
    recent = ["the gas 4711"] * 40 + ["the secret"] * 2 + ["the x@y.example"] * 8
    risen, fallen = separating_words(known, 100, recent)
    assert [word.name for word in risen] == ["gas"]
    assert [(word.name, word.reference_ratio, word.recent_ratio) for word in fallen] == [
        ("invoice", 0.6, 0.0)
    ]
