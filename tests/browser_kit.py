"""A real browser without a window, for the pages that we write and serve.

In: nothing. Out: a Chromium under playwright; where either is missing, a skip that says what to
install.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds, for machines that are busy with other things
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


@contextmanager
def launched() -> Iterator:
    """The browser, until the block ends."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: apt install chromium")
    driver = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: pip install playwright"
    )
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS, timeout=PATIENCE)
        yield browser
        browser.close()


@contextmanager
def visiting(browser, allowed: Callable[[str], tuple[str, ...]]) -> Iterator:
    """A function that opens an address. Errors, alerts and requests to anywhere but what is
    `allowed` to the page of this address fail the test when the block ends."""
    trouble, contexts = [], []

    def open_page(address, **settings):
        context = browser.new_context(**settings)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "dialog", lambda dialog: (trouble.append(f"alert: {dialog.message}"), dialog.dismiss())
        )
        page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
        places = allowed(address)
        page.on("request", lambda r: None if r.url.startswith(places) else trouble.append(r.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble, trouble


def until(page, truth):
    """Playwright's own waiting evaluates strings in the page, which the page's policy forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(truth):
        assert time.monotonic() < end, truth
        page.wait_for_timeout(20)
