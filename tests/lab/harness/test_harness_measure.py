"""The figures of a call, proved with lines whose figures are known."""

from __future__ import annotations

import pytest

from sts_trio.lab.harness.measures import answer_to, measure
from sts_trio.lab.harness.recording import Ear, Recording, Utterance
from tests.lab.harness.harness_parrot import silence, voice


def recorded(ear: Ear, *utterances: Utterance) -> Recording:
    return Recording(
        b"", ear.line, utterances, arrivals=tuple(ear.arrivals), cuts=tuple(ear.cuts), underruns=ear.underruns
    )


@pytest.mark.parametrize("delay", [0.0, 0.000125, 0.3333750, 0.8, 2.0])
def test_the_delay_of_an_answer_is_exact(delay: float) -> None:
    ear = Ear()
    ear.audio(0.25, voice(0.5))
    said = Utterance(2.0, silence(0.05) + voice(1.0) + silence(0.25), "said")
    ear.audio(3.05 + delay, voice(0.4))
    result = measure(recorded(ear, said))
    turn = result.turns[0]
    assert result.first_audio == 0.25
    assert turn.begin == pytest.approx(2.05)
    assert turn.end == pytest.approx(3.05)
    assert turn.response == pytest.approx(delay, abs=1e-9)
    assert turn.interrupted is turn.stop is None


def test_silent_audio_is_no_answer() -> None:
    ear = Ear()
    ear.audio(1.0, silence(0.5) + voice(0.4))
    result = measure(recorded(ear, Utterance(0.0, voice(1.0), "said")))
    assert result.turns[0].response == pytest.approx(0.5)
    assert result.first_audio == pytest.approx(1.5)


def test_an_answer_belongs_to_the_utterance_before_it() -> None:
    ear = Ear()
    ear.audio(4.5, voice(0.4))
    first, second = Utterance(0.0, voice(1.0), "first"), Utterance(3.0, voice(1.0), "second")
    result = measure(recorded(ear, first, second))
    assert [turn.response for turn in result.turns] == [None, pytest.approx(0.5)]


def test_an_agent_who_goes_on_talking_has_not_answered() -> None:
    ear = Ear()
    ear.audio(0.0, voice(3.0))
    assert measure(recorded(ear, Utterance(1.0, voice(1.0), "said"))).turns[0].response is None


def test_a_call_without_audio_has_no_figures() -> None:
    result = measure(recorded(Ear(), Utterance(0.0, bytes(3200), "nothing said")))
    assert result.first_audio is None
    assert result.turns[0].response is None
    assert result.stale_bytes == 0


def test_the_stop_of_a_barge_in_is_from_the_speech_to_the_silence() -> None:
    ear = Ear()
    ear.audio(0.0, voice(8.0))
    ear.interruption(2.83)
    turn = measure(recorded(ear, Utterance(1.9, silence(0.05) + voice(2.0), "over", over=True))).turns[0]
    assert turn.interrupted == 2.83
    assert turn.stop == pytest.approx(2.83 - 1.95)
    assert turn.stale_bytes == 0


def test_a_stale_frame_shows_and_lengthens_the_stop() -> None:
    ear = Ear()
    ear.audio(0.0, voice(8.0))
    ear.interruption(2.0)
    ear.audio(2.05, voice(0.02))
    ear.audio(2.9, voice(0.04))
    ear.audio(4.0, voice(0.5))  # the caller was silent by then: a new reply
    turn = measure(recorded(ear, Utterance(1.0, voice(2.0), "over", over=True))).turns[0]
    assert turn.stale_bytes == 320 + 640
    assert turn.stop == pytest.approx(1.07)
    assert turn.response == pytest.approx(1.0)


def test_a_stale_frame_shows_even_if_the_agent_paused_when_it_was_interrupted() -> None:
    ear = Ear()
    ear.audio(0.0, voice(1.0))
    ear.interruption(1.5)
    ear.audio(1.6, voice(0.02))
    turn = measure(recorded(ear, Utterance(0.5, voice(2.0), "over", over=True))).turns[0]
    assert turn.stop == pytest.approx(1.12)
    assert turn.stale_bytes == 320


def test_audio_before_the_interruption_at_the_same_moment_is_not_stale() -> None:
    ear = Ear()
    ear.audio(0.0, voice(1.0))
    ear.audio(0.5, voice(1.0))
    ear.interruption(0.5)
    assert measure(recorded(ear, Utterance(0.0, voice(2.0), "over", over=True))).stale_bytes == 0
    ear.audio(0.5, voice(0.02))
    assert measure(recorded(ear, Utterance(0.0, voice(2.0), "over", over=True))).stale_bytes == 320


def test_the_answer_is_what_was_heard_until_the_caller_spoke_again() -> None:
    ear = Ear()
    ear.audio(1.5, voice(1.0, seed=5))
    ear.audio(6.0, voice(1.0, seed=6))
    call = recorded(ear, Utterance(0.0, voice(1.0), "first"), Utterance(5.0, voice(0.5), "second"))
    assert answer_to(call, 0) == silence(0.5) + voice(1.0, seed=5) + silence(2.5)
    assert answer_to(call, 1) == silence(0.5) + voice(1.0, seed=6)
