"""A call's nursery: four tasks that carry out what the bridge decides. The end of one is the end of all."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.actions import (
    AddContext,
    AnswerTool,
    Attach,
    CallWebhook,
    CancelTool,
    CloseSession,
    End,
    LogWarning,
    OpenSession,
    RunTool,
    Say,
    SendAudio,
    SendUserText,
    Truncate,
)
from sts_trio.call.goodbye import close_call
from sts_trio.call.meter import ToolRun
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.sessions import AgentSessions
from sts_trio.call.upstream import UpstreamBuffer
from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio
from sts_trio.logs import rename_call
from sts_trio.providers.base import AgentAudio
from sts_trio.tools.tool import CallContext

if TYPE_CHECKING:
    from sts_trio.call.actions import Action, Actions
    from sts_trio.call.bridge import Bridge
    from sts_trio.call.playout import Playout
    from sts_trio.call.services import Services
    from sts_trio.core.link import CoreLink
    from sts_trio.errors import ProviderError
    from sts_trio.providers.base import AgentEvent

log = structlog.get_logger(__name__)

# Resampling half a second takes at most 0.25 ms; longer chunks are cut, so that they do not hold up the other calls.
_SLICE_SECONDS = 0.5
# For webhooks that are under way when the call ends; Core's side is closed by then.
_ERRANDS_SECONDS = 3.0


class Call:
    """One call, from the first message of Core to the last.

    `run` returns once everything of the call is over: its tasks, its session with the provider, Core's WebSocket.
    Only the playout task writes to Core while the call lasts, which makes the order of what Core hears exact.
    """

    def __init__(self, core: CoreLink, services: Services, bridge: Bridge, playout: Playout) -> None:
        self._core = core
        self._services = services
        self._bridge = bridge
        self._playout = playout
        self._upstream_buffer = UpstreamBuffer(bridge.counts)
        self._sessions = AgentSessions(services, self._upstream_buffer)
        self._tools: dict[str, trio.CancelScope] = {}
        self._outcome: CallOutcome | None = None
        self._work_to_do = trio.lowlevel.ParkingLot()  # the playout task parks here
        self._alarm = trio.CancelScope()  # the watchdog sleeps in here; its deadline follows the bridge's
        self._nursery: trio.Nursery
        self._errands: trio.Nursery  # for what may outlive the call by a moment

    async def run(self) -> None:
        """Hold the call until it ends, and close Core's side. Whatever fails in it ends here."""
        try:
            async with trio.open_nursery() as self._errands:
                await self._hold()
                self._errands.cancel_scope.deadline = trio.current_time() + _ERRANDS_SECONDS
        except* Exception:
            log.exception("an errand of the call failed")

    async def _hold(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._upstream_sender, name="upstream sender")
                self._nursery.start_soon(self._playout_to_core, name="playout")
                self._nursery.start_soon(self._watchdog, name="watchdog")
        except* Exception:
            # One call's fault, ours: logged whole, told to Core without details, and kept away from the other calls.
            log.exception("the call failed")
            self._outcome = CallOutcome(Cause.INTERNAL, 1011, "internal error of the connector")
        try:
            await self._say_goodbye()
        except Exception:
            log.exception("closing the call failed")

    @property
    def outcome(self) -> CallOutcome | None:
        """How the call ended; None as long as it lasts, and for one that was cancelled from outside."""
        return self._outcome

    def end(self, outcome: CallOutcome) -> None:
        """End the call from outside; for example when the service stops."""
        if self._outcome is None:  # else Core hears of an end that came before
            self._bridge.end(outcome, trio.current_time())
            self._finish(outcome)

    async def _upstream_sender(self) -> None:
        """Core to provider. It ends the call when Core is gone.

        It waits while the provider does not read, which the kernel's buffers (some 20 s of audio) make rare, and
        which ends with the connection when it answers no ping either.
        """
        while True:
            message = await self._core.receive()
            if isinstance(message, CallerAudio):  # fifty times a second: nothing here but what must be
                for action in self._bridge.on_core(message, trio.current_time()):
                    await self._perform(action)
            elif isinstance(message, SocketClosed):
                await self._carry_out(self._bridge.on_caller_gone(message, trio.current_time()))
            else:
                await self._carry_out(self._bridge.on_core(message, trio.current_time()))

    async def heard(self, event: AgentEvent, session: int) -> None:
        """Take what a session says; see `Listener`."""
        if not isinstance(event, AgentAudio) or event.wav.seconds <= _SLICE_SECONDS:
            await self._carry_out(self._bridge.on_agent(event, session, trio.current_time()))
            return
        for part in event.wav.cut(_SLICE_SECONDS):
            await self._carry_out(self._bridge.on_agent(AgentAudio(event.reply, part), session, trio.current_time()))
            await trio.lowlevel.checkpoint()

    async def failed(self, error: ProviderError, session: int) -> None:
        """Take the end of a session that broke; see `Listener`."""
        await self._carry_out(self._bridge.on_agent_failed(error, session, trio.current_time()))

    async def _playout_to_core(self) -> None:
        """Playout to Core, at its pace. The only writer while the call lasts."""
        while self._outcome is None:
            message = self._playout.take(trio.current_time())
            if message is not None:
                await self._core.send(message)
                self._playout.sent(message, trio.current_time())
                continue
            due = self._playout.due()
            if due == inf:
                await self._work_to_do.park()
            else:
                with trio.CancelScope(deadline=due):  # ten times a second: `move_on_at` is a generator more
                    await self._work_to_do.park()

    async def _watchdog(self) -> None:
        """Sleep until the bridge's next deadline, which moves while we sleep."""
        while True:
            with trio.CancelScope(deadline=self._bridge.deadline) as self._alarm:
                await trio.sleep_forever()
            await self._carry_out(self._bridge.on_deadline(trio.current_time()))

    async def _carry_out(self, actions: Actions) -> None:
        """Wake those who wait for what has been decided; then act, which may have to wait for the provider."""
        if self._alarm.deadline != self._bridge.deadline:
            self._alarm.deadline = self._bridge.deadline
        self._work_to_do.unpark_all()
        for action in actions:
            await self._perform(action)

    async def _perform(self, action: Action) -> None:
        match action:
            case SendAudio(pcm=pcm):
                await self._upstream_buffer.send(pcm)
            case OpenSession():
                rename_call(action.call.id)  # `init` has come
                self._sessions.open(action, self._nursery, self)
            case CloseSession(number=number):
                self._sessions.close(number)
            case Attach() | Say() | SendUserText() | AddContext() | Truncate() | AnswerTool():
                await self._sessions.tell(action)
            case RunTool(id=id_):
                self._tools[id_] = trio.CancelScope()
                self._nursery.start_soon(self._run_tool, action, self._tools[id_], name="tool")
            case CancelTool(id=id_):
                if (tool := self._tools.get(id_)) is not None:
                    tool.cancel(reason="the request has changed")
            case CallWebhook(url=url, kind=kind, payload=payload):
                call = self._bridge.call.id
                self._errands.start_soon(self._services.webhook, url, call, kind, payload, name="webhook")
            case LogWarning(event=event, fields=fields):
                log.warning(event, **fields)
            case End(outcome=outcome):
                self._finish(outcome)

    async def _run_tool(self, run: RunTool, scope: trio.CancelScope) -> None:
        """Run a tool beside the conversation. Its answer is sent outside of the scope that stops it: never half."""
        call, began, how = self._bridge.call, trio.current_time(), "stopped"
        try:
            with scope, ToolRun(self._services.meter, run.tool.name, trio.current_time) as measured:
                result = await run.tool.run(run.arguments, CallContext(call.uuid, call.query))
                measured.ended(result)
                how = "failed" if result.failed else "done"
        finally:
            if self._tools.get(run.id) is scope:  # a provider may use an id again
                del self._tools[run.id]
            took = round((trio.current_time() - began) * 1000)
            log.info("tool run", tool=run.tool.name, how=how, took_ms=took)
        if how != "stopped":
            await self._carry_out(self._bridge.on_tool_done(run.id, result, trio.current_time()))

    def _finish(self, outcome: CallOutcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._nursery.cancel_scope.cancel(reason=outcome.cause)

    async def _say_goodbye(self) -> None:
        if (outcome := self._outcome) is None:
            return
        if not outcome.by_caller:
            self._bridge.end(outcome, trio.current_time())  # tells what has not been told yet
        uuid, last_words = self._bridge.call.uuid, self._playout.left_over()
        await close_call(self._core, self._services, uuid, outcome, last_words)
