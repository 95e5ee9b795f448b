"""The console's page as it is shipped, and the figures that are read for it."""

import base64
import hashlib
import re
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from serve.console.page import PARTS, Console, document, policy_of
from serve.console.state import (
    ABSTAINED,
    ANSWER_ROUTES,
    INFERENCES,
    REJECTED,
    REQUESTS,
    by_label,
    cumulative,
    read_samples,
    total,
)
from serve.metrics import CANARY, REJECTIONS, ROUTE_CODES, SECONDS, SHADOW, ServeMetrics
from tests.asked import scored

ROOT = Path(__file__).parents[3]
HTML, CSS, JS = "console.html", *PARTS
TEXT_ON_PAGE = ("ink", "quiet", "accent", "good", "warn", "bad")
AA_TEXT, AA_CONTROL = 4.5, 3.0


def part(name: str) -> str:
    return files("serve.console").joinpath(name).read_text(encoding="utf-8")


# -- the page --------------------------------------------------------------------------------------


def test_the_policy_allows_the_two_parts_by_hash_and_nothing_else() -> None:
    body, policy = document()
    html = body.decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert "unsafe" not in policy
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["connect-src"] == "'self'"


@given(st.text(), st.text())
def test_the_policy_changes_with_every_change_of_a_part(style: str, script: str) -> None:
    assert policy_of(style, script) != policy_of(style, script + " ")
    assert policy_of(style, script) != policy_of(style + " ", script)


def test_the_page_has_no_inline_handler_style_or_second_script() -> None:
    html = part(HTML)
    assert re.findall(r"\son\w+=|\sstyle=|javascript:", html) == []
    assert html.count("<script") == html.count("<style") == 1
    assert "{{" not in document()[0].decode()
    for name in PARTS:
        assert "</" not in part(name)  # would end its element


@pytest.mark.parametrize("name", [HTML, CSS, JS])
def test_no_part_names_another_host(name: str) -> None:
    # A namespace is a name, not an address; Chromium's tests see that nothing is asked for.
    text = part(name).replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?:|//[a-z]|@import|url\(", text) == []


@pytest.mark.parametrize("name", [HTML, CSS, JS])
def test_every_part_goes_into_the_wheel(name: str) -> None:
    """The wheel takes what lies in a package, but for what git leaves alone."""
    assert part(name).strip()
    ignored = (ROOT / ".gitignore").read_text().split()
    path = f"serve/console/{name}"
    assert [p for p in ignored if fnmatch(path, p) or fnmatch(name, p)] == []


def test_what_comes_from_outside_is_text_only() -> None:
    for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("):
        assert way not in part(JS)
    for store in ("localStorage", "document.cookie", "indexedDB"):
        assert store not in part(JS)


def test_every_field_has_a_label_and_every_id_that_is_used_is_there() -> None:
    html = part(HTML)
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    fields = re.findall(r"<(?:textarea|input)[^>]*id=\"([^\"]+)\"", html)
    for field in fields:
        assert f'for="{field}"' in html or f'<label class="check"><input id="{field}"' in html
    used = set(re.findall(r'\b(?:at|say|setRows)\("([^"$]+)"', part(JS)))
    referred = set(re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', html))
    assert used | referred <= set(ids)


def schemes() -> list[dict[str, str]]:
    """The colours of light, then of dark."""
    light, dark = re.findall(r":root \{(.*?)\}", part(CSS), re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in (light, dark)]


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(colours: dict[str, str]) -> None:
    assert set(colours) == set(schemes()[0])
    for name in TEXT_ON_PAGE:
        assert contrast(colours[name], colours["page"]) >= AA_TEXT, name
    for text, ground in (("on-accent", "accent"), ("ink", "mark"), ("ink", "soft")):
        assert contrast(colours[text], colours[ground]) >= AA_TEXT, text
    assert contrast(colours["quiet"], colours["soft"]) >= AA_TEXT
    for name in ("edge", "accent", "bad"):
        assert contrast(colours[name], colours["soft"]) >= AA_CONTROL, name


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", True),
        ("HEAD", "/", True),
        ("POST", "/", False),
        ("DELETE", "/", False),
        ("GET", "//", False),
        ("GET", "/console/state", False),
    ],
)
def test_only_looking_at_the_root_is_the_page(method: str, path: str, expected: bool) -> None:
    found = Console.has_page({"method": method, "path": path})
    assert found is expected


# -- the figures -----------------------------------------------------------------------------------


@pytest.fixture
def metrics() -> ServeMetrics:
    return ServeMetrics(CollectorRegistry(), "tiny")


def test_figures_start_at_zero(metrics: ServeMetrics) -> None:
    samples = read_samples(metrics.registry)
    assert cumulative(samples, REQUESTS) == [0] * (len(SECONDS) + 1)
    assert by_label(samples, REJECTED, "reason") == {}


def test_requests_are_those_for_answers_of_both_variants(metrics: ServeMetrics) -> None:
    metrics.start_variant(CANARY)
    for route in ROUTE_CODES:
        metrics.answered(route, 200, 0.003)
    metrics.answered("/predict", 200, 20.0, CANARY)
    counts = cumulative(read_samples(metrics.registry), REQUESTS)
    answers = len(ANSWER_ROUTES)
    below = sum(bound < 0.003 for bound in SECONDS)
    assert counts == [0] * below + [answers] * (len(SECONDS) - below) + [answers + 1]
    assert {"/", "/predict", "/embed", "/v2/models/{model}/infer"} <= ANSWER_ROUTES
    assert not {"/health", "/metrics", "/console/state"} & ANSWER_ROUTES


def test_what_a_shadow_scores_is_no_traffic(metrics: ServeMetrics) -> None:
    metrics.start_variant(SHADOW)
    answer = scored([0.0, 1.0])
    for variant in ("stable", SHADOW):
        metrics.scored([answer], ("billing", "delivery"), variant)
    samples = read_samples(metrics.registry)
    assert cumulative(samples, INFERENCES)[-1] == 1
    assert total(samples, ABSTAINED) == 0


def test_refusals_are_told_by_reason(metrics: ServeMetrics) -> None:
    for i, reason in enumerate(REJECTIONS):
        for _ in range(i):
            metrics.rejected(reason)
    expected = {reason: i for i, reason in enumerate(REJECTIONS) if i}
    assert by_label(read_samples(metrics.registry), REJECTED, "reason") == expected
