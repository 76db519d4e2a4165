"""What Core and the provider send that cannot be used: counted, skipped, and logged a few times a call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.call.actions import LogWarning
from sts_trio.text import one_line

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.meter import CallCounts
    from sts_trio.providers.base import OddMessage

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
