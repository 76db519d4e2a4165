"""The decisions of one call: events of both sides in, actions out. Pure: no await, no clock, no I/O.

States, in order: waiting for `init` → opening a session → talking → (closing: the agent said good-bye and the caller
hears it out) → ended. What the caller hears goes into the `Playout`; everything else that must be done is an action.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import LogWarning, Say, Truncate
from sts_trio.call.config import is_real_uuid, named
from sts_trio.call.dtmf import DtmfEntries
from sts_trio.call.emotions import STRONGEST, Emotions, strongest
from sts_trio.call.ending import Ending
from sts_trio.call.keypad import UnusableKeyError
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.recovery import Recovery
from sts_trio.call.resume import QUIET_SECONDS, ResumePolicy
from sts_trio.call.silence import NoInputTimer
from sts_trio.call.speech import AgentSpeech
from sts_trio.call.tools import ToolCalls
from sts_trio.call.trouble import Trouble
from sts_trio.call.voice import UpstreamFrames
from sts_trio.core.wire import CallerAudio, Digit, Init, NotUnderstood, Transcript
from sts_trio.providers.base import (
    AgentAudio,
    AgentClosed,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    ToolCall,
    UserInterruption,
    UserTurn,
    UserWords,
)

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.emotions import Mood
    from sts_trio.call.playout import Playout
    from sts_trio.call.rules import CallRules
    from sts_trio.core.link import SocketClosed
    from sts_trio.core.wire import FromCore
    from sts_trio.errors import ProviderError
    from sts_trio.providers.base import AgentEvent, CallInfo
    from sts_trio.tools.tool import ToolResult

_LONGEST_TEXT = 10_000  # characters of a caller's turn; some ten minutes of speech
_NOTES = 5  # log lines a call about messages that were not understood; the rest are counted


class Bridge:
    """One call's state machine. After every feed `deadline` says when `on_deadline` wants to be called."""

    def __init__(self, rules: CallRules, playout: Playout, known: CallInfo, now: float) -> None:
        self.counts = playout.counts
        self.call = known  # what is known of the call; `init` makes it better
        self._rules = rules
        self._playout = playout
        self._initialised = False
        self._greeting = ""
        self._answer_by = inf  # the caller waits for an answer
        self._voice = UpstreamFrames(self.counts, now)
        self._keys = DtmfEntries(rules.keypad, rules.keypad_gap, self.counts)
        self._silence = NoInputTimer(rules.silence)
        self._speech = AgentSpeech(playout)
        self._tools = ToolCalls(playout, rules.tool_grace)
        self._moods = Emotions(rules.emotion_rules, self._tools, self.counts)
        self._ending = Ending(rules, playout, self._speech, self._tools, now)
        self._lifeline = ResumePolicy(rules.lifeline, self.counts)
        self._trouble = Trouble()
        self._recovery = Recovery(self._lifeline, self._trouble, self._speech, self._tools, self._ending)

    @property
    def deadline(self) -> float:
        """When `on_deadline` has something to do; infinity for never."""
        return min(
            self._answer_by,
            self._ending.deadline,
            self._keys.deadline,
            self._lifeline.deadline,
            self._silence.deadline,
            self._speech.deadline,
            self._tools.deadline,
            self._trouble.deadline,
        )

    @property
    def mood(self) -> Mood:
        """How the caller has sounded so far."""
        return self._moods.mood

    # The caller's side.

    def on_core(self, message: FromCore, now: float) -> Actions:
        """Take a message of Core."""
        match message:
            case CallerAudio(audio=pcm):
                if not self._initialised:
                    return ()
                return self._voice.feed(pcm, now, listen=self._lifeline.renews_soon(now))
            case Init():
                return self._init(message)
            case Digit(digit=digit):
                return self._digit(digit, now)
            case NotUnderstood(about=about):
                return self._note(about)

    def on_caller_gone(self, closed: SocketClosed, now: float) -> Actions:
        """Core's connection is over: the call is, too."""
        return self._ending.caller_gone(closed, now)

    def _init(self, init: Init) -> Actions:
        if self._initialised:
            return self._note("a second init")
        self._initialised = True
        self._ending.initialised()
        call, session_policy = named(self.call, init.uuid), self._rules.session_policy
        controllable = is_real_uuid(call.uuid)
        tools = tuple(tool for tool in self._rules.tools if controllable or not tool.ends_call)
        self._tools.offer(tools)
        self._greeting = session_policy.greeting_for(call.query)
        self.call = replace(call, session_config=session_policy.session_config(call.query, tools))
        return self._lifeline.begin(self.call)

    def _digit(self, digit: str, now: float) -> Actions:
        if not self._initialised:
            return ()
        self._silence.heard_caller(now)
        try:
            return self._keys.press(digit, now, ready=self._lifeline.current is not None)
        except UnusableKeyError as exc:
            return self._note(str(exc))

    def _note(self, sent: str) -> Actions:
        self.counts.not_understood += 1
        if self.counts.not_understood > _NOTES:
            return ()
        return (LogWarning("Core sent what cannot be used; ignored", {"sent": sent}),)

    # The agent's side.

    def on_agent(self, event: AgentEvent, session: int, now: float) -> Actions:
        """Take an event of a session with the provider. Those of a session that is not in use change nothing."""
        if isinstance(event, AgentReady):
            return self._agent_ready(event, session, now)
        if session != self._lifeline.current:
            return self._recovery.closed(event, session, now) if isinstance(event, AgentClosed) else ()
        if not isinstance(event, AgentClosed | AgentFault):
            self._lifeline.heard()
        match event:
            case AgentAudio(reply=reply, wav=wav):
                self._agent_speaks(self._speech.audio(reply, wav, now), now, aloud=True)
            case AgentText(reply=reply, text=text):
                self._agent_speaks(self._speech.text(reply, text, now), now)
            case AgentTurnEnd():
                self._speech.turn_end(now)
                return self._tools.agent_turn_end()
            case UserTurn():
                return self._user_turn(event, now)
            case UserInterruption():
                self._tools.barge_in()
                return (Truncate(self._speech.barge_in(now)),)
            case UserWords(text=text):
                self._playout.post(Transcript("user", text[:_LONGEST_TEXT]))
            case ToolCall():
                return self._tools.ask(event, now)
            case AgentFault():
                self.counts.provider_faults += 1
                self._recovery.reported(event, now)
            case AgentClosed():
                return self._recovery.closed(event, session, now)
        return ()

    def on_agent_failed(self, error: ProviderError, session: int, now: float) -> Actions:
        """A session could not be opened, or it broke."""
        return self._recovery.failed(error, session, now)

    def on_tool_done(self, id_: str, result: ToolResult, now: float) -> Actions:
        """A tool that was run has come to its end."""
        tool = self._tools.tool_of(id_)
        if tool is not None and tool.ends_call and not result.failed:
            self._ending.taken_away(now, hung_up=tool.hangs_up)
        return self._tools.done(id_, result)

    def _agent_ready(self, ready: AgentReady, session: int, now: float) -> Actions:
        before = self._lifeline.current
        actions = self._lifeline.ready(session, ready.resume, now, quiet=self._quiet(now), lasts=ready.lasts)
        if self._lifeline.current != session:
            return actions
        if before is not None:  # what the session before was about to say, or to be told, nobody knows any more
            self._trouble.over()
            self._speech.turn_end(now)
            actions = (*actions, *self._tools.session_over())
        self._silence.wait_from(now)
        greeting, self._greeting = self._greeting, ""  # once a call, whatever becomes of the session
        say = (Say(greeting),) if greeting else ()
        return (*actions, *say, *self._keys.tell())

    def _agent_speaks(self, speaks: bool, now: float, *, aloud: bool = False) -> None:
        if not speaks:
            return
        if aloud:
            self._answer_by = inf
        self._trouble.survived()
        self._silence.wait_from(self._playout.played_at(now))
        self._keys.agent_spoke()

    def _user_turn(self, turn: UserTurn, now: float) -> Actions:
        self._trouble.over()
        self.counts.user_turns += 1
        self._silence.heard_caller(now)
        self._answer_by = now + self._rules.answer_seconds
        self._playout.trail.user_turn(now)
        emotions = strongest(turn.emotions, STRONGEST) if self._rules.emotions else None
        if turn.text:
            self._playout.post(Transcript("user", turn.text[:_LONGEST_TEXT], emotions or None))
        self._keys.caller_spoke()
        self._tools.user_turn()
        return self._moods.user_turn(turn.emotions, now)

    # Time.

    def on_deadline(self, now: float) -> Actions:
        """Act on what is overdue; harmless when nothing is."""
        if ended := self._ending.expire(now):
            return ended
        # From here on the call may go on: nothing that is due together with something else must be lost.
        actions = [*self._recovery.expire(now, quiet=self._quiet(now))]
        if self._answer_by <= now:
            self._answer_by = inf
            self.counts.late_answers += 1
            actions.append(LogWarning("the agent does not answer", {"seconds": self._rules.answer_seconds}))
        if self._silence.deadline <= now:
            actions += self._too_silent(now)
        self._speech.expire(now)
        # Tools first: telling the agent of keys may take time, and no tool must be stopped before it was started.
        actions += self._tools.expire(now)
        actions += self._keys.expire(now, ready=self._lifeline.current is not None)
        return tuple(actions)

    def end(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far."""
        return self._ending.end(outcome, now)

    def _too_silent(self, now: float) -> Actions:
        if not self._idle(now) or self._lifeline.current is None:
            self._silence.wait_from(self._playout.played_at(now))
            return ()
        prompt = self._silence.step(now)
        return (Say(prompt),) if prompt else self.end(CallOutcome(Cause.CALLER_SILENT, 1000), now)

    def _idle(self, now: float) -> bool:
        """Whether the agent does not speak, and nothing is under way."""
        return self._playout.played_at(now) <= now and not self._speech.speaking and not self._tools.busy

    def _quiet(self, now: float) -> bool:
        """Whether nobody speaks and nothing is under way: a session can be replaced without anybody hearing it."""
        return self._idle(now) and self._voice.quiet_for(now) >= QUIET_SECONDS
