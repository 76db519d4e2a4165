"""A caller's side that misbehaves: its call goes on or ends with a reason, and the call beside it never notices."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.call.fakes import tone
from tests.call.stage import ONE, Caller, Stage, open_stage

if TYPE_CHECKING:
    from tests.conftest import Logged

FRAME_TEXT = json.dumps({"type": "audio", "audio": base64.b64encode(bytes(320)).decode()})

GOES_ON: dict[str, str | bytes] = {
    "malformed JSON": '{"type":"audio"',
    "null": "null",
    "a number": "7",
    "an array": "[]",
    "an empty text": "",
    "an empty binary frame": b"",
    "binary noise": bytes(range(256)),
    "deep nesting": "[" * 100_000,
    "no type": '{"audio":"AAAA"}',
    "an unknown type": '{"type":"reset"}',
    "audio that is a number": '{"type":"audio","audio":7}',
    "audio that is null": '{"type":"audio","audio":null}',
    "audio that is an object": '{"type":"audio","audio":{"a":1}}',
    "broken base64": '{"type":"audio","audio":"****"}',
    "base64 without padding": '{"type":"audio","audio":"AAA"}',
    "no audio in audio": '{"type":"audio"}',
    "empty audio": '{"type":"audio","audio":""}',
    "a second init": '{"type":"init","uuid":"another"}',
    "a digit that is none": '{"type":"dtmf_digit","digit":5}',
    "a huge number": '{"type":"init","uuid":' + "9" * 5000 + "}",
}


OWN: dict[str, Any] = {"allow_call_overrides": True, "welcome_message": ""}  # each call's prompt is its name


def hum(length: float, hertz: float = 440.0) -> bytes:
    """A sound that nobody takes for speech: it is neither answered, nor is its end waited for."""
    return tone(length, hertz=hertz, level=0.004)


async def place(stage: Stage, name: str) -> Caller:
    return await stage.call(f"/?instructions={name}", uuid=name)


def heard_of(stage: Stage, name: str) -> bytes:
    """What a call's agent has heard of its caller."""
    (session,) = [session for session in stage.emulator.live if session.prompt == name]
    return session.caller_audio


async def good_call(stage: Stage) -> Caller:
    caller = await place(stage, "good")
    await caller.speak(hum(0.2))
    return caller


async def still_good(stage: Stage, caller: Caller) -> None:
    """The good call's audio still arrives, bit exact, and nothing was said to it."""
    await caller.speak(hum(0.4, hertz=700))
    await trio.testing.wait_all_tasks_blocked()
    assert heard_of(stage, "good") == stage.as_heard(hum(0.2) + hum(0.4, hertz=700))


@ONE
@pytest.mark.parametrize("name", GOES_ON)
async def test_a_message_that_cannot_be_used_is_ignored(
    provider: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        good, bad = await good_call(stage), await place(stage, "bad")
        for _ in range(20):
            await bad.socket.send_message(GOES_ON[name])
        await bad.speak(hum(0.2))
        await trio.testing.wait_all_tasks_blocked()
        assert heard_of(stage, "bad") == stage.as_heard(hum(0.2))
        await still_good(stage, good)


@ONE
async def test_audio_of_odd_lengths_keeps_its_phase(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    pcm = hum(0.2)
    async with open_stage(provider=provider, **OWN) as stage:
        caller = await stage.call()
        for start, end in [(0, 101), (101, 102), (102, 333), (333, 1001), (1001, len(pcm))]:
            await caller.say(type="audio", audio=pcm[start:end])
        await trio.sleep(0.1)
        assert stage.emulator.live[0].caller_audio == stage.as_heard(pcm)


@ONE
async def test_a_message_of_12_megabytes_ends_its_own_call_with_1009(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        good, bad = await good_call(stage), await place(stage, "bad")
        await bad.socket.send_message('{"type":"audio","audio":"' + "A" * 12_000_000 + '"}')
        with trio.fail_after(5):
            _, code = await bad.hear_out()
        assert code == 1009
        await trio.sleep(2)
        assert stage.registry.live == 1
        assert len(stage.emulator.live) == 1
        await still_good(stage, good)


@ONE
@pytest.mark.parametrize(
    "uuid", ["unknown", "a&config_id=x#y", "x" * 2**19, None, 5, {"a": 1}, "", "\x00", "ümläut 🙂"]
)
async def test_any_uuid_gets_a_call(provider: str, uuid: object, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        good = await good_call(stage)
        odd = await stage.call("/?welcome_message=Hello!", uuid=uuid)
        await odd.hear_until("audio")
        chats: list[Any] = [session.chat for session in stage.emulator.live]  # of either protocol
        assert all(chat.query.config_id is None for chat in chats)
        await still_good(stage, good)


@ONE
async def test_a_uuid_of_a_megabyte_is_too_large_a_message(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        caller = Caller(await stage.wire.call())
        await caller.say(type="init", uuid="x" * 2**20)
        _, code = await caller.hear_out()
        assert code == 1009


@ONE
async def test_audio_before_init_is_ignored(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        caller = Caller(await stage.wire.call())
        for _ in range(200):
            await caller.socket.send_message(FRAME_TEXT)
        await caller.say(type="init", uuid="u")
        await caller.speak(hum(0.1))
        await trio.testing.wait_all_tasks_blocked()
        assert stage.emulator.live[0].caller_audio == stage.as_heard(hum(0.1))


@ONE
async def test_a_caller_who_never_says_init(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        began = trio.current_time()
        heard, code = await Caller(await stage.wire.call()).hear_out()
        assert heard == [{"type": "error", "message": "no init message within 10 s of connecting"}]
        assert code == 1008
        assert trio.current_time() - began < 11
        assert stage.emulator.connections == 0


@ONE
async def test_a_caller_who_does_not_read_costs_only_his_own_call(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_stage(provider=provider, **OWN) as stage:
        good = await good_call(stage)
        stream = await stage.wire.connect(trio.testing.lockstep_stream_pair)
        request = (
            b"GET / HTTP/1.1\r\nHost: sts\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        init = b'{"type":"init","uuid":"deaf"}'
        await stream.send_all(request)
        await stream.receive_some()  # the 101, and nothing after it
        await stream.send_all(bytes([0x81, 0x80 | len(init)]) + bytes(4) + init)
        await trio.sleep(60)
        assert stage.registry.live == 1
        (session,) = stage.emulator.live
        assert session.prompt == "good"
        assert good.socket.closed is None


async def test_what_core_writes_into_a_close_stays_text(autojump_clock: trio.testing.MockClock, logged: Logged) -> None:
    async with open_stage() as stage:
        caller = await stage.call()
        await caller.hear_until("audio")
        await caller.socket.aclose(4000, "\x1b[2Jbye\r\n\u2028{}\u202e\x9b1m")
        await trio.sleep(1)
        assert stage.registry.live == 0
    (end,) = [line for line in logged.lines if line["event"] == "call ended"]
    assert (end["code"], end["message"]) == (4000, "bye {}")
