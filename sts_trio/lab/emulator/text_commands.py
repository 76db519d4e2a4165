"""What a text that is typed for the caller asks of the agent: a tool, the end of the chat, or just an answer.

``call TOOL {json}`` asks for a tool that was declared. "goodbye" hangs up by the server's own tool, if that was. A line
that says which key was pressed works call control, so that it can be tried without a provider: 0 transfers, 9 hangs up,
if those tools were declared. All other keys, and all other text, are answered in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from sts_trio.lab.emulator.evi.settings import SessionSettings, Tool

CALL_TOOL = re.compile(r"call\s+(\S+)\s*(\{.*\})?\s*", re.DOTALL)
# "(The caller pressed 1 2 on the telephone keypad.)", and whatever else is close to it. In capitals: "a" is a word.
KEYS = re.compile(r"\bpressed[\s:]+((?:[0-9A-D*#][\s,]*)+)(?!\w).*\bkeypad\b", re.DOTALL)
LONGEST_LINE = 500  # looked at for keys: the search takes quadratic time
# What is said, the tool and its arguments.
BY_KEY = {
    "0": ("I put you through.", "dsai_transfer", '{"transfer_extension":"2000"}'),
    "9": ("Thank you for calling. Goodbye.", "dsai_hangup", "{}"),
}


@dataclass(frozen=True, slots=True)
class WantsTool:
    """Call `tool` with `arguments` (JSON text), after saying `first`, if anything."""

    tool: Tool
    arguments: str
    first: str = ""


@dataclass(frozen=True, slots=True)
class WantsEnd:
    """Say good-bye and hang up."""


@dataclass(frozen=True, slots=True)
class WantsAnswer:
    """Say `text`."""

    text: str


def understand(text: str, settings: SessionSettings) -> WantsTool | WantsEnd | WantsAnswer:
    """Find out what `text` asks for, with the settings in force."""
    if (match := CALL_TOOL.fullmatch(text)) and (tool := settings.offers(match[1])):
        return WantsTool(tool, _json_or_empty(match[2]))
    if "goodbye" in text.lower() and settings.has_builtin("hang_up"):
        return WantsEnd()
    if (keys := pressed(text)) is None:
        return WantsAnswer("How can I help you?")
    if keys in BY_KEY:
        first, name, arguments = BY_KEY[keys]
        if tool := settings.offers(name):
            return WantsTool(tool, arguments, first)
    return WantsAnswer(f"You said: {text}")


def pressed(text: str) -> str | None:
    """Return the keys that a line says were pressed, without the spaces; None for another text."""
    match = KEYS.search(text[:LONGEST_LINE])
    return re.sub(r"[\s,]", "", match[1]) if match else None


def _json_or_empty(text: str | None) -> str:
    try:
        msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return "{}"
    return text or "{}"
