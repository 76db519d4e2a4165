"""The functions that the agent has asked for: one at a time to the call, and one new response when all are in. Pure.

A response may ask for several (docs/protocols/realtime.md 7.4); a call takes them one after another, as the seam has
it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.providers.base import ToolCall

if TYPE_CHECKING:
    from sts_trio.providers.openai.wire import Item

_MOST_CALLS = 16  # of the agent that wait; more are not asked for by any sane model
_REMEMBERED = 64


@dataclass(slots=True)
class _Asked:
    call: ToolCall
    response: str


class ToolQueue:
    """What the agent asks for stays open until it is answered, whatever is said meanwhile."""

    def __init__(self) -> None:
        self._waiting: deque[_Asked] = deque()
        self._out: _Asked | None = None
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)

    def ask(self, item: Item, response: str) -> ToolCall | None:
        """The agent asks for a function; return what the call is to be asked for now, if anything.

        One that was cut short, by the caller or by a limit, is `incomplete`: its arguments may be half of what they
        were to be.
        """
        id_ = item.call_id or ""
        if item.type != "function_call" or item.status not in (None, "completed") or not id_ or id_ in self._seen:
            return None
        self._seen.append(id_)
        given = item.arguments if isinstance(item.arguments, str) else ""
        call = ToolCall(id_, item.name or "", given or "{}", response_required=True, stays_open=True)
        asked = _Asked(call, response)
        if self._out is None:
            self._out = asked
            return call
        if len(self._waiting) < _MOST_CALLS:
            self._waiting.append(asked)
        return None

    def asked_in(self, response: str) -> bool:
        """Whether something that is still to be answered was asked for in this response."""
        return any(asked.response == response for asked in (self._out, *self._waiting) if asked is not None)

    def answered(self, id_: str) -> tuple[ToolCall | None, ToolCall | None]:
        """The call has answered: return what it answers, and what is to be asked next."""
        if self._out is None or self._out.call.id != id_:
            return None, None
        done, self._out = self._out.call, self._waiting.popleft() if self._waiting else None
        return done, self._out.call if self._out else None
