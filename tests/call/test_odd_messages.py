"""Whatever a provider says amiss, at five moments of a call: it goes on, and the call beside it notices nothing."""

from __future__ import annotations

import base64
import gc
import json
import tracemalloc
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import (
    CloseWith,
    EmulatorOptions,
    GarbageOnly,
    LateMetadata,
    OddArguments,
    SameIds,
    SendBinary,
    SendError,
    SendJunk,
    SendRaw,
)
from sts_trio.lab.emulator.malformed import ESCAPES
from sts_trio.tools.tool import describe
from tests.call.bench import UUID, Bench
from tests.call.fakes import tone
from tests.call.odd_messages import odd_messages
from tests.call.stage import ALL, BOTH, KEY, matrix, open_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hypothesis.strategies import DrawFn

    from tests.call.stage import Caller, Stage
    from tests.conftest import Logged

Messages = tuple[str | bytes, ...]

# The caller is silent until the greeting is over, says something at `SPEAKS`, and once more, to be answered, at `ASKS`.
SPEAKS, ASKS, SPOKEN, SECONDS = 2.8, 5.6, 0.8, 7.6
MOMENTS: dict[str, dict[str, Any]] = {
    "before ready": {"at": "accepted", "after": 0.2},
    "greeting": {"at": "agent_speaking"},
    "idle": {"at": "ready", "after": 2.2},
    "caller speaking": {"at": "user_speaking"},
    "agent speaking": {"at": "agent_speaking", "nth": 2},
}
FRAME_SECONDS = 0.2


@dataclass
class Line:
    """One caller, and all that they hear, with the time."""

    caller: Caller
    uuid: str
    said: bytes = b""
    heard: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    code: int | None = None

    async def live(self, began: float) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen, began)
            with suppress(ConnectionClosed):
                await self._speak(began)
            nursery.cancel_scope.cancel()

    async def listen(self, began: float) -> None:
        try:
            while True:
                message = await self.caller.hear()
                self.heard.append((trio.current_time() - began, message))
        except ConnectionClosed as closed:
            self.code = closed.reason.code if closed.reason else 1006

    async def _speak(self, began: float) -> None:
        size = round(FRAME_SECONDS * 16_000)
        for number in range(round(SECONDS / FRAME_SECONDS)):
            await trio.sleep_until(began + number * FRAME_SECONDS)
            at = number * FRAME_SECONDS
            loud = SPEAKS <= at < SPEAKS + SPOKEN or ASKS <= at < ASKS + SPOKEN
            frame = tone(FRAME_SECONDS, level=0.3) if loud else (number + 1).to_bytes(2, "little") * (size // 2)
            await self.caller.say(type="audio", audio=frame)
            self.said += frame
        await trio.sleep(1)

    @property
    def story(self) -> tuple[bytes, list[dict[str, Any]]]:
        """All sound, and all else in its order."""
        audio = b"".join(base64.b64decode(said["audio"]) for _, said in self.heard if said["type"] == "audio")
        return audio, [said for _, said in self.heard if said["type"] != "audio"]

    def answered(self) -> bool:
        """Whether what was asked last has been answered aloud."""
        return any(at > ASKS + SPOKEN and said["type"] == "audio" for at, said in self.heard)


async def _converse(provider: str, odd: Sequence[Messages]) -> Line:
    """Play six calls; return the one beside, the first, of which nothing is odd."""
    faults: list[Any] = []
    for number, ((moment, when), messages) in enumerate(zip(MOMENTS.items(), odd, strict=False), 1):
        if moment == "before ready":
            faults.append(LateMetadata(connections=number))
        for data in messages:
            kind: Any = SendBinary if isinstance(data, bytes) else SendRaw
            faults.append(kind(connections=number, data=data, **when))
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=tuple(faults), inactivity=600)
    lookup = Bench("lookup")
    async with open_stage(
        provider=provider, emulator=options, tools=(lookup.tool,), allow_call_overrides=True, silence_seconds=0
    ) as stage:
        lines = []
        for number in range(1 + len(odd)):
            uuid = str(uuid4()) if number else "beside"
            lines.append(Line(await stage.call(f"/?instructions={uuid}", uuid=uuid), uuid))
            while stage.emulator.connections <= number:
                await trio.sleep(0.001)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for line in lines:
                nursery.start_soon(line.live, began)
        for line, moment in zip(lines, ("beside", *MOMENTS), strict=False):
            errors = [said for said in line.story[1] if said["type"] == "error"]
            sessions = [session for session in stage.emulator.sessions if session.prompt == line.uuid]
            assert line.code is None, f"{moment}: closed with {line.code}: {errors}"
            assert len(sessions) == 1, f"{moment}: the session was replaced"
            assert sessions[0].live, f"{moment}: the session is over"
            assert sessions[0].caller_audio == stage.as_heard(line.said), f"{moment}: audio was lost"
            assert line.answered(), f"{moment}: no answer any more"
        assert stage.registry.live == len(lines)
        return lines[0]


def converse(provider: str, odd: Sequence[Messages]) -> Line:
    return trio.run(_converse, provider, odd, clock=trio.testing.MockClock(autojump_threshold=0))


@cache
def undisturbed(provider: str) -> tuple[bytes, list[dict[str, Any]]]:
    """What the call beside hears when nothing is odd."""
    return converse(provider, ()).story


@st.composite
def _conversations(draw: DrawFn, provider: str) -> list[Messages]:
    few = st.lists(odd_messages(provider), min_size=1, max_size=6).map(tuple)
    return [draw(few) for _ in MOMENTS]


def _whatever_is_said(provider: str, examples: int) -> None:
    wanted = undisturbed(provider)
    assert wanted[0]

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],  # an example is a minute of CPU to make smaller
    )
    @hypothesis.given(_conversations(provider))
    def go_on(odd: list[Messages]) -> None:
        assert converse(provider, odd).story == wanted

    go_on()


@pytest.mark.parametrize("provider", ["humeai", "openai", matrix("xai")])
def test_whatever_a_provider_says_the_call_goes_on(provider: str) -> None:
    _whatever_is_said(provider, 3)


@pytest.mark.long
@ALL
def test_whatever_a_provider_says_at_length_the_call_goes_on(provider: str) -> None:
    _whatever_is_said(provider, 60)


# What one fault makes of one call.


@dataclass
class Scene:
    """One call whose provider is odd; `line` hears all."""

    stage: Stage
    line: Line
    bench: Bench


@asynccontextmanager
async def open_scene(
    provider: str, *faults: Any, tool: Bench | None = None, welcome: str = "", **settings: Any
) -> AsyncIterator[Scene]:
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=faults, inactivity=600)
    bench = tool or Bench("lookup")
    own: dict[str, Any] = {"welcome_message": welcome, "silence_seconds": 0.0, **settings}
    async with (
        open_stage(provider=provider, emulator=options, tools=(bench.tool,), **own) as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID), UUID)
        nursery.start_soon(line.listen, trio.current_time())
        await trio.sleep(0.1)
        yield Scene(stage, line, bench)
        nursery.cancel_scope.cancel()


async def speak(line: Line, seconds: float, level: float) -> None:
    for _ in range(round(seconds / FRAME_SECONDS)):
        await line.caller.say(type="audio", audio=tone(FRAME_SECONDS, level=level))
        await trio.sleep(FRAME_SECONDS)


@BOTH
async def test_a_reply_with_the_id_of_one_that_was_interrupted_is_heard(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_scene(provider, SameIds(), welcome="Hello!") as scene:
        await trio.sleep(0.5)
        await speak(scene.line, 1.4, 0.3)  # over the greeting
        await speak(scene.line, 2.0, 0.001)
        kinds = [said["type"] for _, said in scene.line.heard]
        assert "interruption" in kinds
        assert "audio" in kinds[kinds.index("interruption") :], "the answer is not heard"


def forward(transfer_extension: str) -> str:
    """Put the caller through."""
    return transfer_extension


@ALL
@pytest.mark.parametrize("form", ["nested", "fence"])
async def test_arguments_are_read_whatever_they_are_wrapped_in(
    provider: str, form: Any, autojump_clock: trio.testing.MockClock
) -> None:
    transfer = Bench("dsai_transfer")
    async with open_scene(provider, OddArguments(form=form), tool=transfer) as scene:
        await scene.line.caller.say(type="dtmf_digit", digit="0")
        await scene.line.caller.say(type="dtmf_digit", digit="#")
        await trio.sleep(6)
        ((_, arguments, context),) = transfer.runs
        assert describe(forward).bind(arguments, context) == {"transfer_extension": "2000"}


async def test_a_tool_call_ends_what_was_said_before_it(autojump_clock: trio.testing.MockClock) -> None:
    """EVI sends no end of a turn before a tool call, and the last chunk of its voice ends in mid-frame."""
    transfer = Bench("dsai_transfer", seconds=9)
    async with open_scene("humeai", tool=transfer) as scene:
        began = trio.current_time() - 0.1
        await scene.line.caller.say(type="dtmf_digit", digit="0")
        await scene.line.caller.say(type="dtmf_digit", digit="#")
        await trio.sleep(8)
        ((at, _, _),) = transfer.runs
        first = next(when for when, said in scene.line.heard if said["type"] == "audio")
        assert at - began == pytest.approx(first + len(scene.line.story[0]) / 16_000, abs=0.25)


@ALL
async def test_garbage_and_nothing_else_for_five_seconds_has_the_session_replaced(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    fault = GarbageOnly(kind="type_null", at="ready", after=1, every=0.25, connections=0)
    async with open_scene(provider, fault) as scene:
        await trio.sleep(5.5)
        assert scene.stage.emulator.connections == 1, "too soon"
        await trio.sleep(2)
        assert scene.stage.emulator.connections == 2, "never"
        assert scene.line.code is None
        await speak(scene.line, 1.0, 0.3)
        await speak(scene.line, 3.0, 0.001)
        assert "audio" in [said["type"] for _, said in scene.line.heard]


@ALL
async def test_garbage_among_sense_is_borne_for_ever(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    junk = [SendJunk(kind="type_null", at="ready", after=after / 4) for after in range(240)]
    sense = [SendRaw(data=SENSE[provider], at="ready", after=after) for after in range(0, 60, 3)]
    async with open_scene(provider, *junk, *sense) as scene:
        await trio.sleep(65)
        assert scene.line.code is None
        assert scene.stage.emulator.connections == 1
        assert [said for _, said in scene.line.heard if said["type"] == "error"] == []


# Something that each protocol says of itself, and that changes nothing.
SENSE = {
    "humeai": '{"type":"assistant_end"}',
    "openai": '{"type":"conversation.item.deleted","item_id":"x"}',
    "xai": '{"type":"conversation.item.deleted","item_id":"x"}',
}
HARMFUL = set("\x00\x07\x1b\r\n\u0085\u2028\u2029\u202e\u2066")


@ALL
async def test_what_strangers_write_is_cleaned_and_cut_for_the_log_and_for_core(
    provider: str, autojump_clock: trio.testing.MockClock, logged: Logged
) -> None:
    ends = CloseWith(after=1, code=4000, reason=ESCAPES[:40])
    odd = [SendJunk(after=0.5, kind=kind) for kind in ("escapes_in_id", "escapes_in_error", "escapes_in_type")]
    kind = ESCAPES if provider == "humeai" else "insufficient_quota"  # no close of the others ends a call by itself
    told = SendError(after=0.6, code="W" + ESCAPES, slug=kind, message=ESCAPES + "x" * 50_000)
    async with open_scene(provider, *odd, told, ends) as scene:
        await trio.sleep(5)
        errors = [str(said["message"]) for _, said in scene.line.heard if said["type"] == "error"]
        assert scene.line.code == 1011
        assert errors
        assert not [error for error in errors if HARMFUL & set(error) or len(error) > 1000]
    lines = [json.loads(line) for line in logged.text.split("\n") if line]  # not `splitlines`: U+2028 is one, too
    ours = [line for line in lines if line["level"] != "debug"]
    written = [str(value) for line in ours for value in line.values()]
    assert not [value for value in written if HARMFUL & set(value)]
    assert max(map(len, written)) < 5000


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("kind", ["huge_unknown", "huge_error", "huge_id", "huge_text"])
async def test_nothing_of_a_huge_message_is_kept(
    provider: str, kind: Any, autojump_clock: trio.testing.MockClock
) -> None:
    junk = [SendJunk(kind=kind, at="ready", after=after) for after in (1, 2)]
    sense = SendRaw(data=SENSE[provider], at="ready", after=3)  # the newest message is held until the next
    async with open_scene(provider, *junk, sense) as scene:
        await trio.sleep(0.5)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await trio.sleep(4)
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        print(f"{provider} {kind}: {(after - before) / 1e6:.1f} MB kept, {(peak - before) / 1e6:.0f} MB at most")
        assert scene.line.code is None
        assert after - before < 2_000_000
        # The emulator's own share is the text, its bytes, the frame and the stream in memory: five times the message.
        assert peak - before < 160_000_000
