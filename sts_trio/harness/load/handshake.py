"""The opening handshake (RFC 6455, section 4), of both sides, on a socket of trio's that is then let go."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from typing import TYPE_CHECKING

import trio

from sts_trio.harness.address import CallFailed

if TYPE_CHECKING:
    from sts_trio.harness.address import Address

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MOST_HEAD = 2**14
HANDSHAKE_SECONDS = 10.0


def accept_key(key: bytes) -> bytes:
    """What a server answers to a client's key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def header(head: bytes, name: bytes) -> bytes | None:
    """Find a header's value in the head of a request or response."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


async def open_call(address: Address, at: tuple[int, tuple[str, int]]) -> tuple[socket.socket, bytes]:
    """Connect to `at` (family and address of a socket), and upgrade.

    Returns the socket, non-blocking and no longer trio's, and what came behind the handshake.

    Raises:
        CallFailed: the connector did not upgrade.
        OSError: no connection.
        trio.TooSlowError: not within `HANDSHAKE_SECONDS`.
    """
    family, place = at
    key = base64.b64encode(os.urandom(16))
    lines = (
        f"GET {address.resource} HTTP/1.1",
        f"Host: {address.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        "\r\n",
    )
    with trio.fail_after(HANDSHAKE_SECONDS), trio.socket.socket(family) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await sock.connect(place)
        await _send_all(sock, "\r\n".join(lines).encode())
        head, rest = await _head(sock)
        status = head.split(b" ", 2)[1:2]
        if status != [b"101"]:
            said = status[0].decode("ascii", "replace")[:3] if status else "nothing"
            raise CallFailed(f"refused the WebSocket handshake with HTTP status {said}")
        if header(head, b"sec-websocket-accept") != accept_key(key):
            raise CallFailed("answered with something that is no WebSocket handshake")
        return _let_go(sock), rest


async def take_chat(sock: trio.socket.SocketType) -> tuple[socket.socket, bytes]:
    """Answer an upgrade on a connection that has come in; see `open_call` for what is returned.

    Raises:
        CallFailed: it is no WebSocket request.
        OSError: the connection broke.
        trio.TooSlowError: not within `HANDSHAKE_SECONDS`.
    """
    with trio.fail_after(HANDSHAKE_SECONDS), sock:
        head, rest = await _head(sock)
        key = header(head, b"sec-websocket-key")
        if key is None:
            await _send_all(sock, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")
            raise CallFailed("asked for no WebSocket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = (b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade")
        await _send_all(sock, b"\r\n".join((*lines, b"Sec-WebSocket-Accept: " + accept_key(key), b"\r\n")))
        return _let_go(sock), rest


async def _head(sock: trio.socket.SocketType) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await sock.recv(4096)
        if not more or len(data) > _MOST_HEAD:
            raise CallFailed("the far end closed the connection during the handshake")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


async def _send_all(sock: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await sock.send(data) :]


def _let_go(sock: trio.socket.SocketType) -> socket.socket:
    """Take the descriptor from trio's object, which may then be closed without harm."""
    family = sock.family
    own = socket.socket(family, socket.SOCK_STREAM, fileno=sock.detach())
    own.setblocking(False)
    return own
