"""hypercorn's WebSocket stream, with its faults contained (hypercorn 0.18, `protocol/ws_stream.py`).

Each method names the fact that it cures; `tests/server` holds a test for every one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.protocol.events import Body, Data, Request, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, Handshake, WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, Pong
from wsproto.frame_protocol import CloseReason

from sts_trio.websocket.frames import TokenBucket

if TYPE_CHECKING:
    from hypercorn.protocol.events import Event
    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, WebsocketAcceptEvent

    from sts_trio.websocket.fast_path import FastPath

# After we failed a connection its peer may still be sending. Closing at once would answer that with a TCP reset, which
# can overtake our close frame; so what comes is thrown away for this long.
LINGER_SECONDS = 1.0
LANE = "lane"  # the key of the connection's `FastPath` in ASGI's state
# What a peer may send: Core sends 50 messages a second, 72 of these units (one for each event, one for each KiB in it),
# and after a stall of a minute all of them at once. Twenty thousand a second, which one peer can, cost a whole CPU.
UNITS_PER_SECOND = 500
UNITS_SAVED = 5000
_UNIT_BYTES = 1024


class GuardedHandshake(Handshake):
    """Declines permessage-deflate.

    hypercorn accepts it whenever it is offered (Node's `ws` offers it) and has no setting for that; it would then
    compress each of our 50 short messages a second.
    """

    def __init__(self, headers: list[tuple[bytes, bytes]], http_version: str) -> None:
        super().__init__(headers, http_version)
        self.extensions = None


class GuardedWSStream(WSStream):
    """One WebSocket. What its peer does wrong ends this connection, at once, with the true cause.

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
        self._allowance = TokenBucket(UNITS_PER_SECOND, UNITS_SAVED, trio.current_time())
        self._fast_path: FastPath | None = None
        self._early = False  # bytes came before our 101

    async def handle(self, event: Event) -> None:
        """Take what came from the connection.

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
                self._fast_path = cast("dict[str, Any]", event.state).get(LANE)
            await super().handle(event)
            if isinstance(event, Request) and self.app_put is None:
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the app sends; None when it has ended."""
        if message is None and self.failed:
            with trio.move_on_after(LINGER_SECONDS):
                await self._over.wait()
        await super().app_send(message)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        if self._fast_path is not None and not self._early:
            # Now, and not after our 101: its answer may be read before this task goes on.
            self._fast_path.limit(self._admits)
            self._fast_path.open()
        await super()._accept(message)
        self._decided.set()

    def _admits(self, cost: float) -> bool:
        return self._allowance.take(cost, trio.current_time()) >= cost

    async def _handle_events(self) -> None:
        """Act on what the peer sent.

        Each event passes a checkpoint: a peer can put ten thousand of them, pongs or crumbs of a message, into one
        read, and the other calls must get their turn between them.

        A peer that sends as much as no caller can is failed with 1008.

        The app hears of the end at once, with its code and reason. hypercorn loses both, tells the app of a message
        that is too long only when the peer closes, and answers broken framing or UTF-8 without a close frame.
        """
        for event in self.connection.events():
            cost = 1 + len(event.data) / _UNIT_BYTES if isinstance(event, Message) else 1
            if not self._admits(cost):
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
