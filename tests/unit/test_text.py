"""Words of others, for one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.text import Stars, first_error, one_line
from tests.unit.spellings import ODD_KEY, SPELLINGS


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("as it is", "as it is"),
        ("  two\r\nlines\t and\x00more  ", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;https://x.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("half an escape\x1b", "half an escape"),
        ("\x1bPhidden\x1b\\seen", "seen"),
        ("a\u202edrow\u2066 s\u2069", "a drow s"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("half \ud83d a pair", "half a pair"),
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


def test_text_is_cut_without_being_read_to_its_end() -> None:
    assert one_line("x" * 50_000_000, 20) == "x" * 20
    assert one_line(" \x1b[0m" * 10 + "seen", 20) == "seen"
    assert one_line("ab cd", 3) == "ab"


@given(st.text(), st.integers(1, 30))
def test_no_more_is_shown_than_is_asked_for(text: str, most: int) -> None:
    assert len(one_line(text, most)) <= most


def test_the_first_of_a_group_is_found_however_deep_it_lies() -> None:
    first = OSError("first")
    assert first_error(first) is first
    assert first_error(ExceptionGroup("a", [ExceptionGroup("b", [first]), ValueError("second")])) is first


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("key", [ODD_KEY, "key-that-nobody-may-see", "schlüssel\n„\u202e“"])
def test_a_secret_is_starred_however_it_is_spelled(name: str, key: str) -> None:
    hidden = Stars(["another secret", key])(f"a {SPELLINGS[name](key)} b")
    assert "***" in hidden
    assert len(hidden) <= len("a *** b") + 12, hidden  # base64 shares some with what stands beside


def test_without_secrets_nothing_is_starred() -> None:
    assert Stars([])("\\u0041 %41 a") == "\\u0041 %41 a"
