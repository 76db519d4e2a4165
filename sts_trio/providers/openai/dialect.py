"""The vendors of the Realtime protocol: how their ways differ, and what their errors and closes mean to a call. Pure.

Errors and closes: docs/protocols/realtime.md 8; the differences: 9.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.providers.base import AgentFault, SessionEnd, SessionEndKind
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.models import CURRENT
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.openai.wire import Cause

_FATAL = {
    "invalid_api_key": "check {prefix}_API_KEY",
    "insufficient_quota": "the account has no credit left",
    "credit_balance_exhausted": "the account has no credit left",
    "billing_hard_limit_reached": "the account has reached its limit",
    "account_deactivated": "the account is closed",
    "model_not_found": "check {prefix}_MODEL; {current} is current",
    "missing_model": "set {prefix}_MODEL; {current} is current",
    "invalid_model": "check {prefix}_MODEL; {current} is current",
    "DeploymentNotFound": "{prefix}_MODEL must be the name of a deployment there, which is not the model's",
    "beta_api_shape_disabled": "",
    "unsupported_country_region_territory": "the service is not offered where this runs",
}
_EXPIRED = ("session_expired", "max_duration")
_EXPIRED_WORDS = "maximum duration"
_HARMLESS = {
    "response_cancel_not_active",
    "input_audio_buffer_commit_empty",
    "item_retrieve_invalid_item_id",
    "item_truncate_invalid_item_id",
    "item_delete_invalid_item_id",
    "unsupported_content_type",  # of a truncation: only a voice can be cut
}
# The same in words, for services that have no codes.
_HARMLESS_WORDS = ("no active response", "is already shorter than", "audio messages can be truncated")
_REFUSED_OUTPUT = ("invalid_tool_call_id", "not found in conversation")
_LIMITS = {"rate_limit_exceeded", "inference_rate_limit_exceeded", "session_limit_reached"}
_BUSY = ("conversation_already_has_active_response", "already has an active response")
_BROKEN = ("server_error", "internal_error", "timeout")
_TRANSIENT = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1014, 1015})
_BROKEN_FRAMES = frozenset({1002, 1007, 1009})  # it is mostly we who find one, and fail the connection
# Fields of the session, inner ones first, and the settings that they are made of.
_SETTINGS = {
    "transcription": "TRANSCRIPTION_MODEL",
    "turn_detection": "TURN_DETECTION",
    "noise_reduction": "NOISE_REDUCTION",
    "voice": "VOICE",
    "format": "AUDIO_FORMAT",
    "instructions": "INSTRUCTIONS",
    "reasoning": "REASONING_EFFORT",
    "max_output_tokens": "MAX_TOKENS",
    "tools": "TOOLS_DIR",
    "model": "MODEL",
}
_SERVICE_SETTINGS = {"TOOLS_DIR"}
_ONLY_OPENAIS = {"AUDIO_FORMAT", "MAX_TOKENS", "NOISE_REDUCTION", "REASONING_EFFORT"}
_LONGEST_DETAIL = 200
_LOOKED_AT = 1000  # characters of what an error says, for words that we know


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor's ways.

    `prefix` is that of its settings. `flat`: voice and turn detection stand at the top of the session, and the keys
    that only OpenAI has are left out. `forces_message`: it speaks a text as it stands. `resumes`: it keeps
    conversations by their id. `language_key` names the language of the caller in the transcription, `terms_key` the
    words to expect there. `path` is added to a base URL. `current` is the model to take in place of one that is not
    there.
    """

    name: str
    prefix: str
    current: str
    flat: bool = False
    forces_message: bool = False
    resumes: bool = False
    language_key: str = "language"
    terms_key: str = "keywords"
    path: str = "/realtime"


OPENAI = Dialect(name="OpenAI", prefix="OPENAI", current=CURRENT)
XAI = Dialect(
    name="xAI",
    prefix="XAI",
    current="grok-voice-latest",
    flat=True,
    forces_message=True,
    resumes=True,
    language_key="language_hint",
    terms_key="keyterms",
)


def request(dialect: Dialect, event_id: str, words: str | None, *, again: bool) -> wire.ToService:
    """Ask for a response: to the conversation, or one that says `words` as they stand, where the service can.

    `again`: the last one had no voice.
    """
    if words is not None and dialect.forces_message:
        said = {"type": "output_text", "text": words}
        forced = {"type": "force_message", "role": "assistant", "interruptible": True, "content": [said]}
        return wire.ItemCreate(event_id, forced)
    response: dict[str, object] = {"output_modalities": ["audio"]} if again else {}
    if words is not None:
        wish = f"Say exactly the following to the caller, word for word, and nothing else:\n\n{words}"
        response |= {"instructions": wish, "tool_choice": "none", "input": []}
    return wire.ResponseCreate(event_id, response or None)


def fault(cause: Cause, dialect: Dialect) -> AgentFault | None:
    """What an `error` means to a call; None for one that changes nothing."""
    code, kind, said = shown(cause.code), shown(cause.type), shown(cause.message, _LOOKED_AT)
    if code in _HARMLESS or any(words in said for words in _HARMLESS_WORDS):
        return None
    message = f"{dialect.name} reports an error: {describe(cause)}"
    if (name := next((name for name in (code, kind) if name in _FATAL), None)) is not None:
        return AgentFault(_with_hint(message, name, dialect), SessionEndKind.REFUSED)
    if code in _EXPIRED or kind in _EXPIRED or _EXPIRED_WORDS in said:
        return AgentFault(message, SessionEndKind.LOST)
    if kind in _BROKEN or code in _BROKEN:
        return AgentFault(message, SessionEndKind.LOST)
    return AgentFault(message)


def is_busy(cause: Cause) -> bool:
    """Whether a response was refused only because another is under way."""
    return _BUSY[0] in (shown(cause.code), shown(cause.type)) or _BUSY[1] in shown(cause.message, _LOOKED_AT)


def is_refused_output(cause: Cause) -> bool:
    """Whether a function's output was refused because the service does not know of the call (yet)."""
    return shown(cause.code) == _REFUSED_OUTPUT[0] or _REFUSED_OUTPUT[1] in shown(cause.message, _LOOKED_AT)


def is_limit(cause: Cause) -> bool:
    """Whether there were too many requests, or tokens, in too short a time."""
    return bool({shown(cause.code), shown(cause.type)} & _LIMITS)


def may_pass(cause: Cause) -> bool:
    """Whether a response that failed like this may well succeed in a moment."""
    names = (shown(cause.code), shown(cause.type))
    return not any(name in _FATAL for name in names)


def describe(cause: Cause) -> str:
    """One line for a person: what the service said, its code and the field that it is about."""
    said = shown(cause.message, _LONGEST_DETAIL)
    name = " ".join(part for part in (shown(cause.code) or shown(cause.type), shown(cause.param)) if part)
    name = name[:_LONGEST_DETAIL]
    return f"{said} ({name})" if said and name else said or name or "no details given"


def setting_of(cause: Cause, dialect: Dialect) -> str:
    """Name the setting behind a field of the session that a service does not take."""
    fields = re.split(r"[.\[\]]+", shown(cause.param))
    name = next((name for field, name in _SETTINGS.items() if field in fields), None)
    if name is None or (dialect.flat and name in _ONLY_OPENAIS):
        return f"the {dialect.prefix}_ settings"
    return name if name in _SERVICE_SETTINGS else f"{dialect.prefix}_{name}"


def closed(code: int, reason: str, dialect: Dialect, *, began: bool) -> SessionEnd:
    """What a close means: by its reason first, ``<type>.<code>``, since 1013 may stand for an empty account.

    No service says good-bye by a close: one that comes in the middle of a session (`began`) is a loss, whatever its
    code. One in place of a session is a refusal, but for those that tell of a network or server in trouble.
    """
    said = f": {shown(reason, _LONGEST_DETAIL)}" if reason else ""
    if code == 1006:
        # No peer can send this code; with a reason it is `socket`'s own, for a ping that was not answered.
        kind = SessionEndKind.DEAD if reason else SessionEndKind.LOST
        return SessionEnd(f"the connection to {dialect.name} broke{said} (1006)", kind)
    cause = f"the session with {dialect.name} was closed with code {code}{said}"
    for name in _FATAL:
        if name in reason:
            return SessionEnd(_with_hint(cause, name, dialect), SessionEndKind.REFUSED)
    if any(name in reason for name in _LIMITS):
        return SessionEnd(cause, SessionEndKind.FULL)
    expired = _EXPIRED_WORDS in reason or any(name in reason for name in _EXPIRED)
    if code in _BROKEN_FRAMES and not expired:
        return SessionEnd(cause, SessionEndKind.PROTOCOL_ERROR)
    lost = began or expired or code in _TRANSIENT
    return SessionEnd(cause, SessionEndKind.LOST if lost else SessionEndKind.REFUSED)


def _with_hint(message: str, name: str, dialect: Dialect) -> str:
    hint = _FATAL[name].format(prefix=dialect.prefix, current=dialect.current)
    return f"{message}; {hint}" if hint else message
