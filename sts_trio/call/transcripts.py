"""Transcripts of both sides, in the order of the conversation. Pure.

A turn of the agent is told once the caller has heard it, and what they say meanwhile after it. Words that another model
writes down keep the place of their turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sts_trio.core.wire import Transcript

if TYPE_CHECKING:
    from sts_trio.call.playout import Playout

# Turns said but not yet heard. The playout holds ten minutes, a handful of turns; beyond, the oldest is told at once.
_MOST_UNHEARD = 64
_TOLERANCE_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Said:
    """A turn whose text is complete; `begins` and `ends` are positions in the playout's audio, in seconds.

    `whole`: there was room for all of it.
    """

    text: str
    begins: float
    ends: float
    whole: bool = True

    def told(self, heard: float) -> Transcript:
        """Return what Core is told when the caller has heard so much, and no more will follow."""
        missed = not self.whole or self.ends - heard > _TOLERANCE_SECONDS
        heard_ms = round(max(min(heard, self.ends) - self.begins, 0) * 1000) if missed else None
        return Transcript("agent", self.text, heard_ms=heard_ms)


# Words of the caller that another model writes down come late: for so long what follows them waits.
_WORDS_SECONDS = 3.0
_MOST_MISSED = 2  # places in a row that no words came for; then none are waited for until some come
_REPEAT_SECONDS = 1.0  # nobody says the same twice within; a provider that tells it again does


@dataclass(slots=True)
class _Place:
    """A turn of the caller whose words are still to come; `until` then they are waited for."""

    until: float
    turn: str = ""


class Transcripts:
    """What both sides said, told in the order of the conversation.

    A turn of the agent is told when it has been heard, and what the caller said meanwhile behind it.
    """

    def __init__(self, playout: Playout) -> None:
        self._playout = playout
        self._order: deque[Said | Transcript | _Place] = deque()
        self._behind: deque[Transcript | _Place] = deque()  # of the caller, while the agent's turn goes on
        self._last = ("", -inf)  # the caller's last words, and when
        self._missed = 0

    @property
    def interjected(self) -> bool:
        """Whether the caller has said something since the agent's turn began."""
        return bool(self._behind)

    def agent(self, said: Said | None) -> None:
        """A turn of the agent is complete; None for one without words."""
        if said is not None:
            self._order.append(said)
            self._last = ("", -inf)
        self._order += self._behind
        self._behind.clear()

    def caller_turn(self, now: float, turn: str, *, during: bool) -> None:
        """A turn of the caller is over, whose words may follow. `during`: in the middle of a turn of the agent."""
        wait = _WORDS_SECONDS if self._missed < _MOST_MISSED else 0.0
        self._caller(_Place(now + wait, turn), during=during)

    def caller(self, said: Transcript, now: float, *, during: bool) -> None:
        """A turn of the caller is over, with its words."""
        if not self._is_repeat(said.text, now):
            self._caller(said, during=during)

    def caller_words(self, said: Transcript, now: float, turn: str, *, during: bool) -> None:
        """The words of a turn have come: of the oldest that has none, if they do not say which."""
        if not turn and self._is_repeat(said.text, now):
            return
        places = [
            (entries, at, entry.turn)
            for entries in (self._order, self._behind)
            for at, entry in enumerate(entries)
            if isinstance(entry, _Place) and (not turn or entry.turn in ("", turn))
        ]
        if not places:
            self._caller(said, during=during)
            return
        entries, at, _ = min(places, key=lambda place: place[2] != turn)
        entries[at] = said
        self._missed = 0

    def no_words(self, turn: str) -> None:
        """None will come of this turn."""
        for entries in (self._order, self._behind):
            for entry in entries:
                if isinstance(entry, _Place) and entry.turn == turn:
                    entry.until = -inf

    def _is_repeat(self, text: str, now: float) -> bool:
        before, at = self._last
        self._last = (text, now)
        return text == before and now - at < _REPEAT_SECONDS

    def _caller(self, entry: Transcript | _Place, *, during: bool) -> None:
        if during and len(self._behind) < _MOST_UNHEARD:
            self._behind.append(entry)
        else:
            self._order.append(entry)

    def settle(self, heard: float) -> None:
        """Nothing more of what the agent has said will be heard."""
        self._order = deque(entry.told(heard) if isinstance(entry, Said) else entry for entry in self._order)

    def tell(self, now: float, heard: float) -> float:
        """Tell Core what it is time for. Returns when there will be more to tell; infinity for never."""
        while (ready_at := self._ready_at(now, heard)) <= now or len(self._order) > _MOST_UNHEARD:
            match self._order.popleft():
                case _Place():
                    self._missed += 1
                case Said() as said:
                    self._playout.post(said.told(max(heard, said.ends)))
                case told:
                    self._playout.post(told)
        return ready_at

    def finish(self, heard: float) -> None:
        """The call is over: tell all that has been said."""
        self.agent(None)
        self.settle(heard)
        for entry in self._order:
            if isinstance(entry, Transcript):
                self._playout.post(entry)
        self._order.clear()

    def _ready_at(self, now: float, heard: float) -> float:
        """When the first may go; infinity for never. A place goes with what follows it, if that may."""
        waits = now
        for entry in self._order:
            match entry:
                case _Place(until=until):
                    waits = max(waits, until)
                case Said(ends=ends):
                    return max(waits, now if ends <= heard + _TOLERANCE_SECONDS else now + ends - heard)
                case _:
                    return waits
        return inf
