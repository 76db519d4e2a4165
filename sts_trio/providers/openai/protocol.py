"""One session's conversation: what the service says becomes events of the seam, what the call says becomes messages.

Pure; times in seconds. `Responses` knows when the agent may be asked to speak.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.providers.base import AgentAudio, AgentText, AgentTurnEnd, UserInterruption, UserTurn, UserWords
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.heard import PlaybackEstimate
from sts_trio.providers.openai.meaning import fault
from sts_trio.providers.openai.responses import Responses
from sts_trio.providers.openai.toolbox import ToolQueue

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.codec import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.history import History

_LONGEST_TEXT = 10_000  # characters of what the agent says in one item; some ten minutes
_ABOUT_ITEMS = ("cut_", "seed")  # an item that is gone, or was not taken: the call does not depend on it


class RealtimeProtocol:
    """`events` are for the call, `out` is to be sent; `deadline` says when `expire` wants to be called."""

    def __init__(self, dialect: Dialect, codec: Codec, history: History) -> None:
        self.events: deque[AgentEvent] = deque()
        self.out: deque[wire.ToService] = deque()
        self.tokens = (0, 0)  # in, out
        self._dialect = dialect
        self._codec = codec
        self._history = history
        history.sessions += 1
        self._session = history.sessions
        self._count = 0
        self._heard = PlaybackEstimate()
        self._tools = ToolQueue()
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
            case wire.WordsDone(response_id=response, item_id=item) if not self._responses.is_over(response):
                self._say_words(response or "", item or "", message.transcript or "")
            case wire.ResponseCreated(response=response):
                self._responses.created(response.id or "")
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
                if self._responses.caller_speaks:  # nobody told that he has stopped
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
        self._heard.give(item or "", wav.seconds, now)
        self.events.append(AgentAudio(response or item or "", wav))

    def _say_words(self, response: str, item: str, words: str) -> None:
        self._saying = ("", "", "")
        if words:
            self._history.agent_words(item, words)
            self.events.append(AgentText(response or item, words))

    def _caller_begins(self, now: float) -> None:
        """The caller speaks, perhaps over the agent."""
        self._responses.caller_begins()
        response, item, words = self._saying
        self._say_words(response, item, words)
        if self._heard.playing(now):
            self.events.append(UserInterruption())

    def _ask(self, item: wire.Item, response: str) -> None:
        if (call := self._tools.ask(item, response)) is not None:
            self.events.append(call)

    def _response_done(self, response: wire.Response, now: float) -> None:
        id_, over = response.id or "", self._responses.is_over(response.id)
        if response.usage is not None:
            used = response.usage
            self.tokens = (self.tokens[0] + (used.input_tokens or 0), self.tokens[1] + (used.output_tokens or 0))
        if response.status == "failed" and not over:
            self._failed(response, now)
            return
        if response.status not in ("cancelled", "failed"):
            for item in response.output or ():
                self._ask(item, id_)
        if not over and not self._tools.asked_in(id_):
            self.events.append(AgentTurnEnd())
        self._responses.done()

    def _failed(self, response: wire.Response, now: float) -> None:
        cause = (response.status_details and response.status_details.error) or wire.Cause()
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
        self._responses.want({"instructions": words, "tool_choice": "none", "input": []})

    def user_text(self, text: str) -> None:
        """Have `text` answered as if the caller had said it."""
        id_ = self._id("typed")
        self.out.append(wire.ItemCreate(id_, wire.message_item("user", text, id_)))
        self._responses.want()

    def add_context(self, text: str) -> None:
        """Let the agent know `text`."""
        id_ = self._id("note")
        self._history.note(text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("system", text, id_)))

    def answer(self, call_id: str, text: str, *, failed: bool) -> None:
        """Answer a function. The agent is silent until it is asked to speak on."""
        done, following = self._tools.answered(call_id)
        if done is None:
            return
        output = f"Error: {text}" if failed else text
        self._history.tool((done.id, done.name, done.arguments), output)
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.out.append(wire.ItemCreate(self._id("answer"), item))
        if following is not None:
            self.events.append(following)
        else:
            self._responses.want()

    def truncate(self, unheard: float) -> None:
        """Have the service forget what the caller did not hear."""
        for cut in self._heard.cut(unheard):
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
        return "".join(part.text or "" for part in item.content or ())

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._session}_{self._count}"  # no two the same in a call: a memory knows items by them
