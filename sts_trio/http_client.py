"""Short HTTP requests to the operator's own services, the events posted to them, and the look-up of host names.

A request has one connection, a time limit and a bounded answer. Events have the shape of Core's own webhooks
(docs/protocols/core.md 6.2).

Each purpose looks names up with threads of its own, so that a name that hangs starves nobody else. A look-up is a
system call in a thread, which goes on when nobody waits for it any more; the system may take half a minute for a name
whose server is mute. With trio's one limiter of 40 threads for everything, eight calls a second with such a name (an
instructions service, a webhook) take all of them within seconds, and no provider's name is found.
"""

from __future__ import annotations

import codecs
import errno
import os
import socket
import ssl
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import structlog
import trio

from sts_trio.errors import StsError
from sts_trio.settings.parsers import shown_url
from sts_trio.text import first_error, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


# Look-ups at once for one purpose, those that nobody waits for any more among them. A thread that waits costs some
# 50 KB; when all are taken, the next look-up waits for as long as its request has time.
MOST_LOOKUPS = 16


def new_lookups() -> trio.CapacityLimiter:
    """Threads for the look-ups of one purpose."""
    return trio.CapacityLimiter(MOST_LOOKUPS)


_lookups: ContextVar[trio.CapacityLimiter | None] = ContextVar("lookups", default=None)


class _Resolver(trio.abc.HostnameResolver):
    """Uses the limiter of the purpose that the task is about; without one, trio's own."""

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - its name there
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See `trio.socket.getaddrinfo`. Raises: OSError; also when the system gives no thread."""
        return await _in_thread(socket.getaddrinfo, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int) -> tuple[str, str]:
        """See `trio.socket.getnameinfo`."""
        found: tuple[str, str] = await _in_thread(socket.getnameinfo, sockaddr, flags)
        return found


async def _in_thread(look_up: Any, *arguments: object) -> Any:
    try:
        return await trio.to_thread.run_sync(look_up, *arguments, abandon_on_cancel=True, limiter=_lookups.get())
    except RuntimeError as exc:  # "can't start new thread": it may be better in a moment
        raise OSError(errno.EAGAIN, f"no name can be looked up: {exc}") from exc


_RESOLVER = _Resolver()


@contextmanager
def names_for(lookups: trio.CapacityLimiter) -> Iterator[None]:
    """Look names up with the threads of `lookups` in this context, and in the tasks that it starts."""
    before = trio.socket.set_custom_hostname_resolver(_RESOLVER)  # trio's setting of this run
    if before is not None and before is not _RESOLVER:
        trio.socket.set_custom_hostname_resolver(before)  # somebody else's stays
    token = _lookups.set(lookups)
    try:
        yield
    finally:
        _lookups.reset(token)


# A prompt, or one line of JSON. Whatever is longer is no answer to what we ask.
MOST_BYTES = 2**18
_LONGEST_DETAIL = 200
# Compressed, a small answer could unpack to a very large one in a single step.
_PLAIN = {"Accept-Encoding": "identity"}


class HttpFailed(StsError):
    """No usable answer came. The message is one line, with the address but without its query, which may be secret."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpClient:
    """Sends requests. No redirect is followed, and no proxy of the environment is used: these are local services.

    There is no pool: a call makes two or three requests in its life, and one that hangs must not hold up another's.
    """

    tls: ssl.SSLContext
    _lookups: trio.CapacityLimiter = field(default_factory=new_lookups, init=False, repr=False)

    def __post_init__(self) -> None:
        """Have httpx import what it needs now: it takes 50 ms, which would hold up every call in the first request."""
        self._client()
        codecs.lookup("idna")

    def apart(self) -> HttpClient:
        """Return the same client for another purpose: a name that hangs there starves nobody here."""
        return HttpClient(self.tls)

    async def get(self, url: str, *, seconds: float, headers: Mapping[str, str] | None = None) -> HttpReply:
        """Fetch `url`.

        Raises:
            HttpFailed: no connection, no complete answer within `seconds`, or one longer than `MOST_BYTES`.
        """
        return await self._request("GET", url, seconds, headers=dict(headers or {}))

    async def post_json(self, url: str, payload: object, *, seconds: float) -> HttpReply:
        """Post `payload` as JSON. Raises as `get` does."""
        return await self._request("POST", url, seconds, headers={}, json=payload)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.tls, trust_env=False, timeout=None)  # noqa: S113 - ours is in `_request`

    async def _request(
        self, method: str, url: str, seconds: float, *, headers: dict[str, str], json: object = None
    ) -> HttpReply:
        try:
            with trio.move_on_after(seconds), names_for(self._lookups):  # not `fail_after`: see `open_socket`
                async with (
                    _closing_connection() as trace,
                    self._client() as client,
                    client.stream(method, url, headers=headers | _PLAIN, json=json, extensions=trace) as response,
                ):
                    return HttpReply(response.status_code, await _body(response))
            raise HttpFailed(f"{shown_url(url)} did not answer within {seconds:g} s")
        except _Unusable as exc:
            raise HttpFailed(f"{shown_url(url)} {exc}") from None
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            ValueError,
        ) as exc:  # ValueError: an address or a header that is none
            raise HttpFailed(f"{shown_url(url)}: {_words(exc)}") from _without_frames(exc)


class _Unusable(Exception):
    """An answer came that we do not take."""


@asynccontextmanager
async def _closing_connection() -> AsyncIterator[dict[str, Any]]:
    """Close the connection at the request's end: httpcore 1.0.9 leaves it open if cancelled in the TLS handshake."""
    opened = []

    async def note(event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])

    try:
        yield {"trace": note}
    finally:
        with trio.CancelScope(shield=True):  # another `Cancelled` than the one that came would make a ring, as above
            for stream in opened:
                await stream.aclose()  # of a socket: done at once


async def _body(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Unusable("sent a compressed answer, which was not asked for")
    body = bytearray()
    with trio.CancelScope() as reading:
        async for part in response.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                # Not left with `raise`: httpx's generators close as they should only if the end comes from within.
                reading.cancel()
    if len(body) > MOST_BYTES:
        raise _Unusable(f"answered with more than {MOST_BYTES} bytes")
    return bytes(body)


def _without_frames(exc: BaseException) -> BaseException:
    """Cut the tracebacks off a chain: httpx and httpcore have made rings of them, as `open_socket` tells."""
    each: BaseException | None = exc
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return exc


def _words(exc: BaseException) -> str:
    """Say why a request failed. The true cause is the last of a chain: httpx, httpcore, trio, the system."""
    while True:
        if isinstance(exc, BaseExceptionGroup):  # trio's attempts to connect, one for each address: the first will do
            exc = first_error(exc)
        elif (deeper := exc.__cause__ or exc.__context__) is not None:  # httpcore cuts `__cause__` off on its way up
            exc = deeper
        else:
            break
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return f"TLS failed: {exc.reason.lower().replace('_', ' ')}"
    if isinstance(exc, socket.gaierror) and exc.strerror:
        return exc.strerror
    if isinstance(exc, OSError) and exc.errno:
        return os.strerror(exc.errno)  # the texts of trio and of the system repeat the address
    return one_line(str(exc))[:_LONGEST_DETAIL] or type(exc).__name__


log = structlog.get_logger(__name__)

# Core's own limit for a webhook, and like Core we do not try again.
WEBHOOK_SECONDS = 3.0


async def post_event(http: HttpClient, url: str, call: str, kind: str, payload: Mapping[str, object]) -> None:
    """Tell the service at `url` of an event of `call`. Never raises: a failure is a log line."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"uuid": call, "type": kind, "timestamp": timestamp, "payload": dict(payload)}
    host = urlsplit(url).hostname or ""  # and no more of it: chat systems put their secret into the path
    try:
        reply = await http.post_json(url, event, seconds=WEBHOOK_SECONDS)
    except HttpFailed as exc:
        log.warning("webhook failed", host=host, reason=str(exc).replace(shown_url(url), host))
        return
    if reply.status >= 300:
        log.warning("webhook failed", host=host, reason=f"it answered HTTP {reply.status}")
