"""How a chat with EVI is opened: what goes into the URL, and what has to wait for a message. Pure.

The settings in the URL are in force before the chat begins; those in a message may come too late for its greeting
(docs/protocols/evi.md 1.4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from sts_trio.audio.pcm import RATE
from sts_trio.providers.hume.wire import SessionSettings, ToolDeclaration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.providers.base import CallInfo, ToolOffer

_LONGEST_VALUE = 1000  # characters of one value, percent-encoded (docs/protocols/evi.md 1.4)
_LONGEST_TARGET = 4000  # characters of path and query; servers take 8 kB for the request line and the headers together
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")  # a bracket would make a name another parameter


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a chat is opened with. What is None is the config's, or Hume's default."""

    session_id: str
    config_id: str | None = None
    voice_id: str | None = None
    instructions: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: tuple[ToolOffer, ...] = ()
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """`target` is the path and query of the upgrade; `late` is to be sent when the chat is open, before all else."""

    target: str = field(repr=False)
    late: SessionSettings | None = field(repr=False)


def chat_request(
    call: CallInfo, *, config_id: str | None, voice_id: str | None, instructions: str | None
) -> ChatRequest:
    """Put together what `call` brings and the provider's own settings, which it stands above.

    With a config, prompt and voice are the config's: the settings' are not sent, but those that the call itself asks
    for are.
    """
    session_config = call.session_config
    config = session_config.config or config_id
    return ChatRequest(
        session_id=call.id,
        config_id=config,
        voice_id=session_config.voice if session_config.voice is not None or config else voice_id,
        instructions=session_config.instructions if session_config.instructions is not None or config else instructions,
        variables=session_config.variables,
        tools=session_config.tools,
        resume=call.resume if isinstance(call.resume, str) else None,
    )


def plan_opening(request: ChatRequest, path: str) -> Opening:
    """Decide what goes into the URL behind `path` (percent-encoded), and what has to wait for a message.

    The key is in neither. When one variable has to wait, the message holds them all: whether EVI adds to the variables
    in force or replaces them is not documented.
    """
    fixed = {
        "config_id": request.config_id,
        "resumed_chat_group_id": request.resume,
        "session_settings[audio][encoding]": "linear16",
        "session_settings[audio][sample_rate]": str(RATE),
        "session_settings[audio][channels]": "1",
        "session_settings[custom_session_id]": request.session_id,
    }
    pairs = "&".join(_pair(name, value) for name, value in fixed.items() if value)
    target = f"{path}{'&' if '?' in path else '?'}{pairs}"
    late = SessionSettings()
    if voice := request.voice_id:
        if longer := _with(target, "session_settings[voice_id]", voice):
            target = longer
        else:
            late.voice_id = voice
    if prompt := request.instructions:
        if longer := _with(target, "session_settings[system_prompt]", prompt):
            target = longer
        else:
            late.system_prompt = prompt
    for name, value in request.variables.items():
        plain = _PLAIN_NAME.fullmatch(name)
        if plain and (longer := _with(target, f"session_settings[variables][{name}]", value)):
            target = longer
        else:
            late.variables = dict(request.variables)
    if request.tools:
        late.tools = [ToolDeclaration(tool.name, tool.description, tool.parameters) for tool in request.tools]
    return Opening(target, late if late != SessionSettings() else None)


def _with(target: str, name: str, value: str) -> str | None:
    """Return `target` with one parameter more; None where it would be too long."""
    longer = f"{target}&{_pair(name, value)}"
    return longer if len(_encoded(value)) <= _LONGEST_VALUE and len(longer) <= _LONGEST_TARGET else None


def _pair(name: str, value: str) -> str:
    return f"{_encoded(name)}={_encoded(value)}"


def _encoded(text: str) -> str:
    return quote(text, safe="")
