"""A text that nobody may see by accident, and a wrong value that may hold one. Pure."""

from __future__ import annotations

import hmac


class HiddenValueError(ValueError):
    """A value is wrong, and it may hold a secret: it must not be shown."""


class Secret:
    """A text that shows as stars in whatever way it is shown; `reveal` gives the text itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the secret."""
        return self._text
