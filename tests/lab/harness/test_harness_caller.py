"""A call, against connectors good and bad: in memory on a mock clock, and once each over TCP and TLS."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
import trio_websocket
import trustme

from sts_trio.lab.harness import wire
from sts_trio.lab.harness.address import CallFailed, parse_address
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.measures import answer_to, fidelity
from sts_trio.lab.harness.report import AgentBegins, Event
from sts_trio.lab.harness.script import Press, Speak, SpeakOver, Wait, WaitForAgent, WaitForSilence
from tests.lab.harness.harness_parrot import Parrot, silence, voice

URL = "ws://connector:6039/speech-to-speech-stream/?from=2000&channel=PJSIP%2F2000"

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


def memory(nursery: trio.Nursery, serve: Serve) -> Callable[[], Awaitable[trio.abc.Stream]]:
    async def dial() -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, server)
        return client

    return dial


async def test_a_whole_call(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    parrot, said = Parrot(), voice(1.5, seed=3)
    events: list[Event] = []
    script = (WaitForAgent(), WaitForSilence(), Speak(said, "hello"), Press("5"), WaitForAgent(), WaitForSilence())
    report = await place_call(URL, script, on_event=events.append, dial=parrot.dial(nursery), uuid="0b6f-7e11")

    assert parrot.requested == "/speech-to-speech-stream/?from=2000&channel=PJSIP%2F2000"
    assert parrot.heard[0] == {"type": "init", "uuid": "0b6f-7e11"}
    assert [message for message in parrot.heard if message["type"] == "dtmf_digit"] == [
        {"type": "dtmf_digit", "digit": "5"}
    ]
    sent = b"".join(base64.b64decode(m["audio"]) for m in parrot.heard if m["type"] == "audio")
    assert sent == report.recording.caller
    assert said in sent

    assert (report.ended, report.close_code, report.unmet, report.unknown) == ("script", 1000, (), ())
    assert [t.role for t in report.transcripts] == ["agent", "user", "agent"]
    assert report.transcripts[1].emotions["Joy"] == 0.61
    assert tuple(events) == report.events
    assert sum(isinstance(event.what, AgentBegins) for event in events) == 2
    assert report.measures.first_audio == pytest.approx(0.0, abs=1e-6)
    # Frame n leaves when it has been spoken, so the silence that ends the turn is all there is to wait for.
    assert report.measures.turns[0].response == pytest.approx(0.8, abs=1e-6)
    match = fidelity(said, answer_to(report.recording, 0))
    assert match is not None
    assert match.snr_db == 100
    assert report.frames_late == report.recording.underruns == 0


async def test_frames_leave_in_real_time_without_drift(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    parrot = Parrot()
    began = trio.current_time()
    report = await place_call(URL, [Wait(60.0)], dial=parrot.dial(nursery))
    due = [began + (n + 1) * 0.02 for n in range(len(parrot.arrivals))]
    assert parrot.arrivals == pytest.approx(due, abs=1e-6)
    assert report.frames_sent == 3000
    assert report.recording.caller == silence(60.0)


async def test_a_barge_in_is_measured(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    parrot = Parrot(greeting=voice(8.0))
    report = await place_call(URL, [SpeakOver(voice(1.5), after=0.5), Wait(0.5)], dial=parrot.dial(nursery))
    turn = report.measures.turns[0]
    assert turn.stop == pytest.approx(0.8, abs=0.001)
    assert turn.stale_bytes == 0
    assert report.recording.cuts[0].dropped == pytest.approx((8.0 - turn.begin - 0.8) * 16000, abs=32)


async def test_what_core_would_not_understand_is_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    parrot = Parrot(extra=('{"type":"ready"}', b"\0\0", "null", '{"type":"error","message":"no credit"}'))
    report = await place_call(URL, [Wait(0.1)], dial=parrot.dial(nursery))
    assert len(report.unknown) == 3
    assert report.errors == ("no credit",)


async def test_the_far_end_may_close(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as reader:
            ws = await (await trio_websocket.wrap_server_stream(reader, stream)).accept()
            await trio.sleep(1.01)
            await ws.send_message('{"type":"error","message":"the provider is gone"}')
            await ws.aclose(1011, "provider")

    report = await place_call(URL, [Wait(60.0)], dial=memory(nursery, serve))
    assert (report.ended, report.close_code, report.close_reason) == ("far end", 1011, "provider")
    assert report.errors == ("the provider is gone",)
    assert report.duration == pytest.approx(1.01)


async def test_the_far_end_may_vanish(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as reader:
            await (await trio_websocket.wrap_server_stream(reader, stream)).accept()
            await trio.sleep(1.01)
            await stream.aclose()

    report = await place_call(URL, [Wait(60.0)], dial=memory(nursery, serve))
    assert (report.ended, report.close_code) == ("far end", 1006)


async def test_a_call_has_a_hard_limit(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    report = await place_call(URL, [Wait(1e9)], dial=Parrot().dial(nursery), limit=2.0)
    assert report.ended == "limit"
    assert report.duration == pytest.approx(2.0)
    assert len(report.recording.agent) <= 2 * 16000 + 2


async def test_a_far_end_that_does_not_read_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = trio.testing.lockstep_stream_pair()

    async def dial() -> trio.abc.Stream:
        return client

    async def serve() -> None:
        ws = await (await trio_websocket.wrap_server_stream(nursery, server)).accept()
        for _ in range(10):
            await ws.get_message()
        # One message waits in the library, one in its reader's hands; the next is not read from the stream.

    nursery.start_soon(serve)
    report = await place_call(URL, [Wait(600.0)], dial=dial)
    assert report.ended == "stalled"
    assert report.duration < 10


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", "HTTP status 426"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nsorry", "HTTP status 500: sorry"),
        (b'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n{"message":"bring\\u001b"}', "HTTP status 401: bring$"),
        (b"HTTP/1.1 502 Oh\r\nContent-Length: 13\r\n\r\n<html></html>", "HTTP status 502$"),
        (b'HTTP/1.1 403 No\r\nContent-Length: 12\r\n\r\n{"message":3', "HTTP status 403$"),
        (b"220 mail.example ESMTP\r\n\r\n", "no WebSocket handshake"),
        (b"", "closed the connection during the handshake"),
        (None, "no answer within 10 s"),
    ],
)
async def test_a_failed_handshake_is_one_clear_line(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answer: bytes | None, words: str
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        request = bytes(await stream.receive_some())
        assert b"\r\nHost: connector:6039\r\n" in request
        if answer is None:
            await trio.sleep(100)
        elif answer:
            await stream.send_all(answer)
        await stream.aclose()

    started = trio.current_time()
    with pytest.raises(CallFailed, match=words) as info:
        await place_call(URL, [Wait(1.0)], dial=memory(nursery, serve))
    message = str(info.value)
    assert message.startswith("ws://connector:6039/speech-to-speech-stream/: ")
    assert "2000" not in message  # the query holds telephone numbers
    assert "\n" not in message
    if answer is not None:
        assert trio.current_time() - started < 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url", ["ftp://host:6039/", "http:///path", "host:6039", "ws://", "ws://host:port/", "ws://[::1", ""]
)
async def test_a_wrong_address_is_one_clear_line(url: str) -> None:
    with pytest.raises(CallFailed) as info:
        await place_call(url, [])
    assert "\n" not in str(info.value)


def test_an_address_is_taken_apart() -> None:
    address = parse_address("wss://[::1]/a/?x=1&x=%2F")
    assert (address.tls, address.host, address.port) == (True, "::1", 443)
    assert (address.authority, address.resource) == ("[::1]", "/a/?x=1&x=%2F")
    assert parse_address("ws://h:6039?uuid=7").resource == "/?uuid=7"
    assert parse_address("ws://h").authority == "h"
    assert parse_address("ws://h:443").authority == "h:443"
    http = parse_address("http://h/speech-to-speech-stream?from=1")
    assert (http.is_http, http.tls, http.port) == (True, False, 80)
    assert str(http) == "http://h/speech-to-speech-stream"
    assert (parse_address("https://h").tls, parse_address("https://h:443").authority) == (True, "h")
    assert not parse_address("wss://h").is_http


async def test_a_fault_of_the_listener_is_not_hidden(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    def broken(_: object) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.RaisesGroup(BrokenPipeError, flatten_subgroups=True):
        await place_call(URL, [Wait(1.0)], dial=Parrot().dial(nursery), on_event=broken)


@pytest.mark.parametrize("answers", [True, False])
async def test_a_cancelled_call_closes_its_stream(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answers: bool
) -> None:
    client, server = trio.testing.memory_stream_pair()

    async def dial() -> trio.abc.Stream:
        if answers:
            nursery.start_soon(Parrot().serve, server)
        return client

    started = trio.current_time()
    with trio.move_on_after(1.5) as scope:
        await place_call(URL, [Wait(60.0)], dial=dial)
    assert scope.cancelled_caught
    assert trio.current_time() - started == pytest.approx(1.5)
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"x")


# Over the network, on the real clock.


async def test_over_tcp(nursery: trio.Nursery) -> None:
    parrot = Parrot()
    listeners = await nursery.start(trio.serve_tcp, parrot.serve, 0)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(5):
        report = await place_call(f"ws://localhost:{port}", [WaitForAgent(0.1), Speak(voice(0.1))])
    assert report.ended == "script"
    assert report.unmet == ()
    assert len(report.transcripts) == 1
    nursery.cancel_scope.cancel()


async def test_nobody_listening_is_one_clear_line() -> None:
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with trio.fail_after(5), pytest.raises(CallFailed, match=r"cannot connect: Connection refused$"):
            await place_call(f"ws://127.0.0.1:{port}/?from=1", [])


async def test_over_tls(nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await Parrot().serve(stream)
        except* trio.BrokenResourceError:
            pass  # the caller who does not trust us

    async def listen(*, task_status: trio.TaskStatus[int]) -> None:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
        port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]  # a TCP listener
        await trio.serve_listeners(serve, listeners, task_status=_Started(task_status, port))

    port = await nursery.start(listen)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with trio.fail_after(5):
        report = await place_call(f"wss://localhost:{port}/", [WaitForAgent(0.1)], tls=trusting)
        assert isinstance(report.events[0].what, wire.Transcript)
        with pytest.raises(CallFailed, match=r"^wss://localhost:\d+/: TLS failed: .*certificate verify failed"):
            await place_call(f"wss://localhost:{port}/", [])
    nursery.cancel_scope.cancel()


class _Started:
    """Reports the port in place of the listeners."""

    def __init__(self, status: trio.TaskStatus[int], port: int) -> None:
        self._status, self._port = status, port

    def started(self, _: object = None) -> None:
        self._status.started(self._port)
