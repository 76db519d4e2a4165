"""Draw call.svg: the demo's call, as it really went on this machine.

    .venv/bin/python docs/pictures/call.py      # takes the 20 s that the call takes

Two lanes with what was said and heard, what Core was told below them, and the figures that count.
"""

from __future__ import annotations

import io
import sys
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trio
from rich.console import Console

from sts_trio.audio.pcm import RATE
from sts_trio.lab.demo import demo
from sts_trio.lab.harness import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.lab.harness.report import CallReport

HERE = Path(__file__).parent
WIDTH, HEIGHT, LEFT, RIGHT = 1000, 372, 84, 16
CALLER, AGENT, CUT, INK, FAINT = "#2563a8", "#1d7f4f", "#b3261e", "#333333", "#999999"
LANES = {"caller": (112, CALLER), "agent": (204, AGENT)}
TOLD = 288  # where the messages are
SLOT = 0.03  # seconds that one stroke of a waveform stands for


class Picture:
    """The call on paper: seconds to the right, lanes below each other."""

    def __init__(self, call: CallReport) -> None:
        self._call = call
        self._seconds = call.duration + 0.3
        self.lines: list[str] = []

    def x(self, at: float) -> float:
        """Where a moment is."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * at / self._seconds, 1)

    def text(self, x: float, y: float, words: str, colour: str = INK, anchor: str = "start", size: int = 13) -> None:
        """Write something."""
        self.lines.append(
            f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> None:
        """Draw a stroke."""
        self.lines.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" {more}/>')

    def lane(self, name: str, pcm: bytes) -> None:
        """Draw a voice: for each slot of time, how loud it was at most."""
        y, colour = LANES[name]
        self.text(8, y + 5, name, colour, size=15)
        samples = np.abs(np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype="<i2").astype(np.int32))
        size = round(SLOT * RATE)
        loud = [int(samples[first : first + size].max()) for first in range(0, len(samples), size)]
        most = max(*loud, 1)
        strokes = "".join(
            f"M{self.x(number * SLOT)} {y - height}V{y + height}"
            for number, peak in enumerate(loud)
            if (height := round(30 * peak / most, 1)) >= 0.5
        )
        self.line(LEFT, y, WIDTH - RIGHT, y, FAINT, 'stroke-width="0.5"')
        self.lines.append(f'<path d="{strokes}" stroke="{colour}" stroke-width="1.5" fill="none"/>')

    def span(self, begin: float, end: float, y: float, words: str, colour: str) -> None:
        """Mark how long something took, with its figure beside the end."""
        first, last = self.x(begin), self.x(end)
        bar = f"M{first} {y - 4}V{y + 4}M{first} {y}H{last}M{last} {y - 4}V{y + 4}"
        self.lines.append(f'<path d="{bar}" stroke="{colour}" fill="none"/>')
        self.text(last + 5, y + 4, words, colour)

    def told(self) -> None:
        """Show what Core was told: transcripts and the interruption, each at its moment."""
        self.text(8, TOLD + 5, "to Core", INK, size=15)
        self.line(LEFT, TOLD, WIDTH - RIGHT, TOLD, FAINT, 'stroke-width="0.5"')
        level = 0
        for event in self._call.events:
            match event.what:
                case wire.Transcript(role=role):
                    name = "agent" if role == "agent" else "caller"
                    colour, words = LANES[name][1], f"transcript: {name}"
                case wire.Interruption():
                    colour, words = CUT, "interruption"
                case _:
                    continue
            x, y = self.x(event.at), TOLD + 20 + 17 * (level % 3)
            late = x > WIDTH - 150
            self.lines.append(f'<circle cx="{x}" cy="{TOLD}" r="4" fill="{colour}"/>')
            self.line(x, TOLD, x, y - 4, colour, 'stroke-width="0.7"')
            self.text(x + (-4 if late else 4), y, words, colour, "end" if late else "start", 12)
            level += 1

    def scale(self) -> None:
        """Show the seconds."""
        for second in range(0, int(self._seconds) + 1, 2):
            self.line(
                self.x(second), 62, self.x(second), HEIGHT - 24, FAINT, 'stroke-width="0.4" stroke-dasharray="2 4"'
            )
            self.text(self.x(second), HEIGHT - 8, f"{second} s", FAINT, "middle", 12)

    def figures(self) -> None:
        """Show what was measured in the caller's ear."""
        measures = self._call.measures
        first, second, over = measures.turns
        y = LANES["agent"][0] - 44
        if measures.first_audio is not None:
            self.span(0, measures.first_audio, y, f"first audio {measures.first_audio * 1000:.0f} ms", AGENT)
        for turn in (first, second):
            if turn.response is not None:
                self.span(turn.end, turn.end + turn.response, y, f"answer {turn.response * 1000:.0f} ms", AGENT)
        if over.stop is not None:
            self.span(
                over.begin, over.begin + over.stop, LANES["caller"][0] - 44, f"quiet {over.stop * 1000:.0f} ms", CUT
            )
            at = self.x(over.begin + over.stop)
            self.line(at, LANES["caller"][0] - 40, at, TOLD, CUT, 'stroke-width="0.7" stroke-dasharray="3 3"')


def drawn(call: CallReport) -> Iterator[str]:
    """The lines of the picture."""
    picture = Picture(call)
    picture.text(8, 22, "One call, as the caller heard it", size=17)
    title = (
        "of each answer 800 ms are the agent's own wait for silence; of the barge-in, its 800 ms until speech counts"
    )
    picture.text(8, 42, title, FAINT, size=12)
    picture.scale()
    picture.lane("caller", call.recording.caller)
    picture.lane("agent", call.recording.agent)
    picture.figures()
    picture.told()
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img">'
    yield "<title>The timeline of a call: the caller's voice, the agent's voice, and what Core is told</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>'
    yield from picture.lines
    yield "</svg>"


def main() -> None:
    """Place the call, draw it."""
    result = trio.run(partial(demo, Console(file=io.StringIO()), None))
    if not result.passed:
        sys.exit("the call did not go through as it should; nothing is drawn")
    (HERE / "call.svg").write_text("\n".join(drawn(result.report)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
