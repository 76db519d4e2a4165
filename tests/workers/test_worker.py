"""A worker's end of the channel: connections, reports, collector, and what the end of the supervisor means."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.call.handler import Registry
from sts_trio.web.connections import NEW_SECONDS, Connections, listen, notice_dead_peers
from sts_trio.workers.channel import (
    Channel,
    Connection,
    Message,
    Others,
    Report,
    Scrape,
    ScrapeRequest,
    ScrapeResult,
    open_pair,
    read_text,
)
from sts_trio.workers.worker import SCRAPE_SECONDS, PassedListener, Worker, WorkerAdmission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEXT = b"x" * 100_000


@dataclass
class Bench:
    """A end at work, and the supervisor's end of its channel."""

    worker: Worker
    supervisor: Channel
    registry: Registry
    connections: Connections

    left: trio.Event = field(default_factory=trio.Event)

    async def work(self) -> None:
        await self.worker.run(self.registry, self.connections, lambda: TEXT)
        self.left.set()

    async def until(self, report: Report) -> list[Message]:
        """Hear the worker until it tells this; return all that it told."""
        heard: list[Message] = []
        with trio.fail_after(5):
            while report not in heard:
                heard.append((await self.supervisor.receive())[0])
        return heard


@asynccontextmanager
async def working(most: int = 0) -> AsyncIterator[Bench]:
    ours, theirs = open_pair()
    bench = Bench(Worker(Channel(theirs)), Channel(ours), Registry(most), Connections(10))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.work)
            yield bench
            nursery.cancel_scope.cancel()
    finally:
        bench.supervisor.close()
        bench.worker._channel.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A caller, and our end of its connection, accepted on a listener of ours."""
    with listen("127.0.0.1", 0) as listener:
        notice_dead_peers(listener, 30)
        with socket.create_connection(listener.getsockname()) as caller:
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                yield caller, accepted


async def test_a_connection_comes_over_with_all_that_its_listener_gave_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    caller, accepted = pair
    async with working() as bench:
        bench.supervisor.send(Connection(), accepted.fileno())
        accepted.close()
        with trio.fail_after(5):
            stream = await PassedListener(bench.worker).accept()
            async with stream:
                caller.sendall(b"hello")
                assert await stream.receive_some() == b"hello"
                await stream.send_all(b"and you")
                assert caller.recv(10) == b"and you"
                assert stream.socket.getpeername() == caller.getsockname()
                assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
                assert not os.get_inheritable(stream.socket.fileno()), "a tool's child process would hold the call"
    assert caller.recv(10) == b""


async def test_a_connection_that_there_is_no_descriptor_left_for_is_an_error_of_accept_and_is_reported(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """`serve_listeners` waits and tries again after this one, as with a listening socket."""
    caller, accepted = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with working() as bench:
        await bench.until(Report())
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            bench.supervisor.send(Connection(), accepted.fileno())
            with trio.fail_after(5), pytest.raises(OSError, match="Too many open files"):
                await PassedListener(bench.worker).accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await bench.until(Report(taken=1))
        accepted.close()
        assert caller.recv(10) == b""


async def test_who_leaves_takes_no_connection_any_more(pair: tuple[socket.socket, socket.socket]) -> None:
    caller, accepted = pair
    async with working() as bench:
        await PassedListener(bench.worker).aclose()
        await bench.until(Report(detached=True))
        bench.supervisor.send(Connection(), accepted.fileno())
        accepted.close()
        assert await trio.to_thread.run_sync(caller.recv, 10) == b""


async def test_what_changes_is_reported_and_what_changes_together_is_reported_together() -> None:
    async with working(most=100) as bench:
        admission = WorkerAdmission(bench.registry, bench.worker)
        await bench.until(Report())
        with bench.connections.enter(), bench.connections.track_idle() as asked:
            await bench.until(Report(new=1, taken=1))
            asked()
            with admission.admit():
                await bench.until(Report(places=1, taken=1))
            await bench.until(Report(taken=1))
            many = [admission.admit() for _ in range(100)]
            for place in many:
                place.__enter__()
            assert len(await bench.until(Report(places=100, taken=1, ready=False))) <= 2
            for place in many:
                place.__exit__(None, None, None)
            await bench.until(Report(taken=1))


async def test_a_connection_that_says_nothing_is_new_for_a_moment_only(mock_clock: trio.testing.MockClock) -> None:
    connections = Connections(10)
    with connections.track_idle(), connections.track_idle() as asked:
        mock_clock.jump(NEW_SECONDS * 0.9)
        with connections.track_idle():
            assert connections.new == 3
            mock_clock.jump(NEW_SECONDS * 0.2)
            assert connections.new == 1
            asked()
            assert connections.new == 1
        assert connections.new == 0


async def test_there_is_room_if_another_worker_has_some_but_not_in_a_drain() -> None:
    async with working(most=1) as bench:
        admission = WorkerAdmission(bench.registry, bench.worker)
        with admission.admit():
            assert admission.refusal() is not None
            bench.supervisor.send(Others(7, room=True))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert bench.worker.others.live == 7
            assert admission.refusal() is None
            with admission.admit() as refusal:
                assert refusal is not None, "but a call that is here has no place"
        await bench.registry.drain()
        refusal = admission.refusal()
        assert refusal is not None
        assert refusal.reason == "draining"


async def test_a_scrape_asks_the_supervisor_and_gets_the_text_of_all() -> None:
    async with working() as bench, trio.open_nursery() as nursery:
        got: list[bytes | None] = []
        await bench.until(Report())

        async def scrape() -> None:
            got.append(await bench.worker.scrape())

        for _ in range(3):
            nursery.start_soon(scrape)
        while not isinstance((await bench.supervisor.receive())[0], ScrapeRequest):
            pass
        bench.supervisor.send(Scrape(5))
        message, file = await bench.supervisor.receive()
        while not isinstance(message, ScrapeResult):
            message, file = await bench.supervisor.receive()
        assert message == ScrapeResult(5)
        assert read_text(file) == TEXT
        bench.supervisor.send_text(b"all of them" * 100_000, 9)
        with trio.fail_after(5):
            while len(got) < 3:
                await trio.sleep(0.001)
    assert got == [b"all of them" * 100_000] * 3


async def test_a_scrape_that_the_supervisor_does_not_answer_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with working() as bench:
        assert await bench.worker.scrape() is None
        assert trio.current_time() == pytest.approx(SCRAPE_SECONDS, abs=0.1)


async def test_a_worker_stops_running_when_the_supervisor_is_gone_also_with_words_unsent() -> None:
    async with working() as bench:
        bench.supervisor.close()
        bench.worker.report_changes()
        with trio.fail_after(5):
            await bench.left.wait()
