"""Words of others, made fit for one line of a log, an error or a terminal. Pure.

Whatever a peer chooses (an id, a code, a name, the reason of a close) passes `one_line` before it is logged or told,
and `Stars` where it may repeat a secret of ours.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a terminal takes for a command (ECMA-48, 5): a control sequence, a string, or an escape and one character. The
# lone escape goes the way of other control characters.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
_MARGIN = 4  # characters looked at for each one that is kept: what is cut out may stand at the beginning


def one_line(text: str, most: int | None = None) -> str:
    """Bring text onto one printable line of at most `most` characters.

    A terminal's escape sequences are cut out. Line breaks, control characters, marks of direction, halves of characters
    and runs of blanks become one blank each.
    """
    if most is not None:
        text = text[: _MARGIN * most]
    text = _ESCAPES.sub("", text)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if most is None else line[:most].rstrip()


def first_error(error: BaseException) -> BaseException:
    """Return the first exception of a group, however deep it lies; any other exception as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# What a character may hide behind; what JSON writes of quotes and line breaks is none of that.
_ESCAPED = re.compile(r"\\[ux]|\\[^ux\"\\nrt]|%[0-9a-fA-F]{2}|&#")


class Stars:
    """Puts ``***`` into a text in place of `secrets`, of which none is empty.

    Also where they are spelled otherwise: escaped as in JSON, XML or a URL (twice, perhaps), in base64 as part of
    something, in hexadecimal, in the `repr` of an exception's text. A text with escapes costs up to 1 µs a character,
    any other a tenth of that; but to make one takes 5 to 40 ms.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain: set[str] = set()
        spelled, hexadecimal = [], []
        for secret in secrets:
            coded = _encoded(secret)
            plain |= {*_escaped(secret), *coded}
            spelled += [_spelled(secret), *(_spelled(form, letters=False) for form in dict.fromkeys(coded))]
            hexadecimal.append(_bytes(secret).hex())
        words = "|".join(map(re.escape, sorted(plain, key=len, reverse=True)))
        self._plain = re.compile(f"{words}|(?i:{'|'.join(hexadecimal)})") if words else None
        self._spelled = re.compile("|".join(spelled))

    def __call__(self, text: str) -> str:
        """Return `text` without the secrets."""
        if self._plain is None:
            return text
        text = self._plain.sub("***", text)
        return self._spelled.sub("***", text) if _ESCAPED.search(text) else text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as the environment's variables are read


def _escaped(text: str) -> set[str]:
    """How a text may stand in a line: as it is, or in the `repr` of an exception's text; and either of them in JSON."""
    plain = {text, repr(text)[1:-1]}
    return plain | {json.dumps(form, ensure_ascii=False)[1:-1] for form in plain}


def _encoded(text: str) -> list[str]:
    """The base64, of either alphabet, that stands for a text alone, whatever comes before and behind it."""
    forms = [_base64_within(_bytes(text), before) for before in range(3)]
    return forms + [form.replace("+", "-").replace("/", "_") for form in forms]


def _base64_within(raw: bytes, before: int) -> str:
    """The characters that stand for `raw` alone in the base64 of something with `before` bytes (of three) before it."""
    first, bits = -(-before * 8 // 6), (before + len(raw)) * 8
    return base64.b64encode(bytes(before) + raw).decode()[first : bits // 6]


def _spelled(text: str, *, letters: bool = True) -> str:
    """A pattern of a text whose every character may be escaped; of base64 without its `letters`, as people escape it.

    Repeats are bounded: a peer writes what it is for.
    """
    spellings = []
    for each in text:
        if not letters and each.isalnum():
            spellings.append(each)
            continue
        code, in_url = ord(each), "".join(rf"%(?:25){{0,3}}{byte:02x}" for byte in _bytes(each))
        escaped = rf"\\{{1,4}}[ux](?:00)?{code:02x}|{in_url}|&#0{{0,4}}{code};|&#x0{{0,4}}{code:x};"
        spellings.append(rf"(?:\\{{0,4}}{re.escape(each)}|(?i:{escaped}))")
    return "".join(spellings)
