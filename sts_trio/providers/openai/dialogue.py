"""One session's conversation: what the service says becomes events of the seam, what the call says becomes messages.

Pure; times in seconds. There is one response at a time, so a wish for one waits until the other is over and the caller
has finished speaking. What the service has cancelled is dropped, whatever of it is still under way.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from sts_trio.providers.events import AgentAudio, AgentText, AgentTurnEnd, UserInterruption, UserTurn, UserWords
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.heard import Heard
from sts_trio.providers.openai.meaning import fault, is_busy, may_pass
from sts_trio.providers.openai.toolbox import Toolbox

if TYPE_CHECKING:
    from sts_trio.providers.events import AgentEvent
    from sts_trio.providers.openai.codec import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.memory import Memory

_MOST_WISHES = 8  # for responses; one a keypad entry or prompt, and the agent answers within seconds
_REMEMBERED = 64  # ids of cancelled responses
_LONGEST_TEXT = 10_000  # characters of what the agent says in one item; some ten minutes
# After the caller's turn the service answers by itself; if it does not, our own wish is sent.
_ANSWER_SECONDS = 1.0
_RETRIES = 3  # of a response that failed, half a second apart and growing
_RETRY_SECONDS = 0.5


class Dialogue:
    """`events` are for the call, `out` is to be sent; `deadline` says when `expire` wants to be called."""

    def __init__(self, dialect: Dialect, codec: Codec, memory: Memory) -> None:
        self.events: deque[AgentEvent] = deque()
        self.out: deque[wire.ToService] = deque()
        self.deadline = inf
        self.caller_speaks = False
        self.tokens = (0, 0)  # in, out
        self._dialect = dialect
        self._codec = codec
        self._memory = memory
        memory.sessions += 1
        self._session = memory.sessions
        self._heard = Heard()
        self._tools = Toolbox()
        self._count = 0
        self._active: str | None = None  # the response under way; "" between our wish and its id
        self._asked: wire.ResponseCreate | None = None  # the wish that was sent last
        self._wishes: deque[wire.ResponseCreate] = deque(maxlen=_MOST_WISHES)
        self._cancelled: deque[str] = deque(maxlen=_REMEMBERED)
        self._failures = 0
        self._saying = ("", "", "")  # response, item and words of what is being said

    # The service.

    def take(self, message: wire.FromService, now: float) -> None:
        """Take what the service says."""
        match message:
            case wire.AudioDelta(response_id=response, item_id=item) if message.delta and not self._is_over(response):
                wav = self._codec.decode(message.delta)
                self._heard.give(item or "", wav.seconds, now)
                self.events.append(AgentAudio(response or "", wav))
            case wire.WordsDelta(response_id=response, item_id=item) if not self._is_over(response):
                before = self._saying[2] if self._saying[:2] == (response, item) else ""
                self._saying = (response or "", item or "", (before + (message.delta or ""))[:_LONGEST_TEXT])
            case wire.WordsDone(response_id=response, item_id=item) if not self._is_over(response):
                self._say_words(response or "", item or "", message.transcript or "")
            case wire.ResponseCreated(response=response):
                if self._active is None:
                    self._asked = None  # an answer of the service's own
                self._active, self.deadline = response.id or "", inf
            case wire.ItemDone(item=item, response_id=response):
                self._ask(item, response or "")
            case wire.ResponseDone(response=response):
                self._response_done(response, now)
            case wire.ServiceError():
                self._error(message.cause)
            case _:
                self._take_caller(message, now)

    def _take_caller(self, message: wire.FromService, now: float) -> None:
        """Take what the service says of the caller."""
        match message:
            case wire.SpeechStarted():
                self._caller_begins(now)
            case wire.SpeechStopped():
                self.caller_speaks = False
                self.deadline = now + _ANSWER_SECONDS
            case wire.Committed(item_id=item):
                self._memory.user_turn(item or "")
                self.events.append(UserTurn(""))
            case wire.CallerWords(item_id=item, transcript=words) if words and message.status != "in_progress":
                self._memory.user_words(item or "", words)
                self.events.append(UserWords(words))
            case wire.ItemAdded(item=item) if (text := _typed(item)) is not None:
                self._memory.user_words(item.id or "", text)
                self.events.append(UserTurn(text))
            case _:
                pass

    def _is_over(self, response: str | None) -> bool:
        return response in self._cancelled

    def _say_words(self, response: str, item: str, words: str) -> None:
        self._saying = ("", "", "")
        if words:
            self._memory.agent_words(item, words)
            self.events.append(AgentText(response, words))

    def _caller_begins(self, now: float) -> None:
        """The caller speaks, perhaps over the agent: the service then cancels its response by itself."""
        self.caller_speaks, self.deadline = True, inf
        if self._active:
            self._cancelled.append(self._active)
        response, item, words = self._saying
        self._say_words(response, item, words)
        if self._heard.playing(now):
            self.events.append(UserInterruption())

    def _ask(self, item: wire.Item, response: str) -> None:
        if (call := self._tools.ask(item, response)) is not None:
            self.events.append(call)

    def _response_done(self, response: wire.Response, now: float) -> None:
        id_, over = response.id or "", self._is_over(response.id)
        self._active = None
        if response.usage is not None:
            used = response.usage
            self.tokens = (self.tokens[0] + (used.input_tokens or 0), self.tokens[1] + (used.output_tokens or 0))
        if response.status == "failed":
            self._failed(response, now)
            return
        self._failures, self._asked = 0, None
        if response.status != "cancelled":
            for item in response.output or ():
                self._ask(item, id_)
            self._tools.responded(id_)
        if not over and not self._tools.asked_in(id_):
            self.events.append(AgentTurnEnd())
        self._send_wish()

    def _failed(self, response: wire.Response, now: float) -> None:
        cause = (response.status_details and response.status_details.error) or wire.Cause()
        self._failures += 1
        if may_pass(cause) and self._failures <= _RETRIES:
            self._wishes.appendleft(self._asked or self._wish())
            self.deadline = now + _RETRY_SECONDS * self._failures
            return
        self._failures, self._asked = 0, None
        told = fault(cause, self._dialect)
        if told is not None:
            self.events.append(told)
        self.events.append(AgentTurnEnd())
        self._send_wish()

    def _error(self, cause: wire.Cause) -> None:
        about = str(cause.event_id or "")
        if about.startswith(("cut_", "seed")):
            return  # an item that is gone, or was not taken; the call does not depend on it
        if is_busy(cause):
            if self._asked is not None and about == self._asked.event_id:
                self._wishes.appendleft(self._asked)
                self._asked, self._active = None, self._active or ""  # over when the other one is
            return
        if self._active == "" and self._asked is not None and about == self._asked.event_id:
            self._active = None
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
        self._respond(self._wish({"instructions": words, "tool_choice": "none", "input": []}))

    def user_text(self, text: str) -> None:
        """Have `text` answered as if the caller had said it."""
        id_ = self._id("typed")
        self.out.append(wire.ItemCreate(id_, wire.message_item("user", text, id_)))
        self._respond(self._wish())

    def add_context(self, text: str) -> None:
        """Let the agent know `text`."""
        id_ = self._id("note")
        self._memory.note(text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("system", text, id_)))

    def answer(self, call_id: str, text: str, *, failed: bool) -> None:
        """Answer a function. The agent is silent until it is asked to speak on."""
        done, following, speak = self._tools.answered(call_id, failed=failed)
        if done is None:
            return
        output = f"Error: {text}" if failed else text
        self._memory.tool((done.id, done.name, done.arguments), output)
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.out.append(wire.ItemCreate(self._id("answer"), item))
        if following is not None:
            self.events.append(following)
        if speak:
            self._respond(self._wish())

    def cut_off(self, unheard: float) -> None:
        """Have the service forget what the caller did not hear."""
        for cut in self._heard.cut(unheard):
            self._memory.agent_heard(cut.item, cut.heard_ms / max(cut.of_ms, 1))
            if cut.heard_ms > 0:
                self.out.append(wire.Truncate(self._id("cut"), cut.item, cut.heard_ms))
            else:
                self.out.append(wire.ItemDelete(self._id("cut"), cut.item))

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        if self.deadline <= now:
            self.deadline = inf
            self._send_wish()

    # Responses.

    def _wish(self, response: dict[str, Any] | None = None) -> wire.ResponseCreate:
        return wire.ResponseCreate(self._id("respond"), response)

    def _respond(self, wish: wire.ResponseCreate) -> None:
        self._wishes.append(wish)
        self._send_wish()

    def _send_wish(self) -> None:
        if self._wishes and self._active is None and not self.caller_speaks and self.deadline == inf:
            self._asked = self._wishes.popleft()
            self._active = ""
            self.out.append(self._asked)

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._session}_{self._count}"  # no two the same in a call: a memory knows items by them


def _typed(item: wire.Item) -> str | None:
    """The text that we typed for the caller, when the service takes it up."""
    if not (item.id or "").startswith("typed_"):
        return None
    return "".join(part.text or "" for part in item.content or ())
