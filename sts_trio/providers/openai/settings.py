"""OpenAI and xAI, who speak the Realtime protocol: their environment variables, and how they are opened with them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from sts_trio.providers.openai.dialect import OPENAI, XAI
from sts_trio.providers.openai.gateway import AUTO, BEARER, Access, key_goes_into, names_model
from sts_trio.providers.openai.opening import Options, TurnDetection
from sts_trio.settings import parsers
from sts_trio.settings.service import DEFAULT_INSTRUCTIONS, DEFAULT_WELCOME_MESSAGE, ProviderSettings
from sts_trio.settings.variable import LONGEST_SHOWN, REQUIRED, setting

if TYPE_CHECKING:
    from sts_trio.providers.dial import AgentProvider, Dial
    from sts_trio.providers.openai.audio import Format
    from sts_trio.providers.socket import SocketTimes
    from sts_trio.settings.parsers import Secret, SecretHeaders

SPOKEN_RATES = (24_000,)  # Hz of the agent's voice, where it is PCM; G.711 and PCM at 8000 are the telephone's own
CURRENT_MODEL = OPENAI.current
# The vendor's table of deprecations (docs/protocols/realtime.md 0).
_GONE = ("gpt-4o-realtime", "gpt-4o-mini-realtime")
ENDING_MODELS = dict.fromkeys(
    ("gpt-realtime", "gpt-realtime-2025-08-28", "gpt-realtime-mini", "gpt-realtime-mini-2025-12-15"), "20 January 2027"
)
_OPENAI_URL = "https://api.openai.com/v1"
_OFF = "off"


@dataclass(frozen=True, kw_only=True)
class RealtimeSettings(ProviderSettings):
    """What the tables of these providers have in common."""

    @property
    def access(self) -> Access:
        """How sessions are let in."""
        return Access(headers=self.own_headers)

    @abstractmethod
    def options(self) -> Options:
        """Return the operator's choices as the link takes them."""


@dataclass(frozen=True, kw_only=True)
class OpenAiSettings(RealtimeSettings):
    """What the operator chose for OpenAI. Times in milliseconds where a name says so, else in seconds."""

    name = "openai"
    title = "OpenAI"

    api_key: Secret | None = setting(
        "OPENAI_API_KEY",
        REQUIRED,
        parsers.secret,
        "Key of the OpenAI account; sent as a header, never logged. Not needed with `OPENAI_TOKEN_FILE`",
        unless="OPENAI_TOKEN_FILE",
    )
    url: str = setting(
        "OPENAI_BASE_URL",
        _OPENAI_URL,
        parsers.realtime_url,
        "Where the Realtime API listens. `/realtime` is added where the URL ends in a version, as `/v1`, and names no "
        "model; any other is taken as it stands. Azure: `https://NAME.openai.azure.com/openai/v1`",
        "OPENAI_ENDPOINT",
        show=parsers.shown_url,
    )
    # For Azure, and for gateways on the way (docs/protocols/realtime.md 9.2).
    key_header: str = setting(
        "OPENAI_KEY_HEADER",
        AUTO,
        parsers.key_header,
        "Which header carries the key: `bearer` (`Authorization: Bearer`), or a name such as `api-key` or "
        "`Ocp-Apim-Subscription-Key`; `auto`: `api-key` at hosts of Azure's, else `bearer`",
    )
    token_file: str | None = setting(
        "OPENAI_TOKEN_FILE",
        None,
        parsers.text,
        "A file with a token, such as one of Microsoft Entra's, read anew for each session and sent as bearer. The key "
        "is then sent only if `OPENAI_KEY_HEADER` names its header",
    )
    headers: SecretHeaders | None = setting(
        "OPENAI_HEADERS",
        None,
        parsers.headers,
        'More headers, for a gateway, as JSON: `{"X-Tenant": "..."}`; their values are never logged',
    )
    model: str = setting("OPENAI_MODEL", CURRENT_MODEL, parsers.text, "The model")
    voice: str = setting("OPENAI_VOICE", "marin", parsers.text, "The agent's voice")
    instructions: str | None = setting(
        "OPENAI_INSTRUCTIONS",
        None,
        parsers.text,
        "The agent's prompt; unset: the URL's, the file's, or a short one",
    )
    url_instructions: str | None = setting(
        "OPENAI_URL_INSTRUCTIONS",
        None,
        parsers.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=parsers.shown_url,
    )
    file_instructions: str | None = setting(
        "OPENAI_FILE_INSTRUCTIONS", None, parsers.text, "A text file with the prompt, read for each call"
    )
    welcome_message: str = setting(
        "OPENAI_WELCOME_MESSAGE",
        DEFAULT_WELCOME_MESSAGE,
        parsers.text,
        "What the agent says first (the model is told to say just that); set but empty: it says nothing first",
        empty_is_set=True,
    )
    turn_detection: str = setting(
        "OPENAI_TURN_DETECTION",
        "server_vad",
        parsers.one_of("server_vad", "semantic_vad"),
        "When the caller's turn is over: by silence, or by what was said too",
    )
    turn_detection_threshold: float = setting(
        "OPENAI_TURN_DETECTION_THRESHOLD",
        0.5,
        parsers.fraction(0, 1),
        "How loud is speech (`server_vad`); noisy lines want more",
    )
    turn_detection_silence_ms: int = setting(
        "OPENAI_TURN_DETECTION_SILENCE_MS", 500, parsers.whole(0, 10_000), "How much silence ends a turn (`server_vad`)"
    )
    turn_detection_prefix_padding_ms: int = setting(
        "OPENAI_TURN_DETECTION_PREFIX_PADDING_MS",
        300,
        parsers.whole(0, 5000),
        "How much audio before the first loud sound belongs to a turn (`server_vad`)",
    )
    turn_detection_eagerness: str = setting(
        "OPENAI_TURN_DETECTION_EAGERNESS",
        "auto",
        parsers.one_of("low", "medium", "high", "auto"),
        "How soon the agent answers (`semantic_vad`)",
    )
    transcription_model: str = setting(
        "OPENAI_TRANSCRIPTION_MODEL",
        "gpt-4o-mini-transcribe",
        parsers.text,
        "Who writes the caller's words down; `off`: nobody. This one and `whisper-1` end on 26 February 2027",
    )
    language: str | None = setting(
        "OPENAI_LANGUAGE", None, parsers.language, "The caller's language for that, such as `en`; `auto`: any"
    )
    audio_format: str = setting(
        "OPENAI_AUDIO_FORMAT",
        "pcmu",
        parsers.one_of("pcmu", "pcma", "pcm"),
        "G.711 µ-law or A-law (take your line's own: nothing is resampled, and it is bit exact), or PCM at 24 kHz",
    )
    noise_reduction: str = setting(
        "OPENAI_NOISE_REDUCTION",
        "off",
        parsers.one_of("off", "near_field", "far_field"),
        "Noise reduction of the service's; `far_field` for hands-free callers",
    )
    reasoning_effort: str | None = setting(
        "OPENAI_REASONING_EFFORT",
        None,
        parsers.one_of("minimal", "low", "medium", "high", "xhigh"),
        "Sent only when set: models before `gpt-realtime-2` refuse it",
    )
    max_tokens: int | str = setting(
        "OPENAI_MAX_TOKENS", "inf", parsers.tokens(4096), "The longest answer, in tokens: 1 to 4096, or `inf`"
    )
    ca_file: str | None = setting(
        "OPENAI_CA_FILE",
        None,
        parsers.text,
        "Certificates (PEM) to trust beside the system's, for a service of your own",
    )
    max_session_seconds: float = setting(
        "OPENAI_MAX_SESSION_SECONDS",
        3480.0,
        parsers.seconds(30, 86_400),
        "How old a session may get; then, in a quiet moment, another takes over; sooner if the service says so",
    )

    @property
    def has_credentials(self) -> bool:
        """See `ProviderSettings.has_credentials`."""
        return self.api_key is not None or self.token_file is not None

    @property
    def access(self) -> Access:
        """See `RealtimeSettings.access`."""
        return Access(self.key_header, self.token_file, self.own_headers)

    def problem(self) -> str | None:
        """Say what is wrong with two settings that want the same header, or with the model."""
        return self._clash() or self._no_model()

    def _clash(self) -> str | None:
        if self.token_file is not None and self.key_header == BEARER:
            return "OPENAI_KEY_HEADER is bearer, as which the token of OPENAI_TOKEN_FILE is sent; unset one"
        named = {name.lower() for name in self.own_headers}
        if self.token_file is not None and "authorization" in named:
            return "OPENAI_HEADERS has Authorization, in which the token of OPENAI_TOKEN_FILE is sent; unset one"
        name = key_goes_into(urlsplit(self.url).hostname or "", self.key_header)
        if name.lower() in named and self.token_file is None:
            return f"OPENAI_HEADERS has {name}, in which OPENAI_API_KEY is sent; take it out, or see OPENAI_KEY_HEADER"
        return None

    def _no_model(self) -> str | None:
        """What is wrong with a model that OpenAI's own service no longer has, or never had.

        The service itself would say so only when a call is there. Other services may call their models as they like.
        """
        url = urlsplit(self.url)
        if url.hostname != urlsplit(_OPENAI_URL).hostname or names_model(url.query):
            return None
        model = self.model[:LONGEST_SHOWN]
        if model.startswith(_GONE):
            return f"OPENAI_MODEL is {model!r}, which ended on 7 May 2026; {CURRENT_MODEL} replaces it"
        if model.startswith("gpt-realtime"):
            return None
        return f"OPENAI_MODEL is {model!r}, which is no realtime model of OpenAI's; {CURRENT_MODEL} is"

    def warning(self) -> str | None:
        """Warn of a model whose end has been announced."""
        end = ENDING_MODELS.get(self.model)
        return f"OPENAI_MODEL {self.model} ends on {end}; {CURRENT_MODEL} replaces it" if end else None

    def options(self) -> Options:
        """See `RealtimeSettings.options`."""
        return Options(
            dialect=OPENAI,
            model=self.model,
            voice=self.voice,
            instructions=DEFAULT_INSTRUCTIONS,
            format=cast("Format", self.audio_format),
            turns=TurnDetection(
                kind=self.turn_detection,
                threshold=self.turn_detection_threshold,
                silence_ms=self.turn_detection_silence_ms,
                padding_ms=self.turn_detection_prefix_padding_ms,
                eagerness=self.turn_detection_eagerness,
            ),
            transcription=_unless_off(self.transcription_model),
            language=self.language,
            noise=_unless_off(self.noise_reduction),
            effort=self.reasoning_effort,
            most_tokens=self.max_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class XaiSettings(RealtimeSettings):
    """What the operator chose for xAI. Times in milliseconds where a name says so, else in seconds."""

    name = "xai"
    title = "xAI"

    api_key: Secret | None = setting(
        "XAI_API_KEY", REQUIRED, parsers.secret, "Key of the xAI account; sent as a header, never logged"
    )
    url: str = setting(
        "XAI_BASE_URL",
        "https://api.x.ai/v1",
        parsers.realtime_url,
        "Where Grok Voice listens; what is added to it: as at `OPENAI_BASE_URL`",
        "XAI_ENDPOINT",
        show=parsers.shown_url,
    )
    headers: SecretHeaders | None = setting(
        "XAI_HEADERS", None, parsers.headers, "More headers, for a gateway: as `OPENAI_HEADERS`"
    )
    model: str = setting("XAI_MODEL", XAI.current, parsers.text, "The model")
    voice: str = setting("XAI_VOICE", "eve", parsers.text, "The agent's voice: eve, ara, rex, sal, leo")
    instructions: str | None = setting(
        "XAI_INSTRUCTIONS", None, parsers.text, "The agent's prompt; unset: the URL's, the file's, or a short one"
    )
    url_instructions: str | None = setting(
        "XAI_URL_INSTRUCTIONS",
        None,
        parsers.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=parsers.shown_url,
    )
    file_instructions: str | None = setting(
        "XAI_FILE_INSTRUCTIONS", None, parsers.text, "A text file with the prompt, read for each call"
    )
    welcome_message: str = setting(
        "XAI_WELCOME_MESSAGE",
        DEFAULT_WELCOME_MESSAGE,
        parsers.text,
        "What the agent says first, word for word; set but empty: it says nothing first",
        empty_is_set=True,
    )
    turn_detection: str = setting(
        "XAI_TURN_DETECTION", "server_vad", parsers.one_of("server_vad"), "When the caller's turn is over: by silence"
    )
    turn_detection_threshold: float = setting(
        "XAI_TURN_DETECTION_THRESHOLD", 0.85, parsers.fraction(0.1, 0.9), "How loud is speech"
    )
    turn_detection_silence_ms: int = setting(
        "XAI_TURN_DETECTION_SILENCE_MS", 500, parsers.whole(0, 10_000), "How much silence ends a turn"
    )
    turn_detection_prefix_padding_ms: int = setting(
        "XAI_TURN_DETECTION_PREFIX_PADDING_MS",
        333,
        parsers.whole(0, 5000),
        "How much audio before the first loud sound belongs to a turn",
    )
    transcription_model: str = setting(
        "XAI_TRANSCRIPTION_MODEL", "grok-transcribe", parsers.text, "Who writes the caller's words down; `off`: nobody"
    )
    language: str | None = setting(
        "XAI_LANGUAGE", None, parsers.language, "The caller's language for that, such as `en-GB`; `auto`: any"
    )
    ca_file: str | None = setting(
        "XAI_CA_FILE", None, parsers.text, "Certificates (PEM) to trust beside the system's, for a service of your own"
    )
    max_session_seconds: float = setting(
        "XAI_MAX_SESSION_SECONDS",
        1740.0,
        parsers.seconds(30, 86_400),
        "How old a session may get; then, in a quiet moment, another takes over",
    )

    def options(self) -> Options:
        """See `RealtimeSettings.options`."""
        return Options(
            dialect=XAI,
            model=self.model,
            voice=self.voice,
            instructions=DEFAULT_INSTRUCTIONS,
            format="pcm",
            rate=8000,  # the telephone's own: straight through, bit exact
            turns=TurnDetection(
                kind=self.turn_detection,
                threshold=self.turn_detection_threshold,
                silence_ms=self.turn_detection_silence_ms,
                padding_ms=self.turn_detection_prefix_padding_ms,
            ),
            transcription=_unless_off(self.transcription_model),
            language=self.language,
        )


def open_realtime(settings: RealtimeSettings, key: str, dial: Dial, times: SocketTimes) -> AgentProvider:
    """Build the way to the service. The link is imported here: who only reads settings does not wait for it."""
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.openai.link import RealtimeProvider

    endpoint = Endpoint.from_url(settings.url)
    return RealtimeProvider(endpoint, key, dial, settings.options(), times, settings.access)


def _unless_off(value: str) -> str | None:
    return None if value.lower() == _OFF else value
