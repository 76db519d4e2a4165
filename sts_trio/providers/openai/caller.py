"""The caller as the service tells of them: whether they speak, when a turn is over, and its words. Pure.

Ends that do not come are closed by time. Words are those of an item (docs/protocols/realtime.md 4.4): another model
writes them down, and says some more than once, with more text each time; the last within a moment are told. Times in
seconds.

| State (`Caller`) | What comes next |
|---|---|
| `QUIET` | `SPEAKS` |
| `SPEAKS` | `STOPPED`; `QUIET` with the item of the turn, or when nobody speaks for so long |
| `STOPPED` | `QUIET` with the item of the turn, or when a response begins, or after a moment |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from sts_trio.providers.base import UserSpeaks, UserTurn, UserWords

if TYPE_CHECKING:
    from collections import deque

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.history import History

_LONGEST_SPEECH = 30.0  # without a pause; whose end is not told by then has ended
_COMMIT_SECONDS = 1.0  # from the end of the speech until the turn is an item; it comes at once, or not at all
_SETTLE_SECONDS = 0.4  # after words of a turn: more of them come within, or they are all
_UNFINISHED_SECONDS = 3.0  # the same for words that are not final, or whose turn is not over
_REMEMBERED = 64  # turns; words come within seconds


class Caller(Enum):
    """What the caller does; see the table above."""

    QUIET = auto()
    SPEAKS = auto()
    STOPPED = auto()


@dataclass(slots=True)
class _Words:
    """Of one turn. `tell_at`: when they are all there, as far as is known."""

    text: str = ""
    final: bool = False
    over: bool = False  # the turn
    told: bool = False
    tell_at: float = inf


class CallerTurns:
    """Puts turns and words into `events`."""

    def __init__(self, history: History, events: deque[AgentEvent]) -> None:
        self.caller = Caller.QUIET
        self._history = history
        self._events = events
        self._item = ""  # of the turn that is spoken, or was last
        self._until = inf  # the end that is waited for
        self._early = False  # the turn was told before its item came
        self._words: dict[str, _Words] = {}

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return min(self._until, min((each.tell_at for each in self._words.values()), default=inf))

    # Turns.

    def begins(self, item: str, now: float) -> None:
        """The caller speaks."""
        self._words.pop(item, None)  # an id that is used again
        self.caller, self._item, self._until, self._early = Caller.SPEAKS, item, now + _LONGEST_SPEECH, False
        self._events.append(UserSpeaks())

    def is_news(self, item: str) -> bool:
        """Whether the end of a turn with this item is the first that is heard of it."""
        return self.caller is Caller.QUIET and not self._early and not self._is_over(item)

    def stops(self, item: str, now: float) -> bool:
        """The caller has finished. Return whether that is the first that is heard of their end."""
        if self.caller is not Caller.SPEAKS or self._is_other(item):
            return False
        self.caller, self._item, self._until = Caller.STOPPED, item or self._item, now + _COMMIT_SECONDS
        return True

    def commits(self, item: str, now: float) -> bool:
        """The turn is an item now. Return whether that is the first that is heard of its end."""
        if self._is_over(item):
            return False
        if self._early:
            self._early = False
            return False
        if self._is_other(item):
            self._turn(item, now)  # that of a turn before
            return False
        first, self.caller = self.caller is not Caller.STOPPED, Caller.QUIET
        self._until = inf
        self._turn(item or self._item, now)
        return first

    def _is_over(self, item: str) -> bool:
        """Whether the turn with this item has been told."""
        return bool(item) and item in self._words and self._words[item].over

    def _is_other(self, item: str) -> bool:
        """Whether this is the item of another turn than the one that is spoken."""
        return self.caller is Caller.SPEAKS and bool(item and self._item) and item != self._item

    def answered(self, now: float) -> None:
        """A response begins: no item of the turn that it answers need come."""
        if self.caller is Caller.STOPPED:
            self._close(now)

    def silenced(self, now: float) -> None:
        """They have stopped, as can be told from what the service does."""
        if self.caller is not Caller.QUIET:
            self._close(now)

    def lost(self) -> None:
        """The session is over: the words of turns that are over have been said."""
        for item, words in list(self._words.items()):
            if words.over and words.tell_at < inf:
                self._tell(item, words)

    def expire(self, now: float) -> bool:
        """Act on what is overdue. Return whether a caller who was held to speak has stopped by now."""
        spoke = False
        if self._until <= now:
            spoke = self.caller is Caller.SPEAKS
            self._close(now)
        for item, words in list(self._words.items()):
            if words.tell_at <= now:
                self._tell(item, words)
        return spoke

    def _close(self, now: float) -> None:
        self.caller, self._until, self._early = Caller.QUIET, inf, True
        self._turn(self._item, now)

    def _turn(self, item: str, now: float) -> None:
        words = self._of(item)
        words.over = True
        if not words.text:
            self._history.user_turn(item)
        self._events.append(UserTurn("", turn=item))
        self._wait(words, now)

    # Words.

    def says(self, item: str, text: str, now: float, *, final: bool) -> None:
        """These are the words of a turn so far."""
        if not (text := text.strip()):
            return
        self._history.user_words(item, text)
        words = self._of(item)
        if words.told:
            return
        words.text, words.final = text, final
        self._wait(words, now)

    def says_nothing(self, item: str) -> None:
        """No words of this turn will come."""
        if item and not self._of(item).text:
            self._events.append(UserWords("", turn=item))

    def _of(self, item: str) -> _Words:
        words = self._words.setdefault(item, _Words())
        if len(self._words) > _REMEMBERED:
            del self._words[next(iter(self._words))]
        return words

    def _wait(self, words: _Words, now: float) -> None:
        if words.text and not words.told:
            settled = words.final and words.over
            words.tell_at = now + (_SETTLE_SECONDS if settled else _UNFINISHED_SECONDS)

    def _tell(self, item: str, words: _Words) -> None:
        words.told, words.tell_at = True, inf
        self._events.append(UserWords(words.text, turn=item))
        if not item:
            del self._words[item]  # the next turn without a name is another
