"""One session's conversation, the sans-I/O half of a link: messages in, events of the seam out, and vice versa. Pure.

Times in seconds. `Responses` knows when the agent may be asked to speak. A response may ask for several functions
(docs/protocols/realtime.md 7.4): the call gets each at once, and when all are answered the agent is asked to go on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from sts_trio.providers.base import (
    AgentAudio,
    AgentText,
    AgentTurnEnd,
    ToolCall,
    UserInterruption,
    UserSpeaks,
    UserTurn,
    UserWords,
)
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.dialect import fault
from sts_trio.providers.openai.history import OpenCall
from sts_trio.providers.openai.responses import Responses
from sts_trio.providers.reading import shown

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.history import History

_LONGEST_TEXT = 10_000  # characters of what the agent says in one item; some ten minutes
_ABOUT_ITEMS = ("cut_", "seed")  # an item that is gone, or was not taken: the call does not depend on it
_MOST_CALLS = 16  # of functions that are still to be answered; more are not asked for by any sane model
_CUT_OFF = "Your last answer was cut off by the connection, not by the caller. Go on with it from where it ends."


class RealtimeProtocol:
    """`events` are for the call, `out` is to be sent; `deadline` says when `expire` is to be called.

    `session` is the session's number in the call: ids of items begin with it, since the history knows items by them.
    `interrupts`: the service stops its answer when the caller speaks.
    """

    def __init__(
        self, dialect: Dialect, codec: Codec, history: History, session: int, *, interrupts: bool = True
    ) -> None:
        self.events: deque[AgentEvent] = deque()
        self.out: deque[wire.ToService] = deque()
        self._dialect = dialect
        self._interrupts = interrupts
        self._codec = codec
        self._history = history
        self._session = session
        self._count = 0
        self._played = history.played
        self._calls = history.calls
        self._seen_calls = history.seen_calls
        self._asking: str | None = None  # a response that has asked for functions, and may ask for more
        self._responses = Responses(self.out, self._id)
        self._voice: tuple[str | None, str | None] = (None, None)  # response and item of the last chunk
        self._saying = ("", "", "")  # response, item and words of what is being said

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return self._responses.deadline

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller is in the middle of a turn."""
        return self._responses.caller_speaks

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        self._responses.expire(now)

    def lost(self) -> None:
        """The session is over: what the agent was saying has been said."""
        self._say_words(*self._saying)

    # The service.

    def take(self, message: wire.FromService, now: float) -> None:
        """Take what the service says."""
        match message:
            case wire.AudioDelta():
                if message.delta and not self._responses.is_over(message.response_id):
                    self._speak(message, now)
            case wire.WordsDelta(response_id=response, item_id=item) if not self._responses.is_over(response):
                named = (response or "", item or "")
                before = self._saying[2] if self._saying[:2] == named else ""
                self._saying = (*named, (before + (message.delta or ""))[:_LONGEST_TEXT])
                self._history.agent_words(named[1], self._saying[2])
            case wire.WordsDone(response_id=response, item_id=item) if not self._responses.is_over(response):
                self._say_words(response or "", item or "", message.transcript or "")
            case wire.ResponseCreated(id=id_):
                self._asking = None
                self._responses.created(id_)
            case wire.ItemDone(item=item):
                self._ask(item, message.response_id or "")
            case wire.ResponseDone(response=response):
                self._response_done(response, now)
            case wire.ServiceError():
                self._error(message.cause, now)
            case _:
                self._take_caller(message, now)

    def _take_caller(self, message: wire.FromService, now: float) -> None:
        """Take what the service says of the caller."""
        match message:
            case wire.SpeechStarted():
                self._caller_begins(now)
            case wire.SpeechStopped():
                self._responses.caller_stops(now)
            case wire.Committed(item_id=item):
                if self._responses.caller_speaks:  # `speech_stopped` did not come
                    self._responses.caller_stops(now)
                self._history.user_turn(item or "")
                self.events.append(UserTurn(""))
            case wire.CallerWords(item_id=item, transcript=words) if words and message.status != "in_progress":
                self._history.user_words(item or "", words)
                self.events.append(UserWords(words))
            case wire.ItemAdded(item=item) if (text := self._typed(item)) is not None:
                self._history.user_words(item.id or "", text)
                self.events.append(UserTurn(text))
            case _:
                pass

    def _speak(self, chunk: wire.AudioDelta, now: float) -> None:
        """Give a chunk of the agent's voice to the call. A reply without a name cannot be told from the next one."""
        response, item = chunk.response_id, chunk.item_id
        if self._voice != (response, item):
            self._voice = (response, item)
            self._codec.begin()
        wav = self._codec.decode(chunk.delta)
        self._played.give(item or "", wav.seconds, now)
        self.events.append(AgentAudio(response or item or "", wav))

    def _say_words(self, response: str, item: str, words: str) -> None:
        self._saying = ("", "", "")
        if words:
            self._history.agent_words(item, words)
            self.events.append(AgentText(response or item, words))

    def _caller_begins(self, now: float) -> None:
        """The caller speaks, perhaps over the agent."""
        self._responses.caller_begins(cancels=self._interrupts)
        self.events.append(UserSpeaks())
        if not self._interrupts:  # they began together
            return
        response, item, words = self._saying
        self._say_words(response, item, words)
        if self._played.playing(now):
            self.events.append(UserInterruption())

    def _ask(self, item: wire.Item, response: str) -> None:
        """Hand a function that a response asks for to the call, once.

        A call that was cut short, by the caller or by a limit, is `incomplete`: its arguments may be half of what they
        were to be. Each stays open until it is answered, whatever is said meanwhile.
        """
        id_ = item.call_id or ""
        if item.type != "function_call" or item.status not in (None, "completed") or not id_ or id_ in self._seen_calls:
            return
        self._seen_calls.append(id_)
        if len(self._calls) < _MOST_CALLS:
            given = item.arguments
            arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else ""
            call = ToolCall(id_, shown(item.name), arguments or "{}", response_required=True, stays_open=True)
            self._calls[id_] = OpenCall(call, response, self._session)
            self._asking = response or None
            self.events.append(call)

    def _waits_for_answers(self, response: str) -> bool:
        return any((asked.response, asked.session) == (response, self._session) for asked in self._calls.values())

    def _response_done(self, response: wire.Response, now: float) -> None:
        id_, over = response.id or "", self._responses.is_over(response.id)
        if response.status not in ("cancelled", "failed"):
            for item in response.items:
                self._ask(item, id_)
        asked = self._waits_for_answers(id_)
        if id_ and id_ == self._asking:
            self._asking = None
            if not asked:  # all that it asked for has been answered already
                asked = True
                self._responses.request()
        if response.status == "failed" and not over:
            self._failed(response, now)
            return
        if not over:
            self._history.agent_done()
        if not over and not asked:
            self.events.append(AgentTurnEnd())
        self._responses.done()

    def _failed(self, response: wire.Response, now: float) -> None:
        cause = response.cause
        if self._responses.failed(cause, now):
            return
        if (told := fault(cause, self._dialect)) is not None:
            self.events.append(told)
        self.events.append(AgentTurnEnd())

    def _error(self, cause: wire.Cause, now: float) -> None:
        if str(cause.event_id or "").startswith(_ABOUT_ITEMS) or self._responses.refused(cause, now):
            return
        if (told := fault(cause, self._dialect)) is not None:
            self.events.append(told)

    # The call.

    def say(self, text: str) -> None:
        """Have `text` spoken as it stands: word for word where the service can, else by asking for just that."""
        if self._dialect.forces_message:
            item = {
                "type": "force_message",
                "role": "assistant",
                "interruptible": True,
                "content": [{"type": "output_text", "text": text}],
            }
            self.out.append(wire.ItemCreate(self._id("say"), item))
            return
        words = f"Say exactly the following to the caller, word for word, and nothing else:\n\n{text}"
        self._responses.request({"instructions": words, "tool_choice": "none", "input": []})

    def go_on(self, *, cut_off: bool) -> None:
        """Have the caller's last words answered, or an answer that was cut off by a break ended."""
        if cut_off:
            id_ = self._id("note")
            self.out.append(wire.ItemCreate(id_, wire.message_item("system", _CUT_OFF, id_)))
        self._responses.request()

    def user_text(self, text: str) -> None:
        """Have `text` answered as if the caller had said it."""
        id_ = self._id("typed")
        self._history.user_words(id_, text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("user", text, id_)))
        self._responses.request()

    def add_context(self, text: str) -> None:
        """Let the agent know `text`."""
        id_ = self._id("note")
        self._history.note(text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("system", text, id_)))

    def answer(self, call_id: str, text: str, *, failed: bool) -> None:
        """Answer a function. The agent is silent until it is asked to speak on."""
        if call_id not in self._calls:
            return
        asked = self._calls.pop(call_id)
        done, response = asked.call, asked.response
        output = f"Error: {text}" if failed else text
        self._history.tool((done.id, done.name, done.arguments), output)
        if asked.session != self._session and self._history.retold:  # this session does not know that it was asked for
            call = {"type": "function_call", "call_id": call_id, "name": done.name, "arguments": done.arguments}
            self.out.append(wire.ItemCreate(self._id("asked"), call))
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.out.append(wire.ItemCreate(self._id("answer"), item))
        if not self._waits_for_answers(response) and response != self._asking:
            self._responses.request()

    def stop(self) -> None:
        """Have the service stop speaking: the caller has pressed a key."""
        self._responses.stop()
        response, item, words = self._saying
        self._say_words(response, item, words)

    def truncate(self, unheard: float) -> None:
        """Have the service forget what the caller did not hear."""
        for cut in self._played.cut(unheard):
            if not cut.item:
                continue
            self._history.agent_heard(cut.item, cut.heard_ms / max(cut.of_ms, 1))
            if cut.heard_ms > 0:
                self.out.append(wire.Truncate(self._id("cut"), cut.item, cut.heard_ms))
            else:
                self.out.append(wire.ItemDelete(self._id("cut"), cut.item))

    def _typed(self, item: wire.Item) -> str | None:
        """The text that we typed for the caller, when the service takes it up."""
        if not (item.id or "").startswith(f"typed_{self._session}_"):
            return None
        return item.text

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._session}_{self._count}"
