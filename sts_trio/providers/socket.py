"""A WebSocket to a provider: upgrade, keepalive, orderly close. The service's only user of trio_websocket.

trio_websocket leaves to its user what a service needs (measured on 0.12.2): its own connect timeout hangs when the peer
stays mute, a peer that closes in the handshake shows only as a timeout, and a cancelled close waits its whole limit
because the reader died too. So we dial ourselves, watch the reader, and keep it alive until the close is over.
"""

from __future__ import annotations

import math
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio
import trio_websocket as tws
from wsproto.utilities import ProtocolError

from sts_trio.errors import ProviderError, ProviderLost, ProviderTimeout
from sts_trio.providers.advice import Advise, Refusal, find_location, no_advice
from sts_trio.providers.dial import first_line
from sts_trio.providers.refusal import SWITCHING_PROTOCOLS, HandshakeFailed, advised, refused
from sts_trio.text import one_line
from sts_trio.websocket.fast_path import FastPath
from sts_trio.websocket.frames import BINARY, ClientFramer, TokenBucket
from sts_trio.websocket.lenient import LenientParser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from sts_trio.providers.dial import Dial, Endpoint

# Messages read but not yet taken by the call, which does so at once; the rest waits in TCP, at the provider.
_QUEUED_MESSAGES = 16
# 24 s of 48 kHz audio in one message, as base64. A session that sends such messages costs 10 MiB for a moment.
_MAX_MESSAGE_BYTES = 3 * 2**20
# Bounds what is parsed in one turn of the event loop: 8,000 empty frames take 10 ms.
_READ_BYTES = 2**14
# The library takes 25 µs for a pong of two bytes: 256 of them in a turn.
_LIBRARY_BYTES = 2**9
# What a session may send: ten times real time is 600 of these units a second (`LenientParser`), in chunks of 20 ms.
_UNITS_PER_SECOND = 2000
_UNITS_SAVED = 10_000
# Far above a round trip, in which a ping is answered.
_PING_OVERDUE_SECONDS = 1.0
# A deadline that is noticed so late passed while this process did not run (SIGSTOP, a suspended machine).
_AWAY_SECONDS = 0.5
_MOST_HANDSHAKE_BYTES = 2**17
_REASON_CHARACTERS = 123  # as many bytes as a close frame holds (RFC 6455, 5.5)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)")
_STATUS_BYTES = 12
_END_OF_HEAD = b"\r\n\r\n"
# wsproto 1.3 takes 1014 (bad gateway), the only assigned code that it does not know, for a fault of the peer's.
_UNKNOWN_CLOSE_CODE = "CLOSE with unknown reserved code"


@dataclass(frozen=True, slots=True)
class SocketTimes:
    """Limits in seconds: the opening handshake, silence that makes a peer dead, the closing handshake.

    `garbage`: who sends only what nobody understands for so long is taken for broken (`providers.reading`).
    `answer`: for so long an agent's answer is waited for, where the provider tells too little of it to wait otherwise.
    """

    open: float = 10.0
    dead: float = 20.0
    close: float = 1.0
    garbage: float = 5.0
    answer: float = 10.0


@dataclass(frozen=True, slots=True)
class SocketEnd:
    """The last thing received: the close code and reason. 1006 stands for a connection that broke."""

    code: int
    reason: str


class _UpgradingFastPath(FastPath):
    """A `FastPath` that opens after the answer to the upgrade, and keeps the beginning of that answer.

    trio_websocket reads the body of a refusal to its end, in quadratic time, and tells its status only then. So an
    answer that is no upgrade is cut off after `_MOST_HANDSHAKE_BYTES`, and `status` is taken from its first line.

    An answer of 1xx before that one (100 Continue, 103 Early Hints) is read past: RFC 9110 (15.2) lets any server and
    any proxy send them, and wsproto takes them for a refusal.
    """

    def __init__(self, stream: trio.abc.Stream, fits: Callable[[bytes], bool]) -> None:
        pace = TokenBucket(_UNITS_PER_SECOND, _UNITS_SAVED, trio.current_time())
        super().__init__(
            stream,
            LenientParser(most=_MAX_MESSAGE_BYTES, fits=fits, pace=pace),
            queued=_QUEUED_MESSAGES,
            make=ClientFramer().frame,
            read_bytes=_READ_BYTES,
            library_bytes=_LIBRARY_BYTES,
        )
        self._head = b""  # of the answer, from its first line on
        self._came = 0  # bytes, with those before `_head`
        self._passed_on = 0  # bytes of `_head` that the library has

    @property
    def status(self) -> int | None:
        """The HTTP status of the answer; None as long as there is none."""
        status = self._first_status(0)
        return None if _is_interim(status) else status

    @property
    def location(self) -> str:
        """Where the answer points to, if it does."""
        return find_location(self._head.partition(_END_OF_HEAD)[0])

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `FastPath.receive_some`. The bytes that end the answer may hold the first frames."""
        if self._opened:
            return await super().receive_some(max_bytes)
        data, waiting = b"", True
        while waiting:
            room = _MOST_HANDSHAKE_BYTES - self._came
            data = await super().receive_some(max_bytes) if room > 0 else b""
            self._came += len(data)
            self._head += data
            self._pass_interim()
            waiting = bool(data) and (len(self._head) < _STATUS_BYTES or _is_interim(self._first_status(0)))
        new, self._passed_on = self._head[self._passed_on :], len(self._head)
        if data and self.status == SWITCHING_PROTOCOLS:
            head, end, frames = self._head.partition(_END_OF_HEAD)
            if end:
                self._head = head
                self._others = self.open(frames)  # for the next read
                return new[: len(new) - len(frames)]
        return new

    def _first_status(self, at: int) -> int | None:
        found = _STATUS_LINE.match(self._head, at)
        return int(found[1]) if found else None

    def _pass_interim(self) -> None:
        """Forget the answers at the beginning that announce another."""
        at = 0
        while _is_interim(self._first_status(at)) and (end := self._head.find(_END_OF_HEAD, at)) >= 0:
            at = end + len(_END_OF_HEAD)
        if at:
            self._head = self._head[at:]


def _is_interim(status: int | None) -> bool:
    return status is not None and status < 200 and status != SWITCHING_PROTOCOLS


class ProviderSocket:
    """An open WebSocket. One task receives; any task may send."""

    def __init__(self, connection: tws.WebSocketConnection, fast_path: FastPath, endpoint: Endpoint) -> None:
        self._connection = connection
        self._fast_path = fast_path
        self._endpoint = endpoint
        self._dead = ""
        self._keeping = trio.CancelScope()
        self._pinged_at = math.inf  # since when an answer to a ping is owed

    @property
    def ping_overdue(self) -> bool:
        """Whether the peer has owed the answer to a ping for a second, and so may be dead."""
        return self._pinged_at < math.inf and trio.current_time() - self._pinged_at >= _PING_OVERDUE_SECONDS

    async def receive(self) -> str | bytes | SocketEnd:
        """Wait for the next message; `SocketEnd` is the last. Some may be `PassedOver`."""
        if (message := await self._fast_path.receive()) is not None:
            return message
        try:
            return await self._connection.get_message()
        except tws.ConnectionClosed as exc:
            if self._dead or exc.reason is None:
                return SocketEnd(1006, self._dead)
            if exc.reason.code == 1002 and exc.reason.reason == _UNKNOWN_CLOSE_CODE:
                return SocketEnd(1014, "")
            return SocketEnd(exc.reason.code, one_line(exc.reason.reason or "", _REASON_CHARACTERS))

    async def send(self, kind: int, payload: bytes) -> bool:
        """Send a message of the `kind` `frames.TEXT` (UTF-8) or `frames.BINARY`. May pass no checkpoint.

        Returns `ping_overdue`: whether the peer may be dead, so that it may never get the message.

        Raises:
            ProviderLost: the connection is closed or broken. After a cancelled send it is, too.
        """
        try:
            if self._connection.closed is None and self._fast_path.is_open:
                await self._fast_path.send(kind, payload)
            else:
                await self._connection.send_message(payload if kind == BINARY else payload.decode())
        except (tws.ConnectionClosed, ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ProviderLost(f"the connection to {self._endpoint} is closed") from exc
        return self.ping_overdue

    async def keep_alive(self, stream: trio.abc.Stream, dead: float) -> None:
        """Ping, and cut the connection when nothing answers for `dead` seconds; `receive` then tells of it.

        It has a scope of its own, which `let_go` cancels: who leaves `open_socket` may be cancelled, and shields then.
        For a task that was about to notice the first, and meets the second, trio raises an AssertionError.
        """
        with self._keeping, suppress(tws.ConnectionClosed):
            pause = dead / 2
            while True:
                await trio.sleep(pause)
                self._pinged_at = trio.current_time()
                due, pause = self._pinged_at + dead / 2, dead / 2
                with trio.move_on_at(due) as waiting:  # not `fail_after`: see `open_socket`
                    await self._connection.ping()
                if not waiting.cancelled_caught:
                    self._pinged_at = math.inf
                elif trio.current_time() - due < _AWAY_SECONDS:
                    break
                else:
                    pause = 0.0  # we were away ourselves: the answer may have come, and is not read yet
            self._dead = f"no answer to a ping for {dead:g} s"
            await trio.aclose_forcefully(stream)

    def let_go(self) -> None:
        """Ping no more."""
        self._keeping.cancel()


class _Reader:
    """Stands in for the nursery that trio_websocket wants for its reader task.

    The reader is shielded, so that it goes on after the call was cancelled until the close handshake is over. What it
    raises is kept, instead of ending the call, and its end cancels `handshake`, the scope that waits for the upgrade.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.scope = trio.CancelScope(shield=True)
        self.handshake = trio.CancelScope()
        self.failure: Exception | None = None

    def start_soon(self, task: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self._nursery.start_soon(self._run, task, args)

    async def _run(self, task: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            with self.scope:
                await task(*args)
        except Exception as exc:  # becomes the cause of a failed handshake; after it, the end is seen as code 1006
            self.failure = exc
        finally:
            self.handshake.cancel()


@asynccontextmanager
async def open_socket(
    endpoint: Endpoint,
    *,
    path: str,
    headers: Mapping[str, str],
    dial: Dial,
    times: SocketTimes,
    fits: Callable[[bytes], bool],
    advise: Advise = no_advice,
    hide: Callable[[str], str] = str,
) -> AsyncIterator[ProviderSocket]:
    """Open a WebSocket to `endpoint` at `path`, and close it when the context is left, each in bounded time.

    `fits` says of the beginning of a large message whether it is kept (`LenientParser`). `advise` says what
    an operator can do about a refusal; `hide` takes secrets out of a text of the peer's.

    Raises (on entry):
        ProviderRefused: it answered the upgrade with a status that will not change by itself (401, 404, ...).
        ProviderTimeout: no connection, or no answer to the upgrade, within `times.open`.
        ProviderLost: no connection, or it broke.
    """
    failure: BaseException | None = None
    stream: _UpgradingFastPath | None = None
    async with trio.open_nursery() as nursery:
        reader = _Reader(nursery)
        try:
            with trio.move_on_after(times.open) as opening:  # `fail_after` would make a ring: see below
                stream = _UpgradingFastPath(await _dial(dial, endpoint, advise), fits)
                try:
                    connection = await _upgrade(reader, stream, endpoint, path, headers)
                except BaseException:
                    reader.scope.cancel()
                    await trio.aclose_forcefully(stream)
                    raise
            if stream is None or opening.cancelled_caught:
                raise trio.TooSlowError
        except trio.TooSlowError:
            failure = ProviderTimeout(f"{endpoint} did not complete the handshake within {times.open:g} s")
            if stream is not None and stream.status not in (None, SWITCHING_PROTOCOLS):
                failure = refused(endpoint, Refusal(stream.status, "", hide(stream.location)), advise)
        except HandshakeFailed as exc:
            failure = exc.explain(endpoint, advise, hide)
        except ProviderError as exc:
            failure = exc
        else:
            socket = ProviderSocket(connection, stream, endpoint)
            nursery.start_soon(socket.keep_alive, stream, times.dead)
            try:
                yield socket
            except BaseException as exc:
                # Carried past the nursery, which would raise a group in its place. contextlib, which throws it in here,
                # would then not restore its traceback; and since CPython 3.12 (gh-100964) our frames there lead back to
                # those of contextlib, which hold it: a ring, with the call in it, until the collector comes by.
                failure = exc
            finally:
                socket.let_go()
                stream.close()  # from here on the library reads: the close handshake
                nursery.cancel_scope.shield = True  # so that it does not raise `Cancelled` in place of ours
                # A shield of its own: a cancelled `keep_alive` that ended before us has cancelled the nursery.
                with trio.move_on_after(times.close, shield=True):
                    await connection.aclose()
                reader.scope.cancel()
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame: a ring, with the call in it, until the collector comes by


async def _dial(dial: Dial, endpoint: Endpoint, advise: Advise) -> trio.abc.Stream:
    try:
        return await dial(endpoint)
    except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that IDNA cannot encode
        text = f"cannot connect to {endpoint}: {first_line(exc.__cause__ or exc)}"
        raise ProviderLost(advised(text, Refusal(None, text), advise)) from exc
    except ProviderLost as exc:
        raise ProviderLost(advised(str(exc), Refusal(None, str(exc)), advise)) from exc


async def _upgrade(
    reader: _Reader,
    stream: _UpgradingFastPath,
    endpoint: Endpoint,
    path: str,
    headers: Mapping[str, str],
) -> tws.WebSocketConnection:
    with reader.handshake:
        return await tws.wrap_client_stream(
            reader,  # type: ignore[arg-type]  # wants a Nursery, uses only its start_soon()
            stream,  # type: ignore[arg-type]  # wants a SocketStream, uses only what every Stream has
            endpoint.host_header,
            path,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=_MAX_MESSAGE_BYTES,
            receive_buffer_size=_READ_BYTES,
        )
    if isinstance(reader.failure, tws.ConnectionRejected):
        status, body = reader.failure.status_code, reader.failure.body or b""
        raise HandshakeFailed(reader.failure, status, stream.location, body)
    raise HandshakeFailed(reader.failure, stream.status, stream.location)
