"""The parrot in the Realtime protocol: it answers turns, and what it is asked to respond to, one response at a time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sts_trio.lab.emulator.chat import Flush, Late, Say
from sts_trio.lab.emulator.evi.settings import SessionSettings, Tool
from sts_trio.lab.emulator.evi.wire import Cancelled, Event, ToolCall, UserMessage
from sts_trio.lab.emulator.parrot import Parrot
from sts_trio.lab.emulator.realtime.events import Replies, new_id, transcribed
from sts_trio.lab.emulator.realtime.wire import ClientError
from sts_trio.lab.emulator.voice import VoiceFormat
from sts_trio.lab.sample_formats import PCM

if TYPE_CHECKING:
    import numpy as np

    from sts_trio.lab.emulator.chat import Action, ToClient
    from sts_trio.lab.emulator.evi.settings import Context
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.realtime.items import Items
    from sts_trio.lab.emulator.realtime.wire import FlatSession, ResponseCreate, Session
    from sts_trio.lab.emulator.turns import Turn

TRANSCRIPT_SECONDS = 0.3  # the model that writes words down is another, and later than the answer


class Agent:
    """Answers in responses, once `set_up` has been called. `lengths`: ms of voice that were sent, by item."""

    def __init__(self, options: EmulatorOptions, rng: np.random.Generator) -> None:
        self._options = options
        self._rng = rng
        self._replies = Replies(lambda kind: f"{kind}_{new_id(rng)}")
        self.lengths = self._replies.lengths
        self._settings = SessionSettings()
        self._parrot: Parrot | None = None
        self._transcribes = False
        self._decided = 0  # responses that have been decided on and not been begun

    @property
    def busy(self) -> bool:
        """Whether a response is under way, or about to be."""
        return self._decided > 0 or self._replies.active is not None

    def set_up(self, session: Session | FlatSession, now: float) -> None:
        """Speak in the way that a session wants."""
        tools = [Tool("function", t.name, msgspec.json.encode(t.parameters).decode()) for t in session.tools]
        self._settings = SessionSettings(tools=tools)
        self._transcribes = bool(session.audio.input.transcription)
        output = session.audio.output.format
        self._replies.kind = output.type
        if self._parrot is None:
            low, high = self._options.chunk_ms
            rate = output.rate or 24_000 if output.type == PCM else 8000
            self._parrot = Parrot(
                self._options,
                VoiceFormat(rate, 1, lambda: int(self._rng.integers(low, high, endpoint=True))),
                verbose=False,
                new_id=partial(new_id, self._rng),
                unix_ms=lambda: int(time.time() * 1000),
                began=now,
            )

    def decided(self, actions: list[Action]) -> list[Action]:
        """Return `actions`; remember how many responses they will start, so that `busy` is true before they do."""
        self._decided += sum(isinstance(action, Say | ToolCall) for action in actions)
        return actions

    def tell(self, message: ToClient) -> list[Event]:
        """Return the events that a message of the parrot's becomes when it is sent."""
        events = self._replies.tell(message)
        self._decided = max(self._decided - any(told.fields["type"] == "response.created" for told in events), 0)
        return events

    def know(self, context: Context) -> None:
        """Mention `context` in every answer from now on."""
        self._settings = msgspec.structs.replace(self._settings, context=context)

    def say(self, text: str, now: float) -> list[Action]:
        """Speak a text as it stands."""
        return self._parrot.say(text, now) if self._parrot else []

    def cancel(self, now: float) -> list[Action]:
        """Stop speaking, if it speaks."""
        if not self.busy:
            return []
        if self._parrot is not None:
            self._parrot.pause(now)
            self._parrot.resume(now)
        self._decided = 0
        return [Flush(), Cancelled()]

    def answer(self, turn: Turn, item: str, rate: int, now: float) -> list[Action]:
        """Answer what the caller said, at `rate` Hz; a transcript follows if the session asked for one."""
        if self._parrot is None:
            return []
        actions: list[Action] = []
        said, *answer = self._parrot.turn(turn, rate, 0, self._settings, now)
        if self._transcribes and isinstance(said, UserMessage):
            actions.append(Late(transcribed(item, said.message.content), TRANSCRIPT_SECONDS))
        return [*actions, *(() if self.busy else answer)]

    def respond(self, create: ResponseCreate, items: Items, now: float) -> list[Action]:
        """Respond to what has been added to the conversation. Raises ClientError while it is busy."""
        if self._parrot is None:
            return []
        if self.busy:
            text = "Conversation already has an active response in progress."
            raise ClientError("conversation_already_has_active_response", text, create.event_id)
        typed, output = items.take_unanswered()
        if wanted := (create.response or {}).get("instructions"):
            return self.say(str(wanted).partition("\n\n")[2], now)
        if output is not None:
            told = self._parrot.tool_answer(output, now)
            return told if any(isinstance(action, Say) for action in told) else self.say(output.content, now)
        if typed is not None:
            said = self._parrot.user_input(typed, self._settings, now)
            return [action for action in said if not isinstance(action, UserMessage)]
        return self.say("How can I help you?", now)
