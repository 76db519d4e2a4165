"""What is turned away at the door is counted, and told in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio.testing

from sts_trio.call.handler import OTHER_REASONS, REASONS, Refusals
from sts_trio.core.link import SocketClosed
from sts_trio.settings.parsers import Secret
from sts_trio.web.auth import Authorizer
from tests.call.stage import open_stage
from tests.fakes.raw_client import PONG, frame, hear, hear_head, upgrade
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from sts_trio.core.link import Arrival, CallerSocket, CallerStream

Clock = trio.testing.MockClock


def request(line: str, *lines: str) -> bytes:
    return "\r\n".join([line + " HTTP/1.1", "Host: sts", *lines, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
# What is sent, and the status and the reason of its refusal.
REFUSED = {
    "no token": (upgrade(), 401, "token"),
    "no token over HTTP": (request("POST /", CHUNKED), 401, "token"),
    "a reader without a token": (request("GET /metrics"), 401, "token"),
    "another origin": (upgrade("/?token=secret-one", ["Origin: https://evil.example"]), 403, "origin"),
    "another origin over HTTP": (
        request("POST /?token=secret-one", CHUNKED, "Origin: https://evil.example"),
        403,
        "origin",
    ),
    "no such path": (request("GET /nowhere"), 404, "path"),
    "the wrong method": (request("DELETE /health"), 405, "method"),
    "no upgrade": (request("GET /"), 426, "no_upgrade"),
    "a broken handshake": (
        upgrade().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 7"),
        400,
        "malformed",
    ),
    "no HTTP": (b"nonsense\r\n\r\n", 400, "malformed"),
    "a length that is told twice": (request("POST /", CHUNKED, "Content-Length: 5"), 400, "malformed"),
    "another coding": (request("POST /", "Transfer-Encoding: gzip"), 501, "malformed"),
    "a long head": (request("GET /health", "X: " + "x" * 70_000), 431, "head"),
}


async def no_call(socket: CallerSocket, arrival: Arrival) -> None:
    raise AssertionError("no call was expected")


@pytest.mark.parametrize("name", REFUSED)
async def test_each_refusal_is_counted_and_told(name: str, autojump_clock: Clock) -> None:
    said, status, reason = REFUSED[name]
    with structlog.testing.capture_logs() as logs:
        async with open_door(no_call, authorizer=Authorizer(Secret("secret-one"))) as wire:
            stream = await wire.connect()
            await stream.send_all(said)
            assert (await hear(stream)).status == status
            assert wire.refusals.counts == {reason: 1}
    (line,) = [line for line in logs if line["event"] == "refused at the door"]
    assert (line["reason"], line["status"], line["left_out"]) == (reason, status, 0)
    assert reason in OTHER_REASONS


async def test_a_flood_is_told_on_either_leg(autojump_clock: Clock) -> None:
    async def answer(caller: CallerSocket | CallerStream, arrival: Arrival) -> None:
        while not isinstance(await caller.receive(), SocketClosed):
            pass

    async with open_door(answer, stream=answer) as wire:
        for said, flood in ((upgrade(), frame(PONG)), (request("POST /", CHUNKED), b"1\r\nx\r\n")):
            stream = await wire.connect()
            await stream.send_all(said)
            await hear_head(stream)
            await stream.send_all(flood * 8000)
            await hear(stream)
        assert wire.refusals.counts == {"flood": 2}


async def test_a_full_service_tells_and_shows_all_reasons(autojump_clock: Clock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_stage(max_calls=1, sts_token=None) as stage:
            caller = await stage.call()
            for _ in range(3):
                stream = await stage.wire.connect()
                await stream.send_all(upgrade())
                assert (await hear(stream)).status == 503
            stream = await stage.wire.connect()
            await stream.send_all(request("GET /nowhere", "Connection: close"))
            await hear(stream)
            text = stage.metrics.scrape()[0].decode()
            await caller.socket.aclose()
    assert 'sts_calls_refused_total{reason="full"} 3.0' in text
    assert 'sts_refused_total{reason="path"} 1.0' in text
    assert all(f'sts_refused_total{{reason="{reason}"}}' in text for reason in OTHER_REASONS)
    assert not set(REASONS) & set(OTHER_REASONS)
    lines = [line for line in logs if line["event"] == "refused at the door"]
    assert [line["reason"] for line in lines] == ["full", "path"]


def test_a_line_a_second_for_each_reason_says_what_was_left_out() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    with structlog.testing.capture_logs() as logs:
        for step in range(250):
            now = step / 100
            refusals.note("token", status=401)
            if step in (0, 40):
                refusals.note("origin", status=403)
    told = [(line["reason"], line["left_out"]) for line in logs]
    assert told == [("token", 0), ("origin", 0), ("token", 99), ("token", 99)]
    assert refusals.counts == {"token": 250, "origin": 2}
