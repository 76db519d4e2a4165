"""Every environment variable: its name, default, check and help. The only reader of the environment.

A `.env` file in the working directory is read as well; the environment beats it. Containers and panels pass variables
that nobody filled in as an empty text, ``undefined`` or ``null``: all three mean unset.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import decouple

from sts_trio import values
from sts_trio.errors import ConfigError
from sts_trio.realtime_settings import RealtimeSettings
from sts_trio.setting import PROVIDERS, REQUIRED, setting
from sts_trio.values import Secret

__all__ = ["DEFAULT_INSTRUCTIONS", "DEFAULT_TOOLS_DIR", "Secret", "Settings", "load_settings"]

DEFAULT_INSTRUCTIONS = "You are a helpful assistant"  # what the family's documents say (contract 7.2)
DEFAULT_TOOLS_DIR = "tools"

_UNSET = ("", "undefined", "null")
_LONGEST_SHOWN = 60


def _count(rules: tuple[values.EmotionRule, ...]) -> str:
    return str(len(rules))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAccount:
    """What the operator set up for the chosen provider. `prefix` is that of its variables."""

    prefix: str
    api_key: Secret | None
    instructions: str | None = field(repr=False)
    url_instructions: str | None = field(repr=False)
    file_instructions: str | None
    welcome_message: str
    ca_file: str | None
    max_session_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RealtimeSettings):
    """What the operator chose. Times in seconds unless a name says otherwise."""

    api_key: Secret | None = setting(
        "HUMEAI_API_KEY",
        REQUIRED,
        values.secret,
        "Key of the Hume account; sent as a header, never logged",
        "HUME_API_KEY",
    )
    ws_url: str = setting(
        "HUMEAI_WS_URL",
        "wss://api.hume.ai/v0/evi/chat",
        values.websocket_url,
        "Where the chat API listens: `ws://` or `wss://`, any host that speaks the EVI protocol",
        "HUMEAI_ENDPOINT",
        show=values.shown_url,
    )
    config_id: str | None = setting(
        "HUMEAI_CONFIG_ID",
        None,
        values.text,
        "A stored Hume configuration; it overrides instructions and voice",
        "HUME_CONFIG_ID",
    )
    voice_id: str | None = setting("HUMEAI_VOICE_ID", None, values.text, "The agent's voice, without a config")
    instructions: str | None = setting(
        "HUMEAI_INSTRUCTIONS",
        None,
        values.text,
        f"The agent's prompt, without a config; unset: the URL's, else the file's, else `{DEFAULT_INSTRUCTIONS}`",
    )
    url_instructions: str | None = setting(
        "HUMEAI_URL_INSTRUCTIONS",
        None,
        values.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=values.shown_url,
    )
    file_instructions: str | None = setting(
        "HUMEAI_FILE_INSTRUCTIONS", None, values.text, "A text file with the prompt, read for each call"
    )
    instructions_seconds: float = setting(
        "INSTRUCTIONS_SECONDS", 3.0, values.seconds(0.1, 30), "How long a call may look for its prompt at URL and file"
    )
    ca_file: str | None = setting(
        "HUMEAI_CA_FILE",
        None,
        values.text,
        "Certificates (PEM) to trust beside the system's, for a provider of your own",
    )
    max_session_seconds: float = setting(
        "HUMEAI_MAX_SESSION_SECONDS",
        1740.0,
        values.seconds(30, 86_400),
        "How old a chat may get; then, in a quiet moment, another takes over. EVI ends one after 1800",
    )
    resume_seconds: float = setting(
        "RESUME_SECONDS", 15.0, values.seconds(1, 120), "How long a call whose chat broke may look for another"
    )
    breaker_failures: int = setting(
        "BREAKER_FAILURES",
        5,
        values.whole(0, 1000),
        "After so many refused calls in a row new calls are told so at once; 0: never",
    )
    breaker_seconds: float = setting(
        "BREAKER_SECONDS", 10.0, values.seconds(1, 3600), "How long, until one call may try the provider again"
    )
    fallback_wav: str | None = setting(
        "FALLBACK_WAV",
        None,
        values.text,
        "What the caller hears when the agent has failed: a WAV file (30 s at most), or `tone`, the congestion tone",
    )
    fallback_extension: str | None = setting(
        "FALLBACK_EXTENSION",
        None,
        values.text,
        "Where `AMI_URL` then transfers the caller; if it fails, or is unset beside a `FALLBACK_WAV`, he is hung up on",
    )
    welcome_message: str = setting(
        "HUMEAI_WELCOME_MESSAGE",
        "Hello, how can I help you today?",
        values.text,
        "What the agent says first, without a config; set but empty: it says nothing first",
        empty_is_set=True,
    )
    greet_with_config: bool = setting(
        "HUMEAI_GREET_WITH_CONFIG",
        False,
        values.switch,
        "Send the welcome message with a config too (a config may greet)",
    )
    call_variables: tuple[str, ...] = setting(
        "CALL_VARIABLES",
        (),
        values.names,
        "Parameters of Core's URL that the provider gets as variables of the prompt, such as `from,to`",
        show=", ".join,
    )
    allow_call_overrides: bool = setting(
        "ALLOW_CALL_OVERRIDES",
        False,
        values.switch,
        "Let `config_id`, `voice_id`, `instructions`, `welcome_message` in Core's URL replace ours for that call",
    )
    host: str = setting("HOST", "0.0.0.0", values.text, "Address to listen on; `::` for IPv6")
    port: int = setting("PORT", 6039, values.whole(0, 65535), "Port to listen on; 0 takes a free one")
    sts_token: Secret | None = setting(
        "STS_TOKEN",
        None,
        values.access_token,
        "A secret that callers must bring: `?token=...` in Core's `STS_URL`, or a header; unset: everybody may call",
    )
    allowed_origins: tuple[str, ...] = setting(
        "ALLOWED_ORIGINS",
        (),
        values.origins,
        "Web pages that may call beside those of our own host, such as `https://panel.example`",
        show=", ".join,
    )
    playout_lead_ms: int = setting(
        "PLAYOUT_LEAD_MS", 500, values.whole(20, 10_000), "How far agent audio may run ahead of what the caller hears"
    )
    ami_url: str | None = setting(
        "AMI_URL",
        None,
        values.base_url,
        "The AMI service, such as `http://dsai-ami:6006`; unset: the agent cannot transfer or hang up",
        show=values.shown_url,
    )
    call_control_grace_ms: int = setting(
        "CALL_CONTROL_GRACE_MS",
        3000,
        values.whole(0, 30_000),
        "How long a transfer or hang-up waits at most until the caller has heard the agent out",
    )
    tools_dir: str = setting(
        "TOOLS_DIR", DEFAULT_TOOLS_DIR, values.text, "The directory of your own tools, one Python file each"
    )
    tool_seconds: float = setting(
        "TOOL_SECONDS", 8.0, values.seconds(0.1, 60), "How long a tool may take; then the agent is told that it failed"
    )
    declare_tools: bool = setting(
        "DECLARE_TOOLS",
        True,
        values.switch,
        "Tell the provider of the tools; `false` if its config declares them itself",
    )
    dtmf_mode: str = setting(
        "DTMF_MODE",
        "input",
        values.one_of("input", "context", "off"),
        "Keys that the caller presses: the agent answers them (`input`), knows them when it next speaks (`context`), "
        "or never hears of them (`off`)",
    )
    dtmf_gap_ms: int = setting(
        "DTMF_GAP_MS", 1500, values.whole(100, 10_000), "Without a key for so long, the keys so far go to the agent"
    )
    emotions: bool = setting(
        "EMOTIONS", True, values.switch, "Put the strongest emotions of a turn into its transcript"
    )
    emotion_rules: tuple[values.EmotionRule, ...] = setting(
        "EMOTION_RULES",
        (),
        values.emotion_rules,
        "What to do when an emotion stays strong: a JSON list of rules, each calls a tool or a webhook, once a call",
        show=_count,
    )
    init_seconds: float = setting(
        "INIT_SECONDS", 10.0, values.seconds(1, 120), "How long a connection may take to say `init`"
    )
    ready_seconds: float = setting(
        "READY_SECONDS", 10.0, values.seconds(1, 120), "How long the provider may take until the agent can talk"
    )
    provider_dead_seconds: float = setting(
        "PROVIDER_DEAD_SECONDS",
        20.0,
        values.seconds(2, 600),
        "Without an answer to a ping for so long, the provider is gone",
    )
    core_dead_seconds: float = setting(
        "CORE_DEAD_SECONDS",
        30.0,
        values.seconds(2, 600),
        "Without a byte or a pong for so long, the caller's side is gone",
    )
    answer_seconds: float = setting(
        "ANSWER_SECONDS", 10.0, values.seconds(1, 120), "An agent that answers later than this is logged"
    )
    silence_seconds: float = setting(
        "SILENCE_SECONDS",
        0.0,
        values.seconds(0, 3600),
        "So long without a word: the agent says `SILENCE_PROMPT`, and after as long again hangs up; 0: never",
    )
    silence_prompt: str = setting(
        "SILENCE_PROMPT",
        "Are you still there?",
        values.text,
        "What a silent caller is asked; set but empty: nothing",
        empty_is_set=True,
    )
    max_call_seconds: float = setting(
        "MAX_CALL_SECONDS", 14_400.0, values.seconds(1, 86_400), "The longest a call may last"
    )
    workers: int = setting(
        "WORKERS",
        1,
        values.whole(0, 128),
        "How many processes share the calls of the port, each on a core; 0: one for each core there is to use",
    )
    max_calls: int = setting(
        "MAX_CALLS",
        0,
        values.whole(0, 100_000),
        "How many calls there may be at once; more are refused (503). 0: no limit",
    )
    shed_lag_ms: int = setting(
        "SHED_LAG_MS",
        100,
        values.whole(0, 10_000),
        "When the event loop stays later than this for a second, new calls are refused (503) until it has recovered; "
        "0: never",
    )
    drain_seconds: float = setting(
        "DRAIN_SECONDS", 600.0, values.seconds(0, 86_400), "How long running calls may go on after SIGTERM"
    )
    log_level: str = setting(
        "LOG_LEVEL",
        "info",
        values.one_of("debug", "info", "warning", "error"),
        "The least important line that is logged",
    )
    log_format: str = setting(
        "LOG_FORMAT", "auto", values.one_of("auto", "text", "json"), "`auto`: text on a terminal, JSON otherwise"
    )
    log_transcripts: bool = setting("LOG_TRANSCRIPTS", False, values.switch, "Log what is said in calls")

    @property
    def account(self) -> AgentAccount:
        """What was set up for the chosen provider."""
        family = "" if self.provider == "humeai" else f"{self.provider}_"
        own = {each.name: getattr(self, family + each.name) for each in fields(AgentAccount) if each.name != "prefix"}
        return AgentAccount(prefix=self.provider.upper(), **own)

    @property
    def stored_config(self) -> str | None:
        """The configuration at the provider that holds prompt and voice; only Hume has such."""
        return self.config_id if self.provider == "humeai" else None

    def shown(self) -> dict[str, str]:
        """Every setting by its variable's name, fit for a log.

        Secrets are starred, long texts cut; URLs come without user, password and query, rules as their number.
        """
        shown = {}
        for each in fields(self):
            value = getattr(self, each.name)
            words = str(None) if value is None else each.metadata["show"](value)
            shown[each.metadata["name"]] = words if len(words) <= _LONGEST_SHOWN else words[:_LONGEST_SHOWN] + "…"
        return shown

    def secrets(self) -> list[str]:
        """Every text that no log may have, whatever quotes it: keys, and the secret parts of URLs."""
        keys = [value.reveal() for each in fields(self) if isinstance(value := getattr(self, each.name), Secret)]
        shown_in_part = [each for each in fields(self) if each.metadata["show"] is values.shown_url]
        urls = [*(getattr(self, each.name) for each in shown_in_part), *(rule.webhook for rule in self.emotion_rules)]
        return keys + [text for url in urls if url for text in values.url_secrets(url)]


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        ConfigError: with a line for each variable that is missing or wrong.
    """
    source = _open_source()
    chosen: dict[str, Any] = {}
    problems: list[str] = []
    provider = _first_set(source, ("STS_PROVIDER",), empty_is_set=False)[1] or PROVIDERS[0]
    for each in fields(Settings):
        meta = each.metadata
        others = meta["provider"] not in ("", provider.lower())
        name, value = _first_set(source, (meta["name"], *meta["aliases"]), empty_is_set=meta["empty_is_set"])
        if value is None:
            if meta["required"] and not others:
                problems.append(f"{name} is not set; it is required: {meta['help']}")
            continue
        problem = ""
        try:
            chosen[each.name] = meta["parse"](value)
        except values.HiddenValueError as exc:
            problem = f"{name} has a value that is not shown here; it must be {exc}"
        except ValueError as exc:
            problem = f"{name} is {value[:_LONGEST_SHOWN]!r}; it must be {exc}"
        if problem and not others:  # what belongs to a provider that is not in use may be wrong
            problems.append(problem)
    if problems:
        raise ConfigError(problems)
    settings = Settings(**chosen)
    if (unknown := settings.unknown_model()) is not None:
        raise ConfigError([unknown])
    return settings


def _open_source() -> decouple.Config:
    file = Path(".env")
    try:
        if not file.is_file():
            return decouple.Config(decouple.RepositoryEmpty())
        return decouple.Config(decouple.RepositoryEnv(str(file), encoding="utf-8-sig"))  # some editors add a mark
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError([f"the file .env cannot be read: {exc}"]) from exc


def _first_set(source: decouple.Config, names: tuple[str, ...], *, empty_is_set: bool) -> tuple[str, str | None]:
    for name in names:
        value = source(name, default=None)
        if value is None:
            continue
        value = value.strip()
        if value.lower() not in _UNSET or (value == "" and empty_is_set):
            return name, value
    return names[0], None
