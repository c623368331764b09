"""The page in a real browser, at two widths: whoever drops, chooses, types or cannot see."""

import base64
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from .conftest import TOKEN, FakeNetwork
from .inprocess import served

CHROMIUM = Path("/usr/bin/chromium")
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 360, "height": 740}

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's
]


@pytest.fixture(scope="module")  # while it lives, no other test of the process can run asyncio
def browser():
    with sync_playwright() as playwright:
        options = [
            "--no-sandbox",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser):
    """(address, ...) -> a page that asks nothing from elsewhere and whose scripts do not fail."""
    contexts, faults = [], []

    def begin(url: str, viewport=WIDE, *, known: bool = True, **options) -> Page:
        context = browser.new_context(
            viewport=viewport, locale=options.pop("locale", "en-US"), **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda asked: _check_address(asked.url, url, faults))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("filechooser", lambda _: None)  # none is opened, from the beginning
        page.set_default_timeout(30_000)
        page.goto(url)
        if known:
            expect(page.locator("#knows")).not_to_be_empty()
        return page

    yield begin
    for context in contexts:
        context.close()
    assert not faults


def _check_address(asked: str, own: str, faults: list[str]) -> None:
    if not asked.startswith((own.removesuffix("/docs"), "blob:", "data:")):
        faults.append(f"asked for {asked}")


def drop(page: Page, name: str, data: bytes) -> None:
    """As if a file were dragged from the desktop to the page."""
    encoded = base64.b64encode(data).decode()
    page.evaluate(
        """async ([name, encoded]) => {
            const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
                const event = new DragEvent(kind, options);
                document.querySelector("#drop").dispatchEvent(event);
            }
        }""",
        [name, encoded],
    )


def assert_accessible(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "zh-CN")])
def test_drop_and_see(server, open_page, pictures, viewport, scheme, locale):
    page = open_page(server.url, viewport, color_scheme=scheme, locale=locale)
    assert_accessible(page)
    drop(page, "<b>cat</b>.png", pictures[0])
    expect(page.locator(".bars li")).to_have_count(5)
    expect(page.locator(".bars li").first).to_contain_text("cat")
    expect(page.locator("article h3")).to_have_text("b>.png")  # what follows the last slash
    expect(page.locator("#status")).to_contain_text("cat")  # for those who cannot see
    canvas = page.locator("canvas.heat")
    frame, heat = page.locator(".frame img").bounding_box(), canvas.bounding_box()
    assert frame == pytest.approx(heat, abs=1)
    page.locator("#heat").uncheck()
    expect(canvas).to_be_hidden()
    assert_accessible(page)
    assert_fits(page)
    limits = page.locator("#limits li")
    expect(limits.first).to_contain_text("10")
    assert page.locator("html").get_attribute("lang") == ("en" if locale == "en-US" else "zh-Hans")


def test_nothing_but_the_keyboard(server, open_page, pictures):
    page = open_page(server.url)
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.className")
        seen.append(focused)
        if focused == "choose":
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Enter")
            chooser.value.set_files(
                {"name": "a.png", "mimeType": "image/png", "buffer": pictures[0]}
            )
            expect(page.locator("article h3")).to_have_text("a.png")
        if focused == "example":
            break
    reached = [name for name in seen if name in ("language", "choose", "photograph", "example")]
    assert reached == ["language", "choose", "photograph", "example"]
    page.keyboard.press("Enter")
    expect(page.locator("article h3")).to_have_text("1.png")
    expect(page.locator(".bars li").first).to_contain_text("bird")
    page.locator("#language").press("Enter")
    expect(page.locator("h1")).to_have_text("图片里是什么？")
    expect(page.locator("article h3")).to_have_text("1.png")  # the answer stays
    page.reload()
    expect(page.locator("h1")).to_have_text("图片里是什么？")  # remembered


def test_a_photograph_and_a_paste(server, open_page, pictures):
    page = open_page(server.url)
    page.click("#photograph")
    expect(page.locator("#camera")).to_be_visible()
    page.wait_for_timeout(500)  # until the camera gives pictures
    assert_accessible(page)
    page.click("#shoot")
    expect(page.locator("article h3")).to_have_text("photo.png")
    page.evaluate(
        """(encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
            const options = { clipboardData: transfer, bubbles: true };
            document.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        base64.b64encode(pictures[1]).decode(),
    )
    expect(page.locator("article h3")).to_have_text("pasted.png")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_errors_are_said(server, open_page, pictures, viewport):
    page = open_page(server.url, viewport)
    drop(page, "notes.png", b"no image")
    expect(page.locator("article .bad")).to_have_text("notes.png could not be read.")
    assert_accessible(page)
    drop(page, "large.png", bytes(5 * 2**20))
    expect(page.locator("#error")).to_have_text("Too large: at most 8 images and 4 MB at once.")
    page.route("**/predict*", lambda route: route.abort())
    drop(page, "cat.png", pictures[0])
    expect(page.locator("#error")).to_contain_text("does not answer")
    page.unroute("**/predict*")
    page.route(
        "**/predict*",
        lambda route: route.fulfill(status=429, headers={"retry-after": "7"}, json={"error": "x"}),
    )
    drop(page, "cat.png", pictures[0])
    expect(page.locator("#error")).to_have_text("The server is busy. Try again in 7 s.")
    assert_accessible(page)
    assert_fits(page)


class Unsure(FakeNetwork):
    threshold = 0.8
    classes = ("<img src=x onerror=alert(1)>", "a" * 200)


def test_none_of_these_a_token_and_html_in_the_names_of_classes(open_page, pictures):
    with served(Unsure(), token=TOKEN) as server:
        page = open_page(server.url, NARROW, known=False)
        field = page.locator("#token input")
        expect(field).to_be_focused()
        assert_accessible(page)
        field.fill("a wrong one")
        field.press("Enter")
        expect(page.locator("#error")).to_have_text("That token was not accepted.")
        field.fill(TOKEN)
        field.press("Enter")
        expect(page.locator("#knows")).to_contain_text("2 classes")
        drop(page, "cat.png", pictures[0])
        expect(page.locator(".none")).to_contain_text("below 80.0 %")
        expect(page.locator(".bars li").first).to_contain_text(Unsure.classes[0])
        expect(page.locator("#limits")).to_contain_text("none of these")
        expect(page.locator("canvas")).to_have_count(0)
        assert page.locator(".bars img").count() == 0
        assert_accessible(page)
        assert_fits(page)


def test_the_reference_is_accessible(server, open_page):
    page = open_page(f"{server.url}/docs", NARROW, known=False)
    assert_accessible(page)
    assert_fits(page)
