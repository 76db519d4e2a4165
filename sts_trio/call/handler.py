"""From an accepted connection to a finished call: puts a call's parts together and logs its summary."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.admission import DRAINING
from sts_trio.call.bridge import Bridge
from sts_trio.call.call import Call
from sts_trio.call.config import named
from sts_trio.call.meter import CANCELLED, WEBSOCKET, CallRecord
from sts_trio.call.outcome import Cause
from sts_trio.call.playout import Playout
from sts_trio.core.wire import Error, Transcript
from sts_trio.logs import name_call
from sts_trio.providers.base import CallInfo

if TYPE_CHECKING:
    from sts_trio.call.outcome import CallOutcome
    from sts_trio.call.playout import Pace
    from sts_trio.call.registry import Registry
    from sts_trio.call.rules import CallRules
    from sts_trio.call.services import Services
    from sts_trio.core.arrival import Arrival
    from sts_trio.core.link import CoreLink, SocketClosed
    from sts_trio.core.wire import FromCore, ToCore

log = structlog.get_logger(__name__)

_REFUSAL_SECONDS = 2.0
_MOOD_SHOWN = 3  # the strongest emotions of the caller, over all of the call
_FAULTS = (Cause.PROVIDER_FAILED, Cause.CALLER_BROKE_PROTOCOL, Cause.NO_INIT, Cause.INTERNAL)


@dataclass(frozen=True, slots=True)
class CallHandler:
    """What all calls share: read-only rules, the ways to the world, and the register of live calls."""

    rules: CallRules
    pace: Pace
    services: Services
    registry: Registry
    log_transcripts: bool = False

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
        playout = Playout(pace or self.pace, self.services.meter)
        bridge = Bridge(self.rules, playout, known, began)
        if self.log_transcripts:
            core = _TranscriptLog(core)
        call = Call(core, self.services, bridge, playout)
        record = CallRecord(leg, bridge.counts)
        self.services.meter.call_began(record)
        try:
            with self.registry.enter(call):
                await call.run()
        finally:
            self._summarise(bridge, call.outcome, trio.current_time() - began, record)
        return call.outcome

    def _summarise(self, bridge: Bridge, outcome: CallOutcome | None, lasted: float, record: CallRecord) -> None:
        cause = str(outcome.cause) if outcome else CANCELLED
        self.services.meter.call_ended(record, cause, lasted, next(iter(bridge.mood.strongest(1)), None))
        counts = {name: round(value, 2) for name, value in asdict(bridge.counts).items() if value}
        report = log.warning if outcome and outcome.cause in _FAULTS else log.info
        report(
            "call ended",
            cause=cause,
            code=outcome.code if outcome else None,
            message=outcome.message if outcome else "",
            seconds=round(lasted, 2),
            **counts,
            **({"mood": bridge.mood.strongest(_MOOD_SHOWN)} if bridge.mood.strongest(1) else {}),
        )


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
