"""A client of the emulator's Realtime protocol without a connection: it speaks, and keeps what it hears."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from sts_trio.lab.emulator import Emulator, EmulatorOptions, SendRaw
from sts_trio.lab.emulator.chat import Close, Late
from sts_trio.lab.emulator.evi.handshake import ChatQuery
from sts_trio.lab.emulator.outbox import DelayLine, Outbox
from sts_trio.lab.emulator.realtime.chat import RealtimeChat
from sts_trio.lab.sample_formats import from_pcm

ORACLE: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
FORMAT = {"type": "audio/pcmu"}
VAD = {"type": "server_vad", "silence_duration_ms": 500}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "audio": {
        "input": {"format": FORMAT, "turn_detection": VAD, "transcription": {"model": "gpt-4o-mini-transcribe"}},
        "output": {"format": FORMAT, "voice": "marin"},
    },
    "tools": [{"type": "function", "name": "weather", "description": "Rain?", "parameters": {"type": "object"}}],
}


@dataclass
class Client:
    """Every event that it gets must be one of the vendor's types, unless it is `lenient`. `steps` are bad days."""

    service: Any = "openai"
    model: str = "gpt-realtime-2.1"
    steps: tuple[Any, ...] = ()
    lenient: bool = False
    now: float = 0.0
    heard: list[dict[str, Any]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)  # when each was heard
    closed: Close | None = None

    def __post_init__(self) -> None:
        options = EmulatorOptions(service=self.service, seed=1)
        emulator = Emulator(options)
        self.chat = RealtimeChat(options, ChatQuery(raw={"model": self.model}), emulator._rng, None, 0.0)
        for step in self.steps:
            self.chat.befall(step)
        self.outbox = Outbox(4.0)
        self.way = DelayLine(emulator.dice(0))
        self.outbox.put(self.chat.open(0.0))

    def say(self, kind: str, **fields: Any) -> list[str]:
        """Send a message; return the types of what comes at once."""
        self.outbox.put(self.chat.receive(json.dumps({"type": kind, **fields}), self.now))
        return self.collect()

    def collect(self, seconds: float = 0.0) -> list[str]:
        """Let time go by, in steps of 50 ms; return the types of what has come."""
        before = len(self.heard)
        until = self.now + seconds
        self._take()
        while self.now < until and self.closed is None:
            self.now = min(self.now + 0.05, until)
            self._take()
        return [event["type"] for event in self.heard[before:]]

    def _take(self) -> None:
        if self.chat.deadline <= self.now:
            self.outbox.put(self.chat.tick(self.now))
        while (item := self.outbox.pop(self.now)) is not None:
            self.way.put(item, self.now)
        while (message := self.way.pop(self.now)) is not None:
            if isinstance(message, Close):
                self.closed = message
                return
            assert not isinstance(message, Late)
            texts = [message.data] if isinstance(message, SendRaw) else self.chat.encode(message, self.now)  # type: ignore[arg-type]
            for text in texts:
                event = json.loads(text)
                if self.service == "openai" and not self.lenient:
                    ORACLE.validate_python(event)
                self.heard.append(event)
                self.at.append(self.now)

    def set_up(self, **changes: Any) -> None:
        """Open the session, with some fields of its own."""
        self.collect()
        assert self.say("session.update", session=SESSION | changes) == ["session.updated"]

    def speak(self, pcm: bytes) -> list[str]:
        """Send caller audio at real time; return the types of what comes."""
        kinds: list[str] = []
        for start in range(0, len(pcm), 320):
            audio = base64.b64encode(from_pcm(pcm[start : start + 320], "audio/pcmu")).decode()
            self.now += 0.02
            kinds += self.say("input_audio_buffer.append", audio=audio)
        return kinds

    def type(self, text: str, *, ask: bool = True) -> list[str]:
        """Say a text for the caller, and have it answered."""
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        kinds = self.say("conversation.item.create", item=item)
        return kinds + (self.say("response.create", event_id="ask") if ask else [])

    def answer(self, call_id: str, output: str = "rain", event_id: str = "answer") -> list[str]:
        """Give a function's output."""
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        return self.say("conversation.item.create", item=item, event_id=event_id)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type."""
        return [event for event in self.heard if event["type"] == kind]

    def when(self, kind: str) -> float:
        """When the first event of a type came."""
        return self.at[self.heard.index(self.all(kind)[0])]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The functions that it has been asked for."""
        items = [event["item"] for event in self.all("response.output_item.done")]
        return [item for item in items if item["type"] == "function_call"]

    @property
    def said(self) -> list[str]:
        """What the agent has said, in words."""
        return [event["transcript"] for event in self.all("response.output_audio_transcript.done")]

    @property
    def responses(self) -> list[dict[str, Any]]:
        """The responses that are over."""
        return [event["response"] for event in self.all("response.done")]

    def errors(self) -> list[tuple[str, str | None]]:
        return [(e["error"]["code"], e["error"]["event_id"]) for e in self.heard if e["type"] == "error"]
