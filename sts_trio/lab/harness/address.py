"""Where to call, and why a call did not come about: in words that fit one line."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import msgspec
import trio
import trio_websocket
import wsproto

from sts_trio.errors import StsError
from sts_trio.text import one_line

SCHEMES = {"ws": 80, "wss": 443, "http": 80, "https": 443}
"""How a connector may be called, with the port that goes without saying."""


class CallFailed(StsError):
    """No call came about. The message is one line: the address (without its query) and the cause."""


@dataclass(frozen=True, slots=True)
class Address:
    """A connector's address; `scheme` is one of `SCHEMES`, `resource` is path and query.

    As text it leaves the query out: that holds telephone numbers.
    """

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("wss", "https")

    @property
    def is_http(self) -> bool:
        """Whether audio goes in a streaming request, and not over a WebSocket."""
        return self.scheme in ("http", "https")

    @property
    def authority(self) -> str:
        """What the Host header says (RFC 9110, 7.2): no port when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.resource.split('?')[0]}"


def parse_address(url: str) -> Address:
    """Take a connector's URL apart.

    Raises:
        CallFailed: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise CallFailed(f"not a URL: {exc}") from exc
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise CallFailed("the address must look like ws://host:6039/ or http://host:6039/speech-to-speech-stream")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, parts.hostname, port or SCHEMES[parts.scheme], resource)


def reason(exc: BaseException, limit: float) -> str:
    """Say in one line why no call came about; `limit` is the time that each step had."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    match exc:
        case trio_websocket.ConnectionRejected():
            return f"refused the WebSocket handshake with HTTP status {exc.status_code}{refusal(exc.body or b'')}"
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


_REFUSAL_SHOWN = 300


class _Refusal(msgspec.Struct):
    message: str


def refusal(body: bytes) -> str:
    """Return what a refusal's body, `{"message": ...}` or plain text, has to say, after a colon; or nothing."""
    try:
        text = msgspec.json.decode(body, type=_Refusal).message
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        if len(text) > _REFUSAL_SHOWN or text.lstrip().startswith(("<", "{", "[")):
            return ""  # a page of a proxy's, or other JSON: its status says more
    shown = one_line(text, _REFUSAL_SHOWN)
    return f": {shown}" if shown else ""


def _words(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
