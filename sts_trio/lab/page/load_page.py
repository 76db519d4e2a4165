"""A load as a page: its figures, and how latency, CPU and calls went over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sts_trio.lab.load.show import figures, ms
from sts_trio.lab.page.call_page import Card, Verdict
from sts_trio.lab.page.plot import Tick, axis, curve, round_up, share
from sts_trio.lab.page.render import render
from sts_trio.lab.providers import find_provider
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sts_trio.lab.load.curves import Curves, Point
    from sts_trio.lab.load.results import Results, Spread

# Names of two connectors, and rows of what, both, and the ratio.
Comparison = tuple["Sequence[str]", "Sequence[tuple[str, str, str, str]]"]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name, its path, whether it is dashed, and its colour by number."""

    name: str
    path: str
    dashed: bool
    hue: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the seconds of a run; `told` says in words what they show.

    `span`: where it was measured, and how wide that is.
    """

    title: str
    told: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a curve shows of every look at a run, and how it looks itself."""

    name: str
    pick: Callable[[Point], float | None]
    hue: int
    dashed: bool = False


def load_page(
    runs: Sequence[tuple[Results, Curves]],
    provider: str,
    exceeded: Sequence[str],
    compared: Comparison | None = None,
    made: datetime | None = None,
) -> bytes:
    """Make the page of a load: of its runs, in their order, the limits that were exceeded, and another connector."""
    first, _ = runs[0]
    failed = sum(run.failed for run, _ in runs)
    return render(
        "load.html",
        made or datetime.now(UTC).astimezone(),
        verdict=_verdict(exceeded, failed),
        facts=[
            one_line(first.url),
            f"{first.calls} calls at once",
            f"{first.seconds:g} s measured",
            f"profile {first.profile}",
            find_provider(provider).spoken,
        ],
        exceeded=exceeded,
        runs=[
            {
                "title": f"Run {number}" if len(runs) > 1 else "The run",
                "url": one_line(run.url) if compared else "",
                "cards": _cards(run),
                "failures": [f"{count} x {one_line(cause, 200)}" for cause, count in run.failures.items()],
                "warnings": run.warnings,
                "charts": _charts(curves),
                "rows": figures(run),
            }
            for number, (run, curves) in enumerate(runs, 1)
        ],
        compared=compared,
    )


def _verdict(exceeded: Sequence[str], failed: int) -> Verdict:
    if exceeded:
        return Verdict(f"The load exceeded {len(exceeded)} limit{'s' if len(exceeded) > 1 else ''}", "bad")
    if failed:
        return Verdict(f"The load was held, and {failed} call{'s' if failed > 1 else ''} failed", "neither")
    return Verdict("The load was held", "good")


def _cards(run: Results) -> list[Card]:
    lost = run.lost
    memory = "-" if run.memory_per_call is None else f"{run.memory_per_call:.0f}"
    cpu = "-" if run.cpu_per_call is None else f"{run.cpu_per_call:.2f}"
    return [
        _latency("Latency up", run.up),
        _latency("First audio", run.first_audio),
        Card("Barge-in", *_parts(None if run.stop is None else run.stop.max), "longest until it is silent"),
        Card("CPU", cpu, "‰", "of a core a call"),
        Card("Memory", memory, "KB", "a call, over the idle process"),
        Card("Frames lost", str(lost), "", f"of {run.up_frames + run.down_frames}", "bad" if lost else ""),
        Card("Calls failed", str(run.failed), "", f"of {run.calls}", "bad" if run.failed else ""),
    ]


def _latency(name: str, spread: Spread | None) -> Card:
    if spread is None:
        return Card(name, "-", "", "there was none")
    return Card(name, *_parts(spread.p99), f"p99; half within {ms(spread.p50)}")


def _parts(value: float | None) -> tuple[str, str]:
    number, _, unit = ms(value).partition(" ")
    return number, unit


def _charts(curves: Curves) -> list[Chart]:
    found = (
        _chart(
            curves,
            "Latency so far, ms",
            Shown("up, p99", lambda point: point.up_p99, 0),
            Shown("up, p50", lambda point: point.up_p50, 0, dashed=True),
            Shown("first audio, p99", lambda point: point.first_p99, 1),
            Shown("first audio, p50", lambda point: point.first_p50, 1, dashed=True),
        ),
        _chart(
            curves,
            "CPU, per cent of a core",
            Shown("the connector", lambda point: point.server, 2),
            Shown("the load itself", lambda point: point.load, 3, dashed=True),
        ),
        _chart(curves, "Calls at once", Shown("calls", lambda point: point.calls, 1)),
    )
    return [chart for chart in found if chart is not None]


def _chart(curves: Curves, title: str, *shown: Shown) -> Chart | None:
    """Draw curves; None if there is no value for any."""
    whole = max(curves.seconds, 0.5)
    values = [(each, [(point.at, each.pick(point)) for point in curves.points]) for each in shown]
    ends = {each.name: [y for _, y in points if y is not None] for each, points in values}
    known = [(each, points) for each, points in values if ends[each.name]]
    if not known:
        return None
    top = round_up(max(max(ends[each.name]) for each, _ in known) or 1.0)
    measured = [point.at for point in curves.points if point.measuring]
    last = "; ".join(f"{each.name} ends at {ends[each.name][-1]:.3g}" for each, _ in known)
    return Chart(
        title=title,
        told=f"{title}, over {whole:.0f} s: {last}.",
        lines=tuple(Line(each.name, curve(points, whole, top), each.dashed, each.hue) for each, points in known),
        across=tuple(axis(whole, 6, " s")),
        up=tuple(axis(top, 4)),
        span=(share(measured[0], whole), share(measured[-1] - measured[0], whole)) if measured else (0.0, 0.0),
    )
