"""What waits for an answer of the agent, and when the service is asked for one: one answer to one question. Pure.

A response answers all that the conversation holds when it begins. So whatever begins answers every question whose item
the service had by then, be it one of ours or the service's own; only a text that is to be said word for word answers
nothing but itself. It is dropped, too, when the agent has begun to speak of something else. Times in seconds.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.providers.base import AgentRetry, RetryKind
from sts_trio.providers.openai.dialect import describe, is_busy, is_limit, request
from sts_trio.providers.openai.question import Flight, Kind, Question, Stage, Verdict
from sts_trio.providers.openai.responses import How, Useless, told_pause

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from sts_trio.providers.base import AgentEvent
    from sts_trio.providers.openai import wire
    from sts_trio.providers.openai.dialect import Dialect

_MOST_OPEN = 16  # questions; one a keypad entry, turn or function, and the agent answers within seconds
# After a turn the service answers by itself; what else waits for an answer is asked for when it has not begun by then.
_OWN_SECONDS = 1.0
_RETRIES = 3  # of a response that was of no use
_PAUSE_SECONDS = 0.5  # before the second try of one that failed, and more with each
_LONGEST_PAUSE = 30.0  # that a service may ask for: after it nobody is on the line any more
_REPEATS = 1  # of a request that nothing came of; then the session is replaced
# A response that we have not seen begin is under way, the service says: for so long its end is waited for.
_UNSEEN_SECONDS = 5.0


class Questions:
    """Puts requests into `out`, and what the call is to know into `events`.

    `patience`: an answer that has not begun after so many seconds does not come. `give_up` ends the session; it is told
    why.
    """

    def __init__(
        self,
        out: deque[wire.ToService],
        events: deque[AgentEvent],
        new_id: Callable[[str], str],
        dialect: Dialect,
        patience: float,
        give_up: Callable[[str], None],
    ) -> None:
        self._out = out
        self._events = events
        self._lost = give_up
        self._new_id = new_id
        self._dialect = dialect
        self._patience = patience
        self._open: list[Question] = []
        self._unknown: set[str] = set()  # items that the service has not confirmed
        self._confirms = True  # it does; some services never do
        self._flight: Flight | None = None
        self._landed: Flight | None = None  # the one that the response under way was taken for the answer to
        self._under_way = False  # a response
        self._speaks = False  # the caller
        self._not_before = -inf  # nothing is asked for earlier

    # What is to be answered.

    def want(self, kind: Kind, now: float, *, item: str = "", words: str = "") -> None:
        """Have this answered as soon as the floor is free."""
        if item and self._confirms:
            self._unknown.add(item)
        if len(self._open) >= _MOST_OPEN:
            self._close(self._open[:1])
        self._open.append(Question(kind, item, words))
        self.send(now)

    def turn(self, now: float, *, asks: bool = True) -> None:
        """The caller has finished a turn, which the service answers by itself; or does not, unless it `asks`.

        What was to be said to them and has not been is no answer to it.
        """
        self._speaks = False
        self._close([each for each in self._at(Stage.WAITS) if each.kind is Kind.SAY])
        self._close([each for each in self._open if each.kind is Kind.TURN and each.stage is not Stage.ANSWERING])
        self._open.append(Question(Kind.TURN, stage=Stage.ASKED if asks else Stage.WAITS))
        for question in self._at(Stage.ASKED):
            question.since = now

    def caller_stops(self) -> None:
        """The caller has finished a turn that is not to be answered."""
        self._speaks = False

    def caller_begins(self) -> None:
        """The caller speaks: what they had said is answered together with what they say now."""
        self._speaks = True
        self._close([each for each in self._open if each.kind is Kind.TURN and each.stage is not Stage.ANSWERING])

    def confirmed(self, item: str) -> None:
        """The service has this item: a response that begins from here on knows of it."""
        self._unknown.discard(item)

    def drop(self, now: float) -> None:
        """Forget all that is open: something new is about to be asked."""
        self._close(list(self._open))
        self._not_before = -inf
        if self._flight is not None:
            self._flight = Flight(self._flight.event_id, [], now + self._patience)

    def _close(self, questions: list[Question]) -> None:
        for question in questions:
            self._open.remove(question)
            self._unknown.discard(question.item)

    def _at(self, stage: Stage) -> list[Question]:
        return [each for each in self._open if each.stage is stage]

    # What the service does.

    def begun(self, *, interrupts: bool = True) -> Verdict:
        """A response begins: ours, or one of the service's own, which cannot be told apart.

        `interrupts`: the service says nothing while the caller speaks.
        """
        flight, self._landed, self._under_way = self._flight, None, True
        self._not_before = -inf
        if self._speaks and interrupts:
            if flight is None:
                return Verdict.OVER_CALLER
            self._flight = None  # our request and the caller's first word have crossed
            self._back(flight.questions)
            return Verdict.UNWANTED
        ours = flight.questions if flight is not None else []
        own = any(each.kind is Kind.TURN and each not in ours for each in self._at(Stage.ASKED))
        answered = [each for each in self._open if self._answers(each, flight, own=own)]
        if flight is not None and not own:
            self._flight, self._landed = None, flight
            if not answered:
                return Verdict.UNWANTED
        if own or not ours or ours[0].kind is not Kind.SAY:  # the agent speaks of something else
            self._close([each for each in answered if each.kind is Kind.SAY])
            answered = [each for each in answered if each.kind is not Kind.SAY]
        for question in answered or [self._unasked()]:
            question.stage, question.missed = Stage.ANSWERING, question.item in self._unknown
        return Verdict.WELCOME

    def _answers(self, question: Question, flight: Flight | None, *, own: bool) -> bool:
        """Whether the response that begins answers this. `own`: it may be the service's own answer to a turn."""
        ours = flight is not None and question in flight.questions
        if flight is not None and not own:
            if not self._wanted(flight):
                return False  # what was asked for has been answered by another
            if ours or flight.questions[0].kind is Kind.SAY:
                return ours
        return question.item not in self._unknown and not question.missed

    def _unasked(self) -> Question:
        """The service begins to speak of its own accord."""
        self._open.append(question := Question(Kind.TURN))
        return question

    def ended(self, how: How | Useless, now: float) -> bool:
        """The response under way is over. False: it was of no use, and is not asked for again."""
        self._under_way = False
        answering = self._at(Stage.ANSWERING)
        if any(each.item in self._unknown for each in answering):  # they have been answered all the same
            self._confirms = False
            self._unknown.clear()
        if isinstance(how, Useless):
            asks_again = self._useless(answering, how, now)
        else:
            asks_again = True
            if how is How.REPLACED:
                self._back(answering)
            else:
                self._close(answering)
        for question in self._open:
            question.missed = False
        if (flight := self._flight) is not None:
            waits = self._patience if self._wanted(flight) else _OWN_SECONDS
            self._flight = Flight(flight.event_id, flight.questions, now + waits)
            for question in flight.questions:
                question.since = now
        return asks_again

    def _wanted(self, flight: Flight) -> bool:
        return any(each in self._open and each.stage is Stage.ASKED for each in flight.questions)

    def _useless(self, questions: list[Question], why: Useless, now: float) -> bool:
        """Ask again, in a moment if the response failed. False: that was the last time."""
        if not questions:
            return True
        if why.kind is RetryKind.NO_ANSWER:
            self._unanswered(questions)
            return True
        tries = max(each.useless for each in questions) + 1
        pause = why.pause
        if pause is None:
            pause = _PAUSE_SECONDS * tries if why.kind in (RetryKind.FAILED, RetryKind.LIMIT) else 0.0
        if why.hopeless or tries > _RETRIES or pause > _LONGEST_PAUSE:
            self._close(questions)
            return False
        for question in questions:
            question.useless = tries
        self._back(questions)
        self._not_before = now + pause
        self._events.append(AgentRetry(why.kind, why.about))
        return True

    def refused(self, cause: wire.Cause, now: float) -> bool:
        """An error has been reported. True: it was about a request, which is sent again, and it need not be told.

        Some services do not say which message their errors are about.
        """
        flight = self._flight
        if flight is None or cause.event_id not in (None, "", flight.event_id):
            return self._was_not_ours(cause)
        asked = [each for each in flight.questions if each in self._open and each.stage is Stage.ASKED]
        if is_busy(cause):
            self._flight = None
            self._met_another(asked, now)
            return True
        if self._under_way and not cause.event_id:
            return False
        self._flight = None
        pause = told_pause(cause)
        if is_limit(cause) and self._useless(asked, Useless(RetryKind.LIMIT, describe(cause), pause, cause), now):
            return True
        self._close([each for each in asked if each in self._open])
        return False

    def _was_not_ours(self, cause: wire.Cause) -> bool:
        """The response under way is not the answer to our request, but another: what it cannot know of still waits."""
        landed = self._landed
        if is_busy(cause) and landed is not None and cause.event_id in (None, "", landed.event_id):
            self._back([each for each in landed.questions if each.stage is Stage.ANSWERING and each.missed])
        return is_busy(cause)

    def _met_another(self, questions: list[Question], now: float) -> None:
        """Another response is under way. What that one cannot know of is asked for when it is over."""
        self._back(questions)
        if not self._under_way:
            self._not_before = now + _UNSEEN_SECONDS
            for question in questions:
                question.unanswered += 1
            self._give_up([each for each in questions if each.unanswered > _REPEATS + 1])

    def _back(self, questions: list[Question]) -> None:
        for question in questions:
            if question in self._open:
                question.stage = Stage.WAITS

    # Asking.

    def send(self, now: float) -> None:
        """Ask for what waits, if the floor is free."""
        if self._under_way or self._speaks or self._flight or now < self._not_before:
            return
        if any(each.kind is Kind.TURN and now < each.since + _OWN_SECONDS for each in self._at(Stage.ASKED)):
            return
        waiting = self._at(Stage.WAITS)
        if not waiting:
            return
        say = waiting[0] if waiting[0].kind is Kind.SAY else None
        asked = [say] if say else [each for each in waiting if each.kind is not Kind.SAY]
        for question in asked:
            question.stage, question.since, question.missed = Stage.ASKED, now, False
        event_id = self._new_id("respond")
        self._flight = Flight(event_id, asked, now + self._patience)
        again = any(each.useless for each in asked)
        self._out.append(request(self._dialect, event_id, say.words if say else None, again=again))

    # Time.

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        if self._under_way or self._speaks:
            return inf
        asked = self._at(Stage.ASKED)
        due = min((each.since + self._patience for each in asked), default=inf)
        if self._flight is not None:
            return min(due, self._flight.until)
        if len(asked) == len(self._open):
            return due
        own = max((each.since + _OWN_SECONDS for each in asked), default=-inf)
        return min(due, max(self._not_before, own))

    def expire(self, now: float) -> None:
        """Act on what is overdue; harmless when nothing is."""
        if self._under_way or self._speaks:
            return
        if self._flight is not None and self._flight.until <= now:
            self._flight = None
        overdue = [each for each in self._at(Stage.ASKED) if each.since + self._patience <= now]
        if overdue:
            if self._flight is not None and any(each in overdue for each in self._flight.questions):
                self._flight = None
            self._unanswered(overdue)
        self.send(now)

    def _unanswered(self, questions: list[Question]) -> None:
        """Nothing has come: ask once more, then give the session up."""
        for question in questions:
            question.unanswered += 1
        if self._give_up([each for each in questions if each.unanswered > _REPEATS]):
            return
        self._back(questions)
        self._events.append(AgentRetry(RetryKind.NO_ANSWER, f"nothing came within {self._patience:g} s"))

    def _give_up(self, questions: list[Question]) -> bool:
        if not questions:
            return False
        self._open.clear()
        self._lost(f"{self._dialect.name} does not answer, though it was asked twice, {self._patience:g} s apart")
        return True
