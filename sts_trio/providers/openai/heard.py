"""How much of the agent's voice has been played, by item, for truncation (docs/protocols/realtime.md 7.2). Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

# The voice that was given last is still on its way through the call and Core for so long.
_LINE_SECONDS = 0.2
_MOST_VOICES = 256  # items without a silence between them; what is older has been heard, or is nobody's concern
# A remainder that nobody would miss, of an item that is complete: its last frame was filled up.
_TOLERANCE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Cut:
    """Of `item`, which lasts `of_ms`, the caller has heard `heard_ms`."""

    item: str
    heard_ms: int
    of_ms: int


@dataclass(slots=True)
class _Voice:
    item: str
    seconds: float


class PlaybackEstimate:
    """The voice that a session has given since the last silence.

    It knows by the clock whether the caller still listens: the call plays at real time. How much was not heard the call
    itself says, exactly.
    """

    def __init__(self) -> None:
        self._voices: deque[_Voice] = deque(maxlen=_MOST_VOICES)
        self._plays_until = -inf

    def give(self, item: str, seconds: float, now: float) -> None:
        """A chunk of an item's voice has been given to the call."""
        if now >= self._plays_until + _LINE_SECONDS:
            self._voices.clear()  # all that has been heard out
        if self._voices and self._voices[-1].item == item:
            self._voices[-1].seconds += seconds
        else:
            self._voices.append(_Voice(item, seconds))
        self._plays_until = max(self._plays_until, now) + seconds

    def playing(self, now: float) -> bool:
        """Whether the caller is still listening to it."""
        return now < self._plays_until + _LINE_SECONDS

    def cut(self, unheard: float) -> list[Cut]:
        """The last `unheard` seconds will never be heard: return the items that this cuts, oldest first."""
        cuts: list[Cut] = []
        for voice in reversed(self._voices):
            if unheard <= _TOLERANCE_SECONDS:
                break
            heard = max(voice.seconds - unheard, 0.0)
            cuts.append(Cut(voice.item, int(heard * 1000), round(voice.seconds * 1000)))
            unheard -= voice.seconds
        self._voices.clear()
        self._plays_until = -inf
        return cuts[::-1]
