"""What the caller does: a script of steps, and the player that turns it into one frame each 20 ms. Pure.

The caller's telephone sends a frame when its 20 ms have been spoken, so frame n is what was said from n x 20 ms on
and leaves at (n + 1) x 20 ms. `Player.line` is that line, silence included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES, pieces, seconds
from sts_trio.lab.harness.recording import Utterance

if TYPE_CHECKING:
    from sts_trio.lab.harness.recording import Ear


@dataclass(frozen=True, slots=True)
class Speak:
    """Say `pcm` (s16le, 8000 Hz, mono), whatever the agent does."""

    pcm: bytes
    name: str = "speech"


@dataclass(frozen=True, slots=True)
class SpeakOver:
    """Say `pcm` once the agent has been heard for `after` seconds. Not said if the agent is not heard in time."""

    pcm: bytes
    after: float = 0.6
    limit: float = 10.0
    name: str = "barge-in"


@dataclass(frozen=True, slots=True)
class Press:
    """Press a key of the telephone."""

    digit: str


@dataclass(frozen=True, slots=True)
class Key:
    """Press a key `at` so many seconds of the call, whatever is being said."""

    at: float
    digit: str


@dataclass(frozen=True, slots=True)
class Until:
    """Say nothing until so many seconds of the call have passed."""

    at: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Say nothing for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitForAgent:
    """Listen until the agent has been speaking for `heard` seconds."""

    heard: float = 0.0
    limit: float = 10.0


@dataclass(frozen=True, slots=True)
class WaitForSilence:
    """Listen until nothing of the agent has been heard, or is queued, for `quiet` seconds."""

    quiet: float = 0.5
    limit: float = 60.0


Step = Speak | SpeakOver | Press | Until | Wait | WaitForAgent | WaitForSilence
CallerScript = Sequence[Step]


@dataclass(frozen=True, slots=True)
class Unmet:
    """A step that was given up because its limit had passed."""

    step: str


@dataclass(frozen=True, slots=True)
class Slot:
    """The next 20 ms: the frame to send (None: the script is over), and what began or failed with it."""

    frame: bytes | None
    news: tuple[Utterance | Press | Unmet, ...] = ()


_SILENCE = bytes(FRAME_BYTES)
LONGEST_WAIT = 240.0  # for a key; a call of the lab is over after 300 s


class Player:
    """Plays a script against what the ear hears, and presses `keys` at their times."""

    def __init__(self, script: CallerScript, keys: Sequence[Key] = ()) -> None:
        self._steps = deque(script)
        self._keys = deque(sorted(keys, key=lambda key: key.at))
        self._speech: deque[bytes] = deque()
        self._since: float | None = None  # when the step at the front began to wait
        self._line = bytearray()
        self.utterances: list[Utterance] = []

    @property
    def line(self) -> bytes:
        """All that was said until now, silence included."""
        return bytes(self._line)

    def slot(self, now: float, ear: Ear) -> Slot:
        """Return what the next 20 ms bring. To be called once for each of them."""
        news: list[Utterance | Press | Unmet] = []
        while self._keys and self._keys[0].at <= now:
            news.append(Press(self._keys.popleft().digit))
        while self._steps and not self._speech:
            step = self._steps[0]
            if self._since is None:
                self._since = now
            met = _is_met(step, now, now - self._since, ear)
            if not met and now - self._since < _limit(step):
                return self._send(_SILENCE, news)
            if not met:
                news.append(Unmet(type(step).__name__))
            elif isinstance(step, Press):
                news.append(step)
            elif isinstance(step, Speak | SpeakOver):
                news.append(self._begin(step))
            self._steps.popleft()
            self._since = None
        if self._speech:
            return self._send(self._speech.popleft(), news)
        if self._keys:
            return self._send(_SILENCE, news)
        return Slot(None, tuple(news))

    def _begin(self, step: Speak | SpeakOver) -> Utterance:
        utterance = Utterance(seconds(len(self._line)), step.pcm, step.name, isinstance(step, SpeakOver))
        self.utterances.append(utterance)
        self._speech.extend(piece.ljust(FRAME_BYTES, b"\0") for piece in pieces(step.pcm))
        return utterance

    def _send(self, frame: bytes, news: list[Utterance | Press | Unmet]) -> Slot:
        self._line += frame
        return Slot(frame, tuple(news))


def _is_met(step: Step, now: float, waited: float, ear: Ear) -> bool:
    match step:
        case Speak() | Press():
            return True
        case Until(at=at):
            return now >= at
        case Wait(seconds=limit):
            return waited >= limit
        case WaitForAgent(heard=least) | SpeakOver(after=least):
            return ear.heard_for(now) >= max(least, 1e-9)
        case WaitForSilence(quiet=least):
            return ear.quiet_for(now) >= least


def _limit(step: Step) -> float:
    return step.limit if isinstance(step, WaitForAgent | SpeakOver | WaitForSilence) else float("inf")


# After the last key: the service gathers keys for some time (DTMF_GAP_MS), the agent thinks, and then speaks.
_AFTER_KEYS = 4.0


def plain_script(pcm: bytes, keys: Sequence[Key] = ()) -> CallerScript:
    """Let the agent greet if it does so within 3 s, say `pcm`, and hear the answer, and that to `keys`, to its end."""
    script: list[Step] = [
        WaitForAgent(limit=3.0),
        WaitForSilence(0.6),
        Speak(pcm),
        WaitForAgent(limit=10.0),
        WaitForSilence(1.5),
    ]
    if keys:
        script += [Until(max(key.at for key in keys) + _AFTER_KEYS), WaitForSilence(1.5)]
    return script


KEYS = frozenset("0123456789*#ABCD")
_BETWEEN_KEYS = 0.25  # of several that are given one time


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read keys and their seconds: ``0@3``, or several, ``12#@4.5,9@8``; keys of one time follow each other quickly.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    keys: list[Key] = []
    for part in text.split(","):
        digits, _, seconds_ = part.strip().upper().partition("@")
        try:
            at = float(seconds_)
        except ValueError:
            at = -1.0
        if not digits or not 0 <= at <= LONGEST_WAIT:
            raise ValueError(
                f"{part.strip()!r} is not KEYS@SECONDS, such as 0@3 or 12#@4.5, with seconds up to {LONGEST_WAIT:g}"
            )
        if odd := [digit for digit in digits if digit not in KEYS]:
            raise ValueError(f"{odd[0]!r} is no key of a telephone: there are 0-9, *, # and A-D")
        keys += [Key(at + number * _BETWEEN_KEYS, digit) for number, digit in enumerate(digits)]
    return tuple(keys)
