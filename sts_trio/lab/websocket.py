"""WebSocket (RFC 6455): framing and the upgrade of both sides, no more of it than the lab needs. Pure.

A frame read and answered costs 2 microseconds here and 40 to 60 with wsproto, which is built to be right about
everything and would make the generator dearer than the server it measures. Left out: extensions (never offered), UTF-8
checks (the JSON decoder's matter).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from sts_trio.errors import StsError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE = 2**21  # a minute of 8 kHz audio as JSON
_MOST_MASKS = 64
_TWO, _EIGHT = struct.Struct(">H"), struct.Struct(">Q")


class FramingError(StsError):
    """The peer broke the WebSocket protocol."""


class Message(NamedTuple):
    """A whole message, or a control frame: `opcode` tells."""

    opcode: int
    data: bytes


def encode_frame(opcode: int, data: bytes) -> bytes:
    """Make a server's frame."""
    return _head(0x80 | opcode, len(data), 0) + data


class ClientFramer:
    """Makes a client's frames, all masked with one key: masking protects caches, of which the lab has none."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._masks: dict[int, int] = {}

    def encode(self, opcode: int, data: bytes) -> bytes:
        """Make a client's frame."""
        size = len(data)
        mask = self._masks.get(size)
        if mask is None:
            mask = _repeated(self._key, size)
            if len(self._masks) < _MOST_MASKS:
                self._masks[size] = mask
        masked = (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")
        return _head(0x80 | opcode, size, 0x80) + self._key + masked


def _repeated(key: bytes, size: int) -> int:
    return int.from_bytes((key * (size // 4 + 1))[:size], "little")


def _head(first: int, size: int, mask: int) -> bytes:
    if size < 126:
        return bytes((first, mask | size))
    if size < 2**16:
        return bytes((first, mask | 126)) + _TWO.pack(size)
    return bytes((first, mask | 127)) + _EIGHT.pack(size)


class FrameReader:
    """Takes bytes as they come, masked or not, and gives whole messages."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun: list[bytes] = []
        self._opcode = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Give the messages that are complete with `data`.

        Raises:
            FramingError: no WebSocket frames, or a message of more than 2 MB.
        """
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while at + 2 <= size:
            first, second = data[at], data[at + 1]
            length, body = second & 0x7F, at + 2
            if length == 126:
                if body + 2 > size:
                    break
                length, body = _TWO.unpack_from(data, body)[0], body + 2
            elif length == 127:
                if body + 8 > size:
                    break
                length, body = _EIGHT.unpack_from(data, body)[0], body + 8
            if first & 0x70 or length > _MAX_MESSAGE:
                raise FramingError("the far end sent what is no WebSocket frame, or one of more than 2 MB")
            key = b""
            if second & 0x80:
                key, body = data[body : body + 4], body + 4
            end = body + length
            if end > size:
                break
            payload = data[body:end]
            if key:
                payload = (int.from_bytes(payload, "little") ^ _repeated(key, length)).to_bytes(length, "little")
            at = end
            message = self._whole(first, payload)
            if message is not None:
                yield message
        self._rest = data[at:]

    def _whole(self, first: int, payload: bytes) -> Message | None:
        opcode = first & 0x0F
        if first & 0x80 and opcode != CONTINUATION:
            return Message(opcode, payload)
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._begun.clear()
        self._begun.append(payload)
        if sum(map(len, self._begun)) > _MAX_MESSAGE:
            raise FramingError("the far end sent a message of more than 2 MB")
        if not first & 0x80:
            return None
        data = b"".join(self._begun)
        self._begun.clear()
        return Message(self._opcode, data)


def upgrade_request(host: str, target: str, key: bytes, *headers: str) -> bytes:
    """A client's request; `key` is its `Sec-WebSocket-Key`, `headers` are whole lines."""
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key.decode()}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )
    return "\r\n".join((*lines, "", "")).encode()


def upgrade_response(key: bytes) -> bytes:
    """A server's answer to a request with this key."""
    lines = (b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade")
    return b"\r\n".join((*lines, b"Sec-WebSocket-Accept: " + accept_key(key), b"", b""))


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
