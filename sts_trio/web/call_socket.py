"""A caller's WebSocket: hypercorn's stream with its faults contained, and a call's `CallerSocket` straight on ASGI.

Plain messages take neither way: they come from the connection's `FastPath`. Pings, fragments, errors and the close do
(hypercorn 0.18, `protocol/ws_stream.py`); each method of `GuardedWSStream` names the fact that it cures, and
`tests/server` holds a test for every one.

quart's own WebSocket layer is not used for calls, because of how quart-trio 0.12 treats them: a peer's close arrives as
`trio.Cancelled` and drops up to ten messages already received; an error in a handler closes with 1000, or is lost
unlogged beside a `Cancelled`; an empty binary message arrives as None; a send to a peer that has left passes no
checkpoint; each message costs two more tasks and a channel. On plain ASGI a close is a value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio
from hypercorn.protocol.events import Body, Data, Request, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, Handshake, WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, Pong
from wsproto.frame_protocol import CloseReason

from sts_trio.call.meter import WEBSOCKET, Cause
from sts_trio.core.link import Arrival, CallerSocket, SocketClosed, parse_arrival
from sts_trio.text import one_line
from sts_trio.web.auth import refuse_upgrade
from sts_trio.websocket.frames import TEXT, TokenBucket

if TYPE_CHECKING:
    from hypercorn.protocol.events import Event
    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendCallable,
        ASGISendEvent,
        WebsocketAcceptEvent,
        WebsocketReceiveEvent,
        WebsocketScope,
    )

    from sts_trio.web.auth import Admission
    from sts_trio.web.connections import ServerConfig
    from sts_trio.websocket.fast_path import FastPath

log = structlog.get_logger(__name__)

# How long a peer gets to answer our close frame. Core is on the same network; its answer takes milliseconds.
CLOSE_SECONDS = 1.0
# After we failed a connection its peer may still be sending. Closing at once would answer that with a TCP reset, which
# can overtake our close frame; so what comes is thrown away for this long.
LINGER_SECONDS = 1.0
FAST_PATH = "fast_path"  # the key of the connection's `FastPath` in ASGI's state
# What a peer may send: Core sends 50 messages a second, 72 of these units (one for each event, one for each KiB in it),
# and after a stall of a minute all of them at once. Twenty thousand a second, which one peer can, cost a whole CPU.
UNITS_PER_SECOND = 500
UNITS_SAVED = 5000
UNIT_BYTES = 1024

Answer = Callable[[CallerSocket, Arrival], Awaitable[None]]
"""Hold one call; awaited for each accepted WebSocket. Nothing it raises touches another call."""


class AsgiSocket:
    """A `CallerSocket` on an accepted ASGI WebSocket.

    Messages come from the `fast_path` and go to it, as long as there is one and it is open; else they pass hypercorn.
    """

    def __init__(self, receive: ASGIReceiveCallable, send: ASGISendCallable, fast_path: FastPath | None = None) -> None:
        self._receive = receive
        self._send = send
        self._fast_path = fast_path
        self._closing = False
        self._end: SocketClosed | None = None

    async def receive(self) -> str | bytes | SocketClosed:
        """Wait for the next message: text, bytes (also empty ones), or the end, which then comes again and again."""
        if self._fast_path is not None:
            if (plain := await self._fast_path.receive()) is not None:
                return plain
            self._fast_path = None
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._end = SocketClosed(message["code"], one_line(str(message.get("reason") or "")))
            return self._end
        data = cast("WebsocketReceiveEvent", message)
        return (data["bytes"] or b"") if data["text"] is None else data["text"]

    async def send(self, text: str) -> None:
        """Send a text message. Does nothing once either side has closed; always passes a checkpoint."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing or self._end is not None:
            pass
        elif self._fast_path is None or not self._fast_path.is_open:
            await self._send({"type": "websocket.send", "bytes": None, "text": text})
        else:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # `receive` is about to learn of it
                await self._fast_path.send(TEXT, text.encode())
        # After it, since a turn of a busy loop takes its time; shielded, since what has been sent must count as sent.
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame and read on until the peer has answered, for `CLOSE_SECONDS` at most.

        wsproto cuts the reason to the 123 bytes that a close frame holds. A second close does nothing.
        """
        if self._closing:
            await trio.lowlevel.checkpoint()
            return
        self._closing = True
        with trio.move_on_after(CLOSE_SECONDS):
            if self._end is None:
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            while not isinstance(await self.receive(), SocketClosed):
                pass
        if self._fast_path is not None:
            self._fast_path.close()


async def take_call(
    scope: WebsocketScope,
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
    answer: Answer,
    admission: Admission,
) -> None:
    """Run one WebSocket from its handshake to its close: refused with 503, or accepted and passed to `answer`.

    An error in `answer` is logged and closes with 1011; a cancellation (the server stops) closes with 1001. The close
    is shielded, since a cancelled call still owes its peer a close frame, and bounded by its own limits.
    """
    with admission.admit() as refusal:
        if refusal is not None:
            await refuse_upgrade(receive, send, 503, refusal.message, refusal.reason)
        else:
            await receive()  # websocket.connect
            await _hold(scope, receive, send, answer)


async def _hold(scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable, answer: Answer) -> None:
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    fast_path = _fast_path_in(scope.get("state"))
    socket = AsgiSocket(receive, send, fast_path if fast_path is not None and fast_path.is_open else None)
    code, reason = 1001, "the server is stopping"
    try:
        await answer(socket, parse_arrival(scope["query_string"], scope["headers"]))
        code, reason = 1000, ""
    except* Exception as group:
        code, reason = 1011, Cause.INTERNAL.value
        log.error("a call failed", exc_info=group)
    finally:
        with trio.CancelScope(shield=True):
            await socket.close(code, reason)


def _fast_path_in(state: object) -> FastPath | None:
    """Return the `FastPath` that the connection has put into ASGI's state, if it may be used."""
    return cast("dict[str, Any]", state or {}).get(FAST_PATH)


class GuardedHandshake(Handshake):
    """Declines permessage-deflate.

    hypercorn accepts it whenever it is offered (Node's `ws` offers it) and has no setting for that; it would then
    compress each of our 50 short messages a second.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None


class GuardedWSStream(WSStream):
    """One WebSocket. A fault of its peer ends this connection, at once, with the true cause, and no other.

    `end_code` and `end_reason` are those of the close frame that ended it: the peer's, or ours if we failed the
    connection; 1005 for a close frame without a code, 1006 for no close frame (end of stream, reset, silence).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.end_code = int(CloseReason.ABNORMAL_CLOSURE)
        self.end_reason = ""
        self.failed = False
        self._decided = trio.Event()  # the app has accepted or refused the handshake
        self._over = trio.Event()  # nothing more will come or go
        self._limit = TokenBucket(UNITS_PER_SECOND, UNITS_SAVED, trio.current_time())
        self._fast_path: FastPath | None = None
        self._early = False  # bytes came before our 101
        self._refused = cast("ServerConfig", self.config).connections.refusals.note

    async def handle(self, event: Event) -> None:
        """Act on an event of the connection.

        Bytes before our 101 wait for it: RFC 6455 (4.1) forbids them, and hypercorn answers 400 to them while the app
        accepts, which raises `h11.LocalProtocolError` in whichever comes second and stops the whole server.
        A handshake that is refused as invalid closes the connection; hypercorn promises that, but keeps it open.
        """
        if self.closed:
            return
        if isinstance(event, StreamClosed):
            self.closed = True
            self._decided.set()
            self._over.set()
            await self._tell_app()
        elif isinstance(event, Body | Data):
            self._early = True
            await self._decided.wait()
            if self.handshake.accepted and not self.failed:
                await super().handle(event)
        else:
            if isinstance(event, Request):
                self._fast_path = _fast_path_in(event.state)
            await super().handle(event)
            if isinstance(event, Request) and self.app_put is None:
                self._refused("malformed", status=400, leg=WEBSOCKET)
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Act on a message of the app; None when the app has ended."""
        if message is None and self.failed:
            with trio.move_on_after(LINGER_SECONDS):
                await self._over.wait()
        await super().app_send(message)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        if self._fast_path is not None and not self._early:
            # Now, and not after our 101: the peer's first message may be read before this task goes on.
            self._fast_path.open(limit=self._limit)
        await super()._accept(message)
        self._decided.set()

    async def _handle_events(self) -> None:
        """Act on what the peer has sent, but for plain messages, which the fast path takes while it is open.

        Each event passes a checkpoint: a peer can put ten thousand of them, pongs or crumbs of a message, into one
        read, and the other calls must get their turn between them.

        A peer that sends more than any caller can is failed with 1008.

        The app learns of the end at once, with its code and reason. hypercorn loses both, tells the app of a message
        that is too long only when the peer closes, and answers broken framing or UTF-8 without a close frame.
        """
        for event in self.connection.events():
            cost = 1 + len(event.data) / UNIT_BYTES if isinstance(event, Message) else 1
            if self._limit.take(cost, trio.current_time()) < cost:
                await self.fail_flood()
                return
            if isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._fail(CloseReason.MESSAGE_TOO_BIG, "message too big")
                    return
                if event.message_finished:
                    if self.app_put is not None:
                        await self.app_put(cast("ASGIReceiveEvent", self.buffer.to_message()))
                    self.buffer.clear()
                else:
                    await trio.lowlevel.checkpoint()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, Pong):
                await trio.lowlevel.checkpoint()
            elif isinstance(event, CloseConnection):
                if self.connection.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
                    # wsproto's way to say that it cannot read on; no close frame came.
                    await self._fail(CloseReason(event.code), "broken frame or text")
                    return
                self.end_code, self.end_reason = int(event.code), event.reason or ""
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))
                return

    async def fail_flood(self) -> None:
        """Fail the connection of a peer that sends more than any caller can."""
        self._refused("flood", close=int(CloseReason.POLICY_VIOLATION), leg=WEBSOCKET)
        await self._fail(CloseReason.POLICY_VIOLATION, "too many messages")

    async def _fail(self, code: CloseReason, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): close frame to the peer, the end to the app, deaf from now on."""
        self.failed = True
        self.end_code, self.end_reason = int(code), reason
        self.buffer.clear()
        await self._tell_app()
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))

    async def _tell_app(self) -> None:
        if self._fast_path is not None:
            self._fast_path.close()
        if self.app_put is not None:
            end = {"type": "websocket.disconnect", "code": self.end_code, "reason": self.end_reason}
            await self.app_put(cast("ASGIReceiveEvent", end))

    async def _send_pings(self) -> None:
        """Ping at the interval, first one interval after the handshake; end with the connection.

        hypercorn's own ping task sleeps on after the end and holds the connection's nursery for up to an interval.
        Pongs need no look: they are traffic, and `read_timeout` drops a connection without any.
        """
        interval = self.config.websocket_ping_interval
        if interval is None:
            return
        while not self._over.is_set():
            with trio.move_on_after(interval) as pause:
                await self._over.wait()
            if pause.cancelled_caught:
                await self._send_wsproto_event(Ping())
