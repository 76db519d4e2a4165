"""The listening socket: where it is, what the connections accepted on it inherit, and how often its trouble is told."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 128  # connections that the kernel holds for us while we are busy
_PROBES = 3  # that a peer leaves without an answer before it counts as gone; the half of that time is for them
TELL_AGAIN_SECONDS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket: an IPv4 or IPv6 address or a name; `::` takes IPv4 as well; port 0 finds a free one.

    Raises:
        OSError: the address cannot be used; its text names it and says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL that a listening socket is reached at."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def notice_dead_peers(listener: socket.socket, seconds: float) -> None:
    """Have the kernel break the connections of this listener whose peer is gone, `seconds` after it was last heard.

    A caller over plain HTTP may send nothing for hours (hold, mute), and HTTP has no pings: TCP's own probes tell him
    from a dead one. While something of ours waits for its acknowledgement TCP does not probe; that has the same limit.
    Accepted connections inherit all of this (Linux).
    """
    probe = max(1, round(seconds / 2 / _PROBES))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds - probe * _PROBES)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


class Seldom(logging.Filter):
    """Lets one record through each ten seconds, in one line. For what a library would repeat ten times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is logged."""
        if record.created < self._next:
            return False
        self._next = record.created + TELL_AGAIN_SECONDS
        record.exc_info = None
        return True


@contextmanager
def seldom_told(name: str) -> Iterator[None]:
    """While the context lasts, let a logger speak as seldom as `Seldom` does."""
    seldom, log = Seldom(), logging.getLogger(name)
    log.addFilter(seldom)
    try:
        yield
    finally:
        log.removeFilter(seldom)
