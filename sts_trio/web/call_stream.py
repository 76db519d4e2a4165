"""A call over HTTP, straight on ASGI: audio in the body of a request, and at the same time in that of its response.

It goes past quart for the reasons in `web.call_socket`, and for three more: quart limits the length of a body, and the
time that a response may take, and it reads a body without bound while the app does not. Here the guards' bounded inbox
lies between caller and call; when it is full, TCP holds the caller back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.handler import DRAINING
from sts_trio.core.link import Arrival, CallerStream, SocketClosed, parse_arrival
from sts_trio.web.auth import json_reply

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

    from sts_trio.web.auth import Admission

log = structlog.get_logger(__name__)

# When the response begins at the latest. Core may limit how long it waits for headers (docs/protocols/core.md 1.5).
HEADERS_SECONDS = 0.06

# The connection cannot be used again while its request is not over, and a call ends whenever it likes: hence `close`.
# `no-transform`: a proxy that compresses would have to gather audio first.
_HEADERS = [
    (b"content-type", b"application/octet-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"close"),
]

AnswerStream = Callable[[CallerStream, Arrival], Awaitable[None]]
"""Hold one call; awaited for each streaming request. Nothing it raises touches another call."""


class AsgiStream:
    """A `CallerStream` on an ASGI request.

    The response begins (200) with the first audio, or `HEADERS_SECONDS` after the request, whichever is first. That
    is a compromise. Once begun, a response cannot become an error any more. Beginning only when the provider is there
    would report every failure, but a client with a limit on headers would give up. So quick failures (a provider that
    cannot be reached, a service that stops) get their status, and later ones show only as the response's end.
    """

    def __init__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self._receive = receive
        self._send = send
        self._turn = trio.Lock()  # the head of the response must be out before its body
        self._begun = False
        self._closing = False
        self._end: SocketClosed | None = None

    async def receive(self) -> bytes | SocketClosed:
        """See `CallerStream.receive`. The end comes again and again; hypercorn's last message never holds audio."""
        if self._end is not None:
            await trio.lowlevel.checkpoint()
            return self._end
        message = await self._receive()
        if message["type"] == "http.request" and message["more_body"]:
            return message["body"]
        self._end = SocketClosed(1000 if message["type"] == "http.request" else 1006)
        return self._end

    async def begin(self) -> None:
        """Send the head of the response, unless that has been done."""
        async with self._turn:
            await self._begin()

    async def send(self, pcm: bytes) -> None:
        """See `CallerStream.send`."""
        async with self._turn:
            if not self._closing and self._end is None:
                await self._begin()
                await self._send({"type": "http.response.body", "body": pcm, "more_body": True})

    async def close(self, status: int = 200, message: str = "", reason: str = DRAINING.reason) -> None:
        """End the response, and read on until the caller has ended the request, for `LINGER_SECONDS` at most.

        The reading is the guards' (`GuardedTCPServer`). A second close does nothing. `reason` goes with a 503.
        """
        async with self._turn:
            if self._closing:
                return
            self._closing = True
            body = b""
            if status == 200:
                await self._begin()
            elif not self._begun:
                self._begun = True
                headers, body = json_reply(status, message, reason if status == 503 else "")
                await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})


async def take_stream(
    scope: HTTPScope,
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
    answer: AnswerStream,
    admission: Admission,
) -> None:
    """Run one streaming request to the end of its response: refused with 503, or handed to `answer`.

    An error in `answer` is logged and, like a cancellation (the server stops), ends the response: with 500, or 503, if
    it has not begun. That is shielded, and bounded by its own limits.
    """
    stream = AsgiStream(receive, send)
    with admission.admit() as refusal:
        if refusal is not None:
            await stream.close(503, refusal.message, refusal.reason)
        else:
            await _hold(stream, parse_arrival(scope["query_string"], scope["headers"]), answer)


async def _hold(stream: AsgiStream, arrival: Arrival, answer: AnswerStream) -> None:
    async def begin() -> None:
        await trio.sleep(HEADERS_SECONDS)
        await stream.begin()

    status, message = 503, "the server is stopping"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await answer(stream, arrival)
            nursery.cancel_scope.cancel(reason="the call is over")
        status, message = 200, ""
    except* Exception as group:
        status, message = 500, "internal error"
        log.error("a call failed", exc_info=group)
    finally:
        with trio.CancelScope(shield=True):
            await stream.close(status, message)
