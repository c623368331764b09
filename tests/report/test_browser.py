"""The report as people see it: in a real browser, on wide and narrow screens, printed."""

import os
import re
from pathlib import Path

import pytest

SHOTS = os.environ.get("RESNETLAB_SHOTS")
"""A folder to keep the pictures in, for a person to look at."""


@pytest.fixture
def opened(browser, reported):
    """A function that opens the report, and sees that nothing is asked for or complained of."""
    contexts = []

    def visit(width=1280, height=900, scheme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        requests, complaints = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        address = reported.report_file.resolve().as_uri()
        page.goto(address)
        assert [url for url in requests if not url.startswith("data:")] == [address]
        assert complaints == []
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_every_screen(opened, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(width, 900, scheme)
    # Nothing is cut off or has to be scrolled sideways but long tables.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], [n["html"] for n in each["nodes"]]) for each in violations] == []
    # Nor by a class whose name is one long word.
    page.evaluate("document.querySelector('section:last-of-type li').textContent = 'x'.repeat(300)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    body = "getComputedStyle(document.body)"
    dark = page.evaluate(f"{body}.backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{width}-{scheme}.png", full_page=True)


def test_pictures_have_words(opened):
    page = opened()
    for picture in page.query_selector_all("img"):
        assert re.match(r"An image of class .+, taken for .+", picture.get_attribute("alt"))
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    drawings = page.query_selector_all("figure.paper svg[role=img]")
    assert len(drawings) == 7
    for drawing in drawings:
        assert drawing.get_attribute("role") == "img"
        assert len(drawing.get_attribute("aria-label")) > 20
        assert drawing.bounding_box()["width"] > 300
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(x => x.id)")
    assert len({*ids}) == len(ids)


def column(page, number):
    return page.evaluate(
        "n => [...document.querySelector('table.sortable').tBodies[0].rows]"
        ".map(row => row.cells[n].textContent)",
        number,
    )


def test_tables_sort_by_the_keyboard(opened):
    page = opened()
    before = column(page, 0)
    page.focus("table.sortable thead button >> nth=2")
    page.keyboard.press("Enter")
    recognised = [float(text) for text in column(page, 2)]
    assert recognised == sorted(recognised)
    heading = page.query_selector("table.sortable th[aria-sort]")
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert [float(text) for text in column(page, 2)] == sorted(recognised, reverse=True)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert column(page, 0) == sorted(before)
    assert len(page.query_selector_all("th[aria-sort]")) == 1


def test_it_is_read_without_a_script(opened):
    page = opened(script=False)
    text = page.inner_text("main")
    for words in ("top-1 accuracy", "airplane", "What the network cannot know", "Weights"):
        assert words in text


def test_it_prints(opened, tmp_path):
    page = opened(scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("nav")
    out = Path(SHOTS or tmp_path) / "report.pdf"
    data = page.pdf(path=out, format="A4")
    assert data.startswith(b"%PDF")
    assert 3 <= data.count(b"/Type /Page\n") + len(re.findall(rb"/Type\s*/Page\b", data)) <= 40
