"""One session's conversation without a connection: what must be sent, what a call learns, in which order."""

from __future__ import annotations

import msgspec
import pytest

from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentRetry,
    AgentText,
    AgentTurnEnd,
    RetryKind,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
    UserWords,
)
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.dialect import OPENAI, XAI
from sts_trio.providers.openai.history import History
from sts_trio.providers.openai.protocol import RealtimeProtocol
from tests.fakes.realtime_bench import Bench, asks, created, done, refused, voice


def test_a_turn_is_over_before_its_words_are_there() -> None:
    bench = Bench()
    heard = bench.hear(wire.SpeechStarted(), wire.SpeechStopped(), wire.Committed("u"), created("r"), voice("r", "i"))
    assert heard == [UserTurn("", turn="u")]
    words = wire.CallerWords("u", "Hello?")
    assert bench.hear(wire.WordsDone("Hi.", "r", "i"), done("r"), words) == [AgentText("r", "Hi."), AgentTurnEnd()]
    bench.protocol.expire(0.5)
    assert bench.hear() == [UserWords("Hello?", "u")]
    assert [item["content"][0]["text"] for item in bench.history.items()][:2] == ["Hello?", "Hi."]


def test_words_that_are_still_in_progress_or_empty_are_none() -> None:
    bench = Bench()
    bench.hear(wire.Committed("u"))
    none = (wire.CallerWords("u", "Hel", "in_progress"), wire.CallerWords("u", " "), wire.CallerWords("u"))
    assert bench.hear(*none) == []
    bench.protocol.expire(0.5)
    assert bench.hear() == []


def test_a_barge_in_tells_what_was_being_said_and_drops_what_is_still_under_way() -> None:
    bench = Bench()
    bench.hear(created("r"), voice("r", "i", 2.0), wire.WordsDelta("One, ", "r", "i"), wire.WordsDelta("two", "r", "i"))
    assert bench.hear(wire.SpeechStarted(), now=1.0) == [AgentText("r", "One, two"), UserInterruption()]
    bench.protocol.truncate(1.0)
    [cut] = bench.sent()
    assert cut == wire.Truncate("cut_1_1", "i", 1000)
    assert bench.history._turns[-1].text == "One, …"
    bench.protocol.take(voice("r", "i"), 1.1)
    late = bench.hear(wire.WordsDone("One, two, three.", "r", "i"), done("r", "cancelled"), now=1.1)
    assert (late, list(bench.protocol.events)) == ([], [])


def test_who_speaks_when_all_has_been_heard_interrupts_nobody() -> None:
    bench = Bench()
    bench.hear(created("r"), voice("r", "i"), done("r"))
    assert bench.hear(wire.SpeechStarted(), now=1.5) == []


def test_an_answer_that_was_complete_is_cut_too_while_it_plays_and_what_nobody_heard_is_deleted() -> None:
    bench = Bench()
    bench.hear(created("r"), voice("r", "a"), voice("r", "b"), done("r"))
    assert bench.hear(wire.SpeechStarted(), now=0.25) == [UserInterruption()]
    bench.protocol.truncate(1.75)
    assert bench.sent() == [wire.Truncate("cut_1_1", "a", 250), wire.ItemDelete("cut_1_2", "b")]
    harmless = {"code": "invalid_value", "event_id": "cut_1_1"}
    assert bench.hear(wire.ServiceError(harmless)) == []


# One response at a time.


def test_a_request_waits_for_the_response_under_way_and_for_the_caller() -> None:
    bench = Bench()
    bench.protocol.say("Hello.", 0.0)
    [greeting] = bench.sent()
    assert isinstance(greeting, wire.ResponseCreate)
    assert greeting.response is not None
    assert str(greeting.response["instructions"]).endswith("\n\nHello.")
    bench.protocol.user_text("(The caller pressed 1.)", 0.0)
    assert bench.kinds() == ["create"]  # the item
    bench.hear(created("r"), done("r"))
    [request] = bench.sent()
    assert isinstance(request, wire.ResponseCreate)
    bench.hear(created("r2"), wire.SpeechStarted(), done("r2", "cancelled"))
    bench.protocol.say("Are you still there?", 0.0)
    assert bench.sent() == []
    bench.hear(wire.SpeechStopped(), wire.Committed("u"), created("vad"), now=1.0)
    assert bench.sent() == []
    bench.hear(done("vad"), now=1.0)
    assert len(bench.sent()) == 1


def test_a_request_is_sent_when_the_service_does_not_answer_by_itself() -> None:
    bench = Bench()
    bench.hear(wire.SpeechStarted())
    bench.protocol.user_text("(The caller pressed 1.)", 0.0)
    bench.sent()
    bench.hear(wire.SpeechStopped(), now=1.0)
    assert (bench.sent(), bench.protocol.deadline) == ([], 2.0)
    bench.protocol.expire(1.9)
    assert bench.sent() == []
    bench.protocol.expire(2.0)
    assert len(bench.sent()) == 1


def test_a_request_that_met_another_response_comes_again() -> None:
    bench = Bench()
    bench.protocol.say("Hello.", 0.0)
    [request] = bench.sent()
    assert bench.hear(refused(bench, request)) == []
    assert bench.sent() == []
    bench.protocol.expire(4.9)
    assert bench.sent() == []
    bench.protocol.expire(5.0)
    [again] = bench.sent()
    assert isinstance(again, wire.ResponseCreate)
    assert again.response == request.response  # type: ignore[union-attr]  # a ResponseCreate as well


def test_a_response_that_failed_is_tried_again_but_not_for_ever() -> None:
    bench = Bench()
    bench.protocol.say("Hello.", 0.0)
    bench.sent()
    failed = {"type": "server_error", "code": "rate_limit_exceeded"}
    for attempt in (1, 2, 3):
        assert bench.hear(created(f"r{attempt}"), done(f"r{attempt}", "failed", **failed), now=10.0 * attempt) == [
            AgentRetry(RetryKind.LIMIT, "rate_limit_exceeded")
        ]
        assert bench.protocol.deadline == 10 * attempt + 0.5 * attempt
        bench.protocol.expire(10 * attempt + 0.5 * attempt)
        assert bench.kinds() == ["create"]
    told = bench.hear(created("r4"), done("r4", "failed", **failed))
    assert [type(event) for event in told] == [AgentFault, AgentTurnEnd]
    assert bench.sent() == []


def test_a_response_without_credit_is_not_tried_again() -> None:
    [fault, _] = Bench().hear(created("r"), done("r", "failed", type="insufficient_quota", message="no money"))
    assert isinstance(fault, AgentFault)
    assert fault.ends is SessionEndKind.REFUSED


def test_a_request_that_is_refused_without_its_name_comes_again_too() -> None:
    """Not every service says which message its errors are about."""
    bench = Bench()
    bench.protocol.user_text("(The caller pressed 1.)", 0.0)
    item, _ = bench.sent()
    assert isinstance(item, wire.ItemCreate)
    busy = wire.ServiceError({"message": "Conversation already has an active response"})
    bench.hear(created("other"), wire.ItemAdded(wire.Item(id=item.event_id)))
    assert bench.hear(busy, voice("other", "i"), done("other")) == [AgentTurnEnd()]
    assert bench.kinds() == ["create"]


def test_an_error_about_a_request_makes_room_for_the_next() -> None:
    bench = Bench()
    bench.protocol.say("Hello.", 0.0)
    bench.protocol.say("Are you there?", 0.0)
    [_] = bench.sent()
    [told] = bench.hear(wire.ServiceError({"code": "invalid_value"}))
    assert isinstance(told, AgentFault)
    assert bench.kinds() == ["create"]


def test_a_request_that_met_a_limit_comes_again_in_a_moment() -> None:
    bench = Bench()
    bench.protocol.say("Hello.", 0.0)
    [request] = bench.sent()
    assert isinstance(request, wire.ResponseCreate)
    limit = {"type": "rate_limit_exceeded", "event_id": request.event_id}
    assert bench.hear(wire.ServiceError(limit), now=1.0) == [AgentRetry(RetryKind.LIMIT, "rate_limit_exceeded")]
    assert (bench.sent(), bench.protocol.deadline) == ([], 1.5)
    bench.protocol.expire(1.5)
    assert bench.kinds() == ["create"]


def test_a_response_that_begins_when_the_caller_has_begun_is_taken_back_and_they_are_answered() -> None:
    bench = Bench()
    bench.protocol.say("Are you still there?", 0.0)
    bench.sent()
    bench.hear(wire.SpeechStarted(), created("r"), now=1.0)
    assert bench.sent() == [wire.ResponseCancel("cancel_1_2", "r")]
    bench.protocol.take(voice("r", "i"), 1.0)
    assert not bench.protocol.events, "it would be spoken over the caller"
    told = bench.hear(
        done("r", "cancelled"), wire.SpeechStopped(), created("vad"), voice("vad", "j"), done("vad"), now=2.0
    )
    assert told == [UserTurn(""), AgentTurnEnd()]
    assert bench.sent() == [wire.ItemDelete("cut_1_3", "i")], "they have been answered: nobody asks any more"


def test_a_response_that_was_cancelled_and_failed_is_not_tried_again() -> None:
    bench = Bench()
    bench.hear(created("r"), wire.SpeechStarted())
    bench.hear(done("r", "failed", type="server_error"), wire.SpeechStopped(), now=1.0)
    bench.protocol.expire(9.0)
    assert bench.sent() == []


def test_a_caller_whose_end_nobody_tells_has_stopped_when_his_turn_is_taken() -> None:
    bench = Bench()
    bench.hear(wire.SpeechStarted(), wire.Committed("u"), now=1.0)
    assert not bench.protocol.caller_speaks
    bench.protocol.say("Hello.", 0.0)
    bench.protocol.expire(2.0)
    assert len(bench.sent()) == 1


# Tools.


def test_several_functions_are_asked_for_at_once_and_answered_with_one_response() -> None:
    bench = Bench()
    told = bench.hear(created("r"), asks("r", "c1"), asks("r", "c2"), asks("r", "c1"), done("r"))
    assert told == [ToolCall(id_, "weather", "{}", response_required=True, stays_open=True) for id_ in ("c1", "c2")]
    bench.protocol.answer("c1", "rain", 0.0, failed=False)
    assert bench.kinds() == ["create"]  # the item: the other is still to be answered
    bench.protocol.answer("c2", "The station is closed.", 0.0, failed=True)
    output, request = bench.sent()
    assert isinstance(output, wire.ItemCreate)
    assert output.item == {
        "type": "function_call_output",
        "id": "answer_1_2",
        "call_id": "c2",
        "output": "Error: The station is closed.",
    }
    assert isinstance(request, wire.ResponseCreate)
    bench.protocol.answer("c2", "again", 0.0, failed=False)
    assert bench.sent() == []


def test_an_answer_waits_for_the_end_of_the_response_that_asked() -> None:
    """Before that it may be refused, and the function asked for again."""
    bench = Bench()
    bench.hear(created("r"), asks("r", "c1"))
    bench.protocol.answer("c1", "rain", 0.0, failed=False)
    assert bench.sent() == []
    bench.hear(done("r"))
    assert [type(message) for message in bench.sent()] == [wire.ItemCreate, wire.ResponseCreate]


def test_an_answer_does_not_wait_for_an_end_that_does_not_come() -> None:
    bench = Bench()
    bench.hear(created("r"), asks("r", "c1"), now=1.0)
    bench.protocol.answer("c1", "rain", 3.0, failed=False)
    bench.protocol.expire(5.9)
    assert bench.sent() == []
    assert bench.protocol.deadline == 6.0
    bench.protocol.expire(6.0)
    assert [type(message) for message in bench.sent()] == [wire.ItemCreate, wire.ResponseCreate]
    bench.hear(done("r"), now=6.1)
    assert bench.sent() == []


def test_an_answer_before_the_next_function_is_asked_for_waits_for_that_as_well() -> None:
    bench = Bench()
    bench.hear(created("r"), asks("r", "c1"))
    bench.protocol.answer("c1", "rain", 0.0, failed=False)
    assert bench.hear(asks("r", "c2"), done("r")) == [ToolCall("c2", "weather", "{}", True, stays_open=True)]
    assert bench.kinds() == ["create"]  # the item
    bench.protocol.answer("c2", "sun", 0.0, failed=False)
    assert [type(message) for message in bench.sent()] == [wire.ItemCreate, wire.ResponseCreate]


def test_the_functions_of_one_response_do_not_wait_for_those_of_another() -> None:
    bench = Bench()
    bench.hear(created("r"), asks("r", "slow"), done("r"))
    bench.hear(wire.SpeechStarted(), wire.SpeechStopped(), created("r2"), asks("r2", "fast"), done("r2"))
    bench.protocol.answer("fast", "rain", 0.0, failed=False)
    assert [type(message) for message in bench.sent()] == [wire.ItemCreate, wire.ResponseCreate]


def test_no_more_functions_are_asked_for_than_any_sane_model_would() -> None:
    bench = Bench()
    assert len(bench.hear(created("r"), *(asks("r", f"c{number}") for number in range(40)))) == 16


@pytest.mark.parametrize("failed", [True, False])
def test_the_agent_speaks_of_what_it_asked_for_though_it_has_said_other_things_since(failed: bool) -> None:
    bench = Bench()
    bench.hear(created("r"), asks("r", "c1"), done("r"))
    assert bench.hear(created("r2"), voice("r2", "i"), done("r2")) == [AgentTurnEnd()]
    bench.protocol.answer("c1", "It took too long.", 0.0, failed=failed)
    assert bench.kinds() == ["create", "create"]


@pytest.mark.parametrize(("status", "asked"), [("completed", 1), (None, 1), ("incomplete", 0), ("in_progress", 0)])
def test_a_function_is_called_only_when_its_arguments_are_complete(status: str | None, asked: int) -> None:
    item = wire.Item(type="function_call", call_id="c", name="weather", arguments='{"city":"Os', status=status)
    assert len(Bench().hear(created("r"), wire.ItemDone(item, "r"))) == asked


def test_a_function_that_only_the_end_of_the_response_names_is_asked_for() -> None:
    item = wire.Item(type="function_call", call_id="c", name="weather", arguments="{}")
    heard = Bench().hear(
        created("r"), wire.ResponseDone(wire.Response("r", "completed", output=msgspec.to_builtins([item])))
    )
    assert heard == [ToolCall("c", "weather", "{}", response_required=True, stays_open=True)]


# Another session of the same call.


def next_session(bench: Bench, *, retold: bool = True) -> Bench:
    another = Bench(bench.dialect)
    another.history = bench.history
    another.history.retold = retold
    number = another.history.begin_session()
    another.protocol = RealtimeProtocol(bench.dialect, open_codec("pcmu", 24_000), another.history, number)
    return another


@pytest.mark.parametrize("retold", [True, False])
def test_a_function_is_answered_in_the_session_that_did_not_ask_for_it(retold: bool) -> None:
    bench = Bench()
    bench.hear(created("r"), asks("r", "c1"), asks("r", "c2"), done("r"))
    bench.protocol.answer("c2", "snow", 0.0, failed=False)
    another = next_session(bench, retold=retold)
    another.protocol.answer("c1", "rain", 0.0, failed=False)
    sent = another.sent()
    items = [message.item["type"] for message in sent if isinstance(message, wire.ItemCreate)]
    assert items == ["function_call"] * retold + ["function_call_output"], "it must know that it has asked"
    assert isinstance(sent[-1], wire.ResponseCreate)
    assert another.hear(created("r"), asks("r", "c1")) == [], "not twice"


def test_a_barge_in_over_the_voice_of_the_session_before_tells_what_was_heard_of_it() -> None:
    bench = Bench()
    words = "One two three four five."
    bench.hear(created("r"), wire.WordsDelta(words, "r", "i"), voice("r", "i", 2.0), now=10)
    another = next_session(bench)
    assert another.hear(wire.SpeechStarted(), now=11) == [UserInterruption()]
    another.protocol.truncate(1.0)
    (said,) = [item["content"][0]["text"] for item in another.history.items() if item["role"] == "assistant"]
    assert said == "One two …"


def test_what_was_said_when_the_session_broke_is_told_and_in_the_seed_as_far_as_it_was_heard() -> None:
    bench = Bench()
    words = "a word " * 30
    bench.hear(created("r"), wire.WordsDelta(words, "r", "i"), voice("r", "i", 2.0), now=10)
    bench.protocol.lost()
    assert list(bench.protocol.events) == [AgentText("r", words.strip())]
    another = next_session(bench)
    (said,) = [item["content"][0]["text"] for item in another.history.items() if item["role"] == "assistant"]
    assert words.startswith(said.removesuffix(" …"))
    assert 30 <= len(said) <= 42, "two seconds are some thirty characters"
    another.protocol.go_on(20.0, cut_off=True)
    note, request = another.sent()
    assert isinstance(note, wire.ItemCreate)
    assert note.item["role"] == "system"
    assert isinstance(request, wire.ResponseCreate)


def test_an_answer_that_is_complete_is_in_the_seed_whole() -> None:
    bench = Bench()
    bench.hear(created("r"), wire.WordsDelta("Yes. " * 40, "r", "i"), voice("r", "i", 2.0), done("r"), now=10)
    said, _ = bench.history.items()
    assert said["content"][0]["text"] == ("Yes. " * 40).strip()


# Voice.


def test_half_a_sample_of_one_item_does_not_turn_the_next_into_noise() -> None:
    protocol = RealtimeProtocol(XAI, open_codec("pcm", 8000), History(), 1)
    protocol.take(wire.AudioDelta(bytes(321), "r", "a"), 0.0)
    protocol.take(wire.AudioDelta(b"\x01\x02\x03", "r", "b"), 0.0)
    protocol.take(wire.AudioDelta(b"\x04", "r", "b"), 0.0)
    heard = [bytes(event.wav.pcm) for event in protocol.events if isinstance(event, AgentAudio)]
    assert heard == [bytes(320), b"\x01\x02", b"\x03\x04"]


def test_a_voice_without_names_is_heard_and_nothing_of_it_is_cut() -> None:
    bench = Bench()
    bench.protocol.take(wire.AudioDelta(bytes(8000)), 0.0)
    bench.protocol.take(wire.AudioDelta(bytes(8000), item_id="i"), 0.0)
    assert [event.reply for event in bench.protocol.events if isinstance(event, AgentAudio)] == ["", "i"]
    bench.protocol.events.clear()
    assert bench.hear(wire.WordsDelta("One, "), wire.WordsDelta("two"), wire.SpeechStarted(), now=0.5) == [
        AgentText("", "One, two"),
        UserInterruption(),
    ]
    bench.protocol.truncate(1.5)
    assert bench.sent() == [wire.ItemDelete("cut_1_1", "i")]


# Text.


def test_text_that_was_typed_is_a_turn_when_the_service_takes_it_up() -> None:
    bench = Bench()
    bench.protocol.user_text("(The caller pressed 1.)", 0.0)
    item, _ = bench.sent()
    assert isinstance(item, wire.ItemCreate)
    part = {"type": "input_text", "text": "(The caller pressed 1.)"}
    added = wire.ItemAdded(wire.Item(id=item.item["id"], type="message", content=[part]))
    assert bench.hear(added) == [UserTurn("(The caller pressed 1.)")]
    for id_ in ("seed_1", "typed_0_1", "item_1"):
        assert bench.hear(wire.ItemAdded(wire.Item(id=id_, content=[part]))) == []


def test_xai_speaks_a_text_as_it_stands() -> None:
    bench = Bench(XAI)
    bench.protocol.say("Good evening.", 0.0)
    [message] = bench.sent()
    assert isinstance(message, wire.ItemCreate)
    assert message.item["type"] == "force_message"
    assert message.item["content"] == [{"type": "output_text", "text": "Good evening."}]


def test_two_sessions_of_a_call_name_nothing_the_same() -> None:
    first = Bench()
    first.protocol.add_context("a")
    second = RealtimeProtocol(OPENAI, open_codec("pcmu", 24_000), first.history, first.history.begin_session())
    second.add_context("b")
    assert first.sent()[0].event_id != second.out[0].event_id  # type: ignore[union-attr]  # both are ItemCreate


def test_a_service_that_is_not_to_be_interrupted_speaks_on_though_the_caller_has_begun() -> None:
    """Callers may begin in the moment in which the agent does; from then on the service does not hear them."""
    bench = Bench(interrupts=False)
    bench.hear(created("r"), voice("r", "i", 2.0))
    assert not bench.hear(wire.SpeechStarted(), now=0.1)
    bench.protocol.take(voice("r", "i", 2.0), 0.2)
    assert [type(event) for event in bench.protocol.events] == [AgentAudio]
