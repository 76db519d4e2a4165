"""Metrics to look at."""

from __future__ import annotations

import trio

from sts_trio.call.handler import Registry
from sts_trio.call.meter import WEBSOCKET, CallCounts, CallRecord
from sts_trio.metrics import Metrics


def used() -> Metrics:
    """Metrics in which every series has a sample."""
    metrics = Metrics(Registry(), "1.2.3")
    call = CallRecord(WEBSOCKET, CallCounts())
    metrics.call_began(call)
    metrics.tool_ran("lookup", "done", 1.0)
    metrics.call_ended(call, "too_long", 1.0, "Joy")
    metrics.tokens_used({("in", "cached"): 64, ("out", "audio"): 91})
    metrics.rate_limited("tokens", 40_000, 39_000, trio.current_time() + 5)
    return metrics
