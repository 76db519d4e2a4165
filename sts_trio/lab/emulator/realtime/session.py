"""The session of the Realtime protocol, as the two services have it, and what they refuse in it. Pure.

An update is taken whole or not at all; what it does not name stays as it was (docs/protocols/realtime.md 2, 9.1).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sts_trio.lab.emulator.realtime.wire import ClientError, refusal

Share = Annotated[float, Meta(ge=0, le=1)]
Ms = Annotated[int, Meta(ge=0, le=10_000)]
RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # of xAI's linear PCM
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
# Those that write down what the caller says; the last two do not go with turn detection.
TRANSCRIBERS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-live-transcribe",
    "gpt-realtime-whisper",
)
WITHOUT_TURNS = TRANSCRIBERS[-2:]
WITH_LANGUAGES = ("gpt-transcribe", "gpt-live-transcribe")  # and with keywords
MERGED = (("audio",), ("audio", "input"), ("audio", "output"))  # objects of which an update may name a part


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: int | None = None


class Detection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a turn is over, and what the service does then by itself."""

    type: Literal["server_vad", "semantic_vad"]
    threshold: Share = 0.5
    prefix_padding_ms: Ms = 300
    silence_duration_ms: Ms = 500
    idle_timeout_ms: Annotated[int, Meta(ge=1)] | None = None
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class Noise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["near_field", "far_field"]
    strength: float = 1.0


class Transcription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`language_hint` and `keyterms` are xAI's, the others OpenAI's."""

    model: str | None = None
    language: str | None = None
    languages: list[str] | None = None
    prompt: str | None = None
    keywords: list[str] | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    language_hint: str | None = None
    keyterms: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=100)] | None = None


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Format = Format("audio/pcm", 24_000)
    noise_reduction: Noise | None = None
    transcription: Transcription | None = None
    turn_detection: Detection | None = None


class CustomVoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Format = Format("audio/pcm", 24_000)
    voice: str | CustomVoice = "alloy"
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] = 1.0


class Audio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input: Input = Input()
    output: Output = Output()


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="function"):
    name: str
    parameters: dict[str, Any]
    description: str = ""


class OwnTool(msgspec.Struct, frozen=True, tag="mcp"):
    """A remote tool of the service's own calling: taken, and never used here."""


class WebSearch(msgspec.Struct, frozen=True, tag="web_search"):
    """xAI's own, as the two that follow: taken, and never used here."""


class XSearch(msgspec.Struct, frozen=True, tag="x_search"):
    """See `WebSearch`."""


class FileSearch(msgspec.Struct, frozen=True, tag="file_search"):
    """See `WebSearch`."""


class TokenLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    post_instructions: Annotated[int, Meta(ge=0)] | None = None


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="retention_ratio"):
    """How much of a conversation is kept when it has become too long."""

    retention_ratio: Share
    token_limits: TokenLimits | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session of OpenAI."""

    type: Literal["realtime"]
    model: str | None = None
    instructions: str = ""
    output_modalities: tuple[Literal["audio", "text"], ...] = ("audio",)
    audio: Audio = Audio()
    tools: list[FunctionTool | OwnTool] = []
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] = "auto"
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=4096)] | Literal["inf"] = "inf"
    truncation: Literal["auto", "disabled"] | Retention = "auto"
    reasoning: dict[Literal["effort"], Literal["minimal", "low", "medium", "high", "xhigh"]] | None = None
    include: list[str] | None = None
    tracing: Literal["auto"] | dict[str, Any] | None = None

    @property
    def detection(self) -> Detection | None:
        """When a turn is over."""
        return self.audio.input.turn_detection

    @property
    def spoken_by(self) -> str | CustomVoice:
        """The agent's voice."""
        return self.audio.output.voice


class FlatSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session of xAI: voice and turn detection are top fields. What has no use here is OpenAI's, and tolerated."""

    type: Literal["realtime"] | None = None
    model: str | None = None
    instructions: str = ""
    voice: str = "eve"
    turn_detection: Detection | None = None
    audio: Audio = Audio()
    tools: list[FunctionTool | OwnTool | WebSearch | XSearch | FileSearch] = []
    tool_choice: str | dict[str, Any] | None = None
    output_modalities: list[str] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[Literal["effort"], Literal["high", "none"]] | None = None
    resumption: dict[str, bool] = {}
    replace: dict[str, Any] | None = None

    @property
    def detection(self) -> Detection | None:
        """When a turn is over."""
        return self.turn_detection

    @property
    def spoken_by(self) -> str:
        """The agent's voice."""
        return self.voice


def merged(before: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in force after an update: of `MERGED` it may name a part, all else is replaced."""

    def join(old: Any, new: Any, path: tuple[str, ...]) -> Any:
        if path not in ((), *MERGED) or not (isinstance(old, dict) and isinstance(new, dict)):
            return new
        return {**old, **{key: join(old.get(key), each, (*path, key)) for key, each in new.items()}}

    whole: dict[str, Any] = join(before, update, ())
    return whole


def read_session(fields: dict[str, Any], *, flat: bool, model: str, event_id: str | None) -> Session | FlatSession:
    """Read a session for the `model` of the URL.

    Raises:
        ClientError: a field is unknown or wrong, or the service has no such thing.
    """
    try:
        session = msgspec.convert(fields, FlatSession) if flat else msgspec.convert(fields, Session)
    except msgspec.ValidationError as exc:
        raise refusal(exc, event_id, "session") from exc
    wrong = _wrong_in_both(session, flat=flat)
    if wrong is None and isinstance(session, Session):
        wrong = _wrong_voice(session) or _wrong_transcription(session) or _wrong_effort(session, model)
    if wrong is not None:
        place, text = wrong
        raise ClientError("invalid_value", text, event_id, f"session.{place}")
    return session


Wrong = tuple[str, str] | None  # where, and what


def _wrong_in_both(session: Session | FlatSession, *, flat: bool) -> Wrong:
    for side, format_ in (("input", session.audio.input.format), ("output", session.audio.output.format)):
        if format_.type == "audio/pcm" and format_.rate not in (RATES if flat else (24_000,)):
            return f"audio.{side}.format", f"Linear PCM has no {format_.rate} Hz here."
    if flat and session.audio.output.speed < 0.7:  # docs/protocols/realtime.md 9.1
        return "audio.output.speed", "Expected a value >= 0.7."
    return None


def _wrong_voice(session: Session) -> Wrong:
    if isinstance(voice := session.spoken_by, str) and voice not in VOICES:
        return "audio.output.voice", f"Invalid value: '{voice}'. Supported values are: {', '.join(VOICES)}."
    if len(session.output_modalities) != 1:
        return "output_modalities", "Expected one of ['audio'] and ['text']."
    return None


def _wrong_transcription(session: Session) -> Wrong:
    wanted, place = session.audio.input.transcription, "audio.input.transcription"
    if wanted is None:
        return None
    if wanted.model is not None and wanted.model not in TRANSCRIBERS:
        return f"{place}.model", f"Invalid value: '{wanted.model}'. Supported values are: {', '.join(TRANSCRIBERS)}."
    if wanted.model in WITHOUT_TURNS and session.detection is not None:
        return f"{place}.model", "Turn detection is not supported for this transcription model."
    if wanted.language is not None and wanted.languages is not None:
        return f"{place}.languages", "Only one of 'language' and 'languages' may be set."
    if wanted.model not in WITH_LANGUAGES and (wanted.languages or wanted.keywords):
        return (
            f"{place}.{'languages' if wanted.languages else 'keywords'}",
            "This transcription model does not take it.",
        )
    if any(sign in word for word in wanted.keywords or () for sign in "<>\r\n"):
        return f"{place}.keywords", "A keyword may have no '<', no '>' and no line end."
    return None


def _wrong_effort(session: Session, model: str) -> Wrong:
    if session.reasoning is not None and not model.startswith("gpt-realtime-2"):
        return "reasoning", f"The model {model} does not reason."
    return None
