"""What a response brings, part by part: to the call, as far as it is for the caller. Pure. Times in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.providers.openai import wire
from sts_trio.providers.openai.functions import is_call
from sts_trio.providers.openai.responses import Stage

if TYPE_CHECKING:
    from collections import deque

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.functions import Functions
    from sts_trio.providers.openai.responses import Answer
    from sts_trio.providers.openai.voice import AgentVoice
    from sts_trio.providers.openai.words import AgentWords


class AnswerParts:
    """Notes in an `Answer` what has come of it. A call of a function goes into `events`, also of one that was cut."""

    def __init__(self, functions: Functions, words: AgentWords, voice: AgentVoice, events: deque[AgentEvent]) -> None:
        self._functions = functions
        self._words = words
        self._voice = voice
        self._events = events

    def take(
        self, part: wire.AudioDelta | wire.WordsDelta | wire.WordsDone | wire.TextDone, answer: Answer, now: float
    ) -> None:
        """Take a piece of an item."""
        response, item = part.response_id or "", part.item_id or ""
        match part:
            case wire.AudioDelta():
                self._speak(part, answer, now)
            case wire.TextDone():
                answer.written[item] = None
            case wire.WordsDelta() if answer.stage is not Stage.CUT:
                self._words.more(response, item, part.delta or "")
            case wire.WordsDone() if answer.stage is not Stage.CUT:
                self._words.whole(response, item, part.transcript or "")
            case _:
                pass

    def whole(self, item: wire.Item, answer: Answer, now: float) -> None:
        """Take an item that is complete."""
        if item.is_text:
            answer.written[item.id or ""] = None
            self._voice.is_text(item.id or "")
        self._call(item, answer, answer.key, now)

    def all(self, done: wire.Response, answer: Answer | None, now: float) -> None:
        """Take what its end says of a response, again or for the first time; None for one that nobody saw begin."""
        for item in done.items:
            if item.text and answer is not None:
                answer.written[item.id or ""] = None
            if done.status not in ("cancelled", "failed"):
                self._call(item, answer, answer.key if answer is not None else done.id or "", now)

    def _speak(self, chunk: wire.AudioDelta, answer: Answer, now: float) -> None:
        if not chunk.delta:
            return
        if answer.stage is not Stage.CUT:
            answer.voiced = True
            self._voice.give(chunk, now)
        elif chunk.item_id and chunk.item_id not in answer.unheard:
            answer.unheard.append(chunk.item_id)

    def _call(self, item: wire.Item, answer: Answer | None, response: str, now: float) -> None:
        if not is_call(item):
            return
        if answer is not None:
            answer.asked = True
        if (call := self._functions.ask(item, response, now)) is not None:
            self._events.append(call)
        if answer is not None and answer.done and answer.stage is not Stage.UNDER_WAY:
            self._functions.over(response, now)
