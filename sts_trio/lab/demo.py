"""The command `demo`: emulator, service and caller in one process; a conversation with the parrot, shown and measured.

The agent greets, returns what it hears once the caller has been silent for some time, and stops when interrupted. How
much silence ends a turn, and how much speech interrupts, are the provider's defaults, which the emulator has as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sts_trio import providers
from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.measures import answer_to, fidelity
from sts_trio.lab.harness.report import Check
from sts_trio.lab.harness.script import Speak, SpeakOver, Wait, WaitForAgent, WaitForSilence
from sts_trio.lab.harness.show import LiveCall, milliseconds
from sts_trio.lab.harness.speech import SAMPLE, SpeechError, speech_from_wav, utterances
from sts_trio.lab.providers import PROVIDERS, find_provider
from sts_trio.main import run_service
from sts_trio.settings import Settings
from sts_trio.settings.parsers import Secret
from sts_trio.settings.service import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console

    from sts_trio.lab.harness.caller import Dial
    from sts_trio.lab.harness.report import CallReport
    from sts_trio.lab.harness.script import CallerScript
    from sts_trio.lab.providers import LabProvider

# Bounds of the demo: what a loaded machine may add to the provider's own share of an answer and of a barge-in. The
# service's own share is a few ms.
MAX_FIRST_AUDIO = 2.0
MAX_OVER_END_OF_TURN = 0.6
MAX_OVER_INTERRUPTION = 0.4
# In dB and correlation. Linear: two resamplers (up to the provider's rate, down again) and two roundings to 16 bit.
# G.711 has a step of 3 % of a sample's size, and no more than 38 dB.
LINEAR = (40.0, 0.99)
G711 = (32.0, 0.99)
MIN_COVERAGE = 0.95
# A frame may be under way when the call ends, at either side of the moment.
FRAMES_TOLERANCE = 3
# The conversation takes about 17 s.
CALL_LIMIT = 25.0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found."""

    checks: tuple[Check, ...]
    report: CallReport

    @property
    def passed(self) -> bool:
        """The call really went through, and every figure is within its bound."""
        return all(check.passed for check in self.checks)

    @property
    def broken_off(self) -> bool:
        """The caller was told to hang up in the middle: what did not hold may just not have come."""
        return self.report.ended == "caller"


async def run_demo(
    service_url: str,
    console: Console,
    *,
    speech: tuple[bytes, bytes] | None = None,
    dial: Dial | None = None,
    provider: str = PROVIDERS[0],
    hang_up: Callable[[], Awaitable[object]] | None = None,
) -> DemoResult:
    """Call the connector at `service_url`, whose agent is a parrot; show the call live, then its figures.

    `speech`: two utterances (s16le, 8000 Hz, mono; the first at least 1.2 s, the second at least 2.5 s) in place of
    the bundled ones. `provider`: whose protocol the agent speaks, which gives the bounds. When `hang_up` returns, the
    caller hangs up. Takes less than 25 s.

    Raises:
        CallFailed: no call came about.
        SpeechError: the bundled sample cannot be read.
    """
    first, second = speech or _bundled()
    report = await place_call(
        service_url, _script(first, second), on_event=LiveCall(console), dial=dial, limit=CALL_LIMIT, hang_up=hang_up
    )
    result = DemoResult((*_conversation(report), *_figures(report, first, find_provider(provider))), report)
    _show(console, result)
    return result


def _bundled() -> tuple[bytes, bytes]:
    parts = utterances(speech_from_wav(SAMPLE))
    if len(parts) != 2:
        raise SpeechError(f"{SAMPLE.name} holds {len(parts)} utterances, not two")
    return parts[0], parts[1]


def _script(first: bytes, second: bytes) -> CallerScript:
    return (
        WaitForAgent(heard=0.3, limit=5.0),
        WaitForSilence(0.5, limit=10.0),
        Speak(first, "first sentence"),
        WaitForAgent(heard=0.1, limit=5.0),
        WaitForSilence(0.5, limit=8.0),
        Speak(second, "second sentence"),
        SpeakOver(first, after=0.6, limit=5.0, name="first sentence again"),
        Wait(0.4),
    )


def _conversation(report: CallReport) -> list[Check]:
    """Tell whether the call really went through."""
    turns = report.measures.turns
    first = report.measures.first_audio
    greeted = first is not None and (not turns or first < turns[0].begin)
    roles = sorted({transcript.role for transcript in report.transcripts if transcript.text})
    interruptions = sum(isinstance(event.what, wire.Interruption) for event in report.events)
    odd = [*report.errors, *report.unknown, *(f"{step} given up" for step in report.unmet)]
    if report.ended not in ("script", "caller"):
        odd.append(f"ended by {report.ended} ({report.close_code})")
    return [
        Check("greeting", "heard" if greeted else "none", "heard", greeted),
        Check("transcripts", " and ".join(roles) or "none", "agent and user", roles == ["agent", "user"]),
        Check("interruptions", str(interruptions), "1", interruptions == 1),
        Check("faults", "; ".join(odd)[:60] or "none", "none", not odd),
    ]


def _figures(report: CallReport, first: bytes, provider: LabProvider) -> list[Check]:
    """Tell how well it went."""
    min_snr_db, min_correlation = G711 if provider.companded else LINEAR
    end_of_turn, min_interruption = provider.end_of_turn, provider.min_interruption
    turns = report.measures.turns
    response = turns[0].response if turns else None
    barge_in = next((turn for turn in turns if turn.over), None)
    stop = barge_in.stop if barge_in else None
    stale = barge_in.stale_bytes if barge_in and barge_in.interrupted is not None else None
    match = fidelity(first, answer_to(report.recording, 0)) if turns else None
    likeness = match is not None and match.correlation >= min_correlation and match.coverage >= MIN_COVERAGE
    sent, due = report.frames_sent, int(report.duration * BYTES_PER_SECOND) // FRAME_BYTES
    received = report.bytes_received / FRAME_BYTES
    broken = sum(arrival.size % FRAME_BYTES != 0 for arrival in report.recording.arrivals)
    return [
        _within("first audio after the connection", report.measures.first_audio, MAX_FIRST_AUDIO),
        _within(
            f"answer after the caller ({milliseconds(end_of_turn)} are the agent's)",
            response,
            end_of_turn + MAX_OVER_END_OF_TURN,
        ),
        _within(
            f"barge-in: speech to silence ({milliseconds(min_interruption)} too)",
            stop,
            min_interruption + MAX_OVER_INTERRUPTION,
        ),
        Check("stale bytes after it", "-" if stale is None else str(stale), "0", stale == 0),
        Check(
            "answer against what was said",
            f"SNR {match.snr_db:.1f} dB" if match else "-",
            f"≥ {min_snr_db:g} dB",
            match is not None and match.snr_db >= min_snr_db,
        ),
        Check(
            "likeness",
            f"{match.correlation:.4f} of {match.coverage:.0%}, LSD {match.lsd_db:.1f} dB" if match else "-",
            f"≥ {min_correlation} of {MIN_COVERAGE:.0%}",
            likeness,
        ),
        Check(
            "frames sent",
            f"{sent} ({report.frames_late} late)",
            f"{due}",
            abs(sent - due) <= FRAMES_TOLERANCE,
        ),
        Check("frames received", f"{received:g} ({broken} broken)", "whole ones", received > 0 and not broken),
        Check(
            "holes in the agent's speech",
            str(report.recording.underruns),
            "0",
            not report.recording.underruns,
        ),
    ]


def _within(name: str, value: float | None, bound: float) -> Check:
    return Check(name, milliseconds(value), f"≤ {milliseconds(bound)}", value is not None and value <= bound)


def _show(console: Console, result: DemoResult) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("measured")
    table.add_column("bound")
    table.add_column("", no_wrap=True)
    for check in result.checks:
        verdict = Text("ok", "green") if check.passed else Text("FAILED", "bold red")
        if result.broken_off and not check.passed:
            verdict = Text("-", "dim")
        table.add_row(check.name, Text(check.figure), check.bound, verdict)
    console.print(table)
    if result.broken_off:
        console.print(Text(f"The call was broken off after {result.report.duration:.1f} s.", "yellow"))
    elif result.passed:
        console.print(Text("The call went through.", "green"))
    else:
        console.print(Text("The call FAILED.", "bold red"))


async def demo(
    console: Console, provider: str = PROVIDERS[0], hang_up: Callable[[], Awaitable[object]] | None = None
) -> DemoResult:
    """Place the demo's call through the real service to the emulator; no key, no network.

    Raises:
        UnknownProviderError: the lab has no such provider.
        CallFailed: no call came about.
    """
    played, key = find_provider(provider), "demo"
    console.print(Text(f"The agent is a parrot. It speaks {played.spoken}.", "dim"))
    async with trio.open_nursery() as nursery:
        emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({key})))
        agent_url = await nursery.start(serve_emulator, emulator)
        tell, told = trio.open_memory_channel[None](1)
        agent = providers.find_provider(provider).settings(api_key=Secret(key), url=agent_url)
        settings = Settings(provider=agent, service=ServiceSettings(host="127.0.0.1", port=0))
        async with trio.open_nursery() as calls:
            (url,) = await calls.start(partial(run_service, settings, until_told=told.receive))
            result = await run_demo(url.replace("http://", "ws://"), console, provider=provider, hang_up=hang_up)
            tell.send_nowait(None)
        nursery.cancel_scope.cancel()
    return result
