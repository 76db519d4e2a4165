"""What the agent is told of one call, out of what Core's URL says of it and what the operator lets through. Pure."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sts_trio.providers.base import SessionConfig, ToolOffer
from sts_trio.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.providers.base import CallInfo
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
