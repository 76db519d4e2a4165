"""A small EVI client for tests, on any stream; it notes when each message came."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import wave
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

FRAME_SECONDS = 0.02
KEY = [(b"X-Hume-Api-Key", b"k")]
PHONE = (
    "session_settings%5Baudio%5D%5Bencoding%5D=linear16"
    "&session_settings%5Baudio%5D%5Bsample_rate%5D=8000&session_settings%5Baudio%5D%5Bchannels%5D=1"
)


def tone(seconds: float, rate: int = 8000, hz: float = 440, peak: int = 8000) -> NDArray[np.int16]:
    """A sine: loud enough to count as speech."""
    t = np.arange(round(seconds * rate)) / rate
    samples: NDArray[np.int16] = np.rint(peak * np.sin(2 * np.pi * hz * t)).astype(np.int16)
    return samples


def silence(seconds: float, rate: int = 8000) -> NDArray[np.int16]:
    return np.zeros(round(seconds * rate), np.int16)


def read_wav(data: bytes) -> tuple[NDArray[np.int16], int, int]:
    """Samples, rate and channels of a WAV file."""
    with wave.open(io.BytesIO(data)) as file:
        raw = file.readframes(file.getnframes())
        return np.frombuffer(raw, "<i2"), file.getframerate(), file.getnchannels()


def snr_db(want: NDArray[np.int16], got: NDArray[np.int16]) -> float:
    """Signal to error, both the same length."""
    signal, error = want.astype(float), got.astype(float) - want
    return float(10 * np.log10(np.sum(signal**2) / max(np.sum(error**2), 1e-9)))


class EviClient:
    """An open chat. `log` has (time, message) of all that came; `closed` the reason of the end.

    What is no JSON object with a type is logged as of the type "junk".
    """

    def __init__(self, connection: Any, stream: trio.abc.Stream) -> None:
        self.connection = connection
        self.stream = stream
        self.log: list[tuple[float, dict[str, Any]]] = []
        self.closed: Any = None
        self._news = trio.Event()

    async def run(self) -> None:
        try:
            while True:
                data = await self.connection.get_message()
                self.log.append((trio.current_time(), _message(data)))
                self._tell()
        except ConnectionClosed as exc:
            self.closed = exc.reason
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [message for _, message in self.log if message["type"] == kind]

    def times(self, kind: str) -> list[float]:
        return [at for at, message in self.log if message["type"] == kind]

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for _, message in self.log]

    async def wait(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th message of a kind, waited for."""
        while len(self.all(kind)) < count:
            assert self.closed is None, self.closed
            await self._news.wait()
        return self.all(kind)[count - 1]

    async def wait_closed(self) -> Any:
        while self.closed is None:
            await self._news.wait()
        return self.closed

    async def send(self, **message: Any) -> None:
        await self.connection.send_message(json.dumps(message))

    async def speak(self, *parts: NDArray[np.int16], as_json: bool = False) -> None:
        """Send audio as a telephone does: a frame each 20 ms, on time."""
        audio = np.concatenate(parts).astype("<i2").tobytes()
        begin = trio.current_time()
        for number, start in enumerate(range(0, len(audio), 320)):
            await trio.sleep_until(begin + number * FRAME_SECONDS)
            piece = audio[start : start + 320]
            if as_json:
                await self.send(type="audio_input", data=base64.b64encode(piece).decode())
            else:
                await self.connection.send_message(piece)

    def audio(self, reply: str) -> tuple[NDArray[np.int16], int]:
        """All audio of a reply, first channel, and its rate; its indices must be in order from 0."""
        outputs = [message for message in self.all("audio_output") if message["id"] == reply]
        assert [output["index"] for output in outputs] == list(range(len(outputs)))
        files = [read_wav(base64.b64decode(output["data"])) for output in outputs]
        return np.concatenate([samples[::channels] for samples, _, channels in files]), files[0][1]


def _message(data: str | bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        message = json.loads(data)
        if isinstance(message, dict) and "type" in message:
            return message
    return {"type": "junk", "data": data}


@asynccontextmanager
async def open_chat(
    emulator: Emulator,
    query: str = PHONE,
    headers: list[tuple[bytes, bytes]] = KEY,
    path: str = "/v0/evi/chat",
) -> AsyncIterator[EviClient]:
    """A chat with `emulator` over an in-memory stream; waits for nothing but the upgrade."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_stream, emulator, theirs)
        connection = await wrap_client_stream(
            nursery,
            cast("trio.SocketStream", ours),  # any stream does
            "localhost",
            f"{path}?{query}",
            extra_headers=headers,
            message_queue_size=64,
            max_message_size=2**24,
        )
        client = EviClient(connection, ours)
        nursery.start_soon(client.run)
        try:
            yield client
        finally:
            with trio.move_on_after(5, shield=True):
                await connection.aclose()
            nursery.cancel_scope.cancel()


def faulty(*faults: Any, **options: Any) -> Emulator:
    return Emulator(EmulatorOptions(faults=faults, **{"seed": 7, **options}))


async def refused(served: Emulator, query: str = PHONE, **kwargs: Any) -> ConnectionRejected:
    """The refusal that an upgrade got."""
    with pytest.RaisesGroup(ConnectionRejected, flatten_subgroups=True) as info:
        async with open_chat(served, query, **kwargs):
            pass
    (exc,) = info.value.exceptions
    while isinstance(exc, BaseExceptionGroup):
        (exc,) = exc.exceptions
    assert isinstance(exc, ConnectionRejected)
    return exc


async def read_to_end(stream: trio.abc.Stream) -> None:
    while await stream.receive_some():
        pass
