"""xAI, whose Grok Voice speaks the Realtime protocol: its environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sts_trio.providers.openai.dialect import XAI
from sts_trio.providers.openai.session import Options, TurnDetection, transcription
from sts_trio.providers.openai.settings import RealtimeSettings
from sts_trio.settings import headers as header_parsers
from sts_trio.settings import parsers
from sts_trio.settings.service import DEFAULT_INSTRUCTIONS, DEFAULT_WELCOME_MESSAGE
from sts_trio.settings.variable import REQUIRED, setting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from sts_trio.settings.headers import SecretHeaders
    from sts_trio.settings.parsers import Secret

_FILE_SEARCH = "file_search"
_BUILTIN = ("web_search", "x_search", _FILE_SEARCH)
_MOST_RESULTS = 10  # of a search in files; a spoken answer needs fewer


@dataclass(frozen=True, kw_only=True)
class XaiSettings(RealtimeSettings):
    """What the operator chose for xAI. Times in milliseconds where a name says so, else in seconds."""

    name = "xai"
    title = "xAI"
    ignored: ClassVar[Mapping[str, str]] = {"XAI_CONNECT_TIMEOUT_MS": "READY_SECONDS limits that"}

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
        "XAI_HEADERS", None, header_parsers.headers, "More headers, for a gateway: as `OPENAI_HEADERS`"
    )
    model: str = setting("XAI_MODEL", XAI.current, parsers.text, "The model")
    voice: str = setting(
        "XAI_VOICE",
        "eve",
        parsers.text,
        "The agent's voice: eve, ara, rex, sal, leo, or any other that `GET /v1/tts/voices` lists",
    )
    speed: float | None = setting(
        "XAI_SPEED", None, parsers.fraction(0.7, 1.5), "How fast it speaks, 0.7 to 1.5; unset: 1"
    )
    reasoning_effort: str | None = setting(
        "XAI_REASONING_EFFORT",
        None,
        parsers.one_of("high", "none"),
        "How long it thinks before it answers; unset: the model's own, `high`, where `none` answers sooner",
    )
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
        "XAI_FILE_INSTRUCTIONS",
        None,
        parsers.text,
        "A text file with the prompt, read for each call",
        forwarded=False,  # compose has PROMPT_FILE for it
    )
    welcome_message: str = setting(
        "XAI_WELCOME_MESSAGE",
        DEFAULT_WELCOME_MESSAGE,
        parsers.text,
        "What the agent says first, word for word; set but empty: it says nothing first",
        empty_is_set=True,
    )
    greeting_interruptible: bool = setting(
        "XAI_GREETING_INTERRUPTIBLE",
        True,
        parsers.switch,
        "`false`: it is heard to its end though callers speak, who are answered after it; a key still stops it",
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
    min_interruption_ms: int = setting(
        "XAI_MIN_INTERRUPTION_MS",
        0,
        parsers.whole(0, 10_000),
        "How long callers must speak to stop the agent: a cough then does not, and it stops so much later",
    )
    transcription_model: str = setting(
        "XAI_TRANSCRIPTION_MODEL", "grok-transcribe", parsers.text, "Who writes the caller's words down; `off`: nobody"
    )
    language: str | None = setting(
        "XAI_LANGUAGE", None, parsers.language, "The caller's language for that, such as `en-GB`; `auto`: any"
    )
    keyterms: tuple[str, ...] = setting(
        "XAI_KEYTERMS",
        (),
        parsers.terms,
        "Names and words to expect there, with commas between them",
        show=", ".join,
    )
    builtin_tools: tuple[str, ...] = setting(
        "XAI_BUILTIN_TOOLS",
        (),
        parsers.some_of(*_BUILTIN),
        "Tools that xAI runs itself, and charges for: `web_search`, `x_search`, `file_search`, with commas between",
        show=", ".join,
    )
    collection_ids: tuple[str, ...] = setting(
        "XAI_COLLECTION_IDS",
        (),
        parsers.names,
        "The collections at xAI that `file_search` looks into, with commas between them",
        show=", ".join,
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
            speed=self.speed,
            effort=self.reasoning_effort,
            instructions=DEFAULT_INSTRUCTIONS,
            format="pcm",
            rate=8000,  # the telephone's own: straight through, bit exact
            turns=TurnDetection(
                kind=self.turn_detection,
                threshold=self.turn_detection_threshold,
                silence_ms=self.turn_detection_silence_ms,
                padding_ms=self.turn_detection_prefix_padding_ms,
            ),
            transcription=transcription(
                self.transcription_model, (self.language,) if self.language else (), self.keyterms
            ),
            own_tools=self._own_tools(),
            barge_in=self.min_interruption_ms / 1000,
            greeting_stops=self.greeting_interruptible,
        )

    def warnings(self, today: date) -> list[str]:  # noqa: ARG002  # no model of xAI's has an end that is known
        """See `ProviderSettings.warnings`."""
        if _FILE_SEARCH in self.builtin_tools and not self.collection_ids:
            return ["XAI_BUILTIN_TOOLS: file_search is left out, since XAI_COLLECTION_IDS names nothing to look into"]
        return []

    def _own_tools(self) -> tuple[dict[str, object], ...]:
        """The shapes of xAI's tools; one that searches nothing is none."""
        searched = {"vector_store_ids": list(self.collection_ids), "max_num_results": _MOST_RESULTS}
        return tuple(
            {"type": name, **(searched if name == _FILE_SEARCH else {})}
            for name in self.builtin_tools
            if name != _FILE_SEARCH or self.collection_ids
        )
