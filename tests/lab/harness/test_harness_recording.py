"""The telephone's ear: what is heard when, and the recording of it."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.harness.recording import Arrival, Ear, Recording, stereo_wav
from tests.lab.harness.harness_parrot import voice


def loud(seconds: float, value: int = 1000) -> bytes:
    return np.full(round(seconds * 8000), value, dtype="<i2").tobytes()


def test_audio_that_comes_faster_than_real_time_plays_in_order_without_a_hole() -> None:
    ear = Ear()
    ear.audio(0.5, loud(1.0, 111))
    ear.audio(0.5, loud(1.0, 222))
    ear.audio(0.6, loud(1.0, 333))
    assert ear.line == bytes(8000) + loud(1.0, 111) + loud(1.0, 222) + loud(1.0, 333)
    assert ear.underruns == 0


def test_late_audio_leaves_a_hole_of_exactly_its_lateness() -> None:
    ear = Ear()
    ear.audio(0.0, loud(0.02))
    ear.audio(0.03, loud(0.02))
    assert ear.line == loud(0.02) + bytes(160) + loud(0.02)
    assert ear.underruns == 1


def test_an_interruption_empties_the_queue_to_the_sample() -> None:
    ear = Ear()
    ear.audio(0.0, loud(2.0))
    assert ear.interruption(0.75).dropped == round(1.25 * 16000)
    assert ear.line == loud(0.75)
    ear.audio(1.0, loud(0.5, 5))
    assert ear.line == loud(0.75) + bytes(4000) + loud(0.5, 5)
    assert ear.interruption(9.0).dropped == 0


def test_what_was_queued_when_the_caller_hung_up_was_not_heard() -> None:
    ear = Ear()
    ear.audio(0.0, loud(2.0))
    ear.hang_up(1.5)
    assert ear.line == loud(1.5)
    assert ear.cuts == []


def test_the_ear_knows_for_how_long_the_agent_speaks_or_is_silent() -> None:
    ear = Ear()
    assert ear.heard_for(1.0) == 0.0
    assert ear.quiet_for(1.0) == 1.0
    assert ear.audio(1.0, loud(1.0))
    assert not ear.audio(1.0, bytes(3200) + loud(1.0))  # 0.2 s are a pause between words
    assert ear.heard_for(2.1) == pytest.approx(1.1)
    assert ear.quiet_for(3.0) == pytest.approx(-0.2)  # 0.2 s are still queued
    assert ear.heard_for(3.3) == 0.0
    assert ear.quiet_for(3.7) == pytest.approx(0.5)
    assert not ear.audio(4.0, bytes(16000))  # a connector that fills silence says nothing
    assert ear.quiet_for(4.2) == pytest.approx(1.0)
    assert ear.audio(5.0, loud(1.0))


def test_an_interruption_ends_the_speech_that_is_queued() -> None:
    ear = Ear()
    ear.audio(0.0, loud(1.0) + bytes(16000) + loud(1.0))
    ear.interruption(0.5)
    assert ear.heard_for(0.5) == 0.0
    assert ear.quiet_for(1.0) == pytest.approx(0.5)


def test_a_flood_of_audio_is_dropped_and_counted() -> None:
    ear = Ear()
    for _ in range(130):
        ear.audio(0.0, loud(1.0))
    assert len(ear.line) == 120 * 16000
    assert ear.overflow == 10 * 16000


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.one_of(st.none(), st.integers(1, 40))),
        max_size=20,
    )
)
def test_the_line_is_that_of_a_fifo_played_frame_by_frame(script: list[tuple[int, int | None]]) -> None:
    """Against the plainest model: a list as queue, one frame popped each 20 ms."""
    ear, tick, value = Ear(), 0, 0
    queue: list[int] = []
    line: list[int] = []
    for pause, frames in script:
        line += (queue + [0] * pause)[:pause]
        del queue[:pause]
        tick += pause
        if frames is None:
            queue.clear()
            ear.interruption(tick * 0.02)
        else:
            value += 1
            queue += [value] * frames
            ear.audio(tick * 0.02, np.full(frames * 160, value, dtype="<i2").tobytes())
    line += queue
    heard = np.frombuffer(ear.line, dtype="<i2")[::160].tolist()
    assert heard == line[: len(heard)]
    assert not any(line[len(heard) :])


def test_the_stereo_file_has_the_caller_left_and_the_agent_right() -> None:
    caller, agent = voice(0.5, seed=1), voice(0.3, seed=2)
    made = stereo_wav(Recording(caller, agent, arrivals=(Arrival(0.0, 2),)))
    with wave.open(io.BytesIO(made)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        both = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert both[:, 0].tobytes() == caller
    assert both[:, 1].tobytes() == agent + bytes(len(caller) - len(agent))
