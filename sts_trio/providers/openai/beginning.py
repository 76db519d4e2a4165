"""How a session begins: greeting, our settings, and what it does not know yet (docs/protocols/realtime.md 7.5)."""

from __future__ import annotations

from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, TypeVar

from sts_trio.errors import ProviderLost, ProviderRefused
from sts_trio.providers.base import AgentReady
from sts_trio.providers.openai import wire
from sts_trio.providers.openai.meaning import closed, describe, fault
from sts_trio.providers.openai.opening import SETTINGS, lasts, other_format
from sts_trio.providers.socket import SocketEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.providers.openai.codec import Codec
    from sts_trio.providers.openai.dialect import Dialect
    from sts_trio.providers.openai.hearing import Hearing
    from sts_trio.providers.openai.history import History

Opened = TypeVar("Opened", bound=wire.FromService)


class SessionSetup:
    """Of one session. `run` it once, within a time limit; `complaint` then says what was wrong, if anything was."""

    def __init__(
        self,
        dialect: Dialect,
        history: History,
        hearing: Hearing,
        send: Callable[[wire.ToService], Awaitable[None]],
    ) -> None:
        self._dialect = dialect
        self._history = history
        self._hearing = hearing
        self._send = send
        self._reported = ""

    async def run(self, settings: dict[str, object], codec: Codec) -> AgentReady:
        """Bring the session's settings into force, and tell it what has been said before, if it does not know.

        Raises:
            ProviderError: the service reported an error, closed, or will speak in another format than `codec`'s.
        """
        asked, resumed = self._history.conversation, self._history.sessions > 1
        created = await self._wait_for(wire.SessionCreated)
        with suppress(ProviderLost):  # what follows will tell why
            await self._send(wire.SessionUpdate(SETTINGS, settings))
        updated = await self._wait_for(wire.SessionUpdated)
        if (other := other_format(updated.session, codec)) is not None:
            wanted, prefix = " ".join(str(part) for part in codec.format.values()), self._dialect.prefix
            text = f"{self._dialect.name} was asked for {wanted} and set up {other}"
            raise ProviderRefused(f"{text}; check the {prefix}_ settings")
        if resumed and (asked is None or self._history.conversation != asked):
            with suppress(ProviderLost):
                for item in self._history.items():
                    await self._send(wire.ItemCreate("seed", item))
        return AgentReady(created.session.id or "", self._history, lasts(created.session.expires_at, time()))

    def complaint(self, end: str) -> str:
        """Say how it ended, and what the service had complained of before."""
        return f"{end}; it had reported: {self._reported}" if self._reported else end

    async def _wait_for(self, kind: type[Opened]) -> Opened:
        while not isinstance(heard := await self._hear(), kind):
            if isinstance(heard, wire.ConversationCreated) and self._dialect.resumes and heard.conversation.id:
                self._history.conversation = heard.conversation.id
        return heard

    async def _hear(self) -> wire.FromService | None:
        heard = await self._hearing.receive()
        if isinstance(heard, SocketEnd):
            end = closed(heard.code, heard.reason, self._dialect)
            text = self.complaint(f"{end.message} before the session began")
            raise ProviderLost(text) if end.retryable else ProviderRefused(text)
        if isinstance(heard, wire.ServiceError):
            self._take_error(heard.cause)
        return heard

    def _take_error(self, cause: wire.Cause) -> None:
        """Raise what an error before the session was ready comes to; one about nothing of ours is only remembered."""
        told = fault(cause, self._dialect)
        if told is not None and told.ends_session:
            raise ProviderLost(told.message) if told.retryable else ProviderRefused(told.message)
        if told is not None and cause.event_id == SETTINGS:
            raise ProviderRefused(
                f"{self._dialect.name} did not take the session's settings: {describe(cause)}; "
                f"check the {self._dialect.prefix}_ settings"
            )
        self._reported = describe(cause)
