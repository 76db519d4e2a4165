"""A provider's bad day, through the whole service in memory: Core learns the cause, never the key, then the close."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import wsproto
from trio_websocket import wrap_server_stream

from sts_trio.emulator import (
    CloseWith,
    Mute,
    Refuse,
    Reset,
    Script,
    SendError,
    SendGarbage,
    SendRaw,
)
from tests.call.fakes import tone, wav_file
from tests.call.stage import KEY, open_stage

if TYPE_CHECKING:
    from sts_trio.providers.dial import Endpoint

NOT_BASE64 = json.dumps({"type": "audio_output", "id": "a", "index": 0, "data": "*not base64*"})
NOT_WAV = json.dumps({"type": "audio_output", "id": "a", "index": 0, "data": base64.b64encode(b"ID3 no wav").decode()})


TROUBLE = {
    "401": (Script(handshake=Refuse(401)), "HTTP 401", 1),
    "401 that repeats the key": (Script(handshake=Refuse(401, f"wrong key {KEY}")), "HUMEAI_API_KEY", 1),
    "403": (Script(handshake=Refuse(403)), "HTTP 403", 1),
    "404": (Script(handshake=Refuse(404)), "HUMEAI_WS_URL", 1),
    "410": (Script(handshake=Refuse(410)), "end of its public EVI API", 1),
    "429": (Script(handshake=Refuse(429)), "HTTP 429", 1),
    "503": (Script(handshake=Refuse(503)), "HTTP 503", 1),
    "mute handshake": (Script(handshake=Mute()), "did not complete the handshake within 10 s", 10.5),
    "no chat_metadata": (Script(metadata=False), "no chat_metadata within 10 s", 10.5),
    "close before metadata": (Script(metadata=False, steps=(CloseWith(0.1, 1000),)), "1000", 1),
    "error before metadata": (Script(metadata=False, steps=(SendError(0.1, "E0300", "credit"),)), "E0300", 1),
    "malformed JSON": (Script(steps=(SendRaw(1, '{"type":'),)), "no JSON object", 2),
    "JSON null": (Script(steps=(SendRaw(1, "null"),)), "no JSON object", 2),
    "a number": (Script(steps=(SendRaw(1, "5"),)), "no JSON object", 2),
    "a broken message": (Script(steps=(SendRaw(1, '{"type":"user_message","message":7}'),)), "broken user_message", 2),
    "binary": (Script(steps=(SendRaw(1, b"\x00\x01"),)), "no JSON object", 2),
    "broken base64": (Script(steps=(SendRaw(1, NOT_BASE64),)), "broken audio_output", 2),
    "no WAV": (Script(steps=(SendRaw(1, NOT_WAV),)), "cannot be played", 2),
    "garbage": (Script(steps=(SendGarbage(1, b"\xff" * 64),)), "Hume", 2),
    "fatal error": (Script(steps=(SendError(1, "E0714", "inactivity_timeout"),)), "E0714 inactivity_timeout", 7),
    "fatal error and close": (Script(steps=(SendError(1, "E0715", "max_duration"), CloseWith(1, 1000))), "E0715", 2),
    "close 1000": (Script(steps=(CloseWith(5, 1000),)), "close 1000", 7),
    "close 1008": (Script(steps=(CloseWith(1, 1008, "policy"),)), "code 1008: policy", 2),
    "an error that repeats the key": (Script(steps=(SendError(1, "E0001", KEY, f"no {KEY}"),)), "E0001", 7),
    "an error that repeats the key in escapes": (
        Script(
            steps=(SendRaw(1, json.dumps({"type": "error", "code": "E0001", "message": KEY}).replace("-", r"\u002d")),)
        ),
        "E0001",
        7,
    ),
    "an error that repeats the key in a binary frame": (
        Script(steps=(SendRaw(1, json.dumps({"type": "error", "code": "E0001", "message": KEY}).encode()),)),
        "E0001",
        7,
    ),
    "401 with the key where it is cut": (Script(handshake=Refuse(401, "x" * 188 + KEY)), "HUMEAI_API_KEY", 1),
    "error and close at once": (Script(steps=(SendError(0, "E0300", "credit"), CloseWith(0, 1000))), "E0300", 1),
    "a close that repeats the key": (Script(steps=(CloseWith(1, 1008, f"key {KEY}"),)), "code 1008: key ***", 2),
    "close 4000": (Script(steps=(CloseWith(1, 4000),)), "code 4000", 2),
    # Each new session breaks as well: after 15 s it is hopeless.
    "reset again and again": (Script(steps=(Reset(1),)), "connection to Hume broke", 20),
    "close 1011 again and again": (Script(steps=(CloseWith(1, 1011),)), "code 1011", 20),
    "I0116 again and again": (Script(steps=(SendError(1, "I0116", "transcription"), CloseWith(1, 1000))), "I0116", 20),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_core_hears_the_cause_and_then_the_close(name: str, autojump_clock: trio.testing.MockClock) -> None:
    trouble, cause, within = TROUBLE[name]
    async with open_stage(script=lambda _: trouble) as stage:
        began = trio.current_time()
        heard, code = await (await stage.call()).hear_out()
        took = trio.current_time() - began
        errors = [message["message"] for message in heard if message["type"] == "error"]
        assert len(errors) == 1
        assert cause in str(errors[0])
        assert KEY[:12] not in str(heard)
        assert "\n" not in str(errors[0])
        assert code == (1000 if name == "close 1000" else 1011)
        assert took <= within
        await trio.testing.wait_all_tasks_blocked()
        assert stage.registry.live == 0


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (OSError("all failed"), "cannot connect to evi.test:443: all failed"),
        (OSError(113, "No route to host"), "cannot connect to evi.test:443: No route to host"),
    ],
)
async def test_a_refused_connection(failure: OSError, cause: str, autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(endpoint: Endpoint) -> trio.abc.Stream:
        raise failure

    async with open_stage(dial=refuse) as stage:
        heard, code = await (await stage.call()).hear_out()
        assert cause in str(heard)
        assert code == 1011


@pytest.mark.parametrize(
    ("answer", "then_closes"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\nno", True),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, True),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nno", False),
        (b"HTTP/1.1 401 Unauth", False),
    ],
)
async def test_the_status_of_a_refusal_is_told_whatever_its_body_is_like(
    answer: bytes, then_closes: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        if then_closes:
            await stream.aclose()

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(refuse, theirs)
        return ours

    async with trio.open_nursery() as nursery, open_stage(dial=dial) as stage:
        heard, code = await (await stage.call()).hear_out()
        assert code == 1011
        assert "answered HTTP 401 to the upgrade (check HUMEAI_API_KEY)" in str(heard)


async def test_an_error_after_which_evi_goes_on_is_told_and_the_call_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    steps = (SendError(1, "E0101", "bad_field", "no"), SendError(1.1, "W0101"), SendRaw(1.2, '{"type":"news"}'))
    async with open_stage(script=lambda _: Script(steps=steps)) as stage:
        caller = await stage.call()
        error = await caller.hear_until("error")
        assert error == {"type": "error", "message": "Hume reports an error: no (E0101 bad_field)"}
        await caller.speak(tone(2.0))
        await caller.speak(bytes(320 * 100))
        transcript = await caller.hear_until("transcript")
        assert transcript["role"] in ("user", "agent")
        assert stage.registry.live == 1


@pytest.mark.parametrize("prompt", ["Be brief.", "Be very long. " * 200])
async def test_the_cause_is_told_though_it_comes_with_the_close_in_one_piece(
    prompt: str, autojump_clock: trio.testing.MockClock
) -> None:
    """What we say then (greeting, prompt) meets a closed connection before the error has been read."""

    async def all_at_once(stream: trio.abc.Stream) -> None:
        server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        server.receive_data(bytes(await stream.receive_some()))
        list(server.events())
        events = [
            wsproto.events.AcceptConnection(),
            wsproto.events.TextMessage('{"type":"chat_metadata","chat_id":"c"}'),
            wsproto.events.TextMessage('{"type":"error","code":"E0300","slug":"credit","message":"none left"}'),
            wsproto.events.CloseConnection(1000),
        ]
        await stream.send_all(b"".join(server.send(event) for event in events))

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(all_at_once, theirs)
        return ours

    async with trio.open_nursery() as nursery, open_stage(dial=dial, instructions=prompt) as stage:
        for _ in range(20):
            heard, _ = await (await stage.call()).hear_out()
            assert [message["message"] for message in heard] == ["Hume reports an error: none left (E0300 credit)"]


async def test_a_provider_that_answers_no_ping_is_dead(autojump_clock: trio.testing.MockClock) -> None:
    """A half-open connection: it is up, and nothing comes any more, not even a pong."""
    gate = _Gate()

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(gate.metadata_and_nothing_more, theirs)
        return ours

    async with trio.open_nursery() as nursery:
        async with open_stage(dial=dial) as stage:
            began = trio.current_time()
            heard, code = await (await stage.call()).hear_out()
            assert code == 1011
            assert "the connection to Hume broke: no answer to a ping for 20 s" in str(heard)
            assert trio.current_time() - began <= 41  # another session was tried, and it was as dead
        nursery.cancel_scope.cancel()


class _Gate:
    async def metadata_and_nothing_more(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            socket = await request.accept()
            await socket.send_message('{"type":"chat_metadata","chat_id":"c","chat_group_id":"g"}')
            nursery.cancel_scope.cancel()  # its reader is gone: pings pile up unanswered
        await trio.sleep_forever()


@pytest.mark.parametrize("rate", [48_000, 44_100, 24_000, 16_000, 8000])
async def test_audio_in_any_rate_reaches_core(rate: int, autojump_clock: trio.testing.MockClock) -> None:
    data = base64.b64encode(wav_file(tone(1.0, rate=rate), rate)).decode()
    audio = json.dumps({"type": "audio_output", "id": "a", "index": 0, "data": data})
    steps = (SendRaw(1, audio), SendRaw(1.1, '{"type":"assistant_end"}'), CloseWith(1.2, 1000))
    async with open_stage(script=lambda _: Script(steps=steps), welcome_message="") as stage:
        heard, _ = await (await stage.call()).hear_out()
        audio_heard = b"".join(base64.b64decode(str(m["audio"])) for m in heard if m["type"] == "audio")
        assert len(audio_heard) == 16_000
