"""The demo's call: it passes with a good connector, and each fault fails the check that is there for it."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import trio
import trio.testing
from rich.console import Console

from sts_trio.lab.demo import run_demo
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.script import Press, Speak, WaitForAgent, parse_keys
from sts_trio.lab.harness.show import LiveCall, call_and_show, printable, show_summary, strongest
from tests.lab.harness.harness_parrot import Parrot, voice

URL = "ws://connector:6039/"
SPEECH = voice(1.5, seed=1), voice(3.0, seed=2)


def console() -> Console:
    return Console(file=io.StringIO(), width=160, color_system=None)


def printed(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


async def test_a_good_call_passes_and_is_shown(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    screen = console()
    result = await run_demo(URL, screen, speech=SPEECH, dial=Parrot().dial(nursery))
    shown = printed(screen)
    assert result.passed, shown
    assert result.report.duration < 25
    for words in ("agent  speaks", "what you said", "Joy 0.61, Doubt 0.50, Calmness 0.40", "is interrupted"):
        assert words in shown
    assert "Awe" not in shown
    assert "The call went through." in shown


@pytest.mark.parametrize(("provider", "own", "bound"), [("humeai", "800", "1400"), ("xai", "500", "1100")])
async def test_the_bounds_are_those_of_the_protocol(
    provider: str, own: str, bound: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    result = await run_demo(URL, console(), speech=SPEECH, dial=Parrot().dial(nursery), provider=provider)
    (answer,) = [check for check in result.checks if check.name.startswith("answer after")]
    assert answer.name == f"answer after the caller ({own} ms are the agent's)"
    assert answer.bound == f"≤ {bound} ms"


async def test_a_demo_that_is_broken_off_shows_what_there_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    screen, parrot = console(), Parrot()

    async def soon() -> None:
        await trio.sleep(3.0)

    result = await run_demo(URL, screen, speech=SPEECH, dial=parrot.dial(nursery), hang_up=soon)
    shown = printed(screen)
    assert result.broken_off
    assert result.report.duration == pytest.approx(3.0, abs=0.03)
    assert result.report.recording.seconds == pytest.approx(3.0, abs=0.05)
    assert parrot.closed == 1000
    assert "The call was broken off after 3.0 s." in shown
    assert "FAILED" not in shown
    (greeting,) = [check for check in result.checks if check.name == "greeting"]
    assert greeting.passed


async def test_a_narrow_terminal_stays_readable(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    screen = Console(file=io.StringIO(), width=60, color_system=None)
    result = await run_demo(URL, screen, speech=SPEECH, dial=Parrot().dial(nursery))
    lines = printed(screen).splitlines()
    assert max(map(len, lines)) <= 60
    for check in result.checks:  # no figure is cut: it stands on a line of its own row, folded at blanks at most
        assert any(check.figure.split()[0] in line for line in lines)
    assert not any("…" in line for line in lines)
    said = next(n for n, line in enumerate(lines) if "Joy" in line)
    assert lines[said + 1].startswith(" " * 18)  # folded beneath itself


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
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, fault: dict[str, Any], through: bool
) -> None:
    report = await call_and_show(URL, console(), dial=Parrot(**fault).dial(nursery))
    assert report.went_through is through


async def test_keys_are_pressed_at_their_seconds(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    screen, parrot = console(), Parrot()
    keys = (*parse_keys("0@1, 1#@2"), *parse_keys("9@20"))
    report = await call_and_show(URL, screen, speech=voice(0.5), keys=keys, dial=parrot.dial(nursery))
    pressed = [(event.at, event.what.digit) for event in report.events if isinstance(event.what, Press)]
    assert [digit for _, digit in pressed] == ["0", "1", "#", "9"]
    assert [at for at, _ in pressed] == pytest.approx([1.0, 2.0, 2.25, 20.0], abs=0.021)
    assert [heard["digit"] for heard in parrot.heard if heard["type"] == "dtmf_digit"] == ["0", "1", "#", "9"]
    assert report.duration > 23  # an answer to the last one is waited for
    assert "presses 9" in printed(screen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not KEYS@SECONDS"),
        ("0", "is not KEYS@SECONDS"),
        ("@3", "is not KEYS@SECONDS"),
        ("0@-1", "is not KEYS@SECONDS"),
        ("0@nan", "is not KEYS@SECONDS"),
        ("0@241", "seconds up to 240"),
        ("0@3,", "is not KEYS@SECONDS"),
        ("E@3", "'E' is no key"),
        ("1é@3", "is no key"),
    ],
)
def test_keys_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_keys(text)


def test_a_far_end_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"
    assert strongest({}) == ""
