"""Words of others, made fit for one line of a log, an error or a terminal. Pure.

Whatever a peer chooses (an id, a code, a name, the reason of a close) passes `one_line` before it is logged or told.
"""

from __future__ import annotations

import re

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
