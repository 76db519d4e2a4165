"""The decisions of one call: events of both sides in, actions out. Pure: no await, no clock, no I/O.

States, in order: waiting for `init` → opening a session → talking → (closing: the agent said good-bye and the caller
hears it out) → ended. What the caller hears goes into the `Playout`; everything else that must be done is an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES, SampleAligner, pieces, seconds
from sts_trio.call.actions import Attach, End, Note, OpenSession, RefuseTool, Say, SendAudio
from sts_trio.call.outcome import CallCounts, CallOutcome, Cause
from sts_trio.call.turn import AgentTurn
from sts_trio.core.wire import CallerAudio, Digit, Error, Init, Interruption, NotUnderstood, Transcript
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
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.call.actions import Actions
    from sts_trio.call.playout import Playout
    from sts_trio.core.link import SocketClosed
    from sts_trio.core.wire import FromCore
    from sts_trio.errors import ProviderError
    from sts_trio.providers.events import AgentEvent

# A provider that reported a fatal error closes by itself; when it does not, we do.
_FAULT_GRACE_SECONDS = 5.0
# A reply that has been heard, and then gone quiet for so long, is over though its end was never announced: what the
# resampler and the frame cutter still hold is played.
_REPLY_GAP_SECONDS = 1.0
# Core's own buffer and the line lag behind our clock; a farewell must not lose its last syllable.
_FAREWELL_MARGIN_SECONDS = 0.2
# Close codes of Core's side that are no hang-up: nothing came, not even a close; or what came was no WebSocket.
_GONE = {1006: Cause.CALLER_LOST} | dict.fromkeys((1002, 1007, 1009), Cause.CALLER_BROKE_PROTOCOL)
_STRONGEST_EMOTIONS = 3
_LONGEST_ID = 128
_FAULTS_TOLD = 20  # errors of the provider that a call passes on to Core; the rest are counted
_NOTES = 5  # log lines a call about messages that were not understood; the rest are counted


@dataclass(frozen=True, slots=True)
class CallRules:
    """What an operator decides about calls. Times in seconds; no greeting if it is empty."""

    greeting: str = ""
    init_seconds: float = 10.0
    most_seconds: float = 14_400.0
    emotions: bool = True


class Bridge:
    """One call's state machine. After every feed `deadline` says when `on_deadline` wants to be called."""

    def __init__(self, rules: CallRules, playout: Playout, fallback: CallInfo, now: float) -> None:
        self.counts = CallCounts()
        self.call = fallback  # what is known of the call; `init` makes it better
        self.deadline = inf
        self._rules = rules
        self._playout = playout
        self._alarms: dict[str, float] = {}
        self._initialised = False
        self._greeted = False
        self._aligner = SampleAligner()
        self._turn = AgentTurn()
        self._barge_in_told = False
        self._told = ""  # the last error that Core was told
        self._fault = ""  # the provider's last error, until the caller is heard again
        self._farewell: CallOutcome | None = None  # the agent said good-bye; this is how the call will end
        self._set("init", now + rules.init_seconds)
        self._set("length", now + rules.most_seconds)

    # The caller's side.

    def on_core(self, message: FromCore) -> Actions:
        """Take a message of Core."""
        match message:
            case CallerAudio(audio=pcm):
                return self._caller_audio(pcm)
            case Init():
                return self._init(message)
            case Digit():
                return ()  # a seam: nothing listens to the keypad yet
            case NotUnderstood(about=about):
                return self._note(f"Core sent {about}; ignored")

    def on_caller_gone(self, closed: SocketClosed) -> Actions:
        """Core's connection is over: the call is, too."""
        cause = _GONE.get(closed.code, Cause.CALLER_HUNG_UP)
        return (End(CallOutcome(cause, closed.code, closed.reason)),)

    def _caller_audio(self, pcm: bytes) -> Actions:
        if not self._initialised:
            return ()
        pcm = self._aligner.feed(pcm)
        if 0 < len(pcm) <= FRAME_BYTES:
            return (SendAudio(pcm),)
        return tuple(SendAudio(piece) for piece in pieces(pcm))

    def _init(self, init: Init) -> Actions:
        if self._initialised:
            return self._note("Core sent a second init; ignored")
        self._initialised = True
        self._set("init", inf)
        if isinstance(init.uuid, str) and usable_id(init.uuid):
            self.call = CallInfo(id=init.uuid, uuid=init.uuid, query=self.call.query)
        return (OpenSession(self.call),)

    def _note(self, text: str) -> Actions:
        self.counts.not_understood += 1
        return (Note(text),) if self.counts.not_understood <= _NOTES else ()

    # The agent's side.

    def on_agent(self, event: AgentEvent, now: float) -> Actions:
        """Take an event of the provider."""
        match event:
            case AgentAudio():
                self._agent_audio(event, now)
            case AgentText(reply=reply, text=text):
                self._agent_text(reply, text, now)
            case AgentTurnEnd():
                self._end_turn()
            case UserTurn():
                self._fault = ""
                self._set("fault", inf)
                self.counts.user_turns += 1
                self._playout.post(Transcript("user", event.text, self._strongest(event.emotions)))
            case UserInterruption():
                self._barge_in(now)
            case AgentReady():
                return self._ready()
            case ToolCall(response_required=True, id=tool_id, name=name):
                return (RefuseTool(tool_id, f"The tool {name[:64]} is not available in this call."),)
            case ToolCall():
                pass
            case AgentFault():
                self._reported(event, now)
            case AgentClosed():
                return self._agent_closed(event, now)
        return ()

    def on_agent_failed(self, error: ProviderError) -> Actions:
        """The session could not be opened, or it broke."""
        return self._fail(str(error))

    def _ready(self) -> Actions:
        if self._rules.greeting and not self._greeted:
            self._greeted = True
            return (Say(self._rules.greeting), Attach())
        return (Attach(),)

    def _agent_audio(self, audio: AgentAudio, now: float) -> None:
        if not self._speaks(audio.reply):
            self.counts.stale_chunks += 1
            return
        self._play(self._turn.speak(audio.wav))
        self._expect_more(now)

    def _agent_text(self, reply: str, text: str, now: float) -> None:
        if self._speaks(reply):
            self._turn.add_text(text)
            self._expect_more(now)

    def _speaks(self, reply: str) -> bool:
        """Whether this is part of what the agent says now; if so, it has taken up speaking again."""
        if not self._turn.admits(reply):
            return False
        self._barge_in_told = False
        self._set("fault", inf)  # it goes on, if only to say good-bye; the error stays the cause of what follows
        return True

    def _expect_more(self, now: float) -> None:
        self._set("reply", self._playout.played_at(now) + _REPLY_GAP_SECONDS)

    def _play(self, pcm: bytes) -> None:
        dropped = self._playout.push(pcm)
        self.counts.downstream_seconds += seconds(len(pcm)) - dropped
        self.counts.downstream_dropped_seconds += dropped

    def _end_turn(self) -> None:
        self._set("reply", inf)
        self._play(self._turn.finish())
        self._playout.end_reply()
        self._tell_agent_turn()

    def _tell_agent_turn(self) -> None:
        if text := self._turn.take_text():
            self.counts.agent_turns += 1
            self._playout.post(Transcript("agent", text))

    def _barge_in(self, now: float) -> None:
        """Drop what waits, and what may still come, of all replies so far; tell Core once."""
        self._set("reply", inf)
        self._turn.cut_off()
        self._playout.clear(now)
        if not self._barge_in_told:
            self._barge_in_told = True
            self.counts.interruptions += 1
            self._playout.post(Interruption())
        self._tell_agent_turn()

    def _reported(self, fault: AgentFault, now: float) -> None:
        self.counts.provider_faults += 1
        if self.counts.provider_faults <= _FAULTS_TOLD:
            self._tell(fault.message)
        self._fault = fault.message
        if fault.ends_session:
            self._set("fault", now + _FAULT_GRACE_SECONDS)

    def _agent_closed(self, closed: AgentClosed, now: float) -> Actions:
        if self._fault or not closed.normal:
            return self._fail(self._fault or closed.message)
        self._end_turn()
        self._farewell = CallOutcome(Cause.AGENT_ENDED, 1000, closed.message)
        return self._heard_out(now)

    def _heard_out(self, now: float) -> Actions:
        if self._farewell is None:
            return ()
        played_at = self._playout.played_at(now)
        if played_at <= now:
            return self.end(self._farewell)
        self._set("heard out", played_at + _FAREWELL_MARGIN_SECONDS)
        return ()

    def _fail(self, message: str) -> Actions:
        return self.end(CallOutcome(Cause.PROVIDER_FAILED, 1011, message))

    def end(self, outcome: CallOutcome) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far."""
        self._tell_agent_turn()
        self._tell(outcome.message)
        return (End(outcome),)

    def _tell(self, message: str) -> None:
        if message != self._told:
            self._told = message
            self._playout.post(Error(message))

    def _strongest(self, emotions: Mapping[str, float]) -> Mapping[str, float] | None:
        if not self._rules.emotions or not emotions:
            return None
        strongest = sorted(emotions.items(), key=lambda item: item[1], reverse=True)[:_STRONGEST_EMOTIONS]
        return {name: round(score, 3) for name, score in strongest}

    # Time.

    def on_deadline(self, now: float) -> Actions:
        """Act on what is overdue; harmless when nothing is."""
        overdue = [name for name, at in self._alarms.items() if at <= now]
        for name in overdue:
            self._set(name, inf)
        if "init" in overdue:
            waited = f"{self._rules.init_seconds:g} s"
            return self.end(CallOutcome(Cause.NO_INIT, 1008, f"no init message within {waited} of connecting"))
        if "length" in overdue:
            limit = f"{self._rules.most_seconds:g} s"
            return self.end(CallOutcome(Cause.TOO_LONG, 1000, f"the call reached its limit of {limit}"))
        if "fault" in overdue:
            return self._fail(self._fault)
        if "reply" in overdue:
            self._end_turn()
        return self._heard_out(now) if "heard out" in overdue else ()

    def _set(self, alarm: str, at: float) -> None:
        if at == inf:
            self._alarms.pop(alarm, None)
        else:
            self._alarms[alarm] = at
        self.deadline = min(self._alarms.values(), default=inf)


def usable_id(uuid: str) -> bool:
    """Whether Core's id of a call can name it. Any short text can, but ``unknown`` means none (contract 1.6)."""
    return 0 < len(uuid) <= _LONGEST_ID and uuid.isprintable() and uuid != "unknown"
