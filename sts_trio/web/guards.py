"""hypercorn's connection classes, hardened so that no client can stop the server (hypercorn 0.18, trio worker).

Each class names the fact that it cures; `tests/server` holds a test for every one. `install_guards` puts them in place.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, cast

import hypercorn.protocol
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import hypercorn.trio.tcp_server
import structlog
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

from sts_trio.web.auth import json_reply
from sts_trio.web.call_socket import (
    FAST_PATH,
    LINGER_SECONDS,
    GuardedHandshake,
    GuardedWSStream,
)
from sts_trio.web.connections import FIRST_REQUEST, Verdict
from sts_trio.web.http1 import EarlyResponse, Http1Only
from sts_trio.websocket.fast_path import FastPath
from sts_trio.websocket.frames import Flood, FrameParser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.config import Config
    from hypercorn.protocol.h11 import H11Protocol
    from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, LifespanState, Scope

    from sts_trio.web.connections import ServerConfig

log = structlog.get_logger(__name__)

# How long one write may wait for a peer that has stopped reading. The kernel's buffers come first and hold seconds of
# telephone audio (22 KB a second), so a peer that gets here is gone. Must stay below server.GRACEFUL_SECONDS.
SEND_SECONDS = 3.0
# For a peer that there is no room for, to read our 503 and to leave.
_FULL_SECONDS = 0.5
# The last part of a peer's time begins when we look, not when it was due: after a pause of our own (SIGSTOP, a
# suspended machine) what they have sent is still to be read, and our ping to be answered.
_LAST_LOOK_SECONDS = 1.0
# Read at once from a caller: what is in it is parsed in one turn, 1365 messages at worst.
_READ_BYTES = 8192
_FULL = json_reply(503, "no room for another connection", "files")


class Inbox:
    """Messages of one connection for its app: at most `size`, then the reader waits. The disconnect always fits.

    With hypercorn's plain channel the final disconnect waits for room: an app that has stopped reading then never
    ends its connection, and shutdown waits for it.
    """

    def __init__(self, size: int) -> None:
        self._send, self._receive = trio.open_memory_channel["ASGIReceiveEvent"](size)
        self._end: ASGIReceiveEvent | None = None

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add a message, waiting for room. After the disconnect nothing is added, be it waiting already."""
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


class GuardedTCPServer(TCPServer):
    """One TCP connection. Whatever goes wrong in it ends it, and nothing else."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parser = FrameParser(masked=True, most=self.config.websocket_max_message_size)
        queued = self.config.max_app_queue_size
        self._fast_path = FastPath(self.stream, parser, queued=queued, patience=SEND_SECONDS, read_bytes=_READ_BYTES)
        self.stream = cast("Any", self._fast_path)
        self.state = cast("LifespanState", {**self.state, FAST_PATH: self._fast_path})
        self._discarding = False  # what still comes is read, and thrown away
        self._read_all = trio.Event()  # nothing more will come

    async def run(self) -> None:
        """Serve the connection to its end, if there is room for it; only `trio.Cancelled` gets out.

        hypercorn lets everything but `OSError` out, and an exception that leaves a handler of `serve_listeners` stops
        the server with all its calls. The log line has no detail: an exception's text may quote what the peer sent.
        """
        try:
            connections = cast("ServerConfig", self.config).connections
            with connections.enter() as verdict:
                if verdict is Verdict.SERVE:
                    with connections.track_idle() as first_request:
                        self.state[FIRST_REQUEST] = first_request
                        await super().run()
                elif verdict is Verdict.REFUSE:
                    await self._refuse()
        except* Exception as group:
            log.warning("connection dropped", causes=sorted({type(e).__name__ for e in leaves(group)}))
            log.debug("connection dropped", exc_info=group)

    async def _refuse(self) -> None:
        """Answer any request with 503, without reading it, and give the peer the time to close the connection."""
        head = b"HTTP/1.1 503 \r\n" + b"".join(b"%b: %b\r\n" % header for header in _FULL.headers) + b"\r\n"
        with trio.move_on_after(_FULL_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_all(head + _FULL.body)
            await self.stream.send_eof()
            while await self.stream.receive_some(MAX_RECV):
                pass

    async def protocol_send(self, event: Event) -> None:
        """Write to the connection, or change its state.

        A write is never cut by a cancellation, not even before its turn: hypercorn has counted it as sent by then, and
        half a frame, or a body without its head, would be worse than none. So it has a time limit of its own, which
        hypercorn lacks: a peer that stops reading would hold the app past every deadline and past shutdown.

        The other events are shielded because quart-trio cancels the task that is closing the connection after an HTTP
        response: without the shield `Connection: close` is not honoured and the idle timer never starts.
        """
        if isinstance(event, RawData):
            with trio.CancelScope(shield=True):
                async with self.send_lock:
                    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await self._fast_path.send_all(event.data)  # if it fails the reader learns of it (`FastPath`)
        elif isinstance(event, EarlyResponse):
            with trio.move_on_after(LINGER_SECONDS, shield=True):
                await self._linger(event.by_reader)
        else:
            with trio.move_on_after(SEND_SECONDS, shield=True):
                await super().protocol_send(event)

    async def _linger(self, by_reader: bool) -> None:
        """End our direction, and discard what comes until the peer has ended theirs."""
        self._discarding = True
        async with self.send_lock:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_eof()
        if by_reader:
            while await self._read():
                pass
        else:
            await self._read_all.wait()

    async def _read_data(self) -> None:
        """Read to the end, then stop the idle timer; hypercorn's holds a dead connection for 5 s more.

        `read_timeout` is for WebSockets, whose peers have pings to answer. The caller of a stream may be silent for as
        long as they are on hold: there TCP's own keepalive finds dead peers (`connections.notice_dead_peers`). Before a
        request has come, and between two, the idle timer counts.
        """
        while (data := await self._read()) is not None:
            if not self._discarding:
                await self.protocol.handle(RawData(data))
            if not data:
                break
        self._read_all.set()
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _read(self) -> bytes | None:
        """Wait for data. b"": the peer has ended it. None: the connection broke, or was silent for too long."""
        stream = cast("H11Protocol", self.protocol.protocol).stream
        patience = (self.config.read_timeout or inf) if isinstance(stream, WSStream) else inf
        look = min(patience / 4, _LAST_LOOK_SECONDS)
        try:
            while True:
                heard_at = self._fast_path.heard_at  # messages on the fast path move it, and do not come by here
                with trio.move_on_at(heard_at + patience - look):
                    return await self._fast_path.receive_some(MAX_RECV)
                if self._fast_path.heard_at == heard_at:
                    with trio.move_on_after(look):
                        return await self._fast_path.receive_some(MAX_RECV)
                    if self._fast_path.heard_at == heard_at:
                        await trio.aclose_forcefully(self._fast_path)  # the call, which may be reading, wakes
                        break
        except Flood:
            await cast("GuardedWSStream", stream).fail_flood()
            return await self._read()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        return None

    async def _close(self) -> None:
        """Close the connection, but not under a write: trio raises `BusyResourceError` in whichever comes second.

        hypercorn does it when our close frame and the peer's cross each other.
        """
        async with self.send_lock:
            await super()._close()


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


GUARDS: tuple[tuple[object, str, type], ...] = (
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
