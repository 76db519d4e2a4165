"""The environment variables of xAI's Grok Voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.settings import parsers, urls
from sts_trio.settings.agent import AgentSettings
from sts_trio.settings.setting import REQUIRED, setting

if TYPE_CHECKING:
    from sts_trio.settings.secret import Secret


@dataclass(frozen=True, kw_only=True)
class XaiSettings(AgentSettings):
    """What the operator chose for it. Times in milliseconds where a name says so, else in seconds."""

    xai_api_key: Secret | None = setting(
        "XAI_API_KEY", REQUIRED, parsers.secret, "Key of the xAI account; sent as a header, never logged"
    )
    xai_base_url: str = setting(
        "XAI_BASE_URL",
        "https://api.x.ai/v1",
        urls.realtime_url,
        "Where Grok Voice listens; `/realtime` is added",
        "XAI_ENDPOINT",
        show=urls.shown_url,
    )
    xai_model: str = setting("XAI_MODEL", "grok-voice-latest", parsers.text, "The model")
    xai_voice: str = setting("XAI_VOICE", "eve", parsers.text, "The agent's voice: eve, ara, rex, sal, leo")
    xai_instructions: str | None = setting(
        "XAI_INSTRUCTIONS", None, parsers.text, "The agent's prompt; unset: the URL's, the file's, or a short one"
    )
    xai_url_instructions: str | None = setting(
        "XAI_URL_INSTRUCTIONS",
        None,
        urls.http_url,
        'Where each call asks for its prompt: `GET`, header `X-DSAI-UUID`, answer `{"system": "..."}`',
        show=urls.shown_url,
    )
    xai_file_instructions: str | None = setting(
        "XAI_FILE_INSTRUCTIONS", None, parsers.text, "A text file with the prompt, read for each call"
    )
    xai_welcome_message: str = setting(
        "XAI_WELCOME_MESSAGE",
        "Hello, how can I help you today?",
        parsers.text,
        "What the agent says first, word for word; set but empty: it says nothing first",
        empty_is_set=True,
    )
    xai_turn_detection: str = setting(
        "XAI_TURN_DETECTION", "server_vad", parsers.one_of("server_vad"), "When the caller's turn is over: by silence"
    )
    xai_turn_detection_threshold: float = setting(
        "XAI_TURN_DETECTION_THRESHOLD", 0.85, parsers.fraction(0.1, 0.9), "How loud is speech"
    )
    xai_turn_detection_silence_ms: int = setting(
        "XAI_TURN_DETECTION_SILENCE_MS", 500, parsers.whole(0, 10_000), "How much silence ends a turn"
    )
    xai_turn_detection_prefix_padding_ms: int = setting(
        "XAI_TURN_DETECTION_PREFIX_PADDING_MS",
        333,
        parsers.whole(0, 5000),
        "How much audio before the first loud sound belongs to a turn",
    )
    xai_transcription_model: str = setting(
        "XAI_TRANSCRIPTION_MODEL", "grok-transcribe", parsers.text, "Who writes the caller's words down; `off`: nobody"
    )
    xai_language: str | None = setting(
        "XAI_LANGUAGE", None, parsers.language, "The caller's language for that, such as `en-GB`; `auto`: any"
    )
    xai_ca_file: str | None = setting(
        "XAI_CA_FILE", None, parsers.text, "Certificates (PEM) to trust beside the system's, for a service of your own"
    )
    xai_max_session_seconds: float = setting(
        "XAI_MAX_SESSION_SECONDS",
        1740.0,
        parsers.seconds(30, 86_400),
        "How old a session may get; then, in a quiet moment, another takes over",
    )
