"""The file `.env`, read so that it means to this service what it means to Compose.

python-dotenv reads it. Where Compose (measured with 2.26) would read something else, the line is refused, since a
setting that holds in a container and not outside of it costs an evening. What is refused is rare, and has another
spelling that both read alike: single quotes for what has a dollar, double quotes for what has a backslash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import decouple
from dotenv.parser import parse_stream

from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dotenv.parser import Binding

_ASSIGNMENT = re.compile(r"\s*(?:export[^\S\r\n]+)?[^=#\s]+[^\S\r\n]*=(?P<blank>[^\S\r\n]*)(?P<value>.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$[A-Za-z_{$]")
# What python-dotenv makes a character of, and Compose leaves alone.
_OTHER_ESCAPES = re.compile(r"\\\\|\\[abfv']")
_IN_DOUBLE_QUOTES = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_TAB_COMMENT = re.compile(r"\t\s*#")


class DotenvFile(decouple.RepositoryEmpty):  # type: ignore[misc]  # decouple has no types
    """The values of one file, behind decouple's interface. The environment comes first; decouple looks there itself.

    Raises (on making one):
        ConfigError: with a line for each that cannot be read, or that Compose would read differently.
        OSError, UnicodeDecodeError: the file cannot be read at all.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._values: dict[str, str] = {}
        problems: list[str] = []
        with file.open(encoding="utf-8-sig", newline="") as stream:  # some editors begin a file with a mark
            for binding in parse_stream(stream):
                problems += (f"line {binding.original.line} of {file}: {flaw}" for flaw in _flaws(binding))
                if binding.key is not None and binding.value is not None:
                    self._values[binding.key] = binding.value
        if problems:
            raise ConfigError(problems)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> str:
        return self._values[name]


def _flaws(binding: Binding) -> Iterator[str]:
    """Say why this assignment is not read alike everywhere. The value is not repeated: it may be a key."""
    if binding.error:
        yield "it cannot be read; it must be NAME=value, and a value with quotes must end with its closing quote"
        return
    found = _ASSIGNMENT.match(binding.original.string)
    if found is None:
        return
    name, value = binding.key, found["value"]
    if value[:1] != "'" and _REFERENCE.search(binding.value or ""):
        yield f"{name} has a dollar, which Compose takes for another variable; put the value in 'single quotes'"
    if value[:1] == "'":
        if "\\\\" in value:
            yield f"{name} has two backslashes in single quotes, which Compose keeps; use double quotes"
    elif quoted := _IN_DOUBLE_QUOTES.match(value):
        if any(escape[0] != "\\\\" for escape in _OTHER_ESCAPES.finditer(quoted[0])):
            yield f'{name} has an escape that Compose does not know; only \\n, \\r, \\t, \\" and \\\\ are read alike'
    elif value[:1] == "#" and found["blank"]:
        yield f"{name} begins with # after a blank, which is a comment here and not for Compose; use quotes"
    elif value[:1] != '"' and _TAB_COMMENT.search(value):
        yield f"{name} has a # behind a tab, which is a comment here and not for Compose; use a blank, or quotes"
