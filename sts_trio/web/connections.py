"""How many connections there may be: what the process has file descriptors for, and none more.

No limit for each peer: behind one Core, or one proxy, all calls come from the same address.
"""

from __future__ import annotations

import resource
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

import structlog
import trio
from hypercorn.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger(__name__)

MOST_FILES = 65_536  # beyond that a process only wastes the kernel's memory
_FILES_OF_A_CALL = 2  # Core's connection and the provider's; requests to the operator's services come and go
_FILES_OF_OURS = 64  # event loop, listener, logs, modules, and what has to be told before a connection is turned away
_FEWEST = 4
NEW_SECONDS = 0.03  # callers ask within a few milliseconds; who has not by then may not want to
ASKED = "asked"  # the key of what `Connections.track_idle` yields in ASGI's state
_COURTESIES = 32  # connections at a time that are told why they are turned away; the rest are just closed
_TELL_AGAIN_SECONDS = 10.0


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


class Verdict(Enum):
    """What becomes of a new connection."""

    SERVE = auto()
    TELL = auto()  # that there is no room
    CLOSE = auto()


class Connections:
    """The connections of one server."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._served = 0
        self._told = 0
        self._turned_away = 0
        self._tell_at = 0.0
        self.came = 0
        """Connections so far."""
        self._new: dict[object, float] = {}  # connections that have not asked for anything yet, and when they came
        self.changed: Callable[[], None] = lambda: None
        """Called when a connection has come, has asked, or was turned away."""

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
        self._note(trio.current_time())
        if self._told >= _COURTESIES:
            yield Verdict.CLOSE
            return
        self._told += 1
        try:
            yield Verdict.TELL
        finally:
            self._told -= 1

    @property
    def new(self) -> int:
        """Connections that have just come, and not asked for anything yet: each may still become a call."""
        before = trio.current_time() - NEW_SECONDS
        while self._new and next(iter(self._new.values())) <= before:
            del self._new[next(iter(self._new))]
        return len(self._new)

    @contextmanager
    def track_idle(self) -> Iterator[Callable[[], None]]:
        """Count a connection as new, until it calls what is yielded, or the context ends."""
        key = object()

        def asked() -> None:
            if self._new.pop(key, None) is not None:
                self.changed()

        self._new[key] = trio.current_time()
        self.changed()
        try:
            yield asked
        finally:
            asked()

    def _note(self, now: float) -> None:
        self._turned_away += 1
        if now >= self._tell_at:
            self._tell_at = now + _TELL_AGAIN_SECONDS
            log.warning(
                "connections are turned away: the limit of open files (ulimit -n) leaves no room for more",
                open=self._served,
                turned_away=self._turned_away,
            )


class ServerConfig(Config):
    """hypercorn's configuration, and the connections of the server that it is for."""

    connections: Connections
