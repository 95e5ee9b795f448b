"""A headless Chromium for the tests of the console, and what it asked for."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium here: apt-get install chromium chromium-driver",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
# What Chromium itself would do beside the page.
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


@contextmanager
def browser() -> Iterator[Chrome]:
    """A browser without a history, of a desktop's size."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (*QUIET, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options=options, service=Service(str(DRIVER)))
        try:
            yield driver
        finally:
            driver.quit()


def resize(driver: Chrome, size: tuple[int, int], dark: bool = False) -> None:
    """Show the page as a screen of that size would, a phone's with its touch."""
    width, height = size
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def requested(driver: Chrome) -> list[str]:
    """The URLs that the page asked for since the last call."""
    return [
        message["params"]["request"]["url"]
        for message in _messages(driver)
        if message["method"] == "Network.requestWillBeSent"
    ]


def _messages(driver: Chrome) -> list[dict[str, Any]]:
    return [json.loads(entry["message"])["message"] for entry in _log(driver, "performance")]


def complaints(driver: Chrome) -> list[str]:
    """What stands in the console of the browser since the last call."""
    return [str(entry["message"]) for entry in _log(driver, "browser")]


def _log(driver: Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return entries
