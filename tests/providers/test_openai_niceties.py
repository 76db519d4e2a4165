"""What a session of OpenAI's or xAI's can do without, and what it tells an operator beside the conversation."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.errors import ProviderLost, ProviderRefused
from sts_trio.providers.base import AgentReady, CallInfo, RateLimit, SessionEnd, TokensUsed
from sts_trio.providers.openai.dialect import OPENAI, XAI, Dialect
from sts_trio.providers.openai.session import Options
from tests.fakes.realtime_link import KEY, Scribe, hear, open_provider

if TYPE_CHECKING:
    from collections.abc import MutableMapping

Clock = trio.testing.MockClock
BOTH = pytest.mark.parametrize("dialect", [OPENAI, XAI], ids=lambda dialect: dialect.name)
CALL = CallInfo("call-1")


def options(dialect: Dialect) -> Options:
    return Options(dialect=dialect) if dialect is OPENAI else Options(dialect=dialect, format="pcm", rate=8000)


class Picky:
    """A service that answers each update that asks for words with `refusal`, and then closes with `code`, if any."""

    def __init__(self, refusal: dict[str, Any], code: int | None = None) -> None:
        self.refusal = refusal
        self.code = code
        self.asked: list[Any] = []  # of each update: the transcription that it asks for
        self.sessions = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            connection = await (await wrap_server_stream(nursery, stream)).accept()
            self.sessions += 1
            try:
                await connection.send_message('{"type":"session.created","session":{"id":"s"}}')
                while True:
                    message = json.loads(await connection.get_message())
                    if message["type"] != "session.update":
                        continue
                    self.asked.append(message["session"]["audio"]["input"]["transcription"])
                    if self.asked[-1] is None:
                        await connection.send_message('{"type":"session.updated","session":{}}')
                        continue
                    await connection.send_message(json.dumps({"type": "error", "error": self.refusal}))
                    if self.code is not None:
                        await connection.aclose(self.code, "")
            except ConnectionClosed:
                nursery.cancel_scope.cancel()


def warnings(logs: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [line for line in logs if line["log_level"] == "warning"]


PLACE = "session.audio.input.transcription.model"
REFUSALS: dict[str, dict[str, Any]] = {
    "the field": {"code": "invalid_value", "message": "Not supported.", "param": PLACE, "event_id": "settings"},
    "a field beside it": {
        "code": "invalid_value",
        "message": "Turn detection is not supported for this transcription model.",
        "param": "session.audio.input.turn_detection",
        "event_id": "settings",
    },
    "no access": {
        "code": "model_not_found",
        "message": "The model `gpt-transcribe` does not exist or you do not have access to it.",
        "event_id": "settings",
    },
    "without a name": {"type": "invalid_request_error", "message": "unknown transcription model"},
}


@BOTH
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
async def test_a_refused_model_for_words_refuses_no_call(
    dialect: Dialect, refusal: dict[str, Any], autojump_clock: Clock
) -> None:
    """It is not asked for again in the next hour, and nobody is told of it again."""
    picky = Picky(refusal)
    async with open_provider(picky.serve, options(dialect)) as provider:
        with capture_logs() as logs:
            for _ in range(3):
                async with provider(CALL) as link:
                    await hear(link, AgentReady)
        assert [asked is not None for asked in picky.asked] == [True, False, False, False]
        [line] = warnings(logs)
        assert line["event"] == "the caller's words are not written down: the service refused the model for that"
        assert line["setting"] == f"{dialect.prefix}_TRANSCRIPTION_MODEL"
        assert refusal["message"] in line["cause"]
        await trio.sleep(3600)
        async with provider(CALL):
            assert [asked is not None for asked in picky.asked[4:]] == [True, False]


@BOTH
async def test_a_service_that_hangs_up_over_it_is_called_again_without_it(
    dialect: Dialect, autojump_clock: Clock
) -> None:
    picky = Picky(REFUSALS["no access"], 4004)
    async with open_provider(picky.serve, options(dialect)) as provider:
        with pytest.raises(ProviderLost, match="before the session began"):
            async with provider(CALL):
                pass
        async with provider(CALL) as link:
            await hear(link, AgentReady)
    assert [asked is not None for asked in picky.asked][-1:] == [False]


@pytest.mark.parametrize(
    "refusal",
    [
        {"code": "invalid_value", "message": "no such voice", "param": "session.voice", "event_id": "settings"},
        {"code": "invalid_api_key", "message": "wrong", "event_id": "settings"},
    ],
    ids=str,
)
async def test_what_else_is_refused_refuses_the_call(refusal: dict[str, Any], autojump_clock: Clock) -> None:
    picky = Picky(refusal)
    async with open_provider(picky.serve) as provider:
        with pytest.raises(ProviderRefused):
            async with provider(CALL):
                pass
    assert len(picky.asked) == 1


async def test_without_words_nothing_is_asked_for_twice(autojump_clock: Clock) -> None:
    picky = Picky(REFUSALS["the field"])
    async with open_provider(picky.serve, Options(transcription=None)) as provider, provider(CALL):
        assert picky.asked == [None]


@BOTH
async def test_words_that_cannot_be_written_down_are_told_once(dialect: Dialect, autojump_clock: Clock) -> None:
    error = {"code": "model_not_found", "message": f"it is gone, {KEY}"}
    failed = {"type": "conversation.item.input_audio_transcription.failed", "item_id": "i", "error": error}
    scribe = Scribe(failed, failed)
    async with open_provider(scribe.serve, options(dialect)) as provider:
        with capture_logs() as logs:
            async with provider(CALL) as link:
                await hear(link, AgentReady)
                with trio.move_on_after(1):
                    await link.receive()
    [line] = warnings(logs)
    assert line["event"] == "the caller's words could not be written down"
    assert line["cause"] == "it is gone, *** (model_not_found)"


# A session that takes over.


@BOTH
async def test_a_session_that_takes_over_says_what_it_does_not_know(dialect: Dialect, autojump_clock: Clock) -> None:
    turns = [{"type": "input_audio_buffer.committed", "item_id": item} for item in ("a", "b", "c")]
    words = {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "b",
        "transcript": "Is it open?",
    }
    scribe = Scribe(*turns, words)
    async with open_provider(scribe.serve, options(dialect)) as provider:
        async with provider(CALL) as link:
            ready = await hear(link, AgentReady)
            with trio.move_on_after(1):
                while True:
                    await link.receive()
        with capture_logs() as logs:
            async with provider(replace(CALL, resume=ready.resume)):
                pass
    [line] = warnings(logs)
    assert line["event"] == (
        "the session that takes over does not know all that the caller said: it was not written down"
    )
    assert (line["turns"], line["setting"]) == (2, f"{dialect.prefix}_TRANSCRIPTION_MODEL")
    assert "open" not in str(line), "what callers say is in no log"


# What it costs.

USAGE = {
    "input_tokens": 100,
    "output_tokens": 50,
    "input_token_details": {
        "text_tokens": 60,
        "audio_tokens": 40,
        "cached_tokens": 70,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 10},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
}


@BOTH
async def test_what_responses_cost_is_told_by_kind_and_in_the_last_line_of_a_session(
    dialect: Dialect, autojump_clock: Clock
) -> None:
    done = [
        {"type": "response.done", "response": {"id": id_, "status": "completed", "usage": USAGE}} for id_ in ("a", "b")
    ]
    scribe = Scribe(*done, {"type": "response.done", "response": {"id": "c", "status": "cancelled", "usage": None}})
    async with open_provider(scribe.serve, options(dialect)) as provider:
        with capture_logs() as logs:
            async with provider(CALL) as link:
                used = [await hear(link, TokensUsed) for _ in done]
    kinds = {("in", "audio"): 30, ("in", "cached"): 70, ("out", "text"): 10, ("out", "audio"): 40}
    assert [each.counts for each in used] == [kinds, kinds]
    line = {name: value for name, value in logs[-1].items() if name.startswith("tokens_in")}
    assert line == {"tokens_in": 200, "tokens_in_audio": 60, "tokens_in_cached": 140}
    line = {name: value for name, value in logs[-1].items() if name.startswith("tokens_out")}
    assert line == {"tokens_out": 100, "tokens_out_audio": 80, "tokens_out_text": 20}


async def test_what_is_left_of_a_rate_limit_is_told(autojump_clock: Clock) -> None:
    limits = [{"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 1.5}]
    scribe = Scribe({"type": "rate_limits.updated", "rate_limits": limits})
    async with open_provider(scribe.serve) as provider, provider(CALL) as link:
        assert await hear(link, RateLimit) == RateLimit("tokens", 40_000, 39_000, 1.5)


# What is held back of the caller.


@pytest.mark.parametrize("fast", [True, False])
async def test_what_was_held_back_is_told_in_order_and_in_slices(*, fast: bool, autojump_clock: Clock) -> None:
    """Half a minute at once would take the turns of all other calls."""
    greeting: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_audio.delta", "response_id": "r", "delta": base64.b64encode(bytes(48_000)).decode()},
        {"type": "response.done", "response": {"id": "r", "status": "completed"}},
    ]
    scribe = Scribe(*greeting)
    linear = Options(dialect=XAI, format="pcm", rate=8000, greeting_stops=False)
    said = [bytes([number, 8]) * 160 for number in range(250)]
    async with (
        open_provider(scribe.serve, linear) as provider,
        provider(CALL) as link,
        trio.open_nursery() as nursery,
    ):
        await link.say("Hello.")
        nursery.start_soon(hear, link, SessionEnd)
        for frame in said[:160]:
            await link.send_audio(frame)
            await trio.sleep(0.02)
        await trio.sleep(0 if fast else 1)
        for frame in said[160:]:  # a burst: the receiver, which has woken too, tells what was held back meanwhile
            await link.send_audio(frame)
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    audio = [base64.b64decode(message["audio"]) for message in scribe.heard if "audio" in message]
    assert b"".join(audio) == b"".join(said)
    assert max(map(len, audio)) == 16_000


# Who the caller is.


@pytest.mark.parametrize(
    ("secret", "query", "there"),
    [
        ("a-secret-of-ours-1", {"from": "+49 171 55"}, True),
        ("a-secret-of-ours-1", {"to": "5003"}, False),
        ("a-secret-of-ours-1", {"from": "anonymous"}, False),
        (None, {"from": "+49 171 55"}, False),
    ],
)
async def test_a_caller_is_named_to_the_service_by_a_hash(
    secret: str | None, query: dict[str, str], there: bool, autojump_clock: Clock
) -> None:
    scribe = Scribe()
    async with (
        open_provider(scribe.serve) as provider,
        replace(provider, safety_key=secret)(replace(CALL, query=query)),
    ):
        named = scribe.headers.get(b"openai-safety-identifier", b"")
        assert len(named) == (64 if there else 0)
        assert b"17155" not in named
