"""What the service hears of a caller who speaks over the agent, where that is not to stop it easily."""

from __future__ import annotations

from math import inf

import pytest

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS, Wav, seconds
from sts_trio.providers.base import AgentAudio, AgentTurnEnd, UserInterruption
from sts_trio.providers.openai.barge_in import BargeInGate
from tests.call.fakes import tone

LOUD, QUIET = tone(FRAME_SECONDS), bytes(FRAME_BYTES)


def voice(length: float) -> AgentAudio:
    return AgentAudio("r", Wav(8000, 1, memoryview(bytes(round(length * 8000) * 2))))


class Line:
    """A caller's line before a gate, frame by frame; `told` is what the service has heard, `now` the time."""

    def __init__(self, least: float = 0.0, *, protected: bool = False) -> None:
        self.now = 100.0
        self.gate = BargeInGate(least, self.now, protected=protected)
        self.told = b""
        self.in_turn = False

    def hear(self, length: float, frame: bytes = QUIET) -> float:
        """Let so much of the caller pass; return how many seconds of audio the service was told meanwhile."""
        before = len(self.told)
        for _ in range(round(length / FRAME_SECONDS)):
            self.told += self.gate.feed(frame, self.now, in_turn=self.in_turn)
            self.now += FRAME_SECONDS
        return seconds(len(self.told) - before)

    def speak(self, length: float) -> float:
        return self.hear(length, LOUD)

    def agent(self, length: float) -> None:
        """The agent says so much, at once."""
        self.gate.agent(voice(length), self.now)
        self.gate.agent(AgentTurnEnd(), self.now)


# The greeting that is heard to its end.


def test_what_is_said_over_a_protected_greeting_is_told_when_it_has_been_heard() -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    assert line.hear(0.4) == 0
    line.agent(3.0)
    assert line.speak(1.0) == 0
    assert line.hear(2.0) == 0
    assert line.hear(0.4) == pytest.approx(0.4 + 1.0 + 2.0 + 0.4), "all of it, and then each frame as it comes"
    assert line.told.count(LOUD) == 50
    assert line.speak(0.2) == pytest.approx(0.2)
    line.agent(3.0)
    assert line.speak(0.2) == pytest.approx(0.2), "only the greeting is protected"


def test_where_nobody_spoke_over_the_greeting_its_silence_is_not_told() -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    line.agent(5.0)
    assert line.hear(5.1) == 0
    assert line.hear(0.2) <= 0.5


def test_a_call_without_a_greeting_is_heard_after_half_a_second() -> None:
    line = Line(protected=True)
    line.speak(0.4)
    assert not line.told
    line.speak(0.2)
    assert seconds(len(line.told)) == pytest.approx(0.6)


@pytest.mark.parametrize("voiced", [False, True], ids=["no voice comes", "it never ends"])
def test_a_greeting_that_fails_does_not_shut_the_caller_out_for_ever(*, voiced: bool) -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    if voiced:
        line.gate.agent(voice(1.0), line.now)
    assert line.speak(9.9) == 0
    assert line.speak(1.5) == pytest.approx(11.4)


def test_a_greeting_that_is_over_without_a_sound_is_over() -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    line.gate.agent(AgentTurnEnd(), line.now)
    assert line.speak(0.02) == pytest.approx(0.02)


def test_a_key_stops_a_protected_greeting() -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    line.agent(5.0)
    line.speak(0.5)
    line.gate.stopped()
    assert line.speak(0.1) == pytest.approx(0.6)


def test_a_line_that_falls_silent_is_told_by_time() -> None:
    line = Line(protected=True)
    line.gate.greeting_asked(line.now)
    line.agent(2.0)
    line.speak(1.0)
    due = line.gate.deadline
    assert due == pytest.approx(102.2)
    assert line.gate.release(due - 0.1) == b""
    assert seconds(len(line.gate.release(due))) == pytest.approx(1.0)
    assert line.gate.deadline == inf


def test_a_prompt_that_is_said_later_is_no_greeting() -> None:
    line = Line(protected=True)
    line.hear(1.0)
    line.gate.greeting_asked(line.now)
    line.agent(3.0)
    assert line.speak(0.5) == pytest.approx(0.5)


# The least length of an interruption.


def test_a_cough_does_not_reach_the_service_while_the_agent_speaks_and_speech_does() -> None:
    line = Line(0.5)
    line.agent(10.0)
    line.hear(1.0)
    line.speak(0.3)
    line.hear(1.0)
    line.speak(0.3)
    assert not line.told, "two coughs are no speech"
    line.hear(1.0)
    line.speak(0.48)
    assert not line.told
    line.speak(0.04)
    assert seconds(len(line.told)) == pytest.approx(0.3 + 0.5 + 0.02), "from a little before the first word on"
    assert line.told.count(LOUD) == 26
    assert line.speak(1.0) == pytest.approx(1.0)


def test_pauses_between_words_do_not_make_one_who_speaks_wait() -> None:
    line = Line(0.5)
    line.agent(10.0)
    for _ in range(3):
        line.speak(0.2)
        line.hear(0.2)
    assert line.told.count(LOUD) == 30


def test_who_has_stopped_and_coughs_again_is_not_heard_again() -> None:
    line = Line(0.5)
    line.agent(10.0)
    line.speak(1.0)
    line.hear(1.0)
    assert line.speak(0.3) == 0


def test_what_was_too_short_is_told_when_the_agent_has_finished() -> None:
    line = Line(0.5)
    line.agent(2.0)
    line.speak(0.3)
    assert line.hear(1.8) == 0
    assert line.hear(0.2) == pytest.approx(2.3)
    assert line.told.count(LOUD) == 15


def test_all_is_heard_while_the_agent_is_silent_or_has_been_interrupted() -> None:
    line = Line(0.5)
    assert line.speak(0.1) == pytest.approx(0.1)
    line.agent(10.0)
    assert line.speak(0.1) == 0
    line.gate.agent(UserInterruption(), line.now)
    assert line.speak(0.1) == pytest.approx(0.2)


def test_a_turn_that_the_service_already_listens_to_is_not_cut_off() -> None:
    line = Line(inf)
    line.in_turn = True
    line.agent(5.0)
    assert line.speak(0.5) == pytest.approx(0.5)
    line.in_turn = False
    assert line.speak(0.5) == 0


def test_an_agent_that_nothing_stops_is_heard_to_the_end_and_then_hears_the_caller() -> None:
    line = Line(inf)
    line.agent(5.0)
    assert line.speak(5.1) == 0
    assert line.speak(0.4) == pytest.approx(5.5)


def test_no_more_than_half_a_minute_waits_and_it_is_the_newest() -> None:
    line = Line(inf)
    line.agent(100.0)
    line.speak(90.0)
    line.hear(10.1)
    assert 30.0 <= line.hear(0.8) <= 32.0
    assert line.told.endswith(QUIET * 500)


def test_no_more_than_a_second_is_told_at_once() -> None:
    """To resample more takes the turns of other calls."""
    line = Line(inf)
    line.agent(20.0)
    line.speak(20.2)
    told = [len(line.told)]
    for _ in range(25):
        line.speak(0.02)
        told.append(len(line.told) - sum(told))
    assert max(told) == 16_000
    assert told[-1] == FRAME_BYTES, "it has caught up"
    assert line.told == LOUD * (len(line.told) // FRAME_BYTES)
