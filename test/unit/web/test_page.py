"""The page in a real browser: headless Chromium, driven over its own protocol by chromedriver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edge_vision.web.server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1366,860"
)

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.skipif(not CHROMEDRIVER, reason="chromedriver is not installed"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    driver.set_page_load_timeout(40)
    driver.set_script_timeout(20)
    try:
        yield driver
    finally:
        driver.quit()  # ends chromium and chromedriver


class Page:
    def __init__(self, browser: Any, tools: Any) -> None:
        self.browser = browser
        self._tools = tools

    def at(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def button(self, name: str) -> Any:
        return self.at(f"button[data-command={name}]")

    def text(self, selector: str) -> str:
        """As it is in the document, whether it is scrolled into view or not."""
        return str(self.at(selector).get_property("textContent")).strip()

    def shows(self, selector: str, words: str) -> None:
        self._tools.wait_until(lambda: words in self.text(selector), f"{selector} shows {words!r}")

    def enabled(self, name: str, yes: bool = True) -> None:
        wanted = str(not yes).lower()
        self._tools.wait_until(lambda: self.button(name).get_attribute("aria-disabled") == wanted, f"{name}: {yes}")

    def errors(self) -> list[str]:
        """What the browser complained about since the last call, but for answers that are refusals."""
        return [entry["message"] for entry in self.browser.get_log("browser") if "command/" not in entry["message"]]


@pytest.fixture
def page(browser: Any, server: Server, tools: Any) -> Iterator[Page]:
    browser.get_log("browser")
    browser.get(server.url)
    made = Page(browser, tools)
    made.shows("#connection", "live")
    yield made
    complaints = made.errors()
    browser.get("about:blank")
    assert not [each for each in complaints if "Content Security Policy" in each or "rror:" in each], complaints


def test_it_shows_the_status_and_follows_it(page: Page, control: Any, tools: Any) -> None:
    assert page.text("#next") == "Press Start, then show the board to the camera"
    assert page.text("#subject") == "front_camera · chessboard 9 x 6, 25 mm · 640 × 360"
    assert page.text("#rms") == "–"
    assert page.text("#reasons") == "There is no solution yet"
    cells = control.status().cells.copy()
    cells[2:5, 3:8] = True
    control.tell(state="collecting", seen=True, looked="kept", cells=cells, message="kept view 9", **tools.view)
    page.shows("#next", "Near (0.31 m), top left")
    assert page.text("#gain") == "uncertainty −14 %"
    assert page.text("#verdict") == "Usable"
    items = page.browser.find_elements(By.CSS_SELECTOR, "#reasons li")
    assert items[0].get_property("innerText").split("\n") == ["9 views (15 for good)", "Add views"]
    assert len(items) == 2
    assert (page.text("#views"), page.text("#rms"), page.text("#uncertainty_corners")) == ("9", "0.210 px", "0.930 px")
    assert page.text("#value-x") == "80 %"
    assert page.at("[aria-label^='Skew']").get_attribute("aria-valuenow") == "50"
    seen = page.browser.execute_script(
        "return [...document.querySelectorAll('#grid i')].map(i => i.classList.contains('seen'))"
    )
    assert seen == cells.ravel().tolist()
    assert "15 of 100 cells" in page.at("#grid").get_attribute("aria-label")
    assert (page.text("#seen"), page.text("#looked")) == ("board seen", "kept")
    page.shows("#log", "Kept view 9")
    control.tell(state="done", verdict="good", reasons=(), remedies=())
    page.shows("#next", "Good. Commit gives it to the camera")
    assert page.text("#reasons") == "Every figure is within its threshold"


def test_the_picture_is_live(page: Page, control: Any, tools: Any) -> None:
    preview = page.at("#preview")
    tools.wait_until(preview.is_displayed, "the first picture")
    assert preview.get_property("naturalWidth") == 640
    first = preview.get_property("src")
    tools.wait_until(lambda: preview.get_property("src") != first, "the next picture")
    control.without_picture = True
    page.shows("#no-preview", "No new picture for")


def test_a_hidden_tab_is_sent_nothing(page: Page, server: Server, control: Any, tools: Any) -> None:
    tools.wait_until(lambda: server.listeners == 2, "the page looks: status and picture")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    page.browser.execute_script(hide % "true" + tell)
    tools.wait_until(lambda: server.listeners == 0, "nobody looks")
    control.tell(message="meanwhile")
    page.browser.execute_script(hide % "false" + tell)
    page.shows("#log", "Meanwhile")


def test_buttons_call_commands_and_refusals_are_shown(page: Page, control: Any, tools: Any) -> None:
    control.tell(seen=True, **tools.view)
    page.enabled("calibrate")
    page.button("start").click()
    page.shows("#toggle", "Stop")
    page.shows("#notice", "Did start")
    page.button("add_view").click()
    page.shows("#notice", "Did add_view")

    control.gate.clear()
    page.button("calibrate").click()
    page.enabled("calibrate", False)
    page.shows("#notice", "Calibrating")
    page.button("stop").click()  # while the other is being done
    page.shows("#toggle", "Start")
    control.gate.set()
    page.shows("#notice", "Calibrated from 9 views")

    page.button("save").click()
    page.at("#folder").send_keys("/media/usb", Keys.ENTER)
    page.shows("#notice", "/media/usb: read-only file system. Choose another folder")
    assert page.at("#notice").get_attribute("class") == "bad"
    page.button("load_samples").click()
    page.at("#folder").send_keys(Keys.ESCAPE)  # called off
    page.button("load_samples").click()
    page.at("#confirm").click()
    page.shows("#notice", "Load samples failed: the disk is gone")
    page.shows("#log", "the disk is gone")
    page.at("#notice-close").click()
    assert not page.at("#notice").is_displayed()

    page.button("reset").click()
    assert "9 views" in page.text("#dialog-text")
    page.at("#cancel").click()
    page.button("reset").click()
    page.at("#confirm").click()
    page.shows("#notice", "Did reset")
    assert [name for name, _ in control.commands] == [
        "start", "add_view", "calibrate", "stop", "save", "load_samples", "reset",
    ]  # fmt: skip
    assert control.commands[4] == ("save", "/media/usb")


def test_buttons_that_make_no_sense_say_why_and_do_nothing(page: Page, control: Any, tools: Any) -> None:
    for name, why in {
        "add_view": "Press Start first",
        "calibrate": "no views yet",
        "save": "nothing to save",
        "reset": "nothing to forget",
        "commit": "no solution yet",
    }.items():
        page.enabled(name, False)
        assert why in page.button(name).get_attribute("title")
        page.button(name).click()  # a phone shows no titles
        page.shows("#notice", why)
    control.tell(state="collecting", seen=False)
    page.shows("#toggle", "Stop")
    assert "does not show the board" in page.button("add_view").get_attribute("title")
    control.tell(state="solving", **tools.view)
    page.shows("#next", "The final solution is being made")
    assert "wait for its end" in page.button("calibrate").get_attribute("title")
    control.tell(state="done", verdict="not yet")
    page.enabled("commit")
    page.button("commit").click()  # asks, as the verdict is what it is
    assert "not yet" in page.text("#dialog-text")
    page.at("#cancel").click()
    control.tell(committed=True)
    page.enabled("commit", False)
    assert "already" in page.button("commit").get_attribute("title")
    assert control.commands == []


def test_it_can_be_used_by_keyboard(page: Page, control: Any) -> None:
    page.at("body").send_keys(Keys.TAB)
    focused = page.browser.switch_to.active_element
    assert focused.get_attribute("id") == "toggle"
    focused.send_keys(Keys.ENTER)
    page.shows("#toggle", "Stop")
    assert page.browser.switch_to.active_element.get_attribute("id") == "toggle"
    assert page.at("#next").get_attribute("aria-live") == "polite"


def test_a_lost_connection_is_shown_and_comes_back_by_itself(page: Page, server: Server, control: Any) -> None:
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    server.stop()
    page.shows("#connection", "connection lost")
    assert page.at("#lost").is_displayed()
    assert page.button("start").get_attribute("title") == "There is no connection"
    control.tell(message="here again")
    again = Server(control, port=port)
    again.start()
    try:
        page.shows("#connection", "live")
        page.shows("#log", "Here again")
        assert not page.at("#lost").is_displayed()
    finally:
        again.stop()


def test_the_token_is_asked_for_once_and_leaves_the_address(browser: Any, control: Any, tools: Any) -> None:
    server = Server(control, token="a long token & more")
    address = server.start().split("?")[0]
    page = Page(browser, tools)
    try:
        browser.get(address)
        assert "needs its token" in page.text("h1")
        page.at("#token").send_keys("not this one", Keys.ENTER)
        tools.wait_until(lambda: "not+this" in browser.current_url, "the form is sent")
        assert "needs its token" in page.text("h1")
        page.at("#token").send_keys("a long token & more", Keys.ENTER)
        tools.wait_until(lambda: browser.find_elements(By.ID, "connection"), "the page")
        page.shows("#connection", "live")
        assert browser.current_url == address
        browser.refresh()  # by the cookie
        page.shows("#connection", "live")
        page.button("start").click()
        page.shows("#notice", "Did start")
        assert browser.execute_script("return document.cookie") == ""  # no script reads it
    finally:
        server.stop()
        browser.get("about:blank")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (360, 640), (1366, 768), (1920, 1080)])
def test_nothing_is_cut_off_at_any_size(page: Page, control: Any, tools: Any, width: int, height: int) -> None:
    control.tell(
        state="collecting",
        seen=True,
        looked="kept",
        message="Kept a view: " + "far " * 30,
        archive="/home/robot/.ros/" + "calibrations_of_the_robot/" * 6,
        **{
            **tools.view,
            "next_view": "near (0.31 m), bottom right, tilted 45 degrees about the horizontal, top side near",
        },
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        page.shows("#next", "bottom right")
        measured = page.browser.execute_script(
            "const box = e => e.getBoundingClientRect(); const of = s => box(document.querySelector(s));"
            "return {width: document.documentElement.scrollWidth, next: of('#next').bottom,"
            " font: parseFloat(getComputedStyle(document.querySelector('#next')).fontSize),"
            " preview: of('#frame').width,"
            " buttons: Math.max(...[...document.querySelectorAll('.actions button')].map(b => box(b).right)),"
            " low: Math.min(...[...document.querySelectorAll('.actions button')].map(b => box(b).height))}"
        )
        assert measured["width"] <= width
        assert measured["buttons"] <= width
        assert measured["next"] <= height, "what to do next is seen without scrolling"
        assert measured["font"] >= 25
        assert measured["preview"] >= min(0.4 * width, 900)
        assert measured["low"] >= 44, "a finger hits it"
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
