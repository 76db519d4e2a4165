"""A Realtime session as a call sees it: in memory, with the emulator, or with a server that only writes down."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.errors import ProviderLost, ProviderRefused, ProviderTimeout
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.providers.base import (
    AgentReady,
    AgentText,
    CallInfo,
    SessionConfig,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    ToolOffer,
    UserTurn,
)
from sts_trio.providers.openai.dialect import OPENAI, XAI, Dialect
from sts_trio.providers.openai.session import Options
from tests.call.fakes import tone
from tests.fakes.realtime_link import KEY, Scribe, hear, open_provider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.providers.dial import Endpoint


WEATHER = ToolOffer("weather", "What the weather is like.", '{"type":"object"}')
Clock = trio.testing.MockClock


def emulator(dialect: Dialect = OPENAI) -> tuple[Emulator, Options]:
    service: Any = dialect.name.lower()
    options = EmulatorOptions(service=service, api_keys=frozenset({KEY}), seed=1)
    linear: Any = {"format": "pcm", "rate": 8000} if dialect is XAI else {}
    return Emulator(options), Options(dialect=dialect, model=dialect.current, **linear)


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


CREATED = {"type": "session.created", "session": {"id": "s"}}
UPDATED: dict[str, Any] = {"type": "session.updated", "session": {}}
ERROR = {"type": "error", "error": {"code": "model_load_error", "message": f"no such file {KEY}"}}


class Odd:
    """A server whose connections begin as the script says: what is sent at once, and a close code; the rest is silence.

    `paths` is what they asked for; `heard` what each was told, by number.
    """

    def __init__(self, *scripts: Sequence[dict[str, Any] | int]) -> None:
        self.scripts = scripts
        self.paths: list[str] = []
        self.heard: list[list[Any]] = []

    async def serve(self, stream: trio.abc.Stream) -> None:
        script = self.scripts[min(len(self.paths), len(self.scripts) - 1)]
        heard: list[Any] = []
        self.heard.append(heard)
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, message_queue_size=256)
            self.paths.append(request.path)
            if script[0] == 404:
                await request.reject(404, body=b"gone")
                return
            connection = await request.accept()
            try:
                for said in script:
                    if isinstance(said, int):
                        await connection.aclose(said, "")
                    else:
                        await connection.send_message(json.dumps(said))
                while True:
                    heard.append(json.loads(await connection.get_message()))
            except ConnectionClosed:
                nursery.cancel_scope.cancel()


async def test_a_session_is_not_ready_before_it_has_been_asked_for_what_we_want(autojump_clock: Clock) -> None:
    odd = Odd([UPDATED, UPDATED])
    async with open_provider(odd.serve) as provider:
        with pytest.raises(ProviderTimeout):
            async with provider(CallInfo("call-1")):
                pass
    ((asked,),) = odd.heard
    assert asked["type"] == "session.update", "after a second: it may be a service that announces none"


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        ([ERROR], ProviderTimeout, r"no session.updated within 10 s; it had reported: no such file \*\*\* \(model_l"),
        ([CREATED, ERROR, 1011], ProviderLost, r"code 1011 before the session began; it had reported: no such file"),
        ([ERROR, 1000], ProviderRefused, r"before the session began; it had reported: no such file"),
    ],
)
async def test_what_a_service_complained_of_is_told_however_the_opening_ends(
    script: list[dict[str, Any] | int], error: type[Exception], told: str, autojump_clock: Clock
) -> None:
    """LocalAI says so when it cannot load a model, and no more."""
    async with open_provider(Odd(script).serve) as provider:
        with pytest.raises(error, match=told):
            async with provider(CallInfo("call-1")):
                pass


async def test_a_service_that_will_speak_in_another_format_is_refused(autojump_clock: Clock) -> None:
    linear = {"audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}}}}
    async with open_provider(Odd([CREATED, UPDATED | {"session": linear}]).serve) as provider:
        with pytest.raises(ProviderRefused, match="asked for audio/pcmu and set up audio/pcm 24000; check the OPENAI_"):
            async with provider(CallInfo("call-1")):
                pass


async def test_the_end_of_a_session_is_known_when_it_begins(autojump_clock: Clock) -> None:
    created = {"type": "session.created", "session": {"id": "s", "expires_at": int(time.time()) + 1800}}
    async with open_provider(Odd([created, UPDATED]).serve) as provider, provider(CallInfo("call-1")) as link:
        assert (await hear(link, AgentReady)).lasts == pytest.approx(1800, abs=5)


def conversation(id_: str) -> dict[str, Any]:
    return {"type": "conversation.created", "conversation": {"id": id_}}


WELL = [CREATED, conversation("new"), UPDATED]
ODD_ERROR = {"type": "error", "error": {"type": "invalid_request_error", "message": "?"}}
NO_TIME = {"type": "error", "error": {"type": "timeout", "message": "too late"}}


@pytest.mark.parametrize(
    ("second", "asked", "seeded"),
    [
        ([CREATED, conversation("old"), UPDATED], ["old"], False),
        ([CREATED, UPDATED], ["old"], False),
        (WELL, ["old"], True),
        ([404], ["old", None], True),
        (
            [CREATED, {"type": "error", "error": {"type": "invalid_request_error", "message": "?"}}, 1008],
            ["old", None],
            True,
        ),
        ([CREATED, {"type": "error", "error": {"event_id": "settings", "message": "?"}}], ["old", None], True),
        ([CREATED, 1000], ["old", None], True),
        # These may pass, and the call tries again by itself.
        ([CREATED, NO_TIME], ["old", ProviderLost, None], True),
        ([CREATED, 1011], ["old", ProviderLost, None], True),
        ([CREATED], ["old", ProviderTimeout, None], True),
        ([{"type": "conversation.created", "conversation": 7}], ["old", ProviderTimeout, None], True),  # passed over
    ],
    ids=str,
)
async def test_a_conversation_that_is_not_taken_up_is_told_again_whatever_the_service_says(
    second: list[dict[str, Any] | int],
    asked: list[str | type[Exception] | None],
    seeded: bool,
    autojump_clock: Clock,
) -> None:
    """How xAI says that it has forgotten one is not documented."""
    odd = Odd([CREATED, conversation("old"), UPDATED], second, WELL)
    options = Options(dialect=XAI, model="grok", format="pcm", rate=8000)
    async with open_provider(odd.serve, options) as provider:
        async with provider(CallInfo("call-1")) as link:
            ready = await hear(link, AgentReady)
            ready.resume.note("The caller is in a hurry.")
        for fault in [each for each in asked if isinstance(each, type)]:
            with pytest.raises(fault):
                async with provider(CallInfo("call-1", resume=ready.resume)):
                    pass
        async with provider(CallInfo("call-1", resume=ready.resume)) as link:
            await hear(link, AgentReady)
            await trio.sleep(0.1)
    ids = [dict(parse_qsl(path.partition("?")[2])).get("conversation_id") for path in odd.paths]
    assert ids == [None, *(each for each in asked if not isinstance(each, type))]
    assert ("The caller is in a hurry." in str(odd.heard[-1])) is seeded


async def test_a_key_that_has_become_wrong_is_told_though_a_conversation_was_asked_for(autojump_clock: Clock) -> None:
    wrong = {"type": "error", "error": {"code": "invalid_api_key", "message": "wrong"}}
    odd = Odd([CREATED, conversation("old"), UPDATED], [wrong, 3000])
    async with open_provider(odd.serve, Options(dialect=XAI, format="pcm", rate=8000)) as provider:
        async with provider(CallInfo("call-1")) as link:
            ready = await hear(link, AgentReady)
        with pytest.raises(ProviderRefused, match="check XAI_API_KEY"):
            async with provider(CallInfo("call-1", resume=ready.resume)):
                pass
    assert len(odd.paths) == 3


async def test_a_conversation_is_asked_for_again_when_only_the_way_was_barred(autojump_clock: Clock) -> None:
    odd = Odd([CREATED, conversation("old"), UPDATED], [CREATED, conversation("old"), UPDATED])
    async with open_provider(odd.serve, Options(dialect=XAI, format="pcm", rate=8000)) as provider:
        async with provider(CallInfo("call-1")) as link:
            ready = await hear(link, AgentReady)
        with pytest.raises(ProviderLost):
            async with replace(provider, dial=_no_way)(CallInfo("call-1", resume=ready.resume)):
                pass
        async with provider(CallInfo("call-1", resume=ready.resume)):
            pass
    assert "conversation_id=old" in odd.paths[1]


async def _no_way(endpoint: Endpoint) -> trio.abc.Stream:
    raise OSError("no route to host")


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
    session_config = SessionConfig(tools=(WEATHER,))
    call = CallInfo("call-1", session_config=session_config)
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


async def test_several_functions_are_asked_for_at_once_and_then_the_agent_goes_on_once(autojump_clock: Clock) -> None:
    scribe, asked = Scribe(*calls("c1", "c2")), list[str]()
    async with open_provider(scribe.serve) as provider, provider(CallInfo("call-1")) as link:

        async def listen() -> None:
            while True:
                asked.append((await hear(link, ToolCall)).id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.sleep(0.1)
            assert asked == ["c1", "c2"]
            await link.tool_response("c2", "sun")
            await trio.sleep(5)
            assert [message["type"] for message in scribe.heard[1:]] == ["conversation.item.create"]
            await link.tool_response("c1", "rain")
            await trio.sleep(5)
            assert [message["type"] for message in scribe.heard[2:]] == ["conversation.item.create", "response.create"]
            nursery.cancel_scope.cancel()


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
        nursery.start_soon(hear, link, SessionEnd)
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
            await hear(link, SessionEnd)
    assert not [message for message in scribe.heard if "audio" in message]


async def test_words_to_a_session_that_is_over_are_a_lost_provider(autojump_clock: Clock) -> None:
    evi = Emulator(EmulatorOptions(service="openai", max_duration=5.0))
    async with open_provider(partial(serve_stream, evi)) as provider, provider(CallInfo("call-1")) as link:
        while not isinstance(end := await link.receive(), SessionEnd):
            pass
        assert end.kind is SessionEndKind.LOST
        with pytest.raises(ProviderLost):
            await link.say("Hello.")
