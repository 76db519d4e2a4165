"""A call's nursery: four tasks that carry out what the bridge decides. The end of one is the end of all.

`AgentSessions` holds the call's sessions with the provider, opened and closed by number; one of them is spoken to.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import structlog
import trio

from sts_trio.call.actions import (
    AddContext,
    AnswerTool,
    Attach,
    Begin,
    CallWebhook,
    CancelTool,
    CloseSession,
    End,
    GoOn,
    KeepAudio,
    LogWarning,
    OpenSession,
    RunTool,
    Say,
    SendAudio,
    SendUserText,
    Truncate,
)
from sts_trio.call.closing import close_call
from sts_trio.call.config import Prompt
from sts_trio.call.meter import Attempt, CallOutcome, Cause
from sts_trio.call.upstream import UpstreamBuffer
from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio
from sts_trio.errors import ConversationGone, ProviderError, ProviderLost, ProviderProtocolError
from sts_trio.logs import rename_call
from sts_trio.providers.base import AgentAudio, AgentReady, RateLimit, SessionEnd, SessionEndKind, TokensUsed
from sts_trio.tools.tool import CallContext

if TYPE_CHECKING:
    from sts_trio.call.actions import Action, Actions
    from sts_trio.call.bridge import Bridge
    from sts_trio.call.config import Services
    from sts_trio.call.playout import Playout
    from sts_trio.call.report import CallReport
    from sts_trio.core.link import CoreLink
    from sts_trio.providers.base import AgentEvent, AgentLink, AgentNews, CallInfo, SessionConfig


log = structlog.get_logger(__name__)

# Resampling half a second takes at most 0.25 ms; longer chunks are cut, so that they do not hold up the other calls.
_SLICE_SECONDS = 0.5
_SLICE_BYTES = 48_000  # half a second of 48 kHz; chunks of other rates that are no longer cost no more
ToAgent = Attach | KeepAudio | GoOn | Say | SendUserText | AddContext | Truncate | AnswerTool

# For webhooks that are under way when the call ends; Core's side is closed by then.
_ERRANDS_SECONDS = 3.0


class Call:
    """One call, from the first message of Core to the last.

    `run` returns once everything of the call is over: its tasks, its session with the provider, Core's WebSocket.
    Only the playout task writes to Core while the call lasts, which makes the order of what Core hears exact.
    """

    def __init__(
        self, core: CoreLink, services: Services, bridge: Bridge, playout: Playout, report: CallReport
    ) -> None:
        self._core = core
        self._report = report
        self._services = services
        self._bridge = bridge
        self._playout = playout
        self._upstream_buffer = UpstreamBuffer(bridge.counts)
        self._sessions = AgentSessions(services, self._upstream_buffer, report)
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
            if self._outcome is not None:
                await close_call(self._core, self._bridge, self._playout, self._services, self._outcome)
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

    async def on_agent_event(self, event: AgentEvent, session: int) -> None:
        """Take an event of a session. A `SessionEnd` is its last, also if it could not be opened."""
        if not isinstance(event, AgentAudio) or len(event.wav.pcm) <= _SLICE_BYTES:
            await self._carry_out(self._bridge.on_agent(event, session, trio.current_time()))
            return
        for part in event.wav.cut(_SLICE_SECONDS):
            await self._carry_out(self._bridge.on_agent(AgentAudio(event.reply, part), session, trio.current_time()))
            await trio.lowlevel.checkpoint()

    async def _playout_to_core(self) -> None:
        """Playout to Core, at its pace. The only writer while the call lasts."""
        while self._outcome is None:
            message = self._playout.take(trio.current_time())
            while message is not None:
                await self._core.send(message)
                message = self._playout.after(message, trio.current_time())
            if self._playout.due == inf:
                await self._work_to_do.park()
            else:
                with trio.CancelScope(deadline=self._playout.due):  # `move_on_at` is a generator more
                    await self._work_to_do.park()

    async def _watchdog(self) -> None:
        """Sleep until the bridge's next deadline, which moves while we sleep."""
        while True:
            with trio.CancelScope(deadline=self._bridge.deadline) as self._alarm:
                await trio.sleep_forever()
            await self._carry_out(self._bridge.on_deadline(trio.current_time()))

    async def _carry_out(self, actions: Actions) -> None:
        """Wake those who wait for what has been decided; then act, which may have to wait for the provider."""
        deadline = min(self._bridge.deadlines.values())
        if self._alarm.deadline != deadline:
            self._alarm.deadline = deadline
        if self._playout.changed:
            self._work_to_do.unpark_all()
        for action in actions:
            await self._perform(action)

    async def _perform(self, action: Action) -> None:
        match action:
            case SendAudio(pcm=pcm):
                await self._upstream_buffer.send(pcm)
            case Begin(id=id_):
                rename_call(id_)
                self._report.began(trio.current_time())
            case OpenSession():
                self._sessions.open(action, self._nursery, self)
            case CloseSession(number=number):
                self._sessions.close(number)
            case Attach() | KeepAudio() | GoOn() | Say() | SendUserText() | AddContext() | Truncate() | AnswerTool():
                await self._sessions.tell(action)
            case RunTool(id=id_):
                self._tools[id_] = trio.CancelScope()
                self._nursery.start_soon(self._run_tool, action, self._tools[id_], name="tool")
            case CancelTool(id=id_):
                if (tool := self._tools.get(id_)) is not None:
                    tool.cancel(reason="the request has changed")
            case CallWebhook(url=url, kind=kind, payload=payload):
                call = self._bridge.call.id
                if self._services.webhook is not None:
                    self._errands.start_soon(self._services.webhook, url, call, kind, payload, name="webhook")
            case LogWarning(event=event, fields=fields):
                log.warning(event, **fields)
            case End(outcome=outcome):
                self._finish(outcome)

    async def _run_tool(self, run: RunTool, scope: trio.CancelScope) -> None:
        """Run a tool beside the conversation. Its answer is sent outside of the scope that stops it: never half.

        What the telephone system has been told cannot be taken back: its end is waited for, whatever ends the call.
        """
        call, began, how = self._bridge.call, trio.current_time(), "stopped"
        ordered = trio.CancelScope(shield=run.tool.ends_call)  # `AmiClient` has a limit of its own
        try:
            with ordered, scope:
                result = await run.tool.run(run.arguments, CallContext(call.uuid, call.query))
                how = "failed" if result.failed else "done"
        except Exception:
            how = "failed"
            raise
        finally:
            if self._tools.get(run.id) is scope:  # a provider may use an id again
                del self._tools[run.id]
            took = trio.current_time() - began
            self._report.tools[run.tool.name] += 1
            self._services.meter.tool_ran(run.tool.name, how, took)
            log.info("tool run", tool=run.tool.name, how=how, took_ms=round(took * 1000))
        if how != "stopped":
            await self._carry_out(self._bridge.on_tool_done(run.id, result, trio.current_time()))

    def _finish(self, outcome: CallOutcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._nursery.cancel_scope.cancel(reason=outcome.cause)


class AgentSessions:
    """Usually one session; two while the next takes the place of the last.

    The call is passed to the tasks, not stored: a cycle Call ↔ AgentSessions would keep a call's audio until the
    garbage collector runs (`tests/call/test_leftovers.py`).
    """

    def __init__(self, services: Services, upstream_buffer: UpstreamBuffer, report: CallReport) -> None:
        self._services = services
        self._report = report
        self._upstream_buffer = upstream_buffer
        self._scopes: dict[int, trio.CancelScope] = {}
        self._links: dict[int, AgentLink] = {}  # open sessions; the agent is the one that was attached last
        self._agent: AgentLink | None = None
        self._session_config: SessionConfig | None = None

    def open(self, order: OpenSession, nursery: trio.Nursery, call: Call) -> None:
        """Begin to open a session, in a task of its own, which passes what happens in it to `call`."""
        scope = self._scopes[order.number] = trio.CancelScope()
        nursery.start_soon(self._downstream_receiver, order, scope, call, name="downstream receiver")

    def close(self, number: int) -> None:
        """Begin to close a session, if it is still there."""
        if number in self._scopes:
            self._scopes[number].cancel(reason="another session has taken its place")

    async def tell(self, action: ToAgent) -> None:
        """Say this to the agent. If the session breaks here it is lost; only audio is kept for the next one."""
        with suppress(ProviderLost):  # its receiver is about to learn the cause, which may still be queued
            if isinstance(action, KeepAudio):
                self._upstream_buffer.keep(turn=action.turn)
            elif isinstance(action, Attach):
                self._agent = self._links[action.number]
                await self._upstream_buffer.attach(self._agent, again=action.again)
            elif self._agent is not None:
                await self._tell(self._agent, action)

    async def _tell(self, agent: AgentLink, action: ToAgent) -> None:
        match action:
            case Say(text=text):
                await agent.say(text)
            case GoOn(words=words, cut_off=cut_off):
                await agent.go_on(words, cut_off=cut_off)
            case SendUserText(text=text):
                await agent.user_text(text)
            case AddContext(text=text):
                await agent.add_context(text)
            case Truncate(unheard=unheard, stop=stop):
                if stop:
                    await agent.stop()
                await agent.truncate(unheard)
            case AnswerTool(id=id_, result=result) if result.failed:
                await agent.tool_error(id_, result.content)
            case AnswerTool(id=id_, result=result):
                await agent.tool_response(id_, result.content)

    async def _downstream_receiver(self, order: OpenSession, scope: trio.CancelScope, call: Call) -> None:
        """Provider to playout: hold one session until its end, and tell that end, whatever it was, as `SessionEnd`."""
        number = order.number
        try:
            with scope, Attempt(self._services.meter, order.kind, trio.current_time) as attempt:
                async with self._services.open_agent(await self._instructed(order.call)) as link:
                    self._links[number] = link
                    try:
                        await self._listen(link, order, attempt, call)
                    finally:
                        del self._links[number]
                        self._upstream_buffer.detach(link)
        except ProviderError as exc:
            await call.on_agent_event(_end_of(exc), number)
        finally:
            del self._scopes[number]

    async def _listen(self, link: AgentLink, order: OpenSession, attempt: Attempt, call: Call) -> None:
        event: AgentEvent | AgentNews | None = None
        while not isinstance(event, SessionEnd):
            event = await link.receive()
            if isinstance(event, TokensUsed | RateLimit):
                self._services.meter.heard(event, trio.current_time())
                continue
            if isinstance(event, AgentReady):
                took = round(attempt.ready() * 1000)
                self._report.session = event.session
                log.info("agent ready", session=event.session, number=order.number, took_ms=took)
            await call.on_agent_event(event, order.number)

    async def _instructed(self, call: CallInfo) -> CallInfo:
        """Add the agent's prompt, unless the call brings its own, or a stored configuration that holds one.

        It is looked up once a call: a session that takes over has the same settings.
        """
        if self._session_config is None:
            self._session_config = call.session_config
            if call.session_config.config is not None:
                prompt = Prompt(call.session_config.instructions, "config")
            elif call.session_config.instructions is not None:
                prompt = Prompt(call.session_config.instructions, "call")
            elif self._services.instructions is not None:
                prompt = await self._services.instructions(call)
            else:
                prompt = Prompt(None, "default")
            self._report.prompt = prompt.source
            self._session_config = replace(call.session_config, instructions=prompt.text)
        return replace(call, session_config=self._session_config)


def _end_of(error: ProviderError) -> SessionEnd:
    """The end of a session that could not be opened, or whose provider broke its protocol."""
    if isinstance(error, ConversationGone):
        kind = SessionEndKind.FORGOTTEN
    elif isinstance(error, ProviderProtocolError):
        kind = SessionEndKind.PROTOCOL_ERROR
    else:
        kind = SessionEndKind.LOST if error.retryable else SessionEndKind.REFUSED
    return SessionEnd(str(error), kind)
