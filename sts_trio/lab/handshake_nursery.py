"""Notices when trio-websocket's reader ends during the handshake, on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class HandshakeNursery:
    """Stands in for the nursery that trio-websocket starts its reader in; only its `start_soon` is used.

    Without it a peer that closes during the handshake would be waited for until the time limit: the library's reader
    just ends. Here it raises `trio.BrokenResourceError` into the real nursery then, until `done` is set.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.done = False

    def start_soon(self, reader: Callable[..., Awaitable[object]], *args: object) -> None:
        """See `trio.Nursery`."""
        self._nursery.start_soon(self._run, reader, args)

    async def _run(self, reader: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        await reader(*args)
        if not self.done:
            raise trio.BrokenResourceError("the far end closed the connection during the handshake")
