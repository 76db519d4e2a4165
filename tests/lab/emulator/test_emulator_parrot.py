"""The agent's decisions, with no connection and no clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from sts_trio.lab.emulator.chat import Action, Close, Flush, Item, Say
from sts_trio.lab.emulator.evi.settings import BuiltinTool, Context, SessionSettings, Tool
from sts_trio.lab.emulator.evi.wire import (
    AssistantEnd,
    AssistantMessage,
    AssistantProsody,
    AudioOutput,
    ToolCall,
    ToolError,
    ToolResponse,
    UserInterruption,
    UserMessage,
)
from sts_trio.lab.emulator.options import EmulatorOptions
from sts_trio.lab.emulator.outbox import MAX_TURNS, MAX_URGENT, Outbox
from sts_trio.lab.emulator.parrot import Parrot
from sts_trio.lab.emulator.turns import Speaking, Turn
from sts_trio.lab.emulator.voice import VoiceFormat
from tests.lab.emulator.evi_client import tone

TOOLS = SessionSettings(
    tools=[Tool(type="function", name="weather", parameters="{}", fallback_content="No weather today.")],
    builtin_tools=[BuiltinTool(name="hang_up")],
)
PLAIN = SessionSettings()
TURN = Turn(0, 2000, tone(2))


def parrot(verbose: bool = False, **options: Any) -> Parrot:
    ids = itertools.count()
    return Parrot(
        EmulatorOptions(**options),
        VoiceFormat(24_000, 1, lambda: 100),
        verbose=verbose,
        new_id=lambda: f"{next(ids):032x}",
        unix_ms=lambda: 1_700_000_000_000,
        began=0.0,
    )


def spoken(actions: list[Action]) -> list[Item]:
    return [item for action in actions if isinstance(action, Say) for _, item in action.turn]


def words(actions: list[Action]) -> list[str | None]:
    return [item.message.content for item in spoken(actions) if isinstance(item, AssistantMessage)]


def test_a_turn_is_heard_then_given_back() -> None:
    said, say = parrot().turn(TURN, 8000, 500, PLAIN, now=3.0)
    assert isinstance(said, UserMessage)
    assert (said.time.begin, said.time.end, said.interim, said.from_text) == (500, 2500, False, False)
    assert said.models.prosody is not None
    kinds = [type(item) for item in spoken([say])]
    assert kinds == [AssistantMessage, *[AudioOutput] * 20, AssistantProsody, AssistantEnd]


def test_speaking_over_the_reply_interrupts_once_and_only_after_the_minimum() -> None:
    bird = parrot()
    bird.turn(TURN, 8000, 0, PLAIN, now=10.0)  # plays until 12.0
    assert bird.speaking(Speaking(780, 780), now=10.9) == []
    assert bird.speaking(Speaking(900, 900), now=10.79) == []  # most of it was before the reply
    assert bird.speaking(Speaking(800, 800), now=10.95) == [Flush(), UserInterruption(time=1_700_000_000_000)]
    assert bird.speaking(Speaking(820, 820), now=10.97) == []


def test_nothing_to_interrupt_once_it_has_played() -> None:
    bird = parrot()
    bird.turn(TURN, 8000, 0, PLAIN, now=10.0)
    assert bird.speaking(Speaking(1000, 1000), now=12.01) == []


def test_after_the_end_of_sending_interruption_is_an_option() -> None:
    bird = parrot(interrupt_after_end=False, speed=4.0)
    bird.turn(TURN, 8000, 0, PLAIN, now=10.0)  # sent by 10.5, played until 12.0
    assert bird.speaking(Speaking(900, 900), now=11.0) == []


def test_interim_transcripts_only_when_asked_for() -> None:
    quiet, verbose = parrot(), parrot(verbose=True)
    told = [
        message
        for ms in range(20, 1020, 20)
        for message in (
            *quiet.speaking(Speaking(ms, ms), ms / 1000),
            *verbose.speaking(Speaking(ms, ms), ms / 1000),
        )
    ]
    assert [(m.interim, m.message.content) for m in told if isinstance(m, UserMessage)] == [
        (True, "(0.5 s of speech)"),
        (True, "(1.0 s of speech)"),
    ]


def test_while_paused_it_hears_and_later_answers_the_last() -> None:
    bird = parrot()
    assert bird.pause(0.0) == [Flush()]
    assert [type(action) for action in bird.user_input("one", SessionSettings(), 1.0)] == [UserMessage]
    assert [type(action) for action in bird.turn(TURN, 8000, 0, PLAIN, 2.0)] == [UserMessage]
    assert bird.say("hello", 3.0) == []
    assert words(bird.resume(4.0)) == ["You said: (2.0 s of speech)"]
    assert bird.resume(5.0) == []


def test_a_tool_is_called_and_its_answer_spoken() -> None:
    bird = parrot()
    said, call = bird.user_input('call weather {"city":"Oslo"}', TOOLS, 1.0)
    assert isinstance(said, UserMessage)
    assert isinstance(call, ToolCall)
    assert (call.name, call.parameters, call.response_required) == ("weather", '{"city":"Oslo"}', True)
    assert words(bird.tool_answer(ToolResponse(tool_call_id=call.tool_call_id, content="Rain."), 2.0)) == ["Rain."]
    (again,) = bird.tool_answer(ToolResponse(tool_call_id=call.tool_call_id, content="Rain."), 3.0)
    assert isinstance(again, ToolError)


def test_a_tool_that_fails_or_is_late_has_its_fallback_spoken() -> None:
    bird = parrot(tool_limit=5.0)
    _, call = bird.user_input("call weather", TOOLS, 1.0)
    assert isinstance(call, ToolCall)
    assert call.parameters == "{}"
    assert words(bird.tool_answer(ToolError(tool_call_id=call.tool_call_id, error="x"), 2.0)) == ["No weather today."]
    bird.user_input("call weather {broken}", TOOLS, 3.0)
    assert bird.deadline == 8.0
    assert bird.tick(7.9) == []
    error, *rest = bird.tick(8.0)
    assert isinstance(error, ToolError)
    assert words(rest) == ["No weather today."]


def test_speech_makes_a_tool_call_void() -> None:
    bird = parrot()
    _, call = bird.user_input("call weather", TOOLS, 1.0)
    assert isinstance(call, ToolCall)
    bird.turn(TURN, 8000, 0, PLAIN, 2.0)
    (late,) = bird.tool_answer(ToolResponse(tool_call_id=call.tool_call_id, content="Rain."), 3.0)
    assert isinstance(late, ToolError)


def test_a_changed_request_has_a_new_id_and_makes_the_old_one_void() -> None:
    bird = parrot()
    _, old = bird.user_input('call weather {"city":"Oslo"}', TOOLS, 1.0)
    _, new = bird.user_input('call weather {"city":"Rome"}', TOOLS, 2.0)
    assert isinstance(old, ToolCall)
    assert isinstance(new, ToolCall)
    assert new.tool_call_id != old.tool_call_id
    (useless,) = bird.tool_answer(ToolResponse(tool_call_id=old.tool_call_id, content="Rain."), 3.0)
    assert isinstance(useless, ToolError)
    assert useless.tool_call_id == old.tool_call_id
    assert words(bird.tool_answer(ToolResponse(tool_call_id=new.tool_call_id, content="Sun."), 4.0)) == ["Sun."]


def test_a_request_may_be_dropped_for_a_normal_reply() -> None:
    bird = parrot()
    _, call = bird.user_input("call weather", TOOLS, 1.0)
    assert isinstance(call, ToolCall)
    assert words(bird.user_input("never mind", TOOLS, 2.0)) == ["How can I help you?"]
    assert bird.deadline == float("inf")
    (useless,) = bird.tool_answer(ToolResponse(tool_call_id=call.tool_call_id, content="Rain."), 3.0)
    assert isinstance(useless, ToolError)


CONTROL = SessionSettings(
    tools=[Tool(type="function", name=name, parameters="{}") for name in ("dsai_transfer", "dsai_hangup")]
)


@pytest.mark.parametrize(
    ("key", "says", "tool", "arguments"),
    [
        ("0", "I put you through.", "dsai_transfer", '{"transfer_extension":"2000"}'),
        ("9", "Thank you for calling. Goodbye.", "dsai_hangup", "{}"),
    ],
)
def test_a_key_works_call_control_after_its_words(key: str, says: str, tool: str, arguments: str) -> None:
    bird = parrot(tool_limit=5.0, speed=4.0)
    said, say = bird.user_input(f"(The caller pressed {key} on the telephone keypad.)", CONTROL, 1.0)
    assert isinstance(said, UserMessage)
    first, *audio, prosody, call = spoken([say])
    assert isinstance(first, AssistantMessage)
    assert first.message.content == says
    assert {type(item) for item in audio} == {AudioOutput}
    assert isinstance(prosody, AssistantProsody)  # and no assistant_end: the turn goes on with the answer
    assert isinstance(call, ToolCall)
    assert (call.name, call.parameters, call.response_required) == (tool, arguments, True)
    # It waits from when the request was sent: 2.3 s of speech at four times its speed later.
    assert bird.deadline == pytest.approx(1.0 + 2.3 / 4 + 5.0, abs=0.05)
    items = spoken(bird.tool_answer(ToolResponse(tool_call_id=call.tool_call_id, content="Done."), 3.0))
    assert isinstance(items[-1], AssistantEnd)


@pytest.mark.parametrize("how", ["pause", "barge-in"])
def test_a_request_that_was_still_to_be_sent_is_forgotten_with_the_words_before_it(how: str) -> None:
    bird = parrot(speed=1.0)
    bird.user_input("(The caller pressed 9 on the telephone keypad.)", CONTROL, 10.0)
    hushed = bird.pause(11.0) if how == "pause" else bird.speaking(Speaking(900, 900), 11.0)
    assert hushed[0] == Flush()
    assert bird.deadline == float("inf")


def test_a_request_that_was_sent_outlives_a_barge_in() -> None:
    bird = parrot(speed=4.0)
    bird.user_input("(The caller pressed 9 on the telephone keypad.)", CONTROL, 10.0)
    assert bird.speaking(Speaking(900, 900), 11.0)[0] == Flush()
    assert bird.deadline < float("inf")


def test_a_reply_shows_the_context_in_force() -> None:
    told = SessionSettings(context=Context("An order is open.", "persistent"))
    assert words(parrot().user_input("Hi", told, 1.0)) == ["How can I help you? {Context: An order is open.}"]
    (reply,) = words(parrot().turn(TURN, 8000, 0, told, 1.0))
    assert reply == "You said: (2.0 s of speech) {Context: An order is open.}"
    assert words(parrot().say("Verbatim.", 1.0)) == ["Verbatim."]


def test_goodbye_hangs_up_after_the_farewell() -> None:
    items = spoken(parrot().user_input("Goodbye!", TOOLS, 1.0))
    assert isinstance(items[0], AssistantMessage)
    assert items[-1] == Close(1000)


def test_speech_goes_out_at_its_speed_and_urgent_things_first() -> None:
    box = Outbox(speed=4.0)
    box.put(parrot().turn(TURN, 8000, 0, PLAIN, 0.0))
    times, now = [], 0.0
    while (due := box.due(now)) < float("inf"):
        now = max(now, due)
        if isinstance(box.pop(now), AudioOutput):
            times.append(now)
    assert times == pytest.approx([number * 0.1 / 4 for number in range(20)])


def test_hush_takes_speech_but_not_urgent_messages() -> None:
    box = Outbox(speed=4.0)
    box.put(parrot().turn(TURN, 8000, 0, PLAIN, 0.0))
    assert isinstance(box.pop(0.0), UserMessage)
    assert isinstance(box.pop(0.0), AssistantMessage)
    box.put([Flush(), UserInterruption(time=1)])
    assert isinstance(box.pop(0.0), UserInterruption)
    assert box.pop(99.0) is None
    assert box.due(99.0) == float("inf")


def test_the_outbox_is_bounded() -> None:
    box = Outbox(speed=4.0)
    for _ in range(MAX_URGENT + 10):
        box.put([UserInterruption(time=1)])
    items = [box.pop(0.0) for _ in range(MAX_URGENT)]
    assert items[-1] == Close(1008, "too many messages not read")
    assert box.pop(0.0) is None
    for number in range(MAX_TURNS + 3):
        box.put([Say(iter([(0.0, UserInterruption(time=number))]))])
    assert box.pop(0.0) == UserInterruption(time=3)


@pytest.mark.parametrize("wrong", [{"speed": 0.5}, {"rate": 7}, {"channels": 3}, {"chunk_ms": (5, 1)}])
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmulatorOptions(**wrong)
