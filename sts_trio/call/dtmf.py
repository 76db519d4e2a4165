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
        self._told = 0  # how many of them have been returned before the entry was complete

    def __repr__(self) -> str:
        return f"Keypad({len(self._keys)} keys wait)"

    def press(self, digit: str, now: float, *, at_once: bool = False) -> str | None:
        """Take a key; return the entry if it is complete. ``#`` is no part of one, but alone it is the entry.

        `at_once`: return what there is; if more keys come before the pause is over, the whole entry is returned then.
        Only `expire` ends an entry by time: a key that comes late, but before `expire` was called, is still part of it.

        Raises:
            UnusableKeyError: it is none of 0-9, *, #, A-D (or a-d); nothing has changed.
        """
        key = _KEYS.get(digit)
        if key is None:
            raise UnusableKeyError("a key that is none of 0-9, *, #, A-D")
        if key == "#":
            alone = not self._keys
            return self._take() or (key if alone or at_once else None)
        self._keys += key
        self.deadline = now + self._gap
        if len(self._keys) == MOST_KEYS:
            return self._take()
        if at_once:
            self._told = len(self._keys)
        return self._keys if at_once else None

    def expire(self, now: float) -> str | None:
        """Return the entry that the pause has ended; None when it is not over, or no key waits."""
        return self._take() if self._keys and now >= self.deadline else None

    def _take(self) -> str:
        keys = self._keys if len(self._keys) > self._told else ""
        self._keys, self._told, self.deadline = "", 0, inf
        return keys


def describe(digits: str) -> str:
    """Put an entry into words that an agent acts on. Spaces keep it from reading "123" as a hundred and more."""
    return f"(The caller pressed {' '.join(digits)} on the telephone keypad.)"


_KEPT = 4  # entries that the agent has not taken up; the newest


class DtmfEntries:
    """Keys come in, actions go out. `mode` is ``input``, ``context`` or ``off``; `gap` ends an entry, in seconds.

    `interrupt`: a key stops the agent. Not one that it does not answer: the caller would be left in silence.
    """

    def __init__(
        self, mode: str, gap: float, deadlines: Deadlines, counts: CallCounts, *, interrupt: bool = False
    ) -> None:
        self._mode = mode
        self.interrupt = interrupt and mode == "input"
        self._counts = counts
        self._keypad = Keypad(gap)
        self._deadlines = deadlines
        self.keeps_context = False  # what the agent is told it knows from then on; else the next context replaces it
        self.entries: deque[str] = deque(maxlen=_KEPT)  # what the agent has not taken up yet

    def press(self, digit: str, now: float, *, ready: bool, at_once: bool = False) -> Actions:
        """Take a key. `ready`: there is an agent to tell; `at_once`: it is told now, and does not wait for the pause.

        Raises:
            UnusableKeyError: no telephone has such a key.
        """
        if self._mode == "off":
            return ()
        entry = self._keypad.press(digit, now, at_once=at_once)
        self._counts.digits += 1
        return self._take(entry, ready=ready)

    def expire(self, now: float, *, ready: bool) -> Actions:
        """Act on a pause that has ended an entry; harmless when none has."""
        return self._take(self._keypad.expire(now), ready=ready)

    def tell(self) -> Actions:
        """The agent is ready: give it what was keyed before."""
        told = [describe(entry) for entry in self.entries]
        if told and self._mode == "context":
            if self.keeps_context:
                self.entries.clear()
            # Else all in one, and again with the next entry: a later context replaces it (docs/protocols/evi.md 2.2).
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
