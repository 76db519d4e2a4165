"""One session of the Realtime protocol, without its connection. Parrot and voice are the EVI emulator's.

As with the real service: nothing is understood before `session.updated`, an update is taken whole or not at all, a
function's output is not answered until a response is asked for, and there is one response at a time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from sts_trio.lab.emulator.actions import Close
from sts_trio.lab.emulator.openai.agent import Agent
from sts_trio.lab.emulator.openai.ear import Begun, Ear
from sts_trio.lab.emulator.openai.events import error, event, new_id, turn_over
from sts_trio.lab.emulator.openai.items import Items, text_of
from sts_trio.lab.emulator.openai.junk import TEXTS
from sts_trio.lab.emulator.openai.wire import (
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
from sts_trio.lab.emulator.wire import ErrorMessage, Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from sts_trio.lab.emulator.actions import Action
    from sts_trio.lab.emulator.openai.wire import ClientMessage, FlatSession, Session
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.query import ChatQuery
    from sts_trio.lab.emulator.talk import ToClient
    from sts_trio.lab.emulator.wire import ToolError, ToolResponse

LONGEST_SESSION = 3600.0
MODELS = ("gpt-realtime", "grok-voice")
CLOSES = {"invalid_api_key": 3000, "model_not_found": 4004}


class RealtimeChat:
    """One session's state; see `chat.Chat`. `items` is what the client made of the conversation."""

    def __init__(
        self, options: EmulatorOptions, query: ChatQuery, rng: np.random.Generator, group: str | None, now: float
    ) -> None:
        self.query = query
        self.chat_id = f"sess_{new_id(rng)}"
        self.group_id = group or f"conv_{new_id(rng)}"
        self.session: Session | FlatSession | None = None
        self.messages_received = 0
        self._taken_up = group is not None
        self._options = options
        self._flat = options.service == "xai"
        self._rng = rng
        self._began = now
        self._over = False
        self._ear = Ear(lambda: f"item_{new_id(rng)}")
        self._agent = Agent(options, rng)
        self.items = Items(self._agent.lengths)

    # What a test looks at.

    @property
    def caller_audio(self) -> bytearray:
        """What came as audio, in linear PCM."""
        return self._ear.audio

    @property
    def caller_bytes(self) -> int:
        """How much of it came in all."""
        return self._ear.heard_bytes

    @property
    def early_audio(self) -> int:
        """How much audio came before the session was set up."""
        return self._ear.early_bytes

    @property
    def onsets(self) -> int:
        """How often the caller began to speak."""
        return self._ear.onsets

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
    def tool_answers(self) -> dict[str, list[ToolResponse | ToolError]]:
        """What the client answered, by the id of the call, in order."""
        answers: dict[str, list[ToolResponse | ToolError]] = {}
        for answer in self.items.answers:
            answers.setdefault(answer.tool_call_id, []).append(answer)
        return answers

    @property
    def junk(self) -> Mapping[str, str]:
        """What no such service would send, by kind."""
        return TEXTS

    # What the server does with it.

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._began + self._longest

    @property
    def _longest(self) -> float:
        return min(self._options.max_duration, LONGEST_SESSION)

    def open(self, now: float, *, metadata: bool = True) -> list[Action]:  # noqa: ARG002  # `Talk` has it
        """Begin. A wrong model is told after the upgrade, as a wrong key is."""
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
            case Event(fields=fields):
                events = [fields]
            case ErrorMessage(code=code, slug=slug, message=text):
                events = [error(code, text, kind=slug).fields]
            case _:
                events = self._agent.tell(message)
        return [msgspec.json.encode({"event_id": f"event_{new_id(self._rng)}", **told}).decode() for told in events]

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
        self._ear.set_up(session)
        self._agent.set_up(session, now)
        return [Event({"type": "session.updated", "session": {"id": self.chat_id, **fields}}, ready=True)]

    def _hear(self, data: bytes, now: float) -> list[Action]:
        actions: list[Action] = []
        for heard in self._ear.hear(data):
            if isinstance(heard, Begun):
                begun = event("input_audio_buffer.speech_started", audio_start_ms=heard.at_ms, item_id=heard.item)
                actions += [begun, *self._agent.cancel(now)]
                continue
            actions += turn_over(heard.item, heard.at_ms)
            if heard.turn is not None:
                actions += self._agent.answer(heard.turn, heard.item, self._ear.rate, now)
        return actions

    def _add(self, create: ItemCreate, now: float) -> list[Action]:
        item = {"id": f"item_{new_id(self._rng)}", **create.item}
        if item.get("type") == "force_message" and self._flat:
            return self._agent.say(text_of(item), now)
        added = self.items.add(create, item)
        if self.items.context is not None:
            self._agent.know(self.items.context)
        return added
