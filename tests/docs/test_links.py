"""No link is dead: every relative link and every anchor of every page that people read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from docs.pages import TREE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
    if "_build" not in path.parts
)
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors that a forge, and Sphinx like it, give the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def dead(path: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for target in _LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / unquote(name)).resolve() if name else path
        if not file.exists() or not file.is_relative_to(ROOT):
            yield f"{target}: there is no such file"
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(path: Path) -> None:
    assert list(dead(path, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "[a](nobody.md)",
        "[a](README.md#nothing-of-the-kind)",
        "[a](#nothing-of-the-kind)",
        "[![a](docs/nobody.svg)](README.md)",
        "![a](nobody.svg)",
        "[a](../outside.md)",
    ],
)
def test_a_dead_link_is_found(text: str) -> None:
    assert len(list(dead(ROOT / "README.md", text))) == 1


def test_every_page_is_on_the_site_and_all_but_those_for_the_curious_are_reached_from_the_first() -> None:
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs).with_suffix("")) for path in PAGES if docs in path.parents} - {"index"}
    assert {page for part in TREE.values() for page in part} == pages
    first = _LINK.findall((docs / "index.md").read_text(encoding="utf-8"))
    assert {page for part in list(TREE)[:-1] for page in TREE[part]} <= {link.removesuffix(".md") for link in first}


@pytest.mark.parametrize(
    "name", [page for part in TREE.values() for page in part if not page.startswith(("internals/", "protocols/"))]
)
def test_a_page_says_first_for_whom_it_is(name: str) -> None:
    title, _, first = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").partition("\n\n")
    assert title.startswith("# ")
    assert first.startswith("For whoever ")
