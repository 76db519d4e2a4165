"""The decisions of one call: events of both sides in, actions out. Pure: no await, no clock, no I/O.

What the caller hears goes into the `Playout`; everything else that must be done is an action.

| State (`CallState`) | What it means | What comes next |
|---|---|---|
| `WAITING_FOR_INIT` | Core is connected | `OPENING` with its `init` |
| `OPENING` | no session is in use: the first, or one for a lost one, is looked for | `TALKING`; `CLOSING` if in vain |
| `TALKING` | a session is in use | `OPENING` if it is lost; `CLOSING` if the agent says good-bye |
| `CLOSING` | no session is wanted any more; the caller hears what is queued, or the fallback | `ENDED` |
| `ENDED` | `End` has been ordered; from every state | |
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import (
    Begin,
    CloseSession,
    Deadline,
    End,
    LogWarning,
    Say,
    Truncate,
)
from sts_trio.call.config import named
from sts_trio.call.dtmf import DtmfEntries, UnusableKeyError
from sts_trio.call.emotions import STRONGEST, Emotions, strongest
from sts_trio.call.ending import Ending
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.call.resume import ResumePolicy
from sts_trio.call.silence import Silence
from sts_trio.call.speech import AgentSpeech
from sts_trio.call.tools import ToolCalls
from sts_trio.call.unanswered import Unanswered
from sts_trio.call.unusable import Unusable
from sts_trio.call.upstream import UpstreamFrames
from sts_trio.core.wire import CallerAudio, Digit, Init, NotUnderstood
from sts_trio.providers.base import (
    AgentAudio,
    AgentFault,
    AgentReady,
    AgentRetry,
    AgentText,
    AgentTurnEnd,
    OddMessage,
    SessionEnd,
    ToolCall,
    UserInterruption,
    UserSpeaks,
    UserTurn,
    UserWords,
)

if TYPE_CHECKING:
    from sts_trio.call.actions import Action, Actions, Deadlines
    from sts_trio.call.config import CallRules
    from sts_trio.call.playout import Playout
    from sts_trio.core.link import SocketClosed
    from sts_trio.core.wire import FromCore
    from sts_trio.providers.base import AgentEvent, CallInfo
    from sts_trio.tools.tool import ToolResult


class CallState(Enum):
    """How far a call has come; see the table above."""

    WAITING_FOR_INIT = auto()
    OPENING = auto()
    TALKING = auto()
    CLOSING = auto()
    ENDED = auto()


class Bridge:
    """One call's state machine. After every event `deadline` says when `on_deadline` wants to be called."""

    def __init__(self, rules: CallRules, playout: Playout, known: CallInfo, now: float) -> None:
        self.state = CallState.WAITING_FOR_INIT
        self.counts = playout.counts
        self.call = known  # what is known of the call; `init` makes it better
        self._rules = rules
        self._playout = playout
        self.deadlines: Deadlines = dict.fromkeys(Deadline, inf)  # the earliest is `deadline`
        self._agent_heard = False  # the session in use has said something
        self._reply_due = False  # the caller has spoken, and the agent has not since
        self._unusable = Unusable(self.counts)
        self._unanswered = Unanswered()
        self._frames = UpstreamFrames(self.counts, now, listen=rules.silence.seconds > 0)
        self._keys = DtmfEntries(
            rules.keypad, rules.keypad_gap, self.deadlines, self.counts, interrupt=rules.keys_interrupt
        )
        self._speech = AgentSpeech(playout, self.deadlines)
        self._tools = ToolCalls(playout, self._speech, self.deadlines, rules.tool_grace)
        self._silence = Silence(
            rules.silence, self.deadlines, self._frames, playout, self._speech, self._tools, self._unanswered
        )
        self.emotions = Emotions(rules.emotion_rules, self._tools, self.counts)
        self._ending = Ending(rules, playout, self._speech, self._tools, self.deadlines, now)
        self._lifeline = ResumePolicy(rules.lifeline, self.counts)
        self._last_fault = self._lifeline.last_fault

    @property
    def deadline(self) -> float:
        """When `on_deadline` has something to do; infinity for never."""
        return min(self.deadlines.values())

    @property
    def core_leaves_by(self) -> float | None:
        """When Core should have closed by itself, since the caller may have been transferred; None if they were not."""
        return self._ending.core_leaves_by if self._tools.transferred else None

    # The caller's side.

    def on_core(self, message: FromCore, now: float) -> Actions:
        """Take a message of Core."""
        match message:
            case CallerAudio(audio=pcm):
                return () if self.state is CallState.WAITING_FOR_INIT else self._frames.feed(pcm, now)
            case Init():
                return self._init(message, now)
            case Digit(digit=digit):
                return self._digit(digit, now)
            case NotUnderstood(about=about):
                return self._unusable.by_core(about)

    def on_caller_gone(self, closed: SocketClosed, now: float) -> Actions:
        """Core's connection is over: the call is, too."""
        return self._moved(self._ending.caller_gone(closed, now))

    def _init(self, init: Init, now: float) -> Actions:
        if self.state is not CallState.WAITING_FOR_INIT:
            return self._unusable.by_core("a second init")
        self.state = CallState.OPENING
        self.deadlines[Deadline.INIT] = inf
        call, session_policy = named(self.call, init.uuid), self._rules.session_policy
        tools = self._rules.tools_for(call)
        self._tools.offer(tools)
        self._unanswered.greeting = session_policy.greeting_for(call.query)
        self.call = replace(call, session_config=session_policy.session_config(call.query, tools))
        return self._moved((Begin(call.id), *self._lifeline.begin(self.call, now)))

    def _digit(self, digit: str, now: float) -> Actions:
        if self.state is CallState.WAITING_FOR_INIT:
            return ()
        self._silence.heard_caller(now)
        ready = self.state is CallState.TALKING
        heard = self._speech.owes_voice or self._playout.played_at(now) > now
        stops = ready and heard and self._keys.interrupt
        try:
            told = self._keys.press(digit, now, ready=ready, at_once=stops)
        except UnusableKeyError as exc:
            return self._unusable.by_core(str(exc))
        told = self._unanswered.typed(told)
        return (*self._barge_in(now, by_key=True), *told) if stops else told

    # The agent's side.

    def on_agent(self, event: AgentEvent, session: int, now: float) -> Actions:
        """Take an event of a session with the provider.

        Of a session that is not in use, only that it is ready, or could not be opened, changes anything.
        """
        if isinstance(event, AgentReady):
            return self._moved(self._agent_ready(event, session, now))
        if isinstance(event, SessionEnd):
            return self._moved(self._session_ended(event, session, now))
        if session != self._lifeline.current:
            return ()
        if isinstance(event, AgentFault | AgentRetry | OddMessage):
            return self._trouble(event, now)
        if not self._agent_heard:
            self._agent_heard = True
            self._lifeline.on_event()
        match event:
            case AgentAudio(reply=reply, wav=wav):
                return self._agent_speaks(self._speech.audio(reply, wav, now), aloud=True)
            case AgentText(reply=reply, text=text):
                return self._agent_speaks(self._speech.text(reply, text, now))
            case AgentTurnEnd():
                self._unanswered.agent_turn_end()
                self._speech.turn_end(now)
                return self._tools.agent_turn_end()
            case UserTurn():
                return self._user_turn(event, now)
            case UserInterruption():
                return self._barge_in(now)
            case UserSpeaks() | UserWords():
                return self._user_says(event, now)
            case ToolCall():
                return (*self._unanswered.tool_asked(), *self._tools.ask(event, now))

    def on_tool_done(self, id_: str, result: ToolResult, now: float) -> Actions:
        """A tool that was run has come to its end."""
        tool = self._tools.tool_of(id_)
        if tool is not None and tool.ends_call and not result.failed:
            self._ending.taken_away(now, hung_up=tool.hangs_up)
        answers = self._tools.done(id_, result)
        return self._unanswered.tool_answered(answers, now=self.state is CallState.TALKING) if answers else ()

    def _agent_ready(self, ready: AgentReady, session: int, now: float) -> Actions:
        before = self._lifeline.current
        quiet = before is None or self._silence.is_quiet(now)
        again = self._unanswered.again
        actions = self._lifeline.ready(session, ready.resume, now, quiet=quiet, lasts=ready.lasts, again=again)
        if self._lifeline.current != session:
            return actions
        if before is not None:  # what the session before was about to say, or to be told, nobody knows any more
            self._speech.turn_end(now)
            self._tools.session_over()
        self._agent_heard = False
        self._keys.keeps_context = ready.keeps_context
        self._silence.wait_from(now)
        keys = self._keys.tell() if self._keys.entries else ()
        return (*actions, *self._unanswered.resume(keys, awaits_tool=self._tools.awaited))

    def _trouble(self, told: AgentFault | AgentRetry | OddMessage, now: float) -> Actions:
        match told:
            case AgentFault():
                if self._last_fault.report(told, now):
                    self._ending.tell(told.message)
                return self._moved(self._unusable.fault(told))
            case AgentRetry():
                return self._unusable.answer(told)
            case OddMessage():
                return self._unusable.by_provider(told)

    def _session_ended(self, end: SessionEnd, session: int, now: float) -> Actions:
        in_use = session == self._lifeline.current
        found = self._lifeline.ended(end, session, now)
        if isinstance(found, SessionEnd):
            return self._ending.agent_gone(found, now)
        if not in_use:
            return found
        self._speech.turn_end(now)  # what is queued is heard out; no more of it will come
        self._tools.session_over()
        return found

    def _session_overdue(self, now: float) -> Actions:
        closed: Actions = ()
        if (session := self._lifeline.current) and (end := self._last_fault.overdue(now)):
            closed = (CloseSession(session), *self._session_ended(end, session, now))
        found = self._lifeline.expire(now, quiet=self._silence.is_quiet(now))
        return (*closed, *(self._ending.agent_gone(found, now) if isinstance(found, SessionEnd) else found))

    def _agent_speaks(self, speaks: bool, *, aloud: bool = False) -> Actions:
        if not speaks:
            return ()
        released: Actions = ()
        if aloud:
            if not self._unanswered.cut_off:
                released = self._unanswered.agent_speaks()
            self.deadlines[Deadline.ANSWER] = inf
            if self.deadlines[Deadline.TOOLS] < inf:
                self._tools.look()
        self._silence.agent_until = self._speech.heard_until
        if self._last_fault.pending:
            self._last_fault.survived()
            self._moved(())
        if self._reply_due:
            self._reply_due = False
            self._keys.taken_up()
        if not self._speech.overfull:
            return released
        self._speech.overfull = False
        return (*released, LogWarning("more speech than is held for a caller; the newest is dropped"))

    def _barge_in(self, now: float, *, by_key: bool = False) -> Actions:
        unheard = self._speech.barge_in(now)
        if self._tools.work:
            self._tools.barge_in(now)
        self._unanswered.cut_off = False
        return (Truncate(unheard, stop=by_key),)

    def _user_says(self, event: UserSpeaks | UserWords, now: float) -> Actions:
        if isinstance(event, UserSpeaks):
            return self._unanswered.caller_speaks()
        self._speech.caller_words(event.text, now, event.turn)
        return self._unanswered.caller_words(event.text)

    def _user_turn(self, turn: UserTurn, now: float) -> Actions:
        self._last_fault.over()
        self.counts.user_turns += 1
        self._reply_due = True
        self._silence.heard_caller(now)
        self.deadlines[Deadline.ANSWER] = now + self._rules.answer_seconds
        self._playout.audit.user_turn(now)
        emotions = strongest(turn.emotions, STRONGEST) if self._rules.emotions else None
        self._speech.caller_turn(turn.text, emotions or None, now, turn.turn)
        if self._tools.work:
            self._tools.user_turn()
        known = self._unanswered.caller_turn(turn.text)
        return (*known, *self._moved(self.emotions.user_turn(turn.emotions, now)))

    def _moved(self, actions: Actions) -> Actions:
        """Note where the call stands after these decisions over its sessions or its end. Returns them."""
        if self.state is CallState.ENDED or any(isinstance(action, End) for action in actions):
            self.state = CallState.ENDED
        elif self._ending.closing:
            self.state = CallState.CLOSING
        elif self.state is not CallState.WAITING_FOR_INIT:
            self.state = CallState.OPENING if self._lifeline.current is None else CallState.TALKING
        self.deadlines[Deadline.SESSION] = self._lifeline.deadline
        self._frames.listen_from = self._lifeline.listen_from
        return actions

    # Time.

    def on_deadline(self, now: float) -> Actions:
        """Act on what is overdue; harmless when nothing is.

        As long as the call goes on, nothing that is due together with something else is lost.
        """
        actions: list[Action] = []
        for deadline in Deadline:
            if self.deadlines[deadline] <= now:
                self.deadlines[deadline] = inf
                actions += self._overdue(deadline, now)
                if self.state is CallState.ENDED:
                    break
        return tuple(actions)

    def _overdue(self, deadline: Deadline, now: float) -> Actions:
        match deadline:
            case Deadline.INIT | Deadline.LENGTH | Deadline.HUNG_UP | Deadline.HEARD_OUT:
                return self._moved(self._ending.expire(deadline, now))
            case Deadline.SESSION:
                return self._moved(self._session_overdue(now))
            case Deadline.ANSWER:
                self.counts.late_answers += 1
                return (LogWarning("the agent does not answer", {"seconds": self._rules.answer_seconds}),)
            case Deadline.NO_INPUT:
                return self._too_silent(now)
            case Deadline.SPEECH:
                self._speech.expire(now)
                self._tools.look()
                return ()
            case Deadline.TOOLS:
                return self._tools.expire(now)
            case Deadline.KEYS:
                return self._unanswered.typed(self._keys.expire(now, ready=self.state is CallState.TALKING))

    def end(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far."""
        return self._moved(self._ending.end(outcome, now))

    def _too_silent(self, now: float) -> Actions:
        if not self._silence.is_over(now, talking=self.state is CallState.TALKING):
            return ()
        prompt = self._silence.step(now)
        return (Say(prompt),) if prompt else self.end(CallOutcome(Cause.CALLER_SILENT, 1000), now)
