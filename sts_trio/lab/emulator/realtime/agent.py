"""The parrot in the Realtime protocol: it answers turns, and what it is asked to respond to, one response at a time.

What the conversation has and no complete response has answered is the question: a response that the client asks for
answers it, or, where there is none, says that there is nothing to answer.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from sts_trio.lab.emulator.chat import Flush, Late, Say
from sts_trio.lab.emulator.evi.settings import SessionSettings, Tool
from sts_trio.lab.emulator.evi.wire import AssistantMessage, Ended, ToolCall, UserMessage
from sts_trio.lab.emulator.parrot import Parrot
from sts_trio.lab.emulator.realtime.events import new_id
from sts_trio.lab.emulator.realtime.replies import Replies
from sts_trio.lab.emulator.realtime.session import FunctionTool
from sts_trio.lab.emulator.realtime.troubles import single
from sts_trio.lab.emulator.realtime.wire import ClientError, Wanted
from sts_trio.lab.emulator.voice import VoiceFormat
from sts_trio.lab.sample_formats import PCM

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from sts_trio.lab.emulator.chat import Action, ToClient
    from sts_trio.lab.emulator.chat import Turn as Speech
    from sts_trio.lab.emulator.evi.settings import Context
    from sts_trio.lab.emulator.evi.wire import Event
    from sts_trio.lab.emulator.options import EmulatorOptions
    from sts_trio.lab.emulator.realtime.items import Items
    from sts_trio.lab.emulator.realtime.session import FlatSession, Session
    from sts_trio.lab.emulator.realtime.troubles import Troubles
    from sts_trio.lab.emulator.realtime.wire import ResponseCreate
    from sts_trio.lab.emulator.turns import Turn

    Answer = Callable[[float], list[Action]]

NOTHING = "How can I help you?"


class Agent:
    """Answers in responses, once `set_up` has been called."""

    def __init__(self, options: EmulatorOptions, rng: np.random.Generator, items: Items, troubles: Troubles) -> None:
        self._options = options
        self._rng = rng
        self._items = items
        self._troubles = troubles
        self._replies = Replies(lambda kind: f"{kind}_{new_id(rng)}", items)
        self._settings = SessionSettings()
        self._parrot: Parrot | None = None
        self._transcribes = False
        self._answers = True  # turns, by itself
        self._decided = 0  # responses that have been decided on and not been begun
        self._question: Answer | None = None
        self._words = ""  # of its answer
        self._answered: Answer | None = None  # the one that the response under way is to answer
        self._close_at = math.inf  # when the response under way is over: all of it has been said

    @property
    def busy(self) -> bool:
        """Whether a response is under way, or about to be."""
        return self._decided > 0 or self._replies.active is not None

    @property
    def has_spoken(self) -> bool:
        """Whether its voice has been heard: it cannot be changed any more."""
        return bool(self._items.lengths)

    def set_up(self, session: Session | FlatSession, now: float) -> None:
        """Speak in the way that a session wants."""
        tools = [
            Tool("function", t.name, msgspec.json.encode(t.parameters).decode())
            for t in session.tools
            if isinstance(t, FunctionTool)
        ]
        self._settings = msgspec.structs.replace(self._settings, tools=tools)
        self._transcribes = session.audio.input.transcription is not None
        self._answers = session.detection is not None and session.detection.create_response
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

    @property
    def unanswered(self) -> str | None:
        """How what is still to be answered would be."""
        return self._words if self._question is not None else None

    # What is sent.

    def tell(self, message: ToClient, now: float) -> list[Event]:
        """Return the events that a message of the parrot's becomes when it is sent."""
        self._replies.calls = self._troubles.calls
        events = self._replies.tell(message)
        self._decided = max(self._decided - any(told.fields["type"] == "response.created" for told in events), 0)
        if self._replies.ending is not None:
            if not self._troubles.done_seconds:
                return [*events, *self._close()]
            self._close_at = min(self._close_at, now + self._troubles.done_seconds)
        return events

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._close_at

    def tick(self, now: float) -> list[Event]:
        """End the response that is over."""
        return self._close() if self._close_at <= now else []

    def _close(self) -> list[Event]:
        self._close_at = math.inf
        ending = self._replies.ending
        answers = ending is not None and ending.status == "completed" and self._replies.answers
        if answers and self._answered is self._question:
            self._question = None
        return self._replies.close()

    # What the client does.

    def know(self, context: Context) -> None:
        """Mention `context` in every answer from now on."""
        self._settings = msgspec.structs.replace(self._settings, context=context)

    def say(self, text: str, now: float) -> list[Action]:
        """Speak a text as it stands."""
        self._answered = None
        return self._respond(self._spoken(text, now), now, asked=True)

    def cancel(self, reason: str, now: float) -> list[Action]:
        """Stop speaking, if it speaks."""
        if not self.busy:
            return []
        if self._parrot is not None:
            self._parrot.pause(now)
            self._parrot.resume(now)
        self._decided = 0
        return [Flush(), Ended("cancelled", reason)]

    def hear(self, turn: Turn, rate: int, now: float) -> tuple[str, list[Action]]:
        """Take what the caller said, at `rate` Hz: return its words, and the answer, if there is one by itself."""
        if self._parrot is None:
            return "", []
        self._items.meter.hear(turn.samples.size / rate)
        said = self._parrot.turn(turn, rate, 0, self._settings, now)[0]
        _, outputs = self._items.take_unanswered()
        told = " ".join(output.content for output in outputs)
        self._question = partial(self._parroted, turn, rate, told)
        words = (said.message.content if isinstance(said, UserMessage) else None) or ""
        self._words = f"{told} You said: {words}".lstrip()
        return words, self._ask(now) if self._answers and not self.busy else []

    def write_down(self, item: str, words: str) -> list[Action]:
        """What is told of the words of a turn, now that it has been committed."""
        if not self._transcribes:
            return []
        return [Late(told, by) for by, told in self._troubles.words_end(item, words)]

    def write_down_early(self, item: str, words: str | None = None) -> list[Action]:
        """The same before the commit: while the caller speaks, or, with `words`, when they have spoken."""
        if not self._transcribes:
            return []
        if words is None:
            return [Late(told, by) for by, told in self._troubles.words_begin(item)]
        return [*self._troubles.words_early(item, words)]

    def respond(self, create: ResponseCreate, now: float) -> list[Action]:
        """Respond to what has been added to the conversation. Raises ClientError while it is busy."""
        if self._parrot is None:
            return []
        if self.busy:
            active = self._replies.active or "a response"
            text = f"Conversation already has an active response in progress: {active}."
            raise ClientError("conversation_already_has_active_response", text, create.event_id)
        wanted = create.response or Wanted()
        self._replies.metadata = wanted.metadata
        before, _, exactly = (wanted.instructions or "").partition("\n\n")
        if exactly or (before and wanted.input == []):
            return self.say(exactly or before, now)
        self._wonder()
        return self._ask(now, asked=True)

    # Inside.

    def _wonder(self) -> None:
        """Find out what is to be answered: the newest that was typed, or the outputs of functions."""
        typed, outputs = self._items.take_unanswered()
        told = " ".join(output.content for output in outputs) or self._items.take_left_open()
        if typed is not None and not outputs:
            self._question, self._words = partial(self._typed, typed), f"You said: {typed}"
        elif told:
            self._question, self._words = partial(self._spoken, told), told
        elif self._question is None and (call := self._items.take_awaited()) is not None:
            self._question = partial(self._called, call)  # whose output it has not got: it asks again

    def _ask(self, now: float, *, asked: bool = False) -> list[Action]:
        question = self._answered = self._question or partial(self._spoken, NOTHING)
        return self._respond(question(now), now, asked=asked)

    def _respond(self, actions: list[Action], now: float, *, asked: bool) -> list[Action]:
        """Begin the response that these are; nothing, where none begins."""
        begun: list[Action] = []
        for action in actions:
            if not isinstance(action, Say | ToolCall):
                continue
            turn = action.turn if isinstance(action, Say) else single(action)
            if (made := self._troubles.of_response(turn, now, asked=asked)) is not None:
                begun.append(Say(made, self._troubles.answer_seconds))
        self._decided += len(begun)
        return begun

    def _parroted(self, turn: Turn, rate: int, told: str, now: float) -> list[Action]:
        """A turn in the caller's own voice; what came meanwhile is `told` first: it is part of the conversation."""
        answer = self._parrot.turn(turn, rate, 0, self._settings, now)[1:] if self._parrot else []
        return [Say(_told(told, each.turn)) if told and isinstance(each, Say) else each for each in answer]

    def _called(self, call: ToolCall, _now: float) -> list[Action]:
        return [msgspec.structs.replace(call, tool_call_id=f"call_{new_id(self._rng)}")]

    def _spoken(self, text: str, now: float) -> list[Action]:
        return self._parrot.say(text, now) if self._parrot else []

    def _typed(self, text: str, now: float) -> list[Action]:
        return self._parrot.user_input(text, self._settings, now) if self._parrot else []


def _told(told: str, turn: Speech) -> Speech:
    for at, item in turn:
        if isinstance(item, AssistantMessage):
            words = msgspec.structs.replace(item.message, content=f"{told} {item.message.content}")
            yield at, msgspec.structs.replace(item, message=words)
        else:
            yield at, item
