"""The switch's view of the workers: what each is told of the others, and what becomes of what was not sent."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sts_trio.workers.channel import Channel, open_pair, read_text
from sts_trio.workers.collect import WORKER_SECONDS, Scrapes
from sts_trio.workers.pool import _OPEN_SECONDS, Crew
from sts_trio.workers.process import START_SECONDS, how_it_ended, tell_of_slow_start
from sts_trio.workers.wire import Handed, Message, Others, Report, Tell, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = cast("trio.Process", None)


@contextmanager
def crewed(*shares: int) -> Iterator[tuple[Crew, list[Channel]]]:
    """A crew whose workers have no processes, and their ends of the channels."""
    crew, seats = Crew(shares), list[Channel]()
    with ExitStack() as stack:
        for worker in crew:
            ours, theirs = map(stack.enter_context, open_pair())
            worker.begin(NOBODY, Channel(ours))
            seats.append(Channel(theirs))
        yield crew, seats


def words(seat: Channel) -> list[Message]:
    """Take what waits for a worker."""
    found: list[Message] = []
    with suppress(BlockingIOError):
        while True:
            message, descriptor = seat._receive()
            found.append(message)
            if descriptor is not None:
                os.close(descriptor)
    return found


async def test_each_is_told_what_the_others_have_and_only_when_it_has_changed() -> None:
    with crewed(2, 2, 1) as (crew, seats):
        crew.hear(crew.workers[0], Report(live=1, places=1))
        crew.hear(crew.workers[1], Report(live=2, places=2))
        crew.tell_others()
        # The third is not there yet.
        assert [words(seat) for seat in seats] == [[Others(2, room=False)], [Others(1, room=True)], []]
        crew.tell_others()
        assert words(seats[0]) == []
        crew.hear(crew.workers[2], Report())
        crew.tell_others()
        assert [words(seat) for seat in seats] == [[Others(2, room=True)], [], [Others(3, room=True)]]
        channel = crew.workers[2].channel
        assert channel is not None
        crew.leave(crew.workers[2])
        crew.workers[2].begin(NOBODY, channel)
        crew.hear(crew.workers[2], Report())
        crew.tell_others()
        assert words(seats[2]) == [Others(3, room=True)], "a new one knows nothing"


async def test_a_connection_goes_to_the_next_best_if_the_best_is_gone_and_that_is_not_known_yet() -> None:
    with crewed(5, 3) as (crew, seats):
        for worker in crew:
            crew.hear(worker, Report())
        assert crew.hand(0)
        assert [words(seat) for seat in seats] == [[Handed()], []]
        seats[0].close()
        assert crew.hand(0)
        assert words(seats[1]) == [Handed()]
        seats[1].close()
        assert not crew.hand(0)


async def test_a_channel_that_nobody_reads_holds_words_and_still_every_connection_that_may_be_on_its_way() -> None:
    with crewed(0) as (crew, _):
        [worker] = crew
        crew.hear(worker, Report())
        for _ in range(64):
            assert worker.send(Tell(2**40))
        while worker.load.can_take():
            assert crew.hand(0)
        sent = 0
        while worker.send(Tell(1)):
            sent += 1
            assert sent < 10_000
        assert not crew.hand(0)


async def test_the_last_place_waits_for_what_new_connections_want_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crew = Crew([1, 1])
    crew.workers[0].load.hand(0.0)
    crew.hear(crew.workers[0], Report(new=1, taken=1))
    crew.hear(crew.workers[1], Report(places=1))
    await crew.until_one_can_take()
    assert trio.current_time() == pytest.approx(_OPEN_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.until_one_can_take)
        await trio.sleep(_OPEN_SECONDS / 3)
        crew.hear(crew.workers[0], Report(taken=1))  # it was no call
    assert trio.current_time() == pytest.approx(_OPEN_SECONDS * 4 / 3)


async def test_a_flood_of_connections_that_say_nothing_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    crew = Crew([1, 1])
    for worker in crew:
        crew.hear(worker, Report(new=1))
    for _ in range(1000):
        await crew.until_one_can_take()
    assert trio.current_time() < 5 * _OPEN_SECONDS
    await trio.sleep(5)
    began = trio.current_time()
    await crew.until_one_can_take()
    assert trio.current_time() - began == pytest.approx(_OPEN_SECONDS), "later there is time to be exact again"


async def test_a_mute_worker_and_one_that_tells_nonsense_are_left_out_of_a_scrape(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(seat: Channel) -> str:
        with trio.fail_after(1):
            message, descriptor = await seat.receive()
        assert isinstance(message, Text)
        return (read_text(descriptor) or b"").decode()

    with crewed(0, 0, 0) as (crew, seats):
        scrapes = Scrapes(crew)
        for worker in crew:
            crew.hear(worker, Report())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrapes.run)
            for _ in range(3):  # at once: one round answers all
                scrapes.ask(crew.workers[0])
            scrapes.ask(crew.workers[1])
            await trio.testing.wait_all_tasks_blocked()
            assert [words(seat) for seat in seats] == [[Tell(1)]] * 3
            scrapes.hear(crew.workers[0], 1, b"# TYPE sts_tasks gauge\nsts_tasks 5\n")
            scrapes.hear(crew.workers[1], 1, b"} nonsense {")
            await trio.sleep(WORKER_SECONDS + 0.1)
            text = await answer(seats[0])
            assert "sts_tasks 5.0\n" in text
            assert "sts_workers 3.0\n" in text
            assert "sts_workers_unheard 2.0\n" in text
            assert await answer(seats[1]) == text
            scrapes.hear(crew.workers[2], 1, b"# TYPE sts_tasks gauge\nsts_tasks 9\n")  # too late
            scrapes.ask(crew.workers[0])
            await trio.testing.wait_all_tasks_blocked()
            for worker, seat in zip(crew, seats, strict=True):
                assert words(seat) == [Tell(2)]
                scrapes.hear(worker, 2, b"# TYPE sts_tasks gauge\nsts_tasks 1\n")
            await trio.testing.wait_all_tasks_blocked()
            text = await answer(seats[0])
            assert "sts_tasks 3.0\n" in text
            assert "sts_workers_unheard 0.0\n" in text
            nursery.cancel_scope.cancel()


async def test_a_start_that_takes_long_is_told_of(autojump_clock: trio.testing.MockClock) -> None:
    crew = Crew([0, 0])
    with capture_logs() as told:
        async with trio.open_nursery() as nursery:
            for worker in crew:
                nursery.start_soon(tell_of_slow_start, worker, crew)
            await trio.sleep(1)
            crew.hear(crew.workers[0], Report())
    assert trio.current_time() == pytest.approx(START_SECONDS)
    [line] = told
    assert line["worker"] == 2
    assert "not ready yet" in line["event"]


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, "exited with 0"), (2, "exited with 2"), (-signal.SIGKILL, "was killed by SIGKILL"), (-250, "by signal 250")],
)
def test_how_a_process_ended_is_said_in_words(status: int, said: str) -> None:
    assert how_it_ended(status).endswith(said)
