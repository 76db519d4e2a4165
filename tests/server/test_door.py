"""Which request gets which answer (Core contract, section 1.2), and what is read of a call's URL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.core.arrival import MAX_NAME, MAX_PARAMETERS, MAX_VALUE, Arrival, parse_arrival, parse_query
from tests.fakes.rude import CLOSE, Heard, frame, hear, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from sts_trio.core.link import CallerSocket

Clock = trio.testing.MockClock


class Arrivals(list[Arrival]):
    """An answer that keeps what it was called with."""

    async def __call__(self, socket: CallerSocket, arrival: Arrival) -> None:
        self.append(arrival)
        await socket.receive()


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
        ("POST", "/", 405, "allow: get, head"),
        ("POST", "/speech-to-speech-stream/", 405, "allow: get, head"),
        ("OPTIONS", "/", 405, "allow: get, head"),
        ("BREW", "/", 405, "allow: get, head"),
        ("DELETE", "/health", 405, "allow: get, head"),
        ("GET", "/health", 200, "content-type: application/json"),
        ("GET", "/health/", 200, "content-type: application/json"),
        ("HEAD", "/health", 200, "content-type: application/json"),
        ("GET", "/elsewhere", 404, "content-type: application/json"),
        ("POST", "/elsewhere", 404, "content-type: application/json"),
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


async def test_a_post_with_a_body_is_answered_before_its_end(autojump_clock: Clock) -> None:
    """Core's old HTTP transport streams for the whole call; it must hear 405 now."""
    async with open_door(Arrivals()) as wire:
        heard = await ask(wire, "POST", "/speech-to-speech-stream", "Transfer-Encoding: chunked")
    assert heard.status == 405
    assert trio.current_time() < 1


async def test_a_broken_status_is_one_500(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
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


def test_parse_query_bounds() -> None:
    query = "&".join(f"p{number}={number}" for number in range(10_000)) + "&p0=last"
    kept = parse_query(query.encode())
    assert len(kept) == MAX_PARAMETERS
    assert kept["p0"] == "last"
    assert "p64" not in kept
    [(name, value)] = parse_query(b"n" * 5000 + b"=" + b"v" * 1_000_000).items()
    assert (len(name), len(value)) == (MAX_NAME, MAX_VALUE)


@given(st.binary(max_size=200), st.binary(max_size=2000))
def test_parse_arrival_never_raises(query: bytes, uuid: bytes) -> None:
    arrival = parse_arrival(query, [(b"x-uuid", uuid)])
    assert arrival.uuid is None or 0 < len(arrival.uuid) <= MAX_VALUE
