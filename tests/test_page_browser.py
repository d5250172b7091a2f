"""The page in a real browser: what is drawn, the keyboard, the console, a daemon that dies."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress

import pytest
from page_daemon import Daemon, Slot, Wide, application, served

from fairlead.platform.page import site

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
CHARTS = f"vendor/{site.VENDOR[0]}" in site._static()

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is missing"),
    pytest.mark.skipif(not CHARTS, reason="charts are missing: make assets"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def live(browser):
    """A page of ten agents with decisions, its daemon and its slot."""
    slot = Slot()
    slot.tick(30)
    daemon = Daemon(slot)
    with served(application(daemon)) as server:
        browser.get(f"{server.url}/")
        until(browser, "return document.querySelector('.pulse.live') !== null")
        yield server, daemon, slot


def until(browser, script, seconds=10.0):
    """What ``script`` returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = browser.execute_script(script)
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"never became true: {script}")


def cell(browser, index):
    return browser.execute_script(f"return document.getElementById('a{index}').className")


def test_every_agent_has_a_cell_of_its_source(browser, live):
    count = until(browser, "return document.querySelectorAll('#grid i[aria-label]').length")
    assert count == 10
    for index in range(10):
        assert "s-policy" in cell(browser, index) or "s-projected" in cell(browser, index)


@pytest.mark.slow
def test_curves_are_drawn(browser, live):
    until(browser, "return document.querySelectorAll('.chart canvas').length === 5")
    lit = """
      const canvas = document.querySelector('#c-sources canvas');
      const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      return data.filter((value, index) => index % 4 === 3 && value > 0).length;
    """
    assert browser.execute_script(lit) > 2000


def test_a_change_reaches_the_page_without_a_reload(browser, live):
    _, _, slot = live
    assert "fallback" not in browser.execute_script("return document.body.innerText")
    slot.state = type(slot.state)(**{**_fields(slot.state), "forced": True})
    slot.tick(12)
    until(browser, "return document.body.innerText.includes('An operator has forced')")
    until(browser, "return document.getElementById('a0').className.includes('s-baseline')")


def _fields(state):
    return {name: getattr(state, name) for name in state.__slots__}


def test_the_keyboard_walks_and_explains(browser, live):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    grid = browser.find_element(By.ID, "grid")
    grid.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    until(browser, "return document.getElementById('detail').innerText.includes('Agent 2')")
    assert browser.current_url.endswith("#agent=2")
    grid.send_keys(Keys.END, Keys.ENTER)
    until(browser, "return document.getElementById('detail').innerText.includes('Agent 9')")
    grid.send_keys(Keys.ESCAPE)
    until(browser, "return document.getElementById('detail').innerText.includes('Choose an agent')")
    assert "#" not in browser.current_url


@pytest.mark.slow
def test_a_link_to_an_agent_opens_it(browser, live):
    server, _, _ = live
    browser.get("about:blank")
    browser.get(f"{server.url}/#agent=4")
    until(browser, "return document.getElementById('detail').innerText.includes('Agent 4')")


@pytest.mark.slow
def test_the_audit_check_answers_in_place(browser, live):
    until(browser, "return document.querySelector('.act') !== null")
    # The table is renewed every second; a click on a row that is just replaced goes nowhere.
    for _ in range(5):
        browser.execute_script("document.querySelector('.act').click()")
        with suppress(AssertionError):
            until(
                browser,
                "return document.getElementById('audit').innerText.includes('identical')",
                2.0,
            )
            return
    raise AssertionError("no answer to the audit check")


def test_the_console_is_clean_and_nothing_comes_from_elsewhere(browser, live):
    import json

    server, _, _ = live
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(f"{server.url}/")
    until(browser, "return document.querySelectorAll('.chart canvas').length === 5")
    browser.execute_script("document.getElementById('a1').click()")
    until(browser, "return document.getElementById('detail').innerText.includes('Agent 1')")
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    requested = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requested.append(message["params"]["request"]["url"])
    assert requested and all(url.startswith(server.url) for url in requested)


@pytest.mark.slow
def test_a_dead_daemon_is_noticed_within_three_seconds_and_a_new_one_too(browser, live):
    server, daemon, _ = live
    server.stop()
    begin = time.monotonic()
    until(browser, "return !document.getElementById('lost').hidden")
    assert time.monotonic() - begin < 3.0
    assert "Connection lost" in browser.execute_script("return document.body.innerText")
    with served(application(daemon), server.port):
        until(browser, "return document.getElementById('lost').hidden")
        until(browser, "return document.querySelector('.pulse.live') !== null")


@pytest.mark.slow
def test_a_daemon_that_hangs_is_noticed_too(browser, live):
    _, _, slot = live
    hang = threading.Event()
    history = slot.history
    slot.history = lambda count=100: (hang.wait(6.0), history(count))[1]
    begin = time.monotonic()
    try:
        until(browser, "return !document.getElementById('lost').hidden")
        assert time.monotonic() - begin < 3.0
    finally:
        slot.history = history
        hang.set()


@pytest.mark.slow
def test_a_thousand_agents_are_updated_in_less_than_a_tenth_of_a_second(browser):
    slot = Slot()
    slot.tick(12)
    with served(application(Daemon(Wide(slot, 100)))) as server:
        browser.get(f"{server.url}/")
        until(browser, "return document.querySelectorAll('#grid i[aria-label]').length === 1000")
        taken = []
        for forced in (True, False, True, False):
            slot.state = type(slot.state)(**{**_fields(slot.state), "forced": forced})
            slot.tick(12)
            browser.execute_script("delete document.body.dataset.update")
            taken.append(float(until(browser, "return document.body.dataset.update")))
        # The machine is shared; the least of four changes of every cell is the page's own time.
        assert min(taken) < 100.0, taken


@pytest.mark.slow
def test_light_and_dark_differ_and_can_be_chosen(browser, live):
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    seen = set()
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        seen.add(browser.execute_script(ground))
    assert len(seen) == 2
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "light"
    assert browser.execute_script(ground) == "rgb(244, 245, 247)"
    browser.execute_script("localStorage.clear()")


@pytest.mark.slow
def test_the_dashboards_open_without_a_prometheus(browser, live):
    server, _, _ = live
    browser.get(f"{server.url}/dashboards")
    assert browser.current_url.endswith("/dashboards/fairlead-fleet")
    assert "No Prometheus is named" in browser.execute_script("return document.body.innerText")
