"""A WebSocket to a provider: upgrade, keepalive, orderly close. The only user of trio_websocket.

trio_websocket leaves to its user what a service needs (measured on 0.12.2): its own connect timeout hangs when the peer
stays mute, a peer that closes in the handshake shows only as a timeout, and a cancelled close waits its whole limit
because the reader died too. So we dial ourselves, watch the reader, and keep it alive until the close is over.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio
import trio_websocket as tws
from wsproto.utilities import ProtocolError

from sts_trio.errors import ProviderError, ProviderLost, ProviderRefused, ProviderTimeout
from sts_trio.providers.dial import first_line, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from sts_trio.providers.dial import Dial, Endpoint

# Messages read but not yet taken by the call, which does so at once; the rest waits in TCP, at the provider.
_QUEUED_MESSAGES = 16
# EVI's documented limit (hume-evi.md 6.1): over two minutes of 48 kHz audio in one message.
_MAX_MESSAGE_BYTES = 16 * 2**20
_READ_BYTES = 2**16
_REFUSAL_BODY_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SocketTimes:
    """Limits in seconds: the opening handshake, silence that makes a peer dead, the closing handshake."""

    open: float = 10.0
    dead: float = 20.0
    close: float = 1.0


@dataclass(frozen=True, slots=True)
class SocketEnd:
    """The last thing received: the close code and reason. 1006 stands for a connection that broke."""

    code: int
    reason: str


class ProviderSocket:
    """An open WebSocket. One task receives; any task may send."""

    def __init__(self, connection: tws.WebSocketConnection, endpoint: Endpoint) -> None:
        self._connection = connection
        self._endpoint = endpoint

    async def receive(self) -> str | bytes | SocketEnd:
        """Wait for the next message; `SocketEnd` is the last."""
        try:
            return await self._connection.get_message()
        except tws.ConnectionClosed as exc:
            return SocketEnd(exc.reason.code, exc.reason.reason or "") if exc.reason else SocketEnd(1006, "")

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message.

        Raises:
            ProviderLost: the connection is closed or broken. After a cancelled send it is, too.
        """
        try:
            await self._connection.send_message(message)
        except (tws.ConnectionClosed, ProtocolError) as exc:
            raise ProviderLost(f"the connection to {self._endpoint} is closed") from exc


class _Reader:
    """Stands in for the nursery that trio_websocket wants for its reader task.

    The reader is shielded, so that it outlives the call's cancellation until the close handshake is over. What it
    raises is kept instead of tearing the call down, and its end wakes whoever waits for the handshake.
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
        except Exception as exc:  # not lost: told as the cause of the failed handshake, or seen as code 1006
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
    hints: Mapping[int, str] = MappingProxyType({}),
) -> AsyncIterator[ProviderSocket]:
    """Open a WebSocket to `endpoint` at `path`, and close it when the context is left, each in bounded time.

    `hints` says what an operator can do about a refusal, by its HTTP status.

    Raises (on entry):
        ProviderRefused: it answered the upgrade with a status that will not change by itself (401, 404, ...).
        ProviderTimeout: no connection, or no answer to the upgrade, within `times.open`.
        ProviderLost: no connection, or it broke.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        reader = _Reader(nursery)
        try:
            with trio.fail_after(times.open):
                stream = await _dial(dial, endpoint)
                try:
                    connection = await _upgrade(reader, stream, endpoint, path, headers, hints)
                except BaseException:
                    reader.scope.cancel()
                    await trio.aclose_forcefully(stream)
                    raise
        except trio.TooSlowError:
            failure = ProviderTimeout(f"{endpoint} did not complete the handshake within {times.open:g} s")
        except ProviderError as exc:
            failure = exc
        else:
            nursery.start_soon(_keep_alive, connection, stream, times.dead)
            try:
                yield ProviderSocket(connection, endpoint)
            except Exception as exc:  # carried past the nursery, which would wrap it in a group
                failure = exc
            finally:
                with trio.move_on_after(times.close, shield=True):
                    await connection.aclose()
                reader.scope.cancel()
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _dial(dial: Dial, endpoint: Endpoint) -> trio.abc.Stream:
    try:
        return await dial(endpoint)
    except OSError as exc:
        raise ProviderLost(f"cannot connect to {endpoint}: {first_line(exc.__cause__ or exc)}") from exc


async def _upgrade(
    reader: _Reader,
    stream: trio.abc.Stream,
    endpoint: Endpoint,
    path: str,
    headers: Mapping[str, str],
    hints: Mapping[int, str],
) -> tws.WebSocketConnection:
    with reader.handshake:
        return await tws.wrap_client_stream(
            # The two types are narrower than the use: only start_soon() and the stream's three methods are called.
            reader,  # type: ignore[arg-type]
            stream,  # type: ignore[arg-type]
            endpoint.host_header,
            path,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            message_queue_size=_QUEUED_MESSAGES,
            max_message_size=_MAX_MESSAGE_BYTES,
            receive_buffer_size=_READ_BYTES,
        )
    raise _handshake_error(endpoint, reader.failure, hints) from reader.failure


def _handshake_error(endpoint: Endpoint, failure: Exception | None, hints: Mapping[int, str]) -> ProviderError:
    if isinstance(failure, tws.ConnectionRejected):
        status = failure.status_code
        body = (failure.body or b"")[:_REFUSAL_BODY_CHARACTERS].decode("utf-8", "replace").strip()
        message = f"{endpoint} answered HTTP {status} to the upgrade" + (f": {one_line(body)}" if body else "")
        message += f" ({hints[status]})" if status in hints else ""
        may_pass = status in (408, 425, 429) or status >= 500
        return ProviderLost(message) if may_pass else ProviderRefused(message)
    if isinstance(failure, ProtocolError):
        return ProviderRefused(f"{endpoint} does not speak WebSocket: {first_line(failure)}")
    return ProviderLost(f"{endpoint} closed the connection during the handshake")


async def _keep_alive(connection: tws.WebSocketConnection, stream: trio.abc.Stream, dead: float) -> None:
    """Ping, and cut the connection when nothing answers for `dead` seconds; receivers then see code 1006."""
    try:
        while True:
            await trio.sleep(dead / 2)
            with trio.fail_after(dead / 2):
                await connection.ping()
    except tws.ConnectionClosed:
        return
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
