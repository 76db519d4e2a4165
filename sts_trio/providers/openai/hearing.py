"""What a service sends, read, and with the key taken out of what it may repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.providers.openai import wire
from sts_trio.providers.socket import SocketEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.socket import ProviderSocket


class Hearing:
    """Receives for one session; `peer` is the service's name, `hide` takes the key out of a text."""

    def __init__(self, socket: ProviderSocket, peer: str, hide: Callable[[str], str]) -> None:
        self._socket = socket
        self._peer = peer
        self._hide = hide

    async def receive(self) -> wire.FromService | SocketEnd | None:
        """Wait for the next message; None for one that we do not know. `SocketEnd` is the last.

        Raises:
            ProviderProtocolError: the service broke its protocol.
        """
        message = await self._socket.receive()
        if isinstance(message, SocketEnd):
            return SocketEnd(message.code, self._hide(message.reason))
        heard = wire.parse_from_service(message, self._peer)
        if isinstance(heard, wire.ServiceError):
            cause = heard.cause
            shown = {name: getattr(cause, name) for name in ("type", "code", "message", "param")}
            hidden = {name: self._hide(str(value)) for name, value in shown.items() if value is not None}
            return wire.ServiceError({**hidden, "event_id": cause.event_id})
        return heard
