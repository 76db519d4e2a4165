"""Whole calls in which the agent is not to be stopped easily: by nothing, by no cough, or not while it greets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.script import Speak, SpeakOver, Wait, WaitForAgent, WaitForSilence
from sts_trio.lab.harness.speech import SAMPLE, speech_from_wav, utterances
from sts_trio.lab.harness.wire import Interruption
from tests.call.fakes import tone
from tests.call.stage import WELCOME, open_stage

if TYPE_CHECKING:
    import trio.testing

    from sts_trio.lab.harness.report import CallReport
    from sts_trio.lab.harness.script import Step

FIRST, SECOND = utterances(speech_from_wav(SAMPLE))
COUGH = tone(0.2)
REALTIME = pytest.mark.parametrize("provider", ["openai", "xai"])


async def call(provider: str, *script: Step, **settings: Any) -> CallReport:
    async with open_stage(provider=provider, **settings) as stage:
        return await place_call("ws://sts.test/", script, dial=stage.wire.connect)


def interruptions(report: CallReport) -> int:
    return sum(isinstance(event.what, Interruption) for event in report.events)


GREETED_OVER = (WaitForAgent(), SpeakOver(FIRST, after=0.4), Wait(8.0))


@REALTIME
async def test_a_protected_greeting_is_heard_to_its_end_and_who_spoke_over_it_is_answered(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    report = await call(provider, *GREETED_OVER, greeting_interruptible=False)
    assert interruptions(report) == 0
    assert [transcript.role for transcript in report.transcripts] == ["agent", "user", "agent"], report.transcripts
    assert report.transcripts[0].text == WELCOME
    assert not report.errors


@REALTIME
async def test_a_greeting_that_is_not_protected_is_stopped(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    assert interruptions(await call(provider, *GREETED_OVER)) == 1


@REALTIME
@pytest.mark.parametrize(
    ("said", "least", "stops"),
    [(COUGH, 0, 1), (COUGH, 500, 0), (FIRST, 500, 1)],
    ids=["any sound", "a cough", "speech"],
)
async def test_so_much_speech_stops_the_agent(
    provider: str, said: bytes, least: int, stops: int, autojump_clock: trio.testing.MockClock
) -> None:
    script = (WaitForAgent(), WaitForSilence(0.5), Speak(SECOND * 2), WaitForAgent(), SpeakOver(said, after=0.6))
    report = await call(provider, *script, Wait(0.7), min_interruption_ms=least)
    assert interruptions(report) == stops
    over = [turn for turn in report.measures.turns if turn.over]
    assert all(turn.stop is not None and turn.stop < least / 1000 + 0.4 for turn in over[:stops])


async def test_an_agent_that_nothing_stops_speaks_on_and_answers_afterwards(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = (
        *(WaitForAgent(), WaitForSilence(0.5), Speak(SECOND), WaitForAgent()),
        *(SpeakOver(FIRST, after=0.3), Wait(8.0)),
    )
    report = await call("openai", *script, interrupt_response=False)
    assert interruptions(report) == 0
    assert [transcript.role for transcript in report.transcripts].count("agent") == 3
