"""Turns what the parrot says into the events of responses, and knows which one is under way. Pure.

It follows what is sent: nothing is in the conversation before the client has been told of it.
"""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

from sts_trio.lab.emulator.evi.wire import AssistantEnd, AssistantMessage, AudioOutput, Ended, ToolCall, Written
from sts_trio.lab.emulator.realtime.events import (
    SpokenItem,
    event,
    item_added,
    item_done,
    rate_limits,
    response_created,
    response_done,
)
from sts_trio.lab.sample_formats import from_pcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.lab.emulator.chat import ToClient
    from sts_trio.lab.emulator.evi.wire import Event
    from sts_trio.lab.emulator.realtime.items import Items

Fields = dict[str, Any]


class Replies:
    """`active` is the response that has been begun and is not done; `ending` says how, once all of it has been said.

    `kind` is the sample format of the session, `calls` how often a function is asked for, `metadata` what the client
    asked for the next response with.
    """

    def __init__(self, new_id: Callable[[str], str], items: Items) -> None:
        self.kind = "audio/pcm"
        self.calls = 1
        self.metadata: Fields | None = None
        self.active: str | None = None
        self.ending: Ended | None = None
        self._new_id = new_id
        self._items = items
        self._saying: SpokenItem | None = None
        self._output: list[Fields] = []
        self._asked: list[str] = []  # ids of the calls in it
        self._call_made: ToolCall | None = None  # which they are of
        self._metadata: Fields | None = None  # of the active one

    @property
    def answers(self) -> bool:
        """Whether something has been said aloud, or a function been asked for. A text alone answers no caller."""
        return any(item["type"] == "function_call" or "output_audio" in str(item["content"]) for item in self._output)

    def tell(self, message: ToClient) -> list[Event]:
        """Return the events that a message of the parrot's becomes. Afterwards `ending` may say that `close` is due."""
        match message:
            case AssistantMessage(id=segment, message=words):
                return self._say(segment, words.content or "", voice=True)
            case Written(id=segment, text=text):
                return self._say(segment, text, voice=False)
            case AudioOutput(id=segment, data=data):
                return [self._audio(segment, data)]
            case AssistantEnd():
                self.ending = Ended("completed")
                return self._finish_words("completed")
            case ToolCall():
                return self._call(message)
            case Ended(status=status):
                begun = self._begin() if status != "cancelled" else []
                self.ending = message if self.active else None
                return [*begun, *self._finish_words("completed" if status == "completed" else "incomplete")]
            case _:
                return []

    def close(self) -> list[Event]:
        """The response is over: what it asked for can be answered now, and another one be begun."""
        ending, done = self.ending, self.active
        if ending is None or done is None:
            return []
        self.active = self.ending = None
        self._items.open_calls(self._asked, self._call_made)
        meter = self._items.meter
        over = response_done(
            done,
            ending.status,
            self._output,
            ending.reason,
            cause=ending.cause,
            metadata=self._metadata,
            usage=meter.charge(),
        )
        return [over, rate_limits(meter.remaining, meter.limit)]

    def _begin(self, id_: str | None = None) -> list[Event]:
        """Begin a response, if none is under way."""
        if self.active is not None and self.ending is None:
            return []
        events = self.close()
        self.active = id_ or self._new_id("resp")
        self._output, self._asked = [], []
        self._metadata, self.metadata = self.metadata, None
        return [*events, response_created(self.active, self._metadata)]

    def _say(self, segment: str, words: str, *, voice: bool) -> list[Event]:
        events = self._begin(f"resp_{segment}")
        item = f"item_{segment}"
        before = self._items.append(item, "voice" if voice else "text")
        self._items.meter.say(words)
        self._saying = SpokenItem(f"resp_{segment}", item, words, before, voice)
        return [*events, *self._saying.begin_item(), self._saying.say(words)]

    def _audio(self, segment: str, data: bytes) -> Event:
        with wave.open(io.BytesIO(data)) as file:
            pcm = file.readframes(file.getnframes())
            seconds = file.getnframes() / file.getframerate()
        item = SpokenItem(f"resp_{segment}", f"item_{segment}")
        self._items.speak(item.item, seconds)
        return event("response.output_audio.delta", **item.ids, delta=from_pcm(pcm, self.kind))

    def _finish_words(self, status: str) -> list[Event]:
        said, self._saying = self._saying, None
        if said is None:
            return []
        self._output.append(said.message(status))
        self._items.record(said.message(status))
        return said.end(status)

    def _call(self, call: ToolCall) -> list[Event]:
        events = [*self._finish_words("completed"), *self._begin()]
        ids = [call.tool_call_id, *(self._new_id("call") for _ in range(self.calls - 1))]
        for id_ in ids:
            events += self._function(call, id_)
        self._call_made = call
        self.ending = Ended("completed")
        return events

    def _function(self, call: ToolCall, call_id: str) -> list[Event]:
        item_id, index, response = self._new_id("item"), len(self._output), self.active or ""
        before = self._items.append(item_id, "call")
        head = {"id": item_id, "object": "realtime.item", "type": "function_call"}
        item = {**head, "name": call.name, "call_id": call_id}
        whole = {**item, "status": "completed", "arguments": call.parameters}
        self._items.meter.say(call.name + call.parameters)
        self._output.append(whole)
        self._items.record(whole)
        self._asked.append(call_id)
        arguments = event(
            "response.function_call_arguments.done",
            response_id=response,
            item_id=item_id,
            output_index=index,
            call_id=call_id,
            name=call.name,
            arguments=call.parameters,
        )
        return [
            *item_added(response, {**item, "status": "in_progress", "arguments": ""}, index, before),
            arguments,
            *item_done(response, whole, index, before),
        ]
