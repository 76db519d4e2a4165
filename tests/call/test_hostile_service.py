"""A Realtime service that has gone mad, one way at a time: its own call learns why, or goes on; no other notices."""

from __future__ import annotations

import base64
import gc
import json
import tracemalloc
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from tests.call.bench import Bench
from tests.call.stage import KEY, open_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.providers.dial import Endpoint
    from tests.call.stage import Caller, Stage

Clock = trio.testing.MockClock
Said = dict[str, Any]
AUDIO = base64.b64encode(b"\xff" * 800).decode()  # 100 ms in G.711


def created(id_: str = "r") -> Said:
    return {"type": "response.created", "response": {"id": id_, "status": "in_progress"}}


def done(id_: str = "r", status: str = "completed", **more: object) -> Said:
    return {"type": "response.done", "response": {"id": id_, "status": status} | more}


def voice(id_: str = "r", data: str = AUDIO, item: str | None = None) -> Said:
    kind = "response.output_audio.delta"
    return {"type": kind, "response_id": id_, "item_id": item or f"item {id_}", "delta": data}


def words(text: str, id_: str = "r") -> Said:
    return {"type": "response.output_audio_transcript.done", "response_id": id_, "item_id": id_, "transcript": text}


def function(call_id: object, arguments: object = "{}", name: object = "lookup", **more: object) -> Said:
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments} | more
    return {"type": "response.output_item.done", "response_id": "r", "item": item}


def error(**cause: object) -> Said:
    return {"type": "error", "error": cause}


STARTED, STOPPED = ({"type": f"input_audio_buffer.speech_{how}", "item_id": "u"} for how in ("started", "stopped"))


def committed(item: str = "u") -> Said:
    return {"type": "input_audio_buffer.committed", "item_id": item}


def transcript(text: object, item: str = "u") -> Said:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": item, "transcript": text}


GOES_ON, FAILED = "goes on", "error, 1011"

ODD_ERRORS: tuple[object, ...] = (None, 7, [], "text", {"code": {}})
# What it says to a call that is under way, and what has become of the call then.
MADNESS: dict[str, tuple[list[Said], str]] = {
    "audio after the end": ([created(), voice(), done(), voice(), voice()], GOES_ON),
    "audio of nobody's": ([voice("x"), {"type": "response.output_audio.delta", "delta": AUDIO}], GOES_ON),
    "two answers at once": (
        [created("a"), created("b"), voice("a"), voice("b"), voice("a"), done("b"), voice("a"), done("a")],
        GOES_ON,
    ),
    "an end without a beginning": ([done("x"), done("y", "cancelled"), done("z", "incomplete"), done("z")], GOES_ON),
    "a beginning again and again": ([created(f"r{number}") for number in range(500)], GOES_ON),
    "items of nobody's": (
        [
            transcript("Hello?", "nobody"),
            committed("nobody"),
            {"type": "conversation.item.added", "item": {"id": "typed_9_9"}},
            {"type": "conversation.item.truncated", "item_id": "nobody", "audio_end_ms": -5},
            {"type": "response.output_item.done", "item": {}},
        ],
        GOES_ON,
    ),
    "a barge-in with nobody speaking": ([STARTED] * 50 + [STOPPED] * 50, GOES_ON),
    "a turn without words": ([STARTED, STOPPED, committed(), created(), voice(), done()], GOES_ON),
    "a speaker who never stops": ([STARTED, created(), voice(), done(), created("s"), voice("s"), done("s")], GOES_ON),
    "half bytes of base64": ([created(), voice(data="/w=="), voice(data=""), voice(data="////"), done()], GOES_ON),
    "bad base64": ([created(), voice(data="*not base64*")], GOES_ON),
    "base64 without its end": ([created(), voice(data="/w")], GOES_ON),
    "a delta that is null": ([{"type": "response.output_audio.delta", "delta": None}], GOES_ON),
    "broken arguments": (
        [created(), function("c1", '{"number": '), function("c2", 7), function("c3", None), done()],
        GOES_ON,
    ),
    "the same request twice": (
        [created(), function("c"), function("c"), done(output=[function("c")["item"]])],
        GOES_ON,
    ),
    "a request without an id": ([created(), function(None), function(""), done()], GOES_ON),
    "a request for nobody": ([created(), function("c", name=None), done()], GOES_ON),
    "a thousand requests": ([created(), *(function(f"c{number}") for number in range(1000)), done()], GOES_ON),
    "an id that is no text": ([created(), function(7)], GOES_ON),
    "an id of a novel's length": ([created("x" * 1_000_000)], GOES_ON),
    "failures without end": ([done(f"r{number}", "failed") for number in range(100)], GOES_ON),
    "a failure that is none": ([done("r", "failed", status_details={"error": None}), done("r", "?")], GOES_ON),
    "a flood of errors": ([error(code=f"odd {number}", message="x" * 1000) for number in range(500)], GOES_ON),
    "errors of any shape": (
        [{"type": "error"}, *({"type": "error", "error": odd} for odd in ODD_ERRORS)],
        GOES_ON,
    ),
    "a flood of busy": ([error(code="conversation_already_has_active_response")] * 500, GOES_ON),
    "a flood of news": ([{"type": "news", "text": "x" * 1000}] * 2000, GOES_ON),
    "another session": (
        [{"type": "session.created", "session": {"id": "t"}}, {"type": "session.updated", "session": {}}] * 50,
        GOES_ON,
    ),
    "fifteen megabytes of voice": ([created(), voice(data="/" * (15 * 2**20)), done()], GOES_ON),
    "fifteen megabytes of words": ([created(), words("x" * (15 * 2**20)), done()], GOES_ON),
    "fifteen megabytes of news": ([{"type": "news", "text": "x" * (15 * 2**20)}], GOES_ON),
    "seventeen megabytes": ([words("x" * (17 * 2**20))], GOES_ON),
}


class Mad:
    """A service for one call: it says what it is told to, and keeps what it hears that is no audio."""

    def __init__(self, ready_after: float = 0.0) -> None:
        self.heard: list[Said] = []
        self.audio = bytearray()
        self.ready = trio.Event()
        self._ready_after = ready_after
        self._chat: WebSocketConnection

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, max_message_size=2**25, message_queue_size=2000)
            self._chat = await request.accept()
            with suppress(ConnectionClosed):
                await self.say({"type": "session.created", "session": {"id": "s"}})
                self.heard.append(json.loads(await self._chat.get_message()))
                await trio.sleep(self._ready_after)
                await self.say({"type": "session.updated", "session": {}})
                self.ready.set()
                while True:
                    message = json.loads(await self._chat.get_message())
                    if message["type"] == "input_audio_buffer.append":
                        self.audio += base64.b64decode(message["audio"])
                    else:
                        self.heard.append(message)
            nursery.cancel_scope.cancel()

    async def say(self, *said: Said) -> None:
        with suppress(ConnectionClosed):
            for message in said:
                await self._chat.send_message(json.dumps(message))

    @property
    def outputs(self) -> list[str]:
        """Whose requests were answered, in order."""
        items = [message["item"] for message in self.heard if message["type"] == "conversation.item.create"]
        return [item["call_id"] for item in items if item["type"] == "function_call_output"]


@dataclass
class Line:
    """A caller, and all that he hears."""

    caller: Caller
    said: bytes = b""
    heard: list[dict[str, object]] = field(default_factory=list)
    code: int | None = None

    async def listen(self) -> None:
        try:
            while True:
                self.heard.append(await self.caller.hear())
        except ConnectionClosed as closed:
            self.code = closed.reason.code if closed.reason else 1006

    async def speak(self, seconds: float, number: int) -> None:
        """Say what nobody takes for speech, and what no other says."""
        for count in range(round(seconds / 0.1)):
            piece = (number % 100 + 1).to_bytes(2, "little") * 798 + count.to_bytes(4, "little")
            with suppress(ConnectionClosed):  # his own call may be over
                await self.caller.say(type="audio", audio=piece)
            self.said += piece
            await trio.sleep(0.1)

    @property
    def errors(self) -> list[str]:
        return [str(message["message"]) for message in self.heard if message["type"] == "error"]

    @property
    def outcome(self) -> str:
        return GOES_ON if self.code is None else FAILED if self.errors and self.code == 1011 else f"odd: {self.code}"

    def hears(self, text: str) -> bool:
        return any(message["type"] == "transcript" and message["text"] == text for message in self.heard)


@dataclass
class Ward:
    """Good calls, whose agents are an emulator's, and one whose service is mad."""

    stage: Stage
    agents: Emulator
    mad: Mad
    bad: Line
    good: list[Line]

    def unhurt(self) -> None:
        """Whatever the good callers said has arrived, bit exact, and nothing was said to them."""
        heard = [bytes(session.caller_audio) for session in self.agents.sessions]
        assert heard == [self.stage.as_heard(line.said) for line in self.good]
        assert all(line.heard == [] and line.code is None for line in self.good)


@asynccontextmanager
async def open_ward(mad: Mad, good: int = 1) -> AsyncIterator[Ward]:
    agents = Emulator(EmulatorOptions(service="openai", api_keys=frozenset({KEY}), seed=1))
    async with trio.open_nursery() as services:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            if agents.connections < good:
                services.start_soon(serve_stream, agents, theirs)
            else:
                services.start_soon(mad.serve, theirs)
            return ours

        tool = Bench("lookup", seconds=0.2).tool
        async with (
            open_stage(provider="openai", dial=dial, tools=(tool,), welcome_message="") as stage,
            trio.open_nursery() as callers,
        ):
            lines = []
            for number in range(good):
                lines.append(Line(await stage.call(uuid=f"good {number}")))
                await trio.testing.wait_all_tasks_blocked()
            bad = Line(await stage.call(uuid="bad"))
            await mad.ready.wait()
            for line in (*lines, bad):
                callers.start_soon(line.listen)
            yield Ward(stage, agents, mad, bad, lines)
            callers.cancel_scope.cancel()
        services.cancel_scope.cancel()


@pytest.mark.parametrize("name", MADNESS)
async def test_a_mad_service_ends_at_most_its_own_call_and_says_why(name: str, autojump_clock: Clock) -> None:
    said, outcome = MADNESS[name]
    mad = Mad()
    async with open_ward(mad) as ward, trio.open_nursery() as nursery:
        nursery.start_soon(ward.good[0].speak, 3.0, 1)
        nursery.start_soon(ward.bad.speak, 3.0, 2)
        await mad.say(*said)
        await trio.sleep(10)
        assert ward.bad.outcome == outcome, ward.bad.errors
        ward.unhurt()
        if outcome is GOES_ON:
            assert mad.audio
            assert len(ward.bad.errors) <= 20, "Core is not flooded"
            await mad.say(created("fresh"), voice("fresh"), words("I am well again.", "fresh"), done("fresh"))
            await trio.sleep(610)  # ten minutes of voice may be queued before that
            assert ward.bad.hears("I am well again.")
        assert len(mad.outputs) == len(set(mad.outputs)), "a request was answered twice"
        assert ward.stage.registry.live == 1 + (outcome is GOES_ON)


async def test_every_request_is_answered_and_then_the_agent_is_asked_to_speak_once(autojump_clock: Clock) -> None:
    mad = Mad()
    async with open_ward(mad) as ward:
        await mad.say(created(), *(function(f"c{number}", '{"broken') for number in range(5)), done())
        await trio.sleep(5)
        assert sorted(mad.outputs) == [f"c{number}" for number in range(5)]  # they run side by side
        assert [message["type"] for message in mad.heard].count("response.create") == 1
        assert mad.heard[-1]["type"] == "response.create"
        assert ward.bad.errors == []


@pytest.mark.parametrize(("after", "ready"), [(9.5, True), (60.0, False)])
async def test_a_service_that_is_late_gets_the_newest_second_or_is_given_up(
    after: float, ready: bool, autojump_clock: Clock
) -> None:
    mad = Mad(ready_after=after)
    async with trio.open_nursery() as services:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            services.start_soon(mad.serve, theirs)
            return ours

        async with open_stage(provider="openai", dial=dial, welcome_message="") as stage:
            line = Line(await stage.call())
            services.start_soon(line.listen)
            await line.speak(12.0, 1)
            await trio.sleep(1)
            assert line.outcome == (GOES_ON if ready else FAILED)
            assert (len(mad.audio) == pytest.approx(8000 * 3.5, abs=800)) is ready
            assert ready or "no session.updated within 10 s" in line.errors[0]
        services.cancel_scope.cancel()


def a_round(number: int) -> list[Said]:
    """All that could be remembered, each under a name of its own that is as long as may be."""
    name = f"{number:06}" + "n" * 250
    return [
        *(STARTED, STOPPED, committed(name), transcript("w" * 5000, name), created(name), voice(name, item=name)),
        {"type": "response.output_audio_transcript.delta", "response_id": name, "item_id": name, "delta": "d" * 5000},
        words("a" * 5000, name),
        function(name, "a" * 20_000, name="x" * 250),
        *(done(name), error(code=name, message="m" * 5000), {"type": name}),
    ]


async def test_nothing_that_a_service_says_makes_a_call_grow_without_bound(autojump_clock: Clock) -> None:
    mad, sizes = Mad(), []
    async with open_ward(mad) as ward:
        tracemalloc.start()
        try:
            for number in range(270):
                await mad.say(*a_round(number))
                await trio.sleep(1)
                mad.heard.clear()
                ward.bad.heard.clear()
                if number in (209, 269):  # what is remembered of a call has reached its size by the first of them
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        grown = sizes[1] - sizes[0]
        print(f"60 rounds of 60 kB: {grown / 1000:.0f} kB more")
        assert ward.bad.outcome == GOES_ON
        assert grown < 40_000


@pytest.mark.slow
async def test_one_mad_service_among_two_hundred_calls(autojump_clock: Clock) -> None:
    mad = Mad()
    async with open_ward(mad, good=199) as ward, trio.open_nursery() as nursery:
        for number, line in enumerate(ward.good):
            nursery.start_soon(line.speak, 0.5, number)
        for said, outcome in MADNESS.values():
            if outcome is GOES_ON and len(said) < 1000 and len(str(said)) < 100_000:
                await mad.say(*said)
        await trio.sleep(5)
        await mad.say(error(code="insufficient_quota"))
        await trio.sleep(6)
        assert ward.bad.outcome == FAILED
        ward.unhurt()
        assert ward.stage.registry.live == 199
