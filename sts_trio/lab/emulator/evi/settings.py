"""Session settings, the same shape both ways: what a client asks for, what is in force, what the echo shows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
_NAME = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class AudioFormat(msgspec.Struct, frozen=True):
    """The caller's raw audio: signed 16 bit little-endian PCM, `sample_rate` in Hz."""

    encoding: Literal["linear16"]
    sample_rate: Annotated[int, msgspec.Meta(ge=1000, le=192_000)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=8)]


class Context(msgspec.Struct, frozen=True):
    """Text that the agent keeps in mind."""

    text: str
    type: Literal["persistent", "temporary", "editable"] = "temporary"


class Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that the client offers; `parameters` is JSON Schema as text."""

    type: Literal["function", "builtin"]
    name: str
    parameters: str
    description: str | None = None
    fallback_content: str | None = None


class BuiltinTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool of the server's own."""

    name: Literal["web_search", "hang_up"]
    fallback_content: str | None = None


class SessionSettings(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session_settings"
):
    """A partial update from the client, or the settings in force for the echo. What is not set is not sent."""

    audio: AudioFormat | UnsetType | None = UNSET
    builtin_tools: list[BuiltinTool] | UnsetType | None = UNSET
    context: Context | UnsetType | None = UNSET
    custom_session_id: str | UnsetType | None = UNSET
    event_limit: PositiveInt | UnsetType | None = UNSET
    language_model_api_key: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    system_prompt: str | UnsetType | None = UNSET
    tools: list[Tool] | UnsetType | None = UNSET
    variables: dict[str, str | bool | int | float] | UnsetType | None = UNSET
    voice_id: str | UnsetType | None = UNSET

    def updated(self, change: SessionSettings) -> SessionSettings:
        """Return the settings in force after `change`. A null leaves a field alone, but clears the context."""
        fields = {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(change, name)) is not UNSET and (value is not None or name == "context")
        }
        if fields.get("context", UNSET) is None:
            fields["context"] = UNSET
        if "variables" in fields:  # they are kept as strings, whatever they came as
            fields["variables"] = {key: _text(value) for key, value in fields["variables"].items()}
        return msgspec.structs.replace(self, **fields)

    def public(self) -> SessionSettings:
        """Return what the echo may show: no key of anybody's."""
        return msgspec.structs.replace(self, language_model_api_key=UNSET)

    def after_reply(self) -> SessionSettings:
        """Return the settings in force after a reply: a temporary context was for that one only."""
        told = isinstance(self.context, Context) and self.context.type == "temporary"
        return msgspec.structs.replace(self, context=UNSET) if told else self

    def filled(self, text: str) -> str:
        """Return `text` with the variables in place of their ``{{name}}``; a name that is not known stays."""
        known = {} if self.variables is UNSET or self.variables is None else self.variables
        return _NAME.sub(lambda match: str(known.get(match[1], match[0])), text)

    def offers(self, name: str) -> Tool | None:
        """Return the client's tool of this name, if it declared one; the last of several."""
        tools = () if self.tools is UNSET or self.tools is None else self.tools
        return next((tool for tool in reversed(tools) if tool.name == name), None)

    def has_builtin(self, name: str) -> bool:
        """Whether this tool of the server's own may be used."""
        builtin = () if self.builtin_tools is UNSET or self.builtin_tools is None else self.builtin_tools
        return any(tool.name == name for tool in builtin)


def _text(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
