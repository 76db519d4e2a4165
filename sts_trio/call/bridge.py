"""The decisions of one call: events of both sides in, actions out. Pure: no await, no clock, no I/O.

States, in order: waiting for `init` → opening a session → talking → (closing: the agent said good-bye and the caller
hears it out) → ended. What the caller hears goes into the `Playout`; everything else that must be done is an action.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import CloseSession, CutOff, End, Note, Say
from sts_trio.call.alarms import Alarms
from sts_trio.call.briefing import is_real_uuid, usable_id
from sts_trio.call.keypad import UnusableKeyError
from sts_trio.call.keys import KeyDesk
from sts_trio.call.lifeline import QUIET_SECONDS, Lifeline
from sts_trio.call.mood import STRONGEST, MoodDesk, strongest
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.silence import SilenceLadder
from sts_trio.call.speech import AgentSpeech
from sts_trio.call.toolcalls import LINE_SECONDS, ToolDesk
from sts_trio.call.trouble import Trouble
from sts_trio.call.voice import CallerVoice
from sts_trio.core.wire import CallerAudio, Digit, Error, Init, NotUnderstood, Transcript
from sts_trio.errors import ConversationGone
from sts_trio.providers.events import (
    AgentAudio,
    AgentClosed,
    AgentFault,
    AgentReady,
    AgentText,
    AgentTurnEnd,
    CallInfo,
    ToolCall,
    UserInterruption,
    UserTurn,
    UserWords,
)

if TYPE_CHECKING:
    from sts_trio.call.actions import Action, Actions
    from sts_trio.call.mood import Mood
    from sts_trio.call.playout import Playout
    from sts_trio.call.rules import CallRules
    from sts_trio.core.link import SocketClosed
    from sts_trio.core.wire import FromCore
    from sts_trio.errors import ProviderError
    from sts_trio.providers.events import AgentEvent
    from sts_trio.tools.tool import ToolResult

# After a transfer or a hang-up that was ordered, Core closes by itself (contract 5.2); until then we leave it time to.
_CORE_LEAVES_SECONDS = 3.0
# Close codes of Core's side that are no hang-up: nothing came, not even a close; or what came was no WebSocket.
_GONE = {1006: Cause.CALLER_LOST} | dict.fromkeys((1002, 1007, 1008, 1009), Cause.CALLER_BROKE_PROTOCOL)
_LONGEST_TEXT = 10_000  # characters of a caller's turn; some ten minutes of speech
_NOTES = 5  # log lines a call about messages that were not understood; the rest are counted


class Bridge:
    """One call's state machine. After every feed `deadline` says when `on_deadline` wants to be called."""

    def __init__(self, rules: CallRules, playout: Playout, fallback: CallInfo, now: float) -> None:
        self.counts = playout.counts
        self.call = fallback  # what is known of the call; `init` makes it better
        self._rules = rules
        self._playout = playout
        self._alarms = Alarms()
        self._initialised = False
        self._lifeline = Lifeline(rules.lifeline, self.counts)
        self._greeting = ""
        self._voice = CallerVoice(self.counts, now)
        self._speech = AgentSpeech(playout, self.counts)
        self._tools = ToolDesk(playout, self.counts, rules.tool_grace)
        self._keys = KeyDesk(rules.keypad, rules.keypad_gap, self.counts)
        self._silence = SilenceLadder(rules.silence)
        self._moods = MoodDesk(rules.emotion_rules, self._tools, self.counts)
        self._trouble = Trouble()
        self._told = ""  # the last error that Core was told
        self._farewell: CallOutcome | None = None  # the agent said good-bye; this is how the call will end
        self._core_leaves_by = -inf  # the telephone call was taken away; Core should have closed by then
        self._alarms.set("init", now + rules.init_seconds)
        self._alarms.set("length", now + rules.most_seconds)

    @property
    def deadline(self) -> float:
        """When `on_deadline` has something to do; infinity for never."""
        parts = (self._alarms, self._lifeline, self._trouble, self._speech, self._tools, self._keys, self._silence)
        return min(part.deadline for part in parts)

    @property
    def mood(self) -> Mood:
        """How the caller has sounded so far."""
        return self._moods.mood

    # The caller's side.

    def on_core(self, message: FromCore, now: float) -> Actions:
        """Take a message of Core."""
        match message:
            case CallerAudio(audio=pcm):
                return self._caller_audio(pcm, now)
            case Init():
                return self._init(message)
            case Digit(digit=digit):
                return self._digit(digit, now)
            case NotUnderstood(about=about):
                return self._note(f"Core sent {about}; ignored")

    def on_caller_gone(self, closed: SocketClosed, now: float) -> Actions:
        """Core's connection is over: the call is, too."""
        self._speech.finish(now)
        cause = _GONE.get(closed.code, Cause.CALLER_HUNG_UP)
        return (End(CallOutcome(cause, closed.code, closed.reason)),)

    def _caller_audio(self, pcm: bytes, now: float) -> Actions:
        return self._voice.feed(pcm, now, listen=self._lifeline.renews_soon(now)) if self._initialised else ()

    def _init(self, init: Init) -> Actions:
        if self._initialised:
            return self._note("Core sent a second init; ignored")
        self._initialised = True
        self._alarms.set("init", inf)
        if isinstance(init.uuid, str) and usable_id(init.uuid):
            self.call = CallInfo(id=init.uuid, uuid=init.uuid, query=self.call.query)
        controllable = is_real_uuid(self.call.uuid)
        tools = tuple(tool for tool in self._rules.tools if controllable or not tool.ends_call)
        self._tools.offer(tools)
        self._greeting = self._rules.briefing.greeting_for(self.call.query)
        self.call = replace(self.call, brief=self._rules.briefing.brief(self.call.query, tools))
        return self._lifeline.begin(self.call)

    def _digit(self, digit: str, now: float) -> Actions:
        if not self._initialised:
            return ()
        self._silence.heard_caller(now)
        try:
            return self._keys.press(digit, now, ready=self._lifeline.current is not None)
        except UnusableKeyError as exc:
            return self._note(f"Core sent {exc}; ignored")

    def _note(self, text: str) -> Actions:
        self.counts.not_understood += 1
        return (Note(text),) if self.counts.not_understood <= _NOTES else ()

    # The agent's side.

    def on_agent(self, event: AgentEvent, session: int, now: float) -> Actions:
        """Take an event of a session with the provider. Those of a session that is not in use change nothing."""
        if isinstance(event, AgentReady):
            return self._agent_ready(event, session, now)
        if session != self._lifeline.current:
            return self._lost(session, event.message, now) if isinstance(event, AgentClosed) else ()
        if not isinstance(event, AgentClosed | AgentFault):
            self._lifeline.heard()
        match event:
            case AgentAudio(reply=reply, wav=wav):
                self._agent_speaks(self._speech.audio(reply, wav, now), now)
                self._alarms.set("answer", inf)
            case AgentText(reply=reply, text=text):
                self._agent_speaks(self._speech.text(reply, text, now), now)
            case AgentTurnEnd():
                self._speech.turn_end(now)
                return self._tools.agent_turn_end()
            case UserTurn():
                return self._user_turn(event, now)
            case UserInterruption():
                self._tools.barge_in()
                return (CutOff(self._speech.barge_in(now)),)
            case UserWords(text=text):
                self._playout.post(Transcript("user", text[:_LONGEST_TEXT]))
            case ToolCall():
                return self._tools.ask(event, now)
            case AgentFault():
                self._reported(event, now)
            case AgentClosed():
                return self._agent_closed(event, session, now)
        return ()

    def on_agent_failed(self, error: ProviderError, session: int, now: float) -> Actions:
        """A session could not be opened, or it broke."""
        gone = isinstance(error, ConversationGone)
        return self._lost(session, str(error), now, retryable=error.retryable, forgotten=gone)

    def on_tool_done(self, id_: str, result: ToolResult, now: float) -> Actions:
        """A tool that was run has come to its end."""
        tool = self._tools.tool_of(id_)
        if tool is not None and tool.ends_call and not result.failed:
            self._core_leaves_by = now + _CORE_LEAVES_SECONDS
            if tool.hangs_up:
                self._alarms.set("hung up", self._core_leaves_by)
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

    def _lost(
        self,
        session: int,
        message: str,
        now: float,
        *,
        retryable: bool = True,
        forgotten: bool = False,
        mute: bool = False,
    ) -> Actions:
        """A session is over. The caller's side does not notice, unless there is no hope for another."""
        in_use = session == self._lifeline.current
        actions = self._lifeline.lost(session, now, retryable=retryable, forgotten=forgotten, mute=mute)
        if actions is None:
            return self._fail(self._trouble.explain(message, in_use=in_use), now)
        if not in_use:
            return actions
        self._trouble.over()
        self._trouble.lost = message
        self._speech.turn_end(now)  # what is queued is heard out; no more of it will come
        return (Note(f"{message}; resuming"), *self._tools.session_over(), *actions)

    def _agent_speaks(self, speaks: bool, now: float) -> None:
        if not speaks:
            return
        self._trouble.survived()
        self._silence.wait_from(self._playout.played_at(now))
        self._keys.agent_spoke()

    def _user_turn(self, turn: UserTurn, now: float) -> Actions:
        self._trouble.over()
        self.counts.user_turns += 1
        self._silence.heard_caller(now)
        self._alarms.set("answer", now + self._rules.answer_seconds)
        self._playout.trail.user_turn(now)
        emotions = strongest(turn.emotions, STRONGEST) if self._rules.emotions else None
        if turn.text:
            self._playout.post(Transcript("user", turn.text[:_LONGEST_TEXT], emotions or None))
        self._keys.caller_spoke()
        self._tools.user_turn()
        return self._moods.user_turn(turn.emotions, now)

    def _reported(self, fault: AgentFault, now: float) -> None:
        self.counts.provider_faults += 1
        if self._trouble.report(fault, now):
            self._tell(fault.message)

    def _agent_closed(self, closed: AgentClosed, session: int, now: float) -> Actions:
        # An error after which the chat goes on does not explain a line that breaks later.
        if (fault := self._trouble.fault) and (fault.ends_session or not closed.retryable):
            return self._lost(session, fault.message, now, retryable=fault.retryable, forgotten=fault.forgotten)
        if not closed.normal:
            return self._lost(session, closed.message, now, retryable=closed.retryable, mute=closed.mute)
        self._speech.turn_end(now)
        self._lifeline.stop()
        self._farewell = CallOutcome(Cause.AGENT_ENDED, 1000, closed.message)
        return self._heard_out(now)

    def _heard_out(self, now: float) -> Actions:
        if self._farewell is None:
            return ()
        played_at = self._playout.played_at(now)
        if max(played_at, self._core_leaves_by) <= now and not self._tools.takes_call:
            return self.end(self._farewell, now)
        # Who has just been transferred is not ours to hang up, as our end would: first Core has its time to close.
        self._alarms.set("heard out", max(played_at + LINE_SECONDS, self._core_leaves_by))
        return ()

    def _fail(self, message: str, now: float) -> Actions:
        outcome = CallOutcome(Cause.PROVIDER_FAILED, 1011, message)
        if not self._rules.fallback or self._farewell is not None:
            return self.end(outcome, now)
        self._tell(message)
        self._farewell = outcome
        self._lifeline.stop()
        self._speech.turn_end(now)  # the agent's last words come before
        self._playout.push(self._rules.fallback)
        self._playout.end_reply()
        dropped = self._tools.session_over()
        return (Note(f"{message}; the caller hears the fallback"), *dropped, *self._heard_out(now))

    def end(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far."""
        self._speech.finish(now)
        self._tell(outcome.message)
        return (End(outcome),)

    def _tell(self, message: str) -> None:
        if message and message != self._told:
            self._told = message
            self._playout.post(Error(message))

    # Time.

    def on_deadline(self, now: float) -> Actions:
        """Act on what is overdue; harmless when nothing is."""
        overdue = self._alarms.ring(now)
        if "init" in overdue:
            waited = f"{self._rules.init_seconds:g} s"
            return self.end(CallOutcome(Cause.NO_INIT, 1008, f"no init message within {waited} of connecting"), now)
        if "length" in overdue:
            limit = f"{self._rules.most_seconds:g} s"
            return self.end(CallOutcome(Cause.TOO_LONG, 1000, f"the call reached its limit of {limit}"), now)
        if "hung up" in overdue:
            return self.end(CallOutcome(Cause.HUNG_UP, 1000), now)
        # From here on the call may go on: nothing that is due together with something else must be lost.
        actions: list[Action] = []
        if self._trouble.deadline <= now:
            actions += self._does_not_close(now)
        if "answer" in overdue:
            self.counts.late_answers += 1
            actions.append(Note(f"the agent has not answered for {self._rules.answer_seconds:g} s"))
        if self._silence.deadline <= now:
            actions += self._too_silent(now)
        found = self._lifeline.expire(now, quiet=self._quiet(now))
        actions += self._fail(f"{self._trouble.lost}; it could not be resumed", now) if found is None else found
        self._speech.expire(now)
        # Tools first: telling the agent of keys may take time, and no tool must be stopped before it was started.
        actions += self._tools.expire(now)
        actions += self._keys.expire(now, ready=self._lifeline.current is not None)
        if "heard out" in overdue:
            actions += self._heard_out(now)
        return tuple(actions)

    def _does_not_close(self, now: float) -> Actions:
        """The provider has reported an error that ends its session, and holds on to it."""
        session, fault = self._lifeline.current, self._trouble.fault
        self._trouble.survived()
        if session is None or fault is None:
            return ()
        lost = self._lost(session, fault.message, now, retryable=fault.retryable, forgotten=fault.forgotten)
        return (CloseSession(session), *lost)

    def _too_silent(self, now: float) -> Actions:
        played_at = self._playout.played_at(now)
        if played_at > now or self._speech.speaking or self._tools.busy or self._lifeline.current is None:
            self._silence.wait_from(played_at)
            return ()
        prompt = self._silence.step(now)
        return (Say(prompt),) if prompt else self.end(CallOutcome(Cause.CALLER_SILENT, 1000), now)

    def _quiet(self, now: float) -> bool:
        """Whether nobody speaks and nothing is under way: a session can be replaced without anybody hearing it."""
        silent = self._playout.played_at(now) <= now and self._voice.quiet_for(now) >= QUIET_SECONDS
        return silent and not self._speech.speaking and not self._tools.busy
