"""Every question is answered, once, and nobody waits in silence, whatever a Realtime service does; in both dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sts_trio.providers.base import (
    AgentFault,
    AgentRetry,
    AgentText,
    AgentTurnEnd,
    RetryKind,
    SessionEnd,
    SessionEndKind,
    UserInterruption,
    UserTurn,
    UserWords,
)
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.audio import open_codec
from sts_trio.providers.openai.dialect import OPENAI, XAI, Dialect
from sts_trio.providers.openai.protocol import RealtimeProtocol
from sts_trio.providers.openai.responses import told_pause
from tests.fakes.realtime_bench import Bench, asks, created, done, refused, voice

if TYPE_CHECKING:
    from collections.abc import Sequence

BOTH = pytest.mark.parametrize("dialect", [OPENAI, XAI], ids=lambda dialect: dialect.name)
SPOKEN = (wire.SpeechStarted("u"), wire.SpeechStopped("u"), wire.Committed("u"))
TEXT = [{"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}]


def over(id_: str, status: str, reason: str | None = None, output: object = None) -> wire.ResponseDone:
    return wire.ResponseDone(wire.Response(id_, status, {"reason": reason} if reason else None, output))


def requests(bench: Bench) -> list[wire.ResponseCreate]:
    """What has been asked for since the last look, as far as it was no text to be said."""
    return [message for message in bench.sent() if isinstance(message, wire.ResponseCreate)]


def says(message: wire.ToService) -> bool:
    """Whether this asks for a text to be said as it stands."""
    if isinstance(message, wire.ItemCreate):
        return bool(message.item["type"] == "force_message")
    return isinstance(message, wire.ResponseCreate) and "instructions" in (message.response or {})


def confirmed(item: str) -> wire.ItemAdded:
    return wire.ItemAdded(wire.Item(id=item))


def outputs(bench: Bench) -> tuple[list[str], int]:
    """The ids of the outputs that have been sent since the last look, and how many responses were asked for."""
    sent = bench.sent()
    items = [message.event_id for message in sent if isinstance(message, wire.ItemCreate)]
    return items, sum(isinstance(message, wire.ResponseCreate) for message in sent)


# One answer to one question.


@BOTH
def test_a_greeting_never_follows_the_first_answer(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(wire.SpeechStarted("u"))
    bench.protocol.say("Good evening.", 0.0)
    bench.hear(*SPOKEN[1:], created("r"), voice("r", "i"), done("r"), now=1.0)
    bench.protocol.expire(60.0)
    assert bench.sent() == []


@BOTH
def test_a_greeting_that_crosses_the_first_answer_is_said_once_at_most(dialect: Dialect) -> None:
    """It was asked for, the caller spoke, and the service has answered them first."""
    bench = Bench(dialect)
    bench.protocol.say("Good evening.", 0.0)
    [greeting] = bench.sent()
    assert says(greeting)
    bench.hear(*SPOKEN, created("own"), voice("own", "i"), now=0.1)
    bench.hear(done("own"), created("greeting"), now=0.5)
    [cancel] = bench.sent()
    assert isinstance(cancel, wire.ResponseCancel)
    assert cancel.response_id == "greeting"
    bench.protocol.take(voice("greeting", "j"), 0.6)
    assert not bench.protocol.events


@BOTH
def test_what_the_service_has_answered_by_itself_is_not_asked_for_again(dialect: Dialect) -> None:
    """The output was in the conversation when the answer to the caller's turn began."""
    bench = Bench(dialect)
    bench.hear(created("r"), asks("r", "c"), done("r"), wire.SpeechStarted("u"))
    bench.protocol.answer("c", "rain", 0.0, failed=False)
    ([item], asked) = outputs(bench)
    assert asked == 0
    bench.hear(confirmed(item), *SPOKEN[1:], created("own"), voice("own", "i"), done("own"), now=1.0)
    bench.protocol.expire(30.0)
    assert bench.sent() == []


@BOTH
def test_what_came_after_the_answer_began_is_asked_for_when_that_is_over(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(confirmed("any"), created("r"), asks("r", "c"), done("r"))
    bench.protocol.answer("c", "rain", 0.0, failed=False)
    [output, request] = bench.sent()
    bench.hear(*SPOKEN, created("own"), now=0.1)  # and only then the item
    assert isinstance(output, wire.ItemCreate)
    bench.hear(confirmed(output.event_id), refused(bench, request), voice("own", "i"), now=0.2)
    assert bench.sent() == []
    bench.hear(done("own"), now=0.3)
    assert len(requests(bench)) == 1


@BOTH
def test_several_things_that_wait_are_answered_with_one_response(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), asks("r", "c1"), done("r"), created("r2"), asks("r2", "c2"), done("r2"), *SPOKEN[:1])
    bench.protocol.answer("c1", "rain", 0.0, failed=False)
    bench.protocol.answer("c2", "sun", 0.0, failed=False)
    bench.protocol.user_text("(The caller pressed 1.)", 0.0)
    bench.hear(*(confirmed(message.event_id) for message in bench.sent() if isinstance(message, wire.ItemCreate)))
    bench.hear(*SPOKEN[1:], now=1.0)
    bench.protocol.expire(2.0)
    assert len(requests(bench)) == 1
    bench.hear(created("all"), voice("all", "i"), done("all"), now=2.5)
    bench.protocol.expire(60.0)
    assert bench.sent() == []


@BOTH
def test_a_key_stops_what_was_asked_for(dialect: Dialect) -> None:
    """What begins of it is cancelled; what answers the key is heard."""
    bench = Bench(dialect)
    bench.protocol.say("Are you still there?", 0.0)
    bench.sent()
    bench.protocol.stop(0.1)
    bench.protocol.user_text("(The caller pressed 1.)", 0.1)
    assert bench.kinds() == ["create"]  # the item
    bench.hear(created("say"), done("say", "cancelled"), now=0.2)
    assert [type(message) for message in bench.sent()] == [wire.ResponseCancel, wire.ResponseCreate]
    assert bench.hear(created("key"), voice("key", "i"), done("key"), now=0.5) == [AgentTurnEnd()]


# Tools, once.


@BOTH
def test_a_call_that_is_told_again_and_again_is_run_once(dialect: Dialect) -> None:
    bench = Bench(dialect)
    call = {"type": "function_call", "call_id": "c", "name": "book", "arguments": "{}", "status": "completed"}
    end = over("r", "completed", output=[call])
    assert len(bench.hear(created("r"), asks("r", "c", "book"), asks("r", "c", "book"), end, end)) == 1
    bench.protocol.answer("c", "booked", 0.0, failed=False)
    assert outputs(bench) == (["answer_1_1"], 1)
    next_session = RealtimeProtocol(dialect, open_codec("pcmu", 24_000), bench.history, bench.history.begin_session())
    for message in (created("r2"), asks("r2", "c", "book"), done("r2")):
        next_session.take(message, 1.0)
    assert not next_session.events, "it is not run again"
    [output, _] = next_session.out
    assert isinstance(output, wire.ItemCreate)
    assert output.item["output"] == "booked", "but answered"


@BOTH
def test_a_call_that_is_at_work_when_the_next_session_asks_is_answered_when_it_is_done(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), asks("r", "c", "book"))
    next_session = RealtimeProtocol(dialect, open_codec("pcmu", 24_000), bench.history, bench.history.begin_session())
    for message in (created("r2"), asks("r2", "c", "book"), done("r2")):
        next_session.take(message, 1.0)
    assert not next_session.events
    next_session.answer("c", "booked", 2.0, failed=False)
    assert len(next_session.out) == 2


@BOTH
@pytest.mark.parametrize(
    "code", [{"code": "invalid_tool_call_id"}, {"message": "Tool call ID c not found in conversation"}], ids=str
)
@pytest.mark.parametrize("named", [True, False])
def test_a_call_whose_output_was_refused_is_not_run_again(dialect: Dialect, code: dict[str, str], named: bool) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), asks("r", "c", "book"), done("r"))
    bench.protocol.answer("c", "booked", 0.0, failed=False)
    ([item], _) = outputs(bench)
    assert bench.hear(wire.ServiceError({**code, "event_id": item if named else None})) == []
    assert bench.hear(created("r2"), asks("r2", "c2", "book"), done("r2")) == []
    ([_], asked) = outputs(bench)
    assert asked == 1
    bench.hear(created("r3"), voice("r3", "i"), done("r3"))
    assert len(bench.hear(created("r4"), asks("r4", "c3", "book"))) == 1, "now the caller wants it anew"


# No dead air.

USELESS: list[tuple[Sequence[wire.FromService], RetryKind]] = [
    ([over("r", "completed")], RetryKind.EMPTY),
    ([over("r", "?")], RetryKind.EMPTY),
    ([over("r", "completed", output=TEXT)], RetryKind.TEXT),
    ([wire.TextDone("r", "i"), over("r", "completed")], RetryKind.TEXT),
    ([over("r", "incomplete", "content_filter")], RetryKind.FILTERED),
    ([over("r", "incomplete", "max_output_tokens")], RetryKind.INCOMPLETE),
    ([over("r", "cancelled", "client_cancelled")], RetryKind.FAILED),
    ([done("r", "failed", type="server_error")], RetryKind.FAILED),
    ([voice("r", "i", 0.1), done("r", "failed", type="server_error")], RetryKind.FAILED),
    ([done("r", "failed", code="inference_rate_limit_exceeded")], RetryKind.LIMIT),
    ([wire.ResponseDone(wire.Response("r", "failed", "no room"))], RetryKind.FAILED),
]


@BOTH
@pytest.mark.parametrize(("ends", "kind"), USELESS, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_an_answer_without_a_voice_is_asked_for_again_but_not_for_ever(
    dialect: Dialect, ends: Sequence[wire.FromService], kind: RetryKind
) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN)
    now = 0.0
    for _ in range(3):
        [retry] = [event for event in bench.hear(created("r"), *ends, now=now) if isinstance(event, AgentRetry)]
        assert retry.kind is kind
        if bench.protocol.deadline < now + 2:
            now = bench.protocol.deadline  # a pause
        bench.protocol.expire(now)
        [request] = requests(bench)
        assert request.response == {"output_modalities": ["audio"]}
    told = [event for event in bench.hear(created("r"), *ends, now=now) if not isinstance(event, UserTurn)]
    assert [type(event) for event in told] == [AgentFault, AgentTurnEnd]
    bench.protocol.expire(now + 60)
    assert requests(bench) == []


@BOTH
def test_an_answer_that_is_written_is_taken_out_of_the_conversation(dialect: Dialect) -> None:
    """With it in there the agent would have nothing left to say."""
    bench = Bench(dialect)
    bench.hear(*SPOKEN, created("r"), wire.TextDone("r", "text"), done("r"))
    deleted, request = bench.sent()
    assert isinstance(deleted, wire.ItemDelete)
    assert deleted.item_id == "text"
    assert isinstance(request, wire.ResponseCreate)


@BOTH
def test_a_greeting_without_a_voice_is_said_again(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.protocol.say("Good evening.", 0.0)
    [first] = bench.sent()
    bench.hear(created("r"), done("r"))
    [second] = bench.sent()
    assert says(first)
    assert says(second)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 5.55s. Visit the page.", 5.55),
        ("Try again in 320ms.", 0.32),
        ("Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ("try again in 20 s", 20.0),
        ("please try again in 2 minutes", 120.0),
        ("try again in a moment", None),
        ("try again", None),
        ("", None),
    ],
)
def test_the_service_says_how_long_to_wait(text: str, seconds: float | None) -> None:
    assert told_pause(wire.Cause(message=text)) == seconds


@BOTH
def test_a_service_is_left_alone_for_as_long_as_it_wants(dialect: Dialect) -> None:
    bench = Bench(dialect)
    limit = done("r", "failed", code="rate_limit_exceeded", message="Please try again in 5.55s.")
    bench.hear(*SPOKEN, created("r"), limit)
    assert bench.protocol.deadline == 5.55
    bench.protocol.expire(5.5)
    assert bench.sent() == []
    bench.protocol.expire(5.55)
    assert len(requests(bench)) == 1


@BOTH
def test_a_service_that_wants_more_time_than_a_caller_has_is_told_at_once(dialect: Dialect) -> None:
    bench = Bench(dialect)
    limit = done("r", "failed", code="rate_limit_exceeded", message="Please try again in 4m0s.")
    told = bench.hear(*SPOKEN, created("r"), limit)
    assert [type(event) for event in told[1:]] == [AgentFault, AgentTurnEnd]


@BOTH
def test_a_request_without_an_answer_is_repeated_once_and_then_the_session_is_over(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.protocol.say("Good evening.", 0.0)
    bench.sent()
    assert bench.protocol.deadline == 10.0
    bench.protocol.expire(10.0)
    assert [says(message) for message in bench.sent()] == [True]
    [retry] = bench.hear()
    assert isinstance(retry, AgentRetry)
    assert retry.kind is RetryKind.NO_ANSWER
    bench.protocol.expire(19.9)
    assert (bench.sent(), bench.hear()) == ([], [])
    bench.protocol.expire(20.0)
    [end] = bench.hear()
    assert isinstance(end, SessionEnd)
    assert end.kind is SessionEndKind.LOST


@BOTH
def test_a_turn_that_the_service_does_not_answer_is_asked_for_and_then_the_session_is_over(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN, now=1.0)
    bench.protocol.expire(10.9)
    assert bench.sent() == []
    bench.protocol.expire(11.0)
    assert len(requests(bench)) == 1
    bench.protocol.expire(21.0)
    [*_, end] = bench.hear()
    assert isinstance(end, SessionEnd)


@BOTH
def test_a_response_of_which_nothing_comes_is_cancelled_and_asked_for_again(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN, created("r"), now=1.0)
    bench.protocol.expire(11.0)
    cancel, request = bench.sent()
    assert isinstance(cancel, wire.ResponseCancel)
    assert isinstance(request, wire.ResponseCreate)
    told = bench.hear(done("r", "cancelled"), created("r2"), voice("r2", "i"), done("r2"), now=12.0)
    assert told[-1] == AgentTurnEnd()
    bench.protocol.expire(60.0)
    assert bench.sent() == []


def test_a_turn_that_is_not_to_be_answered_is_not_asked_for() -> None:
    """With OPENAI_CREATE_RESPONSE off the agent speaks when it is asked to, and only then."""
    bench = Bench(answers=False)
    bench.hear(*SPOKEN)
    bench.protocol.expire(60.0)
    assert bench.sent() == []
    bench.protocol.user_text("(The caller pressed 1.)", 60.0)
    assert len(requests(bench)) == 1


# Ends and beginnings that do not come.


@BOTH
def test_a_response_whose_end_does_not_come_is_over_by_time(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "i", 1.0), now=1.0)
    bench.protocol.user_text("(The caller pressed 1.)", 2.0)
    assert bench.kinds() == ["create"]
    bench.protocol.expire(5.9)
    assert bench.sent() == []
    bench.protocol.expire(6.0)
    assert bench.hear() == [AgentTurnEnd()]
    assert len(requests(bench)) == 1


@BOTH
def test_a_response_ends_with_the_beginning_of_the_next(dialect: Dialect) -> None:
    bench = Bench(dialect)
    assert bench.hear(created("r"), voice("r", "i"), created("r2"), voice("r2", "j"), done("r2")) == [
        AgentTurnEnd(),
        AgentTurnEnd(),
    ]


@BOTH
def test_a_response_begins_with_what_comes_of_it(dialect: Dialect) -> None:
    """Its `response.created` is missing, or comes late; the answer is one, and nothing is asked for again."""
    bench = Bench(dialect)
    bench.hear(*SPOKEN, voice("r", "i"), created("r"), voice("r", "i"), done("r"), now=1.0)
    bench.hear(created("r"), now=1.5)  # once more
    bench.hear(*SPOKEN, voice("r2", "j"), done("r2"), created("r2"), now=9.0)
    bench.protocol.user_text("(The caller pressed 1.)", 20.0)
    assert bench.kinds() == ["create", "create"]


@BOTH
def test_a_voice_without_a_response_is_heard_and_ends(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN, wire.AudioDelta(bytes(800), None, "i"), wire.AudioDelta(bytes(800)), now=1.0)
    assert bench.hear(done("r"), now=1.5) == [AgentTurnEnd()]
    bench.protocol.expire(60.0)
    assert bench.sent() == []


@BOTH
def test_a_response_that_is_only_done_is_an_answer_without_a_voice(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN)
    [retry] = bench.hear(done("r"))
    assert isinstance(retry, AgentRetry)
    assert len(requests(bench)) == 1


@BOTH
def test_a_turn_without_its_item_is_told_when_it_is_answered_or_after_a_moment(dialect: Dialect) -> None:
    bench = Bench(dialect)
    assert bench.hear(*SPOKEN[:2], now=1.0) == []
    assert bench.hear(created("r"), voice("r", "i"), done("r"), now=1.5) == [UserTurn("", turn="u"), AgentTurnEnd()]
    assert bench.hear(wire.Committed("u"), wire.Committed("u"), now=1.6) == []
    bench.hear(wire.SpeechStarted("v"), wire.SpeechStopped("v"), now=5.0)
    bench.protocol.expire(6.0)
    assert bench.hear() == [UserTurn("", turn="v")]


@BOTH
def test_a_caller_of_whose_end_nothing_is_heard_has_stopped_some_time(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(wire.SpeechStarted("u"), now=1.0)
    bench.protocol.user_text("(The caller pressed 1.)", 2.0)
    bench.sent()
    bench.protocol.expire(31.0)
    assert bench.hear() == [UserTurn("", turn="u")]
    bench.protocol.expire(32.0)
    assert len(requests(bench)) == 1


@BOTH
def test_a_turn_that_nobody_said_had_begun_interrupts_all_the_same(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "i", 3.0))
    assert bench.hear(wire.Committed("u"), now=1.0) == [UserInterruption(), UserTurn("", turn="u")]
    assert bench.hear(done("r", "cancelled"), created("own"), voice("own", "j"), done("own"), now=1.1) == [
        AgentTurnEnd()
    ]


@BOTH
def test_a_response_that_the_service_cancelled_for_the_caller_is_an_interruption(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "i", 3.0))
    assert bench.hear(over("r", "cancelled", "turn_detected"), now=1.0) == [UserInterruption()]
    assert bench.protocol.caller_speaks


@BOTH
def test_an_answer_that_was_taken_for_one_over_the_callers_words_is_asked_for_again(dialect: Dialect) -> None:
    """Both ends of the turn are missing."""
    bench = Bench(dialect)
    bench.hear(wire.SpeechStarted("u"), created("own"), voice("own", "i"))
    *_, retry = bench.hear(done("own"))
    assert isinstance(retry, AgentRetry)
    assert retry.kind is RetryKind.UNHEARD
    deleted, request = bench.sent()
    assert isinstance(deleted, wire.ItemDelete), "nobody has heard it"
    assert isinstance(request, wire.ResponseCreate)


# A cancelled answer stops.


@BOTH
def test_what_comes_of_a_cancelled_answer_is_dropped_and_cut_at_what_was_heard(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "a", 1.0), now=0.0)
    assert bench.hear(wire.SpeechStarted("u"), now=5.0) == [], "it has been heard out"
    bench.protocol.take(voice("r", "a", 1.0), 5.1)
    bench.protocol.take(voice("r", "b", 1.0), 5.1)
    assert not bench.protocol.events
    bench.hear(done("r", "cancelled"), now=5.2)
    assert bench.sent() == [wire.Truncate("cut_1_1", "a", 1000), wire.ItemDelete("cut_1_2", "b")]
    bench.hear(done("r", "cancelled"), now=5.3)
    assert bench.sent() == []


@BOTH
def test_an_item_is_cut_once_though_more_of_it_comes(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "a", 2.0), wire.SpeechStarted("u"), now=0.0)
    bench.protocol.truncate(1.5)
    bench.hear(voice("r", "a"), done("r", "cancelled"), now=1.0)
    assert bench.sent() == [wire.Truncate("cut_1_1", "a", 500)]


@BOTH
def test_text_is_never_cut_and_a_voice_where_it_is_in_its_item(dialect: Dialect) -> None:
    bench = Bench(dialect)
    written = wire.Item(id="text", content=[{"type": "output_text", "text": "Good evening."}])
    second = wire.AudioDelta(b"\xff" * 8000, "r", "voice", 1)
    bench.hear(created("r"), wire.ItemAdded(written), voice("r", "text", 1.0), second, wire.SpeechStarted("u"), now=0.0)
    bench.protocol.truncate(1.5)
    assert bench.sent() == [wire.ItemDelete("cut_1_1", "voice")]
    assert bench.hear(wire.ServiceError({"code": "unsupported_content_type"})) == []
    bench.hear(*SPOKEN[1:], created("r2"), wire.AudioDelta(b"\xff" * 8000, "r2", "other", 1), wire.SpeechStarted("v"))
    bench.protocol.truncate(0.5)
    assert bench.sent() == [wire.Truncate("cut_1_2", "other", 500, 1)]


# Words.


@BOTH
def test_words_that_grow_are_told_once_as_they_are_in_the_end(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(wire.SpeechStarted("u"), wire.CallerWords("u", " Is "), now=0.0)
    bench.hear(wire.CallerWords("u", "Is doctor"), *SPOKEN[1:], now=0.5)
    bench.hear(wire.CallerWords("u", " Is doctor Silva "), now=0.7)
    bench.hear(wire.CallerWords("u", " "), wire.CallerWords("u", "Is doctor Silva in? "), now=0.9)
    bench.protocol.expire(1.2)
    assert bench.hear() == []
    bench.protocol.expire(1.3)
    assert bench.hear() == [UserWords("Is doctor Silva in?", "u")]
    bench.hear(wire.CallerWords("u", "Is doctor Silva in? Please."), now=2.0)
    bench.protocol.expire(9.0)
    assert bench.hear() == []
    assert next(bench.history.items())["content"][0]["text"] == "Is doctor Silva in? Please."


@BOTH
def test_words_that_stay_unfinished_are_told_all_the_same(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN, wire.CallerWords("u", "Hello", "in_progress"), now=0.0)
    bench.protocol.expire(3.0)
    assert bench.hear() == [UserWords("Hello", "u")]


@BOTH
def test_words_that_will_not_come_are_told_as_such(dialect: Dialect) -> None:
    bench = Bench(dialect)
    bench.hear(*SPOKEN)
    assert bench.hear(wire.NoCallerWords("u")) == [UserWords("", "u")]


@BOTH
@pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete"])
def test_what_was_heard_of_an_answer_is_told_however_it_ends(dialect: Dialect, status: str) -> None:
    bench = Bench(dialect)
    bench.hear(created("r"), voice("r", "i"), wire.WordsDelta(" One, ", "r", "i"), wire.WordsDelta("two ", "r", "i"))
    assert bench.hear(done("r", status))[0] == AgentText("r", "One, two")
    assert bench.hear(wire.WordsDone("One, two, three.", "r", "i")) == [], "once"
