"""One response at a time: a request waits until the response under way is over and the caller has finished. Pure.

Times in seconds. After a caller's turn the service answers by itself. A response that was cancelled is over, and what
still comes of it is dropped.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import is_busy, is_limit, may_pass

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_PENDING = 8  # requests; one a keypad entry or prompt, and the agent answers within seconds
_REMEMBERED = 64  # ids of cancelled responses
# After the caller's turn the service answers by itself; if it does not, our own request is sent.
_ANSWER_SECONDS = 1.0
_RETRIES = 3  # of a response that failed, half a second apart and growing
_RETRY_SECONDS = 0.5


class Responses:
    """Puts what is to be sent into `out`. Until `deadline` nothing is requested; then `expire` is to be called."""

    def __init__(self, out: deque[wire.ToService], new_id: Callable[[str], str]) -> None:
        self.deadline = inf
        self.caller_speaks = False
        self._out = out
        self._new_id = new_id
        self._active: str | None = None  # the response under way; "" between our request and its id
        self._asked: wire.ResponseCreate | None = None  # the request that was sent last
        self._pending: deque[wire.ResponseCreate] = deque(maxlen=_MOST_PENDING)
        self._cancelled: deque[str] = deque(maxlen=_REMEMBERED)
        self._failures = 0
        self._unwanted = False  # the request that was sent last: its response is cancelled when it has begun

    def is_over(self, response: str | None) -> bool:
        """Whether this response was cancelled: what still comes of it is dropped."""
        return response in self._cancelled

    def request(self, response: dict[str, Any] | None = None) -> None:
        """Ask for a response as soon as none is under way and the caller does not speak."""
        self._pending.append(self._create(response))
        self._send()

    def stop(self) -> None:
        """Cancel the response under way, and forget what else was asked for: something new is about to be."""
        self._pending.clear()
        if self._active == "":
            self._unwanted = True
        elif self._active is not None and self._active not in self._cancelled:
            self._cancel(self._active)

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        if self.deadline <= now:
            self.deadline = inf
            self._send()

    # The service.

    def created(self, id_: str) -> None:
        """A response has begun: ours, or an answer of the service's own."""
        if id_ in self._cancelled:
            self._cancelled.remove(id_)  # an id that is used again
        if self._active is None:
            self._asked = None
        elif self._active == "" and self._asked is not None and self.caller_speaks:
            # Our request and the caller's first word have crossed: it would be spoken over them.
            self._cancel(id_)
            self._pending.appendleft(self._asked)
            self._asked = None
        elif self._unwanted:
            self._cancel(id_)
        self._unwanted = False
        self._active, self.deadline = id_, inf

    def done(self) -> None:
        """The response is over, in one way or another."""
        self._active = self._asked = None
        self._failures = 0
        self._send()

    def failed(self, cause: wire.Cause, now: float) -> bool:
        """The response has failed. True: it is tried again."""
        asked, self._asked, self._active = self._asked, None, None
        self._failures += 1
        if may_pass(cause) and self._failures <= _RETRIES:
            self._pending.appendleft(asked or self._create())
            self.deadline = now + _RETRY_SECONDS * self._failures
            return True
        self._failures = 0
        self._send()
        return False

    def refused(self, cause: wire.Cause, now: float) -> bool:
        """An error has been reported. True: it was about a request, which is sent again, and it need not be told.

        Some services do not say which message their errors are about.
        """
        if self._asked is None or cause.event_id not in (None, "", self._asked.event_id):
            return is_busy(cause)
        if is_busy(cause):
            self._pending.appendleft(self._asked)
            self._asked, self._active = None, self._active or ""  # over when the other one is
            return True
        if self._active != "":
            return False  # it has begun
        if is_limit(cause):
            return self.failed(cause, now)
        self.done()
        return False

    # The caller.

    def caller_begins(self, *, cancels: bool = True) -> None:
        """The caller speaks: the service cancels its response by itself, unless it was told not to."""
        self.caller_speaks, self.deadline = True, inf
        if self._active and cancels:
            self._cancelled.append(self._active)

    def caller_stops(self, now: float) -> None:
        """The caller has finished."""
        self.caller_speaks = False
        self.deadline = now + _ANSWER_SECONDS

    def _cancel(self, response: str) -> None:
        self._out.append(wire.ResponseCancel(self._new_id("cancel"), response))
        self._cancelled.append(response)

    def _create(self, response: dict[str, Any] | None = None) -> wire.ResponseCreate:
        return wire.ResponseCreate(self._new_id("respond"), response)

    def _send(self) -> None:
        if self._pending and self._active is None and not self.caller_speaks and self.deadline == inf:
            self._asked = self._pending.popleft()
            self._active = ""
            self._out.append(self._asked)
