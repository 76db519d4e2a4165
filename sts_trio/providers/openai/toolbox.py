"""The functions that the agent has asked for: one at a time to the call, and one new response when all are in. Pure.

A response may ask for several (openai-realtime.md 7.4); a call takes them one after another, as the seam has it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.providers.events import ToolCall

if TYPE_CHECKING:
    from sts_trio.providers.openai.wire import Item

_MOST_CALLS = 16  # of the agent that wait; more are not asked for by any sane model
_REMEMBERED = 64
_LONGEST_ID = 256  # without an id, or with an absurd one, it could not be answered


@dataclass(slots=True)
class _Asked:
    call: ToolCall
    response: str


class Toolbox:
    """`busy`: the agent waits for something."""

    def __init__(self) -> None:
        self._waiting: deque[_Asked] = deque()
        self._out: _Asked | None = None
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._moved_on = False

    @property
    def busy(self) -> bool:
        """Whether the agent waits for an answer."""
        return self._out is not None

    def ask(self, item: Item, response: str) -> ToolCall | None:
        """The agent asks for a function; return what the call is to be asked for now, if anything."""
        id_ = item.call_id or ""
        if item.type != "function_call" or not 0 < len(id_) <= _LONGEST_ID or id_ in self._seen:
            return None
        self._seen.append(id_)
        given = item.arguments if isinstance(item.arguments, str) else ""
        asked = _Asked(ToolCall(id_, item.name or "", given or "{}", response_required=True), response)
        if self._out is None:
            self._out, self._moved_on = asked, False
            return asked.call
        if len(self._waiting) < _MOST_CALLS:
            self._waiting.append(asked)
        return None

    def asked_in(self, response: str) -> bool:
        """Whether something that is still to be answered was asked for in this response."""
        return any(asked.response == response for asked in (self._out, *self._waiting) if asked is not None)

    def responded(self, response: str) -> None:
        """The agent has said something; it has moved on, if it still waits for what it asked for earlier."""
        if self.busy and not self.asked_in(response):
            self._moved_on = True

    def answered(self, id_: str, *, failed: bool) -> tuple[ToolCall | None, ToolCall | None, bool]:
        """The call has answered: return what it answers, what is to be asked next, and whether the agent shall speak.

        Of a request that the call has stopped because the agent moved on, there is nothing more to say.
        """
        if self._out is None or self._out.call.id != id_:
            return None, None, False
        done, self._out = self._out.call, self._waiting.popleft() if self._waiting else None
        if self._out is not None:
            return done, self._out.call, False
        return done, None, not (failed and self._moved_on)
