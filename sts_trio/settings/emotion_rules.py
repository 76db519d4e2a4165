"""An operator's rules about emotions: what one says, and the parser of a list of them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from sts_trio.settings.secret import HiddenValueError
from sts_trio.settings.urls import http_url

MOST_RULES = 16
MOST_RULE_TURNS = 20
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class EmotionRule:
    """What an operator wants done when a caller's emotion stays strong.

    It fires when the score of `emotion` is greater than `above` in `turns` user turns in a row. Then either `tool` is
    called with `arguments` (a JSON object, as text), or `webhook`, a URL, is told.
    """

    emotion: str
    above: float
    turns: int = 2
    tool: str | None = None
    arguments: str = field(default="{}", repr=False)
    webhook: str | None = field(default=None, repr=False)


_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as an operator writes it."""

    emotion: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
    above: Annotated[float, msgspec.Meta(ge=0, le=1)]
    turns: Annotated[int, msgspec.Meta(ge=1, le=MOST_RULE_TURNS)] = 2
    tool: str | None = None
    arguments: dict[str, Any] = {}
    webhook: str | None = None

    def __post_init__(self) -> None:
        """Check the name here: a pattern in `Meta` may crash msgspec 0.22 when the process ends (its issue 717)."""
        if self.tool is not None and not _TOOL_NAME.fullmatch(self.tool):
            raise ValueError("not the name of a tool - at `$.tool`")


_RULES = msgspec.json.Decoder(list[msgspec.Raw])
_RULE = msgspec.json.Decoder(_Rule)
_BROKEN = (msgspec.DecodeError, UnicodeError, RecursionError)
_WANTED = {
    "emotion": f"a name of 1 to {LONGEST_NAME} characters",
    "above": "a number from 0 to 1",
    "turns": f"a whole number from 1 to {MOST_RULE_TURNS}",
    "tool": "the name of a tool",
    "arguments": "an object",
    "webhook": "a URL such as http://host/path",
}
_AT = re.compile(rf" - at `\$\.({'|'.join(_WANTED)})")


def emotion_rules(value: str) -> tuple[EmotionRule, ...]:
    """Take a JSON list of `EmotionRule`s, each with either a tool or a webhook. The error says which rule is wrong."""
    try:
        rules = _RULES.decode(value)
    except _BROKEN as exc:
        about = f" ({exc})" if isinstance(exc, msgspec.DecodeError) else ""
        raise HiddenValueError(f"a JSON list of rules{about}") from None
    if len(rules) > MOST_RULES:
        raise HiddenValueError(f"a JSON list of at most {MOST_RULES} rules")
    return tuple(_rule(number, rule) for number, rule in enumerate(rules, start=1))


def _rule(number: int, raw: msgspec.Raw) -> EmotionRule:
    try:
        rule = _RULE.decode(raw)
        emotion = rule.emotion.strip()
        _must(emotion and emotion.isprintable(), f"emotion must be {_WANTED['emotion']}")
        _must((rule.tool is None) != (rule.webhook is None), "it must have either a tool or a webhook")
        _must(rule.tool is not None or not rule.arguments, "arguments go with a tool, not with a webhook")
        _must(rule.webhook is None or _is_http_url(rule.webhook), f"webhook must be {_WANTED['webhook']}")
    except _BROKEN as exc:
        raise HiddenValueError(f"a JSON list of rules; rule {number}: {_words(exc)}") from None
    except ValueError as exc:
        raise HiddenValueError(f"a JSON list of rules; rule {number}: {exc}") from None
    arguments = msgspec.json.encode(rule.arguments).decode()
    return EmotionRule(emotion, rule.above, rule.turns, rule.tool, arguments, rule.webhook)


def _must(holds: object, wanted: str) -> None:
    if not holds:
        raise ValueError(wanted)


def _is_http_url(value: str) -> bool:
    try:
        return bool(http_url(value))
    except ValueError:
        return False


def _words(exc: Exception) -> str:
    """Say what msgspec found, in one line and without a value."""
    said = str(exc)
    if unknown := re.match(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        return f"a rule has no field {unknown[1][:LONGEST_NAME]!r}"
    if missing := re.match(r"Object missing required field `(\w+)`", said):
        return f"it has no {missing[1]}"
    if at := _AT.search(said):
        return f"{at[1]} must be {_WANTED[at[1]]}"
    return "it must be an object"
