"""A call's nursery: four tasks that carry out what the bridge decides. The end of one is the end of all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
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
    Note,
    OpenSession,
    RunTool,
    Say,
    SendAudio,
    TypeIn,
)
from sts_trio.call.briefing import is_real_uuid
from sts_trio.call.meter import Attempt, NoMeter, ToolRun
from sts_trio.call.outcome import CallOutcome, Cause
from sts_trio.call.uplink import Uplink
from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio
from sts_trio.errors import ProviderError, ProviderLost
from sts_trio.providers.events import AgentAudio, AgentClosed, AgentReady
from sts_trio.tools.tool import CallContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sts_trio.call.actions import Action, Actions
    from sts_trio.call.bridge import Bridge
    from sts_trio.call.meter import Meter
    from sts_trio.call.playout import Playout
    from sts_trio.core.link import CoreLink
    from sts_trio.providers.events import AgentBrief, AgentEvent, AgentLink, CallInfo, OpenAgent

log = structlog.get_logger(__name__)

# Resampling half a second takes at most 0.25 ms; longer chunks are cut, so that they do not hold up the other calls.
_SLICE_SECONDS = 0.5
# For webhooks that are under way when the call ends; Core's side is closed by then.
_ERRANDS_SECONDS = 3.0
# What is left to tell Core at the end, with the close handshake.
_LAST_WORDS_SECONDS = 2.0
# For an operator's service to take the telephone call away, before Core's side is closed.
_RELEASE_SECONDS = 3.0
# For Core to close by itself after a transfer.
_CORE_LEAVES_SECONDS = 3.0

ToAgent = Attach | Say | TypeIn | AddContext | AnswerTool


async def _no_instructions(_: CallInfo) -> str | None:
    """Leave the prompt to the provider's settings."""
    return None


async def _nothing(*_: object) -> None:
    """Stand for a service that the operator has not set up."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a call may use of the world, beside Core: the way to an agent, and services of the operator's own.

    `instructions` returns the agent's prompt for a call, or None for the provider's own. `webhook` takes a URL, the
    call's id, an event's kind and what it holds. `release` sees to the telephone call with this uuid when ours is over
    for this cause: the line must drop, or go elsewhere, which it answers with true. `meter` takes what is measured.
    None of these raises, and each ends in its own time.
    """

    open_agent: OpenAgent
    instructions: Callable[[CallInfo], Awaitable[str | None]] = _no_instructions
    webhook: Callable[[str, str, str, Mapping[str, object]], Awaitable[object]] = _nothing
    release: Callable[[str, Cause], Awaitable[object]] = _nothing
    meter: Meter = field(default_factory=NoMeter)


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
        self._uplink = Uplink(bridge.counts)
        self._sessions: dict[int, trio.CancelScope] = {}
        self._links: dict[int, AgentLink] = {}  # open sessions; the agent is the one that was attached last
        self._agent: AgentLink | None = None
        self._brief: AgentBrief | None = None
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
            log.exception("an errand of the call failed", call=self._bridge.call.id)

    async def _hold(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._upstream_sender, name="upstream sender")
                self._nursery.start_soon(self._playout_to_core, name="playout")
                self._nursery.start_soon(self._watchdog, name="watchdog")
        except* Exception:
            # One call's fault, ours: logged whole, told to Core without details, and kept away from the other calls.
            log.exception("the call failed", call=self._bridge.call.id)
            self._outcome = CallOutcome(Cause.INTERNAL, 1011, "internal error of the connector")
        try:
            await self._close_core()
        except Exception:
            log.exception("closing the call failed", call=self._bridge.call.id)

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

    async def _downstream_receiver(self, call: CallInfo, number: int, kind: str, scope: trio.CancelScope) -> None:
        """Provider to playout: holds one session. Another can take its place while the call lives on."""
        began = trio.current_time()
        try:
            with scope, Attempt(self._services.meter, kind, trio.current_time) as attempt:
                async with self._services.open_agent(await self._instructed(call)) as link:
                    self._links[number] = link
                    try:
                        await self._listen(link, number, began, attempt)
                    finally:
                        del self._links[number]
                        self._uplink.detach(link)
        except ProviderError as exc:
            await self._carry_out(self._bridge.on_agent_failed(exc, number, trio.current_time()))
        finally:
            del self._sessions[number]

    async def _listen(self, link: AgentLink, number: int, began: float, attempt: Attempt) -> None:
        event: AgentEvent | None = None
        while not isinstance(event, AgentClosed):
            event = await link.receive()
            if isinstance(event, AgentReady):
                attempt.ready()
                took = round((trio.current_time() - began) * 1000)
                log.info("agent ready", call=self._bridge.call.id, session=event.session, number=number, took_ms=took)
            await self._hear(event, number)

    async def _instructed(self, call: CallInfo) -> CallInfo:
        """Add the agent's prompt, unless the call brings its own, or a stored configuration that holds one.

        It is looked up once a call: a session that takes over has the same settings.
        """
        if self._brief is None:
            self._brief = call.brief
            if call.brief.instructions is None and call.brief.config is None:
                self._brief = replace(call.brief, instructions=await self._services.instructions(call))
        return replace(call, brief=self._brief)

    async def _hear(self, event: AgentEvent, session: int) -> None:
        if not isinstance(event, AgentAudio) or event.wav.seconds <= _SLICE_SECONDS:
            await self._carry_out(self._bridge.on_agent(event, session, trio.current_time()))
            return
        for part in event.wav.cut(_SLICE_SECONDS):
            await self._carry_out(self._bridge.on_agent(AgentAudio(event.reply, part), session, trio.current_time()))
            await trio.lowlevel.checkpoint()

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
                with trio.move_on_at(due):
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
                await self._uplink.send(pcm)
            case OpenSession(call=info, number=number, kind=kind):
                scope = self._sessions[number] = trio.CancelScope()
                self._nursery.start_soon(
                    self._downstream_receiver, info, number, kind, scope, name="downstream receiver"
                )
            case CloseSession(number=number):
                if number in self._sessions:
                    self._sessions[number].cancel(reason="another session has taken its place")
            case Attach() | Say() | TypeIn() | AddContext() | AnswerTool():
                with suppress(ProviderLost):  # its receiver is about to learn the cause, which may still be queued
                    await self._tell_agent(action)
            case RunTool(id=id_):
                self._tools[id_] = trio.CancelScope()
                self._nursery.start_soon(self._run_tool, action, self._tools[id_], name="tool")
            case CancelTool(id=id_):
                if (tool := self._tools.get(id_)) is not None:
                    tool.cancel(reason="the request has changed")
            case CallWebhook(url=url, kind=kind, payload=payload):
                call = self._bridge.call.id
                self._errands.start_soon(self._services.webhook, url, call, kind, payload, name="webhook")
            case Note(text=text):
                log.warning(text, call=self._bridge.call.id)
            case End(outcome=outcome):
                self._finish(outcome)

    async def _tell_agent(self, action: ToAgent) -> None:
        if isinstance(action, Attach):
            self._agent = self._links[action.number]
            await self._uplink.attach(self._agent)
            return
        if self._agent is None:
            return
        match action:
            case Say(text=text):
                await self._agent.say(text)
            case TypeIn(text=text):
                await self._agent.user_text(text)
            case AddContext(text=text):
                await self._agent.add_context(text)
            case AnswerTool(id=id_, result=result) if result.failed:
                await self._agent.tool_error(id_, result.content)
            case AnswerTool(id=id_, result=result):
                await self._agent.tool_response(id_, result.content)

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
            log.info("tool run", call=call.id, tool=run.tool.name, how=how, took_ms=took)
        if how != "stopped":
            await self._carry_out(self._bridge.on_tool_done(run.id, result, trio.current_time()))

    def _finish(self, outcome: CallOutcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self._nursery.cancel_scope.cancel(reason=outcome.cause)

    async def _close_core(self) -> None:
        outcome = self._outcome
        if outcome is None:
            return
        if not outcome.by_caller:
            self._bridge.end(outcome, trio.current_time())  # tells what has not been told yet
        with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
            for message in self._playout.left_over():  # to a Core that has gone it is lost, but not to a log on the way
                await self._core.send(message)
        if outcome.by_caller:
            return
        if await self._release(outcome):
            with trio.move_on_after(_CORE_LEAVES_SECONDS, shield=True):  # our close could hang up who is on his way
                while not isinstance(await self._core.receive(), SocketClosed):
                    pass
        with trio.move_on_after(_LAST_WORDS_SECONDS, shield=True):
            await self._core.close(outcome.code, outcome.cause)

    async def _release(self, outcome: CallOutcome) -> bool:
        """Closing Core's side may not be enough for the telephone line to drop (contract 8). True: it goes on."""
        uuid = self._bridge.call.uuid
        if uuid is not None and is_real_uuid(uuid):
            with trio.move_on_after(_RELEASE_SECONDS, shield=True):
                return bool(await self._services.release(uuid, outcome.cause))
        return False
