"""Who may call: the shared secret, and the origins of web pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.core.link import Arrival, SocketClosed
from sts_trio.settings.parsers import Secret
from sts_trio.web.auth import Authorizer, Denial, split_query
from tests.fakes.raw_client import CLOSE, Heard, frame, hear, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from sts_trio.core.link import CallerSocket, CallerStream
    from tests.conftest import Logged

Clock = trio.testing.MockClock
TOKEN = "s3cret+of/the~callers=="
GATE = Authorizer(Secret(TOKEN), ("https://panel.example",))


class Calls:
    """Answers over both legs that keep what they were called with."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []

    async def socket(self, socket: CallerSocket, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        await socket.receive()

    async def stream(self, stream: CallerStream, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        while not isinstance(await stream.receive(), SocketClosed):
            pass


async def place(wire: Wire, leg: str, target: str, *headers: str) -> Heard:
    stream = await wire.connect()
    if leg == "WebSocket":
        await stream.send_all(upgrade(target, headers) + frame(CLOSE))
    else:
        lines = [f"POST {target} HTTP/1.1", "Host: sts", "Content-Length: 0", *headers, "", ""]
        await stream.send_all("\r\n".join(lines).encode("latin-1"))
    return await hear(stream)


LEGS = pytest.mark.parametrize("leg", ["WebSocket", "HTTP"])


@LEGS
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", [f"Authorization: Bearer {TOKEN}"]),
        ("/", [f"authorization: bearer  {TOKEN} "]),
        ("/", [f"X-STS-Token: {TOKEN}"]),
        ("/", ["Authorization: Basic eDp5", f"X-STS-Token: {TOKEN}"]),
        (f"/?token={TOKEN}", []),
        (f"/?token=wrong&token={TOKEN}", []),
        ("/?to%6ben=s3cret%2Bof%2Fthe%7Ecallers%3D%3D", []),
    ],
)
async def test_the_right_token_lets_a_call_in(leg: str, target: str, headers: list[str], autojump_clock: Clock) -> None:
    calls = Calls()
    async with open_door(calls.socket, stream=calls.stream, authorizer=GATE) as wire:
        assert (await place(wire, leg, target, *headers)).status in (101, 200)
    assert calls.arrivals == [Arrival({})]


@LEGS
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", []),
        ("/?token=", ["X-STS-Token: ", "Authorization: Bearer"]),
        (f"/?token={TOKEN[:-1]}&token={TOKEN}x&Token={TOKEN}&tokens={TOKEN}", []),
        ("/", [f"Authorization: {TOKEN}", f"Cookie: token={TOKEN}"]),
        ("/", ["X-STS-Token: \xff\xfe"]),
        ("/any/path?token=%00%ff", []),
    ],
)
async def test_without_it_a_call_is_401_before_anything_else(
    leg: str, target: str, headers: list[str], autojump_clock: Clock, logged: Logged
) -> None:
    """Also before a service that stops says so: that is for callers."""
    calls = Calls()
    target = target.replace("/any/path", "/" if leg == "HTTP" else "/any/path")
    async with open_door(calls.socket, stream=calls.stream, authorizer=GATE, refuse=lambda: "stopping") as wire:
        heard = await place(wire, leg, target, *headers)
    assert (heard.status, calls.arrivals) == (401, [])
    assert "\r\nwww-authenticate: bearer\r\n" in heard.head.lower() + "\r\n"
    assert "STS_TOKEN" in json.loads(heard.body)["message"]
    assert json.loads(heard.body)["reason"] == "token"
    assert "s3cret" not in heard.head + heard.body.decode() + logged.text


@pytest.mark.parametrize("authorizer", [GATE, None])
@LEGS
async def test_nobody_else_sees_the_parameter(leg: str, authorizer: Authorizer | None, autojump_clock: Clock) -> None:
    """Not without STS_TOKEN either: a secret may stay in Core's URL for longer than in our settings."""
    calls = Calls()
    target = f"/?a=1&token={TOKEN}?from=2&b=3&to%6Ben=x"
    async with open_door(calls.socket, stream=calls.stream, authorizer=authorizer) as wire:
        assert (await place(wire, leg, target)).status in (101, 200)
    assert calls.arrivals == [Arrival({"a": "1", "from": "2", "b": "3"})]


async def test_health_and_ready_are_open_and_metrics_are_not(autojump_clock: Clock) -> None:
    async def get(target: str, *headers: str) -> int:
        stream = await wire.connect()
        lines = [f"GET {target} HTTP/1.1", "Host: sts", "Connection: close", *headers, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        return (await hear(stream)).status

    async with open_door(Calls().socket, authorizer=GATE) as wire:
        assert [await get("/health"), await get("/ready")] == [200, 200]
        assert [await get("/metrics"), await get("//metrics/?token=x")] == [401, 401]
        assert await get("/metrics", f"Authorization: Bearer {TOKEN}") != 401
        assert await get(f"/metrics?token={TOKEN}") != 401


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://sts:6039", "sts:6039", True),
        ("http://STS:6039", "sts:6039", True),
        ("https://voice.example", "voice.example", True),
        ("https://voice.example", "Voice.example:443", True),
        ("http://[::1]:6039", "[::1]:6039", True),
        ("https://panel.example", "sts", True),
        ("https://panel.example:443", "sts", True),
        ("http://panel.example", "sts", False),
        ("https://panel.example.evil", "sts", False),
        ("http://sts", "sts:6039", False),
        ("http://sts:80", "sts:443", False),
        ("https://evil.example", "sts:6039", False),
        ("https://sts@evil.example", "sts", False),
        ("https://evil.example/sts", "sts", False),
        ("null", "null", False),
        ("", "", False),
        ("file://", "sts", False),
        ("http://\xff", "\xff", False),
    ],
)
def test_a_page_must_be_of_our_own_host_or_listed(origin: str, host: str, admitted: bool) -> None:
    headers = [(b"host", host.encode("latin-1")), (b"origin", origin.encode("latin-1"))]
    denial = Authorizer(None, GATE.origins).denies_call(headers, b"")
    assert denial is None if admitted else denial is not None and denial.status == 403


@LEGS
async def test_a_foreign_page_cannot_place_a_call_even_with_the_token(leg: str, autojump_clock: Clock) -> None:
    calls = Calls()
    async with open_door(calls.socket, stream=calls.stream, authorizer=GATE) as wire:
        target = f"/?token={TOKEN}"
        foreign = await place(wire, leg, target, "Origin: https://evil.example")
        two = await place(wire, leg, target, "Origin: https://panel.example", "Origin: https://evil.example")
        assert calls.arrivals == []
        listed = await place(wire, leg, target, "Origin: https://panel.example")
    assert (foreign.status, two.status) == (403, 403)
    assert "ALLOWED_ORIGINS" in json.loads(foreign.body)["message"]
    assert json.loads(foreign.body)["reason"] == "origin"
    assert listed.status in (101, 200)


def test_a_gate_shows_no_secret() -> None:
    assert TOKEN not in repr(GATE)


@given(st.binary(max_size=200))
def test_any_query_is_taken_apart_without_an_error_and_keeps_no_token(query: bytes) -> None:
    rest, tokens = split_query(query)
    assert split_query(rest) == (rest, []) or b"?" in query
    assert len(rest) <= len(query)
    assert tokens or rest == query


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=8), st.binary(max_size=100))
def test_garbage_is_turned_away_and_never_an_error(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    named = [(name, value) for (_, value) in headers for name in (b"authorization", b"x-sts-token", b"origin", b"host")]
    for denial in (GATE.denies_call([*headers, *named], query), GATE.denies_reader([*headers, *named], query)):
        assert isinstance(denial, Denial)
