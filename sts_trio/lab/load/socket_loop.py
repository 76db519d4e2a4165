"""Hundreds of sockets and timers in one task: an epoll of our own, whose descriptor is what the task waits for.

A Trio task for each socket costs some 60 microseconds a wake-up, ten times the work that a message needs. An epoll
descriptor is readable when one of its sockets is, so Trio waits for that, and all that is ready is read in one step.
Writing is timed by a heap and never waits: what a socket does not take stays in a bounded buffer until it does. A
socket may be encrypted (`ssl.SSLSocket`): it then takes and gives a TLS record at a time.

Once no connection has been opened for a second, the task waits in its own epoll and passes a checkpoint every 5 ms: an
event loop must not be blocked, but in a process that has nothing else to do this is the cheapest way to wait.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeAlias

import trio

from sts_trio.lab.load.handshake import NOT_NOW, READ_BYTES
from sts_trio.lab.load.histogram import Histogram
from sts_trio.lab.websocket import CLOSE, PING, PONG, FrameReader, FramingError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from sts_trio.lab.websocket import Message

Act: TypeAlias = Callable[[int], int | None]
"""Is given the time, and returns when it wants to act again; None: never."""

_BATCH = 64  # acts before the readers get their turn again
_FOR_EVER_NS = 2**60


@dataclass(slots=True)
class TimerHeap:
    """What a process does by the clock: one heap in place of a sleeping task for each call.

    Times are ns of CLOCK_MONOTONIC; each is the one before plus an interval, so that no drift adds up. `late`: how far
    behind its time the process acts, in seconds, which shows whether it keeps up.
    """

    late: Histogram = field(default_factory=Histogram)
    clock: Callable[[], int] = time.monotonic_ns
    _acts: list[tuple[int, int, Act]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def add(self, due_ns: int, act: Act) -> None:
        """Have `act` called when it is due."""
        heappush(self._acts, (due_ns, next(self._order), act))

    def turn(self) -> int:
        """Do what is due, at most `_BATCH` acts; return the ns until the next is due."""
        acts = self._acts
        for _ in range(_BATCH):
            now = self.clock()
            if not acts or acts[0][0] > now:
                break
            due, _order, act = heappop(acts)
            self.late.add((now - due) / 1e9)
            again = act(now)
            if again is not None:
                self.add(again, act)
        return max(acts[0][0] - self.clock(), 0) if acts else _FOR_EVER_NS


# What the far end has not read: 10 s of caller audio, or 2 s of the agent's. Beyond, it has stopped reading.
_MOST_UNSENT = 2**18
_BATCH = 64  # sockets read before the writers get their turn again
_CALM_AFTER_NS = 1_000_000_000
_LOOK_UP_NS = 5_000_000


class Member(Protocol):
    """The owner of a connection, which gets its messages."""

    def hear(self, message: Message, /) -> None:
        """Take a message, or a close frame. Pings are answered before."""
        ...

    def gone(self, why: str, /) -> None:
        """The connection is over. Called once, and not after `Connection.close`."""
        ...


class Connection:
    """One socket after its handshake."""

    def __init__(
        self, loop: SocketLoop, sock: socket.socket, member: Member, encode: Callable[[int, bytes], bytes]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._member = member
        self._encode = encode
        self._reader = FrameReader()
        self._unsent = b""
        self.open = True

    def send(self, opcode: int, data: bytes) -> None:
        """Send a message, or as much of it as the socket takes now; the rest goes when it takes more."""
        if not self.open:
            return
        frame = self._encode(opcode, data)
        self._write(self._unsent + frame if self._unsent else frame)
        if len(self._unsent) > _MOST_UNSENT:
            self._end("the far end has stopped reading")

    def close(self, code: int = 1000) -> None:
        """Send a close frame and close the socket, without waiting for the far end's."""
        self.send(CLOSE, code.to_bytes(2, "big"))
        self._leave()

    def ready(self, events: int) -> None:
        """Write what is left, and read what there is."""
        if events & select.EPOLLOUT:
            self._write(self._unsent)
        if not self.open or events == select.EPOLLOUT:
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except NOT_NOW:
            return
        except OSError as exc:
            self._end(f"the connection broke: {exc.strerror}")
            return
        if not data:
            self._end("the far end closed the connection")
            return
        self.feed(data)

    def _write(self, data: bytes) -> None:
        try:
            while data:  # of one that is encrypted, a record at a time
                data = data[self._sock.send(data) :]
        except NOT_NOW:
            pass
        except OSError as exc:
            self._end(f"the connection broke: {exc.strerror}")
            return
        if bool(data) != bool(self._unsent):
            self._loop.watch(self._sock, writing=bool(data))
        self._unsent = data

    def feed(self, data: bytes) -> None:
        """Take bytes that have been read."""
        try:
            for message in self._reader.feed(data):
                opcode = message.opcode
                if opcode == PING:
                    self.send(PONG, message.data)
                elif opcode != PONG:
                    self._member.hear(message)
                    if opcode == CLOSE and self.open:
                        self.send(CLOSE, message.data[:2])
                        self._end("the far end hung up")
        except FramingError as exc:
            self._end(str(exc))

    def _end(self, why: str) -> None:
        if self.open:
            self._leave()
            self._member.gone(why)

    def _leave(self) -> None:
        if self.open:
            self.open = False
            self._loop.forget(self._sock)
            if isinstance(self._sock, ssl.SSLSocket):
                with suppress(OSError, ValueError):  # its close_notify; not waiting for the other's
                    self._sock.unwrap()
            self._sock.close()


class SocketLoop:
    """Reads all connections of a process, and runs its timers."""

    def __init__(self, timers: TimerHeap) -> None:
        self._timers = timers
        self._poll = select.epoll()
        self._members: dict[int, Connection] = {}
        self._calm_at = 0

    def stir(self) -> None:
        """A connection is being opened: for a second `run` waits by Trio, so that other tasks get their turn."""
        self._calm_at = time.monotonic_ns() + _CALM_AFTER_NS

    def join(
        self, sock: socket.socket, rest: bytes, member: Member, encode: Callable[[int, bytes], bytes]
    ) -> Connection:
        """Add a non-blocking socket; `rest` has been read from it before."""
        connection = Connection(self, sock, member, encode)
        self._members[sock.fileno()] = connection
        self._poll.register(sock, select.EPOLLIN)
        if rest:
            connection.feed(rest)
        return connection

    def watch(self, sock: socket.socket, *, writing: bool) -> None:
        """Poll a socket for reading, and with `writing` also for room to write."""
        self._poll.modify(sock, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def forget(self, sock: socket.socket) -> None:
        """Take a socket out that is about to be closed."""
        if self._members.pop(sock.fileno(), None) is not None:
            with suppress(OSError):
                self._poll.unregister(sock)

    async def run(self) -> None:
        """Read whatever is ready, and do whatever is due."""
        poll, members = self._poll.poll, self._members
        looked_up = 0
        try:
            while True:
                wait = min(self._timers.turn(), _LOOK_UP_NS)
                now = time.monotonic_ns()
                if now < self._calm_at:
                    with trio.move_on_after(wait / 1e9):
                        await trio.lowlevel.wait_readable(self._poll.fileno())
                    ready = poll(0, _BATCH)
                else:
                    if now - looked_up >= _LOOK_UP_NS:
                        looked_up = now
                        await trio.lowlevel.checkpoint()
                    ready = poll(wait / 1e9, _BATCH)
                for fd, events in ready:
                    connection = members.get(fd)
                    if connection is not None:  # one that was read before it may have closed it
                        connection.ready(events)
        finally:
            self._poll.close()
