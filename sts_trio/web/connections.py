"""The listening socket and its connections: as many as the process has file descriptors for.

There is no limit for each peer: behind one Core, or one proxy, all calls come from the same address.
"""

from __future__ import annotations

import logging
import resource
import socket
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config

from sts_trio.call.handler import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKLOG = 128  # connections that the kernel holds for us while we are busy
_PROBES = 3  # unanswered TCP keepalive probes after which a peer is dead; half of the time is for them
LOG_AGAIN_SECONDS = 10.0
MOST_FILES = 65_536  # beyond that a process only wastes the kernel's memory
_FILES_OF_A_CALL = 2  # Core's connection and the provider's; requests to the operator's services come and go
_FILES_OF_OURS = 64  # event loop, listener, logs, modules, and connections that are refused (`_MAX_REFUSALS`)
_FEWEST = 4
# A caller sends its request within milliseconds; after this time a connection no longer counts as a possible call.
NEW_SECONDS = 0.03
FIRST_REQUEST = "first_request"  # the key in ASGI's state of the function that `Connections.track_idle` yields
_MAX_REFUSALS = 32  # connections at a time that get a 503; the rest are closed without


def raise_file_limit() -> None:
    """Let this process open as many files as it is allowed to raise itself to; Docker and systemd start with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """How many connections leave a file descriptor for everything that their calls need."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if files == resource.RLIM_INFINITY else min(files, MOST_FILES)
    return max(_FEWEST, (files - _FILES_OF_OURS) // _FILES_OF_A_CALL)


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
    """Have the kernel break connections of this listener whose peer has been dead for `seconds`.

    A caller over plain HTTP may send nothing for hours (hold, mute), and HTTP has no pings: only TCP's own probes find
    dead peers. While sent data is unacknowledged TCP does not probe; that has the same limit. Accepted connections
    inherit all of this (Linux).
    """
    probe = max(1, round(seconds / 2 / _PROBES))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds - probe * _PROBES)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


class Verdict(Enum):
    """What becomes of a new connection."""

    SERVE = auto()
    REFUSE = auto()  # with a 503: there is no room
    CLOSE = auto()


class Connections:
    """Counts the connections of one server, and decides which are served: `most` at a time."""

    def __init__(self, most: int, refusals: Refusals | None = None) -> None:
        self.refusals = refusals or Refusals()
        """Is told of what is turned away before the app sees it."""
        self._most = most
        self._served = 0
        self._refusing = 0
        self.came = 0
        """Connections so far."""
        self._new: dict[object, float] = {}  # connections without a request yet, and when they came
        self.changed: Callable[[], None] = lambda: None
        """Called when a connection has come, has sent its first request, or was refused."""

    @contextmanager
    def enter(self) -> Iterator[Verdict]:
        """Count a connection while the context lasts; yields what to do with it."""
        self.came += 1
        if self._served < self._most:
            self._served += 1
            try:
                yield Verdict.SERVE
            finally:
                self._served -= 1
            return
        self.changed()
        self.refusals.note("files", open=self._served, see="the limit of open files (ulimit -n)")
        if self._refusing >= _MAX_REFUSALS:
            yield Verdict.CLOSE
            return
        self._refusing += 1
        try:
            yield Verdict.REFUSE
        finally:
            self._refusing -= 1

    @property
    def new(self) -> int:
        """Connections younger than `NEW_SECONDS` without a request: each may still become a call."""
        before = trio.current_time() - NEW_SECONDS
        while self._new and next(iter(self._new.values())) <= before:
            del self._new[next(iter(self._new))]
        return len(self._new)

    @contextmanager
    def track_idle(self) -> Iterator[Callable[[], None]]:
        """Count a connection as new until its first request. Yields the function to call with that request."""
        key = object()

        def first_request() -> None:
            if self._new.pop(key, None) is not None:
                self.changed()

        self._new[key] = trio.current_time()
        self.changed()
        try:
            yield first_request
        finally:
            first_request()


class ServerConfig(Config):
    """hypercorn's configuration, and the connections of the server that it is for."""

    connections: Connections


class LogRateLimit(logging.Filter):
    """Passes one record of a logger each ten seconds, without its traceback. For errors that repeat ten times a second.

    Used where a library, or a loop, logs the same failure at each attempt.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is logged."""
        if record.created < self._next:
            return False
        self._next = record.created + LOG_AGAIN_SECONDS
        record.exc_info = None
        return True


@contextmanager
def log_rate_limited(name: str) -> Iterator[None]:
    """Limit the logger called `name` by a `LogRateLimit` while the context lasts."""
    limit, log = LogRateLimit(), logging.getLogger(name)
    log.addFilter(limit)
    try:
        yield
    finally:
        log.removeFilter(limit)
