"""The Realtime protocol's server events and the order of those of a response (docs/protocols/realtime.md 6.1). Pure."""

from __future__ import annotations

import io
import uuid
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantMessage, AudioOutput, Cancelled, Event, ToolCall
from sts_trio.lab.sample_formats import from_pcm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from sts_trio.lab.emulator.chat import Action, ToClient


def event(kind: str, **fields: Any) -> Event:
    """Make one."""
    return Event({"type": kind, **fields})


def error(
    code: str,
    message: str,
    *,
    kind: str = "invalid_request_error",
    event_id: str | None = None,
    param: str | None = None,
) -> Event:
    """Make an `error`; `event_id` is that of the client's message which it is about."""
    cause = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
    return event("error", error=cause)


def added(item: dict[str, Any]) -> list[Action]:
    """Tell of an item that is in the conversation now, and complete."""
    kinds: Iterable[str] = ("conversation.item.added", "conversation.item.done")
    return [event(kind, previous_item_id=None, item=item) for kind in kinds]


def turn_over(item: str, end_ms: int) -> list[Action]:
    """Tell that the caller has stopped speaking, and of the item that his turn has become."""
    content = [{"type": "input_audio", "transcript": None}]
    message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
    return [
        event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item),
        event("input_audio_buffer.committed", item_id=item, previous_item_id=None),
        *added({**message, "content": content}),
    ]


def new_id(rng: np.random.Generator) -> str:
    """Make the part of an id that is after its kind."""
    return uuid.UUID(bytes=rng.bytes(16), version=4).hex[:20]


Fields = dict[str, Any]
KEPT_ITEMS = 1000  # whose lengths are known, for truncation


@dataclass(slots=True)
class _Open:
    """The response under way. `segment` is the parrot's name of what it says; empty once that has been said."""

    id: str
    segment: str = ""
    item: str = ""
    words: str = ""


class Replies:
    """Follows what is sent. `lengths` is the voice that was sent, in ms, by item; `kind` the format of the session."""

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self.kind = "audio/pcm"
        self.lengths: dict[str, float] = {}
        self._new_id = new_id
        self._open: _Open | None = None

    @property
    def active(self) -> str | None:
        """The response that has been begun and is not done."""
        return self._open.id if self._open else None

    def tell(self, message: ToClient) -> list[Fields]:
        """Return the events that a message of the parrot's becomes."""
        match message:
            case AssistantMessage(id=segment, message=words):
                return self._begin(segment, words.content or "")
            case AudioOutput(id=segment, data=data):
                return [self._audio(segment, data)]
            case AssistantEnd():
                return [*self._finish_words("completed"), *self._done("completed")]
            case ToolCall():
                return self._call(message)
            case Cancelled():
                return [*self._finish_words("incomplete"), *self._done("cancelled")]
            case _:
                return []

    def _begin(self, segment: str, words: str) -> list[Fields]:
        self._open = now = _Open(f"resp_{segment}", segment, f"item_{segment}", words)
        ids = {"response_id": now.id, "item_id": now.item, "output_index": 0, "content_index": 0}
        return [
            *self._created(now.id),
            *self._item_added(now.id, self._message("in_progress")),
            {"type": "response.content_part.added", **ids, "part": {"type": "audio", "transcript": ""}},
            {"type": "response.output_audio_transcript.delta", **ids, "delta": words},
        ]

    def _created(self, id_: str) -> list[Fields]:
        return [{"type": "response.created", "response": _response(id_, "in_progress")}]

    def _item_added(self, response: str, item: Fields) -> list[Fields]:
        return [
            {"type": "response.output_item.added", "response_id": response, "output_index": 0, "item": item},
            {"type": "conversation.item.added", "previous_item_id": None, "item": item},
        ]

    def _audio(self, segment: str, data: bytes) -> Fields:
        with wave.open(io.BytesIO(data)) as file:
            pcm = file.readframes(file.getnframes())
            ms = file.getnframes() * 1000 / file.getframerate()
        item = f"item_{segment}"
        self.lengths[item] = self.lengths.get(item, 0.0) + ms
        if len(self.lengths) > KEPT_ITEMS:
            del self.lengths[next(iter(self.lengths))]
        return {
            "type": "response.output_audio.delta",
            "response_id": f"resp_{segment}",
            "item_id": item,
            "output_index": 0,
            "content_index": 0,
            "delta": from_pcm(pcm, self.kind),
        }

    def _finish_words(self, status: str) -> list[Fields]:
        if self._open is None or not self._open.segment:
            return []
        now, self._open.segment = self._open, ""
        ids = {"response_id": now.id, "item_id": now.item, "output_index": 0, "content_index": 0}
        item = self._message(status)
        return [
            {"type": "response.output_audio.done", **ids},
            {"type": "response.output_audio_transcript.done", **ids, "transcript": now.words},
            {"type": "response.content_part.done", **ids, "part": {"type": "audio", "transcript": now.words}},
            {"type": "conversation.item.done", "previous_item_id": None, "item": item},
            {"type": "response.output_item.done", "response_id": now.id, "output_index": 0, "item": item},
        ]

    def _call(self, call: ToolCall) -> list[Fields]:
        events = self._finish_words("completed")
        if self._open is None:
            self._open = _Open(self._new_id("resp"))
            events += self._created(self._open.id)
        response, item_id = self._open.id, self._new_id("item")
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "name": call.name,
            "call_id": call.tool_call_id,
        }
        done = {**item, "status": "completed", "arguments": call.parameters}
        arguments = {
            "type": "response.function_call_arguments.done",
            "response_id": response,
            "item_id": item_id,
            "output_index": 1,
            "call_id": call.tool_call_id,
            "name": call.name,
            "arguments": call.parameters,
        }
        return [
            *events,
            *self._item_added(response, {**item, "status": "in_progress", "arguments": ""}),
            arguments,
            {"type": "conversation.item.done", "previous_item_id": None, "item": done},
            {"type": "response.output_item.done", "response_id": response, "output_index": 1, "item": done},
            *self._done("completed"),
        ]

    def _done(self, status: str) -> list[Fields]:
        if self._open is None:
            return []
        response = _response(self._open.id, status)
        self._open = None
        if status == "cancelled":
            response["status_details"] = {"type": "cancelled", "reason": "turn_detected"}
        return [{"type": "response.done", "response": response}]

    def _message(self, status: str) -> Fields:
        assert self._open is not None  # noqa: S101  # for the type checker: its callers have opened one
        return {
            "id": self._open.item,
            "object": "realtime.item",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [],
        }


def _response(id_: str, status: str) -> Fields:
    done = {"usage": {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10}} if status == "completed" else {}
    return {
        "id": id_,
        "object": "realtime.response",
        "status": status,
        "status_details": None,
        "output": [],
        "metadata": None,
        **done,
    }
