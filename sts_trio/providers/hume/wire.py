"""Hume EVI's messages: JSON text to structs, structs to JSON text. Pure.

The shapes are those of the vendor's SDK (docs/protocols/evi.md 2 and 3); a test parses all that we write with the SDK's
own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent or null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from sts_trio.providers.messages import UNREADABLE, known_types, refuse_broken

if TYPE_CHECKING:
    from collections.abc import Callable

SPOKEN_RATES = (24_000, 48_000)  # Hz of the agent's voice: seen, and documented (docs/protocols/evi.md 4.2)
# The emotions that EVI scores in the caller's voice (docs/protocols/evi.md 8), spelled as in its messages, spaces and
# brackets included.
EMOTIONS = frozenset({
    "Admiration", "Adoration", "Aesthetic Appreciation", "Amusement", "Anger", "Anxiety", "Awe", "Awkwardness",
    "Boredom", "Calmness", "Concentration", "Confusion", "Contemplation", "Contempt", "Contentment", "Craving",
    "Desire", "Determination", "Disappointment", "Disgust", "Distress", "Doubt", "Ecstasy", "Embarrassment",
    "Empathic Pain", "Entrancement", "Envy", "Excitement", "Fear", "Guilt", "Horror", "Interest",
    "Joy", "Love", "Nostalgia", "Pain", "Pride", "Realization", "Relief", "Romance",
    "Sadness", "Satisfaction", "Shame", "Surprise (negative)", "Surprise (positive)", "Sympathy", "Tiredness",
    "Triumph",
})  # fmt: skip

# What EVI says (docs/protocols/evi.md 3): the twelve types of the SDK's SubscribeEvent.


class Scores(msgspec.Struct):
    scores: dict[str, float | None] | None = None


class Models(msgspec.Struct):
    prosody: Scores | None = None


class _Words(msgspec.Struct):
    content: str | None = None


class _FromHume(msgspec.Struct, tag_field="type"):
    pass


class ChatMetadata(_FromHume, tag="chat_metadata"):
    chat_id: str
    chat_group_id: str | None = None


class SettingsEcho(_FromHume, tag="session_settings"):
    pass


class UserMessage(_FromHume, tag="user_message"):
    message: _Words
    models: Models | None = None
    interim: bool | None = False


class AssistantMessage(_FromHume, tag="assistant_message"):
    message: _Words
    id: str | None = None


class AssistantProsody(_FromHume, tag="assistant_prosody"):
    id: str | None = None
    models: Models | None = None


class AudioOutput(_FromHume, tag="audio_output"):
    data: bytes
    id: str | None = None


class AssistantEnd(_FromHume, tag="assistant_end"):
    pass


class UserInterrupted(_FromHume, tag="user_interruption"):
    pass


class ToolRequest(_FromHume, tag="tool_call"):
    """Taken in any shape: one that makes no sense is no reason to end a call."""

    tool_call_id: object = None
    name: object = None
    parameters: object = None
    response_required: object = None


class ToolResult(_FromHume, tag="tool_response"):
    """A tool of Hume's own has answered: news for a screen, nothing for a call."""


class ToolFailure(_FromHume, tag="tool_error"):
    """A tool of Hume's own failed, or an answer of ours was late, bad or out of date (docs/protocols/evi.md 3.7)."""

    tool_call_id: object = None


class HumeError(_FromHume, tag="error"):
    """Taken in any shape: it is the cause of what follows, and must not get lost for being odd."""

    code: object = None
    slug: object = None
    message: object = None


HumeMessage = (
    ChatMetadata
    | SettingsEcho
    | UserMessage
    | AssistantMessage
    | AssistantProsody
    | AudioOutput
    | AssistantEnd
    | UserInterrupted
    | ToolRequest
    | ToolResult
    | ToolFailure
    | HumeError
)


_decode: Callable[[str | bytes], HumeMessage] = msgspec.json.Decoder(HumeMessage).decode
_KNOWN = known_types(_FromHume)


def parse_from_hume(message: str | bytes) -> HumeMessage | None:
    """Read one message; None for a type that we do not know.

    Raises:
        ProviderProtocolError: no JSON object with a `type`, or a known type with fields that are not as they must be.
    """
    try:
        return _decode(message)
    except UNREADABLE as exc:
        refuse_broken("Hume", message, _KNOWN, exc)
        return None


# What we say (docs/protocols/evi.md 2). Caller audio needs no message: it goes as binary frames.


class ToolDeclaration(msgspec.Struct, tag_field="type", tag="function"):
    """A function that EVI may ask for; `parameters` is JSON Schema as text (docs/protocols/evi.md 2.2)."""

    name: str
    description: str
    parameters: str


class Context(msgspec.Struct):
    """What EVI adds to the caller's words: ``temporary`` for its next reply only."""

    text: str
    type: Literal["temporary", "persistent"]


class SessionSettings(msgspec.Struct, tag_field="type", tag="session_settings", omit_defaults=True):
    """A partial update: what is None is left as it is."""

    system_prompt: str | None = None
    voice_id: str | None = None
    variables: dict[str, str] | None = None
    context: Context | None = None
    tools: list[ToolDeclaration] | None = None


class UserInput(msgspec.Struct, tag_field="type", tag="user_input"):
    text: str


class AssistantInput(msgspec.Struct, tag_field="type", tag="assistant_input"):
    text: str


class ToolAnswer(msgspec.Struct, tag_field="type", tag="tool_response"):
    """A result is text, whatever it is: an object goes as its JSON (docs/protocols/evi.md 2.4)."""

    tool_call_id: str
    content: str


class ToolErrorAnswer(msgspec.Struct, tag_field="type", tag="tool_error"):
    """`error` is for Hume's log, `content` for the model."""

    tool_call_id: str
    error: str
    content: str


ToHume = SessionSettings | UserInput | AssistantInput | ToolAnswer | ToolErrorAnswer


# Writes one message for a text frame; EVI takes nothing but audio in binary ones.
encode_to_hume: Callable[[ToHume], bytes] = msgspec.json.Encoder().encode
