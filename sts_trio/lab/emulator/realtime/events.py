"""The Realtime protocol's server events (docs/protocols/realtime.md 6.1). Pure.

The emulator and the light provider of the load both send these. `Replies` turns what the parrot says into them.
"""

from __future__ import annotations

import io
import uuid
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantMessage, AudioOutput, Cancelled, Event, ToolCall
from sts_trio.lab.sample_formats import from_pcm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from sts_trio.lab.emulator.chat import ToClient

Fields = dict[str, Any]
KEPT_ITEMS = 1000  # whose lengths are known, for truncation


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


def new_id(rng: np.random.Generator) -> str:
    """Make the part of an id that is after its kind."""
    return uuid.UUID(bytes=rng.bytes(16), version=4).hex[:20]


# Items, and the caller's turns.


def added(item: Fields) -> list[Event]:
    """An item is in the conversation now, and complete."""
    kinds = ("conversation.item.added", "conversation.item.done")
    return [event(kind, previous_item_id=None, item=item) for kind in kinds]


def deleted(item: str) -> Event:
    """An item has been deleted."""
    return event("conversation.item.deleted", item_id=item)


def truncated(item: str, end_ms: int) -> Event:
    """An item's audio ends after `end_ms` now."""
    return event("conversation.item.truncated", item_id=item, content_index=0, audio_end_ms=end_ms)


def speech_started(item: str, begin_ms: int) -> Event:
    """The caller speaks; `item` is what the turn will be."""
    return event("input_audio_buffer.speech_started", audio_start_ms=begin_ms, item_id=item)


def committed(item: str) -> list[Event]:
    """The caller's audio so far has become an item."""
    content = [{"type": "input_audio", "transcript": None}]
    message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
    return [
        event("input_audio_buffer.committed", item_id=item, previous_item_id=None),
        *added({**message, "content": content}),
    ]


def turn_over(item: str, end_ms: int) -> list[Event]:
    """The caller has stopped speaking, and the turn has become an item."""
    return [event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item), *committed(item)]


def transcribed(item: str, words: str | None) -> Event:
    """The words of a caller's item have been written down."""
    return event(
        "conversation.item.input_audio_transcription.completed",
        item_id=item,
        content_index=0,
        transcript=words,
        usage={"type": "duration", "seconds": 1.0},
    )


# Responses.


def response_created(id_: str) -> Event:
    """A response begins."""
    return event("response.created", response=_response(id_, "in_progress", ()))


def response_done(id_: str, status: str, output: Sequence[Fields] = (), reason: str | None = None) -> Event:
    """A response is over; `reason` says why one that is not completed is."""
    response = _response(id_, status, output)
    if reason is not None:
        response["status_details"] = {"type": status, "reason": reason}
    return event("response.done", response=response)


def item_added(response: str, item: Fields) -> list[Event]:
    """A response has begun an item."""
    return [
        event("response.output_item.added", response_id=response, output_index=0, item=item),
        event("conversation.item.added", previous_item_id=None, item=item),
    ]


def item_done(response: str, item: Fields, index: int = 0) -> list[Event]:
    """A response has completed an item."""
    return [
        event("conversation.item.done", previous_item_id=None, item=item),
        event("response.output_item.done", response_id=response, output_index=index, item=item),
    ]


@dataclass(slots=True)
class SpokenItem:
    """What a response says: `item` is its id, `words` what has been said of it so far, or all of it."""

    response: str
    item: str
    words: str = ""

    @property
    def ids(self) -> Fields:
        """What each event of it has."""
        return {"response_id": self.response, "item_id": self.item, "output_index": 0, "content_index": 0}

    def begin(self) -> list[Event]:
        """The response and its item begin."""
        part = {"type": "audio", "transcript": ""}
        return [
            response_created(self.response),
            *item_added(self.response, self.message("in_progress")),
            event("response.content_part.added", **self.ids, part=part),
        ]

    def say(self, words: str) -> Event:
        """More of its words."""
        return event("response.output_audio_transcript.delta", **self.ids, delta=words)

    def end(self, status: str) -> list[Event]:
        """All has been said (``completed``), or nothing more will be (``incomplete``)."""
        return [
            event("response.output_audio.done", **self.ids),
            event("response.output_audio_transcript.done", **self.ids, transcript=self.words),
            event("response.content_part.done", **self.ids, part={"type": "audio", "transcript": self.words}),
            *item_done(self.response, self.message(status)),
        ]

    def message(self, status: str) -> Fields:
        """The item as events have it."""
        content = [] if status == "in_progress" else [{"type": "output_audio", "transcript": self.words}]
        head = {"id": self.item, "object": "realtime.item", "type": "message", "role": "assistant"}
        return {**head, "status": status, "content": content}


def _response(id_: str, status: str, output: Sequence[Fields]) -> Fields:
    done = {"usage": {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10}} if status == "completed" else {}
    head = {"id": id_, "object": "realtime.response", "status": status, "status_details": None}
    return {**head, "output": output, "metadata": None, **done}


class Replies:
    """Follows what is sent. `lengths` is the voice that was sent, in ms, by item; `kind` the format of the session.

    `active` is the response that has been begun and is not done.
    """

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self.kind = "audio/pcm"
        self.lengths: dict[str, float] = {}
        self.active: str | None = None
        self._new_id = new_id
        self._saying: SpokenItem | None = None

    def tell(self, message: ToClient) -> list[Event]:
        """Return the events that a message of the parrot's becomes."""
        match message:
            case AssistantMessage(id=segment, message=words):
                self.active = f"resp_{segment}"
                self._saying = SpokenItem(self.active, f"item_{segment}", words.content or "")
                return [*self._saying.begin(), self._saying.say(self._saying.words)]
            case AudioOutput(id=segment, data=data):
                return [self._audio(segment, data)]
            case AssistantEnd():
                return [*self._finish_words("completed"), *self._done("completed")]
            case ToolCall():
                return self._call(message)
            case Cancelled():
                return [*self._finish_words("incomplete"), *self._done("cancelled", "turn_detected")]
            case _:
                return []

    def _audio(self, segment: str, data: bytes) -> Event:
        with wave.open(io.BytesIO(data)) as file:
            pcm = file.readframes(file.getnframes())
            ms = file.getnframes() * 1000 / file.getframerate()
        item = SpokenItem(f"resp_{segment}", f"item_{segment}")
        self.lengths[item.item] = self.lengths.get(item.item, 0.0) + ms
        if len(self.lengths) > KEPT_ITEMS:
            del self.lengths[next(iter(self.lengths))]
        return event("response.output_audio.delta", **item.ids, delta=from_pcm(pcm, self.kind))

    def _finish_words(self, status: str) -> list[Event]:
        said, self._saying = self._saying, None
        return said.end(status) if said else []

    def _call(self, call: ToolCall) -> list[Event]:
        events = self._finish_words("completed")
        if self.active is None:
            self.active = self._new_id("resp")
            events.append(response_created(self.active))
        item_id = self._new_id("item")
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "name": call.name,
            "call_id": call.tool_call_id,
        }
        arguments = event(
            "response.function_call_arguments.done",
            response_id=self.active,
            item_id=item_id,
            output_index=1,
            call_id=call.tool_call_id,
            name=call.name,
            arguments=call.parameters,
        )
        return [
            *events,
            *item_added(self.active, {**item, "status": "in_progress", "arguments": ""}),
            arguments,
            *item_done(self.active, {**item, "status": "completed", "arguments": call.parameters}, 1),
            *self._done("completed"),
        ]

    def _done(self, status: str, reason: str | None = None) -> list[Event]:
        done, self.active = self.active, None
        return [response_done(done, status, reason=reason)] if done else []
