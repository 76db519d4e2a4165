"""The provider that the settings choose, ready to open sessions."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Protocol, cast

from sts_trio.errors import ConfigError
from sts_trio.providers.dial import Endpoint, TcpDial
from sts_trio.providers.hume.link import HumeProvider
from sts_trio.providers.hume.wire import SPOKEN_RATES
from sts_trio.providers.openai.dialect import OPENAI, XAI
from sts_trio.providers.openai.link import RealtimeProvider
from sts_trio.providers.openai.opening import Options, TurnDetection
from sts_trio.providers.socket import SocketTimes
from sts_trio.settings.agent import DEFAULT_INSTRUCTIONS

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sts_trio.providers.base import AgentLink, CallInfo
    from sts_trio.providers.dial import Dial
    from sts_trio.providers.openai.audio import Format
    from sts_trio.settings import Settings

_OFF = "off"


class Provider(Protocol):
    """An `OpenAgent` that says where it calls."""

    @property
    def endpoint(self) -> Endpoint: ...

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[AgentLink]: ...


def open_provider(settings: Settings, dial: Dial | None = None) -> Provider:
    """Build the way to the agent. `dial` replaces TCP in tests.

    Raises:
        ConfigError: there is no key, or the file of certificates cannot be used.
    """
    account = settings.account
    if account.api_key is None:
        raise ConfigError([f"{account.prefix}_API_KEY is not set; it is required"])
    key, reach = account.api_key.reveal(), dial or TcpDial(trust(settings))
    times = SocketTimes(open=settings.ready_seconds, dead=settings.provider_dead_seconds)
    if settings.provider == "humeai":
        return HumeProvider(
            endpoint=Endpoint.from_url(settings.ws_url),
            api_key=key,
            dial=reach,
            config_id=settings.config_id,
            voice_id=settings.voice_id,
            instructions=DEFAULT_INSTRUCTIONS,
            times=times,
        )
    openai = settings.provider == "openai"
    url = settings.openai_base_url if openai else settings.xai_base_url
    # Clients of these services are given HTTP URLs.
    endpoint = Endpoint.from_url(f"ws{url[4:]}" if url.lower().startswith("http") else url)
    return RealtimeProvider(endpoint, key, reach, _openai(settings) if openai else _xai(settings), times)


def spoken_rates(settings: Settings) -> tuple[int, ...]:
    """In which rates, in Hz, the agent's voice may come; the telephone's own needs no preparation."""
    return SPOKEN_RATES if settings.provider == "humeai" else (24_000,)


def trust(settings: Settings) -> ssl.SSLContext:
    """Whom to believe in TLS: the system's authorities, and the operator's own.

    Raises:
        ConfigError: the provider's `_CA_FILE` cannot be used.
    """
    context = ssl.create_default_context()
    if file := settings.account.ca_file:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError([f"{settings.account.prefix}_CA_FILE is {file}, which cannot be used: {exc}"]) from exc
    return context


def _openai(settings: Settings) -> Options:
    return Options(
        dialect=OPENAI,
        model=settings.openai_model,
        voice=settings.openai_voice,
        instructions=DEFAULT_INSTRUCTIONS,
        format=cast("Format", settings.openai_audio_format),
        turns=TurnDetection(
            kind=settings.openai_turn_detection,
            threshold=settings.openai_turn_detection_threshold,
            silence_ms=settings.openai_turn_detection_silence_ms,
            padding_ms=settings.openai_turn_detection_prefix_padding_ms,
            eagerness=settings.openai_turn_detection_eagerness,
        ),
        transcription=_unless_off(settings.openai_transcription_model),
        language=settings.openai_language,
        noise=_unless_off(settings.openai_noise_reduction),
        effort=settings.openai_reasoning_effort,
        most_tokens=settings.openai_max_tokens,
    )


def _xai(settings: Settings) -> Options:
    return Options(
        dialect=XAI,
        model=settings.xai_model,
        voice=settings.xai_voice,
        instructions=DEFAULT_INSTRUCTIONS,
        format="pcm",
        rate=8000,  # the telephone's own: straight through, bit exact
        turns=TurnDetection(
            kind=settings.xai_turn_detection,
            threshold=settings.xai_turn_detection_threshold,
            silence_ms=settings.xai_turn_detection_silence_ms,
            padding_ms=settings.xai_turn_detection_prefix_padding_ms,
        ),
        transcription=_unless_off(settings.xai_transcription_model),
        language=settings.xai_language,
    )


def _unless_off(value: str) -> str | None:
    return None if value.lower() == _OFF else value
