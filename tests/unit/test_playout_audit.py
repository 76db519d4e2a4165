"""What is measured when audio leaves: stale frames, the answer's first audio, how fast a barge-in is told."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import Wav
from sts_trio.call.actions import Deadline
from sts_trio.call.meter import CallCounts
from sts_trio.call.playout import Pace, Playout
from sts_trio.call.speech import AgentSpeech, AgentTurn
from sts_trio.core.wire import Interruption, PlayoutAudio
from tests.unit.conversation import Measured, due

if TYPE_CHECKING:
    from sts_trio.core.wire import ToCore


class Line:
    """An agent that speaks into a playout, and a Core that takes what is due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.meter = Measured()
        self.playout = Playout(Pace(0.5), CallCounts(), self.meter)
        self.counts = self.playout.counts
        self.speech = AgentSpeech(self.playout, dict.fromkeys(Deadline, inf))
        self.heard: list[ToCore] = []

    def say(self, reply: str, length: float = 0.1) -> None:
        self.speech.audio(reply, Wav(8000, 1, memoryview(bytes(round(length * 8000) * 2))), self.now)

    def listen(self, writing: float = 0.0) -> None:
        """Take all that is due; each message needs `writing` seconds."""
        message = self.playout.take(self.now)
        while message is not None:
            self.now += writing
            self.heard.append(message)
            message = self.playout.after(message, self.now)

    def wait(self, length: float) -> None:
        until = self.now + length
        while self.now < until - 1e-9:
            self.listen()
            self.now = min(until, max(self.now + 0.001, due(self.playout)))
        self.listen()

    def barge_in(self) -> None:
        self.speech.barge_in(self.now)


def test_a_conversation_with_barge_ins_sends_nothing_stale() -> None:
    line = Line()
    for turn in range(5):
        for _ in range(30):
            line.say(f"r{turn}")
        line.wait(1.0)
        line.barge_in()
        line.say(f"r{turn}")
        line.wait(1.0)
    assert line.counts.interruptions == 5
    assert line.counts.stale_chunks == 5
    assert line.counts.stale_frames_sent == 0
    written = sum(len(each.audio) for each in line.heard if isinstance(each, PlayoutAudio))
    assert line.counts.written_seconds == pytest.approx(written / 16_000)
    assert written > 5 * 16_000


def test_late_audio_that_is_let_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentTurn, "admits", lambda self, *_, **__: True)
    line = Line()
    line.say("a", 1.0)
    line.wait(0.2)
    line.barge_in()
    line.say("a", 0.1)
    line.wait(1.0)
    assert line.counts.stale_frames_sent == 5
    line.say("b", 1.0)
    line.wait(2.0)
    assert line.counts.stale_frames_sent == 5, "a new reply is not stale"


@pytest.mark.parametrize("reply", ["a", ""])
def test_audio_that_is_not_taken_back_is_seen(monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    monkeypatch.setattr(Playout, "clear", lambda self, now: None)
    line = Line()
    line.say(reply, 2.0)
    line.wait(0.5)
    already = len(line.heard)
    line.barge_in()
    line.wait(3.0)
    assert isinstance(line.heard[already], Interruption)
    stale = sum(len(each.audio) for each in line.heard[already:] if isinstance(each, PlayoutAudio))
    assert line.counts.stale_frames_sent == stale // 320 > 40


def test_stale_audio_of_several_replies_in_one_message_is_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playout, "clear", lambda self, now: None)
    line = Line()
    line.say("a", 0.05)
    line.say("b", 0.05)
    line.barge_in()
    line.wait(0.5)
    assert line.counts.stale_frames_sent == 5


def test_a_frame_that_is_stale_in_part_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentTurn, "admits", lambda self, *_, **__: True)
    line = Line()
    line.say("a", 0.02)
    line.barge_in()
    line.say("a", 0.03)
    line.say("b", 0.01)
    line.listen()
    assert line.counts.stale_frames_sent == 2


def test_each_barge_in_makes_what_came_before_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playout, "clear", lambda self, now: None)
    line = Line()
    line.barge_in()
    line.say("", 0.1)
    line.barge_in()
    line.listen()
    assert line.counts.stale_frames_sent == 5


def test_audio_under_way_when_the_caller_speaks_is_not_stale() -> None:
    line = Line()
    line.say("a", 1.0)
    message = line.playout.take(line.now)
    assert message is not None
    line.barge_in()
    line.playout.sent(message, line.now)
    line.wait(2.0)
    assert line.counts.stale_frames_sent == 0


def test_the_answer_is_timed_from_the_end_of_the_turn_to_its_first_audio_written() -> None:
    line = Line()
    line.playout.audit.user_turn(line.now)
    line.wait(0.7)
    line.say("a", 1.0)
    line.listen(writing=0.01)
    line.wait(2.0)
    assert line.meter.answers == [710]


def test_what_was_queued_or_begun_before_the_turn_ended_is_no_answer() -> None:
    line = Line()
    line.say("a", 3.0)
    line.wait(0.1)
    line.playout.audit.user_turn(line.now)
    line.say("a", 0.5)
    line.wait(5.0)
    assert line.meter.answers == []
    line.say("b", 0.5)
    line.wait(1.0)
    assert line.meter.answers == [5000]


def test_what_is_left_of_the_answer_before_is_no_answer() -> None:
    line = Line()
    line.playout.audit.user_turn(line.now)
    line.say("a", 3.0)
    line.wait(0.1)
    line.playout.audit.user_turn(line.now)
    line.wait(5.0)
    assert line.meter.answers == [0]


def test_the_silence_that_fills_the_last_frame_is_no_answer() -> None:
    line = Line()
    line.say("a", 0.03)
    line.playout.audit.user_turn(line.now)
    line.speech.turn_end(line.now)
    line.wait(1.0)
    assert line.counts.written_seconds == 0.04
    assert line.meter.answers == []


def test_a_chunk_without_a_sample_is_no_answer() -> None:
    line = Line()
    line.say("a", 0.1)
    line.playout.audit.user_turn(line.now)
    line.say("b", 0.0)
    line.say("a", 0.1)
    line.wait(1.0)
    assert line.meter.answers == []


def test_of_two_turns_before_an_answer_the_second_counts() -> None:
    line = Line()
    line.playout.audit.user_turn(line.now)
    line.wait(2.0)
    line.playout.audit.user_turn(line.now)
    line.wait(0.3)
    line.say("", 0.5)
    line.wait(1.0)
    assert line.meter.answers == [300]


def test_a_turn_that_ends_while_an_answer_is_written_has_its_own() -> None:
    line = Line()
    line.playout.audit.user_turn(line.now)
    line.now += 0.2
    line.say("a", 0.1)
    message = line.playout.take(line.now)
    assert message is not None
    line.now += 0.4  # a slow reader
    line.playout.audit.user_turn(line.now)
    line.playout.sent(message, line.now)
    line.now += 0.3
    line.say("b", 0.1)
    line.listen()
    assert line.meter.answers == [600, 300]


def test_a_barge_in_is_timed_until_core_is_told() -> None:
    line = Line()
    line.say("a", 1.0)
    line.listen()
    line.barge_in()
    line.listen(writing=0.02)
    line.barge_in()  # Core knows already
    line.wait(1.0)
    assert line.meter.stops == [20]
    line.say("b", 1.0)
    line.listen()
    line.barge_in()
    line.listen(writing=0.005)
    assert line.meter.stops == [20, 5]


def test_of_two_barge_ins_that_core_has_not_heard_of_the_first_counts() -> None:
    line = Line()
    for _ in range(2):
        line.say("", 1.0)
        line.barge_in()
        line.now += 0.1
    line.listen()
    assert line.meter.stops == [200]


def test_a_provider_that_changes_the_reply_all_the_time_costs_no_more() -> None:
    line = Line()
    for number in range(20_000):
        line.playout.push(bytes(2), f"r{number}")
    assert len(line.playout.audit._parts) == 1000
    assert sum(part.size for part in line.playout.audit._parts) == 40_000


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.sampled_from(["a", "b", "c", ""]), st.integers(0, 3000)),
            st.tuples(st.sampled_from(["barge in", "user turn", "turn end", "wait"]), st.just(""), st.integers(1, 900)),
        ),
        max_size=40,
    )
)
def test_the_trail_always_knows_as_many_bytes_as_the_playout_holds(steps: list[tuple[str, str, int]]) -> None:
    line = Line()
    for what, reply, size in steps:
        match what:
            case "say":
                line.say(reply, size / 8000)
            case "barge in":
                line.barge_in()
            case "user turn":
                line.playout.audit.user_turn(line.now)
            case "turn end":
                line.speech.turn_end(line.now)
            case "wait":
                line.wait(size / 1000)
        assert sum(part.size for part in line.playout.audit._parts) == line.playout._audio.size
        assert line.counts.stale_frames_sent == 0
    most = line.counts.downstream_seconds + 0.02 * len(steps)  # with silence that fills last frames
    assert line.counts.downstream_peak_seconds <= most
    assert line.counts.written_seconds <= most
