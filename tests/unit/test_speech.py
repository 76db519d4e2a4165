"""What the agent says: told when it has been heard, and how much of it when it was not."""

from __future__ import annotations

import gc
from math import inf
from types import FunctionType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import Wav
from sts_trio.call.actions import Deadline, Deadlines
from sts_trio.call.meter import CallCounts
from sts_trio.call.playout import Pace, Playout
from sts_trio.call.speech import AgentSpeech, AgentTurn
from sts_trio.core.wire import Interruption, PlayoutAudio, Transcript
from tests.unit.conversation import due


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
            self.now = min(until, max(self.now + 0.001, min(due(self.playout), self.deadlines[Deadline.SPEECH])))
        self.listen()

    def said(self) -> list[str]:
        return [message.text for _, message in self.told if isinstance(message, Transcript)]

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
        s.speech.caller_turn("So?", None, s.now)
    s.wait(0.1)
    assert s.said() == ["x" * 10_000, "So?"] * 2


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


def test_before_a_word_is_said_there_is_nothing_to_do_and_a_barge_in_is_told() -> None:
    s = Stage()
    s.speech.expire(s.now)
    assert s.deadlines[Deadline.SPEECH] == inf
    s.speech.barge_in(s.now)
    s.wait(0.1)
    assert s.told == [(0.0, Interruption())]
    assert s.counts.interruptions == 1


def test_what_is_left_of_an_interrupted_reply_is_refused() -> None:
    s = Stage()
    quarter = Wav(8000, 1, memoryview(bytes(4000)))
    assert s.speech.text("a", "One.", s.now)
    assert s.speech.audio("a", quarter, s.now)
    s.speech.barge_in(s.now)
    assert not s.speech.text("a", "Two.", s.now)
    assert not s.speech.audio("a", quarter, s.now)
    assert not s.speech.speaking
    assert s.counts.stale_chunks == 1


def test_a_voice_without_an_id_is_heard_after_a_barge_in_too() -> None:
    s = Stage()
    for _ in range(3):
        s.say("", "Hm.", 1.0)
        s.speech.barge_in(s.now)
    assert s.counts.stale_chunks == 0
    assert s.counts.downstream_seconds == 3.0


def test_an_id_that_is_used_again_is_heard_once_the_caller_has_spoken() -> None:
    s = Stage()
    quarter = Wav(8000, 1, memoryview(bytes(4000)))
    s.say("a", "One.", 1.0)
    s.speech.barge_in(s.now)
    s.wait(2.0)
    assert not s.speech.audio("a", quarter, s.now), "nobody has spoken since"
    s.speech.user_turn()
    assert s.speech.audio("a", quarter, s.now)
    s.speech.barge_in(s.now)
    assert not s.speech.text("a", "Two.", s.now), "the caller spoke before this barge-in"


def test_just_after_a_barge_in_words_are_new_and_a_voice_is_late() -> None:
    s = Stage()
    quarter = Wav(8000, 1, memoryview(bytes(4000)))
    s.say("a", "One.", 1.0)
    s.speech.barge_in(s.now)
    s.speech.user_turn()
    s.wait(0.9)
    assert not s.speech.audio("a", quarter, s.now)
    assert s.speech.text("a", "Two.", s.now)
    assert s.speech.audio("a", quarter, s.now)


def over_after(s: Stage) -> float:
    """Wait until the turn is over; return how long that took."""
    began = s.now
    while s.speech.speaking:
        s.wait(0.01)
    return round(s.now - began, 1)


def test_a_turn_without_end_is_over_a_second_after_it_was_heard() -> None:
    s = Stage()
    s.say("a", "One moment.", 2.0)
    assert over_after(s) == 3.0


def test_a_tool_call_ends_a_turn_just_before_it_has_been_heard() -> None:
    s = Stage()
    s.say("a", "One moment.", 2.0)
    s.speech.tool_asked(s.now)
    assert over_after(s) == 1.9
    s.say("b", "It is open.", 2.0)
    assert over_after(s) == 3.1, "the next turn, after the last 0.1 s of this, has an end of its own"


def test_what_a_tool_call_ends_is_played_to_its_last_sample() -> None:
    s = Stage()
    s.say("a", "Hm.", 0.03)
    s.speech.tool_asked(s.now)
    assert not s.speech.speaking
    assert round(s.playout.queued, 3) == 0.04


@pytest.mark.parametrize("reply", ["a", ""])
def test_a_tool_call_waits_for_the_voice_of_words_that_came_before(reply: str) -> None:
    s = Stage()
    s.speech.text(reply, "One moment.", s.now)
    s.speech.tool_asked(s.now)
    s.wait(1.0)
    assert s.speech.speaking
    s.speech.audio(reply, Wav(8000, 1, memoryview(bytes(32_000))), s.now)
    assert over_after(s) == 1.9


@pytest.mark.parametrize(("last_words", "over"), [(False, 3.0), (True, 1.9)])
def test_a_tool_call_before_a_word_ends_only_a_good_bye_to_come(last_words: bool, over: float) -> None:
    s = Stage()
    s.speech.tool_asked(s.now, last_words=last_words)
    s.say("a", "Good-bye.", 2.0)
    assert over_after(s) == over


def test_a_tool_call_before_a_barge_in_ends_nothing_after_it() -> None:
    s = Stage()
    s.say("a", "One moment.", 2.0)
    s.speech.tool_asked(s.now)
    s.speech.barge_in(s.now)
    s.say("b", "Sorry?", 2.0)
    assert over_after(s) == 3.0


def test_what_was_dropped_is_unheard_until_the_caller_is_past_it() -> None:
    s = Stage()
    s.say("a", "A very long story.", 601.0)
    s.say("a", "And more.", 1.0)
    assert round(s.speech.barge_in(s.now), 2) == 602.0
    s.say("b", "Another.", 601.0)
    s.wait(601.0)
    assert round(s.speech.barge_in(s.now), 2) == 0.0


def test_a_reply_that_is_said_in_many_pieces_stays_one() -> None:
    s = Stage()
    s.say("a", "First.", 0.1)
    for _ in range(100):
        s.say("b", "On and on.", 0.1)
    s.speech.barge_in(s.now)
    assert not s.speech.text("a", "First.", s.now), "it is forgotten as if a hundred replies had come"


def test_every_turn_counts_once() -> None:
    s = Stage()
    for number in range(3):
        s.say(f"r{number}", "One.", 0.1)
        s.speech.text(f"r{number}", "Two.", s.now)
        s.speech.turn_end(s.now)
    assert s.counts.agent_turns == 3


def test_of_a_turn_in_countless_segments_the_first_200_are_told() -> None:
    s = Stage()
    for _ in range(300):
        s.speech.text("", "x", s.now)
    s.speech.turn_end(s.now)
    s.wait(0.1)
    assert s.told == [(0.0, Transcript("agent", " ".join("x" * 200)))]


@pytest.mark.parametrize(("first", "told"), [(9_999, "yes y"), (10_000, "yes")])
def test_a_turn_is_told_to_its_last_character_that_fits(first: int, told: str) -> None:
    s = Stage()
    for text in ("yes".rjust(first, "-"), "yz", "no"):
        s.speech.text("a", text, s.now)
    s.speech.turn_end(s.now)
    s.wait(0.1)
    ((_, transcript),) = s.told
    assert isinstance(transcript, Transcript)
    assert transcript.text.lstrip("-") == told


def held(root: object) -> int:
    """How many objects are reached from this one, beside code."""
    seen, waiting = {id(root): root}, [root]
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            if id(each) not in seen and not isinstance(each, type | ModuleType | FunctionType):
                seen[id(each)] = each
                waiting.append(each)
    return len(seen)


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_call_of_many_replies_holds_no_more_than_one_of_some(interrupted: bool) -> None:
    s = Stage()
    sizes = []
    for number in range(600):
        s.say(f"reply {number}", f"Number {number}.", 0.1)
        if interrupted:
            s.speech.barge_in(s.now)
        else:
            s.speech.turn_end(s.now)
        s.wait(0.2)
        s.told.clear()
        sizes.append(held(s.speech))
    assert max(sizes[300:]) <= max(sizes[:300])


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


# The order of the conversation.


def test_a_short_word_while_the_agent_is_heard_comes_behind_what_it_was_said_into() -> None:
    s = Stage()
    s.say("a", "A long answer.", 5.0)
    s.speech.turn_end(s.now)
    s.wait(1)
    s.speech.caller_turn("Mhm.", None, s.now)
    s.say("b", "Yes?", 1.0)
    s.speech.turn_end(s.now)
    s.wait(10)
    assert s.told == [
        (5.0, Transcript("agent", "A long answer.")),
        (5.0, Transcript("user", "Mhm.")),
        (6.0, Transcript("agent", "Yes?")),
    ]


def test_a_short_word_comes_behind_a_turn_that_has_no_end_yet() -> None:
    s = Stage()
    s.say("a", "A long answer.", 5.0)
    s.speech.caller_turn("Mhm.", None, s.now)
    s.say("a", "It goes on.", 1.0)
    s.say("b", "Yes?", 1.0)
    s.speech.turn_end(s.now)
    s.wait(10)
    assert s.said() == ["A long answer. It goes on.", "Mhm.", "Yes?"]


def test_words_that_come_late_keep_the_place_of_their_turn() -> None:
    s = Stage()
    s.speech.caller_turn("", None, s.now)
    s.say("a", "Yes.", 0.5)
    s.speech.turn_end(s.now)
    s.wait(2)
    assert s.told == []
    s.speech.caller_words("Are you there?", s.now)
    s.wait(1)
    assert s.said() == ["Are you there?", "Yes."]


def test_words_that_come_late_stay_behind_what_they_were_said_into() -> None:
    s = Stage()
    s.say("a", "A long answer.", 5.0)
    s.speech.turn_end(s.now)
    s.speech.caller_turn("", None, s.now)
    s.say("b", "Yes?", 1.0)
    s.speech.turn_end(s.now)
    s.wait(5.5)
    s.speech.caller_words("Mhm.", s.now)
    s.wait(5)
    assert s.said() == ["A long answer.", "Mhm.", "Yes?"]


def test_words_that_never_come_are_waited_for_three_seconds_and_twice() -> None:
    s = Stage()
    for number in range(4):
        s.speech.caller_turn("", None, s.now)
        s.say(f"{number}", f"{number}", 0.5)
        s.speech.turn_end(s.now)
        s.wait(10)
    assert s.told == [(at, Transcript("agent", f"{number}")) for number, at in enumerate([3.0, 13.0, 20.5, 30.5])]
    s.speech.caller_words("late", s.now)
    s.wait(0.1)
    assert s.said()[-1] == "late", "out of order, and not lost"


def test_a_barge_in_and_the_end_of_the_call_keep_the_order() -> None:
    s = Stage()
    s.speech.caller_turn("", None, s.now)
    s.say("a", "An answer.", 5.0)
    s.wait(1)
    s.speech.barge_in(s.now)
    s.speech.caller_turn("Wait.", None, s.now)
    s.wait(0.1)
    assert s.said() == []
    s.speech.caller_words("A question?", s.now)
    s.wait(0.1)
    assert s.said() == ["A question?", "An answer.", "Wait."]
    s.say("b", "Well,", 5.0)
    s.speech.caller_turn("Bye.", None, s.now)
    s.wait(1)
    s.speech.finish(s.now)
    s.wait(0.1)
    assert s.told[-2:] == [(2.2, Transcript("agent", "Well,", heard_ms=1000)), (2.2, Transcript("user", "Bye."))]


def test_transcripts_are_trimmed_and_neither_blank_nor_told_again() -> None:
    s = Stage()
    for text in ("  Hello? ", "Hello?", " ", "\n"):
        s.speech.caller_turn(text, None, s.now)
    s.speech.caller_words("  ", s.now)
    s.say("a", " Hello. ", 1.0)
    s.speech.text("a", "Hello.", s.now)
    s.speech.text("a", " ", s.now)
    s.speech.turn_end(s.now)
    s.speech.text("a", "Hello.", s.now)
    s.wait(9)
    s.speech.caller_turn("Yes.", None, s.now)
    s.wait(2)
    s.speech.caller_turn("Yes.", None, s.now)
    s.wait(2)
    assert s.said() == ["Hello?", "Hello.", "Yes.", "Yes."]
