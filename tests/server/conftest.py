"""Fixtures of the server's tests."""

from __future__ import annotations

import pytest
import trio.testing


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """A mock clock for tests with a real socket: it jumps only after 50 ms without any event."""
    return trio.testing.MockClock(autojump_threshold=0.05)
