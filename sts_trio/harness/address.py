"""Where to call, and why a call did not come about: in words that fit one line. Pure."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import trio
import trio_websocket
import wsproto

from sts_trio.errors import StsError


class CallFailed(StsError):
    """No call came about. The message is one line: the address (without its query) and the cause."""


@dataclass(frozen=True, slots=True)
class Address:
    """A connector's WebSocket address; `resource` is path and query.

    As text it leaves the query out: that holds telephone numbers.
    """

    tls: bool
    host: str
    port: int
    resource: str

    @property
    def authority(self) -> str:
        """What the Host header says (RFC 9110, 7.2): no port when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.resource.split('?')[0]}"


def parse_address(url: str) -> Address:
    """Take a ws or wss URL apart.

    Raises:
        CallFailed: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise CallFailed(f"not a URL: {exc}") from exc
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise CallFailed("the address must look like ws://host:6039/ or wss://host/path")
    tls = parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(tls, parts.hostname, port or (443 if tls else 80), resource)


def reason(exc: BaseException, limit: float) -> str:
    """Say in one line why no call came about; `limit` is the time that each step had."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    match exc:
        case trio_websocket.ConnectionRejected():
            return f"refused the WebSocket handshake with HTTP status {exc.status_code}"
        case trio.TooSlowError():
            return f"no answer within {limit:g} s"
        case wsproto.utilities.ProtocolError() | h11.ProtocolError():
            return "answered with something that is no WebSocket handshake"
        case trio.BrokenResourceError() if isinstance(exc.__cause__, ssl.SSLError):
            return f"TLS failed: {_words(exc.__cause__)}"
        case OSError() if exc.__cause__ is not None:
            # trio's "all attempts to connect failed" has the true cause behind it.
            return reason(exc.__cause__, limit)
        case OSError(errno=number) if number is not None and number > 0:
            return f"cannot connect: {os.strerror(number)}"
        case OSError():  # a name that cannot be resolved: its numbers are of another kind
            return f"cannot connect: {exc.strerror or _words(exc)}"
        case _:
            return _words(exc)


def _words(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
