"""What a call leaves behind. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sts_trio.lab.harness import wire

if TYPE_CHECKING:
    from sts_trio.lab.harness.measures import Measures
    from sts_trio.lab.harness.recording import Recording, Utterance
    from sts_trio.lab.harness.script import Press, Unmet


@dataclass(frozen=True, slots=True)
class AgentBegins:
    """The agent's speech begins in the caller's ear, after a pause."""


Happening: TypeAlias = "wire.FromConnector | AgentBegins | Utterance | Press | Unmet"
Ending: TypeAlias = Literal["script", "far end", "limit", "stalled", "caller"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the call, `at` seconds after the connection was open."""

    at: float
    what: Happening


@dataclass(frozen=True, slots=True)
class CallReport:
    """A call that took place. Times are seconds since the connection was open.

    `ended`: by the script's end, by the far end, by the call's time limit, because the far end stopped reading, or by a
    caller who hung up in the middle.
    `close_code`: what the far end sent (1005 none, 1006 no close frame), or ours, 1000; 1006 if it stopped reading.
    `frames_late`: sent more than 20 ms behind real time, which is this machine's doing. `unmet`: steps of the script
    that were given up.
    """

    uuid: str
    setup: float
    duration: float
    ended: Ending
    close_code: int
    close_reason: str
    events: tuple[Event, ...]
    recording: Recording
    measures: Measures
    frames_sent: int
    frames_late: int
    bytes_received: int
    unmet: tuple[str, ...]

    @property
    def transcripts(self) -> tuple[wire.Transcript, ...]:
        """What both sides said, in order of arrival."""
        return tuple(event.what for event in self.events if isinstance(event.what, wire.Transcript))

    @property
    def errors(self) -> tuple[str, ...]:
        """The connector's `error` messages."""
        return tuple(event.what.message for event in self.events if isinstance(event.what, wire.Error))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Messages that Core would not have understood."""
        return tuple(event.what.about for event in self.events if isinstance(event.what, wire.Unknown))

    @property
    def went_through(self) -> bool:
        """The agent was heard, the connector reported no error, and nobody broke the call off."""
        good_bye = self.ended == "script" or (self.ended == "far end" and self.close_code in (1000, 1005))
        return good_bye and self.measures.first_audio is not None and not self.errors


@dataclass(frozen=True, slots=True)
class Check:
    """A figure of a call, the bound for it, and whether that holds."""

    name: str
    figure: str
    bound: str
    passed: bool
