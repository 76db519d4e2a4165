"""A caller who lives through a day of a Realtime service: they are greeted, say one thing, and key another."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from trio_websocket import ConnectionClosed

from tests.call.fakes import tone

if TYPE_CHECKING:
    from tests.call.stage import Caller

GREETING = "Good evening."
SAID = "(1.5 s of speech)"
ANSWER = f"You said: {SAID}"
KEYED = "You said: (The caller pressed 5 on the telephone keypad.)"
BOTH = ("openai", "xai")
SPEAKS, KEYS, ENDS = 10.0, 26.0, 40.0  # seconds from the beginning of a call
TURN_OVER = SPEAKS + 1.5 + 0.5  # of what is said then, and of the silence by which it is told
CHUNK = 1600  # bytes: 100 ms


@dataclass
class Line:
    """One caller, who says one thing and keys another; `heard` has what came, with its time."""

    caller: Caller
    heard: list[tuple[float, dict[str, object]]] = field(default_factory=list)
    code: int | None = None

    async def live(self, *, speaks: float = SPEAKS, ends: float = ENDS) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            nursery.start_soon(self._key)
            with suppress(ConnectionClosed):
                await self._speak(speaks, ends)
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        try:
            while True:
                message = await self.caller.hear()
                self.heard.append((trio.current_time(), message))
        except ConnectionClosed as closed:
            self.code = closed.reason.code if closed.reason else 1006

    async def _key(self) -> None:
        await trio.sleep_until(KEYS)
        with suppress(ConnectionClosed):
            for digit in "5#":
                await self.caller.say(type="dtmf_digit", digit=digit)

    async def _speak(self, speaks: float, ends: float) -> None:
        speech = tone(1.5, level=0.3)
        for number in range(round(ends * 10)):
            await trio.sleep_until(number / 10)
            at = round(number * CHUNK - speaks * 16_000)
            frame = speech[at : at + CHUNK] if 0 <= at < len(speech) else b""
            await self.caller.say(type="audio", audio=frame.ljust(CHUNK, b"\0"))

    def said(self, role: str) -> list[str]:
        """The transcripts of one side, without what the emulator shows of its context."""
        return [
            str(message["text"]).partition(" {Context")[0]
            for _, message in self.heard
            if message["type"] == "transcript" and message["role"] == role
        ]

    def kinds(self) -> list[object]:
        return [message["type"] for _, message in self.heard]

    def sound(self, since: float) -> float:
        """When the first sound came after a time; infinity for never."""
        return next((at for at, message in self.heard if message["type"] == "audio" and at >= since), float("inf"))
