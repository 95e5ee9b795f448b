"""The console in a real Chromium: by keyboard, on a phone, in the dark, with keys, over a restart.

Screenshots are written to pytest's folder for temporary files.
"""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edgeloop.bundle import Bundle
from serve.keyfile import KeyScope, add_key
from serve.metrics import SECONDS
from tests import tiny
from tests.browser import DESKTOP, PHONE, browser, complaints, needs_chromium, requested, resize
from tests.edge_server import Server, serving
from tests.integration.test_serve_swap import wait_until
from tests.served import PAIR, Tasks, tasks

pytestmark = needs_chromium
DARK_PAGE, LIGHT_PAGE = "rgb(21, 24, 28)", "rgb(255, 255, 255)"
# Google calls 0.1 good; what is here is a line that gets its text.
MOST_SHIFT = 0.02
SHIFTS = """
    const done = arguments[0];
    new PerformanceObserver((list) => done(list.getEntries().reduce((sum, e) => sum + e.value, 0)))
        .observe({ type: "layout-shift", buffered: true });
    setTimeout(() => done(0), 300);
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("console")
    return [tiny.make_bundle(folder / f"v{i}", seed=i, abstain_below=0.5) for i in range(2)]


@pytest.fixture(scope="module")
def server(bundles: list[Bundle]) -> Iterator[Server]:
    with serving(bundle=bundles[0].path, admin={"port": 0}) as running:
        yield running


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with tasks(tmp_path_factory.mktemp("tasks")) as found:
        yield found


def read(driver: Chrome, name: str) -> str:
    return driver.find_element(By.ID, name).text


def wait_for(driver: Chrome, name: str, condition: Callable[[str], bool]) -> str:
    wait_until(lambda: condition(read(driver, name)))
    return read(driver, name)


def open_page(
    driver: Chrome, url: str, size: tuple[int, int] = DESKTOP, dark: bool = False
) -> None:
    resize(driver, size, dark)
    driver.get(f"{url}/")
    wait_for(driver, "status", lambda text: text != "connecting")


def press(driver: Chrome, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def send(driver: Chrome, text: str) -> str:
    """Type over what is there, by key; the first line of the answer."""
    field = driver.find_element(By.ID, "text")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text, Keys.CONTROL, Keys.ENTER)
    wait_for(driver, "fact-trip", lambda told: told.endswith("ms"))
    return read(driver, "answer").replace("\n", " ")


def shoot(driver: Chrome, path: Path) -> None:
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(shot["data"]))
    assert path.stat().st_size > 10_000


def run(driver: Chrome, script: str, *arguments: Any) -> Any:
    return driver.execute_script(script, *arguments)


def test_it_loads_in_silence_and_asks_no_other_host(server: Server, chrome: Chrome) -> None:
    requested(chrome), complaints(chrome)
    open_page(chrome, server.url)
    assert wait_for(chrome, "status", lambda text: text.startswith("serving")).startswith("serving")
    assert read(chrome, "model") == "tiny"
    wait_for(chrome, "rate", lambda text: text == "0.0")  # two polls
    urls = [url for url in requested(chrome) if url.startswith("http")]
    paths = {url.removeprefix(server.url) for url in urls}
    assert paths == {"/", "/info", "/console/state"}
    assert complaints(chrome) == []


def test_the_keyboard_alone_is_enough(server: Server, chrome: Chrome, tmp_path: Path) -> None:
    open_page(chrome, server.url)
    press(chrome, Keys.TAB, Keys.ENTER)  # past the header
    press(chrome, *"my card was charged twice")
    press(chrome, Keys.TAB)
    focused = chrome.switch_to.active_element
    assert focused.text == "Answer"
    assert focused.value_of_css_property("outline-style") == "solid"
    press(chrome, Keys.ENTER)
    answer = wait_for(chrome, "answer", lambda text: "billing" in text)
    assert answer.endswith("%")
    bars = chrome.find_elements(By.CSS_SELECTOR, ".bars li")
    assert {bar.text.split("\n")[0] for bar in bars} == set(tiny.LABELS)
    assert read(chrome, "fact-inference").endswith("ms")
    assert read(chrome, "fact-trip").endswith("ms")
    assert read(chrome, "fact-abstained") == "no"
    digest = chrome.find_element(By.ID, "fact-bundle").get_attribute("title") or ""
    assert digest.startswith(read(chrome, "fact-bundle"))
    assert len(digest) == 64
    assert chrome.find_element(By.ID, "answer").get_attribute("aria-live") == "polite"
    assert chrome.execute_async_script(SHIFTS) < MOST_SHIFT
    shoot(chrome, tmp_path / "light.png")


def test_what_is_refused_is_said(server: Server, chrome: Chrome) -> None:
    open_page(chrome, server.url)
    chrome.find_element(By.ID, "text").send_keys("card " * 80, Keys.CONTROL, Keys.ENTER)
    wait_for(chrome, "answer", lambda text: "more than 64 tokens" in text)
    chrome.find_element(By.ID, "truncate").click()
    chrome.find_element(By.ID, "text").send_keys(Keys.CONTROL, Keys.ENTER)
    wait_for(chrome, "answer", lambda text: text.startswith("billing"))
    wait_for(chrome, "refused-why", lambda text: "invalid" in text)


def test_a_swap_stands_in_the_history(
    server: Server, bundles: list[Bundle], chrome: Chrome
) -> None:
    open_page(chrome, server.url)
    body = {"path": str(bundles[1].path)}
    assert httpx.post(f"{server.admin}/admin/bundles", json=body, timeout=20).status_code == 200
    history = wait_for(chrome, "history", lambda text: "swap by admin" in text)
    assert bundles[1].digest[:12] in history
    current, previous = read(chrome, "bundles").splitlines()[:2]
    assert bundles[1].digest[:12] in current
    assert bundles[0].digest[:12] in previous


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone_and_follows_its_colours(
    server: Server, bundles: list[Bundle], chrome: Chrome, tmp_path: Path, dark: bool
) -> None:
    for variant in ("canary", "shadow"):
        body = {"path": str(bundles[0].path), "share": 0.5}
        httpx.post(f"{server.admin}/admin/{variant}", json=body, timeout=20).raise_for_status()
    open_page(chrome, server.url, PHONE, dark)
    wait_for(chrome, "trials", lambda text: "all together" in text and "shadow" in text)
    send(chrome, "please help the courier")
    assert chrome.execute_async_script(SHIFTS) < MOST_SHIFT
    width = run(chrome, "return Math.max(document.documentElement.scrollWidth, innerWidth)")
    assert width == PHONE[0]
    ground = run(chrome, "return getComputedStyle(document.body).backgroundColor")
    assert ground == (DARK_PAGE if dark else LIGHT_PAGE)
    for button in chrome.find_elements(By.CSS_SELECTOR, "form button"):
        assert not button.is_displayed() or button.size["height"] >= 44
    shoot(chrome, tmp_path / f"phone-{'dark' if dark else 'light'}.png")


def test_a_hidden_tab_does_not_ask(server: Server, chrome: Chrome) -> None:
    open_page(chrome, server.url)
    run(chrome, "Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    wait_until(lambda: not run(chrome, "return polling"))
    requested(chrome)
    run(chrome, "document.dispatchEvent(new Event('visibilitychange')); return poll()")
    assert [url for url in requested(chrome) if "console/state" in url] == []
    run(chrome, "delete document.hidden")
    run(chrome, "document.dispatchEvent(new Event('visibilitychange'))")
    wait_until(lambda: any("console/state" in url for url in requested(chrome)))


def test_quantiles_are_those_of_prometheus(server: Server, chrome: Chrome) -> None:
    open_page(chrome, server.url)
    rng = np.random.default_rng(0)
    for _ in range(20):
        seconds = rng.lognormal(-5.0, 2.0, int(rng.integers(1, 200)))
        counts = [int((seconds <= bound).sum()) for bound in (*SECONDS, np.inf)]
        for share in (0.5, 0.95):
            told = run(chrome, QUANTILE, counts, list(SECONDS), share)
            assert told == pytest.approx(1000.0 * interpolated(counts, share), rel=0.01, abs=0.006)


QUANTILE = """
    const [counts, bounds_seconds, share] = arguments;
    const kept = polls;
    polls = [{ parts: counts.map(() => 0) }, { parts: counts, bounds_seconds }];
    const told = quantile("parts", share);
    polls = kept;
    return Number(told.replace("> ", ""));
"""


def interpolated(counts: list[int], share: float) -> float:
    """histogram_quantile's way: linear within the bucket, the last bound above them all."""
    rank = share * counts[-1]
    if rank > counts[-2]:
        return SECONDS[-1]
    return float(np.interp(rank, [0, *counts[:-1]], [0.0, *SECONDS]))


# -- every task ------------------------------------------------------------------------------------


MARKED = "return [...document.querySelectorAll('mark')].map((mark) => mark.firstChild.data)"


def test_the_text_of_a_tagger_is_marked_by_characters(served: Tasks, chrome: Chrome) -> None:
    open_page(chrome, served("token-classification").url)
    text = "<b>🙂 é</b> invoice late"
    run(chrome, "document.getElementById('text').value = arguments[0]", text)
    chrome.find_element(By.CSS_SELECTOR, "#try-form button").click()
    wait_for(chrome, "answer", lambda told: told == "2 spans")
    marked = run(chrome, MARKED)
    assert marked == ["invoice", "late"]
    assert read(chrome, "detail").startswith("<b>🙂 é</b> invoice")


def test_pairs_have_two_fields(served: Tasks, chrome: Chrome) -> None:
    open_page(chrome, served(PAIR).url)
    press(chrome, Keys.TAB, Keys.ENTER, *"my parcel", Keys.TAB, *"pump leak", Keys.TAB, Keys.ENTER)
    wait_for(chrome, "answer", lambda text: text.startswith("repair"))


def test_several_labels_are_all_named(served: Tasks, chrome: Chrome) -> None:
    open_page(chrome, served("multi-label-classification").url)
    answer = send(chrome, "card refund parcel courier")
    assert set(answer.split(", ")) == {"billing", "delivery"}


def test_vectors_have_a_dimension_and_a_norm(served: Tasks, chrome: Chrome) -> None:
    open_page(chrome, served("text-embedding").url)
    assert send(chrome, "card refund") == f"{tiny.HIDDEN} dimensions norm 1.0000"


# -- keys, and a server that goes away -------------------------------------------------------------


def test_it_asks_for_a_key_and_keeps_it_in_the_tab(
    bundles: list[Bundle], chrome: Chrome, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    key = add_key(file, "person", ("predict", "metrics"))
    with serving(bundle=bundles[0].path, keys={"file": str(file)}) as running:
        open_page(chrome, running.url)
        wait_for(chrome, "status", lambda text: text == "a key is needed")
        press(chrome, *"el_wrong", Keys.ENTER)  # the field has the focus
        wait_for(chrome, "key-note", lambda text: "not known" in text)
        chrome.find_element(By.ID, "key").send_keys(key, Keys.ENTER)
        wait_for(chrome, "status", lambda text: text.startswith("serving"))
        assert not chrome.find_element(By.ID, "key-form").is_displayed()
        assert send(chrome, "card refund").startswith("billing")
        assert run(chrome, "return [localStorage.length, document.cookie]") == [0, ""]
        chrome.find_element(By.ID, "forget").click()
        wait_for(chrome, "status", lambda text: text == "a key is needed")


@pytest.mark.parametrize(("scope", "missing"), [("metrics", "predict"), ("predict", "metrics")])
def test_a_key_for_half_of_it_shows_that_half(
    bundles: list[Bundle], chrome: Chrome, tmp_path: Path, scope: KeyScope, missing: KeyScope
) -> None:
    file = tmp_path / "keys.json"
    key = add_key(file, "person", (scope,))
    with serving(bundle=bundles[0].path, keys={"file": str(file)}) as running:
        open_page(chrome, running.url)
        wait_for(chrome, "status", lambda text: text == "a key is needed")
        press(chrome, *key, Keys.ENTER)
        wait_for(chrome, "status", lambda text: f"has not the scope {missing}" in text)
        if scope == "metrics":
            assert bundles[0].digest[:12] in read(chrome, "bundles")
        else:
            assert send(chrome, "card refund").startswith("billing")


def test_it_says_that_the_server_is_gone_and_comes_back_by_itself(
    bundles: list[Bundle], chrome: Chrome
) -> None:
    with serving(bundle=bundles[0].path, drain_seconds=0) as running:
        open_page(chrome, running.url)
        wait_for(chrome, "status", lambda text: text.startswith("serving"))
        port = int(running.url.rpartition(":")[2])
        assert running.stop() == 0
        wait_for(chrome, "status", lambda text: text == "the server does not answer")
    with serving(bundle=bundles[1].path, port=port):
        wait_for(chrome, "status", lambda text: text.startswith("serving"))
        wait_for(chrome, "bundles", lambda text: bundles[1].digest[:12] in text)
