"""Metrics to look at."""

from __future__ import annotations

from sts_trio.call.handler import Registry
from sts_trio.call.meter import WEBSOCKET, CallCounts, CallRecord
from sts_trio.metrics import Metrics


def used() -> Metrics:
    """Metrics in which every series has a sample."""
    metrics = Metrics(Registry(), "1.2.3")
    call = CallRecord(WEBSOCKET, CallCounts())
    metrics.call_began(call)
    metrics.tool_ran("lookup", "done", 1.0)
    metrics.call_ended(call, "too long", 1.0, "Joy")
    return metrics
