"""Words of others, for one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.text import first_error, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("as it is", "as it is"),
        ("  two\r\nlines\t and\x00more  ", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("grüße \u2028 ümläut", "grüße ümläut"),
    ],
)
def test_text_comes_onto_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert one_line(line) == line


def test_the_first_of_a_group_is_found_however_deep_it_lies() -> None:
    first = OSError("first")
    assert first_error(first) is first
    assert first_error(ExceptionGroup("a", [ExceptionGroup("b", [first]), ValueError("second")])) is first
