"""What a session is asked for: one `session.update` that says all we rely on (docs/protocols/realtime.md 2). Pure.

A service's own defaults differ from its documents, so nothing that a call depends on is left to them; what an operator
may choose and has not chosen is left out. The protocol has no variables in prompts: they are filled in here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.providers.openai.dialect import OPENAI, Dialect
from sts_trio.providers.openai.models import CURRENT_TRANSCRIBER, takes_several
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.base import SessionConfig, ToolOffer
    from sts_trio.providers.openai.audio import Codec, Format

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_CUSTOM_VOICE = "voice_"  # how the ids of voices begin that the vendor made for one account


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """When the caller's turn is over. `kind`: by silence (`server_vad`), or by sense too (`semantic_vad`).

    `answers`: the service answers each turn by itself. `interrupts`: the caller's speech stops its answer.
    """

    kind: str = "server_vad"
    threshold: float = 0.5
    silence_ms: int = 500
    padding_ms: int = 300
    eagerness: str = "auto"
    answers: bool = True
    interrupts: bool = True

    def shape(self) -> dict[str, object]:
        """The session's field. Whether a part of it would replace the whole is not known: it is sent whole."""
        acts = {"create_response": self.answers, "interrupt_response": self.interrupts}
        if self.kind == "semantic_vad":
            return {"type": self.kind, "eagerness": self.eagerness, **acts}
        return {
            "type": self.kind,
            "threshold": self.threshold,
            "prefix_padding_ms": self.padding_ms,
            "silence_duration_ms": self.silence_ms,
            **acts,
        }


@dataclass(frozen=True, slots=True)
class Transcription:
    """Which model writes the caller's words down, and what it is told beforehand; `terms` are words to expect."""

    model: str = CURRENT_TRANSCRIBER
    languages: tuple[str, ...] = ()
    prompt: str | None = None
    terms: tuple[str, ...] = ()

    def shape(self, dialect: Dialect) -> dict[str, object]:
        """The session's field. OpenAI's languages are those of ISO 639-1, without a region; never both its names."""
        languages = self.languages
        if not dialect.flat:
            languages = tuple(dict.fromkeys(language.partition("-")[0].lower() for language in languages))
        told: dict[str, object] = {"model": self.model}
        if languages and not dialect.flat and takes_several(self.model):
            told["languages"] = list(languages)
        elif languages:
            told[dialect.language_key] = languages[0]
        if self.prompt:
            told["prompt"] = self.prompt
        if self.terms:
            told[dialect.terms_key] = list(self.terms)
        return told


@dataclass(frozen=True, slots=True)
class Truncation:
    """What is kept of a conversation that has become too long, 0 to 1, and how many tokens are too long."""

    ratio: float
    most_tokens: int | None = None

    def shape(self) -> dict[str, object]:
        """The session's field."""
        limits = {"token_limits": {"post_instructions": self.most_tokens}} if self.most_tokens else {}
        return {"type": "retention_ratio", "retention_ratio": self.ratio, **limits}


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's choices for all calls. What is None is not sent, or turned off where that is a choice.

    `rate` is that of linear PCM, in Hz. `own_tools` are tools of the service's own, as it wants them. `barge_in` is how
    long a caller speaks before the agent stops, in seconds; infinity: it is heard to the end. `greeting_stops`: by the
    caller's speech, too.
    """

    dialect: Dialect = OPENAI
    model: str = OPENAI.current
    voice: str = "marin"
    instructions: str = field(default="", repr=False)
    format: Format = "pcmu"
    rate: int = 24_000
    turns: TurnDetection = field(default_factory=TurnDetection)
    transcription: Transcription | None = field(default_factory=Transcription)
    noise: str | None = None
    effort: str | None = None
    speed: float | None = None
    most_tokens: int | str = "inf"
    truncation: Truncation | None = None
    parallel_tools: bool | None = None
    own_tools: tuple[dict[str, object], ...] = ()
    barge_in: float = 0.0
    greeting_stops: bool = True


_OFF = "off"


def unless_off(value: str) -> str | None:
    """Return a choice; None for ``off``."""
    return None if value.lower() == _OFF else value


def transcription(
    model: str, languages: tuple[str, ...], terms: tuple[str, ...], prompt: str | None = None
) -> Transcription | None:
    """Return who writes the caller's words down, if anybody does."""
    chosen = unless_off(model)
    return Transcription(chosen, languages, prompt, terms) if chosen else None


def session(options: Options, codec: Codec, session_config: SessionConfig) -> dict[str, Any]:
    """The whole session, as `session.update` has it. The call's own voice and prompt stand above the operator's."""
    voice = session_config.voice or options.voice
    turns, transcription = options.turns.shape(), options.transcription
    heard: dict[str, object] = {
        "format": codec.format,
        "transcription": transcription.shape(options.dialect) if transcription else None,
    }
    spoken: dict[str, object] = {"format": codec.format, **_chosen(speed=options.speed)}
    common = {
        "instructions": _filled(session_config.instructions or options.instructions, session_config),
        "tools": [*options.own_tools, *(_tool(offer) for offer in session_config.tools)],
        **_chosen(reasoning={"effort": options.effort} if options.effort else None),
    }
    if options.dialect.flat:
        both = {"input": heard, "output": spoken}
        resumption = {"resumption": {"enabled": True}} if options.dialect.resumes else {}
        return {**common, "voice": voice, "turn_detection": turns, "audio": both, **resumption}
    noise = {"type": options.noise} if options.noise else None
    named = {"id": voice} if voice.startswith(_CUSTOM_VOICE) else voice
    return {
        "type": "realtime",
        **common,
        "output_modalities": ["audio"],
        "audio": {
            "input": {**heard, "noise_reduction": noise, "turn_detection": turns},
            "output": {**spoken, "voice": named},
        },
        "tool_choice": "auto",
        "max_output_tokens": options.most_tokens,
        "truncation": options.truncation.shape() if options.truncation else "auto",
        **_chosen(parallel_tool_calls=options.parallel_tools),
    }


def without_transcription(shape: dict[str, Any]) -> dict[str, Any]:
    """Return the same session, but nobody writes the caller's words down."""
    audio = shape["audio"]
    return {**shape, "audio": {**audio, "input": {**audio["input"], "transcription": None}}}


def other_format(updated: object, codec: Codec) -> str | None:
    """Return a format that is in force and is not the one we asked for, as text; None if there is none.

    `updated` is the session as the service confirms it. One that leaves its formats out has taken ours.
    """
    sides = updated.get("audio") if isinstance(updated, dict) else None
    for name, side in sides.items() if isinstance(sides, dict) else ():
        format_ = side.get("format") if name in ("input", "output") and isinstance(side, dict) else None
        if isinstance(format_, dict) and any(
            format_.get(key) not in (None, wanted) for key, wanted in codec.format.items()
        ):
            return shown(" ".join(shown(format_.get(key), 40) for key in ("type", "rate")))
    return None


def _chosen(**fields: object) -> dict[str, object]:
    """Return the fields that were chosen: a service may refuse a whole session for one that it does not know."""
    return {name: value for name, value in fields.items() if value is not None}


def _tool(offer: ToolOffer) -> dict[str, object]:
    return {
        "type": "function",
        "name": offer.name,
        "description": offer.description,
        "parameters": msgspec.json.decode(offer.parameters),
    }


def _filled(prompt: str, session_config: SessionConfig) -> str:
    return _VARIABLE.sub(lambda match: session_config.variables.get(match[1], match[0]), prompt)
