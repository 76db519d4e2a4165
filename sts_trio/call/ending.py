"""How a call ends: at once, when its time is up, or once the caller has heard it out; Core is told why. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import End, LogWarning
from sts_trio.call.alarms import Deadlines
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.tools import LINE_SECONDS
from sts_trio.core.wire import Error

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.playout import Playout
    from sts_trio.call.rules import CallRules
    from sts_trio.call.speech import AgentSpeech
    from sts_trio.call.tools import ToolCalls
    from sts_trio.core.link import SocketClosed

# After a transfer or a hang-up that was ordered, Core closes by itself (docs/protocols/core.md 5.2); until then we
# leave it time to.
CORE_LEAVES_SECONDS = 3.0
# Close codes of Core's side that are no hang-up: nothing came, not even a close; or what came was no WebSocket.
_GONE = {1006: Cause.CALLER_LOST} | dict.fromkeys((1002, 1007, 1008, 1009), Cause.CALLER_BROKE_PROTOCOL)


class Ending:
    """Reasons come in, `End` goes out. `deadline` says when `expire` wants to be called."""

    def __init__(self, rules: CallRules, playout: Playout, speech: AgentSpeech, tools: ToolCalls, now: float) -> None:
        self._rules = rules
        self._playout = playout
        self._speech = speech
        self._tools = tools
        self._told = ""  # the last error that Core was told
        self._farewell: CallOutcome | None = None  # how the call will end, once the caller has heard what is queued
        self._core_leaves_by = -inf  # the telephone call was taken away; Core should have closed by then
        self._alarms = Deadlines()
        self._alarms.set("init", now + rules.init_seconds)
        self._alarms.set("length", now + rules.most_seconds)

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return self._alarms.deadline

    def initialised(self) -> None:
        """Core has said `init`."""
        self._alarms.set("init", inf)

    def taken_away(self, now: float, *, hung_up: bool) -> None:
        """The telephone call has been transferred, or hung up: Core is about to close."""
        self._core_leaves_by = now + CORE_LEAVES_SECONDS
        if hung_up:
            self._alarms.set("hung up", self._core_leaves_by)

    def tell(self, message: str) -> None:
        """Tell Core of an error, unless it is the one that it was told last."""
        if message and message != self._told:
            self._told = message
            self._playout.post(Error(message))

    def end(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far."""
        self._speech.finish(now)
        self.tell(outcome.message)
        return (End(outcome),)

    def caller_gone(self, closed: SocketClosed, now: float) -> Actions:
        """End the call, whose connection to Core is over: there is nobody left to tell."""
        self._speech.finish(now)
        return (End(CallOutcome(_GONE.get(closed.code, Cause.CALLER_HUNG_UP), closed.code, closed.reason)),)

    def hear_out(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call once the caller has heard what is queued, and a tool that takes it away has come to its end."""
        self._farewell = outcome
        return self._heard_out(outcome, now)

    def fail(self, message: str, now: float) -> Actions:
        """End the call because the agent's side has failed for good; before, the caller hears the fallback."""
        outcome = CallOutcome(Cause.PROVIDER_FAILED, 1011, message)
        if not self._rules.fallback or self._farewell is not None:
            return self.end(outcome, now)
        self.tell(message)
        self._speech.turn_end(now)  # the agent's last words come before
        self._playout.push(self._rules.fallback)
        self._playout.end_reply()
        dropped = self._tools.session_over()
        return (LogWarning("the caller hears the fallback", {"cause": message}), *dropped, *self.hear_out(outcome, now))

    def expire(self, now: float) -> Actions:
        """End the call if its time has come; nothing comes back as long as it goes on."""
        overdue = self._alarms.ring(now)
        if "init" in overdue:
            waited = f"{self._rules.init_seconds:g} s"
            return self.end(CallOutcome(Cause.NO_INIT, 1008, f"no init message within {waited} of connecting"), now)
        if "length" in overdue:
            limit = f"{self._rules.most_seconds:g} s"
            return self.end(CallOutcome(Cause.TOO_LONG, 1000, f"the call reached its limit of {limit}"), now)
        if "hung up" in overdue:
            return self.end(CallOutcome(Cause.HUNG_UP, 1000), now)
        if "heard out" in overdue and self._farewell is not None:
            return self._heard_out(self._farewell, now)
        return ()

    def _heard_out(self, outcome: CallOutcome, now: float) -> Actions:
        played_at = self._playout.played_at(now)
        if max(played_at, self._core_leaves_by) <= now and not self._tools.takes_call:
            return self.end(outcome, now)
        # Who has just been transferred is not ours to hang up, as our end would: first Core has its time to close.
        self._alarms.set("heard out", max(played_at + LINE_SECONDS, self._core_leaves_by))
        return ()
