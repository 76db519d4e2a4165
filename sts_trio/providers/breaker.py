"""A circuit breaker: when sessions cannot be opened, call after call, new calls fail at once, and one at a time tries.

This count is all that calls share. A session that could be opened resets it. A call that brings a configuration or a
voice of its own may have failed because of that, and is not counted.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from math import ceil, inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.errors import ConversationGone, ProviderError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentLink, CallInfo, OpenAgent

log = structlog.get_logger(__name__)


class Breaker:
    """Counts sessions that could not be opened, in a row. Pure; times in seconds.

    After `failures` of them (0: never) it is open for `pause`; then one session may be tried, which closes it or keeps
    it open for another `pause`.
    """

    def __init__(self, failures: int, pause: float) -> None:
        self._most = failures or inf
        self._pause = pause
        self._failures = 0
        self._closed_from = -inf
        self._probing = False
        self._cause = ""

    @property
    def open(self) -> bool:
        """Whether the provider counts as away."""
        return self._failures >= self._most

    def refusal(self, now: float) -> str | None:
        """Why no session may be opened now; None if one may.

        After None the caller reports `succeeded`, `failed` or `undecided`.
        """
        if not self.open:
            return None
        if now < self._closed_from or self._probing:
            wait = max(ceil(self._closed_from - now), 1)
            return (
                f"the provider refused the last {self._failures} calls ({self._cause}); it is asked again in {wait} s"
            )
        self._probing = True
        return None

    def succeeded(self) -> None:
        """A session has been opened."""
        self._failures, self._probing = 0, False

    def failed(self, now: float, cause: str) -> None:
        """A session could not be opened."""
        self._failures += 1
        self._probing = False
        self._cause = cause
        self._closed_from = now + self._pause

    def undecided(self) -> None:
        """We cancelled the opening, so it says nothing about the provider: another may try."""
        self._probing = False


def guarded(open_agent: OpenAgent, breaker: Breaker) -> OpenAgent:
    """Put `breaker` before `open_agent`; while it is open, opening raises `ProviderUnavailable` at once."""

    def opening(call: CallInfo) -> AbstractAsyncContextManager[AgentLink]:
        own = call.session_config.config is not None or call.session_config.voice is not None
        return open_agent(call) if own else _counted(open_agent, breaker, call)

    return opening


@asynccontextmanager
async def _counted(open_agent: OpenAgent, breaker: Breaker, call: CallInfo) -> AsyncIterator[AgentLink]:
    # A call that lost its session backs off by itself (`ResumePolicy`) and has a caller on the line: it may always try.
    if call.resume is None and (why := breaker.refusal(trio.current_time())) is not None:
        raise ProviderUnavailable(why)
    probing = call.resume is None and breaker.open
    decided = was_open = False
    try:
        async with open_agent(call) as link:
            decided, was_open = True, breaker.open
            breaker.succeeded()
            if was_open:
                log.warning("the provider takes calls again")
            yield link
    except ConversationGone:
        if not decided:
            breaker.succeeded()  # the provider works: it only does not know this conversation
            decided = True
        raise
    except ProviderError as exc:
        if not decided:
            was_open = breaker.open
            breaker.failed(trio.current_time(), str(exc))
            decided = True
            if breaker.open and not was_open:
                log.error("the provider refuses call after call: new calls are told so at once", cause=str(exc))
        raise
    finally:
        if not decided and probing:
            breaker.undecided()
