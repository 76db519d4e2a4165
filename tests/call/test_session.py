"""A call's behaviour between a fake Core and a fake agent, on a mock clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
import structlog.testing
import trio
import trio.testing

from sts_trio.audio.pcm import Wav
from sts_trio.call.config import CallRules, Services, SessionPolicy
from sts_trio.call.handler import CallHandler, Registry
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.call.playout import Pace
from sts_trio.core.link import Arrival
from sts_trio.core.wire import CallerAudio, Digit, Error, Init, Interruption, NotUnderstood, PlayoutAudio, Transcript
from sts_trio.errors import ProviderLost, ProviderRefused
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentText,
    AgentTurnEnd,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from tests.call.fakes import FRAME, FakeAgent, FakeCore, FakeSession, begin, spoken, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.core.wire import ToCore
    from sts_trio.providers.base import CallInfo

settle = trio.testing.wait_all_tasks_blocked
GOODBYE = SessionEnd("Hume ended the chat (close 1000)", SessionEndKind.GOODBYE)


async def test_the_agent_is_asked_to_greet_once_and_before_any_caller_audio(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(session_policy=SessionPolicy(greeting="Hello!")))
    scene.core.speak(3)
    await settle()
    assert scene.agent.said == ["Hello!"]
    assert scene.agent.audio == [FRAME] * 3
    scene.core.hang_up()


async def test_no_greeting_when_it_is_empty(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    scene = await begin(nursery)
    assert scene.agent.said == []
    scene.core.hang_up()


async def test_a_minute_of_caller_audio_arrives_bit_exact_and_in_order(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rng = np.random.default_rng(1)
    spoken_audio = rng.integers(-32768, 32768, 60 * 8000, dtype="<i2").tobytes()
    scene = await begin(nursery)
    position = 0
    while position < len(spoken_audio):
        size = int(rng.choice([320, 320, 320, 319, 1, 640, 1000, 321]))
        scene.core.say(CallerAudio(spoken_audio[position : position + size]))
        position += size
        await trio.sleep(0.02)
    await settle()
    assert b"".join(scene.agent.audio) == spoken_audio
    assert all(len(piece) % 2 == 0 and len(piece) <= 320 for piece in scene.agent.audio)
    scene.core.hang_up()


async def test_before_the_agent_is_ready_the_newest_second_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, agent=FakeAgent(ready_after=3.0))
    for number in range(100):  # two seconds, numbered
        scene.core.say(CallerAudio(number.to_bytes(2, "little") * 160))
        await trio.sleep(0.02)
    assert scene.agent.audio == []
    await trio.sleep(2)
    assert list(b"".join(scene.agent.audio)[::320]) == list(range(50, 100))
    scene.core.hang_up()
    await scene.over.wait()


async def test_audio_before_init_is_ignored_and_a_second_init_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, init=False)
    scene.core.speak(5)
    scene.core.say(Init("one"), Init("two"), CallerAudio(FRAME), Digit("5"), NotUnderstood("a test"))
    await settle()
    assert [call.id for call in scene.agent.calls] == ["one"]
    assert scene.agent.audio == [FRAME]
    scene.core.hang_up()


@pytest.mark.parametrize("uuid", ["unknown", None, 7, "", "x" * 2**20, "line\nbreak"])
async def test_a_call_without_a_usable_uuid_gets_a_name_of_its_own(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, uuid: object
) -> None:
    scene = await begin(nursery, init=False)
    scene.core.say(Init(uuid))
    await settle()
    (call,) = scene.agent.calls
    assert call.id.startswith("call-")
    assert len(call.id) < 20
    assert call.uuid is None
    scene.core.hang_up()


async def test_a_reply_leaves_at_once_and_never_more_than_the_lead_ahead(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    began = trio.current_time()
    for _ in range(80):  # eight seconds, all at once
        scene.agent.feed(spoken(0.1))
    scene.agent.feed(AgentTurnEnd())
    await settle()
    assert scene.core.heard[0][0] == began
    await trio.sleep(9)
    assert scene.core.audio == tone(0.1) * 80
    assert scene.core.lead() == pytest.approx(0.5, abs=0.001)
    assert {len(message.audio) for _, message in scene.core.heard if isinstance(message, PlayoutAudio)} == {1600}
    scene.core.hang_up()


async def test_a_reply_in_odd_chunks_leaves_in_whole_frames_with_its_tail(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    sizes = [0.033, 0.0501, 0.2, 0.0071]
    chunks = [spoken(size) for size in sizes]
    scene.agent.feed(*chunks, AgentTurnEnd())
    await trio.sleep(1)
    sent = b"".join(bytes(chunk.wav.pcm) for chunk in chunks)
    assert all(len(m.audio) % 320 == 0 for _, m in scene.core.heard if isinstance(m, PlayoutAudio))
    assert scene.core.audio[: len(sent)] == sent
    assert scene.core.audio[len(sent) :] == bytes(len(scene.core.audio) - len(sent))
    assert len(scene.core.audio) - len(sent) < 320
    scene.core.hang_up()


@pytest.mark.parametrize("rate", [8000, 48_000])
async def test_barge_in_stops_the_old_reply_for_good(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, rate: int
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentText("old", "A long story."))
    for _ in range(80):
        scene.agent.feed(spoken(0.1, "old", rate=rate))
    await trio.sleep(1)
    began, before = trio.current_time(), len(scene.core.heard)
    late = spoken(0.1, "old", rate=rate)
    for event in (UserInterruption(), late, AgentTurnEnd(), late, UserInterruption(), late):
        scene.agent.feed(event)
        await trio.sleep(0.2)  # time for anything stale to get out
    await trio.sleep(5)
    after = scene.core.heard[before:]
    assert after == [(began, Interruption()), (began, Transcript("agent", "A long story.", heard_ms=1000))]
    # The next reply begins cleanly: it is silence, and nothing of the old one is in it.
    scene.agent.feed(spoken(1.0, "new", rate=rate, level=0.0), AgentTurnEnd())
    await trio.sleep(2)
    new = b"".join(m.audio for _, m in scene.core.heard[before + 2 :] if isinstance(m, PlayoutAudio))
    assert new == bytes(16_000)
    scene.core.hang_up()


async def test_a_second_barge_in_is_told_when_a_new_reply_had_begun(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(UserInterruption(), spoken(1, "a"), UserInterruption(), UserInterruption(), spoken(1, "b"))
    await trio.sleep(3)
    scene.agent.feed(UserInterruption())
    await trio.sleep(1)
    assert scene.core.messages == [Interruption()] * 3
    scene.core.hang_up()


async def test_a_barge_in_overtakes_nothing_when_core_reads_slowly(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.core.reads = trio.Event()
    scene.agent.feed(spoken(2.0, "old"))
    await trio.sleep(0.3)  # the first message is on its way and stuck
    scene.agent.feed(UserInterruption())
    await trio.sleep(0.1)
    scene.core.reads.set()
    await trio.sleep(1)
    assert [type(message) for _, message in scene.core.heard] == [PlayoutAudio, Interruption]
    scene.core.hang_up()


async def test_transcripts_are_one_a_turn_with_the_strongest_emotions(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(
        UserTurn("Hello.", {"Joy": 0.51239, "Anger": 0.1, "Calmness": 0.3, "Doubt": 0.2}),
        AgentText("a", "Hm."),
        AgentText("b", "How are you?"),
        AgentTurnEnd(),
        AgentTurnEnd(),
        UserTurn("Fine."),
    )
    await settle()
    assert scene.core.messages == [
        Transcript("user", "Hello.", {"Joy": 0.512, "Calmness": 0.3, "Doubt": 0.2}),
        Transcript("agent", "Hm. How are you?"),
        Transcript("user", "Fine."),
    ]
    scene.core.hang_up()


async def test_a_reply_whose_end_is_never_announced_is_played_to_its_last_sample(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentText("a", "Yes."), AgentAudio("a", Wav(48_000, 1, memoryview(tone(0.25, rate=48_000)))))
    await trio.sleep(3)
    assert len(scene.core.audio) == 13 * 320  # 250 ms in frames of 20
    assert scene.core.messages == [Transcript("agent", "Yes.")]
    scene.core.hang_up()


@pytest.mark.parametrize("length", [1.003, 1.7, 2.0])
async def test_a_reply_in_long_chunks_at_real_time_is_one_reply(
    nursery: trio.Nursery, length: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Chunks longer than the gap that ends a reply, from a provider that is no faster than real time."""
    scene = await begin(nursery)
    voice = tone(length * 4, rate=24_000, hertz=300)
    size = round(length * 24_000) * 2
    scene.agent.feed(AgentText("a", "One story."))
    for start in range(0, len(voice), size):
        scene.agent.feed(AgentAudio("a", Wav(24_000, 1, memoryview(voice[start : start + size]))))
        await trio.sleep(length)
    scene.agent.feed(AgentTurnEnd())
    await trio.sleep(5)
    wanted = np.frombuffer(tone(length * 4, hertz=300), "<i2").astype(float)
    heard = np.frombuffer(scene.core.audio, "<i2").astype(float)
    assert 0 <= len(heard) - len(wanted) < 160
    noise = heard[800 : len(wanted) - 800] - wanted[800:-800]
    assert np.mean(noise**2) < np.mean(wanted**2) * 1e-5  # 50 dB
    assert scene.core.messages == [Transcript("agent", "One story.")]
    scene.core.hang_up()


async def test_a_long_chunk_is_cut_so_that_other_calls_get_their_turn(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class Steps(trio.abc.Instrument):
        of_receiver = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.of_receiver += task.name == "downstream receiver"

    scene, steps = await begin(nursery), Steps()
    scene.agent.feed(spoken(60.0, rate=48_000))
    trio.lowlevel.add_instrument(steps)
    await settle()
    trio.lowlevel.remove_instrument(steps)
    assert steps.of_receiver >= 120  # half a second each
    scene.core.hang_up()


async def test_what_the_agent_had_said_is_told_before_the_error_that_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentText("a", "As I was saying"), ProviderLost("it broke"))
    await scene.over.wait()
    assert scene.core.messages == [Transcript("agent", "As I was saying"), Error("it broke; it could not be resumed")]


async def test_an_error_stays_the_cause_though_a_farewell_follows_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentFault("inactive (E0714)", SessionEndKind.REFUSED), spoken(0.2), GOODBYE)
    await scene.over.wait()
    assert scene.core.messages == [Error("inactive (E0714)")]
    assert scene.core.closed == (1011, "provider_failed")


@pytest.mark.parametrize("code", [1002, 1007, 1009])
async def test_a_caller_who_broke_the_protocol_did_not_hang_up(
    nursery: trio.Nursery, code: int, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.core.hang_up(code)
    await scene.over.wait()
    assert scene.outcome is not None
    assert scene.outcome.cause == Cause.CALLER_BROKE_PROTOCOL


async def test_a_call_that_comes_in_while_the_service_stops_is_told_so(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    registry = Registry()
    await registry.drain()
    scene = await begin(nursery, registry=registry)
    await scene.over.wait()
    assert scene.core.messages == [Error("the service is stopping; no new calls")]
    assert scene.core.closed == (1001, "drained")
    assert scene.agent.calls == []


async def test_the_agent_says_good_bye_and_the_caller_hears_it_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    began = trio.current_time()
    scene.agent.feed(spoken(3.0), AgentTurnEnd(), GOODBYE)
    await scene.over.wait()
    assert scene.core.audio == tone(3.0)
    assert scene.core.messages == []
    assert scene.core.closed is not None
    assert scene.core.closed[0] == 1000
    assert 3.0 <= scene.core.closed_at - began <= 3.5
    assert scene.outcome == CallOutcome(Cause.AGENT_ENDED, 1000, "Hume ended the chat (close 1000)")


async def test_an_error_before_the_good_bye_is_the_cause(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentFault("out of credit (E0300)", SessionEndKind.REFUSED), GOODBYE)
    await scene.over.wait()
    assert scene.core.messages == [Error("out of credit (E0300)")]
    assert scene.core.closed == (1011, "provider_failed")


async def test_an_error_that_the_provider_does_not_act_on_ends_the_call_all_the_same(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    began = trio.current_time()
    scene.agent.feed(AgentFault("out of credit (E0300)", SessionEndKind.REFUSED))
    await scene.over.wait()
    assert scene.core.heard == [(began, Error("out of credit (E0300)"))]
    assert scene.core.closed_at - began == pytest.approx(5.0)


async def test_an_error_after_which_the_chat_goes_on_does_not_end_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(AgentFault("bad field (E0101)"))
    scene.agent.feed(AgentFault("odd (E0999)", SessionEndKind.REFUSED), UserTurn("Hello?"))
    await trio.sleep(20)
    assert not scene.over.is_set()
    scene.agent.feed(GOODBYE)
    await scene.over.wait()
    assert scene.outcome is not None
    assert scene.outcome.cause == Cause.AGENT_ENDED


@pytest.mark.parametrize("failure", [ProviderRefused("the key is wrong"), ProviderLost("connection refused")])
async def test_a_provider_that_cannot_be_reached_is_told_and_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, failure: ProviderLost | ProviderRefused
) -> None:
    scene = await begin(nursery, agent=FakeAgent(failure=failure))
    await scene.over.wait()
    assert scene.core.messages == [Error(str(failure))]
    assert scene.core.closed == (1011, "provider_failed")


async def test_a_broken_session_is_told_once_its_receiver_knows_why(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.send_failure = ProviderLost("closed")
    scene.core.speak(10)
    await trio.sleep(1)
    assert not scene.over.is_set()
    scene.agent.feed(ProviderLost("the connection broke"))
    await scene.over.wait()
    assert scene.core.messages == [Error("the connection broke; it could not be resumed")]


async def test_no_init_in_time(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    scene = await begin(nursery, init=False)
    began = trio.current_time()
    scene.core.speak(10)
    await scene.over.wait()
    assert trio.current_time() - began == pytest.approx(10.0)
    assert scene.core.messages == [Error("no init message within 10 s of connecting")]
    assert scene.core.closed == (1008, "no_init")
    assert scene.agent.calls == []


async def test_a_call_ends_at_its_greatest_length(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(most_seconds=60))
    began = trio.current_time()
    await scene.over.wait()
    assert trio.current_time() - began == pytest.approx(60)
    assert scene.core.closed == (1000, "too_long")


@pytest.mark.parametrize(
    ("code", "cause"), [(1000, Cause.CALLER_HUNG_UP), (1005, Cause.CALLER_HUNG_UP), (1006, Cause.CALLER_LOST)]
)
async def test_a_hang_up_ends_everything_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, code: int, cause: Cause
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(spoken(8.0))
    await trio.sleep(1)
    began = trio.current_time()
    assert scene.agent.open_sessions == 1
    scene.core.hang_up(code)
    await scene.over.wait()
    assert trio.current_time() == began
    assert scene.agent.open_sessions == 0
    assert scene.outcome is not None
    assert scene.outcome.cause == cause
    assert scene.core.closed is None
    assert scene.registry.live == 0


async def test_floods_of_odd_messages_do_not_flood_the_log_or_core(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            scene.core.say(Init("again"), NotUnderstood("a test"))
            scene.agent.feed(AgentFault(f"bad field {number}"))
        await settle()
    assert len(lines) == 5 + 5  # what Core, and what the provider sent
    assert len(scene.core.messages) == 20
    scene.core.hang_up()


async def test_a_hang_up_while_the_provider_is_being_reached_ends_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, agent=FakeAgent(ready_after=1000))
    scene.core.hang_up()
    began = trio.current_time()
    await scene.over.wait()
    assert trio.current_time() == began


async def test_silence_on_the_wire_is_no_fault(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    scene = await begin(nursery)
    await trio.sleep(3600)
    assert not scene.over.is_set()
    scene.core.hang_up()


async def test_a_tool_call_gets_exactly_one_answer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(ToolCall("a", "weather", "{}", True), ToolCall("b", "web_search", "{}", False))
    await settle()
    assert scene.agent.refused == ["a"]
    scene.core.hang_up()


async def test_our_own_fault_ends_one_call_and_tells_core_no_details(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    registry = Registry()
    bad, good = await begin(nursery, registry=registry), await begin(nursery, registry=registry)
    bad.agent.feed(RuntimeError("a bug, with secrets in it"))
    await bad.over.wait()
    assert bad.core.messages == [Error("internal error of the connector")]
    assert bad.core.closed == (1011, "internal_error")
    good.core.speak(2)
    await settle()
    assert good.agent.audio == [FRAME] * 2
    assert registry.live == 1
    good.core.hang_up()


async def test_two_calls_do_not_bleed_into_each_other(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    loud, silent = await begin(nursery), await begin(nursery)
    for _ in range(30):
        loud.agent.feed(spoken(0.1, rate=48_000, level=1.0))
        silent.agent.feed(spoken(0.1, rate=48_000, level=0.0))
        await trio.sleep(0.1)
    await trio.sleep(1)
    assert np.abs(np.frombuffer(loud.core.audio, "<i2")).max() > 30_000
    assert np.abs(np.frombuffer(silent.core.audio, "<i2")).max(initial=0) <= 2
    assert len(silent.core.audio) == len(loud.core.audio) > 40_000
    loud.core.hang_up()
    silent.core.hang_up()


async def test_stopping_the_service_tells_core_and_closes_with_1001(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    with trio.move_on_after(30):
        await scene.registry.drain()
    assert scene.registry.refusal() is not None
    assert not scene.over.is_set()
    scene.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
    await scene.over.wait()
    assert scene.core.messages == [Error("the service is stopping")]
    assert scene.core.closed == (1001, "drained")


async def test_a_call_that_says_its_last_words_is_not_cut_short(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def read_in_a_second(core: FakeCore) -> None:
        await trio.sleep(1)
        core.reads.set()

    async with trio.open_nursery() as calls:
        scene = await begin(calls)
        scene.core.reads = trio.Event()
        scene.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
        await settle()
        nursery.start_soon(read_in_a_second, scene.core)
        calls.cancel_scope.cancel()
    assert scene.core.messages == [Error("the service is stopping")]
    assert scene.core.closed == (1001, Cause.DRAINED)


async def test_a_turn_of_the_caller_is_told_as_far_as_anyone_reads(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(UserTurn("x" * 1_000_000))
    await trio.sleep(0.1)
    assert scene.core.messages == [Transcript("user", "x" * 10_000)]
    scene.core.hang_up()


class SlowToLeave(FakeAgent):
    """An agent whose session takes half a second to close."""

    @asynccontextmanager
    async def __call__(self, call: CallInfo) -> AsyncIterator[FakeSession]:
        async with super().__call__(call) as session:
            try:
                yield session
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)


async def test_a_call_that_is_ending_keeps_its_cause_when_the_service_stops(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        scene = await begin(nursery, agent=SlowToLeave())
        scene.agent.feed(SessionEnd("the chat with Hume was closed with code 1011", SessionEndKind.REFUSED))
        await trio.sleep(0.2)
        scene.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
        await scene.over.wait()
    assert (logs[-1]["event"], logs[-1]["log_level"]) == ("call ended", "warning")
    assert scene.core.messages == [Error("the chat with Hume was closed with code 1011")]
    assert scene.core.closed == (1011, Cause.PROVIDER_FAILED)


class SlowCore(FakeCore):
    """A Core that takes each message a moment before it is handed over; cut short then, it has not taken it."""

    async def send(self, message: ToCore) -> None:
        await trio.sleep(0.1)
        await super().send(message)


async def test_the_log_of_transcripts_holds_each_once_and_the_last_words_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    core, agent = SlowCore(), FakeAgent()
    board = CallHandler(CallRules(), Pace(0.5), Services(agent), Registry(), log_transcripts=True)
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(board.answer, core, Arrival({}))
        core.say(Init("uuid-1"))
        agent.feed(UserTurn("Good morning."))
        await trio.sleep(0.5)
        agent.feed(AgentText("r", "Good morning to you."), spoken(5.0, "r"), UserTurn("Bye."))
        await trio.sleep(0.55)
        core.hang_up()
        await trio.sleep(1)
    said = [(line["role"], line["text"]) for line in logs if line["event"] == "said"]
    assert said == [("user", "Good morning."), ("agent", "Good morning to you."), ("user", "Bye.")]
    (summary,) = [line for line in logs if line["event"] == "call ended"]
    assert summary["agent_turns"] == 1


async def test_draining_waits_for_the_last_call_only(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    registry = Registry()
    first, scene = await begin(nursery, registry=registry), await begin(nursery, registry=registry)
    began = trio.current_time()
    drained = trio.Event()

    async def drain() -> None:
        await scene.registry.drain()
        drained.set()

    nursery.start_soon(drain)
    await trio.sleep(3)
    first.core.hang_up()
    await trio.sleep(4)
    assert not drained.is_set()
    scene.core.hang_up()
    await drained.wait()
    assert trio.current_time() - began == pytest.approx(7)
