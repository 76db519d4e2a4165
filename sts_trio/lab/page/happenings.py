"""What happened in a call, in words: one line an event, as a page lists them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import seconds
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.recording import Utterance
from sts_trio.lab.harness.report import AgentBegins
from sts_trio.lab.harness.script import Press, Unmet
from sts_trio.lab.harness.show import strongest
from sts_trio.lab.page.plot import share
from sts_trio.text import one_line

if TYPE_CHECKING:
    from sts_trio.lab.harness.report import CallReport, Event

# What strangers write may be long, and there may be much of it: a page stays one that can be looked at.
LONGEST_TEXT = 2000
MOST_EVENTS = 500
_BRIEF = 120


@dataclass(frozen=True, slots=True)
class Happening:
    """An event: when, who, what, and its kind, which gives its colour. `row`: of its mark below the time line."""

    at: float
    place: float
    kind: str
    who: str
    text: str
    note: str = ""
    row: int = 0

    @property
    def clock(self) -> str:
        """When it was."""
        return f"{self.at:.2f}"

    @property
    def brief(self) -> str:
        """The whole in a few words."""
        return one_line(f"{self.clock} s: {self.who} {self.text}", _BRIEF)

    def in_row(self, row: int) -> Happening:
        """Return it with its mark in this row."""
        return replace(self, row=row)


def happenings(report: CallReport, whole: float) -> list[Happening]:
    """Return what is to be told of a call, in order; of very many events the first `MOST_EVENTS`, and how many more."""
    found = [
        Happening(round(event.at, 3), share(event.at, whole), kind, who, one_line(text, LONGEST_TEXT), note)
        for event in report.events
        for kind, who, text, note in _told(event)
    ]
    if len(found) > MOST_EVENTS:
        first = found[MOST_EVENTS]
        more = f"and {len(found) - MOST_EVENTS} more events, which are not shown"
        found[MOST_EVENTS:] = [replace(first, kind="odd", who="", text=more, note="")]
    return found


def _told(event: Event) -> list[tuple[str, str, str, str]]:
    """Return kind, who, what and a note; nothing for audio, of which there is a message each 20 ms."""
    match event.what:
        case AgentBegins():
            return [("agent", "Agent", "speaks", "")]
        case Utterance(name=name, pcm=pcm, over=over):
            how = "speaks over the agent" if over else "speaks"
            return [("caller", "Caller", f"{how}: {name}, {seconds(len(pcm)):.1f} s", "")]
        case wire.Transcript(role="agent", text=text, emotions=emotions):
            return [("agent", "Agent", f"“{text}”", strongest(emotions))]
        case wire.Transcript(text=text, emotions=emotions):
            return [("caller", "Caller", f"“{text}”", strongest(emotions))]
        case wire.Interruption():
            return [("stop", "Agent", "is interrupted", "")]
        case wire.Error(message=message):
            return [("error", "Error", message, "")]
        case wire.Unknown(about=about):
            return [("odd", "Connector", f"sends what is not understood: {about}", "")]
        case Press(digit=digit):
            return [("key", "Caller", f"presses {digit}", "")]
        case Unmet(step=step):
            return [("odd", "Caller", f"gives up: {step}", "")]
    return []
