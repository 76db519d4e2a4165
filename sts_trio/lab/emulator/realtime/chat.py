"""One session of the Realtime protocol, without its connection. Parrot and voice are the EVI emulator's.

As with the real service: nothing is understood before `session.updated`, an update is taken whole or not at all, a
function's output is not answered until a response is asked for, and there is one response at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.lab.emulator.chat import ChatProtocol, Close
from sts_trio.lab.emulator.evi.wire import ErrorMessage, Event
from sts_trio.lab.emulator.realtime.agent import Agent
from sts_trio.lab.emulator.realtime.caller_audio import CallerAudio, SpeechBegan
from sts_trio.lab.emulator.realtime.events import error, event, new_id, speech_started, turn_over
from sts_trio.lab.emulator.realtime.items import Items, text_of
from sts_trio.lab.emulator.realtime.malformed import MALFORMED
from sts_trio.lab.emulator.realtime.wire import (
    Append,
    ClientError,
    ItemCreate,
    ItemDelete,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    Truncate,
    parse_client,
    parse_realtime,
    read_session,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from sts_trio.lab.emulator.chat import Action, ToClient
    from sts_trio.lab.emulator.evi.handshake import ChatQuery
    from sts_trio.lab.emulator.evi.wire import ToolError, ToolResponse
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.realtime.wire import ClientMessage, FlatSession, Session

LONGEST_SESSION = 3600.0
MODELS = ("gpt-realtime", "grok-voice")
CLOSES = {"invalid_api_key": 3000, "model_not_found": 4004}


class RealtimeChat(ChatProtocol):
    """One session's state; see `ChatProtocol`. `items` is what the client made of the conversation."""

    malformed = MALFORMED
    parse_upgrade = staticmethod(parse_realtime)

    def __init__(
        self, options: EmulatorOptions, query: ChatQuery, rng: np.random.Generator, group: str | None, now: float
    ) -> None:
        super().__init__(options, query, f"sess_{new_id(rng)}", group or f"conv_{new_id(rng)}", now)
        self.session: Session | FlatSession | None = None
        self._taken_up = group is not None
        self._flat = options.provider.flat_session
        self._rng = rng
        self._audio = CallerAudio(lambda: f"item_{new_id(rng)}")
        self._agent = Agent(options, rng)
        self.items = Items(self._agent.lengths)

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
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._began + self._longest

    @property
    def _longest(self) -> float:
        return min(self._options.max_duration, LONGEST_SESSION)

    def open(self, now: float, *, metadata: bool = True) -> list[Action]:  # noqa: ARG002  # `ChatProtocol` has it
        """Begin. A wrong model, like a wrong key, is refused after the upgrade."""
        model = self.query.raw.get("model", "")
        if not model.startswith(MODELS):
            return self.refuse("model_not_found", "invalid_request_error", f"The model {model} does not exist.")
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
            return self._agent.decided(self._read(parse_client(data), now))
        except ClientError as exc:
            return [error(exc.code, exc.message, event_id=exc.event_id, param=exc.param)]

    def tick(self, now: float) -> list[Action]:
        """Keep the limit."""
        if self._over or now < self.deadline:
            return []
        self._over = True
        text = "Your session hit the maximum duration of 60 minutes."
        return [error("session_expired", text), Close(1001, text)]

    def encode(self, message: ToClient) -> list[str]:
        """Return the text frames of a message."""
        match message:
            case Event():
                events = [message]
            case ErrorMessage(code=code, slug=slug, message=text):
                events = [error(code, text, kind=slug)]
            case _:
                events = self._agent.tell(message)
        return [
            msgspec.json.encode({"event_id": f"event_{new_id(self._rng)}", **told.fields}).decode() for told in events
        ]

    # --- inside ---

    def _read(self, message: ClientMessage, now: float) -> list[Action]:
        match message:
            case SessionUpdate(session=fields, event_id=event_id):
                return self._update(read_session(fields, flat=self._flat, event_id=event_id), fields, now)
            case Append(audio=data):
                return self._hear(data, now)
            case ItemCreate():
                return self._add(message, now)
            case ItemDelete():
                return self.items.delete(message)
            case Truncate():
                return self.items.truncate(message)
            case ResponseCreate():
                return self._agent.respond(message, self.items, now)
            case ResponseCancel(event_id=event_id):
                if not self._agent.busy:
                    raise ClientError("response_cancel_not_active", "There is no active response.", event_id)
                return self._agent.cancel(now)

    def _update(self, session: Session | FlatSession, fields: dict[str, Any], now: float) -> list[Action]:
        self.session = session
        self._audio.set_up(session)
        self._agent.set_up(session, now)
        return [Event({"type": "session.updated", "session": {"id": self.chat_id, **fields}}, ready=True)]

    def _hear(self, data: bytes, now: float) -> list[Action]:
        actions: list[Action] = []
        for heard in self._audio.hear(data):
            if isinstance(heard, SpeechBegan):
                actions += [speech_started(heard.item, heard.at_ms), *self._agent.cancel(now)]
                continue
            actions += turn_over(heard.item, heard.at_ms)
            if heard.turn is not None:
                actions += self._agent.answer(heard.turn, heard.item, self._audio.rate, now)
        return actions

    def _add(self, create: ItemCreate, now: float) -> list[Action]:
        item = {"id": f"item_{new_id(self._rng)}", **create.item}
        if item.get("type") == "force_message" and self._flat:
            return self._agent.say(text_of(item), now)
        added = self.items.add(create, item)
        if self.items.context is not None:
            self._agent.know(self.items.context)
        return added
