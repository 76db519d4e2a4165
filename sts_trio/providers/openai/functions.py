"""The functions that the agent asks for: each is run once, and answered once. Pure.

An output goes to the service when the response that asked is over: earlier it may be refused, and the agent asks for
the function again (docs/protocols/realtime.md 7.4). When all that a response has asked for is answered, the agent is
asked to go on, once. A call that has been asked for in an earlier session of the telephone call is not run again.
Times in seconds.

| State (`State`) | What comes next |
|---|---|
| `RUNS` | `READY`, when it is answered |
| `READY` | `SENT` when the response that asked is over, or after `_HELD_SECONDS` |
| `SENT` | gone with the response. Refused, the output answers the next call that asks for the same |
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

import msgspec

from sts_trio.providers.base import ToolCall
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.history import OpenCall
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.openai.history import History

_HELD_SECONDS = 5.0
_MOST_CALLS = 16  # that are still to be answered; more are not asked for by any sane model
_REMEMBERED = 64  # ids of calls


class State(Enum):
    """How far a call has come; see the table above."""

    RUNS = auto()
    READY = auto()
    SENT = auto()


@dataclass(slots=True)
class _Call:
    call: ToolCall
    state: State = State.RUNS
    output: str = ""
    send_at: float = inf  # though its response is not over


@dataclass(slots=True)
class _Asked:
    """What one response has asked for. `over`: it has ended."""

    calls: dict[str, _Call] = field(default_factory=dict)
    over: bool = False


class Functions:
    """Puts outputs into `out`; `go_on` is told the item of the last output that a response waited for, and when."""

    def __init__(
        self,
        out: deque[wire.ToService],
        new_id: Callable[[str], str],
        history: History,
        session: int,
        go_on: Callable[[str, float], None],
    ) -> None:
        self._out = out
        self._session = session
        self._new_id = new_id
        self._history = history
        self._go_on = go_on
        self._asked: dict[str, _Asked] = {}  # by response
        self._mine: deque[str] = deque(maxlen=_REMEMBERED)  # ids that this session has asked for
        self._sent: dict[str, _Call] = {}  # by the id of the message that carried the output
        self._refused: list[_Call] = []  # whose output was, since the agent spoke last

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return min((call.send_at for asked in self._asked.values() for call in asked.calls.values()), default=inf)

    def ask(self, item: wire.Item, response: str, now: float) -> ToolCall | None:
        """Return the call that a response asks for, if it is to be run.

        One that was cut short, by the caller or by a limit, is `incomplete`: its arguments may be half of what they
        were to be. Each stays open until it is answered, whatever is said meanwhile.
        """
        id_ = item.call_id or ""
        if not is_call(item) or not id_ or id_ in self._mine or len(self._history.calls) >= _MOST_CALLS:
            return None
        self._mine.append(id_)
        given = item.arguments
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
        call = ToolCall(id_, shown(item.name), arguments or "{}", response_required=True, stays_open=True)
        self._asked.setdefault(response, _Asked()).calls[id_] = _Call(call)
        before = self._history.output(id_)
        if before is None and id_ in self._history.seen_calls:
            return None  # a session before has asked for it, and it is at work
        again = next((each for each in self._refused if _same(each.call, call)), None)
        if again is not None:
            self._refused.remove(again)
            before = again.output
        self._history.seen_calls.append(id_)
        self._history.calls[id_] = OpenCall(call, response, self._session)
        if before is None:
            return call
        self.answer(id_, before, now)
        return None

    def take_over(self, now: float) -> None:
        """The session goes on with the conversation of one before, which may not have got what it had asked for."""
        doubtful = dict(self._history.doubtful)
        self._history.doubtful.clear()
        if self._history.retold:
            return
        self._history.calls.update((id_, asked) for id_, (asked, _) in doubtful.items())
        for id_, (_, output) in doubtful.items():
            self.answer(id_, output, now)

    def confirmed(self, item: str) -> None:
        """The service has this item, which may be an output."""
        if (call := self._sent.get(item)) is not None:
            self._history.doubtful.pop(call.call.id, None)

    def answer(self, call_id: str, output: str, now: float) -> None:
        """A function has its output, which this session or one before has asked for."""
        asked = self._history.calls.pop(call_id, None)
        if asked is None:
            return
        if self._history.output(call_id) is None:
            self._history.tool((asked.call.id, asked.call.name, asked.call.arguments), output)
        self._history.doubtful[call_id] = asked, output
        for response, group in self._asked.items():
            held = group.calls.get(call_id)
            if held is not None and held.state is State.RUNS:
                held.state, held.output, held.send_at = State.READY, output, now + _HELD_SECONDS
                self._settle(response, now)
                return
        item = self._send(_Call(asked.call, output=output), unknown=self._history.retold)
        others = [(call.response, call.session) for call in self._history.calls.values()]
        if (asked.response, asked.session) not in others:
            self._go_on(item, now)

    def over(self, response: str, now: float) -> None:
        """A response has ended: what it asked for may be answered."""
        if response in self._asked:
            self._asked[response].over = True
            self._settle(response, now)

    def spoken(self) -> None:
        """The agent has spoken: who asks for the same from here on wants it anew."""
        self._refused.clear()
        for call in self._sent.values():  # some services confirm no items
            self._history.doubtful.pop(call.call.id, None)

    def refused(self, event_id: object) -> None:
        """An output was refused: by the id of its message, or the one that was sent last."""
        name = event_id if isinstance(event_id, str) and event_id else next(reversed(self._sent), "")
        if (call := self._sent.pop(name, None)) is not None:
            self._refused.append(call)

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        for response in list(self._asked):
            self._settle(response, now)

    def _settle(self, response: str, now: float) -> None:
        """Send what may be sent."""
        asked, item = self._asked[response], ""
        for call in asked.calls.values():
            if call.state is State.READY and (asked.over or call.send_at <= now):
                item = self._send(call)
        if any(call.state is not State.SENT for call in asked.calls.values()):
            return
        if asked.over:
            del self._asked[response]
        if item:
            self._go_on(item, now)

    def _send(self, call: _Call, *, unknown: bool = False) -> str:
        """Send an output; `unknown`: the session does not know that it was asked for, and is told that before."""
        if unknown:
            item = {"type": "function_call", "call_id": call.call.id}
            item |= {"name": call.call.name, "arguments": call.call.arguments}
            self._out.append(wire.ItemCreate(self._new_id("asked"), item))
        id_ = self._new_id("answer")
        call.state, call.send_at = State.SENT, inf
        self._sent[id_] = call
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        item = {"type": "function_call_output", "id": id_, "call_id": call.call.id, "output": call.output}
        self._out.append(wire.ItemCreate(id_, item))
        return id_


def is_call(item: wire.Item) -> bool:
    """Whether this is the whole call of a function."""
    return item.type == "function_call" and item.status in (None, "completed")


def _same(one: ToolCall, other: ToolCall) -> bool:
    return (one.name, one.arguments) == (other.name, other.arguments)
