"""A chat with EVI as a call sees it: in memory, with the emulator, or with a server that only writes down."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.errors import ProviderLost
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.lab.emulator.evi.wire import ToolError, ToolResponse
from sts_trio.providers.base import (
    AgentAudio,
    AgentEvent,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    SessionConfig,
    SessionEnd,
    ToolCall,
    ToolOffer,
    UserTurn,
)
from sts_trio.providers.dial import Endpoint
from sts_trio.providers.hume.link import HumeLink, HumeProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

KEY = "key-that-nobody-may-see"
WEATHER = ToolOffer("weather", "What the weather is like.", '{"type":"object"}')
LONG = "Be kind. " * 200
METADATA = {"type": "chat_metadata", "chat_id": "c", "chat_group_id": "g"}


@asynccontextmanager
async def open_provider(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], **settings: Any
) -> AsyncIterator[HumeProvider]:
    """A provider whose every connection is served by `serve`."""
    async with trio.open_nursery() as nursery:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, theirs)
            return ours

        yield HumeProvider(Endpoint.from_url("wss://evi.test/v0/evi/chat"), KEY, dial, **settings)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_chat(
    session_config: SessionConfig | None = None, options: EmulatorOptions | None = None
) -> AsyncIterator[tuple[HumeLink, Emulator]]:
    """A chat with an emulator."""
    evi = Emulator(options or EmulatorOptions(seed=1))
    async with (
        open_provider(partial(serve_stream, evi)) as provider,
        provider(CallInfo("call-1", session_config=session_config or SessionConfig())) as link,
    ):
        yield link, evi


class Scribe:
    """A server that says `script` when a chat begins, and writes down what comes: texts decoded, audio as bytes."""

    def __init__(self, *script: dict[str, Any]) -> None:
        self.script = script
        self.targets: list[str] = []
        self.heard: list[Any] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, message_queue_size=64, max_message_size=2**20)
            self.targets.append(request.path)
            connection = await request.accept()
            try:
                for message in (METADATA, *self.script):
                    await connection.send_message(json.dumps(message))
                while True:
                    data = await connection.get_message()
                    self.heard.append(json.loads(data) if isinstance(data, str) else data)
            except ConnectionClosed:
                nursery.cancel_scope.cancel()


async def hear(link: HumeLink, kind: type[AgentEvent]) -> Any:
    """The next event of a kind."""
    while not isinstance(event := await link.receive(), kind):
        assert not isinstance(event, SessionEnd), event
    return event


# What is late.


@pytest.mark.parametrize("resume", [None, "g"])
async def test_one_message_holds_all_that_is_late_and_goes_before_words_and_audio(
    resume: str | None, autojump_clock: trio.testing.MockClock
) -> None:
    scribe = Scribe()
    session_config = SessionConfig(instructions=LONG, variables={"from": "2000", "note": "n" * 1001}, tools=(WEATHER,))
    call = CallInfo("call-1", resume=resume, session_config=session_config)
    async with open_provider(scribe.serve) as provider, provider(call) as link:
        await link.send_audio(bytes(320))
        await link.say("Hello.")
        await trio.testing.wait_all_tasks_blocked()
    assert [message if isinstance(message, bytes) else message["type"] for message in scribe.heard] == [
        "session_settings",
        bytes(320),
        "assistant_input",
    ]
    assert scribe.heard[0] == {
        "type": "session_settings",
        "system_prompt": LONG,
        "variables": dict(session_config.variables),
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": WEATHER.description,
                "parameters": WEATHER.parameters,
            }
        ],
    }
    (target,) = scribe.targets
    assert "variables%5D%5Bfrom%5D=2000" in target
    assert ("resumed_chat_group_id=g" in target) == (resume is not None)


async def test_nothing_is_sent_where_nothing_is_late(autojump_clock: trio.testing.MockClock) -> None:
    scribe = Scribe()
    async with open_provider(scribe.serve, instructions="Short.") as provider, provider(CallInfo("call-1")) as link:
        assert await link.receive() == AgentReady("c", "g")
        await trio.testing.wait_all_tasks_blocked()
    assert scribe.heard == []


async def test_a_call_brings_its_own_config_prompt_voice_and_variables(autojump_clock: trio.testing.MockClock) -> None:
    evi = Emulator(EmulatorOptions(greetings={"own": "Hello {{from}}, welcome."}))
    session_config = SessionConfig("own", "own voice", "You answer for {{from}}.", {"from": "2000"}, (WEATHER,))
    settings = {"config_id": "ours", "voice_id": "our voice", "instructions": "our prompt"}
    call = CallInfo("call-1", session_config=session_config)
    async with open_provider(partial(serve_stream, evi), **settings) as provider, provider(call) as link:
        assert (await hear(link, AgentText)).text == "Hello 2000, welcome."
        (session,) = evi.live
        assert (session.query.config_id, session.settings.voice_id) == ("own", "own voice")
        assert session.prompt == "You answer for 2000."
        assert session.settings.offers("weather") is not None


# What a call says.


async def test_typed_text_is_answered_and_context_is_known_to_one_reply(autojump_clock: trio.testing.MockClock) -> None:
    async with open_chat() as (link, evi):
        await link.add_context("The caller pressed 1.")
        await trio.sleep(1)
        await link.user_text("Hello?")
        assert (await hear(link, UserTurn)).text == "Hello?"
        assert (await hear(link, AgentText)).text == "How can I help you? {Context: The caller pressed 1.}"
        await link.user_text("And now?")
        assert (await hear(link, AgentText)).text == "How can I help you?"
        (session,) = evi.live
        assert session.user_inputs == ("Hello?", "And now?")


async def test_context_alone_is_not_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with open_chat() as (link, _):
        await hear(link, AgentReady)
        await link.add_context("The caller pressed 1.")
        with trio.move_on_after(30) as waiting:
            await link.receive()
        assert waiting.cancelled_caught


async def test_a_tool_is_asked_for_and_its_result_spoken(autojump_clock: trio.testing.MockClock) -> None:
    async with open_chat(SessionConfig(tools=(WEATHER,))) as (link, evi):
        await link.user_text('call weather {"city":"Oslo"}')
        call = await hear(link, ToolCall)
        assert (call.name, call.arguments, call.response_required) == ("weather", '{"city":"Oslo"}', True)
        await link.tool_response(call.id, '{"sky":"grey"}')
        assert (await hear(link, AgentText)).text == '{"sky":"grey"}'
        await link.user_text("call weather")
        second = await hear(link, ToolCall)
        assert second.id != call.id
        await link.tool_error(second.id, "The station is closed.")
        assert (await hear(link, AgentText)).text == "The station is closed."
        (session,) = evi.live
        assert session.tool_answers == {
            call.id: [ToolResponse(tool_call_id=call.id, content='{"sky":"grey"}')],
            second.id: [
                ToolError(tool_call_id=second.id, error="The station is closed.", content="The station is closed.")
            ],
        }


async def test_what_a_chat_before_left_unsaid_is_said_and_not_taken_for_the_callers_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_chat() as (link, evi):
        await link.go_on("Where is my order?", cut_off=False)
        await link.tool_response("of another chat", "grey")
        await link.tool_error("of another chat, too", "closed")
        await link.go_on("", cut_off=True)
        await trio.sleep(1)
        (session,) = evi.live
        asked, result, failed, further = session.user_inputs
        assert asked == "Where is my order?"
        assert "grey" in result
        assert "closed" in failed
        assert "Go on" in further
        assert session.tool_answers == {}
        with trio.move_on_after(5):
            while True:
                assert not isinstance(await link.receive(), UserTurn)


async def test_a_good_bye_is_heard_before_the_tool_that_hangs_up(autojump_clock: trio.testing.MockClock) -> None:
    async with open_chat(SessionConfig(tools=(ToolOffer("dsai_hangup", "Hang up.", "{}"),))) as (link, _):
        await link.user_text("(The caller pressed 9 on the telephone keypad.)")
        kinds: list[type[AgentEvent]] = []
        while ToolCall not in kinds:
            kinds.append(type(await link.receive()))
        assert kinds[:3] == [AgentReady, UserTurn, AgentText]
        assert set(kinds[3:-1]) == {AgentAudio}
        assert AgentTurnEnd not in kinds


@pytest.mark.parametrize("method", ["say", "user_text", "add_context"])
async def test_words_to_a_chat_that_is_over_are_a_lost_provider(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_chat(options=EmulatorOptions(inactivity=5)) as (link, _):
        while not isinstance(await link.receive(), SessionEnd):
            pass
        with pytest.raises(ProviderLost):
            await getattr(link, method)("Hello.")
        for answer in (link.tool_response, link.tool_error):
            with pytest.raises(ProviderLost):
                await answer("call_A1", "too late")


# What Hume says of tools.


async def test_a_tool_error_of_humes_is_logged_by_its_id_alone_and_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    failures = [
        {"type": "tool_error", "tool_call_id": f"call_{n}\n{KEY}", "error": "private", "content": "555 0142"}
        for n in range(20)
    ]
    async with open_provider(Scribe(*failures, {"type": "assistant_end"}).serve) as provider:
        with capture_logs() as logs:
            async with provider(CallInfo("call-1")) as link:
                await hear(link, AgentTurnEnd)
    assert logs == [
        {
            "event": "Hume reports a tool call that failed",
            "log_level": "warning",
            "tool_call_id": f"call_{n} ***",
        }
        for n in range(5)
    ]


async def test_an_answer_that_comes_too_late_is_logged(autojump_clock: trio.testing.MockClock) -> None:
    async with open_chat(SessionConfig(tools=(WEATHER,)), EmulatorOptions(tool_limit=5.0)) as (link, _):
        with capture_logs() as logs:
            await link.user_text("call weather")
            call = await hear(link, ToolCall)
            await hear(link, AgentText)  # it has given up on us
    assert [line["tool_call_id"] for line in logs if line["log_level"] == "warning"] == [call.id]


async def test_a_tool_of_humes_own_that_answers_is_no_news(autojump_clock: trio.testing.MockClock) -> None:
    answered = {"type": "tool_response", "tool_call_id": "x", "content": "{}", "tool_type": "builtin"}
    async with open_provider(Scribe(answered, {"type": "assistant_end"}).serve) as provider:
        with capture_logs() as logs:
            async with provider(CallInfo("call-1")) as link:
                assert [type(await link.receive()) for _ in range(2)] == [AgentReady, AgentTurnEnd]
    assert logs == []
