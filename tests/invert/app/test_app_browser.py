"""The page in a real browser, headless Chromium: a picture goes in, its prompt is read back.

Skipped where no Chromium or no Playwright is installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
PATIENCE = 600_000  # milliseconds: machines may be busy


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page as a browser of that kind would; what it asks of other hosts is an error."""
    contexts, elsewhere = [], []

    def opened(**kind: Any) -> Any:
        context = browser.new_context(**kind)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: elsewhere.append(request.url) if outside(request.url) else None)
        page.goto(address)
        page.wait_for_selector("#find")
        return page

    def outside(url: str) -> bool:
        return not url.startswith((address, "data:", "blob:"))

    yield opened
    for context in contexts:
        context.close()
    assert elsewhere == []


def with_settings(page: Any, method: str) -> None:
    page.get_by_role("button", name="Settings").first.click()
    page.get_by_role("combobox", name="Method").click()
    page.get_by_role("option", name=method, exact=True).click()


def test_a_picture_goes_in_and_its_prompt_comes_out_with_its_curve(visit, files) -> None:
    page = visit()
    with_settings(page, "quick")
    page.set_input_files("#picture input[type=file]", files.good)
    page.click("#find")
    expect(page.locator("#prompt textarea")).to_have_value("w33", timeout=PATIENCE)
    expect(page.locator("#progress")).to_contain_text("token passes", timeout=PATIENCE)
    assert page.locator("#curve polyline").count() == 1
    assert page.locator("#prompt").get_by_role("button", name="Copy").count() == 1
    page.get_by_role("tab", name="Draw again").click()
    expect(page.locator("#drawn-prompt textarea")).to_have_value("w33", timeout=PATIENCE)  # ready to be drawn


def test_stop_keeps_the_best_so_far(visit, files) -> None:
    page = visit()
    with_settings(page, "endless")
    page.set_input_files("#picture input[type=file]", files.good)
    page.click("#find")
    expect(page.locator("#prompt textarea")).to_have_value("w7 w8", timeout=PATIENCE)  # while it searches
    page.click("#stop-find")
    expect(page.locator("#progress")).to_contain_text("stopped: the best so far", timeout=PATIENCE)
    expect(page.locator("#prompt textarea")).to_have_value("w7 w8")


def test_a_bad_file_is_one_sentence_in_the_page_and_leaves_the_box(visit, files) -> None:
    page = visit()
    page.set_input_files("#picture input[type=file]", files.bad)
    expect(page.locator("#notice")).to_contain_text("bad.png is not an image that can be read", timeout=PATIENCE)
    expect(page.locator("#picture img")).to_have_count(0, timeout=PATIENCE)  # no sliver of it
    page.click("#find")
    expect(page.get_by_test_id("toast-body")).to_contain_text("there is no picture yet", timeout=PATIENCE)
    expect(page.get_by_text("bad.png is not an image that can be read")).to_have_count(1)
    page.set_input_files("#picture input[type=file]", files.good)
    expect(page.locator("#notice p")).to_have_count(0, timeout=PATIENCE)
    assert "Traceback" not in page.content()


def test_the_prompt_in_a_file_is_shown(visit, files) -> None:
    page = visit()
    page.set_input_files("#picture input[type=file]", files.carrying)
    expect(page.locator("#notice")).to_contain_text("carries the prompt", timeout=PATIENCE)
    page.get_by_role("tab", name="In the file").click()
    expect(page.locator("#embedded textarea")).to_have_value("a fox in the snow")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
def test_it_fits_the_screen_and_follows_its_colors(visit, width: int, scheme: str) -> None:
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    color = page.evaluate("getComputedStyle(document.querySelector('#title h1')).color")
    brightness = sum(map(int, re.findall(r"\d+", color)[:3]))
    assert brightness > 600 if scheme == "dark" else brightness < 200
