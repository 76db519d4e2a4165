"""A call's sessions with the agent: opened and closed by number, and one of them spoken to, as the bridge decides."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from sts_trio.call.actions import AddContext, AnswerTool, Attach, Say, SendUserText, Truncate
from sts_trio.call.meter import Attempt, Meter
from sts_trio.errors import ConversationGone, ProviderError, ProviderLost, ProviderProtocolError
from sts_trio.providers.base import AgentReady, SessionEnd, SessionEndKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sts_trio.call.actions import OpenSession
    from sts_trio.call.meter import Cause
    from sts_trio.call.upstream import UpstreamBuffer
    from sts_trio.providers.base import AgentEvent, AgentLink, CallInfo, OpenAgent, SessionConfig

log = structlog.get_logger(__name__)

ToAgent = Attach | Say | SendUserText | AddContext | Truncate | AnswerTool


async def _no_instructions(_: CallInfo) -> str | None:
    """Leave the prompt to the provider's settings."""
    return None


async def _nothing(*_: object) -> None:
    """Stand for a service that the operator has not set up."""


@dataclass(frozen=True, slots=True)
class Services:
    """The way to an agent, and services of the operator's own.

    `instructions` returns the agent's prompt for a call, or None for the provider's own. `webhook` takes a URL, the
    call's id, an event's kind and what it holds. `release` sees to the telephone call with this uuid when ours is over
    for this cause: the line must drop, or go elsewhere, which it answers with true. `meter` takes what is measured.
    None of these raises, and each ends in its own time.
    """

    open_agent: OpenAgent
    instructions: Callable[[CallInfo], Awaitable[str | None]] = _no_instructions
    webhook: Callable[[str, str, str, Mapping[str, object]], Awaitable[object]] = _nothing
    release: Callable[[str, Cause], Awaitable[object]] = _nothing
    meter: Meter = field(default_factory=Meter)


class SessionEvents(Protocol):
    """Takes what happens in the sessions, and decides what becomes of them."""

    async def on_agent_event(self, event: AgentEvent, number: int) -> None:
        """Take an event of session `number`. A `SessionEnd` is its last, also if it could not be opened."""
        ...


class AgentSessions:
    """Usually one session; two while the next takes the place of the last.

    `events` is passed to the tasks, not stored: a cycle Call ↔ AgentSessions would keep a call's audio until the
    garbage collector runs (`tests/call/test_leftovers.py`).
    """

    def __init__(self, services: Services, upstream_buffer: UpstreamBuffer) -> None:
        self._services = services
        self._upstream_buffer = upstream_buffer
        self._scopes: dict[int, trio.CancelScope] = {}
        self._links: dict[int, AgentLink] = {}  # open sessions; the agent is the one that was attached last
        self._agent: AgentLink | None = None
        self._session_config: SessionConfig | None = None

    def open(self, order: OpenSession, nursery: trio.Nursery, events: SessionEvents) -> None:
        """Begin to open a session, in a task of its own, which passes what happens in it to `events`."""
        scope = self._scopes[order.number] = trio.CancelScope()
        nursery.start_soon(self._downstream_receiver, order, scope, events, name="downstream receiver")

    def close(self, number: int) -> None:
        """Begin to close a session, if it is still there."""
        if number in self._scopes:
            self._scopes[number].cancel(reason="another session has taken its place")

    async def tell(self, action: ToAgent) -> None:
        """Say this to the agent. If the session breaks here it is lost; only audio is kept for the next one."""
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

    async def _downstream_receiver(self, order: OpenSession, scope: trio.CancelScope, events: SessionEvents) -> None:
        """Provider to playout: hold one session until its end, and tell that end, whatever it was, as `SessionEnd`."""
        number = order.number
        try:
            with scope, Attempt(self._services.meter, order.kind, trio.current_time) as attempt:
                async with self._services.open_agent(await self._instructed(order.call)) as link:
                    self._links[number] = link
                    try:
                        await self._listen(link, order, attempt, events)
                    finally:
                        del self._links[number]
                        self._upstream_buffer.detach(link)
        except ProviderError as exc:
            await events.on_agent_event(_end_of(exc), number)
        finally:
            del self._scopes[number]

    async def _listen(self, link: AgentLink, order: OpenSession, attempt: Attempt, events: SessionEvents) -> None:
        event: AgentEvent | None = None
        while not isinstance(event, SessionEnd):
            event = await link.receive()
            if isinstance(event, AgentReady):
                took = round(attempt.ready() * 1000)
                log.info("agent ready", call=order.call.id, session=event.session, number=order.number, took_ms=took)
            await events.on_agent_event(event, order.number)

    async def _instructed(self, call: CallInfo) -> CallInfo:
        """Add the agent's prompt, unless the call brings its own, or a stored configuration that holds one.

        It is looked up once a call: a session that takes over has the same settings.
        """
        if self._session_config is None:
            self._session_config = call.session_config
            if call.session_config.instructions is None and call.session_config.config is None:
                self._session_config = replace(
                    call.session_config, instructions=await self._services.instructions(call)
                )
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
