"""The tools of one call: which of them run, and that each call of the agent gets exactly one answer. Pure.

EVI asks for one tool at a time (docs/protocols/evi.md 5.4). When callers change their mind it asks again under a new
id, or drops the request by simply going on: the old work is stopped, and its id is answered as out of date. Requests
that stay open until they are answered (`ToolCall.stays_open`, docs/protocols/realtime.md 7.4) run beside each other,
and run on when the agent goes on; only a tool that takes the telephone call away is stopped there, too.
Such a tool waits until the caller has heard the good-bye, all that has been generated of it, however long that takes.
Only for a voice that has not come it does not wait for ever: asked for before the good-bye is spoken, or when the
caller has cut it off, it waits for `grace` seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sts_trio.call.actions import AnswerTool, CancelTool, Deadline, LogWarning, RunTool
from sts_trio.tools.tool import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sts_trio.call.actions import Actions, Deadlines
    from sts_trio.call.playout import Playout
    from sts_trio.call.speech import AgentSpeech
    from sts_trio.providers.base import ToolCall
    from sts_trio.tools.tool import Tool

# More of a good-bye, or its words, may come a moment after the request.
_SETTLE_SECONDS = 0.3
# Core's own buffer and the line lag behind our clock; a good-bye must not lose its last syllable.
LINE_SECONDS = 0.2
_MOST_AT_ONCE = 16  # of one call; no sane model asks for more
_ANSWERED_REMEMBERED = 64  # ids, to give no call a second answer
_OUT_OF_DATE = ToolResult("Not done: the request has changed.", failed=True)
_TOO_MANY = ToolResult("Not done: too many tools are at work already.", failed=True)
_ON_ITS_WAY = ToolResult("The call is on its way elsewhere already.", failed=True)
_TRANSFERRED = ToolResult("The caller has been transferred; this would hang up on them.", failed=True)
# A thread goes on, and a command that has been sent cannot be taken back.
_STOPPED = ToolResult("Stopped: the request has changed. It may have been done all the same.", failed=True)


@dataclass(slots=True)
class _Work:
    """`since`: from when on it waits. `after`: a voice behind this place in the playout's audio is the good-bye."""

    tool: Tool
    arguments: str
    since: float
    after: float
    for_agent: bool
    stays_open: bool = False
    running: bool = False
    caller_spoke: bool = False

    @property
    def is_transfer(self) -> bool:
        """Whether it sends the caller to somebody else."""
        return self.tool.ends_call and not self.tool.hangs_up

    @property
    def may_be_dropped(self) -> bool:
        """Whether an agent that goes on now has perhaps dropped it."""
        return self.caller_spoke and self.for_agent and (self.tool.ends_call or not self.stays_open)


class ToolCalls:
    """Tool calls come in, actions go out."""

    def __init__(self, playout: Playout, speech: AgentSpeech, deadlines: Deadlines, grace: float) -> None:
        self._playout = playout
        self._speech = speech
        self._deadlines = deadlines
        self._counts = playout.counts
        self._grace = grace
        self._tools: dict[str, Tool] = {}
        self.work: dict[str, _Work] = {}  # what is under way, or about to be, by its id
        self._answered: deque[str] = deque(maxlen=_ANSWERED_REMEMBERED)
        # A transfer was ordered, and no failure has been heard of: the caller may be with somebody else, and from here
        # on no hang-up may follow, not even one of ours at the end. One that was stopped halfway counts, too.
        self.transferred = False
        self._transferred_before = False  # the same, before the transfer that is under way

    def offer(self, tools: Iterable[Tool]) -> None:
        """These tools can be had in this call."""
        self._tools = {tool.name: tool for tool in tools}

    def ask(self, call: ToolCall, now: float) -> Actions:
        """The agent asks for a tool."""
        self._speech.tool_asked(now)
        if not call.response_required or call.id in self.work or call.id in self._answered:
            return ()  # a tool of the provider's own, or said twice
        self._counts.tool_calls += 1
        out_of_date = self._stop_replaced_by(call)
        tool = self._tools.get(call.name)
        if tool is None:
            reply = ToolResult(f"The tool {call.name[:64]} is not available in this call.", failed=True)
            return (*out_of_date, self._answer(call.id, reply))
        if len(self.work) >= _MOST_AT_ONCE:
            return (*out_of_date, self._answer(call.id, _TOO_MANY))
        if tool.ends_call and (why := tool.check(call.arguments)):  # now, and not after the good-bye
            self._counts.tools_failed += 1
            return (*out_of_date, self._answer(call.id, ToolResult(why, failed=True)))
        if tool.ends_call and self.takes_call:
            return (*out_of_date, self._answer(call.id, _ON_ITS_WAY))
        if tool.hangs_up and self.transferred:
            return (*out_of_date, self._answer(call.id, _TRANSFERRED))
        started = self._start(call.id, tool, call.arguments, now, for_agent=True, stays_open=call.stays_open)
        return (*out_of_date, *started)

    def order(self, name: str, arguments: str, now: float) -> Actions:
        """A rule of the operator's asks for a tool; nobody waits for its answer."""
        tool = self._tools.get(name)
        if tool is None:
            return (LogWarning("a rule asks for a tool that is not available in this call", {"tool": name}),)
        if (tool.ends_call and self.takes_call) or (tool.hangs_up and self.transferred):
            return (LogWarning("a rule asks for a tool, but the call is on its way already", {"tool": name}),)
        id_ = f"rule {self._counts.rules_fired}"
        while id_ in self.work or id_ in self._answered:  # the ids of the agent's work are the provider's choice
            id_ += "+"
        return self._start(id_, tool, arguments, now, for_agent=False)

    def done(self, id_: str, result: ToolResult) -> Actions:
        """A tool has come to its end."""
        work = self.work.pop(id_, None)
        self._counts.tools_failed += result.failed
        if work is not None and work.is_transfer:
            self.transferred = self._transferred_before or not result.failed
        if work is None or not work.for_agent:
            return ()
        return (self._answer(id_, result),)

    @property
    def takes_call(self) -> bool:
        """Whether a tool is about to take the telephone call away from the agent."""
        return any(work.tool.ends_call for work in self.work.values())

    @property
    def awaited(self) -> bool:
        """Whether the agent waits for the answer of a tool."""
        return any(work.for_agent for work in self.work.values())

    def tool_of(self, id_: str) -> Tool | None:
        """The tool of work that waits or runs; None for work that is done, or was stopped."""
        return self.work[id_].tool if id_ in self.work else None

    def user_turn(self) -> None:
        """The caller has said something while a tool is at work."""
        for work in self.work.values():
            work.caller_spoke = True

    def agent_turn_end(self) -> Actions:
        """The agent has finished a turn. After words of the caller, and no new request, it has dropped the old one.

        Whether one that stays open was taken back nobody can tell: only a transfer must then not be made.
        """
        self.look()
        dropped = [id_ for id_, work in self.work.items() if work.may_be_dropped]
        return self._stop(dropped) if dropped else ()

    def barge_in(self, now: float) -> None:
        """The caller cuts the good-bye off, perhaps to take the request back: the agent gets time to drop it."""
        for work in self.work.values():
            work.since, work.after = now, self._speech.answer_from
        self.look()

    def look(self) -> None:
        """Something has changed for what waits: `expire` is to be called now."""
        waits = not all(work.running for work in self.work.values())
        self._deadlines[Deadline.TOOLS] = -inf if waits else inf

    def expire(self, now: float) -> Actions:
        """Run what has waited for the good-bye; harmless when nothing has."""
        actions: list[RunTool] = []
        waiting = inf
        for id_, work in self.work.items():
            if work.running:
                continue
            if (due := self._due(work, now)) > now:
                waiting = min(waiting, due)
            else:
                work.running = True
                if work.is_transfer:
                    self._transferred_before, self.transferred = self.transferred, True
                actions.append(RunTool(id_, work.tool, work.arguments))
        self._deadlines[Deadline.TOOLS] = waiting
        return tuple(actions)

    def agent_gone(self) -> Actions:
        """No other session will come: nobody waits for the work that the agent asked for."""
        self.session_over()
        stopped = [id_ for id_, work in self.work.items() if work.for_agent]
        for id_ in stopped:
            del self.work[id_]
            self._answered.append(id_)
        self.look()
        return tuple(CancelTool(id_) for id_ in stopped)

    def session_over(self) -> None:
        """The session that asked is gone. Its work goes on, for the next one; a promised transfer is still made."""
        for work in self.work.values():
            if work.for_agent and work.tool.ends_call:
                work.for_agent, work.after = False, -inf  # and no more of the good-bye will come
        self.look()

    def _start(
        self, id_: str, tool: Tool, arguments: str, now: float, *, for_agent: bool, stays_open: bool = False
    ) -> Actions:
        if tool.ends_call:
            self._speech.tool_asked(now, last_words=True)
        after = self._speech.answer_from if for_agent else -inf  # of a rule's work the agent knows nothing
        self.work[id_] = _Work(tool, arguments, now, after, for_agent, stays_open)
        return self.expire(now)

    def _stop_replaced_by(self, call: ToolCall) -> Actions:
        """Stop what this request takes the place of: what does not stay open, and a transfer that another one follows.

        Of two transfers the second counts only if the caller has spoken since the first: they may have changed their
        mind.
        """
        tool = self._tools.get(call.name)
        transfer = tool is not None and tool.ends_call
        return self._stop(
            id_
            for id_, work in list(self.work.items())
            if work.for_agent and (not work.stays_open or (transfer and work.tool.ends_call and work.may_be_dropped))
        )

    def _stop(self, ids: Iterable[str]) -> Actions:
        """Stop these, which the agent asked for, and answer them."""
        actions: list[CancelTool | AnswerTool] = []
        for id_ in ids:
            work = self.work.pop(id_)
            if work.running:
                actions.append(CancelTool(id_))
            actions.append(self._answer(id_, _STOPPED if work.running else _OUT_OF_DATE))
        self.look()
        return tuple(actions)

    def _answer(self, id_: str, result: ToolResult) -> AnswerTool:
        self._answered.append(id_)
        return AnswerTool(id_, result)

    def _due(self, work: _Work, now: float) -> float:
        """When this may run, as far as can be known now."""
        if not work.tool.ends_call:
            return work.since
        heard_at = self._playout.ended_at(now)
        due = max(work.since + _SETTLE_SECONDS, heard_at + LINE_SECONDS)
        has_spoken = self._playout.queued > work.after and not self._speech.owes_voice
        return due if has_spoken or heard_at > now else max(due, max(work.since, heard_at) + self._grace)
