"""A small connector to call: its agent greets, gives each utterance back, and can be interrupted.

It has faults to order.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import trio
import trio.testing
import trio_websocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FRAME = 320


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * 8000))


def voice(seconds: float, seed: int = 1, peak: int = 8000) -> bytes:
    """Something like speech: noise of the telephone band, 4 syllables a second, no silence inside."""
    count = round(seconds * 8000)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    hertz = np.fft.rfftfreq(count, 1 / 8000)
    spectrum[(hertz < 350) | (hertz > 3300)] = 0
    spectrum /= 1 + hertz / 800
    signal = np.fft.irfft(spectrum, count) * (1.2 + np.sin(2 * np.pi * 4 * np.arange(count) / 8000))
    signal[[0, -1]] = np.abs(signal).max() / 4  # the first and the last sample are sound, so that times are exact
    pcm: bytes = np.rint(signal * (peak / np.abs(signal).max())).astype("<i2").tobytes()
    return pcm


@dataclass
class Parrot:
    """Serves one call on a stream. The fields below the line are faults."""

    greeting: bytes = field(default_factory=lambda: voice(0.6, seed=9))
    end_of_turn: float = 0.8
    min_interruption: float = 0.8

    spoil: Callable[[bytes], bytes] = bytes  # what becomes of a reply
    interruptions: int = 1
    stale_frames: int = 0
    roles: tuple[str, ...] = ("user", "agent")
    extra: tuple[str | bytes, ...] = ()  # messages sent after the greeting

    heard: list[dict[str, Any]] = field(default_factory=list)
    requested: str = ""
    arrivals: list[float] = field(default_factory=list)
    closed: int | None = None  # the close code that came

    def dial(self, nursery: trio.Nursery) -> Callable[[], Awaitable[trio.abc.Stream]]:
        async def dial() -> trio.abc.Stream:
            client, server = trio.testing.memory_stream_pair()
            nursery.start_soon(self.serve, server)
            return client

        return dial

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            self.requested = request.path
            ws = await request.accept()
            with suppress(trio_websocket.ConnectionClosed):
                await self._call(ws)
            self.closed = None if ws.closed is None else int(ws.closed.code)
            nursery.cancel_scope.cancel()

    async def _call(self, ws: trio_websocket.WebSocketConnection) -> None:
        self.heard.append(json.loads(await ws.get_message()))
        speaking_until = await self._say(ws, self.greeting, 0.0, "Hello there.")
        for message in self.extra:
            await ws.send_message(message)
        turn, silence, over = bytearray(), 0.0, 0.0
        while True:
            message = json.loads(await ws.get_message())
            self.heard.append(message)
            self.arrivals.append(trio.current_time())
            if message["type"] != "audio":
                continue
            frame = base64.b64decode(message["audio"])
            loud = np.abs(np.frombuffer(frame, "<i2").astype(int)).max() >= 100
            if loud:
                turn, silence = turn + bytes(round(silence / 0.02) * FRAME) + frame, 0.0
                over = over + 0.02 if trio.current_time() < speaking_until else 0.0
            elif turn:
                silence += 0.02
            if over >= self.min_interruption - 1e-6 and self.interruptions:
                over, speaking_until = 0.0, trio.current_time()
                for _ in range(self.interruptions):
                    await ws.send_message('{"type":"interruption"}')
                await self._audio(ws, voice(0.02 * self.stale_frames) if self.stale_frames else b"")
            if silence >= self.end_of_turn - 1e-6:
                await self._transcript(ws, "user", "what you said")
                speaking_until = await self._say(ws, self.spoil(bytes(turn)), speaking_until, "what you said")
                turn, silence = bytearray(), 0.0

    async def _say(self, ws: trio_websocket.WebSocketConnection, pcm: bytes, after: float, text: str) -> float:
        await self._transcript(ws, "agent", text)
        await self._audio(ws, pcm)
        return max(after, trio.current_time()) + len(pcm) / 16000

    async def _audio(self, ws: trio_websocket.WebSocketConnection, pcm: bytes) -> None:
        for start in range(0, len(pcm), FRAME):
            piece = base64.b64encode(pcm[start : start + FRAME]).decode()
            await ws.send_message(json.dumps({"type": "audio", "audio": piece}))

    async def _transcript(self, ws: trio_websocket.WebSocketConnection, role: str, text: str) -> None:
        if role in self.roles:
            message: dict[str, Any] = {"type": "transcript", "role": role, "text": text}
            if role == "user":
                message["emotions"] = {"Joy": 0.61, "Awe": 0.07, "Calmness": 0.4, "Doubt": 0.5}
            await ws.send_message(json.dumps(message))
