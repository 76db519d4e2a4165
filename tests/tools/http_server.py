"""A small HTTP server on loopback that answers as a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import h11
import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    Answer = Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """A request that came in whole."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class HttpServer:
    """Where it listens, and what it was asked. `closed` counts connections that the client has closed."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    closed: int = 0


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
    """Run a server that gives `answer` to each request."""
    server = HttpServer()

    async def handle(stream: trio.SocketStream) -> None:
        # A client may leave at any time: with a test's end, or because it has had enough.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            wrapped = stream if tls is None else trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            async with wrapped:
                if (asked := await _read(wrapped)) is not None:
                    server.asked.append(asked)
                    await answer(wrapped)
                    await wait_closed(wrapped)
        server.closed += 1

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
        yield server
        nursery.cancel_scope.cancel()


async def _read(stream: trio.abc.Stream) -> Asked | None:
    parser = h11.Connection(h11.SERVER)
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        match event:
            case h11.NEED_DATA:
                parser.receive_data(bytes(await stream.receive_some()))
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage() if request is not None:
                headers = {name.decode(): value.decode() for name, value in request.headers}
                return Asked(request.method.decode(), request.target.decode(), headers, bytes(body))
            case _:
                return None


async def wait_closed(stream: trio.abc.Stream) -> None:
    """Read until the client has closed its side."""
    while await stream.receive_some():
        pass


def reply(status: int, payload: object, *, after: float = 0, headers: str = "") -> Answer:
    """Answer with a status and a payload: JSON, or bytes as they stand."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    async def answer(stream: trio.abc.Stream) -> None:
        await trio.sleep(after)
        await stream.send_all(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    return answer


def raw(*parts: bytes, close: bool = True) -> Answer:
    """Send bytes as they stand."""

    async def answer(stream: trio.abc.Stream) -> None:
        for part in parts:
            await stream.send_all(part)
        if close:
            await stream.aclose()

    return answer


def dripping(first: bytes, drop: bytes) -> Answer:
    """Send `first`, and then `drop` each 10 ms, for ever."""

    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(first)
        while True:
            await stream.send_all(drop)
            await trio.sleep(0.01)

    return answer


def flooding(first: bytes, chunk: bytes) -> Answer:
    """Send `first`, and then `chunk` as fast as it is taken, for ever."""

    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(first)
        while True:
            await stream.send_all(chunk)

    return answer


async def silence(stream: trio.abc.Stream) -> None:
    """Take the request, and never answer."""
    await trio.sleep_forever()


async def free_port() -> int:
    """Return a port on which nothing listens."""
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
