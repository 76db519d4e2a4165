"""Which request gets which answer (docs/protocols/core.md 1.2), and what is read of a call's URL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.core.link import MAX_NAME, MAX_PARAMETERS, MAX_VALUE, Arrival, SocketClosed, parse_arrival, parse_query
from sts_trio.web.app import plain_path
from sts_trio.web.call_socket import LINGER_SECONDS
from tests.fakes.raw_client import CLOSE, Heard, frame, hear, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from sts_trio.core.link import CallerSocket, CallerStream
    from tests.conftest import Logged

Clock = trio.testing.MockClock


class Arrivals(list[Arrival]):
    """An answer that keeps what it was called with."""

    async def __call__(self, socket: CallerSocket, arrival: Arrival) -> None:
        self.append(arrival)
        await socket.receive()


class Streams:
    """An answer over HTTP that keeps what it was called with, and sends everything back."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    async def __call__(self, stream: CallerStream, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        while not isinstance(chunk := await stream.receive(), SocketClosed):
            await stream.send(chunk)


async def ask(wire: Wire, method: str, target: str, *extra: str) -> Heard:
    stream = await wire.connect()
    lines = [f"{method} {target} HTTP/1.1", "Host: sts", "Connection: close", *extra, "", ""]
    await stream.send_all("\r\n".join(lines).encode("latin-1"))
    return await hear(stream)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/?uuid=1",
        "?uuid=1",
        "/speech-to-speech-stream",
        "/speech-to-speech-stream/",
        "/speech-to-speech-stream//",
        "/speech-to-speech-stream/?from=1&to=2",
        "//",
        "//speech-to-speech-stream",
        "/health",
        "/any/other%0apath/%00/%zz",
        "/" + "a=b&" * 10_000,
        "/?" + "a=b&" * 10_000,
        "ws://elsewhere/path",
    ],
    ids=lambda target: target[:40],
)
async def test_an_upgrade_is_a_call_whatever_its_path(target: str, autojump_clock: Clock) -> None:
    arrivals = Arrivals()
    async with open_door(arrivals) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade(target) + frame(CLOSE))
        assert (await hear(stream)).status == 101
    assert len(arrivals) == 1


@pytest.mark.parametrize("host", ["a b", "[", "xn--\xff", "a:b:c", ""])
async def test_an_odd_host_is_no_reason_to_refuse_a_call(host: str, autojump_clock: Clock) -> None:
    arrivals = Arrivals()
    async with open_door(arrivals) as wire:
        stream = await wire.connect()
        request = upgrade().replace(b"Host: sts", b"Host: " + host.encode("latin-1"))
        await stream.send_all(request + frame(CLOSE))
        assert (await hear(stream)).status == 101


@pytest.mark.parametrize(
    ("method", "target", "status", "header"),
    [
        ("GET", "/", 426, "upgrade: websocket"),
        ("GET", "?uuid=1", 426, "upgrade: websocket"),
        ("GET", "/speech-to-speech-stream", 426, "upgrade: websocket"),
        ("GET", "/speech-to-speech-stream/?a=b", 426, "connection: upgrade"),
        ("HEAD", "/speech-to-speech-stream//", 426, "upgrade: websocket"),
        ("OPTIONS", "/", 405, "allow: get, head, post"),
        ("PUT", "/speech-to-speech-stream/?a=b", 405, "allow: get, head, post"),
        ("BREW", "//", 405, "allow: get, head, post"),
        ("DELETE", "/health", 405, "allow: get, head"),
        ("POST", "/health", 405, "allow: get, head"),
        ("POST", "/ready", 405, "allow: get, head"),
        ("GET", "/health", 200, "content-type: application/json"),
        ("GET", "/health/", 200, "content-type: application/json"),
        ("HEAD", "/health", 200, "content-type: application/json"),
        ("HEAD", "/ready/", 200, "content-type: application/json"),
        ("GET", "/elsewhere", 404, "content-type: application/json"),
        ("POST", "/elsewhere", 404, "content-type: application/json"),
        ("POST", "/speech-to-speech-stream/more", 404, "content-type: application/json"),
        ("POST", "http://sts:6039/elsewhere", 404, "content-type: application/json"),
        ("OPTIONS", "*", 404, "content-type: application/json"),
        ("GET", "/%00%0a%zz/..//etc", 404, "content-type: application/json"),
    ],
)
async def test_plain_http(method: str, target: str, status: int, header: str, autojump_clock: Clock) -> None:
    """Never a redirect; always JSON; the connection closes as asked."""
    async with open_door(Arrivals(), status=lambda: {"calls": 3}) as wire:
        heard = await ask(wire, method, target)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert heard.status == status
    lines = heard.head.lower().split("\r\n")
    assert header in lines
    assert not [line for line in lines if line.startswith(("server:", "location:"))]
    if method == "HEAD":
        assert heard.body == b""
    elif status == 200:
        assert json.loads(heard.body) == {"status": "ok", "calls": 3}
    else:
        assert list(json.loads(heard.body)) == ["message"]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "?uuid=1",
        "//",
        "/?from=1&to=2",
        "/speech-to-speech-stream",
        "/speech-to-speech-stream/",
        "//speech-to-speech-stream//?uuid=1&uuid=2",
        "http://sts:6039",
        "http://sts:6039/speech-to-speech-stream?from=1",
    ],
)
async def test_a_post_on_a_call_path_is_a_call(target: str, autojump_clock: Clock) -> None:
    calls = Streams()
    async with open_door(Arrivals(), stream=calls) as wire:
        caller = await wire.stream(target)
        await caller.say(b"\x01")
        await caller.hang_up()
        await caller.hear_out()
    assert (caller.status, bytes(caller.body), caller.ended) == (200, b"\x01", "end")
    assert len(calls.arrivals) == 1


async def test_a_post_to_elsewhere_is_answered_before_its_end(autojump_clock: Clock) -> None:
    """Without a reset: what still comes is read for a moment."""
    async with open_door(Arrivals()) as wire:
        caller = await wire.stream("/elsewhere")
        await caller.hear_out()
        assert (caller.status, trio.current_time()) == (404, 0)
        await caller.say(b"more")
        await trio.sleep(LINGER_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


async def test_ready_tells_whether_calls_are_taken(autojump_clock: Clock) -> None:
    why: list[str] = []
    async with open_door(Arrivals(), refuse=lambda: why[0] if why else None, status=lambda: {"calls": 3}) as wire:
        ready = await ask(wire, "GET", "/ready")
        why.append("the service is stopping")
        draining = await ask(wire, "GET", "/ready?x=1")
        assert (await ask(wire, "GET", "/health")).status == 200
    assert (ready.status, json.loads(ready.body)) == (200, {"status": "ready", "calls": 3})
    assert draining.status == 503
    assert json.loads(draining.body) == {"status": "full", "message": "the service is stopping", "calls": 3}
    assert "\r\nretry-after: 5\r\n" in draining.head.lower()


HOSTILE = {
    "ten thousand parameters": "&".join(f"p{number}={number}" for number in range(10_000)),
    "a value of a megabyte": "from=" + "9" * 1_000_000,
    "repeated names": "uuid=a&uuid=b&from=1&from=2&" * 500,
    "nested names": "vicidial[leadId]=1&a[b][c][]=2&a.b=3&[]=4&__proto__[x]=5",
    "zero bytes": "%00=%00&uuid=%00%0d%0aX:%201&config_id=%00",
    "broken escapes": "%zz=%&%ff%fe=%c3%28&=&&&===",
}


@pytest.mark.parametrize("over", ["WebSocket", "HTTP"])
@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_query_harms_nobody(kind: str, over: str, autojump_clock: Clock, logged: Logged) -> None:
    """The call works or is refused with 4xx; a call beside it never notices."""
    sockets, streams = Arrivals(), Streams()
    async with open_door(sockets, stream=streams) as wire:
        good = await wire.stream()
        await good.say(b"before")
        assert await good.hear(6) == b"before"
        stream = await wire.connect()
        target = f"/?{HOSTILE[kind]}"
        if over == "WebSocket":
            await stream.send_all(upgrade(target) + frame(CLOSE))
        else:
            await stream.send_all(f"POST {target} HTTP/1.1\r\nHost: sts\r\nContent-Length: 0\r\n\r\n".encode())
        status = (await hear(stream)).status
        await good.say(b"after")
        assert await good.hear(5) == b"after"
    assert status in (101, 200) or 400 <= status < 500
    hostile = [arrival for arrival in [*sockets, *streams.arrivals[1:]] if status in (101, 200)]
    assert all(len(arrival.query) <= MAX_PARAMETERS for arrival in hostile)
    assert len(hostile) == (status in (101, 200))
    assert not logged.errors


async def test_a_broken_status_is_one_500(autojump_clock: Clock, logged: Logged) -> None:
    def broken() -> dict[str, object]:
        raise ZeroDivisionError

    async with open_door(Arrivals(), status=broken) as wire:
        heard = await ask(wire, "GET", "/health")
        assert heard.status == 500
        assert json.loads(heard.body) == {"message": "Internal Server Error"}


async def test_the_uuid_header_goes_before_the_parameter(autojump_clock: Clock) -> None:
    arrivals = Arrivals()
    async with open_door(arrivals) as wire:
        async with await wire.call("/?uuid=two&from=1&from=2", [(b"X-UUID", b"one")]):
            pass
        async with await wire.call("/?uuid=two"):
            pass
        async with await wire.call("/"):
            pass
        await trio.testing.wait_all_tasks_blocked()
    assert arrivals == [
        Arrival({"uuid": "two", "from": "2"}, "one"),
        Arrival({"uuid": "two"}, "two"),
        Arrival({}, None),
    ]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (b"", {}),
        (b"&&=&x", {"": "", "x": ""}),
        (b"channel=PJSIP%2F2000-00000013", {"channel": "PJSIP/2000-00000013"}),
        (b"a=%00&b=%zz&c=%ff&d=1+2", {"a": "\x00", "b": "%zz", "c": "\ufffd", "d": "1 2"}),
        (b"uuid=a%26config_id=x%23y", {"uuid": "a&config_id=x#y"}),
        (b"\xff=\xfe", {"\ufffd": "\ufffd"}),
    ],
)
def test_parse_query(query: bytes, parameters: dict[str, str]) -> None:
    assert parse_query(query) == parameters


def test_a_record_of_a_webhooks_crowds_nothing_out() -> None:
    record = "&".join(f"crm[field{number}]=" for number in range(200))
    assert parse_query(f"{record}&from=2000".encode())["from"] == "2000"


def test_parse_query_bounds() -> None:
    query = "&".join(f"p{number}={number}" for number in range(10_000)) + "&p0=last"
    kept = parse_query(query.encode())
    assert len(kept) == MAX_PARAMETERS
    assert kept["p0"] == "last"
    assert f"p{MAX_PARAMETERS}" not in kept
    [(name, value)] = parse_query(b"n" * 5000 + b"=" + b"v" * 1_000_000).items()
    assert (len(name), len(value)) == (MAX_NAME, MAX_VALUE)


@given(st.text(max_size=50))
def test_plain_path_is_a_path(path: str) -> None:
    plain = plain_path(path)
    assert plain == "*" or (plain.startswith("/") and "//" not in plain)
    assert plain_path(plain) == plain


@given(st.binary(max_size=200), st.binary(max_size=2000))
def test_parse_arrival_never_raises(query: bytes, uuid: bytes) -> None:
    arrival = parse_arrival(query, [(b"x-uuid", uuid)])
    assert arrival.uuid is None or 0 < len(arrival.uuid) <= MAX_VALUE


@pytest.mark.parametrize(
    ("query", "number"),
    [
        (b"from=+4917112345", "+4917112345"),
        (b"from=%2B4917112345", "+4917112345"),
        (b"to=1&from=sip:+49171@x.test", "sip:+49171@x.test"),
        (b"from=sip%3A+49171", "sip:+49171"),
        (b"from=+49+171+123", "+49 171 123"),
        (b"from=Mr+Smith", "Mr Smith"),
        (b"from=+Smith", " Smith"),
        (b"from=1+1", "1 1"),
    ],
)
def test_a_plus_that_begins_a_number_stays_one(query: bytes, number: str) -> None:
    assert parse_query(query)["from"] == number
