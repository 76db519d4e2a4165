"""The live calls: who may come in, who is here, and how all of them end when the service stops."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.call.outcome import CallOutcome
    from sts_trio.call.session import Call


class Registry:
    """Calls enter and leave by themselves; nothing here holds one back or looks inside."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._draining = False
        self._empty = trio.Event()

    @property
    def live(self) -> int:
        """How many calls are running."""
        return len(self._calls)

    def refusal(self) -> str | None:
        """Why a new call is not taken now, or None."""
        return "the service is stopping; no new calls" if self._draining else None

    @contextmanager
    def enter(self, call: Call) -> Iterator[None]:
        """Count `call` as live while the context lasts."""
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.remove(call)
            if self._draining and not self._calls:
                self._empty.set()

    async def drain(self) -> None:
        """Refuse new calls from now on, and wait until the last one is over; the caller sets the limit."""
        self._draining = True
        if self._calls:
            await self._empty.wait()

    def end_all(self, outcome: CallOutcome) -> None:
        """End every live call."""
        for call in self._calls:
            call.end(outcome)
