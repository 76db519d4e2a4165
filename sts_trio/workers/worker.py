"""A worker process: it serves the connections that the supervisor passes, and reports how many calls it has."""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from sts_trio.call.handler import DRAINING
from sts_trio.web.server import serve_on
from sts_trio.workers.channel import (
    Channel,
    Connection,
    Others,
    Report,
    Scrape,
    ScrapeRequest,
    ScrapeResult,
    read_text,
)
from sts_trio.workers.pool import BEAT_SECONDS, MAX_IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sts_trio.call.handler import Refusal, Registry
    from sts_trio.web.app import App
    from sts_trio.web.connections import Connections, ServerConfig

# A report goes out at once, and the next one not earlier than this: of many connections that come together every tenth
# or so has a report of its own.
_REPORT_SECONDS = 0.005
SCRAPE_SECONDS = 3.0  # for the supervisor to ask all workers (`metrics.WORKER_SECONDS`) and to merge their answers


class WorkerSpec(NamedTuple):
    """The arguments of a worker process: its number from 1, its share of MAX_CALLS, the descriptor of its channel.

    The share is 0 where MAX_CALLS is: any number.
    """

    number: int
    share: int
    descriptor: int


class Worker:
    """A worker's side of the channel to the supervisor. Nothing happens unless `run` runs."""

    def __init__(self, channel: Channel) -> None:
        self.others = Others()
        self._channel = channel
        # As many as the supervisor lets be in flight, so that adding one never waits: 64 connections that wait here are
        # 64 callers who wait for a busy event loop, as they would in the kernel's queue.
        self._put, self._come = trio.open_memory_channel[socket.socket | None](MAX_IN_FLIGHT)
        self._lost = 0  # connections that there was no file descriptor left for
        self._detached = False
        self._now: Callable[[], Report] = Report
        self._reported: Report | None = None
        self._changed = trio.Event()
        self._text: bytes | None = None
        self._text_came = trio.lowlevel.ParkingLot()

    async def run(self, registry: Registry, connections: Connections, scrape: Callable[[], bytes]) -> None:
        """Act on the supervisor's messages and report to it, until it has ended.

        `scrape` returns this worker's own metrics.
        """

        def now() -> Report:
            return Report(
                live=registry.live,
                places=registry.places,
                new=connections.new,
                taken=connections.came + self._lost,
                ready=registry.refusal() is None,
                detached=self._detached,
            )

        self._now, connections.changed = now, self.report_changes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            await self._receive(scrape)
            nursery.cancel_scope.cancel()

    async def _receive(self, scrape: Callable[[], bytes]) -> None:
        while True:
            try:
                message, descriptor = await self._channel.receive()
            except trio.EndOfChannel:
                return
            match message:
                case Connection():
                    connection = None if descriptor is None else socket.socket(fileno=descriptor)
                    if not self._detached:
                        self._put.send_nowait(connection)
                    elif connection is not None:
                        connection.close()
                case Others():
                    self.others = message
                case Scrape(number):
                    self._channel.send_text(scrape(), number)
                case ScrapeResult():
                    self._text = read_text(descriptor)
                    self._text_came.unpark_all()

    async def _report(self) -> None:
        while True:
            self._changed = trio.Event()
            while (now := self._now()) != self._reported:
                if self._channel.send(now):  # else the supervisor is halted, with older reports still unread
                    self._reported = now
                await trio.sleep(_REPORT_SECONDS)
            with trio.move_on_after(BEAT_SECONDS) as waiting:
                await self._changed.wait()
            if waiting.cancelled_caught:
                self._reported = None  # a beat: the same again

    def report_changes(self) -> None:
        """Send a report soon, if it differs from the last one."""
        if self._now() != self._reported:
            self._changed.set()

    async def scrape(self) -> bytes | None:
        """Have the supervisor merge the metrics of all workers. None: no answer within `SCRAPE_SECONDS`."""
        if self._channel.send(ScrapeRequest()):
            with trio.move_on_after(SCRAPE_SECONDS):
                await self._text_came.park()
                return self._text
        return None

    async def accept(self) -> socket.socket:
        """Wait for the next connection; for ever, once the supervisor has ended.

        Raises:
            OSError: a connection came, and this process may not open one more file.
        """
        connection = await self._come.receive()
        if connection is None:
            self._lost += 1
            self.report_changes()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return connection

    def detach(self) -> None:
        """Take no connection any more. Those that are in flight are closed."""
        self._detached = True
        self.report_changes()
        while True:
            try:
                connection = self._come.receive_nowait()
            except trio.WouldBlock:
                return
            if connection is not None:
                connection.close()


def open_worker(spec: WorkerSpec) -> Worker:
    """Open the channel that this process was started with. Processes that tools start do not inherit it."""
    os.set_inheritable(spec.descriptor, False)
    return Worker(Channel(socket.socket(fileno=spec.descriptor)))


class PassedListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts the connections that the supervisor passes. They keep the options (keepalive) of its listening socket."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def accept(self) -> trio.SocketStream:
        """See `trio.abc.Listener`."""
        return trio.SocketStream(trio.socket.from_stdlib_socket(await self._worker.accept()))

    async def aclose(self) -> None:
        """See `trio.abc.Listener`."""
        self._worker.detach()
        await trio.lowlevel.checkpoint()


class WorkerAdmission:
    """A worker's `Admission`: it admits to places of its own, but `refusal` speaks for all workers."""

    def __init__(self, registry: Registry, worker: Worker) -> None:
        self._registry = registry
        self._worker = worker

    def refusal(self) -> Refusal | None:
        """See `Admission`. None also if only another worker has room: the supervisor passes it the next call."""
        own = self._registry.refusal()
        return None if own is not DRAINING and self._worker.others.room else own

    @contextmanager
    def admit(self) -> Iterator[Refusal | None]:
        """See `Admission`."""
        try:
            with self._registry.admit() as refusal:
                self._worker.report_changes()
                yield refusal
        finally:
            self._worker.report_changes()


async def serve_worker(
    worker: Worker,
    app: App,
    registry: Registry,
    config: ServerConfig,
    *,
    scrape: Callable[[], bytes],
    shutdown_trigger: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
) -> None:
    """Serve `app` to the connections that the supervisor passes, until `shutdown_trigger` returns; see `serve_on`.

    `scrape` returns this worker's own metrics. When the supervisor has ended, the process stops as after SIGTERM.
    """
    config.keep_alive_max_requests = 1  # the next request may be a call, which the supervisor has to find a place for

    async def run() -> None:
        await worker.run(registry, config.connections, scrape)
        # Without the supervisor no call can come, and no signal would stop us. In a drain one would cut it short.
        if registry.refusal() is not DRAINING:
            signal.raise_signal(signal.SIGTERM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await serve_on(app, PassedListener(worker), config, shutdown_trigger=shutdown_trigger, ready=ready)
        nursery.cancel_scope.cancel()
