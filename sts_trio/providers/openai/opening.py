"""How a session is opened: URL, headers, one `session.update` that says all we rely on. Pure.

A service's own defaults differ from its documents (docs/protocols/realtime.md 2), so nothing is left to them. The
protocol has no variables in prompts: they are filled in here. The order of an opening: docs/protocols/realtime.md
7.5.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

import msgspec

from sts_trio.errors import ProviderRefused
from sts_trio.providers.base import AgentReady, SessionEnd, SessionEndKind, never_ready
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import OPENAI, Dialect, describe, fault, is_limit
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.base import SessionConfig, ToolOffer
    from sts_trio.providers.dial import Endpoint
    from sts_trio.providers.openai.audio import Codec, Format
    from sts_trio.providers.openai.history import History


_SETTINGS = "settings"  # the event id of our `session.update`
_SHORTEST_SESSION = 300.0  # that any service gives; the known ones give 1800 seconds and more
_AZURE = (".azure.com", ".azure.us", ".azure.cn")
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """When the caller's turn is over. `kind`: by silence (`server_vad`), or by sense too (`semantic_vad`)."""

    kind: str = "server_vad"
    threshold: float = 0.5
    silence_ms: int = 500
    padding_ms: int = 300
    eagerness: str = "auto"

    def shape(self) -> dict[str, object]:
        """The session's field."""
        if self.kind == "semantic_vad":
            return {"type": self.kind, "eagerness": self.eagerness, "create_response": True, "interrupt_response": True}
        return {
            "type": self.kind,
            "threshold": self.threshold,
            "prefix_padding_ms": self.padding_ms,
            "silence_duration_ms": self.silence_ms,
            "create_response": True,
            "interrupt_response": True,
        }


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's choices for all calls. What is None is not sent, or turned off where that is a choice.

    `rate` is that of linear PCM, in Hz.
    """

    dialect: Dialect = OPENAI
    model: str = OPENAI.current
    voice: str = "marin"
    instructions: str = field(default="", repr=False)
    format: Format = "pcmu"
    rate: int = 24_000
    turns: TurnDetection = field(default_factory=TurnDetection)
    transcription: str | None = "gpt-4o-mini-transcribe"
    language: str | None = None
    noise: str | None = None
    effort: str | None = None
    most_tokens: int | str = "inf"


def target(endpoint: Endpoint, options: Options, conversation: str | None) -> str:
    """The path and query of the upgrade: what the base URL has, and what it lacks."""
    path, _, query = endpoint.path.partition("?")
    path = path.rstrip("/")
    if not path.endswith(options.dialect.path):
        path += options.dialect.path
    pairs = [query] if query else []
    if "model" not in dict(parse_qsl(query)):
        pairs.append(f"model={quote(options.model, safe='')}")
    if conversation is not None:
        pairs.append(f"conversation_id={quote(conversation, safe='')}")
    return f"{path}?{'&'.join(pairs)}"


def credentials(endpoint: Endpoint, key: str) -> dict[str, str]:
    """The header that carries the key: Azure's keys have one of their own (docs/protocols/realtime.md 9)."""
    return {"api-key": key} if endpoint.host.endswith(_AZURE) else {"Authorization": f"Bearer {key}"}


def session(options: Options, codec: Codec, session_config: SessionConfig) -> dict[str, Any]:
    """The whole session, as `session.update` has it. The call's own voice and prompt stand above the operator's."""
    voice = session_config.voice or options.voice
    prompt = _filled(session_config.instructions or options.instructions, session_config)
    turns = options.turns.shape()
    heard = {"format": codec.format, "transcription": _transcription(options)}
    spoken: dict[str, object] = {"format": codec.format}
    common = {"instructions": prompt, "tools": [_tool(offer) for offer in session_config.tools]}
    if options.dialect.flat:
        both = {"input": heard, "output": spoken}
        resumption = {"resumption": {"enabled": True}} if options.dialect.resumes else {}
        return {**common, "voice": voice, "turn_detection": turns, "audio": both, **resumption}
    noise = {"type": options.noise} if options.noise else None
    both = {
        "input": {**heard, "noise_reduction": noise, "turn_detection": turns},
        "output": {**spoken, "voice": voice},
    }
    effort = {"reasoning": {"effort": options.effort}} if options.effort else {}
    return {
        "type": "realtime",
        **common,
        "output_modalities": ["audio"],
        "audio": both,
        "tool_choice": "auto",
        "max_output_tokens": options.most_tokens,
        "truncation": "auto",
        **effort,
    }


def other_format(updated: object, codec: Codec) -> str | None:
    """Return a format that is in force and is not the one we asked for, as text; None if there is none.

    `updated` is the session as the service confirms it. One that leaves its formats out has taken ours.
    """
    sides = updated.get("audio") if isinstance(updated, dict) else None
    for name, side in sides.items() if isinstance(sides, dict) else ():
        format_ = side.get("format") if name in ("input", "output") and isinstance(side, dict) else None
        if isinstance(format_, dict) and any(
            format_.get(key, wanted) != wanted for key, wanted in codec.format.items()
        ):
            return shown(" ".join(shown(format_.get(key), 40) for key in ("type", "rate")))
    return None


def lasts(expires_at: object, now: float) -> float:
    """How many seconds a session lasts that ends at `expires_at`; both are Unix time. Infinity if it does not say.

    A time that is less than `_SHORTEST_SESSION` away comes from a wrong clock, here or there, and says nothing.
    """
    if not isinstance(expires_at, int | float) or expires_at < now + _SHORTEST_SESSION:
        return inf
    return expires_at - now


def _transcription(options: Options) -> dict[str, str] | None:
    if options.transcription is None:
        return None
    language = {options.dialect.language_key: options.language} if options.language else {}
    return {"model": options.transcription, **language}


def _tool(offer: ToolOffer) -> dict[str, object]:
    return {
        "type": "function",
        "name": offer.name,
        "description": offer.description,
        "parameters": msgspec.json.decode(offer.parameters),
    }


def _filled(prompt: str, session_config: SessionConfig) -> str:
    return _VARIABLE.sub(lambda match: session_config.variables.get(match[1], match[0]), prompt)


class SessionSetup:
    """The opening of one session: take its messages until one makes it ready; send what is in `out` after each."""

    def __init__(
        self, options: Options, codec: Codec, history: History, session_config: SessionConfig, *, resumed: bool
    ) -> None:
        self.out: deque[wire.ToService] = deque()
        self._dialect = options.dialect
        self._codec = codec
        self._history = history
        self._resumed = resumed
        self._asked = history.conversation  # the conversation that the URL asks for
        self._settings = session(options, codec, session_config)
        self._created: wire.Created | None = None
        self._reported = ""
        self._limited = False  # what was reported is that there were too many

    def take(self, message: wire.FromService | SessionEnd, now: float) -> AgentReady | None:
        """Take a message; return `AgentReady` once the settings are in force. `now` is Unix time.

        Raises:
            ProviderError: the service reported an error, closed, or will speak in another format than `codec`'s.
        """
        match message:
            case wire.SessionCreated() if self._created is None:
                self._created = message.created
                self.out.append(wire.SessionUpdate(_SETTINGS, self._settings))
            case wire.SessionUpdated(session=updated) if self._created is not None:
                self._check(updated)
                self._history.retold = self._asked is None or self._history.conversation != self._asked
                if self._resumed and self._history.retold:
                    self.out += [wire.ItemCreate("seed", item) for item in self._history.items()]
                return AgentReady(shown(self._created.id), self._history, lasts(self._created.expires_at, now))
            case wire.ConversationCreated(conversation=conversation):
                if self._dialect.resumes and conversation.id:
                    self._history.conversation = conversation.id
            case wire.ServiceError():
                self._take_error(message.cause)
            case SessionEnd(cause=cause, kind=kind):
                if self._limited and kind is not SessionEndKind.DEAD:
                    kind = SessionEndKind.FULL
                raise never_ready(SessionEnd(self.complaint(f"{cause} before the session began"), kind))
            case _:
                pass
        return None

    def complaint(self, end: str) -> str:
        """Add to `end`, which says how the opening failed, the last error that the service had reported."""
        return f"{end}; it had reported: {self._reported}" if self._reported else end

    def _check(self, updated: object) -> None:
        if (other := other_format(updated, self._codec)) is not None:
            wanted = " ".join(str(part) for part in self._codec.format.values())
            text = f"{self._dialect.name} was asked for {wanted} and set up {other}"
            raise ProviderRefused(f"{text}; check the {self._dialect.prefix}_ settings")

    def _take_error(self, cause: wire.Cause) -> None:
        """Raise if the error ends the session, or refuses our settings; any other is only remembered."""
        told = fault(cause, self._dialect)
        if told is not None and told.ends is not None:
            raise never_ready(SessionEnd(told.message, told.ends))
        if told is not None and cause.event_id == _SETTINGS:
            raise ProviderRefused(
                f"{self._dialect.name} did not take the session's settings: {describe(cause)}; "
                f"check the {self._dialect.prefix}_ settings"
            )
        self._reported, self._limited = describe(cause), is_limit(cause)
