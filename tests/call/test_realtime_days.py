"""The fault matrix of the Realtime services' bad days: what a caller hears of each (docs/protocols/realtime.md 10).

Each row is a call that lives through one of them: a greeting, a question in voice, one by the keypad. `pytest -s`
prints what became of it. What any service may do wrong at any moment is in `test_fault_matrix`, what tools and an
interruption make of such days in `test_realtime_tools`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sts_trio.lab.emulator import (
    CloseWith,
    Cut,
    EmulatorOptions,
    LateEvents,
    MissingEvents,
    OddFields,
    OddResponses,
    RefusedTranscription,
    SendError,
    SlowAnswers,
    Transcripts,
)
from tests.call.realtime_line import (
    ANSWER,
    BOTH,
    GREETING,
    KEYED,
    KEYS,
    SAID,
    TURN_OVER,
    Line,
)
from tests.call.stage import KEY, open_stage

if TYPE_CHECKING:
    import trio.testing
    from _pytest.mark import ParameterSet

CREATED = MissingEvents(event="session.created")


@dataclass(frozen=True)
class Row:
    """A day: what happens, and what becomes of the call.

    `sessions`: how many it takes. `within`: when the answer is heard, in seconds from the turn's end. `words`: what is
    told of the caller's. `answers`: what may be said in answer, `most` times.
    """

    name: str
    faults: tuple[Any, ...]
    sessions: int = 1
    within: tuple[float, float] = (0.0, 1.0)
    words: tuple[str, ...] = (SAID,)
    refused: tuple[str, ...] = ()
    answers: tuple[str, ...] = (ANSWER,)
    most: int = 1
    providers: tuple[str, ...] = BOTH


def answer(how: Any, **fields: Any) -> tuple[OddResponses]:
    """The answer to what the caller says comes out so."""
    return (OddResponses(how=how, at="user_speaking", **fields),)


def keyed(how: Any, **fields: Any) -> tuple[OddResponses]:
    """The answer to what the caller keys comes out so."""
    return (OddResponses(how=how, after=KEYS - 2, **fields),)


def missing(event: Any) -> tuple[MissingEvents]:
    """One is, as the caller speaks or afterwards."""
    return (MissingEvents(event=event, at="user_speaking", count=1),)


def late(event: Any, by: float) -> tuple[LateEvents]:
    """All of a type are."""
    return (LateEvents(event=event, by=by),)


SLOW = SlowAnswers(connections=0)
# What is going on may have to be said from its beginning, or just be gone on with.
GONE_ON = (ANSWER, "As I was saying.")

DAYS = [
    Row("a good day", ()),
    # Responses that come to nothing.
    Row("failed", answer("failed"), within=(0.0, 2.0)),
    Row("failed twice", answer("failed", count=2), within=(0.0, 3.0)),
    Row("failed in mid-sentence", answer("failed", said=0.5), answers=(ANSWER, f"{ANSWER} {ANSWER}"), most=2),
    Row("rate limited", answer("rate_limited"), within=(5.4, 7.5)),
    Row("incomplete", answer("incomplete"), within=(0.0, 3.0)),
    Row("filtered", answer("filtered"), within=(0.0, 3.0)),
    Row("empty", answer("empty"), within=(0.0, 3.0)),
    Row("text only", answer("text"), within=(0.0, 3.0)),
    Row("no answer", answer("unanswered"), within=(1.0, 5.0)),
    Row("greeting failed", (OddResponses(),), providers=("openai",)),
    Row("forced greeting failed", (OddResponses(),), providers=("xai",)),
    Row("greeting rate limited", (OddResponses(how="rate_limited"),)),
    Row("greeting empty", (OddResponses(how="empty"),)),
    Row("greeting in text", (OddResponses(how="text"),)),
    Row("greeting unanswered", (OddResponses(how="unanswered"),)),
    Row("greeting unanswered twice", (OddResponses(how="unanswered", count=2, connections=0),), sessions=2),
    Row("keys failed", keyed("failed")),
    Row("keys empty", keyed("empty")),
    Row("keys unanswered", keyed("unanswered", asked=True)),
    Row("slow answers", (SlowAnswers(),), within=(0.9, 1.2)),
    # Events that are missing, or late.
    Row("no session.created", (CREATED,)),
    Row(
        "neither session.created nor conversation.created",
        (CREATED, MissingEvents(event="conversation.created")),
        providers=("xai",),
    ),
    *(
        Row(f"no {event}", missing(event))
        for event in (
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "response.created",
            "response.output_item.added",
            "response.output_audio_transcript.delta",
            "response.output_audio_transcript.done",
            "response.done",
        )
    ),
    *(
        Row(f"{event} late by {by:g} s", late(event, by))
        for event in ("input_audio_buffer.speech_stopped", "response.created", "response.done")
        for by in (0.05, 2.0)
    ),
    # What the caller said.
    Row("growing transcripts", (Transcripts(),), words=(f"I spoke for {SAID}",)),
    Row("transcripts twice", (Transcripts(how="twice"),)),
    Row("untrimmed transcripts", (Transcripts(how="untrimmed"),)),
    Row("blank transcripts", (Transcripts(how="blank"),), words=()),
    Row("early transcripts", (Transcripts(how="early"),)),
    Row("late transcripts", (Transcripts(how="late"),)),
    Row("failed transcripts", (Transcripts(how="failed"),), words=()),
    Row("no transcripts", (Transcripts(how="missing"),), words=()),
    Row("no transcription model", (RefusedTranscription(),), words=(), refused=("invalid_value",)),
    # Fields.
    *(Row(how, (OddFields(how=how),)) for how in ("usage_floats", "ids_numbers", "status_details_text")),
    # Ends of sessions: in a quiet moment, and the worst ones.
    *(
        Row(f"close {code}", (CloseWith(code=code, at="ready", after=5.0, connections=0),), sessions=2)
        for code in (1000, 1008, 1011, 1012, 4000, 4321)
    ),
    *(
        Row(
            f"server_error, close {code}",
            (SendError(code="x", slug="server_error", close=code, at="ready", after=5.0, connections=0),),
            sessions=2,
        )
        for code in (1000, 1008, 1011, 4321)
    ),
    Row("cut before the greeting", (Cut(at="ready", connections=0),), sessions=2),
    Row(
        "close 1000 before the greeting",
        (CloseWith(code=1000, at="ready", connections=0),),
        sessions=2,
    ),
    Row(
        "cut between question and answer",
        (SLOW, Cut(at="turn_over", after=0.6, connections=0)),
        sessions=2,
        within=(0.0, 2.0),
    ),
    Row(
        "close 1000 between question and answer",
        (SLOW, CloseWith(code=1000, at="turn_over", after=0.6, connections=0)),
        sessions=2,
        within=(0.0, 2.0),
    ),
    Row(
        "cut as the question ends, and its words are unknown",
        (SLOW, Cut(at="turn_over", after=0.1, connections=0)),
        sessions=2,
    ),
    Row(
        "cut in mid-answer",
        (Cut(at="agent_speaking", nth=2, after=0.15, connections=0),),
        sessions=2,
        words=(),  # they are written down later
        answers=GONE_ON,
        most=2,
    ),
]


def as_parameters(provider: str, row: Row) -> ParameterSet:
    """Name a row, and mark it: xAI repeats what OpenAI shows, but for what xAI alone does."""
    marks: list[Any] = []
    if provider == "xai" and row.providers == BOTH and row.name not in OFTEN:
        marks.append(pytest.mark.matrix)
    return pytest.param(provider, row, marks=marks, id=f"{provider}-{row.name}")


OFTEN = {"a good day", "growing transcripts", "no session.created", "cut between question and answer"}
ROWS = [as_parameters(provider, row) for row in DAYS for provider in row.providers]


@pytest.mark.parametrize(("provider", "row"), ROWS)
async def test_a_call_lives_through_the_day(provider: str, row: Row, autojump_clock: trio.testing.MockClock) -> None:
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=row.faults, inactivity=600)
    own: dict[str, Any] = {"welcome_message": GREETING, "answer_seconds": 2.0}
    async with open_stage(provider=provider, emulator=options, **own) as stage:
        line = Line(await stage.call())
        await line.live()
        agent, said = line.said("agent"), [words for words in line.said("user") if words != KEYED[10:]]
        heard = line.sound(TURN_OVER) - TURN_OVER
        sessions = len(stage.emulator.sessions)
        print(f"{provider} {row.name}: {sessions} sessions, {heard:.2f} s, {agent}, {said}, {line.code}")
        assert line.code is None, "the call has ended"
        assert "error" not in line.kinds()
        assert agent.count(GREETING) == 1, f"greeted {agent.count(GREETING)} times"
        answers = [words for words in agent if words not in (GREETING, KEYED)]
        assert set(answers) <= set(row.answers)
        assert 1 <= len(answers) <= row.most, "the question was not answered once"
        assert agent.count(KEYED) == 1, "the keys were not answered once"
        assert row.within[0] <= heard <= row.within[1]
        assert said == list(row.words)
        assert sessions == row.sessions
        assert "interruption" not in line.kinds()
        for session in stage.emulator.sessions:
            assert tuple(session.realtime.refused) == row.refused


# What is told of a session before it is closed, and no other would be better.
FOR_GOOD = ("insufficient_quota", "invalid_api_key", "account_deactivated")


@pytest.mark.parametrize("provider", ["openai", pytest.param("xai", marks=pytest.mark.matrix)])
@pytest.mark.parametrize("code", FOR_GOOD)
@pytest.mark.parametrize("close", [1000, 1008, 1013, 4321])
async def test_an_error_that_says_why_not_ends_the_call(
    provider: str, code: str, close: int, autojump_clock: trio.testing.MockClock
) -> None:
    fault = SendError(code=code, slug="invalid_request_error", close=close, at="ready", after=5.0)
    options = EmulatorOptions(service=provider, api_keys=frozenset({KEY}), seed=1, faults=(fault,), inactivity=600)
    async with open_stage(provider=provider, emulator=options, welcome_message=GREETING) as stage:
        line = Line(await stage.call())
        await line.live(ends=12.0)
        assert (line.code, len(stage.emulator.sessions)) == (1011, 1)
        assert line.kinds().count("error") == 1
