"""When a session with the provider fails: another, if there may be one; else the end of the call. Pure.

`ResumePolicy` decides whether there may be one, `Trouble` knows the cause, `Ending` tells Core and the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.call.actions import CloseSession, LogWarning
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.errors import ConversationGone

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.ending import Ending
    from sts_trio.call.resume import ResumePolicy
    from sts_trio.call.speech import AgentSpeech
    from sts_trio.call.tools import ToolCalls
    from sts_trio.call.trouble import Trouble
    from sts_trio.errors import ProviderError
    from sts_trio.providers.base import AgentClosed, AgentFault


class Recovery:
    """Failures come in, actions go out. It wants `expire` at the deadlines of its `lifeline` and `trouble`."""

    def __init__(
        self, lifeline: ResumePolicy, trouble: Trouble, speech: AgentSpeech, tools: ToolCalls, ending: Ending
    ) -> None:
        self._lifeline = lifeline
        self._trouble = trouble
        self._speech = speech
        self._tools = tools
        self._ending = ending

    def reported(self, fault: AgentFault, now: float) -> None:
        """The provider has reported an error in the session that is in use."""
        if self._trouble.report(fault, now):
            self._ending.tell(fault.message)

    def closed(self, closed: AgentClosed, session: int, now: float) -> Actions:
        """A session is over, by the provider's will or because it broke."""
        if session != self._lifeline.current:  # before it was ready, or after another had taken its place
            return self._lost(session, closed.message, now, retryable=True)
        # An error after which the chat goes on does not explain a line that breaks later.
        if (fault := self._trouble.fault) and (fault.ends_session or not closed.retryable):
            return self._lost_to(fault, session, now)
        if not closed.normal:
            return self._lost(session, closed.message, now, retryable=closed.retryable, mute=closed.mute)
        self._lifeline.stop()
        self._speech.turn_end(now)
        return self._ending.hear_out(CallOutcome(Cause.AGENT_ENDED, 1000, closed.message), now)

    def failed(self, error: ProviderError, session: int, now: float) -> Actions:
        """A session could not be opened, or it broke."""
        gone = isinstance(error, ConversationGone)
        return self._lost(session, str(error), now, retryable=error.retryable, forgotten=gone)

    def expire(self, now: float, *, quiet: bool) -> Actions:
        """Act on what is overdue; harmless when nothing is. `quiet`: a session may be replaced now."""
        held_on = self._does_not_close(now) if self._trouble.deadline <= now else ()
        found = self._lifeline.expire(now, quiet=quiet)
        if found is None:
            return (*held_on, *self._hopeless(f"{self._trouble.lost}; it could not be resumed", now))
        return (*held_on, *found)

    def _does_not_close(self, now: float) -> Actions:
        """The provider has reported an error that ends its session, and holds on to it."""
        session, fault = self._lifeline.current, self._trouble.fault
        self._trouble.survived()
        if session is None or fault is None:
            return ()
        return (CloseSession(session), *self._lost_to(fault, session, now))

    def _lost_to(self, fault: AgentFault, session: int, now: float) -> Actions:
        return self._lost(session, fault.message, now, retryable=fault.retryable, forgotten=fault.forgotten)

    def _lost(
        self,
        session: int,
        message: str,
        now: float,
        *,
        retryable: bool,
        forgotten: bool = False,
        mute: bool = False,
    ) -> Actions:
        """A session is over. The caller's side does not notice, unless there is no hope for another."""
        in_use = session == self._lifeline.current
        actions = self._lifeline.lost(session, now, retryable=retryable, forgotten=forgotten, mute=mute)
        if actions is None:
            return self._hopeless(self._trouble.explain(message, in_use=in_use), now)
        if not in_use:
            return actions
        self._trouble.over()
        self._trouble.lost = message
        self._speech.turn_end(now)  # what is queued is heard out; no more of it will come
        return (LogWarning("the session is lost; resuming", {"cause": message}), *self._tools.session_over(), *actions)

    def _hopeless(self, message: str, now: float) -> Actions:
        self._lifeline.stop()
        return self._ending.fail(message, now)
