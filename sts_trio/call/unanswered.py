"""What is left to be said, should the session in use be lost: whose turn it is, and how much of it is known. Pure.

A provider that has heard a question and not answered takes it along when it goes. What the next session is told hangs
on how far the last one was: audio again, words again, or only a sign to speak.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from sts_trio.call.actions import AnswerTool, GoOn, KeepAudio, Say, SendUserText

if TYPE_CHECKING:
    from sts_trio.call.actions import Action, Actions

_LONGEST_WORDS = 2000  # characters of a turn, kept to ask it again


class CallerTurn(Enum):
    """How far the provider is with what the caller says."""

    NONE = auto()  # it is answered, or there is none
    SPOKEN = auto()  # they speak
    OVER = auto()  # they have spoken, and their words are not known
    KNOWN = auto()  # their words are known, and nobody has answered yet


class Unanswered:
    """What is left to be said, should the session in use be lost now: each question is answered, and once."""

    def __init__(self) -> None:
        self.greeting = ""  # which nobody has heard yet
        self._answers: list[Action] = []  # of tools, for the next session; no more than tools run at once
        self._turn = CallerTurn.NONE
        self._words = ""
        self.cut_off = False
        """The agent has begun to say something, and not ended. An attribute: each chunk of audio asks for it."""

    @property
    def pending(self) -> bool:
        """Whether the caller waits for an answer that has not begun, or is asking for one."""
        return self._turn is not CallerTurn.NONE

    @property
    def again(self) -> bool:
        """Whether another session must hear the caller's turn again: nobody knows its words."""
        return self._turn in (CallerTurn.SPOKEN, CallerTurn.OVER)

    def caller_speaks(self) -> Actions:
        """The caller has begun to speak."""
        held, self._turn = self.again, CallerTurn.SPOKEN
        self.greeting = ""
        return () if held else (KeepAudio(turn=True),)

    def caller_turn(self, words: str) -> Actions:
        """The caller's turn is over; without `words` they may follow."""
        self.greeting, self.cut_off = "", False
        if not words and not self.again:
            return ()  # of a provider that does not say when somebody begins: there is nothing to say again
        return self._known(words) if words else self._move(CallerTurn.OVER)

    def caller_words(self, words: str) -> Actions:
        """The words of the turn before."""
        return self._known(words) if self._turn is CallerTurn.OVER and words else ()

    def agent_speaks(self) -> Actions:
        """The caller will hear the agent: they have their answer, unless they speak at this very moment."""
        self.greeting, self.cut_off = "", True
        return () if self._turn is CallerTurn.SPOKEN else self._move(CallerTurn.NONE)

    def agent_turn_end(self) -> None:
        """All of it has been said."""
        self.cut_off = False

    def tool_asked(self) -> Actions:
        """The agent asks for a tool: that is what the caller's words have led to, and they must not do so again."""
        return () if self._turn is CallerTurn.SPOKEN else self._move(CallerTurn.NONE)

    def typed(self, told: Actions) -> Actions:
        """The agent is told this, which may be the caller's words. Returns it, and what is to be done besides."""
        released: Actions = ()
        for action in told:
            if isinstance(action, SendUserText):
                released = (*released, *self.caller_turn(action.text))
        return (*released, *told)

    def tool_answered(self, answers: Actions, *, now: bool) -> Actions:
        """A tool has been answered, and the agent is to say something of it: `now`, or in the next session."""
        if not self.again:
            self.cut_off = False
            self._turn, self._words = CallerTurn.KNOWN, ""  # the words have led to the tool: they must not do so again
        if now:
            return answers
        self._answers += answers
        return ()

    def resume(self, keys: Actions = (), *, awaits_tool: bool = False) -> Actions:
        """Another session has taken the place of the one before: what it is to be told.

        It is asked to speak by nothing but one of these: the answers of tools, the `keys` of the caller, a tool that
        is still at work, and only else by what was left to be said.
        """
        told = (*self._answers, *keys)
        self._answers.clear()
        asked = awaits_tool or any(isinstance(action, AnswerTool | SendUserText) for action in told)
        return (*(() if asked else self._left()), *self.typed(told))

    def _left(self) -> Actions:
        if self.greeting:
            return (Say(self.greeting),)
        if self._turn is CallerTurn.KNOWN:
            return (GoOn(self._words),)
        return (GoOn(self._words, cut_off=True),) if self.cut_off and not self.again else ()

    def _known(self, words: str) -> Actions:
        self._words = words[:_LONGEST_WORDS]
        return self._move(CallerTurn.KNOWN)

    def _move(self, turn: CallerTurn) -> Actions:
        held, self._turn = self.again, turn
        return (KeepAudio(turn=False),) if held and not self.again else ()
