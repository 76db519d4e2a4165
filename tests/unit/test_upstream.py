"""Caller audio on its way to an agent that comes late, is slow, or breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.audio.pcm import FRAME_BYTES, FRAME_SECONDS, pieces
from sts_trio.call.meter import CallCounts
from sts_trio.call.upstream import UpstreamBuffer
from sts_trio.errors import ProviderLost

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent


class FakeAgent:
    """Takes audio, slowly if a `gate` is given (a message for each token), and breaks after `most` pieces."""

    def __init__(self, most: float = float("inf"), gate: trio.Semaphore | None = None) -> None:
        self.heard: list[bytes] = []
        self.ping_overdue = False
        self._most = most
        self._gate = gate

    async def send_audio(self, pcm: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        if self._gate is not None:
            await self._gate.acquire()
        if len(self.heard) >= self._most:
            raise ProviderLost("the connection broke")
        self.heard.extend(pieces(pcm))
        return self.ping_overdue

    async def receive(self) -> AgentEvent:
        raise AssertionError("an uplink only sends audio")

    async def say(self, text: str) -> None:
        raise AssertionError("an uplink only sends audio")

    async def tool_error(self, call_id: str, message: str) -> None:
        raise AssertionError("an uplink only sends audio")


def frames(start: int, stop: int) -> list[bytes]:
    """Frames that show their number."""
    return [number.to_bytes(2, "little") * (FRAME_BYTES // 2) for number in range(start, stop)]


async def send_all(upstream_buffer: UpstreamBuffer, pieces: list[bytes]) -> None:
    for piece in pieces:
        await upstream_buffer.send(piece)


async def test_with_a_session_audio_goes_straight_through_and_is_counted() -> None:
    counts, agent = CallCounts(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(agent)
    await send_all(upstream_buffer, frames(0, 3000))
    assert agent.heard == frames(0, 3000)
    assert counts.upstream_seconds == pytest.approx(60)
    assert counts.upstream_dropped_seconds == 0


async def test_before_the_first_session_the_newest_second_is_kept_and_the_rest_counted() -> None:
    counts, agent = CallCounts(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 75))
    await upstream_buffer.attach(agent)
    assert agent.heard == frames(25, 75)
    assert counts.upstream_dropped_seconds == pytest.approx(0.5)
    assert counts.upstream_seconds == pytest.approx(1.0)


async def test_exactly_a_second_is_not_too_much() -> None:
    counts, agent = CallCounts(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 50))
    await upstream_buffer.attach(agent)
    assert agent.heard == frames(0, 50)
    assert counts.upstream_dropped_seconds == 0


async def test_between_two_sessions_the_newest_five_seconds_are_kept() -> None:
    counts, first, second = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(first)
    upstream_buffer.detach(first)
    await send_all(upstream_buffer, frames(0, 300))
    await upstream_buffer.attach(second)
    assert (first.heard, second.heard) == ([], frames(50, 300))
    assert counts.upstream_dropped_seconds == pytest.approx(1.0)


async def test_a_session_takes_over_without_a_gap() -> None:
    counts, first, second = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(first)
    await send_all(upstream_buffer, frames(0, 5))
    await upstream_buffer.attach(second)
    upstream_buffer.detach(first)
    await send_all(upstream_buffer, frames(5, 10))
    assert (first.heard, second.heard) == (frames(0, 5), frames(5, 10))


async def test_a_piece_that_the_old_session_did_not_take_goes_to_the_new_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    gate = trio.Semaphore(0)
    first, second = FakeAgent(gate=gate, most=0), FakeAgent()
    upstream_buffer = UpstreamBuffer(CallCounts())
    await upstream_buffer.attach(first)
    nursery.start_soon(upstream_buffer.send, frames(0, 1)[0])
    await trio.testing.wait_all_tasks_blocked()
    await upstream_buffer.attach(second)
    gate.release()
    await trio.testing.wait_all_tasks_blocked()
    await upstream_buffer.send(frames(1, 2)[0])
    assert second.heard == frames(0, 2)


async def test_pieces_of_odd_sizes_are_kept_within_the_second() -> None:
    counts, agent = CallCounts(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.send(bytes(15_000))
    await upstream_buffer.send(b"\x01" * 1_000)
    await upstream_buffer.send(b"\x02" * 2)
    await upstream_buffer.attach(agent)
    assert b"".join(agent.heard) == b"\x01" * 1_000 + b"\x02" * 2
    assert counts.upstream_dropped_seconds == pytest.approx(15_000 / 16_000)


async def test_audio_that_comes_meanwhile_does_not_overtake_what_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    gate = trio.Semaphore(0)
    counts, agent = CallCounts(), FakeAgent(gate=gate)
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 20))
    nursery.start_soon(upstream_buffer.attach, agent)
    with trio.fail_after(1):
        for piece in frames(20, 40):
            gate.release()
            await trio.testing.wait_all_tasks_blocked()
            await upstream_buffer.send(piece)  # returns at once: it waits behind the others
        for _ in range(21):
            gate.release()
        await trio.testing.wait_all_tasks_blocked()
        await upstream_buffer.send(frames(40, 41)[0])
    assert agent.heard == frames(0, 41)
    assert counts.upstream_dropped_seconds == 0


async def test_an_event_loop_whose_turns_are_long_still_catches_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Each message costs a turn, and in each turn four more pieces come."""
    gate = trio.Semaphore(0)
    counts, agent = CallCounts(), FakeAgent(gate=gate)
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 40))
    nursery.start_soon(upstream_buffer.attach, agent)
    for turn in range(10):
        await trio.testing.wait_all_tasks_blocked()
        gate.release()
        if turn < 6:
            await send_all(upstream_buffer, frames(40 + 4 * turn, 44 + 4 * turn))
    gate.release()
    await trio.testing.wait_all_tasks_blocked()
    await upstream_buffer.send(frames(64, 65)[0])
    assert agent.heard == frames(0, 65)
    assert counts.upstream_dropped_seconds == 0


async def test_a_session_that_breaks_while_attaching_loses_nothing_that_it_did_not_take() -> None:
    counts, broken, agent = CallCounts(), FakeAgent(most=7), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 20))
    with pytest.raises(ProviderLost):
        await upstream_buffer.attach(broken)
    await send_all(upstream_buffer, frames(20, 30))
    await upstream_buffer.attach(agent)
    assert broken.heard + agent.heard == frames(0, 30)
    assert counts.upstream_seconds == pytest.approx(30 * FRAME_SECONDS)


async def test_after_a_break_while_attaching_no_more_than_a_second_is_kept() -> None:
    counts, agent = CallCounts(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await send_all(upstream_buffer, frames(0, 50))
    with pytest.raises(ProviderLost):
        await upstream_buffer.attach(FakeAgent(most=0))
    await send_all(upstream_buffer, frames(50, 60))
    await upstream_buffer.attach(agent)
    assert agent.heard == frames(10, 60)
    assert counts.upstream_dropped_seconds == pytest.approx(0.2)


async def test_a_session_that_breaks_in_mid_call_is_detached_and_its_last_piece_kept() -> None:
    counts, broken, agent = CallCounts(), FakeAgent(most=5), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(broken)
    await send_all(upstream_buffer, frames(0, 10))  # raises nothing: the receiver learns the cause
    await upstream_buffer.attach(agent)
    await send_all(upstream_buffer, frames(10, 12))
    assert broken.heard + agent.heard == frames(0, 12)


async def test_a_detached_session_hears_nothing_more() -> None:
    first, second = FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(CallCounts())
    await upstream_buffer.attach(first)
    await send_all(upstream_buffer, frames(0, 2))
    upstream_buffer.detach(first)
    await send_all(upstream_buffer, frames(2, 4))
    await upstream_buffer.attach(second)
    assert (first.heard, second.heard) == (frames(0, 2), frames(2, 4))


async def test_what_a_session_in_doubt_was_sent_is_sent_again_when_it_is_lost() -> None:
    counts, dead, alive = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(dead)
    await send_all(upstream_buffer, frames(0, 100))
    dead.ping_overdue = True
    await send_all(upstream_buffer, frames(100, 150))
    upstream_buffer.detach(dead)
    await send_all(upstream_buffer, frames(150, 160))
    await upstream_buffer.attach(alive)
    assert alive.heard == frames(100, 160)
    assert counts.upstream_seconds == pytest.approx(160 * FRAME_SECONDS)
    assert counts.upstream_dropped_seconds == 0


async def test_no_more_than_the_newest_five_seconds_are_sent_again() -> None:
    counts, dead, alive = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(dead)
    dead.ping_overdue = True
    await send_all(upstream_buffer, frames(0, 400))
    upstream_buffer.detach(dead)
    await send_all(upstream_buffer, frames(400, 410))
    await upstream_buffer.attach(alive)
    assert alive.heard == frames(160, 410)
    assert counts.upstream_peak_seconds == pytest.approx(5)


async def test_a_session_that_has_shown_that_it_lives_heard_what_it_was_sent() -> None:
    counts, agent, after = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(agent)
    agent.ping_overdue = True
    await send_all(upstream_buffer, frames(0, 50))
    agent.ping_overdue = False
    await send_all(upstream_buffer, frames(50, 60))
    agent.ping_overdue = True
    await send_all(upstream_buffer, frames(60, 70))
    upstream_buffer.detach(agent)
    await upstream_buffer.attach(after)
    assert after.heard == frames(60, 70)


async def test_what_is_sent_again_makes_no_count_smaller() -> None:
    """A counter that falls looks like a restart."""
    counts, dead, alive = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(dead)
    dead.ping_overdue = True
    told = []
    for piece in frames(0, 300):
        await upstream_buffer.send(piece)
        told.append(counts.upstream_seconds)
    upstream_buffer.detach(dead)
    told.append(counts.upstream_seconds)
    await upstream_buffer.attach(alive)
    assert told == sorted(told)
    assert counts.upstream_seconds == pytest.approx(300 * FRAME_SECONDS)


async def test_a_turn_that_a_lost_session_has_heard_is_said_again_before_what_waits() -> None:
    counts, lost, alive = CallCounts(), FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(counts)
    await upstream_buffer.attach(lost)
    await send_all(upstream_buffer, frames(0, 100))
    upstream_buffer.keep(turn=True)
    await send_all(upstream_buffer, frames(100, 200))
    upstream_buffer.detach(lost)
    await send_all(upstream_buffer, frames(200, 210))
    await upstream_buffer.attach(alive, again=True)
    assert alive.heard == frames(50, 210), "with the second before it was found that they speak"
    assert counts.upstream_seconds == pytest.approx(210 * FRAME_SECONDS)
    assert counts.upstream_again_seconds == pytest.approx(150 * FRAME_SECONDS)
    assert counts.upstream_dropped_seconds == 0


async def test_a_turn_is_said_again_as_often_as_it_takes_and_by_no_more_than_its_end() -> None:
    upstream_buffer = UpstreamBuffer(CallCounts())
    sessions = [FakeAgent(), FakeAgent(most=30), FakeAgent()]
    await upstream_buffer.attach(sessions[0])
    upstream_buffer.keep(turn=True)
    await send_all(upstream_buffer, frames(0, 2000))
    upstream_buffer.detach(sessions[0])
    with pytest.raises(ProviderLost):
        await upstream_buffer.attach(sessions[1], again=True)
    await upstream_buffer.attach(sessions[2], again=True)
    assert sessions[2].heard == frames(500, 2000), "half a minute"


async def test_what_was_answered_is_not_said_again() -> None:
    alive = FakeAgent()
    upstream_buffer = UpstreamBuffer(CallCounts())
    await upstream_buffer.attach(lost := FakeAgent())
    upstream_buffer.keep(turn=True)
    await send_all(upstream_buffer, frames(0, 300))
    upstream_buffer.keep(turn=False)
    upstream_buffer.detach(lost)
    await upstream_buffer.attach(alive)
    assert alive.heard == []


async def test_what_a_dead_session_is_doubted_to_have_heard_of_a_turn_is_said_once() -> None:
    dead, alive = FakeAgent(), FakeAgent()
    upstream_buffer = UpstreamBuffer(CallCounts())
    await upstream_buffer.attach(dead)
    upstream_buffer.keep(turn=True)
    await send_all(upstream_buffer, frames(0, 100))
    dead.ping_overdue = True
    await send_all(upstream_buffer, frames(100, 150))
    upstream_buffer.detach(dead)
    await upstream_buffer.attach(alive, again=True)
    assert alive.heard == frames(0, 150)
