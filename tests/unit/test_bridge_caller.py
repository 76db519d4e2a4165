"""The bridge's rules for what Core sends: who calls, keys, what nobody understands, and that the caller is gone."""

from __future__ import annotations

import pytest

from sts_trio.call.actions import (
    AnswerTool,
    Begin,
    End,
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
from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio, Digit, Init, NotUnderstood, Transcript
from sts_trio.providers.base import (
    AgentReady,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    OddKind,
    OddMessage,
    ToolOffer,
    UserInterruption,
    UserTurn,
)
from tests.unit.conversation import HOURS, LOUD, TRANSFER, UUID, Conversation, ask, kinds, voice


def opened(c: Conversation, uuid: object = UUID) -> CallInfo:
    """What the provider is told of the call when its first session is opened."""
    begun, action = c.bridge.on_core(Init(uuid), c.now)
    assert begun == Begin(c.bridge.call.id)
    assert isinstance(action, OpenSession)
    return action.call


# Who calls.


def test_the_session_is_opened_with_the_calls_id_and_tools() -> None:
    call = opened(Conversation(CallRules(tools=(HOURS, TRANSFER)), talking=False))
    assert (call.id, call.uuid) == (UUID, UUID)
    assert call.session_config.tools == (
        ToolOffer("hours", "When we are open.", "{}"),
        ToolOffer("dsai_transfer", "Put through.", "{}"),
    )


def test_a_call_that_cannot_be_controlled_has_no_tool_that_takes_it_away() -> None:
    c = Conversation(CallRules(tools=(HOURS, TRANSFER)), talking=False)
    call = opened(c, "no uuid")
    assert [tool.name for tool in call.session_config.tools] == ["hours"]
    c.says(AgentReady("s"))
    assert kinds(c.says(ask("hours"))) == [RunTool]
    (answer,) = c.says(ask("dsai_transfer", "t2"))[-1:]
    assert isinstance(answer, AnswerTool)
    assert answer.result.failed


def test_the_url_of_a_call_may_bring_its_greeting_and_variables() -> None:
    policy = SessionPolicy(greeting="Hello!", variables=("name",), overrides=True)
    c = Conversation(CallRules(session_policy=policy), talking=False)
    c.bridge.call = CallInfo("x", query={"welcome_message": "Welcome back!", "name": "Ada"})
    assert opened(c).session_config.variables == {"name": "Ada"}
    assert Say("Welcome back!") in c.says(AgentReady("s"))


# What nobody understands.


def test_what_is_not_understood_is_counted_and_noted_five_times() -> None:
    c = Conversation()
    note = LogWarning("Core sent what cannot be used; ignored", {"sent": "a riddle"})
    noted = [c.bridge.on_core(NotUnderstood("a riddle"), c.now) for _ in range(9)]
    assert noted == [(note,)] * 5 + [()] * 4
    assert c.bridge.counts.not_understood == 9


def test_a_second_init_is_noted_and_opens_nothing() -> None:
    c = Conversation()
    (note,) = c.bridge.on_core(Init("another"), c.now)
    assert note == LogWarning("Core sent what cannot be used; ignored", {"sent": "a second init"})
    assert c.bridge.call.uuid == UUID


def test_a_key_that_no_telephone_has_is_noted_and_not_repeated() -> None:
    c = Conversation()
    (note,) = c.bridge.on_core(Digit("?!"), c.now)
    assert isinstance(note, LogWarning)
    assert note.fields == {"sent": "a key that is none of 0-9, *, #, A-D"}


# Keys.


def test_an_entry_that_is_complete_is_told_at_once() -> None:
    c = Conversation()
    assert c.bridge.on_core(Digit("4"), c.now) == ()
    (told,) = c.bridge.on_core(Digit("#"), c.now)
    assert isinstance(told, SendUserText)
    assert "pressed 4 " in told.text


def test_a_key_begins_silence_anew() -> None:
    c = Conversation(CallRules(keypad="off", silence=NoInputRules(3, "Are you there?")))
    c.wait(2)
    c.bridge.on_core(Digit("1"), c.now)
    assert c.wait(2.9) == ()
    assert c.wait(0.2) == (Say("Are you there?"),)


# The caller's own silence.


@pytest.mark.parametrize(("loud_at", "renewed"), [(109.0, True), (109.25, False)])
def test_a_second_without_speech_is_a_quiet_moment(loud_at: float, renewed: bool) -> None:
    c = Conversation(CallRules(lifeline=ResumeRules(renew_seconds=10)))
    c.now = loud_at
    assert c.bridge.on_core(CallerAudio(LOUD), c.now) == (SendAudio(LOUD),)
    c.now = 110.0
    assert (OpenSession in kinds(c.bridge.on_deadline(c.now))) == renewed


# The caller is gone.


@pytest.mark.parametrize(("code", "cause"), [(1000, Cause.CALLER_HUNG_UP), (1006, Cause.CALLER_LOST)])
def test_the_call_ends_with_its_caller(code: int, cause: Cause) -> None:
    c = Conversation()
    assert c.bridge.on_caller_gone(SocketClosed(code, "bye"), c.now) == (End(CallOutcome(cause, code, "bye")),)
    assert c.bridge.state is CallState.ENDED


def test_when_the_caller_is_gone_it_is_known_how_much_they_heard() -> None:
    c = Conversation()
    for event in (AgentText("r", "A long story."), voice(5.0), AgentTurnEnd()):
        c.says(event)
    c.wait(2)
    c.bridge.on_caller_gone(SocketClosed(1000), c.now)
    assert c.playout.left_over() == [Transcript("agent", "A long story.", heard_ms=2000)]


def test_every_turn_of_the_caller_counts() -> None:
    c = Conversation()
    for text in ("Hello?", "Is anybody there?", "Well."):
        c.says(UserTurn(text))
    assert c.bridge.counts.user_turns == 3


# A key while the agent speaks.


def test_a_key_tells_the_provider_to_stop_and_a_word_does_not() -> None:
    c = Conversation()
    c.says(voice(2.0))
    c.wait(0.5)
    (by_key,) = [action for action in c.bridge.on_core(Digit("1"), c.now) if isinstance(action, Truncate)]
    assert by_key.unheard == pytest.approx(1.5, abs=0.05)
    assert by_key.stop
    c.says(UserTurn("And another thing."))
    c.says(voice(2.0, "r2"))
    (by_word,) = [action for action in c.says(UserInterruption()) if isinstance(action, Truncate)]
    assert not by_word.stop


def test_all_that_was_dropped_counts_as_unheard() -> None:
    c = Conversation()
    for part in range(4):  # ten minutes are held
        c.says(voice(300.0, f"r{part}"))
    (cut,) = [action for action in c.says(UserInterruption()) if isinstance(action, Truncate)]
    assert cut.unheard == pytest.approx(1200, abs=0.05)


def test_what_a_provider_says_oddly_is_cut_for_the_log() -> None:
    (note,) = Conversation().says(OddMessage(OddKind.JSON, "x" * 10_000))
    assert isinstance(note, LogWarning)
    assert len(str(note.fields["sent"])) == 200
