"""A caller who says nothing: asked whether he is still there, and when he is not, hung up on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class NoInputRules:
    """`seconds` without a word of either side is a step: first the `prompt` is said, then the call ends. 0: never."""

    seconds: float = 0.0
    prompt: str = ""


class NoInputTimer:
    """Where a call stands on the ladder. `deadline` says when to look at `step`; infinity when it is off."""

    def __init__(self, rules: NoInputRules) -> None:
        self.deadline = inf
        self._rules = rules
        self._prompted = False

    def heard_caller(self, now: float) -> None:
        """The caller has said or keyed something: back to the foot of the ladder."""
        self._prompted = False
        self.wait_from(now)

    def wait_from(self, now: float) -> None:
        """Somebody speaks, or something is under way, until `now`: silence begins after it."""
        self.deadline = now + self._rules.seconds if self._rules.seconds else inf

    def step(self, now: float) -> str | None:
        """It has been silent for so long: return what the agent is to say now, or None to end the call."""
        self.wait_from(now)
        if self._prompted or not self._rules.prompt:
            return None
        self._prompted = True
        return self._rules.prompt
