"""A call over plain HTTP on the door: `take_stream` and `AsgiStream`, in memory, under the real server classes."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.core.link import SocketClosed
from sts_trio.web.call_socket import LINGER_SECONDS
from sts_trio.web.call_stream import HEADERS_SECONDS
from sts_trio.web.guards import SEND_SECONDS
from tests.fakes.http_caller import HttpCaller
from tests.fakes.raw_client import hear, hear_head
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.core.link import Arrival, CallerSocket, CallerStream
    from tests.conftest import Logged

    Answer = Callable[[CallerStream, Arrival], Awaitable[None]]

Clock = trio.testing.MockClock


async def no_socket(socket: CallerSocket, arrival: Arrival) -> None:
    raise AssertionError("no WebSocket was expected")


class Ends:
    """An answer that sends everything back, and keeps what it received, and how each call ended."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ends: list[SocketClosed] = []

    async def __call__(self, stream: CallerStream, arrival: Arrival) -> None:
        while not isinstance(chunk := await stream.receive(), SocketClosed):
            self.chunks.append(chunk)
            await stream.send(chunk)
        self.ends.append(chunk)


async def listen(stream: CallerStream, arrival: Arrival) -> None:
    """Only listen."""
    while not isinstance(await stream.receive(), SocketClosed):
        pass


# The head of the response.


async def test_the_head_comes_soon_although_nobody_speaks(autojump_clock: Clock) -> None:
    async with open_door(no_socket, stream=listen) as wire:
        caller = await wire.stream()
        assert await caller.hear_head() == 200
    assert caller.answered_at - caller.began_at == pytest.approx(HEADERS_SECONDS)
    assert caller.headers["content-type"] == "application/octet-stream"
    assert caller.headers["cache-control"] == "no-cache, no-transform"
    assert caller.headers["connection"] == "close"
    assert caller.headers["transfer-encoding"] == "chunked"


async def test_the_head_comes_at_once_with_audio(autojump_clock: Clock) -> None:
    async with open_door(no_socket, stream=Ends()) as wire:
        caller = await wire.stream()
        await caller.say(b"abc")
        assert await caller.hear(3) == b"abc"
        assert caller.answered_at == caller.began_at
        await trio.sleep(1)  # and only once
        await caller.say(b"d")
        assert await caller.hear(1) == b"d"


@pytest.mark.parametrize(("status", "retry"), [(500, None), (503, "5")])
async def test_what_ends_a_call_before_it_spoke_is_told(status: int, retry: str | None, autojump_clock: Clock) -> None:
    async def fail(stream: CallerStream, arrival: Arrival) -> None:
        await trio.sleep(HEADERS_SECONDS / 2)
        await stream.close(status, "the provider said no")

    async with open_door(no_socket, stream=fail) as wire:
        caller = await (await wire.stream()).hear_out()
        await caller.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(caller.socket)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert (caller.status, caller.ended) == (status, "end")
    assert json.loads(caller.body) == {"message": "the provider said no"} | ({"reason": "draining"} if retry else {})
    assert caller.headers["content-type"] == "application/json"
    assert caller.headers["connection"] == "close"
    assert caller.headers.get("retry-after") == retry


async def test_what_ends_a_call_later_is_only_an_end(autojump_clock: Clock) -> None:
    async def fail(stream: CallerStream, arrival: Arrival) -> None:
        await stream.send(b"one")
        await stream.close(500, "the provider is gone")
        await stream.close(200)
        await stream.send(b"two")

    async with open_door(no_socket, stream=fail) as wire:
        caller = await (await wire.stream()).hear_out()
    assert (caller.status, bytes(caller.body), caller.ended) == (200, b"one", "end")


async def test_a_call_that_ends_well_at_once_is_an_empty_200(autojump_clock: Clock) -> None:
    async def nothing(stream: CallerStream, arrival: Arrival) -> None:
        await stream.close()

    async with open_door(no_socket, stream=nothing) as wire:
        caller = await (await wire.stream()).hear_out()
    assert (caller.status, bytes(caller.body), caller.ended) == (200, b"", "end")


async def test_a_refused_call_gets_503(autojump_clock: Clock) -> None:
    async def never(stream: CallerStream, arrival: Arrival) -> None:
        raise AssertionError("this call was refused")

    async with open_door(no_socket, stream=never, refuse=lambda: "all lines are busy") as wire:
        caller = await wire.stream("/", ("Expect", "100-continue"))
        await caller.hear_out()
        await caller.socket.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert (caller.status, caller.headers["retry-after"], caller.headers["connection"]) == (503, "5", "close")
    assert json.loads(caller.body) == {"message": "all lines are busy", "reason": "full"}


# Audio, both ways at once.


async def test_bytes_pass_as_they_are_while_the_request_is_open(autojump_clock: Clock) -> None:
    ends = Ends()
    async with open_door(no_socket, stream=ends) as wire:
        caller = await wire.stream()
        for size in (1, 2, 319, 320, 321, 70_000):
            await caller.say(bytes(range(256)) * (size // 256) + bytes(size % 256))
            assert len(await caller.hear(size)) == size
        await caller.hang_up()
        await caller.hear_out()
    assert bytes(caller.body) == b"".join(ends.chunks)
    assert len(caller.body) == 70_963
    assert (caller.ended, ends.ends) == ("end", [SocketClosed(1000)])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_may_have_a_length(version: str, autojump_clock: Clock) -> None:
    """An HTTP/1.0 response has no chunks: its end is the connection's."""
    async with open_door(no_socket, stream=Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(f"POST / HTTP/{version}\r\nHost: sts\r\nContent-Length: 960\r\n\r\n".encode())
        for _ in range(3):
            await stream.send_all(b"x" * 320)
            await trio.sleep(0.02)
        heard = await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert heard.status == 200
    assert (heard.body == b"x" * 960) == (version == "1.0")
    assert ("chunked" in heard.head.lower()) == (version == "1.1")
    assert heard.body.count(b"x") == 960


async def test_an_http_1_0_response_ends_although_the_caller_goes_on(autojump_clock: Clock) -> None:
    async def session_config(stream: CallerStream, arrival: Arrival) -> None:
        await stream.send(b"bye")

    async with open_door(no_socket, stream=session_config) as wire:
        stream = await wire.connect()
        await stream.send_all(b"POST / HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 320)
        assert (await hear(stream)).body == b"bye"
        assert trio.current_time() == 0


async def test_who_waits_for_100_gets_it_before_he_sends(autojump_clock: Clock) -> None:
    """As curl does: without it, it sends only after a second."""
    async with open_door(no_socket, stream=Ends()) as wire:
        stream = await wire.connect()
        head = "POST / HTTP/1.1\r\nHost: sts\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head.encode())
        assert (await hear_head(stream)).startswith("HTTP/1.1 100 ")
        assert trio.current_time() == 0
        await stream.send_all(b"3\r\nabc\r\n0\r\n\r\n")
        assert (await hear(stream)).body == b"3\r\nabc\r\n0\r\n\r\n"


async def test_a_call_that_does_not_read_holds_its_caller_back(autojump_clock: Clock) -> None:
    """Chunks wait in the bounded inbox, then in the stream itself."""
    more = trio.Event()

    async def slow(stream: CallerStream, arrival: Arrival) -> None:
        await more.wait()
        await listen(stream, arrival)

    async with open_door(no_socket, stream=slow) as wire:
        caller = HttpCaller(await wire.connect(trio.testing.lockstep_stream_pair))
        await caller.begin("/")
        await caller.hear_head()
        said = 0
        with trio.move_on_after(5) as held_back:
            while said < 100:
                await caller.say(b"x" * 320)
                said += 1
        assert held_back.cancelled_caught
        assert 5 < said < 15
        more.set()


async def test_others_get_their_turn_within_a_flood_of_crumbs(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.web.http1.UNITS_SAVED", 100_000)
    """Eight thousand chunks of a byte, in one read, each a message."""
    over = trio.Event()

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        await listen(stream, arrival)
        over.set()

    async with open_door(no_socket, stream=answer) as wire:
        caller = await wire.stream()
        await caller.socket.send_all(b"1\r\nx\r\n" * 8000 + b"0\r\n\r\n")
        turns = 0
        while not over.is_set():
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > 4000


# The caller's end.


async def hangs_up(caller: HttpCaller) -> None:
    await caller.hang_up()


async def hangs_up_and_says_so_twice(caller: HttpCaller) -> None:
    await caller.hang_up()
    await caller.socket.send_eof()


async def stops_half_way(caller: HttpCaller) -> None:
    await caller.socket.send_eof()


async def vanishes(caller: HttpCaller) -> None:
    await trio.aclose_forcefully(caller.socket)


async def breaks_the_framing(caller: HttpCaller) -> None:
    await caller.socket.send_all(b"no size at all\r\n")


@pytest.mark.parametrize("spoken", [False, True])
@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (hangs_up, 1000),
        (hangs_up_and_says_so_twice, 1000),
        (stops_half_way, 1006),
        (vanishes, 1006),
        (breaks_the_framing, 1006),
    ],
)
async def test_every_end_of_a_body_is_an_end_of_the_call(
    leave: Callable[[HttpCaller], Awaitable[None]],
    code: int,
    spoken: bool,
    autojump_clock: Clock,
    logged: Logged,
) -> None:
    """At once, on both sides; and what the call would still say goes nowhere."""
    ends: list[SocketClosed] = []

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        if spoken:
            await stream.send(b"hello")
        for _ in range(2):
            end = await stream.receive()
            assert isinstance(end, SocketClosed)
            ends.append(end)
        await stream.send(b"stale")

    async with open_door(no_socket, stream=answer) as wire:
        caller = await wire.stream()
        await trio.testing.wait_all_tasks_blocked()
        await leave(caller)
        if leave is not vanishes:
            await caller.hear_out()
            assert bytes(caller.body) == (b"hello" if spoken else b"")
        if code == 1000:
            assert (caller.status, caller.ended) == (200, "end")
        await trio.testing.wait_all_tasks_blocked()
        if leave is breaks_the_framing:
            await trio.sleep(LINGER_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert trio.current_time() <= LINGER_SECONDS
    assert ends == [SocketClosed(code)] * 2
    assert not logged.errors


async def test_a_silent_caller_is_not_cut_off(autojump_clock: Clock) -> None:
    """He is on hold for an hour; nothing goes either way."""
    async with open_door(no_socket, stream=Ends(), ping_seconds=4, dead_seconds=10) as wire:
        caller = await wire.stream()
        await caller.hear_head()
        await trio.sleep(3600)
        await caller.say(b"still here")
        assert await caller.hear(10) == b"still here"


async def test_half_a_request_is_not_waited_for(autojump_clock: Clock) -> None:
    async with open_door(no_socket, stream=Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: sts\r\nTransfer-Enc")
        assert (await hear(stream)).status in (0, 400, 408)
        assert trio.current_time() == pytest.approx(5)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_a_caller_that_stops_reading_is_cut_off(autojump_clock: Clock) -> None:
    ends: list[bytes | SocketClosed] = []

    async def talk(stream: CallerStream, arrival: Arrival) -> None:
        await stream.send(b"x" * 320)
        await stream.send(b"x" * 320)
        ends.append(await stream.receive())

    async with open_door(no_socket, stream=talk) as wire:
        caller = HttpCaller(await wire.connect(trio.testing.lockstep_stream_pair))
        await caller.begin("/")
        await caller.hear_head()
        await trio.sleep(SEND_SECONDS + 0.1)
        assert ends == [SocketClosed(1006)]
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_a_send_loop_to_nobody_lets_others_run(autojump_clock: Clock) -> None:
    turns = 0

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        nonlocal turns
        await listen(stream, arrival)
        other = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_event, other)
            while not other.is_set() and turns < 1000:
                turns += 1
                await stream.send(b"x")

    async with open_door(no_socket, stream=answer) as wire:
        await trio.aclose_forcefully((await wire.stream()).socket)
        await trio.testing.wait_all_tasks_blocked()
    assert 0 < turns < 10


async def set_event(event: trio.Event) -> None:
    event.set()


# Our end.


async def test_our_end_reaches_a_caller_who_goes_on_sending(autojump_clock: Clock) -> None:
    """He is read until he has noticed, and for a second at most; nothing of it is kept."""
    enough = trio.Event()

    async def deaf(stream: CallerStream, arrival: Arrival) -> None:
        await stream.send(b"good-bye")
        await enough.wait()

    async with open_door(no_socket, stream=deaf) as wire:
        caller = await wire.stream()
        for _ in range(100):  # more than the inbox holds
            await caller.say(b"x" * 320)
        await trio.testing.wait_all_tasks_blocked()
        enough.set()
        await caller.hear_out()
        assert (bytes(caller.body), caller.ended, trio.current_time()) == (b"good-bye", "end", 0)
        for _ in range(25):
            await caller.say(b"x" * 320)
            await trio.sleep(0.02)
        assert wire.live == 1
        await caller.hang_up()
        await caller.socket.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_a_caller_who_never_notices_our_end_is_cut_off(autojump_clock: Clock) -> None:
    async def session_config(stream: CallerStream, arrival: Arrival) -> None:
        await stream.send(b"good-bye")

    async with open_door(no_socket, stream=session_config) as wire:
        caller = await wire.stream()
        with suppress(trio.BrokenResourceError):
            while trio.current_time() < 10:
                await caller.socket.send_all(b"140\r\n" + b"x" * 320 + b"\r\n")
                await trio.sleep(0.02)
        assert trio.current_time() == pytest.approx(LINGER_SECONDS, abs=0.05)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert (await caller.hear_out()).ended == "end"


@pytest.mark.parametrize("spoken", [False, True])
@pytest.mark.parametrize("beside_a_cancelled", [False, True])
async def test_a_fault_ends_its_own_call_only(
    beside_a_cancelled: bool, spoken: bool, autojump_clock: Clock, logged: Logged
) -> None:
    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        if arrival.query:
            await listen_and_repeat(stream)
            return
        if spoken:
            await stream.send(b"hello")
        if not beside_a_cancelled:
            raise KeyError("bug")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("bug")

    async with open_door(no_socket, stream=answer) as wire:
        good = await wire.stream("/?good=1")
        bad = await (await wire.stream()).hear_out()
        await good.say(b"still here")
        assert await good.hear(10) == b"still here"
    if spoken:
        assert (bad.status, bytes(bad.body), bad.ended) == (200, b"hello", "end")
    else:
        assert (bad.status, json.loads(bad.body)) == (500, {"message": "internal error"})
    assert logged.errors == ["a call failed"]
    assert "bug" in logged.text


async def listen_and_repeat(stream: CallerStream) -> None:
    while not isinstance(chunk := await stream.receive(), SocketClosed):
        await stream.send(chunk)


@pytest.mark.parametrize("spoken", [False, True])
async def test_a_stopped_server_ends_the_response(spoken: bool, autojump_clock: Clock) -> None:
    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        if spoken:
            await stream.send(b"hello")
        await trio.sleep_forever()

    async with open_door(no_socket, stream=answer) as wire:
        caller = await wire.stream()
        await trio.testing.wait_all_tasks_blocked()
        wire.servers.cancel_scope.cancel()
        await caller.hear_out()
    if spoken:
        assert (caller.status, bytes(caller.body), caller.ended) == (200, b"hello", "end")
    else:
        assert (caller.status, json.loads(caller.body)) == (
            503,
            {"message": "the server is stopping", "reason": "draining"},
        )


async def test_a_cancelled_send_leaves_the_response_whole(autojump_clock: Clock) -> None:
    """Whatever a send waits for, its turn or the peer: the head is never lost, nor half a chunk sent."""

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        for number in range(5):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send, b"%d" % number * 320)
                    nursery.start_soon(stream.send, b"-" * 320)
                    for _ in range(number):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        await stream.send(b"end")

    async with open_door(no_socket, stream=answer) as wire:
        caller = await (await wire.stream()).hear_out()
    assert (caller.status, caller.ended) == (200, "end")
    assert bytes(caller.body[-3:]) == b"end"
    assert len(caller.body) % 320 == 3
    assert len(caller.body) > 320


async def test_two_hundred_calls_leave_nothing(autojump_clock: Clock) -> None:
    async with open_door(no_socket, stream=Ends()) as wire:
        tasks = trio.lowlevel.current_statistics().tasks_living

        async def one(number: int) -> None:
            caller = await wire.stream()
            await caller.say(b"x")
            await trio.sleep(1)
            if number % 2:
                await caller.hang_up()
            else:
                await trio.aclose_forcefully(caller.socket)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks
