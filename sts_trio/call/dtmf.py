"""Keys of the telephone keypad: single keys in, whole entries out, given to the agent. Pure."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import AddContext, Deadline, SendUserText

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions, Deadlines
    from sts_trio.call.meter import CallCounts


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


_KEPT = 4  # entries that the agent has not taken up; the newest


class DtmfEntries:
    """Keys come in, actions go out. `mode` is ``input``, ``context`` or ``off``; `gap` ends an entry, in seconds."""

    def __init__(self, mode: str, gap: float, deadlines: Deadlines, counts: CallCounts) -> None:
        self._mode = mode
        self._counts = counts
        self._keypad = Keypad(gap)
        self._deadlines = deadlines
        self.entries: deque[str] = deque(maxlen=_KEPT)  # what the agent has not taken up yet

    def press(self, digit: str, now: float, *, ready: bool) -> Actions:
        """Take a key. `ready`: there is an agent to tell.

        Raises:
            UnusableKeyError: no telephone has such a key.
        """
        if self._mode == "off":
            return ()
        entry = self._keypad.press(digit, now)
        self._counts.digits += 1
        return self._take(entry, ready=ready)

    def expire(self, now: float, *, ready: bool) -> Actions:
        """Act on a pause that has ended an entry; harmless when none has."""
        return self._take(self._keypad.expire(now), ready=ready)

    def tell(self) -> Actions:
        """The agent is ready: give it what was keyed before."""
        told = [describe(entry) for entry in self.entries]
        if told and self._mode == "context":
            # All in one, and again with the next entry: a later context replaces it (docs/protocols/evi.md 2.2).
            return (AddContext(" ".join(told)),)
        self.entries.clear()
        return tuple(SendUserText(text) for text in told)

    def taken_up(self) -> None:
        """The agent answers the caller, and so has taken up the context that there was."""
        self.entries.clear()

    def _take(self, entry: str | None, *, ready: bool) -> Actions:
        self._deadlines[Deadline.KEYS] = self._keypad.deadline
        if not entry:
            return ()
        self.entries.append(entry)
        return self.tell() if ready else ()
