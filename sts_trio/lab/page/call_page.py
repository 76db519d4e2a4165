"""One call as a page: both voices on one time line, what happened and how long it took, and the recording."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES, RATE
from sts_trio.lab.harness.show import ENDINGS, milliseconds
from sts_trio.lab.page.happenings import happenings
from sts_trio.lab.page.plot import axis, rows, share, wave
from sts_trio.lab.page.render import render
from sts_trio.lab.page.sound import sound_of
from sts_trio.lab.providers import find_provider
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.lab.harness.measures import Turn
    from sts_trio.lab.harness.report import CallReport, Check

# A mark has 22 px, and a screen of 360 px has 300 for the time line; long calls scroll.
_MARK_WIDTH = 24
_LEAST_WIDTH = 280
_LEAST_SCALE = 14  # px a second


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it went, and the kind of that: good, bad, or neither."""

    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class Card:
    """A figure to be seen first."""

    name: str
    figure: str
    unit: str = ""
    note: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Bracket:
    """A time between two moments: where on the time line, and its words."""

    place: float
    width: float
    words: str
    title: str
    over: bool = False


def call_page(
    report: CallReport,
    *,
    address: str = "",
    provider: str | None = None,
    checks: Sequence[Check] = (),
    made: datetime | None = None,
) -> bytes:
    """Make the page of a call. `address`: of the connector; `provider`: whose protocol the agent was known to speak."""
    whole = max(report.duration, report.recording.seconds, 0.02)
    width = max(_LEAST_WIDTH, round(whole * _LEAST_SCALE))
    events = happenings(report, whole)
    chosen = rows([event.at for event in events], _MARK_WIDTH / width * whole)
    turns = report.measures.turns
    spoken = find_provider(provider).spoken if provider else ""
    facts = [address, spoken, f"{report.duration:.1f} s", f"id {report.uuid}"]
    return render(
        "call.html",
        made or datetime.now(UTC).astimezone(),
        verdict=_verdict(report, checks),
        facts=[one_line(fact) for fact in facts if fact],
        cards=_cards(report),
        seconds=round(whole, 3),
        least_width=width,
        ticks=axis(whole, max(4, round(width / 70)), " s"),
        caller=wave(report.recording.caller, whole, RATE),
        agent=wave(report.recording.agent, whole, RATE),
        caller_bands=[_said(turn, whole) for turn in turns],
        answers=_answers(report, whole),
        stops=[_bracket(turn.begin, turn.stop, whole, "agent silent after") for turn in turns if turn.stop is not None],
        cuts=[share(cut.at, whole) for cut in report.recording.cuts],
        events=[event.in_row(row) for event, row in zip(events, chosen, strict=True)],
        mark_rows=max(chosen, default=0) + 1,
        turns=[_turn_row(turn) for turn in turns],
        checks=[_check_row(check, broken_off=report.ended == "caller") for check in checks],
        details=_details(report),
        sound=sound_of(report.recording),
    )


def _verdict(report: CallReport, checks: Sequence[Check]) -> Verdict:
    if report.ended == "caller":
        return Verdict(f"The call was broken off after {report.duration:.1f} s", "neither")
    if all(check.passed for check in checks) if checks else report.went_through:
        return Verdict("The call went through", "good")
    return Verdict("The call failed", "bad")


def _cards(report: CallReport) -> list[Card]:
    turns = report.measures.turns
    answers = [turn.response for turn in turns if turn.response is not None]
    stops = [turn.stop for turn in turns if turn.stop is not None]
    most = f"longest {milliseconds(max(answers))}" if len(answers) > 1 else "from the caller's last sound"
    trouble = len(report.errors) + len(report.unknown)
    holes = report.recording.underruns
    return [
        Card("First audio", *_parts(report.measures.first_audio), "from the open connection"),
        Card("Answer", *_parts(median(answers) if answers else None), most),
        Card("Barge-in", *_parts(max(stops, default=None)), "from speech to silence" if stops else "there was none"),
        Card("Stale audio", str(report.measures.stale_bytes), "bytes", "after an interruption"),
        Card("Holes", str(holes), "", "in the agent's speech", "bad" if holes else ""),
        Card(
            "Errors",
            str(trouble),
            "",
            one_line(report.errors[0], 60) if report.errors else "from the connector",
            "bad" if trouble else "",
        ),
    ]


def _parts(seconds: float | None) -> tuple[str, str]:
    return ("-", "") if seconds is None else (f"{seconds * 1000:.0f}", "ms")


def _bracket(begin: float, length: float, whole: float, about: str, words: str = "") -> Bracket:
    shown = milliseconds(length)
    return Bracket(share(begin, whole), share(length, whole), words or shown, f"{about} {shown}")


def _answers(report: CallReport, whole: float) -> list[Bracket]:
    found = [
        _bracket(turn.end, turn.response, whole, f"answer to {turn.name} after")
        for turn in report.measures.turns
        if turn.response is not None
    ]
    if (first := report.measures.first_audio) is not None:
        found.insert(0, _bracket(0.0, first, whole, "first audio after"))
    return found


def _said(turn: Turn, whole: float) -> Bracket:
    place = share(turn.begin, whole)
    return Bracket(place, round(share(turn.end, whole) - place, 3), "", turn.name, turn.over)


def _turn_row(turn: Turn) -> dict[str, str]:
    return {
        "name": turn.name,
        "begin": f"{turn.begin:.2f} s",
        "end": f"{turn.end:.2f} s",
        "response": milliseconds(turn.response),
        "stop": milliseconds(turn.stop),
        "stale": str(turn.stale_bytes) if turn.interrupted is not None else "-",
    }


def _check_row(check: Check, *, broken_off: bool) -> dict[str, str]:
    kind, words = ("good", "ok") if check.passed else ("neither", "not reached") if broken_off else ("bad", "failed")
    return {"name": check.name, "figure": check.figure, "bound": check.bound, "kind": kind, "words": words}


def _details(report: CallReport) -> list[tuple[str, str]]:
    reason = f" {one_line(report.close_reason)}" if report.close_reason else ""
    return [
        ("Ended by", f"{ENDINGS[report.ended]}, close {report.close_code}{reason}"),
        ("Time to open", milliseconds(report.setup)),
        ("Frames sent", f"{report.frames_sent}, of which this machine was late with {report.frames_late}"),
        ("Frames received", f"{report.bytes_received / FRAME_BYTES:g}"),
        ("Transcripts", str(len(report.transcripts))),
    ]
