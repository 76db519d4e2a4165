"""What a provider reported before its session ended: the error is the cause, not the close that follows. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentFault

# A provider that reported a fatal error closes by itself; when it does not, we do.
_FAULT_GRACE_SECONDS = 5.0
_RETRY_GRACE_SECONDS = 1.0  # and when a new session may do better, we do not wait as long
_FAULTS_TOLD = 20  # errors of the provider that a call passes on to Core; the rest are counted


class Trouble:
    """The errors of the session in use. At `deadline` it should have closed, after an error that ends it."""

    def __init__(self) -> None:
        self.fault: AgentFault | None = None  # the last one, until the caller is heard again
        self.deadline = inf
        self.lost = ""  # how the session before was lost
        self._told = 0

    def report(self, fault: AgentFault, now: float) -> bool:
        """Take an error of the provider's. True: Core should hear of it now."""
        self.fault = fault
        resumable = fault.ends_session and fault.retryable
        if fault.ends_session:
            self.deadline = now + (_RETRY_GRACE_SECONDS if resumable else _FAULT_GRACE_SECONDS)
        self._told += 1
        return not resumable and self._told <= _FAULTS_TOLD

    def explain(self, message: str, *, in_use: bool) -> str:
        """Say how it came that there is no session any more: how the last one was lost, and why there is no other."""
        return message if in_use or not self.lost else f"{self.lost}; then: {message}"

    def survived(self) -> None:
        """The agent goes on, if only to say good-bye; the error stays the cause of what follows."""
        self.deadline = inf

    def over(self) -> None:
        """The conversation goes on, or the session is gone: the error explains nothing that comes now."""
        self.fault = None
        self.deadline = inf
