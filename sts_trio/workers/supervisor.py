"""`serve` with several workers: listen, hand each connection to one of them, and see that they live and stop."""

from __future__ import annotations

import signal
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.web.connections import raise_file_limit
from sts_trio.web.listening import TELL_AGAIN_SECONDS, listen, notice_dead_peers, url_of
from sts_trio.workers.balancer import shares
from sts_trio.workers.collect import Scrapes
from sts_trio.workers.pool import Crew
from sts_trio.workers.process import keep_worker

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

    from sts_trio.settings import Settings

log = structlog.get_logger(__name__)

_TELL_SECONDS = 0.1  # how old each worker's knowledge of the others may be
# Beyond DRAIN_SECONDS, for the good-byes of calls and for what else a worker has running; then it is killed.
_LATE_SECONDS = 20.0
_NO_ROOM_SECONDS = 0.1


async def run_switch(settings: Settings, workers: int, command: Sequence[str]) -> None:
    """Serve with so many workers until SIGTERM or SIGINT, and until the last of their calls is over.

    `command` is that of this process: with an option of its own it starts a worker. The first one goes ahead, so that
    what is wrong with the settings is said once.

    Raises:
        OSError: the address cannot be listened on.
        WorkerFailed: the first worker ended before it was ready; in an exception group.
    """
    raise_file_limit()
    log.info("starting", **settings.shown())
    crew = Crew(shares(settings.max_calls, workers))
    scrapes = Scrapes(crew)
    with listen(settings.host, settings.port) as bound:
        notice_dead_peers(bound, settings.core_dead_seconds)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_forward, signals, crew)
                nursery.start_soon(_hand_over, bound, crew)
                nursery.start_soon(_tell_others, crew)
                nursery.start_soon(scrapes.run)
                nursery.start_soon(_announce, url_of(bound), crew)
                nursery.start_soon(_kill_late, crew, settings.drain_seconds + _LATE_SECONDS)
                await _keep_workers(crew, scrapes, command)
                nursery.cancel_scope.cancel()
    log.info("stopped")


async def _keep_workers(crew: Crew, scrapes: Scrapes, command: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        first, *others = crew
        nursery.start_soon(partial(keep_worker, first, crew, scrapes, command, must_start=True))
        while not (first.ready.is_set() or crew.stopping.is_set()):
            await crew.changed.park()
        for worker in others:
            nursery.start_soon(keep_worker, worker, crew, scrapes, command)


async def _announce(url: str, crew: Crew) -> None:
    for worker in crew:
        await worker.ready.wait()
    log.info("ready for calls", listening=url, workers=len(crew.workers))


async def _forward(signals: AsyncIterator[int], crew: Crew) -> None:
    """Pass each signal on. Connections are accepted until the last worker is gone, so that /ready can say 503."""
    async for _ in signals:
        log.info("stopping: the workers are told", calls=sum(worker.load.live for worker in crew))
        crew.stop()


async def _kill_late(crew: Crew, seconds: float) -> None:
    await crew.stopping.wait()
    await trio.sleep(seconds)
    for worker in crew:
        if worker.process is not None:
            log.error("a worker does not stop: it is killed", worker=worker.number)
            worker.process.kill()


async def _tell_others(crew: Crew) -> None:
    while True:
        crew.tell_others()
        await trio.sleep(_TELL_SECONDS)


async def _hand_over(bound: socket.socket, crew: Crew) -> None:
    listener = trio.socket.from_stdlib_socket(bound)
    tell_at = -inf  # at most one line of each ten seconds

    def tell(event: str, **fields: str) -> None:
        nonlocal tell_at
        if trio.current_time() >= tell_at:
            tell_at = trio.current_time() + TELL_AGAIN_SECONDS
            log.error(event, **fields)

    while True:
        try:
            connection, _ = await listener.accept()
        except OSError as exc:  # no file or memory for it, or the firewall's; it may be better in a moment
            tell("no connection can be accepted at the moment", problem=str(exc))
            await trio.sleep(_NO_ROOM_SECONDS)
            continue
        with connection:  # the worker gets a copy
            await crew.until_one_can_take()  # who comes meanwhile waits in the kernel's queue
            if not crew.hand(connection.fileno()):
                tell("a connection was closed: no worker could be given it")
