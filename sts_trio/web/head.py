"""The head of a request: its line and its headers, no longer than is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from h11 import NEED_DATA, PAUSED, Event

_TOO_LONG = 431  # Request Header Fields Too Large (RFC 6585, 5)


class BoundedHeads(h11.Connection):
    """A server's side of HTTP/1.1 that takes no head of more than `most` bytes.

    h11 (0.16) looks at the length only while a head is incomplete: read in two pieces, it may be as much longer as one
    read brings, 64 KiB with hypercorn.
    """

    def __init__(self, most: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=most)
        self._most = most

    def next_event(self) -> Event | type[NEED_DATA] | type[PAUSED]:
        """See `h11.Connection.next_event`.

        Raises:
            h11.RemoteProtocolError: the peer broke HTTP, or the head of its request is too long.
        """
        event = super().next_event()
        if isinstance(event, h11.Request) and _size(event) > self._most:
            raise h11.RemoteProtocolError("the head of the request is too long", error_status_hint=_TOO_LONG)
        return event


def _size(request: h11.Request) -> int:
    """Bytes on the wire, without optional spaces."""
    line = len(request.method) + len(request.target) + len(b"  HTTP/1.1\r\n")
    return line + sum(len(name) + len(value) + len(b": \r\n") for name, value in request.headers) + len(b"\r\n")
