"""Hume EVI's messages: JSON text to structs, to events of the seam (`providers.base`), and structs to JSON text. Pure.

The shapes are those of the vendor's SDK (docs/protocols/evi.md 2 and 3); a test parses all that we write with the SDK's
own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent or null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from sts_trio.audio.wav import WavError, parse_wav
from sts_trio.errors import ProviderProtocolError
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from sts_trio.text import UNREADABLE, known_types, one_line, refuse_broken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sts_trio.providers.base import AgentEvent


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


class Pause(msgspec.Struct, tag_field="type", tag="pause_assistant_message"):
    """EVI says nothing until `Resume`."""


class Resume(msgspec.Struct, tag_field="type", tag="resume_assistant_message"):
    """EVI answers the last turn, and no other that came since `Pause`."""


class ToolAnswer(msgspec.Struct, tag_field="type", tag="tool_response"):
    """A result is text, whatever it is: an object goes as its JSON (docs/protocols/evi.md 2.4)."""

    tool_call_id: str
    content: str


class ToolErrorAnswer(msgspec.Struct, tag_field="type", tag="tool_error"):
    """`error` is for Hume's log, `content` for the model."""

    tool_call_id: str
    error: str
    content: str


ToHume = SessionSettings | UserInput | AssistantInput | Pause | Resume | ToolAnswer | ToolErrorAnswer


# Writes one message for a text frame; EVI takes nothing but audio in binary ones.
encode_to_hume: Callable[[ToHume], bytes] = msgspec.json.Encoder().encode


# Errors after which EVI is known to go on (docs/protocols/evi.md 6.3); the list of codes is not complete, so any other
# ends it.
_CHAT_GOES_ON = frozenset({"E0100", "E0101", "E0201", "E0202", "E0712"})
_FORGOTTEN = frozenset({"E0708", "E0710"})
_WORTH_RESUMING = frozenset({1001, 1006, 1011, 1012, 1013, 1014})
_LONGEST_ID = 256  # of a tool call; without an id, or with an absurd one, it could not be answered
_LONGEST_DETAIL = 200


def to_event(message: HumeMessage) -> AgentEvent | None:
    """Translate a message; None for one that a call does not need.

    Raises:
        ProviderProtocolError: the audio is no WAV file that we can play.
    """
    match message:
        case AudioOutput() if message.data:
            try:
                return AgentAudio(message.id or "", parse_wav(message.data))
            except WavError as exc:
                raise ProviderProtocolError(f"Hume sent audio that cannot be played: {exc}") from exc
        case UserMessage() if message.message.content and not message.interim:
            return UserTurn(message.message.content, _emotions(message.models))
        case AssistantMessage() if message.message.content:
            return AgentText(message.id or "", message.message.content)
        case AssistantEnd():
            return AgentTurnEnd()
        case UserInterrupted():
            return UserInterruption()
        case ToolRequest(tool_call_id=str(id_)) if 0 < len(id_) <= _LONGEST_ID:
            given = message.parameters
            arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
            return ToolCall(id_, str(message.name or ""), arguments or "{}", bool(message.response_required))
        case HumeError() if not (code := str(message.code or "")).startswith("W"):
            return AgentFault(f"Hume reports an error: {describe(message)}", _ends(code))
        case ChatMetadata():
            return AgentReady(session=message.chat_id, resume=message.chat_group_id)
        case _:
            return None


def _ends(code: str) -> SessionEndKind | None:
    """How the chat ends after an error of this code; None if it goes on."""
    if code in _CHAT_GOES_ON:
        return None
    if code in _FORGOTTEN:
        return SessionEndKind.FORGOTTEN
    return SessionEndKind.LOST if code.startswith("I") else SessionEndKind.REFUSED


def _emotions(models: Models | None) -> Mapping[str, float]:
    scores = (models and models.prosody and models.prosody.scores) or {}
    return {name: score for name, score in scores.items() if score is not None}


def describe(error: HumeError) -> str:
    """One line for a person: what Hume said, its code and slug."""
    said = one_line(str(error.message or ""))[:_LONGEST_DETAIL]
    name = one_line(" ".join(str(part) for part in (error.code, error.slug) if part))[:_LONGEST_DETAIL]
    return f"{said} ({name})" if said and name else said or name or "no details given"


def closed(code: int, reason: str) -> SessionEnd:
    """What a close code of EVI means (docs/protocols/evi.md 6.4)."""
    if code == 1000:
        return SessionEnd("Hume ended the chat (close 1000)", SessionEndKind.GOODBYE)
    said = f": {one_line(reason)[:_LONGEST_DETAIL]}" if reason else ""
    if code == 1006:
        # No peer can send this code; with a reason it is `socket`'s own, for a ping that was not answered.
        kind = SessionEndKind.DEAD if reason else SessionEndKind.LOST
        return SessionEnd(f"the connection to Hume broke{said} (1006)", kind)
    # Not "Hume closed it": with 1002, 1007 and 1009 it is often we who failed the connection.
    kind = SessionEndKind.LOST if code in _WORTH_RESUMING else SessionEndKind.REFUSED
    return SessionEnd(f"the chat with Hume was closed with code {code}{said}", kind)
