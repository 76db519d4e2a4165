"""The environment variables that say how a call goes, whoever the agent is, and the operator's rules about emotions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec

from sts_trio.settings import parsers
from sts_trio.settings.parsers import HiddenValueError, http_url
from sts_trio.settings.variable import setting

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


DEFAULT_TOOLS_DIR = "tools"


def _count(rules: tuple[EmotionRule, ...]) -> str:
    return str(len(rules))


@dataclass(frozen=True, kw_only=True)
class CallSettings:
    """What the operator decided about calls. Times in seconds unless a name says otherwise."""

    title: ClassVar[str] = "Calls"

    instructions_seconds: float = setting(
        "INSTRUCTIONS_SECONDS", 3.0, parsers.seconds(0.1, 30), "How long a call may look for its prompt at URL and file"
    )
    resume_seconds: float = setting(
        "RESUME_SECONDS", 15.0, parsers.seconds(1, 120), "How long a call whose chat broke may look for another"
    )
    breaker_failures: int = setting(
        "BREAKER_FAILURES",
        5,
        parsers.whole(0, 1000),
        "After so many refused calls in a row new calls are told so at once; 0: never",
    )
    breaker_seconds: float = setting(
        "BREAKER_SECONDS", 10.0, parsers.seconds(1, 3600), "How long, until one call may try the provider again"
    )
    fallback_wav: str | None = setting(
        "FALLBACK_WAV",
        None,
        parsers.text,
        "What the caller hears when the agent has failed: a WAV file (30 s at most), or `tone`, the congestion tone",
    )
    fallback_extension: str | None = setting(
        "FALLBACK_EXTENSION",
        None,
        parsers.text,
        "Where `AMI_URL` then transfers the caller; if it fails, or is unset beside a `FALLBACK_WAV`, the call ends",
    )
    call_variables: tuple[str, ...] = setting(
        "CALL_VARIABLES",
        (),
        parsers.names,
        "Parameters of Core's URL that the provider gets as variables of the prompt, such as `from,to`",
        show=", ".join,
    )
    allow_call_overrides: bool = setting(
        "ALLOW_CALL_OVERRIDES",
        False,
        parsers.switch,
        "Let `config_id`, `voice_id`, `instructions`, `welcome_message` in Core's URL replace ours for that call",
    )
    playout_lead_ms: int = setting(
        "PLAYOUT_LEAD_MS", 500, parsers.whole(20, 10_000), "How far agent audio may run ahead of what the caller hears"
    )
    ami_url: str | None = setting(
        "AMI_URL",
        None,
        parsers.base_url,
        "The AMI service, such as `http://dsai-ami:6006`; unset: the agent cannot transfer or hang up",
        show=parsers.shown_url,
        example=(
            "(compose sets this address when the variable is not set at all; set but empty turns call control off)",
        ),
        forwarded=False,
    )
    call_control_grace_ms: int = setting(
        "CALL_CONTROL_GRACE_MS",
        3000,
        parsers.whole(0, 30_000),
        "How long a transfer or hang-up waits for a good-bye that has not begun; one that has is heard out",
    )
    tools_dir: str = setting(
        "TOOLS_DIR",
        DEFAULT_TOOLS_DIR,
        parsers.text,
        "The directory of your own tools, one Python file each",
        example=("(compose mounts it into the container; there it is always /usr/src/app/tools)",),
        forwarded=False,
    )
    tool_seconds: float = setting(
        "TOOL_SECONDS", 8.0, parsers.seconds(0.1, 60), "How long a tool may take; then the agent is told that it failed"
    )
    declare_tools: bool = setting(
        "DECLARE_TOOLS",
        True,
        parsers.switch,
        "Tell the provider of the tools; `false` if its config declares them itself",
    )
    dtmf_mode: str = setting(
        "DTMF_MODE",
        "input",
        parsers.one_of("input", "context", "off"),
        "Keys that the caller presses: the agent answers them (`input`), knows them when it next speaks (`context`), "
        "or never hears of them (`off`)",
    )
    dtmf_gap_ms: int = setting(
        "DTMF_GAP_MS", 1500, parsers.whole(100, 10_000), "Without a key for so long, the keys so far go to the agent"
    )
    dtmf_interrupts: bool = setting(
        "DTMF_INTERRUPTS",
        True,
        parsers.switch,
        "A key stops the agent, as a word does, and is told at once; only with `DTMF_MODE=input`, where it is answered",
    )
    emotions: bool = setting("EMOTIONS", True, parsers.switch, "Put a turn's strongest emotions into its transcript")
    emotion_rules: tuple[EmotionRule, ...] = setting(
        "EMOTION_RULES",
        (),
        emotion_rules,
        "What to do when an emotion stays strong: a JSON list of rules, each calls a tool or a webhook, once a call",
        show=_count,
        example=(
            '[{"emotion":"Anger","above":0.6,"turns":2,"tool":"dsai_transfer",'
            '"arguments":{"transfer_extension":"2000"}}]',
            '[{"emotion":"Distress","above":0.5,"turns":3,"webhook":"http://crm/alert"}]',
        ),
    )
    init_seconds: float = setting(
        "INIT_SECONDS", 10.0, parsers.seconds(1, 120), "How long a connection may take to say `init`"
    )
    ready_seconds: float = setting(
        "READY_SECONDS", 10.0, parsers.seconds(1, 120), "How long the provider may take until the agent can talk"
    )
    provider_dead_seconds: float = setting(
        "PROVIDER_DEAD_SECONDS",
        20.0,
        parsers.seconds(2, 600),
        "Without an answer to a ping for so long, the provider is gone",
    )
    provider_garbage_seconds: float = setting(
        "PROVIDER_GARBAGE_SECONDS",
        5.0,
        parsers.seconds(1, 60),
        "A provider that says only what nobody understands for so long is broken: another session is opened",
    )
    answer_seconds: float = setting(
        "ANSWER_SECONDS", 10.0, parsers.seconds(1, 120), "An agent that answers later than this is logged"
    )
    silence_seconds: float = setting(
        "SILENCE_SECONDS",
        0.0,
        parsers.seconds(0, 3600),
        "So long without a word: the agent says `SILENCE_PROMPT`, and after as long again hangs up; 0: never",
    )
    silence_prompt: str = setting(
        "SILENCE_PROMPT",
        "Are you still there?",
        parsers.text,
        "What a silent caller is asked; set but empty: nothing",
        empty_is_set=True,
    )
    max_call_seconds: float = setting(
        "MAX_CALL_SECONDS", 14_400.0, parsers.seconds(1, 86_400), "The longest a call may last"
    )
