"""One session of the Realtime protocol, without its connection. Parrot and voice are the EVI emulator's.

As with the real service: nothing is understood before `session.updated`, an update is taken whole or not at all, a
function's output is not answered until a response is asked for, and there is one response at a time. What is refused,
and how: docs/protocols/realtime.md 5.1. Its bad days are `troubles`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.lab.emulator.chat import KEPT_TEXTS, ChatProtocol, Close
from sts_trio.lab.emulator.evi.wire import ErrorMessage, Event
from sts_trio.lab.emulator.realtime.agent import Agent
from sts_trio.lab.emulator.realtime.caller_audio import CallerAudio, SpeechBegan
from sts_trio.lab.emulator.realtime.events import committed, error, event, new_id, speech_started, speech_stopped
from sts_trio.lab.emulator.realtime.items import Items, Memory, text_of
from sts_trio.lab.emulator.realtime.malformed import MALFORMED
from sts_trio.lab.emulator.realtime.session import merged, read_session
from sts_trio.lab.emulator.realtime.troubles import Troubles
from sts_trio.lab.emulator.realtime.wire import (
    Append,
    Clear,
    ClientError,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    Truncate,
    parse_client,
    parse_realtime,
)
from sts_trio.lab.emulator.steps import SendRaw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from sts_trio.lab.emulator.chat import Action, ToClient
    from sts_trio.lab.emulator.evi.handshake import ChatQuery
    from sts_trio.lab.emulator.evi.wire import ToolError, ToolResponse
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.realtime.session import FlatSession, Session
    from sts_trio.lab.emulator.realtime.steps import RealtimeStep
    from sts_trio.lab.emulator.realtime.wire import ClientMessage

LONGEST_SESSION = 3600.0
MODELS = ("gpt-realtime", "grok-voice")
CLOSES = {"invalid_api_key": 3000, "model_not_found": 4004}
NOT_XAI = {"conversation.item.done", "rate_limits.updated"}  # docs/protocols/realtime.md 9.1


class RealtimeChat(ChatProtocol):
    """One session's state; see `ChatProtocol`. `items` is what the client made of the conversation.

    `refused`: the codes of the errors that it was told, the newest `KEPT_TEXTS`.
    """

    malformed = MALFORMED
    parse_upgrade = staticmethod(parse_realtime)

    def __init__(
        self, options: EmulatorOptions, query: ChatQuery, rng: np.random.Generator, group: str | None, now: float
    ) -> None:
        super().__init__(options, query, f"sess_{new_id(rng)}", group or f"conv_{new_id(rng)}", now)
        self.session: Session | FlatSession | None = None
        self.refused: deque[str] = deque(maxlen=KEPT_TEXTS)
        self._taken_up = group is not None
        self._flat = options.provider.flat_session
        self._rng = rng
        self._audio = CallerAudio(lambda: f"item_{new_id(rng)}")
        self._fields: dict[str, Any] = {}  # of the session, as they were told
        self._replayed: tuple[dict[str, Any], ...] = ()  # items of an earlier session, still to be told
        self._told = True  # what is the first to be told of it
        self._cut_at = math.inf  # when an agent who is spoken over stops
        self._troubles = Troubles(rng)
        self.items = Items(forces=self._flat)
        self._agent = Agent(options, rng, self.items, self._troubles)

    # What a test looks at.

    @property
    def caller_audio(self) -> bytearray:
        """What came as audio, in linear PCM."""
        return self._audio.audio

    @property
    def caller_bytes(self) -> int:
        """How much of it came in all."""
        return self._audio.heard_bytes

    @property
    def early_audio(self) -> int:
        """How much audio came before the session was set up."""
        return self._audio.early_bytes

    @property
    def onsets(self) -> int:
        """How often the caller began to speak."""
        return self._audio.onsets

    @property
    def resumed(self) -> bool:
        """Whether it goes on with an earlier conversation."""
        return self._taken_up or bool(self.items.seeded)

    @property
    def prompt(self) -> str:
        """The prompt in force."""
        return self.session.instructions if self.session else ""

    @property
    def user_inputs(self) -> Sequence[str]:
        """What the client typed for the caller."""
        return self.items.user_inputs

    @property
    def _answers(self) -> Iterable[ToolResponse | ToolError]:
        return self.items.answers

    # What the server does with it.

    @property
    def memory(self) -> Memory:
        """See `ChatProtocol`."""
        return self.items.memory(self._agent.unanswered)

    def take_up(self, memory: object) -> None:
        """Go on with an earlier conversation, whose items are told before `session.updated`."""
        if isinstance(memory, Memory):
            self.items.remember(memory)
            self._replayed = memory.items

    def befall(self, step: RealtimeStep) -> None:
        """Have a bad day from now on."""
        self._troubles.add(step)

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self._began + self._longest, self._cut_at, self._agent.deadline, self._troubles.due)

    @property
    def _longest(self) -> float:
        return min(self._options.max_duration, LONGEST_SESSION)

    def open(self, now: float, *, metadata: bool = True) -> list[Action]:  # noqa: ARG002  # `ChatProtocol` has it
        """Begin. A wrong model, like a wrong key, is refused after the upgrade."""
        model = self.query.raw.get("model", "")
        if not model.startswith(MODELS):
            return self.refuse("model_not_found", "invalid_request_error", f"The model {model} does not exist.")
        self._told = metadata
        if not metadata:
            return []
        expires = int(time.time() + self._longest)
        created = {"id": self.chat_id, "object": "realtime.session", "type": "realtime", "expires_at": expires}
        actions: list[Action] = [event("session.created", session=created)]
        if self._flat:
            actions.append(event("conversation.created", conversation={"id": self.group_id}))
        return actions

    def refuse(self, code: str, slug: str, message: str) -> list[Action]:
        """End a session that cannot begin."""
        self._over = True
        return [error(code, message, kind=slug), Close(CLOSES.get(code, 1008), f"{slug}.{code}")]

    def receive(self, data: str | bytes, now: float) -> list[Action]:
        """Take one frame from the client."""
        if self._over:
            return []
        self.messages_received += 1
        try:
            return self._read(parse_client(data), now)
        except ClientError as exc:
            self.refused.append(exc.code)
            return [error(exc.code, exc.message, event_id=exc.event_id, param=exc.param)]

    def tick(self, now: float) -> list[Action]:
        """Keep the limit, and do what is due."""
        if self._over:
            return []
        if now >= self._began + self._longest:
            self._over = True
            text = "Your session hit the maximum duration of 60 minutes."
            return [error("session_expired", text), Close(1001, text)]
        actions: list[Action] = [SendRaw(data=text) for text in self._troubles.release(now)]
        if self._cut_at <= now:
            self._cut_at = math.inf
            actions += self._agent.cancel("turn_detected", now)
        return [*actions, *self._agent.tick(now)]

    def encode(self, message: ToClient, now: float) -> list[str]:
        """Return the text frames of a message; what is late comes from `tick`."""
        match message:
            case Event():
                events = [message]
            case ErrorMessage(code=code, slug=slug, message=text):
                events = [error(code, text, kind=slug)]
            case _:
                events = self._agent.tell(message, now)
        texts: list[str] = []
        for told in events:
            kind = told.fields["type"]
            late = None if self._flat and kind in NOT_XAI else self._troubles.lateness(kind)
            if late is None:
                continue
            fields = {"event_id": f"event_{new_id(self._rng)}", **self._troubles.changed(told.fields)}
            text = msgspec.json.encode(fields).decode()
            if late:
                self._troubles.hold(text, now + late)
            else:
                texts.append(text)
        return texts

    # --- inside ---

    def _read(self, message: ClientMessage, now: float) -> list[Action]:
        message = self._meant(message)
        match message:
            case SessionUpdate(session=fields, event_id=event_id):
                return self._update(fields, event_id, now)
            case Append(audio=data):
                return self._hear(data, now)
            case Clear():
                return [event("input_audio_buffer.cleared")]
            case ItemCreate():
                return self._add(message, now)
            case ItemRetrieve():
                return self.items.retrieve(message)
            case ItemDelete():
                return self.items.delete(message)
            case Truncate():
                return self.items.truncate(message)
            case ResponseCreate():
                return self._agent.respond(message, now)
            case ResponseCancel(event_id=event_id):
                if not self._agent.busy:
                    text = "Cancellation failed: no active response found"
                    raise ClientError("response_cancel_not_active", text, event_id)
                return self._agent.cancel("client_cancelled", now)

    def _meant(self, message: ClientMessage) -> ClientMessage:
        """The same, of the items that are meant: a client may have been told numbers in place of their ids."""
        if isinstance(message, ItemDelete | ItemRetrieve | Truncate):
            return msgspec.structs.replace(message, item_id=self._troubles.real_id(message.item_id))
        if isinstance(message, ItemCreate) and isinstance(call := message.item.get("call_id"), str):
            return msgspec.structs.replace(message, item={**message.item, "call_id": self._troubles.real_id(call)})
        return message

    def _update(self, update: dict[str, Any], event_id: str | None, now: float) -> list[Action]:
        model = self.query.raw.get("model", "")
        kept = {name: value for name, value in self._fields.items() if name != "type"}  # each update must say that
        fields = merged(kept, update)
        session = read_session(fields, flat=self._flat, model=model, event_id=event_id)
        if self._troubles.refuses_transcription and (wanted := session.audio.input.transcription) and wanted.model:
            place = "session.audio.input.transcription.model"
            raise ClientError("invalid_value", f"The model '{wanted.model}' is not to be had.", event_id, place)
        if self.session and session.spoken_by != self.session.spoken_by and self._agent.has_spoken:
            text = "Cannot update a conversation's voice if assistant audio is present."
            raise ClientError("cannot_update_voice", text, event_id, "session.audio.output.voice")
        self.session, self._fields = session, fields
        self._audio.set_up(session)
        self._agent.set_up(session, now)
        if not self._told:
            return []
        expires = int(time.time() + self._longest)
        whole = {"id": self.chat_id, "object": "realtime.session", "model": model, "expires_at": expires, **fields}
        before = [event("conversation.item.added", previous_item_id=None, item=item) for item in self._replayed]
        self._replayed = ()
        return [*before, Event({"type": "session.updated", "session": whole}, ready=True)]

    def _hear(self, data: bytes, now: float) -> list[Action]:
        actions: list[Action] = []
        for heard in self._audio.hear(data):
            if isinstance(heard, SpeechBegan):
                actions += [speech_started(heard.item, heard.at_ms), *self._agent.write_down_early(heard.item)]
                actions += self._interrupt(now)
                continue
            actions.append(speech_stopped(heard.item, heard.at_ms))
            words = ""
            answer: list[Action] = []
            if heard.turn is not None:
                words, answer = self._agent.hear(heard.turn, self._audio.rate, now)
                actions += self._agent.write_down_early(heard.item, words)
            actions += committed(heard.item, self.items.append(heard.item, "caller"))
            if heard.turn is not None:
                actions += self._agent.write_down(heard.item, words)
            actions += answer
        return actions

    def _interrupt(self, now: float) -> list[Action]:
        """The caller speaks: the agent is cut off, now or soon, if the session says so."""
        detection = self.session.detection if self.session else None
        if detection is None or not detection.interrupt_response:
            return []
        if self._troubles.cancel_seconds and self._agent.busy:
            self._cut_at = now + self._troubles.cancel_seconds
            return []
        return self._agent.cancel("turn_detected", now)

    def _add(self, create: ItemCreate, now: float) -> list[Action]:
        added = self.items.add(create, f"item_{new_id(self._rng)}")
        if create.item["type"] == "force_message":
            return self._agent.say(text_of(create.item), now)
        if self.items.context is not None:
            self._agent.know(self.items.context)
        return added
