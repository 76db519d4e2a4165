"""One session's conversation, the sans-I/O half of a link: messages in, events of the seam out, and vice versa. Pure.

| Who | Module | Its states |
|---|---|---|
| the caller: whether they speak, and their words | `caller` | `Caller` |
| the service's responses | `responses` | `responses.Stage` |
| what waits for an answer, and when the service is asked for one | `questions` | `question.Stage` |
| functions that the agent asks for | `functions` | `functions.State` |
| what a response brings: words, voice, calls | `parts`, `words`, `voice` | |

Here is only what one of them must know of another. Times in seconds.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.providers.base import (
    AgentFault,
    AgentRetry,
    AgentTurnEnd,
    RetryKind,
    SessionEnd,
    SessionEndKind,
    UserInterruption,
    UserTurn,
)
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.caller import Caller, CallerTurns
from sts_trio.providers.openai.dialect import fault, is_refused_output
from sts_trio.providers.openai.functions import Functions
from sts_trio.providers.openai.parts import AnswerParts
from sts_trio.providers.openai.question import Kind, Verdict
from sts_trio.providers.openai.questions import Questions
from sts_trio.providers.openai.responses import How, Responses, Stage, Useless
from sts_trio.providers.openai.voice import AgentVoice
from sts_trio.providers.openai.words import AgentWords

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai.audio import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.history import History
    from sts_trio.providers.openai.responses import Answer

_ABOUT_ITEMS = ("cut_", "seed")  # an item that is gone, or was not taken: the call does not depend on it
_CUT_OFF = "Your last answer was cut off by the connection, not by the caller. Go on with it from where it ends."
_MOST_TYPED = 16  # texts that the service has not taken up yet


class RealtimeProtocol:
    """`events` are for the call, `out` is to be sent; `deadline` says when `expire` is to be called.

    `session` is the session's number in the call: ids of items begin with it, since the history knows items by them.
    `patience`: an answer that has not begun after so many seconds does not come. `interrupts`: the service stops its
    answer when the caller speaks. `answers`: it answers their turns by itself.
    """

    def __init__(
        self,
        dialect: Dialect,
        codec: Codec,
        history: History,
        session: int,
        patience: float = 10.0,
        *,
        interrupts: bool = True,
        answers: bool = True,
    ) -> None:
        self.events: deque[AgentEvent] = deque()
        self.out: deque[wire.ToService] = deque()
        self._dialect = dialect
        self._interrupts = interrupts
        self._answers = answers
        self._history = history
        self._session = session
        self._count = 0
        self._caller = CallerTurns(history, self.events)
        self._responses = Responses(patience)
        self._questions = Questions(self.out, self.events, self._id, dialect, patience, self._give_up)
        self._functions = Functions(self.out, self._id, history, session, self._answered)
        self._words = AgentWords(history, self.events)
        self._voice = AgentVoice(codec, history, self.events, self.out, self._id)
        self._parts = AnswerParts(self._functions, self._words, self._voice, self.events)
        self._typed: dict[str, str] = {}  # texts by item

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return min(self._caller.deadline, self._responses.deadline, self._questions.deadline, self._functions.deadline)

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller is in the middle of a turn."""
        return self._caller.caller is Caller.SPEAKS

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        if self._caller.expire(now):
            self._turn_over(now)
        if self._responses.deadline <= now and (answer := self._responses.current) is not None:
            self._close(answer, now)
            self._questions.send(now)
        self._functions.expire(now)
        self._questions.expire(now)

    def take_over(self, now: float) -> None:
        """The session is open, and goes on with the conversation of the one before, if there was one."""
        self._functions.take_over(now)

    def lost(self) -> None:
        """The session is over: what either side was saying has been said."""
        self._caller.lost()
        self._words.tell()

    def _give_up(self, cause: str) -> None:
        self.lost()
        self.events.append(SessionEnd(cause, SessionEndKind.LOST))

    # The service.

    def take(self, message: wire.FromService, now: float) -> None:
        """Take what the service says."""
        match message:
            case wire.ResponseCreated(id=id_):
                self._created(id_, now)
            case wire.ResponseDone(response=done):
                self._done(done, now)
            case wire.ServiceError():
                self._error(message.cause, now)
            case wire.ItemBegun(item=item, response_id=response):
                self._sign(response, item.id, now)
            case wire.ItemDone(item=item, response_id=response):
                self._parts.whole(item, self._sign(response, item.id, now), now)
            case wire.AudioDelta() | wire.WordsDelta() | wire.WordsDone() | wire.TextDone():
                self._parts.take(message, self._sign(message.response_id, message.item_id, now), now)
            case _:
                self._take_caller(message, now)

    def _take_caller(self, message: wire.FromService, now: float) -> None:
        """Take what the service says of the caller, and of items."""
        match message:
            case wire.SpeechStarted(item_id=item):
                self._caller_begins(item or "", now)
            case wire.SpeechStopped(item_id=item):
                self._caller_stops(self._caller.stops, item or "", now)
            case wire.Committed(item_id=item):
                self._caller_stops(self._caller.commits, item or "", now)
            case wire.CallerWords(item_id=item, transcript=words):
                self._caller.says(item or "", words or "", now, final=message.status != "in_progress")
            case wire.NoCallerWords(item_id=item):
                self._caller.says_nothing(item or "")
            case wire.ItemAdded(item=item) | wire.ItemCreated(item=item):
                self._confirmed(item)
            case _:
                pass

    # The caller.

    def _caller_begins(self, item: str, now: float) -> None:
        """The caller speaks, perhaps over the agent. The service cancels its response by itself."""
        self._caller.begins(item, now)
        self._questions.caller_begins()
        if not self._interrupts:  # they began together
            return
        if (answer := self._responses.current) is not None:
            answer.stage = Stage.CUT
        self._words.tell()
        if self._voice.playing(now):
            self.events.append(UserInterruption())

    def _caller_stops(self, over: Callable[[str, float], bool], item: str, now: float) -> None:
        """The caller's turn is over, if this is the first that is heard of its end."""
        if self._caller.is_news(item):  # nobody said that it had begun
            self._caller_begins(item, now)
        if over(item, now):
            self._turn_over(now)

    def _turn_over(self, now: float) -> None:
        if self._answers:
            self._questions.turn(now)
        else:
            self._questions.caller_stops()
        self._questions.send(now)

    def _confirmed(self, item: wire.Item) -> None:
        """An item is in the conversation: the service takes up what was typed, or begins to say something."""
        id_ = item.id or ""
        self._questions.confirmed(id_)
        self._functions.confirmed(id_)
        if (text := self._typed.pop(id_, None)) is not None:
            self.events.append(UserTurn(text))
        if item.is_text:
            self._voice.is_text(id_)

    # Responses.

    def _sign(self, response: str | None, item: str | None, now: float) -> Answer:
        """Return the response that something belongs to. One that was never announced begins with it."""
        answer = self._responses.find(response or item or "")
        if answer is None:
            return self._begin(response or item or "", now, named=bool(response))
        if answer is self._responses.current:
            answer.sign_at = now
        return answer

    def _created(self, id_: str, now: float) -> None:
        answer = self._responses.find(id_)
        if answer is not None and (not answer.announced or answer is self._responses.current):
            answer.announced = True  # late
            answer.sign_at = now
        elif (current := self._responses.current) is not None and id_ and current.is_nameless:
            self._responses.name(current, id_)
        else:
            self._begin(id_, now, named=bool(id_)).announced = True

    def _begin(self, key: str, now: float, *, named: bool) -> Answer:
        if (before := self._responses.current) is not None:  # its end did not come
            self._close(before, now, replaced=True)
        answer = self._responses.begin(key, now, named=named)
        self._words.begin(key)
        self._caller.answered(now)
        verdict = self._questions.begun(interrupts=self._interrupts)
        if verdict is not Verdict.WELCOME:
            answer.stage = Stage.CUT
            answer.over_caller = verdict is Verdict.OVER_CALLER
            if verdict is Verdict.UNWANTED and named:
                self._cancel(answer)
        return answer

    def _cancel(self, answer: Answer) -> None:
        answer.stage = Stage.CUT
        if answer.named:
            self.out.append(wire.ResponseCancel(self._id("cancel"), answer.key))

    def _done(self, done: wire.Response, now: float) -> None:
        key = done.id or ""
        answer = self._responses.of_done(key)
        if answer is None and self._responses.current is None:
            answer = self._begin(key, now, named=bool(key))
        if answer is not None:
            answer.done = True
        self._parts.all(done, answer, now)
        if answer is not None and answer is self._responses.current:
            self._over(answer, answer.judge(done), now)
        else:
            self._functions.over(answer.key if answer else key, now)
        self._questions.send(now)

    def _close(self, answer: Answer, now: float, *, replaced: bool = False) -> None:
        """Take a response for over whose end does not come."""
        if not answer.begun and answer.stage is Stage.UNDER_WAY:
            if replaced:
                self._over(answer, How.REPLACED, now)
                return
            self._cancel(answer)
            self._over(answer, Useless(RetryKind.NO_ANSWER, "it began, and nothing came of it"), now)
            return
        self._over(answer, answer.judge(None), now)

    def _over(self, answer: Answer, how: How | Useless, now: float) -> None:
        """A response is over. Nothing is asked for yet."""
        if how is How.CUT and answer.stage is not Stage.CUT:  # the caller has interrupted it, and nobody said so
            self._caller_begins("", now)
        if answer.stage is not Stage.CUT:
            self._words.tell(answer.key)
        self._responses.over(answer)
        self._voice.drop(answer.unheard)
        self._functions.over(answer.key, now)
        if isinstance(how, Useless):
            if how.kind is RetryKind.TEXT:  # with it in the conversation there would be nothing left to be said
                self._voice.forget(answer.written)
            self._useless(how, now)
            return
        self._questions.ended(how, now)
        if how in (How.SPOKE, How.ASKED):
            self._history.agent_done()
        if how is How.SPOKE:
            self._functions.spoken()
            self.events.append(AgentTurnEnd())

    def _useless(self, why: Useless, now: float) -> None:
        if why.kind is RetryKind.UNHEARD:
            self._caller.silenced(now)
            self._questions.ended(why, now)
            self._questions.turn(now, asks=False)
            self.events.append(AgentRetry(why.kind, why.about))
            return
        if self._questions.ended(why, now):
            return
        told = fault(why.cause, self._dialect) if why.cause is not None else None
        self.events.append(told or AgentFault(f"{self._dialect.name} gives no answer to be heard: {why.about}"))
        self.events.append(AgentTurnEnd())

    def _error(self, cause: wire.Cause, now: float) -> None:
        if str(cause.event_id or "").startswith(_ABOUT_ITEMS):
            return
        if is_refused_output(cause):
            self._functions.refused(cause.event_id)
            return
        again = self._questions.refused(cause, now)
        if not again and (told := fault(cause, self._dialect)) is not None:
            self.events.append(told)
        self._questions.send(now)

    def _answered(self, item: str, now: float) -> None:
        """All that a response has asked for is answered: the agent is to go on."""
        self._questions.want(Kind.OUTPUTS, now, item=item)

    # The call.

    def say(self, text: str, now: float) -> None:
        """Have `text` spoken as it stands: word for word where the service can, else by asking for just that."""
        self._questions.want(Kind.SAY, now, words=text)

    def go_on(self, now: float, *, cut_off: bool) -> None:
        """Have the caller's last words answered, or an answer that was cut off by a break ended."""
        if cut_off:
            id_ = self._id("note")
            self.out.append(wire.ItemCreate(id_, wire.message_item("system", _CUT_OFF, id_)))
        self._questions.turn(now, asks=False)
        self._questions.send(now)

    def user_text(self, text: str, now: float) -> None:
        """Have `text` answered as if the caller had said it."""
        id_ = self._id("typed")
        self._typed[id_] = text
        if len(self._typed) > _MOST_TYPED:
            del self._typed[next(iter(self._typed))]
        self._history.user_words(id_, text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("user", text, id_)))
        self._questions.want(Kind.TYPED, now, item=id_)

    def add_context(self, text: str) -> None:
        """Let the agent know `text`."""
        id_ = self._id("note")
        self._history.note(text)
        self.out.append(wire.ItemCreate(id_, wire.message_item("system", text, id_)))

    def answer(self, call_id: str, text: str, now: float, *, failed: bool) -> None:
        """Answer a function. The agent is silent until it is asked to speak on."""
        self._functions.answer(call_id, f"Error: {text}" if failed else text, now)

    def stop(self, now: float) -> None:
        """Have the service stop speaking: the caller has pressed a key."""
        self._questions.drop(now)
        answer = self._responses.current
        if answer is not None and answer.stage is not Stage.CUT:
            self._cancel(answer)
        self._words.tell()

    def truncate(self, unheard: float) -> None:
        """Have the service forget what the caller did not hear."""
        self._voice.truncate(unheard)

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._session}_{self._count}"
