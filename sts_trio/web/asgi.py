"""A call's WebSocket, straight on ASGI.

quart's own WebSocket layer is not in the way here, because of what quart-trio 0.12 makes of a call: a peer's close
arrives as `trio.Cancelled` and drops up to ten messages already received; an error in a handler closes with 1000, or
is lost unlogged beside a `Cancelled`; an empty binary message arrives as None; a send to a peer that has left passes no
checkpoint; each message costs two more tasks and a channel. On plain ASGI a close is a value.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import structlog
import trio

from sts_trio.core.arrival import Arrival, parse_arrival
from sts_trio.core.link import CallerSocket, SocketClosed
from sts_trio.websocket.frames import TEXT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        WebsocketReceiveEvent,
        WebsocketScope,
    )

    from sts_trio.call.admission import Refusal
    from sts_trio.websocket.fast_path import FastPath

log = structlog.get_logger(__name__)

# How long a peer gets to answer our close frame. Core is on the same network; its answer takes milliseconds.
CLOSE_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5

Answer = Callable[[CallerSocket, Arrival], Awaitable[None]]
"""Hold one call; awaited for each accepted WebSocket. Nothing it raises touches another call."""


class Admission(Protocol):
    """Decides which calls come in. What a `Refusal` says, the caller may see."""

    def refusal(self) -> Refusal | None:
        """Why a call would not be taken now, or None. Asking changes nothing."""
        ...

    def admit(self) -> AbstractContextManager[Refusal | None]:
        """Give a call that is at the door a place while the context lasts, or say why it has none."""
        ...


class AsgiSocket:
    """A `CallerSocket` on an accepted ASGI WebSocket; its messages take the `fast_path`, as long as there is one."""

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
            self._end = SocketClosed(message["code"], str(message.get("reason") or ""))
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
    keeper: Admission,
) -> None:
    """Run one WebSocket from its handshake to its close: refused with 503, or accepted and handed to `answer`.

    An error in `answer` is logged and closes with 1011; a cancellation (the server stops) closes with 1001. The close
    is shielded, since a cancelled call still owes its peer a close frame, and bounded by its own limits.
    """
    with keeper.admit() as refusal:
        if refusal is not None:
            await refuse_upgrade(receive, send, 503, refusal.message, refusal.reason)
        else:
            await receive()  # websocket.connect
            await _hold(scope, receive, send, answer)


async def _hold(scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable, answer: Answer) -> None:
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    fast_path: FastPath | None = cast("dict[str, Any]", scope.get("state", {})).get("lane")
    socket = AsgiSocket(receive, send, fast_path if fast_path is not None and fast_path.is_open else None)
    code, reason = 1001, "the server is stopping"
    try:
        await answer(socket, parse_arrival(scope["query_string"], scope["headers"]))
        code, reason = 1000, ""
    except* Exception as group:
        code, reason = 1011, "internal error"
        log.error("a call failed", exc_info=group)
    finally:
        with trio.CancelScope(shield=True):
            await socket.close(code, reason)


async def refuse_upgrade(
    receive: ASGIReceiveCallable, send: ASGISendCallable, status: int, message: str, reason: str = ""
) -> None:
    """Answer a WebSocket handshake with an HTTP status, and words, in place of an upgrade."""
    await receive()  # websocket.connect
    reply = json_reply(status, message, reason)
    await send({"type": "websocket.http.response.start", "status": status, "headers": reply.headers})
    await send({"type": "websocket.http.response.body", "body": reply.body, "more_body": False})


async def refuse_request(send: ASGISendCallable, status: int, message: str) -> None:
    """Answer a request with a status and words, without reading its body."""
    reply = json_reply(status, message)
    await send({"type": "http.response.start", "status": status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


class JsonReply(NamedTuple):
    """A whole response, but for its status."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


def json_reply(status: int, message: str, reason: str = "") -> JsonReply:
    """Make a response that ends its connection and tells a person what is the matter, and a program the `reason`.

    With 401 it says what kind of secret is wanted (RFC 6750, 3), with 503 when it may be better.
    """
    body = json.dumps({"message": message} | ({"reason": reason} if reason else {})).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    elif status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    return JsonReply(headers, body)
