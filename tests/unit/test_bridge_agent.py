"""The bridge's rules for what the agent's side sends: words, answers, emotions, faults, tools that are done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sts_trio.call.actions import AddContext, CloseSession, End, LogWarning, OpenSession, RunTool
from sts_trio.call.bridge import Bridge
from sts_trio.call.config import CallRules, ResumeRules
from sts_trio.call.meter import CallCounts, CallOutcome, Cause
from sts_trio.call.playout import Pace, Playout
from sts_trio.core.wire import Digit, Error, Init, Transcript
from sts_trio.providers.base import (
    AgentFault,
    AgentReady,
    AgentRetry,
    CallInfo,
    OddKind,
    OddMessage,
    RetryKind,
    SessionEnd,
    SessionEndKind,
    UserInterruption,
    UserTurn,
    UserWords,
)
from sts_trio.settings.calls import EmotionRule
from sts_trio.tools.tool import ToolResult
from tests.unit.conversation import HOURS, LOST, TRANSFER, UUID, Conversation, Measured, ask, kinds, voice

HANGUP = replace(TRANSFER, name="dsai_hangup", hangs_up=True)
GOODBYE = SessionEnd("bye", SessionEndKind.GOODBYE)
SCORES = {"Anger": 0.9, "Joy": 0.5, "Awe": 0.3, "Calm": 0.1}


# Words.


def test_the_callers_words_are_told_as_theirs() -> None:
    c = Conversation()
    c.says(UserTurn("Hello."))
    c.says(UserWords("And good-bye."))
    c.listen()
    assert c.told == [Transcript("user", "Hello."), Transcript("user", "And good-bye.")]


@pytest.mark.parametrize(("wanted", "told"), [(True, {"Anger": 0.9, "Joy": 0.5, "Awe": 0.3}), (False, None)])
def test_core_is_told_the_three_strongest_emotions_if_the_operator_wants_it(
    wanted: bool, told: dict[str, float] | None
) -> None:
    c = Conversation(CallRules(emotions=wanted))
    c.says(UserTurn("Hello.", SCORES))
    c.listen()
    assert c.told == [Transcript("user", "Hello.", told)]


def test_an_emotion_rule_starts_its_tool_once() -> None:
    c = Conversation(CallRules(tools=(HOURS,), emotion_rules=(EmotionRule("Anger", 0.5, 2, tool="hours"),)))
    assert c.says(UserTurn("No.", SCORES)) == ()
    assert kinds(c.says(UserTurn("No!", SCORES))) == [LogWarning, RunTool]
    assert c.says(UserTurn("No!!", SCORES)) == ()
    assert c.bridge.counts.rules_fired == 1


# Answers.


def test_an_agent_that_does_not_answer_is_noted_each_time() -> None:
    c = Conversation(CallRules(answer_seconds=5))
    for _ in range(2):
        c.says(UserTurn("Hello?"))
        assert c.wait(6) == (LogWarning("the agent does not answer", {"seconds": 5}),)
    assert c.bridge.counts.late_answers == 2


def test_what_is_left_of_an_interrupted_reply_is_no_answer() -> None:
    c = Conversation(CallRules(answer_seconds=5))
    c.says(voice(1.0, "old"))
    c.says(UserInterruption())
    c.says(UserTurn("Wait."))
    c.says(voice(1.0, "old"))
    assert kinds(c.wait(6)) == [LogWarning]


def test_an_answer_is_measured_from_the_end_of_the_callers_turn() -> None:
    meter = Measured()
    playout = Playout(Pace(0.5), CallCounts(), meter)
    bridge = Bridge(CallRules(), playout, CallInfo("x"), 0.0)
    bridge.on_core(Init(UUID), 0.0)
    bridge.on_agent(AgentReady("s"), 1, 0.0)
    bridge.on_agent(UserTurn("So?"), 1, 2.0)
    bridge.on_agent(voice(1.0), 1, 2.5)
    while (message := playout.take(2.75)) is not None:
        playout.sent(message, 2.75)
    assert meter.answers == [750]


def test_only_the_first_voice_of_an_answer_takes_up_the_keys() -> None:
    c = Conversation(CallRules(keypad="context"))
    c.says(UserTurn("So?"))
    c.says(voice(0.1))
    c.bridge.on_core(Digit("1"), c.now)
    c.wait(2)
    c.says(voice(0.1))  # more of the same answer, which knows nothing of the key
    c.bridge.on_core(Digit("2"), c.now)
    (both,) = c.wait(2)
    assert isinstance(both, AddContext)
    assert "pressed 1 " in both.text


def test_speech_for_which_there_is_no_room_is_noted_and_the_rest_is_not() -> None:
    c = Conversation()
    assert c.says(voice(1.0)) == ()
    assert kinds(c.says(voice(600.0))) == [LogWarning]
    assert c.says(voice(1.0)) == (), "once a turn"


# Faults and ends of sessions.


def test_what_the_provider_says_oddly_is_counted_and_noted_five_times() -> None:
    c = Conversation()
    odd = OddMessage(next(iter(OddKind)), "a number for a name")
    note = LogWarning(
        "the provider sent what cannot be used; ignored", {"kind": str(odd.kind), "sent": "a number for a name"}
    )
    assert [c.says(odd) for _ in range(7)] == [(note,)] * 5 + [()] * 2
    assert c.bridge.counts.odd == 7
    assert c.bridge.counts.provider_faults == 0


def test_a_first_session_that_does_not_open_is_tried_again() -> None:
    c = Conversation(talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    assert End not in kinds(c.says(LOST))
    assert OpenSession in kinds(c.wait(3))


def test_faults_are_counted_logged_and_told() -> None:
    c = Conversation()
    for message in ("too many words", "no credits"):
        assert c.says(AgentFault(message)) == (LogWarning("the provider reports an error", {"cause": message}),)
    c.listen()
    assert c.told == [Error("too many words"), Error("no credits")]
    assert c.bridge.counts.provider_faults == 2


def test_answers_that_are_asked_for_again_are_counted_by_their_kind_and_logged() -> None:
    c = Conversation()
    logged = [action for kind in RetryKind for action in c.says(AgentRetry(kind, "it was\nodd"))]
    assert [action.fields["kind"] for action in logged if isinstance(action, LogWarning)] == list(RetryKind)[:5]
    assert {action.fields["cause"] for action in logged if isinstance(action, LogWarning)} == {"it was odd"}
    assert [getattr(c.bridge.counts, f"retries_{kind}") for kind in RetryKind] == [1] * len(RetryKind)
    assert c.told == []


def test_words_of_a_turn_take_its_place_and_no_other() -> None:
    c = Conversation()
    c.says(UserTurn("", turn="a"))
    c.says(UserTurn("", turn="b"))
    c.says(UserWords("second", "b"))
    assert c.told == []
    c.says(UserWords("first", "a"))
    c.listen()
    assert [message.text for message in c.told if isinstance(message, Transcript)] == ["first", "second"]


def test_a_turn_whose_words_will_not_come_is_not_waited_for() -> None:
    c = Conversation()
    c.says(UserTurn("", turn="a"))
    c.says(UserTurn("", turn="b"))
    c.says(UserWords("second", "b"))
    c.says(UserWords("", "a"))
    c.listen()
    assert [message.text for message in c.told if isinstance(message, Transcript)] == ["second"]


def test_a_session_that_is_lost_but_not_closed_is_closed_and_replaced() -> None:
    c = Conversation(CallRules(tools=(HOURS,)))
    c.says(ask("hours"))
    c.says(AgentFault("out of something", SessionEndKind.LOST))
    actions = c.wait(2)
    assert kinds(actions) == [CloseSession, LogWarning, OpenSession]
    assert actions[0] == CloseSession(1)


def test_a_session_that_cannot_be_resumed_in_time_ends_the_call() -> None:
    c = Conversation(CallRules(lifeline=ResumeRules(resume_seconds=15)))
    c.says(LOST)
    assert End not in kinds(c.wait(14.9))
    (end,) = c.wait(0.2)
    assert isinstance(end, End)
    assert (end.outcome.cause, end.outcome.code) == (Cause.PROVIDER_FAILED, 1011)
    assert "the connection broke" in end.outcome.message


def test_a_session_is_renewed_a_minute_before_the_provider_ends_it() -> None:
    c = Conversation(CallRules(), talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    c.says(AgentReady("s", resume="c", lasts=120))
    assert c.wait(59.9) == ()
    assert kinds(c.wait(0.2)) == [OpenSession]


# Tools that are done.


def test_after_a_transfer_core_has_three_seconds_to_leave() -> None:
    c = Conversation()
    c.says(ask("dsai_transfer"))
    c.wait(1)
    c.bridge.on_tool_done("t", ToolResult("done"), c.now)
    assert c.says(GOODBYE) == ()
    assert End not in kinds(c.wait(2.9))
    assert c.wait(0.2) == (End(CallOutcome(Cause.AGENT_ENDED, 1000, "bye")),)


def test_after_a_transfer_the_call_goes_on_until_core_leaves() -> None:
    c = Conversation()
    c.says(ask("dsai_transfer"))
    c.wait(1)
    c.bridge.on_tool_done("t", ToolResult("done"), c.now)
    assert c.wait(10) == ()


@pytest.mark.parametrize(
    ("tool", "result"), [("hours", ToolResult("from nine")), ("dsai_transfer", ToolResult("busy", failed=True))]
)
def test_what_did_not_take_the_call_away_keeps_no_good_bye_waiting(tool: str, result: ToolResult) -> None:
    c = Conversation()
    c.says(ask(tool))
    c.wait(1)
    c.bridge.on_tool_done("t", result, c.now)
    assert kinds(c.says(GOODBYE)) == [End]


@pytest.mark.parametrize(("failed", "ends"), [(False, True), (True, False)])
def test_a_call_that_was_hung_up_ends_after_three_seconds(failed: bool, ends: bool) -> None:
    c = Conversation(CallRules(tools=(HANGUP,)))
    c.says(ask("dsai_hangup"))
    c.wait(1)
    c.bridge.on_tool_done("t", ToolResult("", failed=failed), c.now)
    assert c.wait(2.9) == ()
    assert c.wait(0.2) == ((End(CallOutcome(Cause.HUNG_UP, 1000)),) if ends else ())


def test_the_end_of_a_tool_that_nobody_knows_changes_nothing() -> None:
    c = Conversation()
    assert c.bridge.on_tool_done("gone", ToolResult("late"), c.now) == ()
