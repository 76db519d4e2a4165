"""Hume EVI as a provider: its environment variables, and how it is opened with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sts_trio.settings import headers as header_parsers
from sts_trio.settings import parsers
from sts_trio.settings.service import DEFAULT_INSTRUCTIONS, DEFAULT_WELCOME_MESSAGE, ProviderSettings
from sts_trio.settings.variable import REQUIRED, setting

if TYPE_CHECKING:
    from sts_trio.providers.dial import AgentProvider, Dial
    from sts_trio.providers.socket import SocketTimes
    from sts_trio.settings.headers import SecretHeaders
    from sts_trio.settings.parsers import Secret

_HUME, _ENDED = "api.hume.ai", date(2026, 11, 13)  # as Hume announced it (docs/protocols/evi.md 0)
SPOKEN_RATES = (24_000, 48_000)  # Hz of the agent's voice: seen, and documented (docs/protocols/evi.md 4.2)
# The emotions that EVI scores in the caller's voice (docs/protocols/evi.md 8), spelled as in its messages, spaces and
# brackets included.
EMOTIONS = frozenset({
    "Admiration", "Adoration", "Aesthetic Appreciation", "Amusement", "Anger", "Anxiety", "Awe", "Awkwardness",
    "Boredom", "Calmness", "Concentration", "Confusion", "Contemplation", "Contempt", "Contentment", "Craving",
    "Desire", "Determination", "Disappointment", "Disgust", "Distress", "Doubt", "Ecstasy", "Embarrassment",
    "Empathic Pain", "Entrancement", "Envy", "Excitement", "Fear", "Guilt", "Horror", "Interest",
    "Joy", "Love", "Nostalgia", "Pain", "Pride", "Realization", "Relief", "Romance",
    "Sadness", "Satisfaction", "Shame", "Surprise (negative)", "Surprise (positive)", "Sympathy", "Tiredness",
    "Triumph",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HumeSettings(ProviderSettings):
    """What the operator chose for Hume; times in seconds."""

    name = "humeai"
    title = "Hume EVI"

    api_key: Secret | None = setting(
        "HUMEAI_API_KEY",
        REQUIRED,
        parsers.secret,
        "Key of the Hume account; sent as a header, never logged",
        "HUME_API_KEY",
    )
    url: str = setting(
        "HUMEAI_WS_URL",
        "wss://api.hume.ai/v0/evi/chat",
        parsers.websocket_url,
        "Where the chat API listens: the whole URL, of any host that speaks the EVI protocol",
        "HUMEAI_ENDPOINT",
        show=parsers.shown_url,
    )
    headers: SecretHeaders | None = setting(
        "HUMEAI_HEADERS",
        None,
        header_parsers.headers,
        'More headers, for a gateway, as JSON: `{"X-Tenant": "..."}`; their values are never logged',
    )
    config_id: str | None = setting(
        "HUMEAI_CONFIG_ID",
        None,
        parsers.text,
        "A stored Hume configuration; it overrides instructions and voice",
        "HUME_CONFIG_ID",
    )
    voice_id: str | None = setting("HUMEAI_VOICE_ID", None, parsers.text, "The agent's voice, without a config")
    instructions: str | None = setting(
        "HUMEAI_INSTRUCTIONS",
        None,
        parsers.text,
        f"The agent's prompt, without a config; unset: the URL's, else the file's, else `{DEFAULT_INSTRUCTIONS}`",
    )
    url_instructions: str | None = setting(
        "HUMEAI_URL_INSTRUCTIONS",
        None,
        parsers.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=parsers.shown_url,
    )
    file_instructions: str | None = setting(
        "HUMEAI_FILE_INSTRUCTIONS",
        None,
        parsers.text,
        "A text file with the prompt, read for each call",
        forwarded=False,  # compose has PROMPT_FILE for it
    )
    welcome_message: str = setting(
        "HUMEAI_WELCOME_MESSAGE",
        DEFAULT_WELCOME_MESSAGE,
        parsers.text,
        "What the agent says first, without a config; set but empty: it says nothing first",
        empty_is_set=True,
    )
    greet_with_config: bool = setting(
        "HUMEAI_GREET_WITH_CONFIG",
        False,
        parsers.switch,
        "Send the welcome message with a config too (a config may greet)",
    )
    ca_file: str | None = setting(
        "HUMEAI_CA_FILE",
        None,
        parsers.text,
        "Certificates (PEM) to trust beside the system's, for a provider of your own",
    )
    max_session_seconds: float = setting(
        "HUMEAI_MAX_SESSION_SECONDS",
        1740.0,
        parsers.seconds(30, 86_400),
        "How old a chat may get; then, in a quiet moment, another takes over. EVI ends one after 1800",
    )

    def warnings(self, today: date) -> list[str]:
        """See `ProviderSettings.warnings`: Hume's own service has an end."""
        if urlsplit(self.url).hostname != _HUME or today < _ENDED:
            return []
        return [
            "HUMEAI_WS_URL is Hume's own, whose end it announced for 13 November 2026: set it to a server that speaks "
            "its protocol, or STS_PROVIDER to another provider"
        ]


def open_hume(settings: HumeSettings, key: str, dial: Dial, times: SocketTimes) -> AgentProvider:
    """Build the way to EVI. The link is imported here: who only reads settings does not wait for it."""
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.hume.link import HumeProvider

    return HumeProvider(
        endpoint=Endpoint.from_url(settings.url),
        api_key=key,
        dial=dial,
        config_id=settings.config_id,
        voice_id=settings.voice_id,
        instructions=DEFAULT_INSTRUCTIONS,
        times=times,
        headers=settings.own_headers,
    )
