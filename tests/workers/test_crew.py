"""The switch's view of the workers: what each is told of the others, and what becomes of what was not sent."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from sts_trio.workers.crew import _OPEN_SECONDS, _WORDS, Crew
from sts_trio.workers.process import how_it_ended
from sts_trio.workers.scrapes import WORKER_SECONDS, Scrapes
from sts_trio.workers.wire import Handed, Message, Others, Page, Report, Tell


def words(crew: Crew, number: int) -> list[Message]:
    """Take what waits in a worker's outbox."""
    outbox, found = crew.workers[number].outbox, []
    while outbox.statistics().current_buffer_used:
        found.append(outbox.receive_nowait()[0])
    return found


async def a_connection() -> trio.SocketStream:
    ours, theirs = trio.socket.socketpair()
    theirs.close()
    return trio.SocketStream(ours)


async def test_each_is_told_what_the_others_have_and_only_when_it_has_changed() -> None:
    crew = Crew([2, 2, 1])
    crew.hear(crew.workers[0], Report(live=1, places=1))
    crew.hear(crew.workers[1], Report(live=2, places=2))
    crew.tell_others()
    assert words(crew, 0) == [Others(2, room=False)]
    assert words(crew, 1) == [Others(1, room=True)]
    assert words(crew, 2) == []  # it is not there yet
    crew.tell_others()
    assert words(crew, 0) == []
    crew.hear(crew.workers[2], Report())
    crew.tell_others()
    assert [words(crew, number) for number in range(3)] == [
        [Others(2, room=True)],
        [],  # as before
        [Others(3, room=True)],
    ]
    crew.leave(crew.workers[2])
    crew.hear(crew.workers[2], Report())
    crew.tell_others()
    assert words(crew, 2) == [Others(3, room=True)], "a new one knows nothing"


async def test_what_was_not_sent_to_a_worker_that_is_gone_goes_to_another_and_else_is_closed() -> None:
    crew = Crew([0, 0])
    crew.hear(crew.workers[0], Report())
    connection = await a_connection()
    crew.hand(connection)
    crew.hear(crew.workers[1], Report())
    crew.leave(crew.workers[0])
    assert words(crew, 1) == [Handed()]
    crew.hand(connection)
    crew.leave(crew.workers[1])
    assert connection.socket.fileno() == -1


async def test_an_outbox_that_nobody_empties_takes_no_more_words_and_still_every_connection() -> None:
    crew = Crew([0])
    crew.hear(crew.workers[0], Report())
    said = 0
    while crew.workers[0].say(Tell(1)):
        said += 1
        assert said < 1000
    assert said >= _WORDS
    words(crew, 0)
    for _ in range(_WORDS):
        assert crew.workers[0].say(Tell(1))
    connection = await a_connection()
    while crew.workers[0].load.can_take():
        crew.hand(connection)
    await connection.aclose()


async def test_the_last_place_waits_for_what_silent_connections_want_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crew = Crew([1, 1])
    crew.workers[0].load.hand(0.0)
    crew.hear(crew.workers[0], Report(silent=1, taken=1))
    crew.hear(crew.workers[1], Report(places=1))
    await crew.until_one_can_take()
    assert trio.current_time() == pytest.approx(_OPEN_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crew.until_one_can_take)
        await trio.sleep(_OPEN_SECONDS / 3)
        crew.hear(crew.workers[0], Report(taken=1))  # it was no call
    assert trio.current_time() == pytest.approx(_OPEN_SECONDS * 4 / 3)


async def test_a_mute_worker_and_one_that_tells_nonsense_are_left_out_of_a_scrape(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crew = Crew([0, 0, 0])
    scrapes = Scrapes(crew)
    for worker in crew:
        crew.hear(worker, Report())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrapes.run)
        for _ in range(3):  # at once: one round answers all
            scrapes.ask(crew.workers[0])
        scrapes.ask(crew.workers[1])
        await trio.testing.wait_all_tasks_blocked()
        assert words(crew, 0) == words(crew, 1) == [Tell(1)]
        scrapes.hear(crew.workers[0], 1, b"# TYPE sts_tasks gauge\nsts_tasks 5\n")
        scrapes.hear(crew.workers[1], 1, b"} nonsense {")
        await trio.sleep(WORKER_SECONDS + 0.1)
        [page] = words(crew, 0)
        assert isinstance(page, Page)
        assert b"sts_tasks 5.0\n" in page.data
        assert b"sts_workers 3.0\n" in page.data
        assert b"sts_workers_unheard 2.0\n" in page.data
        assert words(crew, 1) == [page]
        scrapes.hear(crew.workers[2], 1, b"# TYPE sts_tasks gauge\nsts_tasks 9\n")  # too late
        scrapes.ask(crew.workers[0])
        await trio.testing.wait_all_tasks_blocked()
        for worker in crew:
            scrapes.hear(worker, 2, b"# TYPE sts_tasks gauge\nsts_tasks 1\n")
        await trio.testing.wait_all_tasks_blocked()
        told, page = words(crew, 0)
        assert told == Tell(2)
        assert isinstance(page, Page)
        assert b"sts_tasks 3.0\n" in page.data
        assert b"sts_workers_unheard 0.0\n" in page.data
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "said"),
    [(0, "exited with 0"), (2, "exited with 2"), (-signal.SIGKILL, "was killed by SIGKILL"), (-250, "by signal 250")],
)
def test_how_a_process_ended_is_said_in_words(status: int, said: str) -> None:
    assert how_it_ended(status).endswith(said)
