"""The site: Sphinx builds it without a warning; it can be read and searched, on a phone and on a desk."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs.pages import TREE
from tests.fakes.browser import open_browser

ROOT = Path(__file__).parents[2]
TOOLS = ("sphinx", "furo", "myst_parser")
PAGES = ["index", *(page for part in TREE.values() for page in part)]
BROKEN = "[...document.images].filter((image) => image.complete && !image.naturalWidth).map((image) => image.src)"

pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the site has been built."""
    if not all(map(find_spec, TOOLS)):
        pytest.skip("the site's tools are not installed: .venv/bin/pip install -e '.[docs]'")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return built


def test_the_site_is_whole(site: Path) -> None:
    assert all((site / f"{page}.html").is_file() for page in PAGES)
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(word in index for word in ("provider_fail", "openai_voic", "sts_calls_act"))
    beside = {path.name for path in (site / "_downloads").rglob("*") if path.is_file()}
    assert {"CHANGELOG.md", "open_ticket.py"} <= beside


@pytest.mark.parametrize("width", [360, 1400])
async def test_no_page_is_wider_than_its_window_and_words_are_found(site: Path, width: int, tmp_path: Path) -> None:
    async with open_browser(tmp_path) as browser:
        for page in PAGES:
            await browser.open(site / f"{page}.html", width, "light")
            wide = await browser.ask("document.documentElement.scrollWidth")
            assert wide <= width, f"{page} is {wide} pixels wide in a window of {width}"
            assert await browser.ask(BROKEN) == [], page
        await browser.open(site / "search.html", width, "light")
        await browser.ask("void (location.search = '?q=SILENCE_SECONDS')")
        await browser.until("[...document.querySelectorAll('#search-results a')].some((a) => a.text === 'Settings')")
