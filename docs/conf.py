"""How Sphinx builds these pages: `sphinx-build -W -b html docs docs/_build`. Plain Markdown, for forges too."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from pages import tables_of_contents

_LINK = re.compile(r"\]\((\.\./[^)#]+)(#[^)]*)?\)")

project = "sts_trio"
author = "sts_trio contributors"
_source = (DOCS.parent / "sts_trio/__init__.py").read_text(encoding="utf-8")
[version] = re.findall(r'\n__version__ = "(.+)"', _source)
release = version
copyright = f"2026 {author}, MIT"  # noqa: A001  (Sphinx calls it so)

extensions = ["myst_parser"]
lexers["haproxy"] = TextLexer()  # Pygments knows none
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3  # the anchors of a forge
myst_links_external_new_tab = False

html_theme = "furo"
html_title = f"sts_trio {version}"
html_show_sphinx = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]


def for_the_site(app: Sphinx, docname: str, source: list[str]) -> None:
    """Change what is only for forges: a link to a file beside these pages becomes one to a copy of it."""

    def changed(link: re.Match[str]) -> str:
        inside = (app.srcdir / docname).parent.joinpath(link[1]).resolve().is_relative_to(DOCS)
        return link[0] if inside else f"](path:{link[1]})"

    source[0] = _LINK.sub(changed, source[0])
    if docname == "index":
        source[0] += tables_of_contents()


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", for_the_site)
