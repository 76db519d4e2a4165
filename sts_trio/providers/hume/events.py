"""Hume EVI's messages and closes as events of the seam (`providers.base`). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from sts_trio.providers.hume.wire import (
    AssistantEnd,
    AssistantMessage,
    AudioOutput,
    ChatMetadata,
    HumeError,
    ToolRequest,
    UserInterrupted,
    UserMessage,
)
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.hume.wire import HumeMessage, Models

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
