"""How a call ends: at once, when its time is up, or once the caller has heard it out. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import Deadline, End, LogWarning
from sts_trio.call.meter import CallOutcome, Cause
from sts_trio.call.tools import LINE_SECONDS
from sts_trio.core.wire import Error
from sts_trio.providers.base import SessionEndKind

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions, Deadlines
    from sts_trio.call.config import CallRules
    from sts_trio.call.playout import Playout
    from sts_trio.call.speech import AgentSpeech
    from sts_trio.call.tools import ToolCalls
    from sts_trio.core.link import SocketClosed
    from sts_trio.providers.base import SessionEnd


# After a transfer or a hang-up that was ordered, Core closes by itself (docs/protocols/core.md 5.2); until then we
# leave it time to.
CORE_LEAVES_SECONDS = 3.0
# Close codes of Core's side that are no hang-up: nothing came, not even a close; or what came was no WebSocket.
_GONE = {1006: Cause.CALLER_LOST} | dict.fromkeys((1002, 1007, 1008, 1009), Cause.CALLER_BROKE_PROTOCOL)


class Ending:
    """Reasons come in, `End` goes out."""

    def __init__(
        self,
        rules: CallRules,
        playout: Playout,
        speech: AgentSpeech,
        tools: ToolCalls,
        deadlines: Deadlines,
        now: float,
    ) -> None:
        self._rules = rules
        self._playout = playout
        self._speech = speech
        self._tools = tools
        self._told = ""  # the last error that Core was told
        self.closing = False  # the call ends once the caller has heard what is queued
        self._farewell: CallOutcome | None = None  # how it will end then
        self.core_leaves_by = -inf  # the telephone call was taken away; Core should have closed by then
        self._deadlines = deadlines
        deadlines[Deadline.INIT] = now + rules.init_seconds
        deadlines[Deadline.LENGTH] = now + rules.most_seconds

    def taken_away(self, now: float, *, hung_up: bool) -> None:
        """The telephone call has been transferred, or hung up: Core is about to close."""
        self.core_leaves_by = now + CORE_LEAVES_SECONDS
        if hung_up:
            self._deadlines[Deadline.HUNG_UP] = self.core_leaves_by

    def tell(self, message: str) -> None:
        """Tell Core of an error, unless it is the one that it was told last."""
        if message and message != self._told:
            self._told = message
            self._playout.post(Error(message))

    def end(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call, telling Core why (once), and what the agent had said so far. A good-bye is no error."""
        self._speech.finish(now)
        if outcome.cause is not Cause.AGENT_ENDED:
            self.tell(outcome.message)
        return (End(outcome),)

    def caller_gone(self, closed: SocketClosed, now: float) -> Actions:
        """End the call, whose connection to Core is over: there is nobody left to tell."""
        self._speech.finish(now)
        return (End(CallOutcome(_GONE.get(closed.code, Cause.CALLER_HUNG_UP), closed.code, closed.reason)),)

    def hear_out(self, outcome: CallOutcome, now: float) -> Actions:
        """End the call once the caller has heard what is queued, and a tool that takes it away has come to its end."""
        self.closing, self._farewell = True, outcome
        return self._heard_out(outcome, now)

    def agent_gone(self, end: SessionEnd, now: float) -> Actions:
        """End the call with its last session: the agent has said good-bye, or its side has failed for good."""
        if end.kind is not SessionEndKind.GOODBYE:
            return self.fail(end.cause, now)
        self._speech.turn_end(now)
        dropped = self._tools.agent_gone()
        return (*dropped, *self.hear_out(CallOutcome(Cause.AGENT_ENDED, 1000, end.cause), now))

    def fail(self, message: str, now: float) -> Actions:
        """End the call because the agent's side has failed for good.

        Before, the caller hears the fallback, and a transfer that they were promised is made.
        """
        outcome = CallOutcome(Cause.PROVIDER_FAILED, 1011, message)
        if self._farewell is not None or not (self._rules.fallback or self._tools.takes_call):
            return self.end(outcome, now)
        self.tell(message)
        self._speech.turn_end(now)  # the agent's last words come before
        dropped = self._tools.agent_gone()
        if not self._rules.fallback:
            return (*dropped, *self.hear_out(outcome, now))
        self._playout.push(self._rules.fallback)
        self._playout.end_reply()
        return (LogWarning("the caller hears the fallback", {"cause": message}), *dropped, *self.hear_out(outcome, now))

    def expire(self, overdue: Deadline, now: float) -> Actions:
        """End the call, whose time has come; nothing comes back if it goes on."""
        match overdue:
            case Deadline.INIT:
                waited = f"{self._rules.init_seconds:g} s"
                return self.end(CallOutcome(Cause.NO_INIT, 1008, f"no init message within {waited} of connecting"), now)
            case Deadline.LENGTH:
                limit = f"{self._rules.most_seconds:g} s"
                return self.end(CallOutcome(Cause.TOO_LONG, 1000, f"the call reached its limit of {limit}"), now)
            case Deadline.HUNG_UP:
                return self.end(CallOutcome(Cause.HUNG_UP, 1000), now)
            case _:
                return () if self._farewell is None else self._heard_out(self._farewell, now)

    def _heard_out(self, outcome: CallOutcome, now: float) -> Actions:
        played_at = self._playout.played_at(now)
        if max(played_at, self.core_leaves_by) <= now and not self._tools.takes_call:
            return self.end(outcome, now)
        # Ending now would drop a caller who was just transferred: give Core `CORE_LEAVES_SECONDS` to close first.
        self._deadlines[Deadline.HEARD_OUT] = max(played_at + LINE_SECONDS, self.core_leaves_by)
        return ()
