"""Why a new call may be refused, and when the event loop's lag becomes such a reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

# Lag must stay above the limit for so long before calls are refused: one late moment (a slow disk, a large page of
# memory) is over before anything could be done about it.
_UP_SECONDS = 1.0
# And below half of the limit for so long before calls are taken again: what was refused does not come all at once.
_DOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not taken: `reason` is one word for machines and metrics, `message` a line for a person."""

    reason: str
    message: str


DRAINING = Refusal("draining", "the service is stopping; no new calls")
OVERLOADED = Refusal("overloaded", "the service is overloaded; no new calls (see SHED_LAG_MS)")
REASONS = ("draining", "full", "overloaded")


def full(most: int) -> Refusal:
    """Say that there are as many calls as there may be."""
    return Refusal("full", f"all {most} lines are in use (see MAX_CALLS)")


class Shedder:
    """Decides from the event loop's lag whether new calls are refused. `limit` in seconds; 0: never."""

    def __init__(self, limit: float) -> None:
        self.shedding = False
        self._limit = limit
        self._up_since = inf
        self._down_since = inf

    def feed(self, lag: float, now: float) -> bool:
        """Take one measurement: how late, in seconds, a task was that woke at `now`. True if that changed `shedding`.

        Between the limit and its half nothing changes, and what was counted so far begins anew.
        """
        if self._limit <= 0:
            return False
        self._up_since = min(self._up_since, now) if lag > self._limit else inf
        self._down_since = min(self._down_since, now) if lag < self._limit / 2 else inf
        since, needed = (self._down_since, _DOWN_SECONDS) if self.shedding else (self._up_since, _UP_SECONDS)
        changed = now - since >= needed
        self.shedding ^= changed
        return changed
