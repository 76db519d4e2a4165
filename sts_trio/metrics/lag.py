"""How late the event loop is: a task that asks to be woken at a time, and looks at when it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.call.handler import Shedder

log = structlog.get_logger(__name__)

STEP_SECONDS = 0.05  # twenty measurements a second cost nothing, and a second of trouble is seen in all of them


async def watch_lag(shedder: Shedder, observe: Callable[[float], None]) -> None:
    """Measure for ever. Every lag, in seconds, goes to `shedder` and `observe`."""
    while True:
        due = trio.current_time() + STEP_SECONDS
        await trio.sleep_until(due)
        now = trio.current_time()
        lag = max(now - due, 0.0)
        observe(lag)
        if shedder.feed(lag, now):
            lag_ms = round(lag * 1000)
            if shedder.shedding:
                log.warning("overloaded: new calls are refused until the event loop keeps time again", lag_ms=lag_ms)
            else:
                log.warning("no longer overloaded: new calls are taken again", lag_ms=lag_ms)
