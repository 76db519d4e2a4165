"""What the agent has said is heard: long replies, good-byes before a tool, and what a barge-in or a key takes back."""

from __future__ import annotations

import tracemalloc
from base64 import b64decode
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from sts_trio.core.wire import PlayoutAudio
from sts_trio.providers.base import UserInterruption
from tests.call.bench import UUID, Bench
from tests.call.fakes import FakeCore, begin, spoken
from tests.call.stage import ALL, Caller, open_stage
from tests.e2e.evi import Evi, evi_in_memory

if TYPE_CHECKING:
    from sts_trio.core.wire import ToCore

Clock = trio.testing.MockClock


class Line:
    """What a caller hears, with times: seconds of audio, and the other messages."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.audio: list[tuple[float, float]] = []
        self.messages: list[tuple[float, dict[str, object]]] = []

    async def listen(self) -> None:
        with suppress(ConnectionClosed):
            await self._listen()

    async def _listen(self) -> None:
        while True:
            message, now = await self._caller.hear(), trio.current_time()
            if message["type"] == "audio":
                self.audio.append((now, len(b64decode(str(message["audio"]))) / 16_000))
            else:
                self.messages.append((now, message))

    @property
    def heard(self) -> float:
        """Seconds of audio in all."""
        return sum(length for _, length in self.audio)

    def kinds(self) -> list[object]:
        return [message["type"] for _, message in self.messages]


async def speak(evi: Evi, seconds: float, *, speed: float, reply: str = "r", rate: int = 48_000) -> None:
    """Generate a reply in chunks of half a second, so many times faster than it is spoken."""
    for _ in range(round(seconds / 0.5)):
        await evi.speak(0, 0.5, reply, rate)
        await trio.sleep(0.5 / speed)


@ALL
async def test_a_reply_of_200_s_is_heard_whole(provider: str, autojump_clock: Clock) -> None:
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="", provider_dead_seconds=600) as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await speak(evi, 200.0, speed=10.0, rate=16_000)
        await evi.end_turn(0)
        await trio.sleep(190)
        assert line.heard == pytest.approx(200.0, abs=0.02)
        nursery.cancel_scope.cancel()


@ALL
async def test_a_barge_in_stops_a_long_reply_at_once(provider: str, autojump_clock: Clock) -> None:
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await speak(evi, 200.0, speed=10.0, rate=16_000)
        await trio.sleep(10)
        at = await evi.interrupt(0)
        await evi.speak(0, 0.5, "r")
        await trio.sleep(5)
        ((told_at, _),) = [(when, each) for when, each in line.messages if each["type"] == "interruption"]
        assert told_at - at <= 0.03
        assert max(when for when, _ in line.audio) <= at + 0.03
        nursery.cancel_scope.cancel()


class Forgetful(FakeCore):
    """Keeps of the audio only how much and when, so that a call's memory is the call's."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.last = 0.0

    async def send(self, message: ToCore) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(message, PlayoutAudio):
            self.seconds += len(message.audio) / 16_000
            self.last = trio.current_time()


async def test_what_200_s_of_speech_take_of_memory(
    nursery: trio.Nursery, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bar: 4 MB; 180 s of it wait at once, which are 2.9."""
    monkeypatch.setattr("tests.call.fakes.FakeCore", Forgetful)
    scene = await begin(nursery)
    core = scene.core
    assert isinstance(core, Forgetful)
    chunk = spoken(0.5)
    tracemalloc.start()
    try:
        for _ in range(400):
            scene.agent.feed(chunk)
            await trio.sleep(0.05)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{most / 1e6:.2f} MB")
    assert most < 3_300_000
    await trio.sleep(10)
    scene.agent.feed(UserInterruption())
    at, heard = trio.current_time(), core.seconds
    await trio.sleep(5)
    assert heard == pytest.approx(30.5, abs=0.11)
    assert core.last <= at + 0.03
    scene.core.hang_up()


@ALL
@pytest.mark.parametrize("name", ["dsai_hangup", "dsai_transfer"])
@pytest.mark.parametrize("length", [2.0, 15.03])  # not whole chunks of whatever is buffered on the way
async def test_a_good_bye_is_heard_to_its_end_and_then_the_tool_runs(
    provider: str, name: str, length: float, autojump_clock: Clock
) -> None:
    """Bar: a good-bye of 15 s, generated in 1 s, is heard; then AMI within 0.3 s. No end of turn comes from EVI."""
    bench = Bench(name)
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, tools=(bench.tool,), welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        began = trio.current_time()
        for _ in range(10):
            await evi.speak(0, length / 10, "r")
            await trio.sleep(1.0 / 10)
        await evi.ask(0, "t1", name, "{}")
        await trio.sleep(length + 1)
        ((ran_at, _, _),) = bench.runs
        print(f"heard {line.heard:.2f} s, the tool {ran_at - began - line.heard:.2f} s later")
        assert line.heard == pytest.approx(length, abs=0.025)
        assert 0.199 <= ran_at - (began + line.heard) <= 0.3
        assert max(at for at, _ in line.audio) <= began + length, "the last of it came late"
        nursery.cancel_scope.cancel()


@ALL
async def test_a_tool_asked_for_before_its_good_bye_waits_for_all_of_it(provider: str, autojump_clock: Clock) -> None:
    bench = Bench("dsai_hangup")
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, tools=(bench.tool,), welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await evi.speak(0, 1.0, "r")
        await evi.end_turn(0)
        await trio.sleep(2)
        await evi.user_says(0, "That is all.")
        await evi.ask(0, "t1", "dsai_hangup", "{}")
        await trio.sleep(2)
        assert bench.runs == []
        began = trio.current_time()
        await speak(evi, 7.0, speed=10.0, reply="bye")
        await trio.sleep(10)
        ((ran_at, _, _),) = bench.runs
        assert line.heard == pytest.approx(8.0, abs=0.025)
        assert ran_at - began == pytest.approx(7.2, abs=0.1)
        nursery.cancel_scope.cancel()


@ALL
@pytest.mark.parametrize("grace", [0, 3000])
async def test_a_good_bye_that_never_comes_is_waited_for_no_longer_than_the_grace(
    provider: str, grace: int, autojump_clock: Clock
) -> None:
    bench = Bench("dsai_hangup")
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(
            provider=provider, dial=dial, tools=(bench.tool,), welcome_message="", call_control_grace_ms=grace
        ) as stage,
    ):
        caller = await stage.call(uuid=UUID)
        await trio.sleep(0.1)
        began = await evi.ask(0, "t1", "dsai_hangup", "{}")
        await trio.sleep(5)
        ((ran_at, _, _),) = bench.runs
        assert ran_at - began == pytest.approx(max(grace / 1000, 0.3), abs=0.02)
        await caller.socket.aclose()


@ALL
async def test_what_is_said_before_a_lookup_is_heard_without_a_hole(provider: str, autojump_clock: Clock) -> None:
    """The filler before a tool call: resampler and frames hold its last 20 ms, and no end of the turn comes."""
    bench = Bench("lookup", seconds=5.0)
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, tools=(bench.tool,), welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        began = await evi.speak(0, 1.05, "r")
        await evi.ask(0, "t1", "lookup", "{}")
        await trio.sleep(1.05)
        assert line.heard == pytest.approx(1.05, abs=0.025)
        assert max(at for at, _ in line.audio) - began <= 1.05
        assert bench.runs
        nursery.cancel_scope.cancel()


# Keys.


@ALL
@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_a_key_stops_an_announcement_and_is_told_at_once(
    provider: str, speed: float, autojump_clock: Clock
) -> None:
    """Bar: silence within 30 ms, one `interruption`, nothing stale."""
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        caller = await stage.call(uuid=UUID)
        line = Line(caller)
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        nursery.start_soon(partial(speak, evi, 12.0, speed=speed))
        await trio.sleep(3.25)  # in the middle of a chunk
        before, at = len(evi.messages), trio.current_time()
        for key in "123":  # several in a row are one interruption
            await caller.say(type="dtmf_digit", digit=key)
            await trio.sleep(0.3)
        await evi.speak(0, 0.5, "r")  # what was on its way
        await trio.sleep(1)
        told = evi.messages[before:]
        if provider == "humeai":
            texts = [each["text"] for each in told if each["type"] == "user_input"]
            kinds = ["pause_assistant_message", "user_input", "resume_assistant_message"]
            assert [each["type"] for each in told][:3] == kinds
        else:
            texts = [each["item"]["content"][0]["text"] for each in told if each["type"] == "conversation.item.create"]
            assert [each["type"] for each in told][:2] == ["response.cancel", "conversation.item.truncate"]
            assert told[1]["audio_end_ms"] == pytest.approx(3250, abs=20)
        assert "pressed 1 on" in texts[0]
        await trio.sleep(1)
        new = evi.messages[before:]
        assert any("pressed 1 2 3 on" in str(each) for each in new), "the whole entry, when it is complete"
        interruptions = [when for when, each in line.messages if each["type"] == "interruption"]
        print(f"silent after {(interruptions[0] - at) * 1000:.0f} ms")
        assert len(interruptions) == 1
        assert interruptions[0] - at <= 0.03
        assert max(when for when, _ in line.audio) <= at + 0.03
        await evi.speak(0, 0.5, "r2")
        await trio.sleep(1)
        assert sum(length for when, length in line.audio if when > at + 1) == pytest.approx(0.5, abs=0.025)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("echoes", [True, False])
async def test_segments_that_were_on_their_way_at_a_key_are_not_heard(echoes: bool, autojump_clock: Clock) -> None:
    """EVI gives each segment an id of its own, so those are new ones. What it says after the echo is the answer."""
    async with (
        evi_in_memory("humeai") as (evi, dial),
        open_stage(dial=dial, welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        caller = await stage.call(uuid=UUID)
        line = Line(caller)
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await speak(evi, 3.0, speed=10.0)
        await trio.sleep(0.2)
        at = trio.current_time()
        await caller.say(type="dtmf_digit", digit="1")
        for segment in ("on its way", "too"):
            await evi.say(0, type="assistant_message", id=segment, message={"role": "assistant", "content": segment})
            await trio.sleep(0.1)
            await evi.speak(0, 0.5, segment)
        assert max(when for when, _ in line.audio) <= at + 0.03
        if echoes:
            said = {"role": "user", "content": "(The caller pressed 1 on the telephone keypad.)"}
            await evi.say(0, type="user_message", message=said, models={}, interim=False, from_text=True)
        else:  # it may have changed its ways: that must not make it mute
            await trio.sleep(1.0)
        await evi.speak(0, 0.5, "answer")
        await evi.end_turn(0)
        await trio.sleep(2)
        assert sum(length for when, length in line.audio if when > at + 0.05) == pytest.approx(0.5, abs=0.025)
        told = [each["text"] for _, each in line.messages if each["type"] == "transcript"]
        assert "on its way" not in str(told)
        nursery.cancel_scope.cancel()


@ALL
async def test_a_key_during_the_greeting_is_answered(provider: str, autojump_clock: Clock) -> None:
    async with open_stage(provider=provider) as stage, trio.open_nursery() as nursery:
        caller = await stage.call(uuid=UUID)
        line = Line(caller)
        nursery.start_soon(line.listen)
        await trio.sleep(0.8)
        at = trio.current_time()
        await caller.say(type="dtmf_digit", digit="7")
        await trio.sleep(6)
        assert line.kinds().count("interruption") == 1
        assert sum(length for when, length in line.audio if when > at) > 0.5, "no answer"
        said = [each["text"] for _, each in line.messages if each["type"] == "transcript" and each["role"] == "user"]
        assert any("7" in str(text) for text in said)
        assert stage.emulator.live
        nursery.cancel_scope.cancel()


@ALL
@pytest.mark.parametrize(
    "settings", [{"dtmf_interrupts": False}, {"dtmf_mode": "off"}, {"dtmf_mode": "context"}], ids=str
)
async def test_a_key_that_nobody_answers_stops_nothing(
    provider: str, settings: dict[str, Any], autojump_clock: Clock
) -> None:
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="", **settings) as stage,
        trio.open_nursery() as nursery,
    ):
        caller = await stage.call(uuid=UUID)
        line = Line(caller)
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await speak(evi, 3.0, speed=10.0)
        await evi.end_turn(0)
        await caller.say(type="dtmf_digit", digit="1")
        await trio.sleep(4)
        assert line.heard == pytest.approx(3.0, abs=0.025)
        assert "interruption" not in line.kinds()
        nursery.cancel_scope.cancel()


@ALL
async def test_a_key_while_nothing_plays_waits_for_the_rest_of_its_entry(provider: str, autojump_clock: Clock) -> None:
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        caller = await stage.call(uuid=UUID)
        line = Line(caller)
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await speak(evi, 1.0, speed=10.0)
        await evi.end_turn(0)
        await trio.sleep(1.5)
        before = len(evi.messages)
        for key in "12":
            await caller.say(type="dtmf_digit", digit=key)
            await trio.sleep(0.5)
        assert len(evi.messages) == before
        await trio.sleep(1.5)
        assert "pressed 1 2 on" in str(evi.messages[before:])
        assert "interruption" not in line.kinds()
        nursery.cancel_scope.cancel()


@ALL
async def test_transcripts_come_in_the_order_of_the_conversation(provider: str, autojump_clock: Clock) -> None:
    async with (
        evi_in_memory(provider) as (evi, dial),
        open_stage(provider=provider, dial=dial, welcome_message="") as stage,
        trio.open_nursery() as nursery,
    ):
        line = Line(await stage.call(uuid=UUID))
        nursery.start_soon(line.listen)
        await trio.sleep(0.1)
        await evi.user_says(0, " What is new? ")
        await evi.agent_says(0, " A long answer. ")
        await speak(evi, 6.0, speed=10.0)
        await evi.end_turn(0)
        await trio.sleep(1)
        await evi.user_says(0, "Mhm.")
        await evi.user_says(0, " ")
        await trio.sleep(10)
        said = [(each["role"], each["text"]) for _, each in line.messages if each["type"] == "transcript"]
        assert said == [("user", "What is new?"), ("agent", "A long answer."), ("user", "Mhm.")]
        nursery.cancel_scope.cancel()
