"""Hume EVI's messages: JSON text to events of the seam, requests to JSON text, and the handshake's query. Pure.

The shapes are those of the vendor's SDK (hume-evi.md, sections 1 to 3); a test parses all that we write with the SDK's
own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent or null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from sts_trio.audio.pcm import RATE
from sts_trio.audio.wav import WavError, parse_wav
from sts_trio.errors import ProviderProtocolError
from sts_trio.providers.events import (
    AgentAudio,
    AgentClosed,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    ToolCall,
    UserInterruption,
    UserTurn,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.providers.events import AgentEvent

SPOKEN_RATES = (24_000, 48_000)  # Hz of the agent's voice: seen, and documented (hume-evi.md 4.2)

# What EVI says (hume-evi.md, section 3): the twelve types of the SDK's SubscribeEvent.


class _Scores(msgspec.Struct):
    scores: dict[str, float | None] | None = None


class _Models(msgspec.Struct):
    prosody: _Scores | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _FromHume(msgspec.Struct, tag_field="type"):
    pass


class ChatMetadata(_FromHume, tag="chat_metadata"):
    chat_id: str
    chat_group_id: str | None = None


class SettingsEcho(_FromHume, tag="session_settings"):
    pass


class UserMessage(_FromHume, tag="user_message"):
    message: _Message
    models: _Models | None = None
    interim: bool | None = False


class AssistantMessage(_FromHume, tag="assistant_message"):
    message: _Message
    id: str | None = None


class AssistantProsody(_FromHume, tag="assistant_prosody"):
    id: str | None = None
    models: _Models | None = None


class AudioOutput(_FromHume, tag="audio_output"):
    data: bytes
    id: str | None = None


class AssistantEnd(_FromHume, tag="assistant_end"):
    pass


class UserInterrupted(_FromHume, tag="user_interruption"):
    pass


class ToolRequest(_FromHume, tag="tool_call"):
    tool_call_id: str
    name: str | None = None
    parameters: str | None = None
    response_required: bool | None = None


class ToolResult(_FromHume, tag="tool_response"):
    pass


class ToolFailure(_FromHume, tag="tool_error"):
    pass


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


class _Kind(msgspec.Struct):
    type: str


_decode = msgspec.json.Decoder(HumeMessage).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_KNOWN = {kind.__struct_config__.tag for kind in _FromHume.__subclasses__()}

# Errors after which EVI is known to go on (hume-evi.md 6.3); the list of codes is not complete, so any other ends it.
_CHAT_GOES_ON = frozenset({"E0100", "E0101", "E0201", "E0202", "E0712"})
_WORTH_RESUMING = frozenset({1001, 1006, 1011, 1012, 1013, 1014})
_LONGEST_DETAIL = 200


def parse_from_hume(message: str | bytes) -> HumeMessage | None:
    """Read one message; None for a type that we do not know.

    Raises:
        ProviderProtocolError: no JSON object with a `type`, or a known type with fields that are not as they must be.
    """
    try:
        heard: HumeMessage = _decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        kind = _kind_of(message)
        if kind is None:
            raise ProviderProtocolError(f"Hume sent a message that is no JSON object with a type: {exc}") from exc
        if kind in _KNOWN:
            raise ProviderProtocolError(f"Hume sent a broken {kind}: {exc}") from exc
        return None
    return heard


def _kind_of(message: str | bytes) -> str | None:
    try:
        return _decode_kind(message).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def to_event(message: HumeMessage) -> AgentEvent | None:
    """Say the same in the words of the seam; None for what a call does not need.

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
        case ToolRequest():
            arguments, answer = message.parameters or "{}", bool(message.response_required)
            return ToolCall(message.tool_call_id, message.name or "", arguments, answer)
        case HumeError() if not (code := str(message.code or "")).startswith("W"):
            return AgentFault(
                message=f"Hume reports an error: {describe(message)}",
                ends_session=code not in _CHAT_GOES_ON,
                retryable=code.startswith("I"),
            )
        case ChatMetadata():
            return AgentReady(session=message.chat_id, resume=message.chat_group_id)
        case _:
            return None


def _emotions(models: _Models | None) -> Mapping[str, float]:
    scores = (models and models.prosody and models.prosody.scores) or {}
    return {name: score for name, score in scores.items() if score is not None}


def describe(error: HumeError) -> str:
    """One line for a person: what Hume said, its code and slug."""
    said = " ".join(str(error.message or "").split())[:_LONGEST_DETAIL]
    name = " ".join(" ".join(str(part) for part in (error.code, error.slug) if part).split())[:_LONGEST_DETAIL]
    return f"{said} ({name})" if said and name else said or name or "no details given"


def closed(code: int, reason: str) -> AgentClosed:
    """What a close code of EVI means (hume-evi.md 6.4)."""
    if code == 1000:
        return AgentClosed("Hume ended the chat (close 1000)", normal=True)
    said = f": {' '.join(reason.split())[:_LONGEST_DETAIL]}" if reason else ""
    if code == 1006:
        return AgentClosed(f"the connection to Hume broke{said} (1006)", normal=False, retryable=True)
    # Not "Hume closed it": of 1002, 1007 and 1009 it is often we who failed the connection.
    message = f"the chat with Hume was closed with code {code}{said}"
    return AgentClosed(message, normal=False, retryable=code in _WORTH_RESUMING)


# What we say (hume-evi.md, section 2). Caller audio needs no message: it goes as binary frames.


class SessionSettings(msgspec.Struct, tag_field="type", tag="session_settings", omit_defaults=True):
    system_prompt: str | None = None


class AssistantInput(msgspec.Struct, tag_field="type", tag="assistant_input"):
    text: str


class ToolErrorAnswer(msgspec.Struct, tag_field="type", tag="tool_error"):
    tool_call_id: str
    error: str
    content: str


def encode_to_hume(message: SessionSettings | AssistantInput | ToolErrorAnswer) -> str:
    """Write one message as a text frame; EVI takes nothing but audio in binary ones."""
    return msgspec.json.encode(message).decode()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a chat is opened with. With `config_id`, prompt and voice are the config's, and ours are not sent."""

    session_id: str
    config_id: str | None = None
    voice_id: str | None = None
    instructions: str | None = None
    resume: str | None = None


# The vendor's TypeScript SDK warns that a longer prompt in the URL may be cut (hume-evi.md 1.4).
_LONGEST_PROMPT_IN_URL = 1000


def handshake_query(request: ChatRequest) -> str:
    """The query that opens a chat, percent-encoded, in force before the first audio. The key is not in it."""
    pairs = {
        "config_id": request.config_id,
        "resumed_chat_group_id": request.resume,
        "session_settings[audio][encoding]": "linear16",
        "session_settings[audio][sample_rate]": str(RATE),
        "session_settings[audio][channels]": "1",
        "session_settings[custom_session_id]": request.session_id,
    }
    if request.config_id is None:
        pairs["session_settings[voice_id]"] = request.voice_id
        if late_prompt(request) is None:
            pairs["session_settings[system_prompt]"] = request.instructions
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs.items() if value)


def late_prompt(request: ChatRequest) -> str | None:
    """The prompt, where it is too long for the URL and goes as a message once the chat is open."""
    prompt = request.instructions
    if request.config_id is None and prompt and len(quote(prompt, safe="")) > _LONGEST_PROMPT_IN_URL:
        return prompt
    return None
