"""How the text of a variable becomes a text, a number, a word: one parser for each kind. Pure.

A parser raises `ValueError` with what the value must be, such as "a whole number from 1 to 9". It raises
`HiddenValueError` when the wrong text may hold a secret, so that nobody repeats it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import decouple

from sts_trio.settings.secret import HiddenValueError, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_NAMES = 32
LONGEST_NAME = 64
SHORTEST_TOKEN = 16


def text(value: str) -> str:
    """Take any text that can be sent on; bytes that were no UTF-8 arrive as lone surrogates, and cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text in UTF-8") from None
    return value


def secret(value: str) -> Secret:
    """Take a key that fits into an HTTP header."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise HiddenValueError("a key of printable ASCII characters without spaces")
    return Secret(value)


def access_token(value: str) -> Secret:
    """Take a secret that fits into a Bearer header (RFC 6750, 2.1), and is long enough not to be guessed."""
    if not re.fullmatch(rf"[A-Za-z0-9._~+/-]{{{SHORTEST_TOKEN},}}=*", value):
        raise HiddenValueError(
            f"at least {SHORTEST_TOKEN} letters, digits or -._~+/, such as openssl rand -hex 24 gives"
        )
    return Secret(value)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers, bounds included."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdecimal()) or len(value) > len(str(high)) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of times in seconds, bounds included."""
    return _number("a number of seconds", low, high)


def fraction(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of numbers, bounds included."""
    return _number("a number", low, high)


def _number(what: str, low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"{what} from {low:g} to {high:g}")
        return number

    return parse


def tokens(high: int) -> Callable[[str], int | str]:
    """Make a parser of a number of tokens, or ``inf``."""
    number = whole(1, high)

    def parse(value: str) -> int | str:
        try:
            return "inf" if value.lower() == "inf" else number(value)
        except ValueError:
            raise ValueError(f"a whole number from 1 to {high}, or inf") from None

    return parse


def language(value: str) -> str | None:
    """Take a language tag (BCP 47); ``auto`` means none."""
    if value.lower() == "auto":
        return None
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}", value):
        raise ValueError("a language such as en or pt-BR, or auto")
    return value


def switch(value: str) -> bool:
    """Take true or false, in the usual spellings."""
    try:
        return bool(decouple.strtobool(value))
    except ValueError:
        raise ValueError("true or false") from None


def one_of(*words: str) -> Callable[[str], str]:
    """Make a parser that takes these words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return value.lower()

    return parse


def names(value: str) -> tuple[str, ...]:
    """Take names with commas between them; spaces around a name are dropped, a repeated name counts once."""
    found = tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))
    if len(found) > MOST_NAMES or any(len(name) > LONGEST_NAME or not name.isprintable() for name in found):
        raise ValueError(f"at most {MOST_NAMES} names of at most {LONGEST_NAME} characters, with commas between them")
    return found
