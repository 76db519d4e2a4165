"""The pages in a real browser, on a phone and on a desk, in light and dark, by mouse and by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sts_trio.lab.page.call_page import call_page
from sts_trio.lab.page.load_page import load_page
from tests.fakes.browser import open_browser
from tests.lab.page.examples import NOON, curves, report, results

if TYPE_CHECKING:
    from pathlib import Path

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
# Letters that people are to read, against what lies behind them: the contrast of WCAG 2.2 (1.4.3), the least of all.
CONTRAST = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const line = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * line(r) + 0.7152 * line(g) + 0.0722 * line(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("main *, footer *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (element.closest("button:disabled, svg, .unseen")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.className + " " + element.textContent.slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
})()"""


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1400, "dark")])
async def test_the_pages_in_a_browser(width: int, scheme: str, tmp_path: Path) -> None:
    call, load = tmp_path / "call.html", tmp_path / "load.html"
    call.write_bytes(call_page(report(), address="ws://connector:6039/", provider="openai", made=NOON))
    load.write_bytes(load_page([(results(), curves())] * 2, "openai", ("latency up",), made=NOON))
    async with open_browser(tmp_path) as browser:
        for page in (load, call):
            await browser.open(page, width, scheme)
            assert await browser.ask("innerWidth") == width
            assert await browser.ask(FITS), page
            least, where = await browser.ask(CONTRAST)
            assert least >= 4.5, where

        # The recording is there, and as long as the call.
        await browser.until("document.querySelector('audio').duration > 0")
        assert await browser.ask("document.querySelector('audio').duration") == pytest.approx(6.0, abs=0.1)
        now = "document.querySelector('audio').currentTime"

        # By keyboard: the time line is reached, moves, and says where it is.
        await browser.ask("document.querySelector('[role=slider]').focus()")
        for _ in range(2):
            await browser.press("ArrowRight", 39)
        assert await browser.ask(now) == pytest.approx(2.0)
        assert await browser.ask("document.activeElement.ariaValueText") == "2.0 of 6.0 seconds"
        await browser.press("End", 35)
        assert await browser.ask(now) == pytest.approx(6.0, abs=0.1)

        # By mouse: an event of the list is played from its time on; the mark of the last one heard is set.
        await browser.ask("document.querySelector('#e5 a').click()")
        assert await browser.ask(now) == pytest.approx(4.0, abs=0.5)
        assert await browser.ask("document.querySelector('[aria-current]').id") == "e5"

        # Zoom: the time line grows inside of its frame, and the page does not.
        wide = "document.querySelector('.timeline').clientWidth"
        before = await browser.ask(wide)
        await browser.ask("document.querySelector('[data-zoom=in]').click()")
        assert await browser.ask(wide) == pytest.approx(2 * before, abs=2)
        assert await browser.ask(FITS)

        assert browser.said == []
        assert [url for url in browser.asked if not url.startswith(("data:", "file:"))] == []
