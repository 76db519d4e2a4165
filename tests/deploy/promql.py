"""Prometheus' queries, read as far as it takes to compare them with what is exported; and promtool, where it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SELECTOR = re.compile(r"\b((?:sts|process|python)_\w+|up\b)(?:\s*\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!=|!~|=)\s*\"([^\"]*)\"")
_GROUPING = re.compile(r"\bby\s*\(([^)]*)\)\s*\(")


@dataclass(frozen=True, slots=True)
class Selector:
    """A series in a query, and what it asks of its labels: every value that is named, by label."""

    name: str
    asked: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """`by (LABELS) (…)`: the labels that are kept of the series inside."""

    labels: tuple[str, ...]
    names: tuple[str, ...]


def selectors(query: str) -> Iterator[Selector]:
    """Every series that the query names."""
    for name, inner in _SELECTOR.findall(_GROUPING.sub("(", query)):
        asked = [
            (label, tuple(value.split("|")) if "~" in how else (value,))
            for label, how, value in _MATCHER.findall(inner)
        ]
        yield Selector(name, tuple(asked))


def groupings(query: str) -> Iterator[Grouping]:
    """Every aggregation with labels, and the series inside its parentheses."""
    for found in _GROUPING.finditer(query):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(query[end], 0)
            end += 1
        inside = tuple(selector.name for selector in selectors(query[found.end() : end - 1]))
        yield Grouping(tuple(label.strip() for label in found[1].split(",")), inside)


def promtool(*arguments: str, cwd: Path) -> str:
    """Run promtool and return what it prints; the test is skipped where there is none.

    Raises:
        AssertionError: it has found something.
    """
    if (tool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not here (Debian has it in the package prometheus)")
    done = subprocess.run([tool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
