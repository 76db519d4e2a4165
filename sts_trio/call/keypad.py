"""The caller's telephone keypad: single keys in, whole entries out. Pure.

Keys come one at a time (docs/protocols/core.md 2.1). An entry ends with ``#``, with a pause, or when it is full.
An entry may be a PIN or the number of a card: nothing here shows one.
"""

from __future__ import annotations

from math import inf

MOST_KEYS = 32  # longer than any card, account or telephone number; a stuck key must not grow without a bound

_KEYS = {key: key for key in "0123456789*#ABCD"} | {key.lower(): key for key in "ABCD"}


class UnusableKeyError(ValueError):
    """Core sent a key that no telephone has. The message does not repeat it."""


class Keypad:
    """Gathers one caller's keys. `gap` is the pause that ends an entry, in seconds.

    `deadline` says when `expire` wants to be called; it is infinite while no key waits.
    """

    def __init__(self, gap: float) -> None:
        self.deadline = inf
        self._gap = gap
        self._keys = ""

    def __repr__(self) -> str:
        return f"Keypad({len(self._keys)} keys wait)"

    def press(self, digit: str, now: float) -> str | None:
        """Take a key; return the entry if it is complete. ``#`` is no part of one, but alone it is the entry.

        Only `expire` ends an entry by time: a key that comes late, but before `expire` was called, is still part of it.

        Raises:
            UnusableKeyError: it is none of 0-9, *, #, A-D (or a-d); nothing has changed.
        """
        key = _KEYS.get(digit)
        if key is None:
            raise UnusableKeyError("a key that is none of 0-9, *, #, A-D")
        if key == "#":
            return self._take() or key
        self._keys += key
        self.deadline = now + self._gap
        return self._take() if len(self._keys) == MOST_KEYS else None

    def expire(self, now: float) -> str | None:
        """Return the entry that the pause has ended; None when it is not over, or no key waits."""
        return self._take() if self._keys and now >= self.deadline else None

    def _take(self) -> str:
        keys, self._keys = self._keys, ""
        self.deadline = inf
        return keys


def describe(digits: str) -> str:
    """Put an entry into words that an agent acts on. Spaces keep it from reading "123" as a hundred and more."""
    return f"(The caller pressed {' '.join(digits)} on the telephone keypad.)"
