"""The agent's words, by item: told once, whole where they are said whole, else as far as they had come. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.providers.base import AgentText

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.history import History

_LONGEST_TEXT = 10_000  # characters of what the agent says in one item; some ten minutes
_REMEMBERED = 64  # items: those that have been told, and those that are being said


class AgentWords:
    """Puts the words of items into `events`. `response` and `item` are "" where the service does not say which."""

    def __init__(self, history: History, events: deque[AgentEvent]) -> None:
        self._history = history
        self._events = events
        self._said: dict[tuple[str, str], str] = {}
        self._told: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    def more(self, response: str, item: str, text: str) -> None:
        """More of an item is being said."""
        name = (response, item)
        self._said[name] = (self._said.get(name, "") + text)[:_LONGEST_TEXT]
        self._history.agent_words(item, self._said[name])
        if len(self._said) > _REMEMBERED:
            self._tell(next(iter(self._said)))

    def whole(self, response: str, item: str, text: str) -> None:
        """These are the words of an item."""
        if text.strip():
            self._said[response, item] = text[:_LONGEST_TEXT]
        self._tell((response, item))

    def tell(self, response: str | None = None) -> None:
        """Tell what has been said so far, of this response or of all."""
        for name in [name for name in self._said if response in (None, name[0])]:
            self._tell(name)

    def begin(self, response: str) -> None:
        """A response begins: an id may be used again."""
        self._told = deque((name for name in self._told if name[0] != response), _REMEMBERED)

    def _tell(self, name: tuple[str, str]) -> None:
        words = self._said.pop(name, "").strip()
        response, item = name
        if not words or (name in self._told and item):
            return
        self._told.append(name)
        self._history.agent_words(item, words)
        self._events.append(AgentText(response or item, words))
