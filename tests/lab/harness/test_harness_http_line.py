"""A call over plain HTTP, against connectors good and bad: in memory on a mock clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import pytest
import trio
import trio.testing

from sts_trio.lab.harness.address import CallFailed
from sts_trio.lab.harness.caller import STALL_SECONDS, place_call
from sts_trio.lab.harness.script import Press, Speak, Wait, WaitForAgent, WaitForSilence
from tests.lab.harness.harness_parrot import silence, voice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[["Connector"], Awaitable[None]]

URL = "http://connector:6039/speech-to-speech-stream?from=2000"


class Connector:
    """The far end of one call: `serve` is what it does, `heard` the audio that came."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.SERVER)
        self.request: h11.Request | None = None
        self.heard = bytearray()
        self.ended = False

    async def begin(self, status: int = 200, *headers: tuple[str, str]) -> None:
        await self.send(h11.Response(status_code=status, headers=[("Content-Type", "text/event-stream"), *headers]))

    async def send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        await self.stream.send_all(self.http.send(event) or b"")

    async def listen(self, until: int = 10**9) -> None:
        """Read until so many bytes of audio have come, or the body has ended."""
        while len(self.heard) < until and not self.ended:
            match self.http.next_event():
                case h11.NEED_DATA:
                    self.http.receive_data(bytes(await self.stream.receive_some()))
                case h11.Request() as request:
                    self.request = request
                case h11.Data(data=data):
                    self.heard += data
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    self.ended = True


def dial(
    nursery: trio.Nursery, serve: Serve, made: list[Connector] | None = None
) -> Callable[[], Awaitable[trio.abc.Stream]]:
    async def connect() -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        connector = Connector(server)
        if made is not None:
            made.append(connector)
        nursery.start_soon(serve, connector)
        return client

    return connect


async def test_a_whole_call(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """The agent's audio comes in pieces that split samples, and before the head of the response is expected."""
    said, answer = voice(0.5, seed=3), voice(0.6, seed=9)
    made: list[Connector] = []

    async def serve(connector: Connector) -> None:
        await connector.listen(until=320)
        await connector.begin()
        for start in range(0, len(answer), 333):
            await connector.send(h11.Data(answer[start : start + 333]))
        await connector.listen()
        await connector.send(h11.EndOfMessage())

    script = (WaitForAgent(), WaitForSilence(), Speak(said, "hello"), Press("5"), Wait(0.2))
    report = await place_call(URL, script, dial=dial(nursery, serve, made), uuid="0b6f-7e11")
    (connector,) = made
    assert connector.request is not None
    assert (connector.request.method, connector.request.target) == (b"POST", b"/speech-to-speech-stream?from=2000")
    headers = dict(connector.request.headers)
    assert (headers[b"x-uuid"], headers[b"transfer-encoding"]) == (b"0b6f-7e11", b"chunked")
    assert headers[b"host"] == b"connector:6039"
    assert bytes(connector.heard) == report.recording.caller
    assert said in report.recording.caller
    assert connector.ended
    assert answer in report.recording.agent
    assert (report.ended, report.close_code, report.unmet, report.unknown) == ("script", 1000, (), ())
    assert report.bytes_received == len(answer)
    assert report.measures.first_audio == pytest.approx(0.02)


async def test_frames_leave_in_real_time(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    made: list[Connector] = []
    report = await place_call(URL, [Wait(30.0)], dial=dial(nursery, Connector.listen, made))
    assert (report.frames_sent, report.frames_late) == (1500, 0)
    assert report.duration == pytest.approx(30.02, abs=0.021)
    assert bytes(made[0].heard) == silence(30.0)


@pytest.mark.parametrize(("orderly", "code"), [(True, 1000), (False, 1006)])
async def test_the_far_end_may_end_the_call(
    orderly: bool, code: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(connector: Connector) -> None:
        await connector.listen(until=3200)
        await connector.begin()
        await connector.send(h11.Data(voice(0.02)))
        if orderly:
            await connector.send(h11.EndOfMessage())
            await connector.listen()
        else:
            await connector.stream.aclose()

    report = await place_call(URL, [Wait(60.0)], dial=dial(nursery, serve))
    assert (report.ended, report.close_code) == ("far end", code)
    assert report.duration == pytest.approx(0.2, abs=0.03)
    assert report.bytes_received == 320


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", "answered HTTP 405"),
        (b'HTTP/1.1 500 Oh\r\nContent-Length: 24\r\n\r\n{"message":"no\\ncredit"}', "answered HTTP 500: no credit"),
        (b"HTTP/1.1 503 Oh\r\nContent-Length: 500\r\n\r\nsorry", "answered HTTP 503: sorry"),
        (b"HTTP/1.1 500 Oh\r\n\r\n" + b"x" * 10_000, "answered HTTP 500"),
        (b"HTTP/1.1 307 To\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "answered HTTP 307"),
        (b"220 mail.example ESMTP\r\n\r\n", "closed the connection, or answered with something that is no HTTP"),
        (b"", "closed the connection, or answered with something that is no HTTP"),
    ],
    ids=["405", "500", "half a reason", "endless", "redirect", "smtp", "nothing"],
)
async def test_a_refusal_is_one_clear_line(
    answer: bytes, words: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(connector: Connector) -> None:
        await connector.stream.receive_some()
        await connector.stream.send_all(answer)
        if b"500\r\n\r\nsorry" not in answer:
            await connector.stream.aclose()

    with pytest.raises(CallFailed) as raised:
        await place_call(URL, [Wait(60.0)], dial=dial(nursery, serve))
    assert str(raised.value) == f"http://connector:6039/speech-to-speech-stream: {words}"
    assert trio.current_time() < 3


async def test_a_far_end_that_does_not_read_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = trio.testing.lockstep_stream_pair()

    async def connect() -> trio.abc.Stream:
        return client

    async def serve() -> None:
        await Connector(server).listen(until=3200)

    nursery.start_soon(serve)
    report = await place_call(URL, [Wait(600.0)], dial=connect)
    assert (report.ended, report.close_code) == ("stalled", 1006)
    assert report.duration < STALL_SECONDS + 1
