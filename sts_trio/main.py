"""The composition root of `serve`: settings → calls (`wiring`) → web application → server; signals → drain → exit.

It reads from top to bottom: `serve` builds what all calls share, `run_service` puts the web in front of it and serves
until the drain is over, on a port of its own or as one of several workers.
"""

from __future__ import annotations

import gc
import signal
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio import __version__
from sts_trio.call.handler import Registry, Shedder
from sts_trio.call.meter import HTTP, CallOutcome, Cause
from sts_trio.call.playout import Pace
from sts_trio.core.link import StreamLink, WebSocketLink
from sts_trio.metrics import Metrics, watch_lag
from sts_trio.printed import printed_to_log
from sts_trio.web.app import create_app
from sts_trio.web.auth import Authorizer
from sts_trio.web.connections import most_connections, raise_file_limit
from sts_trio.web.server import make_config, serve_app
from sts_trio.wiring import build_handler
from sts_trio.workers.pool import stop_signals
from sts_trio.workers.worker import WorkerAdmission, open_worker, serve_worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.call.handler import CallHandler
    from sts_trio.core.link import Arrival, CallerSocket, CallerStream
    from sts_trio.settings import Settings
    from sts_trio.web.app import App, Scrape
    from sts_trio.workers.worker import Worker, WorkerSpec

log = structlog.get_logger(__name__)

# Nothing can call audio back that Core has got over plain HTTP (docs/protocols/core.md 1.5): single frames, two ahead
# at the most.
_STREAM_PACE = Pace(lead=0.04, message=0.02)
_PINGS_BEFORE_DEAD = 3
# How soon a busy thread (a tool of the operator's that computes) lets the event loop on. Measured beside 25 calls, with
# four of them: holes in the audio of 1.3 s with Python's 5 ms, 0.3 s with 0.5 ms; 50 calls and one of them: none.
_SWITCH_SECONDS = 0.0002
_GC_THRESHOLDS = (700, 10, 2)  # Python's own, but for the last: 10
_REPORT_SECONDS = 5.0  # how often a drain says how many calls are left
_LAST_CALLS_SECONDS = 5.0  # for calls that were ended by a drain to say so and close


async def serve(
    settings: Settings, spec: WorkerSpec | None = None, *, lines_dropped: Callable[[], int] = lambda: 0
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; as one worker of several (`spec`), also until the supervisor has ended.

    `lines_dropped` says how many lines the log has lost.
    """
    raise_file_limit()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with printed_to_log():
        await _serve(settings, spec, lines_dropped)
    log.info("stopped")


async def _serve(settings: Settings, spec: WorkerSpec | None, lines_dropped: Callable[[], int]) -> None:
    # Before the signals are ours: an operator's tool is loaded here, and one that hangs must not keep us from dying.
    shared = build_shared(settings, spec.share if spec else None, lines_dropped)
    _calm_garbage_collector()
    worker = open_worker(spec) if spec else None
    with trio.open_signal_receiver(*stop_signals()) as signals:

        async def until_told() -> None:
            number = await anext(signals)
            log.info("told to stop", signal=signal.Signals(number).name)

        async with trio.open_nursery() as nursery:
            serving = partial(run_service, settings, shared, worker, until_told=until_told)
            urls = await nursery.start(serving)
            if spec is None:
                log.info("ready for calls", listening=", ".join(urls))


@dataclass(frozen=True, slots=True)
class Shared:
    """What is made once for all calls of this process, before the first. `lines_dropped`: by the log, so far."""

    handler: CallHandler
    shedder: Shedder
    metrics: Metrics
    lines_dropped: Callable[[], int] = lambda: 0

    @property
    def registry(self) -> Registry:
        """The calls that there are."""
        return self.handler.registry


def build_shared(settings: Settings, share: int | None = None, lines_dropped: Callable[[], int] = lambda: 0) -> Shared:
    """Build what calls share; the operator's tools are loaded here. `share`: this worker's part of MAX_CALLS."""
    most = settings.service.max_calls
    shedder = Shedder(settings.service.shed_lag_ms / 1000)
    registry = Registry(most if share is None else share, shedder, of=most)
    metrics = Metrics(registry, __version__, lines_dropped)
    handler = build_handler(settings, registry, meter=metrics)
    metrics.offer(tool.name for tool in handler.rules.tools)
    return Shared(handler, shedder, metrics, lines_dropped)


async def run_service(
    settings: Settings,
    shared: Shared | None = None,
    worker: Worker | None = None,
    *,
    until_told: Callable[[], Awaitable[object]] = trio.sleep_forever,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `until_told` returns; then let the running calls finish, for as long as the settings give them.

    When it returns a second time, they are ended at once.

    `task_status` gets the URLs that it listens on: none as a `worker`, whose connections come from the supervisor.

    Raises:
        OSError: the address cannot be listened on.
    """
    shared = shared or build_shared(settings)

    def observe(lag: float) -> None:
        shared.metrics.lagged(lag)
        if worker is not None:
            worker.report_changes()  # the shedder may have changed its mind, which nothing else reports

    async def scrape() -> tuple[bytes, str] | None:
        text, kind = shared.metrics.scrape()
        whole = text if worker is None else await worker.scrape()
        return None if whole is None else (whole, kind)

    async def stop() -> None:
        async with trio.open_nursery() as nursery:  # in here, and not around the server, whose errors stay plain
            nursery.start_soon(watch_lag, shared.shedder, observe, name="lag")
            await until_told()
            await _drain(shared.registry, settings.service.drain_seconds, until_told)
            nursery.cancel_scope.cancel()

    service = settings.service
    authorizer = Authorizer(service.sts_token, service.allowed_origins)
    app = build_app(shared.handler, scrape, authorizer, worker, shared.lines_dropped)
    dead = service.core_dead_seconds
    pings = dead / _PINGS_BEFORE_DEAD
    if worker is None:
        await serve_app(
            app,
            host=service.host,
            port=service.port,
            ping_seconds=pings,
            dead_seconds=dead,
            shutdown_trigger=stop,
            refusals=shared.registry.refused,
            task_status=task_status,
        )
    else:
        await serve_worker(
            worker,
            app,
            shared.registry,
            make_config(
                ping_seconds=pings, dead_seconds=dead, most=most_connections(), refusals=shared.registry.refused
            ),
            scrape=lambda: shared.metrics.scrape()[0],
            shutdown_trigger=stop,
            ready=partial(task_status.started, []),
        )


def build_app(
    handler: CallHandler,
    scrape: Scrape | None = None,
    authorizer: Authorizer | None = None,
    worker: Worker | None = None,
    lines_dropped: Callable[[], int] = lambda: 0,
) -> App:
    """Build the web application in front of the calls.

    `scrape` is what `GET /metrics` tells; `authorizer` says who may call; `worker`: this process is one of
    several; `lines_dropped` says how many lines the log has lost.
    """

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await handler.answer(WebSocketLink(socket), arrival)

    async def answer_stream(stream: CallerStream, arrival: Arrival) -> None:
        await handler.answer(StreamLink(stream, arrival.uuid), arrival, _STREAM_PACE, leg=HTTP)

    registry = handler.registry
    admission = WorkerAdmission(registry, worker) if worker else registry

    def status() -> dict[str, object]:
        refusal = admission.refusal()
        shut = {"status": refusal.reason} if refusal else {}
        calls = registry.live + (worker.others.live if worker else 0)
        lost = {"log_lines_dropped": dropped} if (dropped := lines_dropped()) else {}
        return {"calls": calls, "version": __version__} | shut | lost

    return create_app(answer, answer_stream, admission, status, scrape, authorizer, registry.refused)


async def _drain(registry: Registry, limit: float, until_told: Callable[[], Awaitable[object]]) -> None:
    log.info("draining: no new calls", calls=registry.live, limit_seconds=limit)
    with trio.move_on_after(limit) as waiting:
        async with trio.open_nursery() as nursery:

            async def cut_short() -> None:
                await until_told()
                waiting.cancel(reason="told a second time")

            async def report() -> None:
                while True:
                    await trio.sleep(_REPORT_SECONDS)
                    log.info("draining: calls left", calls=registry.live)

            nursery.start_soon(cut_short)
            nursery.start_soon(report)
            await registry.drain()
            nursery.cancel_scope.cancel()
    registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
    with trio.move_on_after(_LAST_CALLS_SECONDS):
        await registry.drain()


def _calm_garbage_collector() -> None:
    """Have the collector leave alone what stays (modules, tools), and look more often at what calls leave behind.

    Measured at 100 calls: of 100,000 objects that a full collection went through, in 70 ms without service for anybody,
    75,000 stay. Looking more seldom costs memory: 16 MB from call 200 to 300 of a soak with (5000, 20, 20), 8 MB with
    Python's own numbers, 2 MB with these.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
