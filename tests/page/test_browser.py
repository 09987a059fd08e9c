# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages in a real browser: no error, no request, accessible, light and dark, on a phone and on paper."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import index, page
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.report.made import report, stopped

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make page installs it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed; make page installs it")
PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here; make page installs Debian's")

SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1100, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1100, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}
PAGES = {
    "well": lambda: page.html(report()),
    "stopped": lambda: page.html(stopped()),
    "refused": lambda: page.html(stopped(outcome="refused", members={}, batches=[], events=[], told={}, series=None)),
    "many": lambda: page.html(report(64, 8, 300)),
    "index": lambda: index.html(
        index.entry(report(rollout_id=f"2026112{day}T120000Z-abcdef", outcome=outcome, duration_seconds=20.0 + day))
        for day, outcome in enumerate(["succeeded", "rolled_back", "failed", "refused"])
    ),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


class Shown:
    """A page in a tab, and what the browser complained of."""

    def __init__(self, browser: Any, path: Path, screen: str) -> None:
        self.context = browser.new_context(**SCREENS[screen])
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self._asked(request.url))
        began = time.monotonic()
        self.tab.goto(path.as_uri(), wait_until="load")
        self.seconds = time.monotonic() - began

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.complaints.append(f"asked for {url}")


@pytest.mark.parametrize(
    ("name", "screen"),
    [
        *(("well", screen) for screen in SCREENS),
        *(("stopped", screen) for screen in ("dark", "phone")),
        *((name, "light") for name in ("refused", "many", "index")),
        ("index", "phone"),
    ],
)
def test_it_is_shown_without_complaint_and_accessible(browser: Any, tmp_path: Path, name: str, screen: str) -> None:
    path = tmp_path / f"{name}.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    shown = Shown(browser, path, screen)
    try:
        # On a phone everything but wide tables, which scroll by themselves, fits the width.
        width = shown.tab.evaluate("document.documentElement.scrollWidth")
        assert width <= SCREENS[screen]["viewport"]["width"]
        shown.tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert shown.complaints == []
        # Axe is put into the page, which its own policy would forbid.
        found = axe.Axe().run(shown.tab)
        assert found.violations_count == 0, found.generate_report()
        shown.tab.screenshot(path=tmp_path / f"{name}-{screen}.png", full_page=True)
    finally:
        shown.context.close()


def test_colours_follow_the_reader(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGES["well"](), encoding="utf-8")
    grounds = set()
    for screen in ("light", "dark"):
        shown = Shown(browser, path, screen)
        grounds.add(shown.tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        shown.context.close()
    assert len(grounds) == 2


def test_it_prints_on_paper(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGES["well"](), encoding="utf-8")
    shown = Shown(browser, path, "dark")
    shown.tab.emulate_media(media="print")
    assert shown.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper = shown.tab.pdf(format="A4")
    shown.context.close()
    assert 1 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 8


def test_a_thousand_members_and_an_hour_open_at_once(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.html"
    path.write_text(page.html(report(1000, 10, 3600, "web{:04}.dc1.example.com")), encoding="utf-8")
    assert path.stat().st_size <= 3_000_000
    shown = Shown(browser, path, "light")
    shown.context.close()
    assert shown.seconds < 10  # 0.2 s on an idle machine
