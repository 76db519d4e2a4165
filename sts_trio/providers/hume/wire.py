"""Hume EVI's messages: JSON text to structs, to events of the seam (`providers.base`), and structs to JSON text. Pure.

The shapes are those of the vendor's SDK (docs/protocols/evi.md 2 and 3); a test parses all that we write with the SDK's
own types. Read leniently: unknown types and fields are ignored, and what we do not need may be absent, null or odd.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec

from sts_trio.audio.pcm import WavError, parse_wav
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    OddKind,
    OddMessage,
    SessionEnd,
    SessionEndKind,
    ToolCall,
    UserInterruption,
    UserTurn,
)
from sts_trio.providers.reading import Id, Language, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sts_trio.audio.pcm import Wav
    from sts_trio.providers.base import AgentEvent


# What EVI says (docs/protocols/evi.md 3): the twelve types of the SDK's SubscribeEvent.


class _FromHume(msgspec.Struct, tag_field="type"):
    pass


class ChatMetadata(_FromHume, tag="chat_metadata"):
    chat_id: Id = None
    chat_group_id: Id = None


class SettingsEcho(_FromHume, tag="session_settings"):
    pass


class UserMessage(_FromHume, tag="user_message"):
    """`message` and `models` are dug into (`_words`, `_emotions`), so that nothing odd in them fails the rest."""

    message: object = None
    models: object = None
    interim: object = False
    from_text: object = False


class AssistantMessage(_FromHume, tag="assistant_message"):
    message: object = None
    id: Id = None


class AssistantProsody(_FromHume, tag="assistant_prosody"):
    """How the agent's voice sounds: nothing for a call."""


class AudioOutput(_FromHume, tag="audio_output"):
    data: bytes
    id: Id = None


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


LANGUAGE: Language[HumeMessage] = Language(HumeMessage, _FromHume, AudioOutput, "data")


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


# Errors that end a chat (docs/protocols/evi.md 6.3). The list of codes is not complete: after any other the chat
# goes on until it is closed, and then the error is the cause.
_REFUSED = frozenset({"E0300", "E0714", "E0715", "E0723"})
# No code is documented for more chats at once than the account may have; words are all there is to go by.
_FULL = re.compile("concurren|too.many.(active|open|simultaneous|requests)|rate.limit", re.IGNORECASE)
_FORGOTTEN = frozenset({"E0708", "E0710"})
_HUMES_OWN = re.compile(r"I\d{4}")  # faults of Hume's own: another chat may do better
_WORTH_RESUMING = frozenset({1001, 1006, 1011, 1012, 1013, 1014})
_BROKEN = frozenset({1002, 1007, 1009})  # it is mostly we who find a broken frame, and fail the connection
_LONGEST_ID = 256  # of a tool call; without an id, or with an absurd one, it could not be answered
_LONGEST_DETAIL = 200
_MOST_EMOTIONS = 64  # EVI has 48
_LONGEST_EMOTION = 64
_HIGHEST = 1000  # of a score, which is 0 to 1; what is beyond is no score
# How files of other formats begin: MP3, Ogg, FLAC, WebM, and WAV itself, if it is one that cannot be played.
_OTHER_FILES = (b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3")


def to_event(message: HumeMessage, known: Wav | None = None) -> AgentEvent | None:
    """Translate a message; None for one that a call does not need.

    `known` is audio of the same session: samples without a header are taken for more of the same format.
    """
    match message:
        case AudioOutput():
            return _audio(message, known) if message.data else None
        case UserMessage(interim=interim):
            if interim is True:
                return None
            words = _words(message.message)
            return UserTurn(words, _emotions(message.models)) if words else _without_words("a user_message", words)
        case AssistantMessage():
            words = _words(message.message)
            return AgentText(message.id or "", words) if words else _without_words("an assistant_message", words)
        case AssistantEnd():
            return AgentTurnEnd()
        case UserInterrupted():
            return UserInterruption()
        case ToolRequest(tool_call_id=id_):
            if not isinstance(id_, str) or not 0 < len(id_) <= _LONGEST_ID:
                return OddMessage(OddKind.FIELD, "a tool_call without an id that could be answered")
            given = message.parameters
            arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
            return ToolCall(id_, shown(message.name), arguments or "{}", bool(message.response_required))
        case HumeError() if not (code := shown(message.code)).startswith("W"):
            return AgentFault(f"Hume reports an error: {describe(message)}", _ends(code, message))
        case ChatMetadata():
            return AgentReady(session=shown(message.chat_id), resume=message.chat_group_id)
        case _:
            return None


def _audio(message: AudioOutput, known: Wav | None) -> AgentAudio | OddMessage:
    try:
        return AgentAudio(message.id or "", parse_wav(message.data))
    except WavError as exc:
        if known is None or message.data.startswith(_OTHER_FILES):
            return OddMessage(OddKind.AUDIO, str(exc))
    block = 2 * known.channels
    return AgentAudio(
        message.id or "", replace(known, pcm=memoryview(message.data)[: len(message.data) // block * block])
    )


def _words(message: object) -> str | None:
    """The words of a message; None if they are missing, or no text."""
    words = message.get("content") if isinstance(message, dict) else None
    return words if isinstance(words, str) else None


def _without_words(kind: str, words: str | None) -> OddMessage | None:
    return None if words == "" else OddMessage(OddKind.FIELD, f"{kind} without words")


def _ends(code: str, error: HumeError) -> SessionEndKind | None:
    """How the chat ends after an error of this code; None if it goes on."""
    if _FULL.search(f"{code} {error.slug} {error.message}"[:_LONGEST_DETAIL]):
        return SessionEndKind.FULL
    if code in _FORGOTTEN:
        return SessionEndKind.FORGOTTEN
    if code in _REFUSED:
        return SessionEndKind.REFUSED
    return SessionEndKind.LOST if _HUMES_OWN.fullmatch(code) else None


def _emotions(models: object) -> Mapping[str, float]:
    """The scores that are some: what else there is, is dropped."""
    for name in ("prosody", "scores"):
        models = models.get(name) if isinstance(models, dict) else None
    if not isinstance(models, dict):
        return {}
    return {
        shown(name, _LONGEST_EMOTION): score
        for name, score in islice(models.items(), _MOST_EMOTIONS)
        if isinstance(score, int | float) and not isinstance(score, bool) and -_HIGHEST <= score <= _HIGHEST
    }


def describe(error: HumeError) -> str:
    """One line for a person: what Hume said, its code and slug."""
    said = shown(error.message, _LONGEST_DETAIL)
    name = shown(" ".join(shown(part) for part in (error.code, error.slug) if part), _LONGEST_DETAIL)
    return f"{said} ({name})" if said and name else said or name or "no details given"


def closed(code: int, reason: str) -> SessionEnd:
    """What a close code of EVI means (docs/protocols/evi.md 6.4)."""
    if code == 1000:
        return SessionEnd("Hume ended the chat (close 1000)", SessionEndKind.GOODBYE)
    said = f": {shown(reason, _LONGEST_DETAIL)}" if reason else ""
    if code == 1006:
        # No peer can send this code; with a reason it is `socket`'s own, for a ping that was not answered.
        kind = SessionEndKind.DEAD if reason else SessionEndKind.LOST
        return SessionEnd(f"the connection to Hume broke{said} (1006)", kind)
    # Not "Hume closed it": with 1002, 1007 and 1009 it is often we who failed the connection.
    kind = SessionEndKind.LOST if code in _WORTH_RESUMING else SessionEndKind.REFUSED
    if code in _BROKEN:
        kind = SessionEndKind.PROTOCOL_ERROR
    return SessionEnd(f"the chat with Hume was closed with code {code}{said}", kind)
