"""How a provider is reached: a byte stream to it (TCP, and TLS that is verified), and a circuit breaker before it.

When sessions cannot be opened, call after call, new calls fail at once, and one at a time tries.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, inf
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import structlog
import trio

from sts_trio.errors import (
    ConversationGone,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
    ProviderUnavailable,
)
from sts_trio.http_client import names_for, new_lookups
from sts_trio.providers.base import OpenAgent
from sts_trio.text import Stars, first_error, one_line
from sts_trio.websocket.tls import TlsStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentLink, CallInfo


_LONGEST_DETAIL = 200
# A shorter key is a test's, and no secret; replacing it could replace parts of ordinary words.
_SHORTEST_KEY = 8
_LONGEST_KEY = 256
_HEAD_OF_TOKEN = 64
_REST_OF_TOKEN = re.compile(r"\*{3}[\w.~+/=%\\&#;-]+")
_LONGEST_QUOTE = 10_000  # characters of a peer's text; what is shown of one is far less


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider listens, taken from the URL of a WebSocket. `path` includes the URL's own query."""

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """``http://`` and ``https://`` mean the same: operators have the URL that clients of HTTP have.

        Raises: ValueError, saying what the URL lacks.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https"):
            raise ValueError("it must begin with ws:// or wss://")
        if not parts.hostname or not parts.hostname.isascii():
            raise ValueError("it names no host")
        tls = parts.scheme in ("wss", "https")
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
    _lookups: trio.CapacityLimiter = field(default_factory=new_lookups, init=False, repr=False)

    async def __call__(self, endpoint: Endpoint) -> trio.abc.Stream:
        """Raises: OSError for the connection, ProviderRefused for a certificate that is not trusted."""
        with names_for(self._lookups):
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


def hiding(*secrets: str | None) -> Callable[[str], str]:
    """Make a function that takes these, and what stands behind a scheme in one, out of a text (`without_key`).

    A long one (a token has thousands of characters) is found by how it begins, and goes with what follows.
    """
    whole = [secret for secret in secrets if secret]
    keys = sorted({*whole, *(secret.rpartition(" ")[2] for secret in whole)}, key=len, reverse=True)  # `Bearer abc`

    def hide(text: str) -> str:
        for key in keys:
            if len(key) > _LONGEST_KEY:
                text = _REST_OF_TOKEN.sub("***", without_key(text, key[:_HEAD_OF_TOKEN]))
            else:
                text = without_key(text, key)
        return text

    return hide


def without_key(text: str, key: str) -> str:
    """Replace the key by ``***``: a peer may repeat it in a refusal, an error or the reason of a close.

    In whatever spelling (`Stars`). More than the first `_LONGEST_QUOTE` characters of a text are not kept.
    """
    return text if len(key) < _SHORTEST_KEY else stars_for(key)(text[:_LONGEST_QUOTE])


@lru_cache(maxsize=64)  # key and headers of a provider, and how tokens begin
def stars_for(key: str) -> Stars:
    """Make what finds a key, once: a provider does so before its first call, which would wait for it otherwise."""
    return Stars([key])


def first_line(exc: BaseException) -> str:
    """Say in a few words what an exception of a library says."""
    exc = first_error(exc)  # trio's connection attempts, one for each address: the first will do
    if isinstance(exc, OSError) and exc.errno and not isinstance(exc, ssl.SSLError | socket.gaierror):
        return os.strerror(exc.errno)  # trio's own text repeats the address
    return one_line(str(exc))[:_LONGEST_DETAIL] or type(exc).__name__


log = structlog.get_logger(__name__)


class Breaker:
    """Counts calls that could open no session, in a row. Pure; times in seconds.

    After `failures` of them (0: never) it is open for `pause`; then one session may be tried, which closes it or keeps
    it open for another `pause`. `tell` hears when it opens (true) and closes.
    """

    def __init__(self, failures: int, pause: float, tell: Callable[[bool], object] = bool) -> None:
        self._most = failures or inf
        self._pause = pause
        self._tell = tell
        self._failures = 0
        self._closed_from = -inf
        self._probing = False
        self._cause = ""

    @property
    def open(self) -> bool:
        """Whether the provider counts as away."""
        return self._failures >= self._most

    def refusal(self, now: float) -> str | None:
        """Why no session may be opened now; None if one may.

        After None the caller reports `succeeded`, `failed` or `undecided`.
        """
        if not self.open:
            return None
        if now < self._closed_from or self._probing:
            wait = max(ceil(self._closed_from - now), 1)
            return (
                f"the provider refused the last {self._failures} calls ({self._cause}); it is asked again in {wait} s"
            )
        self._probing = True
        return None

    def succeeded(self) -> None:
        """A session has been opened."""
        was_open = self.open
        self._failures, self._probing = 0, False
        if was_open:
            self._tell(False)

    def failed(self, now: float, cause: str) -> None:
        """A session could not be opened."""
        was_open = self.open
        self._failures += 1
        self._probing = False
        self._cause = cause
        self._closed_from = now + self._pause
        if self.open and not was_open:
            self._tell(True)

    def undecided(self) -> None:
        """We cancelled the opening, so it says nothing about the provider: another may try."""
        self._probing = False


def guarded(open_agent: OpenAgent, breaker: Breaker) -> OpenAgent:
    """Put `breaker` before `open_agent`; while it is open, opening raises `ProviderUnavailable` at once."""

    def opening(call: CallInfo) -> AbstractAsyncContextManager[AgentLink]:
        own = call.session_config.config is not None or call.session_config.voice is not None
        return open_agent(call) if own else _counted(open_agent, breaker, call)

    return opening


@asynccontextmanager
async def _counted(open_agent: OpenAgent, breaker: Breaker, call: CallInfo) -> AsyncIterator[AgentLink]:
    # A call that lost its session, or whose last try failed, backs off by itself (`ResumePolicy`) and has a caller on
    # the line: it may always try.
    new = call.resume is None and not call.again
    if new and (why := breaker.refusal(trio.current_time())) is not None:
        raise ProviderUnavailable(why)
    probing = new and breaker.open
    decided = was_open = False
    try:
        async with open_agent(call) as link:
            decided, was_open = True, breaker.open
            breaker.succeeded()
            if was_open:
                log.warning("the provider takes calls again")
            yield link
    except (ConversationGone, ProviderBusy):
        if not decided:
            breaker.succeeded()  # the provider works: it only does not know this conversation, or has no room
            decided = True
        raise
    except ProviderError as exc:
        if not decided and not call.again:  # each call counts once
            was_open = breaker.open
            breaker.failed(trio.current_time(), str(exc))
            decided = True
            if breaker.open and not was_open:
                log.error("the provider refuses call after call: new calls are told so at once", cause=str(exc))
        raise
    finally:
        if not decided and probing:
            breaker.undecided()


class AgentProvider(OpenAgent, Protocol):
    """An `OpenAgent` that says where it calls."""

    @property
    def endpoint(self) -> Endpoint: ...
