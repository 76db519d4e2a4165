"""HTTP/1.1 as a caller speaks it: bounded heads, no flood, no other protocol, and a response that reaches its peer.

Guards of hypercorn's `H11Protocol` and of h11 beneath it; `web.guards` puts them in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

import h11
import trio
from hypercorn.events import Event
from hypercorn.protocol.h11 import H11Protocol

from sts_trio.call.meter import HTTP
from sts_trio.web.call_socket import FAST_PATH, UNIT_BYTES, UNITS_PER_SECOND, UNITS_SAVED
from sts_trio.websocket.frames import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from h11 import NEED_DATA, PAUSED

    from sts_trio.web.connections import ServerConfig

_BAD_REQUEST = 400
_HEAD_TOO_LONG = 431  # Request Header Fields Too Large (RFC 6585, 5)
_TOO_MANY_REQUESTS = 429  # RFC 6585, 4
_REQUEST_UNITS = 10.0  # what a request costs of a connection's units: fifty a second; a health check sends one


class BoundedHeads(h11.Connection):
    """A server's side of HTTP/1.1 that takes no head of more than `most` bytes, and no flood.

    h11 (0.16) checks the length only while a head is incomplete. A head that comes in two reads may be longer by the
    whole second one, 64 KiB with hypercorn.

    Requests, and the chunks of their bodies, cost what messages do (`call_socket.UNITS_PER_SECOND`): a peer can put a
    thousand of either into one read. A body whose length is told twice (RFC 9112, 6.1) is refused: whoever stands
    between us and the peer may have read another request in it.
    """

    def __init__(self, most: int, flooded: Callable[[], None] = lambda: None) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=most)
        self._most = most
        self._flooded = flooded
        self._limit = TokenBucket(UNITS_PER_SECOND, UNITS_SAVED, trio.current_time())

    def next_event(self) -> h11.Event | type[NEED_DATA] | type[PAUSED]:
        """See `h11.Connection.next_event`.

        Raises:
            h11.RemoteProtocolError: the peer broke HTTP, sends too much, or the head of its request is too long.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            if _size_of_head(event) > self._most:
                self._fail("the head of the request is too long", _HEAD_TOO_LONG)
            if _tells_length_twice(event):
                self._fail("Content-Length beside Transfer-Encoding", _BAD_REQUEST)
            self._take(_REQUEST_UNITS)
        elif isinstance(event, h11.Data):
            self._take(1 + len(event.data) / UNIT_BYTES)
        return event

    def _take(self, cost: float) -> None:
        if self._limit.take(cost, trio.current_time()) < cost:
            self._flooded()
            self._fail("too many requests or chunks", _TOO_MANY_REQUESTS)

    def _fail(self, why: str, status: int) -> NoReturn:
        self._process_error(self.their_role)  # as h11 does: a response that is sent nevertheless goes nowhere
        raise h11.RemoteProtocolError(why, error_status_hint=status)


def _size_of_head(request: h11.Request) -> int:
    """Bytes on the wire, without optional spaces."""
    line = len(request.method) + len(request.target) + len(b"  HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + len(b": \r\n") for name, value in request.headers) + len(b"\r\n")


def _tells_length_twice(request: h11.Request) -> bool:
    """Whether the end of the body is a matter of opinion. HTTP/1.0 knows no Transfer-Encoding."""
    names = {name for name, _ in request.headers}
    return b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1")


@dataclass(frozen=True)
class EarlyResponse(Event):
    """The response is complete, and its request is not: the peer may still be sending.

    `by_reader`: the event comes from the connection's reading task, which then cannot wait for another to read on.
    """

    by_reader: bool = False


class Http1Only(H11Protocol):
    """Stays with HTTP/1.1, all that Core speaks (docs/protocols/core.md 1.3), and lets a response reach its peer.

    hypercorn changes to HTTP/2 on an `h2c` upgrade or an HTTP/2 preface, whose streams none of these guards covers.

    It closes at once where the peer is still sending, as a streaming caller is when we end their call. The kernel
    answers unread bytes with a reset, which can destroy the end of the response on its way.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refusals = cast("ServerConfig", self.config).connections.refusals
        self._refused = refusals.note
        self.connection = BoundedHeads(self.config.h11_max_incomplete_size, lambda: refusals.note("flood", leg=HTTP))

    async def _create_stream(self, request: h11.Request) -> None:
        if isinstance(self.connection, h11.Connection) and self.connection.trailing_data[0]:
            cast("dict[str, Any]", self.connection_state).pop(FAST_PATH, None)  # hypercorn has frames already
        await super()._create_stream(request)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _maybe_recycle(self) -> None:
        if self.connection.their_state is h11.SEND_BODY:
            await self._close_stream()
            await self.can_read.set()
            await self.send(EarlyResponse())
        await super()._maybe_recycle()

    async def _send_error_response(self, status_code: int) -> None:
        if status_code != _TOO_MANY_REQUESTS:  # which has been told
            self._refused("head" if status_code == _HEAD_TOO_LONG else "malformed", status=status_code)
        await super()._send_error_response(status_code)
        await self.send(EarlyResponse(by_reader=True))
