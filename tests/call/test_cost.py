"""What a 20 ms frame may cost: no new task, no new scope, no log line, and no more steps than there are today."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog.testing
import trio
import trio.testing

from sts_trio.core.wire import CallerAudio
from tests.call.fakes import FRAME, begin, spoken

if TYPE_CHECKING:
    import pytest

FRAMES = 1000


class Meter(trio.abc.Instrument):
    """Counts what the scheduler does."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.counts["tasks"] += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts["steps"] += 1


class ScopeMeter:
    """Counts cancel scopes made by the modules of a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        make = trio.CancelScope

        def count(*args: object, **kwargs: object) -> trio.CancelScope:
            self.made += 1
            return make(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr("trio._timeouts.trio.CancelScope", count)
        monkeypatch.setattr(trio, "CancelScope", count)


async def test_a_frame_upstream_costs_no_task_no_scope_and_no_log_line(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await begin(nursery)
    meter, scopes = Meter(), ScopeMeter(monkeypatch)
    with structlog.testing.capture_logs() as lines:
        trio.lowlevel.add_instrument(meter)
        for _ in range(FRAMES):
            scene.core.say(CallerAudio(FRAME))
            await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(meter)
    assert len(scene.agent.audio) == FRAMES
    assert meter.counts["tasks"] == 0
    assert scopes.made == 0
    assert lines == []
    # Two for the upstream sender (it is woken, and the fake agent's checkpoint), one for this test.
    assert meter.counts["steps"] <= 3 * FRAMES + 10
    scene.core.hang_up()


async def test_a_second_of_agent_speech_costs_ten_messages_and_no_task(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await begin(nursery)
    scene.agent.feed(spoken(0.5))
    await trio.sleep(0.01)
    meter, scopes = Meter(), ScopeMeter(monkeypatch)
    with structlog.testing.capture_logs() as lines:
        trio.lowlevel.add_instrument(meter)
        for _ in range(20):
            scene.agent.feed(spoken(0.5))
        await trio.sleep(12)
        trio.lowlevel.remove_instrument(meter)
    assert len(scene.core.audio) == 21 * 8000
    assert meter.counts["tasks"] == 0
    assert lines == []
    # One scope for each wait of the playout: a message of 100 ms, or a chunk that wakes it.
    assert 50 <= scopes.made <= 100 + 20 + 5
    scene.core.hang_up()
