"""Every environment variable: its name, default, check and help. The only reader of the environment.

A `.env` file in the working directory is read as well; the environment beats it. Containers and panels pass variables
that nobody filled in as an empty text, ``undefined`` or ``null``: all three mean unset.
"""

from __future__ import annotations

import hmac
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import decouple

from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIRED = object()
_UNSET = ("", "undefined", "null")
_LONGEST_SHOWN = 60


class Secret:
    """A text that shows as stars in whatever way it is shown; `reveal` gives the text itself."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the secret."""
        return self._text


def _text(value: str) -> str:
    return value


def _secret(value: str) -> Secret:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a key of printable ASCII characters without spaces")
    return Secret(value)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdecimal()) or len(value) > len(str(high)) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number of seconds from {low:g} to {high:g}")
        return number

    return parse


def _switch(value: str) -> bool:
    try:
        return bool(decouple.strtobool(value))
    except ValueError:
        raise ValueError("true or false") from None


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return value.lower()

    return parse


def _websocket_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("ws", "wss") and (parts.hostname or "").encode("idna") and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(not (" " < character < "\x7f") for character in value):
        raise ValueError("a URL such as wss://host/path")
    if parts.username or parts.password or {"api_key", "access_token"} & {name for name, _ in parse_qsl(parts.query)}:
        raise SecretInValueError("a URL without a key in it; the key belongs in HUMEAI_API_KEY")
    return value


class SecretInValueError(ValueError):
    """A value is wrong because it holds a secret; it must not be shown."""


def _setting(
    name: str, default: object, parse: Callable[[str], object], meaning: str, *aliases: str, empty_is_set: bool = False
) -> Any:
    metadata = {
        "name": name,
        "parse": parse,
        "help": meaning,
        "aliases": aliases,
        "empty_is_set": empty_is_set,
    }
    return field(metadata=metadata) if default is REQUIRED else field(metadata=metadata, default=default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose. Times in seconds unless a name says otherwise."""

    api_key: Secret = _setting(
        "HUMEAI_API_KEY", REQUIRED, _secret, "Key of the Hume account; sent as a header, never logged", "HUME_API_KEY"
    )
    ws_url: str = _setting(
        "HUMEAI_WS_URL",
        "wss://api.hume.ai/v0/evi/chat",
        _websocket_url,
        "Where the chat API listens: `ws://` or `wss://`, any host that speaks the EVI protocol",
        "HUMEAI_ENDPOINT",
    )
    config_id: str | None = _setting(
        "HUMEAI_CONFIG_ID",
        None,
        _text,
        "A stored Hume configuration; it overrides instructions and voice",
        "HUME_CONFIG_ID",
    )
    voice_id: str | None = _setting("HUMEAI_VOICE_ID", None, _text, "The agent's voice, without a config")
    instructions: str = _setting(
        "HUMEAI_INSTRUCTIONS", "You are a helpful assistant", _text, "The agent's prompt, without a config"
    )
    welcome_message: str = _setting(
        "HUMEAI_WELCOME_MESSAGE",
        "Hello, how can I help you today?",
        _text,
        "What the agent says first, without a config; set but empty: it says nothing first",
        empty_is_set=True,
    )
    greet_with_config: bool = _setting(
        "HUMEAI_GREET_WITH_CONFIG", False, _switch, "Send the welcome message with a config too (a config may greet)"
    )
    host: str = _setting("HOST", "0.0.0.0", _text, "Address to listen on; `::` for IPv6")
    port: int = _setting("PORT", 6039, _whole(0, 65535), "Port to listen on; 0 takes a free one")
    playout_lead_ms: int = _setting(
        "PLAYOUT_LEAD_MS", 500, _whole(20, 10_000), "How far agent audio may run ahead of what the caller hears"
    )
    emotions: bool = _setting("EMOTIONS", True, _switch, "Put the strongest emotions of a turn into its transcript")
    init_seconds: float = _setting(
        "INIT_SECONDS", 10.0, _seconds(1, 120), "How long a connection may take to say `init`"
    )
    ready_seconds: float = _setting(
        "READY_SECONDS", 10.0, _seconds(1, 120), "How long the provider may take until the agent can talk"
    )
    provider_dead_seconds: float = _setting(
        "PROVIDER_DEAD_SECONDS", 20.0, _seconds(2, 600), "Without an answer to a ping for so long, the provider is gone"
    )
    core_dead_seconds: float = _setting(
        "CORE_DEAD_SECONDS", 30.0, _seconds(2, 600), "Without a byte or a pong for so long, the caller's side is gone"
    )
    max_call_seconds: float = _setting("MAX_CALL_SECONDS", 14_400.0, _seconds(1, 86_400), "The longest a call may last")
    drain_seconds: float = _setting(
        "DRAIN_SECONDS", 600.0, _seconds(0, 86_400), "How long running calls may go on after SIGTERM"
    )
    log_level: str = _setting(
        "LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "The least important line that is logged"
    )
    log_format: str = _setting(
        "LOG_FORMAT", "auto", _one_of("auto", "text", "json"), "`auto`: text on a terminal, JSON otherwise"
    )
    log_transcripts: bool = _setting("LOG_TRANSCRIPTS", False, _switch, "Log what is said in calls")

    @property
    def greeting(self) -> str:
        """What the agent is asked to say first, or nothing: a config greets by itself."""
        return self.welcome_message if self.config_id is None or self.greet_with_config else ""

    def shown(self) -> dict[str, str]:
        """Every setting by its variable's name, fit for a log: secrets starred, long texts and queries cut."""
        shown = {}
        for each in fields(self):
            value = str(getattr(self, each.name))
            if each.name == "ws_url":
                value = value.partition("?")[0]
            shown[each.metadata["name"]] = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
        return shown


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        ConfigError: with a line for each variable that is missing or wrong.
    """
    source = _open_source()
    values: dict[str, Any] = {}
    problems = []
    for each in fields(Settings):
        meta = each.metadata
        name, value = _first_set(source, (meta["name"], *meta["aliases"]), empty_is_set=meta["empty_is_set"])
        if value is None:
            if each.default is MISSING:
                problems.append(f"{name} is not set; it is required: {meta['help']}")
            continue
        try:
            values[each.name] = meta["parse"](value)
        except SecretInValueError as exc:
            problems.append(f"{name} has a value that is not shown here; it must be {exc}")
        except ValueError as exc:
            got = "a value that is not shown here" if meta["parse"] is _secret else repr(value[:_LONGEST_SHOWN])
            problems.append(f"{name} is {got}; it must be {exc}")
    if problems:
        raise ConfigError(problems)
    return Settings(**values)


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
