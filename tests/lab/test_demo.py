"""The demo's call: it passes with a good connector, and each fault fails the check that is there for it."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from sts_trio.lab.demo import run_demo
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.script import Speak, WaitForAgent
from sts_trio.lab.harness.show import LiveCall, call_and_show, printable, show_summary, strongest
from tests.lab.harness.harness_parrot import Parrot, voice

if TYPE_CHECKING:
    from pathlib import Path

    import trio
    import trio.testing

URL = "ws://connector:6039/"
SPEECH = voice(1.5, seed=1), voice(3.0, seed=2)


def console() -> Console:
    return Console(file=io.StringIO(), width=160, color_system=None)


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


async def test_a_good_call_passes_and_is_shown(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    screen, out = console(), tmp_path / "demo.wav"
    result = await run_demo(URL, screen, out=out, speech=SPEECH, dial=Parrot().dial(nursery))
    shown = printed(screen)
    assert result.passed, shown
    assert result.report.duration < 25
    for words in ("agent  speaks", "what you said", "Joy 0.61, Doubt 0.50, Calmness 0.40", "is interrupted"):
        assert words in shown
    assert "Awe" not in shown
    with wave.open(str(out)) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() / 8000 == pytest.approx(result.report.duration, abs=0.05)


async def test_the_bundled_sample_suits_a_parrot(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    screen = console()
    result = await run_demo(URL, screen, dial=Parrot().dial(nursery))
    assert result.passed, printed(screen)
    assert result.report.duration < 25


def lose_a_frame(pcm: bytes) -> bytes:
    return pcm[:16000] + pcm[16320:]


def say_something_else(pcm: bytes) -> bytes:
    return voice(len(pcm) / 16000, seed=99)


def break_off(pcm: bytes) -> bytes:
    return pcm[: len(pcm) * 3 // 4 // 320 * 320]


def half_a_frame_more(pcm: bytes) -> bytes:
    return pcm + bytes(160)


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ({"greeting": b""}, {"greeting", "faults"}),
        ({"interruptions": 0}, {"interruptions", "barge-in: speech to silence (800 ms too)", "stale bytes after it"}),
        ({"interruptions": 2}, {"interruptions"}),
        ({"stale_frames": 1}, {"stale bytes after it"}),
        ({"roles": ("agent",)}, {"transcripts"}),
        ({"extra": ('{"type":"error","message":"odd"}',)}, {"faults"}),
        ({"extra": ('{"type":"ready"}',)}, {"faults"}),
        ({"spoil": lose_a_frame}, {"answer against what was said", "likeness"}),
        ({"spoil": say_something_else}, {"answer against what was said", "likeness"}),
        ({"spoil": break_off}, {"likeness"}),
        ({"spoil": half_a_frame_more}, {"frames received"}),
        ({"end_of_turn": 2.0}, {"answer after the caller (800 ms are the agent's)"}),
        ({"min_interruption": 1.3}, {"barge-in: speech to silence (800 ms too)"}),
    ],
)
async def test_each_fault_fails_its_check(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    fault: dict[str, Any],
    failing: set[str],
) -> None:
    screen = console()
    result = await run_demo(URL, screen, speech=SPEECH, dial=Parrot(**fault).dial(nursery))
    assert not result.passed
    failed = {check.name for check in result.checks if not check.passed}
    assert failing <= failed, printed(screen)
    if "greeting" not in fault:
        assert failed == failing, printed(screen)
    assert "FAILED" in printed(screen)


async def test_a_dead_agent_is_a_failed_demo_and_no_traceback(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mute = Parrot(greeting=b"", end_of_turn=1e9, roles=())
    result = await run_demo(URL, console(), speech=SPEECH, dial=mute.dial(nursery))
    assert not result.passed


async def test_a_call_is_shown_and_summed_up(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    screen = console()
    script = (WaitForAgent(), Speak(voice(0.5), "a test"))
    report = await place_call(URL, script, on_event=LiveCall(screen), dial=Parrot().dial(nursery))
    show_summary(screen, report)
    shown = printed(screen)
    assert "caller speaks: a test, 0.5 s" in shown
    assert report.uuid in shown
    assert "script, close 1000" in shown


@pytest.mark.parametrize(
    ("fault", "through"),
    [
        ({}, True),
        ({"extra": ('{"type":"error","message":"no credit"}',)}, False),
        ({"greeting": b"", "end_of_turn": 1e9}, False),
    ],
)
async def test_the_call_command_knows_whether_the_call_went_through(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    fault: dict[str, Any],
    through: bool,
) -> None:
    screen, out = console(), tmp_path / "call.wav"
    assert await call_and_show(URL, screen, out=out, dial=Parrot(**fault).dial(nursery)) is through
    assert str(out) in printed(screen)
    assert out.stat().st_size > 16000


def test_a_far_end_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"
    assert strongest({}) == ""
