"""The bridge's rules by example: what each of them means in a call."""

from __future__ import annotations

from math import inf

import pytest

from sts_trio.call.actions import (
    AddContext,
    AnswerTool,
    Attach,
    CancelTool,
    CloseSession,
    Deadline,
    End,
    GoOn,
    LogWarning,
    OpenSession,
    RunTool,
    Say,
    SendAudio,
    SendUserText,
    Truncate,
)
from sts_trio.call.bridge import CallState
from sts_trio.call.config import CallRules, NoInputRules, ResumeRules, SessionPolicy
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.core.wire import CallerAudio, Digit, Init, Interruption, Transcript
from sts_trio.providers.base import (
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    SessionEnd,
    SessionEndKind,
    UserInterruption,
    UserTurn,
    UserWords,
)
from sts_trio.tools.tool import ToolResult
from tests.unit.conversation import HOURS, LOST, LOUD, TRANSFER, UUID, Conversation, ask, kinds, voice


def test_the_states_of_a_call() -> None:
    c = Conversation(talking=False)
    states = [c.bridge.state]
    c.bridge.on_core(Init(UUID), c.now)
    states.append(c.bridge.state)
    for event, session in [
        (AgentReady("s", resume="c"), 1),
        (LOST, 1),
        (AgentReady("s", resume="c"), 2),
        (voice(1.0), 2),
        (SessionEnd("bye", SessionEndKind.GOODBYE), 2),
    ]:
        c.says(event, session)
        states.append(c.bridge.state)
    assert kinds(c.wait(2)) == [End]
    states.append(c.bridge.state)
    assert [state.name for state in states] == [
        "WAITING_FOR_INIT",
        "OPENING",
        "TALKING",
        "OPENING",
        "TALKING",
        "TALKING",
        "CLOSING",
        "ENDED",
    ]


def test_a_barge_in_gives_the_agent_time_to_drop_a_transfer() -> None:
    c = Conversation()
    c.says(voice(1.0))
    c.says(ask("dsai_transfer"))
    c.wait(0.5)
    c.says(UserInterruption())
    assert RunTool not in kinds(c.wait(2.9)), "the good-bye is over, but the caller has cut it off"
    assert RunTool in kinds(c.wait(0.2)), "the grace of 3 s is over"


def test_words_of_the_caller_let_the_agent_drop_a_transfer() -> None:
    c = Conversation()
    c.says(voice(1.0))
    c.says(ask("dsai_transfer"))
    c.says(UserTurn("No, wait!"))
    c.says(voice(1.0, "s"))
    assert kinds(c.says(AgentTurnEnd())) == [AnswerTool], "told that it is out of date"
    assert RunTool not in kinds(c.wait(10))


def test_a_barge_in_that_is_told_twice_is_one() -> None:
    c = Conversation()
    c.says(voice(1.0))
    for _ in range(2):
        c.says(UserInterruption())
    c.wait(0.1)
    assert c.told == [Interruption()]
    assert c.playout.counts.interruptions == 1


def test_audio_that_comes_too_fast_is_told_of_once() -> None:
    c = Conversation()
    second = CallerAudio(bytes(16_000))
    logged = [action for _ in range(70) for action in c.bridge.on_core(second, c.now) if isinstance(action, LogWarning)]
    assert len(logged) == 1
    assert c.playout.counts.upstream_excess_seconds == 10


def test_a_session_that_comes_too_late_is_closed_and_stops_no_tool() -> None:
    c = Conversation()
    c.says(ask("hours"))
    assert c.says(AgentReady("late"), 7) == (CloseSession(7),)
    assert kinds(c.bridge.on_tool_done("t", ToolResult("open"), c.now)) != []


def test_a_renewal_waits_for_tools_but_not_for_ever() -> None:
    c = Conversation(CallRules(tools=(HOURS,), lifeline=ResumeRules(renew_seconds=10)))
    assert kinds(c.wait(12)) == [OpenSession]
    c.says(ask("hours"))
    assert kinds(c.says(AgentReady("s", resume="c"), 2)) == [CloseSession], "somebody is at work: not now"
    c.bridge.on_tool_done("t", ToolResult("open"), c.now)
    assert c.wait(2) == (), "its answer is still to come"
    c.says(voice(0.1))
    c.says(AgentTurnEnd())
    opened = c.wait(2)
    assert kinds(opened) == [OpenSession]
    assert kinds(c.says(AgentReady("s", resume="c"), 3)) == [Attach, CloseSession]
    c.says(ask("hours", "t2"), 3)
    assert kinds(c.wait(60)) == [OpenSession]
    assert kinds(c.says(AgentReady("s", resume="c"), 4)) == [Attach, CloseSession], "and the tool goes on"


def test_at_a_renewal_what_the_session_before_reported_is_over() -> None:
    c = Conversation(CallRules(lifeline=ResumeRules(renew_seconds=10)))
    c.wait(12)
    c.says(AgentFault("no credits", SessionEndKind.REFUSED))
    assert Attach in kinds(c.says(AgentReady("s", resume="c"), 2))
    assert OpenSession in kinds(c.says(LOST, 2)), "the fault would have ended the call"


def test_a_session_is_renewed_only_while_the_caller_is_quiet() -> None:
    c = Conversation(CallRules(lifeline=ResumeRules(renew_seconds=10)))
    c.wait(9.5)
    c.bridge.on_core(CallerAudio(LOUD), c.now)
    assert c.wait(0.8) == ()
    assert kinds(c.wait(1.0)) == [OpenSession]


def test_silence_acts_only_with_a_session() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?"), lifeline=ResumeRules(resume_seconds=60)))
    c.says(LOST)
    actions = c.wait(10)
    assert Say not in kinds(actions)
    assert End not in kinds(actions)


def test_silence_asks_once_and_then_ends_the_call() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?")))
    assert c.wait(3.1) == (Say("Are you there?"),)
    assert c.wait(3.1) == (End(CallOutcome(Cause.CALLER_SILENT, 1000)),)


def test_a_word_of_the_caller_begins_silence_anew() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?"), answer_seconds=60))
    c.wait(3.1)
    c.says(UserTurn("Yes"))
    assert c.wait(2.9) == ()
    assert c.wait(0.2) == (Say("Are you there?"),)


def test_who_speaks_on_without_an_end_of_turn_is_neither_asked_nor_hung_up_on() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?")))
    for _ in range(600):  # twelve seconds
        c.bridge.on_core(CallerAudio(LOUD), c.now)
        assert c.wait(0.02) == ()
    assert c.wait(2.8) == ()
    assert c.wait(0.3) == (Say("Are you there?"),)
    c.bridge.on_core(CallerAudio(LOUD), c.now)
    assert c.wait(3.1) == (Say("Are you there?"),), "a word begins the ladder anew"
    assert kinds(c.wait(3.1)) == [End]


@pytest.mark.parametrize("pcm", [bytes(320), b"\x20\x00" * 160])
def test_line_noise_is_no_word(pcm: bytes) -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?")))
    actions: list[object] = []
    for _ in range(400):
        c.bridge.on_core(CallerAudio(pcm), c.now)
        actions += c.wait(0.02)
    assert kinds(tuple(actions)) == [Say, End]


@pytest.mark.parametrize(("seconds", "most"), [(0, 0), (3, 101)])
def test_loudness_is_looked_at_only_for_the_silence_timer_and_seldom(
    seconds: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bytes] = []
    monkeypatch.setattr("sts_trio.call.upstream.is_loud", looked.append)
    c = Conversation(CallRules(silence=NoInputRules(seconds, "")))
    for _ in range(500):  # ten seconds
        c.bridge.on_core(CallerAudio(LOUD), c.now)
        c.now += 0.02
    assert bool(seconds) * 80 <= len(looked) <= most


def test_silence_begins_when_the_agent_has_been_heard() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?")))
    c.says(voice(2.0))
    c.says(AgentTurnEnd())
    assert c.wait(4.9) == ()
    assert c.wait(0.2) == (Say("Are you there?"),)


def test_an_agent_in_the_middle_of_a_turn_is_not_silent() -> None:
    c = Conversation(CallRules(silence=NoInputRules(3, "Are you there?")))
    c.says(AgentText("r", "One moment"))
    assert c.wait(4.0) == (), "its voice is still to come"


def test_only_a_voice_is_an_answer() -> None:
    c = Conversation(CallRules(answer_seconds=5))
    c.says(UserTurn("Hello?"))
    c.says(AgentText("r", "Hello"))
    c.wait(6)
    assert c.bridge.counts.late_answers == 1
    c.says(UserTurn("Hello?"))
    c.says(voice(0.1, "r2"))
    c.wait(6)
    assert c.bridge.counts.late_answers == 1


@pytest.mark.parametrize("event", [UserWords("x" * 50_000), UserTurn("x" * 50_000)])
def test_words_of_any_length_are_bounded(event: UserTurn | UserWords) -> None:
    c = Conversation()
    c.says(event)
    c.listen()
    (transcript,) = c.told
    assert isinstance(transcript, Transcript)
    assert len(transcript.text) == 10_000


def test_audio_for_which_there_is_no_room_is_never_heard() -> None:
    c = Conversation()
    c.says(AgentText("r", "A very long story."))
    assert kinds(c.says(voice(601.0))) == [LogWarning], "at once"
    assert c.says(voice(1.0)) == (), "and once a turn"
    c.says(AgentTurnEnd())
    c.wait(610)
    assert c.playout.heard(c.now) == pytest.approx(600)
    assert (c.bridge.counts.downstream_seconds, c.bridge.counts.downstream_dropped_seconds) == (600, 2)
    assert c.told == [Transcript("agent", "A very long story.", heard_ms=600_000)]


def test_the_agent_learns_that_speech_for_which_there_was_no_room_was_not_heard() -> None:
    c = Conversation()
    c.says(voice(610.0))
    c.wait(10)
    (unheard,) = c.says(UserInterruption())
    assert isinstance(unheard, Truncate)
    assert unheard.unheard == pytest.approx(600)


def test_the_silence_that_fills_a_frame_takes_time_and_is_no_speech() -> None:
    c = Conversation()
    c.says(voice(0.03))
    c.says(AgentTurnEnd())
    assert c.playout.queued == pytest.approx(0.04)
    assert c.bridge.counts.downstream_seconds == pytest.approx(0.03)
    c.says(voice(1.0, "r2"))
    c.wait(0.54)
    (unheard,) = c.says(UserInterruption())
    assert isinstance(unheard, Truncate)
    assert unheard.unheard == pytest.approx(0.5)


def test_at_the_end_of_a_turn_what_the_resampler_holds_is_played() -> None:
    c = Conversation()
    c.says(voice(0.1, rate=48_000))
    assert c.bridge.counts.downstream_seconds < 0.1
    c.says(AgentTurnEnd())
    assert c.bridge.counts.downstream_seconds == pytest.approx(0.1)


def test_a_voice_that_was_cut_off_leaves_nothing_for_the_next_turn() -> None:
    c = Conversation()
    c.says(voice(0.1, rate=48_000))
    c.says(UserInterruption())
    c.says(AgentTurnEnd())
    assert c.playout.queued == pytest.approx(0)


def test_only_a_turn_that_was_cut_off_says_how_much_was_heard() -> None:
    c = Conversation()
    for reply, text, length in [("a", "one", 0.5), ("b", "two", 2.0)]:
        c.says(voice(length, reply))
        c.says(AgentText(reply, text))
        c.says(AgentTurnEnd())
    for _ in range(10):  # no deadline is acted on: both turns still wait to be told
        c.listen()
        c.now += 0.1
    c.bridge.end(CallOutcome(Cause.DRAINED, 1001), c.now)
    c.listen()
    assert c.told == [Transcript("agent", "one"), Transcript("agent", "two", heard_ms=500)]


def test_a_session_that_is_not_in_use_changes_nothing() -> None:
    c = Conversation()
    assert c.says(ask("hours"), 2) == ()
    c.says(voice(1.0), 2)
    c.says(UserWords("not mine"), 2)
    c.listen()
    assert c.playout.queued == 0
    assert c.told == []


def test_before_init_audio_and_keys_go_nowhere() -> None:
    c = Conversation(talking=False)
    assert c.bridge.on_core(CallerAudio(LOUD), c.now) == ()
    assert c.bridge.on_core(Digit("#"), c.now) == ()
    c.bridge.on_core(Init(UUID), c.now)
    assert c.bridge.on_core(CallerAudio(LOUD), c.now) == (SendAudio(LOUD),)
    assert c.says(AgentReady("s")) == (Attach(1),), "no key was kept"


def test_a_key_stops_the_agent_and_is_told_at_once() -> None:
    c = Conversation()
    c.says(AgentText("r", "An announcement."))
    c.says(voice(12.0))
    c.wait(3)
    assert kinds(c.bridge.on_core(Digit("1"), c.now)) == [Truncate, SendUserText]
    assert c.playout.played_at(c.now) == c.now
    assert c.bridge.on_core(Digit("2"), c.now) == (), "nothing is playing any more"
    c.says(voice(1.0))
    assert c.playout.played_at(c.now) == c.now, "left over"
    c.listen()
    assert c.told == [Interruption(), Transcript("agent", "An announcement.", heard_ms=3000)]
    (entry,) = c.wait(2)
    assert isinstance(entry, SendUserText)
    assert "pressed 1 2 " in entry.text
    assert c.bridge.counts.interruptions == 1


def test_a_key_of_no_telephone_stops_nothing() -> None:
    c = Conversation()
    c.says(voice(12.0))
    c.wait(3)
    assert kinds(c.bridge.on_core(Digit("x"), c.now)) == [LogWarning]
    assert c.playout.played_at(c.now) > c.now + 8


def test_a_key_stops_no_fallback_and_no_good_bye_of_an_agent_that_is_gone() -> None:
    c = Conversation()
    c.says(voice(5.0))
    c.says(SessionEnd("bye", SessionEndKind.GOODBYE))
    assert c.bridge.on_core(Digit("1"), c.now) == ()
    assert c.playout.played_at(c.now) == pytest.approx(c.now + 5)


def test_a_key_gives_the_agent_time_to_drop_a_transfer() -> None:
    c = Conversation()
    c.says(voice(5.0))
    c.says(ask("dsai_transfer"))
    c.wait(4.0)
    c.bridge.on_core(Digit("0"), c.now)
    assert RunTool not in kinds(c.wait(2.9))


def test_keys_are_given_to_the_agent_once_there_is_one() -> None:
    c = Conversation(talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    assert c.bridge.on_core(Digit("#"), c.now) == ()
    assert kinds(c.says(AgentReady("s"))) == [Attach, SendUserText]


def test_keys_stay_in_the_context_until_the_agent_answers_the_caller() -> None:
    c = Conversation(CallRules(keypad="context"))
    c.bridge.on_core(Digit("1"), c.now)
    assert kinds(c.wait(2)) == [AddContext]
    c.says(voice(0.1))
    c.bridge.on_core(Digit("#"), c.now)
    (both,) = c.bridge.on_core(Digit("2"), c.now) or c.wait(2)
    assert isinstance(both, AddContext)
    assert "pressed 1 " in both.text
    c.says(UserTurn("So?"))
    c.says(voice(0.1, "r2"))
    c.bridge.on_core(Digit("3"), c.now)
    (last,) = c.wait(2)
    assert isinstance(last, AddContext)
    assert "pressed 1 " not in last.text


def test_an_agent_that_keeps_what_it_is_told_is_told_each_entry_once() -> None:
    c = Conversation(CallRules(keypad="context"), talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    c.says(AgentReady("s", keeps_context=True))
    told = []
    for digit in "123":
        c.bridge.on_core(Digit(digit), c.now)
        told += [action.text for action in c.wait(2) if isinstance(action, AddContext)]
    assert [[digit for digit in "123" if f"pressed {digit} " in text] for text in told] == [["1"], ["2"], ["3"]]


def test_a_tool_is_started_before_keys_that_are_due_with_it() -> None:
    c = Conversation(CallRules(tools=(TRANSFER,), keypad_gap=0.3))
    c.says(ask("dsai_transfer"))
    c.bridge.on_core(Digit("1"), c.now)
    c.now += 5
    assert kinds(c.bridge.on_deadline(c.now)) == [RunTool, SendUserText]


def test_the_end_of_a_call_comes_before_all_that_is_due_with_it() -> None:
    c = Conversation(CallRules(most_seconds=20, answer_seconds=5))
    c.says(UserTurn("Hello?"))
    c.now += 30
    assert kinds(c.bridge.on_deadline(c.now)) == [End]


def test_the_greeting_is_said_once_a_call() -> None:
    c = Conversation(CallRules(session_policy=SessionPolicy(greeting="Hello!")), talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    assert c.says(AgentReady("s", resume="c")) == (Attach(1), Say("Hello!"))
    c.says(voice(0.1), 1)
    c.says(AgentTurnEnd(), 1)
    c.says(LOST)
    assert c.says(AgentReady("s", resume="c"), 2) == (Attach(2),)


def test_a_greeting_that_nobody_has_heard_is_said_by_the_next_session() -> None:
    c = Conversation(CallRules(session_policy=SessionPolicy(greeting="Hello!")), talking=False)
    c.bridge.on_core(Init(UUID), c.now)
    c.says(AgentReady("s", resume="c"))
    c.says(AgentText("r", "Hello!"), 1)
    c.says(LOST)
    assert c.says(AgentReady("s", resume="c"), 2) == (Attach(2), Say("Hello!"))
    c.says(UserTurn("Wait."), 2)
    c.says(LOST, 2)
    c.wait(1)
    assert c.says(AgentReady("s", resume="c"), 3) == (Attach(3), GoOn("Wait."))


def test_sessions_that_live_and_speak_are_replaced_as_often_as_it_takes() -> None:
    c = Conversation()
    for session in range(1, 12):
        c.says(voice(0.1, f"r{session}"), session)
        c.wait(6)
        assert OpenSession in kinds(c.says(LOST, session))
        c.says(AgentReady("s", resume="c"), session + 1)


@pytest.mark.parametrize("ends", [SessionEndKind.LOST, SessionEndKind.REFUSED])
def test_a_fault_that_ends_the_session_does_so_whatever_else_is_reported_meanwhile(ends: SessionEndKind) -> None:
    """Nor is there ever a deadline that stays in the past: its watchdog would not sleep any more."""
    call = Conversation()
    call.says(AgentFault("going down", ends))
    call.wait(0.5)
    call.says(AgentFault("and a hiccup"))
    actions = call.wait(10)
    assert actions[0] == CloseSession(1)
    assert call.bridge.deadline > call.now or call.bridge.state is CallState.ENDED
    reopened = any(isinstance(action, OpenSession) for action in actions)
    assert reopened is (ends is SessionEndKind.LOST)
    if not reopened:
        assert "going down" in str(actions[-1])


def test_an_agent_that_goes_on_after_a_fault_is_not_hung_up_on() -> None:
    c = Conversation()
    c.says(AgentFault("out of something", SessionEndKind.LOST))
    c.says(voice(0.1))
    assert c.wait(20) == ()
    c = Conversation()
    c.says(AgentFault("out of something", SessionEndKind.LOST))
    assert CloseSession in kinds(c.wait(2))


def test_a_lost_session_stops_neither_its_lookup_nor_a_transfer() -> None:
    c = Conversation(CallRules(tools=(HOURS, TRANSFER)))
    c.says(ask("hours"))
    assert CancelTool not in kinds(c.says(LOST))
    assert c.bridge.on_tool_done("t", ToolResult("at 9"), c.now) == (), "there is nobody to tell yet"
    assert c.says(AgentReady("s", resume="c"), 2) == (Attach(2), AnswerTool("t", ToolResult("at 9")))
    c = Conversation(CallRules(tools=(HOURS, TRANSFER)))
    c.says(ask("dsai_transfer"))
    assert CancelTool not in kinds(c.says(LOST))
    assert RunTool in kinds(c.wait(1))


def test_a_silence_that_is_over_to_the_last_bit_of_a_float_is_over() -> None:
    for frames in range(1, 140):
        c = Conversation(CallRules(silence=NoInputRules(3.0, "Hello?")))
        c.now = 125.0 + frames * 0.02  # and over at 128, where floats become coarser
        c.says(UserTurn("Well."))
        c.bridge.on_core(CallerAudio(LOUD), c.now)
        for _ in range(3):
            c.wait(c.bridge.deadlines[Deadline.NO_INPUT] - c.now)
            assert c.bridge.deadlines[Deadline.NO_INPUT] > c.now, "it would be asked for again at once, for ever"


def test_when_nothing_is_waited_for_but_the_end_there_is_one_deadline() -> None:
    c = Conversation(CallRules(most_seconds=600, lifeline=ResumeRules(renew_seconds=inf)))
    assert c.bridge.deadline == 700
