"""The Realtime protocol's messages: JSON text to structs, structs to JSON text. Pure.

The shapes are those of the general release (docs/protocols/realtime.md 2 to 7); a test reads all that we write with
the vendor's own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from sts_trio.text import UNREADABLE, known_types, refuse_broken

if TYPE_CHECKING:
    from collections.abc import Callable

# What a service says.

# Services' ids have some 30 characters, ours of a tool 64. They are remembered, so that an absurd one is a fault.
Name = Annotated[str, msgspec.Meta(max_length=256)] | None


class _FromService(msgspec.Struct, tag_field="type"):
    pass


class _Named(msgspec.Struct):
    id: Name = None


class Created(msgspec.Struct):
    """A session. `expires_at`: seconds of Unix time."""

    id: Name = None
    expires_at: object = None


class SessionCreated(_FromService, tag="session.created"):
    session: Created


class SessionUpdated(_FromService, tag="session.updated"):
    """`session` is what is in force now."""

    session: object = None


class ConversationCreated(_FromService, tag="conversation.created"):
    conversation: _Named


class Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None


class Item(msgspec.Struct):
    """An item of the conversation: a message, or a call of a function. Taken in nearly any shape."""

    id: Name = None
    type: str | None = None
    role: str | None = None
    status: str | None = None
    content: list[Part] | None = None
    name: Name = None
    call_id: Name = None
    arguments: object = None


class ItemAdded(_FromService, tag="conversation.item.added"):
    item: Item


class SpeechStarted(_FromService, tag="input_audio_buffer.speech_started"):
    pass


class SpeechStopped(_FromService, tag="input_audio_buffer.speech_stopped"):
    pass


class Committed(_FromService, tag="input_audio_buffer.committed"):
    item_id: Name = None


class CallerWords(_FromService, tag="conversation.item.input_audio_transcription.completed"):
    item_id: Name = None
    transcript: str | None = None
    status: str | None = None


class ResponseCreated(_FromService, tag="response.created"):
    response: _Named


class AudioDelta(_FromService, tag="response.output_audio.delta"):
    delta: bytes
    response_id: Name = None
    item_id: Name = None


class WordsDelta(_FromService, tag="response.output_audio_transcript.delta"):
    delta: str | None = None
    response_id: Name = None
    item_id: Name = None


class WordsDone(_FromService, tag="response.output_audio_transcript.done"):
    transcript: str | None = None
    response_id: Name = None
    item_id: Name = None


class ItemDone(_FromService, tag="response.output_item.done"):
    item: Item
    response_id: Name = None


class Cause(msgspec.Struct):
    """Of a failure; taken in any shape, since it must not get lost for being odd."""

    type: object = None
    code: object = None
    message: object = None
    param: object = None
    event_id: object = None


class Details(msgspec.Struct):
    reason: str | None = None
    error: Cause | None = None


class Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class Response(msgspec.Struct):
    id: Name = None
    status: str | None = None
    status_details: Details | None = None
    output: list[Item] | None = None
    usage: Usage | None = None


class ResponseDone(_FromService, tag="response.done"):
    response: Response


class ServiceError(_FromService, tag="error"):
    error: object = None

    @property
    def cause(self) -> Cause:
        """What it says; some services have a text in place of an object."""
        if isinstance(self.error, dict):
            return Cause(**{name: self.error.get(name) for name in Cause.__struct_fields__})
        return Cause(message=self.error)


FromService = (
    SessionCreated
    | SessionUpdated
    | ConversationCreated
    | ItemAdded
    | SpeechStarted
    | SpeechStopped
    | Committed
    | CallerWords
    | ResponseCreated
    | AudioDelta
    | WordsDelta
    | WordsDone
    | ItemDone
    | ResponseDone
    | ServiceError
)


_decode: Callable[[str | bytes], FromService] = msgspec.json.Decoder(FromService).decode
_KNOWN = known_types(_FromService)


def parse_from_service(message: str | bytes, service: str) -> FromService | None:
    """Read one message of the service of this name; None for a type that we do not know.

    Raises:
        ProviderProtocolError: no JSON object with a `type`, or a known type with fields that are not as they must be.
    """
    try:
        return _decode(message)
    except UNREADABLE as exc:
        refuse_broken(service, message, _KNOWN, exc)
        return None


# What we say. `event_id` is ours, and comes back in an error about the message.


class SessionUpdate(msgspec.Struct, tag_field="type", tag="session.update"):
    event_id: str
    session: dict[str, Any]


class Append(msgspec.Struct, tag_field="type", tag="input_audio_buffer.append"):
    """Caller audio; msgspec writes bytes as base64."""

    audio: bytes


class ItemCreate(msgspec.Struct, tag_field="type", tag="conversation.item.create"):
    event_id: str
    item: dict[str, Any]


class ItemDelete(msgspec.Struct, tag_field="type", tag="conversation.item.delete"):
    event_id: str
    item_id: str


class Truncate(msgspec.Struct, tag_field="type", tag="conversation.item.truncate"):
    event_id: str
    item_id: str
    audio_end_ms: int
    content_index: int = 0


class ResponseCreate(msgspec.Struct, tag_field="type", tag="response.create", omit_defaults=True):
    event_id: str
    response: dict[str, Any] | None = None


class ResponseCancel(msgspec.Struct, tag_field="type", tag="response.cancel"):
    event_id: str
    response_id: str


ToService = SessionUpdate | Append | ItemCreate | ItemDelete | Truncate | ResponseCreate | ResponseCancel

# Writes one message for a text frame (a service refuses binary ones). The encoder's own method: no call between.
encode_to_service: Callable[[ToService], bytes] = msgspec.json.Encoder().encode


def message_item(role: str, text: str, id_: str) -> dict[str, Any]:
    """A message of the conversation in text. What the agent has said is output, all else is input."""
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "id": id_, "role": role, "content": [{"type": kind, "text": text}]}
