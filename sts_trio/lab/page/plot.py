"""Where things stand in a picture: axes in round numbers, sound and curves as paths of SVG. Pure.

Pictures are stretched to whatever width a page has, so across they are measured in shares of the whole; words and marks
are laid over them by the page itself, and are not stretched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

HEIGHT = 100.0  # of a picture, in SVG's units; sound has as much above its middle as below
# Peaks a second: at the widest (8 times 1,400 px for 20 s) still more than a pixel each.
PEAKS_A_SECOND = 50
MOST_PEAKS = 6000  # 2 minutes of these; longer calls get fewer a second. 70 KB a line
MOST_ROWS = 6
_STEPS = (1, 2, 5)
_FAINT = 1000  # the loudest sample of a line that is drawn as high as it goes; noise must not look like speech


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, from 0 to 100, and its words."""

    place: float
    words: str


def step(most: float, about: int) -> float:
    """Return a round distance that cuts `most` into at most `about` parts."""
    if most <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(most / about))
    return next(each * decade for each in (*_STEPS, 10) if each * decade * about >= most * (1 - 1e-9))


def axis(most: float, about: int, unit: str = "") -> list[Tick]:
    """Mark an axis from 0 to `most`."""
    apart = step(most, about)
    count = math.floor(most / apart + 1e-9)
    digits = max(0, -math.floor(math.log10(apart)))
    return [Tick(share(n * apart, most), f"{n * apart:.{digits}f}{unit}") for n in range(count + 1)]


def round_up(most: float, about: int = 4) -> float:
    """Return where an axis for values up to `most` ends in a round number."""
    apart = step(most, about)
    return math.ceil(most / apart - 1e-9) * apart or 1.0


def share(value: float, most: float) -> float:
    """Return a place on an axis, in per cent; what is beyond its ends stands there."""
    return round(min(max(value / most, 0.0), 1.0) * 100, 3) if most > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Wave:
    """A line's sound as a path; `width` in SVG's units, from -`HEIGHT` to `HEIGHT`."""

    path: str
    width: int


def wave(pcm: bytes, whole: float, rate: int) -> Wave:
    """Draw s16le sound that belongs to a picture of `whole` seconds: an outline of the peaks."""
    width = max(1, min(MOST_PEAKS, math.ceil(whole * PEAKS_A_SECOND)))
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
    edges = np.linspace(0, whole * rate, width + 1).round().astype(int)
    cut = [samples[a:b] for a, b in pairwise(edges.tolist())]
    scale = HEIGHT / max(_FAINT, int(np.abs(samples).max(initial=0)))
    highs = [int(part.max(initial=0)) * scale for part in cut]
    lows = [int(part.min(initial=0)) * scale for part in cut]
    points = [(n, -high) for n, high in enumerate(highs)] + [(n, -low) for n, low in reversed([*enumerate(lows)])]
    return Wave("M" + "L".join(f"{x} {y:.0f}" for x, y in points) + "Z", width)


def curve(points: Sequence[tuple[float, float | None]], most_x: float, most_y: float) -> str:
    """Draw a curve into a picture of 100 by `HEIGHT`; where a value is missing, it has a gap."""
    path, pen_is_up = "", True
    for x, y in points:
        if y is None:
            pen_is_up = True
            continue
        path += f"{'M' if pen_is_up else 'L'}{share(x, most_x):g} {HEIGHT - share(y, most_y):g}"
        pen_is_up = False
    return path


def rows(places: Sequence[float], apart: float) -> list[int]:
    """Give marks at these places, in their order, rows in which no two are nearer than `apart`.

    There are at most `MOST_ROWS`: where more would be needed, marks lie over each other.
    """
    ends: list[float] = []
    chosen = []
    for place in places:
        row = next((n for n, end in enumerate(ends) if place >= end), len(ends))
        if row == MOST_ROWS:
            row = ends.index(min(ends))
            place = ends[row]  # noqa: PLW2901 - the next one that has no room takes another row
        ends[row : row + 1] = [place + apart]
        chosen.append(row)
    return chosen
