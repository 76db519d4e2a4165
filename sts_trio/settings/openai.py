"""The environment variables of the OpenAI Realtime API, and of what speaks its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.settings import parsers, urls
from sts_trio.settings.agent import AgentSettings
from sts_trio.settings.setting import LONGEST_SHOWN, REQUIRED, setting

if TYPE_CHECKING:
    from sts_trio.settings.secret import Secret

CURRENT_MODEL = "gpt-realtime-2.1"
# The vendor's table of deprecations (docs/protocols/realtime.md 0).
_GONE = ("gpt-4o-realtime", "gpt-4o-mini-realtime")
ENDING_MODELS = dict.fromkeys(
    ("gpt-realtime", "gpt-realtime-2025-08-28", "gpt-realtime-mini", "gpt-realtime-mini-2025-12-15"), "20 January 2027"
)
_OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class OpenAiSettings(AgentSettings):
    """What the operator chose for it. Times in milliseconds where a name says so, else in seconds."""

    openai_api_key: Secret | None = setting(
        "OPENAI_API_KEY", REQUIRED, parsers.secret, "Key of the OpenAI account; sent as a header, never logged"
    )
    openai_base_url: str = setting(
        "OPENAI_BASE_URL",
        _OPENAI_URL,
        urls.realtime_url,
        "Where the Realtime API listens; `/realtime` is added. Azure: `https://NAME.openai.azure.com/openai/v1`",
        "OPENAI_ENDPOINT",
        show=urls.shown_url,
    )
    openai_model: str = setting("OPENAI_MODEL", CURRENT_MODEL, parsers.text, "The model")
    openai_voice: str = setting("OPENAI_VOICE", "marin", parsers.text, "The agent's voice")
    openai_instructions: str | None = setting(
        "OPENAI_INSTRUCTIONS",
        None,
        parsers.text,
        "The agent's prompt; unset: the URL's, the file's, or a short one",
    )
    openai_url_instructions: str | None = setting(
        "OPENAI_URL_INSTRUCTIONS",
        None,
        urls.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=urls.shown_url,
    )
    openai_file_instructions: str | None = setting(
        "OPENAI_FILE_INSTRUCTIONS", None, parsers.text, "A text file with the prompt, read for each call"
    )
    openai_welcome_message: str = setting(
        "OPENAI_WELCOME_MESSAGE",
        "Hello, how can I help you today?",
        parsers.text,
        "What the agent says first (the model is told to say just that); set but empty: it says nothing first",
        empty_is_set=True,
    )
    openai_turn_detection: str = setting(
        "OPENAI_TURN_DETECTION",
        "server_vad",
        parsers.one_of("server_vad", "semantic_vad"),
        "When the caller's turn is over: by silence, or by what was said too",
    )
    openai_turn_detection_threshold: float = setting(
        "OPENAI_TURN_DETECTION_THRESHOLD",
        0.5,
        parsers.fraction(0, 1),
        "How loud is speech (`server_vad`); noisy lines want more",
    )
    openai_turn_detection_silence_ms: int = setting(
        "OPENAI_TURN_DETECTION_SILENCE_MS", 500, parsers.whole(0, 10_000), "How much silence ends a turn (`server_vad`)"
    )
    openai_turn_detection_prefix_padding_ms: int = setting(
        "OPENAI_TURN_DETECTION_PREFIX_PADDING_MS",
        300,
        parsers.whole(0, 5000),
        "How much audio before the first loud sound belongs to a turn (`server_vad`)",
    )
    openai_turn_detection_eagerness: str = setting(
        "OPENAI_TURN_DETECTION_EAGERNESS",
        "auto",
        parsers.one_of("low", "medium", "high", "auto"),
        "How soon the agent answers (`semantic_vad`)",
    )
    openai_transcription_model: str = setting(
        "OPENAI_TRANSCRIPTION_MODEL",
        "gpt-4o-mini-transcribe",
        parsers.text,
        "Who writes the caller's words down; `off`: nobody. This one and `whisper-1` end on 26 February 2027",
    )
    openai_language: str | None = setting(
        "OPENAI_LANGUAGE", None, parsers.language, "The caller's language for that, such as `en`; `auto`: any"
    )
    openai_audio_format: str = setting(
        "OPENAI_AUDIO_FORMAT",
        "pcmu",
        parsers.one_of("pcmu", "pcma", "pcm"),
        "G.711 µ-law or A-law (take your line's own: nothing is resampled, and it is bit exact), or PCM at 24 kHz",
    )
    openai_noise_reduction: str = setting(
        "OPENAI_NOISE_REDUCTION",
        "off",
        parsers.one_of("off", "near_field", "far_field"),
        "Noise reduction of the service's; `far_field` for hands-free callers",
    )
    openai_reasoning_effort: str | None = setting(
        "OPENAI_REASONING_EFFORT",
        None,
        parsers.one_of("minimal", "low", "medium", "high", "xhigh"),
        "Sent only when set: models before `gpt-realtime-2` refuse it",
    )
    openai_max_tokens: int | str = setting(
        "OPENAI_MAX_TOKENS", "inf", parsers.tokens(4096), "The longest answer, in tokens: 1 to 4096, or `inf`"
    )
    openai_ca_file: str | None = setting(
        "OPENAI_CA_FILE",
        None,
        parsers.text,
        "Certificates (PEM) to trust beside the system's, for a service of your own",
    )
    openai_max_session_seconds: float = setting(
        "OPENAI_MAX_SESSION_SECONDS",
        3480.0,
        parsers.seconds(30, 86_400),
        "How old a session may get; then, in a quiet moment, another takes over; sooner if the service says so",
    )

    def unknown_model(self) -> str | None:
        """Say what is wrong with a model that OpenAI's own service has no more, or never had: it would do so too late.

        Others may call theirs as they like.
        """
        if self.provider != "openai" or self.openai_base_url != _OPENAI_URL:
            return None
        model = self.openai_model[:LONGEST_SHOWN]
        if model.startswith(_GONE):
            return f"OPENAI_MODEL is {model!r}, which ended on 7 May 2026; {CURRENT_MODEL} replaces it"
        if model.startswith("gpt-realtime"):
            return None
        return f"OPENAI_MODEL is {model!r}, which is no realtime model of OpenAI's; {CURRENT_MODEL} is"

    def ending_model(self) -> str | None:
        """Warn of a model whose end has been announced."""
        end = ENDING_MODELS.get(self.openai_model) if self.provider == "openai" else None
        return f"OPENAI_MODEL {self.openai_model} ends on {end}; {CURRENT_MODEL} replaces it" if end else None
