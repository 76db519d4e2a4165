"""What an operator decided about calls, what of it the agent is told, and the services that a call may use. Pure."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sts_trio.call.meter import Meter
from sts_trio.providers.base import SessionConfig, ToolOffer
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sts_trio.call.meter import Cause
    from sts_trio.providers.base import CallInfo, OpenAgent
    from sts_trio.settings.calls import EmotionRule
    from sts_trio.tools.tool import Tool


_LONGEST_VARIABLE = 256
_LONGEST_NAME = 64
_LONGEST_ID = 128


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """The operator's choices.

    `greeting` is what the agent says first, unless a stored configuration is in force (`has_config`, or one that the
    call brings) that greets by itself (not `greet_with_config`). `variables` are the parameters of the URL that the
    agent may know; `overrides` lets a call bring its own configuration, voice, instructions and greeting.
    """

    greeting: str = ""
    greet_with_config: bool = False
    has_config: bool = False
    variables: tuple[str, ...] = ()
    overrides: bool = False
    declare_tools: bool = True

    def session_config(self, query: Mapping[str, str], tools: tuple[Tool, ...]) -> SessionConfig:
        """Return what the agent is told of a call with this query, and of the tools that it may use."""
        own = self._own(query)
        offers = tuple(ToolOffer(tool.name, tool.description, tool.parameters) for tool in tools)
        return SessionConfig(
            config=own.get("config_id") or None,
            voice=own.get("voice_id") or None,
            instructions=own.get("instructions") or None,
            variables=self._variables(query),
            tools=offers if self.declare_tools else (),
        )

    def greeting_for(self, query: Mapping[str, str]) -> str:
        """Return what the agent says first in a call with this query, or nothing."""
        own = self._own(query)
        if (message := own.get("welcome_message")) is not None:
            return message.strip()
        config_greets = (self.has_config or bool(own.get("config_id"))) and not self.greet_with_config
        return "" if config_greets else self.greeting

    def _variables(self, query: Mapping[str, str]) -> dict[str, str]:
        """Of parameters that make the same name, the first listed that came is the variable."""
        values: dict[str, str] = {}
        for parameter in self.variables:
            if parameter in query:
                values.setdefault(variable_name(parameter), _clean(query[parameter]))
        return values

    def _own(self, query: Mapping[str, str]) -> Mapping[str, str]:
        return query if self.overrides else {}


def variable_name(parameter: str) -> str:
    """Return what stands for a parameter in a prompt's ``{{name}}``: for ``vicidial[leadId]`` it is vicidial_leadId."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", parameter[:_LONGEST_NAME]).strip("_") or "_"


def _clean(value: str) -> str:
    """A value in a prompt is one line: what cannot be printed could be taken for something else."""
    return one_line(value[:_LONGEST_VARIABLE])


def named(call: CallInfo, uuid: object) -> CallInfo:
    """Return what is known of a call that Core calls so; an id that names nothing changes nothing."""
    return replace(call, id=uuid, uuid=uuid) if isinstance(uuid, str) and usable_id(uuid) else call


def usable_id(text: str) -> bool:
    """Whether Core's id of a call can name it: any short text but ``unknown`` can (docs/protocols/core.md 1.6)."""
    return 0 < len(text) <= _LONGEST_ID and text.isprintable() and text != "unknown"


def is_real_uuid(text: str | None) -> bool:
    """Whether call control can find the call by this id: only if it is a UUID (docs/protocols/core.md 5.2)."""
    try:
        return text is not None and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ResumeRules:
    """In seconds: how long a lost session is looked for, when one is renewed, how long the first is looked for."""

    resume_seconds: float = 15.0
    renew_seconds: float = 1740.0
    ready_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class NoInputRules:
    """`seconds` without a word of either side is a step: first the `prompt` is said, then the call ends. 0: never."""

    seconds: float = 0.0
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class CallRules:
    """What an operator decides about calls. Times in seconds; `keypad` is ``input``, ``context`` or ``off``.

    `keys_interrupt`: a key that the agent is to answer stops what it says.

    `fallback` is what the caller hears when the agent's side has failed for good: telephone PCM, whole frames.
    """

    session_policy: SessionPolicy = field(default_factory=SessionPolicy)
    lifeline: ResumeRules = field(default_factory=ResumeRules)
    tools: tuple[Tool, ...] = ()
    tool_grace: float = 3.0
    keypad: str = "input"
    keypad_gap: float = 1.5
    keys_interrupt: bool = True
    silence: NoInputRules = field(default_factory=NoInputRules)
    fallback: bytes = field(default=b"", repr=False)
    answer_seconds: float = 10.0
    emotion_rules: tuple[EmotionRule, ...] = ()
    emotions: bool = True
    init_seconds: float = 10.0
    most_seconds: float = 14_400.0

    def tools_for(self, call: CallInfo) -> tuple[Tool, ...]:
        """Return the tools that can be had in this call: none takes it away that call control cannot find."""
        return tuple(tool for tool in self.tools if is_real_uuid(call.uuid) or not tool.ends_call)


class Prompt(NamedTuple):
    """What the agent is to be, and where that comes from: one of `meter.PROMPT_SOURCES`. None: the provider's own."""

    text: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Services:
    """The way to an agent, and services of the operator's own.

    `instructions` returns the agent's prompt for a call. `webhook` takes a URL, the
    call's id, an event's kind and what it holds. `release` sees to the telephone call with this uuid when ours is over
    for this cause: the line must drop, or go elsewhere, which it answers with true. None stands for a service that is
    not set up. `meter` takes what is measured. None of these raises, and each ends in its own time.
    """

    open_agent: OpenAgent
    instructions: Callable[[CallInfo], Awaitable[Prompt]] | None = None
    webhook: Callable[[str, str, str, Mapping[str, object]], Awaitable[object]] | None = None
    release: Callable[[str, Cause], Awaitable[object]] | None = None
    meter: Meter = field(default_factory=Meter)
