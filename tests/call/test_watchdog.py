"""What the watchdog sees: a silent caller, an agent that does not answer, one that has failed for good."""

from __future__ import annotations

import math
import tracemalloc
from functools import partial

import pytest
import trio
import trio.testing

from sts_trio.call.config import CallRules, NoInputRules, Services
from sts_trio.call.meter import Cause
from sts_trio.core.wire import Digit, Error
from sts_trio.errors import ProviderLost, ProviderRefused
from sts_trio.providers.base import AgentText, AgentTurnEnd, ToolCall, UserInterruption, UserTurn
from tests.call.bench import UUID, Bench
from tests.call.fakes import FakeAgent, begin, spoken, tone

SORRY = tone(2.0)


async def test_a_silent_caller_is_asked_and_then_hung_up_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    released: list[tuple[str, Cause]] = []

    async def release(uuid: str, cause: Cause) -> None:
        released.append((uuid, cause))

    rules = CallRules(silence=NoInputRules(20, "Are you still there?"))
    scene = await begin(nursery, rules=rules, services=partial(Services, release=release), uuid=UUID)
    began = trio.current_time()
    await trio.sleep(19.9)
    assert scene.agent.said == []
    await trio.sleep(0.2)
    assert scene.agent.said == ["Are you still there?"]
    scene.agent.feed(AgentText("r", "Are you still there?"), spoken(1.0, "r"), AgentTurnEnd())
    with trio.fail_after(30):
        await scene.over.wait()
    assert trio.current_time() - began == pytest.approx(20 + 0.1 + 1 + 20, abs=0.3)
    assert scene.core.closed == (1000, Cause.CALLER_SILENT)
    assert released == [(UUID, Cause.CALLER_SILENT)]


@pytest.mark.parametrize("sign", ["word", "key"])
async def test_who_answers_is_not_hung_up_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, sign: str
) -> None:
    scene = await begin(nursery, rules=CallRules(silence=NoInputRules(20, "Hello?")))
    for _ in range(10):
        await trio.sleep(25)
        if sign == "word":
            scene.agent.feed(UserTurn("Yes."))
        else:
            scene.core.say(Digit("1"), Digit("#"))
    assert len(scene.agent.said) == 10
    assert not scene.over.is_set()
    scene.core.hang_up()


async def test_an_agent_that_speaks_or_works_is_no_silence(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(seconds=50.0)
    scene = await begin(nursery, rules=CallRules(silence=NoInputRules(20, "Hello?"), tools=(bench.tool,)))
    scene.agent.feed(AgentText("r", "A story."), *[spoken(0.1, "r") for _ in range(300)], AgentTurnEnd())
    await trio.sleep(49)
    assert scene.agent.said == []
    scene.agent.feed(ToolCall("t", "lookup", "{}", response_required=True))
    await trio.sleep(50)
    assert scene.agent.said == []
    await trio.sleep(22)
    assert scene.agent.said == ["Hello?"]
    scene.core.hang_up()


async def test_by_default_silence_is_nobodys_business(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    await trio.sleep(3600)
    assert scene.agent.said == []
    scene.core.hang_up()


@pytest.mark.parametrize(("after", "late"), [(4.0, False), (12.0, True), (math.inf, True)])
async def test_an_agent_that_answers_late_is_logged_and_the_call_goes_on(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    capsys: pytest.CaptureFixture[str],
    after: float,
    late: bool,
) -> None:
    scene = await begin(nursery, rules=CallRules(answer_seconds=10))
    scene.agent.feed(UserTurn("Hello?"))
    await trio.sleep(min(after, 30))
    scene.agent.feed(spoken(0.1))
    await trio.sleep(30)
    assert not scene.over.is_set()
    scene.core.hang_up()
    await scene.over.wait()
    out = capsys.readouterr().out
    assert ("the agent does not answer" in out) is late
    assert ("late_answers=1" in out) is late


async def test_what_is_left_over_from_before_a_barge_in_is_no_answer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = await begin(nursery, rules=CallRules(answer_seconds=10))
    scene.agent.feed(spoken(5.0, "r1"))
    await trio.sleep(1)
    scene.agent.feed(UserInterruption(), UserTurn("No, wait."), spoken(0.1, "r1"))
    await trio.sleep(30)
    scene.core.hang_up()
    await scene.over.wait()
    assert "late_answers=1" in capsys.readouterr().out


@pytest.mark.parametrize("when", ["at the start", "in the call"])
async def test_a_caller_whose_agent_has_failed_hears_the_fallback_and_is_seen_to(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, when: str
) -> None:
    released: list[tuple[float, str, Cause]] = []

    async def release(uuid: str, cause: Cause) -> None:
        released.append((trio.current_time(), uuid, cause))

    agent = FakeAgent(failure=ProviderRefused("HTTP 401") if when == "at the start" else None)
    services = partial(Services, release=release)
    began = trio.current_time()
    scene = await begin(nursery, agent=agent, rules=CallRules(fallback=SORRY), services=services, uuid=UUID)
    if when == "in the call":
        scene.agent.failure = ProviderRefused("HTTP 401")
        scene.agent.feed(ProviderLost("it broke"))
    with trio.fail_after(10):
        await scene.over.wait()
    assert scene.core.audio == SORRY
    (error,) = [message for message in scene.core.messages if isinstance(message, Error)]
    assert "HTTP 401" in error.message
    ((at, uuid, cause),) = released
    assert (uuid, cause) == (UUID, Cause.PROVIDER_FAILED)
    assert at - began == pytest.approx(2.2, abs=0.05)
    assert scene.core.closed == (1011, Cause.PROVIDER_FAILED)


async def test_without_a_fallback_the_call_ends_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    scene = await begin(nursery, agent=FakeAgent(failure=ProviderRefused("HTTP 401")))
    await scene.over.wait()
    assert trio.current_time() - began < 0.1


async def test_a_session_that_opens_after_all_is_closed_when_the_fallback_plays(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(fallback=tone(10.0)))
    scene.agent.said_ready, scene.agent.ready_after = False, 16.0
    scene.agent.feed(ProviderLost("it broke"))
    await trio.sleep(18)
    assert not scene.over.is_set()
    assert scene.agent.open_sessions == 0
    assert scene.agent.said == []
    with trio.fail_after(20):
        await scene.over.wait()
    assert len(scene.core.audio) == 160_000


async def test_a_core_that_does_not_read_sixty_seconds_of_reply_costs_less_than_two_megabytes(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene, beside = await begin(nursery), await begin(nursery)
    scene.core.reads = trio.Event()  # from now on Core takes nothing
    await trio.sleep(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(600):
            scene.agent.feed(spoken(0.1, "r"))
            if number % 10 == 0:
                beside.agent.feed(spoken(0.1, "r"))
            await trio.sleep(0.01)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    print(f"a minute of speech for a Core that does not read: {grown / 1e6:.2f} MB")
    assert grown < 2_000_000
    await trio.sleep(10)
    assert len(beside.core.audio) == 60 * 1600
    scene.core.reads.set()
    scene.core.hang_up()
    beside.core.hang_up()


@pytest.mark.parametrize(("leaves", "took"), [(True, 1.0), (False, 3.0)])
async def test_who_is_on_his_way_elsewhere_is_not_hung_up_by_our_close(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, leaves: bool, took: float
) -> None:
    async def release(uuid: str, cause: Cause) -> bool:
        return True

    began = trio.current_time()
    agent = FakeAgent(failure=ProviderRefused("HTTP 401"))
    scene = await begin(nursery, agent=agent, services=partial(Services, release=release), uuid=UUID)
    await trio.sleep(1.0)
    assert scene.core.closed is None
    if leaves:
        scene.core.hang_up()
    with trio.fail_after(5):
        await scene.over.wait()
    assert trio.current_time() - began == pytest.approx(took, abs=0.1)


async def test_a_fallback_of_any_length_comes_to_its_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Half a frame that stays in the playout is heard never, and the call would wait for it for hours."""
    scene = await begin(nursery, rules=CallRules(fallback=tone(1.2345)))
    scene.agent.feed(spoken(0.33), ProviderRefused("it broke"))
    with trio.fail_after(5):
        await scene.over.wait()
    assert len(scene.core.audio) == (17 + 62) * 320


async def test_the_agents_last_words_come_before_the_fallback(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(fallback=SORRY))
    scene.agent.feed(spoken(0.5, rate=48_000), ProviderRefused("it broke"))
    with trio.fail_after(5):
        await scene.over.wait()
    assert scene.core.audio.endswith(SORRY)
    assert len(scene.core.audio) == len(SORRY) + 8000
