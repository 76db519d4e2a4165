"""Tools, call control, keypad and emotion rules in a call: they are done, and the audio never waits for them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio

from sts_trio.call.config import CallRules, NoInputRules, Prompt, Services, SessionPolicy
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.core.wire import Digit, Error, PlayoutAudio, Transcript
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
from sts_trio.settings.calls import EmotionRule
from sts_trio.tools.tool import ToolResult
from tests.call.bench import UUID, Bench
from tests.call.fakes import FRAME, FakeAgent, begin, spoken

if TYPE_CHECKING:
    from collections.abc import Mapping


def call_tool(name: str = "lookup", id_: str = "t1", arguments: str = '{"number":"A-17"}') -> ToolCall:
    return ToolCall(id_, name, arguments, response_required=True)


async def test_a_tool_runs_with_its_arguments_and_its_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(seconds=1.0)
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)), uuid=UUID, query={"from": "2000"})
    assert [offer.name for offer in scene.agent.calls[0].session_config.tools] == ["lookup"]
    scene.agent.feed(call_tool())
    await trio.sleep(1.1)
    assert scene.agent.answered == [("t1", "shipped")]
    assert scene.agent.refused == []
    ((_, arguments, call),) = bench.runs
    assert (arguments, call.uuid, call.query) == ('{"number":"A-17"}', UUID, {"from": "2000"})
    scene.core.hang_up()


async def test_ten_seconds_of_a_tool_hurt_no_audio_in_either_direction(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(seconds=10.0)
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)))
    beside = await begin(nursery, agent=FakeAgent())
    both = (scene, beside)
    scene.agent.feed(call_tool())
    for each in both:
        each.agent.feed(AgentText("r", "One moment."), *[spoken(0.1, "r") for _ in range(80)], AgentTurnEnd())
    for _ in range(500):
        for each in both:
            each.core.speak(1)
        await trio.sleep(0.02)
    await trio.sleep(0.5)
    for each in both:
        assert b"".join(each.agent.audio) == FRAME * 500
        times = [at for at, message in each.core.heard if isinstance(message, PlayoutAudio)]
        assert len(each.core.audio) == 8 * 16_000
        assert max(later - sooner for sooner, later in pairwise(times)) < 0.11
        assert each.core.lead() <= 0.5 + 1e-6
    assert scene.agent.answered == [("t1", "shipped")]
    for each in both:
        each.core.hang_up()


async def test_a_tool_that_failed_is_a_tool_error(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(seconds=8.0, result=ToolResult("It took longer than 8 s.", failed=True))
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)))
    scene.agent.feed(call_tool())
    await trio.sleep(9)
    assert scene.agent.refused == ["t1"]
    assert scene.agent.answered == [("t1", "It took longer than 8 s.")]
    scene.core.hang_up()


async def test_a_changed_request_stops_the_old_work(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(seconds=5.0)
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)))
    scene.agent.feed(call_tool(id_="old"))
    await trio.sleep(2)
    scene.agent.feed(UserTurn("No, the other order."), call_tool(id_="new", arguments='{"number":"B-18"}'))
    await trio.sleep(20)
    assert [id_ for id_, _ in scene.agent.answered] == ["old", "new"]
    assert scene.agent.refused == ["old"]
    assert len(bench.finished) == 1
    scene.core.hang_up()


async def test_a_call_that_ends_stops_its_tools(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench(seconds=60.0)
    scene = await begin(nursery, rules=CallRules(tools=(bench.tool,)))
    scene.agent.feed(call_tool())
    await trio.sleep(1)
    scene.core.hang_up()
    with trio.fail_after(1):
        await scene.over.wait()
    assert bench.finished == []


# Call control.


def control_rules(*benches: Bench, grace: float = 3.0) -> CallRules:
    return CallRules(tools=tuple(bench.tool for bench in benches), tool_grace=grace)


@pytest.mark.parametrize("uuid", ["unknown", "uuid-1", ""])
async def test_call_control_is_not_offered_where_it_cannot_work(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, uuid: str
) -> None:
    transfer, lookup = Bench("dsai_transfer"), Bench()
    scene = await begin(nursery, rules=control_rules(transfer, lookup), uuid=uuid)
    assert [offer.name for offer in scene.agent.calls[0].session_config.tools] == ["lookup"]
    scene.agent.feed(call_tool("dsai_transfer"))
    await trio.sleep(5)
    assert scene.agent.refused == ["t1"]
    assert transfer.runs == []
    scene.core.hang_up()


@pytest.mark.parametrize("first", ["words", "request"])
async def test_a_transfer_comes_after_the_last_frame_of_the_good_bye(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, first: str
) -> None:
    transfer = Bench("dsai_transfer")
    scene = await begin(nursery, rules=control_rules(transfer), uuid=UUID)
    words: list[AgentText | AgentAudio] = [AgentText("r", "I put you through."), *[spoken(0.1, "r") for _ in range(20)]]
    began = trio.current_time()
    scene.agent.feed(*words, call_tool("dsai_transfer")) if first == "words" else scene.agent.feed(
        call_tool("dsai_transfer"), *words
    )
    await trio.sleep(5)
    ((ran_at, _, _),) = transfer.runs
    last_frame_at = max(at for at, message in scene.core.heard if isinstance(message, PlayoutAudio))
    assert ran_at > last_frame_at
    assert ran_at - began == pytest.approx(2.2, abs=0.03)  # two seconds of words, and what the line lags behind
    assert scene.agent.answered == [("t1", "shipped")]
    scene.core.hang_up()


async def test_who_takes_it_back_is_not_transferred(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    transfer = Bench("dsai_transfer")
    scene = await begin(nursery, rules=control_rules(transfer), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through."), spoken(2.0, "r"), call_tool("dsai_transfer"))
    await trio.sleep(1)
    scene.agent.feed(UserInterruption(), UserTurn("No, wait!"), AgentText("s", "As you like."), AgentTurnEnd())
    await trio.sleep(10)
    assert transfer.runs == []
    assert scene.agent.refused == ["t1"]
    scene.core.hang_up()


async def test_a_hang_up_that_core_does_not_follow_ends_on_our_side(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hangup = Bench("dsai_hangup")
    scene = await begin(nursery, rules=control_rules(hangup), uuid=UUID)
    scene.agent.feed(call_tool("dsai_hangup"))
    with trio.fail_after(7):
        await scene.over.wait()
    assert scene.core.closed == (1000, Cause.HUNG_UP)
    assert scene.core.closed_at - hangup.runs[0][0] == pytest.approx(3.0, abs=0.02)


async def test_a_hang_up_that_failed_leaves_the_call_as_it_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hangup = Bench("dsai_hangup", result=ToolResult("Error during hangup: not found", failed=True))
    scene = await begin(nursery, rules=control_rules(hangup), uuid=UUID)
    scene.agent.feed(call_tool("dsai_hangup"))
    await trio.sleep(30)
    assert not scene.over.is_set()
    assert scene.agent.refused == ["t1"]
    scene.core.hang_up()


@pytest.mark.parametrize(("uuid", "dropped"), [(UUID, [UUID]), ("unknown", []), ("uuid-1", [])])
async def test_an_agent_that_hangs_up_is_heard_out_and_then_the_line_drops(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, uuid: str, dropped: list[str]
) -> None:
    hung_up: list[tuple[float, str]] = []

    async def release(of: str, cause: Cause) -> None:
        assert cause is Cause.AGENT_ENDED
        await trio.sleep(0.1)
        hung_up.append((trio.current_time(), of))

    scene = await begin(nursery, services=partial(Services, release=release), uuid=uuid)
    began = trio.current_time()
    scene.agent.feed(
        AgentText("r", "Good-bye!"), spoken(2.0, "r"), AgentTurnEnd(), SessionEnd("bye", SessionEndKind.GOODBYE)
    )
    with trio.fail_after(10):
        await scene.over.wait()
    assert [of for _, of in hung_up] == dropped
    assert all(at - began == pytest.approx(2.3, abs=0.03) for at, _ in hung_up)
    assert scene.core.closed == (1000, Cause.AGENT_ENDED)


async def test_no_end_of_a_word_is_lost_when_the_agent_hangs_up_in_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery)
    began = trio.current_time()
    scene.agent.feed(AgentText("r", "Bye!"), spoken(1.0, "r", rate=48_000), SessionEnd("bye", SessionEndKind.GOODBYE))
    with trio.fail_after(5):
        await scene.over.wait()
    assert 1.0 <= len(scene.core.audio) / 16_000 <= 1.04
    assert scene.core.closed_at - began == pytest.approx(1.2, abs=0.05)
    assert scene.core.messages[0] == Transcript("agent", "Bye!")
    scene.core.hang_up()


async def test_a_service_that_does_not_answer_does_not_hold_the_end_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def release(_: str, __: Cause) -> None:
        await trio.sleep_forever()

    scene = await begin(nursery, services=partial(Services, release=release), uuid=UUID)
    scene.agent.feed(SessionEnd("bye", SessionEndKind.GOODBYE))
    with trio.fail_after(5):
        await scene.over.wait()
    assert scene.core.closed == (1000, Cause.AGENT_ENDED)


@pytest.mark.parametrize("core_leaves", [True, False])
async def test_who_has_just_been_transferred_is_not_hung_up_with_the_agents_farewell(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, core_leaves: bool
) -> None:
    hung_up: list[str] = []

    async def release(of: str, _: Cause) -> None:
        hung_up.append(of)

    transfer = Bench("dsai_transfer")
    rules = control_rules(transfer)
    scene = await begin(nursery, rules=rules, services=partial(Services, release=release), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through. Good-bye!"), spoken(1.0, "r"), call_tool("dsai_transfer"))
    scene.agent.feed(AgentTurnEnd(), SessionEnd("bye", SessionEndKind.GOODBYE))
    await trio.sleep(3.5)
    assert len(transfer.runs) == 1
    assert not scene.over.is_set()
    if core_leaves:
        scene.core.hang_up()
    with trio.fail_after(2):
        await scene.over.wait()
    assert hung_up == []
    if not core_leaves:  # our side closes, and no more
        assert scene.core.closed_at - transfer.runs[0][0] == pytest.approx(3.0, abs=0.02)


LOST_FOR_GOOD = SessionEnd("no credits", SessionEndKind.REFUSED)


@pytest.mark.parametrize("end", ["good-bye", "failure", "failure in the middle", "silence", "hang-up of the agent's"])
async def test_nobody_hangs_up_on_who_was_transferred_whatever_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, end: str
) -> None:
    released: list[str] = []

    async def release(of: str, _: Cause) -> None:
        released.append(of)

    transfer, hangup = Bench("dsai_transfer", seconds=1.0), Bench("dsai_hangup")
    rules = CallRules(tools=(transfer.tool, hangup.tool), silence=NoInputRules(4, "Are you still there?"))
    scene = await begin(nursery, rules=rules, services=partial(Services, release=release), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through."), spoken(1.0, "r"), call_tool("dsai_transfer"))
    await trio.sleep(2.0 if end == "failure in the middle" else 3.0)
    assert transfer.runs
    match end:
        case "good-bye":
            scene.agent.feed(SessionEnd("bye", SessionEndKind.GOODBYE))
        case "hang-up of the agent's":
            scene.agent.feed(call_tool("dsai_hangup", "t2"))
        case "silence":
            pass
        case _:
            scene.agent.feed(LOST_FOR_GOOD)
    with trio.fail_after(20):
        await scene.over.wait()
    assert released == []
    assert hangup.runs == []


@pytest.mark.parametrize("end", ["failure", "limit", "drain", "caller", "fault of ours"])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_transfer_that_has_been_ordered_comes_to_its_end_whatever_ends_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, end: str, fails: bool
) -> None:
    """Cut off halfway, it may have been taken all the same: our close would hang up on a caller who is elsewhere."""
    released: list[str] = []

    async def release(of: str, _: Cause) -> None:
        released.append(of)

    result = ToolResult("Error during transfer: not found", failed=True) if fails else None
    transfer = Bench("dsai_transfer", seconds=1.0, result=result)
    rules = replace(control_rules(transfer), most_seconds=2.0 if end == "limit" else 3600.0)
    scene = await begin(nursery, rules=rules, services=partial(Services, release=release), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through."), spoken(1.0, "r"), call_tool("dsai_transfer"))
    await trio.sleep(1.7)
    ((began, _, _),) = transfer.runs
    match end:
        case "failure":
            scene.agent.feed(LOST_FOR_GOOD)
        case "drain":
            scene.registry.end_all(CallOutcome(Cause.DRAINED, 1001, "the service stops"))
        case "caller":
            scene.core.hang_up()
        case "fault of ours":
            scene.agent.feed(ValueError("ours"))
        case _:
            pass
    with trio.fail_after(10):
        await scene.over.wait()
    assert len(transfer.finished) == 1
    assert released == ([UUID] if fails and end != "caller" else [])
    if end != "caller" and not fails:
        assert scene.core.closed_at - began == pytest.approx(1.0 + 3.0, abs=0.05)


async def test_after_a_transfer_that_failed_the_line_drops_as_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    released: list[str] = []

    async def release(of: str, _: Cause) -> None:
        released.append(of)

    transfer = Bench("dsai_transfer", result=ToolResult("Error during transfer: not found", failed=True))
    scene = await begin(nursery, rules=control_rules(transfer), services=partial(Services, release=release), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through."), spoken(1.0, "r"), call_tool("dsai_transfer"))
    await trio.sleep(5)
    scene.agent.feed(SessionEnd("bye", SessionEndKind.GOODBYE))
    with trio.fail_after(5):
        await scene.over.wait()
    assert released == [UUID]


async def test_a_hang_up_has_no_error_to_tell(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    scene = await begin(nursery, rules=control_rules(Bench("dsai_hangup")), uuid=UUID)
    scene.agent.feed(AgentFault("Hume reports an error: a hiccup (E0100)"))
    scene.agent.feed(call_tool("dsai_hangup"))
    with trio.fail_after(7):
        await scene.over.wait()
    assert scene.core.messages == [Error("Hume reports an error: a hiccup (E0100)")]


class Unhearing(FakeAgent):
    """An agent that takes no typed text: who sends one waits."""

    async def user_text(self, text: str) -> None:
        await trio.sleep_forever()


async def test_a_tool_that_is_stopped_while_the_agent_is_told_of_keys_was_begun_before(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    transfer = Bench("dsai_transfer", seconds=1.0)
    rules = CallRules(tools=(transfer.tool,), keypad_gap=0.3)
    scene = await begin(nursery, agent=Unhearing(), rules=rules, uuid=UUID)
    scene.core.say(Digit("1"))
    scene.agent.feed(call_tool("dsai_transfer"))  # both are due in 0.3 s
    await trio.sleep(0.5)
    scene.agent.feed(UserTurn("No, wait!"), AgentText("r", "As you like."), AgentTurnEnd())
    await trio.sleep(5)
    assert not scene.over.is_set()
    assert scene.agent.refused == ["t1"]
    assert transfer.finished == []
    scene.core.hang_up()


async def test_an_agent_that_takes_nothing_holds_up_no_transcript(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, agent=Unhearing(), rules=CallRules(keypad_gap=1.0))
    began = trio.current_time()
    scene.core.say(Digit("1"))
    await trio.testing.wait_all_tasks_blocked()  # a key that comes after the agent's voice would cut it off
    scene.agent.feed(AgentText("r", "Hello."), spoken(1.0, "r"), AgentTurnEnd())
    await trio.sleep(5)
    told = [(at - began, message) for at, message in scene.core.heard if not isinstance(message, PlayoutAudio)]
    ((at, message),) = told
    assert at == pytest.approx(1.0, abs=0.02)
    assert message == Transcript("agent", "Hello.")
    scene.core.hang_up()


# The keypad.
# The keypad.


async def test_keys_become_one_entry_that_the_agent_answers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, rules=CallRules(keypad_gap=1.5))
    for digit in "123":
        scene.core.say(Digit(digit))
        await trio.sleep(1)
    began = trio.current_time()
    await trio.sleep(5)
    ((at, text),) = scene.agent.typed
    assert "1 2 3" in text
    assert at - began == pytest.approx(0.5, abs=0.02)
    scene.core.say(Digit("4"), Digit("#"))
    await trio.sleep(0.01)
    assert "4" in scene.agent.typed[1][1]
    scene.core.hang_up()


@pytest.mark.parametrize(("mode", "typed", "context"), [("input", 1, 0), ("context", 0, 1), ("off", 0, 0)])
async def test_how_the_agent_learns_of_keys(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, mode: str, typed: int, context: int
) -> None:
    scene = await begin(nursery, rules=CallRules(keypad=mode))
    scene.core.say(Digit("1"), Digit("x"), Digit("#"))
    await trio.sleep(5)
    assert (len(scene.agent.typed), len(scene.agent.context)) == (typed, context)
    scene.core.hang_up()


async def test_keys_from_before_the_agent_was_ready_are_not_lost(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scene = await begin(nursery, agent=FakeAgent(ready_after=4))
    scene.core.say(Digit("7"), Digit("#"), Digit("8"))
    await trio.sleep(3)
    assert scene.agent.typed == []
    await trio.sleep(2)
    assert [text for _, text in scene.agent.typed] == [
        "(The caller pressed 7 on the telephone keypad.)",
        "(The caller pressed 8 on the telephone keypad.)",
    ]
    scene.core.hang_up()


@pytest.mark.parametrize("ready_after", [0, 4])
async def test_context_holds_all_the_keys_that_the_agent_has_not_taken_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, ready_after: float
) -> None:
    scene = await begin(nursery, agent=FakeAgent(ready_after=ready_after), rules=CallRules(keypad="context"))
    scene.core.say(Digit("1"), Digit("#"), Digit("2"), Digit("#"))
    await trio.sleep(5)
    both = "(The caller pressed 1 on the telephone keypad.) (The caller pressed 2 on the telephone keypad.)"
    assert scene.agent.context[-1] == both
    told = len(scene.agent.context)
    scene.agent.feed(AgentText("greeting", "Hello."), AgentTurnEnd(), UserTurn("I keyed it in."))
    scene.agent.feed(AgentText("reply", "Thank you."), AgentTurnEnd())
    await trio.sleep(5)
    scene.core.say(Digit("3"), Digit("#"))
    await trio.sleep(1)
    assert scene.agent.context[told:] == ["(The caller pressed 3 on the telephone keypad.)"]
    scene.core.hang_up()


# Emotion.
# Emotion.


def angry(score: float = 0.9) -> UserTurn:
    return UserTurn("I have had enough!", {"Anger": score, "Calmness": 0.01})


async def test_an_emotion_that_stays_calls_a_tool_after_the_agent_has_been_heard(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    transfer = Bench("dsai_transfer")
    rule = EmotionRule("Anger", 0.6, 2, tool="dsai_transfer", arguments='{"transfer_extension":"2000"}')
    rules = CallRules(tools=(transfer.tool,), emotion_rules=(rule,))
    scene = await begin(nursery, rules=rules, uuid=UUID)
    scene.agent.feed(angry())
    await trio.sleep(1)
    scene.agent.feed(AgentText("r", "I am sorry."), spoken(1.0, "r"), AgentTurnEnd(), angry(), angry(), angry())
    began = trio.current_time()
    await trio.sleep(20)
    ((at, arguments, _),) = transfer.runs
    assert arguments == '{"transfer_extension":"2000"}'
    assert at - began == pytest.approx(1.2, abs=0.03)
    assert scene.agent.answered == []  # the agent did not ask
    scene.core.hang_up()


async def test_an_emotion_that_stays_calls_a_webhook(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[tuple[str, str, str, Mapping[str, object]]] = []

    async def webhook(url: str, call: str, kind: str, payload: Mapping[str, object]) -> None:
        told.append((url, call, kind, payload))
        await trio.sleep_forever()  # and a slow one holds nothing up

    rule = EmotionRule("anger", 0.6, 1, webhook="http://crm/alert?key=1")
    rules = CallRules(emotion_rules=(rule,), emotions=False)
    scene = await begin(nursery, rules=rules, services=partial(Services, webhook=webhook), uuid=UUID)
    scene.agent.feed(angry())
    await trio.sleep(1)
    ((url, call, kind, payload),) = told
    assert (url, call, kind) == ("http://crm/alert?key=1", UUID, "emotion")
    assert payload["emotion"] == "anger"
    assert scene.core.messages == [Transcript("user", "I have had enough!")]
    scene.core.hang_up()
    with trio.fail_after(4):  # it gets the time of a webhook, beyond the call
        await scene.over.wait()


async def test_a_webhook_that_is_under_way_outlives_the_call(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[str] = []

    async def webhook(url: str, call: str, kind: str, payload: Mapping[str, object]) -> None:
        await trio.sleep(1)
        told.append(kind)

    rules = CallRules(emotion_rules=(EmotionRule("Anger", 0.6, 1, webhook="http://crm/alert"),))
    scene = await begin(nursery, rules=rules, services=partial(Services, webhook=webhook))
    scene.agent.feed(angry())
    await trio.sleep(0.1)
    scene.core.hang_up()
    await scene.over.wait()
    assert told == ["emotion"]


async def test_a_transfer_that_cannot_be_made_is_refused_before_the_good_bye(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench("dsai_transfer")
    tool = replace(bench.tool, check=lambda _: "Error during transfer: no extension")
    scene = await begin(nursery, rules=CallRules(tools=(tool,)), uuid=UUID)
    scene.agent.feed(AgentText("r", "I put you through."), spoken(2.0, "r"), call_tool("dsai_transfer"))
    await trio.sleep(0.1)
    assert scene.agent.answered == [("t1", "Error during transfer: no extension")]
    await trio.sleep(5)
    assert bench.runs == []
    scene.core.hang_up()


async def test_the_summary_tells_how_the_caller_sounded_and_nothing_of_what_he_said(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = await begin(nursery, query={"from": "0171-555"})
    scene.agent.feed(angry(0.8))
    scene.core.say(Digit("9"), Digit("#"))
    await trio.sleep(1)
    scene.core.hang_up()
    await scene.over.wait()
    summary = next(line for line in capsys.readouterr().out.splitlines() if "call ended" in line)
    assert "'Anger': 0.8" in summary
    assert "digits=2" in summary
    assert "enough" not in summary
    assert "0171" not in summary


# Instructions.


async def test_instructions_are_loaded_for_each_call_that_brings_none(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def instructions(call: object) -> Prompt:
        await trio.sleep(0.5)
        return Prompt("Be brief.", "text")

    scene = await begin(nursery, services=partial(Services, instructions=instructions))
    await trio.sleep(1)
    assert scene.agent.calls[0].session_config.instructions == "Be brief."
    scene.core.hang_up()


@pytest.mark.parametrize("own", ["instructions", "config_id"])
async def test_a_call_that_brings_its_own_prompt_loads_none(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, own: str
) -> None:
    async def instructions(_: object) -> Prompt:
        raise AssertionError("nobody needs them")

    rules = CallRules(session_policy=SessionPolicy(overrides=True))
    query = {own: "its own"}
    scene = await begin(nursery, rules=rules, services=partial(Services, instructions=instructions), query=query)
    session_config = scene.agent.calls[0].session_config
    assert (session_config.instructions, session_config.config) == (
        ("its own", None) if own == "instructions" else (None, "its own")
    )
    scene.core.hang_up()
