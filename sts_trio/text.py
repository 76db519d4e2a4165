"""Words of others for one line of a log, an error or a terminal. Pure."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Bring text onto one printable line: line breaks, control characters and runs of blanks become one blank each."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def first_error(error: BaseException) -> BaseException:
    """Return the first exception of a group, however deep it lies; any other exception as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
