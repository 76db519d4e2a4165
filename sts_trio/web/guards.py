"""hypercorn's connection classes, hardened so that no client can stop the server (hypercorn 0.18, trio worker).

Each class names the fact that it cures; `tests/server` holds a test for every one. `install_guards` puts them in place.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.run
import hypercorn.trio.tcp_server
import trio
from hypercorn.events import RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import TCPServer

from sts_trio.web.guarded_ws import GuardedHandshake, GuardedWSStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import h11
    from hypercorn.config import Config
    from hypercorn.events import Event
    from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

logger = logging.getLogger(__name__)

# How long one write may wait for a peer that has stopped reading. The kernel's buffers come first and hold seconds of
# telephone audio (22 KB a second), so a peer that gets here is gone. Must stay below server.GRACEFUL_SECONDS.
SEND_SECONDS = 3.0


class Inbox:
    """What one connection brings to its app: at most `size` messages, then the reader waits. The end always fits.

    With hypercorn's plain channel the final disconnect waits for room: an app that has stopped reading then never
    ends its connection, and shutdown waits for it.
    """

    def __init__(self, size: int) -> None:
        self._send, self._receive = trio.open_memory_channel["ASGIReceiveEvent"](size)
        self._end: ASGIReceiveEvent | None = None

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add a message, waiting for room. What still waits when the end comes, or comes later, is lost."""
        if message["type"].endswith(".disconnect"):
            self._end = self._end or message
            self._send.close()
            return
        with suppress(trio.ClosedResourceError):
            await self._send.send(message)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message; after the last one the disconnect, again and again."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return cast("ASGIReceiveEvent", self._end)


class GuardedTaskGroup(TaskGroup):
    """Gives each app an `Inbox` in place of hypercorn's memory channel."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the app for one request; return the function that feeds it."""
        inbox = Inbox(config.max_app_queue_size)
        sync_spawn, call_soon = trio.to_thread.run_sync, trio.from_thread.run
        self.spawn(_handle, app, config, scope, inbox.receive, send, sync_spawn, call_soon)
        return inbox.put


class Http1Only(H11Protocol):
    """Stays with HTTP/1.1, the only version Core speaks (contract 1.3).

    hypercorn changes to HTTP/2 on an `h2c` upgrade or an HTTP/2 preface, whose streams none of these guards covers.
    """

    async def _check_protocol(self, event: h11.Request) -> None:
        pass


class GuardedTCPServer(TCPServer):
    """One TCP connection. Whatever goes wrong in it ends it, and nothing else."""

    async def run(self) -> None:
        """Serve the connection to its end; only `trio.Cancelled` gets out.

        hypercorn lets everything but `OSError` out, and an exception that leaves a handler of `serve_listeners` stops
        the server with all its calls. The log line has no detail: an exception's text may quote what the peer sent.
        """
        try:
            await super().run()
        except* Exception as group:
            logger.warning("connection dropped: %s", ", ".join(sorted({type(e).__name__ for e in leaves(group)})))
            logger.debug("connection dropped", exc_info=group)

    async def protocol_send(self, event: Event) -> None:
        """Write to the connection, or change its state.

        A write is never cut by a cancellation (half a frame would be worse than none), so it has a time limit of its
        own: hypercorn's has none, and a peer that stops reading pins the app past every deadline and past shutdown.

        The rest is shielded because quart-trio cancels the task that is closing the connection after an HTTP response;
        without it `Connection: close` is not honoured and the idle timer never starts.
        """
        if not isinstance(event, RawData):
            with trio.move_on_after(SEND_SECONDS, shield=True):
                await super().protocol_send(event)
            return
        async with self.send_lock:
            written = await self._write(event.data)
        if not written:
            await trio.aclose_forcefully(self.stream)  # the reader wakes, and tells the app

    async def _read_data(self) -> None:
        """Read to the end, and have the idle timer end with it; hypercorn's holds a dead connection for 5 s more."""
        await super()._read_data()
        await self.idle_task.stop()

    async def _close(self) -> None:
        """Close the connection, but not under a write: trio raises `BusyResourceError` in whichever comes second.

        hypercorn does it when our close frame and the peer's cross each other.
        """
        async with self.send_lock:
            await super()._close()

    async def _write(self, data: bytes) -> bool:
        try:
            with trio.move_on_after(SEND_SECONDS, shield=True) as limit:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if limit.cancelled_caught:
            logger.warning("connection dropped: the peer has read nothing for %.0f s", SEND_SECONDS)
        return not limit.cancelled_caught


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


GUARDS: tuple[tuple[object, str, type], ...] = (
    (hypercorn.trio.run, "TCPServer", GuardedTCPServer),
    (hypercorn.trio.tcp_server, "TaskGroup", GuardedTaskGroup),
    (hypercorn.protocol, "H11Protocol", Http1Only),
    (hypercorn.protocol.h11, "WSStream", GuardedWSStream),
    (hypercorn.protocol.ws_stream, "Handshake", GuardedHandshake),
)


def install_guards() -> None:
    """Have hypercorn use our classes, in this process. Doing it again changes nothing.

    Raises:
        RuntimeError: hypercorn is not the version these guards were written for.
    """
    for module, name, guard in GUARDS:
        if not issubclass(guard, getattr(module, name, type(None))):
            raise RuntimeError(f"this version of hypercorn has no {name} that {guard.__name__} can guard")
        setattr(module, name, guard)
