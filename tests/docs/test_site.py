"""The site: Sphinx builds it from the pages without a warning, and what people look for is found in it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sphinx", "furo", "myst_parser")


@pytest.mark.skipif(
    not all(map(find_spec, TOOLS)), reason="the site's tools are not installed: .venv/bin/pip install -e '.[docs]'"
)
def test_the_site_is_built_without_a_warning_and_can_be_searched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs")]
    built = subprocess.run([*command, str(tmp_path / "site")], capture_output=True, text=True, check=False, timeout=50)
    assert built.returncode == 0, built.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        if "_build" not in page.parts:
            assert (tmp_path / "site" / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    index = (tmp_path / "site/searchindex.js").read_text(encoding="utf-8")
    assert all(word in index for word in ("provider_fail", "openai_voic", "sts_calls_act"))
    outside = {path.name for path in (tmp_path / "site/_downloads").rglob("*") if path.is_file()}
    assert {"CHANGELOG.md", "open_ticket.py"} <= outside
