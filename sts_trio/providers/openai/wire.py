"""The Realtime protocol's messages: JSON text to structs, structs to JSON text. Pure.

The shapes are those of the general release (docs/protocols/realtime.md 2 to 7); a test reads all that we write with
the vendor's own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent or
odd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sts_trio.providers.openai.usage import count_of, tokens
from sts_trio.providers.reading import Id, Language, mended, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Part = TypeVar("Part", bound=msgspec.Struct)

_MOST_ITEMS = 64  # of one response

# What a service says.


class _FromService(msgspec.Struct, tag_field="type"):
    pass


class _Named(msgspec.Struct):
    id: Id = None


class Created(msgspec.Struct):
    """A session. `expires_at`: seconds of Unix time."""

    id: Id = None
    expires_at: object = None


class SessionCreated(_FromService, tag="session.created"):
    session: object = None

    @property
    def created(self) -> Created:
        """What it says of the session, as far as that makes sense."""
        return part(self.session, Created) or Created()


class SessionUpdated(_FromService, tag="session.updated"):
    """`session` is what is in force now."""

    session: object = None


class ConversationCreated(_FromService, tag="conversation.created"):
    conversation: _Named


class Item(msgspec.Struct):
    """An item of the conversation: a message, or a call of a function. Taken in nearly any shape."""

    id: Id = None
    type: object = None
    status: object = None
    content: object = None
    name: object = None
    call_id: Id = None
    arguments: object = None

    @property
    def text(self) -> str:
        """What a message says."""
        parts = self.content if isinstance(self.content, list) else ()
        texts = (each.get("text") for each in parts if isinstance(each, dict))
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def is_text(self) -> bool:
        """Whether it is written, and holds no voice."""
        parts = self.content if isinstance(self.content, list) else ()
        kinds = [str(each.get("type")) for each in parts if isinstance(each, dict)]
        return any("text" in kind for kind in kinds) and not any("audio" in kind for kind in kinds)


class ItemAdded(_FromService, tag="conversation.item.added"):
    item: Item


class ItemCreated(_FromService, tag="conversation.item.created"):
    """The same in the beta, and in what was made after it."""

    item: Item


class SpeechStarted(_FromService, tag="input_audio_buffer.speech_started"):
    item_id: Id = None


class SpeechStopped(_FromService, tag="input_audio_buffer.speech_stopped"):
    item_id: Id = None


class Committed(_FromService, tag="input_audio_buffer.committed"):
    item_id: Id = None


class CallerWords(_FromService, tag="conversation.item.input_audio_transcription.completed"):
    item_id: Id = None
    transcript: str | None = None
    status: object = None


class ResponseCreated(_FromService, tag="response.created"):
    response: object = None

    @property
    def id(self) -> str:
        """The response's id."""
        return (part(self.response, _Named) or _Named()).id or ""


class ItemBegun(_FromService, tag="response.output_item.added"):
    """A response begins an item: a sign of it, where its `response.created` is missing or late."""

    item: Item
    response_id: Id = None


class AudioDelta(_FromService, tag="response.output_audio.delta"):
    delta: bytes
    response_id: Id = None
    item_id: Id = None
    content_index: object = None


class WordsDelta(_FromService, tag="response.output_audio_transcript.delta"):
    delta: str | None = None
    response_id: Id = None
    item_id: Id = None


class WordsDone(_FromService, tag="response.output_audio_transcript.done"):
    transcript: str | None = None
    response_id: Id = None
    item_id: Id = None


class TextDone(_FromService, tag="response.output_text.done"):
    """Something was written, and not spoken."""

    response_id: Id = None
    item_id: Id = None


class ItemDone(_FromService, tag="response.output_item.done"):
    item: Item
    response_id: Id = None


class Cause(msgspec.Struct):
    """Of a failure; taken in any shape, since it must not get lost for being odd."""

    type: object = None
    code: object = None
    message: object = None
    param: object = None
    event_id: object = None


class Response(msgspec.Struct):
    """Its end must not get lost for something odd in it."""

    id: Id = None
    status: object = None
    status_details: object = None
    output: object = None
    usage: object = None

    @property
    def cause(self) -> Cause:
        """Why it failed; some services say it as text."""
        details = self.status_details
        if not isinstance(details, dict):
            return Cause(message=details)
        said = details.get("error")
        return part(said, Cause) or Cause(message=said)

    @property
    def reason(self) -> str:
        """Why it is not complete."""
        details = self.status_details
        return shown(details.get("reason") if isinstance(details, dict) else details)

    @property
    def items(self) -> list[Item]:
        """What it has made."""
        output = self.output if isinstance(self.output, list) else []
        return [item for each in output[:_MOST_ITEMS] if (item := part(each, Item)) is not None]

    @property
    def used(self) -> dict[tuple[str, str], int]:
        """What it has cost: tokens by direction and kind, each token once (see `providers.base.TokensUsed`)."""
        used = self.usage
        counts = {**tokens(used, "input", "in"), **tokens(used, "output", "out")}
        return {kind: count for kind, count in counts.items() if count}


class ResponseDone(_FromService, tag="response.done"):
    response: Response


class RateLimits(_FromService, tag="rate_limits.updated"):
    rate_limits: object = None

    @property
    def told(self) -> Iterator[tuple[str, int, int, float]]:
        """Each limit that makes sense: its name, how much there is in all, and is left, and seconds to its reset."""
        limits = self.rate_limits if isinstance(self.rate_limits, list) else []
        for each in limits[:_MOST_ITEMS]:
            if isinstance(each, dict) and (name := each.get("name")) in ("requests", "tokens"):
                limit, remaining = count_of(each.get("limit")), count_of(each.get("remaining"))
                if limit is not None and remaining is not None:
                    yield str(name), int(limit), int(remaining), count_of(each.get("reset_seconds")) or 0.0


class NoCallerWords(_FromService, tag="conversation.item.input_audio_transcription.failed"):
    """Nobody could write a turn's words down."""

    item_id: Id = None
    error: object = None

    @property
    def cause(self) -> Cause:
        """What is said of it."""
        return part(self.error, Cause) or Cause(message=self.error)


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
    | ItemCreated
    | SpeechStarted
    | SpeechStopped
    | Committed
    | CallerWords
    | ResponseCreated
    | ItemBegun
    | AudioDelta
    | WordsDelta
    | WordsDone
    | TextDone
    | ItemDone
    | ResponseDone
    | RateLimits
    | NoCallerWords
    | ServiceError
)


def part(value: object, kind: type[Part]) -> Part | None:
    """Return a part of a message as `kind`; None if it is none."""
    try:
        return msgspec.convert(mended(value), kind) if isinstance(value, dict) else None
    except (msgspec.ValidationError, RecursionError):
        return None


LANGUAGE: Language[FromService] = Language(FromService, _FromService, AudioDelta, "delta")


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
