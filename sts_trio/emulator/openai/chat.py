"""One session of the Realtime protocol, without its connection. Parrot, ear and voice are the EVI emulator's.

As with the real service: nothing is understood before `session.updated`, an update is taken whole or not at all, a
function's output is not answered until a response is asked for, and there is one response at a time.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from sts_trio.emulator.actions import Close, Hush, Late, Say
from sts_trio.emulator.openai.g711 import to_pcm
from sts_trio.emulator.openai.junk import TEXTS
from sts_trio.emulator.openai.replies import Replies
from sts_trio.emulator.openai.wire import (
    Append,
    ClientError,
    ItemCreate,
    ItemDelete,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    Truncate,
    parse_client,
    read_session,
)
from sts_trio.emulator.parrot import Parrot
from sts_trio.emulator.settings import Context, SessionSettings, Tool
from sts_trio.emulator.turns import Turn, TurnDetector
from sts_trio.emulator.voice import VoiceFormat
from sts_trio.emulator.wire import Cancelled, ErrorMessage, Event, ToolCall, ToolResponse, UserMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sts_trio.emulator.actions import Action
    from sts_trio.emulator.openai.wire import ClientMessage, FlatSession, Session
    from sts_trio.emulator.options import EmulatorOptions
    from sts_trio.emulator.query import ChatQuery
    from sts_trio.emulator.talk import ToClient
    from sts_trio.emulator.turns import Speaking
    from sts_trio.emulator.wire import ToolError

KEPT_SECONDS = 120  # caller audio kept for tests to look at: 1.9 MB at 8 kHz
KEPT_TEXTS = 100
LONGEST_SESSION = 3600.0
SPEECH_MS = 100  # of loud sound, until the service says that somebody speaks
TRANSCRIPT_SECONDS = 0.3  # the model that writes words down is another, and later than the answer
MODELS = ("gpt-realtime", "grok-voice")
CLOSES = {"invalid_api_key": 3000, "model_not_found": 4004}


class RealtimeChat:
    """One session's state; see `chat.Chat`.

    `caller_audio` is what came as audio, in linear PCM. `early_audio` counts what came before the session was set up.
    `seeded` are the items that told of an earlier session; `cuts` what was truncated or deleted (None).
    """

    def __init__(
        self, options: EmulatorOptions, query: ChatQuery, rng: np.random.Generator, group: str | None, now: float
    ) -> None:
        self.query = query
        self.chat_id = f"sess_{_hex(rng)}"
        self.group_id = group or f"conv_{_hex(rng)}"
        self.session: Session | FlatSession | None = None
        self.messages_received = 0
        self.caller_audio = bytearray()
        self.caller_bytes = 0
        self.early_audio = 0
        self.onsets = 0
        self.user_inputs: deque[str] = deque(maxlen=KEPT_TEXTS)
        self.seeded: list[dict[str, Any]] = []
        self.cuts: dict[str, int | None] = {}
        self._taken_up = group is not None
        self._answers: deque[ToolResponse] = deque(maxlen=KEPT_TEXTS)
        self._options = options
        self._flat = options.service == "xai"
        self._rng = rng
        self._began = now
        self._over = False
        self._settings = SessionSettings()
        self._parrot: Parrot | None = None
        self._detector: TurnDetector | None = None
        self._replies = Replies(lambda kind: f"{kind}_{_hex(rng)}")
        self._decided = 0  # responses that have been decided on and not been begun
        self._speaking: str | None = None  # the item of the caller's turn that is under way
        self._typed: str | None = None
        self._output: ToolResponse | None = None

    @property
    def resumed(self) -> bool:
        """Whether it goes on with an earlier conversation."""
        return self._taken_up or bool(self.seeded)

    @property
    def prompt(self) -> str:
        """The prompt in force."""
        return self.session.instructions if self.session else ""

    @property
    def tool_answers(self) -> dict[str, list[ToolResponse | ToolError]]:
        """What the client answered, by the id of the call, in order."""
        answers: dict[str, list[ToolResponse | ToolError]] = {}
        for answer in self._answers:
            answers.setdefault(answer.tool_call_id, []).append(answer)
        return answers

    @property
    def junk(self) -> Mapping[str, str]:
        """What no such service would send, by kind."""
        return TEXTS

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._began + min(self._options.max_duration, LONGEST_SESSION)

    def open(self, now: float, *, metadata: bool = True) -> list[Action]:  # noqa: ARG002  # `Talk` has it
        """Begin. A wrong model is told after the upgrade, as a wrong key is."""
        model = self.query.raw.get("model", "")
        if not model.startswith(MODELS):
            return self.refuse("model_not_found", "invalid_request_error", f"The model {model} does not exist.")
        if not metadata:
            return []
        expires = int(time.time() + LONGEST_SESSION)
        created = {"id": self.chat_id, "object": "realtime.session", "type": "realtime", "expires_at": expires}
        actions: list[Action] = [_event("session.created", session=created)]
        if self._flat:
            actions.append(_event("conversation.created", conversation={"id": self.group_id}))
        return actions

    def refuse(self, code: str, slug: str, message: str) -> list[Action]:
        """End a session that cannot begin."""
        self._over = True
        return [_error(code, message, kind=slug), Close(CLOSES.get(code, 1008), f"{slug}.{code}")]

    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """Take one frame from the client."""
        if self._over:
            return []
        self.messages_received += 1
        try:
            return self._counted(self._read(parse_client(data), now))
        except ClientError as exc:
            return [_error(exc.code, exc.message, event_id=exc.event_id, param=exc.param)]

    def tick(self, now: float) -> list[Action]:
        """Keep the limit."""
        if self._over or now < self.deadline:
            return []
        self._over = True
        text = "Your session hit the maximum duration of 60 minutes."
        return [_error("session_expired", text), Close(1001, text)]

    def encode(self, message: ToClient) -> list[str]:
        """Return the text frames of a message."""
        match message:
            case Event(fields=fields):
                events = [fields]
            case ErrorMessage(code=code, slug=slug, message=text):
                events = [_error(code, text, kind=slug).fields]
            case _:
                events = self._replies.tell(message)
                begun = any(event["type"] == "response.created" for event in events)
                self._decided = max(self._decided - begun, 0)
        return [msgspec.json.encode({"event_id": f"event_{_hex(self._rng)}", **event}).decode() for event in events]

    # --- inside ---

    def _counted(self, actions: list[Action]) -> list[Action]:
        self._decided += sum(isinstance(action, Say | ToolCall) for action in actions)
        return actions

    @property
    def _busy(self) -> bool:
        return self._decided > 0 or self._replies.active is not None

    def _read(self, message: ClientMessage, now: float) -> list[Action]:
        match message:
            case SessionUpdate(session=fields, event_id=event_id):
                return self._update(read_session(fields, flat=self._flat, event_id=event_id), fields, now)
            case Append(audio=data):
                return self._hear(data, now)
            case ItemCreate():
                return self._add(message, now)
            case ItemDelete(item_id=item, event_id=event_id):
                if item not in self._replies.lengths:
                    raise ClientError("item_delete_invalid_item_id", f"There is no item {item}.", event_id)
                self.cuts[item] = None
                return [_event("conversation.item.deleted", item_id=item)]
            case Truncate():
                return self._truncate(message)
            case ResponseCreate():
                return self._respond(message, now)
            case ResponseCancel(event_id=event_id):
                if not self._busy:
                    raise ClientError("response_cancel_not_active", "There is no active response.", event_id)
                return self._cancel(now)

    def _update(self, session: Session | FlatSession, fields: dict[str, Any], now: float) -> list[Action]:
        self.session = session
        tools = [Tool("function", t.name, msgspec.json.encode(t.parameters).decode()) for t in session.tools]
        self._settings = SessionSettings(tools=tools)
        output = session.audio.output.format
        self._replies.kind = output.type
        low, high = self._options.chunk_ms
        rate = output.rate or 24_000 if output.type == "audio/pcm" else 8000
        if self._parrot is None:
            self._parrot = Parrot(
                self._options,
                VoiceFormat(rate, 1, lambda: int(self._rng.integers(low, high, endpoint=True))),
                verbose=False,
                new_id=partial(_hex, self._rng),
                unix_ms=lambda: int(time.time() * 1000),
                began=now,
            )
        if self._detector is None and session.detection is not None:
            end_ms = session.detection.silence_duration_ms
            self._detector = TurnDetector(self._caller_rate, end_ms)
        return [Event({"type": "session.updated", "session": {"id": self.chat_id, **fields}}, ready=True)]

    @property
    def _caller_rate(self) -> int:
        format_ = self.session.audio.input.format if self.session else None
        if format_ is None or format_.type == "audio/pcm":
            return (format_ and format_.rate) or 24_000
        return 8000

    def _hear(self, data: bytes, now: float) -> list[Action]:
        if self.session is None or self._parrot is None:
            self.early_audio += len(data)
            return []
        pcm = to_pcm(data, self.session.audio.input.format.type)
        self.caller_bytes += len(pcm)
        self.caller_audio += pcm
        a_second = 2 * self._caller_rate
        if len(self.caller_audio) > (KEPT_SECONDS + 10) * a_second:
            del self.caller_audio[: -KEPT_SECONDS * a_second]
        if self._detector is None:
            return []
        actions: list[Action] = []
        before = self._detector.onsets
        events = self._detector.feed(np.frombuffer(pcm, "<i2"))
        self.onsets += self._detector.onsets - before
        for event in events:
            if isinstance(event, Turn):
                actions += self._turn(event, self._parrot, now)
            else:
                actions += self._caller_speaks(event, now)
        if self._speaking is not None and not self._detector.in_turn:
            actions += self._caller_stops(self._caller_ms)  # it was a knock: nothing to answer
        return actions

    @property
    def _caller_ms(self) -> int:
        return self.caller_bytes * 1000 // (2 * self._caller_rate)

    def _caller_speaks(self, speech: Speaking, now: float) -> list[Action]:
        if self._speaking is not None or speech.run_ms < SPEECH_MS:
            return []
        self._speaking = f"item_{_hex(self._rng)}"
        begin = max(self._caller_ms - speech.turn_ms, 0)
        started = _event("input_audio_buffer.speech_started", audio_start_ms=begin, item_id=self._speaking)
        return [started, *(self._cancel(now) if self._busy else ())]

    def _cancel(self, now: float) -> list[Action]:
        if self._parrot is not None:
            self._parrot.pause(now)
            self._parrot.resume(now)
        self._decided = 0
        return [Hush(), Cancelled()]

    def _caller_stops(self, end_ms: int) -> list[Action]:
        item, self._speaking = self._speaking, None
        message = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "status": "completed"}
        message["content"] = [{"type": "input_audio", "transcript": None}]  # type: ignore[assignment]  # a JSON object
        return [
            _event("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item),
            _event("input_audio_buffer.committed", item_id=item, previous_item_id=None),
            *_added(message),
        ]

    def _turn(self, turn: Turn, parrot: Parrot, now: float) -> list[Action]:
        if self._speaking is None:
            self._speaking = f"item_{_hex(self._rng)}"
        item = self._speaking
        actions = self._caller_stops(turn.end_ms)
        said, *answer = parrot.turn(turn, self._caller_rate, 0, self._settings, now)
        if self.session is not None and self.session.audio.input.transcription and isinstance(said, UserMessage):
            words = _event(
                "conversation.item.input_audio_transcription.completed",
                item_id=item,
                content_index=0,
                transcript=said.message.content,
                usage={"type": "duration", "seconds": 1.0},
            )
            actions.append(Late(words, TRANSCRIPT_SECONDS))
        return [*actions, *(() if self._busy else answer)]

    def _add(self, create: ItemCreate, now: float) -> list[Action]:
        item = {"id": f"item_{_hex(self._rng)}", **create.item}
        text = "".join(str(part.get("text", "")) for part in item.get("content", ()))
        match item.get("type"), item.get("role"):
            case _ if str(item["id"]).startswith("seed_"):
                self.seeded.append(item)
            case "message", "user":
                self.user_inputs.append(text)
                self._typed = text
            case "message", "system":
                self._settings = msgspec.structs.replace(self._settings, context=Context(text, "persistent"))
            case "function_call_output", _:
                answer = ToolResponse(tool_call_id=str(item["call_id"]), content=str(item["output"]))
                self._answers.append(answer)
                self._output = answer
            case "force_message", _ if self._flat and self._parrot is not None:
                return self._parrot.say(text, now)
            case kind:
                raise ClientError("invalid_value", f"No item can be made of {kind}.", create.event_id, "item.type")
        return _added({"object": "realtime.item", "status": "completed", **item})

    def _truncate(self, cut: Truncate) -> list[Action]:
        length = self._replies.lengths.get(cut.item_id)
        if length is None:
            raise ClientError("item_truncate_invalid_item_id", f"There is no item {cut.item_id}.", cut.event_id)
        if cut.audio_end_ms > length:
            text = f"Audio content of {length:.0f}ms is already shorter than {cut.audio_end_ms}ms"
            raise ClientError("invalid_value", text, cut.event_id, "audio_end_ms")
        self.cuts[cut.item_id] = cut.audio_end_ms
        fields = {"item_id": cut.item_id, "content_index": 0, "audio_end_ms": cut.audio_end_ms}
        return [_event("conversation.item.truncated", **fields)]

    def _respond(self, create: ResponseCreate, now: float) -> list[Action]:
        if self._parrot is None:
            return []
        if self._busy:
            text = "Conversation already has an active response in progress."
            raise ClientError("conversation_already_has_active_response", text, create.event_id)
        parrot, typed, output = self._parrot, self._typed, self._output
        self._typed = self._output = None
        if wanted := (create.response or {}).get("instructions"):
            return parrot.say(str(wanted).partition("\n\n")[2], now)
        if output is not None:
            told = parrot.tool_answer(output, now)
            return told if any(isinstance(action, Say) for action in told) else parrot.say(output.content, now)
        if typed is not None:
            return [action for action in parrot.user_input(typed, self._settings, now) if _is_answer(action)]
        return parrot.say("How can I help you?", now)


def _is_answer(action: Action) -> bool:
    return not isinstance(action, UserMessage)


def _event(kind: str, **fields: Any) -> Event:
    return Event({"type": kind, **fields})


def _added(item: dict[str, Any]) -> list[Action]:
    kinds: Iterable[str] = ("conversation.item.added", "conversation.item.done")
    return [_event(kind, previous_item_id=None, item=item) for kind in kinds]


def _error(
    code: str,
    message: str,
    *,
    kind: str = "invalid_request_error",
    event_id: str | None = None,
    param: str | None = None,
) -> Event:
    error = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
    return _event("error", error=error)


def _hex(rng: np.random.Generator) -> str:
    return uuid.UUID(bytes=rng.bytes(16), version=4).hex[:20]
