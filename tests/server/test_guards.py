"""One test per fact of hypercorn that `web.guards` and `web.call_socket` cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypercorn.protocol.h11
import pytest
import trio
import trio.testing
import wsproto.events
from wsproto.connection import Connection

from sts_trio.core.link import CallerSocket, SocketClosed
from sts_trio.web import guards
from sts_trio.web.call_socket import LINGER_SECONDS, GuardedWSStream
from sts_trio.web.guards import SEND_SECONDS, Inbox, install_guards
from sts_trio.web.server import MAX_HEADER_BYTES
from tests.fakes.raw_client import CLOSE, PING, TEXT, frame, hear, hear_head, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveEvent

    from sts_trio.core.link import Arrival
    from tests.conftest import Logged

Clock = trio.testing.MockClock


class Ends:
    """An answer that keeps what it received, and when and how each call ended."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.ends: list[SocketClosed] = []
        self.times: list[float] = []

    async def __call__(self, socket: CallerSocket, arrival: Arrival) -> None:
        while not isinstance(message := await socket.receive(), SocketClosed):
            self.messages.append(message)
        self.ends.append(message)
        self.times.append(trio.current_time())


def test_install_guards_can_be_repeated() -> None:
    for _ in range(2):
        install_guards()
        assert vars(hypercorn.protocol.h11)["WSStream"] is GuardedWSStream


def test_install_guards_refuses_another_hypercorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercorn.protocol.h11, "WSStream", object())
    with pytest.raises((RuntimeError, TypeError)):
        install_guards()


# H1


async def test_bytes_before_our_101_wait_for_it(autojump_clock: Clock) -> None:
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(TEXT, b"early") + frame(CLOSE, b"\x03\xe8"))
        heard = await hear(stream)
    assert heard.status == 101
    assert heard.close == (1000, "")
    assert ends.messages == ["early"]
    assert ends.ends == [SocketClosed(1000, "")]


async def test_bytes_after_a_refused_handshake_are_dropped(autojump_clock: Clock) -> None:
    async with open_door(Ends(), refuse=lambda: "full") as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + b"x" * 1000)
        heard = await hear(stream)
        assert heard.status == 503
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_any_exception_in_a_connection_is_contained(
    autojump_clock: Clock, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that nobody thought of; one line, without what the peer sent."""

    async def explode(*args: object) -> None:
        raise ValueError("secret 15551234567")

    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        monkeypatch.setattr(GuardedWSStream, "_handle_events", explode)
        await stream.send_all(upgrade() + frame(TEXT, b"x"))
        assert (await hear(stream)).status == 101
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    ours = [line for line in logged.lines if line["logger"] == guards.__name__]
    assert [(line["level"], line["event"]) for line in ours[:1]] == [("warning", "connection dropped")]
    assert ours[0]["causes"] == ["ValueError"]
    assert "15551234567" not in logged.text


async def test_an_invalid_handshake_closes_the_connection(autojump_clock: Clock) -> None:
    """Hypercorn says `connection: close` and leaves it open."""
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade().replace(b"Version: 13", b"Version: 12"))
        assert (await hear(stream)).status == 400
        assert trio.current_time() < 1


# H2


async def test_a_send_ends_after_its_limit(autojump_clock: Clock) -> None:
    """Nobody reads; the call is cancelled at once, and is out when the limit of the send has passed."""
    out = trio.Event()
    gone: list[SocketClosed] = []

    async def talk(socket: CallerSocket, arrival: Arrival) -> None:
        start = trio.current_time()
        with trio.move_on_after(0.5):
            await socket.send("x")
        assert trio.current_time() - start == pytest.approx(SEND_SECONDS)
        message = await socket.receive()
        assert isinstance(message, SocketClosed)
        gone.append(message)
        out.set()

    async with open_door(talk) as wire:
        stream = await wire.connect(trio.testing.lockstep_stream_pair)
        await stream.send_all(upgrade())
        await hear_head(stream)
        with trio.fail_after(SEND_SECONDS + 1):
            await out.wait()
        assert gone == [SocketClosed(1006)]
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


# H3


async def test_an_answer_that_stops_reading_leaks_nothing(autojump_clock: Clock) -> None:
    """More messages wait than the inbox holds, and the answer has returned."""
    enough = trio.Event()

    async def deaf(socket: CallerSocket, arrival: Arrival) -> None:
        await enough.wait()

    async with open_door(deaf) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(TEXT, b"x") * 100)
        await trio.testing.wait_all_tasks_blocked()
        enough.set()
        assert (await hear(stream)).close == (1000, "")
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_inbox_takes_the_end_when_it_is_full(autojump_clock: Clock) -> None:
    inbox = Inbox(1)
    await inbox.put({"type": "http.request", "body": b"1", "more_body": True})
    second: ASGIReceiveEvent = {"type": "http.request", "body": b"2", "more_body": True}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, second)
        await trio.testing.wait_all_tasks_blocked()
        await inbox.put({"type": "http.disconnect"})
    await inbox.put({"type": "http.request", "body": b"3", "more_body": True})
    assert [(await inbox.receive())["type"] for _ in range(3)] == [
        "http.request",
        "http.disconnect",
        "http.disconnect",
    ]


async def test_what_was_received_before_the_end_is_delivered(autojump_clock: Clock) -> None:
    """Q2: quart-trio drops up to ten messages when the peer closes."""
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        texts = [str(number) for number in range(35)]
        await stream.send_all(upgrade() + b"".join(frame(TEXT, text.encode()) for text in texts) + frame(CLOSE))
        await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
    assert ends.messages == texts
    assert ends.ends == [SocketClosed(1005)]


# H4


@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (b"", SocketClosed(1005)),
        (b"\x03\xe8", SocketClosed(1000)),
        (b"\x03\xe9going", SocketClosed(1001, "going")),
        (b"\x0f\xa0caf\xc3\xa9", SocketClosed(4000, "café")),
    ],
)
async def test_the_peers_close_code_reaches_the_call(payload: bytes, end: SocketClosed, autojump_clock: Clock) -> None:
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(CLOSE, payload))
        await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
    assert ends.ends == [end]


@pytest.mark.parametrize("forcefully", [False, True])
async def test_no_close_frame_is_1006(forcefully: bool, autojump_clock: Clock) -> None:
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        await hear_head(stream)
        if forcefully:
            await trio.aclose_forcefully(stream)
        else:
            await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
    assert ends.ends == [SocketClosed(1006)]


# H5


async def test_compression_is_declined(autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade(extra=["Sec-WebSocket-Extensions: permessage-deflate"]))
        head = await hear_head(stream)
    assert "101" in head
    assert "extensions" not in head.lower()


# H6


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (frame(TEXT, b"x" * (2**20 + 1)), SocketClosed(1009, "message too big")),
        (
            frame(TEXT, b"x" * 2**19, fin=False) + frame(0, b"x" * (2**19 + 1)),
            SocketClosed(1009, "message too big"),
        ),
        (frame(TEXT, b"\xff"), SocketClosed(1007, "broken frame or text")),
        (frame(3, b""), SocketClosed(1002, "broken frame or text")),
        (frame(PING, b"", fin=False), SocketClosed(1002, "broken frame or text")),
        (b"\x81\x01x", SocketClosed(1002, "broken frame or text")),
    ],
    ids=["big", "big in pieces", "utf-8", "opcode", "fragmented ping", "no mask"],
)
async def test_a_failed_connection_is_told_at_once_on_both_sides(
    sent: bytes, end: SocketClosed, autojump_clock: Clock
) -> None:
    """The app hears of it at once; the peer, which goes on sending, gets the close frame, and is cut off later."""
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + sent + b"x" * 200_000)
        heard = await hear(stream)
        assert trio.current_time() - ends.times[0] == pytest.approx(LINGER_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert ends.ends == [end]
    assert heard.close == (end.code, end.reason)


async def test_a_failed_connection_is_deaf(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a broken frame is thrown away; wsproto would keep it all, waiting for sense."""
    taken: list[int] = []
    receive_data = Connection.receive_data

    def count(self: Connection, data: bytes | None) -> None:
        taken.append(len(data or b""))
        receive_data(self, data)

    monkeypatch.setattr(Connection, "receive_data", count)
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(TEXT, b"\xff"))
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"x" * 1_000_000)
        await hear_head(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(taken) < 100


async def test_the_largest_message_passes(autojump_clock: Clock) -> None:
    ends = Ends()
    async with open_door(ends) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(TEXT, b"x" * 2**20) + frame(CLOSE))
        await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
    assert [len(message) for message in ends.messages] == [2**20]


# H7


async def test_pings_keep_a_silent_call_alive(autojump_clock: Clock) -> None:
    """A caller on hold for half an hour sends nothing but pongs."""
    ends = Ends()
    async with open_door(ends, ping_seconds=20, dead_seconds=60) as wire:
        ws = await wire.call()
        await trio.sleep(1805)  # not beside a ping: trio-websocket 0.12 fails on one that comes while it closes
        assert ends.ends == []
        await ws.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert ends.ends == [SocketClosed(1000)]


async def test_a_dead_peer_is_dropped_after_its_time(autojump_clock: Clock) -> None:
    """It took our pings and answered none; hypercorn would ping it for ever."""
    ends = Ends()
    async with open_door(ends, ping_seconds=4, dead_seconds=10) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        heard = await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert trio.current_time() == pytest.approx(10)
    assert ends.ends == [SocketClosed(1006)]
    assert len([event for event in heard.events if isinstance(event, wsproto.events.Ping)]) == 2


async def test_the_ping_task_ends_with_the_connection(autojump_clock: Clock) -> None:
    async with open_door(Ends(), ping_seconds=1000, dead_seconds=3000) as wire:
        async with await wire.call():
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert trio.current_time() < 1


# Q7, idle connections, HTTP/1.1 only


async def get(wire: Wire, *extra: str) -> trio.abc.Stream:
    stream = await wire.connect()
    await stream.send_all("\r\n".join(["GET /health HTTP/1.1", "Host: sts", *extra, "", ""]).encode())
    return stream


async def test_connection_close_is_honoured(autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        assert (await hear(await get(wire, "Connection: close"))).status == 200
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert trio.current_time() < 1


async def test_an_idle_connection_is_closed(autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        assert (await hear(await get(wire))).status == 200
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert trio.current_time() == pytest.approx(5)


async def test_the_idle_timer_ends_with_the_connection(autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        await trio.aclose_forcefully(await wire.connect())
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


@pytest.mark.parametrize(
    "request_head",
    [
        "PRI * HTTP/2.0",
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    ],
    ids=["preface", "h2c"],
)
async def test_there_is_no_http2(request_head: str, autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(f"{request_head}\r\n\r\n".encode())
        assert (await hear(stream)).head.startswith("HTTP/1.1 ")


async def test_what_is_too_long_is_answered_and_read_on(autojump_clock: Clock) -> None:
    """Hypercorn closes at once, and a reset can overtake its answer."""
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        await stream.send_all(b"GET /?" + b"x" * 70_000)
        assert (await hear(stream)).status == 431
        await stream.send_all(b"x" * 70_000)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert trio.current_time() == 0


@pytest.mark.parametrize(("size", "status"), [(MAX_HEADER_BYTES, 101), (MAX_HEADER_BYTES + 1, 431)])
@pytest.mark.parametrize("cut", [100, 60_000, MAX_HEADER_BYTES])
async def test_a_head_is_as_long_as_it_may_be_however_it_is_cut(
    cut: int, size: int, status: int, autojump_clock: Clock
) -> None:
    """h11 counts only what is incomplete."""
    head = upgrade(extra=["X-Long: "])
    head = head.replace(b"X-Long: ", b"X-Long: " + b"x" * (size - len(head)))
    assert len(head) == size
    async with open_door(Ends()) as wire:
        stream = await wire.connect()
        for piece in (head[:cut], head[cut:], frame(CLOSE)):
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        assert (await hear(stream)).status == status


async def test_two_hundred_calls_leave_nothing(autojump_clock: Clock) -> None:
    async with open_door(Ends()) as wire:
        tasks = trio.lowlevel.current_statistics().tasks_living

        async def one() -> None:
            async with await wire.call() as ws:
                await ws.send_message("x")
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
        assert trio.lowlevel.current_statistics().tasks_living == tasks
