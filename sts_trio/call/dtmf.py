"""What the caller keys, on its way to the agent: typed in at once, or known to it when it next speaks. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.call.actions import AddContext, SendUserText
from sts_trio.call.keypad import Keypad, describe

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.outcome import CallCounts

_KEPT = 4  # entries that the agent has not taken up; the newest


class DtmfEntries:
    """Keys come in, actions go out. `mode` is ``input``, ``context`` or ``off``; `gap` ends an entry, in seconds."""

    def __init__(self, mode: str, gap: float, counts: CallCounts) -> None:
        self._mode = mode
        self._counts = counts
        self._keypad = Keypad(gap)
        self._entries: deque[str] = deque(maxlen=_KEPT)  # what the agent has not taken up yet
        self._reply_due = False  # the caller has spoken, and the agent has not since

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return self._keypad.deadline

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
        told = [describe(entry) for entry in self._entries]
        if told and self._mode == "context":
            # All in one, and again with the next entry: a later context replaces it (docs/protocols/evi.md 2.2).
            return (AddContext(" ".join(told)),)
        self._entries.clear()
        return tuple(SendUserText(text) for text in told)

    def caller_spoke(self) -> None:
        """What the agent says next answers the caller."""
        self._reply_due = True

    def agent_spoke(self) -> None:
        """If it answers the caller, it has taken up the context that there was."""
        if self._reply_due:
            self._reply_due = False
            self._entries.clear()

    def _take(self, entry: str | None, *, ready: bool) -> Actions:
        if not entry:
            return ()
        self._entries.append(entry)
        return self.tell() if ready else ()
