"""Why a provider's answer to the upgrade opened no WebSocket, in words for an operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wsproto.utilities import ProtocolError, RemoteProtocolError

from sts_trio.errors import ProviderBusy, ProviderError, ProviderLost, ProviderRefused
from sts_trio.providers.advice import Refusal
from sts_trio.providers.dial import first_line
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.advice import Advise
    from sts_trio.providers.dial import Endpoint

SWITCHING_PROTOCOLS = 101
_REFUSAL_BODY_CHARACTERS = 200
_TOO_MANY = 429
_SPENT = re.compile("insufficient_quota|credit|billing")  # an account without money is told of with 429, too
_REFUSAL_BYTES = 4096  # of a refusal's body, from which the characters above are taken
# What wsproto (1.3) says of a missing or a wrong one alike.
_BAD_ACCEPT = "Bad accept token"


class HandshakeFailed(Exception):
    """The handshake is over without a WebSocket.

    `status` and `location` are those of the peer's answer, `body` the answer's if the library has read it, `reason`
    what it raised.
    """

    def __init__(self, reason: Exception | None, status: int | None, location: str, body: bytes | None = None) -> None:
        super().__init__()
        self._reason = reason
        self._status = status
        self._location = location
        self._body = body

    def explain(self, endpoint: Endpoint, advise: Advise, hide: Callable[[str], str]) -> ProviderError:
        """Turn it into the fault that says what happened, and what an operator can do."""
        location = hide(self._location)
        if self._status is not None and self._body is not None:
            body = hide(self._body[:_REFUSAL_BYTES].decode("utf-8", "replace"))
            return refused(endpoint, Refusal(self._status, one_line(body), location), advise)
        if self._status == SWITCHING_PROTOCOLS:
            return ProviderRefused(f"{endpoint} answered HTTP 101, but {_flaw(self._reason, hide)}")
        if self._status is not None:
            return refused(endpoint, Refusal(self._status, "", location), advise)
        if isinstance(self._reason, ProtocolError):
            text = f"{endpoint} does not speak WebSocket: {hide(first_line(self._reason))}"
            return ProviderRefused(advised(text, Refusal(None), advise))
        text = f"{endpoint} closed the connection, or answered with something other than a WebSocket handshake"
        return ProviderLost(advised(text, Refusal(None), advise))


def _flaw(reason: BaseException | None, hide: Callable[[str], str]) -> str:
    """Say what is wrong with an answer that claims to upgrade (RFC 6455, 4.1).

    wsproto tells it, and then fails because it wants to reject what only a server can.
    """
    while reason is not None and not isinstance(reason, RemoteProtocolError):
        reason = reason.__context__
    if reason is None:
        return "its head has no end"
    if str(reason) == _BAD_ACCEPT:
        return "its Sec-WebSocket-Accept is missing, or not the answer to our Sec-WebSocket-Key"
    return f"not as a WebSocket does: {hide(first_line(reason))}"


def refused(endpoint: Endpoint, refusal: Refusal, advise: Advise) -> ProviderError:
    """Return the fault of a peer that answered the upgrade so; `advise` says what an operator can do."""
    status, body = refusal.status or 0, "" if refusal.location else refusal.body
    said = body[:_REFUSAL_BODY_CHARACTERS].rstrip()
    message = f"{endpoint} answered HTTP {status} to the upgrade" + (f": {said}" if said else "")
    message = advised(message, refusal, advise)
    if status == _TOO_MANY and not _SPENT.search(body):
        return ProviderBusy(message)
    may_pass = status in (408, 425) or status >= 500
    return ProviderLost(message) if may_pass else ProviderRefused(message)


def advised(message: str, refusal: Refusal, advise: Advise) -> str:
    """Add to a message what an operator can do, if there is anything."""
    advice = advise(refusal)
    return f"{message} ({advice})" if advice else message
