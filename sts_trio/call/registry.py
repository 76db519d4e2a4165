"""The calls: who may come in, who is here, and how all of them end when the service stops."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from sts_trio.call.admission import DRAINING, OVERLOADED, full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.call.admission import Refusal, Shedder
    from sts_trio.call.call import Call
    from sts_trio.call.outcome import CallOutcome


class Registry:
    """Calls enter and leave by themselves; nothing here holds one back or looks inside.

    A call has a place from the moment it is admitted at the door until its connection is closed, so two that come at
    once cannot both have the last one. `most` places are there (0: any number); where they are a share of
    MAX_CALLS, `of` is the whole of it, for who is refused.
    """

    def __init__(self, most: int = 0, shedder: Shedder | None = None, *, of: int | None = None) -> None:
        self.most = most
        self._told_most = of or most
        self.refused: Counter[str] = Counter()  # calls, by reason
        self._shedder = shedder
        self._places = 0
        self._calls: set[Call] = set()
        self._draining = False
        self._stopped = False
        self._empty = trio.Event()

    @property
    def live(self) -> int:
        """How many calls are running."""
        return len(self._calls)

    @property
    def places(self) -> int:
        """How many places are taken: by calls, and by what was admitted and is no call yet, or no more."""
        return self._places

    @property
    def stopped(self) -> bool:
        """Whether all calls have been ended, or the last of them has been seen: it is too late for another."""
        return self._stopped

    def refusal(self) -> Refusal | None:
        """Why a new call would not be taken now, or None."""
        if self._draining:
            return DRAINING
        if 0 < self.most <= self._places:
            return full(self._told_most)
        if self._shedder is not None and self._shedder.shedding:
            return OVERLOADED
        return None

    @contextmanager
    def admit(self) -> Iterator[Refusal | None]:
        """Give a new call a place while the context lasts, or say why it has none. Nothing else decides this.

        What is admitted may take its time to begin: a drain waits for it as for a running call.
        """
        if (refusal := self.refusal()) is not None:
            self.refused[refusal.reason] += 1
            yield refusal
            return
        self._places += 1
        try:
            yield None
        finally:
            self._places -= 1
            self._left()

    @contextmanager
    def enter(self, call: Call) -> Iterator[None]:
        """Count `call` as live while the context lasts."""
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.remove(call)
            self._left()

    async def drain(self) -> None:
        """Refuse new calls from now on, and wait until the last one is over; the caller sets the limit."""
        self._draining = True
        if self._places or self._calls:
            await self._empty.wait()
        self._stopped = True

    def end_all(self, outcome: CallOutcome) -> None:
        """End every live call; one that was admitted and has not begun never does."""
        self._stopped = True
        for call in self._calls:
            call.end(outcome)

    def _left(self) -> None:
        if self._draining and not self._places and not self._calls:
            self._empty.set()
