"""The supervisor's view of the workers: what each is told of the others, and what becomes of what was not sent."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sts_trio.web.connections import NEW_SECONDS
from sts_trio.workers.channel import (
    Channel,
    Connection,
    Message,
    Others,
    Report,
    Scrape,
    ScrapeResult,
    open_pair,
    read_text,
)
from sts_trio.workers.metrics import WORKER_SECONDS, MetricsCollector
from sts_trio.workers.pool import MISSED_SECONDS, WorkerPool
from sts_trio.workers.supervisor import START_SECONDS, describe_exit, warn_of_slow_start, watch_beats

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = cast("trio.Process", None)


@contextmanager
def pooled(*shares: int) -> Iterator[tuple[WorkerPool, list[Channel]]]:
    """A pool whose workers have no processes, and their ends of the channels."""
    pool, ends = WorkerPool(shares), list[Channel]()
    with ExitStack() as stack:
        for slot in pool:
            ours, theirs = map(stack.enter_context, open_pair())
            slot.attach(NOBODY, Channel(ours), theirs)
            ends.append(Channel(theirs))
        yield pool, ends


def words(end: Channel) -> list[Message]:
    """Take what waits for a worker."""
    found: list[Message] = []
    with suppress(BlockingIOError):
        while True:
            message, descriptor = end._receive()
            found.append(message)
            if descriptor is not None:
                os.close(descriptor)
    return found


async def test_each_is_told_what_the_others_have_and_only_when_it_has_changed() -> None:
    with pooled(2, 2, 1) as (pool, ends):
        pool.on_report(pool.slots[0], Report(live=1, places=1))
        pool.on_report(pool.slots[1], Report(live=2, places=2))
        pool.tell_others()
        # The third is not there yet.
        assert [words(end) for end in ends] == [[Others(2, room=False)], [Others(1, room=True)], []]
        pool.tell_others()
        assert words(ends[0]) == []
        pool.on_report(pool.slots[2], Report())
        pool.tell_others()
        assert [words(end) for end in ends] == [[Others(2, room=True)], [], [Others(3, room=True)]]
        channel = pool.slots[2].channel
        assert channel is not None
        pool.detach(pool.slots[2])
        pool.slots[2].attach(NOBODY, channel)
        pool.on_report(pool.slots[2], Report())
        pool.tell_others()
        assert words(ends[2]) == [Others(3, room=True)], "a new one knows nothing"


async def test_a_connection_goes_to_the_next_best_if_the_best_is_gone_and_that_is_not_known_yet() -> None:
    with pooled(5, 3) as (pool, ends):
        for slot in pool:
            pool.on_report(slot, Report())
        assert pool.pass_connection(0)
        assert [words(end) for end in ends] == [[Connection()], []]
        ends[0].close()
        assert pool.pass_connection(0)
        assert words(ends[1]) == [Connection()]
        ends[1].close()
        assert not pool.pass_connection(0)


async def test_a_channel_that_nobody_reads_holds_words_and_still_every_connection_that_may_be_on_its_way() -> None:
    with pooled(0) as (pool, _):
        [slot] = pool
        pool.on_report(slot, Report())
        for _ in range(64):
            assert slot.send(Scrape(2**40))
        while slot.load.can_accept():
            assert pool.pass_connection(0)
        sent = 0
        while slot.send(Scrape(1)):
            sent += 1
            assert sent < 10_000
        assert not pool.pass_connection(0)


async def test_what_a_stopped_worker_has_not_received_goes_to_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with capture_logs() as lines, pooled(0, 0) as (pool, (stopped, other)), ExitStack() as stack:
        first, second = pool
        connections = [stack.enter_context(closing(part)) for _ in range(3) for part in open_pair()]
        pool.on_report(first, Report())
        pool.on_report(second, Report(places=100))
        for connection in connections[:4:2]:
            assert pool.pass_connection(connection.fileno())
        pool.tell_others()
        assert isinstance(stopped._receive()[0], Connection)  # the first it has; then it is stopped
        await trio.sleep(MISSED_SECONDS + 0.01)
        watch_beats(pool)  # the other has not told of itself either
        assert words(other) == [Others(0, room=True)]
        pool.on_report(second, Report(places=100))
        watch_beats(pool)
        assert words(stopped) == []
        assert words(other) == [Connection()]
        assert (first.load.in_flight, second.load.in_flight) == (1, 1)
        assert pool.pass_connection(connections[4].fileno())
        assert words(other) == [Connection()]
        watch_beats(pool)
        pool.on_report(first, Report(taken=1))
        watch_beats(pool)
        pool.tell_others()
        assert words(stopped) == [Others(0, room=True)]
    told = [(line["event"], line.get("handed_on")) for line in lines if line["worker"] == 1]
    mute = "a worker does not answer: new calls go to others"
    assert told == [(mute, 0), (mute, 1), ("a worker answers again", None)]


async def test_the_last_place_waits_for_what_new_connections_want_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pool = WorkerPool([1, 1])
    pool.slots[0].load.on_passed(0.0)
    pool.on_report(pool.slots[0], Report(new=1, taken=1))
    pool.on_report(pool.slots[1], Report(places=1))
    await pool.until_one_can_accept()
    assert trio.current_time() == pytest.approx(NEW_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.until_one_can_accept)
        await trio.sleep(NEW_SECONDS / 3)
        pool.on_report(pool.slots[0], Report(taken=1))  # it was no call
    assert trio.current_time() == pytest.approx(NEW_SECONDS * 4 / 3)


async def test_a_flood_of_connections_that_say_nothing_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    pool = WorkerPool([1, 1])
    for slot in pool:
        pool.on_report(slot, Report(new=1))
    for _ in range(1000):
        await pool.until_one_can_accept()
    assert trio.current_time() < 5 * NEW_SECONDS
    await trio.sleep(5)
    for slot in pool:
        pool.on_report(slot, Report(new=1))
    began = trio.current_time()
    await pool.until_one_can_accept()
    assert trio.current_time() - began == pytest.approx(NEW_SECONDS), "later there is time to be exact again"


async def test_a_mute_worker_and_one_that_tells_nonsense_are_left_out_of_a_scrape(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(end: Channel) -> str:
        with trio.fail_after(1):
            message, descriptor = await end.receive()
        assert isinstance(message, ScrapeResult)
        return (read_text(descriptor) or b"").decode()

    with pooled(0, 0, 0) as (pool, ends):
        collector = MetricsCollector(pool)
        for slot in pool:
            pool.on_report(slot, Report())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collector.run)
            for _ in range(3):  # at once: one round answers all
                collector.on_request(pool.slots[0])
            collector.on_request(pool.slots[1])
            await trio.testing.wait_all_tasks_blocked()
            assert [words(end) for end in ends] == [[Scrape(1)]] * 3
            collector.on_result(pool.slots[0], 1, b"# TYPE sts_tasks gauge\nsts_tasks 5\n")
            collector.on_result(pool.slots[1], 1, b"} nonsense {")
            await trio.sleep(WORKER_SECONDS + 0.1)
            text = await answer(ends[0])
            assert "sts_tasks 5.0\n" in text
            assert "sts_workers 3.0\n" in text
            assert "sts_workers_unheard 2.0\n" in text
            assert await answer(ends[1]) == text
            collector.on_result(pool.slots[2], 1, b"# TYPE sts_tasks gauge\nsts_tasks 9\n")  # too late
            collector.on_request(pool.slots[0])
            await trio.testing.wait_all_tasks_blocked()
            for slot, end in zip(pool, ends, strict=True):
                assert words(end) == [Scrape(2)]
                collector.on_result(slot, 2, b"# TYPE sts_tasks gauge\nsts_tasks 1\n")
            await trio.testing.wait_all_tasks_blocked()
            text = await answer(ends[0])
            assert "sts_tasks 3.0\n" in text
            assert "sts_workers_unheard 0.0\n" in text
            nursery.cancel_scope.cancel()


async def test_a_start_that_takes_long_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    pool = WorkerPool([0, 0])
    with capture_logs() as told:
        async with trio.open_nursery() as nursery:
            for slot in pool:
                nursery.start_soon(warn_of_slow_start, slot, pool)
            await trio.sleep(1)
            pool.on_report(pool.slots[0], Report())
    assert trio.current_time() == pytest.approx(START_SECONDS)
    [line] = told
    assert line["worker"] == 2
    assert "not ready yet" in line["event"]


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, "exited with 0"), (2, "exited with 2"), (-signal.SIGKILL, "was killed by SIGKILL"), (-250, "by signal 250")],
)
def test_how_a_process_ended_is_said_in_words(status: int, said: str) -> None:
    assert describe_exit(status).endswith(said)
