"""Odd answers to the upgrade, and writes that fail later: alike with every provider."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import trio
import trio.testing
import wsproto.utilities

from sts_trio.errors import ProviderError, ProviderRefused, ProviderTimeout
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.providers.base import CallInfo
from sts_trio.providers.dial import hiding, without_key
from sts_trio.wiring import open_provider
from tests.call.stage import ALL, KEY, make_settings, open_stage
from tests.unit.spellings import ODD_KEY, SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.dial import Endpoint

Clock = trio.testing.MockClock
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@ALL
@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize("first", [CONTINUE, CONTINUE + EARLY_HINTS, CONTINUE * 500], ids=["one", "two", "many"])
async def test_answers_that_announce_another_are_read_past(
    first: bytes, size: int, provider: str, autojump_clock: Clock
) -> None:
    service = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
    first = first[: 2500 * size // len(CONTINUE) * len(CONTINUE)]  # so many pieces of them are enough
    async with trio.open_nursery() as nursery:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()

            async def serve() -> None:
                for start in range(0, len(first), size):
                    await theirs.send_all(first[start : start + size])
                    await trio.testing.wait_all_tasks_blocked()
                await serve_stream(service, theirs)

            nursery.start_soon(serve)
            return ours

        async with open_provider(make_settings(provider), dial)(CallInfo("call-1")) as link:
            await link.send_audio(bytes(320))
        nursery.cancel_scope.cancel()
    assert len(service.sessions) == 1


def accept_of(request: bytes) -> str:
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    return wsproto.utilities.generate_accept_token(key.partition(b":")[2].strip()).decode()


async def refused_with(
    provider: str, answer: Callable[[str], bytes], *, ends: bool = True, nursery: trio.Nursery
) -> ProviderError:
    """Open a session with a service that answers the upgrade like this (it gets the accept token); return the fault."""

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await theirs.send_all(answer(accept_of(bytes(await theirs.receive_some()))))
                if ends:
                    await theirs.send_eof()

        nursery.start_soon(serve)
        return ours

    with pytest.raises(ProviderError) as info:
        async with open_provider(make_settings(provider), dial)(CallInfo("call-1")):
            pass
    return info.value


def switched(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
FLAWS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "no accept": (lambda _: switched(*UPGRADE), "its Sec-WebSocket-Accept is missing, or not the answer to our"),
    "a wrong accept": (
        lambda _: switched(*UPGRADE, "Sec-WebSocket-Accept: AAAA"),
        "its Sec-WebSocket-Accept is missing, or not the answer to our",
    ),
    "no upgrade": (
        lambda accept: switched("Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"),
        "Missing header, 'Upgrade: websocket'",
    ),
    "no connection": (
        lambda accept: switched("Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}"),
        "Missing header, 'Connection: Upgrade'",
    ),
    "a protocol that nobody asked for, named like the key": (
        lambda accept: switched(*UPGRADE, f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Protocol: {KEY}"),
        "unrecognized subprotocol ***",
    ),
    "an extension": (
        lambda accept: switched(*UPGRADE, f"Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Extensions: zip"),
        "unrecognized extension zip",
    ),
    "no HTTP": (lambda _: b"HTTP/1.1 101 OK\r\n: what\r\n\r\n", "Bad HTTP message"),
    "no end": (lambda _: switched(*UPGRADE)[:-2], "its head has no end"),
}


@ALL
@pytest.mark.parametrize("name", FLAWS)
async def test_a_101_that_is_no_upgrade_is_told_with_what_is_wrong(
    name: str, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    answer, flaw = FLAWS[name]
    fault = await refused_with(provider, answer, nursery=nursery)
    assert isinstance(fault, ProviderRefused)
    assert "answered HTTP 101, but" in str(fault)
    assert flaw in str(fault)
    assert KEY not in str(fault)


@ALL
@pytest.mark.parametrize("said", [CONTINUE, switched(*UPGRADE)[:-2]], ids=["only 100", "a 101 without an end"])
async def test_an_answer_that_never_comes_is_late(
    said: bytes, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    fault = await refused_with(provider, lambda _: said, ends=False, nursery=nursery)
    assert isinstance(fault, ProviderTimeout)
    assert "within 10 s" in str(fault)


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("key", [KEY, ODD_KEY])
def test_a_key_is_starred_however_it_is_spelled(name: str, key: str) -> None:
    spelled = SPELLINGS[name](key)
    hidden = without_key(f"the key {spelled} is wrong", key)
    assert "***" in hidden
    assert len(hidden) <= len("the key *** is wrong") + 12, hidden  # base64 shares some with what stands beside
    assert hidden.startswith("the key ")
    assert hidden.endswith(" is wrong")


def test_a_long_secret_is_starred_whole_and_soon() -> None:
    token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9." + "aB3-_" * 400 + ".sig+/=="
    hide = hiding(KEY, f"Bearer {token}", None, "", "short")
    for spelled in (token, quote(token, safe=""), json.dumps({"token": token}), token[:100], f"Bearer {token}"):
        hidden = hide(f"no: {spelled} and {KEY} in short")
        assert not any(part in hidden for part in ("eyJ0", "aB3-", "sig", KEY))
        assert hidden.endswith(" and *** in short")
    began = time.perf_counter()
    for number in range(10):
        hiding(f"{number}{token}")("a refusal")
    assert time.perf_counter() - began < 5, "a token of 2 kB holds up every call"


def test_other_words_are_left_alone() -> None:
    text = 'error: {"code": "E0714", "at": "%41%42", "data": "c29tZXRoaW5nIGVsc2U="} \\u0041 &#65;'
    assert without_key(text, KEY) == text
    assert without_key("short", "short") == "short"


@pytest.mark.parametrize("text", ["\\" * 100_000, "%25" * 40_000, "&#0" * 40_000, KEY[:-1] * 5_000])
def test_a_text_that_is_made_to_be_slow_is_not(text: str) -> None:
    assert KEY not in without_key(text, KEY)


@ALL
@pytest.mark.parametrize("name", ["in JSON", "in a URL", "in base64 with a user"])
async def test_a_refusal_that_repeats_the_key_shows_it_in_no_spelling(
    name: str, provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    spelled = SPELLINGS[name](KEY)
    body = f"no such key: {spelled}".encode()
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body)
    fault = await refused_with(provider, lambda _: head + body, nursery=nursery)
    assert "no such key: " in str(fault)
    assert "***" in str(fault)
    assert spelled not in str(fault)


class Deafening(trio.abc.Stream):
    """A stream whose writes fail at a word; its reads go on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.fails = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.fails:
            raise trio.BrokenResourceError
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()


@ALL
async def test_a_write_that_fails_while_reads_work_has_the_session_replaced(
    provider: str, autojump_clock: Clock
) -> None:
    service = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))
    streams: list[Deafening] = []
    async with trio.open_nursery() as nursery:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve_stream, service, theirs)
            streams.append(Deafening(ours))
            return streams[-1]

        async with open_stage(provider=provider, dial=dial, welcome_message="") as stage:
            caller = await stage.call()
            await caller.speak(bytes(16_000))
            streams[0].fails = True
            failed_at = trio.current_time()
            await caller.speak(bytes(320))
            while len(streams) < 2:
                await trio.sleep(0.01)
            assert trio.current_time() - failed_at <= 1
            await caller.speak(bytes(16_000))
            assert caller.socket.closed is None
            assert len(service.sessions) == 2
            assert len(service.sessions[1].caller_audio) > 0
        nursery.cancel_scope.cancel()


@ALL
async def test_a_call_that_is_cancelled_as_a_ping_is_due_ends_quietly(
    provider: str, nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    service = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1))

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve_stream, service, theirs)
        return ours

    for _ in range(20):  # trio runs tasks whose time has come in any order
        async with trio.open_nursery() as call:

            async def hang_up(call: trio.Nursery = call, due: float = trio.current_time() + 10) -> None:
                await trio.sleep_until(due)
                call.cancel_scope.cancel()

            call.start_soon(hang_up)
            async with open_provider(make_settings(provider), dial)(CallInfo("call-1")) as link:
                while True:
                    await link.receive()
