"""A Realtime session as a call sees it: in memory, with the emulator, or with a server that only writes down."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.errors import ProviderLost, ProviderRefused, ProviderTimeout
from sts_trio.providers.dial import Endpoint
from sts_trio.providers.events import (
    AgentBrief,
    AgentClosed,
    AgentReady,
    AgentText,
    CallInfo,
    ToolCall,
    ToolOffer,
    UserTurn,
)
from sts_trio.providers.openai.dialect import OPENAI, XAI, Dialect
from sts_trio.providers.openai.link import RealtimeLink, RealtimeProvider
from sts_trio.providers.openai.opening import Options
from tests.call.fakes import tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sts_trio.providers.events import AgentEvent

KEY = "key-that-nobody-may-see"
WEATHER = ToolOffer("weather", "What the weather is like.", '{"type":"object"}')
Clock = trio.testing.MockClock


@asynccontextmanager
async def open_provider(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], options: Options | None = None, key: str = KEY
) -> AsyncIterator[RealtimeProvider]:
    """A provider whose every connection is served by `serve`."""
    async with trio.open_nursery() as nursery:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, theirs)
            return ours

        yield RealtimeProvider(Endpoint.from_url("wss://realtime.test/v1"), key, dial, options or Options())
        nursery.cancel_scope.cancel()


def emulator(dialect: Dialect = OPENAI) -> tuple[Emulator, Options]:
    service: Any = dialect.name.lower()
    options = EmulatorOptions(service=service, api_keys=frozenset({KEY}), seed=1)
    linear: Any = {"format": "pcm", "rate": 8000} if dialect is XAI else {}
    return Emulator(options), Options(dialect=dialect, model=dialect.current, **linear)


async def hear(link: RealtimeLink, kind: type[AgentEvent]) -> Any:
    while not isinstance(event := await link.receive(), kind):
        assert not isinstance(event, AgentClosed), event
    return event


class Scribe:
    """A server that says `script` when a session has begun, and writes down what comes; `hold`: it says no more."""

    def __init__(self, *script: dict[str, Any], hold: bool = False) -> None:
        self.script = script
        self.hold = hold
        self.heard: list[Any] = []
        self.headers: dict[bytes, bytes] = {}

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, message_queue_size=64, max_message_size=2**20)
            self.headers = dict(request.headers)
            connection = await request.accept()
            try:
                await connection.send_message('{"type":"session.created","session":{"id":"s"}}')
                self.heard.append(json.loads(await connection.get_message()))
                for message in () if self.hold else ({"type": "session.updated", "session": {}}, *self.script):
                    await connection.send_message(json.dumps(message))
                while True:
                    self.heard.append(json.loads(await connection.get_message()))
            except ConnectionClosed:
                nursery.cancel_scope.cancel()


async def test_no_caller_audio_leaves_before_the_session_is_set_up(autojump_clock: Clock) -> None:
    evi, options = emulator()
    async with open_provider(partial(serve_stream, evi), options) as provider, provider(CallInfo("call-1")) as link:
        assert isinstance(await link.receive(), AgentReady)
        await link.send_audio(bytes(320))
        await trio.sleep(0.1)
        (session,) = evi.live
        assert (session.realtime.early_audio, session.caller_audio) == (0, bytes(320))


async def test_a_service_that_never_confirms_is_given_up_in_time(autojump_clock: Clock) -> None:
    began = trio.current_time()
    async with open_provider(Scribe(hold=True).serve) as provider:
        with pytest.raises(ProviderTimeout, match=r"no session\.updated within 10 s"):
            async with provider(CallInfo("call-1")):
                pass
    assert trio.current_time() - began < 11.5


@pytest.mark.parametrize(
    ("key", "model", "told"),
    [
        ("wrong-key", "gpt-realtime-2.1", "check OPENAI_API_KEY"),
        (KEY, "gpt-9", r"check OPENAI_MODEL; gpt-realtime-2\.1 is current"),
    ],
)
async def test_a_wrong_key_or_model_is_told_though_the_upgrade_was_answered(
    key: str, model: str, told: str, autojump_clock: Clock
) -> None:
    evi, _ = emulator()
    async with open_provider(partial(serve_stream, evi), Options(model=model), key) as provider:
        with pytest.raises(ProviderRefused, match=told) as caught:
            async with provider(CallInfo("call-1")):
                pass
    assert key not in str(caught.value)


async def test_settings_that_are_not_taken_are_a_refusal_and_no_secret_is_repeated(autojump_clock: Clock) -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            connection = await (await wrap_server_stream(nursery, stream)).accept()
            await connection.send_message('{"type":"session.created","session":{}}')
            await connection.get_message()
            error = {"code": "invalid_value", "message": f"no voice {KEY}", "event_id": "settings"}
            await connection.send_message(json.dumps({"type": "error", "error": error}))
            nursery.cancel_scope.cancel()

    async with open_provider(refuse) as provider:
        with pytest.raises(ProviderRefused, match=r"no voice \*\*\* \(invalid_value\); check the OPENAI_ settings"):
            async with provider(CallInfo("call-1")):
                pass


async def test_the_key_travels_in_a_header(autojump_clock: Clock) -> None:
    scribe = Scribe()
    async with open_provider(scribe.serve) as provider, provider(CallInfo("call-1")):
        assert KEY not in repr(provider)
    assert scribe.headers[b"authorization"] == f"Bearer {KEY}".encode()


@pytest.mark.parametrize("dialect", [OPENAI, XAI], ids=lambda dialect: dialect.name)
async def test_a_session_takes_over_what_was_said(dialect: Dialect, autojump_clock: Clock) -> None:
    evi, options = emulator(dialect)
    async with open_provider(partial(serve_stream, evi), options) as provider:
        async with provider(CallInfo("call-1")) as link:
            ready = await hear(link, AgentReady)
            await link.say("Good evening.")
            await hear(link, AgentText)
            await link.user_text("Is doctor Silva in?")
            await hear(link, AgentText)
        async with provider(CallInfo("call-1", resume=ready.resume)) as link:
            assert (await hear(link, AgentReady)).resume is ready.resume
            await trio.sleep(0.1)
            session = evi.live[0].realtime
            assert session.resumed
            if dialect is XAI:
                assert session.query.raw["conversation_id"] == session.group_id
                return
            texts = [item["content"][0]["text"] for item in session.items.seeded]
            assert texts[:3] == ["Good evening.", "Is doctor Silva in?", "How can I help you?"]
            assert "Do not greet again" in texts[3]
            assert not session.user_inputs


async def test_a_tool_is_asked_for_and_its_result_spoken(autojump_clock: Clock) -> None:
    evi, options = emulator()
    brief = AgentBrief(tools=(WEATHER,))
    call = CallInfo("call-1", brief=brief)
    async with open_provider(partial(serve_stream, evi), options) as provider, provider(call) as link:
        await link.user_text('call weather {"city":"Oslo"}')
        assert (await hear(link, UserTurn)).text == 'call weather {"city":"Oslo"}'
        asked = await hear(link, ToolCall)
        assert (asked.name, asked.arguments) == ("weather", '{"city":"Oslo"}')
        await link.tool_response(asked.id, "grey")
        assert (await hear(link, AgentText)).text == "grey"


def calls(*ids: str) -> list[dict[str, Any]]:
    item = {"type": "function_call", "name": "weather", "arguments": "{}"}
    return [
        {"type": "response.created", "response": {"id": "r"}},
        *({"type": "response.output_item.done", "response_id": "r", "item": item | {"call_id": id_}} for id_ in ids),
        {"type": "response.done", "response": {"id": "r", "status": "completed"}},
    ]


async def test_an_answer_wakes_who_waits_for_the_next_request(autojump_clock: Clock) -> None:
    async with open_provider(Scribe(*calls("c1", "c2")).serve) as provider, provider(CallInfo("call-1")) as link:
        asked: list[str] = []

        async def listen() -> None:
            while len(asked) < 2:
                asked.append((await hear(link, ToolCall)).id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.sleep(5)
            assert asked == ["c1"]
            await link.tool_response("c1", "rain")
            with trio.fail_after(0.1):
                while len(asked) < 2:
                    await trio.sleep(0.01)


@pytest.mark.parametrize(("stops", "fills"), [(False, 0), (True, 20)])
async def test_who_stops_sending_in_mid_turn_is_answered_all_the_same(
    stops: bool, fills: int, autojump_clock: Clock
) -> None:
    """The gap is filled with silence, for ten seconds at the most."""
    started = {"type": "input_audio_buffer.speech_started"}
    scribe = Scribe(started)
    async with (
        open_provider(scribe.serve) as provider,
        provider(CallInfo("call-1")) as link,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hear, link, AgentClosed)
        for _ in range(10 if stops else 1500):
            await link.send_audio(tone(0.02))
            await trio.sleep(0.02)
        await trio.sleep(30 if stops else 0)
        nursery.cancel_scope.cancel()
    audio = [base64.b64decode(message["audio"]) for message in scribe.heard if "audio" in message]
    assert sum(piece == b"\xff" * 4000 for piece in audio) == pytest.approx(fills, abs=1)


async def test_a_silence_of_the_line_between_turns_is_left_alone(autojump_clock: Clock) -> None:
    scribe = Scribe()
    async with open_provider(scribe.serve) as provider, provider(CallInfo("call-1")) as link:
        with trio.move_on_after(60):
            await hear(link, AgentClosed)
    assert not [message for message in scribe.heard if "audio" in message]


async def test_words_to_a_session_that_is_over_are_a_lost_provider(autojump_clock: Clock) -> None:
    evi = Emulator(EmulatorOptions(service="openai", max_duration=5.0))
    async with open_provider(partial(serve_stream, evi)) as provider, provider(CallInfo("call-1")) as link:
        while not isinstance(end := await link.receive(), AgentClosed):
            pass
        assert (end.normal, end.retryable) == (False, True)
        with pytest.raises(ProviderLost):
            await link.say("Hello.")
