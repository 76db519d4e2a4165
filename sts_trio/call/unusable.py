"""What Core and the provider send that is of no use: counted, and logged a few times a call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.call.actions import LogWarning
from sts_trio.text import one_line

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.meter import CallCounts
    from sts_trio.providers.base import AgentFault, AgentRetry, OddMessage

_NOTES = 5  # log lines a call, and side; the rest are counted
_LONGEST_NOTE = 200  # characters


class Unusable:
    """That of one call. It never ends one, whoever sent it."""

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts

    def by_core(self, sent: str) -> Actions:
        """Core sent this, in words of ours."""
        self._counts.not_understood += 1
        if self._counts.not_understood > _NOTES:
            return ()
        return (LogWarning("Core sent what cannot be used; ignored", {"sent": sent}),)

    def by_provider(self, sent: OddMessage) -> Actions:
        """The provider sent this."""
        self._counts.count_odd(sent.kind)
        if self._counts.odd > _NOTES:
            return ()
        fields = {"kind": str(sent.kind), "sent": one_line(sent.about, _LONGEST_NOTE)}
        return (LogWarning("the provider sent what cannot be used; ignored", fields),)

    def answer(self, retry: AgentRetry) -> Actions:
        """The caller would have heard nothing of an answer, and the agent is asked again."""
        self._counts.count_retry(retry.kind)
        if self._counts.retries > _NOTES:
            return ()
        fields = {"kind": str(retry.kind), "cause": one_line(retry.about, _LONGEST_NOTE)}
        return (LogWarning("the agent has given no answer to be heard; it is asked again", fields),)

    def fault(self, fault: AgentFault) -> Actions:
        """The provider has reported an error."""
        self._counts.provider_faults += 1
        if self._counts.provider_faults > _NOTES:
            return ()
        return (LogWarning("the provider reports an error", {"cause": one_line(fault.message, _LONGEST_NOTE)}),)
