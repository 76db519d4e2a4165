"""A provider's bad day, through the whole service in memory: Core learns the cause, never the key, then the close."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import wsproto
from trio_websocket import wrap_server_stream

from sts_trio.lab.emulator import (
    CloseWith,
    Drop,
    Emulator,
    EmulatorOptions,
    Mute,
    Refuse,
    Reset,
    Script,
    SendError,
    SendGarbage,
    SendRaw,
    serve_stream,
)
from tests.call.fakes import tone, wav_file
from tests.call.stage import ALL, BOTH, KEY, ONE, matrix, open_stage

if TYPE_CHECKING:
    from sts_trio.providers.dial import Endpoint

NAMES = {"humeai": "Hume", "openai": "OpenAI", "xai": "xAI"}
URLS = {"humeai": "HUMEAI_WS_URL", "openai": "OPENAI_BASE_URL", "xai": "XAI_BASE_URL"}
_REFUSALS = {
    "429": Script(handshake=Refuse(429)),
    "502": Script(handshake=Refuse(502)),
    "503": Script(handshake=Refuse(503)),
    "reset": Script(handshake=Drop(reset=True)),
    "full": Script(metadata=False, steps=(SendError(0.1, "rate_limit_exceeded"), CloseWith(0.2, 1013))),
}
READY = {"humeai": "chat_metadata", "openai": "session.updated", "xai": "session.updated"}

Trouble = tuple[Script, str, float]

# What goes wrong, what Core hears of it, and within which time. Any provider may fail like this.
COMMON: dict[str, Trouble] = {
    "401": (Script(handshake=Refuse(401)), "HTTP 401", 1),
    "401 that repeats the key": (Script(handshake=Refuse(401, f"wrong key {KEY}")), "{prefix}_API_KEY", 1),
    "401 with the key where it is cut": (Script(handshake=Refuse(401, "x" * 188 + KEY)), "{prefix}_API_KEY", 1),
    "403": (Script(handshake=Refuse(403)), "HTTP 403", 1),
    "404": (Script(handshake=Refuse(404)), "{url}", 1),
    "429": (Script(handshake=Refuse(429)), "HTTP 429", 10.5),
    "503": (Script(handshake=Refuse(503)), "HTTP 503", 10.5),
    "mute handshake": (Script(handshake=Mute()), "did not complete the handshake within 10 s", 10.5),
    "never ready": (Script(metadata=False), "no {ready} within 10 s", 10.5),
    "close before ready": (Script(metadata=False, steps=(CloseWith(0.1, 1000),)), "1000", 1),
    "close 1008": (Script(steps=(CloseWith(1, 1008, "policy"),)), "code 1008: policy", 2),
    "a close that repeats the key": (Script(steps=(CloseWith(1, 1008, f"key {KEY}"),)), "code 1008: key ***", 2),
    "close 4000": (Script(steps=(CloseWith(1, 4000),)), "code 4000", 2),
    # Each new session breaks as well: after 15 s it is hopeless.
    "broken frames again and again": (Script(steps=(SendGarbage(1, b"\xff" * 64),)), "{name}", 20),
    "reset again and again": (Script(steps=(Reset(1),)), "connection to {name} broke", 20),
    "close 1011 again and again": (Script(steps=(CloseWith(1, 1011),)), "code 1011", 20),
}


def repeats_the_key(message: dict[str, object], cause: str) -> dict[str, Trouble]:
    """An error that repeats the key, in every way in which it may hide."""
    text = json.dumps(message)
    return {
        "an error that repeats the key": (Script(steps=(SendRaw(1, text),)), cause, 7),
        "an error with the key in escapes": (Script(steps=(SendRaw(1, text.replace("-", r"\u002d")),)), cause, 7),
    }


EVI: dict[str, Trouble] = {
    "410": (Script(handshake=Refuse(410)), "end of its public EVI API", 1),
    "error before ready": (Script(metadata=False, steps=(SendError(0.1, "E0300", "credit"),)), "E0300", 1),
    "fatal error": (Script(steps=(SendError(1, "E0714", "inactivity_timeout"),)), "E0714 inactivity_timeout", 7),
    "fatal error and close": (Script(steps=(SendError(1, "E0715", "max_duration"), CloseWith(1, 1000))), "E0715", 2),
    "error and close at once": (Script(steps=(SendError(0, "E0300", "credit"), CloseWith(0, 1000))), "E0300", 1),
    "I0116 again and again": (Script(steps=(SendError(1, "I0116", "transcription"), CloseWith(1, 1000))), "I0116", 20),
    **repeats_the_key({"type": "error", "code": "E0300", "slug": KEY, "message": f"no {KEY}"}, "E0300"),
}
CREDIT = SendError(1, "insufficient_quota")
REALTIME: dict[str, Trouble] = {
    "error before ready": (Script(metadata=False, steps=(SendError(0.1, "invalid_api_key"),)), "{prefix}_API_KEY", 1),
    "complaint before a close": (
        Script(metadata=False, steps=(SendError(0.1, "model_load_error"), CloseWith(0.2, 1011))),
        "it had reported: An error that the emulator's script asked for. (model_load_error)",
        10.5,
    ),
    "fatal error": (Script(steps=(CREDIT,)), "the account has no credit left", 7),
    "fatal error and close": (Script(steps=(CREDIT, CloseWith(1, 1000))), "the account has no credit left", 2),
    "a close for want of credit": (
        Script(steps=(CloseWith(1, 1013, "insufficient_quota.credit_balance_exhausted"),)),
        "code 1013: insufficient_quota.credit_balance_exhausted; the account has no credit left",
        2,
    ),
    "error and close at once": (
        Script(steps=(SendError(0, "model_not_found"), CloseWith(0, 4004))),
        "check {prefix}_MODEL",
        1,
    ),
    "server_error again and again": (
        Script(steps=(SendError(1, "x", "server_error"), CloseWith(1, 1011))),
        "An error that the emulator's script asked for. (x)",
        20,
    ),
    **repeats_the_key(
        {"type": "error", "error": {"type": KEY, "code": "insufficient_quota", "message": f"no {KEY}", "param": KEY}},
        "insufficient_quota",
    ),
}
# No service of this protocol ends a conversation by a close: another session is tried.
CLOSES = ("close 1008", "a close that repeats the key", "close 4000")
REALTIME |= {name: (COMMON[name][0], COMMON[name][1], 20) for name in CLOSES}
TROUBLE = {"humeai": COMMON | EVI, "openai": COMMON | REALTIME, "xai": COMMON | REALTIME}


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        matrix(provider, name) if provider == "xai" and name not in ("401", "never ready") else (provider, name)
        for provider in TROUBLE
        for name in TROUBLE[provider]
    ],
)
async def test_core_hears_the_cause_and_then_the_close(
    provider: str, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    trouble, cause, within = TROUBLE[provider][name]
    words = {"name": NAMES[provider], "prefix": provider.upper(), "url": URLS[provider], "ready": READY[provider]}
    async with open_stage(provider=provider, script=lambda _: trouble) as stage:
        began = trio.current_time()
        heard, code = await (await stage.call()).hear_out()
        took = trio.current_time() - began
        errors = [message["message"] for message in heard if message["type"] == "error"]
        assert len(errors) == 1
        assert cause.format(**words) in str(errors[0])
        assert KEY[:12] not in str(heard)
        assert "\n" not in str(errors[0])
        assert code == 1011
        assert took <= within
        await trio.testing.wait_all_tasks_blocked()
        assert stage.registry.live == 0


@pytest.mark.parametrize("provider", ["humeai"])  # no other says good-bye by a close
async def test_a_good_bye_of_the_agent_is_no_error(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    good_bye = Script(steps=(CloseWith(5, 1000),))
    async with open_stage(provider=provider, script=lambda _: good_bye) as stage:
        heard, code = await (await stage.call()).hear_out()
        assert [message for message in heard if message["type"] == "error"] == []
        assert code == 1000


@ONE
@pytest.mark.parametrize(
    ("failure", "cause"),
    [(OSError("all failed"), "all failed"), (OSError(113, "No route to host"), "No route to host")],
)
async def test_a_refused_connection(
    provider: str, failure: OSError, cause: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def refuse(endpoint: Endpoint) -> trio.abc.Stream:
        raise failure

    async with open_stage(provider=provider, dial=refuse) as stage:
        heard, code = await (await stage.call()).hear_out()
        host = "evi.test" if provider == "humeai" else "realtime.test"
        assert f"cannot connect to {host}:443: {cause}" in str(heard)
        assert code == 1011


@ONE
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
    provider: str, answer: bytes, then_closes: bool, autojump_clock: trio.testing.MockClock
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

    async with trio.open_nursery() as nursery, open_stage(provider=provider, dial=dial) as stage:
        heard, code = await (await stage.call()).hear_out()
        assert code == 1011
        assert f"answered HTTP 401 to the upgrade (check {provider.upper()}_API_KEY)" in str(heard)


@pytest.mark.parametrize(
    ("provider", "errors", "told"),
    [
        ("humeai", [("E0101", "bad_field", "no"), ("W0101",)], "Hume reports an error: no (E0101 bad_field)"),
        (
            "openai",
            [("bad_field", "x", "no"), ("response_cancel_not_active",)],
            "OpenAI reports an error: no (bad_field)",
        ),
        (
            "xai",
            [("", "invalid_event", "no"), ("", "x", "no active response")],
            "xAI reports an error: no (invalid_event)",
        ),
    ],
)
async def test_an_error_after_which_the_provider_goes_on_is_told_and_the_call_goes_on(
    provider: str, errors: list[Any], told: str, autojump_clock: trio.testing.MockClock
) -> None:
    steps: tuple[SendError | SendRaw, ...] = (
        *(SendError(1 + number / 10, *error) for number, error in enumerate(errors)),
        SendRaw(1.2, '{"type":"news"}'),
    )
    async with open_stage(provider=provider, script=lambda _: Script(steps=steps)) as stage:
        caller = await stage.call()
        error = await caller.hear_until("error")
        assert error == {"type": "error", "message": told}
        await caller.speak(tone(2.0))
        await caller.speak(bytes(320 * 100))
        transcript = await caller.hear_until("transcript")
        assert transcript["role"] in ("user", "agent")
        assert stage.registry.live == 1


# What a session begins with, all that we wait for; and an error that ends it, as Core is told.
BEGINNING = {
    "humeai": ['{"type":"chat_metadata","chat_id":"c","chat_group_id":"g"}'],
    "openai": ['{"type":"session.created","session":{"id":"c"}}', '{"type":"session.updated","session":{}}'],
}
OUT_OF_CREDIT = {
    "humeai": (
        '{"type":"error","code":"E0300","slug":"credit","message":"none left"}',
        "Hume reports an error: none left (E0300 credit)",
    ),
    "openai": (
        '{"type":"error","error":{"code":"insufficient_quota","message":"none left"}}',
        "OpenAI reports an error: none left (insufficient_quota); the account has no credit left",
    ),
}


@BOTH
@pytest.mark.parametrize("prompt", ["Be brief.", "Be very long. " * 200])
async def test_the_cause_is_told_though_it_comes_with_the_close_in_one_piece(
    provider: str, prompt: str, autojump_clock: trio.testing.MockClock
) -> None:
    """What we say then (greeting, prompt) meets a closed connection before the error has been read."""
    error, told = OUT_OF_CREDIT[provider]

    async def all_at_once(stream: trio.abc.Stream) -> None:
        server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        server.receive_data(bytes(await stream.receive_some()))
        list(server.events())
        events = [
            wsproto.events.AcceptConnection(),
            *(wsproto.events.TextMessage(text) for text in (*BEGINNING[provider], error)),
            wsproto.events.CloseConnection(1000),
        ]
        await stream.send_all(b"".join(server.send(event) for event in events))

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(all_at_once, theirs)
        return ours

    async with trio.open_nursery() as nursery, open_stage(provider=provider, dial=dial, instructions=prompt) as stage:
        for _ in range(20):
            heard, _ = await (await stage.call()).hear_out()
            assert [message["message"] for message in heard] == [told]


@ONE
async def test_a_provider_that_answers_no_ping_is_dead(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    """A half-open connection: it is up, and nothing comes any more, not even a pong."""

    async def begin_and_no_more(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as reader:
            socket = await (await wrap_server_stream(reader, stream)).accept()
            for text in BEGINNING[provider]:
                await socket.send_message(text)
            reader.cancel_scope.cancel()  # pings pile up unanswered
        await trio.sleep_forever()

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(begin_and_no_more, theirs)
        return ours

    async with trio.open_nursery() as nursery:
        async with open_stage(provider=provider, dial=dial, welcome_message="") as stage:  # nothing is asked for
            began = trio.current_time()
            heard, code = await (await stage.call()).hear_out()
            assert code == 1011
            assert f"the connection to {NAMES[provider]} broke: no answer to a ping for 20 s" in str(heard)
            assert trio.current_time() - began <= 41  # another session was tried, and it was as dead
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rate", [48_000, 44_100, 24_000, 16_000, 8000])
async def test_audio_of_evi_in_any_rate_reaches_core(rate: int, autojump_clock: trio.testing.MockClock) -> None:
    data = base64.b64encode(wav_file(tone(1.0, rate=rate), rate)).decode()
    audio = json.dumps({"type": "audio_output", "id": "a", "index": 0, "data": data})
    steps = (SendRaw(1, audio), SendRaw(1.1, '{"type":"assistant_end"}'), CloseWith(1.2, 1000))
    async with open_stage(script=lambda _: Script(steps=steps), welcome_message="") as stage:
        heard, _ = await (await stage.call()).hear_out()
        audio_heard = b"".join(base64.b64decode(str(m["audio"])) for m in heard if m["type"] == "audio")
        assert len(audio_heard) == 16_000


@ALL
@pytest.mark.parametrize("refusal", ["429", "502", "503", "reset", "DNS", "full"])
async def test_a_first_session_that_is_refused_three_times_and_then_taken_makes_a_call(
    provider: str, refusal: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The greeting is said once, and what the caller said meanwhile is not lost; nobody else hears of it."""
    tries = 0

    def script(number: int) -> Script:
        nonlocal tries
        tries += 1
        return _REFUSALS.get(refusal, Script()) if tries <= 3 else Script()

    async def dial(endpoint: Endpoint) -> trio.abc.Stream:
        nonlocal tries
        if refusal == "DNS" and tries < 3:
            tries += 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        ours, theirs = trio.testing.memory_stream_pair()
        servers.start_soon(serve_stream, emulator, theirs)
        return ours

    options = EmulatorOptions(api_keys=frozenset({KEY}), seed=1, script=script, service=provider)
    emulator = Emulator(options)
    async with trio.open_nursery() as servers:
        async with open_stage(provider=provider, dial=dial, breaker_failures=1) as stage:
            caller = await stage.call()
            while (message := await caller.hear())["type"] != "audio":
                assert message["type"] != "error"
            assert trio.current_time() < 10
            shown = stage.metrics.scrape()[0].decode()
            assert 'sts_provider_connects_total{kind="first",result="ready"} 1.0' in shown
            assert 'sts_sessions_replaced_total{kind="resume"} 0.0' in shown
            assert "sts_breaker_open 0.0" in shown
            await caller.socket.aclose()
        servers.cancel_scope.cancel()


@ALL
async def test_after_five_answers_that_there_is_no_room_the_next_call_asks_at_once(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    full = True

    def script(number: int) -> Script:
        return Script(handshake=Refuse(429)) if full else Script()

    async with open_stage(provider=provider, script=script, breaker_failures=5) as stage:
        for _ in range(6):
            _, code = await (await stage.call()).hear_out()
            assert code == 1011
        full = False
        began = trio.current_time()
        caller = await stage.call()
        while (message := await caller.hear())["type"] != "audio":
            assert message["type"] != "error"
        assert trio.current_time() - began < 1.5
        await caller.socket.aclose()
