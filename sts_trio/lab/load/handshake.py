"""The opening handshake (RFC 6455, section 4) of both sides, and TLS on the provider's.

Both return a non-blocking socket that Trio no longer owns. The TLS certificate is the operator's own, as in a file made
by `openssl req -x509`.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from sts_trio.lab.harness.address import CallFailed
from sts_trio.lab.load.process import LoadError
from sts_trio.lab.websocket import accept_key, header, upgrade_request, upgrade_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.lab.harness.address import Address


def server_context(file: str) -> ssl.SSLContext:
    """What the agents listen with; `file` (PEM) has key and certificate.

    Raises:
        OSError: it cannot be read, or has not both.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, password="")  # of a locked key OpenSSL would ask for the password on the terminal
    return context


def check_certificate(file: str, host: str) -> None:
    """Shake hands in memory, so that what no client would accept is known before a call fails of it.

    Raises:
        LoadError: the file cannot be used, or the certificate is not for `host`, or has expired.
    """
    try:
        server = server_context(file)
        client = ssl.create_default_context(cafile=file)
    except OSError as exc:
        raise LoadError(f"--tls {file}: it must hold a key and its certificate (PEM): {exc.strerror or exc}") from exc
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as exc:
                why = getattr(exc, "verify_message", "") or exc.strerror
                raise LoadError(f"--tls {file}: no client would accept it for {host}: {why}") from exc
            ends.remove(end)


T = TypeVar("T")

_MOST_HEAD = 2**14
HANDSHAKE_SECONDS = 10.0
READ_BYTES = 2**16
"""Read at once. More than a TLS record (16 KB) has, so that none is left half read, which no epoll would tell of."""
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a non-blocking socket raises, encrypted or not, when it can do nothing at the moment."""


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
    with trio.fail_after(HANDSHAKE_SECONDS):
        with trio.socket.socket(family) as unconnected:
            await unconnected.connect(place)
            sock = _let_go(unconnected)
        try:
            await _send_all(sock, upgrade_request(address.authority, address.resource, key))
            head, rest = await _head(sock)
            status = head.split(b" ", 2)[1:2]
            if status != [b"101"]:
                said = status[0].decode("ascii", "replace")[:3] if status else "nothing"
                raise CallFailed(f"refused the WebSocket handshake with HTTP status {said}")
            if header(head, b"sec-websocket-accept") != accept_key(key):
                raise CallFailed("answered with something that is no WebSocket handshake")
        except BaseException:
            sock.close()
            raise
    return sock, rest


async def take_chat(accepted: trio.socket.SocketType, tls: ssl.SSLContext | None) -> tuple[socket.socket, bytes]:
    """Answer an upgrade on a connection that has come in, encrypted or not; see `open_call` for what is returned.

    Raises:
        CallFailed: it is no WebSocket request.
        OSError: the connection broke, or the client will have nothing of our certificate.
        trio.TooSlowError: not within `HANDSHAKE_SECONDS`.
    """
    sock = _let_go(accepted)
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            if tls is not None:
                sock = encrypted = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                await _once_possible(trio.lowlevel.wait_readable, sock, encrypted.do_handshake)
            head, rest = await _head(sock)
            key = header(head, b"sec-websocket-key")
            if key is None:
                await _send_all(
                    sock, b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
                )
                raise CallFailed("asked for no WebSocket")
            await _send_all(sock, upgrade_response(key))
    except BaseException:
        sock.close()
        raise
    return sock, rest


async def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await _once_possible(trio.lowlevel.wait_readable, sock, partial(sock.recv, READ_BYTES))
        if not more or len(data) > _MOST_HEAD:
            raise CallFailed("the far end closed the connection during the handshake")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


async def _send_all(sock: socket.socket, data: bytes) -> None:
    while data:
        data = data[await _once_possible(trio.lowlevel.wait_writable, sock, partial(sock.send, data)) :]


async def _once_possible(
    wait: Callable[[socket.socket], Awaitable[None]], sock: socket.socket, act: Callable[[], T]
) -> T:
    """Retry `act` until the socket lets it. Over TLS, reading may have to wait for writing and the reverse."""
    while True:
        try:
            return act()
        except BlockingIOError:
            await wait(sock)
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)


def _let_go(sock: trio.socket.SocketType) -> socket.socket:
    """Take the descriptor from trio's object, which may then be closed without harm."""
    family = sock.family
    own = socket.socket(family, socket.SOCK_STREAM, fileno=sock.detach())
    own.setblocking(False)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own
