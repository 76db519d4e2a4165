"""The Realtime protocol's server events (docs/protocols/realtime.md 6.1). Pure.

The emulator and the light provider of the load both send these.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.wire import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Fields = dict[str, Any]
# What a response costs where nobody counts.
USAGE: Fields = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {
        "text_tokens": 15,
        "audio_tokens": 5,
        "image_tokens": 0,
        "cached_tokens": 0,
        "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 2, "audio_tokens": 8},
}


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


def added(item: Fields, before: str | None = None) -> list[Event]:
    """An item is in the conversation now, behind the item `before`, and complete."""
    kinds = ("conversation.item.added", "conversation.item.done")
    return [event(kind, previous_item_id=before, item=item) for kind in kinds]


def deleted(item: str) -> Event:
    """An item has been deleted."""
    return event("conversation.item.deleted", item_id=item)


def truncated(item: str, end_ms: int) -> Event:
    """An item's audio ends after `end_ms` now."""
    return event("conversation.item.truncated", item_id=item, content_index=0, audio_end_ms=end_ms)


def speech_started(item: str, begin_ms: int) -> Event:
    """The caller speaks; `item` is what the turn will be."""
    return event("input_audio_buffer.speech_started", audio_start_ms=begin_ms, item_id=item)


def committed(item: str, before: str | None = None) -> list[Event]:
    """The caller's audio so far has become an item, behind the item `before`."""
    content = [{"type": "input_audio", "transcript": None}]
    message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
    return [
        event("input_audio_buffer.committed", item_id=item, previous_item_id=before),
        *added({**message, "content": content}, before),
    ]


def speech_stopped(item: str, end_ms: int) -> Event:
    """The caller has stopped speaking."""
    return event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item)


def turn_over(item: str, end_ms: int) -> list[Event]:
    """The caller has stopped speaking, and the turn has become an item."""
    return [speech_stopped(item, end_ms), *committed(item)]


def transcribed(item: str, words: str | None) -> Event:
    """The words of a caller's item have been written down."""
    return event(
        "conversation.item.input_audio_transcription.completed",
        item_id=item,
        content_index=0,
        transcript=words,
        usage={"type": "duration", "seconds": 1.0},
    )


def transcription_failed(item: str) -> Event:
    """Nobody could write down what the caller said."""
    cause = {"type": "transcription_error", "code": "audio_unintelligible", "message": "No words could be made out."}
    kind = "conversation.item.input_audio_transcription.failed"
    return event(kind, item_id=item, content_index=0, error={**cause, "param": None})


# Responses.


def response_created(id_: str, metadata: Fields | None = None) -> Event:
    """A response begins; `metadata` is what the client asked for it with."""
    return event("response.created", response=_response(id_, "in_progress", (), metadata, None))


def response_done(
    id_: str,
    status: str,
    output: Sequence[Fields] = (),
    reason: str | None = None,
    *,
    cause: Fields | None = None,
    metadata: Fields | None = None,
    usage: Fields = USAGE,
) -> Event:
    """A response is over; `reason`, or `cause` of a failure, say why one that is not completed is."""
    response = _response(id_, status, output, metadata, usage)
    if reason is not None or cause is not None:
        why = {"reason": reason} if reason is not None else {"error": cause}
        response["status_details"] = {"type": status, **why}
    return event("response.done", response=response)


def rate_limits(remaining: int = 799_000, limit: int = 800_000) -> Event:
    """How many tokens are left of those a minute (docs/protocols/realtime.md 6.1)."""
    full_in = round((limit - remaining) * 60 / limit, 3)
    tokens = {"name": "tokens", "limit": limit, "remaining": remaining, "reset_seconds": full_in}
    return event("rate_limits.updated", rate_limits=[tokens])


def item_added(response: str, item: Fields, index: int = 0, before: str | None = None) -> list[Event]:
    """A response has begun an item, its number `index`, behind the item `before`."""
    return [
        event("response.output_item.added", response_id=response, output_index=index, item=item),
        event("conversation.item.added", previous_item_id=before, item=item),
    ]


def item_done(response: str, item: Fields, index: int = 0, before: str | None = None) -> list[Event]:
    """A response has completed an item."""
    return [
        event("conversation.item.done", previous_item_id=before, item=item),
        event("response.output_item.done", response_id=response, output_index=index, item=item),
    ]


@dataclass(slots=True)
class SpokenItem:
    """What a response says: `item` is its id, `words` what has been said of it so far, or all of it.

    `before` is the item in front of it. Without a `voice` it is said in text.
    """

    response: str
    item: str
    words: str = ""
    before: str | None = None
    voice: bool = True

    @property
    def ids(self) -> Fields:
        """What each event of it has."""
        return {"response_id": self.response, "item_id": self.item, "output_index": 0, "content_index": 0}

    @property
    def _part(self) -> Fields:
        return {"type": "audio", "transcript": self.words} if self.voice else {"type": "text", "text": self.words}

    def begin(self) -> list[Event]:
        """The response and its item begin."""
        return [response_created(self.response), *self.begin_item()]

    def begin_item(self) -> list[Event]:
        """The item begins."""
        part = {"type": "audio", "transcript": ""} if self.voice else {"type": "text", "text": ""}
        return [
            *item_added(self.response, self.message("in_progress"), 0, self.before),
            event("response.content_part.added", **self.ids, part=part),
        ]

    def say(self, words: str) -> Event:
        """More of its words."""
        kind = "response.output_audio_transcript.delta" if self.voice else "response.output_text.delta"
        return event(kind, **self.ids, delta=words)

    def end(self, status: str) -> list[Event]:
        """All has been said (``completed``), or nothing more will be (``incomplete``)."""
        said = [
            event("response.output_audio.done", **self.ids),
            event("response.output_audio_transcript.done", **self.ids, transcript=self.words),
        ]
        return [
            *(said if self.voice else [event("response.output_text.done", **self.ids, text=self.words)]),
            event("response.content_part.done", **self.ids, part=self._part),
            *item_done(self.response, self.message(status), 0, self.before),
        ]

    def message(self, status: str) -> Fields:
        """The item as events have it."""
        whole = {"type": "output_audio", "transcript": self.words}
        written = {"type": "output_text", "text": self.words}
        content = [] if status == "in_progress" else [whole if self.voice else written]
        head = {"id": self.item, "object": "realtime.item", "type": "message", "role": "assistant"}
        return {**head, "status": status, "content": content}


def _response(id_: str, status: str, output: Sequence[Fields], metadata: Fields | None, usage: Fields | None) -> Fields:
    head = {"id": id_, "object": "realtime.response", "status": status, "status_details": None}
    return {**head, "output": list(output), "metadata": metadata, "usage": usage}
