"""Both ends of a call without sockets: a Core and an agent that a test drives and looks at."""

from __future__ import annotations

import math
import wave
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import trio

from sts_trio.audio.pcm import Wav, seconds
from sts_trio.call.config import CallRules, Services
from sts_trio.call.handler import CallHandler, Registry
from sts_trio.call.playout import Pace
from sts_trio.core.link import Arrival, SocketClosed
from sts_trio.core.wire import CallerAudio, Init, PlayoutAudio
from sts_trio.providers.base import AgentAudio, AgentReady

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sts_trio.call.meter import CallOutcome
    from sts_trio.core.wire import FromCore, ToCore
    from sts_trio.errors import ProviderError
    from sts_trio.providers.base import AgentEvent, CallInfo

FRAME = bytes(320)


def tone(length: float, *, rate: int = 8000, hertz: float = 440.0, level: float = 0.5) -> bytes:
    """A sine of `length` seconds as s16le mono at `rate`."""
    samples = np.sin(2 * np.pi * hertz * np.arange(round(length * rate)) / rate) * level * 32767
    return samples.astype("<i2").tobytes()


def wav_file(pcm: bytes, rate: int = 48_000, channels: int = 1) -> bytes:
    """A RIFF file around `pcm`."""
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(pcm)
    return file.getvalue()


def spoken(length: float, reply: str = "r1", *, rate: int = 8000, level: float = 0.5) -> AgentAudio:
    """A chunk of agent speech of `length` seconds."""
    return AgentAudio(reply, Wav(rate, 1, memoryview(tone(length, rate=rate, level=level))))


class FakeCore:
    """A `CoreLink`: `say` is what Core sends; `heard` is what it got, with times."""

    def __init__(self) -> None:
        self._to_call, self._from_core = trio.open_memory_channel[object](math.inf)
        self.heard: list[tuple[float, ToCore]] = []
        self.closed: tuple[int, str] | None = None
        self.closed_at = math.nan
        self.reads = trio.Event()
        self.reads.set()  # a test that replaces it makes Core a slow reader

    def say(self, *messages: FromCore | SocketClosed) -> None:
        for message in messages:
            self._to_call.send_nowait(message)

    def speak(self, frames: int, pcm: bytes = FRAME) -> None:
        self.say(*[CallerAudio(pcm)] * frames)

    def hang_up(self, code: int = 1000) -> None:
        self.say(SocketClosed(code))

    async def receive(self) -> FromCore | SocketClosed:
        return await self._from_core.receive()  # type: ignore[return-value]  # only `say` puts something in

    async def send(self, message: ToCore) -> None:
        await trio.lowlevel.checkpoint()
        await self.reads.wait()
        self.heard.append((trio.current_time(), message))

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.closed, self.closed_at = (code, reason), trio.current_time()

    @property
    def messages(self) -> list[ToCore]:
        """What is no audio, in order."""
        return [message for _, message in self.heard if not isinstance(message, PlayoutAudio)]

    @property
    def audio(self) -> bytes:
        """All audio in one."""
        return b"".join(message.audio for _, message in self.heard if isinstance(message, PlayoutAudio))

    def lead(self, lag: float = 0.0) -> float:
        """How far the audio ever ran ahead of a Core that plays it in real time, in seconds."""
        played_at, furthest = -math.inf, 0.0
        for at, message in self.heard:
            if isinstance(message, PlayoutAudio):
                played_at = max(played_at, at) + seconds(len(message.audio))
                furthest = max(furthest, played_at - at - lag)
        return furthest


@dataclass(eq=False)
class FakeAgent:
    """A provider of one or more sessions: `feed` is what it says; the other lists are what it was told.

    `ready_after`: seconds until a session is open. `failure`: raised instead of opening one.
    """

    ready_after: float = 0.0
    failure: Exception | None = None
    calls: list[CallInfo] = field(default_factory=list)
    audio: list[bytes] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered: list[tuple[str, str]] = field(default_factory=list)
    typed: list[tuple[float, str]] = field(default_factory=list)
    gone_on: list[tuple[str, bool]] = field(default_factory=list)
    context: list[str] = field(default_factory=list)
    unheard: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    open_sessions: int = 0
    send_failure: ProviderError | None = None

    def __post_init__(self) -> None:
        self._feed, self._events = trio.open_memory_channel[object](math.inf)

    def feed(self, *events: AgentEvent | Exception) -> None:
        for event in events:
            self._feed.send_nowait(event)

    @asynccontextmanager
    async def __call__(self, call: CallInfo) -> AsyncIterator[FakeSession]:
        self.calls.append(call)
        await trio.sleep(self.ready_after)
        if self.failure is not None:
            failure, self.failure = self.failure, self.failure if not self.said_ready else None
            raise failure
        ready, self.said_ready = not self.said_ready, True
        self.open_sessions += 1
        try:
            yield FakeSession(self, ready)
        finally:
            self.open_sessions -= 1

    said_ready: bool = False  # only the first session gets ready, unless a test resets this

    async def receive(self) -> AgentEvent:
        event = await self._events.receive()
        if isinstance(event, Exception):
            raise event
        return event  # type: ignore[return-value]  # only `feed` puts something in

    async def send_audio(self, pcm: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        if self.send_failure is not None:
            raise self.send_failure
        self.audio.append(pcm)
        return False

    async def say(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.said.append(text)

    async def go_on(self, words: str, *, cut_off: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.gone_on.append((words, cut_off))

    async def user_text(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.typed.append((trio.current_time(), text))

    async def add_context(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.context.append(text)

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.stops.append(trio.current_time())

    async def truncate(self, unheard: float) -> None:
        await trio.lowlevel.checkpoint()
        self.unheard.append(unheard)

    async def tool_response(self, call_id: str, content: str) -> None:
        await trio.lowlevel.checkpoint()
        self.answered.append((call_id, content))

    async def tool_error(self, call_id: str, message: str) -> None:
        await trio.lowlevel.checkpoint()
        self.refused.append(call_id)
        self.answered.append((call_id, message))


class FakeSession:
    """One session of a `FakeAgent`: what is sent to it and said by it is the agent's, but it is ready by itself."""

    def __init__(self, agent: FakeAgent, ready: bool) -> None:
        self._ready = ready
        self._agent = agent
        self.ping_overdue = False
        self.send_audio = agent.send_audio
        self.say = agent.say
        self.go_on = agent.go_on
        self.user_text = agent.user_text
        self.add_context = agent.add_context
        self.stop = agent.stop
        self.truncate = agent.truncate
        self.tool_response = agent.tool_response
        self.tool_error = agent.tool_error

    async def receive(self) -> AgentEvent:
        if self._ready:
            self._ready = False
            return AgentReady("session-1", "group-1")
        return await self._agent.receive()


@dataclass(eq=False)
class Scene:
    """One call between a fake Core and a fake agent, under way in a nursery of the test."""

    core: FakeCore
    agent: FakeAgent
    registry: Registry
    services: Services | None = None
    outcome: CallOutcome | None = None
    over: trio.Event = field(default_factory=trio.Event)

    async def play(self, rules: CallRules, lead: float = 0.5, arrival: Arrival | None = None) -> None:
        board = CallHandler(
            rules=rules, pace=Pace(lead), services=self.services or Services(self.agent), registry=self.registry
        )
        try:
            self.outcome = await board.answer(self.core, arrival or Arrival({}))
        finally:
            self.over.set()


async def begin(
    nursery: trio.Nursery,
    *,
    agent: FakeAgent | None = None,
    rules: CallRules | None = None,
    lead: float = 0.5,
    init: bool = True,
    registry: Registry | None = None,
    services: Callable[[FakeAgent], Services] = Services,
    uuid: str = "uuid-1",
    query: Mapping[str, str] | None = None,
) -> Scene:
    """Start a call; with `init` it is talking when this returns."""
    agent = agent or FakeAgent()
    scene = Scene(FakeCore(), agent, registry or Registry(), services(agent))
    nursery.start_soon(scene.play, rules or CallRules(), lead, Arrival(query or {}))
    if init:
        scene.core.say(Init(uuid))
    await trio.testing.wait_all_tasks_blocked()
    return scene
