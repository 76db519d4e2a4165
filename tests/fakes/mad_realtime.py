"""A Realtime service in a process of its own: good sessions, and mad ones, by the voice that a session asks for.

`python -m tests.fakes.mad_realtime PORT`. Each session has threads of its own, so that a mad one, which writes as fast
as it is read, holds up no good one. A good session says 100 ms of audio each 100 ms, and keeps the longest time without
a frame of the caller's; a line on standard input is answered with that time, in seconds, of all of them. It
says "ready" first. A kind of madness on that line is made ready before it is asked for.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from hashlib import sha1
from typing import TYPE_CHECKING

from sts_trio.lab.websocket import PING, PONG, TEXT, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MANY = 15 * 2**20


def text(**message: object) -> bytes:
    return encode_frame(TEXT, json.dumps(message).encode())


def delta(audio: bytes, **more: object) -> bytes:
    data = base64.b64encode(audio).decode()
    return text(type="response.output_audio.delta", response_id="r", item_id="i", delta=data, **more)


def begun(opcode: int) -> bytes:
    """Return an empty fragment, which is not the last."""
    return bytes((opcode, 0))


NUMBERS = "0.5," * 1_000_000 + "0"
DONE, DELTA = '"type":"response.done","response"', '"type":"response.output_audio.delta","delta"'


def again(text: str) -> tuple[bytes, bytes]:
    return b"", encode_frame(TEXT, b"{%s}" % text.encode())


def asking(id_: str, arguments: str) -> bytes:
    item = {"type": "function_call", "call_id": id_, "name": f"no such tool {id_}", "arguments": arguments}
    return text(type="response.output_item.done", response_id=f"r{id_}", item=item)


@cache
def all_that_is_kept() -> tuple[bytes, bytes]:
    """Ids, words, turns, tools: each new, and each as long as may be."""
    said = b""
    for number in range(70):
        id_ = f"{number:0>128}"
        ids = {"response_id": id_, "item_id": id_}
        said += text(type="response.created", response={"id": id_})
        said += text(type="input_audio_buffer.committed", item_id=id_)
        said += text(type="response.output_audio_transcript.delta", delta="\U0001f600" * 11_000, **ids)
        said += text(type="response.output_audio_transcript.done", transcript="\U0001f601" * 11_000, **ids)
        name = "conversation.item.input_audio_transcription.completed"
        said += text(type=name, item_id=id_, transcript=f"{number}" + "\U0001f602" * 11_000)
        said += asking(id_, "\U0001f603" * 11_000)
        said += text(type="error", error={"type": "x", "code": id_, "message": "\U0001f604" * 11_000})
        said += text(type="response.output_audio.delta", delta=base64.b64encode(bytes(800)).decode(), **ids)
        said += text(type="response.done", response={"id": id_, "status": "completed"})
    return b"", said


def unheard() -> tuple[bytes, bytes]:
    """It reads nothing, asks for so many tools that the answers fill the line, and then speaks as loud as it may."""
    asked = b"".join(asking(str(number), "{}") for number in range(12_000))
    return asked, delta(b"\xff" * (4 * 2**20)) + asking("again", "{}")


# What a mad session says once, and then again and again.
MADNESS: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "empty fragments": lambda: (begun(TEXT), begun(0) * 30_000),
    "tiny fragments": lambda: (begun(TEXT), b"\x00\x01x" * 11_000),
    "empty pongs": lambda: (b"", encode_frame(PONG, b"") * 30_000),
    "pings": lambda: (b"", encode_frame(PING, b"") * 30_000),
    "empty texts": lambda: (b"", encode_frame(TEXT, b"") * 30_000),
    "small oddities": lambda: (b"", encode_frame(TEXT, b'{"type":"response.done","response":7}') * 1000),
    "usage": lambda: again(DONE + ':{"usage":[' + NUMBERS + "]}"),
    "output": lambda: again(DONE + ':{"output":[' + "[]," * 5_000_000 + "[]]}"),
    "errors": lambda: again('"type":"error","error":[' + NUMBERS + "]"),
    "usage below the limit": lambda: again(DONE + ':{"usage":[' + NUMBERS[:200_001] + "]}"),
    "output below the limit": lambda: again(DONE + ':{"output":[' + "[]," * 80_000 + "[]]}"),
    "NaN below the limit": lambda: again(DONE + ':{"usage":[NaN,' + NUMBERS[:200_001] + "]}"),
    "audio with more in it": lambda: again(DELTA + ':"****","x":[' + "0," * (7 * 2**19) + "0]"),
    "large audio": lambda: (b"", delta(b"\xff" * (2 * 2**20))),
    "too large audio": lambda: (b"", delta(b"\xff" * (MANY * 3 // 4))),
    "all that is kept": all_that_is_kept,
    "turns": lambda: (b"", text(type="input_audio_buffer.committed", item_id="i") * 1000),
    "unheard": unheard,
    "ids": lambda: (b"", text(type="response.created", response={"id": "x" * 12_000_000})),
}
KINDS = tuple(MADNESS)


@cache
def sayings(kind: str) -> tuple[bytes, bytes]:
    """Made once: to make 12 MB of JSON holds up the threads of the good sessions, too, which is then measured."""
    return MADNESS[kind]()


class Session:
    """One session, from the first byte of its connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.gap = 0.0
        self._connection = connection
        self._data = b""

    def serve(self) -> None:
        with suppress(OSError, EOFError), self._connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self._connection.recv(1)
            key = next(
                line[19:].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
            )
            accept = base64.b64encode(sha1(key + MAGIC).digest())
            self._connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._connection.sendall(text(type="session.created", session={"id": "s"}))
            update = json.loads(self._read())
            self._connection.sendall(text(type="session.updated", session={}))
            voice = update["session"]["audio"]["output"]["voice"].replace("-", " ")
            if voice in KINDS:
                self._connection.sendall(text(type="response.created", response={"id": "r"}))
                once, more = sayings(voice)
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self._connection.sendall(once)
                while True:
                    self._connection.sendall(more)
            threading.Thread(target=self._speak, daemon=True).start()
            heard = 0.0
            while True:
                self._read()
                now = time.monotonic()
                self.gap, heard = max(self.gap, now - heard if heard else 0.0), now

    def _speak(self) -> None:
        with suppress(OSError):
            self._connection.sendall(text(type="response.created", response={"id": "r"}))
            while True:
                self._connection.sendall(delta(b"\x80" * 800))
                time.sleep(0.1)

    def _read(self) -> bytes:
        """The payload of the next frame."""
        while True:
            if len(self._data) >= 2:
                size, at = self._data[1] & 0x7F, 2
                if size == 126:
                    size, at = int.from_bytes(self._data[2:4]), 4
                if len(self._data) >= at + 4 + size:
                    key, payload = self._data[at : at + 4], self._data[at + 4 : at + 4 + size]
                    self._data = self._data[at + 4 + size :]
                    return bytes(byte ^ key[count % 4] for count, byte in enumerate(payload))
            if not (more := self._connection.recv(65536)):
                raise EOFError
            self._data += more


def tell(line: str) -> None:
    """In one write, so that it is read at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    sessions: list[Session] = []

    def accept() -> None:
        while True:
            sessions.append(Session(listener.accept()[0]))
            threading.Thread(target=sessions[-1].serve, daemon=True).start()

    all_that_is_kept()  # takes a second, in which good sessions would be held up
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=accept, daemon=True).start()
    tell("ready")
    for line in sys.stdin:
        if line.strip():
            sayings(line.strip())
        tell(str(max((session.gap for session in sessions), default=0.0)))
        for session in sessions:
            session.gap = 0.0


if __name__ == "__main__":
    main()
