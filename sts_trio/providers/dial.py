"""Where a provider listens, and how a byte stream to it is made: TCP, and TLS that is verified."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import trio

from sts_trio.errors import ProviderLost, ProviderRefused
from sts_trio.text import first_error, one_line
from sts_trio.websocket.tls import TlsStream

_LONGEST_DETAIL = 200
# A shorter key is a test's, and no secret; replacing it could replace parts of ordinary words.
_SHORTEST_KEY = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider listens, taken from a ``ws://`` or ``wss://`` URL. `path` includes the URL's own query."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """Raises: ValueError, saying what the URL lacks."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss"):
            raise ValueError("it must begin with ws:// or wss://")
        if not parts.hostname or not parts.hostname.isascii():
            raise ValueError("it names no host")
        tls = parts.scheme == "wss"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, parts.port or (443 if tls else 80), path, tls)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own (RFC 6455 4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Dial(Protocol):
    """Connect a byte stream to an endpoint, TLS included. Tests hand in streams that live in memory."""

    async def __call__(self, endpoint: Endpoint) -> trio.abc.Stream: ...


@dataclass(frozen=True, slots=True)
class TcpDial:
    """Dial over TCP, with TLS verified by `tls` where the endpoint asks for it."""

    tls: ssl.SSLContext

    async def __call__(self, endpoint: Endpoint) -> trio.abc.Stream:
        """Raises: OSError for the connection, ProviderRefused for a certificate that is not trusted."""
        stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        if not endpoint.tls:
            return stream
        try:
            secured = TlsStream(stream, self.tls, endpoint.host)
            await secured.do_handshake()
        except ssl.SSLCertVerificationError as exc:
            await trio.aclose_forcefully(stream)
            raise ProviderRefused(f"the TLS certificate of {endpoint} is not trusted: {exc.verify_message}") from exc
        except (ssl.SSLError, trio.BrokenResourceError) as exc:
            await trio.aclose_forcefully(stream)
            raise ProviderLost(f"the TLS handshake with {endpoint} failed: {first_line(exc.__cause__ or exc)}") from exc
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


def without_key(text: str, key: str) -> str:
    """Replace the key by ``***``: a peer may repeat it in a refusal, an error or the reason of a close."""
    return text.replace(key, "***") if len(key) >= _SHORTEST_KEY else text


def first_line(exc: BaseException) -> str:
    """Say in a few words what an exception of a library says."""
    exc = first_error(exc)  # trio's connection attempts, one for each address: the first will do
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError | socket.gaierror):
        return os.strerror(exc.errno)  # trio's own text repeats the address
    return one_line(str(exc))[:_LONGEST_DETAIL] or type(exc).__name__
