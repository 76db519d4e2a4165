"""The paced queue towards Core, watched by a caller's clock that knows nothing of how it works."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, FRAME_SECONDS, seconds
from sts_trio.call.meter import CallCounts
from sts_trio.call.playout import Pace, Playout
from sts_trio.core.wire import Error, Interruption, PlayoutAudio, ToCore, Transcript
from tests.unit.conversation import due

if TYPE_CHECKING:
    from collections.abc import Callable

LEAD = 0.5
TENTH = bytes(range(1, 161)) * 10  # 100 ms without a zero byte
A_MICROSECOND = 1e-6


def take_all(playout: Playout, now: float) -> list[bytes]:
    """All the audio that may leave now, message by message."""
    messages = []
    while (message := playout.take(now)) is not None:
        assert isinstance(message, PlayoutAudio)
        messages.append(message.audio)
    return messages


@dataclass
class Caller:
    """Plays in real time what it is given, first in, first out: Core's side of docs/protocols/core.md 3."""

    silent_from: float = -inf

    def hear(self, audio: bytes, now: float) -> None:
        self.silent_from = max(self.silent_from, now) + seconds(len(audio))

    def ahead(self, now: float) -> float:
        return self.silent_from - now


# Pacing.


def test_the_first_audio_leaves_at_once() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    assert due(playout) == inf
    playout.push(TENTH)
    assert due(playout) <= 1000.0
    assert playout.take(1000.0) == PlayoutAudio(TENTH)
    assert playout.take(1000.0) is None


def test_a_long_reply_leaves_up_to_the_lead_and_then_in_real_time() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH * 80)
    assert seconds(len(b"".join(take_all(playout, 10.0)))) == pytest.approx(LEAD)
    assert take_all(playout, 10.099) == []
    for tenth in range(1, 76):
        assert due(playout) == pytest.approx(10 + tenth / 10)
        assert take_all(playout, 10 + tenth / 10) == [TENTH]
    assert due(playout) == inf


def test_messages_hold_whole_frames_and_at_most_100_ms() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH[:-2] * 4)
    sizes = [len(audio) for audio in take_all(playout, 0.0)]
    assert sizes == [1600, 1600, 1600, 1280]  # 6392 bytes: 19 frames, and 312 bytes that wait
    playout.push(b"12345678")
    assert [len(audio) for audio in take_all(playout, 0.0)] == [FRAME_BYTES]


def test_a_part_of_a_frame_waits_until_the_reply_ends_and_is_filled_with_silence() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH[:100])
    assert playout.take(0.0) is None
    assert due(playout) == inf
    playout.end_reply()
    assert playout.take(0.0) == PlayoutAudio(TENTH[:100] + bytes(220))


def test_the_end_of_a_reply_of_whole_frames_adds_nothing() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.end_reply()
    assert due(playout) == inf
    playout.push(TENTH)
    playout.end_reply()
    assert take_all(playout, 0.0) == [TENTH]


def test_a_pause_of_the_provider_does_not_save_up_lead() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH)
    take_all(playout, 0.0)
    playout.push(TENTH * 20)  # 60 s of underrun later
    assert seconds(len(b"".join(take_all(playout, 60.0)))) == pytest.approx(LEAD)


@pytest.mark.parametrize("milliseconds", [20, 25, 30, 50, 60, 70, 90, 99, 100, 110, 500, 10_000])
def test_any_lead_of_at_least_a_frame_is_kept(milliseconds: int) -> None:
    playout, caller = Playout(Pace(milliseconds / 1000), CallCounts()), Caller()
    playout.push(TENTH * 150)
    for audio in take_all(playout, 0.0):
        caller.hear(audio, 0.0)
    assert caller.ahead(0.0) <= milliseconds / 1000 + A_MICROSECOND


def test_a_lead_of_less_than_a_frame_is_one_frame() -> None:
    playout = Playout(Pace(0.0), CallCounts())
    playout.push(TENTH)
    assert take_all(playout, 0.0) == [TENTH[:FRAME_BYTES]]
    assert due(playout) == pytest.approx(FRAME_SECONDS)


STEPS = st.lists(
    st.tuples(
        st.floats(0, 0.4),
        st.sampled_from(["push", "push", "push", "take", "take", "end", "clear"]),
        st.integers(0, 8000).map(lambda samples: samples * 2),
    ),
    max_size=40,
)


@given(lead=st.sampled_from([0.02, 0.1, 0.5, 2.0]), steps=STEPS)
def test_whatever_comes_when_the_caller_is_never_more_than_the_lead_behind(
    lead: float, steps: list[tuple[float, str, int]]
) -> None:
    playout, caller = Playout(Pace(lead), CallCounts()), Caller()
    now, stamp = 1000.0, 0
    expected, got = bytearray(), bytearray()
    for wait, step, size in steps:
        now += wait
        if step == "push":
            stamp = stamp % 255 + 1
            audio = bytes([stamp]) * size
            assert playout.push(audio) == 0
            expected += audio
        elif step == "end":
            playout.end_reply()
            expected += bytes(-len(expected) % FRAME_BYTES)
        elif step == "clear":
            playout.clear(now)
            caller.silent_from = min(caller.silent_from, now)
            expected.clear()
            got.clear()
        for audio in take_all(playout, now):
            assert 0 < len(audio) <= 1600
            assert len(audio) % FRAME_BYTES == 0
            caller.hear(audio, now)
            assert caller.ahead(now) <= lead + A_MICROSECOND * len(steps)
            got += audio
        assert got == expected[: len(got)]  # in order, nothing lost or doubled
        waiting = len(expected) - len(got)
        if waiting >= FRAME_BYTES:
            assert now < due(playout) < inf
            assert caller.ahead(now) > lead - 0.1 - A_MICROSECOND  # and it is not held back without need
        else:
            assert due(playout) == inf
        heard_at = max(caller.silent_from, now) + seconds(waiting)
        assert playout.played_at(now) == pytest.approx(heard_at)
    playout.end_reply()
    got += b"".join(take_all(playout, now))
    while (now := max(now, playout.due)) < inf:
        taken = take_all(playout, now)
        assert taken, "what is due can be taken"
        got += b"".join(taken)
    assert got == expected + bytes(-len(expected) % FRAME_BYTES)


# Barge-in.


def test_clear_drops_all_and_the_next_reply_leaves_at_once() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH * 80)
    take_all(playout, 5.0)
    playout.clear(5.25)
    assert playout.take(5.25) is None
    assert playout.take(60.0) is None
    assert playout.played_at(5.25) == 5.25
    new = bytes(reversed(TENTH))
    playout.push(new * 8)
    assert take_all(playout, 5.25) == [new] * 5


def test_clear_drops_the_part_of_a_frame_that_waits() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH[:100])
    playout.clear(0.0)
    playout.end_reply()
    assert playout.take(0.0) is None


def test_clear_after_all_was_heard_does_not_move_the_clock_forward() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH)
    take_all(playout, 0.0)
    playout.clear(50.0)
    playout.push(TENTH * 9)
    assert len(take_all(playout, 50.0)) == 5


def test_clear_leaves_messages_alone() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.post(Interruption())
    playout.clear(0.0)
    assert playout.take(0.0) == Interruption()


# Messages that are not audio.


def test_messages_go_before_audio_in_their_order_and_whenever() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH * 10)
    take_all(playout, 0.0)
    messages: list[ToCore] = [Transcript("user", "a"), Interruption(), Transcript("agent", "b")]
    for message in messages:
        playout.post(message)
    assert due(playout) == -inf
    for message in messages:
        taken = playout.take(0.0)
        assert taken is message
        playout.sent(taken, 0.0)
    assert playout.take(0.0) is None
    assert playout.take(1.0) == PlayoutAudio(TENTH)


def test_a_message_stays_until_it_was_sent() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.post(Error("a"))
    playout.post(Error("b"))
    assert playout.take(0.0) == playout.take(0.0) == Error("a")
    assert playout.left_over() == [Error("a"), Error("b")]
    taken = playout.take(0.0)
    assert taken is not None
    playout.sent(taken, 0.0)
    assert playout.left_over() == [Error("b")]


def test_sent_audio_does_not_confirm_a_message() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.push(TENTH)
    audio = playout.take(0.0)
    assert isinstance(audio, PlayoutAudio)
    playout.post(Interruption())  # while the audio was being sent
    playout.sent(audio, 0.0)
    assert playout.left_over() == [Interruption()]


def test_the_sender_confirms_and_takes_in_one_step() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    playout.post(Error("a"))
    playout.push(TENTH)
    audio = playout.after(Error("not this one"), 0.0)
    assert audio == Error("a"), "it has not been sent"
    assert playout.after(audio, 0.0) == PlayoutAudio(TENTH)
    assert playout.after(PlayoutAudio(TENTH), 0.25) is None
    assert playout.counts.written_seconds == 0.1


def test_the_sender_is_told_of_all_that_changes() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    changes: list[Callable[[], object]] = [
        lambda: playout.post(Interruption()),
        lambda: playout.push(TENTH[:100]),
        playout.end_reply,
        lambda: playout.clear(0.0),
    ]
    seen = [playout.changed]
    for change in changes:
        change()
        seen.append(playout.changed)
        playout.take(0.0)
        seen.append(playout.changed)
    assert seen == [False] + [True, False] * 4


def test_an_equal_message_is_not_confirmed_in_place_of_another() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    for _ in range(2):
        playout.post(Error(str(7)))
    taken = playout.take(0.0)
    assert taken is not None
    playout.sent(taken, 0.0)
    playout.sent(taken, 0.0)
    assert len(playout.left_over()) == 1


# Bounds.


def test_a_full_queue_keeps_the_oldest_and_reports_what_it_drops() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    dropped = sum(playout.push(bytes([index % 251]) * BYTES_PER_SECOND) for index in range(1, 611))
    assert dropped == 10
    assert playout.push(bytes(FRAME_BYTES)) == FRAME_SECONDS
    kept = bytearray()
    now = 0.0
    while now < inf:
        kept += b"".join(take_all(playout, now))
        now = playout.due
    assert kept == b"".join(bytes([index % 251]) * BYTES_PER_SECOND for index in range(1, 601))
    assert playout.push(TENTH) == 0


def test_one_push_larger_than_the_queue_is_cut() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    assert playout.push(bytes(601 * BYTES_PER_SECOND)) == 1
    assert playout.played_at(0.0) == 600


def test_a_core_that_does_not_read_loses_the_oldest_messages_only() -> None:
    playout = Playout(Pace(LEAD), CallCounts())
    for number in range(1000):
        playout.post(Error(str(number)))
    left = playout.left_over()
    assert len(left) < 500
    assert left[-1] == Error("999")
    assert playout.counts.messages_peak == len(left)
    assert playout.counts.messages_dropped == 1000 - len(left)
    playout.sent(left[0], 0.0)
    assert playout.counts.messages_peak == len(left)
