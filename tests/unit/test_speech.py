"""What the agent says: told when it has been heard, and how much of it when it was not."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.wav import Wav
from sts_trio.call.actions import Deadline, Deadlines
from sts_trio.call.meter import CallCounts
from sts_trio.call.playout import Pace, Playout
from sts_trio.call.speech import AgentSpeech, AgentTurn
from sts_trio.core.wire import Interruption, PlayoutAudio, Transcript


class Stage:
    """A speech and its playout, with a Core that listens while time passes."""

    def __init__(self) -> None:
        self.now = 50.0
        self.playout = Playout(Pace(0.5), CallCounts())
        self.counts = self.playout.counts
        self.deadlines: Deadlines = dict.fromkeys(Deadline, inf)
        self.speech = AgentSpeech(self.playout, self.deadlines)
        self.told: list[tuple[float, object]] = []
        self.began = self.now

    def say(self, reply: str, text: str, length: float) -> None:
        self.speech.text(reply, text, self.now)
        wav = Wav(8000, 1, memoryview(bytes(round(length * 8000) * 2)))
        self.speech.audio(reply, wav, self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.listen()
            self.now = min(until, max(self.now + 0.001, min(self.playout.due(), self.deadlines[Deadline.SPEECH])))
        self.listen()

    def listen(self) -> None:
        if self.deadlines[Deadline.SPEECH] <= self.now:
            self.speech.expire(self.now)
            assert self.deadlines[Deadline.SPEECH] > self.now, "an alarm that rings for ever"
        while (message := self.playout.take(self.now)) is not None:
            self.playout.sent(message, self.now)
            if not isinstance(message, PlayoutAudio):
                self.told.append((round(self.now - self.began, 2), message))


def test_a_turn_is_told_when_the_caller_has_heard_it() -> None:
    s = Stage()
    s.say("a", "Good morning.", 2.0)
    s.speech.turn_end(s.now)
    s.wait(1.9)
    assert s.told == []
    s.wait(0.2)
    assert s.told == [(2.0, Transcript("agent", "Good morning."))]
    assert s.deadlines[Deadline.SPEECH] == inf
    assert s.counts.agent_turns == 1


def test_turns_that_come_faster_than_they_are_heard_are_told_one_by_one() -> None:
    s = Stage()
    for number in range(1, 4):
        s.say(f"r{number}", f"Number {number}.", 1.0)
        s.speech.turn_end(s.now)
    s.wait(5)
    assert s.told == [(float(number), Transcript("agent", f"Number {number}.")) for number in range(1, 4)]


def test_a_barge_in_says_of_each_turn_how_much_was_heard() -> None:
    s = Stage()
    for number, length in ((1, 1.0), (2, 3.0), (3, 2.0)):
        s.say(f"r{number}", f"Number {number}.", length)
        if number < 3:
            s.speech.turn_end(s.now)
    s.wait(2.5)
    s.speech.barge_in(s.now)
    s.wait(1)
    assert s.told == [
        (1.0, Transcript("agent", "Number 1.")),
        (2.5, Interruption()),
        (2.5, Transcript("agent", "Number 2.", heard_ms=1500)),
        (2.5, Transcript("agent", "Number 3.", heard_ms=0)),
    ]
    assert s.deadlines[Deadline.SPEECH] == inf


def test_what_was_taken_back_does_not_count_as_heard_later() -> None:
    s = Stage()
    s.say("a", "A long story.", 10.0)
    s.wait(1)
    s.speech.barge_in(s.now)
    s.say("b", "Sorry?", 2.0)
    s.wait(0.5)
    s.speech.barge_in(s.now)
    s.wait(0.1)
    heard = [message.heard_ms for _, message in s.told if isinstance(message, Transcript)]
    assert heard == [1000, 500]


def test_a_pause_of_the_agent_is_not_heard_speech() -> None:
    s = Stage()
    s.say("a", "First.", 1.0)
    s.speech.turn_end(s.now)
    s.wait(30)
    s.say("b", "Second.", 4.0)
    s.wait(1)
    s.speech.barge_in(s.now)
    s.wait(0.1)
    assert s.told[-1] == (31.0, Transcript("agent", "Second.", heard_ms=1000))


def test_the_end_of_the_call_tells_what_was_said_and_heard() -> None:
    s = Stage()
    s.say("a", "I was about to say", 4.0)
    s.wait(1)
    s.speech.finish(s.now)
    s.speech.finish(s.now)
    assert s.playout.left_over() == [Transcript("agent", "I was about to say", heard_ms=1000)]


def test_a_voice_that_comes_late_still_belongs_to_its_words() -> None:
    s = Stage()
    s.speech.text("a", "Let me think.", s.now)
    s.wait(3)
    assert s.told == []
    s.speech.audio("a", Wav(8000, 1, memoryview(bytes(32_000))), s.now)
    s.wait(1)
    s.speech.barge_in(s.now)
    s.wait(0.1)
    assert s.told[-1] == (4.0, Transcript("agent", "Let me think.", heard_ms=1000))


def test_words_whose_voice_never_comes_are_told_in_the_end() -> None:
    s = Stage()
    s.speech.text("a", "Hm.", s.now)
    s.wait(10)
    assert s.told == [(5.0, Transcript("agent", "Hm."))]


def test_a_turn_without_end_is_told_as_far_as_anyone_reads() -> None:
    s = Stage()
    for _ in range(2):
        for _ in range(3):
            s.speech.text("a", "x" * 2_000_000, s.now)
        s.speech.turn_end(s.now)
    s.wait(0.1)
    assert [message.text for _, message in s.told if isinstance(message, Transcript)] == ["x" * 10_000] * 2


def test_text_without_a_voice_is_told_at_once() -> None:
    s = Stage()
    s.speech.text("a", "Hm.", s.now)
    s.speech.turn_end(s.now)
    s.wait(0.01)
    assert s.told == [(0.0, Transcript("agent", "Hm."))]


def test_turns_that_nobody_hears_do_not_pile_up() -> None:
    s = Stage()
    s.say("a", "A long story.", 100.0)
    for number in range(200):
        s.speech.text("a", f"{number}", s.now)
        s.speech.turn_end(s.now)
    assert len(s.playout.left_over()) + 64 == 200


@given(st.lists(st.tuples(st.sampled_from(["say", "end", "wait", "barge"]), st.floats(0.01, 3)), max_size=40))
def test_each_turn_is_told_once_and_no_more_is_heard_than_was_said(steps: list[tuple[str, float]]) -> None:
    s = Stage()
    lengths: dict[str, float] = {}
    turn = 0
    for what, length in steps:
        match what:
            case "say":
                s.say(f"r{turn}", f"t{turn}", length)
                lengths[f"t{turn}"] = lengths.get(f"t{turn}", 0.0) + length
            case "end":
                s.speech.turn_end(s.now)
                turn += 1
            case "barge":
                s.speech.barge_in(s.now)
                turn += 1
            case _:
                s.wait(length)
                turn += s.counts.agent_turns > len([t for t in lengths if int(t[1:]) < turn])  # ended by the gap
    s.speech.finish(s.now)
    s.wait(0)
    transcripts = [message for _, message in s.told if isinstance(message, Transcript)]
    assert {word for said in transcripts for word in said.text.split()} == set(lengths)
    assert len(transcripts) == len({said.text.split()[0] for said in transcripts}), "a turn was told twice"
    for said in transcripts:
        longest = lengths[said.text.split()[0]] + 0.04
        assert said.heard_ms is None or 0 <= said.heard_ms <= longest * 1000


@pytest.mark.parametrize(("words", "after", "heard"), [(True, 0.1, True), (False, 0.1, False), (False, 1.1, True)])
@pytest.mark.parametrize("caller_spoke", [True, False])
def test_an_id_that_is_used_again_after_a_barge_in_is_a_new_reply(
    words: bool, after: float, heard: bool, caller_spoke: bool
) -> None:
    turn = AgentTurn()
    assert turn.admits("r", 10.0)
    turn.cut_off(10.0)
    assert not turn.admits("r", 10.0, words=words)
    if caller_spoke:
        turn.user_turn()
    assert turn.admits("r", 10.0 + after, words=words) is (heard and caller_spoke)
