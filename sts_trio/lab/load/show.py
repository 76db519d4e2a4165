"""A load on the terminal: a live table while it runs, one of figures at the end, and the ratios of two connectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sts_trio.lab.harness.show import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sts_trio.lab.load.plan import Glance
    from sts_trio.lab.load.results import Results, Spread
    from sts_trio.lab.load.run import Now

_COMPARED = (
    ("CPU per call", "cpu_per_call"),
    ("memory per call", "memory_per_call"),
    ("latency up, p50", "up.p50"),
    ("latency up, p99", "up.p99"),
    ("first audio, p50", "first_audio.p50"),
    ("first audio, p99", "first_audio.p99"),
    ("stop, p99", "stop.p99"),
    ("stale frames", "stale"),
    ("frames lost", "up_lost"),
    ("frames lost, down", "down_lost"),
    ("frames damaged, down", "down_damaged"),
    ("calls failed", "failed"),
)


def live_table(now: Now, title: str) -> Group:
    """Make what is shown while a run lasts."""
    plan = now.plan
    total = plan.calls / plan.ramp + plan.settle + plan.seconds
    share = min(now.elapsed / total, 1.0)
    bar = "█" * round(20 * share)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "frames", "p50", "p99", "max", "lost"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("up", *_glance(now.up))
    table.add_row("first audio", *_glance(now.down))
    state = "measuring" if now.measuring else "placing calls"
    server = "-" if now.server is None else f"{now.server / 10:.0f} %"
    return Group(
        table,
        Text(f"{bar:<20} {now.elapsed:.0f} of {total:.0f} s, {state}", "cyan"),
        Text(
            f"{now.down.calls} calls, {now.down.failed} failed; server {server} of a core, load {now.load / 10:.0f} %"
        ),
    )


def _glance(glance: Glance) -> tuple[str, ...]:
    times = (ms(None if value is None else value * 1000) for value in (glance.p50, glance.p99, glance.largest))
    return (str(glance.received), *times, str(glance.lost))


def ms(value: float | None) -> str:
    """A time, which is in milliseconds."""
    return "-" if value is None else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def results_table(run: Results, title: str) -> Table:
    """The figures of a run."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", "p50", "p95", "p99", "max", ""):
        table.add_column(column, justify="left" if not column else "right")
    for row in figures(run):
        table.add_row(*row)
    return table


def figures(run: Results) -> list[tuple[str, str, str, str, str, str]]:
    """The rows of a run's figures: what, p50, p95, p99, max, and a remark."""
    up = _counts(run.up_frames, run.up_lost, run.up_doubled, run.up_reordered, run.up_damaged)
    down = _counts(run.down_frames, run.down_lost, run.down_doubled, run.down_reordered, run.down_damaged)
    memory = "-" if run.memory_per_call is None else f"{run.memory_per_call:.0f} KB"
    idle = "" if run.memory_idle is None else f"a call, over {run.memory_idle / 1024:.0f} MB idle"
    own = f"callers {run.callers / 10:.0f} %, agents {run.agents / 10:.0f} %"
    return [
        ("latency up", *_spread(run.up), up),
        ("jitter up", *_spread(run.up_jitter), ""),
        ("first audio down", *_spread(run.first_audio), down),
        ("later audio, late by", *_spread(run.late_audio), f"{run.holes} holes"),
        ("stop at a barge-in", *_spread(run.stop), f"{run.stale} stale frames, {run.missed_stops} missed"),
        ("connection", *_spread(run.setup), f"{run.calls} calls, {run.failed} failed"),
        ("CPU", _per_call(run.cpu_per_call), "", "", "", _of_core("server", run.cpu)),
        ("memory", memory, "", "", "", idle),
        ("the load, late by", *_spread(run.late), own),
    ]


def remarks(run: Results) -> list[Text]:
    """What went wrong in a run, and what its figures should be read with."""
    failed = [Text(f"{count} x {printable(cause)}", "red") for cause, count in run.failures.items()]
    return failed + [Text(f"warning: {warning}", "yellow") for warning in run.warnings]


def _per_call(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _of_core(name: str, value: float | None) -> str:
    return "" if value is None else f"‰ of a core a call; {name} {value / 10:.0f} %"


def _spread(spread: Spread | None) -> tuple[str, str, str, str]:
    if spread is None:
        return "-", "-", "-", "-"
    return ms(spread.p50), ms(spread.p95), ms(spread.p99), ms(spread.max)


def _counts(frames: int, lost: int, doubled: int, reordered: int, damaged: int) -> str:
    wrong = {"lost": lost, "doubled": doubled, "reordered": reordered, "damaged": damaged}
    told = ", ".join(f"{count} {name}" for name, count in wrong.items() if count)
    return f"{frames} frames, {told or 'all right'}"


def ratios(first: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The first's medians over the other's, of what is above zero on both sides."""
    names = (name for name in first if other.get(name, 0.0) > 0 and first[name] > 0)
    return {name: first[name] / other[name] for name in names}


def versus_table(names: Sequence[str], first: Mapping[str, float], other: Mapping[str, float], rounds: int) -> Table:
    """Two connectors side by side: medians, and the first's over the other's."""
    title = f"medians of {rounds}, measured in turns; times in ms, CPU in thousandths of a core, memory in KB"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("", *names, "ratio"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    for row in comparison(first, other):
        table.add_row(*row)
    return table


def comparison(first: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, str, str, str]]:
    """The rows of two connectors side by side: what, both, and the ratio."""
    found = ratios(first, other)
    rows = []
    for words, name in _COMPARED:
        if name not in first and name not in other:
            continue
        one, two = (f"{side[name]:.2f}" if name in side else "-" for side in (first, other))
        rows.append((words, one, two, f"{found[name]:.2f}" if name in found else "-"))
    return rows
