"""OpenAI, who made the Realtime protocol: its environment variables. And what the tables of all have who speak it.

xAI's own are in `xai`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, cast
from urllib.parse import urlsplit

from sts_trio.providers.openai.dialect import OPENAI
from sts_trio.providers.openai.gateway import AUTO, Access, clash, names_model
from sts_trio.providers.openai.models import CURRENT, CURRENT_TRANSCRIBER, end_notice, is_gone, is_openai, takes_several
from sts_trio.providers.openai.session import (
    Options,
    Truncation,
    TurnDetection,
    transcription,
    unless_off,
)
from sts_trio.settings import headers as header_parsers
from sts_trio.settings import parsers
from sts_trio.settings.service import DEFAULT_INSTRUCTIONS, DEFAULT_WELCOME_MESSAGE, ProviderSettings
from sts_trio.settings.variable import LONGEST_SHOWN, REQUIRED, setting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from sts_trio.providers.dial import AgentProvider, Dial
    from sts_trio.providers.openai.audio import Format
    from sts_trio.providers.socket import SocketTimes
    from sts_trio.settings.headers import SecretHeaders
    from sts_trio.settings.parsers import Secret

SPOKEN_RATES = (24_000,)  # Hz of the agent's voice, where it is PCM; G.711 and PCM at 8000 are the telephone's own
_OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class RealtimeSettings(ProviderSettings):
    """What the tables of these providers have in common."""

    @property
    def access(self) -> Access:
        """How sessions are let in."""
        return Access(headers=self.own_headers)

    @property
    def safety_key(self) -> str | None:
        """What callers' numbers are hashed with, for a service that wants to tell callers apart; None: not at all."""
        return None

    @abstractmethod
    def options(self) -> Options:
        """Return the operator's choices as the link takes them."""


@dataclass(frozen=True, kw_only=True)
class OpenAiSettings(RealtimeSettings):
    """What the operator chose for OpenAI. Times in milliseconds where a name says so, else in seconds."""

    name = "openai"
    title = "OpenAI"
    ignored: ClassVar[Mapping[str, str]] = {"OPENAI_TEMPERATURE": "the Realtime API has no temperature any more"}

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
        header_parsers.key_header,
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
        header_parsers.headers,
        'More headers, for a gateway, as JSON: `{"X-Tenant": "..."}`; their values are never logged',
    )
    model: str = setting("OPENAI_MODEL", CURRENT, parsers.text, "The model")
    voice: str = setting(
        "OPENAI_VOICE", "marin", parsers.voice, "The agent's voice: a name, or the id of one of your own, `voice_...`"
    )
    speed: float | None = setting(
        "OPENAI_SPEED", None, parsers.fraction(0.25, 1.5), "How fast it speaks, 0.25 to 1.5; unset: 1"
    )
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
        "OPENAI_FILE_INSTRUCTIONS",
        None,
        parsers.text,
        "A text file with the prompt, read for each call",
        forwarded=False,  # compose has PROMPT_FILE for it
    )
    welcome_message: str = setting(
        "OPENAI_WELCOME_MESSAGE",
        DEFAULT_WELCOME_MESSAGE,
        parsers.text,
        "What the agent says first (the model is told to say just that); set but empty: it says nothing first",
        empty_is_set=True,
    )
    greeting_interruptible: bool = setting(
        "OPENAI_GREETING_INTERRUPTIBLE",
        True,
        parsers.switch,
        "`false`: it is heard to its end though callers speak, who are answered after it; a key still stops it",
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
    create_response: bool = setting(
        "OPENAI_CREATE_RESPONSE",
        True,
        parsers.switch,
        "`false`: the agent answers no speech; it speaks when keys or a tool's result ask for it",
    )
    interrupt_response: bool = setting(
        "OPENAI_INTERRUPT_RESPONSE",
        True,
        parsers.switch,
        "`false`: what callers say never stops the agent; it hears of it when it has finished",
    )
    min_interruption_ms: int = setting(
        "OPENAI_MIN_INTERRUPTION_MS",
        0,
        parsers.whole(0, 10_000),
        "How long callers must speak to stop the agent: a cough then does not, and it stops so much later",
    )
    transcription_model: str = setting(
        "OPENAI_TRANSCRIPTION_MODEL",
        CURRENT_TRANSCRIBER,
        parsers.text,
        "Who writes the caller's words down, for Core and for sessions that take over; `off`: nobody, which is cheaper",
    )
    language: tuple[str, ...] = setting(
        "OPENAI_LANGUAGE",
        (),
        parsers.languages,
        "The caller's language for that, such as `en`, or several with commas between them; `auto`: any",
        show=", ".join,
    )
    transcription_keywords: tuple[str, ...] = setting(
        "OPENAI_TRANSCRIPTION_KEYWORDS",
        (),
        parsers.terms,
        "Names and words to expect there, with commas between them (`gpt-transcribe`)",
        show=", ".join,
    )
    transcription_prompt: str | None = setting(
        "OPENAI_TRANSCRIPTION_PROMPT",
        None,
        parsers.text,
        "What it is about, in a sentence; for `whisper-1` a list of words",
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
    context_tokens: int | None = setting(
        "OPENAI_CONTEXT_TOKENS",
        None,
        parsers.whole(1, 128_000),
        "How long a conversation may get that each answer is charged for; unset: as long as the model can take",
    )
    retention_ratio: float | None = setting(
        "OPENAI_RETENTION_RATIO",
        None,
        parsers.fraction(0, 1),
        "How much of a conversation that is too long is kept, 0 to 1: 0.8 uses the cache, which is cheap, more than 1",
    )
    parallel_tool_calls: bool | None = setting(
        "OPENAI_PARALLEL_TOOL_CALLS",
        None,
        parsers.switch,
        "Whether one answer may ask for several tools at once; unset: as the model does, and older ones refuse it",
    )
    safety_secret: Secret | None = setting(
        "OPENAI_SAFETY_SECRET",
        None,
        parsers.access_token,
        "With it OpenAI gets a hash of the number in Core's `from`, and can block one caller in place of the account",
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
        """Say what is wrong with two settings that clash, or with a model."""
        if self.context_tokens is not None and self.retention_ratio is None:
            return "OPENAI_CONTEXT_TOKENS needs OPENAI_RETENTION_RATIO beside it, such as 0.8"
        return clash(urlsplit(self.url).hostname or "", self.access, bool(self.safety_secret)) or self._no_model()

    def _no_model(self) -> str | None:
        """What is wrong with a model that OpenAI's own service no longer has, or never had.

        The service itself would say so only when a call is there. Other services may call their models as they like.
        """
        if not is_openai(self.url) or names_model(urlsplit(self.url).query):
            return None
        model, transcriber = self.model[:LONGEST_SHOWN], self.transcription_model[:LONGEST_SHOWN]
        if is_gone(model):
            return f"OPENAI_MODEL is {model!r}, which ended on 7 May 2026; {CURRENT} replaces it"
        if not model.startswith("gpt-realtime"):
            return f"OPENAI_MODEL is {model!r}, which is no realtime model of OpenAI's; {CURRENT} is"
        if takes_several(transcriber) or unless_off(transcriber) is None:
            return None
        if self.transcription_keywords:
            return f"OPENAI_TRANSCRIPTION_KEYWORDS: {transcriber} takes none; {CURRENT_TRANSCRIBER} does"
        if len(self.language) > 1:
            return f"OPENAI_LANGUAGE: {transcriber} takes one language only; {CURRENT_TRANSCRIBER} takes several"
        return None

    def warnings(self, today: date) -> list[str]:
        """See `ProviderSettings.warnings`: models that have an end."""
        used = {"OPENAI_MODEL": self.model, "OPENAI_TRANSCRIPTION_MODEL": self.transcription_model}
        notices = (end_notice(variable, model, self.url, today) for variable, model in used.items())
        return [notice for notice in notices if notice]

    @property
    def safety_key(self) -> str | None:
        """See `RealtimeSettings.safety_key`."""
        return self.safety_secret.reveal() if self.safety_secret else None

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
                answers=self.create_response,
                interrupts=self.interrupt_response,
            ),
            transcription=transcription(
                self.transcription_model, self.language, self.transcription_keywords, self.transcription_prompt
            ),
            noise=unless_off(self.noise_reduction),
            effort=self.reasoning_effort,
            speed=self.speed,
            most_tokens=self.max_tokens,
            truncation=None if self.retention_ratio is None else Truncation(self.retention_ratio, self.context_tokens),
            parallel_tools=self.parallel_tool_calls,
            barge_in=self.min_interruption_ms / 1000 if self.interrupt_response else inf,
            greeting_stops=self.greeting_interruptible,
        )


def open_realtime(settings: RealtimeSettings, key: str, dial: Dial, times: SocketTimes) -> AgentProvider:
    """Build the way to the service. The link is imported here: who only reads settings does not wait for it."""
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.openai.provider import RealtimeProvider

    endpoint = Endpoint.from_url(settings.url)
    options, safety_key = settings.options(), settings.safety_key
    return RealtimeProvider(endpoint, key, dial, options, times, settings.access, safety_key=safety_key)
