"""Limits that a load is held against; what is over them decides the exit code. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper limits; None: no limit. Units as in `Results`; a ratio is that of the first connector to `--versus`."""

    p99_ms: float | None = None
    first_p99_ms: float | None = None
    stop_ms: float | None = None
    lost: float | None = None
    stale: float | None = None
    failed: float | None = None
    cpu: float | None = None
    memory_kb: float | None = None
    cpu_ratio: float | None = None


_WHAT = {
    "p99_ms": ("up.p99", "added latency up, p99", "ms"),
    "first_p99_ms": ("first_audio.p99", "first audio down, p99", "ms"),
    "stop_ms": ("stop.max", "stop after a barge-in, longest", "ms"),
    "lost": ("lost", "lost, doubled, reordered or damaged", "frames"),
    "stale": ("stale", "stale after a barge-in", "frames"),
    "failed": ("failed", "failed", "calls"),
    "cpu": ("cpu_per_call", "CPU per call", "thousandths of a core"),
    "memory_kb": ("memory_per_call", "memory per call", "KB"),
    "cpu_ratio": ("cpu_ratio", "CPU per call against the other", "times"),
}
_WRONG = [f"{way}_{what}" for way in ("up", "down") for what in ("lost", "doubled", "reordered", "damaged")]


def exceeded(limits: Limits, medians: Mapping[str, float]) -> list[str]:
    """Name each limit that is exceeded, in a line of its own. What was limited but not measured is exceeded too."""
    known = {**medians, "lost": sum(medians.get(name, 0.0) for name in _WRONG)}
    said = []
    for each in fields(Limits):
        limit = getattr(limits, each.name)
        if limit is None:
            continue
        name, words, unit = _WHAT[each.name]
        value = known.get(name)
        if value is None:
            said.append(f"{words}: not measured, limit {limit:g} {unit}")
        elif value > limit:
            said.append(f"{words}: {value:g} {unit}, limit {limit:g}")
    return said
