"""A call's sessions with the agent: opened and closed by number, and one of them spoken to, as the bridge decides."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from sts_trio.call.actions import AddContext, AnswerTool, Attach, Say, SendUserText, Truncate
from sts_trio.call.meter import Attempt
from sts_trio.errors import ProviderError, ProviderLost
from sts_trio.providers.base import AgentClosed, AgentReady

if TYPE_CHECKING:
    from sts_trio.call.actions import OpenSession
    from sts_trio.call.services import Services
    from sts_trio.call.upstream import UpstreamBuffer
    from sts_trio.providers.base import AgentEvent, AgentLink, CallInfo, SessionConfig

log = structlog.get_logger(__name__)

ToAgent = Attach | Say | SendUserText | AddContext | Truncate | AnswerTool


class Listener(Protocol):
    """Whoever decides what becomes of the sessions."""

    async def heard(self, event: AgentEvent, number: int) -> None:
        """Session `number` says this."""
        ...

    async def failed(self, error: ProviderError, number: int) -> None:
        """Session `number` could not be opened, or broke."""
        ...


class AgentSessions:
    """Usually one session; two while the next takes the place of the last.

    Who listens is known to their tasks only. Kept here it would make a ring, and a call that is over would wait for the
    garbage collector with all its audio.
    """

    def __init__(self, services: Services, upstream_buffer: UpstreamBuffer) -> None:
        self._services = services
        self._upstream_buffer = upstream_buffer
        self._scopes: dict[int, trio.CancelScope] = {}
        self._links: dict[int, AgentLink] = {}  # open sessions; the agent is the one that was attached last
        self._agent: AgentLink | None = None
        self._brief: SessionConfig | None = None

    def open(self, order: OpenSession, nursery: trio.Nursery, listener: Listener) -> None:
        """Begin to open a session, in a task of its own; what becomes of it is told to `listener`."""
        scope = self._scopes[order.number] = trio.CancelScope()
        nursery.start_soon(self._downstream_receiver, order, scope, listener, name="downstream receiver")

    def close(self, number: int) -> None:
        """Begin to close a session, if it is still there."""
        if number in self._scopes:
            self._scopes[number].cancel(reason="another session has taken its place")

    async def tell(self, action: ToAgent) -> None:
        """Say this to the agent. What a session that breaks did not hear is lost, but for audio."""
        with suppress(ProviderLost):  # its receiver is about to learn the cause, which may still be queued
            await self._tell(action)

    async def _tell(self, action: ToAgent) -> None:
        if isinstance(action, Attach):
            self._agent = self._links[action.number]
            await self._upstream_buffer.attach(self._agent)
            return
        if self._agent is None:
            return
        match action:
            case Say(text=text):
                await self._agent.say(text)
            case SendUserText(text=text):
                await self._agent.user_text(text)
            case AddContext(text=text):
                await self._agent.add_context(text)
            case Truncate(unheard=unheard):
                await self._agent.truncate(unheard)
            case AnswerTool(id=id_, result=result) if result.failed:
                await self._agent.tool_error(id_, result.content)
            case AnswerTool(id=id_, result=result):
                await self._agent.tool_response(id_, result.content)

    async def _downstream_receiver(self, order: OpenSession, scope: trio.CancelScope, listener: Listener) -> None:
        """Provider to playout: holds one session. Another can take its place while the call lives on."""
        number = order.number
        try:
            with scope, Attempt(self._services.meter, order.kind, trio.current_time) as attempt:
                async with self._services.open_agent(await self._instructed(order.call)) as link:
                    self._links[number] = link
                    try:
                        await self._listen(link, order, attempt, listener)
                    finally:
                        del self._links[number]
                        self._upstream_buffer.detach(link)
        except ProviderError as exc:
            await listener.failed(exc, number)
        finally:
            del self._scopes[number]

    async def _listen(self, link: AgentLink, order: OpenSession, attempt: Attempt, listener: Listener) -> None:
        event: AgentEvent | None = None
        while not isinstance(event, AgentClosed):
            event = await link.receive()
            if isinstance(event, AgentReady):
                took = round(attempt.ready() * 1000)
                log.info("agent ready", session=event.session, number=order.number, took_ms=took)
            await listener.heard(event, order.number)

    async def _instructed(self, call: CallInfo) -> CallInfo:
        """Add the agent's prompt, unless the call brings its own, or a stored configuration that holds one.

        It is looked up once a call: a session that takes over has the same settings.
        """
        if self._brief is None:
            self._brief = call.session_config
            if call.session_config.instructions is None and call.session_config.config is None:
                self._brief = replace(call.session_config, instructions=await self._services.instructions(call))
        return replace(call, session_config=self._brief)
