"""The environment variables of the service itself: its door, its capacity, its logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sts_trio.settings import parsers, urls
from sts_trio.settings.variable import setting

if TYPE_CHECKING:
    from sts_trio.settings.secret import Secret


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
        urls.origins,
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
