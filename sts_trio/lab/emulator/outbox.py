"""What waits to be sent in one chat: at once, or paced as speech. Time comes in as an argument.

Only one task sends. So an interruption never cancels a send halfway (which would leave half a frame on the wire): it
takes the speech out of here instead.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING

from sts_trio.lab.emulator.actions import Close, Hush, Late, Say
from sts_trio.lab.emulator.disorder import disturbed
from sts_trio.lab.emulator.script import LateChunks
from sts_trio.lab.emulator.wire import AudioOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sts_trio.lab.emulator.actions import Action, Item, Turn
    from sts_trio.lab.emulator.script import Disorder

MAX_URGENT = 1000  # answers to a client that sends and never reads; a message is under 1 kB, so 1 MB
MAX_TURNS = 8  # replies not begun; one is at most 30 s of caller audio (0.5 MB at 8 kHz). Then the oldest goes.


class Outbox:
    """Two lanes: urgent before speech. `speed`: seconds of speech sent in a second."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._urgent: deque[Item] = deque()
        self._turns: deque[Turn] = deque()
        self._turn: Turn | None = None
        self._started = 0.0
        self._next: tuple[float, Item] | None = None
        self._disorders: list[Disorder] = []

    def disturb(self, disorder: Disorder) -> None:
        """From now on replies come in this way; also what is left of the one that is being sent."""
        self._disorders.append(disorder)
        if self._turn is not None:
            self._turn = disturbed(self._turn, disorder)

    def put(self, actions: Iterable[Action]) -> None:
        """Take what a chat decided. Too much unread: the chat is closed (1008)."""
        late: list[Late] = []
        for action in actions:
            match action:
                case Say(turn):
                    self._turns.append(turn)
                    if len(self._turns) > MAX_TURNS:
                        self._turns.popleft()
                case Hush():
                    late += self._too_late()
                    self._turns.clear()
                    self._turn = self._next = None
                case _ if len(self._urgent) < MAX_URGENT:
                    self._urgent.append(action)
                case _:
                    self._urgent[-1] = Close(1008, "too many messages not read")
        self._urgent.extend(late)  # behind the interruption

    def pop(self, now: float) -> Item | None:
        """Return what is to be sent now, if anything."""
        if self._urgent:
            return self._urgent.popleft()
        self._load(now)
        if self._next is None or self._next[0] > now:
            return None
        _, item = self._next
        self._next = None
        return item

    def due(self, now: float) -> float:
        """Return when `pop` will next have something; infinity when it depends on others."""
        if self._urgent:
            return now
        self._load(now)
        return math.inf if self._next is None else self._next[0]

    def _load(self, now: float) -> None:
        while self._next is None:
            if self._turn is None:
                if not self._turns:
                    return
                self._turn = self._turns.popleft()
                for disorder in self._disorders:
                    self._turn = disturbed(self._turn, disorder)
                self._started = now
            if (paced := next(self._turn, None)) is None:
                self._turn = None
            else:
                self._next = (self._started + paced[0] / self._speed, paced[1])

    def _too_late(self) -> Iterator[Late]:
        """What would have been sent next, were it not for an interruption."""
        lateness = next((fault for fault in reversed(self._disorders) if isinstance(fault, LateChunks)), None)
        if lateness is None:
            return
        coming = [self._next[1]] if self._next else []
        rest = (item for _, item in self._turn or ())
        chunks = (item for item in chain(coming, rest) if isinstance(item, AudioOutput))
        for chunk in islice(chunks, lateness.count):
            yield Late(chunk, lateness.by)
