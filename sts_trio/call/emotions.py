"""How the caller sounds: emotion scores of user turns in; a rolling view, and the operator's rules that fire. Pure.

Scores are floats by name, nominally 0 to 1, independent of each other; slightly negative ones occur
(docs/protocols/evi.md 8). They rate how a voice sounds, not what a person feels. Whoever sends them may send anything,
so they are cleaned first.
"""

from __future__ import annotations

from heapq import nlargest
from math import isfinite
from typing import TYPE_CHECKING

from sts_trio.call.actions import CallWebhook, LogWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sts_trio.call.actions import Action, Actions
    from sts_trio.call.meter import CallCounts
    from sts_trio.call.tools import ToolCalls
    from sts_trio.settings.calls import EmotionRule

MOST_EMOTIONS = 64  # kept of a call; EVI has 48
LONGEST_NAME = 64
_WEIGHT = 0.4  # of the newest turn in the rolling view: half of it is what was heard in the last one or two turns
_DIGITS = 3
STRONGEST = 3  # emotions of a turn that Core and a webhook are told


def strongest(scores: Mapping[str, float], most: int) -> dict[str, float]:
    """Return the `most` highest scores, the highest first, rounded to 3 digits, within 0 to 1."""
    return {name: round(score, _DIGITS) for name, score in _highest(_clean(scores), most)}


class Mood:
    """The rolling view of one call: an exponentially weighted mean for each emotion over the user's turns.

    An emotion that a turn with scores does not name counts as 0 in it. Turns without scores (typed text) count nowhere.
    """

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def feed(self, scores: Mapping[str, float]) -> None:
        """Take the scores of a user turn."""
        heard = _clean(scores)
        if not heard:
            return
        weight = _WEIGHT if self._means else 1.0
        mixed = {
            name: (1 - weight) * self._means.get(name, 0.0) + weight * heard.get(name, 0.0)
            for name in self._means | heard
        }
        self._means = dict(_highest(mixed, MOST_EMOTIONS))

    def strongest(self, most: int) -> dict[str, float]:
        """Return the `most` highest means, as `strongest` does; nothing before the first turn with scores."""
        return strongest(self._means, most)


class EmotionWatch:
    """Watches one call for what the operator's rules name. Each rule fires once a call."""

    def __init__(self, rules: Iterable[EmotionRule]) -> None:
        self._rows = [(rule, 0) for rule in rules]  # those that have not fired, and their turns in a row so far

    def feed(self, scores: Mapping[str, float]) -> tuple[EmotionRule, ...]:
        """Take the scores of a user turn; return the rules that fire with it, in the operator's order.

        A turn without scores neither counts nor breaks a row. In one with scores, an emotion that is absent breaks it.
        """
        heard: dict[str, float] = {}
        for name, score in _clean(scores).items():
            folded = name.casefold()
            heard[folded] = max(score, heard.get(folded, 0.0))
        if not heard:
            return ()
        rows = [
            (rule, row + 1 if heard.get(rule.emotion.casefold(), 0.0) > rule.above else 0) for rule, row in self._rows
        ]
        self._rows = [(rule, row) for rule, row in rows if row < rule.turns]
        return tuple(rule for rule, row in rows if row >= rule.turns)


class Emotions:
    """The emotions of one call: `mood`, and what the operator's rules order when they fire."""

    def __init__(self, rules: Iterable[EmotionRule], tools: ToolCalls, counts: CallCounts) -> None:
        self.mood = Mood()
        self._watch = EmotionWatch(rules)
        self._tools = tools
        self._counts = counts

    def user_turn(self, scores: Mapping[str, float], now: float) -> Actions:
        """Take the scores of a user turn."""
        self.mood.feed(scores)
        fired: list[Action] = []
        for rule in self._watch.feed(scores):
            self._counts.rules_fired += 1
            told = {"emotion": rule.emotion, "above": rule.above, "turns": rule.turns}
            fired.append(LogWarning("an emotion rule fires", told))
            fired += self._fire(rule, scores, now)
        return tuple(fired)

    def _fire(self, rule: EmotionRule, scores: Mapping[str, float], now: float) -> Actions:
        if not rule.webhook:
            return self._tools.order(rule.tool or "", rule.arguments, now)
        told = {"emotion": rule.emotion, "above": rule.above, "turns": rule.turns}
        return (CallWebhook(rule.webhook, "emotion", told | {"scores": strongest(scores, STRONGEST)}),)


def _clean(scores: Mapping[str, float]) -> dict[str, float]:
    """Keep what is a number under a usable name, within 0 to 1."""
    return {
        name: min(max(0.0, score), 1.0)
        for name, score in scores.items()
        if 0 < len(name) <= LONGEST_NAME and isfinite(score)
    }


def _highest(scores: Mapping[str, float], most: int) -> list[tuple[str, float]]:
    return nlargest(most, scores.items(), key=lambda item: item[1])
