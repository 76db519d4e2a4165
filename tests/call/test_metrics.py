"""What the metrics say of calls that were scripted: exactly what they did."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.call.config import CallRules, ResumeRules, Services
from sts_trio.call.handler import Registry
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.core.wire import Digit, NotUnderstood
from sts_trio.errors import ProviderError, ProviderLost, ProviderProtocolError, ProviderRefused, ProviderTimeout
from sts_trio.lab.emulator import Refuse, Reset, Script
from sts_trio.metrics import Metrics
from sts_trio.providers.base import (
    AgentFault,
    AgentText,
    AgentTurnEnd,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from tests.call.bench import UUID, Bench
from tests.call.fakes import FakeAgent, begin, spoken
from tests.call.stage import ALL, open_stage

Clock = trio.testing.MockClock


def shown(metrics: Metrics) -> dict[str, float]:
    """All of our samples but buckets, as `name{label=value,…}`."""
    found = {}
    for family in text_string_to_metric_families(metrics.scrape()[0].decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            if sample.name.startswith("sts_") and not sample.name.endswith("_bucket"):
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def changed(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {
        name: round(value - before.get(name, 0), 4)
        for name, value in after.items()
        if value != before.get(name, 0) and name != "sts_tasks"
    }


async def test_a_scripted_call_is_counted_exactly(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    metrics, bench = Metrics(Registry(), "0"), Bench("lookup", seconds=0.5)
    before = shown(metrics)
    scene = await begin(
        nursery,
        agent=FakeAgent(ready_after=0.25),
        rules=CallRules(tools=(bench.tool,)),
        services=partial(Services, meter=metrics),
        uuid=UUID,
    )
    scene.core.speak(10)  # before the agent is ready: kept
    await trio.sleep(0.3)
    scene.core.speak(100)
    scene.core.say(Digit("4"), Digit("#"), NotUnderstood("nonsense"))
    scene.agent.feed(UserTurn("Hello?", {"Anger": 0.7, "Joy": 0.1}))
    await trio.sleep(0.4)
    scene.agent.feed(AgentText("r1", "A long story."), *[spoken(0.5, "r1")] * 8)
    await trio.sleep(1.05)
    scene.agent.feed(UserInterruption(), spoken(0.5, "r1"), UserTurn("Stop.", {"Anger": 0.9}))
    await trio.sleep(0.2)
    scene.agent.feed(ToolCall("t1", "lookup", "{}", response_required=True))
    await trio.sleep(0.6)
    scene.agent.feed(AgentText("r2", "Well."), spoken(1.0, "r2"), AgentTurnEnd())
    await trio.sleep(2.0)
    scene.agent.feed(AgentFault("a small trouble"))
    await trio.sleep(0.1)

    live = changed(before, shown(metrics))
    scene.core.hang_up()
    await scene.over.wait()
    after = changed(before, shown(metrics))

    common = {
        "sts_calls_started_total{leg=websocket}": 1,
        "sts_provider_connects_total{kind=first,result=ready}": 1,
        "sts_provider_connect_seconds_count{kind=first}": 1,
        "sts_provider_connect_seconds_sum{kind=first}": 0.25,
        "sts_audio_seconds_total{direction=to_provider}": 2.2,
        # A second of the story at real time after 0.5 s of lead; then the second reply whole.
        "sts_audio_seconds_total{direction=to_core}": 2.5,
        "sts_agent_audio_received_seconds_total": 5.0,
        "sts_turns_total{role=user}": 2,
        "sts_turns_total{role=agent}": 2,
        "sts_interruptions_total": 1,
        "sts_late_chunks_total": 1,
        "sts_keys_total": 2,
        "sts_tool_calls_total": 1,
        "sts_tool_runs_total{result=done,tool=lookup}": 1,
        "sts_tool_seconds_count": 1,
        "sts_tool_seconds_sum": 0.5,
        "sts_provider_faults_total": 1,
        "sts_not_understood_total": 1,
        "sts_turn_latency_seconds_count": 2,
        "sts_turn_latency_seconds_sum": 1.2,
        "sts_barge_in_stop_seconds_count": 1,
    }
    assert live == common | {"sts_calls_active{leg=websocket}": 1}
    assert after == common | {
        "sts_calls_ended_total{cause=caller_hung_up,leg=websocket}": 1,
        "sts_call_seconds_count": 1,
        "sts_call_seconds_sum": after["sts_call_seconds_sum"],
        "sts_queue_peak_seconds_count{queue=to_provider}": 1,
        "sts_queue_peak_seconds_sum{queue=to_provider}": 0.2,
        "sts_queue_peak_seconds_count{queue=to_core}": 1,
        # The story comes all at once, while the lead goes out.
        "sts_queue_peak_seconds_sum{queue=to_core}": pytest.approx(3.75, abs=0.25),
        "sts_queue_peak_messages_count{queue=to_core}": 1,
        "sts_queue_peak_messages_sum{queue=to_core}": after["sts_queue_peak_messages_sum{queue=to_core}"],
        "sts_call_moods_total{emotion=anger}": 1,
    }
    assert after["sts_call_seconds_sum"] == pytest.approx(4.65, abs=0.01)
    assert shown(metrics)["sts_stale_audio_frames_total"] == 0
    heard = len(scene.core.audio) / 16_000
    assert heard == after["sts_audio_seconds_total{direction=to_core}"]
    assert len(b"".join(scene.agent.audio)) / 16_000 == after["sts_audio_seconds_total{direction=to_provider}"]


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (ProviderRefused("no"), "refused"),
        (ProviderTimeout("late"), "timeout"),
        (ProviderLost("gone"), "lost"),
        (ProviderProtocolError("odd"), "protocol"),
        (RuntimeError("ours"), "failed"),
    ],
)
async def test_a_connect_that_fails_is_counted_by_what_it_came_to(
    nursery: trio.Nursery, autojump_clock: Clock, failure: Exception, result: str
) -> None:
    metrics = Metrics(Registry(), "0")
    agent = FakeAgent(failure=failure)
    scene = await begin(nursery, agent=agent, services=partial(Services, meter=metrics))
    await scene.over.wait()
    found = shown(metrics)
    tries = found[f"sts_provider_connects_total{{kind=first,result={result}}}"]
    assert (tries > 1) is (isinstance(failure, ProviderError) and failure.retryable)
    assert sum(value for name, value in found.items() if name.startswith("sts_provider_connects_total")) == tries >= 1
    assert found["sts_provider_connect_seconds_count{kind=first}"] == 0


async def test_a_connect_that_nobody_waits_for_and_one_that_is_closed(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    metrics = Metrics(Registry(), "0")
    scene = await begin(nursery, agent=FakeAgent(ready_after=5), services=partial(Services, meter=metrics))
    scene.core.hang_up()
    await scene.over.wait()
    agent = FakeAgent()
    agent.said_ready = True  # it does not get ready
    scene = await begin(nursery, agent=agent, services=partial(Services, meter=metrics))
    agent.feed(SessionEnd("Good-bye", SessionEndKind.GOODBYE))
    await trio.sleep(1)
    scene.core.hang_up()
    await scene.over.wait()
    connects = {name: value for name, value in shown(metrics).items() if "connects" in name and value}
    assert connects == {
        "sts_provider_connects_total{kind=first,result=given_up}": 1,
        "sts_provider_connects_total{kind=first,result=closed}": 1,
    }


async def test_tools_are_counted_by_result_whatever_stops_them(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    metrics, bench = Metrics(Registry(), "0"), Bench("lookup", seconds=4)
    scene = await begin(
        nursery, rules=CallRules(tools=(bench.tool,)), services=partial(Services, meter=metrics), uuid=UUID
    )
    scene.agent.feed(ToolCall("t1", "lookup", "{}", response_required=True))
    await trio.sleep(1)
    scene.agent.feed(ToolCall("t2", "lookup", "{}", response_required=True))  # the caller has changed his mind
    await trio.sleep(1)
    scene.agent.feed(ToolCall("t3", "no_such_tool", "{}", response_required=True))
    await trio.sleep(1)
    scene.agent.feed(ToolCall("t4", "lookup", "{}", response_required=True))
    await trio.sleep(1)
    scene.core.hang_up()
    await scene.over.wait()
    found = shown(metrics)
    assert found["sts_tool_runs_total{result=stopped,tool=lookup}"] == 3
    assert found["sts_tool_calls_total"] == 4
    assert found["sts_tool_seconds_sum"] == pytest.approx(3)
    assert not [name for name in found if "no_such_tool" in name], "agents must not be able to make up labels"


async def test_a_resume_and_a_renewal_are_told_apart(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    metrics = Metrics(Registry(), "0")
    rules = CallRules(lifeline=ResumeRules(renew_seconds=60))
    scene = await begin(nursery, rules=rules, services=partial(Services, meter=metrics))
    scene.agent.said_ready = False
    await trio.sleep(30)
    scene.agent.feed(ProviderLost("it broke"))
    await trio.sleep(10)
    scene.agent.said_ready = False
    await trio.sleep(60)
    scene.core.hang_up()
    await scene.over.wait()
    found = shown(metrics)
    for kind in ("first", "resume", "renewal"):
        assert found[f"sts_provider_connects_total{{kind={kind},result=ready}}"] == 1, kind
    assert found["sts_sessions_replaced_total{kind=resume}"] == 1
    assert found["sts_sessions_replaced_total{kind=renewal}"] == 1


async def test_a_dropped_message_and_a_full_playout_are_counted(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    metrics = Metrics(Registry(), "0")
    scene = await begin(nursery, services=partial(Services, meter=metrics))
    scene.core.reads = trio.Event()  # Core reads nothing
    for number in range(300):
        scene.agent.feed(UserTurn(str(number)))
    await trio.sleep(1)
    scene.agent.feed(*[spoken(0.5, "r")] * 1210)
    await trio.sleep(1)
    found = shown(metrics)
    assert found["sts_messages_dropped_total{queue=to_core}"] == 300 - 256
    assert found["sts_audio_dropped_seconds_total{queue=to_core}"] == 5
    scene.core.hang_up()
    await scene.over.wait()
    found = shown(metrics)
    assert found["sts_queue_peak_messages_sum{queue=to_core}"] == 256
    assert found["sts_queue_peak_seconds_sum{queue=to_core}"] == 600


@ALL
async def test_what_the_provider_does_to_calls_shows_in_the_whole_service(provider: str, autojump_clock: Clock) -> None:
    def script(number: int) -> Script:
        return (Script(steps=(Reset(2.0),)), Script(), Script(handshake=Refuse(401)))[min(number, 2)]

    async with open_stage(provider=provider, script=script, welcome_message="Hello!", max_calls=2) as stage:
        caller = await stage.call()
        await caller.speak(bytes(4 * 16_000))
        heard, _ = await (await stage.call(uuid="uuid-2")).hear_out()
        assert heard[-1]["type"] == "error"
        await trio.sleep(1)
        found = shown(stage.metrics)
        assert found["sts_calls_started_total{leg=websocket}"] == 2
        assert found["sts_calls_active{leg=websocket}"] == 1 == stage.registry.live
        assert found["sts_calls_limit"] == 2
        assert found["sts_calls_ended_total{cause=provider_failed,leg=websocket}"] == 1
        assert found["sts_provider_connects_total{kind=first,result=ready}"] == 1
        assert found["sts_provider_connects_total{kind=first,result=refused}"] == 1
        assert found["sts_provider_connects_total{kind=resume,result=ready}"] == 1
        assert found["sts_audio_seconds_total{direction=to_provider}"] == 4
        stage.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service is stopping"))
        await trio.sleep(5)
        found = shown(stage.metrics)
        assert found["sts_calls_ended_total{cause=drained,leg=websocket}"] == 1
        assert found["sts_calls_active{leg=websocket}"] == 0
        assert found["sts_audio_seconds_total{direction=to_provider}"] == 4
