"""The composition root of `serve`: settings → calls (`wiring`) → server; signals → drain → exit."""

from __future__ import annotations

import signal
import sys
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.playout import Pace
from sts_trio.call.registry import Registry
from sts_trio.core.stream import StreamLink
from sts_trio.core.websocket import WebSocketLink
from sts_trio.web.app import create_app
from sts_trio.web.connections import raise_file_limit
from sts_trio.web.gate import Gate
from sts_trio.web.server import serve_app
from sts_trio.wiring import build_switchboard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.call.answer import Switchboard
    from sts_trio.core.arrival import Arrival
    from sts_trio.core.link import CallerSocket, CallerStream
    from sts_trio.settings import Settings
    from sts_trio.web.app import Door

log = structlog.get_logger(__name__)

# Nothing can call audio back that Core has got over plain HTTP (contract 1.5): single frames, two ahead at the most.
_STREAM_PACE = Pace(lead=0.04, message=0.02)
_PINGS_BEFORE_DEAD = 3
# How soon a busy thread (a tool of the operator's) lets the event loop on. Measured with four of them: a 20 ms ticker is
# at most 39 ms late; 1.7 s with Python's 5 ms.
_SWITCH_SECONDS = 0.0005
_LAST_CALLS_SECONDS = 5.0  # for calls that were ended by a drain to say so and close


def build_app(switchboard: Switchboard, gate: Gate | None = None) -> Door:
    """Build the web application in front of the calls; `gate` says who may call."""

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await switchboard.answer(WebSocketLink(socket), arrival)

    async def answer_stream(stream: CallerStream, arrival: Arrival) -> None:
        await switchboard.answer(StreamLink(stream, arrival.uuid), arrival, _STREAM_PACE)

    registry = switchboard.registry

    def status() -> dict[str, object]:
        draining = {"status": "draining"} if registry.refusal() else {}
        return {"calls": registry.live, "version": version("sts-trio")} | draining

    return create_app(answer, answer_stream, registry.refusal, status, gate)


async def run_service(
    settings: Settings,
    *,
    until_told: Callable[[], Awaitable[object]] = trio.sleep_forever,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `until_told` returns; then let the running calls finish, for as long as the settings give them.

    When it returns a second time, they are ended at once.

    `task_status` gets the URLs that it listens on.

    Raises:
        OSError: the address cannot be listened on.
    """
    registry = Registry()
    switchboard = build_switchboard(settings, registry)

    async def stop() -> None:
        await until_told()
        await _drain(registry, settings.drain_seconds, until_told)

    await serve_app(
        build_app(switchboard, Gate(settings.sts_token, settings.allowed_origins)),
        host=settings.host,
        port=settings.port,
        ping_seconds=settings.core_dead_seconds / _PINGS_BEFORE_DEAD,
        dead_seconds=settings.core_dead_seconds,
        shutdown_trigger=stop,
        task_status=task_status,
    )


async def _drain(registry: Registry, limit: float, until_told: Callable[[], Awaitable[object]]) -> None:
    log.info("draining: no new calls", calls=registry.live, limit_seconds=limit)
    with trio.move_on_after(limit) as waiting:
        async with trio.open_nursery() as nursery:

            async def cut_short() -> None:
                await until_told()
                waiting.cancel(reason="told a second time")

            nursery.start_soon(cut_short)
            await registry.drain()
            nursery.cancel_scope.cancel()
    registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
    with trio.move_on_after(_LAST_CALLS_SECONDS):
        await registry.drain()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    raise_file_limit()
    log.info("starting", **settings.shown())
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(partial(run_service, settings, until_told=signals.__anext__))
            log.info("ready for calls", listening=", ".join(urls))
    log.info("stopped")
