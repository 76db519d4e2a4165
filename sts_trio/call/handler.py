"""Calls from the door to their end: whether one is admitted, which are live, and how one is put together."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.bridge import Bridge
from sts_trio.call.call import Call
from sts_trio.call.config import named
from sts_trio.call.meter import WEBSOCKET, CallCounts, CallRecord, Cause
from sts_trio.call.playout import Playout
from sts_trio.call.report import CallReport
from sts_trio.core.wire import Error, Transcript
from sts_trio.logs import name_call
from sts_trio.providers.base import CallInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sts_trio.call.config import CallRules, Services
    from sts_trio.call.meter import CallOutcome
    from sts_trio.call.playout import Pace
    from sts_trio.core.link import Arrival, CoreLink, SocketClosed
    from sts_trio.core.wire import FromCore, ToCore


# Lag must stay above the limit for so long before calls are refused: one late moment (a slow disk, a large page of
# memory) is over before anything could be done about it.
_UP_SECONDS = 1.0
# And below half of the limit for so long before calls are taken again: what was refused does not come all at once.
_DOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not taken: `reason` is one word for machines and metrics, `message` a line for a person."""

    reason: str
    message: str


DRAINING = Refusal("draining", "the service is stopping; no new calls")
OVERLOADED = Refusal("overloaded", "the service is overloaded; no new calls (see SHED_LAG_MS)")
REASONS = ("draining", "full", "overloaded")
# Why anything else is turned away: no secret, or a wrong one (401); a page of another host (403); no file descriptor
# for another connection; broken HTTP, or a broken handshake (400, 501); a head that is too long (431); more than any
# caller sends (429, or close 1008); a request that is no call, and asks for what is not there (404, 405, 426).
OTHER_REASONS = ("token", "origin", "files", "malformed", "head", "flood", "path", "method", "no_upgrade")


def full(most: int) -> Refusal:
    """Say that there are as many calls as there may be."""
    return Refusal("full", f"all {most} lines are in use (see MAX_CALLS)")


_LINE_SECONDS = 1.0


class Refusals:
    """Counts what is turned away at the door, by reason, and logs it: at most a line a second for each reason."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._quiet_until: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def note(self, reason: str, **fields: object) -> None:
        """Something was turned away; `reason` is one of `REASONS` or `OTHER_REASONS`. `fields` are for the log line.

        The line says how many like it had none since the last.
        """
        self.counts[reason] += 1
        now = self._clock()
        if now < self._quiet_until.get(reason, -inf):
            self._left_out[reason] += 1
            return
        self._quiet_until[reason] = now + _LINE_SECONDS
        log.warning("refused at the door", reason=reason, **fields, left_out=self._left_out.pop(reason, 0))


class Shedder:
    """Decides from the event loop's lag whether new calls are refused. `limit` in seconds; 0: never."""

    def __init__(self, limit: float) -> None:
        self.shedding = False
        self._limit = limit
        self._up_since = inf
        self._down_since = inf

    def feed(self, lag: float, now: float) -> bool:
        """Take one measurement: how late, in seconds, a task was that woke at `now`. True if that changed `shedding`.

        Between the limit and its half nothing changes, and what was counted so far begins anew.
        """
        if self._limit <= 0:
            return False
        self._up_since = min(self._up_since, now) if lag > self._limit else inf
        self._down_since = min(self._down_since, now) if lag < self._limit / 2 else inf
        since, needed = (self._down_since, _DOWN_SECONDS) if self.shedding else (self._up_since, _UP_SECONDS)
        changed = now - since >= needed
        self.shedding ^= changed
        return changed


class Registry:
    """Calls enter and leave by themselves; nothing here holds one back or looks inside.

    A call has a place from the moment it is admitted at the door until its connection is closed, so two that come at
    once cannot both have the last one. `most` places are there (0: any number); where they are a share of
    MAX_CALLS, `of` is the whole of it, for who is refused.
    """

    def __init__(self, most: int = 0, shedder: Shedder | None = None, *, of: int | None = None) -> None:
        self.most = most
        self._told_most = of or most
        self.refused = Refusals()
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
            self.refused.note(refusal.reason, status=503)
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


log = structlog.get_logger(__name__)

_REFUSAL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CallHandler:
    """What all calls share: read-only rules, the ways to the world, and the register of live calls.

    `provider` is the name of the agent's side, for the log.
    """

    rules: CallRules
    pace: Pace
    services: Services
    registry: Registry
    log_transcripts: bool = False
    provider: str = ""

    async def answer(
        self, core: CoreLink, arrival: Arrival, pace: Pace | None = None, leg: str = WEBSOCKET
    ) -> CallOutcome | None:
        """Hold one call from its first message to its end; None for one that begins when all have been ended.

        Whether it is taken is decided at the door (`Registry.admit`). `pace` is for a link that needs one of its own;
        `leg` names the link's kind for the metrics.
        """
        if self.registry.stopped:
            with trio.move_on_after(_REFUSAL_SECONDS):
                await core.send(Error(DRAINING.message))
                await core.close(1001, Cause.DRAINED)
            return None
        known = named(CallInfo(id=f"call-{secrets.token_hex(4)}", query=arrival.query), arrival.uuid)
        name_call(known.id)
        began = trio.current_time()
        record = CallRecord(leg, CallCounts())
        playout = Playout(pace or self.pace, record.counts, self.services.meter)
        report = CallReport(record, self.provider, playout.audit.answers, self.services.meter)
        bridge = Bridge(self.rules, playout, known, began)
        if self.log_transcripts:
            core = _TranscriptLog(core)
        call = Call(core, self.services, bridge, playout, report)
        self.services.meter.call_began(record)
        try:
            with self.registry.enter(call):
                await call.run()
        finally:
            report.ended(call.outcome, trio.current_time() - began, bridge.emotions.mood)
        return call.outcome


class _TranscriptLog:
    """A Core link that also logs the transcripts that pass; only where the operator asked for it."""

    def __init__(self, core: CoreLink) -> None:
        self._core = core

    async def receive(self) -> FromCore | SocketClosed:
        return await self._core.receive()

    async def send(self, message: ToCore) -> None:
        await self._core.send(message)
        if isinstance(message, Transcript):  # not before: one whose sending was cut short is sent again
            log.info("said", role=message.role, text=message.text)

    async def close(self, code: int, reason: str) -> None:
        await self._core.close(code, reason)
