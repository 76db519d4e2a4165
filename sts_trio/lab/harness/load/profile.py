"""Who talks when: the conversations that a load can be made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sts_trio.lab.harness.load.levels import CHUNK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Step(Enum):
    """What an agent does at a moment of a turn."""

    WORDS = "words"
    CHUNK = "chunk"
    END = "end"
    CUT = "cut"
    CUT_OVER = "cut over"  # what was still under way of the interrupted turn has been sent
    USER = "user"


@dataclass(frozen=True, slots=True)
class Profile:
    """A conversation that repeats itself. Times in seconds.

    `caller`: whether caller audio flows, 50 frames a second, as from any telephone. The agent speaks for `speaks` in
    every `cycle`, and generates at most `ahead` of real time; every `cut_every`th turn is interrupted after `cut_at`.
    """

    caller: bool = True
    speaks: float = 0.0
    cycle: float = 1.0
    ahead: float = CHUNK_SECONDS
    cut_every: int = 0
    cut_at: float = 0.0

    def turn(self, number: int) -> list[tuple[float, Step]]:
        """What the agent does in turn `number` (from 0), in order, with the time since its beginning."""
        if not self.speaks:
            return []
        chunks = round(self.speaks / CHUNK_SECONDS)
        lead = round(self.ahead / CHUNK_SECONDS)
        spoken = [(max(0, chunk - lead) * CHUNK_SECONDS, Step.CHUNK) for chunk in range(chunks)]
        if self.cut_every and number % self.cut_every == self.cut_every - 1:
            # Audio of an interrupted reply may still come (docs/protocols/evi.md 4.4); one late chunk stands for it.
            before = [(at, step) for at, step in spoken if at < self.cut_at]
            said = [*before, *((self.cut_at, step) for step in (Step.CUT, Step.CHUNK, Step.CUT_OVER))]
        else:
            said = [*spoken, (spoken[-1][0], Step.END)]
        return [(0.0, Step.WORDS), *said, ((self.speaks + self.cycle) / 2, Step.USER)]


PROFILES: Mapping[str, Profile] = {
    "talk": Profile(speaks=2.0, cycle=4.0),
    "listen": Profile(speaks=9.0, cycle=10.0),
    "chatty": Profile(speaks=1.0, cycle=2.0, ahead=1.0, cut_every=2, cut_at=0.5),
    "silent": Profile(caller=False),
}
"""`talk`: each half of the time. `listen`: the agent nearly always. `chatty`: short turns, every other one interrupted,
generated at once. `silent`: the call is open, and nobody sends audio."""
