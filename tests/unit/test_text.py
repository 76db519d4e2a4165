"""Words of others, for one line."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.text import Stars, first_error, one_line

if TYPE_CHECKING:
    from collections.abc import Callable


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


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda key: "".join(f"\\u{ord(each):04x}" for each in key),
    "in JSON, large": lambda key: "".join(f"\\u{ord(each):04X}" for each in key),
    "in JSON in JSON": lambda key: "".join(f"\\\\u{ord(each):04x}" for each in key),
    "partly in JSON": lambda key: key[:5] + f"\\u{ord(key[5]):04x}" + key[6:],
    "a slash in JSON": lambda key: key.replace("/", "\\/"),
    "in a URL": lambda key: quote(key, safe=""),
    "all of it in a URL": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "twice in a URL": lambda key: quote(quote(key, safe=""), safe=""),
    "in XML": lambda key: "".join(f"&#{ord(each)};" for each in key),
    "in XML, hexadecimal": lambda key: "".join(f"&#x{ord(each):X};" for each in key),
    "in base64": lambda key: b64encode(key.encode()).decode(),
    "in base64 with a user": lambda key: b64encode(f"user:{key}".encode()).decode(),
    "in base64 between others": lambda key: b64encode(f"k={key}&more".encode()).decode(),
    "in base64 for a URL": lambda key: quote(b64encode(f"aa{key}".encode(), altchars=b"-_").decode()),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in hexadecimal, large": lambda key: key.encode().hex().upper(),
}
ODD_KEY = "sk-Ab/+\"9'?>~~~z"


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("key", [ODD_KEY, "key-that-nobody-may-see", "schlüssel\n„\u202e“"])
def test_a_secret_is_starred_however_it_is_spelled(name: str, key: str) -> None:
    hidden = Stars(["another secret", key])(f"a {SPELLINGS[name](key)} b")
    assert "***" in hidden
    assert len(hidden) <= len("a *** b") + 12, hidden  # base64 shares some with what stands beside


def test_without_secrets_nothing_is_starred() -> None:
    assert Stars([])("\\u0041 %41 a") == "\\u0041 %41 a"
