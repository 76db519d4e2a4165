"""The environment variables that say how a call goes, whoever the agent is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sts_trio.settings import parsers, urls
from sts_trio.settings.emotion_rules import EmotionRule, emotion_rules
from sts_trio.settings.variable import setting

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
        urls.base_url,
        "The AMI service, such as `http://dsai-ami:6006`; unset: the agent cannot transfer or hang up",
        show=urls.shown_url,
        example=(
            "(compose sets this address when the variable is not set at all; set but empty turns call control off)",
        ),
        forwarded=False,
    )
    call_control_grace_ms: int = setting(
        "CALL_CONTROL_GRACE_MS",
        3000,
        parsers.whole(0, 30_000),
        "How long a transfer or hang-up waits at most until the caller has heard the agent out",
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
