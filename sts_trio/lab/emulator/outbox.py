"""What waits to be sent in one chat: at once, or paced as speech; and what faults make of its order and its time. Pure.

A turn is an iterator of (seconds of speech since its beginning, what to send). `Outbox` says what is sent when;
`DelayLine` is the way to the client behind it. Only one task sends: an interruption never cancels a send halfway, which
would leave half a frame on the wire, but takes the speech out of the outbox.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING

from sts_trio.lab.emulator.chat import Close, Flush, Late, Say
from sts_trio.lab.emulator.evi.wire import AssistantEnd, AudioOutput, ToolCall
from sts_trio.lab.emulator.steps import DoubledChunks, LateChunks, SwappedChunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from sts_trio.lab.emulator.chat import Action, Item, Turn
    from sts_trio.lab.emulator.faults import Disorder

MAX_WAITING = 1000  # messages on their way; the longest are audio, 20 kB each


def disturbed(turn: Turn, disorder: Disorder) -> Turn:
    """Return the turn as this fault makes it."""
    match disorder:
        case LateChunks(count=count, by=by):
            return _late(turn, count, by)
        case SwappedChunks():
            return _swapped(turn)
        case DoubledChunks():
            return _doubled(turn)


def _late(turn: Turn, count: int, by: float) -> Turn:
    held: deque[tuple[float, Item]] = deque()
    for at, item in turn:
        if isinstance(item, AudioOutput):
            held.append((at, item))
            if len(held) > count:
                yield held.popleft()
            continue
        yield at, item
        if isinstance(item, AssistantEnd | ToolCall):
            yield from ((at, Late(chunk, by)) for _, chunk in held if isinstance(chunk, AudioOutput))
            held.clear()


def _swapped(turn: Turn) -> Turn:
    held: tuple[float, Item] | None = None
    for at, item in turn:
        if isinstance(item, AudioOutput):
            if held is None:
                held = (at, item)
                continue
            yield at, item
        if held is not None:
            yield at, held[1]
            held = None
        if not isinstance(item, AudioOutput):
            yield at, item
    if held is not None:
        yield held


def _doubled(turn: Turn) -> Iterator[tuple[float, Item]]:
    for at, item in turn:
        yield at, item
        if isinstance(item, AudioOutput | Late):
            yield at, item


class DelayLine:
    """The way to the client: what is put in comes out after the delay, in order; only `Late` ones are overtaken."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._delay = self._jitter = 0.0
        self._order = itertools.count()
        self._last = -math.inf
        self._waiting: list[tuple[float, int, Item]] = []

    def delay(self, seconds: float, jitter: float) -> None:
        """From now on each message is `seconds` on its way, and up to `jitter` seconds more."""
        self._delay, self._jitter = seconds, jitter

    @property
    def full(self) -> bool:
        """Whether nothing more should be put in for now."""
        return len(self._waiting) >= MAX_WAITING

    @property
    def due(self) -> float:
        """When `pop` will next have something."""
        return self._waiting[0][0] if self._waiting else math.inf

    def put(self, item: Item, now: float) -> None:
        """Put a message on its way; it comes out of `pop` after the delay."""
        due = now + self._delay + (self._rng.uniform(0, self._jitter) if self._jitter else 0.0)
        if isinstance(item, Late):
            due += item.by
            item = item.chunk
        else:
            due = self._last = max(due, self._last)
        heapq.heappush(self._waiting, (due, next(self._order), item))

    def pop(self, now: float) -> Item | None:
        """Return what arrives now, if anything."""
        return heapq.heappop(self._waiting)[2] if self.due <= now else None


MAX_URGENT = 1000  # answers to a client that sends and never reads; a message is under 1 kB, so 1 MB
MAX_TURNS = 8  # replies not begun; one is at most 30 s of caller audio (0.5 MB at 8 kHz). Then the oldest goes.


class Outbox:
    """Two lanes: urgent before speech. `speed`: seconds of speech sent in a second."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._urgent: deque[Item] = deque()
        self._turns: deque[Say] = deque()
        self._turn: Turn | None = None
        self._started = 0.0
        self._next: tuple[float, Item] | None = None
        self._disorders: list[Disorder] = []

    def disturb(self, disorder: Disorder) -> None:
        """Apply a fault to all replies from now on, and to the rest of the one that is being sent."""
        self._disorders.append(disorder)
        if self._turn is not None:
            self._turn = disturbed(self._turn, disorder)

    def put(self, actions: Iterable[Action]) -> None:
        """Take what a chat decided. Too much unread: the chat is closed (1008)."""
        late: list[Late] = []
        for action in actions:
            match action:
                case Say():
                    self._turns.append(action)
                    if len(self._turns) > MAX_TURNS:
                        self._turns.popleft()
                case Flush():
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
                say = self._turns.popleft()
                self._turn = say.turn
                for disorder in self._disorders:
                    self._turn = disturbed(self._turn, disorder)
                self._started = now + say.after
            if (paced := next(self._turn, None)) is None:
                self._turn = None
            else:
                self._next = (self._started + paced[0] / self._speed, paced[1])

    def _too_late(self) -> Iterator[Late]:
        """With `LateChunks` in force: the next chunks of the interrupted reply, to be sent after the interruption."""
        lateness = next((fault for fault in reversed(self._disorders) if isinstance(fault, LateChunks)), None)
        if lateness is None:
            return
        coming = [self._next[1]] if self._next else []
        rest = (item for _, item in self._turn or ())
        chunks = (item for item in chain(coming, rest) if isinstance(item, AudioOutput))
        for chunk in islice(chunks, lateness.count):
            yield Late(chunk, lateness.by)
