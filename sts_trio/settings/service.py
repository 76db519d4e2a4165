"""The environment variables of the service itself (door, capacity, logs), and what all providers' tables share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sts_trio.settings import parsers
from sts_trio.settings.variable import Variable, setting, variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from sts_trio.settings.headers import SecretHeaders
    from sts_trio.settings.parsers import Secret


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the operator chose for the process. Times in seconds unless a name says otherwise."""

    title: ClassVar[str] = "Service"

    host: str = setting("HOST", "0.0.0.0", parsers.text, "Address to listen on; `::` for IPv6", forwarded=False)
    port: int = setting("PORT", 6039, parsers.whole(0, 65535), "Port to listen on; 0 takes a free one", forwarded=False)
    sts_token: Secret | None = setting(
        "STS_TOKEN",
        None,
        parsers.access_token,
        "A secret that callers must bring: `?token=...` in Core's `STS_URL`, or a header; unset: everybody may call",
    )
    allowed_origins: tuple[str, ...] = setting(
        "ALLOWED_ORIGINS",
        (),
        parsers.origins,
        "Web pages that may call beside those of our own host, such as `https://panel.example`",
        show=", ".join,
    )
    core_dead_seconds: float = setting(
        "CORE_DEAD_SECONDS",
        30.0,
        parsers.seconds(2, 600),
        "Without a byte or a pong for so long, the caller's side is gone",
    )
    workers: int = setting(
        "WORKERS",
        1,
        parsers.whole(0, 128),
        "How many processes share the calls of the port, each on a core; 0: one for each core there is to use",
    )
    max_calls: int = setting(
        "MAX_CALLS",
        0,
        parsers.whole(0, 100_000),
        "How many calls there may be at once; more are refused (503). 0: no limit",
    )
    shed_lag_ms: int = setting(
        "SHED_LAG_MS",
        100,
        parsers.whole(0, 10_000),
        "When the event loop stays later than this for a second, new calls are refused (503) until it has recovered; "
        "0: never",
    )
    drain_seconds: float = setting(
        "DRAIN_SECONDS", 600.0, parsers.seconds(0, 86_400), "How long running calls may go on after SIGTERM"
    )
    log_level: str = setting(
        "LOG_LEVEL",
        "info",
        parsers.one_of("debug", "info", "warning", "error"),
        "The least important line that is logged",
    )
    log_format: str = setting(
        "LOG_FORMAT", "auto", parsers.one_of("auto", "text", "json"), "`auto`: text on a terminal, JSON otherwise"
    )
    log_transcripts: bool = setting("LOG_TRANSCRIPTS", False, parsers.switch, "Log what is said in calls")


DEFAULT_INSTRUCTIONS = "You are a helpful assistant"  # what the family's documents say (docs/protocols/core.md 7.2)
DEFAULT_WELCOME_MESSAGE = "Hello, how can I help you today?"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """What the operator set up for one provider. Times in seconds.

    A provider's own table derives from this one and says by which variable each field is set. A field that it leaves
    out stands for what the provider does not have: its default holds.

    `name` is the word for `STS_PROVIDER`; in capitals it begins the names of the provider's variables. `title` is the
    name that people know. `ignored` are variables of other connectors for the same provider that are not read, each
    with what to know instead.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    ignored: ClassVar[Mapping[str, str]] = {}

    api_key: Secret | None = None
    url: str = ""  # where the provider listens
    config_id: str | None = None  # a configuration stored at the provider that holds prompt and voice
    instructions: str | None = field(default=None, repr=False)
    url_instructions: str | None = field(default=None, repr=False)
    file_instructions: str | None = None
    welcome_message: str = DEFAULT_WELCOME_MESSAGE
    greet_with_config: bool = False
    ca_file: str | None = None
    max_session_seconds: float = 86_400.0
    headers: SecretHeaders | None = None  # of the operator's own, for a gateway on the way

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to be let in by."""
        return self.api_key is not None

    @property
    def own_headers(self) -> dict[str, str]:
        """`headers`, as they are sent."""
        return self.headers.reveal() if self.headers else {}

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return self.name.upper()

    def problem(self) -> str | None:
        """Say what is wrong though each value by itself is right. One line, or None."""
        return None

    def warnings(self, today: date) -> list[str]:  # noqa: ARG002  # for tables that override it
        """Say what works today and will not for long, or does nothing. One line each."""
        return []


def provider_variable(tables: Sequence[type[ProviderSettings]]) -> Variable:
    """Describe the variable that chooses one of these providers."""
    names = [table.name for table in tables]
    first = variables(tables[0])["api_key"].name
    meaning = (
        f"Who the agent is: {', '.join(f'`{name}`' for name in names)}; only that provider's settings count. "
        f"Unset: the one whose key is set ({first} goes before others)"
    )
    return Variable("STS_PROVIDER", None, parsers.one_of(*names), meaning)
